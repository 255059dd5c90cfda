//! Requests that are not forwarded: our reply in its turn, and what becomes of the connection behind it.

use super::{Http1, Input, Phase, Refusal, Requests, Rest, Upstream};
use crate::cx::Cx;
use crate::denial::{self, Then};
use crate::event::Side;
use crate::exchange::Exchange;
use crate::link::Link;
use crate::reason::Reason;
use crate::record::{FlowRecord, Outcome};
use crate::step::Step;
use parsers::http1::head::AnsweredMethod;

impl Http1 {
    /// A head that can't be read, so that nothing is known of what it asks.
    pub(super) fn refuse_head(&mut self, reason: Reason, link: &Link, cx: &mut Cx<'_>) {
        self.disarm(cx);
        self.requests = Requests::Seen;
        let mut record = link.record(cx);
        record.unix_ns = cx.now.unix_ns;
        self.refuse(record, reason, AnsweredMethod::Other, Rest::Close(None), link, cx);
    }

    pub(super) fn refuse(
        &mut self,
        mut record: Box<FlowRecord>,
        reason: Reason,
        method: AnsweredMethod,
        rest: Rest,
        link: &Link,
        cx: &mut Cx<'_>,
    ) {
        record.outcome = Outcome::Denied;
        self.phase = Phase::Denied(Refusal { record, reason, method, rest });
        self.reply_in_turn(link, cx);
    }

    /// Answers a refused request if no response before its own is awaited.
    pub(super) fn reply_in_turn(&mut self, link: &Link, cx: &mut Cx<'_>) {
        if !self.exchanges.is_empty() {
            return;
        }
        let Some(refusal) = self.phase.take_denied() else { return };
        let then = if matches!(refusal.rest, Rest::Close(_)) { Then::Close } else { Then::Keep };
        self.send_reply(refusal.record, refusal.reason, refusal.method, then, cx);
        match refusal.rest {
            Rest::Close(None) => self.close(link, cx),
            Rest::Close(Some(limit)) => self.close_early(limit, link, cx),
            Rest::Nothing => {}
            Rest::Swallow(body) => {
                self.phase = Phase::Swallow { body, left: cx.limits.swallow_bytes_max };
            }
        }
    }

    /// There is no upstream: the request that asked for one is answered, and the connection ends.
    pub(super) fn unavailable(
        &mut self,
        mut exchange: Exchange,
        reason: Reason,
        link: &Link,
        cx: &mut Cx<'_>,
    ) {
        exchange.record.outcome = Outcome::Ended;
        exchange.record.latency_ns = cx.now.mono_ns.saturating_sub(exchange.started_ns);
        self.send_reply(exchange.record, reason, exchange.method, Then::Close, cx);
        self.close(link, cx);
    }

    pub(super) fn send_reply(
        &mut self,
        mut record: Box<FlowRecord>,
        reason: Reason,
        method: AnsweredMethod,
        then: Then,
        cx: &mut Cx<'_>,
    ) {
        if let Some(bytes) = denial::reply(reason, method, then) {
            cx.step(Step::Send { to: Side::Client, bytes });
        }
        record.reason = Some(reason);
        record.detail.tell_http(|http| http.status = denial::status(reason));
        cx.record(record);
    }

    /// Nothing more goes to either side; what the client has under way is read so that the reply survives.
    pub(super) fn close(&mut self, link: &Link, cx: &mut Cx<'_>) {
        cx.finish(Side::Client);
        if self.upstream == Upstream::Connected && self.client != Input::Ended {
            cx.finish(Side::Server);
        }
        if self.client == Input::Ended {
            self.over(link, cx);
            return;
        }
        self.phase = Phase::Closing { left: cx.limits.swallow_bytes_max };
        self.arm(cx.after(cx.limits.swallow_ns_max), cx);
    }

    /// Closes in the middle of a denied request, which one of our limits cut short.
    pub(super) fn close_early(&mut self, reason: Reason, link: &Link, cx: &mut Cx<'_>) {
        let record = link.ended(reason, cx);
        cx.record(record);
        self.close(link, cx);
    }

    /// Not the protocol that policy names for this port.
    pub(super) fn mismatch(&mut self, link: &Link, cx: &mut Cx<'_>) {
        let mut record = link.ended(Reason::ProtocolMismatch, cx);
        record.outcome = Outcome::Denied;
        cx.record(record);
        self.reset(cx);
    }
}
