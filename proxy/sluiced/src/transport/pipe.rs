//! A pipe that carries bytes from socket to socket without bringing them into this process (splice(2)).

use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use std::io;
use std::os::fd::{AsFd, OwnedFd};

/// Empty ones are shared; one that holds bytes belongs to the direction whose bytes they are.
#[derive(Debug)]
pub(crate) struct Pipe {
    out: OwnedFd,
    into: OwnedFd,
    held: usize,
}

/// What one pipe carries at once; the kernel's default is a quarter.
const PIPE_BYTES: usize = 256 * 1024;

impl Pipe {
    pub(crate) fn new() -> io::Result<Self> {
        let (out, into) = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC)?;
        // Where the user may have no larger pipes, the default one only takes more calls.
        let _size = fcntl_setpipe_size(&into, PIPE_BYTES);
        Ok(Self { out, into, held: 0 })
    }

    pub(crate) fn held(&self) -> usize {
        self.held
    }

    /// Moves up to `max` bytes from a socket into the pipe. 0: the peer ended its side.
    pub(super) fn fill(&mut self, from: impl AsFd, max: usize) -> io::Result<usize> {
        let moved = splice(from, None, &self.into, None, max.min(PIPE_BYTES), FLAGS)?;
        self.held += moved;
        Ok(moved)
    }

    /// Moves what the pipe holds into a socket, as far as it goes.
    pub(super) fn drain(&mut self, to: impl AsFd) -> io::Result<usize> {
        let moved = splice(&self.out, None, to, None, self.held, FLAGS)?;
        self.held -= moved;
        Ok(moved)
    }
}

const FLAGS: SpliceFlags = SpliceFlags::MOVE.union(SpliceFlags::NONBLOCK);
