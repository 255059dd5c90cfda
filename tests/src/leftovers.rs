//! What a process that was killed could not remove: namespaces, pins and directories are named after its pid.

use crate::commands;
use anyhow::Result;
use rustix::process::{Pid, Signal, WaitOptions, kill_process, kill_process_group, waitpid};
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

const PREFIX: &str = "sluice-";

/// Held while something is made that outlives the process. [`remove_own`] never gives it back: nothing is made behind it.
static MAKING: Mutex<()> = Mutex::new(());

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
        commands::run(&["mount", "-t", "bpf", "bpf", "/sys/fs/bpf"])?;
    }
    Ok(Path::new("/sys/fs/bpf").join(name))
}

/// Where its files go.
pub fn directory(name: &str) -> PathBuf {
    std::env::temp_dir().join(name)
}

/// Makes a directory below [`directory`].
pub fn make_directory(path: &Path) -> io::Result<()> {
    let _making = making();
    std::fs::create_dir_all(path)
}

/// To be held while a namespace or a process is made.
pub fn making() -> MutexGuard<'static, ()> {
    MAKING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts a process that [`remove_own`] ends. It is out of reach of the terminal's Ctrl-C, which is for this process alone:
/// it then ends what it has started.
///
/// # Errors
/// It can't be started.
pub fn start(command: &mut Command) -> io::Result<Child> {
    let _making = making();
    let child = command.process_group(0).spawn()?;
    CHILDREN.lock().unwrap_or_else(PoisonError::into_inner).push(child.id());
    Ok(child)
}

/// Forgets a process that was waited for: its number may soon be somebody else's.
pub fn ended(pid: u32) {
    CHILDREN.lock().unwrap_or_else(PoisonError::into_inner).retain(|&child| child != pid);
}

/// Ends and removes everything of this process at once, for one that is about to exit without dropping its values.
pub fn remove_own() {
    std::mem::forget(making());
    for pid in CHILDREN.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
        if let Some(pid) = process(pid) {
            // With what it has started: each leads a group.
            let _result = kill_process_group(pid, Signal::KILL);
            // Else its last doings might come behind ours.
            let _status = waitpid(Some(pid), WaitOptions::empty());
        }
    }
    remove(|pid| pid == std::process::id());
}

/// Removes what processes that are gone left behind.
fn sweep() {
    let is_gone = |pid| !Path::new(&format!("/proc/{pid}")).exists();
    end_orphans(&is_gone);
    remove(is_gone);
}

/// Ends daemons of processes for which `of` holds: one of their arguments is a file in that process's directory.
fn end_orphans(of: &impl Fn(u32) -> bool) {
    let Ok(entries) = std::fs::read_dir("/proc") else { return };
    for pid in entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()) {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let mut arguments =
            line.split(|&byte| byte == 0).map(|argument| Path::new(OsStr::from_bytes(argument)));
        let is_daemon = arguments.next().is_some_and(|program| program.ends_with("sluiced"));
        if is_daemon
            && arguments.any(|path| owner(path).is_some_and(of))
            && let Some(pid) = process(pid)
        {
            let _result = kill_process(pid, Signal::KILL);
        }
    }
}

/// The process whose [`directory`] this file is in.
fn owner(file: &Path) -> Option<u32> {
    let below = file.strip_prefix(std::env::temp_dir()).ok()?;
    pid_of(below.iter().next()?.to_str()?)
}

fn process(pid: u32) -> Option<Pid> {
    i32::try_from(pid).ok().and_then(Pid::from_raw)
}

fn remove(of: impl Fn(u32) -> bool) {
    for namespace in names_in(Path::new("/run/netns"), &of) {
        let _result = commands::run(&["ip", "netns", "del", &namespace]);
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
