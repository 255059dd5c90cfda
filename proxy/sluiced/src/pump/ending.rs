//! How a connection ends that neither its peers nor its policy ended: its place is needed, the daemon ends, or a bug of ours.

use super::{Connection, Pump, Server, steps};
use crate::worker::Worker;
use proxy_core::Reason;
use proxy_core::record::Outcome;
use proxy_core::session::Ending;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use steps::Farewell;

impl Pump {
    /// A panic: both peers are reset, and what other connections work with is made good.
    pub(super) fn fail(&mut self, worker: &mut Worker) {
        worker.counters.events.connection_failed.add(1);
        worker.hot.mend();
        let end = AssertUnwindSafe(|| self.connection.end(worker, Ending::Failed));
        // What panicked once may do it again: then the record is lost.
        if catch_unwind(end).is_err() {
            worker.hot.mend();
            worker.hot.steps.clear();
            worker.counters.records_lost.add(Some(Outcome::Ended));
        }
        self.connection.session = None;
        self.connection.reset();
    }

    /// The worker ends, and the connection with it.
    pub(crate) fn cut(&mut self, worker: &mut Worker) {
        let Some(session) = &mut self.connection.session else { return };
        let snapshot = worker.shared.snapshot.load();
        let at_rest = session.is_at_rest();
        let now = worker.shared.clock.now();
        session.end(Ending::Draining, &mut worker.hot.cx(&snapshot, now));
        // A connection at rest is closed rather than reset: its client asks again on another one.
        if steps::record_all(worker) == Farewell::Reset && !at_rest {
            self.connection.reset();
        }
    }

    /// It is over: the worker keeps nothing of it. Its sockets are closed.
    pub(crate) fn leave(mut self, worker: &mut Worker) {
        self.connection.timer.leave(&mut worker.timers, self.key);
        // What shrinks is never refused.
        let _shrunk = worker.budget.change(self.seat.opener(), self.held_bytes, 0);
        worker.turns.leave(&self.seat, self.key);
        worker.revisions.leave(self.connection.judged);
        let shared = Arc::clone(&worker.shared);
        let Self { place, connection, .. } = self;
        drop(connection);
        shared.live.leave(&place);
        worker.report();
    }
}

impl Connection {
    /// Records what is not recorded yet, and resets both peers.
    pub(super) fn end(&mut self, worker: &mut Worker, why: Ending) {
        let (snapshot, now) = (worker.shared.snapshot.load(), worker.shared.clock.now());
        match (&mut self.session, &self.ends) {
            (Some(session), _) => {
                session.end(why, &mut worker.hot.cx(&snapshot, now));
                let _reset_anyway = steps::record_all(worker);
            }
            (None, Some(ends)) => worker.refuse(ends, Reason::of_ending(why), &snapshot, now),
            (None, None) => {}
        }
        self.reset();
    }

    pub(super) fn reset(&mut self) {
        self.client.take().into_iter().for_each(crate::transport::Transport::reset);
        self.reset_server();
    }

    pub(super) fn reset_server(&mut self) {
        if let Server::Open(transport) | Server::Dialling(transport) =
            std::mem::replace(&mut self.server, Server::Closed)
        {
            transport.reset();
        }
    }
}
