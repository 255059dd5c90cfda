//! What a policy directory holds: which of its entries are policies, what each hangs on, and their contents.
//!
//! `*.yaml`, `*.yml` and `*.json` are policies. Everything else is not looked at: directories, dotfiles, and what editors
//! leave beside a file while they save it (`.x.yaml.swp`, `x.yaml~`, `#x.yaml#`).

use crate::merge::Content;
use policy_model::parse::{Diagnostic, Severity};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Error, ErrorKind, Read, Result};
use std::path::{Component, Path, PathBuf};

/// A larger file is refused by name: nothing is sized by what lies in a directory.
pub(crate) const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Of all directories together. Those that were accepted come first, then the others by path; further ones are refused by name.
pub(crate) const FILES_MAX: usize = 4096;
/// As the kernel: more links in one path are a loop.
pub(crate) const LINKS_MAX: usize = 40;

/// The policy files of a directory, sorted.
///
/// # Errors
/// The directory is missing or can't be read.
pub(crate) fn list(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let path = directory.join(entry.file_name());
        if is_policy_name(&entry.file_name()) && !path.is_dir() {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

pub(crate) fn is_policy_name(name: &OsStr) -> bool {
    let extension = Path::new(name).extension().and_then(OsStr::to_str);
    let hidden = name.as_encoded_bytes().starts_with(b".");
    !hidden && extension.is_some_and(|extension| ["json", "yaml", "yml"].contains(&extension))
}

/// The content of a policy file; `None` where it has gone.
pub(crate) fn read(path: &Path) -> Option<Content> {
    match read_text(path) {
        Ok(text) => Some(text),
        Err(_) if is_gone(path) => None,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            Some(unusable("the link leads nowhere", "make its target or remove the link"))
        }
        Err(error) => Some(unusable(&format!("can't be read: {error}"), "make it readable or remove it")),
    }
}

/// Whether it is certain that nothing is there: what we only may not look at still is, and stays in force.
fn is_gone(path: &Path) -> bool {
    let kind = fs::symlink_metadata(path).map_err(|error| error.kind());
    matches!(kind, Err(ErrorKind::NotFound | ErrorKind::NotADirectory))
}

fn read_text(path: &Path) -> Result<Content> {
    // Opening a device can do things: what is seen not to be a file is not opened at all.
    if fs::metadata(path)?.is_file() { read_opened(path) } else { Ok(not_regular()) }
}

/// Whatever has come into the file's place since it was looked at: opening a pipe would wait for whoever writes it.
fn read_opened(path: &Path) -> Result<Content> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(opened) => File::from(opened),
        // A socket.
        Err(Errno::NXIO) => return Ok(not_regular()),
        Err(error) => return Err(error.into()),
    };
    if !file.metadata()?.is_file() {
        return Ok(not_regular());
    }
    let mut bytes = Vec::new();
    let _read = file.take(FILE_BYTES_MAX.saturating_add(1)).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > FILE_BYTES_MAX {
        let message = format!("the file is larger than {FILE_BYTES_MAX} bytes");
        return Ok(unusable(&message, "split it"));
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Content::Text(text.into())),
        Err(_not_utf8) => Ok(unusable("the file is not UTF-8", "save it as UTF-8")),
    }
}

pub(crate) fn too_many() -> Content {
    let message = format!("there are more than {FILES_MAX} policy files, and this one came last");
    unusable(&message, "put several objects into one file, as documents separated by `---`")
}

fn not_regular() -> Content {
    unusable("is not a regular file", "put a file in its place or remove it")
}

fn unusable(message: &str, fix: &str) -> Content {
    Content::Unusable(diagnostic(message, fix))
}

pub(crate) fn diagnostic(message: &str, fix: &str) -> Diagnostic {
    Diagnostic {
        severity: Severity::Error,
        line: 0,
        field: String::new(),
        message: message.to_owned(),
        fix: fix.to_owned(),
    }
}

/// Every directory entry that decides what `path` leads to: each link on the way, and the end. Each is a name in a
/// directory without links, as change events will call it. Ends early where the path leads nowhere.
pub(crate) fn trail(path: &Path) -> Vec<PathBuf> {
    let mut trail = Vec::new();
    let mut here = PathBuf::new();
    let mut ahead: Vec<PathBuf> = components(path);
    while let Some(next) = ahead.pop() {
        if next.as_os_str() == ".." {
            let _at_the_root = here.pop();
            continue;
        }
        here.push(next);
        match fs::read_link(&here) {
            Ok(target) if trail.len() < LINKS_MAX => {
                trail.push(here.clone());
                let _link = here.pop();
                // An absolute target begins again: its first component is the root, and `push` puts it in place.
                ahead.extend(components(&target));
            }
            Ok(_) | Err(_) => {}
        }
    }
    trail.push(here);
    trail
}

/// The components of a path, the last first.
fn components(path: &Path) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> = path
        .components()
        .filter(|component| *component != Component::CurDir)
        .map(|component| Path::new(component.as_os_str()).to_owned())
        .collect();
    all.reverse();
    all
}

/// Tells directories apart that had the same path one after the other.
pub(crate) fn inode(path: &Path) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    let metadata = fs::metadata(path).ok().filter(fs::Metadata::is_dir)?;
    Some((metadata.dev(), metadata.ino()))
}

/// Whether a new entry is complete at once: links of both kinds are made whole, files are written later.
pub(crate) fn appears_complete(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    fs::symlink_metadata(path).is_ok_and(|entry| !entry.is_file() || entry.nlink() > 1)
}

pub(crate) fn missing(error: &Error) -> Diagnostic {
    let message = if error.kind() == ErrorKind::NotFound {
        "the directory is missing".to_owned()
    } else {
        format!("the directory can't be read: {error}")
    };
    diagnostic(&message, "bring it back; what it held stays in force until then")
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::FileType;

    /// As in a directory that may be listed and not searched.
    #[test]
    fn what_may_not_be_looked_at_is_not_gone() {
        let name = std::env::temp_dir().join(format!("policy-watch-{}-loop", std::process::id()));
        std::os::unix::fs::symlink(&name, &name).unwrap();
        let content = read(&name.join("rule1.yaml"));
        fs::remove_file(&name).unwrap();
        assert!(matches!(content, Some(Content::Unusable(_))), "{content:?}");
        assert_eq!(read(&name.join("rule1.yaml")), None);
    }

    /// A policy file that became something else between the look at it and its opening.
    #[track_caller]
    fn check_swapped(name: &str, make: impl FnOnce(&Path)) {
        let path = std::env::temp_dir().join(format!("policy-watch-{}-{name}", std::process::id()));
        make(&path);
        let content = read_opened(&path);
        fs::remove_file(&path).unwrap();
        assert_eq!(content.unwrap(), not_regular());
    }

    #[test]
    fn what_took_a_file_s_place_is_neither_waited_for_nor_read() {
        check_swapped("pipe", |path| {
            rustix::fs::mknodat(rustix::fs::CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        });
        check_swapped("socket", |path| drop(std::os::unix::net::UnixListener::bind(path).unwrap()));
        check_swapped("device", |path| std::os::unix::fs::symlink("/dev/zero", path).unwrap());
        check_swapped("directory", |path| std::os::unix::fs::symlink("/", path).unwrap());
    }
}
