//! One worker's thread: waits for the kernel and for the main thread, and gives connections their turns.
//!
//! ```text
//!        ┌──► wait: sockets, inbox, the next deadline ──► note who has something to do ──► accept some ──┐
//!        │                                                                                               ▼
//!        └──────────────────────── turns, until nobody waits or they have cost so much ◄─────────────────┘
//! ```
//!
//! INVARIANT: however much the connections of one opener have to do, the kernel is asked again after [`ROUND_COST_MAX`] at most, and
//! whoever has something to do then gets its turn after one turn of each other opener.

use crate::budget::Bounds;
use crate::connections::Key;
use crate::flows::Producer;
use crate::inbox::{Inbox, Lifecycle, Mail, Notice};
use crate::listener::{Listener, Target};
use crate::metrics::Counters;
use crate::pump::{Pump, Turn};
use crate::shared::Shared;
use crate::worker::{INBOX, Worker, end_of};
use mio::{Events, Poll, Token, Waker};
use slab::Slab;
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::watch;

/// Everything that a worker thread starts with.
#[derive(Debug)]
pub(crate) struct Setup {
    pub(crate) shared: Arc<Shared>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) producer: Producer,
    pub(crate) settled: watch::Sender<u64>,
    pub(crate) listeners: Vec<(TcpListener, Target)>,
    pub(crate) bounds: Bounds,
}

#[derive(Debug)]
pub(crate) struct EventLoop {
    poll: Poll,
    events: Events,
    worker: Worker,
    pumps: Slab<Pump>,
    /// Until accepting begins.
    waiting: Vec<(TcpListener, Target)>,
    listeners: Vec<Listener>,
    phase: Lifecycle,
}

/// Events that one wait takes.
const EVENTS_MAX: usize = 256;
/// What turns may cost in all before the kernel is asked again: those of some 64 requests.
const ROUND_COST_MAX: usize = 512;

/// Starts a worker's thread. It ends when [`Lifecycle::Ending`] is entered.
pub(crate) fn spawn(index: usize, setup: Setup) -> io::Result<JoinHandle<io::Result<()>>> {
    std::thread::Builder::new().name(format!("worker-{index}")).spawn(move || EventLoop::new(setup)?.run())
}

impl EventLoop {
    pub(crate) fn new(setup: Setup) -> io::Result<Self> {
        let Setup { shared, counters, producer, settled, listeners, bounds } = setup;
        let poll = Poll::new()?;
        let inbox = Arc::new(Inbox::new(Waker::new(poll.registry(), INBOX)?));
        shared.notices.subscribe(&inbox);
        let registry = poll.registry().try_clone()?;
        Ok(Self {
            poll,
            events: Events::with_capacity(EVENTS_MAX),
            worker: Worker::new(shared, counters, producer, settled, bounds, (registry, inbox)),
            pumps: Slab::new(),
            waiting: listeners,
            listeners: Vec::new(),
            phase: Lifecycle::Starting,
        })
    }

    fn run(mut self) -> io::Result<()> {
        while self.phase != Lifecycle::Ending {
            let timeout = self.timeout();
            self.round(timeout)?;
        }
        self.end();
        Ok(())
    }

    /// Waits, and gives turns to who has something to do.
    fn round(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        match self.poll.poll(&mut self.events, timeout) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            Ok(()) | Err(_) => {}
        }
        self.note();
        let mail = self.worker.inbox.take();
        self.hear(mail)?;
        let now_ns = self.worker.shared.clock.mono_ns();
        self.fire(now_ns);
        self.accept(now_ns);
        let mut left = ROUND_COST_MAX;
        while left > 0
            && let Some(key) = self.worker.turns.next()
        {
            left = left.saturating_sub(self.turn(key));
        }
        Ok(())
    }

    /// How long nothing is to be done; `None`: until the kernel or somebody else tells.
    fn timeout(&self) -> Option<Duration> {
        if !self.worker.turns.is_empty() {
            return Some(Duration::ZERO);
        }
        let accepting =
            self.accepts().then(|| self.listeners.iter().filter_map(Listener::due).min()).flatten();
        let next = accepting.into_iter().chain(self.worker.timers.next()).min()?;
        Some(Duration::from_nanos(next.saturating_sub(self.worker.shared.clock.mono_ns())))
    }

    /// Notes what the kernel told. Nobody has a turn between waiting and this, so that each event is of who has its token now.
    fn note(&mut self) {
        for event in &self.events {
            let token = event.token();
            if token == INBOX {
                continue;
            }
            if let Some(listener) = listener_of(token).and_then(|index| self.listeners.get_mut(index)) {
                listener.note();
                continue;
            }
            let (Key(index), side) = end_of(token);
            if let Some(pump) = self.pumps.get_mut(index) {
                pump.note(side, event);
                self.worker.turns.wait(&mut pump.seat, Key(index));
            }
        }
    }

    fn hear(&mut self, mail: Mail) -> io::Result<()> {
        for Key(index) in mail.reclaimed {
            // It may be another connection's by now, which then looks in vain.
            self.wake(Key(index));
        }
        let Some(notice) = mail.notice else { return Ok(()) };
        self.worker.hot.limits = notice.limits;
        self.judge_again(&notice);
        if notice.phase == Lifecycle::Running {
            self.listen()?;
        } else {
            self.listeners.clear();
        }
        self.phase = notice.phase;
        Ok(())
    }

    /// Those that were judged under an older revision get a turn; of a drain everybody hears.
    fn judge_again(&mut self, notice: &Notice) {
        let mut behind = 0;
        for (index, pump) in &mut self.pumps {
            let is_behind = pump.judged() < notice.revision;
            behind += usize::from(is_behind);
            if is_behind || pump.judged() == 0 || notice.phase >= Lifecycle::Draining {
                self.worker.turns.wait(&mut pump.seat, Key(index));
            }
        }
        self.worker.revisions.tell(notice.revision, behind);
        self.worker.report();
    }

    fn listen(&mut self) -> io::Result<()> {
        for (index, (socket, target)) in self.waiting.drain(..).enumerate() {
            let listener = Listener::new(socket, target, self.poll.registry(), token_of_listener(index))?;
            self.listeners.push(listener);
        }
        Ok(())
    }

    fn fire(&mut self, now_ns: u64) {
        while let Some(Key(index)) = self.worker.timers.due(now_ns) {
            if let Some(pump) = self.pumps.get_mut(index) {
                pump.timer_fired();
                self.worker.turns.wait(&mut pump.seat, Key(index));
            }
        }
    }

    fn accept(&mut self, now_ns: u64) {
        for listener in &mut self.listeners {
            // Descriptors of connections that are about to end are bounded: until they have, new ones wait.
            if !self.worker.shared.live.has_room(&self.worker.inbox) {
                return;
            }
            listener.accept(&mut self.worker, &mut self.pumps, now_ns);
        }
    }

    fn accepts(&self) -> bool {
        self.worker.shared.live.has_room(&self.worker.inbox)
    }

    /// Answers what it has cost.
    fn turn(&mut self, key: Key) -> usize {
        let Key(index) = key;
        let Some(pump) = self.pumps.get_mut(index) else { return 1 };
        pump.seat.called();
        let (turn, cost) = pump.turn(&mut self.worker);
        match turn {
            Turn::Again => self.worker.turns.wait(&mut pump.seat, key),
            Turn::Idle => {}
            Turn::Over => self.pumps.remove(index).leave(&mut self.worker),
        }
        cost
    }

    fn wake(&mut self, Key(index): Key) {
        if let Some(pump) = self.pumps.get_mut(index) {
            self.worker.turns.wait(&mut pump.seat, Key(index));
        }
    }

    /// Records and cuts the connections that are left.
    fn end(&mut self) {
        for mut pump in self.pumps.drain() {
            pump.cut(&mut self.worker);
            pump.leave(&mut self.worker);
        }
    }
}

/// Listeners have tokens behind those of all connections.
fn token_of_listener(index: usize) -> Token {
    Token(INBOX.0 - 1 - index)
}

fn listener_of(Token(number): Token) -> Option<usize> {
    const LISTENERS_MAX: usize = 1 << 20;
    Some(INBOX.0 - 1 - number).filter(|index| *index < LISTENERS_MAX)
}

#[cfg(test)]
mod tests;
