//! What was heard of policy files: which entries changed, and which are still being written.
//!
//! INVARIANT: an entry that was written to is reported as changed when its writer has closed it, not before.

use crate::directory;
use notify::EventKind;
use notify::event::{AccessKind, AccessMode, CreateKind, ModifyKind};
use policy_model::parse::Judged;
use policy_model::rule::Policy;
use std::collections::BTreeSet;
use std::path::PathBuf;
use tokio::sync::oneshot;

pub(crate) enum Message {
    /// A policy as it was read, and what compiling it came to.
    Compiled(Box<(Policy, Judged)>),
    Event(notify::Result<notify::Event>),
    Reload(oneshot::Sender<()>),
    Stop,
}

/// What was heard of since the last set.
#[derive(Default)]
pub(crate) struct Changes {
    /// Entries that changed and are complete.
    pub(crate) entries: BTreeSet<PathBuf>,
    /// Entries that somebody writes to right now. These outlive a set.
    pub(crate) writing: BTreeSet<PathBuf>,
    /// Everything is to be read again: events were lost, or somebody asked.
    pub(crate) everything: bool,
    pub(crate) compiled: Vec<(Policy, Judged)>,
    pub(crate) reloads: Vec<oneshot::Sender<()>>,
    pub(crate) stop: bool,
    /// Marks of the barrier lie here.
    pub(crate) marks: PathBuf,
    /// The last mark whose close was heard.
    pub(crate) heard: PathBuf,
}

impl Changes {
    /// Whether it matters at all: that somebody reads a file does not.
    pub(crate) fn hear(&mut self, message: Message) -> bool {
        match message {
            Message::Compiled(compiled) => self.compiled.push(*compiled),
            Message::Event(Ok(event)) => return self.event(&event),
            Message::Event(Err(error)) => {
                tracing::warn!(%error, "file events lost, rescanning all policies");
                self.lost();
            }
            Message::Reload(done) => {
                self.everything = true;
                self.reloads.push(done);
            }
            Message::Stop => self.stop = true,
        }
        true
    }

    /// Somebody may have closed a file unheard.
    fn lost(&mut self) {
        self.everything = true;
        self.writing.clear();
    }

    fn event(&mut self, event: &notify::Event) -> bool {
        if event.need_rescan() {
            self.lost();
        }
        let (marks, paths): (Vec<&PathBuf>, Vec<&PathBuf>) =
            event.paths.iter().partition(|path| path.parent() == Some(&self.marks));
        if event.kind == CLOSED
            && let Some(mark) = marks.last()
        {
            self.heard.clone_from(mark);
        }
        if paths.is_empty() && !marks.is_empty() {
            return false;
        }
        for path in paths {
            match event.kind {
                EventKind::Create(CreateKind::File) if !directory::appears_complete(path) => {
                    let _new = self.writing.insert(path.clone());
                }
                EventKind::Modify(ModifyKind::Data(_)) => {
                    let _new = self.writing.insert(path.clone());
                }
                CLOSED
                | EventKind::Create(_)
                | EventKind::Modify(ModifyKind::Name(_))
                | EventKind::Remove(_) => {
                    let _written = self.writing.remove(path);
                    let _new = self.entries.insert(path.clone());
                }
                EventKind::Modify(_) => {
                    let _new = self.entries.insert(path.clone());
                }
                EventKind::Any | EventKind::Access(_) | EventKind::Other => {}
            }
        }
        event.need_rescan() || !event.kind.is_access() || event.kind == CLOSED
    }
}

/// Somebody who wrote to a file has closed it.
const CLOSED: EventKind = EventKind::Access(AccessKind::Close(AccessMode::Write));

#[cfg(test)]
mod tests {
    use super::*;
    use notify::event::{DataChange, Flag, MetadataKind, RemoveKind, RenameMode};
    use notify::{Error, Event};

    const OPENED: EventKind = EventKind::Access(AccessKind::Open(AccessMode::Any));
    const WRITTEN: EventKind = EventKind::Modify(ModifyKind::Data(DataChange::Any));
    const RENAMED: EventKind = EventKind::Modify(ModifyKind::Name(RenameMode::To));
    const REMOVED: EventKind = EventKind::Remove(RemoveKind::File);
    const CHMOD: EventKind = EventKind::Modify(ModifyKind::Metadata(MetadataKind::Any));

    /// After these events `/x` has changed, and is being written, or not.
    #[track_caller]
    fn check(kinds: &[EventKind], changed: bool, writing: bool) {
        let mut changes = Changes::default();
        for kind in kinds {
            let _matters = changes.hear(Message::Event(Ok(Event::new(*kind).add_path("/x".into()))));
        }
        assert_eq!((!changes.entries.is_empty(), !changes.writing.is_empty()), (changed, writing));
    }

    #[test]
    fn writing_ends_with_a_close() {
        check(&[OPENED, WRITTEN], false, true);
        check(&[OPENED, WRITTEN, CLOSED], true, false);
        check(&[CLOSED, WRITTEN], true, true);
    }

    #[test]
    fn other_changes_are_complete_at_once() {
        check(&[RENAMED], true, false);
        check(&[CHMOD], true, false);
        check(&[WRITTEN, REMOVED], true, false);
        check(&[WRITTEN, RENAMED], true, false);
    }

    #[test]
    fn reading_is_no_change() {
        check(&[OPENED, EventKind::Access(AccessKind::Close(AccessMode::Read))], false, false);
        let mut changes = Changes::default();
        assert!(!changes.hear(Message::Event(Ok(Event::new(OPENED)))));
        assert!(changes.hear(Message::Event(Ok(Event::new(CLOSED)))));
    }

    /// A close may be among the events that were lost.
    #[test]
    fn after_lost_events_everything_is_read() {
        for lost in [Ok(Event::new(EventKind::Other).set_flag(Flag::Rescan)), Err(Error::generic("lost"))] {
            let mut changes = Changes { writing: ["/x".into()].into(), ..Changes::default() };
            assert!(changes.hear(Message::Event(lost)));
            assert!(changes.everything && changes.writing.is_empty());
        }
    }
}
