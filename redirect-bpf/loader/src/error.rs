//! What can go wrong between Sluice and the kernel: what was attempted, why it failed, and what helps.

use aya::EbpfError;
use aya::maps::MapError;
use aya::programs::ProgramError;
use std::io;
use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error("no kernel object at `{}`: build it with `make bpf`, or set `[redirect] object`", .0.display())]
    ObjectMissing(PathBuf),
    #[error("redirection needs the capabilities {missing}: run as root, or set `[redirect] mode = \"none\"`")]
    Privileges { missing: String },
    #[error("this kernel is too old: redirection needs Linux 5.10 or newer")]
    KernelTooOld,
    #[error("`{}` is not on a BPF file system: mount one there (`mount -t bpf bpf DIRECTORY`), or set `[redirect] bpffs`", .0.display())]
    NotBpffs(PathBuf),
    #[error("the pinned map `{}` has another layout than this version expects ({found}): run `sluice uninstall` and start again", .path.display())]
    PinnedMapDiffers { path: PathBuf, found: String },
    #[error("the pins in `{}` belong to another network namespace: give every node its own `[redirect] bpffs`", .0.display())]
    OtherNamespace(PathBuf),
    #[error("the pins in `{}` are in use by another sluiced: stop it, or give every node its own `[redirect] bpffs`", .0.display())]
    InUse(PathBuf),
    #[error(
        "{0} has this network namespace already: stop it; one node has one sluiced, or one `sluice uninstall`, at a time"
    )]
    NamespaceInUse(String),
    #[error("can't lock this network namespace: {}", told(.0))]
    NamespaceLock(io::Error),
    #[error("what another sluiced pinned in `{}` runs in this network namespace: run `sluice uninstall`, or set `[redirect] bpffs` to the directory above", .0.display())]
    OtherPins(PathBuf),
    #[error("the kernel did not accept the object `{}`: {}", .object.display(), told(.cause))]
    Load { object: PathBuf, cause: Box<EbpfError> },
    #[error("the object has no program `{0}`: it is of another version, build it with `make bpf`")]
    ProgramMissing(&'static str),
    #[error("the object has no map `{0}`: it is of another version, build it with `make bpf`")]
    MapMissing(&'static str),
    #[error("the object `{}` is of another version: build it with `make bpf`", .0.display())]
    OtherObject(PathBuf),
    #[error("can't load the program `{program}`: {}", told(.cause))]
    Program { program: &'static str, cause: ProgramError },
    #[error("can't attach `{program}` to `{place}`: {}", told(.cause))]
    Attach { program: &'static str, place: String, cause: ProgramError },
    #[error("can't {action} the link `{}`: {}", .path.display(), told(.cause))]
    Link { action: &'static str, path: PathBuf, cause: io::Error },
    #[error("can't {action} the map {map}: {}", told(.cause))]
    Map { action: &'static str, map: &'static str, cause: MapError },
    #[error("can't read the map {map} in batches: {}", told(.cause))]
    Batch { map: &'static str, cause: io::Error },
    #[error("can't have flows collected: {0}")]
    Collect(io::Error),
    #[error("can't {action} `{}`: {}", .path.display(), told(.cause))]
    File { action: &'static str, path: PathBuf, cause: io::Error },
    #[error("can't {action}: {}", told(.cause))]
    Route { action: String, cause: io::Error },
    #[error(
        "marked packets are not delivered to this node over {family}, so inspected ports are dead: remove what comes before `fwmark 0x200/0xf00 lookup 2004` (`ip rule`), or is in table 2004 beside our route"
    )]
    MarkIgnored { family: &'static str },
    #[error("this kernel has no netfilter programs (Linux 6.4, `CONFIG_NETFILTER_BPF_LINK`, and its types in `/sys/kernel/btf`): {}", told(.0))]
    GuardUnsupported(io::Error),
    #[error("can't {action} that drops packets of pods without programs, {family}: {}", told(.cause))]
    Guard { action: &'static str, family: &'static str, cause: io::Error },
    #[error("can't look up the node's addresses: {}", told(.0))]
    Addresses(io::Error),
    #[error("can't look up network interfaces: {0}")]
    Interfaces(io::Error),
    #[error("can't subscribe to changes of interfaces, routes and addresses: {0}")]
    Links(io::Error),
    #[error("can't open a raw socket for resets: {0}")]
    ResetSocket(io::Error),
}

impl Error {
    pub(crate) fn file(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |cause| Self::File { action, path, cause }
    }

    pub(crate) fn map(action: &'static str, map: &'static str) -> impl FnOnce(MapError) -> Self {
        move |cause| Self::Map { action, map, cause }
    }
}

/// The error and what it comes from, each said once: some of the kernel's errors repeat their cause, others keep it to
/// themselves. So [`Error`] says everything, and names no source that somebody might print as well.
fn told(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut below = error.source();
    while let Some(error) = below {
        let cause = error.to_string();
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
        below = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use aya::sys::SyscallError;
    use std::error::Error as _;

    #[track_caller]
    fn check(error: &Error, expect: &str) {
        assert_eq!(error.to_string(), expect);
        assert!(error.source().is_none());
    }

    fn refused() -> io::Error {
        io::Error::from_raw_os_error(libc::EPERM)
    }

    #[test]
    fn a_cause_that_is_kept_back_is_said() {
        let cause = MapError::SyscallError(SyscallError { call: "bpf_map_update_elem", io_error: refused() });
        check(
            &Error::map("write", "IPCACHE")(cause),
            "can't write the map IPCACHE: `bpf_map_update_elem` failed: Operation not permitted (os error 1)",
        );
    }

    #[test]
    fn a_cause_that_is_repeated_is_said_once() {
        let cause = Box::new(EbpfError::MapError(MapError::KeyNotFound));
        check(
            &Error::Load { object: "/x".into(), cause },
            "the kernel did not accept the object `/x`: map error: key not found",
        );
    }

    #[test]
    fn a_plain_cause_is_said() {
        check(&Error::file("open", "/x")(refused()), "can't open `/x`: Operation not permitted (os error 1)");
    }
}
