//! What other threads tell a worker: it is woken, and takes all that has come at once.
//!
//! INVARIANT: nothing piles up here: of notices only the last one counts, and connections that must give back their places are
//! bounded by [`crate::live::LEAVING_MAX`].

use crate::connections::Key;
use proxy_core::Limits;
use std::sync::{Mutex, MutexGuard, PoisonError};

#[derive(Debug)]
pub(crate) struct Inbox {
    waker: mio::Waker,
    mail: Mutex<Mail>,
}

#[derive(Debug, Default)]
pub(crate) struct Mail {
    /// The newest one.
    pub(crate) notice: Option<Notice>,
    /// These connections have to give back their places.
    pub(crate) reclaimed: Vec<Key>,
    /// Connections that were told to end have ended: more may be accepted.
    pub(crate) room: bool,
}

/// What every worker must hear of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Notice {
    pub(crate) revision: u64,
    pub(crate) limits: Limits,
    pub(crate) phase: Lifecycle,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Lifecycle {
    /// Nothing is in force yet: nobody accepts.
    Starting,
    Running,
    /// Nobody accepts; connections end when their requests have.
    Draining,
    Ending,
}

impl Inbox {
    pub(crate) fn new(waker: mio::Waker) -> Self {
        Self { waker, mail: Mutex::default() }
    }

    /// Adds to the mail and wakes the worker.
    pub(crate) fn send(&self, write: impl FnOnce(&mut Mail)) {
        write(&mut self.mail());
        if let Err(error) = self.waker.wake() {
            tracing::warn!(%error, "a worker can't be woken");
        }
    }

    pub(crate) fn take(&self) -> Mail {
        std::mem::take(&mut self.mail())
    }

    fn mail(&self) -> MutexGuard<'_, Mail> {
        self.mail.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
