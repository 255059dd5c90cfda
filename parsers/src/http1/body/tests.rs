//! Bodies: every framing and every deviation, however the bytes arrive.

use super::*;
use std::format;
use std::string::String;
use std::vec::Vec;

const LIMITS: Limits = Limits {
    head_bytes_max: 65_536,
    fields_max: 200,
    path_bytes_max: 8192,
    chunk_line_bytes_max: 4096,
    trailer_bytes_max: 16_384,
};

use BodyError::*;
use BodyLength::Chunked;

#[test]
fn no_body() {
    accept(BodyLength::None, "GET");
    accept(BodyLength::Length(0), "GET");
}

#[test]
fn length() {
    accept(BodyLength::Length(5), "helloGET");
}

#[test]
fn length_cut_short() {
    check(BodyLength::Length(5), "hell", Err(Truncated));
}

#[test]
fn until_close() {
    let mut body = Body::new(BodyLength::UntilClose);
    assert_eq!(body.advance(b"hello", &LIMITS), Ok(Advance { taken: 5, done: false }));
    assert_eq!((body.unseen(), body.is_done()), (u64::MAX, false));
    body.skip(1 << 40);
    assert_eq!(body.end(), Ok(()));
    assert!(body.is_done());
}

#[test]
fn chunks() {
    accept(Chunked, "5\r\nhello\r\n0\r\n\r\nGET");
}

#[test]
fn no_chunks() {
    accept(Chunked, "0\r\n\r\n");
    accept(Chunked, "000\r\n\r\n");
}

#[test]
fn size_in_any_letters_and_with_leading_zeros() {
    accept(Chunked, "000000000000000a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n");
}

#[test]
fn data_that_looks_like_framing() {
    accept(Chunked, "5\r\n0\r\n\r\n\r\n0\r\n\r\n");
}

#[test]
fn chunks_cut_short() {
    let body = "5;a\r\nhello\r\n0\r\nA: b\r\n\r\n";
    for (end, _) in body.char_indices() {
        check(Chunked, body.get(..end).unwrap(), Err(Truncated));
    }
}

#[test]
fn sizes_that_are_none() {
    let sizes = [
        "\r\n",
        "x\r\n",
        "-1\r\n",
        "+1\r\n",
        " 1\r\n",
        "1 \r\n",
        "1\t\r\n",
        "0x1\r\n",
        "1 ;a\r\n",
        ";a\r\n",
        "1,\r\n",
        "1\r1\r\n",
        "1\r\r\n",
        "1\0\r\n",
        "g\r\n",
        "1\x0b\r\n",
        "\"1\"\r\n",
        "\u{661}\r\n",
    ];
    for size in sizes {
        check(Chunked, size, Err(BadChunkSize));
    }
}

#[test]
fn largest_size() {
    let mut body = Body::new(Chunked);
    assert_eq!(body.advance(b"7fffffffffffffff\r\n", &LIMITS), Ok(Advance { taken: 18, done: false }));
    assert_eq!(body.unseen(), i64::MAX.unsigned_abs());
}

#[test]
fn size_beyond_63_bits() {
    check(Chunked, "8000000000000000\r\n", Err(BadChunkSize));
    check(Chunked, "ffffffffffffffff\r\n", Err(BadChunkSize));
}

#[test]
fn size_of_too_many_digits() {
    check(Chunked, "00000000000000001\r\n", Err(BadChunkSize));
    check(Chunked, "10000000000000000\r\n", Err(BadChunkSize));
}

#[test]
fn extensions() {
    accept(Chunked, "1;a=b;c=\"d ;\te\"\r\nx\r\n0;f\r\n\r\n");
    for extension in [
        ";a",
        ";a;b",
        ";a=b",
        "; a\t = b ;c",
        ";a=\"\"",
        ";a=\"b\" ; c",
        ";a=\";\"",
        ";a=\"\\\"\"",
        ";a=\"\\\\\"",
        ";a=\"\\ b\\\t\"",
        ";!#$%&'*+-.^_`|~=1",
    ] {
        accept(Chunked, &format!("1{extension}\r\nx\r\n0{extension}\r\n\r\nGET"));
    }
}

/// Each would be read otherwise by somebody who takes a quoted string over the end of the line, or who is lost in it.
#[test]
fn extensions_that_are_none() {
    for extension in [
        ";",
        "; ",
        ";;a",
        ";a;",
        ";a ",
        ";a=b ",
        ";a=\"b\" ",
        ";a=",
        ";a= ",
        ";=b",
        ";\"a\"",
        ";\"",
        ";a\"",
        ";a=\"",
        ";a=\"b",
        ";a=\"b\\",
        ";a=\"b\\\"",
        ";a=\"\\\"\";b=\"",
        ";a=\"b\"c",
        ";a=\"b\"\"",
        ";a=b\"c\"",
        ";a=b=c",
        ";a=b c",
        ";a b",
        ";a=,",
        ";a,b",
        ";a='b c'",
        ";a(b)",
        ";a\0",
        ";a=\"\0\"",
        ";a=\"\\\0\"",
        ";a=\"\x1b\"",
        ";a\x0b",
        ";a\x7f",
        ";a=\"\x7f\"",
        ";\u{e9}",
        ";a=\u{e9}",
        ";a=\"\u{e9}\"",
        ";a=\"\rb\"",
    ] {
        check(Chunked, &format!("1{extension}\r\nx\r\n0\r\n\r\n"), Err(BadChunkExtension));
        check(Chunked, &format!("1\r\nx\r\n0{extension}\r\n\r\n"), Err(BadChunkExtension));
    }
    check(Chunked, "1;a\rb\r\nx\r\n", Err(BadChunkSize));
    check(Chunked, "1;a\nx\r\n", Err(BareLf));
    check(Chunked, "1;a=\"\n\"\r\nx\r\n", Err(BareLf));
    check(Chunked, "1;\nx\r\n", Err(BareLf));
}

/// What a quoted string that runs over its line would hide in an allowed body.
#[test]
fn a_request_in_a_quoted_string() {
    let body = "1;a=\"\r\nx\r\n0\r\n\r\nGET /hidden HTTP/1.1\r\nHost: x\r\nX: \"\r\nx\r\n0\r\n\r\n";
    check(Chunked, body, Err(BadChunkExtension));
}

/// Those of a response are its server's and its client's matter.
#[test]
fn extensions_of_a_response() {
    for extension in [";", ";a=\"", ";;\t=", ";a b"] {
        let mut body = Body::of_response(Chunked);
        let input = format!("1{extension}\r\nx\r\n0\r\n\r\n");
        assert_eq!(body.advance(input.as_bytes(), &LIMITS), Ok(Advance { taken: input.len(), done: true }));
    }
    for extension in [";\0", ";\u{e9}"] {
        let mut body = Body::of_response(Chunked);
        assert_eq!(body.advance(format!("1{extension}\r\n").as_bytes(), &LIMITS), Err(BadChunkExtension));
    }
}

#[test]
fn bare_lf() {
    check(Chunked, "1\nx\r\n0\r\n\r\n", Err(BareLf));
    check(Chunked, "1\r\nx\n0\r\n\r\n", Err(BareLf));
    check(Chunked, "0\n\r\n", Err(BareLf));
    check(Chunked, "0\r\n\n", Err(BareLf));
    check(Chunked, "0\r\nA: b\n\r\n", Err(BareLf));
    check(Chunked, "0\r\nA\n\r\n", Err(BareLf));
}

#[test]
fn data_longer_than_its_size() {
    check(Chunked, "1\r\nxy\r\n0\r\n\r\n", Err(BadChunkEnd));
    check(Chunked, "1\r\nx\ry", Err(BadChunkEnd));
    check(Chunked, "1\r\nx\r\r\n", Err(BadChunkEnd));
    check(Chunked, "1\r\nx0\r\n\r\n", Err(BadChunkEnd));
}

#[test]
fn trailers() {
    accept(Chunked, "0\r\nGrpc-Status: 0\r\nX:\t \r\n\r\nGET");
}

#[test]
fn trailers_that_deviate() {
    for trailer in
        ["A", "A : b", " A: b", ": b", "A b: c", "A: b\r\n c", "A: \0", "A: b\rc", "\u{e9}: b", "\tA: b"]
    {
        check(Chunked, &format!("0\r\n{trailer}\r\n\r\n"), Err(BadTrailer));
    }
    check(Chunked, "0\r\n\rA", Err(BadTrailer));
}

#[test]
fn trailers_that_are_forbidden() {
    let names = [
        "Content-Length",
        "transfer-encoding",
        "HOST",
        "Connection",
        "Upgrade",
        "HTTP2-Settings",
        "Expect",
        "TE",
        "Trailer",
        "Content_Length",
        "transfer_Encoding",
        "Content.Length",
        "transfer~encoding",
        "HTTP2|Settings",
    ];
    for name in names {
        check(Chunked, &format!("0\r\nA: b\r\n{name}: 5\r\n\r\n"), Err(ForbiddenTrailer));
    }
}

#[test]
fn trailers_that_only_look_forbidden() {
    accept(Chunked, "0\r\nContent-Length2: 5\r\nHos: t\r\nTransfer-Encodings: x\r\n\r\n");
}

#[test]
fn chunk_line_at_its_bound() {
    let limits = Limits { chunk_line_bytes_max: 4, ..LIMITS };
    check_with(Chunked, "1;ab\r\nx\r\n0000\r\n\r\n", &limits, Ok(17));
}

#[test]
fn chunk_line_beyond_its_bound() {
    let limits = Limits { chunk_line_bytes_max: 4, ..LIMITS };
    check_with(Chunked, "1;abc\r\nx\r\n0\r\n\r\n", &limits, Err(ChunkLineTooLong));
    check_with(Chunked, "00001\r\nx\r\n0\r\n\r\n", &limits, Err(ChunkLineTooLong));
}

#[test]
fn trailers_that_rules_ask_for() {
    let ruled: &dyn Fn(&[u8], NameEnd) -> bool = &|name, _end| name == b"x-role";
    for (trailer, expected) in [
        ("X-Role: a", Err(ForbiddenTrailer)),
        ("x_role:", Err(ForbiddenTrailer)),
        ("A: b\r\nX.ROLE: a", Err(ForbiddenTrailer)),
        ("X-Rol: a", Ok(true)),
        ("X-Roles: a", Ok(true)),
        ("A: x-role", Ok(true)),
    ] {
        let body = format!("0\r\n{trailer}\r\n\r\n");
        for split in 0..body.len() {
            let (start, rest) = body.as_bytes().split_at(split);
            let mut body = Body::new(Chunked);
            let outcome = body
                .advance_without(start, &LIMITS, ruled)
                .and_then(|_| body.advance_without(rest, &LIMITS, ruled));
            assert_eq!(outcome.map(|advance| advance.done), expected, "{trailer} {split}");
        }
    }
}

#[test]
fn long_names_of_trailers_are_asked_for_by_their_start() {
    for (bytes, end) in [(NAME_BYTES, NameEnd::Here), (NAME_BYTES + 1, NameEnd::Cut)] {
        let name = "N".repeat(bytes);
        let asked = |start: &[u8], is: NameEnd| start == "n".repeat(NAME_BYTES).as_bytes() && is == end;
        let body = format!("0\r\n{name}: a\r\n\r\n");
        let outcome = Body::new(Chunked).advance_without(body.as_bytes(), &LIMITS, &asked);
        assert_eq!(outcome, Err(ForbiddenTrailer), "{bytes}");
    }
}

#[test]
fn trailers_at_their_bounds() {
    let limits = Limits { trailer_bytes_max: 14, fields_max: 2, ..LIMITS };
    check_with(Chunked, "0\r\nA: b\r\nC: d\r\n\r\n", &limits, Ok(17));
}

#[test]
fn trailers_beyond_their_bounds() {
    let limits = Limits { trailer_bytes_max: 13, fields_max: 2, ..LIMITS };
    check_with(Chunked, "0\r\nA: b\r\nC: d\r\n\r\n", &limits, Err(TrailerTooLarge));
    let limits = Limits { fields_max: 1, ..LIMITS };
    check_with(Chunked, "0\r\nA: b\r\nC: d\r\n\r\n", &limits, Err(TooManyTrailers));
}

#[test]
fn unseen_bytes_may_be_skipped() {
    let mut body = Body::new(Chunked);
    assert_eq!(body.unseen(), 0);
    assert_eq!(body.advance(b"a\r\nhe", &LIMITS), Ok(Advance { taken: 5, done: false }));
    assert_eq!(body.unseen(), 8);
    body.skip(7);
    assert_eq!(body.unseen(), 1);
    body.skip(1);
    assert_eq!(body.unseen(), 0);
    assert_eq!(body.advance(b"\r\n0\r\n\r\n", &LIMITS), Ok(Advance { taken: 7, done: true }));
}

#[test]
fn a_whole_length_may_be_skipped() {
    let mut body = Body::new(BodyLength::Length(9));
    body.skip(9);
    assert!(body.is_done());
    assert_eq!(body.unseen(), 0);
}

/// The body is all of `input` but for the start of the next message.
#[track_caller]
fn accept(length: BodyLength, input: &str) {
    check(length, input, Ok(input.strip_suffix("GET").unwrap_or(input).len()));
}

/// `expect`: how many bytes the body takes.
#[track_caller]
fn check(length: BodyLength, input: &str, expect: Result<usize, BodyError>) {
    check_with(length, input, &LIMITS, expect);
}

/// However the input arrives.
#[track_caller]
fn check_with(length: BodyLength, input: &str, limits: &Limits, expect: Result<usize, BodyError>) {
    let input = input.as_bytes();
    let bytes = (0..=input.len()).collect::<Vec<_>>();
    let what = String::from_utf8_lossy(input);
    assert_eq!(arriving(length, input, &bytes, limits), expect, "{what:?} byte by byte");
    for split in 0..=input.len() {
        let ends = [split, input.len()];
        assert_eq!(arriving(length, input, &ends, limits), expect, "{what:?} split at {split}");
    }
}

fn arriving(length: BodyLength, input: &[u8], ends: &[usize], limits: &Limits) -> Result<usize, BodyError> {
    let mut body = Body::new(length);
    let mut taken = 0;
    for end in ends {
        let advance = body.advance(&input[taken..*end], limits)?;
        taken += advance.taken;
        assert_eq!(advance.done, body.is_done());
        if advance.done {
            break;
        }
        assert_eq!(taken, *end, "all of it belongs to a body that is not done");
    }
    body.end().map(|()| taken)
}
