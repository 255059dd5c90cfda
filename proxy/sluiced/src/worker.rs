//! What the connections of one thread share: its memory, its deadlines, whose turn it is.
//!
//! Nothing here is shared with another thread, and nothing on the way of a request takes a lock.

use crate::budget::{Bounds, Budget};
use crate::connections::{Key, Revisions};
use crate::flows::Producer;
use crate::inbox::Inbox;
use crate::metrics::Counters;
use crate::shared::Shared;
use crate::timers::Timers;
use crate::transport::{Pipe, Pipes};
use crate::turns::Turns;
use mio::{Registry, Token};
use proxy_core::session::Scratch;
use proxy_core::step::Reply;
use proxy_core::{FlowRecord, Limits, Side, Step};
use std::ops::Range;
use std::sync::Arc;
use tokio::sync::watch;

#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) shared: Arc<Shared>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) hot: Hot,
    pub(crate) registry: Registry,
    pub(crate) revisions: Revisions,
    pub(crate) timers: Timers,
    pub(crate) turns: Turns,
    pub(crate) budget: Budget,
    settled: watch::Sender<u64>,
}

/// Memory that one connection at a time works with.
#[derive(Debug)]
pub(crate) struct Hot {
    /// What was read last; idle connections have no buffer.
    pub(crate) buffer: Box<[u8]>,
    pub(crate) steps: Vec<Step>,
    /// What the steps of one read send to each side, until it is written.
    pub(crate) to_client: Outgoing,
    pub(crate) to_server: Outgoing,
    pub(crate) scratch: Scratch,
    pub(crate) limits: Limits,
    /// Memory of emptied queues, for the next connection whose peer is slow.
    pub(crate) queues: Vec<Vec<u8>>,
    /// Empty pipes, for long bodies.
    pub(crate) pipes: Vec<Pipe>,
    pipes_left: Pipes,
    producer: Producer,
}

/// Pieces that are written to one side together, in order.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    pub(crate) pieces: Vec<Piece>,
    /// Of our own making, among them.
    pub(crate) own_bytes: usize,
}

#[derive(Debug)]
pub(crate) enum Piece {
    /// Of what the session was shown.
    Input(Range<usize>),
    Own(Reply),
}

/// Larger reads gained nothing when measured.
const BUFFER_BYTES: usize = 128 * 1024;
/// Boxes for records kept at hand: with so many requests under way at once none is allocated.
const SPARE_RECORDS_MIN: usize = 1024;
/// Boxes taken back at once.
const SPARE_RECORDS_STEP: usize = 64;
/// Emptied queues kept at hand; each is at most about [`BUFFER_BYTES`] large.
const SPARE_QUEUES_MAX: usize = 16;

/// Empty pipes kept at hand.
const SPARE_PIPES_MAX: usize = 16;

/// What wakes a worker for its inbox.
pub(crate) const INBOX: Token = Token(usize::MAX);

/// What wakes it for an end of a connection.
pub(crate) fn token(Key(index): Key, side: Side) -> Token {
    Token(2 * index + usize::from(side == Side::Server))
}

/// The reverse of [`token`].
pub(crate) fn end_of(Token(number): Token) -> (Key, Side) {
    (Key(number / 2), if number.is_multiple_of(2) { Side::Client } else { Side::Server })
}

impl Worker {
    pub(crate) fn new(
        shared: Arc<Shared>,
        counters: Arc<Counters>,
        producer: Producer,
        settled: watch::Sender<u64>,
        bounds: Bounds,
        (registry, inbox): (Registry, Arc<Inbox>),
    ) -> Self {
        let hot = Hot {
            buffer: vec![0; BUFFER_BYTES].into(),
            steps: Vec::new(),
            to_client: Outgoing::default(),
            to_server: Outgoing::default(),
            scratch: Scratch::default(),
            limits: shared.notices.last().limits,
            queues: Vec::new(),
            pipes: Vec::new(),
            pipes_left: Pipes::new(bounds.pipes_max),
            producer,
        };
        Self {
            shared,
            counters,
            inbox,
            hot,
            registry,
            revisions: Revisions::default(),
            timers: Timers::default(),
            turns: Turns::default(),
            budget: Budget::new(bounds.held_bytes_max),
            settled,
        }
    }

    /// Tells the publisher once all connections were judged under the newest revision.
    pub(crate) fn report(&self) {
        if let Some(revision) = self.revisions.settled() {
            let _changed = self.settled.send_if_modified(|settled| {
                let newer = revision > *settled;
                *settled = revision.max(*settled);
                newer
            });
        }
    }

    pub(crate) fn record(&mut self, record: Box<FlowRecord>) {
        let hot = &mut self.hot;
        self.counters.count(&record);
        if let Err(lost) = hot.producer.send(record) {
            self.counters.records_lost.add(Some(lost.0.outcome));
            hot.scratch.spare.push(lost.0);
        }
        if hot.scratch.spare.len() < SPARE_RECORDS_MIN {
            hot.scratch.spare.extend(hot.producer.spare().take(SPARE_RECORDS_STEP));
        }
    }
}

impl Hot {
    /// Makes good what a panic may have left half-done: the buffer is away while its bytes are shown.
    pub(crate) fn mend(&mut self) {
        if self.buffer.len() != BUFFER_BYTES {
            self.buffer = vec![0; BUFFER_BYTES].into();
        }
        self.scratch = Scratch::default();
        (self.to_client, self.to_server) = (Outgoing::default(), Outgoing::default());
    }

    pub(crate) fn outgoing(&mut self, to: Side) -> &mut Outgoing {
        match to {
            Side::Client => &mut self.to_client,
            Side::Server => &mut self.to_server,
        }
    }

    pub(crate) fn queue(&mut self) -> Vec<u8> {
        self.queues.pop().unwrap_or_default()
    }

    pub(crate) fn put_back(&mut self, mut queue: Vec<u8>) {
        if queue.capacity() > 0
            && queue.capacity() <= 2 * BUFFER_BYTES
            && self.queues.len() < SPARE_QUEUES_MAX
        {
            queue.clear();
            self.queues.push(queue);
        }
    }

    /// `None` where there are as many as may be: bytes can be copied instead.
    pub(crate) fn pipe(&mut self) -> Option<Pipe> {
        self.pipes.pop().or_else(|| Pipe::new(&self.pipes_left))
    }

    pub(crate) fn put_back_pipe(&mut self, pipe: Pipe) {
        if pipe.held() == 0 && self.pipes.len() < SPARE_PIPES_MAX {
            self.pipes.push(pipe);
        }
    }
}

impl Outgoing {
    /// A range that continues the last one lengthens it.
    pub(crate) fn input(&mut self, range: Range<usize>) {
        match self.pieces.last_mut() {
            Some(Piece::Input(last)) if last.end == range.start => last.end = range.end,
            _another => self.pieces.push(Piece::Input(range)),
        }
    }

    pub(crate) fn own(&mut self, reply: Reply) {
        self.own_bytes += reply.as_bytes().len();
        self.pieces.push(Piece::Own(reply));
    }

    pub(crate) fn clear(&mut self) {
        self.pieces.clear();
        self.own_bytes = 0;
    }
}

impl Piece {
    pub(crate) fn bytes<'a>(&'a self, input: &'a [u8]) -> &'a [u8] {
        match self {
            Self::Input(range) => input.get(range.clone()).unwrap_or_default(),
            Self::Own(reply) => reply.as_bytes(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_names_an_end_of_a_connection() {
        for end in
            [(Key(0), Side::Client), (Key(0), Side::Server), (Key(7), Side::Client), (Key(7), Side::Server)]
        {
            assert_eq!(end_of(token(end.0, end.1)), end);
        }
    }

    #[test]
    fn what_continues_is_one_piece() {
        let mut outgoing = Outgoing::default();
        for range in [0..3, 3..5, 6..8] {
            outgoing.input(range);
        }
        outgoing.own(Reply::Static(b"own"));
        outgoing.input(8..9);
        let pieces: Vec<_> = outgoing.pieces.iter().map(|piece| piece.bytes(b"012345678")).collect();
        assert_eq!(pieces, [&b"01234"[..], b"67", b"own", b"8"]);
        assert_eq!(outgoing.own_bytes, 3);
    }
}
