//! What all threads share: the snapshot in force, the notices that workers get, the totals.

use crate::clock::Clock;
use crate::directories::Directories;
use crate::flows::Flows;
use crate::inbox::{Inbox, Lifecycle, Notice};
use crate::live::Live;
use crate::upstream::Source;
use arc_swap::ArcSwap;
use policy_model::Snapshot;
use proxy_core::Limits;
use proxy_core::shares::Bounds;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) clock: Clock,
    /// The only one. Loaded once for everything that is decided together.
    pub(crate) snapshot: ArcSwap<Snapshot>,
    /// Of the snapshots that are and were in force, and of the one that the kernel is being made ready for.
    pub(crate) directories: Directories,
    /// The revision that the kernel is being made ready for, or the one in force.
    announced: AtomicU64,
    pub(crate) notices: Notices,
    pub(crate) live: Live,
    pub(crate) flows: Flows,
    pub(crate) source: Source,
    draining: AtomicBool,
}

/// What workers were told last, and whom to tell.
#[derive(Debug)]
pub(crate) struct Notices(Mutex<(Notice, Vec<Arc<Inbox>>)>);

impl Notices {
    fn new(notice: Notice) -> Self {
        Self(Mutex::new((notice, Vec::new())))
    }

    pub(crate) fn last(&self) -> Notice {
        self.lock().0
    }

    /// Tells every worker.
    pub(crate) fn change(&self, what: impl FnOnce(&mut Notice)) {
        let (notice, inboxes) = &mut *self.lock();
        what(notice);
        inboxes.iter().for_each(|inbox| inbox.send(|mail| mail.notice = Some(*notice)));
    }

    /// From now on this worker is told, beginning with what was told last.
    pub(crate) fn subscribe(&self, inbox: &Arc<Inbox>) {
        let (notice, inboxes) = &mut *self.lock();
        inbox.send(|mail| mail.notice = Some(*notice));
        inboxes.push(Arc::clone(inbox));
    }

    fn lock(&self) -> MutexGuard<'_, (Notice, Vec<Arc<Inbox>>)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    pub(crate) fn new(limits: Limits, bounds: Bounds, records_max: usize, source: Source) -> Self {
        let notice = Notice { revision: 0, limits, phase: Lifecycle::Starting };
        Self {
            clock: Clock::new(),
            snapshot: ArcSwap::default(),
            directories: Directories::default(),
            announced: AtomicU64::new(0),
            notices: Notices::new(notice),
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

    /// The announced revision will not come: who waits for it must look again.
    pub(crate) fn withdraw(&self) {
        self.announce(self.snapshot.load().revision());
        self.notices.change(|_same| {});
    }

    pub(crate) fn enter(&self, phase: Lifecycle) {
        self.draining.store(phase >= Lifecycle::Draining, Ordering::SeqCst);
        self.notices.change(|notice| notice.phase = phase);
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }
}
