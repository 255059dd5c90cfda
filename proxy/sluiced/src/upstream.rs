//! Dials the server, from the client's own address and port.

use crate::transport::Transport;
use proxy_core::record::{ClientAddr, Upstream};
use proxy_core::session::Dialled;
use redirect::sockets::{keep_alive, upstream_socket};
use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};
use std::io::{self, ErrorKind};
use std::net::SocketAddr;

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
    let any_port = SocketAddr::new(client.ip(), 0);
    let (socket, address_replaced) = match source {
        Source::Transparent => (in_the_clients_name(client, to)?, false),
        Source::WhereBindable if client.is_ipv4() != to.is_ipv4() => (begin(unbound(to)?, to)?, true),
        Source::WhereBindable => match upstream_socket(any_port, false) {
            Ok(socket) => (begin(socket, to)?, false),
            Err(error) if error.kind() == ErrorKind::AddrNotAvailable => (begin(unbound(to)?, to)?, true),
            Err(error) => return Err(error),
        },
    };
    Ok(Dial { transport: Transport::connecting(socket), address_replaced })
}

/// From the client's own port: the client has no other connection from there to this server, and makes none while it holds
/// the port. A port of our choice might be the client's next, uninspected by then: two connections with the same two ends.
///
/// The own port is not free where an earlier connection from it is not over on our side, or where a process of the node's
/// listens on it. Then one is taken that clients do not choose, and at last any.
fn in_the_clients_name(client: SocketAddr, to: SocketAddr) -> io::Result<Socket> {
    let from = |port| begin(upstream_socket(SocketAddr::new(client.ip(), port), true)?, to);
    for port in [client.port(), spare_port(client.port())] {
        match from(port) {
            Err(error) if matches!(error.kind(), ErrorKind::AddrInUse | ErrorKind::AddrNotAvailable) => {}
            begun => return begun,
        }
    }
    from(0)
}

/// Below those that Linux chooses from by default (`net.ipv4.ip_local_port_range`, 32768 and above).
fn spare_port(own: u16) -> u16 {
    const FIRST: u16 = 0x4000;
    FIRST + own % FIRST
}

fn begin(socket: Socket, to: SocketAddr) -> io::Result<Socket> {
    match socket.connect(&to.into()) {
        Err(error) if error.raw_os_error() != Some(Errno::INPROGRESS.raw_os_error()) => Err(error),
        _ => Ok(socket),
    }
}

fn unbound(to: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    keep_alive(&socket)?;
    Ok(socket)
}

/// What a failed dial means to the client.
pub(crate) fn failure(error: &io::Error) -> Dialled {
    match Errno::from_io_error(error) {
        Some(Errno::ADDRNOTAVAIL | Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => {
            Dialled::Exhausted
        }
        Some(Errno::CONNREFUSED | Errno::CONNRESET) => Dialled::Refused,
        Some(Errno::TIMEDOUT) => Dialled::TimedOut,
        _no_way => Dialled::Unreachable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_of_ours_is_not_laid_on_the_server() {
        let check = |errno: Errno, expect| assert_eq!(failure(&errno.into()), expect, "{errno:?}");
        check(Errno::ADDRNOTAVAIL, Dialled::Exhausted);
        check(Errno::MFILE, Dialled::Exhausted);
        check(Errno::CONNREFUSED, Dialled::Refused);
        check(Errno::CONNRESET, Dialled::Refused);
        check(Errno::TIMEDOUT, Dialled::TimedOut);
        check(Errno::HOSTUNREACH, Dialled::Unreachable);
        check(Errno::NETUNREACH, Dialled::Unreachable);
    }

    #[test]
    fn a_spare_port_is_none_that_linux_gives_to_clients() {
        let spares = (1..=u16::MAX).map(spare_port);
        assert_eq!(spares.clone().min(), Some(16_384));
        assert_eq!(spares.max(), Some(32_767));
    }
}
