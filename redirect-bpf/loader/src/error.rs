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
    #[error("the kernel did not accept the object `{}`: {source}", .object.display())]
    Load { object: PathBuf, source: Box<EbpfError> },
    #[error("the object has no program `{0}`: it is of another version, build it with `make bpf`")]
    ProgramMissing(&'static str),
    #[error("can't load the program `{program}`: {source}")]
    Program { program: &'static str, source: ProgramError },
    #[error("can't attach `{program}` to `{place}`: {source}")]
    Attach { program: &'static str, place: String, source: ProgramError },
    #[error("can't {action} the link `{}`: {source}", .path.display())]
    Link { action: &'static str, path: PathBuf, source: io::Error },
    #[error("can't {action} the map {map}: {source}")]
    Map { action: &'static str, map: &'static str, source: MapError },
    #[error("can't read the map {map} in batches: {source}")]
    Batch { map: &'static str, source: io::Error },
    #[error("can't {action} `{}`: {source}", .path.display())]
    File { action: &'static str, path: PathBuf, source: io::Error },
    #[error("can't {action}: {source}")]
    Route { action: String, source: io::Error },
    #[error("can't look up network interfaces: {0}")]
    Interfaces(io::Error),
    #[error("can't open a raw socket for resets: {0}")]
    ResetSocket(io::Error),
}

impl Error {
    pub(crate) fn file(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { action, path, source }
    }

    pub(crate) fn map(action: &'static str, map: &'static str) -> impl FnOnce(MapError) -> Self {
        move |source| Self::Map { action, map, source }
    }
}
