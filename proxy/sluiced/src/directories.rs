//! Who was who at the last revisions, for verdicts of the kernel that are read when another one may be in force, and for flows
//! that are cut because a pod is gone.

use policy_model::Directory;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The last directories, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Directories(Mutex<VecDeque<Arc<Directory>>>);

/// Verdicts are read every few milliseconds: no change takes less.
const DIRECTORIES_MAX: usize = 8;

impl Directories {
    /// Told before the kernel is: no verdict is read whose revision is not known here.
    pub(crate) fn note(&self, directory: &Arc<Directory>) {
        let mut kept = self.lock();
        // A change that failed is tried again under its number.
        kept.retain(|other| other.revision() != directory.revision());
        if kept.len() >= DIRECTORIES_MAX {
            let _oldest = kept.pop_front();
        }
        kept.push_back(Arc::clone(directory));
    }

    pub(crate) fn of(&self, revision: u64) -> Option<Arc<Directory>> {
        self.lock().iter().rev().find(|kept| kept.revision() == revision).map(Arc::clone)
    }

    /// That of the last revision before this one.
    pub(crate) fn before(&self, revision: u64) -> Option<Arc<Directory>> {
        self.lock().iter().rev().find(|kept| kept.revision() < revision).map(Arc::clone)
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Arc<Directory>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use policy_model::identity::Numbers;
    use policy_model::{Inputs, resolve};

    fn directory(revision: u64) -> Arc<Directory> {
        let (snapshot, _) = resolve(&Inputs::default(), &mut Numbers::default(), revision);
        Arc::clone(snapshot.directory())
    }

    #[test]
    fn as_many_are_kept_as_may_be_and_no_more() {
        let directories = Directories::default();
        let max = u64::try_from(DIRECTORIES_MAX).unwrap();
        (1..=max).for_each(|revision| directories.note(&directory(revision)));
        assert!(directories.of(1).is_some() && directories.of(max).is_some());
        directories.note(&directory(max));
        assert!(directories.of(1).is_some(), "the same one again takes no place");
        directories.note(&directory(max + 1));
        assert!(directories.of(1).is_none() && directories.of(2).is_some());
    }

    #[test]
    fn the_one_before_is_the_last_lower_one() {
        let directories = Directories::default();
        assert!(directories.before(1).is_none());
        [1, 3, 4].map(directory).iter().for_each(|directory| directories.note(directory));
        let before = |revision| directories.before(revision).map(|directory| directory.revision());
        assert_eq!([1, 3, 4, 9].map(before), [None, Some(1), Some(3), Some(4)]);
    }
}
