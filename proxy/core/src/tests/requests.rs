//! What a client may send, and how we answer what it may not.

use super::policy::DENIED;
use super::script::{C_FIN, C_RST, Do, INSPECTED, Policy, S_FIN, Setting, act, c, check, s, summary};
use super::shell::LIMITS;
use crate::limits::{Http, Limits};
use crate::session::Dialled;
use crate::step::Side;

const GET: &str = "GET /ok HTTP/1.1\r\nHost: a\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
const DENIED_CLOSE: &str = "HTTP/1.1 403 Forbidden\r\ncontent-type: text/plain\r\ncontent-length: 15\r\nconnection: close\r\n\r\nAccess denied\r\n<fin>";

/// Our answer to what can't be read or done.
fn refusal(status: &str, body: &str) -> String {
    let length = body.len() + 2;
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: text/plain\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}\r\n<fin>"
    )
}

fn bad(reason: &str) -> String {
    refusal("400 Bad Request", &format!("Bad request: {reason}"))
}

/// A request that is refused before anything is forwarded.
#[track_caller]
fn refused(request: &str, reply: &str, record: &str) {
    check(&[c(request)], "", reply, &[record]);
}

#[test]
fn a_body_with_a_length() {
    let post = "POST /ok HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello";
    check(
        &[c(post), s(OK), c(GET), s(OK)],
        &[post, GET].concat(),
        &OK.repeat(2),
        &["forwarded POST /ok 200", "forwarded GET /ok 200"],
    );
}

#[test]
fn a_chunked_body_with_extensions_and_trailers() {
    let post = "POST /ok HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\nT: 1\r\n\r\n";
    check(
        &[c(&[post, GET].concat()), s(&OK.repeat(2))],
        &[post, GET].concat(),
        &OK.repeat(2),
        &["forwarded POST /ok 200", "forwarded GET /ok 200"],
    );
}

/// A backend that merges trailers into its headers would take it for the header that the rule asks for.
#[test]
fn a_trailer_named_like_a_ruled_header_ends_the_connection() {
    let head = "POST /ok HTTP/1.1\r\nHost: a\r\nX-Token: secret\r\nTransfer-Encoding: chunked\r\n\r\n";
    let ruled = Setting { policy: Policy::Token, ..INSPECTED };
    for name in ["X-Token", "x_token", "x.TOKEN"] {
        let mut shell = ruled.shell();
        act(&mut shell, &c(&format!("{head}1\r\na\r\n0\r\n")));
        act(&mut shell, &c(&format!("{name}: other\r\n\r\n{GET}")));
        assert_eq!(shell.got(Side::Server), format!("{head}1\r\na\r\n0\r\n<fin>"), "{name}");
        let records: Vec<String> = shell.records.iter().map(summary).collect();
        assert_eq!(records, ["denied POST /ok forbidden_trailer 400"], "{name}");
    }
    let other = format!("{head}0\r\nX-Tokens: other\r\n\r\n");
    ruled.check(&[c(&other), s(OK)], &other, OK, &["forwarded POST /ok 200"]);
    let post = "POST /ok HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-Token: a\r\n\r\n";
    check(&[c(post), s(OK)], post, OK, &["forwarded POST /ok 200"]);
}

#[test]
fn case_and_order_of_fields_stay_as_they_are() {
    let get = "GET /ok HTTP/1.1\r\nx-B:  2 \r\nX-a: 1\r\nhOST: a\r\nX-A:\r\n\r\n";
    check(&[c(get), s(OK)], get, OK, &["forwarded GET /ok 200"]);
}

#[test]
fn a_denied_upload_is_swallowed() {
    let put = "PUT /no HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    check(
        &[c(put), c(GET), s(OK)],
        GET,
        &[DENIED, OK].concat(),
        &["denied PUT /no no_http_rule 403", "forwarded GET /ok 200"],
    );
}

#[test]
fn a_denied_upload_that_looks_like_requests_is_swallowed() {
    let put = format!("PUT /no HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{GET}", GET.len());
    check(&[c(&put)], "", DENIED, &["denied PUT /no no_http_rule 403"]);
}

#[test]
fn a_denied_head_gets_no_body() {
    let head = "HEAD /no HTTP/1.1\r\nHost: a\r\n\r\n";
    let reply = "HTTP/1.1 403 Forbidden\r\ncontent-type: text/plain\r\ncontent-length: 15\r\n\r\n";
    check(&[c(head), c(head)], "", &reply.repeat(2), &["denied HEAD /no no_http_rule 403"; 2]);
}

#[test]
fn a_denied_client_that_wants_to_close_is_told_so() {
    let put = "PUT /no HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 3\r\n\r\nabc";
    check(&[c(put)], "", DENIED_CLOSE, &["denied PUT /no no_http_rule 403"]);
}

#[test]
fn a_denied_client_of_http_1_0_is_closed() {
    let put = "GET /no HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
    check(&[c(put)], "", DENIED_CLOSE, &["denied GET /no no_http_rule 403"]);
}

#[test]
fn a_client_of_http_1_0_is_served_until_close() {
    let get = "GET /ok HTTP/1.0\r\n\r\n";
    let answer = "HTTP/1.0 200 OK\r\n\r\nanything";
    let client = format!("{answer}<fin>");
    check(&[c(get), s(answer), S_FIN], get, &client, &["forwarded GET /ok 200"]);
    check(&[c(get), c(GET), s(answer), S_FIN], get, &client, &["forwarded GET /ok 200"]);
}

#[test]
fn a_client_of_http_1_0_is_kept_where_both_ends_say_so() {
    let get = "GET /ok HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
    let answer = "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nhi";
    check(
        &[c(get), s(answer), c(get), s(answer)],
        &get.repeat(2),
        &answer.repeat(2),
        &["forwarded GET /ok 200"; 2],
    );
    let last = "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi";
    check(&[c(get), s(last), c(get)], get, last, &["forwarded GET /ok 200"]);
}

/// A rule that asks for a field that is cut out fails: it is not forwarded.
#[test]
fn the_offer_of_h2c_is_not_judged() {
    let field = Setting { policy: Policy::Upgrade, ..INSPECTED };
    let get = "GET /ok HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n\r\n";
    field.check(&[c(get)], "", DENIED, &["denied GET /ok no_http_rule 403"]);
}

#[test]
fn a_denied_client_that_expects_a_100_is_answered_at_once() {
    let put = "PUT /no HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n";
    check(&[c(put)], "", DENIED_CLOSE, &["denied PUT /no no_http_rule 403"]);
    check(&[c(put), c("abc")], "", DENIED_CLOSE, &["denied PUT /no no_http_rule 403"]);
    let empty = "PUT /no HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 0\r\n\r\n";
    check(&[c(empty)], "", DENIED, &["denied PUT /no no_http_rule 403"]);
}

#[test]
fn an_allowed_client_that_expects_a_100_gets_the_servers() {
    let post = "POST /ok HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n";
    let go_on = "HTTP/1.1 100 Continue\r\n\r\n";
    let script = [c(post), s(go_on), c("abc"), s(OK)];
    check(&script, &[post, "abc"].concat(), &[go_on, OK].concat(), &["forwarded POST /ok 200"]);
}

#[test]
fn a_denied_upload_is_swallowed_up_to_its_bound() {
    let four = Setting { limits: Limits { swallow_bytes_max: 4, ..LIMITS }, ..INSPECTED };
    let put = |n: usize| format!("PUT /no HTTP/1.1\r\nHost: a\r\nContent-Length: {n}\r\n\r\n");
    let denied = "denied PUT /no no_http_rule 403";
    four.check(&[c(&put(4)), c("abcd"), c(GET)], GET, DENIED, &[denied]);
    four.check(&[c(&put(5)), c("abcd")], "", DENIED_CLOSE, &[denied, "ended connection swallow_too_large"]);
}

#[test]
fn a_denied_upload_without_a_length_is_swallowed_up_to_its_bound() {
    let put = "PUT /no HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let body = "3\r\nabc\r\n0\r\n\r\n";
    let bound = |bytes: u64| Setting { limits: Limits { swallow_bytes_max: bytes, ..LIMITS }, ..INSPECTED };
    let denied = "denied PUT /no no_http_rule 403";
    bound(13).check(&[c(put), c(body), c(GET)], GET, DENIED, &[denied]);
    let closed = format!("{DENIED}<fin>");
    bound(12).check(&[c(put), c(body)], "", &closed, &[denied, "ended connection swallow_too_large"]);
}

#[test]
fn a_denied_upload_may_take_its_time_and_not_more() {
    let put = "PUT /no HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nab";
    let denied = "denied PUT /no no_http_rule 403";
    check(&[c(put), Do::Sleep(9_999), c("cd"), Do::Sleep(10_000), c(GET)], GET, DENIED, &[denied]);
    let closed = format!("{DENIED}<fin>");
    check(&[c(put), Do::Sleep(10_000)], "", &closed, &[denied, "ended connection swallow_timeout"]);
}

#[test]
fn a_malformed_denied_upload_closes_the_connection() {
    let put = "PUT /no HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    check(&[c(put), c("x\r\n")], "", &format!("{DENIED}<fin>"), &["denied PUT /no no_http_rule 403"]);
}

#[test]
fn what_follows_the_last_reply_is_read_within_bounds() {
    let bound = Setting { limits: Limits { swallow_bytes_max: 4, ..LIMITS }, ..INSPECTED };
    let request = "GET /% HTTP/1.1\r\nHost: a\r\n\r\n";
    let reply = bad("broken_escape");
    let record = ["denied GET /% broken_escape 400"];
    bound.check(&[c(request), c("abcd")], "", &reply, &record);
    bound.check(&[c(request), c("abcde")], "", &format!("{reply}<rst>"), &record);
    bound.check(&[c(request), C_FIN], "", &reply, &record);
    bound.check(&[c(request), Do::Sleep(9_999)], "", &reply, &record);
    bound.check(&[c(request), Do::Sleep(10_000)], "", &format!("{reply}<rst>"), &record);
}

#[test]
fn a_head_may_take_its_time_and_not_more() {
    check(&[c("GET /ok HT"), Do::Sleep(9_999), c("TP/1.1\r\nHost: a\r\n\r\n")], GET, "", &[]);
    let reply = refusal("408 Request Timeout", "Request timeout: head_timeout");
    check(&[c("GET /ok HT"), Do::Sleep(10_000)], "", &reply, &["denied head_timeout 408"]);
}

#[test]
fn the_time_of_a_head_counts_from_its_first_byte() {
    let reply = refusal("408 Request Timeout", "Request timeout: head_timeout");
    let script = [c("GET /ok HT"), Do::Sleep(6_000), c("TP/1"), Do::Sleep(4_000)];
    check(&script, "", &reply, &["denied head_timeout 408"]);
}

#[test]
fn an_idle_connection_has_no_timer() {
    let mut shell = INSPECTED.shell();
    assert!(!shell.timer_is_set());
    for event in [c("GET /ok HT"), c("TP/1.1\r\nHost: a\r\n\r\n"), s(OK)] {
        act(&mut shell, &event);
    }
    assert!(!shell.timer_is_set());
}

#[test]
fn heads_are_read_up_to_their_bound() {
    let bound = |bytes| Setting {
        limits: Limits { http: Http { head_bytes_max: bytes, ..LIMITS.http }, ..LIMITS },
        ..INSPECTED
    };
    bound(GET.len()).check(&[c(GET)], GET, "", &[]);
    let reply = refusal("431 Request Header Fields Too Large", "Head too large: head_too_large");
    bound(GET.len() - 1).check(&[c(GET)], "", &reply, &["denied head_too_large 431"]);
}

#[test]
fn paths_are_judged_up_to_their_bound() {
    let bound = |bytes| Setting {
        limits: Limits { http: Http { path_bytes_max: bytes, ..LIMITS.http }, ..LIMITS },
        ..INSPECTED
    };
    let query = format!("GET /ok?{} HTTP/1.1\r\nHost: a\r\n\r\n", "q".repeat(100));
    let reply = refusal("414 URI Too Long", "Path too long: path_too_long");
    let denied = "GET /no HTTP/1.1\r\nHost: a\r\n\r\n";
    bound("/ok".len()).check(&[c(GET)], GET, "", &[]);
    bound("/ok".len() - 1).check(&[c(GET)], "", &reply, &["denied GET /ok path_too_long 414"]);
    bound("/no".len() - 1).check(&[c(denied)], "", &reply, &["denied GET /no path_too_long 414"]);
    let absolute = "GET http://a/ok HTTP/1.1\r\nHost: a\r\n\r\n";
    bound("/ok".len()).check(&[c(absolute)], absolute, "", &[]);
    bound("/ok".len()).check(&[c(&query)], &query, "", &[]);
}

#[test]
fn fields_are_read_up_to_their_bound() {
    let bound = |fields| Setting {
        limits: Limits { http: Http { fields_max: fields, ..LIMITS.http }, ..LIMITS },
        ..INSPECTED
    };
    bound(1).check(&[c(GET)], GET, "", &[]);
    let reply = refusal("431 Request Header Fields Too Large", "Head too large: too_many_fields");
    let two = "GET /ok HTTP/1.1\r\nHost: a\r\nB: b\r\n\r\n";
    bound(1).check(&[c(two)], "", &reply, &["denied too_many_fields 431"]);
}

#[test]
fn a_refusal_waits_for_the_responses_before_it() {
    let script = [c(&[GET, "GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n"].concat()), s(OK)];
    check(
        &script,
        &format!("{GET}<fin>"),
        &[OK, &bad("broken_escape")].concat(),
        &["forwarded GET /ok 200", "denied GET /%zz broken_escape 400"],
    );
}

#[test]
fn bad_targets_are_refused() {
    for (target, reason) in
        [("/ok%", "broken_escape"), ("/ok%2541", "escaped_escape"), ("/ok%00", "escaped_nul")]
    {
        let request = format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
        refused(&request, &bad(reason), &format!("denied GET {target} {reason} 400"));
    }
}

#[test]
fn a_target_that_is_not_a_path_is_refused() {
    refused("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", &bad("not_a_path"), "denied OPTIONS * not_a_path 400");
}

#[test]
fn upgrades_are_refused_by_name() {
    let upgrade = "GET /ok HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    refused(upgrade, DENIED_CLOSE, "denied GET /ok upgrade_refused 403");
}

#[test]
fn connect_is_refused_by_name() {
    let connect = "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n";
    refused(connect, DENIED_CLOSE, "denied CONNECT a:443 upgrade_refused 403");
}

#[test]
fn the_offer_of_h2c_is_cut_out() {
    let get = "GET /ok HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\nX: y\r\n\r\n";
    let forwarded = "GET /ok HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\n";
    check(&[c(get), s(OK)], forwarded, OK, &["forwarded GET /ok 200"]);
}

#[test]
fn tls_is_not_http() {
    let mismatch = ["denied connection protocol_mismatch"];
    check(&[c("\u{16}\u{3}\u{1}")], "", "<rst>", &mismatch);
}

#[test]
fn a_broken_upload_is_refused_and_its_server_told_the_end() {
    let post = "POST /ok HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n";
    let script = [c(post), c("zz")];
    check(&script, &format!("{post}<fin>"), &bad("bad_chunk_size"), &["denied POST /ok bad_chunk_size 400"]);
}

#[test]
fn a_broken_upload_waits_for_the_responses_before_it() {
    let post = "POST /ok HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n";
    let script = [c(GET), c(post), c("zz"), s(OK)];
    check(
        &script,
        &format!("{GET}{post}<fin>"),
        &[OK, &bad("bad_chunk_size")].concat(),
        &["forwarded GET /ok 200", "denied POST /ok bad_chunk_size 400"],
    );
}

#[test]
fn a_broken_upload_that_is_being_answered_is_reset() {
    let post = "POST /ok HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n";
    let script = [c(post), s("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"), c("zz")];
    let client = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n<rst>";
    check(&script, &format!("{post}<rst>"), client, &["ended POST /ok bad_chunk_size 200"]);
}

#[test]
fn an_unreachable_upstream_is_a_503() {
    for (result, reason, text) in [
        (Dialled::Exhausted, "node_exhausted", "gateway out of resources"),
        (Dialled::Refused, "upstream_refused", "upstream connection refused"),
        (Dialled::TimedOut, "upstream_timeout", "upstream timed out"),
        (Dialled::Unreachable, "upstream_unreachable", "upstream unreachable"),
    ] {
        let failing = Setting { dial: Some(result), ..INSPECTED };
        let reply = refusal("503 Service Unavailable", text);
        let record = format!("ended GET /ok {reason} 503");
        failing.check(&[c(&GET.repeat(2))], "", &reply, &[&record]);
    }
}

#[test]
fn the_dial_may_take_its_time_and_not_more() {
    let waiting = Setting { dial: None, ..INSPECTED };
    waiting.check(
        &[c(GET), Do::Sleep(9_999), Do::Dialled(Dialled::Connected), Do::Sleep(9_999)],
        GET,
        "",
        &[],
    );
    let reply = refusal("503 Service Unavailable", "upstream timed out");
    waiting.check(&[c(GET), Do::Sleep(10_000)], "", &reply, &["ended GET /ok upstream_timeout 503"]);
}

#[test]
fn a_request_that_waits_for_the_dial_is_judged_when_it_is_forwarded() {
    let waiting = Setting { dial: None, ..INSPECTED };
    let script = [c(GET), Do::Publish(Policy::Other), Do::Dialled(Dialled::Connected)];
    waiting.check(&script, "", DENIED, &["denied GET /ok no_http_rule 403"]);
}

#[test]
fn a_client_that_leaves_during_the_dial() {
    let waiting = Setting { dial: None, ..INSPECTED };
    waiting.check(&[c(GET), C_RST], "", "<rst>", &["ended GET /ok client_reset"]);
    waiting.check(&[c(GET), C_FIN, Do::Dialled(Dialled::Connected)], &format!("{GET}<fin>"), "", &[]);
}

#[test]
fn what_follows_the_last_request_is_dropped() {
    let last = "GET /ok HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    check(&[c(last), c(GET), s(OK)], last, OK, &["forwarded GET /ok 200"]);
}
