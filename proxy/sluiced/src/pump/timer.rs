//! The one timer of a connection: the session's and the pump's own deadline share it, and there is none while neither waits.

use super::Env;
use crate::connections::Key;
use crate::timers::{NEVER, Timers};

/// Deadlines are monotonic nanoseconds.
#[derive(Debug)]
pub(super) struct Timer {
    session: u64,
    own: u64,
    /// What the worker's timers hold for this connection.
    set: u64,
}

impl Default for Timer {
    fn default() -> Self {
        Self { session: NEVER, own: NEVER, set: NEVER }
    }
}

impl Timer {
    pub(super) fn set_session(&mut self, at: u64) {
        self.session = at;
    }

    pub(super) fn set_own(&mut self, at: u64) {
        self.own = at;
    }

    /// Nobody waits any more.
    pub(super) fn clear(&mut self) {
        (self.session, self.own) = (NEVER, NEVER);
    }

    pub(super) fn own(&self) -> u64 {
        self.own
    }

    /// Whether the session's deadline has passed; it is then cleared.
    pub(super) fn session_is_due(&mut self, env: &Env<'_>) -> bool {
        let due = self.session <= env.now.mono_ns;
        if due {
            self.session = NEVER;
        }
        due
    }

    /// Whether our own deadline has passed. Otherwise there will be a turn then.
    pub(super) fn own_is_due(&mut self, env: &mut Env<'_>) -> bool {
        let due = self.own <= env.now.mono_ns;
        if !due {
            self.arm(env);
        }
        due
    }

    /// The worker's timers hold nothing for this connection any more.
    pub(super) fn fired(&mut self) {
        self.set = NEVER;
    }

    pub(super) fn leave(&mut self, timers: &mut Timers, key: Key) {
        timers.set(key, self.set, NEVER);
        self.set = NEVER;
    }

    /// There will be a turn at the next deadline.
    ///
    /// What is set for an earlier time than needed stays, and is set again when that has come: requests that each set and clear a
    /// deadline share one entry.
    pub(super) fn arm(&mut self, env: &mut Env<'_>) {
        let next = self.session.min(self.own);
        if next < self.set {
            env.worker.timers.set(env.key, self.set, next);
            self.set = next;
        }
    }
}
