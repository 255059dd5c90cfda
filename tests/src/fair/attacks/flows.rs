//! Datagram flows, each from a port of its own: an entry each for whoever remembers flows.

use crate::fair::arena::ECHO;
use crate::fair::{Assault, Attack};
use anyhow::Result;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

pub(super) const ATTACK: Attack = Attack {
    name: "datagram flows",
    bound: "flows of an endpoint; proxied ones in a map of their own",
    port: ECHO,
    head_start: |scale| scale.actions_max / 2,
    work,
    check: |_arena, _family| Ok(()),
};

fn work(assault: &Assault) -> Result<()> {
    let any: SocketAddr = match assault.to {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    while assault.goes_on() {
        let socket = UdpSocket::bind(any)?;
        // What is dropped on the way, or refused with an error, was an attempt.
        let _sent = socket.send_to(b"x", assault.to);
    }
    Ok(())
}
