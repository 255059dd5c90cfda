//! The two clocks, read for the sessions: they take time as an argument.

use proxy_core::record::Now;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::Instant;

/// Monotonic time counts from the start of the daemon.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: Instant,
}

impl Clock {
    pub(crate) fn new() -> Self {
        Self { start: Instant::now() }
    }

    pub(crate) fn now(self) -> Now {
        Now { mono_ns: nanoseconds(self.start.elapsed()), unix_ns: unix_ns() }
    }

    /// The moment that a session named; `None` where it lies beyond what a clock can show.
    pub(crate) fn instant(self, mono_ns: u64) -> Option<Instant> {
        self.start.checked_add(Duration::from_nanos(mono_ns))
    }
}

pub(crate) fn unix_ns() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, nanoseconds)
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
