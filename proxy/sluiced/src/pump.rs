//! One connection as one future: moves bytes between two sockets and the session that judges them.
//!
//! ```text
//!   Waiting ──snapshot──► Live ──Reset──► Aborted ──nothing left for the client, or time──► gone
//!      └──too late──► gone  └──over and everything sent──► gone
//! ```
//!
//! It reads into the worker's buffer, shows the bytes to the session, and carries out its steps in order; forwarded bytes are
//! written from where they were read. Only what a peer does not take, and what the session has not consumed, is kept here.
//!
//! INVARIANT: a side is not read while bytes wait for the other one: memory is bounded by one buffer a direction.
//! INVARIANT: the registry entry is left, and the record made, also when the future is dropped.
//! INVARIANT: a panic ends this connection alone.

mod ending;
mod half;
mod steps;
mod timer;

use crate::connections::Key;
use crate::live::Place;
use crate::transport::Transport;
use crate::upstream;
use crate::worker::{Hot, Worker};
use half::{Broken, Finish, Half};
use policy_model::Snapshot;
use proxy_core::record::{ClientAddr, Now, OrigDst, Upstream};
use proxy_core::session::{Cx, Dialled, End, Ending};
use proxy_core::{Reason, Session, Side};
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use timer::Timer;

/// The future of one connection.
#[derive(Debug)]
pub(crate) struct Pump {
    worker: Rc<Worker>,
    key: Key,
    place: Place,
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
    phase: Phase,
    client: Option<Transport>,
    server: Server,
    from_client: Half,
    from_server: Half,
    timer: Timer,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
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

/// What one poll works with.
struct Env<'a, 'task> {
    worker: &'a Worker,
    key: Key,
    place: &'a Place,
    /// An end that may not be read is gone.
    hung_up: bool,
    hot: &'a mut Hot,
    snapshot: &'a Snapshot,
    now: Now,
    task: &'a mut Context<'task>,
}

/// What came of one look at everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    Again,
    Idle,
    Over,
}

/// Looks at everything before others get their turn.
const TURNS_MAX: usize = 16;
/// Bytes that wait for a peer while we go on reading from it: one buffer of forwarded ones, and answers of our own.
const QUEUE_BYTES_MAX: usize = 256 * 1024;
/// A connection that came ahead of its snapshot waits this long for it.
const SNAPSHOT_WAIT_NS_MAX: u64 = 1_000_000_000;
/// What was promised to a client before an abort may take this long to be taken.
const LAST_WORD_NS_MAX: u64 = 2_000_000_000;

impl Pump {
    /// Registers the connection; it is judged when it is polled first.
    pub(crate) fn new(worker: Rc<Worker>, client: Transport, ends: Ends, place: Place) -> Self {
        let key = worker.connections.borrow_mut().enter();
        let connection = Connection {
            ends: Some(Box::new(ends)),
            session: None,
            judged: 0,
            phase: Phase::Waiting,
            client: Some(client),
            server: Server::NotDialled,
            from_client: Half::default(),
            from_server: Half::default(),
            timer: Timer::default(),
        };
        Self { worker, key, place, connection }
    }
}

impl Future for Pump {
    type Output = ();

    fn poll(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        catch_unwind(AssertUnwindSafe(|| this.look(task))).unwrap_or_else(|_panic| {
            this.fail();
            Poll::Ready(())
        })
    }
}

impl Pump {
    fn look(&mut self, task: &mut Context<'_>) -> Poll<()> {
        let worker = &*self.worker;
        let hung_up = worker.connections.borrow_mut().waker(self.key, task.waker());
        self.place.waker(task.waker());
        let snapshot = worker.shared.snapshot.load();
        let mut env = Env {
            worker,
            key: self.key,
            place: &self.place,
            hung_up,
            hot: &mut worker.hot.borrow_mut(),
            snapshot: &snapshot,
            now: worker.shared.clock.now(),
            task,
        };
        if self.place.is_reclaimed() {
            worker.counters.events.connection_reclaimed.add(1);
            self.connection.end(worker, env.hot, Ending::Reclaimed);
            return Poll::Ready(());
        }
        let judged = self.connection.judged;
        let poll = self.connection.poll(&mut env);
        if judged != self.connection.judged {
            worker.connections.borrow_mut().judged(self.key, self.connection.judged);
            worker.report();
        }
        poll
    }
}

impl Hot {
    fn cx<'a>(&'a mut self, snapshot: &'a Snapshot, now: Now) -> Cx<'a> {
        Cx { now, snapshot, limits: &self.limits, steps: &mut self.steps, scratch: &mut self.scratch }
    }
}

impl Connection {
    fn poll(&mut self, env: &mut Env<'_, '_>) -> Poll<()> {
        (self.from_client.parked, self.from_server.parked) = (false, false);
        for _ in 0..TURNS_MAX {
            let turn = match self.phase {
                Phase::Waiting => self.open(env),
                Phase::Live => self.live(env),
                Phase::Aborted => self.abort(env),
            };
            match turn {
                Turn::Again => {}
                Turn::Idle => return Poll::Pending,
                Turn::Over => return Poll::Ready(()),
            }
        }
        env.task.waker().wake_by_ref();
        Poll::Pending
    }

    /// Judges the connection for the first time, under a snapshot that is not older than what the kernel was told.
    fn open(&mut self, env: &mut Env<'_, '_>) -> Turn {
        if env.worker.shared.announced() > env.snapshot.revision() {
            return self.wait_for_snapshot(env);
        }
        let Some(ends) = &self.ends else { return Turn::Over };
        self.timer.set_own(u64::MAX);
        self.phase = Phase::Live;
        self.judged = env.snapshot.revision();
        self.session = Some(Session::open(ends.client, ends.destination, &mut env.cx()));
        self.carry_out(env, &[]);
        Turn::Again
    }

    fn wait_for_snapshot(&mut self, env: &mut Env<'_, '_>) -> Turn {
        let events = &env.worker.counters.events;
        if self.timer.own() == u64::MAX {
            events.snapshot_waited.add(1);
            self.timer.set_own(env.now.mono_ns.saturating_add(SNAPSHOT_WAIT_NS_MAX));
        }
        let gone = |client: &Transport| client.is_gone();
        let reason = if env.hung_up && self.client.as_ref().is_some_and(gone) {
            Reason::ClientReset
        } else if self.timer.own_is_due(env) {
            events.snapshot_late.add(1);
            Reason::SnapshotLate
        } else {
            self.watch(env, Side::Client);
            return Turn::Idle;
        };
        if let Some(ends) = &self.ends {
            env.worker.refuse(env.hot, ends, reason, env.snapshot, env.now);
        }
        self.reset();
        Turn::Over
    }

    fn live(&mut self, env: &mut Env<'_, '_>) -> Turn {
        let mut busy = self.rejudge(env);
        busy |= self.wake(env);
        busy |= self.dialled(env);
        busy |= self.flush(env, Side::Client);
        busy |= self.flush(env, Side::Server);
        for side in [Side::Client, Side::Server] {
            if self.phase == Phase::Live {
                busy |= self.show_again(env, side);
                busy |= self.read(env, side);
            }
        }
        if self.phase != Phase::Live || busy {
            return Turn::Again;
        }
        if self.may_close(env) {
            return Turn::Over;
        }
        match self.look_at_unread(env) {
            true => Turn::Again,
            false => Turn::Idle,
        }
    }

    /// That a peer is gone is told by reading. Whoever is not read is watched: the first to be left alone would else hold both
    /// sockets for nobody. Returns whether one is gone.
    fn look_at_unread(&mut self, env: &mut Env<'_, '_>) -> bool {
        let mut found = false;
        for side in [Side::Client, Side::Server] {
            if self.phase != Phase::Live || !self.is_unread(side) {
                continue;
            }
            self.watch(env, side);
            let gone = |transport: &mut Transport| transport.is_gone();
            if env.hung_up && transport(&mut self.client, &mut self.server, side).is_some_and(gone) {
                self.ended(env, side, End::Reset);
                found = true;
            }
        }
        found
    }

    /// If the side is gone, or once it is, the task is woken.
    fn watch(&mut self, env: &Env<'_, '_>, side: Side) {
        if self.half(side).watched {
            return;
        }
        if let Some(transport) = transport(&mut self.client, &mut self.server, side) {
            // Without memory for that, what is left is to find out by writing.
            let watched = env.worker.hangups.watch(transport, env.key).is_ok();
            self.half_mut(side).watched = watched;
        }
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
    fn may_close(&self, env: &Env<'_, '_>) -> bool {
        let Some(session) = &self.session else { return true };
        let finished = session.is_over() || (env.worker.shared.is_draining() && session.is_at_rest());
        finished && !self.has_queued()
    }

    fn rejudge(&mut self, env: &mut Env<'_, '_>) -> bool {
        let newer = env.snapshot.revision() > self.judged;
        if newer {
            self.judged = env.snapshot.revision();
            self.tell(env, |session, cx| session.on_snapshot(cx));
        }
        newer
    }

    fn wake(&mut self, env: &mut Env<'_, '_>) -> bool {
        let due = self.timer.session_is_due(env);
        if due {
            self.tell(env, Session::on_timer);
        }
        due
    }

    /// Whether the dial ended, one way or the other.
    fn dialled(&mut self, env: &mut Env<'_, '_>) -> bool {
        let result = match &self.server {
            Server::Dialling(transport) => match transport.poll_connected(env.task) {
                Poll::Pending => return false,
                Poll::Ready(Ok(())) => Dialled::Connected,
                Poll::Ready(Err(error)) => upstream::failure(&error),
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
    fn tell(&mut self, env: &mut Env<'_, '_>, what: impl FnOnce(&mut Session, &mut Cx<'_>)) {
        if let Some(session) = &mut self.session {
            what(session, &mut env.cx());
        }
        self.carry_out(env, &[]);
    }

    /// Shows kept bytes once the session wants them.
    fn show_again(&mut self, env: &mut Env<'_, '_>, side: Side) -> bool {
        if !self.half(side).blocked || !self.may_take(side) {
            return false;
        }
        let kept = self.half_mut(side).take_kept();
        self.feed(env, side, kept);
        true
    }

    fn read(&mut self, env: &mut Env<'_, '_>, side: Side) -> bool {
        let half = self.half(side);
        if half.ended || half.parked || !self.may_take(side) {
            return false;
        }
        if let Some(busy) = self.splice(env, side) {
            self.half_mut(side).parked = !busy;
            return busy;
        }
        let Some(transport) = transport(&mut self.client, &mut self.server, side) else { return false };
        let read = match transport.poll_read(env.task, &mut env.hot.buffer) {
            Poll::Pending => {
                self.half_mut(side).parked = true;
                return false;
            }
            Poll::Ready(read) => read,
        };
        match read {
            // The reset was told to a write, and is told only once.
            Ok(0) if self.half(side.other()).broken == Broken::ByReset => self.ended(env, side, End::Reset),
            Ok(0) => self.ended(env, side, End::Fin),
            Ok(n) => {
                env.place.used(env.now.mono_ns);
                self.took(env, side, n);
            }
            Err(_reset) => self.ended(env, side, End::Reset),
        }
        true
    }

    /// `n` bytes are in the worker's buffer.
    fn took(&mut self, env: &mut Env<'_, '_>, side: Side, n: usize) {
        let buffer = std::mem::take(&mut env.hot.buffer);
        let new = buffer.get(..n).unwrap_or_default();
        let mut kept = self.half_mut(side).take_kept();
        if kept.is_empty() {
            let consumed = self.show(env, side, new);
            self.half_mut(side).keep(new.get(consumed..).unwrap_or_default());
            env.hot.buffer = buffer;
        } else {
            kept.extend_from_slice(new);
            env.hot.buffer = buffer;
            self.feed(env, side, kept);
        }
    }

    /// Shows bytes that are ours, and keeps the rest of them.
    fn feed(&mut self, env: &mut Env<'_, '_>, side: Side, mut bytes: Vec<u8>) {
        let consumed = self.show(env, side, &bytes);
        if consumed == bytes.len() {
            bytes = Vec::new();
        } else {
            drop(bytes.drain(..consumed));
        }
        self.half_mut(side).put_back_kept(bytes);
    }

    /// Shows bytes to the session, or moves them past it where it asked for that. Returns how many are done with.
    fn show(&mut self, env: &mut Env<'_, '_>, side: Side, bytes: &[u8]) -> usize {
        let mut done = 0;
        self.half_mut(side).blocked = false;
        loop {
            done += self.pass_unseen(env, side, bytes.get(done..).unwrap_or_default());
            let rest = bytes.get(done..).unwrap_or_default();
            if rest.is_empty() || self.phase != Phase::Live {
                return done;
            }
            if !self.wants(side) {
                self.half_mut(side).blocked = true;
                return done;
            }
            let Some(session) = &mut self.session else { return done };
            let consumed = session.on_bytes(side, rest, &mut env.cx());
            self.carry_out(env, rest);
            done += consumed;
            if self.half(side).unseen() == 0 {
                self.half_mut(side).blocked = done < bytes.len() && !self.wants(side);
                return done;
            }
        }
    }

    fn wants(&self, side: Side) -> bool {
        self.session.as_ref().is_some_and(|session| session.wants(side))
    }

    fn ended(&mut self, env: &mut Env<'_, '_>, side: Side, end: End) {
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
    fn abort(&mut self, env: &mut Env<'_, '_>) -> Turn {
        self.reset_server();
        if self.timer.own() == u64::MAX {
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

impl Env<'_, '_> {
    fn cx(&mut self) -> Cx<'_> {
        self.hot.cx(self.snapshot, self.now)
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
