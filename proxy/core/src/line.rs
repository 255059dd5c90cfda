//! A protocol of lines that exists to prove the seam: it cuts, inserts, answers, asks the server questions of its own,
//! passes and drops bytes unseen, sleeps and hangs up. Only in tests; no port is ever given to it by policy.
//!
//! A line is forwarded with its `[bracketed]` parts cut out, unless it is one of these (from either side, where it makes sense):
//!
//! | line | what happens |
//! |---|---|
//! | `answer` | `answered` goes back to the sender, nothing on |
//! | `insert` | `inserted` goes on ahead of the line |
//! | `drop N` | the line and the next N bytes vanish, unseen |
//! | `pass N` | the line goes on, and the next N bytes behind it, unseen |
//! | `ask` | `question` goes to the server; its next line is the answer, comes back as `told ...` and counts as consumed |
//! | `become http`, `become relay` | it hands over to that inspector, if it may |
//! | `sleep N` | after N ns, `awake` goes back to the sender |
//! | `bye` | both sides are told the end |
//! | `abort` | both sides are reset |
//! | `panic` | a bug |

use crate::cx::Cx;
use crate::event::{Dialled, End, Side};
use crate::inspect::{Inspect, Next, Taken};
use crate::link::Link;
use crate::reason::Reason;
use crate::step::{self, Reply, Step};
use core::ops::Range;
use policy_model::snapshot::Admission;

#[derive(Debug, Default)]
pub(crate) struct Line {
    dial: Dial,
    /// Answers from the server that are ours.
    asked: usize,
    sleeper: Option<Side>,
    /// Sides whose end was seen.
    ended: Vec<Side>,
    bytes_up: u64,
    bytes_down: u64,
    over: bool,
}

#[expect(clippy::panic, reason = "a bug, for tests of what survives one")]
fn fail() {
    panic!("as the line asked for");
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Dial {
    #[default]
    Not,
    Waiting,
    Done,
}

enum Command<'a> {
    Abort,
    Answer,
    Ask,
    Become(Next),
    Bye,
    Drop(u64),
    Insert,
    Panic,
    Pass(u64),
    Plain(&'a str),
    Sleep(u64),
}

impl<'a> Command<'a> {
    fn read(line: &'a str) -> Self {
        let (word, number) = line.split_once(' ').unwrap_or((line, ""));
        match (word, number.parse()) {
            ("abort", _) => Self::Abort,
            ("answer", _) => Self::Answer,
            ("ask", _) => Self::Ask,
            ("become", _) if line == "become http" => Self::Become(Next::Http1),
            ("become", _) if line == "become relay" => Self::Become(Next::Opaque),
            ("bye", _) => Self::Bye,
            ("drop", Ok(bytes)) => Self::Drop(bytes),
            ("insert", _) => Self::Insert,
            ("panic", _) => Self::Panic,
            ("pass", Ok(bytes)) => Self::Pass(bytes),
            ("sleep", Ok(ns)) => Self::Sleep(ns),
            (_, _) => Self::Plain(line),
        }
    }

    fn needs_server(&self) -> bool {
        matches!(self, Self::Ask | Self::Insert | Self::Pass(_) | Self::Plain(_))
    }
}

impl Line {
    fn has_server(&mut self, cx: &mut Cx<'_>) -> bool {
        if self.dial == Dial::Not {
            self.dial = Dial::Waiting;
            cx.step(Step::Dial);
        }
        self.dial == Dial::Done
    }

    /// Answers how many bytes behind the line are done with.
    fn obey(
        &mut self,
        from: Side,
        command: &Command<'_>,
        line: Range<usize>,
        input_end: usize,
        link: &Link,
        cx: &mut Cx<'_>,
    ) -> usize {
        match command {
            Command::Abort => self.abort(Reason::ProtocolMismatch, link, cx),
            Command::Answer => send(from, b"answered\n", cx),
            Command::Ask => {
                self.asked += 1;
                send(Side::Server, b"question\n", cx);
            }
            Command::Become(_) => {}
            Command::Bye => self.bye(link, cx),
            Command::Drop(bytes) => {
                let (here, later) = split(*bytes, input_end - line.end);
                if later > 0 {
                    cx.step(Step::Swallow { from, bytes: later });
                }
                return here;
            }
            Command::Insert => {
                send(from.other(), b"inserted\n", cx);
                self.forward(from, line, cx);
            }
            Command::Panic => fail(),
            Command::Pass(bytes) => {
                let (here, later) = split(*bytes, input_end - line.end);
                self.forward(from, line.start..line.end + here, cx);
                if later > 0 {
                    cx.step(Step::Splice { from, bytes: later });
                }
                return here;
            }
            Command::Plain(text) if from == Side::Server && self.asked > 0 => {
                self.asked -= 1;
                let told = format!("told {text}\n").into_bytes();
                cx.step(Step::Send { to: Side::Client, bytes: Reply::Owned(told.into()) });
            }
            Command::Plain(text) => self.forward_uncut(from, text, &line, cx),
            Command::Sleep(ns) => {
                self.sleeper = Some(from);
                cx.step(Step::WakeAt(cx.after(*ns)));
            }
        }
        0
    }

    fn forward_uncut(&mut self, from: Side, text: &str, line: &Range<usize>, cx: &mut Cx<'_>) {
        let mut kept = line.start;
        let mut at = 0;
        while let Some(open) = find(text, at, '[')
            && let Some(close) = find(text, open, ']')
        {
            self.forward(from, kept..line.start + open, cx);
            at = close + 1;
            kept = line.start + at;
        }
        self.forward(from, kept..line.end, cx);
    }

    fn forward(&mut self, from: Side, range: Range<usize>, cx: &mut Cx<'_>) {
        self.moved(from, u64::try_from(range.len()).unwrap_or(u64::MAX));
        step::forward(cx.steps, from.other(), range);
    }

    fn bye(&mut self, link: &Link, cx: &mut Cx<'_>) {
        for to in [Side::Client, Side::Server] {
            if !self.ended.contains(&to.other()) && (to == Side::Client || self.dial == Dial::Done) {
                cx.finish(to);
            }
        }
        if self.dial != Dial::Done && self.ended.contains(&Side::Client) {
            cx.finish(Side::Client);
        }
        let mut record = link.record(cx);
        (record.bytes_up, record.bytes_down) = (self.bytes_up, self.bytes_down);
        cx.record(record);
        self.over = true;
    }
}

impl Inspect for Line {
    fn on_bytes(&mut self, from: Side, bytes: &[u8], link: &mut Link, cx: &mut Cx<'_>) -> Taken {
        let mut at = 0;
        while !self.over
            && let Some(rest) = bytes.get(at..)
            && let Some(length) = rest.iter().position(|byte| *byte == b'\n')
        {
            let line = rest.get(..length).and_then(|line| core::str::from_utf8(line).ok()).unwrap_or("");
            let command = Command::read(line);
            if let Command::Become(next) = command {
                return Taken { consumed: at + length + 1, next: Some(next) };
            }
            if from == Side::Client && command.needs_server() && !self.has_server(cx) {
                break;
            }
            let line = at..at + length + 1;
            // What is behind the line in this input may be the first part of what passes or vanishes unseen.
            at = line.end + self.obey(from, &command, line, bytes.len(), link, cx);
        }
        at.into()
    }

    fn moved(&mut self, from: Side, bytes: u64) {
        match from {
            Side::Client => self.bytes_up = self.bytes_up.saturating_add(bytes),
            Side::Server => self.bytes_down = self.bytes_down.saturating_add(bytes),
        }
    }

    fn on_end(&mut self, of: Side, end: End, link: &Link, cx: &mut Cx<'_>) {
        if end == End::Reset {
            return self.abort(Reason::of_reset(of), link, cx);
        }
        self.ended.push(of);
        if self.dial == Dial::Done {
            cx.finish(of.other());
        }
        if self.dial != Dial::Done || self.ended.len() == 2 {
            self.bye(link, cx);
        }
    }

    fn on_dialled(&mut self, result: Dialled, link: &Link, cx: &mut Cx<'_>) {
        match Reason::of_dial(result) {
            None => self.dial = Dial::Done,
            Some(reason) => self.abort(reason, link, cx),
        }
    }

    fn on_timer(&mut self, _link: &Link, cx: &mut Cx<'_>) {
        if let Some(sleeper) = self.sleeper.take() {
            send(sleeper, b"awake\n", cx);
        }
    }

    fn abort(&mut self, reason: Reason, link: &Link, cx: &mut Cx<'_>) {
        let mut record = link.ended(reason, cx);
        (record.bytes_up, record.bytes_down) = (self.bytes_up, self.bytes_down);
        cx.record(record);
        cx.step(Step::Reset);
        self.over = true;
    }

    fn wants(&self, from: Side) -> bool {
        let has_bytes = from == Side::Client || self.dial == Dial::Done;
        !self.over && has_bytes && self.dial != Dial::Waiting && !self.ended.contains(&from)
    }

    fn is_over(&self) -> bool {
        self.over
    }

    /// No port is given to it by policy, so only a denial concerns it.
    fn on_admission(&mut self, admission: Admission, link: &Link, cx: &mut Cx<'_>) {
        if matches!(admission, Admission::Deny(..)) {
            self.abort(Reason::Revoked, link, cx);
        }
    }

    fn is_at_rest(&self) -> bool {
        false
    }

    fn has_nothing_pending(&self) -> bool {
        self.asked == 0 && self.sleeper.is_none() && self.dial != Dial::Waiting
    }

    fn unrecorded(&self) -> (u64, u64) {
        (self.bytes_up, self.bytes_down)
    }
}

fn send(to: Side, bytes: &'static [u8], cx: &mut Cx<'_>) {
    cx.step(Step::Send { to, bytes: Reply::Static(bytes) });
}

/// How many of `bytes` are among the `here` that have come, and how many have not.
fn split(bytes: u64, here: usize) -> (usize, u64) {
    let taken = usize::try_from(bytes).unwrap_or(usize::MAX).min(here);
    (taken, bytes.saturating_sub(u64::try_from(taken).unwrap_or(u64::MAX)))
}

fn find(text: &str, from: usize, what: char) -> Option<usize> {
    text.get(from..)?.find(what).map(|at| from + at)
}
