//! The client's side: heads are judged, bodies follow their head.

use super::ends::{mark_ended, record_ended};
use super::judge::{Judged, judge};
use super::{Http1, Input, Phase, Requests, Rest, Upstream};
use crate::cx::Cx;
use crate::denial::Then;
use crate::event::Side;
use crate::exchange::{Exchange, ResponseState, Sending};
use crate::inspect::Inspect;
use crate::limits::Queries;
use crate::link::Link;
use crate::reason::Reason;
use crate::record::{FlowRecord, HttpInfo};
use crate::step::{self, Step};
use parsers::Progress;
use parsers::http1::head::{self, AnsweredMethod};
use parsers::http1::{Body, BodyLength, HeadScan, NameEnd, Upgrade, Version};
use policy_model::Permit;

/// From here on a body's rest is moved without being shown to us.
pub(super) const SPLICE_BYTES_MIN: u64 = 64 * 1024;

/// The first byte of a TLS handshake record, which no HTTP request begins with.
const TLS_HANDSHAKE: u8 = 0x16;

/// A complete head in the input of this call.
struct Head<'a> {
    request: head::Request<'a>,
    /// Where it begins in the input.
    at: usize,
    bytes: usize,
}

impl Http1 {
    pub(super) fn on_client(&mut self, bytes: &[u8], link: &mut Link, cx: &mut Cx<'_>) -> usize {
        let mut at = 0;
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty())
            && let Some(taken) = self.client_part(at, rest, link, cx)
        {
            at += taken;
        }
        at
    }

    /// Handles what `bytes` begins with and answers how much that was; `None`: it must wait.
    fn client_part(&mut self, at: usize, bytes: &[u8], link: &mut Link, cx: &mut Cx<'_>) -> Option<usize> {
        match self.phase {
            Phase::Body(..) => self.request_body(at, bytes, link, cx),
            Phase::Closing { left } => self.drain(bytes, left, cx),
            Phase::Discard => Some(bytes.len()),
            Phase::Head(scan) => self.head(at, bytes, scan, link, cx),
            Phase::Swallow { .. } => self.swallow(bytes, link, cx),
            Phase::Denied(_) | Phase::Dialling(_) | Phase::Full | Phase::Over => None,
        }
    }

    fn head(
        &mut self,
        at: usize,
        bytes: &[u8],
        mut scan: HeadScan,
        link: &mut Link,
        cx: &mut Cx<'_>,
    ) -> Option<usize> {
        if self.exchanges.len() >= cx.limits.pipelined_max {
            self.phase = Phase::Full;
            return None;
        }
        if self.requests == Requests::None && bytes.first() == Some(&TLS_HANDSHAKE) {
            self.mismatch(link, cx);
            return None;
        }
        match head::request(&mut scan, bytes, &cx.limits.http) {
            Err(error) => {
                self.refuse_head(error.into(), link, cx);
                Some(0)
            }
            Ok(Progress::Incomplete) => {
                self.phase = Phase::Head(scan);
                if self.deadline_ns == u64::MAX {
                    self.arm(cx.after(cx.limits.head_ns_max), cx);
                }
                None
            }
            Ok(Progress::Complete { message, consumed }) => {
                self.disarm(cx);
                self.requests = Requests::Seen;
                self.request(&Head { request: message, at, bytes: consumed }, link, cx)
            }
        }
    }

    fn request(&mut self, head: &Head<'_>, link: &mut Link, cx: &mut Cx<'_>) -> Option<usize> {
        let judged = judge(&head.request, link, cx);
        let mut record = link.record_of_a_request(cx);
        self.describe(&mut record, &head.request, cx);
        match judged {
            Judged::Allow(direction, permit) => {
                record.direction = direction.unwrap_or(record.direction);
                self.allow(head, permit, record, cx)
            }
            Judged::Deny(direction, denial) => {
                record.direction = direction;
                record.rule = denial.rule;
                let rest = rest_of_denied(&head.request, cx);
                self.refuse(record, denial.reason.into(), method(&head.request), rest, link, cx);
                Some(head.bytes)
            }
            Judged::Refuse(reason) => {
                self.refuse(record, reason, method(&head.request), Rest::Close(None), link, cx);
                Some(head.bytes)
            }
            Judged::Revoke(direction, denial) => {
                record.direction = direction;
                record.rule = denial.rule;
                let _ = self.end_requests(Reason::Revoked, cx);
                record_ended(record, Reason::Revoked, cx);
                self.reset(cx);
                None
            }
        }
    }

    fn describe(&self, record: &mut FlowRecord, request: &head::Request<'_>, cx: &Cx<'_>) {
        record.unix_ns = cx.now.unix_ns - cx.now.unix_ns.min(cx.now.mono_ns - self.head_complete_ns(cx));
        record.detail.tell_http(|HttpInfo { version, method, path, host, status }| {
            *version = Some(request.version);
            method.set(request.method);
            path.set_start(request.origin, recorded(request.origin, cx.limits.queries));
            host.set(request.host);
            *status = 0;
        });
    }

    /// Now, or before the dial that the head had to wait for.
    fn head_complete_ns(&self, cx: &Cx<'_>) -> u64 {
        match self.dialled_for_ns {
            0 => cx.now.mono_ns,
            before => before.min(cx.now.mono_ns),
        }
    }

    /// The only place from which a request's bytes go to the server; it costs a permit.
    fn allow(
        &mut self,
        head: &Head<'_>,
        permit: Permit,
        mut record: Box<FlowRecord>,
        cx: &mut Cx<'_>,
    ) -> Option<usize> {
        record.rule = permit.into_rule();
        let mut exchange = Exchange {
            record,
            started_ns: self.head_complete_ns(cx),
            method: method(&head.request),
            answer: ResponseState::Awaited,
            body: if head.request.expects_continue { Sending::Awaits100 } else { Sending::Certain },
        };
        if self.upstream == Upstream::None {
            self.phase = Phase::Dialling(exchange);
            cx.step(Step::Dial);
            self.arm(cx.after(cx.limits.dial_ns_max), cx);
            return None;
        }
        self.dialled_for_ns = 0;
        exchange.record.bytes_up = forward_head(head, cx);
        self.exchanges.push(exchange, &mut cx.scratch.queues);
        let then = if head.request.persistent { Then::Keep } else { Then::Close };
        let body = Body::new(head.request.body);
        self.phase = if body.is_done() {
            Phase::behind_request(then)
        } else {
            Phase::Body(cx.scratch.bodies.keep(body), then)
        };
        Some(head.bytes)
    }

    fn request_body(&mut self, at: usize, bytes: &[u8], link: &mut Link, cx: &mut Cx<'_>) -> Option<usize> {
        let Phase::Body(body, then) = &mut self.phase else { return None };
        let then = *then;
        let policy = link.policy(cx.snapshot);
        let ruled = |name: &[u8], end| policy.asks_for_header(name, end == NameEnd::Cut);
        let advance = match body.advance_without(bytes, &cx.limits.http, &ruled) {
            Ok(advance) => advance,
            Err(error) => {
                self.broken_upload(Reason::of_request_body(error), link, cx);
                return Some(0);
            }
        };
        step::forward(cx.steps, Side::Server, at..at + advance.taken);
        if !advance.done {
            splice(body, Side::Client, cx);
        }
        self.moved(Side::Client, length(advance.taken));
        if let Some(exchange) = self.exchanges.newest() {
            exchange.body = Sending::Certain;
        }
        if advance.done {
            self.leave_body(Phase::behind_request(then), cx);
            self.upload_ended(None, cx);
        }
        Some(advance.taken)
    }

    /// The body is through: its memory goes back to the worker.
    fn leave_body(&mut self, next: Phase, cx: &mut Cx<'_>) {
        if let Phase::Body(body, _) | Phase::Swallow { body, .. } = core::mem::replace(&mut self.phase, next)
        {
            cx.scratch.bodies.give(body);
        }
    }

    /// The newest request is forwarded, to its end or as far as it came. Its response may be complete already.
    pub(super) fn upload_ended(&mut self, cut: Option<Reason>, cx: &mut Cx<'_>) {
        let over = self.server == Input::Ended;
        let Some(exchange) = self.exchanges.newest() else { return };
        if let Some(reason) = cut {
            mark_ended(&mut exchange.record, reason);
        }
        if (over || exchange.answer == ResponseState::Complete)
            && let Some(exchange) = self.exchanges.pop_newest(&mut cx.scratch.queues)
        {
            cx.record(exchange.record);
        }
    }

    /// The server has the start of a request whose rest can't be forwarded. It will not take that for a whole one,
    /// because it is told the end of the connection instead of the end of the body.
    fn broken_upload(&mut self, reason: Reason, link: &Link, cx: &mut Cx<'_>) {
        let over = self.server == Input::Ended;
        self.leave_body(Phase::Discard, cx);
        let Some(exchange) = self.exchanges.pop_newest(&mut cx.scratch.queues) else { return };
        if over || exchange.answer != ResponseState::Awaited {
            record_ended(exchange.record, reason, cx);
            let _ = self.end_requests(reason, cx);
            self.reset(cx);
            return;
        }
        self.refuse(exchange.record, reason, exchange.method, Rest::Close(None), link, cx);
    }

    fn swallow(&mut self, bytes: &[u8], link: &Link, cx: &mut Cx<'_>) -> Option<usize> {
        let Phase::Swallow { body, left } = &mut self.phase else { return None };
        if *left == 0 {
            self.close_early(Reason::SwallowTooLarge, link, cx);
            return Some(0);
        }
        let within = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
        let Ok(advance) = body.advance(bytes.get(..within).unwrap_or_default(), &cx.limits.http) else {
            // The request is denied and answered; where its body ends can't be told any more.
            self.close(link, cx);
            return Some(0);
        };
        *left = left.saturating_sub(length(advance.taken));
        if advance.done {
            self.disarm(cx);
            self.leave_body(Phase::next_head(), cx);
        }
        Some(advance.taken)
    }

    fn drain(&mut self, bytes: &[u8], left: u64, cx: &mut Cx<'_>) -> Option<usize> {
        match left.checked_sub(length(bytes.len())) {
            Some(left) => self.phase = Phase::Closing { left },
            None => self.reset(cx),
        }
        Some(bytes.len())
    }
}

/// Sends the head as it came, but for what must be cut out. Answers how many bytes that is.
fn forward_head(head: &Head<'_>, cx: &mut Cx<'_>) -> u64 {
    let mut from = 0;
    let mut sent = 0;
    let cuts = match &head.request.upgrade {
        Upgrade::H2c { cuts } => cuts.as_slice(),
        Upgrade::None | Upgrade::Other => &[],
    };
    let kept = cuts.iter().filter(|cut| !cut.is_empty()).map(|cut| (cut.start, cut.end));
    for (to, next) in kept.chain([(head.bytes, head.bytes)]) {
        step::forward(cx.steps, Side::Server, head.at + from..head.at + to);
        sent += to.saturating_sub(from);
        from = next;
    }
    length(sent)
}

/// Lets the shell move a large rest in the kernel. The last byte is left out, so that the body's end is seen here.
pub(super) fn splice(body: &mut Body, from: Side, cx: &mut Cx<'_>) {
    let unseen = body.unseen();
    if unseen > SPLICE_BYTES_MIN {
        body.skip(unseen - 1);
        cx.step(Step::Splice { from, bytes: unseen - 1 });
    }
}

/// Whether the body of a denied request is worth reading to keep the connection.
///
/// One who expects a 100 may send the body after our 403 or may not, and nothing on the wire tells which: closed,
/// unless there is no body to wait for. HTTP/1.0 clients are told the end of the reply by the end of the connection.
fn rest_of_denied(request: &head::Request<'_>, cx: &mut Cx<'_>) -> Rest {
    let body = Body::new(request.body);
    if !request.persistent
        || request.version == Version::Http10
        || (request.expects_continue && !body.is_done())
    {
        return Rest::Close(None);
    }
    match request.body {
        BodyLength::None | BodyLength::Length(0) => Rest::Nothing,
        BodyLength::Length(bytes) if bytes > cx.limits.swallow_bytes_max => {
            Rest::Close(Some(Reason::SwallowTooLarge))
        }
        BodyLength::Chunked | BodyLength::Length(_) => Rest::Swallow(cx.scratch.bodies.keep(body)),
        BodyLength::UntilClose => Rest::Close(None),
    }
}

fn method(request: &head::Request<'_>) -> AnsweredMethod {
    match request.method {
        "HEAD" => AnsweredMethod::Head,
        _ => AnsweredMethod::Other,
    }
}

/// Of a target, the bytes that may be in a record.
fn recorded(origin: &str, queries: Queries) -> usize {
    match (queries, origin.find('?')) {
        (Queries::Hidden, Some(mark)) => mark + 1,
        (Queries::Hidden, None) | (Queries::Recorded, _) => origin.len(),
    }
}

pub(super) fn length(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}
