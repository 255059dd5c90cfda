//! A pipe that carries bytes from socket to socket without bringing them into this process (splice(2)).

use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

/// Empty ones are shared; one that holds bytes belongs to the direction whose bytes they are.
#[derive(Debug)]
pub(crate) struct Pipe {
    out: OwnedFd,
    into: OwnedFd,
    held: usize,
    /// Of those that may be.
    _one: One,
}

/// How many pipes a worker may have.
#[derive(Debug)]
pub(crate) struct Pipes {
    left: Rc<Cell<usize>>,
}

/// One of them, taken until it is dropped.
#[derive(Debug)]
struct One(Rc<Cell<usize>>);

impl Pipes {
    pub(crate) fn new(max: usize) -> Self {
        Self { left: Rc::new(Cell::new(max)) }
    }

    /// `None`: there are as many as may be.
    fn take(&self) -> Option<One> {
        self.left.set(self.left.get().checked_sub(1)?);
        Some(One(Rc::clone(&self.left)))
    }
}

impl Drop for One {
    fn drop(&mut self) {
        self.0.set(self.0.get() + 1);
    }
}

/// What one pipe carries at once; the kernel's default is a quarter.
const PIPE_BYTES: usize = 256 * 1024;

impl Pipe {
    /// `None`: there are as many as may be, or the process has no descriptors.
    pub(crate) fn new(pipes: &Pipes) -> Option<Self> {
        let one = pipes.take()?;
        let (out, into) = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC).ok()?;
        // Where the user may have no larger pipes, the default one only takes more calls.
        let _size = fcntl_setpipe_size(&into, PIPE_BYTES);
        Some(Self { out, into, held: 0, _one: one })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_as_many_as_may_be_and_one_less_until_one_is_dropped() {
        let pipes = Pipes::new(2);
        let two = [Pipe::new(&pipes).unwrap(), Pipe::new(&pipes).unwrap()];
        assert!(Pipe::new(&pipes).is_none());
        drop(two);
        assert!(Pipe::new(&pipes).is_some());
        assert!(Pipe::new(&Pipes::new(0)).is_none());
    }
}
