//! Tells when every event so far has been heard: they come in order, so a file of our own is touched and awaited.
//!
//! INVARIANT: when the event of a mark was heard, so were those of every write and truncation before it.

use std::fs::{self, DirBuilder};
use std::io::Result;
use std::os::unix::fs::DirBuilderExt;
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
        DirBuilder::new().recursive(true).mode(0o700).create(&directory)?;
        Ok(Self { directory, raised: 0 })
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Touches a new mark and takes it away: what is awaited is its close.
    pub(crate) fn raise(&mut self) -> Result<PathBuf> {
        self.raised = self.raised.wrapping_add(1);
        let mark = self.directory.join(self.raised.to_string());
        fs::write(&mark, [])?;
        fs::remove_file(&mark)?;
        Ok(mark)
    }
}
