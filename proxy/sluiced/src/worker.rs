//! One worker: a thread with a runtime of its own, its connections, and the memory that they share.
//!
//! Nothing here is `Send`, and nothing on the way of a request takes a lock.

use crate::connections::Connections;
use crate::flows::Producer;
use crate::hangups::Hangups;
use crate::metrics::Counters;
use crate::shared::{Notice, Shared};
use crate::transport::{Pipe, Pipes};
use proxy_core::session::Scratch;
use proxy_core::{FlowRecord, Limits, Step};
use std::cell::RefCell;
use std::io;
use std::sync::Arc;
use tokio::sync::watch;

#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) shared: Arc<Shared>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) connections: RefCell<Connections>,
    /// Borrowed by whichever connection is being polled.
    pub(crate) hot: RefCell<Hot>,
    pub(crate) hangups: Hangups,
    settled: watch::Sender<u64>,
}

/// Memory that one connection at a time works with.
#[derive(Debug)]
pub(crate) struct Hot {
    /// What was read last; idle connections have no buffer.
    pub(crate) buffer: Box<[u8]>,
    pub(crate) steps: Vec<Step>,
    pub(crate) scratch: Scratch,
    pub(crate) limits: Limits,
    /// Memory of emptied queues, for the next connection whose peer is slow.
    pub(crate) queues: Vec<Vec<u8>>,
    /// Empty pipes, for long bodies.
    pub(crate) pipes: Vec<Pipe>,
    pipes_left: Pipes,
    producer: Producer,
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

impl Worker {
    pub(crate) fn new(
        shared: Arc<Shared>,
        counters: Arc<Counters>,
        producer: Producer,
        settled: watch::Sender<u64>,
        pipes_max: usize,
    ) -> io::Result<Self> {
        let hot = Hot {
            buffer: vec![0; BUFFER_BYTES].into(),
            steps: Vec::new(),
            scratch: Scratch::default(),
            limits: shared.notices.borrow().limits,
            queues: Vec::new(),
            pipes: Vec::new(),
            pipes_left: Pipes::new(pipes_max),
            producer,
        };
        Ok(Self {
            shared,
            counters,
            connections: RefCell::new(Connections::new()),
            hot: RefCell::new(hot),
            hangups: Hangups::new()?,
            settled,
        })
    }

    /// A notice came: connections that must hear of it are woken.
    pub(crate) fn hear(&self, notice: &Notice) {
        self.hot.borrow_mut().limits = notice.limits;
        let mut connections = self.connections.borrow_mut();
        connections.tell(notice.revision);
        if self.shared.is_draining() {
            connections.wake_all();
        }
        drop(connections);
        self.report();
    }

    /// Tells the publisher once all connections were judged under the newest revision.
    pub(crate) fn report(&self) {
        if let Some(revision) = self.connections.borrow().settled() {
            let _changed = self.settled.send_if_modified(|settled| {
                let newer = revision > *settled;
                *settled = revision.max(*settled);
                newer
            });
        }
    }

    pub(crate) fn record(&self, hot: &mut Hot, record: Box<FlowRecord>) {
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
