//! Responses: their framing, and every deviation, however the bytes arrive.

use super::*;
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

#[test]
fn length() {
    check("HTTP/1.1 200 OK|Content-Length: 5", "200 Length(5) keep");
}

#[test]
fn chunked() {
    check("HTTP/1.1 200 OK|Transfer-Encoding: chunked", "200 Chunked keep");
}

#[test]
fn until_close() {
    check("HTTP/1.1 200 OK|Connection: keep-alive", "200 UntilClose close");
}

#[test]
fn until_close_on_1_0() {
    check("HTTP/1.0 200 OK", "200 UntilClose close");
}

#[test]
fn keep_alive_on_1_0() {
    check("HTTP/1.0 200 OK|Connection: keep-alive|Content-Length: 0", "200 Length(0) keep");
}

#[test]
fn close_on_1_0() {
    check("HTTP/1.0 200 OK|Content-Length: 0", "200 Length(0) close");
}

#[test]
fn close_on_1_1() {
    check("HTTP/1.1 200 OK|Connection: close|Content-Length: 1", "200 Length(1) close");
}

#[test]
fn no_reason() {
    check("HTTP/1.1 200 |Content-Length: 5", "200 Length(5) keep");
}

#[test]
fn no_reason_and_no_space() {
    check("HTTP/1.1 200|Content-Length: 5", "200 Length(5) keep");
}

#[test]
fn reason_beyond_ascii() {
    check("HTTP/1.1 404 nicht da: \u{fc}ber\tall|Content-Length: 5", "404 Length(5) keep");
}

#[test]
fn answer_to_head() {
    check_to(AnsweredMethod::Head, "HTTP/1.1 200 OK|Content-Length: 5", "200 None keep");
    check_to(AnsweredMethod::Head, "HTTP/1.1 200 OK|Transfer-Encoding: chunked", "200 None keep");
    check_to(AnsweredMethod::Head, "HTTP/1.1 200 OK", "200 None keep");
}

#[test]
fn not_modified() {
    check("HTTP/1.1 304 Not Modified|Content-Length: 5", "304 None keep");
}

#[test]
fn no_content() {
    check("HTTP/1.1 204 No Content", "204 None keep");
    check("HTTP/1.1 204 No Content|Content-Length: 0", "204 None keep");
}

#[test]
fn no_content_with_content() {
    check("HTTP/1.1 204 No Content|Content-Length: 1", "BodyNotAllowed");
    check("HTTP/1.1 204 No Content|Transfer-Encoding: chunked", "BodyNotAllowed");
    check_to(AnsweredMethod::Head, "HTTP/1.1 204 No Content|Content-Length: 1", "BodyNotAllowed");
}

#[test]
fn reset_content_is_framed_like_any_other() {
    check("HTTP/1.1 205 Reset Content|Content-Length: 0", "205 Length(0) keep");
}

#[test]
fn interim() {
    check("HTTP/1.1 100 Continue", "100 None keep interim");
    check("HTTP/1.1 103 Early Hints|Link: </a.css>", "103 None keep interim");
    check("HTTP/1.1 199 ?", "199 None keep interim");
}

#[test]
fn interim_with_a_body() {
    check("HTTP/1.1 100 Continue|Content-Length: 1", "BodyNotAllowed");
    check("HTTP/1.1 103 Early Hints|Transfer-Encoding: chunked", "BodyNotAllowed");
}

#[test]
fn switching_protocols() {
    check("HTTP/1.1 101 Switching Protocols|Upgrade: websocket", "UnexpectedUpgrade");
}

#[test]
fn status_lines_that_are_none() {
    let lines = [
        "HTTP/1.1 20 OK",
        "HTTP/1.1 2000 OK",
        "HTTP/1.1 099 OK",
        "HTTP/1.1 +20 OK",
        "HTTP/1.1  200 OK",
        "HTTP/1.1\t200 OK",
        "HTTP/1.2 200 OK",
        "HTTP/2 200",
        "http/1.1 200 OK",
        "HTTP/1.1 200\tOK",
        "HTTP/1.1 200 O\0K",
        "ICY 200 OK",
        "HTTP/1.1",
        "H",
        "HTTP/1.1 2x0 OK",
        "HTTP/1.1 200OK",
    ];
    for line in lines {
        check(&format!("{line}|Content-Length: 5"), "BadStatusLine");
    }
}

#[test]
fn framing_that_is_ambiguous() {
    check("HTTP/1.1 200 OK|Content-Length: 5|Transfer-Encoding: chunked", "LengthWithTransferEncoding");
    check("HTTP/1.1 200 OK|Content-Length: 5|Content-Length: 5", "SecondContentLength");
    check("HTTP/1.1 200 OK|Content-Length: 5, 5", "BadContentLength");
    check("HTTP/1.1 200 OK|Transfer-Encoding: gzip, chunked", "BadTransferEncoding");
    check("HTTP/1.1 200 OK|Transfer-Encoding: identity", "BadTransferEncoding");
    check("HTTP/1.0 200 OK|Transfer-Encoding: chunked", "TransferEncodingOn10");
    check("HTTP/1.1 200 OK|Connection: content-length|Content-Length: 5", "BadConnection");
}

#[test]
fn framing_is_judged_where_there_is_no_body_too() {
    check_to(AnsweredMethod::Head, "HTTP/1.1 200 OK|Content-Length: x", "BadContentLength");
    check(
        "HTTP/1.1 304 Not Modified|Content-Length: 5|Transfer-Encoding: chunked",
        "LengthWithTransferEncoding",
    );
}

#[test]
fn lines_that_deviate() {
    check("HTTP/1.1 200 OK|A : b", "SpaceBeforeColon");
    check("HTTP/1.1 200 OK|A: b| c", "ObsFold");
    check("HTTP/1.1 200 OK|A", "MissingColon");
    check("HTTP/1.1 200 OK|: b", "EmptyFieldName");
    check("HTTP/1.1 200 OK|A(: b", "BadFieldName");
    check("HTTP/1.1 200 OK|A: \x01", "BadFieldValue");
    check_raw(b"\r\nHTTP/1.1 200 OK\r\n\r\n", "LeadingEmptyLine");
    check_raw(b"HTTP/1.1 200 OK\n\n", "BareLf");
    check_raw(b"HTTP/1.1 200 OK\rA: b\r\n\r\n", "BareCr");
    check_raw(b"HTTP/1.1 200 OK\r\nA: b\rC: d\r\n\r\n", "BareCr");
}

#[test]
fn limits() {
    let head = b"HTTP/1.1 204 x\r\nA: b\r\n\r\n";
    let limits = Limits { head_bytes_max: head.len(), fields_max: 1, ..LIMITS };
    check_with(head, &limits, "204 None keep");
    check_with(head, &Limits { head_bytes_max: head.len() - 1, ..limits }, "HeadTooLarge");
    check_with(head, &Limits { fields_max: 0, ..limits }, "TooManyFields");
}

#[test]
fn incomplete() {
    check_raw(b"HTTP/1.1 200 OK\r\nA: b\r\n", "Incomplete");
}

#[test]
fn garbage_is_refused_at_its_first_byte() {
    check_raw(b"\x00\x00", "BadStatusLine");
}

#[track_caller]
fn check(lines: &str, expect: &str) {
    check_to(AnsweredMethod::Other, lines, expect);
}

#[track_caller]
fn check_to(to: AnsweredMethod, lines: &str, expect: &str) {
    let input = format!("{}\r\n\r\n", lines.replace('|', "\r\n"));
    every_way(input.as_bytes(), to, &LIMITS, expect);
}

#[track_caller]
fn check_raw(input: &[u8], expect: &str) {
    check_with(input, &LIMITS, expect);
}

#[track_caller]
fn check_with(input: &[u8], limits: &Limits, expect: &str) {
    every_way(input, AnsweredMethod::Other, limits, expect);
}

/// However the input arrives.
#[track_caller]
fn every_way(input: &[u8], to: AnsweredMethod, limits: &Limits, expect: &str) {
    let bytes = (0..=input.len()).collect::<Vec<_>>();
    assert_eq!(arriving(input, &bytes, to, limits), expect, "byte by byte");
    for split in 0..=input.len() {
        assert_eq!(arriving(input, &[split, input.len()], to, limits), expect, "split at {split}");
    }
}

fn arriving(input: &[u8], ends: &[usize], to: AnsweredMethod, limits: &Limits) -> String {
    let mut scan = HeadScan::default();
    for end in ends {
        match response(&mut scan, &input[..*end], to, limits) {
            Ok(Progress::Incomplete) => {}
            Ok(Progress::Complete { message, consumed }) => {
                assert_eq!(consumed, input.len());
                let keep = if message.persistent { "keep" } else { "close" };
                let interim = if message.is_interim() { " interim" } else { "" };
                return format!("{} {:?} {keep}{interim}", message.status, message.body);
            }
            Err(error) => return format!("{error:?}"),
        }
    }
    "Incomplete".to_string()
}
