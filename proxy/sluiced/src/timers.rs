//! The deadlines of one worker's connections: the earliest of each, in order.
//!
//! INVARIANT: a connection has one entry at most, and none once it is over.

use crate::connections::Key;
use std::collections::BTreeSet;

#[derive(Debug, Default)]
pub(crate) struct Timers(BTreeSet<(u64, Key)>);

/// No deadline.
pub(crate) const NEVER: u64 = u64::MAX;

impl Timers {
    /// Moves a connection's entry. [`NEVER`] stands for none.
    pub(crate) fn set(&mut self, key: Key, before: u64, at: u64) {
        if before != NEVER {
            let _was = self.0.remove(&(before, key));
        }
        if at != NEVER {
            let _new = self.0.insert((at, key));
        }
    }

    /// When the next one is due.
    pub(crate) fn next(&self) -> Option<u64> {
        self.0.first().map(|(at, _key)| *at)
    }

    /// Takes the first one that is due.
    pub(crate) fn due(&mut self, now: u64) -> Option<Key> {
        if self.next()? > now {
            return None;
        }
        self.0.pop_first().map(|(_at, key)| key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_are_due_in_order_and_not_before() {
        let mut timers = Timers::default();
        timers.set(Key(1), NEVER, 20);
        timers.set(Key(2), NEVER, 10);
        timers.set(Key(3), NEVER, 10);
        assert_eq!((timers.next(), timers.due(9)), (Some(10), None));
        assert_eq!([timers.due(10), timers.due(10), timers.due(10)], [Some(Key(2)), Some(Key(3)), None]);
        assert_eq!((timers.due(20), timers.next()), (Some(Key(1)), None));
    }

    #[test]
    fn one_that_is_moved_or_over_leaves_nothing() {
        let mut timers = Timers::default();
        timers.set(Key(1), NEVER, 20);
        timers.set(Key(1), 20, 5);
        assert_eq!(timers.next(), Some(5));
        timers.set(Key(1), 5, NEVER);
        assert_eq!(timers.due(NEVER - 1), None);
    }
}
