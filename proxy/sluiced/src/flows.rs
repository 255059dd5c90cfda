//! Flow records on their way from the workers to whoever looks at them.
//!
//! A worker hands a record over without a lock ([`Producer`]); [`Flows`] keeps the last ones in a bounded ring and
//! gives each to the subscribers whose filter it passes. The boxes travel back to the workers and are used again.
//!
//! INVARIANT: a record that finds no room is counted as lost; nobody waits for a reader.

mod filter;
mod handoff;
mod l4;
mod lost;
mod view;

pub(crate) use filter::FlowFilter;
pub(crate) use handoff::{Bells, Handoff, Producer, handoff};
pub(crate) use l4::{L4End, L4Outcome, L4Record};
pub(crate) use lost::Lost;

use proxy_core::FlowRecord;
use proxy_core::api::FlowView;
use proxy_core::record::Outcome;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::mpsc;

/// One line of `GET /v1/flows`.
pub(crate) type Line = axum::body::Bytes;

/// Where records end up.
#[derive(Debug)]
pub(crate) struct Flows {
    kept: Mutex<Kept>,
    records_max: usize,
    bells: Arc<Bells>,
    /// Lines that a subscriber was too slow for.
    subscriber_lost: Lost,
}

#[derive(Debug, Default)]
struct Kept {
    ring: VecDeque<Record>,
    /// Records are numbered as they come; this is the first one of the ring.
    first: u64,
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
pub(crate) const SUBSCRIBERS_MAX: usize = 64;

/// There are as many subscribers as we serve.
#[derive(Debug)]
pub(crate) struct TooManySubscribers;

impl Flows {
    pub(crate) fn new(records_max: usize) -> Self {
        Self { kept: Mutex::default(), records_max, bells: Arc::default(), subscriber_lost: Lost::default() }
    }

    pub(crate) fn bells(&self) -> Arc<Bells> {
        Arc::clone(&self.bells)
    }

    pub(crate) fn subscriber_lost(&self) -> &Lost {
        &self.subscriber_lost
    }

    /// Of the records with these numbers those that are still kept and pass the filter.
    pub(crate) fn slice(&self, filter: &FlowFilter, numbers: Range<u64>) -> Vec<(u64, FlowView)> {
        let kept = self.lock();
        let index = |number: u64| usize::try_from(number.saturating_sub(kept.first)).unwrap_or(usize::MAX);
        let (from, to) = (index(numbers.start), index(numbers.end));
        let records = kept.ring.iter().skip(from).take(to.saturating_sub(from));
        let numbered = (numbers.start.max(kept.first)..).zip(records);
        let views = numbered.map(|(number, record)| (number, record.view()));
        views.filter(|(_, view)| filter.passes(view)).collect()
    }

    /// The numbers of the records that are kept.
    pub(crate) fn numbers(&self) -> Range<u64> {
        self.lock().numbers()
    }

    /// Every later record that passes the filter, as a line of JSON; and the numbers of those that are kept now.
    pub(crate) fn subscribe(
        &self,
        filter: FlowFilter,
    ) -> Result<(Range<u64>, mpsc::Receiver<Line>), TooManySubscribers> {
        let (lines, receiver) = mpsc::channel(SUBSCRIBER_LINES_MAX);
        let mut kept = self.lock();
        kept.subscribers.retain(|subscriber| !subscriber.lines.is_closed());
        if kept.subscribers.len() >= SUBSCRIBERS_MAX {
            return Err(TooManySubscribers);
        }
        kept.subscribers.push(Subscriber { filter, lines });
        Ok((kept.numbers(), receiver))
    }

    /// Records that did not come from a worker.
    pub(crate) fn add_l4(&self, records: impl IntoIterator<Item = L4Record>) {
        let mut kept = self.lock();
        for record in records {
            drop(self.keep(&mut kept, Record::L4(Box::new(record))));
        }
    }

    /// Takes what waits in `handoff` and gives evicted boxes back to its worker.
    pub(crate) fn drain(&self, handoff: &Handoff) {
        handoff.begin();
        let mut kept = self.lock();
        while let Some(record) = handoff.take() {
            match self.keep(&mut kept, Record::Flow(record)) {
                Some(Record::Flow(spare)) => handoff.give_back(spare),
                Some(Record::L4(_)) | None => {}
            }
        }
    }

    /// Returns the record that had to make room.
    fn keep(&self, kept: &mut Kept, record: Record) -> Option<Record> {
        if tracing::enabled!(tracing::Level::DEBUG) {
            log(&record.view());
        }
        if !kept.subscribers.is_empty() {
            self.publish(kept, record.outcome(), &record.view());
        }
        let evicted = (kept.ring.len() >= self.records_max).then(|| kept.ring.pop_front()).flatten();
        kept.first += u64::from(evicted.is_some());
        kept.ring.push_back(record);
        evicted
    }

    fn publish(&self, kept: &mut Kept, outcome: Option<Outcome>, view: &FlowView) {
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
                    self.subscriber_lost.add(outcome);
                    true
                }
            }
        });
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn numbers(&self) -> Range<u64> {
        self.first..self.first.saturating_add(u64::try_from(self.ring.len()).unwrap_or(u64::MAX))
    }
}

impl Record {
    fn view(&self) -> FlowView {
        match self {
            Self::Flow(record) => FlowView::from(&**record),
            Self::L4(record) => view::of_l4(record),
        }
    }

    /// `None`: reached without the proxy.
    fn outcome(&self) -> Option<Outcome> {
        match self {
            Self::Flow(record) => Some(record.outcome),
            Self::L4(_) => None,
        }
    }
}

/// One JSON object and a line feed.
pub(crate) fn json_line(view: &FlowView) -> Line {
    let mut text = serde_json::to_vec(view).unwrap_or_default();
    text.push(b'\n');
    text.into()
}

fn log(view: &FlowView) {
    tracing::debug!(
        kind = view.detail.kind(),
        verdict = view.verdict,
        reason = view.reason,
        rule = view.rule,
        revision = view.revision,
        source = view.source.address,
        destination = view.destination.address,
        port = view.destination.port,
        detail = view.detail.words(&view.destination.address),
        count = view.count,
        "flow"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(n: u64) -> L4Record {
        L4Record {
            unix_ns: n,
            source: L4End::unknown("10.0.0.1:1"),
            destination: L4End::unknown("10.0.0.2:80"),
            protocol: policy_model::rule::Protocol::TCP,
            direction: policy_model::snapshot::Direction::Ingress,
            outcome: L4Outcome::Dropped("policy"),
            rule: None,
            revision: 1,
            count: n,
        }
    }

    /// Numbers and counts.
    fn slice(flows: &Flows, numbers: Range<u64>) -> Vec<(u64, u64)> {
        let views = flows.slice(&FlowFilter::default(), numbers);
        views.iter().map(|(number, view)| (*number, view.count)).collect()
    }

    #[test]
    fn the_last_ones_are_kept() {
        let flows = Flows::new(3);
        flows.add_l4((1..=3).map(record));
        assert_eq!(slice(&flows, flows.numbers()), [(0, 1), (1, 2), (2, 3)]);
        flows.add_l4([record(4)]);
        assert_eq!(flows.numbers(), 1..4);
        assert_eq!(slice(&flows, 0..3), [(1, 2), (2, 3)]);
        assert_eq!(slice(&flows, 3..9), [(3, 4)]);
        assert_eq!(slice(&flows, 0..1), []);
    }

    #[test]
    fn a_slow_subscriber_loses_what_it_has_no_room_for() {
        let flows = Flows::new(1);
        let (_numbers, mut lines) = flows.subscribe(FlowFilter::default()).unwrap();
        let max = u64::try_from(SUBSCRIBER_LINES_MAX).unwrap();
        flows.add_l4((1..=max).map(record));
        assert_eq!(flows.subscriber_lost().total(), 0);
        flows.add_l4([record(0)]);
        assert_eq!(flows.subscriber_lost().all(), [("denied", 0), ("ended", 0), ("forwarded", 0), ("l4", 1)]);
        let line = lines.try_recv().unwrap();
        assert_eq!(line.last(), Some(&b'\n'));
        let view: FlowView = serde_json::from_slice(&line).unwrap();
        assert_eq!((view.detail.kind(), view.verdict.as_str(), view.count), ("l4", "dropped", 1));
    }

    #[test]
    fn a_subscriber_gets_what_passes_its_filter() {
        let flows = Flows::new(1);
        let kind = Some("connection".into());
        let (_numbers, mut lines) = flows.subscribe(FlowFilter { kind, ..FlowFilter::default() }).unwrap();
        flows.add_l4([record(1)]);
        assert!(lines.try_recv().is_err());
    }

    #[test]
    fn subscribers_are_bounded_and_leave() {
        let flows = Flows::new(1);
        let mut all: Vec<_> =
            (0..SUBSCRIBERS_MAX).map(|_| flows.subscribe(FlowFilter::default()).unwrap()).collect();
        assert!(flows.subscribe(FlowFilter::default()).is_err());
        drop(all.pop());
        assert!(flows.subscribe(FlowFilter::default()).is_ok());
    }
}
