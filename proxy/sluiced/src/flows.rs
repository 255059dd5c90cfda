//! Flow records on their way from the workers to whoever looks at them.
//!
//! A worker hands a record over without a lock ([`Producer`]); the [`Collector`] keeps the last ones in a bounded ring and
//! gives each to the subscribers whose filter it passes. The boxes travel back to the workers and are used again.
//!
//! INVARIANT: a record that finds no room is counted as lost; nobody waits for a reader.

mod filter;
mod handoff;
mod l4;
mod view;

pub(crate) use filter::FlowFilter;
pub(crate) use handoff::{Handoff, Producer, handoff};
pub(crate) use l4::{L4Outcome, L4Record};

use crate::shared::Shared;
use policy_model::Snapshot;
use proxy_core::FlowRecord;
use proxy_core::api::FlowView;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, mpsc, oneshot};

/// One line of `GET /v1/flows`.
pub(crate) type Line = axum::body::Bytes;

/// Where records end up.
#[derive(Debug)]
pub(crate) struct Flows {
    kept: Mutex<Kept>,
    records_max: usize,
    /// Rung by producers when records wait.
    bell: Arc<Notify>,
    /// Lines that a subscriber was too slow for.
    subscriber_lost: AtomicU64,
}

#[derive(Debug, Default)]
struct Kept {
    ring: VecDeque<Record>,
    subscribers: Vec<Subscriber>,
}

#[derive(Debug)]
enum Record {
    Flow(Box<FlowRecord>),
    L4(Box<L4Record>),
}

#[derive(Debug)]
struct Subscriber {
    filter: FlowFilter,
    lines: mpsc::Sender<Line>,
}

/// Lines that wait for one subscriber.
const SUBSCRIBER_LINES_MAX: usize = 4096;
/// Subscribers at once; each costs work for every record.
const SUBSCRIBERS_MAX: usize = 64;
/// Records are collected in batches: no more often than this.
const COLLECT_EVERY: Duration = Duration::from_millis(10);

/// There are as many subscribers as we serve.
#[derive(Debug)]
pub(crate) struct TooManySubscribers;

impl Flows {
    pub(crate) fn new(records_max: usize) -> Self {
        Self {
            kept: Mutex::default(),
            records_max,
            bell: Arc::new(Notify::new()),
            subscriber_lost: AtomicU64::new(0),
        }
    }

    pub(crate) fn bell(&self) -> Arc<Notify> {
        Arc::clone(&self.bell)
    }

    pub(crate) fn subscriber_lost(&self) -> u64 {
        self.subscriber_lost.load(Ordering::Relaxed)
    }

    /// The kept records that pass the filter, oldest first, at most the last `last`.
    pub(crate) fn recent(&self, filter: &FlowFilter, last: usize, snapshot: &Snapshot) -> Vec<FlowView> {
        let kept = self.lock();
        let mut views: Vec<FlowView> = kept
            .ring
            .iter()
            .rev()
            .map(|record| record.view(snapshot))
            .filter(|view| filter.passes(view))
            .take(last)
            .collect();
        views.reverse();
        views
    }

    /// Every later record that passes the filter, as a line of JSON.
    pub(crate) fn subscribe(&self, filter: FlowFilter) -> Result<mpsc::Receiver<Line>, TooManySubscribers> {
        let (lines, receiver) = mpsc::channel(SUBSCRIBER_LINES_MAX);
        let mut kept = self.lock();
        kept.subscribers.retain(|subscriber| !subscriber.lines.is_closed());
        if kept.subscribers.len() >= SUBSCRIBERS_MAX {
            return Err(TooManySubscribers);
        }
        kept.subscribers.push(Subscriber { filter, lines });
        Ok(receiver)
    }

    /// Records that did not come from a worker.
    pub(crate) fn add_l4(&self, records: impl IntoIterator<Item = L4Record>, snapshot: &Snapshot) {
        let mut kept = self.lock();
        for record in records {
            drop(self.keep(&mut kept, Record::L4(Box::new(record)), snapshot));
        }
    }

    /// Takes what waits in `handoff` and gives evicted boxes back to its worker.
    fn drain(&self, handoff: &Handoff, snapshot: &Snapshot) {
        handoff.begin();
        let mut kept = self.lock();
        while let Some(record) = handoff.take() {
            match self.keep(&mut kept, Record::Flow(record), snapshot) {
                Some(Record::Flow(spare)) => handoff.give_back(spare),
                Some(Record::L4(_)) | None => {}
            }
        }
    }

    /// Returns the record that had to make room.
    fn keep(&self, kept: &mut Kept, record: Record, snapshot: &Snapshot) -> Option<Record> {
        if tracing::enabled!(tracing::Level::DEBUG) {
            log(&record.view(snapshot));
        }
        if !kept.subscribers.is_empty() {
            self.publish(kept, &record.view(snapshot));
        }
        let evicted = (kept.ring.len() >= self.records_max).then(|| kept.ring.pop_front()).flatten();
        kept.ring.push_back(record);
        evicted
    }

    fn publish(&self, kept: &mut Kept, view: &FlowView) {
        let mut line: Option<Line> = None;
        kept.subscribers.retain(|subscriber| {
            if !subscriber.filter.passes(view) {
                return !subscriber.lines.is_closed();
            }
            let line = line.get_or_insert_with(|| json_line(view));
            match subscriber.lines.try_send(Line::clone(line)) {
                Ok(()) => true,
                Err(mpsc::error::TrySendError::Closed(_)) => false,
                Err(mpsc::error::TrySendError::Full(_)) => {
                    let _before = self.subscriber_lost.fetch_add(1, Ordering::Relaxed);
                    true
                }
            }
        });
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Record {
    fn view(&self, snapshot: &Snapshot) -> FlowView {
        match self {
            Self::Flow(record) => FlowView::new(record, snapshot),
            Self::L4(record) => view::of_l4(record, snapshot),
        }
    }
}

/// One JSON object and a line feed.
pub(crate) fn json_line(view: &FlowView) -> Line {
    let mut text = serde_json::to_vec(view).unwrap_or_default();
    text.push(b'\n');
    text.into()
}

/// Moves records from the workers to [`Flows`] until `stop`, and what is left then.
pub(crate) async fn collect(shared: Arc<Shared>, handoffs: Vec<Handoff>, mut stop: oneshot::Receiver<()>) {
    let bell = shared.flows.bell();
    let mut stopped = false;
    while !stopped {
        tokio::select! {
            () = bell.notified() => {}
            _ = &mut stop => stopped = true,
        }
        let snapshot = shared.snapshot.load_full();
        for handoff in &handoffs {
            shared.flows.drain(handoff, &snapshot);
        }
        if !stopped {
            tokio::time::sleep(COLLECT_EVERY).await;
        }
    }
}

fn log(view: &FlowView) {
    tracing::debug!(
        kind = view.kind,
        verdict = view.verdict,
        reason = view.reason,
        rule = view.rule,
        revision = view.revision,
        source = view.source.address,
        destination = view.destination.address,
        port = view.destination.port,
        method = view.method,
        path = view.path,
        status = view.status,
        count = view.count,
        "flow"
    );
}
