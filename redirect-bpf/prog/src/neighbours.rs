//! What an endpoint says of addresses on its link, by ARP and IPv6 neighbour discovery: only of its own.
//!
//! Whoever hears a sender's address remembers it: made-up senders fill the neighbour tables of the node, and a false one takes
//! another's packets. So a sender's address is the endpoint's own, or the one link-local address that it is known by; a
//! hardware address is that of the frame; what only routers say an endpoint doesn't.
//!
//! ```text
//! link-local address:  (none) ──first one heard──► known ──silent for a minute, another one heard──► known
//! ```

use core::hint::black_box;
use redirect_abi::{Address, Endpoint, Neighbour, identity};

use crate::icmp::is_link_local;
use crate::packet::{Bytes, ETHERNET_LEN, Fragment, Packet, load, mapped};
use crate::policy;
use crate::protocol::{self, v6};
use crate::tables::{Full, Tables};
use crate::verdict::Reason;

/// An endpoint that is set up anew, or changes its hardware address, has another link-local address. One that makes them up
/// leaves one of them a minute.
pub const FORGET_NS: u64 = 60_000_000_000;
/// The entry of an endpoint that goes on talking is not written more often.
const REFRESH_NS: u64 = 1_000_000_000;

const HAS_IPV4: u32 = 1;
const HAS_IPV6: u32 = 2;

const STATION_AT: u32 = 6;
/// Ethernet, IPv4, and the lengths of their addresses (RFC 826).
const ARP_IPV4: [u8; 6] = [0, 1, 8, 0, 6, 4];
const ARP_REQUEST: [u8; 2] = [0, 1];
const ARP_REPLY: [u8; 2] = [0, 2];
/// Says which address it would like to have, and has none yet (RFC 5227).
const ARP_PROBE_SENDER: [u8; 4] = [0; 4];

const IPV6_LEN: u32 = 40;
const PAYLOAD_LEN_AT: u32 = ETHERNET_LEN + 4;
const ICMP_CODE_AT: u32 = 1;
const TARGET_AT: u32 = 8;
const SOLICITATION_LEN: u32 = 8;
const WITH_TARGET_LEN: u32 = 24;
/// More than any sender has use for.
const OPTIONS_MAX: u32 = 8;
const SOURCE_STATION: u8 = 1;
const TARGET_STATION: u8 = 2;
/// Proves that the message was not forwarded.
const HOP_LIMIT: u8 = 255;
const UNSPECIFIED: Address = [0; 16];

/// Whether the address is the endpoint's own.
#[inline(always)]
pub fn owns(endpoint: &Endpoint, address: &Address, is_ipv4: bool) -> bool {
    if is_ipv4 {
        endpoint.families & HAS_IPV4 != 0 && endpoint.v4 == *address
    } else {
        endpoint.families & HAS_IPV6 != 0 && endpoint.v6 == *address
    }
}

/// An ARP message. Fills in the addresses that it is about, for its record.
#[inline(never)]
pub fn check_arp(
    tables: &impl Tables,
    frame: &impl Bytes,
    endpoint: &Endpoint,
    packet: &mut Packet,
) -> Result<(), Reason> {
    let kind: [u8; 6] = load(frame, ETHERNET_LEN)?;
    let operation: [u8; 2] = load(frame, ETHERNET_LEN + 6)?;
    let sender: [u8; 10] = load(frame, ETHERNET_LEN + 8)?;
    let station: [u8; 6] = load(frame, STATION_AT)?;
    let address = [sender[6], sender[7], sender[8], sender[9]];
    packet.flow.source = mapped(address);
    packet.flow.destination = mapped(load(frame, ETHERNET_LEN + 24)?);
    if kind != ARP_IPV4 || (operation != ARP_REQUEST && operation != ARP_REPLY) {
        return Err(Reason::FalseNeighbour);
    }
    if address == ARP_PROBE_SENDER && operation == ARP_REQUEST {
        return Ok(());
    }
    if !owns(endpoint, &packet.flow.source, true) {
        return Err(Reason::SpoofedSource);
    }
    let said = [sender[0], sender[1], sender[2], sender[3], sender[4], sender[5]];
    if said != station || is_group(&station) {
        return Err(Reason::FalseNeighbour);
    }
    learn_station(tables, endpoint, &station);
    Ok(())
}

#[inline(always)]
pub fn is_discovery(packet: &Packet) -> bool {
    packet.flow.protocol == protocol::ICMPV6
        && matches!(packet.flow.destination_port[1], v6::ROUTER_SOLICITATION..=v6::REDIRECT)
}

/// A message of neighbour discovery (RFC 4861), wherever it goes.
#[inline(never)]
pub fn check_discovery(
    tables: &impl Tables,
    frame: &impl Bytes,
    endpoint: &Endpoint,
    packet: &Packet,
) -> Result<(), Reason> {
    if !is_known(tables, endpoint, &packet.flow.source) {
        return Err(Reason::SpoofedSource);
    }
    let message = packet.flow.destination_port[1];
    let nameless = packet.flow.source == UNSPECIFIED;
    let len = match message {
        v6::ROUTER_SOLICITATION => SOLICITATION_LEN,
        v6::NEIGHBOUR_SOLICITATION => WITH_TARGET_LEN,
        v6::NEIGHBOUR_ADVERTISEMENT if !nameless => WITH_TARGET_LEN,
        _ => return Err(Reason::FalseNeighbour),
    };
    // RFC 6980: never in fragments.
    let whole = packet.fragment == Fragment::Whole && packet.hop_limit == HOP_LIMIT;
    if !whole || load(frame, packet.transport + ICMP_CODE_AT)? != [0] {
        return Err(Reason::FalseNeighbour);
    }
    // Who has no address yet asks whether another has the one that it would like to have; others may ask for anybody.
    if message == v6::NEIGHBOUR_ADVERTISEMENT || (message == v6::NEIGHBOUR_SOLICITATION && nameless) {
        let target: Address = load(frame, packet.transport + TARGET_AT)?;
        if target == UNSPECIFIED || !is_known(tables, endpoint, &target) {
            return Err(Reason::SpoofedSource);
        }
    }
    let station: [u8; 6] = load(frame, STATION_AT)?;
    if is_group(&station) || !options_name(frame, packet.transport + len, &station, nameless) {
        return Err(Reason::FalseNeighbour);
    }
    if !nameless {
        learn_station(tables, endpoint, &station);
    }
    Ok(())
}

/// Whether a sender on the link is the endpoint: it has this address, or no address yet.
#[inline(always)]
pub fn is_known(tables: &impl Tables, endpoint: &Endpoint, address: &Address) -> bool {
    *address == UNSPECIFIED
        || owns(endpoint, address, false)
        || (is_link_local(address)
            && !is_of_node(tables, address)
            && is_own_link_local(tables, endpoint, address))
}

/// Others on a bridge would send it what is for the node, or for their gateway.
///
/// A call of its own beside the next, not within it: the stack has no room for both.
#[inline(never)]
fn is_of_node(tables: &impl Tables, address: &Address) -> bool {
    policy::identity_of(tables, address) == identity::HOST
}

/// Learns it, if none is known.
#[inline(never)]
fn is_own_link_local(tables: &impl Tables, endpoint: &Endpoint, address: &Address) -> bool {
    let now_ns = tables.now_ns();
    let mut known = tables.neighbour(endpoint.ifindex).unwrap_or(Neighbour::UNKNOWN);
    let silent_ns = now_ns.saturating_sub(known.heard_ns);
    if known.link_local == *address {
        if silent_ns < REFRESH_NS {
            return true;
        }
    } else if known.link_local != UNSPECIFIED && silent_ns < FORGET_NS {
        return false;
    }
    known.link_local = *address;
    known.heard_ns = now_ns;
    // What can't be remembered could be another one each time.
    !matches!(tables.insert_neighbour(endpoint.ifindex, &known), Err(Full))
}

/// The loader makes it the node's entry for the endpoint's addresses.
#[inline(always)]
fn learn_station(tables: &impl Tables, endpoint: &Endpoint, station: &[u8; 6]) {
    let mut known = tables.neighbour(endpoint.ifindex).unwrap_or(Neighbour::UNKNOWN);
    if known.station != *station {
        known.station = *station;
        // Without an entry the node asks its neighbours, as it does of others.
        let _added: bool = tables.insert_neighbour(endpoint.ifindex, &known).is_ok();
    }
}

/// Whether the options, if they name a hardware address, name this one; who has no address names none.
#[inline(always)]
fn options_name(frame: &impl Bytes, start: u32, station: &[u8; 6], nameless: bool) -> bool {
    let Some(payload) = frame.load(PAYLOAD_LEN_AT) else { return false };
    let end = ETHERNET_LEN + IPV6_LEN + u32::from(u16::from_be_bytes(payload));
    let mut at = start;
    for _ in 0..OPTIONS_MAX {
        if at == end {
            return true;
        }
        let Some([kind, len]) = frame.load(at) else { return false };
        let names_station = kind == SOURCE_STATION || kind == TARGET_STATION;
        if len == 0 || (names_station && (nameless || len != 1 || frame.load(at + 2) != Some(*station))) {
            return false;
        }
        // The mask changes nothing; by it the verifier sees that every round begins as any other.
        at = black_box(at + u32::from(len) * 8) & 0x1_ffff;
        if at > end {
            return false;
        }
    }
    false
}

/// The address of many stations is nobody's.
#[inline(always)]
fn is_group(station: &[u8; 6]) -> bool {
    station[0] & 1 != 0
}

#[cfg(test)]
mod tests;
