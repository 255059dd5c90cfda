//! Dials the server, from the client's own address.

use crate::transport::Transport;
use proxy_core::record::{ClientAddr, Upstream};
use proxy_core::session::Dialled;
use std::io;

/// How sockets to the server are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// The client's address, which is not ours (mode `ebpf`).
    Transparent,
    /// The client's address where it is one of this machine's, any of ours otherwise (mode `none`).
    WhereBindable,
}

/// A dial that has begun.
#[derive(Debug)]
pub(crate) struct Dial {
    pub(crate) transport: Transport,
    /// The server will not see the client's address.
    pub(crate) address_replaced: bool,
}

pub(crate) fn dial(client: ClientAddr, upstream: Upstream, source: Source) -> Result<Dial, Dialled> {
    connect(client, upstream, source).map_err(|error| failure(&error))
}

fn connect(ClientAddr(client): ClientAddr, Upstream(to): Upstream, source: Source) -> io::Result<Dial> {
    let (socket, address_replaced) = match source {
        Source::Transparent => (redirect::sockets::upstream_socket(client.ip(), true)?, false),
        Source::WhereBindable => match client.is_ipv4() == to.is_ipv4() {
            true => match redirect::sockets::upstream_socket(client.ip(), false) {
                Ok(socket) => (socket, false),
                Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => (unbound(to)?, true),
                Err(error) => return Err(error),
            },
            false => (unbound(to)?, true),
        },
    };
    match socket.connect(&to.into()) {
        Ok(()) => {}
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {}
        Err(error) => return Err(error),
    }
    Ok(Dial { transport: Transport::connecting(socket)?, address_replaced })
}

fn unbound(to: std::net::SocketAddr) -> io::Result<socket2::Socket> {
    let domain = socket2::Domain::for_address(to);
    let socket = socket2::Socket::new(domain, socket2::Type::STREAM, Some(socket2::Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    redirect::sockets::keep_alive(&socket)?;
    Ok(socket)
}

/// What a failed dial means to the client. A local failure (no port left, no route) leaves the server unreachable.
pub(crate) fn failure(error: &io::Error) -> Dialled {
    let kind = error.kind();
    if matches!(kind, io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset) {
        Dialled::Refused
    } else if kind == io::ErrorKind::TimedOut {
        Dialled::TimedOut
    } else {
        Dialled::Unreachable
    }
}
