//! Tells connections that a peer is gone which they do not read.
//!
//! Reading tells of a reset. A side that is not read (its request waits for an answer, it has sent its FIN, the other side takes
//! nothing) is put into an epoll of its own that asks for nothing but errors. A FIN is none: who sent it waits for its answer.
//!
//! INVARIANT: a socket costs one system call here, once, and only if it is ever left unread; what is told is only a hint to look.

use crate::connections::{Connections, Key};
use crate::transport::Transport;
use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use std::cell::RefCell;
use std::io;
use std::os::fd::OwnedFd;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

#[derive(Debug)]
pub(crate) struct Hangups(OwnedFd);

/// Told in one call.
const TOLD_MAX: usize = 256;

impl Hangups {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self(epoll::create(CreateFlags::CLOEXEC)?))
    }

    /// The connection will be told once if this end of it is or will be gone, and until the socket is closed.
    pub(crate) fn watch(&self, transport: &Transport, key: Key) -> io::Result<()> {
        epoll::add(&self.0, transport, EventData::new_u64(key.number()), EventFlags::ONESHOT)?;
        Ok(())
    }

    /// What was told since the last time.
    fn told(&self) -> io::Result<Vec<Key>> {
        let mut events = Vec::with_capacity(TOLD_MAX);
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        let _count = epoll::wait(&self.0, spare_capacity(&mut events), Some(&at_once))?;
        Ok(events.into_iter().map(|event| Key::from_number(event.data.u64())).collect())
    }
}

/// Wakes the connections that are told. Returns only if that becomes impossible.
#[expect(
    deprecated,
    reason = "INVARIANT: the descriptor is owned and never replaced; what replaced this call is unsafe"
)]
pub(crate) async fn follow(hangups: &Hangups, connections: &RefCell<Connections>) -> io::Result<()> {
    let told = AsyncFd::with_interest(hangups.0.try_clone()?, Interest::READABLE)?;
    loop {
        let mut ready = told.readable().await?;
        let keys = hangups.told()?;
        if keys.len() < TOLD_MAX {
            ready.clear_ready();
        }
        // A key may be another connection's by now: it looks in vain.
        connections.borrow_mut().hang_up(&keys);
    }
}
