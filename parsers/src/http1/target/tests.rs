//! Targets: their readings, and the readings of their normal form.

use super::*;
use std::borrow::ToOwned;
use std::format;
use std::string::String;
use std::vec::Vec;

const PATH: usize = usize::MAX;

#[test]
fn plain() {
    check("/a/b-c_d.e~f", &["/a/b-c_d.e~f"]);
}

#[test]
fn root() {
    check("/", &["/"]);
}

#[test]
fn dots_that_are_no_segments() {
    check("/.well-known/a..b/...", &["/.well-known/a..b/..."]);
}

#[test]
fn query_is_kept() {
    check("/a?b=%2e%zz;c//../\\?d", &["/a?b=%2e%zz;c//../\\?d"]);
}

#[test]
fn query_is_kept_behind_every_reading() {
    check("/a/./b?u=//x/../y", &["/a/./b?u=//x/../y", "/a/b?u=//x/../y"]);
}

#[test]
fn empty_query_is_kept() {
    check("//?", &["//?", "/?"]);
}

// The normal form.

#[test]
fn unreserved_escapes_are_decoded() {
    check("/%41%7a%30%2D%5f%7E", &["/Az0-_~"]);
}

#[test]
fn other_escapes_stay() {
    check("/a%20b%c3%A9%3a%7c", &["/a%20b%c3%A9%3a%7c"]);
}

#[test]
fn escaped_percent_stays_where_no_digits_follow() {
    check("/100%25", &["/100%25"]);
    check("/%25zz", &["/%25zz"]);
    check("/%25a", &["/%25a"]);
}

#[test]
fn escaped_dots_are_dots() {
    check("/a/%2e%2E/b", &["/a/../b", "/b"]);
    check("/a/.%2e/b", &["/a/../b", "/b"]);
}

// What is refused.

#[test]
fn not_a_path() {
    for target in ["", "*", "a/b", "?a", "http://x/", "\\a", "%2fa"] {
        refuse(target, TargetError::NotAPath);
    }
}

#[test]
fn broken_escapes() {
    for target in
        ["/%", "/%2", "/%2g", "/%g2", "/%%41", "/% 41", "/a%", "/%2?41", "/%+1", "/%u002f", "/%2%35"]
    {
        refuse(target, TargetError::BrokenEscape);
    }
}

#[test]
fn escaped_nul() {
    refuse("/a%00.txt", TargetError::EscapedNul);
}

#[test]
fn escaped_controls() {
    for byte in (0x01..=0x1f).chain([0x7f]) {
        refuse(&format!("/a%{byte:02x}b"), TargetError::EscapedControl);
        refuse(&format!("/..%{byte:02X}/b"), TargetError::EscapedControl);
    }
    check("/a%80%9f", &["/a%80%9f"]);
}

#[test]
fn overlong_utf8() {
    for dot in [
        "%c0%ae",
        "%C0%AE",
        "%c0%2e",
        "%c0.",
        "%c0%6e",
        "%e0%80%ae",
        "%e0@%2e",
        "%f0%80%80%ae",
        "%f8%80%80%80%ae",
        "%fc%80%80%80%80%ae",
        "%fe%80%80%80%80%80%ae",
        "%ff%80%80%80%80%80%80%ae",
    ] {
        refuse(&format!("/a/{dot}{dot}/b"), TargetError::OverlongUtf8);
    }
    for other in ["%c0%af", "%c1%9c", "%c1%c1", "%e0%80%af", "%e0%81%9c", "%f0%80%80%af", "%c0%80", "%c1"] {
        refuse(&format!("/a/..{other}b"), TargetError::OverlongUtf8);
    }
    // Of characters beyond ASCII too.
    for other in ["%e0%9f%bf", "%f0%8f%bf%bf", "%f8%87%bf%bf%bf", "%fc%83%bf%bf%bf%bf", "%e0%80"] {
        refuse(&format!("/{other}"), TargetError::OverlongUtf8);
    }
}

#[test]
fn other_bytes_beyond_ascii() {
    for path in [
        "/%c2%80%df%bf",
        "/%e0%a0%80%ef%bf%bf",
        "/%f0%90%80%80%f4%8f%bf%bf",
        "/%e2%82%ac",
        // Latin-1.
        "/voil%e0",
        "/%e0%20la",
        "/%e9t%e9/%f0b",
        "/%e9@@",
        "/%ff",
    ] {
        check(path, &[path]);
    }
}

#[test]
fn escaped_escapes() {
    for target in ["/%2541", "/%252e%252e/", "/%25%341", "/%25%34%31", "/%25ff", "/a%2500"] {
        refuse(target, TargetError::EscapedEscape);
    }
}

#[test]
fn nothing_is_left_of_a_refused_target() {
    let mut readings = Readings::default();
    readings.read("//a", PATH).unwrap();
    assert_eq!(readings.read("/%", PATH), Err(TargetError::BrokenEscape));
    assert_eq!(readings.iter().count(), 0);
    assert_eq!(readings.read("/%2f;\\%5c", PATH), Err(TargetError::TooManyReadings));
    assert_eq!(readings.iter().count(), 0);
}

// What backends do.

#[test]
fn slashes() {
    check("/a///b/", &["/a///b/", "/a/b/"]);
}

/// For who takes the target for a URI reference, `//` is followed by a host.
#[test]
fn hosts_behind_two_slashes() {
    check("//a///b/", &["//a///b/", "///b/", "/b/", "/a/b/"]);
    check("//host/a/b?c", &["//host/a/b?c", "/a/b?c", "/host/a/b?c"]);
    check("//host", &["//host", "/", "/host"]);
    check("///a", &["///a", "/a"]);
    check("//user@host:80/a", &["//user@host:80/a", "/a", "/user@host:80/a"]);
    check("/%2fhost/a", &["/%2fhost/a", "//host/a", "/host/a", "/a"]);
    check("/x/..//host/a", &["/x/..//host/a", "//host/a", "/x/../host/a", "/host/a", "/a"]);
}

#[test]
fn dot_segments() {
    check("/a/./b", &["/a/./b", "/a/b"]);
    check("/a/../b", &["/a/../b", "/b"]);
    check("/a/b/..", &["/a/b/..", "/a/"]);
    check("/a/.", &["/a/.", "/a/"]);
    check("/..", &["/..", "/"]);
    check("/../../a", &["/../../a", "/a"]);
}

#[test]
fn empty_segments_before_dots() {
    check("/a//../b", &["/a//../b", "/a/../b", "/a/b", "/b"]);
}

#[test]
fn parameters() {
    check("/a;x=1/b;y", &["/a;x=1/b;y", "/a/b"]);
    check("/a;", &["/a;", "/a"]);
    check("/;x", &["/;x", "/"]);
}

#[test]
fn parameters_behind_dots() {
    check("/a/..;/b", &["/a/..;/b", "/a/../b", "/b", "/a/..", "/"]);
}

#[test]
fn parameters_that_are_a_segment() {
    check("/a/;x/b", &["/a/;x/b", "/a//b", "/a/b"]);
}

#[test]
fn backslashes() {
    check("/a\\b", &["/a\\b", "/a/b"]);
    check("/\\a", &["/\\a", "//a", "/a", "/"]);
}

#[test]
fn escaped_slashes() {
    check("/a%2Fb", &["/a%2Fb", "/a/b"]);
    check("/a%2f%2fb", &["/a%2f%2fb", "/a//b", "/a/b"]);
}

#[test]
fn escaped_backslashes() {
    check("/a%5Cb", &["/a%5Cb", "/a\\b", "/a/b"]);
}

#[test]
fn dots_behind_an_escaped_slash() {
    check("/a/..%2fb", &["/a/..%2fb", "/a/../b", "/b"]);
}

#[test]
fn dots_behind_an_escaped_backslash() {
    check("/x/a/..%5cb", &["/x/a/..%5cb", "/x/a/..\\b", "/x/a/../b", "/x/b"]);
}

/// Here the order matters: the `..` takes away `a%2fb`, or only `b`.
#[test]
fn an_escaped_slash_before_dots() {
    check("/a%2fb/../c", &["/a%2fb/../c", "/a/b/../c", "/c", "/a/c"]);
}

/// The parameters end at a backslash for one who turned it first.
#[test]
fn a_backslash_in_parameters() {
    check("/a;x\\b", &["/a;x\\b", "/a;x/b", "/a", "/a/b"]);
}

#[test]
fn escaped_semicolons() {
    check("/a%3bx/b", &["/a%3bx/b", "/a;x/b", "/a/b"]);
    check("/a/..%3B/b", &["/a/..%3B/b", "/a/..;/b", "/a/../b", "/b", "/a/..", "/"]);
}

/// Who decodes the path before it is cut.
#[test]
fn escaped_question_marks() {
    check("/a%3Fb", &["/a%3Fb", "/a?b", "/a"]);
    check("/a%3fb/../c", &["/a%3fb/../c", "/a?b/../c", "/a", "/c"]);
    check("/a/..%3f", &["/a/..%3f", "/a/..?", "/a/..", "/?", "/"]);
    check("/a%3fb?c%3fd", &["/a%3fb?c%3fd", "/a?b?c%3fd", "/a?c%3fd"]);
}

#[test]
fn escaped_hashes() {
    check("/a%23b", &["/a%23b", "/a"]);
    check("/a%23b?c", &["/a%23b?c", "/a?c", "/a"]);
    check("/a/..%23", &["/a/..%23", "/a/..", "/"]);
}

#[test]
fn escaped_spaces_and_dots() {
    check("/a%20b/c", &["/a%20b/c"]);
    check("/a%20b/...%20/.c%20d", &["/a%20b/...%20/.c%20d"]);
    check("/a%20b/../c", &["/a%20b/../c", "/a", "/c"]);
    check("/a/..%20b?c", &["/a/..%20b?c", "/a/..?c", "/a/..", "/?c", "/"]);
    check("/a/..%20%20/b", &["/a/..%20%20/b", "/a/../b", "/b", "/a/..", "/"]);
    check("/x/a/.%20/b", &["/x/a/.%20/b", "/x/a/./b", "/x/a/b", "/x/a/.", "/x/a/"]);
}

/// Everything behind the first one, for some.
#[test]
fn parameters_over_dots() {
    check("/a;/../b", &["/a;/../b", "/a/../b", "/b", "/a"]);
}

// Limits.

#[test]
fn paths_at_their_bound() {
    let mut readings = Readings::default();
    assert_eq!(readings.read("/abc?defg", 4), Ok(()));
    assert_eq!(readings.read("/%41?defg", 4), Ok(()));
}

#[test]
fn paths_beyond_their_bound() {
    let mut readings = Readings::default();
    for path in ["/abcd", "/abcd?", "/%41b", "//..a"] {
        assert_eq!(readings.read(path, 4), Err(TargetError::PathTooLong), "{path}");
        assert_eq!(readings.iter().count(), 0);
    }
}

#[test]
fn readings_at_their_bound() {
    assert_eq!(readings_of("/%5c\\%2f;").unwrap().len(), 32);
}

#[test]
fn readings_beyond_their_bound() {
    refuse("/%2f;\\%5c", TargetError::TooManyReadings);
}

#[test]
fn bytes_at_their_bound() {
    // Two readings beside the first: shorter by 1, and by 1 and the segment that is taken back.
    let target = |len: usize| format!("/a//../{}", "a".repeat(len - 7));
    let others = |len: usize| {
        let readings = readings_of(&target(len)).unwrap();
        readings[1..].iter().map(String::len).sum::<usize>()
    };
    let most = (10..Readings::BYTES_MAX).take_while(|len| readings_of(&target(*len)).is_ok()).last().unwrap();
    assert!((Readings::BYTES_MAX - 2..=Readings::BYTES_MAX).contains(&others(most)), "{most}");
    assert_eq!(readings_of(&target(most + 1)), Err(TargetError::TooManyReadings));
    // One as long as the first is always looked at.
    let long = format!("//{}", "a".repeat(100_000));
    assert_eq!(readings_of(&long).unwrap().len(), 3);
}

#[test]
fn readings_are_what_the_last_target_has() {
    let mut readings = Readings::default();
    readings.read("/a/../b?c", PATH).unwrap();
    readings.read("/d", PATH).unwrap();
    assert_eq!(readings.iter().collect::<Vec<_>>(), [b"/d"]);
}

#[track_caller]
fn check(target: &str, expect: &[&str]) {
    let readings = readings_of(target).unwrap();
    assert_eq!(readings.first().map(String::as_str), expect.first().copied(), "the normal form");
    let mut sorted = readings.iter().map(String::as_str).collect::<Vec<_>>();
    let mut expect = expect.to_vec();
    sorted.sort_unstable();
    expect.sort_unstable();
    assert_eq!(sorted, expect);
    assert_eq!(readings_of(&readings[0]).as_ref(), Ok(&readings), "the normal form's own");
}

#[track_caller]
fn refuse(target: &str, expect: TargetError) {
    assert_eq!(readings_of(target), Err(expect), "{target}");
}

fn readings_of(target: &str) -> Result<Vec<String>, TargetError> {
    let mut readings = Readings::default();
    readings.read(target, PATH)?;
    Ok(readings.iter().map(|reading| str::from_utf8(reading).unwrap().to_owned()).collect())
}
