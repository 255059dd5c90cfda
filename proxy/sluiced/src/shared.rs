//! What all threads share: the snapshot in force, the notices that workers get, the totals.

use crate::clock::Clock;
use crate::flows::Flows;
use crate::live::Live;
use crate::upstream::Source;
use arc_swap::ArcSwap;
use policy_model::Snapshot;
use proxy_core::Limits;
use proxy_core::shares::Bounds;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tokio::sync::watch;

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) clock: Clock,
    /// The only one. Loaded once for everything that is decided together.
    pub(crate) snapshot: ArcSwap<Snapshot>,
    /// The revision that the kernel is being made ready for, or the one in force.
    announced: AtomicU64,
    pub(crate) notices: watch::Sender<Notice>,
    pub(crate) live: Live,
    pub(crate) flows: Flows,
    pub(crate) source: Source,
    draining: AtomicBool,
}

/// What every worker must hear of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Notice {
    pub(crate) revision: u64,
    pub(crate) limits: Limits,
    pub(crate) phase: Phase,
    /// A revision was given up before it was stored: who waits for it must look again.
    pub(crate) withdrawn: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Nothing is in force yet: nobody accepts.
    Starting,
    Running,
    /// Nobody accepts; connections end when their requests have.
    Draining,
    Ending,
}

impl Shared {
    pub(crate) fn new(limits: Limits, bounds: Bounds, records_max: usize, source: Source) -> Self {
        let notice = Notice { revision: 0, limits, phase: Phase::Starting, withdrawn: 0 };
        Self {
            clock: Clock::new(),
            snapshot: ArcSwap::default(),
            announced: AtomicU64::new(0),
            notices: watch::Sender::new(notice),
            live: Live::new(bounds),
            flows: Flows::new(records_max),
            source,
            draining: AtomicBool::new(false),
        }
    }

    /// From now on a new connection waits until this revision is stored.
    pub(crate) fn announce(&self, revision: u64) {
        self.announced.store(revision, Ordering::SeqCst);
    }

    pub(crate) fn announced(&self) -> u64 {
        self.announced.load(Ordering::SeqCst)
    }

    /// The announced revision will not come.
    pub(crate) fn withdraw(&self) {
        self.announce(self.snapshot.load().revision());
        self.notices.send_modify(|notice| notice.withdrawn += 1);
    }

    pub(crate) fn enter(&self, phase: Phase) {
        self.draining.store(phase >= Phase::Draining, Ordering::SeqCst);
        self.notices.send_modify(|notice| notice.phase = phase);
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }
}
