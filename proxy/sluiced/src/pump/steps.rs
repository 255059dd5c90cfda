//! Carries out what the session asked for.

use super::half::{Broken, Finish};
use super::{BYTES_A_COST, Connection, ConnectionState, Ends, Env, Server, transport};
use crate::transport::Transport;
use crate::upstream;
use crate::worker::{self, Outgoing, Piece, Worker};
use policy_model::Snapshot;
use proxy_core::record::{FlowRecord, Now, Outcome};
use proxy_core::session::End;
use proxy_core::{Reason, Session, Side, Step};
use std::io::{self, IoSlice};
use std::sync::Arc;

/// From so many unseen bytes on, they are moved in the kernel: below, setting that up costs more than copying.
const SPLICE_BYTES_MIN: u64 = 128 * 1024;

impl Connection {
    /// In order, and all of them. What they send is gathered until [`Self::write_out`]; `at` is where the bytes that the session was
    /// shown begin in what that is given.
    pub(super) fn carry_out(&mut self, env: &mut Env<'_>, at: usize) {
        let mut steps = std::mem::take(&mut env.worker.hot.steps);
        env.cost += steps.len();
        for step in steps.drain(..) {
            if self.phase == ConnectionState::Aborted && !matches!(step, Step::Record(_)) {
                continue;
            }
            match step {
                Step::Dial => self.dial(env),
                Step::Finish { to } => {
                    let half = self.half_mut(to.other());
                    if half.finish == Finish::Not {
                        half.finish = Finish::Wanted;
                    }
                }
                Step::Forward { to, range } => {
                    env.worker.hot.outgoing(to).input(at + range.start..at + range.end);
                }
                Step::Record(record) => env.worker.record(record),
                Step::Reset => {
                    self.phase = ConnectionState::Aborted;
                    self.timer.clear();
                }
                Step::Send { to, bytes } => env.worker.hot.outgoing(to).own(bytes),
                Step::Splice { from, bytes } => self.half_mut(from).splice += bytes,
                Step::Swallow { from, bytes } => self.half_mut(from).swallow += bytes,
                Step::WakeAt(at) => self.timer.set_session(at),
            }
        }
        env.worker.hot.steps = steps;
    }

    fn dial(&mut self, env: &mut Env<'_>) {
        // Known until here: there is one dial in a connection.
        let Some(ends) = self.ends.take() else { return };
        let token = worker::token(env.key, Side::Server);
        let dialled =
            upstream::dial(ends.client, ends.upstream, env.worker.shared.source).and_then(|mut dial| {
                let registered = dial.transport.register(&env.worker.registry, token);
                registered.map(|()| dial).map_err(|error| upstream::failure(&error))
            });
        self.server = match dialled {
            Ok(dial) => {
                env.worker.counters.events.source_replaced.add(u64::from(dial.address_replaced));
                Server::Dialling(dial.transport)
            }
            Err(result) => Server::Failed(result),
        };
    }

    /// Writes what was gathered for both sides, and queues what they do not take; `input` is what the session was shown.
    pub(super) fn write_out(&mut self, env: &mut Env<'_>, input: &[u8]) {
        for to in [Side::Server, Side::Client] {
            if !env.worker.hot.outgoing(to).pieces.is_empty() {
                let mut outgoing = std::mem::take(env.worker.hot.outgoing(to));
                self.write(env, to, &outgoing, input);
                outgoing.clear();
                *env.worker.hot.outgoing(to) = outgoing;
            }
            if self.half(to.other()).finish == Finish::Wanted {
                let _busy = self.send_queued(env, to);
            }
        }
    }

    /// Sends what the peer takes now, and queues the rest.
    fn write(&mut self, env: &mut Env<'_>, to: Side, outgoing: &Outgoing, input: &[u8]) {
        let half = match to {
            Side::Client => &mut self.from_server,
            Side::Server => &mut self.from_client,
        };
        if half.broken != Broken::No || half.finish == Finish::Done {
            return;
        }
        let (mut pieces, mut sent) = (outgoing.pieces.as_slice(), 0);
        if half.is_drained()
            && let Some(transport) = transport(&mut self.client, &mut self.server, to)
        {
            while !pieces.is_empty() {
                match write_some(transport, pieces, sent, input) {
                    Some(Ok(n)) => (pieces, sent) = advance(pieces, sent + n, input),
                    Some(Err(error)) => {
                        half.broken = error.into();
                        return;
                    }
                    None => break,
                }
            }
        }
        for piece in pieces {
            let rest = piece.bytes(input).get(sent..).unwrap_or_default();
            half.push(rest, || env.worker.hot.queue());
            half.own |= matches!(piece, Piece::Own(_));
            sent = 0;
        }
    }

    /// Sends what is queued for this side, then its FIN, and tells the session where the side is dead.
    /// Returns whether anything happened.
    pub(super) fn flush(&mut self, env: &mut Env<'_>, to: Side) -> bool {
        if !self.half(to.other()).needs_flush() {
            return false;
        }
        let sent = self.send_queued(env, to);
        sent | self.notice_broken(env, to)
    }

    pub(super) fn send_queued(&mut self, env: &mut Env<'_>, to: Side) -> bool {
        let (half, other) = match to {
            Side::Client => (&mut self.from_server, &self.from_client),
            Side::Server => (&mut self.from_client, &self.from_server),
        };
        let closes = match self.phase {
            ConnectionState::Aborted => true,
            ConnectionState::Live | ConnectionState::Waiting => {
                other.is_drained() && self.session.as_ref().is_none_or(Session::is_over)
            }
        };
        let Some(transport) = transport(&mut self.client, &mut self.server, to) else { return false };
        let mut busy = false;
        if let Some(mut pipe) = half.take_pipe() {
            match transport.drain(&mut pipe) {
                None => {
                    half.put_pipe(pipe);
                    return false;
                }
                Some(Ok(())) => env.worker.hot.put_back_pipe(pipe),
                Some(Err(error)) => half.broken = error.into(),
            }
            busy = true;
        }
        while half.queued() > 0 {
            match transport.write(&[IoSlice::new(half.waiting())]) {
                None => return busy,
                Some(Ok(n)) => {
                    if let Some(memory) = half.sent(n) {
                        env.worker.hot.put_back(memory);
                    }
                }
                Some(Err(error)) => {
                    half.broken = error.into();
                    env.worker.hot.put_back(half.clear_queue());
                }
            }
            busy = true;
        }
        if busy {
            env.place.used(env.now.mono_ns);
        }
        if half.finish == Finish::Wanted {
            half.finish = Finish::Done;
            // Closing follows in this turn or the next one, and sends it as well.
            if !(closes && transport.closes_by_fin())
                && let Err(error) = transport.finish()
            {
                half.broken = error.into();
            }
            busy = true;
        }
        busy
    }

    /// A peer that takes nothing any more is dead. Reading tells what it sent before; where it is not read, its end is told here.
    fn notice_broken(&mut self, env: &mut Env<'_>, to: Side) -> bool {
        let broken = self.half(to.other()).broken != Broken::No;
        let unread = match to {
            // It has sent its FIN and is gone since: nobody waits for what the server still says.
            Side::Client => self.half(to).ended || !self.wants(to),
            // Its FIN is known, and what it sent is whole.
            Side::Server => !self.half(to).ended && !self.wants(to),
        };
        let over = self.session.as_ref().is_none_or(Session::is_over);
        let dead = broken && unread && !over && self.phase == ConnectionState::Live;
        if dead {
            self.ended(env, to, End::Reset);
        }
        dead
    }

    /// Moves bytes that need not be seen from socket to socket. `None`: they have to be copied.
    pub(super) fn splice(&mut self, env: &mut Env<'_>, from: Side) -> Option<bool> {
        let half = match from {
            Side::Client => &mut self.from_client,
            Side::Server => &mut self.from_server,
        };
        if half.splice < SPLICE_BYTES_MIN || half.broken != Broken::No {
            return None;
        }
        let (Some(client), Server::Open(server)) = (&mut self.client, &mut self.server) else { return None };
        let (source, target) = match from {
            Side::Client => (client, server),
            Side::Server => (server, client),
        };
        if !source.is_readable() {
            return Some(false);
        }
        let Some(mut pipe) = env.worker.hot.pipe() else {
            env.worker.counters.events.pipe_limit.add(1);
            return None;
        };
        let max = usize::try_from(half.splice).unwrap_or(usize::MAX);
        let Some(moved) = source.fill(&mut pipe, max) else {
            env.worker.hot.put_back_pipe(pipe);
            return Some(false);
        };
        match target.drain(&mut pipe) {
            None => half.put_pipe(pipe),
            Some(Ok(())) => env.worker.hot.put_back_pipe(pipe),
            Some(Err(error)) => half.broken = error.into(),
        }
        match moved {
            Ok(0) => self.ended(env, from, End::Fin),
            Ok(n) => {
                env.cost += 1 + n / BYTES_A_COST;
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

    /// Moves or drops what the session need not see, from `at` on. Returns where what it has to see begins.
    pub(super) fn pass_unseen(&mut self, env: &mut Env<'_>, from: Side, at: usize, bytes: &[u8]) -> usize {
        let half = self.half_mut(from);
        let spliced = at + take(&mut half.splice, bytes.len() - at);
        let swallowed = spliced + take(&mut half.swallow, bytes.len() - spliced);
        if spliced > at {
            env.worker.hot.outgoing(from.other()).input(at..spliced);
            if let Some(session) = &mut self.session {
                session.moved(from, wide(spliced - at));
            }
        }
        swallowed
    }
}

/// As many of `n` as there are, up to `max`; `n` becomes what is missing.
fn take(n: &mut u64, max: usize) -> usize {
    let taken = usize::try_from(*n).unwrap_or(usize::MAX).min(max);
    *n -= wide(taken);
    taken
}

/// Pieces that one call writes.
const WRITTEN_MAX: usize = 64;
/// Where there are no more, less is prepared: most calls write one.
const WRITTEN_FEW: usize = 2;

/// Writes of the pieces what goes at once; `sent` bytes of the first one are sent already.
fn write_some(
    transport: &mut Transport,
    pieces: &[Piece],
    sent: usize,
    input: &[u8],
) -> Option<io::Result<usize>> {
    if pieces.len() <= WRITTEN_FEW {
        return gather::<WRITTEN_FEW>(transport, pieces, sent, input);
    }
    gather::<WRITTEN_MAX>(transport, pieces, sent, input)
}

fn gather<const MAX: usize>(
    transport: &mut Transport,
    pieces: &[Piece],
    sent: usize,
    input: &[u8],
) -> Option<io::Result<usize>> {
    let mut slices = [IoSlice::new(&[]); MAX];
    let mut skip = sent;
    for (slice, piece) in slices.iter_mut().zip(pieces) {
        *slice = IoSlice::new(piece.bytes(input).get(skip..).unwrap_or_default());
        skip = 0;
    }
    transport.write(slices.get(..pieces.len().min(MAX)).unwrap_or_default())
}

/// What is left once `sent` bytes are sent, counted from the start of the first piece.
fn advance<'a>(mut pieces: &'a [Piece], mut sent: usize, input: &[u8]) -> (&'a [Piece], usize) {
    while let Some((first, rest)) = pieces.split_first()
        && sent >= first.bytes(input).len()
    {
        sent -= first.bytes(input).len();
        pieces = rest;
    }
    (pieces, sent)
}

fn wide(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

/// Hands over the records among the steps; of the rest only whether the connection is to be aborted still matters.
pub(super) fn record_all(worker: &mut Worker) -> Farewell {
    let mut steps = std::mem::take(&mut worker.hot.steps);
    let mut farewell = Farewell::Close;
    for step in steps.drain(..) {
        match step {
            Step::Record(record) => worker.record(record),
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
    worker.hot.steps = steps;
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
    pub(crate) fn refuse(&mut self, ends: &Ends, reason: Reason, snapshot: &Snapshot, now: Now) {
        let party = |address| Some(Arc::clone(snapshot.directory().party_at(address)));
        let record = FlowRecord {
            unix_ns: now.unix_ns,
            source: party(ends.client.0.ip()),
            target: party(ends.destination.0.ip()),
            outcome: Outcome::Denied,
            reason: Some(reason),
            revision: snapshot.revision(),
            ..FlowRecord::new(ends.client, ends.destination)
        };
        self.record(Box::new(record));
    }
}
