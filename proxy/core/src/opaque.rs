//! The relay of a connection that policy allows without a look inside: in the kernel's stead, where a connection
//! reached the proxy and the snapshot has no rules for it.
//!
//! It dials at once, because the server may be the one that speaks first, and passes every byte and both ends on.

use crate::cx::Cx;
use crate::event::{Dialled, End, Side, Upstream};
use crate::inspect::{Inspect, Taken};
use crate::link::Link;
use crate::reason::Reason;
use crate::record::{FlowRecord, Outcome};
use crate::step::{self, Step};
use policy_model::snapshot::Admission;
use policy_model::{Permit, RuleRef};

#[derive(Debug)]
pub(crate) struct Opaque {
    state: State,
    /// What the client sent ahead of the dial.
    early: Early,
    rule: Option<RuleRef>,
    bytes_up: u64,
    bytes_down: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Dialling,
    Open,
    HalfClosed(Side),
    Over,
}

/// Bytes that the shell keeps, and an end that must not overtake them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Early {
    bytes: bool,
    end: bool,
}

impl Opaque {
    pub(crate) fn open(permit: Permit, cx: &mut Cx<'_>) -> Self {
        cx.step(Step::Dial);
        cx.step(Step::WakeAt(cx.after(cx.limits.dial_ns_max)));
        Self {
            state: State::Dialling,
            early: Early::default(),
            rule: permit.rule().cloned(),
            bytes_up: 0,
            bytes_down: 0,
        }
    }

    /// Goes on behind another inspector.
    pub(crate) fn take_over(permit: Permit, upstream: Upstream, cx: &mut Cx<'_>) -> Self {
        match upstream {
            Upstream::None => Self::open(permit, cx),
            Upstream::Connected => Self {
                state: State::Open,
                early: Early::default(),
                rule: permit.into_rule(),
                bytes_up: 0,
                bytes_down: 0,
            },
        }
    }

    fn half_close(&mut self, of: Side, link: &Link, cx: &mut Cx<'_>) {
        match self.state {
            State::Dialling => self.early.end = true,
            State::Open => {
                cx.finish(of.other());
                self.state = State::HalfClosed(of);
            }
            State::HalfClosed(before) if before != of => {
                cx.finish(of.other());
                let record = self.finished(link.record(cx));
                cx.record(record);
                self.state = State::Over;
            }
            State::HalfClosed(_) | State::Over => {}
        }
    }

    fn mirror_early_end(&mut self, link: &Link, cx: &mut Cx<'_>) {
        if self.early.end && !self.early.bytes {
            self.early.end = false;
            self.half_close(Side::Client, link, cx);
        }
    }

    fn abort_with(&mut self, record: Box<FlowRecord>, cx: &mut Cx<'_>) {
        let record = self.finished(record);
        cx.record(record);
        cx.step(Step::Reset);
        self.state = State::Over;
    }

    fn finished(&mut self, mut record: Box<FlowRecord>) -> Box<FlowRecord> {
        record.bytes_up = self.bytes_up;
        record.bytes_down = self.bytes_down;
        if record.outcome == Outcome::Forwarded || record.rule.is_none() {
            record.rule = self.rule.take();
        }
        record
    }
}

impl Inspect for Opaque {
    fn on_bytes(&mut self, from: Side, bytes: &[u8], link: &mut Link, cx: &mut Cx<'_>) -> Taken {
        if !self.wants(from) {
            self.early.bytes |= from == Side::Client;
            return 0.into();
        }
        step::forward(cx.steps, from.other(), 0..bytes.len());
        self.moved(from, u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        if from == Side::Client {
            self.early.bytes = false;
            self.mirror_early_end(link, cx);
        }
        bytes.len().into()
    }

    fn moved(&mut self, from: Side, bytes: u64) {
        let counter = match from {
            Side::Client => &mut self.bytes_up,
            Side::Server => &mut self.bytes_down,
        };
        *counter = counter.saturating_add(bytes);
    }

    fn on_end(&mut self, of: Side, end: End, link: &Link, cx: &mut Cx<'_>) {
        match end {
            End::Fin => self.half_close(of, link, cx),
            End::Reset => self.abort(Reason::of_reset(of), link, cx),
        }
    }

    fn on_dialled(&mut self, result: Dialled, link: &Link, cx: &mut Cx<'_>) {
        if self.state != State::Dialling {
            return;
        }
        match Reason::of_dial(result) {
            None => {
                cx.step(Step::WakeAt(u64::MAX));
                self.state = State::Open;
                self.mirror_early_end(link, cx);
            }
            Some(reason) => self.abort(reason, link, cx),
        }
    }

    fn on_timer(&mut self, link: &Link, cx: &mut Cx<'_>) {
        if self.state == State::Dialling {
            self.abort(Reason::UpstreamTimeout, link, cx);
        }
    }

    /// Both sides are reset, and the record says why.
    fn abort(&mut self, reason: Reason, link: &Link, cx: &mut Cx<'_>) {
        let record = link.ended(reason, cx);
        self.abort_with(record, cx);
    }

    fn wants(&self, from: Side) -> bool {
        match self.state {
            State::Dialling | State::Over => false,
            State::Open => true,
            State::HalfClosed(side) => side != from,
        }
    }

    fn is_over(&self) -> bool {
        self.state == State::Over
    }

    fn on_admission(&mut self, admission: Admission, link: &Link, cx: &mut Cx<'_>) {
        match admission {
            Admission::Allow(_) => {}
            Admission::Deny(direction, denial) => {
                let record = link.revoked(direction, denial, cx);
                self.abort_with(record, cx);
            }
            Admission::Inspect => self.abort(Reason::RedirectRequired, link, cx),
        }
    }

    fn is_at_rest(&self) -> bool {
        false
    }

    fn has_nothing_pending(&self) -> bool {
        self.state == State::Open
    }
}
