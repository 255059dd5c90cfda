//! Reads a frame's headers, and refuses those that could be read in two ways.
//!
//! INVARIANT: what is judged is what arrives. A header that sends the packet elsewhere than its destination says (source
//! routes) is refused, and so is one whose ports lie beyond what the packet calls its end.

use core::hint::black_box;
use redirect_abi::{FlowKey, kind};

use crate::promises::Promises;
use crate::protocol;
use crate::verdict::Reason;

/// The bytes of a frame, from its Ethernet header on.
pub trait Bytes {
    /// `None` beyond the end.
    fn load<const N: usize>(&self, offset: u32) -> Option<[u8; N]>;

    /// What will be done to them behind this hook.
    fn promises(&self) -> Promises {
        Promises::NONE
    }
}

impl Bytes for &[u8] {
    fn load<const N: usize>(&self, offset: u32) -> Option<[u8; N]> {
        let offset = usize::try_from(offset).ok()?;
        self.get(offset..)?.first_chunk().copied()
    }
}

/// What the kernel says of a frame beside its bytes.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    pub ethertype: u16,
    /// Carries a VLAN tag, which the kernel keeps beside the bytes.
    pub tagged: bool,
    /// The interface whose hook this is.
    pub ifindex: u32,
    /// Where the packet came into this node; 0 for what the node itself sends.
    pub ingress_ifindex: u32,
    pub mark: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    Arp,
    Ip,
}

/// The headers of one packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Source to destination, kind [`kind::DIRECT`]. For ICMP the source port is the identifier, the destination port the type.
    pub flow: FlowKey,
    /// Where the transport header is.
    pub transport: u32,
    pub sequence: [u8; 4],
    pub acknowledged: [u8; 4],
    pub fragment_id: [u8; 4],
    /// What follows the last header that every fragment has.
    pub next_header: u8,
    pub fragment: Fragment,
    /// Where the part that is fragmented begins, and how many bytes of it come before those of this fragment.
    pub fragmentable: u32,
    pub fragment_offset: u16,
    pub hop_limit: u8,
    /// Of SCTP and DCCP the flags that mean the same: of an INIT or a request SYN, of their answer SYN and ACK, of an abort RST.
    pub tcp_flags: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fragment {
    Whole,
    First,
    /// Has no transport header: its ports are those of the first.
    Rest,
}

pub mod ethertype {
    pub const IPV4: u16 = 0x0800;
    pub const ARP: u16 = 0x0806;
    pub const IPV6: u16 = 0x86dd;
}

pub mod tcp {
    pub const FIN: u8 = 0x01;
    pub const SYN: u8 = 0x02;
    pub const RST: u8 = 0x04;
    pub const ACK: u8 = 0x10;
}

pub const ETHERNET_LEN: u32 = 14;
const IPV4_LEN: u32 = 20;
const IPV6_LEN: u32 = 40;
const ETHERTYPE_AT: u32 = 12;
/// More extension headers than any sender has use for.
const EXTENSION_HEADERS_MAX: u32 = 8;
/// 60 bytes of header less the fixed 20.
const OPTION_BYTES_MAX: u32 = 40;

mod extension {
    pub(super) const HOP_BY_HOP: u8 = 0;
    pub(super) const ROUTING: u8 = 43;
    pub(super) const FRAGMENT: u8 = 44;
    pub(super) const AUTHENTICATION: u8 = 51;
    pub(super) const DESTINATION: u8 = 60;
}

mod option {
    pub(super) const END: u8 = 0;
    pub(super) const NO_OPERATION: u8 = 1;
    pub(super) const LOOSE_SOURCE_ROUTE: u8 = 131;
    pub(super) const STRICT_SOURCE_ROUTE: u8 = 137;
}

impl Packet {
    pub const EMPTY: Self = Self {
        flow: FlowKey {
            source: [0; 16],
            destination: [0; 16],
            source_port: [0; 2],
            destination_port: [0; 2],
            protocol: 0,
            kind: kind::DIRECT,
            pad: [0; 2],
        },
        transport: 0,
        sequence: [0; 4],
        acknowledged: [0; 4],
        fragment_id: [0; 4],
        next_header: 0,
        fragmentable: 0,
        fragment_offset: 0,
        fragment: Fragment::Whole,
        hop_limit: 0,
        tcp_flags: 0,
    };

    /// The first packet of a connection, which is never a reply and inherits nothing.
    #[inline(always)]
    pub fn opens(&self) -> bool {
        self.tcp_flags & (tcp::SYN | tcp::ACK) == tcp::SYN
    }

    /// The answer to such a packet, or what looks like it.
    #[inline(always)]
    pub fn answers_opening(&self) -> bool {
        self.tcp_flags & (tcp::SYN | tcp::ACK) == tcp::SYN | tcp::ACK
    }

    #[inline(always)]
    pub fn is_tcp(&self) -> bool {
        self.flow.protocol == protocol::TCP
    }

    #[inline(always)]
    pub fn is_ipv4(&self) -> bool {
        is_mapped(&self.flow.source)
    }

    /// The type, for ICMP of either family.
    #[inline(always)]
    pub fn icmp_type(&self) -> Option<u8> {
        match self.flow.protocol {
            protocol::ICMP | protocol::ICMPV6 => Some(self.flow.destination_port[1]),
            _ => None,
        }
    }

    /// The flow that this packet would be a reply of.
    #[inline(always)]
    pub fn reply_to(&self) -> Option<FlowKey> {
        if self.opens() {
            return None;
        }
        match self.icmp_type() {
            None => Some(reversed(&self.flow)),
            Some(answer) => {
                let question = protocol::question(self.flow.protocol, answer)?;
                let source_port = self.flow.source_port;
                Some(FlowKey { source_port, destination_port: [0, question], ..reversed(&self.flow) })
            }
        }
    }
}

/// The same two ends, the other way.
#[inline(always)]
pub fn reversed(flow: &FlowKey) -> FlowKey {
    FlowKey {
        source: flow.destination,
        destination: flow.source,
        source_port: flow.destination_port,
        destination_port: flow.source_port,
        ..*flow
    }
}

/// Whether this is how IPv4 is written in 16 bytes.
#[inline(always)]
pub fn is_mapped(address: &[u8; 16]) -> bool {
    matches!(address, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, ..])
}

/// Fills in what the frame says. The packet of a refused frame holds what was read until then.
///
/// A call of its own in the kernel, for what it has on the stack.
#[inline(never)]
pub fn parse(frame: &impl Bytes, arrival: &Arrival, packet: &mut Packet) -> Result<Network, Reason> {
    if arrival.tagged {
        return Err(Reason::UnknownL3);
    }
    match arrival.ethertype {
        ethertype::ARP => {
            check_ethertype(frame, arrival)?;
            frame.promises().check_none()?;
            return Ok(Network::Arp);
        }
        ethertype::IPV4 => ipv4(frame, packet)?,
        ethertype::IPV6 => ipv6(frame, packet)?,
        _ => return Err(Reason::UnknownL3),
    }
    check_ethertype(frame, arrival)?;
    check_promises(&frame.promises(), packet)?;
    Ok(Network::Ip)
}

/// No sender leaves a checksum of ICMP to the device, and fragments are never cut again.
#[inline(always)]
fn check_promises(promises: &Promises, packet: &Packet) -> Result<(), Reason> {
    if packet.fragment == Fragment::Rest || packet.icmp_type().is_some() {
        return promises.check_none();
    }
    promises.check_checksum(packet.transport, packet.flow.protocol)?;
    match packet.fragment {
        Fragment::Whole => promises.check_segments(),
        Fragment::First | Fragment::Rest => promises.check_uncut(),
    }
}

/// This kernel goes by what it keeps beside the bytes, whoever receives them by the bytes.
#[inline(always)]
fn check_ethertype(frame: &impl Bytes, arrival: &Arrival) -> Result<(), Reason> {
    let agrees = load(frame, ETHERTYPE_AT)? == arrival.ethertype.to_be_bytes();
    if agrees { Ok(()) } else { Err(Reason::UnknownL3) }
}

#[inline(always)]
fn ipv4(frame: &impl Bytes, packet: &mut Packet) -> Result<(), Reason> {
    let header: [u8; 20] = load(frame, ETHERNET_LEN)?;
    let header_len = u32::from(header[0] & 0x0f) * 4;
    if header[0] >> 4 != 4 || header_len < IPV4_LEN {
        return Err(Reason::Malformed);
    }
    packet.flow.source = mapped([header[12], header[13], header[14], header[15]]);
    packet.flow.destination = mapped([header[16], header[17], header[18], header[19]]);
    packet.hop_limit = header[8];
    packet.fragment_id = [0, 0, header[4], header[5]];
    packet.next_header = header[9];
    packet.transport = ETHERNET_LEN + header_len;
    packet.fragmentable = packet.transport;
    if header_len > IPV4_LEN {
        refuse_source_routes(frame, packet.transport)?;
    }
    let offset = u16::from_be_bytes([header[6] & 0x1f, header[7]]) * 8;
    fragment(packet, offset, header[6] & 0x20 != 0);
    // 0: too long for 16 bits, which only a segmented packet of this kernel's own may be; it drops others.
    let end = match u16::from_be_bytes([header[2], header[3]]) {
        0 => u32::MAX,
        total => ETHERNET_LEN + u32::from(total),
    };
    transport(frame, packet, header[9], offset, end)
}

/// `end`: where the options do.
#[inline(always)]
fn refuse_source_routes(frame: &impl Bytes, end: u32) -> Result<(), Reason> {
    let mut left = end - ETHERNET_LEN - IPV4_LEN;
    for _ in 0..OPTION_BYTES_MAX {
        if left == 0 {
            return Ok(());
        }
        let [option] = load(frame, end - left)?;
        let len = match option {
            option::END => return Ok(()),
            option::NO_OPERATION => 1,
            // The packet would go on from its destination to one that nobody judged.
            option::LOOSE_SOURCE_ROUTE | option::STRICT_SOURCE_ROUTE => return Err(Reason::ExtensionHeaders),
            _ => match load(frame, end - left + 1)? {
                [0 | 1] => return Err(Reason::Malformed),
                [len] => u32::from(len),
            },
        };
        if len > left {
            return Err(Reason::Malformed);
        }
        // The mask changes nothing, but by it the verifier sees that every round begins as any other, and follows only one.
        // (The black box keeps the compiler from seeing that it changes nothing.)
        left = black_box(left - len) & 0x3f;
    }
    Ok(())
}

#[inline(always)]
fn ipv6(frame: &impl Bytes, packet: &mut Packet) -> Result<(), Reason> {
    let [version, _, _, _, len_high, len_low, first, hop_limit] = load(frame, ETHERNET_LEN)?;
    if version >> 4 != 6 {
        return Err(Reason::Malformed);
    }
    packet.flow.source = load(frame, ETHERNET_LEN + 8)?;
    packet.flow.destination = load(frame, ETHERNET_LEN + 24)?;
    packet.hop_limit = hop_limit;
    // They would be taken for the IPv4 addresses that they hold.
    if is_mapped(&packet.flow.source) || is_mapped(&packet.flow.destination) {
        return Err(Reason::MappedAddress);
    }
    let end = match u16::from_be_bytes([len_high, len_low]) {
        // A jumbogram says its length in a hop-by-hop option.
        0 if first == extension::HOP_BY_HOP => u32::MAX,
        payload => ETHERNET_LEN + IPV6_LEN + u32::from(payload),
    };
    let (protocol, offset) = extension_headers(frame, packet, first)?;
    transport(frame, packet, protocol, offset, end)
}

/// Walks to the transport header; the protocol and the fragment's offset.
#[inline(always)]
fn extension_headers(frame: &impl Bytes, packet: &mut Packet, first: u8) -> Result<(u8, u16), Reason> {
    let mut next = first;
    let mut fragment_offset = 0;
    let mut fragmented = false;
    packet.transport = ETHERNET_LEN + IPV6_LEN;
    packet.next_header = first;
    for _ in 0..=EXTENSION_HEADERS_MAX {
        let header_len = match next {
            extension::HOP_BY_HOP | extension::DESTINATION | extension::ROUTING => {
                let [following, len, _, segments_left] = load(frame, packet.transport)?;
                if next == extension::ROUTING && segments_left != 0 {
                    return Err(Reason::ExtensionHeaders);
                }
                next = following;
                (u32::from(len) + 1) * 8
            }
            extension::AUTHENTICATION => {
                let [following, len] = load(frame, packet.transport)?;
                next = following;
                (u32::from(len) + 2) * 4
            }
            extension::FRAGMENT => {
                let [following, _, high, low, id @ ..]: [u8; 8] = load(frame, packet.transport)?;
                // Not even behind one that fragments nothing.
                if fragmented {
                    return Err(Reason::ExtensionHeaders);
                }
                fragmented = true;
                packet.fragmentable = packet.transport + 8;
                packet.fragment_id = id;
                packet.next_header = following;
                fragment_offset = u16::from_be_bytes([high, low & 0xf8]);
                fragment(packet, fragment_offset, low & 1 != 0);
                next = following;
                8
            }
            _ => return Ok((next, fragment_offset)),
        };
        packet.transport += header_len;
        if packet.fragment == Fragment::Rest {
            return Ok((next, fragment_offset));
        }
    }
    Err(Reason::ExtensionHeaders)
}

#[inline(always)]
fn fragment(packet: &mut Packet, offset: u16, more: bool) {
    packet.fragment_offset = offset;
    packet.fragment = match (offset, more) {
        (0, false) => Fragment::Whole,
        (0, true) => Fragment::First,
        _ => Fragment::Rest,
    };
}

#[inline(always)]
fn transport(
    frame: &impl Bytes,
    packet: &mut Packet,
    protocol: u8,
    fragment_offset: u16,
    end: u32,
) -> Result<(), Reason> {
    packet.flow.protocol = protocol;
    if packet.fragment == Fragment::Rest {
        // Would write over the ports or flags that the first fragment was judged by (RFC 3128). Of IPv6 the receiver takes the
        // protocol from the first fragment: see `fragments`.
        let overwrites = u32::from(fragment_offset) < protocol::header_len(protocol);
        return if overwrites { Err(Reason::Malformed) } else { Ok(()) };
    }
    match protocol {
        protocol::TCP => tcp_header(frame, packet)?,
        protocol::UDP | protocol::UDP_LITE => {
            let header: [u8; 8] = load(frame, packet.transport)?;
            ports(packet, [header[0], header[1], header[2], header[3]]);
        }
        protocol::DCCP => dccp_header(frame, packet)?,
        protocol::SCTP => sctp_header(frame, packet, end)?,
        protocol::ICMP | protocol::ICMPV6 => icmp_header(frame, packet)?,
        _ => {}
    }
    if packet.transport + protocol::header_len(protocol) > end { Err(Reason::Malformed) } else { Ok(()) }
}

#[inline(always)]
fn tcp_header(frame: &impl Bytes, packet: &mut Packet) -> Result<(), Reason> {
    let header: [u8; 20] = load(frame, packet.transport)?;
    ports(packet, [header[0], header[1], header[2], header[3]]);
    packet.sequence = [header[4], header[5], header[6], header[7]];
    packet.acknowledged = [header[8], header[9], header[10], header[11]];
    packet.tcp_flags = header[13];
    if header[12] >> 4 < 5 { Err(Reason::Malformed) } else { Ok(()) }
}

/// RFC 4340, section 5.1.
#[inline(always)]
fn dccp_header(frame: &impl Bytes, packet: &mut Packet) -> Result<(), Reason> {
    const REQUEST: u8 = 0;
    const RESPONSE: u8 = 1;
    const RESET: u8 = 7;
    let header: [u8; 12] = load(frame, packet.transport)?;
    ports(packet, [header[0], header[1], header[2], header[3]]);
    packet.sequence = [header[8], header[9], header[10], header[11]];
    packet.tcp_flags = match header[8] >> 1 & 0x0f {
        REQUEST => tcp::SYN,
        RESPONSE => tcp::SYN | tcp::ACK,
        RESET => tcp::RST,
        _ => 0,
    };
    Ok(())
}

/// RFC 9260, section 3. A packet opens if its verification tag is zero, as it must be with an INIT and with nothing else (section
/// 8.5.1), and if there is an INIT in it, though receivers discard one that is not alone.
#[inline(always)]
fn sctp_header(frame: &impl Bytes, packet: &mut Packet, end: u32) -> Result<(), Reason> {
    const INIT: u8 = 1;
    const INIT_ACK: u8 = 2;
    const ABORT: u8 = 6;
    const SHUTDOWN_COMPLETE: u8 = 14;
    const COMMON_LEN: u32 = 12;
    const CHUNKS_MAX: u32 = 8;
    let header: [u8; 12] = load(frame, packet.transport)?;
    ports(packet, [header[0], header[1], header[2], header[3]]);
    let mut opens = matches!(header, [_, _, _, _, 0, 0, 0, 0, ..]);
    let mut first = None;
    let mut at = packet.transport + COMMON_LEN;
    for _ in 0..CHUNKS_MAX {
        if at + 4 > end {
            break;
        }
        let [chunk, _, high, low] = load(frame, at)?;
        opens |= chunk == INIT;
        first = first.or(Some(chunk));
        match u16::from_be_bytes([high, low]) {
            0 => break,
            len => at += (u32::from(len) + 3) & !3,
        }
    }
    packet.tcp_flags = match first {
        _ if opens => tcp::SYN,
        Some(INIT_ACK) => tcp::SYN | tcp::ACK,
        Some(ABORT | SHUTDOWN_COMPLETE) => tcp::RST,
        _ => 0,
    };
    // The initiate tag of an INIT: sent again it has the same one.
    let tag = packet.transport + COMMON_LEN + 4;
    packet.sequence = if tag + 4 > end { [0; 4] } else { load(frame, tag)? };
    Ok(())
}

#[inline(always)]
fn icmp_header(frame: &impl Bytes, packet: &mut Packet) -> Result<(), Reason> {
    if (packet.flow.protocol == protocol::ICMP) != packet.is_ipv4() {
        return Err(Reason::Malformed);
    }
    let [kind, _, _, _, id_high, id_low, _, _] = load(frame, packet.transport)?;
    packet.flow.source_port =
        if protocol::has_identifier(packet.flow.protocol, kind) { [id_high, id_low] } else { [0; 2] };
    packet.flow.destination_port = [0, kind];
    Ok(())
}

#[inline(always)]
fn ports(packet: &mut Packet, [a, b, c, d]: [u8; 4]) {
    packet.flow.source_port = [a, b];
    packet.flow.destination_port = [c, d];
}

#[inline(always)]
pub fn mapped([a, b, c, d]: [u8; 4]) -> [u8; 16] {
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d]
}

#[inline(always)]
pub(crate) fn load<const N: usize>(frame: &impl Bytes, offset: u32) -> Result<[u8; N], Reason> {
    frame.load(offset).ok_or(Reason::Malformed)
}

#[cfg(test)]
mod tests;
