//! The `normalise` cases of `tests/cases/policy-cases.yaml`, and those of requests that are answered before policy.
//!
//! They state what upstream does. Where the answer here is another one, the table beside the test says which and why, as
//! `docs/compatibility.md` does; whatever is in no table must be as stated.

use super::policy::DENIED;
use super::script::{INSPECTED, act, c, s};
use crate::step::Side;
use parsers::http1::Readings;
use serde_json::Value;

const CASES: &str = include_str!("../../../../tests/cases/policy-cases.yaml");
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";

/// A status, and a reason.
type Answer<'a> = Option<(u16, &'a str)>;

/// Rows of H16: how the case words the request, what goes over the wire, and the status where that is another one.
const BEFORE_POLICY: &[(&str, &str, Answer<'_>)] = &[
    ("GET / HTTP/1.0", "GET /ok HTTP/1.0\r\n\r\n", Some((200, "inspected like 1.1"))),
    ("GET / HTTP/1.1 without Host", "GET /ok HTTP/1.1\r\n\r\n", None),
    ("OPTIONS * HTTP/1.1", "OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n", Some((400, "not a path"))),
    ("CONNECT h:443 HTTP/1.1", "CONNECT h:443 HTTP/1.1\r\nHost: h:443\r\n\r\n", None),
    (
        "Upgrade: foo (not websocket)",
        "GET /ok HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: foo\r\n\r\n",
        None,
    ),
    ("GET /x#frag", "GET /ok#frag HTTP/1.1\r\nHost: h\r\n\r\n", None),
    ("GET http://h/x (absolute form)", "GET http://h/ok HTTP/1.1\r\nHost: h\r\n\r\n", None),
];

#[test]
fn requests_that_are_answered_before_policy() {
    let case = case("H16");
    let rows = case["requests"].as_array().unwrap();
    assert_eq!(rows.len(), BEFORE_POLICY.len());
    for row in rows {
        let raw = row["raw"].as_str().unwrap();
        let (_, request, deviates) = BEFORE_POLICY.iter().find(|(known, ..)| *known == raw).unwrap();
        let stated = u16::try_from(row["expect"].as_u64().unwrap()).unwrap();
        let expect = deviates.map_or(stated, |(status, _why)| status);
        assert_ne!(deviates.map(|(status, _why)| status), Some(stated), "{raw} does not deviate");
        assert_eq!(status(request), expect, "{raw}");
    }
}

/// Every form that upstream judges is among those that must be allowed, and no reading is a redirect.
#[test]
fn the_normal_form_of_upstream_is_judged_too() {
    let case = case("N01");
    let rows = case["table"].as_array().unwrap();
    assert!(rows.len() > 5, "{}", rows.len());
    for row in rows {
        let target = row["in"].as_str().unwrap();
        let out = row["out"].as_str().unwrap();
        // Instead of the redirect, and of the refusal of gRPC: the path that the redirect would name.
        let out = match out {
            "grpc-13" => "/a/b",
            _ => out.trim_start_matches("redirect 307 "),
        };
        let mut readings = Readings::default();
        readings.read(target, usize::MAX).unwrap();
        assert!(readings.iter().any(|reading| reading == out.as_bytes()), "{row}");
    }
}

/// What upstream judges in one form is allowed here only if every form is: `/ok...` alone is not enough.
#[test]
fn one_form_is_not_enough() {
    assert_eq!(status("GET /ok/../b HTTP/1.1\r\nHost: h\r\n\r\n"), 403);
    assert_eq!(status("GET /b/../ok HTTP/1.1\r\nHost: h\r\n\r\n"), 403);
    assert_eq!(status("GET /ok/a/../b HTTP/1.1\r\nHost: h\r\n\r\n"), 200);
    assert_eq!(status("GET /ok%2Fb HTTP/1.1\r\nHost: h\r\n\r\n"), 200);
}

/// H13: a denied gRPC request is answered as any other.
#[test]
fn grpc_is_denied_like_any_request() {
    let request = "POST /cloudcity.DoorManager/SetAccessCode HTTP/1.1\r\nHost: h\r\nContent-Type: application/grpc\r\n\r\n";
    let mut shell = INSPECTED.shell();
    act(&mut shell, &c(request));
    assert_eq!(shell.got(Side::Client), DENIED);
}

/// What a client is answered whose server answers 200.
fn status(request: &str) -> u16 {
    let mut shell = INSPECTED.shell();
    for event in [c(request), s(OK)] {
        act(&mut shell, &event);
    }
    let got = shell.got(Side::Client);
    got.split(' ').nth(1).unwrap().parse().unwrap()
}

#[track_caller]
fn case(id: &str) -> Value {
    let file: Value = serde_saphyr::from_str(CASES).unwrap();
    let cases = file["cases"].as_array().unwrap();
    cases.iter().find(|case| case["id"] == id).unwrap().clone()
}
