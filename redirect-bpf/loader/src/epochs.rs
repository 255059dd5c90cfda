//! Which revision of policy each epoch of the programs stands for. An event names the epoch that judged its packet, and is read
//! when another one may be in force already.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

/// The last epochs with their revisions, oldest first; shared by who makes them and who reads events.
#[derive(Clone, Debug, Default)]
pub(crate) struct Epochs(Arc<Mutex<VecDeque<(u32, u64)>>>);

/// A change makes two, and events are read every few milliseconds.
const EPOCHS_MAX: usize = 64;

impl Epochs {
    /// Told before the programs are: no event bears an epoch that is not known here.
    pub(crate) fn note(&self, epoch: u32, revision: u64) {
        let mut epochs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // One that the programs could not be told of is used again.
        epochs.retain(|(noted, _)| *noted != epoch);
        if epochs.len() >= EPOCHS_MAX {
            let _oldest = epochs.pop_front();
        }
        epochs.push_back((epoch, revision));
    }

    /// `None`: an earlier process made the epoch, or very many have come since.
    pub(crate) fn revision(&self, epoch: u32) -> Option<u64> {
        let epochs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        epochs.iter().rev().find(|(noted, _)| *noted == epoch).map(|(_, revision)| *revision)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_are_known_as_may_be_and_no_more() {
        let epochs = Epochs::default();
        let last = u32::try_from(EPOCHS_MAX).unwrap();
        (1..=last).for_each(|epoch| epochs.note(epoch, u64::from(epoch) * 10));
        assert_eq!((epochs.revision(1), epochs.revision(last)), (Some(10), Some(u64::from(last) * 10)));
        epochs.note(last + 1, 7);
        assert_eq!(
            (epochs.revision(1), epochs.revision(2), epochs.revision(last + 1)),
            (None, Some(20), Some(7))
        );
        assert_eq!(epochs.revision(0), None);
    }

    #[test]
    fn an_epoch_that_did_not_come_about_is_given_to_the_next_change() {
        let epochs = Epochs::default();
        epochs.note(u32::MAX, 1);
        epochs.note(0, 2);
        epochs.note(0, 3);
        assert_eq!((epochs.revision(u32::MAX), epochs.revision(0)), (Some(1), Some(3)));
    }
}
