//! Later fragments have no ports: they take those that the first one left.
//!
//! INVARIANT: what is remembered was sent by the owner of its source address, and what the receiver may have is rewritten by
//! nothing that it can't have: a first fragment that was refused takes nobody's place.
//! INVARIANT: who sends is charged: a payer's new datagram takes the place of its own oldest one, never that of another's.
//! INVARIANT: no later fragment reaches into the headers that the first one was judged by, whatever it says they are.

use redirect_abi::{
    FRAGMENTED_MAX, FRAGMENTED_OTHER_MAX, FragmentKey, FragmentPlace, FragmentValue, Payer, payer,
};

use crate::packet::{Fragment, Packet};
use crate::protocol;
use crate::quota;
use crate::tables::{Full, Tables, Word};
use crate::verdict::{Reason, Report};

/// What is known of a packet whose source was checked.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ports {
    Known,
    /// It came before its first fragment: only what holds for all ports of its protocol can be said of it.
    Unknown,
}

/// As long as receivers wait for the rest of a packet (RFC 8200, section 4.5).
pub const REASSEMBLY_NS: u64 = 60_000_000_000;
/// IPv6 headers of a first fragment that are judged end before this, so that what begins behind it overwrites none of them. No
/// link of IPv6 has so small an MTU that a true second fragment begins before.
const HEADERS_END_MAX: u16 = 512;

/// Remembers a first fragment unless there is one, completes a later one.
#[inline(never)]
pub fn resolve(tables: &impl Tables, packet: &mut Packet, report: &Report) -> Result<Ports, Reason> {
    match packet.fragment {
        Fragment::Whole => return Ok(Ports::Known),
        Fragment::First => {
            if !packet.is_ipv4() && header_end(packet) > HEADERS_END_MAX {
                return Err(Reason::ExtensionHeaders);
            }
            if remembered(tables, packet).is_none() {
                make_room(tables, packet, report);
                remember(tables, packet)?;
            }
        }
        Fragment::Rest => {
            let Some(first) = remembered(tables, packet) else { return orphan(packet) };
            if packet.fragment_offset < first.header_end {
                return Err(Reason::Malformed);
            }
            packet.flow.source_port = first.source_port;
            packet.flow.destination_port = first.destination_port;
            packet.flow.protocol = first.protocol;
        }
    }
    Ok(Ports::Known)
}

/// Notes that a packet goes on to its receiver.
#[inline(always)]
pub fn admitted(tables: &impl Tables, packet: &Packet) -> Result<(), Reason> {
    if packet.fragment == Fragment::First { remember(tables, packet) } else { Ok(()) }
}

#[inline(always)]
fn orphan(packet: &Packet) -> Result<Ports, Reason> {
    // Of IPv4 the protocol is part of what receivers tell datagrams apart by: that of the first is the same.
    if packet.is_ipv4() {
        return Ok(Ports::Unknown);
    }
    if packet.fragment_offset < HEADERS_END_MAX || protocol::is_extension(packet.flow.protocol) {
        return Err(Reason::FragmentOrphan);
    }
    Ok(Ports::Unknown)
}

#[inline(always)]
fn remembered(tables: &impl Tables, packet: &Packet) -> Option<FragmentValue> {
    let first = tables.fragment(&key(packet))?;
    (tables.now_ns().saturating_sub(first.seen_ns) <= REASSEMBLY_NS).then_some(first)
}

#[inline(never)]
fn remember(tables: &impl Tables, packet: &Packet) -> Result<(), Reason> {
    let value = FragmentValue {
        source_port: packet.flow.source_port,
        destination_port: packet.flow.destination_port,
        protocol: packet.flow.protocol,
        pad: 0,
        header_end: header_end(packet),
        seen_ns: tables.now_ns(),
    };
    tables.insert_fragment(&key(packet), &value).map_err(|Full| Reason::MapFull)
}

/// The payer's oldest datagram beyond what it may have is forgotten, and this one is put into its place.
#[inline(never)]
fn make_room(tables: &impl Tables, packet: &Packet, report: &Report) {
    let Some(place) = place(tables, packet, report) else { return };
    tables.remove_fragment(place.key());
    place.store(key(packet));
}

/// The next place in the queue of whoever sends this. An outside prefix without an account has the queue of the others.
#[inline(never)]
fn place<'a, T: Tables>(tables: &'a T, packet: &Packet, report: &Report) -> Option<&'a Word<FragmentKey>> {
    let payer = Payer::of(report.payer_endpoint, report.payer, &packet.flow.source);
    let mut place = FragmentPlace { payer, place: 0, pad: 0 };
    let account = quota::known_account(tables, &mut place.payer)?;
    let room = if place.payer.kind == payer::ENDPOINT { FRAGMENTED_MAX } else { FRAGMENTED_OTHER_MAX };
    place.place = u32::try_from(account.fragmented.load() % room).ok()?;
    tables.add(&account.fragmented, 1);
    tables.fragment_place(&place)
}

/// Of the headers that are judged, from where the first fragment begins.
#[inline(always)]
fn header_end(packet: &Packet) -> u16 {
    let end = packet.transport + protocol::header_len(packet.flow.protocol);
    u16::try_from(end.saturating_sub(packet.fragmentable)).unwrap_or(u16::MAX)
}

#[inline(always)]
fn key(packet: &Packet) -> FragmentKey {
    FragmentKey {
        source: packet.flow.source,
        destination: packet.flow.destination,
        id: packet.fragment_id,
        next_header: packet.next_header,
        pad: [0; 3],
    }
}

#[cfg(test)]
mod tests;
