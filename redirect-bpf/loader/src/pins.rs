//! Where things are pinned, and that what is pinned is what this version expects.
//!
//! ```text
//! <bpffs>/sluice/<schema>/maps/ENDPOINTS ...
//!                         links/lxc-deathstar-1:from_endpoint, ..., pick_listener
//!                         guard/forward_ipv4, local_in_ipv6, post_routing_ipv4, ...
//! ```

use crate::error::Error;
use aya::maps::{Map, MapData, MapError};
use redirect_abi::{
    Account, Address, Aggregate, AggregateKey, Endpoint, Event, FlowKey, FlowState, FragmentKey,
    FragmentPlace, FragmentValue, IpcacheKey, Neighbour, Payer, Pool, Quota, SCHEMA, Settings,
};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Where bpffs is expected; mounted here where it is missing.
pub const BPFFS_DEFAULT: &str = "/sys/fs/bpf";
/// `f_type` of a BPF file system.
const BPFFS_MAGIC: i64 = 0xcafe_4a11;

/// Directory of the guard's links, below that of a schema.
pub(crate) const GUARD: &str = "guard";

/// Held by one process at a time.
#[derive(Debug)]
pub(crate) struct Lock(File);

impl Lock {
    /// `false`: the directory was removed, and another one has its name.
    pub(crate) fn holds(&self, pins: &Pins) -> bool {
        let identity = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
        self.0.metadata().ok().map(identity) == fs::metadata(&pins.root).ok().map(identity)
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // To close the file is not enough while a process that is being started has a copy of it.
        let _result = flock(&self.0, FlockOperation::Unlock);
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Pins {
    /// `<bpffs>/sluice`.
    root: PathBuf,
}

/// A map by name, with the sizes of its keys and values; 0 where the kernel chooses.
struct Shape {
    name: &'static str,
    key_size: usize,
    value_size: usize,
}

const PREFIX_LENGTH: usize = size_of::<u32>();

const MAPS: &[Shape] = &[
    shape("ACCOUNTS", size_of::<Payer>(), size_of::<Account>()),
    shape("ADDRESSES", size_of::<Address>(), size_of::<Endpoint>()),
    shape("AGGREGATES", size_of::<AggregateKey>(), size_of::<Aggregate>()),
    shape("ATTACHED", size_of::<u32>(), size_of::<u64>()),
    shape("CONNTRACK", size_of::<FlowKey>(), size_of::<FlowState>()),
    shape("COUNTERS", size_of::<u32>(), size_of::<u64>()),
    shape("ENDPOINTS", size_of::<u32>(), size_of::<Endpoint>()),
    shape("EVENTS", 0, 0),
    shape("FRAGMENTS", size_of::<FragmentKey>(), size_of::<FragmentValue>()),
    shape("FRAGMENT_PLACES", size_of::<FragmentPlace>(), size_of::<FragmentKey>()),
    shape("IPCACHE", PREFIX_LENGTH + size_of::<IpcacheKey>(), size_of::<u32>()),
    shape("LISTENERS", size_of::<u32>(), 0),
    shape("NEIGHBOURS", size_of::<u32>(), size_of::<Neighbour>()),
    shape("OUTSIDERS", size_of::<Payer>(), size_of::<Account>()),
    shape("OVERFLOW", size_of::<FlowKey>(), size_of::<FlowState>()),
    shape("OVERFLOWED", size_of::<u32>(), size_of::<u64>()),
    shape("POLICIES", size_of::<u32>(), size_of::<u32>()),
    shape("POOLS", size_of::<u32>(), size_of::<Pool>()),
    shape("PROXIED", size_of::<FlowKey>(), size_of::<FlowState>()),
    shape("QUOTAS", size_of::<u32>(), size_of::<Quota>()),
    shape("SETTINGS", size_of::<u32>(), size_of::<Settings>()),
];

// The size of an event is no map's: it is checked where events are read.
const _: () = assert!(size_of::<Event>() == 72);

const fn shape(name: &'static str, key_size: usize, value_size: usize) -> Shape {
    Shape { name, key_size, value_size }
}

impl Pins {
    /// Where pins are below `bpffs`; touches nothing.
    pub(crate) fn below(bpffs: &Path) -> Self {
        Self { root: bpffs.join("sluice") }
    }

    /// Makes the directories. `mounted` is called if a BPF file system had to be mounted.
    pub(crate) fn prepare(bpffs: &Path, mounted: impl FnOnce() -> Result<(), Error>) -> Result<Self, Error> {
        if !is_bpffs(bpffs) && bpffs == Path::new(BPFFS_DEFAULT) {
            mount("bpf", bpffs, "bpf", MountFlags::empty(), None)
                .map_err(|errno| Error::file("mount a BPF file system at", bpffs)(errno.into()))?;
            mounted()?;
        }
        let pins = Self::below(bpffs);
        for directory in [pins.maps(), pins.links(), pins.guard()] {
            durable::make_directory(&directory, durable::PRIVATE_DIRECTORY)
                .map_err(Error::file("create the directory", directory))?;
        }
        if is_bpffs(&pins.root) { Ok(pins) } else { Err(Error::NotBpffs(bpffs.into())) }
    }

    /// These pins are this process's until the lock is dropped.
    pub(crate) fn lock(&self) -> Result<Lock, Error> {
        let file = File::open(&self.root).map_err(Error::file("open", &self.root))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Lock(file)),
            Err(Errno::WOULDBLOCK) => Err(Error::InUse(self.root.clone())),
            Err(errno) => Err(Error::file("lock", &self.root)(errno.into())),
        }
    }

    /// The maps that are pinned already have the layout of this version. The directory is named by the schema, but a
    /// program that reads a map of another layout would be loaded all the same.
    pub(crate) fn check(&self) -> Result<(), Error> {
        MAPS.iter().try_for_each(|shape| self.check_map(shape))
    }

    fn check_map(&self, shape: &Shape) -> Result<(), Error> {
        let path = self.map(shape.name);
        if !path.exists() {
            return Ok(());
        }
        let info =
            MapData::from_pin(&path).and_then(|map| map.info()).map_err(Error::map("open", shape.name))?;
        let fits = |expected: usize, found: u32| expected == 0 || usize::try_from(found) == Ok(expected);
        if fits(shape.key_size, info.key_size()) && fits(shape.value_size, info.value_size()) {
            return Ok(());
        }
        let found = format!("keys of {} bytes, values of {}", info.key_size(), info.value_size());
        Err(Error::PinnedMapDiffers { path, found })
    }

    /// Whether every map is pinned. A link that is not, does not run either.
    pub(crate) fn are_complete(&self) -> bool {
        self.links().is_dir() && self.guard().is_dir() && self.all_maps().all(|(_, path)| path.exists())
    }

    /// Every map with the path of its pin.
    pub(crate) fn all_maps(&self) -> impl Iterator<Item = (&'static str, PathBuf)> {
        MAPS.iter().map(|shape| (shape.name, self.map(shape.name)))
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Directories of pins of other versions of the schema.
    pub(crate) fn other_schemas(&self) -> Result<Vec<PathBuf>, Error> {
        let names = file_names(&self.root)?.into_iter().filter(|name| name != SCHEMA);
        Ok(names.map(|name| self.root.join(name)).collect())
    }

    /// Whether programs of another version are pinned for an interface.
    pub(crate) fn other_schema_has(&self, interface: &str) -> Result<bool, Error> {
        let links = |schema: PathBuf| file_names(&schema.join("links"));
        for names in self.other_schemas()?.into_iter().map(links) {
            let is_its = |name: &String| {
                name.split_once(':').is_some_and(|(escaped, _)| unescaped(escaped) == interface)
            };
            if names?.iter().any(is_its) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    pub(crate) fn map(&self, name: &str) -> PathBuf {
        self.maps().join(name)
    }

    pub(crate) fn link(&self, name: &str) -> PathBuf {
        self.links().join(name)
    }

    /// The pin of a program's link to an interface.
    pub(crate) fn interface_link(&self, interface: &str, program: &str) -> PathBuf {
        self.link(&format!("{}:{program}", escaped(interface)))
    }

    /// Interfaces that a link is pinned for.
    pub(crate) fn linked_interfaces(&self) -> Result<Vec<Box<str>>, Error> {
        let mut interfaces: Vec<Box<str>> = file_names(&self.links())?
            .iter()
            .filter_map(|name| name.split_once(':').map(|(interface, _)| unescaped(interface).into()))
            .collect();
        interfaces.sort();
        interfaces.dedup();
        Ok(interfaces)
    }

    /// The pin of one of the links that hold packets of pods without programs.
    pub(crate) fn guard_link(&self, name: &str) -> PathBuf {
        self.guard().join(name)
    }

    fn guard(&self) -> PathBuf {
        self.root.join(SCHEMA).join(GUARD)
    }

    fn maps(&self) -> PathBuf {
        self.root.join(SCHEMA).join("maps")
    }

    fn links(&self) -> PathBuf {
        self.root.join(SCHEMA).join("links")
    }
}

/// Removes a pin; what it holds is released unless somebody else holds it. `false`: there was none.
pub(crate) fn unpin(path: &Path) -> Result<bool, Error> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Error::file("remove the pin", path)(error)),
    }
}

/// A pinned map, its layout checked by aya against the type asked for.
pub(crate) fn open<M: TryFrom<Map, Error = MapError>>(pins: &Pins, name: &'static str) -> Result<M, Error> {
    let map = MapData::from_pin(pins.map(name)).and_then(Map::from_map_data).and_then(M::try_from);
    map.map_err(Error::map("open", name))
}

pub(crate) fn ignoring_absence(answer: Result<(), MapError>) -> Result<(), MapError> {
    match answer {
        Err(MapError::SyscallError(error)) if error.io_error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        Err(MapError::KeyNotFound | MapError::ElementNotFound) => Ok(()),
        other => other,
    }
}

/// Names in a directory, sorted; none where it does not exist.
pub(crate) fn file_names(directory: &Path) -> Result<Vec<String>, Error> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::file("read the directory", directory)(error)),
    };
    let names = entries.map(|entry| entry.map(|e| e.file_name().to_string_lossy().into_owned()));
    let mut names: Vec<String> =
        names.collect::<io::Result<_>>().map_err(Error::file("read the directory", directory))?;
    names.sort();
    Ok(names)
}

fn is_bpffs(path: &Path) -> bool {
    rustix::fs::statfs(path).is_ok_and(|stat| stat.f_type == BPFFS_MAGIC)
}

/// bpffs refuses names with a dot, which those of VLAN interfaces have.
fn escaped(interface: &str) -> String {
    interface.replace('%', "%25").replace('.', "%2e").replace(':', "%3a")
}

fn unescaped(name: &str) -> String {
    name.replace("%3a", ":").replace("%2e", ".").replace("%25", "%")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interface_names_survive_being_pinned() {
        for name in ["eth0", "eth0.100", "a%2eb", "a:b", "%", "%25.%3a"] {
            let escaped = escaped(name);
            assert!(!escaped.contains(['.', ':']), "{escaped}");
            assert_eq!(unescaped(&escaped), name);
        }
    }

    #[test]
    fn pins_are_named_by_schema_interface_and_program() {
        let pins = Pins::below(Path::new("/sys/fs/bpf"));
        assert_eq!(pins.map("POLICIES"), Path::new("/sys/fs/bpf/sluice/v3/maps/POLICIES"));
        let link = pins.interface_link("eth0.1", "from_endpoint");
        assert_eq!(link, Path::new("/sys/fs/bpf/sluice/v3/links/eth0%2e1:from_endpoint"));
    }
}
