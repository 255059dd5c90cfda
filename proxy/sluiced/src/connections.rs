//! The live connections of one worker, registered before they are judged.
//!
//! INVARIANT: `behind` counts exactly the connections that have not been judged under the newest revision told to the worker.

use std::task::Waker;

/// A registered connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key(usize);

impl Key {
    pub(crate) fn number(self) -> u64 {
        u64::try_from(self.0).unwrap_or(u64::MAX)
    }

    pub(crate) fn from_number(number: u64) -> Self {
        Self(usize::try_from(number).unwrap_or(usize::MAX))
    }
}

#[derive(Debug)]
pub(crate) struct Connections {
    slots: Vec<Option<Slot>>,
    free: Vec<usize>,
    revision: u64,
    behind: usize,
}

#[derive(Debug)]
struct Slot {
    waker: Waker,
    /// The revision that it was last judged under; 0 before the first time.
    judged: u64,
    /// An end of it that it may not read is gone.
    hung_up: bool,
}

impl Connections {
    pub(crate) fn new() -> Self {
        Self { slots: Vec::new(), free: Vec::new(), revision: 0, behind: 0 }
    }

    pub(crate) fn enter(&mut self) -> Key {
        self.behind += usize::from(self.revision > 0);
        let slot = Slot { waker: Waker::noop().clone(), judged: 0, hung_up: false };
        let index = self.free.pop().unwrap_or(self.slots.len());
        match self.slots.get_mut(index) {
            Some(place) => *place = Some(slot),
            None => self.slots.push(Some(slot)),
        }
        Key(index)
    }

    pub(crate) fn leave(&mut self, Key(index): Key) {
        if let Some(slot) = self.slots.get_mut(index).and_then(Option::take) {
            self.behind -= usize::from(slot.judged < self.revision);
            self.free.push(index);
        }
    }

    /// Whom to wake when there is something new. Called at every poll; the waker hardly ever changes.
    /// Answers whether an end of the connection was found to be gone.
    pub(crate) fn waker(&mut self, key: Key, waker: &Waker) -> bool {
        self.slot(key).is_some_and(|slot| {
            slot.waker.clone_from(waker);
            slot.hung_up
        })
    }

    /// These have an end that is gone. Told once each, and known from then on.
    pub(crate) fn hang_up(&mut self, keys: &[Key]) {
        for key in keys {
            if let Some(slot) = self.slot(*key) {
                slot.hung_up = true;
                slot.waker.wake_by_ref();
            }
        }
    }

    pub(crate) fn judged(&mut self, key: Key, revision: u64) {
        let newest = self.revision;
        let Some(slot) = self.slot(key) else { return };
        let caught_up = slot.judged < newest && revision >= newest;
        slot.judged = revision;
        self.behind -= usize::from(caught_up);
    }

    /// A new revision is stored: everybody who was judged under an older one is woken.
    pub(crate) fn tell(&mut self, revision: u64) {
        self.revision = revision;
        self.behind = 0;
        for slot in self.slots.iter().flatten().filter(|slot| slot.judged < revision) {
            slot.waker.wake_by_ref();
            self.behind += 1;
        }
    }

    pub(crate) fn wake_all(&self) {
        self.slots.iter().flatten().for_each(|slot| slot.waker.wake_by_ref());
    }

    /// The newest revision, once every connection has been judged under it.
    pub(crate) fn settled(&self) -> Option<u64> {
        (self.behind == 0).then_some(self.revision)
    }

    fn slot(&mut self, Key(index): Key) -> Option<&mut Slot> {
        self.slots.get_mut(index)?.as_mut()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settled_when_all_have_been_judged() {
        let mut connections = Connections::new();
        let (a, b) = (connections.enter(), connections.enter());
        connections.tell(1);
        assert_eq!(connections.settled(), None);
        connections.judged(a, 1);
        assert_eq!(connections.settled(), None);
        connections.judged(b, 1);
        assert_eq!(connections.settled(), Some(1));
    }

    #[test]
    fn who_leaves_is_not_waited_for() {
        let mut connections = Connections::new();
        let key = connections.enter();
        connections.tell(1);
        connections.leave(key);
        assert_eq!(connections.settled(), Some(1));
    }

    #[test]
    fn who_enters_is_waited_for() {
        let mut connections = Connections::new();
        connections.tell(3);
        let key = connections.enter();
        assert_eq!(connections.settled(), None);
        connections.judged(key, 3);
        assert_eq!(connections.settled(), Some(3));
    }

    #[test]
    fn judged_ahead_of_the_notice() {
        let mut connections = Connections::new();
        let key = connections.enter();
        connections.judged(key, 2);
        connections.tell(1);
        assert_eq!(connections.settled(), Some(1));
        connections.tell(2);
        assert_eq!(connections.settled(), Some(2));
        connections.leave(key);
        assert_eq!(connections.settled(), Some(2));
    }

    #[test]
    fn places_are_used_again() {
        let mut connections = Connections::new();
        let key = connections.enter();
        connections.leave(key);
        connections.leave(key);
        assert_eq!(connections.enter(), key);
        assert_ne!(connections.enter(), key);
    }
}
