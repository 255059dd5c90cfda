//! What must outlive the process: revisions that have been used, and which number stands for which labels.
//!
//! INVARIANT: a file is replaced whole, and is on disk before what it says is used.
//! INVARIANT: changes go on while the disk takes nothing: what they need was reserved before.

use durable::{PRIVATE_DIRECTORY, PRIVATE_FILE};
use policy_model::identity::Numbers;
use rustix::fs::{FlockOperation, flock};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The state directory, held by this process alone.
#[derive(Debug)]
pub(crate) struct State {
    directory: PathBuf,
    revisions: Mutex<Revisions>,
    _lock: File,
}

#[derive(Debug, Default)]
struct Revisions {
    /// The last one that was used.
    used: u64,
    /// None above it was, says the disk: the next process begins behind it.
    reserved: u64,
}

/// So many revisions are reserved at once, and again when half of them are used.
const REVISIONS_RESERVED: u64 = 1024;

#[derive(Debug, thiserror::Error)]
pub(crate) enum StateError {
    #[error("`{}` is in use by another sluiced: stop it, or give this one its own `[node] state_directory`", .0.display())]
    InUse(PathBuf),
    #[error("`{}`: {}", .0.display(), .1)]
    Io(PathBuf, io::Error),
    #[error("`{}` does not hold what sluiced wrote there ({}): restore it, or delete it after `sluice uninstall`", .0.display(), .1)]
    Unreadable(PathBuf, String),
}

impl State {
    pub(crate) fn open(directory: &Path) -> Result<Self, StateError> {
        let at = |error| StateError::Io(directory.into(), error);
        durable::make_directory(directory, PRIVATE_DIRECTORY).map_err(at)?;
        let lock = durable::create(&directory.join("lock"), PRIVATE_FILE).map_err(at)?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|error| match error {
            rustix::io::Errno::WOULDBLOCK => StateError::InUse(directory.into()),
            other => at(other.into()),
        })?;
        Ok(Self { directory: directory.into(), revisions: Mutex::default(), _lock: lock })
    }

    /// The last revision that may have been used; 0 where there was none.
    pub(crate) fn revision(&self) -> Result<u64, StateError> {
        let path = self.path(Self::REVISION);
        let Some(text) = read(&path)? else { return Ok(0) };
        let last = text.trim().parse().map_err(|error| StateError::Unreadable(path, format!("{error}")))?;
        *self.lock() = Revisions { used: last, reserved: last };
        Ok(last)
    }

    /// The next revision may be used: no later process gives its number to another one. Asks the disk now and then only.
    ///
    /// Returns what is wrong with the disk, and how many more revisions there are without it.
    ///
    /// # Errors
    /// The disk takes nothing, and none is left.
    pub(crate) fn use_revision(&self, revision: u64) -> Result<Option<(StateError, u64)>, StateError> {
        let mut revisions = self.lock();
        revisions.used = revisions.used.max(revision);
        if revision.saturating_add(REVISIONS_RESERVED / 2) <= revisions.reserved {
            return Ok(None);
        }
        let reserved = revision.saturating_add(REVISIONS_RESERVED);
        match self.save_revision(reserved) {
            Ok(()) => {
                revisions.reserved = reserved;
                Ok(None)
            }
            Err(error) => match revisions.reserved.checked_sub(revision) {
                Some(left) => Ok(Some((error, left))),
                None => Err(error),
            },
        }
    }

    /// The next process goes on where this one ends. Where the disk takes nothing, it leaves out what was reserved.
    pub(crate) fn give_back(&self) {
        let mut revisions = self.lock();
        if revisions.used < revisions.reserved && self.save_revision(revisions.used).is_ok() {
            revisions.reserved = revisions.used;
        }
    }

    fn save_revision(&self, revision: u64) -> Result<(), StateError> {
        self.replace(Self::REVISION, format!("{revision}\n").as_bytes())
    }

    fn lock(&self) -> MutexGuard<'_, Revisions> {
        self.revisions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn numbers(&self) -> Result<Numbers, StateError> {
        let path = self.path(Self::NUMBERS);
        let Some(text) = read(&path)? else { return Ok(Numbers::default()) };
        serde_json::from_str(&text).map_err(|error| StateError::Unreadable(path, format!("{error}")))
    }

    pub(crate) fn save_numbers(&self, numbers: &Numbers) -> Result<(), StateError> {
        let text = serde_json::to_vec(numbers)
            .map_err(|error| StateError::Unreadable(self.path(Self::NUMBERS), format!("{error}")))?;
        self.replace(Self::NUMBERS, &text)
    }

    const NUMBERS: &str = "identities.json";
    const REVISION: &str = "revision";

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    fn replace(&self, name: &str, content: &[u8]) -> Result<(), StateError> {
        let path = self.path(name);
        durable::replace(&path, PRIVATE_FILE, content).map_err(|error| StateError::Io(path, error))
    }
}

fn read(path: &Path) -> Result<Option<String>, StateError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(StateError::Io(path.into(), error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(name: &str) -> PathBuf {
        let directory = std::env::temp_dir().join(format!("sluiced-state-{}-{name}", std::process::id()));
        drop(fs::remove_dir_all(&directory));
        directory
    }

    /// A process that another test has just started holds a copy of the lock until its program runs.
    fn reopen(directory: &Path) -> State {
        let begun = std::time::Instant::now();
        loop {
            match State::open(directory) {
                Err(StateError::InUse(_)) if begun.elapsed().as_secs() < 10 => std::thread::yield_now(),
                opened => return opened.unwrap(),
            }
        }
    }

    #[test]
    fn what_is_saved_is_there_again() {
        let directory = directory("saved");
        let state = State::open(&directory).unwrap();
        assert_eq!((state.revision().unwrap(), state.numbers().unwrap()), (0, Numbers::default()));
        assert!(state.use_revision(7).unwrap().is_none());
        state.give_back();
        state.save_numbers(&Numbers::default()).unwrap();
        drop(state);
        let state = reopen(&directory);
        assert_eq!((state.revision().unwrap(), state.numbers().unwrap()), (7, Numbers::default()));
        fs::remove_dir_all(directory).unwrap();
    }

    /// As after a crash: what was reserved counts as used.
    #[test]
    fn no_revision_is_used_twice() {
        let directory = directory("reserved");
        let state = State::open(&directory).unwrap();
        for revision in 1..=3 {
            assert!(state.use_revision(revision).unwrap().is_none());
        }
        drop(state);
        let state = reopen(&directory);
        assert_eq!(state.revision().unwrap(), 1 + REVISIONS_RESERVED);
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn changes_go_on_without_the_disk_until_none_is_reserved() {
        let directory = directory("full");
        let state = State::open(&directory).unwrap();
        assert!(state.use_revision(1).unwrap().is_none());
        let away = directory.with_extension("away");
        fs::rename(&directory, &away).unwrap();
        let last = 1 + REVISIONS_RESERVED;
        assert!(
            state.use_revision(last - REVISIONS_RESERVED / 2).unwrap().is_none(),
            "nothing is to be written yet"
        );
        let left = |revision| state.use_revision(revision).unwrap().map(|(_error, left)| left);
        assert_eq!(left(last - REVISIONS_RESERVED / 2 + 1), Some(REVISIONS_RESERVED / 2 - 1));
        assert_eq!(left(last), Some(0));
        assert!(matches!(state.use_revision(last + 1), Err(StateError::Io(..))));
        fs::rename(&away, &directory).unwrap();
        assert!(state.use_revision(last + 1).unwrap().is_none());
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn one_process_at_a_time() {
        let directory = directory("lock");
        let _state = State::open(&directory).unwrap();
        assert!(matches!(State::open(&directory), Err(StateError::InUse(_))));
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn what_is_not_ours_is_not_guessed_at() {
        let directory = directory("foreign");
        let state = State::open(&directory).unwrap();
        fs::write(directory.join("revision"), "seven").unwrap();
        assert!(matches!(state.revision(), Err(StateError::Unreadable(..))));
        for text in ["{", "{}", r#"{"x":1}"#] {
            fs::write(directory.join("identities.json"), text).unwrap();
            assert!(matches!(state.numbers(), Err(StateError::Unreadable(..))), "{text}");
        }
        fs::remove_dir_all(directory).unwrap();
    }
}
