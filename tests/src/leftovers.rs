//! What a process that was killed could not remove: namespaces, pins and directories are named after its pid.

use crate::netns;
use anyhow::Result;
use rustix::process::{Pid, Signal, kill_process};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, Once, PoisonError};

const PREFIX: &str = "sluice-";

/// Processes that we started and that have not been waited for.
static CHILDREN: Mutex<Vec<u32>> = Mutex::new(Vec::new());

/// A name for one node of this process: `sluice-<pid>-<n>`. The first call removes what dead processes left.
pub fn fresh_name() -> String {
    static SWEPT: Once = Once::new();
    static NEXT: AtomicU32 = AtomicU32::new(0);
    SWEPT.call_once(sweep);
    format!("{PREFIX}{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Where the pins of a node of this name go: below the machine's bpffs, which is mounted where it is missing.
pub fn pin_directory(name: &str) -> Result<PathBuf> {
    static MOUNT: Mutex<()> = Mutex::new(());
    let _one_at_a_time = MOUNT.lock().unwrap_or_else(PoisonError::into_inner);
    if !std::fs::read_to_string("/proc/mounts")?.lines().any(|mount| mount.contains(" /sys/fs/bpf bpf ")) {
        netns::run(&["mount", "-t", "bpf", "bpf", "/sys/fs/bpf"])?;
    }
    Ok(Path::new("/sys/fs/bpf").join(name))
}

/// Where its files go.
pub fn directory(name: &str) -> PathBuf {
    std::env::temp_dir().join(name)
}

/// Remembers a process for [`remove_own`].
pub fn started(pid: u32) {
    CHILDREN.lock().unwrap_or_else(PoisonError::into_inner).push(pid);
}

/// Forgets a process that was waited for: its number may soon be somebody else's.
pub fn ended(pid: u32) {
    CHILDREN.lock().unwrap_or_else(PoisonError::into_inner).retain(|&child| child != pid);
}

/// Ends and removes everything of this process at once, for one that is about to exit without dropping its values.
pub fn remove_own() {
    for pid in CHILDREN.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
        if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
            let _result = kill_process(pid, Signal::KILL);
        }
    }
    remove(|pid| pid == std::process::id());
}

/// Removes what processes that are gone left behind.
fn sweep() {
    remove(|pid| !Path::new(&format!("/proc/{pid}")).exists());
}

fn remove(of: impl Fn(u32) -> bool) {
    for namespace in names_in(Path::new("/run/netns"), &of) {
        let _result = netns::run(&["ip", "netns", "del", &namespace]);
    }
    for place in [PathBuf::from("/sys/fs/bpf"), std::env::temp_dir()] {
        for name in names_in(&place, &of) {
            let _result = std::fs::remove_dir_all(place.join(name));
        }
    }
}

/// Entries named after a process for which `of` holds.
fn names_in(place: &Path, of: &impl Fn(u32) -> bool) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(place) else { return Vec::new() };
    let names = entries.filter_map(|e| e.ok()?.file_name().into_string().ok());
    names.filter(|name| pid_of(name).is_some_and(of)).collect()
}

fn pid_of(name: &str) -> Option<u32> {
    name.strip_prefix(PREFIX)?.split('-').next()?.parse().ok()
}
