//! The proxy's sockets: transparent listeners, and upstream sockets that carry the client's address.
//!
//! All of them are non-blocking and closed on exec.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use redirect_abi::mark;
use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
use std::io;
use std::net::TcpListener;
use std::os::fd::AsRawFd;
use std::time::Duration;

/// Connections that have been made and wait to be accepted; the kernel cuts it down to `net.core.somaxconn`.
const BACKLOG_MAX: i32 = 4096;

/// A listener for redirected connections: transparent, marked, SO_REUSEPORT, on loopback, on a port of the kernel's choice.
///
/// Pods can't dial it (it is bound to loopback) and need not: SK_LOOKUP hands connections over whatever the port is.
pub fn redirect_listener(v6: bool) -> io::Result<TcpListener> {
    redirect_listener_at(loopback(v6, 0))
}

/// `count` such listeners on one port: a SO_REUSEPORT group, among which the kernel spreads connections. It is enough that
/// one of them is given to [`crate::Redirector::set_listeners`].
pub fn redirect_listeners(v6: bool, count: usize) -> io::Result<Vec<TcpListener>> {
    let first = redirect_listener(v6)?;
    let port = first.local_addr()?.port();
    let others = (1..count).map(|_| redirect_listener_at(loopback(v6, port)));
    core::iter::once(Ok(first)).chain(others).collect()
}

/// A listener of mode `none`: plain, SO_REUSEPORT, non-blocking.
pub fn plain_listener(bind: SocketAddr) -> io::Result<TcpListener> {
    let socket = tcp_socket(bind.ip())?;
    listen(socket, bind)
}

/// An unconnected non-blocking TCP socket bound to `source`, the client's; port 0 leaves the port to the kernel.
/// `transparent`: IP_TRANSPARENT and the upstream mark (mode ebpf); else a plain bind (mode none).
///
/// # Errors
/// `AddrInUse` if somebody holds the port for all addresses. A connection of the same two ends shows at connect only.
pub fn upstream_socket(source: SocketAddr, transparent: bool) -> io::Result<Socket> {
    let socket = tcp_socket(source.ip())?;
    socket.set_tcp_nodelay(true)?;
    keep_alive(&socket)?;
    if transparent {
        set_transparent(&socket, source.is_ipv6())?;
        socket.set_mark(mark::PROXY_UPSTREAM)?;
    }
    if source.port() == 0 {
        bind_address_no_port(&socket)?;
    } else {
        // One port of a client's serves its connections to many servers.
        socket.set_reuse_address(true)?;
    }
    socket.bind(&source.into())?;
    Ok(socket)
}

fn redirect_listener_at(bind: SocketAddr) -> io::Result<TcpListener> {
    let socket = tcp_socket(bind.ip())?;
    set_transparent(&socket, bind.is_ipv6())?;
    socket.set_mark(mark::PROXY_DOWNSTREAM)?; // accepted sockets inherit it
    listen(socket, bind)
}

fn listen(socket: Socket, bind: SocketAddr) -> io::Result<TcpListener> {
    if bind.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    // Accepted sockets inherit both. Small messages are sent at once: what is forwarded was batched by its sender.
    socket.set_tcp_nodelay(true)?;
    keep_alive(&socket)?;
    socket.bind(&bind.into())?;
    socket.listen(BACKLOG_MAX)?;
    Ok(socket.into())
}

fn tcp_socket(address: IpAddr) -> io::Result<Socket> {
    let domain = if address.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
    Socket::new(domain, Type::STREAM.nonblocking().cloexec(), Some(Protocol::TCP))
}

/// A peer may go without a word: a pod is deleted, a node loses power. The other end's own probes would be answered by us, so
/// that it would never know; ours end the connection after two minutes.
pub fn keep_alive(socket: &Socket) -> io::Result<()> {
    let probes = TcpKeepalive::new()
        .with_time(Duration::from_secs(60))
        .with_interval(Duration::from_secs(15))
        .with_retries(4);
    socket.set_tcp_keepalive(&probes)
}

fn set_transparent(socket: &Socket, v6: bool) -> io::Result<()> {
    if v6 { socket.set_ip_transparent_v6(true) } else { socket.set_ip_transparent_v4(true) }
}

/// The port is chosen at connect, by the whole four-tuple: the same port serves for many destinations.
fn bind_address_no_port(socket: &Socket) -> io::Result<()> {
    let on: libc::c_int = 1;
    let length = libc::socklen_t::try_from(size_of_val(&on)).unwrap_or_default();
    // The option lives at the IPv4 level for both families.
    // SAFETY: the pointer and length are those of `on`, which outlives the call.
    let answer = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_IP,
            libc::IP_BIND_ADDRESS_NO_PORT,
            (&raw const on).cast(),
            length,
        )
    };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn loopback(v6: bool, port: u16) -> SocketAddr {
    let address = if v6 { Ipv6Addr::LOCALHOST.into() } else { Ipv4Addr::LOCALHOST.into() };
    SocketAddr::new(address, port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upstream_socket_carries_the_clients_address() {
        // The port is chosen when it connects.
        let client = "127.0.0.21:0".parse().unwrap();
        let socket = upstream_socket(client, false).unwrap();
        assert_eq!(socket.local_addr().unwrap().as_socket(), Some(client));
        assert!(socket.tcp_nodelay().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(60));
    }

    #[test]
    fn upstream_sockets_share_a_port_of_the_clients() {
        let servers = [(); 2].map(|()| plain_listener("127.0.0.1:0".parse().unwrap()).unwrap());
        let [first, second] = servers.each_ref().map(|server| server.local_addr().unwrap());
        let dial = |from: SocketAddr, to: SocketAddr| {
            let socket = upstream_socket(from, false).unwrap();
            socket.set_nonblocking(false).unwrap();
            socket.connect(&to.into()).map(|()| socket)
        };
        let one = dial("127.0.0.22:0".parse().unwrap(), first).unwrap();
        // The kernel's choice does not share: the port is bound again as a client's is.
        let client = one.local_addr().unwrap().as_socket().unwrap();
        one.set_linger(Some(Duration::ZERO)).unwrap();
        drop(one);
        let _one = dial(client, first).unwrap();
        let _other = dial(client, second).unwrap();
        assert_eq!(dial(client, first).unwrap_err().kind(), io::ErrorKind::AddrNotAvailable);
    }

    #[test]
    fn accepted_sockets_ask_whether_their_peer_is_still_there() {
        let listener = plain_listener("127.0.0.1:0".parse().unwrap()).unwrap();
        listener.set_nonblocking(false).unwrap();
        let _client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let accepted = Socket::from(listener.accept().unwrap().0);
        assert!(accepted.keepalive().unwrap() && accepted.tcp_nodelay().unwrap());
        assert_eq!(accepted.tcp_keepalive_time().unwrap(), Duration::from_secs(60));
    }

    #[test]
    fn plain_listeners_share_a_port() {
        let first = plain_listener("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = first.local_addr().unwrap();
        assert_eq!(plain_listener(address).unwrap().local_addr().unwrap(), address);
    }

    #[test]
    fn an_upstream_socket_of_a_foreign_address_needs_transparency() {
        let error = upstream_socket("192.0.2.1:0".parse().unwrap(), false).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrNotAvailable);
    }

    #[test]
    #[ignore = "needs root"]
    fn transparent_sockets_are_marked() {
        for v6 in [false, true] {
            let group = redirect_listeners(v6, 3).unwrap();
            let ports: Vec<_> = group.iter().map(|l| l.local_addr().unwrap().port()).collect();
            assert!(ports.iter().all(|port| *port == ports[0]), "{ports:?}");
            assert_eq!(Socket::from(group[0].try_clone().unwrap()).mark().unwrap(), mark::PROXY_DOWNSTREAM);
        }
        for client in ["192.0.2.1:0", "192.0.2.1:4000", "[2001:db8::1]:0", "[2001:db8::1]:4000"] {
            let client: SocketAddr = client.parse().unwrap();
            let socket = upstream_socket(client, true).unwrap();
            assert_eq!(socket.local_addr().unwrap().as_socket(), Some(client));
            assert_eq!(socket.mark().unwrap(), mark::PROXY_UPSTREAM);
        }
    }
}
