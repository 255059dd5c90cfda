//! Kernel settings of this network namespace that redirection needs, with their old values kept for uninstall.
//!
//! The old values are in `<state directory>/sysctls`, `NAME VALUE` a line. INVARIANT: what is written there first stays: a later
//! start would find our own value and take it for the old one.

use crate::error::Error;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Name and value. `tcp_early_demux` would attach a socket of the node's, even one in TIME_WAIT, to a forwarded packet of the
/// same four-tuple, and the kernel drops forwarded packets that have a socket. Holds for both families.
const WANTED: &[(&str, &str)] = &[("net/ipv4/tcp_early_demux", "0")];

const PROC: &str = "/proc/sys";

pub(crate) fn set(state_directory: &Path) -> Result<(), Error> {
    let mut saved = read_saved(state_directory)?;
    for (name, wanted) in WANTED {
        let current = read(name)?;
        if current == *wanted {
            continue;
        }
        if !saved.contains_key(*name) {
            let _none = saved.insert((*name).into(), current);
            write_saved(state_directory, &saved)?;
        }
        write(name, wanted)?;
    }
    Ok(())
}

/// What differs from what was set: name and value.
pub(crate) fn changed() -> Result<Vec<(&'static str, String)>, Error> {
    let mut changed = Vec::new();
    for (name, wanted) in WANTED {
        let current = read(name)?;
        if current != *wanted {
            changed.push((*name, current));
        }
    }
    Ok(changed)
}

/// As `sysctl` writes it.
pub(crate) fn dotted(name: &str) -> String {
    name.replace('/', ".")
}

/// Writes the old values back; a line for each.
pub(crate) fn restore(state_directory: &Path) -> Result<Vec<String>, Error> {
    let mut undone = Vec::new();
    for (name, old) in read_saved(state_directory)? {
        write(&name, &old)?;
        undone.push(format!("set {} back to {old}", dotted(&name)));
    }
    match fs::remove_file(file(state_directory)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::file("remove", file(state_directory))(error))
        }
        Ok(()) | Err(_) => Ok(undone),
    }
}

/// The value of a setting, if this kernel has it.
pub(crate) fn read(name: &str) -> Result<String, Error> {
    let path = Path::new(PROC).join(name);
    let value = fs::read_to_string(&path).map_err(Error::file("read the kernel setting", path))?;
    Ok(value.trim().into())
}

fn write(name: &str, value: &str) -> Result<(), Error> {
    let path = Path::new(PROC).join(name);
    fs::write(&path, value).map_err(Error::file("change the kernel setting", path))
}

fn file(state_directory: &Path) -> PathBuf {
    state_directory.join("sysctls")
}

fn read_saved(state_directory: &Path) -> Result<BTreeMap<String, String>, Error> {
    match fs::read_to_string(file(state_directory)) {
        Ok(text) => Ok(parse(&text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(BTreeMap::new()),
        Err(error) => Err(Error::file("read", file(state_directory))(error)),
    }
}

fn write_saved(state_directory: &Path, saved: &BTreeMap<String, String>) -> Result<(), Error> {
    let text: String = saved.iter().map(|(name, value)| format!("{name} {value}\n")).collect();
    durable::make_directory(state_directory, durable::PRIVATE_DIRECTORY)
        .map_err(Error::file("create the directory", state_directory))?;
    let path = file(state_directory);
    durable::replace(&path, durable::PRIVATE_FILE, text.as_bytes()).map_err(Error::file("write", path))
}

fn parse(text: &str) -> BTreeMap<String, String> {
    text.lines().filter_map(|line| line.split_once(' ')).map(|(n, v)| (n.into(), v.into())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn saved_values_are_read_back() {
        let directory = std::env::temp_dir().join(format!("ldr-sysctls-{}", std::process::id()));
        let saved = BTreeMap::from([("net/ipv4/a".to_owned(), "1".to_owned()), ("b".into(), "4 5 6".into())]);
        write_saved(&directory, &saved).unwrap();
        assert_eq!(read_saved(&directory).unwrap(), saved);
        fs::remove_dir_all(&directory).unwrap();
        assert_eq!(read_saved(&directory).unwrap(), BTreeMap::new());
    }
}
