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
//! INVARIANT: a connection that policy denies never dials.

use crate::http1::Http1;
#[cfg(any(test, feature = "line-protocol"))]
use crate::line::Line;
use crate::link::Link;
use crate::opaque::Opaque;
use crate::reason::Reason;
use crate::record::{ClientAddr, OrigDst};
use crate::step::Step;
use policy_model::Connection;
use policy_model::snapshot::{Admission, PortRules, PortVerdict};

pub use crate::cx::{Cx, Scratch};
pub use crate::event::{Dialled, End, Ending, Side};

#[derive(Debug)]
pub struct Session {
    link: Link,
    inspector: Inspector,
}

#[derive(Debug)]
enum Inspector {
    Http1(Http1),
    #[cfg(any(test, feature = "line-protocol"))]
    Line(Line),
    Opaque(Opaque),
    Over,
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
                Inspector::Over
            }
            Admission::Inspect => match protocol(link.policy(cx.snapshot)) {
                Protocol::Http => Inspector::Http1(Http1::open()),
            },
        };
        Self { link, inspector }
    }

    /// A connection of the test protocol, whatever policy says of the port.
    #[cfg(any(test, feature = "line-protocol"))]
    #[doc(hidden)]
    pub fn open_line(client: ClientAddr, destination: OrigDst, cx: &mut Cx<'_>) -> Self {
        Self { link: Link::open(client, destination, cx), inspector: Inspector::Line(Line::default()) }
    }

    /// Bytes from one side: all those that were not consumed by earlier calls, then the new ones. Returns how many
    /// are consumed: forwarded, swallowed or no longer needed. The shell keeps the rest and presents it again with more bytes,
    /// or when [`Session::wants`] turns true for that side. `Forward` ranges index `bytes`.
    pub fn on_bytes(&mut self, from: Side, bytes: &[u8], cx: &mut Cx<'_>) -> usize {
        match &mut self.inspector {
            Inspector::Http1(http1) => http1.on_bytes(from, bytes, &mut self.link, cx),
            #[cfg(any(test, feature = "line-protocol"))]
            Inspector::Line(line) => line.on_bytes(from, bytes, &self.link, cx),
            Inspector::Opaque(opaque) => opaque.on_bytes(from, bytes, &self.link, cx),
            Inspector::Over => bytes.len(),
        }
    }

    /// The shell moved this many bytes of a [`Step::Splice`] from this side. Called before any other call that follows,
    /// so that a record that is made then has counted them.
    pub fn moved(&mut self, from: Side, bytes: u64) {
        match &mut self.inspector {
            Inspector::Http1(http1) => http1.count(from, bytes),
            #[cfg(any(test, feature = "line-protocol"))]
            Inspector::Line(line) => line.count(from, bytes),
            Inspector::Opaque(opaque) => opaque.count(from, bytes),
            Inspector::Over => {}
        }
    }

    /// A side has ended. Every byte before a FIN has been presented at least once.
    pub fn on_end(&mut self, of: Side, end: End, cx: &mut Cx<'_>) {
        match &mut self.inspector {
            Inspector::Http1(http1) => http1.on_end(of, end, &self.link, cx),
            #[cfg(any(test, feature = "line-protocol"))]
            Inspector::Line(line) => line.on_end(of, end, &self.link, cx),
            Inspector::Opaque(opaque) => opaque.on_end(of, end, &self.link, cx),
            Inspector::Over => {}
        }
    }

    pub fn on_dialled(&mut self, result: Dialled, cx: &mut Cx<'_>) {
        match &mut self.inspector {
            Inspector::Http1(http1) => http1.on_dialled(result, &self.link, cx),
            #[cfg(any(test, feature = "line-protocol"))]
            Inspector::Line(line) => line.on_dialled(result, &self.link, cx),
            Inspector::Opaque(opaque) => opaque.on_dialled(result, &self.link, cx),
            Inspector::Over => {}
        }
    }

    /// A new revision is in `cx.snapshot`: judge the connection again. Requests under way go on.
    pub fn on_snapshot(&mut self, cx: &mut Cx<'_>) {
        if self.is_over() {
            return;
        }
        let admission = self.link.admission(cx.snapshot);
        match (&mut self.inspector, admission) {
            (Inspector::Http1(http1), Admission::Deny(direction, denial)) => {
                http1.revoke(direction, denial, &self.link, cx);
            }
            (Inspector::Opaque(opaque), Admission::Deny(direction, denial)) => {
                let record = self.link.revoked(direction, denial, cx);
                opaque.abort_with(record, cx);
            }
            (Inspector::Opaque(opaque), Admission::Inspect) => {
                opaque.abort(Reason::RedirectRequired, &self.link, cx);
            }
            // An inspected connection stays framed; its requests meet the new rules at their head.
            (Inspector::Http1(_), Admission::Allow(_) | Admission::Inspect)
            | (Inspector::Opaque(_), Admission::Allow(_))
            | (Inspector::Over, _) => {}
            #[cfg(any(test, feature = "line-protocol"))]
            (Inspector::Line(_), _) => {}
        }
    }

    pub fn on_timer(&mut self, cx: &mut Cx<'_>) {
        match &mut self.inspector {
            Inspector::Http1(http1) => http1.on_timer(&self.link, cx),
            #[cfg(any(test, feature = "line-protocol"))]
            Inspector::Line(line) => line.on_timer(cx),
            Inspector::Opaque(opaque) => opaque.on_timer(&self.link, cx),
            Inspector::Over => {}
        }
    }

    /// Records what nobody finished. The last call.
    pub fn end(&mut self, why: Ending, cx: &mut Cx<'_>) {
        if self.is_over() {
            return;
        }
        let reason = Reason::of_ending(why);
        match &mut self.inspector {
            // Cut for others' sake: also one at rest leaves a record that says so.
            Inspector::Http1(http1) => match why {
                Ending::Draining => http1.lose(reason, &self.link, cx),
                Ending::Failed | Ending::MemoryLimit | Ending::Reclaimed => {
                    http1.abort(reason, &self.link, cx)
                }
            },
            #[cfg(any(test, feature = "line-protocol"))]
            Inspector::Line(line) => line.abort(reason, &self.link, cx),
            Inspector::Opaque(opaque) => opaque.abort(reason, &self.link, cx),
            Inspector::Over => {}
        }
    }

    /// Whether the shell should read from this side, and present kept bytes again. `false` is backpressure.
    pub fn wants(&self, from: Side) -> bool {
        match &self.inspector {
            Inspector::Http1(http1) => http1.wants(from),
            #[cfg(any(test, feature = "line-protocol"))]
            Inspector::Line(line) => line.wants(from),
            Inspector::Opaque(opaque) => opaque.wants(from),
            Inspector::Over => false,
        }
    }

    /// Between requests: nothing is under way that closing the connection now would cut.
    pub fn is_at_rest(&self) -> bool {
        match &self.inspector {
            Inspector::Http1(http1) => http1.is_at_rest(),
            #[cfg(any(test, feature = "line-protocol"))]
            Inspector::Line(_) => false,
            Inspector::Opaque(_) => false,
            Inspector::Over => true,
        }
    }

    /// Nothing more will come: the shell may close once its queues are empty.
    pub fn is_over(&self) -> bool {
        match &self.inspector {
            Inspector::Http1(http1) => http1.is_over(),
            #[cfg(any(test, feature = "line-protocol"))]
            Inspector::Line(line) => line.is_over(),
            Inspector::Opaque(opaque) => opaque.is_over(),
            Inspector::Over => true,
        }
    }
}

/// What a port that policy inspects speaks.
enum Protocol {
    Http,
}

/// The protocol of whichever end's policy has rules. Where none can be judged it is HTTP, so that denials are answered.
fn protocol(connection: &Connection) -> Protocol {
    for half in [&connection.egress, &connection.ingress] {
        match half {
            PortVerdict::Allow(_) | PortVerdict::Deny(_) => {}
            PortVerdict::Inspect(rules) => match **rules {
                PortRules::Http(_) | PortRules::Unjudgeable(_) => return Protocol::Http,
            },
        }
    }
    Protocol::Http
}
