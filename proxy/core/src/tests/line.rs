//! The seam carries more than HTTP: cuts, insertions, answers and questions of our own, unseen bytes, timers, both ends.

use super::script::{C_FIN, C_RST, Do, INSPECTED, S_FIN, Setting, c, s};
use crate::session::{Dialled, Session};

const LINES: Setting = Setting { open: Session::open_line, ..INSPECTED };

#[track_caller]
fn check(script: &[Do], server: &str, client: &str, records: &[&str]) {
    LINES.check(script, server, client, records);
}

#[test]
fn lines_go_both_ways() {
    check(&[c("hello\n"), s("world\n")], "hello\n", "world\n", &[]);
}

#[test]
fn parts_are_cut_out_on_the_way_to_the_server() {
    check(&[c("one[two]three[four]\nfive\n")], "onethree\nfive\n", "", &[]);
}

#[test]
fn parts_are_cut_out_on_the_way_to_the_client() {
    check(&[c("hello\n"), s("a[b]c\n[d]\n")], "hello\n", "ac\n\n", &[]);
}

#[test]
fn an_answer_needs_no_server() {
    check(&[c("answer\nanswer\n")], "", "answered\nanswered\n", &[]);
    let mut shell = LINES.shell();
    super::script::act(&mut shell, &c("answer\n"));
    assert_eq!(shell.dials, 0);
}

#[test]
fn an_answer_stands_where_its_line_stood() {
    check(&[c("a\nanswer\nb\n"), s("answer\nc\n")], "a\nb\nanswered\n", "answered\nc\n", &[]);
}

#[test]
fn bytes_are_inserted_on_both_sides() {
    check(&[c("insert\n"), s("insert\n")], "inserted\ninsert\n", "inserted\ninsert\n", &[]);
}

#[test]
fn a_question_of_our_own_is_asked_and_its_answer_consumed() {
    check(&[c("ask\nhello\n"), s("me\nworld\n")], "question\nhello\n", "told me\nworld\n", &[]);
}

#[test]
fn bytes_vanish_unseen() {
    check(&[c("drop 7\nanswer\nhello\n")], "hello\n", "", &[]);
    check(&[c("hello\n"), s("drop 5\nabort!\n")], "hello\n", "!\n", &[]);
}

#[test]
fn bytes_pass_unseen() {
    let script = [c("pass 7\nanswer\nanswer\n"), s("pass 6\nabort\nend\n")];
    check(&script, "pass 7\nanswer\n", "answered\npass 6\nabort\nend\n", &[]);
}

#[test]
fn unseen_bytes_are_counted() {
    let mut shell = LINES.shell();
    for event in [c("pass 7\nans"), c("wer\n"), s("x\n"), C_FIN, S_FIN] {
        super::script::act(&mut shell, &event);
    }
    let counted: Vec<_> = shell.records.iter().map(|record| (record.bytes_up, record.bytes_down)).collect();
    assert_eq!(counted, [(14, 2)]);
}

#[test]
fn a_timer_wakes_the_session() {
    check(&[c("sleep 50\n"), Do::Sleep(49)], "", "", &[]);
    check(&[c("sleep 50\n"), Do::Sleep(50)], "", "awake\n", &[]);
}

#[test]
fn both_ends_are_passed_on() {
    check(&[c("hello\n"), C_FIN], "hello\n<fin>", "", &[]);
    check(&[c("hello\n"), C_FIN, s("x\n"), S_FIN], "hello\n<fin>", "x\n<fin>", &["forwarded connection"]);
}

#[test]
fn the_session_ends_both_sides_itself() {
    check(&[c("hello\nbye\n")], "hello\n<fin>", "<fin>", &["forwarded connection"]);
}

#[test]
fn the_session_resets_both_sides() {
    check(&[c("hello\nabort\nx\n")], "hello\n<rst>", "<rst>", &["ended connection protocol_mismatch"]);
    check(&[c("hello\n"), C_RST], "hello\n<rst>", "<rst>", &["ended connection client_reset"]);
}

#[test]
fn bytes_wait_for_the_dial() {
    let waiting = Setting { dial: None, ..LINES };
    waiting.check(&[c("a\nb\n")], "", "", &[]);
    waiting.check(&[c("a\nb\n"), Do::Dialled(Dialled::Connected)], "a\nb\n", "", &[]);
    let refused = Setting { dial: Some(Dialled::Refused), ..LINES };
    refused.check(&[c("answer\na\nb\n")], "", "answered\n<rst>", &["ended connection upstream_refused"]);
}
