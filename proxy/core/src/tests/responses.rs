//! What a server may answer, and what ends both sides.

use super::script::{C_FIN, INSPECTED, S_FIN, act, c, check, length, s};
use crate::step::Side;

const GET: &str = "GET /ok HTTP/1.1\r\nHost: a\r\n\r\n";
const HEAD: &str = "HEAD /ok HTTP/1.1\r\nHost: a\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
const FORWARDED: &str = "forwarded GET /ok 200";

/// Responses to two GETs that go through as they are.
#[track_caller]
fn passes(first: &str, status: u16) {
    let record = format!("forwarded GET /ok {status}");
    check(
        &[c(&GET.repeat(2)), s(first), s(OK)],
        &GET.repeat(2),
        &[first, OK].concat(),
        &[&record, FORWARDED],
    );
}

/// A response to a GET that ends both sides after `through` of it.
#[track_caller]
fn resets(response: &str, through: &str, record: &str) {
    check(&[c(GET), s(response)], &format!("{GET}<rst>"), &format!("{through}<rst>"), &[record]);
}

#[test]
fn a_length() {
    passes(OK, 200);
}

#[test]
fn chunks_with_extensions_and_trailers() {
    passes("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;a=b\r\nhi\r\n0\r\nX: y\r\n\r\n", 200);
}

#[test]
fn statuses_without_a_body() {
    passes("HTTP/1.1 204 No Content\r\n\r\n", 204);
    passes("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", 304);
}

#[test]
fn interim_responses() {
    passes(
        "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        200,
    );
}

#[test]
fn a_head_is_answered_without_a_body() {
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n";
    let script = [c(&[HEAD, GET].concat()), s(answer), s(OK)];
    check(&script, &[HEAD, GET].concat(), &[answer, OK].concat(), &["forwarded HEAD /ok 200", FORWARDED]);
}

#[test]
fn until_close() {
    let answer = "HTTP/1.1 200 OK\r\n\r\nanything\r\n";
    let client = format!("{answer}<fin>");
    check(&[c(GET), s(answer), S_FIN], GET, &client, &[FORWARDED]);
    check(&[c(GET), s(answer), S_FIN, C_FIN], &format!("{GET}<fin>"), &client, &[FORWARDED]);
}

#[test]
fn a_response_that_nobody_asked_for() {
    let script = [c(GET), s(OK), s("HTTP/1.1 200 OK\r\n")];
    let records = [FORWARDED, "ended connection unexpected_response"];
    check(&script, &format!("{GET}<rst>"), &format!("{OK}<rst>"), &records);
}

#[test]
fn two_responses_to_one_request() {
    let script = [c(GET), s(&[OK, OK].concat())];
    let records = [FORWARDED, "ended connection unexpected_response"];
    check(&script, &format!("{GET}<rst>"), &format!("{OK}<rst>"), &records);
}

#[test]
fn two_responses_to_one_request_never_answer_a_denied_one() {
    let put = "PUT /no HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut shell = INSPECTED.shell();
    for event in [c(&[GET, put].concat()), s(&[OK, OK].concat())] {
        act(&mut shell, &event);
    }
    assert!(!shell.got(Side::Client).contains(&[OK, OK].concat()));
}

#[test]
fn a_response_before_any_request_is_never_read() {
    check(&[s(OK)], "", "", &[]);
}

#[test]
fn a_response_with_a_length_and_chunks() {
    let response = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n";
    resets(response, "", "ended GET /ok length_with_transfer_encoding");
}

#[test]
fn a_response_with_two_lengths() {
    resets(
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n",
        "",
        "ended GET /ok second_content_length",
    );
}

#[test]
fn a_response_with_bad_chunks() {
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    check(
        &[c(GET), s(head), s("x")],
        &format!("{GET}<rst>"),
        &format!("{head}<rst>"),
        &["ended GET /ok bad_chunk_size 200"],
    );
}

#[test]
fn a_switch_of_protocols_that_nobody_asked_for() {
    let response = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n";
    resets(response, "", "ended GET /ok unexpected_upgrade");
}

#[test]
fn no_http_at_all() {
    resets("hello\r\n\r\n", "", "ended GET /ok bad_status_line");
}

#[test]
fn an_early_answer_does_not_stop_the_upload() {
    let post = "POST /ok HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n";
    let script = [c(post), s(OK), c("abcd"), c(GET), s(OK)];
    check(&script, &[post, "abcd", GET].concat(), &OK.repeat(2), &["forwarded POST /ok 200", FORWARDED]);
}

#[test]
fn a_final_answer_instead_of_a_100_ends_the_connection() {
    let post = "POST /ok HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 30\r\n\r\n";
    let answer = "HTTP/1.1 417 Expectation Failed\r\nContent-Length: 0\r\n\r\n";
    let hidden = "GET /no HTTP/1.1\r\nHost: a\r\n\r\n";
    let script = [c(post), s(answer), c(hidden)];
    check(&script, &format!("{post}<fin>"), &format!("{answer}<fin>"), &["forwarded POST /ok 417"]);
}

#[test]
fn a_final_answer_after_a_100_changes_nothing() {
    let post = "POST /ok HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n";
    let script = [c(post), s("HTTP/1.1 100 Continue\r\n\r\n"), s(OK), c("abcd"), c(GET), s(OK)];
    let client = ["HTTP/1.1 100 Continue\r\n\r\n", OK, OK].concat();
    check(&script, &[post, "abcd", GET].concat(), &client, &["forwarded POST /ok 200", FORWARDED]);
}

#[test]
fn nothing_may_follow_an_early_answer_before_the_upload_is_through() {
    let post = "POST /ok HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n";
    check(
        &[c(post), s(OK), s("H")],
        &format!("{post}<rst>"),
        &format!("{OK}<rst>"),
        &["ended POST /ok unexpected_response 200"],
    );
}

#[test]
fn nothing_is_asked_or_answered_after_a_last_response() {
    let last = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    let put = "PUT /no HTTP/1.1\r\nHost: a\r\n\r\n";
    check(
        &[c(&[GET, put].concat()), s(last), c(GET)],
        GET,
        last,
        &[FORWARDED, "ended PUT /no server_closed"],
    );
}

#[test]
fn a_large_body_is_moved_unseen_and_counted() {
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n";
    let mut shell = INSPECTED.shell();
    for event in [c(&GET.repeat(2)), s(&format!("{head}x"))] {
        act(&mut shell, &event);
    }
    let forwards = shell.forwards;
    for _ in 0..9 {
        act(&mut shell, &s(&"y".repeat(111_111)));
    }
    // All but the last byte.
    assert_eq!((shell.forwards - forwards, shell.records.len()), (1, 1));
    assert_eq!(shell.records[0].bytes_down, length(head) + 1_000_000);
    act(&mut shell, &s(OK));
    assert_eq!(shell.records.len(), 2);
    assert_eq!(shell.got(Side::Client).len(), head.len() + 1_000_000 + OK.len());
}

#[test]
fn a_large_body_that_is_cut_short_counts_what_came() {
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n";
    let mut shell = INSPECTED.shell();
    for event in [c(GET), s(head), s(&"y".repeat(1000)), S_FIN] {
        act(&mut shell, &event);
    }
    let made: Vec<_> = shell.records.iter().map(|record| (record.bytes_down, record.reason)).collect();
    assert_eq!(made, [(length(head) + 1000, Some(crate::Reason::ServerClosed))]);
}

#[test]
fn a_large_upload_is_moved_unseen_and_counted() {
    let post = "POST /ok HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\n";
    let mut shell = INSPECTED.shell();
    for event in [c(post), c(&"y".repeat(100_000)), c(&"y".repeat(100_000)), c(GET), s(OK), s(OK)] {
        act(&mut shell, &event);
    }
    assert_eq!(shell.records[0].bytes_up, length(post) + 200_000);
    assert_eq!(shell.records[1].bytes_up, length(GET));
}
