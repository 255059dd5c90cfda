//! Carries out what the session asked for.

use super::half::{Broken, Finish};
use super::{Connection, Ends, Env, Phase, Server, transport};
use crate::upstream;
use crate::worker::{Hot, Worker};
use policy_model::Snapshot;
use proxy_core::record::{FlowRecord, Now, Outcome};
use proxy_core::session::End;
use proxy_core::{Reason, Session, Side, Step};
use std::sync::Arc;
use std::task::Poll;

/// From so many unseen bytes on, they are moved in the kernel: below, setting that up costs more than copying.
const SPLICE_BYTES_MIN: u64 = 128 * 1024;

impl Connection {
    /// In order, and all of them: `input` is what the session was shown in the call that made them.
    pub(super) fn carry_out(&mut self, env: &mut Env<'_, '_>, input: &[u8]) {
        let mut steps = std::mem::take(&mut env.hot.steps);
        for step in steps.drain(..) {
            if self.phase == Phase::Aborted && !matches!(step, Step::Record(_)) {
                continue;
            }
            match step {
                Step::Dial => self.dial(env),
                Step::Finish { to } => self.finish(env, to),
                Step::Forward { to, range } => self.write(env, to, input.get(range).unwrap_or_default()),
                Step::Record(record) => env.worker.record(env.hot, record),
                Step::Reset => {
                    self.phase = Phase::Aborted;
                    self.timer.clear();
                }
                Step::Send { to, bytes } => self.write(env, to, bytes.as_bytes()),
                Step::Splice { from, bytes } => self.half_mut(from).splice += bytes,
                Step::Swallow { from, bytes } => self.half_mut(from).swallow += bytes,
                Step::WakeAt(at) => self.timer.set_session(at),
            }
        }
        env.hot.steps = steps;
    }

    fn dial(&mut self, env: &Env<'_, '_>) {
        // Known until here: there is one dial in a connection.
        let Some(ends) = self.ends.take() else { return };
        self.server = match upstream::dial(ends.client, ends.upstream, env.worker.shared.source) {
            Ok(dial) => {
                env.worker.counters.events.source_replaced.add(u64::from(dial.address_replaced));
                Server::Dialling(dial.transport)
            }
            Err(result) => Server::Failed(result),
        };
    }

    fn finish(&mut self, env: &mut Env<'_, '_>, to: Side) {
        let half = self.half_mut(to.other());
        if half.finish == Finish::Not {
            half.finish = Finish::Wanted;
        }
        let _busy = self.send_queued(env, to);
    }

    /// Sends what the peer takes now, and queues the rest.
    fn write(&mut self, env: &mut Env<'_, '_>, to: Side, mut bytes: &[u8]) {
        let half = match to {
            Side::Client => &mut self.from_server,
            Side::Server => &mut self.from_client,
        };
        if half.broken != Broken::No || half.finish == Finish::Done {
            return;
        }
        if half.is_drained()
            && let Some(transport) = transport(&mut self.client, &mut self.server, to)
        {
            while !bytes.is_empty() {
                match transport.poll_write(env.task, bytes) {
                    Poll::Ready(Ok(n)) => bytes = bytes.get(n..).unwrap_or_default(),
                    Poll::Ready(Err(error)) => {
                        half.broken = error.into();
                        return;
                    }
                    Poll::Pending => break,
                }
            }
        }
        if !bytes.is_empty() {
            half.push(bytes, || env.hot.queue());
        }
    }

    /// Sends what is queued for this side, then its FIN, and tells the session where the side is dead.
    /// Returns whether anything happened.
    pub(super) fn flush(&mut self, env: &mut Env<'_, '_>, to: Side) -> bool {
        if !self.half(to.other()).needs_flush() {
            return false;
        }
        let sent = self.send_queued(env, to);
        sent | self.notice_broken(env, to)
    }

    pub(super) fn send_queued(&mut self, env: &mut Env<'_, '_>, to: Side) -> bool {
        let half = match to {
            Side::Client => &mut self.from_server,
            Side::Server => &mut self.from_client,
        };
        let Some(transport) = transport(&mut self.client, &mut self.server, to) else { return false };
        let mut busy = false;
        if let Some(mut pipe) = half.take_pipe() {
            match transport.poll_drain(env.task, &mut pipe) {
                Poll::Pending => {
                    half.put_pipe(pipe);
                    return false;
                }
                Poll::Ready(Ok(())) => env.hot.put_back_pipe(pipe),
                Poll::Ready(Err(error)) => half.broken = error.into(),
            }
            busy = true;
        }
        while half.queued() > 0 {
            match transport.poll_write(env.task, half.waiting()) {
                Poll::Pending => return busy,
                Poll::Ready(Ok(n)) => {
                    if let Some(memory) = half.sent(n) {
                        env.hot.put_back(memory);
                    }
                }
                Poll::Ready(Err(error)) => {
                    half.broken = error.into();
                    env.hot.put_back(half.clear_queue());
                }
            }
            busy = true;
        }
        if busy {
            env.place.used(env.now.mono_ns);
        }
        if half.finish == Finish::Wanted {
            half.finish = Finish::Done;
            if let Err(error) = transport.finish() {
                half.broken = error.into();
            }
            busy = true;
        }
        busy
    }

    /// A peer that takes nothing any more is dead. Reading tells what it sent before; where it is not read, its end is told here.
    fn notice_broken(&mut self, env: &mut Env<'_, '_>, to: Side) -> bool {
        let broken = self.half(to.other()).broken != Broken::No;
        let unread = match to {
            // It has sent its FIN and is gone since: nobody waits for what the server still says.
            Side::Client => self.half(to).ended || !self.wants(to),
            // Its FIN is known, and what it sent is whole.
            Side::Server => !self.half(to).ended && !self.wants(to),
        };
        let over = self.session.as_ref().is_none_or(Session::is_over);
        let dead = broken && unread && !over && self.phase == Phase::Live;
        if dead {
            self.ended(env, to, End::Reset);
        }
        dead
    }

    /// Moves bytes that need not be seen from socket to socket. `None`: they have to be copied.
    pub(super) fn splice(&mut self, env: &mut Env<'_, '_>, from: Side) -> Option<bool> {
        let half = match from {
            Side::Client => &mut self.from_client,
            Side::Server => &mut self.from_server,
        };
        if half.splice < SPLICE_BYTES_MIN || half.broken != Broken::No {
            return None;
        }
        let (Some(client), Server::Open(server)) = (&self.client, &self.server) else { return None };
        let (source, target) = match from {
            Side::Client => (client, server),
            Side::Server => (server, client),
        };
        let Some(mut pipe) = env.hot.pipe() else {
            env.worker.counters.events.pipe_limit.add(1);
            return None;
        };
        let max = usize::try_from(half.splice).unwrap_or(usize::MAX);
        let moved = match source.poll_fill(env.task, &mut pipe, max) {
            Poll::Pending => {
                env.hot.put_back_pipe(pipe);
                return Some(false);
            }
            Poll::Ready(moved) => moved,
        };
        match target.poll_drain(env.task, &mut pipe) {
            Poll::Pending => half.put_pipe(pipe),
            Poll::Ready(Ok(())) => env.hot.put_back_pipe(pipe),
            Poll::Ready(Err(error)) => half.broken = error.into(),
        }
        match moved {
            Ok(0) => self.ended(env, from, End::Fin),
            Ok(n) => {
                env.place.used(env.now.mono_ns);
                self.half_mut(from).splice -= wide(n);
                if let Some(session) = &mut self.session {
                    session.moved(from, wide(n));
                }
            }
            Err(_reset) => self.ended(env, from, End::Reset),
        }
        Some(true)
    }

    /// Moves or drops what the session need not see. Returns how many bytes that were.
    pub(super) fn pass_unseen(&mut self, env: &mut Env<'_, '_>, from: Side, bytes: &[u8]) -> usize {
        let half = self.half_mut(from);
        let (spliced, rest) = split(bytes, &mut half.splice);
        let (swallowed, _rest) = split(rest, &mut half.swallow);
        if !spliced.is_empty() {
            self.write(env, from.other(), spliced);
            if let Some(session) = &mut self.session {
                session.moved(from, wide(spliced.len()));
            }
        }
        spliced.len() + swallowed.len()
    }
}

/// The first `n` of the bytes, or all; `n` becomes what is missing.
fn split<'a>(bytes: &'a [u8], n: &mut u64) -> (&'a [u8], &'a [u8]) {
    let middle = usize::try_from(*n).unwrap_or(usize::MAX).min(bytes.len());
    *n -= wide(middle);
    bytes.split_at(middle)
}

fn wide(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

/// Hands over the records among the steps; of the rest only whether the connection is to be aborted still matters.
pub(super) fn record_all(worker: &Worker, hot: &mut Hot) -> Farewell {
    let mut steps = std::mem::take(&mut hot.steps);
    let mut farewell = Farewell::Close;
    for step in steps.drain(..) {
        match step {
            Step::Record(record) => worker.record(hot, record),
            Step::Reset => farewell = Farewell::Reset,
            Step::Dial
            | Step::Finish { .. }
            | Step::Forward { .. }
            | Step::Send { .. }
            | Step::Splice { .. }
            | Step::Swallow { .. }
            | Step::WakeAt(_) => {}
        }
    }
    hot.steps = steps;
    farewell
}

/// How sockets are left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Farewell {
    Close,
    Reset,
}

impl Worker {
    /// Records a connection that no session has seen.
    pub(crate) fn refuse(&self, hot: &mut Hot, ends: &Ends, reason: Reason, snapshot: &Snapshot, now: Now) {
        let identity = |address| Some(Arc::clone(snapshot.identity_of(address)));
        let record = FlowRecord {
            unix_ns: now.unix_ns,
            source: identity(ends.client.0.ip()),
            target: identity(ends.destination.0.ip()),
            outcome: Outcome::Denied,
            reason: Some(reason),
            revision: snapshot.revision(),
            ..FlowRecord::new(ends.client, ends.destination)
        };
        self.record(hot, Box::new(record));
    }
}
