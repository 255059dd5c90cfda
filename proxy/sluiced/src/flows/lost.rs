//! Records that found no room, by verdict: what a reader saw can be set against what was counted.

use proxy_core::record::Outcome;
use std::sync::atomic::{AtomicU64, Ordering};

#[derive(Debug, Default)]
pub(crate) struct Lost {
    denied: AtomicU64,
    ended: AtomicU64,
    forwarded: AtomicU64,
    l4: AtomicU64,
}

impl Lost {
    /// `None`: an L4 record.
    pub(crate) fn add(&self, outcome: Option<Outcome>) {
        let total = match outcome {
            Some(Outcome::Denied) => &self.denied,
            Some(Outcome::Ended) => &self.ended,
            Some(Outcome::Forwarded) => &self.forwarded,
            None => &self.l4,
        };
        let _before = total.fetch_add(1, Ordering::Relaxed);
    }

    /// By name.
    pub(crate) fn all(&self) -> [(&'static str, u64); 4] {
        [
            (Outcome::Denied.name(), self.denied.load(Ordering::Relaxed)),
            (Outcome::Ended.name(), self.ended.load(Ordering::Relaxed)),
            (Outcome::Forwarded.name(), self.forwarded.load(Ordering::Relaxed)),
            ("l4", self.l4.load(Ordering::Relaxed)),
        ]
    }

    pub(crate) fn total(&self) -> u64 {
        self.all().iter().map(|(_verdict, records)| records).sum()
    }
}
