//! The byte stream that the pump reads and writes. Plain TCP today; nothing above this file knows sockets.

mod pipe;

pub(crate) use pipe::{Pipe, Pipes};

use socket2::SockRef;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

impl AsFd for Transport {
    fn as_fd(&self) -> BorrowedFd<'_> {
        let Self::Tcp(stream) = self;
        stream.as_fd()
    }
}

/// One end of a connection.
#[derive(Debug)]
pub(crate) enum Transport {
    Tcp(TcpStream),
}

impl Transport {
    /// A connection that a peer opened. Small messages are sent at once: what we forward was batched by its sender.
    pub(crate) fn accepted(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self::Tcp(stream))
    }

    /// A connection that may still be under way: [`Self::poll_connected`] tells how it went.
    pub(crate) fn connecting(socket: socket2::Socket) -> io::Result<Self> {
        socket.set_tcp_nodelay(true)?;
        Ok(Self::Tcp(TcpStream::from_std(socket.into())?))
    }

    pub(crate) fn poll_connected(&self, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self::Tcp(stream) = self;
        ready!(stream.poll_write_ready(task))?;
        Poll::Ready(match stream.take_error()? {
            None => Ok(()),
            Some(error) => Err(error),
        })
    }

    /// The address that the peer believes it is connected to: under redirection, not ours.
    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        let Self::Tcp(stream) = self;
        stream.local_addr()
    }

    /// Reads once. A short read ends the readiness, so that no second call has to be told that there is nothing more.
    /// `Ok(0)`: the peer ended its side.
    pub(crate) fn poll_read(&mut self, task: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        let Self::Tcp(stream) = self;
        let mut buffer = ReadBuf::new(into);
        ready!(Pin::new(stream).poll_read(task, &mut buffer))?;
        Poll::Ready(Ok(buffer.filled().len()))
    }

    pub(crate) fn poll_write(&mut self, task: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let Self::Tcp(stream) = self;
        Pin::new(stream).poll_write(task, bytes)
    }

    /// Moves up to `max` bytes into the pipe, which holds none. `Ok(0)`: the peer ended its side.
    pub(crate) fn poll_fill(
        &self,
        task: &mut Context<'_>,
        pipe: &mut Pipe,
        max: usize,
    ) -> Poll<io::Result<usize>> {
        let Self::Tcp(stream) = self;
        loop {
            ready!(stream.poll_read_ready(task))?;
            match stream.try_io(Interest::READABLE, || pipe.fill(stream, max)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                filled => return Poll::Ready(filled),
            }
        }
    }

    /// Sends all that the pipe holds.
    pub(crate) fn poll_drain(&self, task: &mut Context<'_>, pipe: &mut Pipe) -> Poll<io::Result<()>> {
        let Self::Tcp(stream) = self;
        while pipe.held() > 0 {
            ready!(stream.poll_write_ready(task))?;
            match stream.try_io(Interest::WRITABLE, || pipe.drain(stream)) {
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Poll::Ready(Err(error)),
                Ok(_) | Err(_) => {}
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Whether the connection is dead, for whoever does not read it: by RST, also behind a FIN. Told once.
    pub(crate) fn is_gone(&self) -> bool {
        let Self::Tcp(stream) = self;
        !matches!(stream.take_error(), Ok(None))
    }

    /// Sends FIN.
    pub(crate) fn finish(&self) -> io::Result<()> {
        let Self::Tcp(stream) = self;
        SockRef::from(stream).shutdown(Shutdown::Write)
    }

    /// Closes with RST.
    pub(crate) fn reset(self) {
        let Self::Tcp(stream) = self;
        // Where the option can't be set the socket is already dead, and its peer has been told.
        drop(SockRef::from(&stream).set_linger(Some(Duration::ZERO)));
    }
}
