//! FIN, half-close and RST of inspected connections.

use super::policy::DENIED;
use super::script::{C_FIN, C_RST, S_FIN, S_RST, c, check, s};

const GET: &str = "GET /ok HTTP/1.1\r\nHost: a\r\n\r\n";
const PUT: &str = "PUT /no HTTP/1.1\r\nHost: a\r\n\r\n";
const POST: &str = "POST /ok HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
const FORWARDED: &str = "forwarded GET /ok 200";
const DENIED_PUT: &str = "denied PUT /no no_http_rule 403";

fn fin(text: &str) -> String {
    format!("{text}<fin>")
}

fn rst(text: &str) -> String {
    format!("{text}<rst>")
}

#[test]
fn the_client_closes_between_requests() {
    check(&[c(GET), s(OK), C_FIN], &fin(GET), OK, &[FORWARDED]);
    check(&[c(GET), s(OK), C_FIN, S_FIN], &fin(GET), &fin(OK), &[FORWARDED]);
}

#[test]
fn the_client_closes_its_side_before_the_response() {
    check(&[c(GET), C_FIN, s(OK), S_FIN], &fin(GET), &fin(OK), &[FORWARDED]);
}

#[test]
fn the_client_closes_inside_a_head() {
    check(&[c("GET /o"), C_FIN], "", "<fin>", &["ended connection client_closed"]);
    let script = [c(GET), c("GET /o"), C_FIN, s(OK), S_FIN];
    check(&script, &fin(GET), &fin(OK), &["ended connection client_closed", FORWARDED]);
}

#[test]
fn the_client_closes_inside_a_body() {
    let server = fin(&[POST, "ab"].concat());
    check(&[c(POST), c("ab"), C_FIN, s(OK), S_FIN], &server, &fin(OK), &["ended POST /ok client_closed 200"]);
    check(&[c(POST), c("ab"), C_FIN, S_FIN], &server, "<fin>", &["ended POST /ok client_closed"]);
}

#[test]
fn the_client_closes_inside_a_body_that_was_answered_early() {
    let server = fin(&[POST, "ab"].concat());
    check(&[c(POST), c("ab"), s(OK), C_FIN], &server, OK, &["ended POST /ok client_closed 200"]);
}

#[test]
fn the_client_closes_after_a_denial() {
    check(&[c(PUT), C_FIN], "", &fin(DENIED), &[DENIED_PUT]);
    check(&[c(GET), s(OK), c(PUT), C_FIN], &fin(GET), &[OK, DENIED].concat(), &[FORWARDED, DENIED_PUT]);
}

#[test]
fn the_client_closes_while_a_denial_waits() {
    let script = [c(GET), c(PUT), C_FIN, s(OK), S_FIN];
    check(&script, &fin(GET), &fin(&[OK, DENIED].concat()), &[FORWARDED, DENIED_PUT]);
}

#[test]
fn the_client_closes_while_requests_wait_behind_a_denial() {
    let script = [c(&[GET, PUT, GET].concat()), C_FIN, s(OK), s(OK), S_FIN];
    let records = [FORWARDED, DENIED_PUT, FORWARDED];
    check(&script, &fin(&GET.repeat(2)), &fin(&[OK, DENIED, OK].concat()), &records);
}

#[test]
fn the_client_closes_inside_a_denied_body() {
    let put = "PUT /no HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nab";
    check(&[c(put), C_FIN], "", &fin(DENIED), &[DENIED_PUT]);
    check(&[c(GET), s(OK), c(put), C_FIN], &fin(GET), &[OK, DENIED].concat(), &[FORWARDED, DENIED_PUT]);
}

#[test]
fn the_server_closes_between_requests() {
    check(&[c(GET), s(OK), S_FIN], GET, &fin(OK), &[FORWARDED]);
    check(&[c(GET), s(OK), S_FIN, C_FIN], &fin(GET), &fin(OK), &[FORWARDED]);
}

#[test]
fn requests_behind_the_servers_end_are_dropped() {
    check(&[c(GET), s(OK), S_FIN, c(GET), c(PUT), C_FIN], &fin(GET), &fin(OK), &[FORWARDED]);
}

#[test]
fn the_server_closes_before_its_response() {
    check(&[c(GET), S_FIN], GET, "<fin>", &["ended GET /ok server_closed"]);
    let script = [c(&GET.repeat(2)), s(OK), S_FIN];
    check(&script, &GET.repeat(2), &fin(OK), &[FORWARDED, "ended GET /ok server_closed"]);
}

#[test]
fn the_server_closes_inside_its_response() {
    let half = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nh";
    check(&[c(GET), s(half), S_FIN], GET, &fin(half), &["ended GET /ok server_closed 200"]);
    check(&[c(GET), s("HTTP/1.1 20"), S_FIN], GET, "<fin>", &["ended GET /ok server_closed"]);
}

#[test]
fn the_server_closes_while_a_denial_waits() {
    let records = ["ended PUT /no server_closed", "ended GET /ok server_closed"];
    check(&[c(GET), c(PUT), S_FIN], GET, "<fin>", &records);
}

#[test]
fn the_server_closes_during_an_upload() {
    let records = ["ended POST /ok server_closed"];
    check(&[c(POST), c("ab"), S_FIN, c("cd")], &[POST, "abcd"].concat(), "<fin>", &records);
    check(&[c(POST), c("ab"), S_FIN, C_FIN], &fin(&[POST, "ab"].concat()), "<fin>", &records);
    check(&[c(POST), c("ab"), S_FIN, c("cd"), c(GET)], &[POST, "abcd"].concat(), "<fin>", &records);
}

#[test]
fn the_server_closes_during_an_upload_that_it_answered() {
    let records = ["ended POST /ok server_closed 200"];
    check(&[c(POST), s(OK), S_FIN, c("abcd")], &[POST, "abcd"].concat(), &fin(OK), &records);
}

#[test]
fn the_client_resets() {
    check(&[C_RST], "", "<rst>", &["ended connection client_reset"]);
    check(&[c(GET), C_RST], &rst(GET), "<rst>", &["ended GET /ok client_reset"]);
    check(&[c(GET), s(OK), C_RST], &rst(GET), &rst(OK), &[FORWARDED]);
}

#[test]
fn the_client_resets_while_a_denial_waits() {
    let records = ["ended GET /ok client_reset", "ended PUT /no client_reset"];
    check(&[c(GET), c(PUT), C_RST], &rst(GET), "<rst>", &records);
}

#[test]
fn the_server_resets() {
    check(&[c(GET), S_RST], &rst(GET), "<rst>", &["ended GET /ok server_reset"]);
    check(&[c(GET), s(OK), S_RST], &rst(GET), &rst(OK), &[FORWARDED]);
}

#[test]
fn the_server_resets_while_the_last_reply_is_on_its_way() {
    let bad = "GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n";
    let reply = "HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\ncontent-length: 28\r\nconnection: close\r\n\r\nBad request: broken_escape\r\n";
    let script = [c(GET), s(OK), c(bad), S_RST];
    check(&script, &fin(GET), &fin(&[OK, reply].concat()), &[FORWARDED, "denied GET /%zz broken_escape 400"]);
}

#[test]
fn an_answer_behind_the_last_reply_is_dropped() {
    let post = "POST /ok HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n";
    let reply = "HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\ncontent-length: 29\r\nconnection: close\r\n\r\nBad request: bad_chunk_size\r\n";
    let records = ["denied POST /ok bad_chunk_size 400"];
    check(&[c(post), c("zz"), s(OK), S_FIN], &fin(post), &fin(reply), &records);
}
