//! How a connection ends that neither its peers nor its policy ended: its place is needed, the daemon ends, or a bug of ours.

use super::{Connection, Pump, Server, steps};
use crate::worker::{Hot, Worker};
use proxy_core::Reason;
use proxy_core::record::Outcome;
use proxy_core::session::Ending;
use std::panic::{AssertUnwindSafe, catch_unwind};
use steps::Farewell;

impl Pump {
    /// A panic: both peers are reset, and what other connections work with is made good.
    pub(super) fn fail(&mut self) {
        let worker = &*self.worker;
        worker.counters.events.connection_failed.add(1);
        if let Ok(mut hot) = worker.hot.try_borrow_mut() {
            hot.mend();
            let end = AssertUnwindSafe(|| self.connection.end(worker, &mut hot, Ending::Failed));
            // What panicked once may do it again: then the record is lost.
            if catch_unwind(end).is_err() {
                hot.mend();
                hot.steps.clear();
                worker.counters.records_lost.add(Some(Outcome::Ended));
            }
        }
        self.connection.session = None;
        self.connection.reset();
    }
}

impl Connection {
    /// Records what is not recorded yet, and resets both peers.
    pub(super) fn end(&mut self, worker: &Worker, hot: &mut Hot, why: Ending) {
        let (snapshot, now) = (worker.shared.snapshot.load(), worker.shared.clock.now());
        match (&mut self.session, &self.ends) {
            (Some(session), _) => {
                session.end(why, &mut hot.cx(&snapshot, now));
                let _reset_anyway = steps::record_all(worker, hot);
            }
            (None, Some(ends)) => worker.refuse(hot, ends, Reason::of_ending(why), &snapshot, now),
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

impl Drop for Pump {
    fn drop(&mut self) {
        let worker = &*self.worker;
        if let Some(session) = &mut self.connection.session
            && let Ok(mut hot) = worker.hot.try_borrow_mut()
        {
            let (hot, snapshot) = (&mut *hot, worker.shared.snapshot.load());
            let at_rest = session.is_at_rest();
            session.end(Ending::Draining, &mut hot.cx(&snapshot, worker.shared.clock.now()));
            // A connection at rest is closed rather than reset: its client asks again on another one.
            if steps::record_all(worker, hot) == Farewell::Reset && !at_rest {
                self.connection.reset();
            }
        }
        worker.connections.borrow_mut().leave(self.key);
        worker.shared.live.leave(&self.place);
        worker.report();
    }
}
