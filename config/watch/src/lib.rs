//! Sources of policies, merged into one settled set. Today: directories of files ([`file`]).
//!
//! INVARIANT: a file is read when its writing has ended, never half-written.
//! INVARIANT: what does not parse changes nothing: the last accepted text, kept in the state directory, stays in force.

mod barrier;
mod compile;
mod bounds;
mod merge;
mod directory;
mod changes;
mod store;
mod file;

pub use crate::bounds::Bounds;

use crate::changes::Message;
use crate::file::Shell;
use policy_model::parse::Diagnostic;
use policy_model::rule::{ObjectName, Policy};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::{oneshot, watch};

#[derive(Clone, Debug)]
pub struct Settings {
    pub directories: Vec<PathBuf>,
    /// Last accepted texts are kept below `<state>/policies/`.
    pub state_directory: PathBuf,
    /// A set is settled when nothing changed for this long; 10 ms.
    pub settle: Duration,
    pub bounds: Bounds,
}

/// One settled set of policies: what every source says at one moment, merged.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PolicySet {
    /// Counts settled changes since the start of the process.
    pub version: u64,
    /// In force: accepted, last accepted, or closed. Sorted by name.
    pub policies: Vec<Arc<Policy>>,
    pub reports: Vec<Report>,
}

/// What is to be said about one file or object.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    pub file: PathBuf,
    /// `None` where the whole file is meant.
    pub object: Option<ObjectName>,
    /// What is in force instead.
    pub instead: Instead,
    pub diagnostics: Vec<Diagnostic>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instead {
    /// What it says is in force; the diagnostics are warnings, or tell what else went wrong.
    AsWritten,
    ClosedForm,
    LastAccepted,
    Nothing,
}

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A file does not parse and no accepted text of it is known.
    #[error("`{}` does not parse and was never accepted before", .file.display())]
    Unparsable { file: PathBuf, diagnostics: Vec<Diagnostic> },
    #[error("policy directory `{}`: {source}", .directory.display())]
    Directory { directory: PathBuf, source: std::io::Error },
    #[error("state directory `{}`: {source}", .directory.display())]
    State { directory: PathBuf, source: std::io::Error },
}

/// Owns the watching thread; dropping it stops it.
#[derive(Debug)]
pub struct Watcher {
    messages: Sender<Message>,
    thread: Option<JoinHandle<()>>,
}

impl Watcher {
    /// Reads everything once (the receiver's first value is complete), then watches.
    ///
    /// # Errors
    /// A directory can't be read or watched, or a file can't be used and was never accepted before.
    pub fn start(settings: Settings) -> Result<(Self, watch::Receiver<Arc<PolicySet>>), StartError> {
        let (messages, inbox) = std::sync::mpsc::channel();
        let state_directory = settings.state_directory.clone();
        let (shell, set) = Shell::start(settings, messages.clone(), inbox)?;
        let (sets, receiver) = watch::channel(set);
        let thread = std::thread::Builder::new()
            .name("policy-watch".to_owned())
            .spawn(move || {
                compile::give_way();
                shell.run(&sets);
            })
            .map_err(|source| StartError::State { directory: state_directory, source })?;
        Ok((Self { messages, thread: Some(thread) }, receiver))
    }

    /// Reads every file again now (SIGHUP); returns when the new set has been sent, or nothing was new.
    pub async fn reload(&self) {
        let (done, waiting) = oneshot::channel();
        if self.messages.send(Message::Reload(done)).is_ok() {
            // An error means that the thread has ended: there is nothing to wait for.
            let _done = waiting.await;
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let _stopped_before = self.messages.send(Message::Stop);
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join();
        }
    }
}

#[cfg(test)]
mod tests;
