//! The HTTP/1.0 and 1.1 inspector: the life of one connection.
//!
//! What the client sends moves through these phases (the responses run beside them, see `responses`):
//!
//! ```text
//!            ┌──────────── body complete ─────────────┐
//!            ▼                                        │
//!         ┌──────┐ allowed, upstream connected   ┌────────┐
//!    ────▶│ Head │──────────────────────────────▶│  Body  │──────┐
//!         └──────┘                               └────────┘      │ last request, or one side
//!          │ ▲ │ allowed, no upstream yet        ┌──────────┐    │ has ended: Discard
//!          │ │ └──────────────────────────────▶│ Dialling │      ▼
//!          │ └─────────── connected ────────────└──────────┘  ┌─────────┐
//!          │ ▲                                       │ failed │ Discard │
//!   denied │ └──── rest swallowed ───┐               │        └─────────┘
//!          ▼                         │               ▼
//!     ┌────────┐ its turn  ┌─────────┐  no end  ┌─────────┐
//!     │ Denied │─────────▶│ Swallow │─────────▶│ Closing │  replied for the last time
//!     └────────┘           └─────────┘          └─────────┘
//! ```
//!
//! INVARIANT: a request is forwarded by a `Permit` that was made from the snapshot of this very call.
//! INVARIANT: our own reply is sent when no forwarded request awaits its response, and nothing behind it was read before.
//! INVARIANT: nothing is sent to the client after `Finish`, nor to the server.

mod ends;
mod judge;
mod refusals;
mod requests;
mod responses;

use crate::cx::Cx;
use crate::denial::Then;
use crate::event::{Dialled, End, Ending, Side, Upstream};
use crate::exchange::{Exchange, Exchanges};
use crate::inspect::{Inspect, Taken};
use crate::link::Link;
use crate::reason::Reason;
use crate::record::FlowRecord;
use crate::step::Step;
use parsers::http1::head::AnsweredMethod;
use parsers::http1::{Body, HeadScan};
use policy_model::snapshot::Admission;

#[derive(Debug)]
pub(crate) struct Http1 {
    phase: Phase,
    exchanges: Exchanges,
    response: Response,
    /// When the timer that is set runs out (monotonic); `u64::MAX`: none is.
    deadline_ns: u64,
    /// When the head that caused the dial was complete; 0 once its request is forwarded.
    dialled_for_ns: u64,
    client: Input,
    server: Input,
    upstream: Upstream,
    requests: Requests,
}

#[derive(Debug)]
enum Phase {
    /// Replied for the last time: what still comes is read, within bounds, so that no RST overtakes the reply.
    Closing {
        left: u64,
    },
    /// The body of an allowed request.
    Body(Box<Body>, Then),
    /// A refused request waits until the responses before its own are through.
    Denied(Refusal),
    /// An allowed request waits for its upstream; its bytes stay with the shell and are judged again.
    Dialling(Exchange),
    /// As many requests as may be are under way; the next one waits.
    Full,
    /// No further request can be answered: what the client still sends is dropped until it ends its side.
    Discard,
    /// Between requests, or inside a head.
    Head(HeadScan),
    Over,
    /// The body of a denied request.
    Swallow {
        body: Box<Body>,
        left: u64,
    },
}

#[derive(Debug)]
struct Refusal {
    record: Box<FlowRecord>,
    reason: Reason,
    method: AnsweredMethod,
    rest: Rest,
}

/// What follows a refused head.
#[derive(Debug)]
enum Rest {
    /// Not worth reading: the connection is closed. With the reason where that is a limit of ours.
    Close(Option<Reason>),
    Nothing,
    Swallow(Box<Body>),
}

/// What of a response is next.
#[derive(Debug)]
enum Response {
    Body(Box<Body>, Then),
    Head(HeadScan),
}

/// What one side sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Input {
    /// More may come.
    Open(Kept),
    /// FIN was seen; bytes before it may be left.
    Ending(Kept),
    /// FIN was seen and acted upon.
    Ended,
}

/// Bytes that the shell keeps for us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kept {
    None,
    /// Looked at: the start of something that needs more bytes.
    Part,
    /// To be looked at when their turn comes.
    Waiting,
}

impl Input {
    fn keep(&mut self, now: Kept) {
        match self {
            Self::Open(kept) | Self::Ending(kept) => *kept = now,
            Self::Ended => {}
        }
    }

    fn end(&mut self) {
        if let Self::Open(kept) = *self {
            *self = Self::Ending(kept);
        }
    }

    /// What is left of a side that has ended, once all of it was looked at.
    fn is_due(self) -> bool {
        matches!(self, Self::Ending(Kept::None | Kept::Part))
    }
}

/// Whether the connection ever carried a request that has a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Requests {
    None,
    Seen,
}

impl Phase {
    fn next_head() -> Self {
        Self::Head(HeadScan::default())
    }

    /// What the client may send behind an allowed request.
    fn behind_request(then: Then) -> Self {
        match then {
            Then::Close => Self::Discard,
            Then::Keep => Self::next_head(),
        }
    }

    /// The refused request that waits, which then does no longer.
    fn take_denied(&mut self) -> Option<Refusal> {
        if !matches!(self, Self::Denied(_)) {
            return None;
        }
        let Self::Denied(refusal) = core::mem::replace(self, Self::next_head()) else { return None };
        Some(refusal)
    }

    /// The request that waits for its upstream, which then does no longer.
    fn take_dialling(&mut self) -> Option<Exchange> {
        if !matches!(self, Self::Dialling(_)) {
            return None;
        }
        let Self::Dialling(exchange) = core::mem::replace(self, Self::next_head()) else { return None };
        Some(exchange)
    }
}

impl Http1 {
    pub(crate) fn open() -> Self {
        Self {
            phase: Phase::next_head(),
            exchanges: Exchanges::default(),
            response: Response::Head(HeadScan::default()),
            deadline_ns: u64::MAX,
            dialled_for_ns: 0,
            client: Input::Open(Kept::None),
            server: Input::Open(Kept::None),
            upstream: Upstream::None,
            requests: Requests::None,
        }
    }

    /// Goes on behind another inspector, between two requests.
    pub(crate) fn take_over(upstream: Upstream) -> Self {
        Self { upstream, ..Self::open() }
    }

    /// Carries out what waited for the call's bytes to be through.
    fn settle(&mut self, link: &Link, cx: &mut Cx<'_>) {
        if self.server.is_due() {
            self.server_ended(link, cx);
        }
        if self.client.is_due() && self.reads(Side::Client) {
            self.client_ended(link, cx);
        }
        if matches!(self.phase, Phase::Swallow { .. }) && self.deadline_ns == u64::MAX {
            self.arm(cx.after(cx.limits.swallow_ns_max), cx);
        }
    }

    fn half(&mut self, side: Side) -> &mut Input {
        match side {
            Side::Client => &mut self.client,
            Side::Server => &mut self.server,
        }
    }

    fn arm(&mut self, deadline_ns: u64, cx: &mut Cx<'_>) {
        self.deadline_ns = deadline_ns;
        cx.step(Step::WakeAt(deadline_ns));
    }

    fn disarm(&mut self, cx: &mut Cx<'_>) {
        if self.deadline_ns != u64::MAX {
            self.arm(u64::MAX, cx);
        }
    }

    /// Whether this side's bytes would be looked at now.
    fn reads(&self, from: Side) -> bool {
        match (from, &self.phase) {
            (_, Phase::Over) => false,
            (Side::Server, _) => self.upstream == Upstream::Connected,
            (Side::Client, Phase::Denied(_) | Phase::Dialling(_) | Phase::Full) => false,
            (
                Side::Client,
                Phase::Body(..)
                | Phase::Closing { .. }
                | Phase::Discard
                | Phase::Head(_)
                | Phase::Swallow { .. },
            ) => true,
        }
    }
}

impl Inspect for Http1 {
    fn on_bytes(&mut self, from: Side, bytes: &[u8], link: &mut Link, cx: &mut Cx<'_>) -> Taken {
        let taken = match from {
            Side::Client => self.on_client(bytes, link, cx),
            Side::Server => self.on_server(bytes, link, cx),
        };
        let kept = match (taken < bytes.len(), self.reads(from)) {
            (false, _) => Kept::None,
            (true, true) => Kept::Part,
            (true, false) => Kept::Waiting,
        };
        self.half(from).keep(kept);
        self.settle(link, cx);
        taken.into()
    }

    fn on_end(&mut self, of: Side, end: End, link: &Link, cx: &mut Cx<'_>) {
        match (end, of) {
            (End::Fin, _) => self.half(of).end(),
            // The last reply is under way: the client reads it whatever the server does.
            (End::Reset, Side::Server) if matches!(self.phase, Phase::Closing { .. }) => {
                self.server = Input::Ended;
            }
            (End::Reset, _) => self.lose(Reason::of_reset(of), link, cx),
        }
        self.settle(link, cx);
    }

    fn on_dialled(&mut self, result: Dialled, link: &Link, cx: &mut Cx<'_>) {
        let Some(exchange) = self.phase.take_dialling() else { return };
        match Reason::of_dial(result) {
            None => {
                self.disarm(cx);
                self.upstream = Upstream::Connected;
                self.dialled_for_ns = exchange.started_ns;
                cx.scratch.spare.push(exchange.record);
            }
            Some(reason) => self.unavailable(exchange, reason, link, cx),
        }
        self.settle(link, cx);
    }

    fn on_timer(&mut self, link: &Link, cx: &mut Cx<'_>) {
        if cx.now.mono_ns < self.deadline_ns {
            if self.deadline_ns != u64::MAX {
                cx.step(Step::WakeAt(self.deadline_ns));
            }
            return;
        }
        self.deadline_ns = u64::MAX;
        match self.phase {
            Phase::Closing { .. } => self.reset(cx),
            Phase::Dialling(_) => {
                if let Some(exchange) = self.phase.take_dialling() {
                    self.unavailable(exchange, Reason::UpstreamTimeout, link, cx);
                }
            }
            Phase::Head(_) => self.refuse_head(Reason::HeadTimeout, link, cx),
            Phase::Swallow { .. } => self.close_early(Reason::SwallowTimeout, link, cx),
            Phase::Body(..) | Phase::Denied(_) | Phase::Discard | Phase::Full | Phase::Over => {}
        }
        self.settle(link, cx);
    }

    fn moved(&mut self, from: Side, bytes: u64) {
        match from {
            Side::Client => {
                if let Some(exchange) = self.exchanges.newest() {
                    exchange.record.bytes_up = exchange.record.bytes_up.saturating_add(bytes);
                }
            }
            Side::Server => {
                if let Some(exchange) = self.exchanges.oldest() {
                    exchange.record.bytes_down = exchange.record.bytes_down.saturating_add(bytes);
                }
            }
        }
    }

    fn wants(&self, from: Side) -> bool {
        let half = match from {
            Side::Client => self.client,
            Side::Server => self.server,
        };
        half != Input::Ended && self.reads(from)
    }

    /// Between requests: nobody waits for anything.
    fn is_at_rest(&self) -> bool {
        matches!(self.phase, Phase::Head(_))
            && self.client == Input::Open(Kept::None)
            && self.exchanges.is_empty()
    }

    fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Over)
    }

    fn on_admission(&mut self, admission: Admission, link: &Link, cx: &mut Cx<'_>) {
        match admission {
            Admission::Deny(direction, denial) => self.revoke(direction, denial, link, cx),
            // It stays framed; its requests meet the new rules at their head.
            Admission::Allow(_) | Admission::Inspect => {}
        }
    }

    fn abort(&mut self, reason: Reason, link: &Link, cx: &mut Cx<'_>) {
        if self.end_requests(reason, cx) == 0 {
            let record = link.ended(reason, cx);
            cx.record(record);
        }
        self.reset(cx);
    }

    fn end(&mut self, why: Ending, link: &Link, cx: &mut Cx<'_>) {
        let reason = Reason::of_ending(why);
        match why {
            Ending::Draining => self.lose(reason, link, cx),
            // Cut for others' sake: also one at rest leaves a record that says so.
            Ending::Failed | Ending::MemoryLimit | Ending::Reclaimed => self.abort(reason, link, cx),
        }
    }

    fn has_nothing_pending(&self) -> bool {
        matches!(self.phase, Phase::Head(_)) && self.exchanges.is_empty()
    }
}
