//! One connection as a state machine: moves bytes between two sockets and the session that judges them.
//!
//! ```text
//!   Waiting ──snapshot──► Live ──Reset──► Aborted ──nothing left for the client, or time──► gone
//!      └──too late──► gone  └──over and everything sent──► gone
//! ```
//!
//! It reads into the worker's buffer, shows the bytes to the session, and carries out its steps in order. What they send to one side
//! is gathered and written with one call, forwarded bytes from where they were read. Only what a peer does not take, and what the
//! session has not consumed, is kept here. A turn ends when nothing is left to do, or when it has cost as much as one may.
//!
//! INVARIANT: a side is not read while bytes wait for the other one: memory is bounded by one buffer a direction.
//! INVARIANT: a client that takes no answers gets no more of them made: its requests wait.
//! INVARIANT: a connection that is over has left everything that its worker keeps of it, and has its record.
//! INVARIANT: a panic ends this connection alone.

mod ending;
mod half;
mod steps;
mod timer;

use crate::connections::Key;
use crate::live::Place;
use crate::timers::NEVER;
use crate::transport::Transport;
use crate::turns::Seat;
use crate::upstream;
use crate::worker::{Hot, Worker};
use half::{Broken, Finish, Half};
use mio::event::Event;
use policy_model::Snapshot;
use proxy_core::record::{ClientAddr, Now, OrigDst, Upstream};
use proxy_core::session::{Cx, Dialled, End, Ending};
use proxy_core::{Reason, Session, Side};
use std::panic::{AssertUnwindSafe, catch_unwind};
use timer::Timer;

/// One connection.
#[derive(Debug)]
pub(crate) struct Pump {
    key: Key,
    place: Place,
    pub(crate) seat: Seat,
    /// Bytes that the worker's budget counts for it.
    held_bytes: usize,
    connection: Connection,
}

/// Who is connected to what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ends {
    pub(crate) client: ClientAddr,
    pub(crate) destination: OrigDst,
    pub(crate) upstream: Upstream,
}

#[derive(Debug)]
struct Connection {
    /// `None` once the server is dialled: nobody asks any more.
    ends: Option<Box<Ends>>,
    /// `None` until it is judged for the first time.
    session: Option<Session>,
    judged: u64,
    phase: ConnectionState,
    client: Option<Transport>,
    server: Server,
    from_client: Half,
    from_server: Half,
    timer: Timer,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ConnectionState {
    Waiting,
    Live,
    /// The session asked for an abort; what was queued for the client behind a `Finish` is still sent.
    Aborted,
}

#[derive(Debug)]
enum Server {
    Closed,
    Dialling(Transport),
    /// The session has not been told yet.
    Failed(Dialled),
    NotDialled,
    Open(Transport),
}

/// What one turn works with.
struct Env<'a> {
    worker: &'a mut Worker,
    key: Key,
    place: &'a Place,
    /// The small number that stands for the opener.
    opener: usize,
    snapshot: &'a Snapshot,
    now: Now,
    /// What the turn has cost so far.
    cost: usize,
}

/// What came of one turn, or of one look at everything in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    Again,
    Idle,
    Over,
}

/// What the session was shown of what there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    /// It waits for more bytes.
    All,
    Part,
}

/// A turn ends at the next opportunity once it has cost so much. A step costs 1, a read 1 and as much as its bytes.
const TURN_COST_MAX: usize = 64;
/// Bytes that cost as much as a step.
const BYTES_A_COST: usize = 2048;
/// A client's bytes are shown in pieces: so many of the shortest requests in one fit into a turn.
const PIECE_BYTES: usize = 2048;
/// What is read at once from an opener whose connections hold much.
const SCARCE_READ_BYTES: usize = 4096;
/// With so many bytes of answers of our own waiting for the client no more are made.
const ANSWER_BYTES_MAX: usize = 32 * 1024;
/// Bytes that wait for a peer while we go on reading from it: one buffer of forwarded ones, and answers of our own.
const QUEUE_BYTES_MAX: usize = 256 * 1024;
/// A connection that came ahead of its snapshot waits this long for it.
const SNAPSHOT_WAIT_NS_MAX: u64 = 1_000_000_000;
/// What was promised to a client before an abort may take this long to be taken.
const LAST_WORD_NS_MAX: u64 = 2_000_000_000;

impl Pump {
    /// Registers the connection; it is judged in its first turn.
    pub(crate) fn new(
        worker: &mut Worker,
        key: Key,
        seat: Seat,
        client: Transport,
        ends: Ends,
        place: Place,
    ) -> Self {
        worker.revisions.enter();
        let connection = Connection {
            ends: Some(Box::new(ends)),
            session: None,
            judged: 0,
            phase: ConnectionState::Waiting,
            client: Some(client),
            server: Server::NotDialled,
            from_client: Half::default(),
            from_server: Half::default(),
            timer: Timer::default(),
        };
        Self { key, place, seat, held_bytes: 0, connection }
    }

    /// The kernel told something of an end.
    pub(crate) fn note(&mut self, side: Side, event: &Event) {
        match (side, &mut self.connection.client, &mut self.connection.server) {
            (Side::Client, Some(client), _) => client.note(event),
            (Side::Server, _, Server::Open(server) | Server::Dialling(server)) => server.note(event),
            (Side::Client, None, _)
            | (Side::Server, _, Server::Closed | Server::Failed(_) | Server::NotDialled) => {}
        }
    }

    /// The deadline that was set has passed.
    pub(crate) fn timer_fired(&mut self) {
        self.connection.timer.fired();
    }

    pub(crate) fn judged(&self) -> u64 {
        self.connection.judged
    }

    /// Does what there is to do, for as long as others may wait for it. Answers also what that has cost.
    pub(crate) fn turn(&mut self, worker: &mut Worker) -> (Turn, usize) {
        catch_unwind(AssertUnwindSafe(|| self.look(worker))).unwrap_or_else(|_panic| {
            self.fail(worker);
            (Turn::Over, TURN_COST_MAX)
        })
    }

    fn look(&mut self, worker: &mut Worker) -> (Turn, usize) {
        if self.place.is_reclaimed() {
            worker.counters.events.connection_reclaimed.add(1);
            self.connection.end(worker, Ending::Reclaimed);
            return (Turn::Over, 1);
        }
        let snapshot = worker.shared.snapshot.load();
        let (judged, now) = (self.connection.judged, worker.shared.clock.now());
        let (key, place, opener) = (self.key, &self.place, self.seat.opener());
        let mut env = Env { worker, key, place, opener, snapshot: &snapshot, now, cost: 0 };
        let turn = self.connection.turn(&mut env);
        let cost = env.cost + 1;
        if judged != self.connection.judged {
            worker.revisions.judged(judged, self.connection.judged);
            worker.report();
        }
        if turn != Turn::Over && !self.fits(worker) {
            self.connection.end(worker, Ending::MemoryLimit);
            return (Turn::Over, cost);
        }
        (turn, cost)
    }

    /// Whether there is room for what the connection holds now.
    fn fits(&mut self, worker: &mut Worker) -> bool {
        let holds = self.connection.from_client.held_bytes() + self.connection.from_server.held_bytes();
        let before = std::mem::replace(&mut self.held_bytes, holds);
        if before == holds {
            return true;
        }
        let fits = worker.budget.change(self.seat.opener(), before, holds).is_ok();
        if !fits {
            worker.counters.events.memory_limit.add(1);
            self.held_bytes = 0;
        }
        fits
    }
}

impl Hot {
    fn cx<'a>(&'a mut self, snapshot: &'a Snapshot, now: Now) -> Cx<'a> {
        Cx { now, snapshot, limits: &self.limits, steps: &mut self.steps, scratch: &mut self.scratch }
    }
}

impl Connection {
    fn turn(&mut self, env: &mut Env<'_>) -> Turn {
        while env.cost < TURN_COST_MAX {
            let turn = match self.phase {
                ConnectionState::Waiting => self.open(env),
                ConnectionState::Live => self.live(env),
                ConnectionState::Aborted => self.abort(env),
            };
            if turn != Turn::Again {
                return turn;
            }
            env.cost += 1;
        }
        Turn::Again
    }

    /// Judges the connection for the first time, under a snapshot that is not older than what the kernel was told.
    fn open(&mut self, env: &mut Env<'_>) -> Turn {
        if env.worker.shared.announced() > env.snapshot.revision() {
            return self.wait_for_snapshot(env);
        }
        let Some(ends) = &self.ends else { return Turn::Over };
        self.timer.set_own(NEVER);
        self.phase = ConnectionState::Live;
        self.judged = env.snapshot.revision();
        self.session = Some(Session::open(ends.client, ends.destination, &mut env.cx()));
        self.carry_out(env, 0);
        self.write_out(env, &[]);
        Turn::Again
    }

    fn wait_for_snapshot(&mut self, env: &mut Env<'_>) -> Turn {
        if self.timer.own() == NEVER {
            env.worker.counters.events.snapshot_waited.add(1);
            self.timer.set_own(env.now.mono_ns.saturating_add(SNAPSHOT_WAIT_NS_MAX));
        }
        let reason = if self.client.as_mut().is_some_and(Transport::is_gone) {
            Reason::ClientReset
        } else if self.timer.own_is_due(env) {
            env.worker.counters.events.snapshot_late.add(1);
            Reason::SnapshotLate
        } else {
            return Turn::Idle;
        };
        if let Some(ends) = &self.ends {
            env.worker.refuse(ends, reason, env.snapshot, env.now);
        }
        self.reset();
        Turn::Over
    }

    fn live(&mut self, env: &mut Env<'_>) -> Turn {
        let mut busy = self.rejudge(env);
        busy |= self.wake(env);
        busy |= self.dialled(env);
        busy |= self.flush(env, Side::Client);
        busy |= self.flush(env, Side::Server);
        for side in [Side::Client, Side::Server] {
            if self.phase == ConnectionState::Live {
                busy |= self.show_again(env, side);
                busy |= self.read(env, side);
            }
        }
        // Hardly ever is there more to do behind a message that was moved on.
        if self.phase != ConnectionState::Live || (busy && self.has_more_to_do()) {
            return Turn::Again;
        }
        if !self.from_client.paused {
            self.timer.arm(env);
        }
        if self.may_close(env) {
            return Turn::Over;
        }
        match self.look_at_unread(env) {
            true => Turn::Again,
            false => Turn::Idle,
        }
    }

    /// Whether another look might find something, now that one has.
    fn has_more_to_do(&self) -> bool {
        let of_a_half = |half: &Half| half.needs_flush() || half.blocked || half.paused;
        let of_a_transport = |transport: &Transport| transport.is_readable();
        let of_the_server = match &self.server {
            Server::Open(transport) => of_a_transport(transport),
            Server::Dialling(_) | Server::Failed(_) => true,
            Server::Closed | Server::NotDialled => false,
        };
        of_the_server
            || of_a_half(&self.from_client)
            || of_a_half(&self.from_server)
            || self.client.as_ref().is_some_and(of_a_transport)
    }

    /// That a peer is gone is told by reading. Whoever is not read is looked at once the kernel has told of an error: the first to
    /// be left alone would else hold both sockets for nobody. Returns whether one is gone.
    fn look_at_unread(&mut self, env: &mut Env<'_>) -> bool {
        let mut found = false;
        for side in [Side::Client, Side::Server] {
            if self.phase == ConnectionState::Live
                && self.is_unread(side)
                && transport(&mut self.client, &mut self.server, side).is_some_and(Transport::is_gone)
            {
                self.ended(env, side, End::Reset);
                found = true;
            }
        }
        found
    }

    /// What a server sent before its FIN is whole whatever becomes of it; a client that has sent its FIN still wants its answer.
    fn is_unread(&self, side: Side) -> bool {
        match side {
            Side::Client => self.half(side).ended || !self.may_take(side),
            Side::Server => {
                matches!(self.server, Server::Open(_)) && !self.half(side).ended && !self.may_take(side)
            }
        }
    }

    /// Nothing is left to do, or nothing that a drain waits for.
    fn may_close(&self, env: &Env<'_>) -> bool {
        let Some(session) = &self.session else { return true };
        let finished = session.is_over() || (env.worker.shared.is_draining() && session.is_at_rest());
        finished && !self.has_queued()
    }

    fn rejudge(&mut self, env: &mut Env<'_>) -> bool {
        let newer = env.snapshot.revision() > self.judged;
        if newer {
            self.judged = env.snapshot.revision();
            self.tell(env, |session, cx| session.on_snapshot(cx));
        }
        newer
    }

    fn wake(&mut self, env: &mut Env<'_>) -> bool {
        // What is late may be among what waits here, through no fault of the client's.
        let due = !self.from_client.paused && self.timer.session_is_due(env);
        if due {
            self.tell(env, Session::on_timer);
        }
        due
    }

    /// Whether the dial ended, one way or the other.
    fn dialled(&mut self, env: &mut Env<'_>) -> bool {
        let result = match &self.server {
            Server::Dialling(transport) => match transport.connected() {
                None => return false,
                Some(Ok(())) => Dialled::Connected,
                Some(Err(error)) => upstream::failure(&error),
            },
            Server::Failed(result) => *result,
            Server::Closed | Server::NotDialled | Server::Open(_) => return false,
        };
        self.server = match (std::mem::replace(&mut self.server, Server::Closed), result) {
            (Server::Dialling(transport), Dialled::Connected) => Server::Open(transport),
            _failed => Server::Closed,
        };
        self.tell(env, |session, cx| session.on_dialled(result, cx));
        true
    }

    /// Calls the session without bytes.
    fn tell(&mut self, env: &mut Env<'_>, what: impl FnOnce(&mut Session, &mut Cx<'_>)) {
        if let Some(session) = &mut self.session {
            what(session, &mut env.cx());
        }
        self.carry_out(env, 0);
        self.write_out(env, &[]);
    }

    /// Shows kept bytes once the session wants them.
    fn show_again(&mut self, env: &mut Env<'_>, side: Side) -> bool {
        let half = self.half(side);
        if !(half.blocked || half.paused) || !self.may_take(side) || self.is_to_wait(env, side) {
            return false;
        }
        let kept = self.half_mut(side).take_kept();
        self.feed(env, side, kept);
        true
    }

    fn read(&mut self, env: &mut Env<'_>, side: Side) -> bool {
        let half = self.half(side);
        if half.ended || half.paused || !self.may_take(side) {
            return false;
        }
        if let Some(busy) = self.splice(env, side) {
            return busy;
        }
        let Some(transport) = transport(&mut self.client, &mut self.server, side) else { return false };
        let room = if env.worker.budget.is_ample(env.opener) { usize::MAX } else { SCARCE_READ_BYTES };
        let buffer = &mut env.worker.hot.buffer;
        let room = room.min(buffer.len());
        let Some(read) = buffer.get_mut(..room).and_then(|into| transport.read(into)) else { return false };
        match read {
            // The reset was told to a write, and is told only once.
            Ok(0) if self.half(side.other()).broken == Broken::ByReset => self.ended(env, side, End::Reset),
            Ok(0) => self.ended(env, side, End::Fin),
            Ok(n) => {
                env.cost += 1 + n / BYTES_A_COST;
                env.place.used(env.now.mono_ns);
                self.took(env, side, n);
            }
            Err(_reset) => self.ended(env, side, End::Reset),
        }
        true
    }

    /// `n` bytes are in the worker's buffer.
    fn took(&mut self, env: &mut Env<'_>, side: Side, n: usize) {
        let buffer = std::mem::take(&mut env.worker.hot.buffer);
        let new = buffer.get(..n).unwrap_or_default();
        let mut kept = self.half_mut(side).take_kept();
        if kept.is_empty() {
            let consumed = self.show(env, side, new);
            self.half_mut(side).keep(new.get(consumed..).unwrap_or_default());
            env.worker.hot.buffer = buffer;
        } else {
            kept.reserve_exact(new.len());
            kept.extend_from_slice(new);
            env.worker.hot.buffer = buffer;
            self.feed(env, side, kept);
        }
    }

    /// Shows bytes that are ours, and keeps the rest of them.
    fn feed(&mut self, env: &mut Env<'_>, side: Side, mut bytes: Vec<u8>) {
        let consumed = self.show(env, side, &bytes);
        if consumed == bytes.len() {
            bytes = Vec::new();
        } else {
            drop(bytes.drain(..consumed));
        }
        self.half_mut(side).put_back_kept(bytes);
    }

    /// Shows bytes to the session, or moves them past it where it asked for that, and writes what came of it. Returns how many are
    /// done with.
    fn show(&mut self, env: &mut Env<'_>, side: Side, bytes: &[u8]) -> usize {
        let (mut done, mut shown, mut seen) = (0, 0, Seen::Part);
        (self.half_mut(side).blocked, self.half_mut(side).paused) = (false, false);
        loop {
            done = self.pass_unseen(env, side, done, bytes);
            if done == bytes.len() || self.phase != ConnectionState::Live {
                break;
            }
            if !self.wants(side) {
                self.half_mut(side).blocked = true;
                break;
            }
            if seen == Seen::All {
                break;
            }
            if shown > 0 && self.is_to_wait(env, side) {
                self.half_mut(side).paused = true;
                break;
            }
            shown = match side {
                Side::Client => bytes.len().min(shown.max(done) + PIECE_BYTES),
                Side::Server => bytes.len(),
            };
            let Some(session) = &mut self.session else { break };
            let Some(piece) = bytes.get(done..shown) else { break };
            let consumed = session.on_bytes(side, piece, &mut env.worker.hot.cx(env.snapshot, env.now));
            self.carry_out(env, done);
            done += consumed;
            if shown == bytes.len() && self.half(side).unseen() == 0 {
                seen = Seen::All;
            }
        }
        self.write_out(env, bytes);
        done
    }

    /// Whether bytes of this side are not to be shown in this turn any more, or not before the client takes what it was answered.
    fn is_to_wait(&self, env: &Env<'_>, side: Side) -> bool {
        let answers = env.worker.hot.to_client.own_bytes;
        side == Side::Client && (env.cost >= TURN_COST_MAX || self.has_answers_enough(answers))
    }

    /// Whether so many bytes of new answers are too many beside those that wait.
    fn has_answers_enough(&self, new: usize) -> bool {
        let waiting = if self.from_server.own { self.from_server.queued() } else { 0 };
        waiting + new > ANSWER_BYTES_MAX
    }

    fn wants(&self, side: Side) -> bool {
        self.session.as_ref().is_some_and(|session| session.wants(side))
    }

    fn ended(&mut self, env: &mut Env<'_>, side: Side, end: End) {
        self.half_mut(side).ended = true;
        self.tell(env, |session, cx| session.on_end(side, end, cx));
    }

    /// Whether the session would take bytes of this side, and there is room for what it makes of them.
    fn may_take(&self, side: Side) -> bool {
        let wanted = self.half(side).unseen() > 0 || self.wants(side);
        // The other direction may wait: a peer that only sends must not be held up by what it does not read,
        // unless that is our own answers, which would pile up.
        wanted && self.half(side).is_drained() && self.half(side.other()).queued() <= QUEUE_BYTES_MAX
    }

    fn has_queued(&self) -> bool {
        !self.from_client.is_drained() || !self.from_server.is_drained()
    }

    /// After a `Reset`: the server is cut at once, the client too unless a last word was promised to it.
    fn abort(&mut self, env: &mut Env<'_>) -> Turn {
        self.reset_server();
        if self.timer.own() == NEVER {
            self.timer.set_own(env.now.mono_ns.saturating_add(LAST_WORD_NS_MAX));
        }
        if self.from_server.finish != Finish::Not {
            let _busy = self.send_queued(env, Side::Client);
            if !self.from_server.is_drained() && !self.timer.own_is_due(env) {
                return Turn::Idle;
            }
        }
        if self.from_server.finish != Finish::Done {
            self.reset();
        }
        Turn::Over
    }
}

impl Env<'_> {
    fn cx(&mut self) -> Cx<'_> {
        self.worker.hot.cx(self.snapshot, self.now)
    }
}

/// The socket of a side, where it is open.
fn transport<'a>(
    client: &'a mut Option<Transport>,
    server: &'a mut Server,
    side: Side,
) -> Option<&'a mut Transport> {
    match side {
        Side::Client => client.as_mut(),
        Side::Server => match server {
            Server::Open(transport) => Some(transport),
            Server::Closed | Server::Dialling(_) | Server::Failed(_) | Server::NotDialled => None,
        },
    }
}

#[cfg(test)]
mod tests;
