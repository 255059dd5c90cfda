//! One direction of a connection: what was read on one side and has not reached the other one.

use super::Connection;
use crate::transport::Pipe;
use proxy_core::Side;
use std::io;

/// One direction. Small, because idle connections have it too: what is held is elsewhere.
#[derive(Debug, Default)]
pub(super) struct Half {
    /// `None` while nothing is.
    held: Option<Box<Held>>,
    /// Bytes that come next and go to the other side without being shown.
    pub(super) splice: u64,
    /// Bytes that come next and are dropped.
    pub(super) swallow: u64,
    /// The session does not want the kept bytes now; else it wants more bytes behind them.
    pub(super) blocked: bool,
    /// Nothing more can be read.
    pub(super) ended: bool,
    /// Kept bytes were not shown yet: the turn was over, or too many answers wait.
    pub(super) paused: bool,
    /// Answers of our own are among what waits for the other side.
    pub(super) own: bool,
    /// Nothing more will be written to the other side.
    pub(super) finish: Finish,
    pub(super) broken: Broken,
}

/// Kept bytes have at most so many times the memory that they need.
const ROOM_MAX: usize = 4;

/// What waits on its way.
#[derive(Debug, Default)]
struct Held {
    /// Read, and not consumed by the session.
    kept: Vec<u8>,
    /// Spliced, and not taken by the other side: ahead of `queue`.
    pipe: Option<Pipe>,
    /// To be written to the other side.
    queue: Vec<u8>,
    /// Of `queue`, from its start.
    sent: usize,
}

/// Whether the other side takes nothing any more: what is written to it vanishes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Broken {
    /// Its FIN came first: what it sent is whole.
    AfterFin,
    ByReset,
    #[default]
    No,
}

impl From<io::Error> for Broken {
    /// The kernel answers EPIPE where a FIN came before the RST.
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe { Self::AfterFin } else { Self::ByReset }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Finish {
    Done,
    #[default]
    Not,
    /// FIN follows what is queued.
    Wanted,
}

impl Half {
    /// Bytes that come next and are not shown.
    pub(super) fn unseen(&self) -> u64 {
        self.splice + self.swallow
    }

    /// Nothing waits for the other side.
    pub(super) fn is_drained(&self) -> bool {
        self.held.as_ref().is_none_or(|held| held.queue.is_empty() && held.pipe.is_none())
    }

    /// There is something to send to the other side, or to be told of it.
    pub(super) fn needs_flush(&self) -> bool {
        self.finish == Finish::Wanted || self.broken != Broken::No || !self.is_drained()
    }

    /// Memory, for the worker's budget.
    pub(super) fn held_bytes(&self) -> usize {
        self.held.as_ref().map_or(0, |held| held.kept.capacity() + held.queue.capacity())
    }

    pub(super) fn keep(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            let kept = &mut self.held().kept;
            kept.reserve_exact(bytes.len());
            kept.extend_from_slice(bytes);
        }
    }

    /// Puts back what is left of what [`Self::take_kept`] took, in no more memory than that needs by far.
    pub(super) fn put_back_kept(&mut self, mut bytes: Vec<u8>) {
        if bytes.capacity() / ROOM_MAX > bytes.len() {
            bytes.shrink_to_fit();
        }
        if !bytes.is_empty() {
            self.held().kept = bytes;
        }
    }

    pub(super) fn take_kept(&mut self) -> Vec<u8> {
        let kept = self.held.as_mut().map(|held| std::mem::take(&mut held.kept));
        self.forget_empty();
        kept.unwrap_or_default()
    }

    pub(super) fn queued(&self) -> usize {
        self.held.as_ref().map_or(0, |held| held.queue.len() - held.sent)
    }

    pub(super) fn waiting(&self) -> &[u8] {
        self.held.as_ref().and_then(|held| held.queue.get(held.sent..)).unwrap_or_default()
    }

    /// Queues bytes; `spare` gives memory where there is none yet.
    pub(super) fn push(&mut self, bytes: &[u8], spare: impl FnOnce() -> Vec<u8>) {
        let held = self.held();
        if held.queue.capacity() == 0 {
            held.queue = spare();
        }
        held.queue.extend_from_slice(bytes);
    }

    /// `n` more of the queued bytes were sent. Returns the queue's memory once all are.
    pub(super) fn sent(&mut self, n: usize) -> Option<Vec<u8>> {
        let held = self.held.as_mut()?;
        held.sent += n;
        (held.sent >= held.queue.len()).then(|| self.clear_queue())
    }

    pub(super) fn clear_queue(&mut self) -> Vec<u8> {
        self.own = false;
        let queue = self.held.as_mut().map(|held| {
            held.sent = 0;
            std::mem::take(&mut held.queue)
        });
        self.forget_empty();
        queue.unwrap_or_default()
    }

    pub(super) fn take_pipe(&mut self) -> Option<Pipe> {
        let pipe = self.held.as_mut().and_then(|held| held.pipe.take());
        self.forget_empty();
        pipe
    }

    /// The pipe holds bytes that the other side did not take.
    pub(super) fn put_pipe(&mut self, pipe: Pipe) {
        self.held().pipe = Some(pipe);
    }

    fn held(&mut self) -> &mut Held {
        self.held.get_or_insert_default()
    }

    fn forget_empty(&mut self) {
        let empty = |held: &Held| held.kept.is_empty() && held.queue.is_empty() && held.pipe.is_none();
        if self.held.as_deref().is_some_and(empty) {
            self.held = None;
        }
    }
}

impl Connection {
    pub(super) fn half(&self, from: Side) -> &Half {
        match from {
            Side::Client => &self.from_client,
            Side::Server => &self.from_server,
        }
    }

    pub(super) fn half_mut(&mut self, from: Side) -> &mut Half {
        match from {
            Side::Client => &mut self.from_client,
            Side::Server => &mut self.from_server,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_held_once_all_is_sent() {
        let mut half = Half::default();
        half.push(b"abc", || Vec::with_capacity(64));
        half.push(b"def", Vec::new);
        assert_eq!(half.sent(2), None);
        assert_eq!((half.waiting(), half.queued()), (&b"cdef"[..], 4));
        assert_eq!(half.sent(4).unwrap().capacity(), 64);
        assert!(half.is_drained() && half.held.is_none());
    }

    #[test]
    fn kept_bytes_are_taken_whole() {
        let mut half = Half::default();
        half.keep(b"GET ");
        half.keep(b"/");
        assert!(half.is_drained());
        assert_eq!(half.take_kept(), b"GET /");
        assert!(half.held.is_none());
        half.put_back_kept(b"/".to_vec());
        assert_eq!(half.take_kept(), b"/");
        half.keep(b"");
        half.put_back_kept(Vec::new());
        assert!(half.held.is_none());
    }
}
