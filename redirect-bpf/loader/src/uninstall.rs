//! Undoes everything that `Redirector` sets up, whether or not a process still runs, as often as one likes.

use crate::attach::{SIDES, check_namespace, remove_filter};
use crate::error::Error;
use crate::interfaces::Interfaces;
use crate::pins::{BPFFS_DEFAULT, GUARD, Pins, file_names, open, unpin};
use crate::pod::Raw;
use crate::{Settings, namespace, neighbours, routes, sysctls};
use aya::maps::{HashMap, MapData};
use redirect_abi::Endpoint;
use rustix::mount::{UnmountFlags, unmount};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Undoes everything: links, pins, routes, rules, sysctls (old values). Idempotent. Returns what was undone, a line each.
pub fn uninstall(settings: &Settings) -> Result<Vec<String>, Error> {
    let pins = Pins::below(&settings.bpffs);
    check_namespace(&pins)?;
    // Nobody runs, and nobody starts meanwhile.
    let _namespace = namespace::lock()?;
    let mut undone = remove_root(&pins)?;
    for root in namespace::roots_here(pins.root())? {
        if let Some(bpffs) = root.parent() {
            let removed = remove_root(&Pins::below(bpffs))?;
            undone.extend(removed.into_iter().map(|line| format!("{line}, pinned in {}", root.display())));
        }
    }
    undone.extend(neighbours::remove_all()?);
    undone.extend(routes::remove()?);
    undone.extend(sysctls::restore(&settings.state_directory)?);
    undone.extend(unmount_bpffs(settings)?);
    Ok(undone)
}

fn remove_root(pins: &Pins) -> Result<Vec<String>, Error> {
    if !pins.root().exists() {
        return Ok(Vec::new());
    }
    // Of older versions, which lock nothing else.
    let _lock = pins.lock()?;
    let mut undone = remove_filters(pins)?;
    // Other versions pinned below the same root.
    for schema in file_names(pins.root())? {
        undone.extend(remove_pins(&pins.root().join(schema))?);
    }
    remove_directory(pins.root())?;
    Ok(undone)
}

/// Called when a BPF file system had to be mounted, so that it can be unmounted.
pub(crate) fn remember_mount(settings: &Settings) -> Result<(), Error> {
    let file = mount_file(settings);
    durable::make_directory(&settings.state_directory, durable::PRIVATE_DIRECTORY)
        .map_err(Error::file("create the directory", &settings.state_directory))?;
    durable::replace(&file, durable::PRIVATE_FILE, b"").map_err(Error::file("write", file))
}

/// Takes down what another version of the schema left running.
pub(crate) fn remove_schema(schema: &Path) -> Result<(), Error> {
    for line in remove_pins(schema)? {
        tracing::info!(schema = %schema.display(), "{line}");
    }
    Ok(())
}

/// Filters of clsact qdiscs are not pinned. The interfaces are known from the endpoints.
fn remove_filters(pins: &Pins) -> Result<Vec<String>, Error> {
    if !pins.map("ENDPOINTS").exists() {
        return Ok(Vec::new());
    }
    let endpoints: HashMap<MapData, u32, Raw<Endpoint>> = open(pins, "ENDPOINTS")?;
    let interfaces = Interfaces::open()?;
    let mut undone = Vec::new();
    for name in endpoints.keys().filter_map(|index| interfaces.name(index.ok()?)) {
        let removed = SIDES.iter().filter(|side| remove_filter(&name, **side));
        undone.extend(removed.map(|side| format!("removed the filter {} from {name}", side.program)));
    }
    Ok(undone)
}

/// The guard first: it would hold what comes from interfaces that have lost their programs. Links before maps: without its
/// policies a program would drop everything.
fn remove_pins(schema: &Path) -> Result<Vec<String>, Error> {
    let mut undone = Vec::new();
    for (directory, what) in
        [(schema.join(GUARD), "guard"), (schema.join("links"), "link"), (schema.join("maps"), "map")]
    {
        for name in file_names(&directory)? {
            if unpin(&directory.join(&name))? {
                undone.push(format!("removed the {what} {name}"));
            }
        }
        remove_directory(&directory)?;
    }
    remove_directory(schema)?;
    Ok(undone)
}

fn remove_directory(path: &Path) -> Result<(), Error> {
    match fs::remove_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::file("remove the directory", path)(error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Only the one that we mounted, and only if nobody else has put anything there.
fn unmount_bpffs(settings: &Settings) -> Result<Option<String>, Error> {
    let file = mount_file(settings);
    if !file.exists() {
        return Ok(None);
    }
    // Names with a dot are the kernel's own: it puts two files into every new BPF file system, and lets nobody else use one.
    let others = file_names(Path::new(BPFFS_DEFAULT))?.iter().any(|name| !name.contains('.'));
    // Detached: a descriptor that a child of another thread holds until its exec must not keep an empty file system mounted.
    let unmounted = !others && unmount(BPFFS_DEFAULT, UnmountFlags::DETACH).is_ok();
    fs::remove_file(&file).map_err(Error::file("remove", file))?;
    Ok(unmounted.then(|| format!("unmounted {BPFFS_DEFAULT}")))
}

fn mount_file(settings: &Settings) -> PathBuf {
    settings.state_directory.join("bpffs-mounted")
}
