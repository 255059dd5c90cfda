//! What a session is given on each call.

use crate::bodies::SpareBodies;
use crate::exchange::SpareQueues;
use crate::limits::Limits;
use crate::record::{FlowRecord, Now};
use crate::step::{Side, Step};
use parsers::http1::Readings;
use policy_model::Snapshot;

/// What a session works with during one call; owned by the worker, shared by its connections.
#[derive(Debug)]
pub struct Cx<'a> {
    pub now: Now,
    pub snapshot: &'a Snapshot,
    pub limits: &'a Limits,
    /// Empty when a call begins: what earlier calls asked for is done.
    pub steps: &'a mut Vec<Step>,
    pub scratch: &'a mut Scratch,
}

/// Reusable memory of a worker: readings of targets, spare records.
#[derive(Debug, Default)]
pub struct Scratch {
    pub readings: Readings,
    /// Recycled by the shell once a record has been copied into the ring; bounded.
    pub spare: Vec<Box<FlowRecord>>,
    pub(crate) bodies: SpareBodies,
    pub(crate) queues: SpareQueues,
}

impl Cx<'_> {
    pub(crate) fn step(&mut self, step: Step) {
        self.steps.push(step);
    }

    pub(crate) fn finish(&mut self, to: Side) {
        self.step(Step::Finish { to });
    }

    pub(crate) fn record(&mut self, record: Box<FlowRecord>) {
        self.step(Step::Record(record));
    }

    /// The time `wait_ns` from now, for timers.
    pub(crate) fn after(&self, wait_ns: u64) -> u64 {
        self.now.mono_ns.saturating_add(wait_ns)
    }
}
