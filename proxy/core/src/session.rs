//! One connection. An enum over inspectors, chosen by what policy says of the port.
//!
//! The rules of the seam, for whoever drives a session:
//!
//! * After every call all steps are carried out, in order, before the next one.
//! * A side is read only while [`Session::wants`] it; then every byte is presented, kept ones first.
//! * Kept bytes are presented again with new ones, and when `wants` has turned true, whichever call did that.
//! * A FIN is told after the bytes before it were presented; an RST as soon as it is seen.
//! * What was moved or dropped unseen is told by [`Session::moved`] before anything else is.
//! * [`Session::end`] is the last call, also where the connection was over before.
//!
//! An inspector may name another one to go on ([`Taken::next`]): it is shown what was not consumed, and judged again at each
//! revision like one that was there from the beginning.
//!
//! INVARIANT: a connection that policy denies never dials.
//! INVARIANT: only an inspector that the snapshot names for this port takes over, and nothing is pending then: no client chooses.

use crate::event::Upstream;
use crate::http1::Http1;
use crate::inspect::{Inspect, Next, Taken};
#[cfg(any(test, feature = "line-protocol"))]
use crate::line::Line;
use crate::link::Link;
use crate::opaque::Opaque;
use crate::reason::Reason;
use crate::record::{ClientAddr, OrigDst};
use crate::step::Step;
use policy_model::Connection;
use policy_model::snapshot::{Admission, PortProtocol};

pub use crate::cx::{Cx, Scratch};
pub use crate::event::{Dialled, End, Ending, Side};

#[derive(Debug)]
pub struct Session {
    link: Link,
    inspector: Inspector,
    upstream: Upstream,
    /// One side has ended. Whoever takes over would not know.
    ended: bool,
}

#[derive(Debug)]
enum Inspector {
    Http1(Http1),
    #[cfg(any(test, feature = "line-protocol"))]
    Line(Line),
    Opaque(Opaque),
    /// Denied before there was one.
    Denied,
}

/// The one place that tells inspectors apart once they are chosen.
macro_rules! dispatch {
    ($inspector:expr, $denied:expr, $name:ident => $call:expr) => {
        match $inspector {
            Inspector::Http1($name) => $call,
            #[cfg(any(test, feature = "line-protocol"))]
            Inspector::Line($name) => $call,
            Inspector::Opaque($name) => $call,
            Inspector::Denied => $denied,
        }
    };
}

impl Session {
    /// Judges the connection. Steps may already deny it (`Reset` and a record); `on_snapshot` must be called on later revisions.
    pub fn open(client: ClientAddr, destination: OrigDst, cx: &mut Cx<'_>) -> Self {
        let mut link = Link::open(client, destination, cx);
        let inspector = match link.admission(cx.snapshot) {
            Admission::Allow(permit) => Inspector::Opaque(Opaque::open(permit, cx)),
            Admission::Deny(direction, denial) => {
                let record = link.denied(direction, denial, cx);
                cx.record(record);
                cx.step(Step::Reset);
                Inspector::Denied
            }
            Admission::Inspect => match protocol(link.policy(cx.snapshot)) {
                Protocol::Http => Inspector::Http1(Http1::open()),
            },
        };
        Self::new(link, inspector)
    }

    /// A connection of the test protocol, whatever policy says of the port.
    #[cfg(any(test, feature = "line-protocol"))]
    #[doc(hidden)]
    pub fn open_line(client: ClientAddr, destination: OrigDst, cx: &mut Cx<'_>) -> Self {
        Self::new(Link::open(client, destination, cx), Inspector::Line(Line::default()))
    }

    fn new(link: Link, inspector: Inspector) -> Self {
        Self { link, inspector, upstream: Upstream::None, ended: false }
    }

    /// Bytes from one side: all those that were not consumed by earlier calls, then the new ones. Returns how many
    /// are consumed: forwarded, swallowed or no longer needed. The shell keeps the rest and presents it again with more bytes,
    /// or when [`Session::wants`] turns true for that side. `Forward` ranges index `bytes`.
    pub fn on_bytes(&mut self, from: Side, bytes: &[u8], cx: &mut Cx<'_>) -> usize {
        let link = &mut self.link;
        let taken =
            dispatch!(&mut self.inspector, bytes.len().into(), it => it.on_bytes(from, bytes, link, cx));
        let Taken { consumed, next: Some(next) } = taken else { return taken.consumed };
        if !self.hand_over(next, cx) {
            return bytes.len();
        }
        // What was not consumed is the new one's, and so are its ranges.
        let mut steps = Vec::new();
        let rest = bytes.get(consumed..).filter(|rest| !rest.is_empty());
        let mut own = Cx {
            now: cx.now,
            snapshot: cx.snapshot,
            limits: cx.limits,
            steps: &mut steps,
            scratch: &mut *cx.scratch,
        };
        let more = rest.map_or(0, |rest| self.on_bytes(from, rest, &mut own));
        for mut made in steps {
            if let Step::Forward { range, .. } = &mut made {
                *range = range.start + consumed..range.end + consumed;
            }
            cx.step(made);
        }
        consumed + more
    }

    /// Makes `next` the inspector if the snapshot names it for this port, and nothing is pending. Else the connection is over.
    fn hand_over(&mut self, next: Next, cx: &mut Cx<'_>) -> bool {
        let admission = self.link.admission(cx.snapshot);
        let pending = self.ended || !dispatch!(&self.inspector, false, it => it.has_nothing_pending());
        let upstream = self.upstream;
        let chosen = match (next, admission) {
            (_, denied @ Admission::Deny(..)) => {
                dispatch!(&mut self.inspector, (), it => it.on_admission(denied, &self.link, cx));
                return false;
            }
            (Next::Opaque, Admission::Allow(permit)) if !pending => {
                cx.step(Step::WakeAt(u64::MAX));
                Inspector::Opaque(Opaque::take_over(permit, upstream, cx))
            }
            (Next::Http1, Admission::Inspect) if !pending => match protocol(self.link.policy(cx.snapshot)) {
                Protocol::Http => {
                    cx.step(Step::WakeAt(u64::MAX));
                    // Its requests are forwarded each by a `Permit` of its own.
                    Inspector::Http1(Http1::take_over(upstream))
                }
            },
            (Next::Http1 | Next::Opaque, Admission::Allow(_) | Admission::Inspect) => {
                dispatch!(&mut self.inspector, (), it => it.abort(Reason::ProtocolMismatch, &self.link, cx));
                return false;
            }
        };
        let (up, down) = dispatch!(&self.inspector, (0, 0), it => it.unrecorded());
        self.inspector = chosen;
        self.moved(Side::Client, up);
        self.moved(Side::Server, down);
        true
    }

    /// The shell moved this many bytes of a [`Step::Splice`] from this side. Called before any other call that follows,
    /// so that a record that is made then has counted them.
    pub fn moved(&mut self, from: Side, bytes: u64) {
        dispatch!(&mut self.inspector, (), it => it.moved(from, bytes));
    }

    /// A side has ended. Every byte before a FIN has been presented at least once.
    pub fn on_end(&mut self, of: Side, end: End, cx: &mut Cx<'_>) {
        self.ended = true;
        dispatch!(&mut self.inspector, (), it => it.on_end(of, end, &self.link, cx));
    }

    pub fn on_dialled(&mut self, result: Dialled, cx: &mut Cx<'_>) {
        if result == Dialled::Connected {
            self.upstream = Upstream::Connected;
        }
        dispatch!(&mut self.inspector, (), it => it.on_dialled(result, &self.link, cx));
    }

    /// A new revision is in `cx.snapshot`: judge the connection again. Requests under way go on.
    pub fn on_snapshot(&mut self, cx: &mut Cx<'_>) {
        if self.is_over() {
            return;
        }
        let admission = self.link.admission(cx.snapshot);
        dispatch!(&mut self.inspector, (), it => it.on_admission(admission, &self.link, cx));
    }

    pub fn on_timer(&mut self, cx: &mut Cx<'_>) {
        dispatch!(&mut self.inspector, (), it => it.on_timer(&self.link, cx));
    }

    /// Records what nobody finished. The last call.
    pub fn end(&mut self, why: Ending, cx: &mut Cx<'_>) {
        if !self.is_over() {
            dispatch!(&mut self.inspector, (), it => it.end(why, &self.link, cx));
        }
    }

    /// Whether the shell should read from this side, and present kept bytes again. `false` is backpressure.
    pub fn wants(&self, from: Side) -> bool {
        dispatch!(&self.inspector, false, it => it.wants(from))
    }

    /// Between requests: nothing is under way that closing the connection now would cut.
    pub fn is_at_rest(&self) -> bool {
        dispatch!(&self.inspector, true, it => it.is_at_rest())
    }

    /// Nothing more will come: the shell may close once its queues are empty.
    pub fn is_over(&self) -> bool {
        dispatch!(&self.inspector, true, it => it.is_over())
    }
}

/// What a port that policy inspects speaks.
enum Protocol {
    Http,
}

/// Where it can't be told it is HTTP, so that denials are answered. No policy text names lines: nothing of theirs is allowed.
fn protocol(connection: &Connection) -> Protocol {
    match connection.protocol() {
        Some(PortProtocol::Http | PortProtocol::Line) | None => Protocol::Http,
    }
}
