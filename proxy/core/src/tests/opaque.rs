//! Connections that policy allows uninspected.

use super::script::{C_FIN, C_RST, Do, INSPECTED, Policy, S_FIN, S_RST, Setting, c, s};
use crate::session::Dialled;

const ALLOWED: Setting = Setting { policy: Policy::L4, ..INSPECTED };
const WAITING: Setting = Setting { dial: None, ..ALLOWED };

#[track_caller]
fn check(script: &[Do], server: &str, client: &str, records: &[&str]) {
    ALLOWED.check(script, server, client, records);
}

#[test]
fn any_bytes_go_both_ways() {
    check(&[c("\u{16}\u{3}x"), s("y\r\n"), c("z")], "\u{16}\u{3}xz", "y\r\n", &[]);
}

#[test]
fn the_server_may_speak_first() {
    check(&[s("220 ready\r\n")], "", "220 ready\r\n", &[]);
}

#[test]
fn without_policy_it_is_the_same() {
    let absent = Setting { policy: Policy::Absent, ..INSPECTED };
    absent.check(&[c("x"), s("y"), C_FIN, S_FIN], "x<fin>", "y<fin>", &["forwarded connection"]);
}

#[test]
fn ends_are_mirrored() {
    check(&[c("x"), C_FIN, s("y")], "x<fin>", "y", &[]);
    check(&[c("x"), S_FIN, c("y")], "xy", "<fin>", &[]);
    check(&[c("x"), S_FIN, c("y"), C_FIN], "xy<fin>", "<fin>", &["forwarded connection"]);
}

#[test]
fn resets_are_mirrored() {
    check(&[c("x"), C_RST], "x<rst>", "<rst>", &["ended connection client_reset"]);
    check(&[c("x"), S_RST], "x<rst>", "<rst>", &["ended connection server_reset"]);
}

#[test]
fn bytes_wait_for_the_dial() {
    WAITING.check(&[c("xyz")], "", "", &[]);
    WAITING.check(&[c("xyz"), Do::Dialled(Dialled::Connected)], "xyz", "", &[]);
}

#[test]
fn a_failed_dial_is_a_reset() {
    for (result, reason) in [
        (Dialled::Exhausted, "node_exhausted"),
        (Dialled::Refused, "upstream_refused"),
        (Dialled::TimedOut, "upstream_timeout"),
        (Dialled::Unreachable, "upstream_unreachable"),
    ] {
        let record = format!("ended connection {reason}");
        WAITING.check(&[c("x"), Do::Dialled(result)], "", "<rst>", &[&record]);
    }
}

#[test]
fn the_dial_may_take_its_time_and_not_more() {
    WAITING.check(&[Do::Sleep(9_999)], "", "", &[]);
    WAITING.check(&[Do::Sleep(10_000)], "", "<rst>", &["ended connection upstream_timeout"]);
    ALLOWED.check(&[Do::Sleep(10_000), c("x")], "x", "", &[]);
}

#[test]
fn bytes_are_counted() {
    let mut shell = ALLOWED.shell();
    for event in [c("abc"), s("defgh"), C_FIN, S_FIN] {
        super::script::act(&mut shell, &event);
    }
    let counted: Vec<_> = shell.records.iter().map(|record| (record.bytes_up, record.bytes_down)).collect();
    assert_eq!(counted, [(3, 5)]);
}

#[test]
fn a_drained_connection_is_recorded() {
    check(&[c("x"), Do::Stop], "x<rst>", "<rst>", &["ended connection draining"]);
    check(&[c("x"), Do::Reclaim], "x<rst>", "<rst>", &["ended connection connection_reclaimed"]);
}
