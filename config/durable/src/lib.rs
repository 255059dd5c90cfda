//! Files that outlive the process: replaced whole, on disk before they are used, with the mode that was asked for.
//!
//! INVARIANT: a mode is the one asked for, whatever the umask: never wider, not even for an instant, and not narrower either.
//! INVARIANT: after [`replace`] or [`sync_directory`] a power loss leaves the new file, or the old one where it failed.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Of files and directories that only the daemon's user may read.
pub const PRIVATE_FILE: u32 = 0o600;
pub const PRIVATE_DIRECTORY: u32 = 0o700;
/// Of directories that others look something up in.
pub const PUBLIC_DIRECTORY: u32 = 0o755;

/// Makes a directory and what is missing above it, each with this mode; those that are there keep theirs.
///
/// # Errors
/// One can't be made, or something else is there.
pub fn make_directory(path: &Path, mode: u32) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        make_directory(parent, mode)?;
    }
    match DirBuilder::new().mode(mode).create(path) {
        // A umask only takes away: the directory was never open to more than it should be.
        Ok(()) => fs::set_permissions(path, Permissions::from_mode(mode)),
        // Made by somebody else in between, if it is one.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => match path.is_dir() {
            true => Ok(()),
            false => Err(ErrorKind::NotADirectory.into()),
        },
        Err(error) => Err(error),
    }
}

/// Opens a file to be written from its start, and makes it where it is missing.
///
/// # Errors
/// It can't be opened, or its mode can't be set.
pub fn create(path: &Path, mode: u32) -> io::Result<File> {
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(path)?;
    // What was there before may have had another one.
    file.set_permissions(Permissions::from_mode(mode))?;
    Ok(file)
}

/// Replaces a file whole: written beside its place, on disk, renamed, its directory on disk.
///
/// # Errors
/// A step failed. Before the rename the old file is there; after it the new one is, perhaps not on disk.
pub fn replace(path: &Path, mode: u32, content: &[u8]) -> io::Result<()> {
    let next = beside(path);
    let mut file = create(&next, mode)?;
    file.write_all(content)?;
    file.sync_data()?;
    fs::rename(&next, path)?;
    sync_parent(path)
}

/// Removes a file, or finds it gone, and has that on disk.
///
/// # Errors
/// It can't be removed.
pub fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(()) => sync_parent(path),
    }
}

/// What was renamed into a directory, and removed from it, is on disk after this.
///
/// # Errors
/// It can't be opened or synced.
pub fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    sync_directory(parent.unwrap_or(Path::new(".")))
}

/// `.NAME.next`: in the same directory, so that it can be renamed, and no name that a reader takes for one of its own.
fn beside(path: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".next");
    path.with_file_name(name)
}

#[cfg(test)]
mod tests;
