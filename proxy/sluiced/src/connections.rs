//! What names the connections of one worker, and how many of them have not met the newest revision.
//!
//! INVARIANT: `behind` counts exactly the connections that have not been judged under the newest revision told to the worker.

/// A connection's place in its worker's slab. Used again once the connection is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key(pub(crate) usize);

#[derive(Debug, Default)]
pub(crate) struct Revisions {
    newest: u64,
    behind: usize,
}

impl Revisions {
    /// A connection that was not judged yet.
    pub(crate) fn enter(&mut self) {
        self.behind += usize::from(self.is_behind(0));
    }

    /// One that was last judged under this revision is over.
    pub(crate) fn leave(&mut self, judged: u64) {
        self.behind -= usize::from(self.is_behind(judged));
    }

    pub(crate) fn judged(&mut self, before: u64, now: u64) {
        self.behind -= usize::from(self.is_behind(before) && !self.is_behind(now));
    }

    /// A new revision is stored, and so many connections were judged under older ones.
    pub(crate) fn tell(&mut self, newest: u64, behind: usize) {
        (self.newest, self.behind) = (newest, behind);
    }

    /// The newest revision, once every connection has been judged under it.
    pub(crate) fn settled(&self) -> Option<u64> {
        (self.behind == 0).then_some(self.newest)
    }

    fn is_behind(&self, judged: u64) -> bool {
        judged < self.newest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settled_when_all_have_been_judged() {
        let mut revisions = Revisions::default();
        revisions.enter();
        revisions.enter();
        revisions.tell(1, 2);
        assert_eq!(revisions.settled(), None);
        revisions.judged(0, 1);
        assert_eq!(revisions.settled(), None);
        revisions.judged(0, 1);
        assert_eq!(revisions.settled(), Some(1));
    }

    #[test]
    fn a_connection_that_ends_is_not_waited_for() {
        let mut revisions = Revisions::default();
        revisions.enter();
        revisions.tell(1, 1);
        revisions.leave(0);
        assert_eq!(revisions.settled(), Some(1));
    }

    #[test]
    fn a_new_connection_is_waited_for() {
        let mut revisions = Revisions::default();
        revisions.tell(3, 0);
        revisions.enter();
        assert_eq!(revisions.settled(), None);
        revisions.judged(0, 3);
        assert_eq!(revisions.settled(), Some(3));
    }

    #[test]
    fn judged_ahead_of_the_notice() {
        let mut revisions = Revisions::default();
        revisions.enter();
        revisions.judged(0, 2);
        revisions.tell(1, 0);
        assert_eq!(revisions.settled(), Some(1));
        revisions.tell(2, 0);
        assert_eq!(revisions.settled(), Some(2));
        revisions.leave(2);
        assert_eq!(revisions.settled(), Some(2));
    }
}
