//! How a connection ends: by its peers, by policy, by a fault.
//!
//! Ends are mirrored as they come. What can't be answered any more is dropped, never forwarded: nothing of the client
//! goes to a server that would not be judged to have answered it.

use super::{Http1, Input, Kept, Phase, Requests, Response, Upstream};
use crate::cx::Cx;
use crate::denial::Then;
use crate::event::Side;
use crate::link::Link;
use crate::reason::Reason;
use crate::record::{FlowRecord, Outcome};
use crate::step::Step;
use policy_model::Denial;
use policy_model::snapshot::Direction;

impl Http1 {
    /// Policy no longer allows the connection.
    pub(super) fn revoke(&mut self, direction: Direction, denial: Denial, link: &Link, cx: &mut Cx<'_>) {
        if self.end_requests(Reason::Revoked, cx) == 0 {
            let record = link.revoked(direction, denial, cx);
            cx.record(record);
        }
        self.reset(cx);
    }

    /// Ends both sides because a peer is gone, or we are. A connection at rest leaves no record of that.
    pub(super) fn lose(&mut self, reason: Reason, link: &Link, cx: &mut Cx<'_>) {
        if matches!(self.phase, Phase::Over) {
            return;
        }
        if self.end_requests(reason, cx) == 0 && self.requests == Requests::None {
            let record = link.ended(reason, cx);
            cx.record(record);
        }
        self.reset(cx);
    }

    pub(super) fn reset(&mut self, cx: &mut Cx<'_>) {
        self.phase = Phase::Over;
        cx.step(Step::Reset);
    }

    /// Records every request under way, for a connection that is about to be reset. Answers how many there were.
    pub(super) fn end_requests(&mut self, reason: Reason, cx: &mut Cx<'_>) -> usize {
        let mut count = 0;
        while let Some(exchange) = self.exchanges.pop_oldest(&mut cx.scratch.queues) {
            record_ended(exchange.record, reason, cx);
            count += 1;
        }
        let denied = self.phase.take_denied().map(|refusal| refusal.record);
        let waiting = denied.or_else(|| self.phase.take_dialling().map(|exchange| exchange.record));
        if let Some(record) = waiting {
            record_ended(record, reason, cx);
            count += 1;
        }
        count
    }

    pub(super) fn over(&mut self, link: &Link, cx: &mut Cx<'_>) {
        self.disarm(cx);
        if self.requests == Requests::None {
            let record = link.record(cx);
            cx.record(record);
        }
        self.phase = Phase::Over;
    }

    /// The client will send no more.
    pub(super) fn client_ended(&mut self, link: &Link, cx: &mut Cx<'_>) {
        let left = core::mem::replace(&mut self.client, Input::Ended);
        match core::mem::replace(&mut self.phase, Phase::Discard) {
            Phase::Closing { .. } => return self.over(link, cx),
            Phase::Over => return self.phase = Phase::Over,
            Phase::Head(_) if left == Input::Ending(Kept::Part) => {
                self.requests = Requests::Seen;
                let record = link.ended(Reason::ClientClosed, cx);
                cx.record(record);
            }
            Phase::Body(..) => self.upload_ended(Some(Reason::ClientClosed), cx),
            Phase::Denied(_)
            | Phase::Dialling(_)
            | Phase::Discard
            | Phase::Full
            | Phase::Head(_)
            | Phase::Swallow { .. } => {}
        }
        self.disarm(cx);
        match self.upstream {
            Upstream::Connected => cx.finish(Side::Server),
            Upstream::None => cx.finish(Side::Client),
        }
        if self.upstream == Upstream::None || self.server == Input::Ended {
            self.over(link, cx);
        }
    }

    /// The server will send no more: what it owes stays unanswered.
    pub(super) fn server_ended(&mut self, link: &Link, cx: &mut Cx<'_>) {
        self.server = Input::Ended;
        if matches!(self.phase, Phase::Closing { .. } | Phase::Over) {
            return;
        }
        if let Response::Body(body, _) = &mut self.response
            && body.end().is_ok()
        {
            self.response_done(Then::Close, link, cx);
            if matches!(self.phase, Phase::Closing { .. }) {
                return;
            }
        }
        self.no_more_responses(cx);
        let uploading = usize::from(matches!(self.phase, Phase::Body(..)));
        while self.exchanges.len() > uploading
            && let Some(exchange) = self.exchanges.pop_oldest(&mut cx.scratch.queues)
        {
            record_ended(exchange.record, Reason::ServerClosed, cx);
        }
        if let Some(exchange) = self.exchanges.newest() {
            mark_ended(&mut exchange.record, Reason::ServerClosed);
        }
        cx.finish(Side::Client);
        if self.client == Input::Ended {
            self.over(link, cx);
        }
    }

    /// No response will follow: nothing that the client asks from now on can be answered in its turn, by nobody.
    pub(super) fn no_more_responses(&mut self, cx: &mut Cx<'_>) {
        match core::mem::replace(&mut self.phase, Phase::Discard) {
            Phase::Body(body, _) => self.phase = Phase::Body(body, Then::Close),
            Phase::Denied(refusal) => record_ended(refusal.record, Reason::ServerClosed, cx),
            Phase::Dialling(exchange) => record_ended(exchange.record, Reason::ServerClosed, cx),
            Phase::Head(_) | Phase::Swallow { .. } => self.disarm(cx),
            Phase::Discard | Phase::Full => {}
            last @ (Phase::Closing { .. } | Phase::Over) => self.phase = last,
        }
    }
}

/// The first cause stays.
pub(super) fn mark_ended(record: &mut FlowRecord, reason: Reason) {
    record.outcome = Outcome::Ended;
    let _ = record.reason.get_or_insert(reason);
}

pub(super) fn record_ended(mut record: Box<FlowRecord>, reason: Reason, cx: &mut Cx<'_>) {
    mark_ended(&mut record, reason);
    cx.record(record);
}
