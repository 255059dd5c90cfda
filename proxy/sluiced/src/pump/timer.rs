//! The one timer of a connection: the session's and the pump's own deadline share it, and there is none while neither waits.

use super::Env;
use std::future::Future;
use std::pin::Pin;
use std::task::Poll;
use tokio::time::Sleep;

/// Deadlines are monotonic nanoseconds; `u64::MAX` is none.
#[derive(Debug)]
pub(super) struct Timer {
    session: u64,
    own: u64,
    /// What `sleep` was last set to.
    set: u64,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Default for Timer {
    fn default() -> Self {
        Self { session: u64::MAX, own: u64::MAX, set: u64::MAX, sleep: None }
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
        (self.session, self.own) = (u64::MAX, u64::MAX);
    }

    pub(super) fn own(&self) -> u64 {
        self.own
    }

    /// Whether the session's deadline has passed; it is then cleared. Otherwise the task will be woken.
    pub(super) fn session_is_due(&mut self, env: &mut Env<'_, '_>) -> bool {
        self.arm(env);
        let due = self.session <= env.now.mono_ns;
        if due {
            self.session = u64::MAX;
        }
        due
    }

    /// Whether our own deadline has passed. Otherwise the task will be woken.
    pub(super) fn own_is_due(&mut self, env: &mut Env<'_, '_>) -> bool {
        self.arm(env);
        self.own <= env.now.mono_ns
    }

    /// A timer that is set to a later time than needed is set again; one that is not needed any more fires once and is freed:
    /// requests that each set and clear a deadline then share one.
    fn arm(&mut self, env: &mut Env<'_, '_>) {
        let next = self.session.min(self.own);
        if next == u64::MAX && self.sleep.is_none() {
            return;
        }
        if next < self.set
            && let Some(at) = env.worker.shared.clock.instant(next)
        {
            self.set = next;
            match &mut self.sleep {
                Some(sleep) => sleep.as_mut().reset(at),
                None => self.sleep = Some(Box::pin(tokio::time::sleep_until(at))),
            }
            self.poll(env, next);
        } else if self.set <= env.now.mono_ns {
            // Before that it can't have fired: polls of a connection that is not late cost nothing here.
            self.poll(env, next);
        }
    }

    fn poll(&mut self, env: &mut Env<'_, '_>, next: u64) {
        let Some(sleep) = &mut self.sleep else { return };
        if let Poll::Ready(()) = sleep.as_mut().poll(env.task) {
            self.sleep = None;
            self.set = u64::MAX;
            // Not yet the time that is waited for now: begin again. Due ones are seen by the caller.
            if next != u64::MAX && next > env.now.mono_ns {
                self.arm(env);
            }
        }
    }
}
