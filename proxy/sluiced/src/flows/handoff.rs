//! From a worker to the collector and back: two bounded queues, neither of which ever waits.

use proxy_core::FlowRecord;
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use tokio::sync::Notify;

/// The worker's end.
#[derive(Debug)]
pub(crate) struct Producer {
    records: SyncSender<Box<FlowRecord>>,
    spare: Receiver<Box<FlowRecord>>,
    waiting: Arc<AtomicBool>,
    /// Records sent in this round.
    sent: Cell<usize>,
    bells: Arc<Bells>,
}

/// What wakes the collector.
#[derive(Debug, Default)]
pub(crate) struct Bells {
    /// Records wait.
    pub(crate) some: Notify,
    /// So many wait that the next round should not.
    pub(crate) many: Notify,
}

/// The collector's end.
#[derive(Debug)]
pub(crate) struct Handoff {
    records: Receiver<Box<FlowRecord>>,
    spare: SyncSender<Box<FlowRecord>>,
    waiting: Arc<AtomicBool>,
}

/// The record found no room; here is its box.
#[derive(Debug)]
pub(crate) struct Lost(pub(crate) Box<FlowRecord>);

/// Records of one worker that wait for the collector; it comes every few milliseconds.
pub(crate) const WAITING_MAX: usize = 8192;

/// From so many on, the collector is called at once.
const MANY: usize = WAITING_MAX / 4;

pub(crate) fn handoff(bells: Arc<Bells>) -> (Producer, Handoff) {
    let (records, taken) = sync_channel(WAITING_MAX);
    let (given, spare) = sync_channel(WAITING_MAX);
    let waiting = Arc::new(AtomicBool::new(false));
    (
        Producer { records, spare, waiting: Arc::clone(&waiting), sent: Cell::new(0), bells },
        Handoff { records: taken, spare: given, waiting },
    )
}

impl Producer {
    pub(crate) fn send(&self, record: Box<FlowRecord>) -> Result<(), Lost> {
        use std::sync::mpsc::TrySendError::{Disconnected, Full};
        let sent = self.records.try_send(record);
        // A bell costs a system call; once it has rung it stays silent until the collector begins its round.
        if !self.waiting.swap(true, Ordering::SeqCst) {
            self.sent.set(0);
            self.bells.some.notify_one();
        }
        self.sent.set(self.sent.get() + 1);
        if self.sent.get() == MANY {
            self.bells.many.notify_one();
        }
        sent.map_err(|error| match error {
            Full(record) | Disconnected(record) => Lost(record),
        })
    }

    /// Boxes that came back.
    pub(crate) fn spare(&self) -> impl Iterator<Item = Box<FlowRecord>> {
        self.spare.try_iter()
    }
}

impl Handoff {
    /// Before the round that takes everything: a record sent from now on rings again.
    pub(crate) fn begin(&self) {
        self.waiting.store(false, Ordering::SeqCst);
    }

    pub(crate) fn take(&self) -> Option<Box<FlowRecord>> {
        self.records.try_recv().ok()
    }

    pub(crate) fn give_back(&self, record: Box<FlowRecord>) {
        // Where the worker has enough of them, the box is freed.
        drop(self.spare.try_send(record));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proxy_core::record::{ClientAddr, OrigDst};

    fn record() -> Box<FlowRecord> {
        let address = "10.0.0.1:1".parse().unwrap();
        Box::new(FlowRecord::new(ClientAddr(address), OrigDst(address)))
    }

    #[test]
    fn as_many_wait_as_may_and_no_more() {
        let (producer, handoff) = handoff(Arc::default());
        for _ in 0..WAITING_MAX {
            producer.send(record()).unwrap();
        }
        assert!(producer.send(record()).is_err());
        assert!(handoff.take().is_some());
        producer.send(record()).unwrap();
        assert_eq!(std::iter::from_fn(|| handoff.take()).count(), WAITING_MAX);
    }

    #[test]
    fn boxes_travel_back() {
        let (producer, handoff) = handoff(Arc::default());
        producer.send(record()).unwrap();
        handoff.give_back(handoff.take().unwrap());
        assert_eq!(producer.spare().count(), 1);
    }
}
