//! Requests: every deviation, every form, every limit, however the bytes arrive. Here the limits, and what comes out.

mod fields;
mod framing;
mod line;

use super::*;
use crate::http1::BodyLength::{self, Chunked, Length};
use std::format;
use std::string::{String, ToString};
use std::vec::Vec;

const LIMITS: Limits = Limits {
    head_bytes_max: 65_536,
    fields_max: 200,
    path_bytes_max: 8192,
    chunk_line_bytes_max: 4096,
    trailer_bytes_max: 16_384,
};

// Limits.

#[test]
fn head_at_its_bound() {
    let head = wire("GET / HTTP/1.1|Host: x|A: bcd");
    let limits = Limits { head_bytes_max: head.len(), ..LIMITS };
    check_with(&head, &limits, "GET / [/] x none keep");
}

#[test]
fn head_beyond_its_bound() {
    let head = wire("GET / HTTP/1.1|Host: x|A: bcd");
    let limits = Limits { head_bytes_max: head.len() - 1, ..LIMITS };
    check_with(&head, &limits, "HeadTooLarge");
}

#[test]
fn as_many_bytes_as_a_head_may_have_without_its_end() {
    let head = wire("GET / HTTP/1.1|Host: x|A: bcd");
    let limits = Limits { head_bytes_max: head.len() - 1, ..LIMITS };
    check_with(&head[..head.len() - 2], &limits, "Incomplete");
    check_with(&head[..head.len() - 1], &limits, "HeadTooLarge");
}

#[test]
fn request_line_beyond_the_bound() {
    check_with(b"GET /aaaaaaaaaaaaaaaaaaaaaaa", &Limits { head_bytes_max: 20, ..LIMITS }, "HeadTooLarge");
}

#[test]
fn fields_at_their_bound() {
    let limits = Limits { fields_max: 3, ..LIMITS };
    check_with(&wire("GET / HTTP/1.1|Host: x|A: b|A: b"), &limits, "GET / [/] x none keep");
}

#[test]
fn fields_beyond_their_bound() {
    let limits = Limits { fields_max: 3, ..LIMITS };
    check_with(&wire("GET / HTTP/1.1|Host: x|A: b|A: b|A: b"), &limits, "TooManyFields");
}

#[test]
fn the_default_limits() {
    let fields = |count: usize| wire(&format!("GET / HTTP/1.1|Host: x{}", "|A: b".repeat(count - 1)));
    assert_eq!(whole(&fields(200), &LIMITS), "GET / [/] x none keep");
    assert_eq!(whole(&fields(201), &LIMITS), "TooManyFields");
    let head = |len: usize| wire(&format!("GET / HTTP/1.1|Host: x|A: {}", "b".repeat(len - 32)));
    assert_eq!((head(65_536).len(), head(65_537).len()), (65_536, 65_537));
    assert_eq!(whole(&head(65_536), &LIMITS), "GET / [/] x none keep");
    assert_eq!(whole(&head(65_537), &LIMITS), "HeadTooLarge");
}

// What comes out.

#[test]
fn incomplete() {
    check_raw(b"GET / HTTP/1.1\r\nHost: x\r\n\r", "Incomplete");
}

#[test]
fn nothing() {
    check_raw(b"", "Incomplete");
}

#[test]
fn what_follows_is_left_alone() {
    let input = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\nGET /b HTTP/1.1\r\n";
    check_raw(input, "GET /a [/a] x none keep");
    let Ok(Progress::Complete { consumed, .. }) = request(&mut HeadScan::default(), input, &LIMITS) else {
        panic!()
    };
    assert_eq!(consumed, 28);
}

#[test]
fn a_scan_is_ready_for_the_next_message() {
    let mut scan = HeadScan::default();
    let head = wire("GET / HTTP/1.1|Host: x");
    for _ in 0..2 {
        assert_eq!(request(&mut scan, &head[..20], &LIMITS).unwrap().complete(), None);
        assert_eq!(request(&mut scan, &head, &LIMITS).unwrap().complete(), Some(head.len()));
    }
}

#[test]
fn fields_in_order() {
    let head = wire("GET / HTTP/1.1|Host: x|A:  b \t|a:|B: c: d");
    let request = read(&head);
    let fields = request.fields().map(|field| (field.name, field.value)).collect::<Vec<_>>();
    let expect =
        [("Host", "x"), ("A", "b"), ("a", ""), ("B", "c: d")].map(|(name, value)| (name, value.as_bytes()));
    assert_eq!(fields, expect);
}

#[test]
fn values_by_name() {
    let head = wire("GET / HTTP/1.1|Host: x|Ab:  b \t|abc: no|aB:|B: Ab: no");
    let request = read(&head);
    assert_eq!(request.values("AB").collect::<Vec<_>>(), [b"b".as_slice(), b""]);
    assert_eq!(request.values("c").count(), 0);
    assert_eq!(request.values("").count(), 0);
}

#[track_caller]
fn check(lines: &str, expect: &str) {
    check_raw(&wire(lines), expect);
}

#[track_caller]
fn check_raw(input: &[u8], expect: &str) {
    check_with(input, &LIMITS, expect);
}

/// However the input arrives.
#[track_caller]
fn check_with(input: &[u8], limits: &Limits, expect: &str) {
    assert_eq!(whole(input, limits), expect, "at once");
    assert_eq!(arriving(input, 0..=input.len(), limits), expect, "byte by byte");
    for split in 0..input.len() {
        assert_eq!(arriving(input, [split, input.len()], limits), expect, "split at {split}");
    }
}

/// `|` for CRLF, an empty line behind.
fn wire(lines: &str) -> Vec<u8> {
    format!("{}\r\n\r\n", lines.replace('|', "\r\n")).into_bytes()
}

fn whole(input: &[u8], limits: &Limits) -> String {
    arriving(input, [input.len()], limits)
}

fn arriving(input: &[u8], ends: impl IntoIterator<Item = usize>, limits: &Limits) -> String {
    let mut scan = HeadScan::default();
    for end in ends {
        match request(&mut scan, &input[..end], limits) {
            Ok(Progress::Incomplete) => {}
            Ok(Progress::Complete { message, .. }) => return describe(&message),
            Err(error) => return format!("{error:?}"),
        }
    }
    "Incomplete".to_string()
}

fn describe(request: &Request<'_>) -> String {
    let body = match request.body {
        BodyLength::None => "none".to_string(),
        Chunked => "chunked".to_string(),
        Length(bytes) => bytes.to_string(),
        BodyLength::UntilClose => "until close".to_string(),
    };
    format!(
        "{} {} [{}] {} {body} {}{}{}",
        request.method,
        request.target,
        request.origin,
        request.host,
        if request.persistent { "keep" } else { "close" },
        if request.expects_continue { " continue" } else { "" },
        match request.upgrade {
            Upgrade::None => "",
            Upgrade::H2c { .. } => " h2c",
            Upgrade::Other => " upgrade",
        }
    )
}

fn read(head: &[u8]) -> Request<'_> {
    match request(&mut HeadScan::default(), head, &LIMITS) {
        Ok(Progress::Complete { message, .. }) => message,
        other => panic!("not complete: {other:?}"),
    }
}

trait Complete {
    fn complete(&self) -> Option<usize>;
}

impl<T> Complete for Progress<T> {
    fn complete(&self) -> Option<usize> {
        match self {
            Progress::Complete { consumed, .. } => Some(*consumed),
            Progress::Incomplete => None,
        }
    }
}
