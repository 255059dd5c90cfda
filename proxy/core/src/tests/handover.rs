//! An inspector hands over to another one: only where policy names that one for the port, and nothing is pending.

use super::script::{C_FIN, Do, INSPECTED, Policy, S_FIN, Setting, act, c, s};
use crate::session::{Dialled, Session};

/// Policy names HTTP for the port.
const HTTP: Setting = Setting { open: Session::open_line, ..INSPECTED };
/// Policy looks no deeper than the port.
const RELAY: Setting = Setting { policy: Policy::L4, ..HTTP };

const GET: &str = "GET /ok HTTP/1.1\r\nHost: a\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
const MISMATCH: &[&str] = &["ended connection protocol_mismatch"];

#[test]
fn what_was_not_consumed_is_the_new_ones() {
    let request = [c(&format!("hello\nbecome http\n{GET}")), s(OK)];
    HTTP.check(&request, &format!("hello\n{GET}"), OK, &["forwarded GET /ok 200"]);
    // Several reads and requests later it still is HTTP.
    let more = [request[0].clone(), s(OK), c(GET), s(OK)];
    let ok = "forwarded GET /ok 200";
    HTTP.check(&more, &format!("hello\n{GET}{GET}"), &OK.repeat(2), &[ok, ok]);
    RELAY.check(&[c("hello\nbecome relay\nanswer\n"), s("bye\n")], "hello\nanswer\n", "bye\n", &[]);
    // Whichever side's bytes make it.
    RELAY.check(&[c("hello\n"), s("become relay\nanswer\n")], "hello\n", "answer\n", &[]);
}

#[test]
fn the_new_one_dials_where_nobody_has() {
    let request = [c(&format!("become http\n{GET}")), s(OK)];
    HTTP.check(&request, GET, OK, &["forwarded GET /ok 200"]);
    RELAY.check(&[c("become relay\nx"), s("y")], "x", "y", &[]);
    let waiting = Setting { dial: None, ..RELAY };
    waiting.check(&[c("become relay\nx")], "", "", &[]);
    waiting.check(&[c("become relay\nx"), Do::Dialled(Dialled::Connected), c("y")], "xy", "", &[]);
    waiting.check(
        &[c("become relay\nx"), Do::Sleep(10_000)],
        "",
        "<rst>",
        &["ended connection upstream_timeout"],
    );
}

#[test]
fn the_new_one_judges() {
    let denied = [c("become http\nPUT /no HTTP/1.1\r\nHost: a\r\n\r\n")];
    for cut in super::script::every_way(&denied) {
        let mut shell = HTTP.shell();
        cut.iter().for_each(|event| act(&mut shell, event));
        assert_eq!(
            shell.records.iter().map(super::script::summary).collect::<Vec<_>>(),
            ["denied PUT /no no_http_rule 403"]
        );
        assert_eq!(shell.dials, 0);
    }
}

#[test]
fn a_client_does_not_choose() {
    HTTP.check(&[c("x\nbecome relay\nGET /no\n")], "x\n<rst>", "<rst>", MISMATCH);
    HTTP.check(&[c("become relay\nGET /no\n")], "", "<rst>", MISMATCH);
    RELAY.check(&[c(&format!("x\nbecome http\n{GET}"))], "x\n<rst>", "<rst>", MISMATCH);
}

#[test]
fn nobody_takes_over_without_a_permit() {
    let revoked = &["ended connection revoked"];
    for (setting, line) in [(HTTP, "become http\n"), (RELAY, "become relay\n")] {
        setting.check(&[c("x\n"), Do::Store(Policy::Closed), c(line)], "x\n<rst>", "<rst>", revoked);
        setting.check(&[c("x\n"), Do::Store(Policy::DenyRule), c(line)], "x\n<rst>", "<rst>", revoked);
    }
    // It is the snapshot of this moment that names who may.
    HTTP.check(&[c("x\n"), Do::Store(Policy::L4), c("become relay\ny")], "x\ny", "", &[]);
    HTTP.check(&[c("x\n"), Do::Store(Policy::L4), c("become http\n")], "x\n<rst>", "<rst>", MISMATCH);
}

#[test]
fn nobody_takes_over_while_something_is_pending() {
    HTTP.check(&[c("x\nask\nbecome http\n")], "x\nquestion\n<rst>", "<rst>", MISMATCH);
    HTTP.check(&[c("sleep 50\nbecome http\n")], "", "<rst>", MISMATCH);
    HTTP.check(
        &[c("x\nask\n"), s("me\nbecome http\n"), c(GET)],
        &format!("x\nquestion\n{GET}"),
        "told me\n",
        &[],
    );
    // The new one would not know that a side has ended.
    HTTP.check(&[c("x\n"), C_FIN, s("become http\n")], "x\n<fin><rst>", "<rst>", MISMATCH);
    RELAY.check(&[c("x\n"), S_FIN, c("become relay\n")], "x\n<rst>", "<fin><rst>", MISMATCH);
}

#[test]
fn the_new_one_is_judged_again_at_each_revision() {
    let relay = |policy| [c("x\nbecome relay\ny"), Do::Publish(policy)];
    RELAY.check(&relay(Policy::Absent), "x\ny", "", &[]);
    RELAY.check(&relay(Policy::Ok), "x\ny<rst>", "<rst>", &["ended connection redirect_required"]);
    RELAY.check(&relay(Policy::Closed), "x\ny<rst>", "<rst>", &["ended connection revoked"]);
    let http = |policy| [c("x\nbecome http\n"), Do::Publish(policy), c(GET)];
    HTTP.check(&http(Policy::Closed), "x\n<rst>", "<rst>", &["ended connection revoked"]);
    let mut shell = HTTP.shell();
    http(Policy::Other).iter().for_each(|event| act(&mut shell, event));
    assert_eq!(super::script::summary(&shell.records[0]), "denied GET /ok no_http_rule 403");
}

#[test]
fn bytes_from_before_are_counted() {
    let mut shell = RELAY.shell();
    for event in [c("abc\nbecome relay\nde"), s("fgh"), C_FIN, S_FIN] {
        act(&mut shell, &event);
    }
    let counted: Vec<_> = shell.records.iter().map(|record| (record.bytes_up, record.bytes_down)).collect();
    assert_eq!(counted, [(6, 3)]);
}
