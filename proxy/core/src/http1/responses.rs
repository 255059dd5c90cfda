//! The server's side: responses are followed strictly, matched to the requests in order, and never changed.
//!
//! A server that sends more or other responses than it was asked for could hand one client's answer to the next
//! request, so whatever can't be matched or framed ends both sides.

use super::requests::{length, splice};
use super::{Http1, Input, Phase, Response};
use crate::cx::Cx;
use crate::denial::Then;
use crate::event::Side;
use crate::exchange::{ResponseState, Sending};
use crate::inspect::Inspect;
use crate::link::Link;
use crate::reason::Reason;
use crate::step;
use parsers::Progress;
use parsers::http1::head;
use parsers::http1::{Body, HeadScan};

impl Http1 {
    pub(super) fn on_server(&mut self, bytes: &[u8], link: &Link, cx: &mut Cx<'_>) -> usize {
        let mut at = 0;
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty())
            && let Some(taken) = self.server_part(at, rest, link, cx)
        {
            at += taken;
        }
        at
    }

    /// As `client_part`.
    fn server_part(&mut self, at: usize, bytes: &[u8], link: &Link, cx: &mut Cx<'_>) -> Option<usize> {
        match (&self.phase, &self.response) {
            (Phase::Over, _) => None,
            // The client was told the end of the connection.
            (Phase::Closing { .. }, _) => Some(bytes.len()),
            (_, Response::Body(..)) => self.response_body(at, bytes, link, cx),
            (_, Response::Head(scan)) => self.response_head(at, bytes, *scan, link, cx),
        }
    }

    fn response_head(
        &mut self,
        at: usize,
        bytes: &[u8],
        mut scan: HeadScan,
        link: &Link,
        cx: &mut Cx<'_>,
    ) -> Option<usize> {
        let Some(exchange) =
            self.exchanges.oldest().filter(|oldest| oldest.answer != ResponseState::Complete)
        else {
            self.abort(Reason::UnexpectedResponse, link, cx);
            return None;
        };
        let (message, consumed) = match head::response(&mut scan, bytes, exchange.method, &cx.limits.http) {
            Ok(Progress::Complete { message, consumed }) => (message, consumed),
            Ok(Progress::Incomplete) => {
                self.response = Response::Head(scan);
                return None;
            }
            Err(error) => {
                self.abort(error.into(), link, cx);
                return None;
            }
        };
        self.response = Response::Head(HeadScan::default());
        exchange.record.bytes_down = exchange.record.bytes_down.saturating_add(length(consumed));
        step::forward(cx.steps, Side::Client, at..at + consumed);
        if message.status == 100 {
            exchange.body = Sending::Certain;
        }
        if !message.is_interim() {
            exchange.answer = ResponseState::Begun;
            exchange.record.detail.tell_http(|http| http.status = message.status);
            let then = if message.persistent { Then::Keep } else { Then::Close };
            let body = Body::of_response(message.body);
            if body.is_done() {
                self.response_done(then, link, cx);
            } else {
                self.response = Response::Body(cx.scratch.bodies.keep(body), then);
            }
        }
        Some(consumed)
    }

    fn response_body(&mut self, at: usize, bytes: &[u8], link: &Link, cx: &mut Cx<'_>) -> Option<usize> {
        let Response::Body(body, then) = &mut self.response else { return None };
        let then = *then;
        let advance = match body.advance(bytes, &cx.limits.http) {
            Ok(advance) => advance,
            Err(error) => {
                self.abort(Reason::of_response_body(error), link, cx);
                return None;
            }
        };
        step::forward(cx.steps, Side::Client, at..at + advance.taken);
        if !advance.done {
            splice(body, Side::Server, cx);
        }
        self.moved(Side::Server, length(advance.taken));
        if advance.done {
            let next = Response::Head(HeadScan::default());
            if let Response::Body(body, _) = core::mem::replace(&mut self.response, next) {
                cx.scratch.bodies.give(body);
            }
            self.response_done(then, link, cx);
        }
        Some(advance.taken)
    }

    /// The oldest request has its whole response.
    pub(super) fn response_done(&mut self, then: Then, link: &Link, cx: &mut Cx<'_>) {
        let uploading = matches!(self.phase, Phase::Body(..)) && self.exchanges.len() == 1;
        let Some(exchange) = self.exchanges.oldest() else { return };
        exchange.record.latency_ns = cx.now.mono_ns.saturating_sub(exchange.started_ns);
        exchange.answer = ResponseState::Complete;
        let doubtful = uploading && exchange.body == Sending::Awaits100;
        if (doubtful || !uploading)
            && let Some(exchange) = self.exchanges.pop_oldest(&mut cx.scratch.queues)
        {
            cx.record(exchange.record);
        }
        if doubtful {
            // The client may take this answer for a reason not to send the body, and the server may too. What comes
            // next could be a body for one and a request for the other, so nothing more is forwarded.
            self.close(link, cx);
            return;
        }
        if then == Then::Close {
            self.no_more_responses(cx);
        } else if matches!(self.phase, Phase::Full) {
            self.phase = Phase::next_head();
        }
        if self.server != Input::Ended {
            self.reply_in_turn(link, cx);
        }
    }
}
