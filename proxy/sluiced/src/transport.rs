//! The byte stream that the pump reads and writes, and whether it is ready. Plain TCP today; nothing above this file knows sockets.
//!
//! Readiness is told once (edge-triggered): what was told holds until a call finds nothing more to read, or no room to write.
//!
//! INVARIANT: a socket is registered once and never again; closing it ends that.

mod pipe;

pub(crate) use pipe::{Pipe, Pipes};

use mio::event::Event;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use socket2::SockRef;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

/// One end of a connection.
#[derive(Debug)]
pub(crate) struct Transport {
    stream: TcpStream,
    ready: Ready,
}

/// What the kernel told.
#[derive(Clone, Copy, Debug, Default)]
struct Ready {
    read: bool,
    write: bool,
    /// Behind what can be read is a FIN or an error: a short read does not end the readiness.
    read_ends: bool,
    /// The connection may be dead.
    dead: bool,
    /// The peer's FIN was read.
    fin_read: bool,
}

impl AsFd for Transport {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

impl Transport {
    /// A connection that a peer opened. It has its listener's options.
    pub(crate) fn accepted(stream: TcpStream) -> Self {
        Self { stream, ready: Ready { write: true, ..Ready::default() } }
    }

    /// A connection that may still be under way: [`Self::connected`] tells how it went.
    pub(crate) fn connecting(socket: socket2::Socket) -> Self {
        Self { stream: TcpStream::from_std(socket.into()), ready: Ready::default() }
    }

    /// From now on [`Self::note`] is to be called with the events of this token.
    pub(crate) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        registry.register(&mut self.stream, token, Interest::READABLE | Interest::WRITABLE)
    }

    pub(crate) fn note(&mut self, event: &Event) {
        let ready = &mut self.ready;
        let (ended, error) = (event.is_read_closed(), event.is_error());
        ready.read |= event.is_readable() || ended || error;
        ready.write |= event.is_writable() || event.is_write_closed() || error;
        ready.read_ends |= ended || error;
        ready.dead |= error || (ended && event.is_write_closed());
    }

    /// `None`: not yet known.
    pub(crate) fn connected(&self) -> Option<io::Result<()>> {
        if !self.ready.write {
            return None;
        }
        Some(match self.ready.dead.then(|| self.stream.take_error()) {
            None | Some(Ok(None)) => Ok(()),
            Some(Ok(Some(error)) | Err(error)) => Err(error),
        })
    }

    /// The address that the peer believes it is connected to: under redirection, not ours.
    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.stream.local_addr()
    }

    /// Reads once. A short read ends the readiness, so that no second call has to be told that there is nothing more.
    /// `Ok(0)`: the peer ended its side. `None`: there is nothing to read.
    pub(crate) fn read(&mut self, into: &mut [u8]) -> Option<io::Result<usize>> {
        if !self.ready.read {
            return None;
        }
        let room = into.len();
        let read = again(|| (&self.stream).read(into));
        self.told(&read);
        match read {
            Ok(0) => self.ready.fin_read = true,
            Ok(n) if n < room && !self.ready.read_ends => self.ready.read = false,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return None,
            Ok(_) | Err(_) => {}
        }
        Some(read)
    }

    /// `None`: there is no room.
    pub(crate) fn write(&mut self, pieces: &[IoSlice<'_>]) -> Option<io::Result<usize>> {
        if !self.ready.write {
            return None;
        }
        let written = again(|| match pieces {
            [piece] => (&self.stream).write(piece),
            pieces => (&self.stream).write_vectored(pieces),
        });
        match written {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.ready.write = false;
                None
            }
            written => Some(written),
        }
    }

    /// Moves up to `max` bytes into the pipe, which holds none. `Ok(0)`: the peer ended its side. `None`: there is nothing to read.
    pub(crate) fn fill(&mut self, pipe: &mut Pipe, max: usize) -> Option<io::Result<usize>> {
        if !self.ready.read {
            return None;
        }
        let filled = again(|| pipe.fill(&self.stream, max));
        self.told(&filled);
        match filled {
            Err(error) if error.kind() == ErrorKind::WouldBlock => None,
            filled => {
                self.ready.fin_read |= matches!(filled, Ok(0));
                Some(filled)
            }
        }
    }

    /// Sends all that the pipe holds. `None`: there was no room for all.
    pub(crate) fn drain(&mut self, pipe: &mut Pipe) -> Option<io::Result<()>> {
        while pipe.held() > 0 {
            if !self.ready.write {
                return None;
            }
            match again(|| pipe.drain(&self.stream)) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.ready.write = false,
                Err(error) => return Some(Err(error)),
                Ok(_some) => {}
            }
        }
        Some(Ok(()))
    }

    /// There may be more to read.
    pub(crate) fn is_readable(&self) -> bool {
        self.ready.read
    }

    /// Whether the connection is dead, for whoever does not read it: by RST, also behind a FIN. Told once.
    pub(crate) fn is_gone(&mut self) -> bool {
        std::mem::take(&mut self.ready.dead) && !matches!(self.stream.take_error(), Ok(None))
    }

    /// Whether closing it sends FIN: with anything left unread it would be RST, which destroys what the peer has not read yet.
    pub(crate) fn closes_by_fin(&self) -> bool {
        self.ready.fin_read
    }

    /// Sends FIN.
    pub(crate) fn finish(&self) -> io::Result<()> {
        SockRef::from(&self.stream).shutdown(Shutdown::Write)
    }

    /// Closes with RST.
    pub(crate) fn reset(self) {
        // Where the option can't be set the socket is already dead, and its peer has been told.
        drop(SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)));
    }

    fn told(&mut self, read: &io::Result<usize>) {
        if matches!(read, Err(error) if error.kind() == ErrorKind::WouldBlock) {
            (self.ready.read, self.ready.read_ends) = (false, false);
        }
    }
}

/// Repeats a call that a signal has interrupted.
fn again<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}
