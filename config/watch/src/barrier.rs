//! Tells when every event so far has been heard: they come in order, so a file of our own is touched and awaited.
//!
//! INVARIANT: when the event of a mark was heard, so were those of every write and truncation before it.

use durable::{PRIVATE_DIRECTORY, PRIVATE_FILE};
use std::fs;
use std::io::Result;
use std::path::{Path, PathBuf};

/// A directory of our own that is watched like those of policies.
#[derive(Debug)]
pub(crate) struct Barrier {
    directory: PathBuf,
    raised: u64,
}

impl Barrier {
    /// Makes the directory; the caller watches it.
    pub(crate) fn new(state_directory: &Path) -> Result<Self> {
        let directory = std::path::absolute(state_directory.join("policies/.heard"))?;
        durable::make_directory(&directory, PRIVATE_DIRECTORY)?;
        Ok(Self { directory, raised: 0 })
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Touches a new mark and takes it away: what is awaited is its close.
    pub(crate) fn raise(&mut self) -> Result<PathBuf> {
        self.raised = self.raised.wrapping_add(1);
        let mark = self.directory.join(self.raised.to_string());
        drop(durable::create(&mark, PRIVATE_FILE)?);
        fs::remove_file(&mark)?;
        Ok(mark)
    }
}
