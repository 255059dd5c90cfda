//! Datagrams to a port where nothing may be sent: every one a denial to be told. The victim's own denials must be told too.

use crate::fair::arena::{Arena, DENIED, Way};
use crate::fair::{Assault, Attack};
use crate::pods::Family;
use anyhow::Result;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

pub(super) const ATTACK: Attack = Attack {
    name: "denials",
    bound: "events of an endpoint",
    port: DENIED,
    head_start: |scale| scale.actions_max / 10,
    work,
    check,
};

fn any(to: SocketAddr) -> SocketAddr {
    match to {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    }
}

fn work(assault: &Assault) -> Result<()> {
    // A port of its own for each: the same again would be counted in one record.
    while assault.goes_on() {
        let socket = UdpSocket::bind(any(assault.to))?;
        let _sent = socket.send_to(b"x", assault.to);
    }
    Ok(())
}

/// One denial of the victim's, to a port that nobody else asks for, is recorded.
fn check(arena: &Arena, family: Family) -> Result<()> {
    let to = arena.server(Way::Through, family, DENIED + 1);
    let source = arena.node.pod("victim").spec.address(family).to_string();
    let _sent = arena.victim().run(move || UdpSocket::bind(any(to))?.send_to(b"x", to))??;
    let is_it = |flow: &serde_json::Value| {
        let text = |end: &str, field: &str| flow.get(end).and_then(|end| end.get(field)).cloned();
        flow.get("verdict").is_some_and(|verdict| verdict == "dropped")
            && text("source", "address") == Some(source.as_str().into())
            && text("destination", "port") == Some(to.port().into())
    };
    arena.daemon.wait_until("the victim's denial is recorded", |daemon| {
        daemon.flows().is_ok_and(|flows| flows.iter().any(is_it))
    })
}
