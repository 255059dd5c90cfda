//! Verdicts of connections and requests, and what a change of policy does to live ones.

use super::script::{C_FIN, Do, INSPECTED, Policy, S_FIN, Setting, act, c, check, length, s};
use super::shell::LIMITS;
use crate::limits::Limits;
use crate::record::Outcome;
use policy_model::snapshot::Direction;

const GET: &str = "GET /ok HTTP/1.1\r\nHost: a\r\n\r\n";
const OTHER: &str = "GET /other HTTP/1.1\r\nHost: a\r\n\r\n";
const PUT: &str = "PUT /no HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
pub(super) const DENIED: &str =
    "HTTP/1.1 403 Forbidden\r\ncontent-type: text/plain\r\ncontent-length: 15\r\n\r\nAccess denied\r\n";

fn with(policy: Policy) -> Setting {
    Setting { policy, ..INSPECTED }
}

#[test]
fn an_allowed_request() {
    check(&[c(GET), s(OK)], GET, OK, &["forwarded GET /ok 200"]);
}

#[test]
fn a_denied_request_never_reaches_the_server() {
    check(&[c(PUT)], "", DENIED, &["denied PUT /no no_http_rule 403"]);
    let mut shell = INSPECTED.shell();
    act(&mut shell, &c(PUT));
    assert_eq!(shell.dials, 0);
}

#[test]
fn the_connection_is_kept_behind_a_denied_request() {
    let script = [c(PUT), c(GET), s(OK)];
    check(
        &script,
        GET,
        &[DENIED, OK].concat(),
        &["denied PUT /no no_http_rule 403", "forwarded GET /ok 200"],
    );
}

#[test]
fn a_denial_waits_for_the_responses_before_it() {
    let script = [c(&[GET, PUT, GET].concat()), s(OK), s(OK)];
    let records = ["forwarded GET /ok 200", "denied PUT /no no_http_rule 403", "forwarded GET /ok 200"];
    check(&script, &[GET, GET].concat(), &[OK, DENIED, OK].concat(), &records);
}

#[test]
fn what_is_behind_a_waiting_denial_is_not_read() {
    check(&[c(&[GET, PUT, GET].concat())], GET, "", &[]);
}

#[test]
fn every_reading_of_a_path_must_be_allowed() {
    let request = "GET /ok/%2e%2e/no HTTP/1.1\r\nHost: a\r\n\r\n";
    check(&[c(request)], "", DENIED, &["denied GET /ok/%2e%2e/no no_http_rule 403"]);
    let request = "GET /ok/..%2fno HTTP/1.1\r\nHost: a\r\n\r\n";
    check(&[c(request)], "", DENIED, &["denied GET /ok/..%2fno no_http_rule 403"]);
}

#[test]
fn headers_are_judged() {
    let token = with(Policy::Token);
    let good = "GET /ok HTTP/1.1\r\nHost: a\r\nX-Token: secret\r\n\r\n";
    token.check(&[c(good), s(OK)], good, OK, &["forwarded GET /ok 200"]);
    token.check(&[c(GET)], "", DENIED, &["denied GET /ok no_http_rule 403"]);
}

/// Whatever a backend takes for the header: it can be neither forged nor covered up.
#[test]
fn headers_are_judged_as_every_backend_reads_them() {
    let token = with(Policy::Token);
    let good = "X-Token: secret\r\n";
    for denied in [
        "X_Token: secret\r\n",
        "x.token: secret\r\n",
        "X~TOKEN: secret\r\n",
        "X-Token: secret\r\nX_Token: other\r\n",
        "X_Token: other\r\nX-Token: secret\r\n",
        "X-Token: secret\r\nX|Token:\r\n",
        "X-Token: other\r\nX_Token: secret\r\n",
        "Connection: X-Token\r\nX-Token: secret\r\n",
        "X-Token: secret\r\nConnection: keep-alive\r\nConnection: a, x-token ,b\r\n",
        "X-Token: secret\r\nProxy-Connection: x-token\r\n",
        "X-Token: secret\r\nConnection: Upgrade, HTTP2-Settings, X-Token\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n",
    ] {
        let request = format!("GET /ok HTTP/1.1\r\nHost: a\r\n{denied}\r\n");
        token.check(&[c(&request)], "", DENIED, &["denied GET /ok no_http_rule 403"]);
    }
    for allowed in [
        good,
        "x-TOKEN: secret\r\nX-Tokens: a\r\nX_Tokem: b\r\n",
        "X-Token: secret\r\nConnection: X-Tokens\r\n",
    ] {
        let request = format!("GET /ok HTTP/1.1\r\nHost: a\r\n{allowed}\r\n");
        token.check(&[c(&request), s(OK)], &request, OK, &["forwarded GET /ok 200"]);
    }
}

#[test]
fn rules_that_cannot_be_judged_deny_every_request() {
    with(Policy::Unjudgeable).check(&[c(GET)], "", DENIED, &["denied GET /ok unjudgeable 403"]);
}

#[test]
fn a_connection_that_no_rule_allows_is_reset() {
    with(Policy::Closed).check(&[], "", "<rst>", &["denied connection no_rule"]);
}

#[test]
fn a_connection_under_a_deny_rule_is_reset() {
    with(Policy::DenyRule).check(&[], "", "<rst>", &["denied connection deny_rule"]);
}

#[test]
fn requests_meet_a_new_policy_at_their_next_head() {
    let script = [c(GET), s(OK), Do::Publish(Policy::Other), c(GET), c(OTHER), s(OK)];
    let records = ["forwarded GET /ok 200", "denied GET /ok no_http_rule 403", "forwarded GET /other 200"];
    check(&script, &[GET, OTHER].concat(), &[OK, DENIED, OK].concat(), &records);
}

#[test]
fn requests_under_way_go_on_over_a_change() {
    let post = "POST /ok HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n";
    let script = [c(post), c("ab"), Do::Publish(Policy::Other), c("cd"), s(OK)];
    check(&script, &[post, "abcd"].concat(), OK, &["forwarded POST /ok 200"]);
}

#[test]
fn a_policy_between_pipelined_requests() {
    let script = [c(&[GET, PUT].concat()), Do::Store(Policy::Other), s(OK), c(GET)];
    let records =
        ["forwarded GET /ok 200", "denied PUT /no no_http_rule 403", "denied GET /ok no_http_rule 403"];
    check(&script, GET, &[OK, DENIED, DENIED].concat(), &records);
}

#[test]
fn an_inspected_connection_stays_framed_when_its_port_is_plainly_allowed() {
    let script = [c(GET), s(OK), Do::Publish(Policy::L4), c(PUT), s(OK), Do::Publish(Policy::Ok), c(PUT)];
    let records = ["forwarded GET /ok 200", "forwarded PUT /no 200", "denied PUT /no no_http_rule 403"];
    check(&script, &[GET, PUT].concat(), &[OK, OK, DENIED].concat(), &records);
}

#[test]
fn a_revoked_connection_is_reset() {
    let script = [c(GET), s(OK), Do::Publish(Policy::Closed)];
    let records = ["forwarded GET /ok 200", "ended connection revoked"];
    check(&script, &format!("{GET}<rst>"), &format!("{OK}<rst>"), &records);
}

#[test]
fn a_revoked_connection_ends_its_requests() {
    let script = [c(&[GET, GET, PUT].concat()), Do::Publish(Policy::Closed)];
    let records = ["ended GET /ok revoked", "ended GET /ok revoked", "ended PUT /no revoked"];
    check(&script, &format!("{GET}{GET}<rst>"), "<rst>", &records);
}

#[test]
fn a_request_may_be_the_first_to_meet_a_revocation() {
    let script = [c(GET), Do::Store(Policy::Closed), c(GET)];
    let records = ["ended GET /ok revoked", "ended GET /ok revoked"];
    check(&script, &format!("{GET}<rst>"), "<rst>", &records);
}

#[test]
fn an_opaque_connection_is_reset_when_it_needs_inspection() {
    let script = [c(GET), s(OK), Do::Publish(Policy::Ok)];
    let records = ["ended connection redirect_required"];
    with(Policy::L4).check(&script, &format!("{GET}<rst>"), &format!("{OK}<rst>"), &records);
}

#[test]
fn an_opaque_connection_is_reset_when_it_is_revoked() {
    let script = [c("x"), Do::Publish(Policy::Closed)];
    with(Policy::L4).check(&script, "x<rst>", "<rst>", &["ended connection revoked"]);
}

#[test]
fn an_opaque_connection_goes_on_while_it_is_allowed() {
    let script = [c("x"), Do::Publish(Policy::Absent), c("y")];
    with(Policy::L4).check(&script, "xy", "", &[]);
}

#[test]
fn pipelined_requests_are_sent_together() {
    let mut shell = INSPECTED.shell();
    act(&mut shell, &c(GET));
    act(&mut shell, &s(OK));
    let before = shell.forwards;
    act(&mut shell, &c(&GET.repeat(16)));
    act(&mut shell, &s(&OK.repeat(16)));
    assert_eq!(shell.forwards - before, 2);
}

#[test]
fn further_requests_wait_when_as_many_as_may_be_are_under_way() {
    let two = Setting { limits: Limits { pipelined_max: 2, ..LIMITS }, ..INSPECTED };
    let get2 = GET.repeat(2);
    two.check(&[c(&get2)], &get2, "", &[]);
    two.check(&[c(&GET.repeat(3))], &get2, "", &[]);
    let ok = "forwarded GET /ok 200";
    two.check(&[c(&GET.repeat(3)), s(OK)], &GET.repeat(3), OK, &[ok]);
    two.check(&[c(&GET.repeat(3)), s(&OK.repeat(2)), s(OK)], &GET.repeat(3), &OK.repeat(3), &[ok; 3]);
}

#[test]
fn a_record_tells_everything() {
    let mut shell = INSPECTED.shell();
    for event in [c(GET), Do::Sleep(7), s(OK)] {
        act(&mut shell, &event);
    }
    let record = &shell.records[0];
    assert_eq!(record.client.0.to_string(), super::script::CLIENT);
    assert_eq!(record.destination.0.to_string(), super::script::DESTINATION);
    assert_eq!(record.direction, Direction::Ingress);
    assert_eq!(record.outcome, Outcome::Forwarded);
    assert_eq!(record.revision, Policy::Ok.revision());
    assert_eq!(record.bytes_up, length(GET));
    assert_eq!(record.bytes_down, length(OK));
    assert_eq!(record.latency_ns, 7);
    assert_eq!(record.unix_ns, 1_000_000);
    let rule = record.rule.as_ref().unwrap().to_string();
    assert_eq!(rule, "default/rule1: spec.ingress[0].toPorts[0].rules.http[0]");
    let http = record.detail.http().unwrap();
    assert_eq!((http.host.as_str(), http.status), ("a", 200));
    assert_eq!(record.protocol, policy_model::rule::Protocol::TCP);
    assert!(record.audit.is_none());
    let name =
        |party: &policy_model::Party| party.endpoint.as_ref().map(|endpoint| endpoint.name.to_string());
    assert_eq!(record.source.as_deref().and_then(name).unwrap(), "tiefighter");
    assert_eq!(record.target.as_deref().and_then(name).unwrap(), "deathstar");
}

/// The direction is that of the policy whose rule decided, whichever way that was.
#[test]
fn a_record_is_of_the_direction_that_decided() {
    for (policy, direction, rule) in [
        (Policy::Ok, Direction::Ingress, "default/rule1: spec.ingress[0].toPorts[0].rules.http[0]"),
        (Policy::Egress, Direction::Egress, "default/rule1: spec.egress[0].toPorts[0].rules.http[0]"),
    ] {
        let mut shell = with(policy).shell();
        for event in [c(GET), s(OK), c(PUT)] {
            act(&mut shell, &event);
        }
        let made: Vec<_> = shell.records.iter().map(|record| (record.outcome, record.direction)).collect();
        assert_eq!(made, [(Outcome::Forwarded, direction), (Outcome::Denied, direction)]);
        assert_eq!(shell.records[0].rule.as_ref().unwrap().to_string(), rule);
    }
}

#[test]
fn the_time_of_the_dial_counts_as_latency() {
    let mut shell = Setting { dial: None, ..INSPECTED }.shell();
    let connected = Do::Dialled(crate::session::Dialled::Connected);
    for event in [c(GET), Do::Sleep(5), connected, Do::Sleep(7), s(OK), c(GET), Do::Sleep(3), s(OK)] {
        act(&mut shell, &event);
    }
    let latencies: Vec<_> = shell.records.iter().map(|record| record.latency_ns).collect();
    assert_eq!(latencies, [12, 3]);
    assert_eq!(shell.records[0].unix_ns, 1_000_000);
}

#[test]
fn a_connection_without_a_request_is_recorded_once() {
    check(&[C_FIN], "", "<fin>", &["forwarded connection"]);
    check(&[Do::Stop], "", "<rst>", &["ended connection draining"]);
}

#[test]
fn draining_ends_what_is_under_way() {
    let script = [c(&[GET, PUT].concat()), Do::Stop, Do::Stop];
    let records = ["ended GET /ok draining", "ended PUT /no draining"];
    check(&script, &format!("{GET}<rst>"), "<rst>", &records);
    check(
        &[c(GET), s(OK), Do::Stop],
        &format!("{GET}<rst>"),
        &format!("{OK}<rst>"),
        &["forwarded GET /ok 200"],
    );
    check(
        &[c(GET), s(OK), C_FIN, S_FIN, Do::Stop],
        &format!("{GET}<fin>"),
        &format!("{OK}<fin>"),
        &["forwarded GET /ok 200"],
    );
}

#[test]
fn a_connection_that_others_need_is_recorded_also_at_rest() {
    check(&[Do::Reclaim], "", "<rst>", &["ended connection connection_reclaimed"]);
    let at_rest = ["forwarded GET /ok 200", "ended connection connection_reclaimed"];
    let (server, client) = (format!("{GET}<rst>"), format!("{OK}<rst>"));
    check(&[c(GET), s(OK), Do::Reclaim, Do::Reclaim, Do::Stop], &server, &client, &at_rest);
    check(&[c(GET), Do::Reclaim], &server, "<rst>", &["ended GET /ok connection_reclaimed"]);
    check(
        &[c(GET), C_FIN, Do::Reclaim],
        &format!("{GET}<fin><rst>"),
        "<rst>",
        &["ended GET /ok connection_reclaimed"],
    );
}

#[test]
fn a_connection_is_at_rest_between_requests() {
    let rest = |script: &[Do]| {
        let mut shell = INSPECTED.shell();
        script.iter().for_each(|event| act(&mut shell, event));
        shell.session.is_at_rest()
    };
    assert!(rest(&[]));
    assert!(rest(&[c(GET), s(OK)]));
    assert!(rest(&[c(PUT)]));
    assert!(!rest(&[c("G")]));
    assert!(!rest(&[c(GET)]));
    assert!(!rest(&[c(GET), s("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")]));
    assert!(!rest(&[c("PUT /no HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n")]));
}
