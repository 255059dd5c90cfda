//! Policy files: a thread that waits for changes and reads what has been written to its end.
//!
//! ```text
//!            an event                 quiet for `settle`
//! waiting ─────────────► settling ─────────────────────► reading ─► listening ─► sending ─► waiting
//!    │                                                                  │
//!    └─ polls, only while a directory is missing,                       └─ what was touched meanwhile may be
//!       or the state directory takes nothing                               half a file: it is taken back
//! ```
//!
//! INVARIANT: between the first byte written to a file and its close, its content of before stays.
//! INVARIANT: a directory that is missing keeps what it held: its absence is no permission.
//! INVARIANT: what is in a directory is read after it is watched, and again whenever it had to be watched anew.

use crate::barrier::Barrier;
use crate::changes::{Changes, Message};
use crate::compile::Compiler;
use crate::directory::{self, FILES_MAX};
use crate::merge::{Content, Files, State, file_key};
use crate::store::Store;
use crate::{Instead, PolicySet, Report, Settings, StartError};
use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use policy_model::parse::Judged;
use policy_model::rule::Policy;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// How often a directory that is missing is looked for, and what could not be written is tried again.
const POLL: Duration = Duration::from_secs(1);
/// The kernel tells of a write, or of a truncation, a moment after it can be read.
const CONFIRM: Duration = Duration::from_millis(2);
/// A file that was cut to nothing is most likely about to be written: that long it must stay empty.
const CONFIRM_EMPTY: Duration = Duration::from_millis(100);
/// Events of writers that came before a reading are heard long before this.
const HEARD_MAX: Duration = Duration::from_secs(5);
/// Somebody who writes without a pause delays a set by this many settle times, no longer.
const SETTLES_MAX: u32 = 4;

pub(crate) struct Shell {
    settings: Settings,
    messages: Receiver<Message>,
    watcher: RecommendedWatcher,
    /// Watched directories; the inode tells whether it is still the same one.
    watched: BTreeMap<PathBuf, (u64, u64)>,
    /// Those that are watched since this reading only: what happened in them before was not heard.
    renewed: BTreeSet<PathBuf>,
    files: BTreeMap<PathBuf, PolicyFile>,
    /// What the policy files and directories hang on: changes of these matter.
    entries: BTreeSet<PathBuf>,
    /// The policy directories without links: new entries in these may matter.
    real_directories: BTreeSet<PathBuf>,
    /// Directories that were missing at the last look.
    missing: Vec<Report>,
    /// Something can't be watched: it is looked for instead.
    poll: bool,
    /// Why no change can be taken up: the barrier can't be raised.
    unheard: Option<Report>,
    /// Why accepted texts would not survive the process.
    unsaved: Option<Report>,
    changes: Changes,
    barrier: Barrier,
    compiler: Compiler,
    state: State,
    store: Store,
}

struct PolicyFile {
    content: Content,
    /// The entries that decide what the path leads to.
    trail: Vec<PathBuf>,
}

impl Shell {
    /// Reads everything once.
    ///
    /// # Errors
    /// A directory is missing, or a file can't be used and has no accepted content.
    pub(crate) fn start(
        settings: Settings,
        sender: Sender<Message>,
        messages: Receiver<Message>,
    ) -> Result<(Self, Arc<PolicySet>), StartError> {
        let mut settings = settings;
        for directory in &mut settings.directories {
            let absolute = std::path::absolute(&*directory);
            *directory =
                absolute.map_err(|source| StartError::Directory { directory: directory.clone(), source })?;
        }
        let store = Store::open(&settings.state_directory)?;
        let barrier = Barrier::new(&settings.state_directory)
            .map_err(|source| StartError::State { directory: settings.state_directory.clone(), source })?;
        let compiler = Compiler::start(compiled(sender.clone()))
            .map_err(|source| StartError::State { directory: settings.state_directory.clone(), source })?;
        // The receiver is gone only when the thread has ended.
        let watcher = notify::recommended_watcher(move |event| drop(sender.send(Message::Event(event))));
        let mut watcher = watcher.map_err(|error| unwatchable(&settings.state_directory, error))?;
        watcher
            .watch(barrier.directory(), RecursiveMode::NonRecursive)
            .map_err(|error| unwatchable(barrier.directory(), error))?;
        let state = State::new(store.accepted().clone(), settings.bounds);
        let mut shell = Self {
            settings,
            messages,
            watcher,
            watched: BTreeMap::new(),
            renewed: BTreeSet::new(),
            files: BTreeMap::new(),
            entries: BTreeSet::new(),
            real_directories: BTreeSet::new(),
            missing: Vec::new(),
            poll: false,
            unheard: None,
            unsaved: None,
            changes: Changes {
                everything: true,
                marks: barrier.directory().to_owned(),
                ..Changes::default()
            },
            barrier,
            compiler,
            state,
            store,
        };
        for directory in &shell.settings.directories {
            let _files = directory::list(directory)
                .map_err(|source| StartError::Directory { directory: directory.clone(), source })?;
        }
        let _unknown_before = shell.refresh();
        let set = shell.apply();
        if let Some(report) = crate::merge::without_stand_in(&set) {
            let (file, diagnostics) = (report.file.clone(), report.diagnostics.clone());
            return Err(StartError::Unparsable { file, diagnostics });
        }
        let set = if shell.save() { shell.apply() } else { set };
        Ok((shell, set))
    }

    /// Until `Stop`, or until nobody can send any more.
    pub(crate) fn run(mut self, sets: &watch::Sender<Arc<PolicySet>>) {
        while self.wait() {
            self.settle_and_read();
            self.send(sets);
            for reload in self.changes.reloads.drain(..) {
                // Whoever asked may have stopped waiting.
                let _waiting = reload.send(());
            }
            if self.save() {
                self.send(sets);
            }
        }
    }

    /// Sends the set where it says something new.
    fn send(&mut self, sets: &watch::Sender<Arc<PolicySet>>) {
        let set = self.apply();
        let _changed = sets.send_if_modified(|current| {
            let changed = current.version != set.version;
            *current = set;
            changed
        });
    }

    /// Until there is something to do. `false`: stop.
    fn wait(&mut self) -> bool {
        if self.unheard.is_some() {
            // What changes now can't be taken up anyway.
            self.listen(POLL, Instant::now() + POLL);
        }
        let due = Instant::now() + POLL;
        while !self.changes.stop && !self.something_changed() {
            // What concerns no policy is forgotten.
            self.changes.entries.clear();
            let message = if self.poll || self.unheard.is_some() || self.unsaved.is_some() {
                self.messages.recv_timeout(due.saturating_duration_since(Instant::now()))
            } else {
                self.messages.recv().map_err(|_gone| RecvTimeoutError::Disconnected)
            };
            match message {
                Ok(message) => {
                    let _matters = self.changes.hear(message);
                }
                Err(RecvTimeoutError::Timeout) => {
                    self.changes.everything |= self.poll;
                    return true;
                }
                Err(RecvTimeoutError::Disconnected) => self.changes.stop = true,
            }
        }
        !self.changes.stop
    }

    fn something_changed(&self) -> bool {
        self.changes.everything
            || !self.changes.compiled.is_empty()
            || !self.changes.reloads.is_empty()
            || self.changes.entries.iter().any(|entry| self.concerns_a_policy(entry))
    }

    /// Whether an entry leads to a policy directory or file, or lies in such a directory and may come to.
    fn concerns_a_policy(&self, entry: &Path) -> bool {
        let may_lead = || entry.file_name().is_some_and(directory::is_policy_name) || entry.is_symlink();
        let inside = || entry.parent().is_some_and(|parent| self.real_directories.contains(parent));
        // A directory that is watched was moved away or deleted.
        let itself = || self.watched.contains_key(entry);
        self.entries.contains(entry) || itself() || (inside() && may_lead())
    }

    /// Waits until it is quiet, and reads what has changed.
    fn settle_and_read(&mut self) {
        let settle = self.settings.settle;
        self.listen(settle, Instant::now() + settle.saturating_mul(SETTLES_MAX));
        let before = self.refresh();
        let confirm = if self.emptied(&before) { CONFIRM_EMPTY } else { CONFIRM };
        self.listen(confirm, Instant::now() + confirm);
        let heard = self.hear_all();
        if !heard {
            // What was read may be half of it: it is read again.
            self.changes.entries.extend(before.iter().map(|(path, _)| path.clone()));
        }
        self.take_back(before);
    }

    /// Whether a file that held something was read as empty.
    fn emptied(&self, before: &[(PathBuf, Option<PolicyFile>)]) -> bool {
        let is_empty = |file: &PolicyFile| matches!(&file.content, Content::Text(text) if text.is_empty());
        before.iter().any(|(path, known)| {
            known.as_ref().is_some_and(|known| !is_empty(known)) && self.files.get(path).is_some_and(is_empty)
        })
    }

    /// Hears every event of what was done before now. `false`: they can't be told from those to come.
    fn hear_all(&mut self) -> bool {
        let raised = self.barrier.raise();
        let unheard = raised.as_ref().err().map(|error| {
            let message = format!("can't be written to, so no change of a policy is taken up: {error}");
            self.of_state_directory(Instead::LastAccepted, &message)
        });
        let _new = replace_and_log(&mut self.unheard, unheard);
        let Ok(mark) = raised else { return false };
        let deadline = Instant::now() + HEARD_MAX;
        while self.changes.heard != mark {
            match self.messages.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(message) => {
                    let _matters = self.changes.hear(message);
                }
                Err(_late_or_gone) => return false,
            }
        }
        true
    }

    /// Hears messages until none came for the time `quiet`, at most until `deadline`.
    fn listen(&mut self, quiet: Duration, deadline: Instant) {
        let mut until = deadline.min(Instant::now() + quiet);
        while let Ok(message) = self.messages.recv_timeout(until.saturating_duration_since(Instant::now())) {
            if self.changes.hear(message) {
                until = deadline.min(Instant::now() + quiet);
            }
            if self.changes.stop || Instant::now() >= until {
                return;
            }
        }
    }

    /// What was touched while it was looked at may be half a file, or between two names: its content of before stays
    /// until the writing ends.
    fn take_back(&mut self, before: Vec<(PathBuf, Option<PolicyFile>)>) {
        for (path, known) in before {
            let touched = |entry: &PathBuf| {
                self.changes.entries.contains(entry) || self.changes.writing.contains(entry)
            };
            let now = self.files.get(&path).or(known.as_ref());
            if now.is_some_and(|file| file.trail.iter().any(touched)) {
                let _half = match known {
                    Some(known) => self.files.insert(path, known),
                    None => self.files.remove(&path),
                };
            }
        }
    }

    /// Lists every directory and reads the files that changed. Watches first, so that no change falls between.
    /// Gives what was known of the files that were read, or are gone.
    fn refresh(&mut self) -> Vec<(PathBuf, Option<PolicyFile>)> {
        let everything = std::mem::take(&mut self.changes.everything);
        let entries = std::mem::take(&mut self.changes.entries);
        let changed = |trail: &[PathBuf]| everything || trail.iter().any(|entry| entries.contains(entry));
        let mut known = std::mem::take(&mut self.files);
        let mut read = Vec::new();
        (self.poll, self.missing) = (false, Vec::new());
        self.renewed.clear();
        // A directory that was touched itself may be another one by now, even under the same inode number.
        for (directory, _) in self.watched.extract_if(.., |directory, _| entries.contains(directory)) {
            drop(self.watcher.unwatch(&directory));
        }
        let mut found = BTreeSet::new();
        for directory in &self.settings.directories.clone() {
            self.watch_directory(directory);
            match directory::list(directory) {
                Ok(paths) => found.extend(paths),
                Err(error) => {
                    let kept = known.extract_if(.., |path, _| path.parent() == Some(directory.as_path()));
                    self.files.extend(kept);
                    self.missing(directory, &error);
                }
            }
        }
        let crowded = self.crowded(&found);
        for path in found {
            let known = known.remove(&path);
            read.extend(self.refresh_file(path, known, &crowded, changed));
        }
        read.extend(known.into_iter().map(|(path, gone)| (path, Some(gone))));
        self.unwatch_unused();
        read
    }

    fn missing(&mut self, directory: &Path, error: &std::io::Error) {
        self.poll = true;
        self.missing.push(Report {
            file: directory.to_owned(),
            object: None,
            instead: Instead::LastAccepted,
            diagnostics: vec![directory::missing(error)],
        });
    }

    /// Files that there is no place for. Those that were accepted keep theirs, whatever the new ones are called.
    fn crowded(&self, found: &BTreeSet<PathBuf>) -> BTreeSet<PathBuf> {
        // Those of a missing directory keep theirs too.
        let places = FILES_MAX.saturating_sub(self.files.len());
        if found.len() <= places {
            return BTreeSet::new();
        }
        let accepted = &self.state.accepted().files;
        let (old, new): (Vec<&PathBuf>, Vec<&PathBuf>) =
            found.iter().partition(|path| accepted.contains_key(&file_key(path)));
        old.into_iter().chain(new).skip(places).cloned().collect()
    }

    fn refresh_file(
        &mut self,
        path: PathBuf,
        known: Option<PolicyFile>,
        crowded: &BTreeSet<PathBuf>,
        changed: impl Fn(&[PathBuf]) -> bool,
    ) -> Option<(PathBuf, Option<PolicyFile>)> {
        let trail = directory::trail(&path);
        self.watch_parents(&trail);
        let being_written = trail.iter().any(|entry| self.changes.writing.contains(entry));
        let crowded = crowded.contains(&path);
        let unheard = trail.iter().filter_map(|entry| entry.parent()).any(|d| self.renewed.contains(d));
        let same = |file: &PolicyFile| {
            let unchanged = file.trail == trail && !changed(&trail) && !unheard;
            unchanged && (file.content == directory::too_many()) == crowded
        };
        if being_written || known.as_ref().is_some_and(same) {
            self.files.extend(known.map(|file| (path, file)));
            return None;
        }
        let content = if crowded { Some(directory::too_many()) } else { directory::read(&path) };
        self.files.extend(content.map(|content| (path.clone(), PolicyFile { content, trail })));
        Some((path, known))
    }

    fn watch_directory(&mut self, directory: &Path) {
        for trail in directory_trails(directory) {
            self.watch_parents(&trail);
        }
    }

    /// Watches the directory of each entry.
    fn watch_parents(&mut self, trail: &[PathBuf]) {
        for directory in trail.iter().filter_map(|entry| entry.parent()) {
            let inode = directory::inode(directory);
            if self.watched.get(directory).copied() == inode {
                continue;
            }
            // Another directory than the one that was watched under this path, or none any more.
            if self.watched.remove(directory).is_some() {
                drop(self.watcher.unwatch(directory));
            }
            if inode.is_none() {
                continue;
            }
            match self.watcher.watch(directory, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    self.watched.extend(inode.map(|inode| (directory.to_owned(), inode)));
                    let _new = self.renewed.insert(directory.to_owned());
                }
                Err(error) => {
                    self.poll = true;
                    tracing::error!(directory = %directory.display(), %error, "can't watch for changes, polling");
                }
            }
        }
    }

    /// Learns again what is worth hearing of, and forgets the other directories.
    fn unwatch_unused(&mut self) {
        let directories = &self.settings.directories;
        self.entries = directories.iter().flat_map(|directory| directory::trail(directory)).collect();
        self.real_directories = directories.iter().filter_map(|d| directory::trail(d).pop()).collect();
        self.entries.extend(self.files.values().flat_map(|file| file.trail.iter().cloned()));
        let parents = self.entries.iter().filter_map(|entry| entry.parent());
        let mut used: BTreeSet<&Path> =
            parents.chain(self.real_directories.iter().map(PathBuf::as_path)).collect();
        let trails: Vec<PathBuf> = directories.iter().flat_map(|d| directory_trails(d)).flatten().collect();
        used.extend(trails.iter().filter_map(|entry| entry.parent()));
        for (directory, _) in self.watched.extract_if(.., |directory, _| !used.contains(directory.as_path()))
        {
            drop(self.watcher.unwatch(&directory));
        }
    }

    fn apply(&mut self) -> Arc<PolicySet> {
        let files: Files =
            self.files.iter().map(|(path, file)| (path.clone(), file.content.clone())).collect();
        let more: Vec<Report> =
            self.missing.iter().chain(&self.unheard).chain(&self.unsaved).cloned().collect();
        self.changes.compiled.drain(..).for_each(|(policy, judged)| self.state.learn(policy, judged));
        let set = self.state.apply(&files, &more);
        self.compiler.want(self.state.wanted());
        set
    }

    /// Whether something else is to be said of it than before.
    fn save(&mut self) -> bool {
        let failed = self.store.save(self.state.accepted()).err();
        let unsaved = failed.map(|error| {
            let message = format!("an accepted policy text can't be kept for the next start: {error}");
            self.of_state_directory(Instead::AsWritten, &message)
        });
        replace_and_log(&mut self.unsaved, unsaved)
    }

    fn of_state_directory(&self, instead: Instead, message: &str) -> Report {
        let fix = "make room there, or make it writable; it is tried again every second";
        Report {
            file: self.settings.state_directory.clone(),
            object: None,
            instead,
            diagnostics: vec![directory::diagnostic(message, fix)],
        }
    }
}

/// Where nobody listens any more, the compiler is told so next.
fn compiled(messages: Sender<Message>) -> impl Fn(Policy, Judged) + Send + 'static {
    move |policy, judged| drop(messages.send(Message::Compiled(Box::new((policy, judged)))))
}

/// Logs what is new, once: it is tried again and again. Returns whether anything is.
fn replace_and_log(report: &mut Option<Report>, now: Option<Report>) -> bool {
    if *report == now {
        return false;
    }
    if let Some(now) = &now {
        let problem = now.diagnostics.first().map(|diagnostic| diagnostic.message.as_str());
        tracing::error!(directory = %now.file.display(), problem, "can't use the state directory");
    }
    *report = now;
    true
}

/// What leads to a policy directory, and into it.
fn directory_trails(directory: &Path) -> [Vec<PathBuf>; 2] {
    [directory::trail(directory), directory::trail(&directory.join("*"))]
}

pub(crate) fn unwatchable(directory: &Path, error: notify::Error) -> StartError {
    let told = error.to_string();
    let source =
        if let notify::ErrorKind::Io(source) = error.kind { source } else { std::io::Error::other(told) };
    StartError::Directory { directory: directory.to_owned(), source }
}
