//! The two clocks, read for the sessions: they take time as an argument.

use proxy_core::record::Now;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Monotonic time counts from the start of the daemon.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: Instant,
    /// Time that a test sets.
    #[cfg(test)]
    frozen: Option<&'static std::sync::atomic::AtomicU64>,
}

impl Clock {
    pub(crate) fn new() -> Self {
        Self {
            start: Instant::now(),
            #[cfg(test)]
            frozen: None,
        }
    }

    pub(crate) fn now(self) -> Now {
        Now { mono_ns: self.mono_ns(), unix_ns: unix_ns() }
    }

    pub(crate) fn mono_ns(self) -> u64 {
        #[cfg(test)]
        if let Some(frozen) = self.frozen {
            return frozen.load(std::sync::atomic::Ordering::SeqCst);
        }
        nanoseconds(self.start.elapsed())
    }
}

#[cfg(test)]
impl Clock {
    /// It stands until [`Self::advance`] moves it.
    pub(crate) fn frozen() -> Self {
        let frozen = Some(&*Box::leak(Box::default()));
        Self { frozen, ..Self::new() }
    }

    pub(crate) fn advance(self, by: Duration) {
        if let Some(frozen) = self.frozen {
            let _before = frozen.fetch_add(nanoseconds(by), std::sync::atomic::Ordering::SeqCst);
        }
    }
}

pub(crate) fn unix_ns() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, nanoseconds)
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
