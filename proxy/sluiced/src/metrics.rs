//! Totals for Prometheus. Every label has few values and all of them are ours: reasons, verdicts, directions, limits.
//!
//! A worker counts in atomics of its own; a scrape adds them up.

use crate::flows::Lost;
use crate::shared::Shared;
use policy_model::snapshot::Direction;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use proxy_core::record::{Detail, Outcome};
use proxy_core::{FlowRecord, Reason};
use redirect::{EVENTS_LOST, Opener, Usage};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// A number that only grows, written by one thread.
#[derive(Debug, Default)]
pub(crate) struct Total(AtomicU64);

impl Total {
    pub(crate) fn add(&self, n: u64) {
        // With one writer nothing can come in between, and a plain store is several times cheaper.
        self.0.store(self.value().wrapping_add(n), Ordering::Relaxed);
    }

    pub(crate) fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What one worker counts.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    requests: Outcomes,
    connections: Outcomes,
    pub(crate) accepted: Total,
    pub(crate) bytes_up: Total,
    pub(crate) bytes_down: Total,
    pub(crate) records_lost: Lost,
    pub(crate) events: Events,
}

/// Every bound that the shell itself holds, and every accident that it survives.
#[derive(Debug, Default)]
pub(crate) struct Events {
    /// `accept` failed: no descriptors or no memory.
    pub(crate) accept_failed: Total,
    /// A bug of ours ended a connection.
    pub(crate) connection_failed: Total,
    /// A connection was reset because the node holds as many as it may.
    pub(crate) connection_limit: Total,
    /// A connection was reset because another opener needed its place.
    pub(crate) connection_reclaimed: Total,
    /// A connection was reset because its opener's connections hold as many bytes as they may.
    pub(crate) memory_limit: Total,
    /// A connection was made to the proxy's own address.
    pub(crate) not_redirected: Total,
    /// Bytes were copied because every pipe was in use.
    pub(crate) pipe_limit: Total,
    /// A connection arrived ahead of its snapshot and waited for it.
    pub(crate) snapshot_waited: Total,
    /// ... in vain: it was reset.
    pub(crate) snapshot_late: Total,
    /// The server saw our address instead of the client's (mode `none`).
    pub(crate) source_replaced: Total,
}

impl Events {
    fn all(&self) -> [(&'static str, u64); 10] {
        [
            ("accept_failed", self.accept_failed.value()),
            ("connection_failed", self.connection_failed.value()),
            ("connection_limit", self.connection_limit.value()),
            ("connection_reclaimed", self.connection_reclaimed.value()),
            ("memory_limit", self.memory_limit.value()),
            ("not_redirected", self.not_redirected.value()),
            ("pipe_limit", self.pipe_limit.value()),
            ("snapshot_late", self.snapshot_late.value()),
            ("snapshot_waited", self.snapshot_waited.value()),
            ("source_replaced", self.source_replaced.value()),
        ]
    }
}

/// Records by verdict, reason and direction.
#[derive(Debug)]
struct Outcomes(Box<[Total]>);

/// What a record is counted under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cell {
    outcome: Outcome,
    direction: Direction,
    reason: Option<Reason>,
}

const OUTCOMES: [Outcome; 3] = [Outcome::Denied, Outcome::Ended, Outcome::Forwarded];
const DIRECTIONS: [Direction; 2] = [Direction::Egress, Direction::Ingress];

impl Cell {
    /// INVARIANT: the order of [`Cell::all`].
    fn index(self) -> usize {
        let reasons = Reason::ALL.len() + 1;
        let outcome = match self.outcome {
            Outcome::Denied => 0,
            Outcome::Ended => 1,
            Outcome::Forwarded => 2,
        };
        let direction = match self.direction {
            Direction::Egress => 0,
            Direction::Ingress => 1,
        };
        let reason = self.reason.map_or(0, |wanted| 1 + place(wanted));
        (outcome * DIRECTIONS.len() + direction) * reasons + reason
    }

    fn all() -> impl Iterator<Item = Self> {
        let reasons = || std::iter::once(None).chain(Reason::ALL.iter().copied().map(Some));
        OUTCOMES.into_iter().flat_map(move |outcome| {
            DIRECTIONS
                .into_iter()
                .flat_map(move |direction| reasons().map(move |reason| Self { outcome, direction, reason }))
        })
    }

    fn labels(self) -> [(&'static str, &'static str); 3] {
        let direction = proxy_core::api::direction_name(self.direction);
        let reason = self.reason.map_or("none", Reason::name);
        [("verdict", self.outcome.name()), ("reason", reason), ("direction", direction)]
    }
}

fn place(wanted: Reason) -> usize {
    Reason::ALL.iter().position(|reason| *reason == wanted).unwrap_or_default()
}

impl Default for Outcomes {
    fn default() -> Self {
        Self(Cell::all().map(|_cell| Total::default()).collect())
    }
}

impl Outcomes {
    fn add(&self, cell: Cell) {
        if let Some(total) = self.0.get(cell.index()) {
            total.add(1);
        }
    }

    fn value(&self, cell: Cell) -> u64 {
        self.0.get(cell.index()).map_or(0, Total::value)
    }
}

impl Counters {
    /// Counts a record on its way out: what is lost later has been counted before.
    pub(crate) fn count(&self, record: &FlowRecord) {
        let cell = Cell { outcome: record.outcome, direction: record.direction, reason: record.reason };
        match record.detail {
            Detail::Http(_) => self.requests.add(cell),
            Detail::Connection => self.connections.add(cell),
        }
        self.bytes_up.add(record.bytes_up);
        self.bytes_down.add(record.bytes_down);
    }
}

/// Everything that a scrape shows.
#[derive(Debug)]
pub(crate) struct Metrics {
    shared: Arc<Shared>,
    workers: Vec<Arc<Counters>>,
    /// By name; replaced by the kernel thread.
    kernel: Mutex<Vec<(&'static str, u64)>>,
    /// Likewise: what each opener has in the kernel, by the number of the endpoint that opens or is asked.
    usage: Mutex<BTreeMap<(u32, Opener), Usage>>,
    pub(crate) apply_seconds: Histogram,
    /// Attempts to bring a change into force that failed.
    pub(crate) apply_failed: Total,
    /// Revisions that were reported although a worker was late.
    pub(crate) settle_late: Total,
    pub(crate) policies_refused: AtomicUsize,
    /// In force.
    pub(crate) revision: AtomicU64,
}

impl Metrics {
    pub(crate) fn new(shared: Arc<Shared>, workers: Vec<Arc<Counters>>) -> Self {
        Self {
            shared,
            workers,
            kernel: Mutex::default(),
            usage: Mutex::default(),
            apply_seconds: Histogram::new(exponential_buckets(0.0005, 2.0, 14)),
            apply_failed: Total::default(),
            settle_late: Total::default(),
            policies_refused: AtomicUsize::new(0),
            revision: AtomicU64::new(0),
        }
    }

    pub(crate) fn set_kernel(&self, counters: Vec<(&'static str, u64)>) {
        *self.kernel.lock().unwrap_or_else(PoisonError::into_inner) = counters;
    }

    pub(crate) fn set_usage(&self, usage: BTreeMap<(u32, Opener), Usage>) {
        *self.usage.lock().unwrap_or_else(PoisonError::into_inner) = usage;
    }

    /// What an endpoint has opened. As of the last look.
    pub(crate) fn usage(&self, endpoint: u16) -> Usage {
        let usage = self.usage.lock().unwrap_or_else(PoisonError::into_inner);
        usage.get(&(endpoint.into(), Opener::Endpoint)).copied().unwrap_or_default()
    }

    /// Records that somebody misses: those that found no room here, and verdicts that found none on their way from the kernel.
    pub(crate) fn records_lost(&self) -> u64 {
        self.sum(|worker| worker.records_lost.total())
            + self.shared.flows.subscriber_lost().total()
            + events_lost(&self.kernel.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn sum(&self, of: impl Fn(&Counters) -> u64) -> u64 {
        self.workers.iter().map(|worker| of(worker)).sum()
    }

    /// The text that Prometheus reads.
    pub(crate) fn text(self: &Arc<Self>) -> Result<String, fmt::Error> {
        let mut registry = Registry::with_prefix("sluice");
        registry.register_collector(Box::new(Arc::clone(self)));
        registry.register(
            "policy_apply_seconds",
            "Seconds from a settled change to its revision being in force",
            self.apply_seconds.clone(),
        );
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry)?;
        Ok(text)
    }

    fn encode_outcomes(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        (name, help): (&str, &str),
        of: impl Fn(&Counters) -> &Outcomes,
    ) -> fmt::Result {
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for cell in Cell::all() {
            let value = self.sum(|worker| of(worker).value(cell));
            if value > 0 {
                ConstCounter::new(value).encode(family.encode_family(&cell.labels())?)?;
            }
        }
        Ok(())
    }

    /// For each endpoint of the node what it opens, and what the node and others open to it.
    fn encode_usage(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let usage = self.usage.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let snapshot = self.shared.snapshot.load();
        let mut rows = Vec::new();
        for endpoint in snapshot.endpoints() {
            let name = format!("{}/{}", endpoint.inputs.namespace, endpoint.inputs.name);
            for (opener, word) in OPENERS {
                if let Some(usage) = usage.get(&(endpoint.id.into(), opener)) {
                    rows.push((name.clone(), word, *usage));
                }
            }
        }
        for (name, help, of) in USAGE {
            let is_total = name.ends_with("_lost") || name.ends_with("_quota");
            let kind = if is_total { MetricType::Counter } else { MetricType::Gauge };
            let mut family = encoder.encode_descriptor(name, help, None, kind)?;
            for (endpoint, opener, usage) in &rows {
                let labels = [("endpoint", endpoint.as_str()), ("opener", opener)];
                let row = family.encode_family(&labels)?;
                if is_total {
                    ConstCounter::new(of(usage)).encode(row)?;
                } else {
                    ConstGauge::new(of(usage)).encode(row)?;
                }
            }
        }
        Ok(())
    }

    fn encode_lost(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Flow records dropped, by the consumer that was too slow";
        let mut family = encoder.encode_descriptor("records_lost", help, None, MetricType::Counter)?;
        let workers = self.workers.iter().map(|worker| ("collector", &worker.records_lost));
        let mut totals: BTreeMap<_, u64> = BTreeMap::new();
        for (at, lost) in workers.chain([("subscriber", self.shared.flows.subscriber_lost())]) {
            for (verdict, records) in lost.all() {
                *totals.entry((at, verdict)).or_default() += records;
            }
        }
        for ((at, verdict), records) in totals {
            let labels = [("at", at), ("verdict", verdict)];
            ConstCounter::new(records).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

impl Collector for Metrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let requests = ("requests", "Inspected requests, by verdict and reason");
        self.encode_outcomes(&mut encoder, requests, |worker| &worker.requests)?;
        let connections =
            ("connections", "Connections that ended without a request of their own, by verdict and reason");
        self.encode_outcomes(&mut encoder, connections, |worker| &worker.connections)?;

        let accepted = self.sum(|worker| worker.accepted.value());
        counter(&mut encoder, "accepted_connections", "Connections that reached the proxy", accepted)?;
        let up = self.sum(|worker| worker.bytes_up.value());
        let down = self.sum(|worker| worker.bytes_down.value());
        family(
            &mut encoder,
            "bytes",
            "Bytes forwarded, counted when the flow ends",
            "towards",
            &[("server", up), ("client", down)],
        )?;
        self.encode_lost(&mut encoder)?;

        let mut events = self.workers.iter().map(|worker| worker.events.all());
        let first = events.next().unwrap_or_else(|| Events::default().all());
        let events = events.fold(first, |sum, worker| {
            let mut worker = worker.into_iter();
            sum.map(|(name, value)| (name, value + worker.next().map_or(0, |(_name, value)| value)))
        });
        family(&mut encoder, "events", "Limits hit and other events of the proxy", "event", &events)?;
        let kernel = self.kernel.lock().unwrap_or_else(PoisonError::into_inner);
        family(
            &mut encoder,
            "kernel",
            "Kernel counters: packets dropped by reason, events lost, repairs",
            "counter",
            &kernel,
        )?;
        drop(kernel);
        self.encode_usage(&mut encoder)?;

        counter(
            &mut encoder,
            "policy_apply_failures",
            "Failed attempts to apply a policy change",
            self.apply_failed.value(),
        )?;
        counter(
            &mut encoder,
            "policy_settle_late",
            "Revisions reported before every live connection was re-evaluated",
            self.settle_late.value(),
        )?;
        let refused = wide(self.policies_refused.load(Ordering::Relaxed));
        gauge(&mut encoder, "policies_refused", "Policy files and objects not in force as written", refused)?;
        let revision = self.revision.load(Ordering::Relaxed);
        gauge(&mut encoder, "revision", "The policy revision in force", revision)?;
        let live = wide(self.shared.live.count());
        gauge(&mut encoder, "live_connections", "Connections currently held by the proxy", live)
    }
}

const OPENERS: [(Opener, &str); 3] =
    [(Opener::Endpoint, "endpoint"), (Opener::Node, "node"), (Opener::Outside, "outside")];

/// What is shown of each opener: name, help, value.
type OfUsage = (&'static str, &'static str, fn(&Usage) -> u64);

const USAGE: [OfUsage; 4] = [
    ("endpoint_flows", "Uninspected flows tracked within quotas, by opener", |usage| usage.flows),
    ("endpoint_inspected_flows", "Inspected connections tracked, by opener", |usage| usage.inspected_flows),
    (
        "endpoint_flows_over_quota",
        "Uninspected flows opened beyond the quota of their opener; these may be evicted",
        |usage| usage.flows_over_quota,
    ),
    ("endpoint_events_lost", "Kernel events dropped by the rate limit of their sender", |usage| {
        usage.events_lost
    }),
];

fn wide(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

fn counter(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> fmt::Result {
    ConstCounter::new(value).encode(encoder.encode_descriptor(name, help, None, MetricType::Counter)?)
}

fn gauge(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> fmt::Result {
    ConstGauge::new(value).encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)
}

fn family(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    label: &'static str,
    values: &[(&'static str, u64)],
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (value_of_label, value) in values {
        ConstCounter::new(*value).encode(family.encode_family(&[(label, *value_of_label)])?)?;
    }
    Ok(())
}

fn events_lost(kernel: &[(&'static str, u64)]) -> u64 {
    kernel.iter().find(|(name, _)| *name == EVENTS_LOST).map_or(0, |(_, count)| *count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_that_the_kernel_lost_are_among_its_counters() {
        assert_eq!(events_lost(&[]), 0);
        assert_eq!(events_lost(&[("policy", 5), (EVENTS_LOST, 3), ("redirected", 4)]), 3);
    }

    #[test]
    fn every_cell_has_a_place_of_its_own() {
        let indices: Vec<usize> = Cell::all().map(Cell::index).collect();
        assert_eq!(indices, (0..indices.len()).collect::<Vec<_>>());
    }
}
