//! The accepted texts on disk: `<state>/policies/objects/` and `<state>/policies/files/`, one file a text.
//!
//! A file is a line with the text's checksum, then the text. It is written aside and renamed into place; what is torn
//! all the same (a power loss) fails its checksum and counts as absent: half a policy may deny half as much.

use crate::StartError;
use crate::merge::{Accepted, checksum};
use durable::{PRIVATE_DIRECTORY, PRIVATE_FILE};
use std::collections::BTreeMap;
use std::fs;
use std::io::{Error, ErrorKind, Result, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

#[derive(Debug)]
pub(crate) struct Store {
    directory: PathBuf,
    /// What is on disk.
    saved: Accepted,
}

type Texts = BTreeMap<String, Arc<str>>;

/// Under this name texts are written before they are renamed. No key begins with a dot.
const ASIDE: &str = ".aside";

impl Store {
    /// # Errors
    /// The state directory can't be made or read.
    pub(crate) fn open(state_directory: &Path) -> std::result::Result<Self, StartError> {
        let directory = state_directory.join("policies");
        let state = |source| StartError::State { directory: directory.clone(), source };
        let saved = Accepted {
            objects: load(&directory.join("objects")).map_err(state)?,
            files: load(&directory.join("files")).map_err(state)?,
        };
        Ok(Self { directory, saved })
    }

    pub(crate) fn accepted(&self) -> &Accepted {
        &self.saved
    }

    /// Writes what is new and removes what is gone. What fails is tried again at the next call.
    ///
    /// # Errors
    /// The first text that could not be kept.
    pub(crate) fn save(&mut self, accepted: &Accepted) -> Result<()> {
        let objects = sync(&self.directory.join("objects"), &mut self.saved.objects, &accepted.objects);
        let files = sync(&self.directory.join("files"), &mut self.saved.files, &accepted.files);
        objects.and(files)
    }
}

fn load(directory: &Path) -> Result<Texts> {
    durable::make_directory(directory, PRIVATE_DIRECTORY)?;
    let mut texts = Texts::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if let Ok(name) = entry.file_name().into_string()
            && let Some(text) = whole(&fs::read(entry.path())?)
        {
            let _none = texts.insert(name, text);
        }
    }
    Ok(texts)
}

/// The text behind a checksum that fits it.
fn whole(bytes: &[u8]) -> Option<Arc<str>> {
    let (first, text) = std::str::from_utf8(bytes).ok()?.split_once('\n')?;
    (first == header(text)).then(|| text.into())
}

fn header(text: &str) -> String {
    format!("{:016x}", checksum(text.as_bytes()))
}

fn sync(directory: &Path, saved: &mut Texts, wanted: &Texts) -> Result<()> {
    if saved == wanted {
        return Ok(());
    }
    let mut failed = Ok(());
    let gone: Vec<String> = saved.keys().filter(|key| !wanted.contains_key(*key)).cloned().collect();
    for key in gone {
        let path = directory.join(&key);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                failed = failed.and(Err(named(&path, error)))
            }
            Ok(()) | Err(_) => {
                let _text = saved.remove(&key);
            }
        }
    }
    for (key, text) in wanted {
        if saved.get(key) == Some(text) {
            continue;
        }
        match write(directory, key, text) {
            Err(error) => failed = failed.and(Err(error)),
            Ok(()) => saved.extend([(key.clone(), Arc::clone(text))]),
        }
    }
    failed.and(durable::sync_directory(directory).map_err(|error| named(directory, error)))
}

fn write(directory: &Path, key: &str, text: &str) -> Result<()> {
    let path = directory.join(key);
    let aside = directory.join(ASIDE);
    let write = || {
        durable::create(&aside, PRIVATE_FILE)?.write_all(format!("{}\n{text}", header(text)).as_bytes())?;
        fs::rename(&aside, &path)
    };
    write().map_err(|error| named(&path, error))
}

fn named(path: &Path, error: Error) -> Error {
    Error::new(error.kind(), format!("`{}`: {error}", path.display()))
}
