//! What is ours in a network namespace, whatever directory it is pinned in: one process at a time, and all pins.
//!
//! The lock is an abstract socket: its name belongs to the network namespace, as what we attach and route does, and it ends with
//! its process. Whoever finds it taken asks the kernel who listens.

use crate::attach::{PICK_LISTENER, run_here};
use crate::error::Error;
use crate::pins::file_names;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::sockopt::socket_peercred;
use rustix::net::{
    AddressFamily, Shutdown, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, shutdown,
    socket_with,
};
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Of every version.
const NAME: &[u8] = b"sluice/network-namespace";
/// Nobody is ever accepted: who asks has what it wants when it is in the queue.
const BACKLOG: i32 = 128;
/// One that is being closed may live on for an instant in a process that is being started.
const CLOSING: (u32, Duration) = (200, Duration::from_millis(10));
/// Nodes have directories of their own in a BPF file system, no deeper than this.
const DEPTH_MAX: usize = 3;
const MOUNTS: &str = "/proc/thread-self/mountinfo";

/// Held by one process of a network namespace at a time.
#[derive(Debug)]
pub(crate) struct Lock(OwnedFd);

impl Drop for Lock {
    fn drop(&mut self) {
        // To close it is not enough while a process that is being started has a copy: from now on nobody is let in.
        let _result = shutdown(&self.0, Shutdown::Both);
    }
}

/// This network namespace is this process's until the lock is dropped.
pub(crate) fn lock() -> Result<Lock, Error> {
    let failed = |errno: Errno| Error::NamespaceLock(errno.into());
    let name = SocketAddrUnix::new_abstract_name(NAME).map_err(failed)?;
    let open = || {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).map_err(failed)
    };
    for _attempt in 0..CLOSING.0 {
        let socket = open()?;
        match bind(&socket, &name) {
            Ok(()) => {
                listen(&socket, BACKLOG).map_err(failed)?;
                return Ok(Lock(socket));
            }
            Err(Errno::ADDRINUSE) => {}
            Err(errno) => return Err(failed(errno)),
        }
        let asking = open()?;
        match connect(&asking, &name) {
            Ok(()) => {
                let holder = socket_peercred(&asking).map_err(failed)?.pid;
                return Err(Error::NamespaceInUse(described(holder.as_raw_nonzero().get())));
            }
            // Its queue is full of askers.
            Err(Errno::AGAIN) => break,
            // Bound and not listening: it begins, or it ends.
            Err(_) => std::thread::sleep(CLOSING.1),
        }
    }
    Err(Error::NamespaceInUse("a process that can't be named".into()))
}

fn described(pid: i32) -> String {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words: Vec<_> = line
        .split(|byte| *byte == 0)
        .filter(|word| !word.is_empty())
        .map(|word| String::from_utf8_lossy(word).escape_debug().to_string())
        .collect();
    match words.is_empty() {
        true => format!("the process {pid}"),
        false => format!("the process {pid} (`{}`)", words.join(" ")),
    }
}

/// Every directory of pins of ours, other than `known`, whose programs run in the network namespace of this thread: in every BPF file
/// system that this process sees.
pub(crate) fn roots_here(known: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut seen: BTreeSet<_> = identity(known).into_iter().collect();
    let mut roots = Vec::new();
    for mount in bpf_mounts()? {
        collect(&mount, DEPTH_MAX, &mut roots);
    }
    let mut here = Vec::new();
    for root in roots.into_iter().filter(|root| identity(root).is_some_and(|id| seen.insert(id))) {
        if runs_here(&root)? {
            here.push(root);
        }
    }
    Ok(here)
}

/// What can't be read is not ours.
fn collect(directory: &Path, depth: usize, roots: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        if entry.file_name() == "sluice" {
            roots.push(entry.path());
        } else if depth > 0 {
            collect(&entry.path(), depth.saturating_sub(1), roots);
        }
    }
}

fn runs_here(root: &Path) -> Result<bool, Error> {
    for schema in file_names(root).unwrap_or_default() {
        if run_here(&root.join(schema).join("links").join(PICK_LISTENER))? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn bpf_mounts() -> Result<Vec<PathBuf>, Error> {
    let text = fs::read_to_string(MOUNTS).map_err(Error::file("read", MOUNTS))?;
    Ok(text.lines().filter_map(bpf_mount).collect())
}

/// `36 35 98:0 /root /where options - type source options`
fn bpf_mount(line: &str) -> Option<PathBuf> {
    let (place, kind) = line.split_once(" - ")?;
    let is_bpf = kind.split(' ').next() == Some("bpf");
    let place = place.split(' ').nth(4)?;
    is_bpf.then(|| {
        PathBuf::from(
            place.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\"),
        )
    })
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    let metadata: io::Result<fs::Metadata> = fs::metadata(path);
    metadata.ok().map(|metadata| (metadata.dev(), metadata.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_of_bpf_are_told_from_others() {
        let bpf = |place: &str| format!("33 24 0:29 / {place} rw,nosuid shared:9 - bpf bpf rw,mode=700");
        assert_eq!(bpf_mount(&bpf("/sys/fs/bpf")), Some("/sys/fs/bpf".into()));
        assert_eq!(bpf_mount(&bpf("/a\\040b\\134040")), Some("/a b\\040".into()));
        assert_eq!(bpf_mount("33 24 0:29 / /tmp rw - tmpfs bpf rw"), None);
        assert_eq!(bpf_mount(""), None);
    }
}
