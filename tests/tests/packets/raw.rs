//! Packets that no other socket would send, written header by header and sent by a raw one.

use e2e::device::Mac;
use e2e::netns::Namespace;
use socket2::{Domain, Protocol, Socket, Type};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
pub(crate) const ICMP: u8 = 1;
pub(crate) const ICMPV6: u8 = 58;
const FRAGMENT: u8 = 44;
/// Of a raw socket: packets come with their IP headers.
const IPPROTO_RAW: i32 = 255;

/// Sends a packet from a pod, on the way to an address that its header need not name.
pub(crate) fn send(pod: &Namespace, towards: IpAddr, packet: Vec<u8>) {
    let to = SocketAddr::new(towards, 0);
    let work = move || {
        let socket = Socket::new(Domain::for_address(to), Type::RAW, Some(Protocol::from(IPPROTO_RAW)))?;
        socket.send_to(&packet, &to.into())
    };
    let _sent: usize = pod.run(work).unwrap().unwrap();
}

/// Sends many packets from a pod, one behind the other.
pub(crate) fn send_each<I: Iterator<Item = Vec<u8>>>(
    pod: &Namespace,
    towards: IpAddr,
    packets: impl FnOnce() -> I + Send + 'static,
) {
    let to = SocketAddr::new(towards, 0);
    let work = move || {
        let socket = Socket::new(Domain::for_address(to), Type::RAW, Some(Protocol::from(IPPROTO_RAW)))?;
        packets().try_for_each(|packet| socket.send_to(&packet, &to.into()).map(|_bytes| ()))
    };
    pod.run(work).unwrap().unwrap();
}

/// An IP packet of the addresses' family.
pub(crate) fn packet(from: IpAddr, to: IpAddr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => ipv4(from, to, protocol, &[], 0, payload),
        (IpAddr::V6(from), IpAddr::V6(to)) => ipv6(from, to, protocol, payload),
        _ => panic!("two families: {from} {to}"),
    }
}

/// `options` fill whole words; `fragment`: flags and offset as in the header. The kernel fills in the checksum.
pub(crate) fn ipv4(
    from: Ipv4Addr,
    to: Ipv4Addr,
    protocol: u8,
    options: &[u8],
    fragment: u16,
    payload: &[u8],
) -> Vec<u8> {
    let header_len = 20 + options.len();
    let mut bytes = vec![0x40 | u8::try_from(header_len / 4).unwrap(), 0];
    bytes.extend(u16::try_from(header_len + payload.len()).unwrap().to_be_bytes());
    bytes.extend(0x1234_u16.to_be_bytes());
    bytes.extend(fragment.to_be_bytes());
    bytes.extend([64, protocol, 0, 0]);
    bytes.extend(from.octets());
    bytes.extend(to.octets());
    bytes.extend(options);
    bytes.extend(payload);
    bytes
}

pub(crate) fn ipv6(from: Ipv6Addr, to: Ipv6Addr, next_header: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x60, 0, 0, 0];
    bytes.extend(u16::try_from(payload.len()).unwrap().to_be_bytes());
    bytes.extend([next_header, 64]);
    bytes.extend(from.octets());
    bytes.extend(to.octets());
    bytes.extend(payload);
    bytes
}

/// A frame that holds an IP packet, with the checksum of an IPv4 header.
pub(crate) fn frame(from: Mac, to: Mac, mut packet: Vec<u8>) -> Vec<u8> {
    let ethertype: u16 = if packet[0] >> 4 == 4 { 0x0800 } else { 0x86dd };
    if ethertype == 0x0800 {
        let header_len = usize::from(packet[0] & 15) * 4;
        let sum = checksum(&[&packet[..header_len]]);
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
    }
    [&to[..], &from, &ethertype.to_be_bytes(), &packet].concat()
}

/// What a device makes of a checksum that is left to it.
pub(crate) fn completed(frame: &[u8], start: usize, offset: usize) -> Vec<u8> {
    let mut completed = frame.to_vec();
    let sum = match checksum(&[&frame[start..]]) {
        0 => u16::MAX,
        sum => sum,
    };
    completed[start + offset..start + offset + 2].copy_from_slice(&sum.to_be_bytes());
    completed
}

/// A UDP header and body, with the checksum that these addresses make.
pub(crate) fn udp(from: SocketAddr, to: SocketAddr, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::from(from.port().to_be_bytes());
    bytes.extend(to.port().to_be_bytes());
    bytes.extend(u16::try_from(8 + body.len()).unwrap().to_be_bytes());
    bytes.extend([0, 0]);
    bytes.extend(body);
    let sum = checksum(&[&pseudo_header(from.ip(), to.ip(), UDP, bytes.len()), &bytes]);
    bytes[6..8].copy_from_slice(&sum.to_be_bytes());
    bytes
}

/// A TCP header without a right checksum: nobody is to read it.
pub(crate) fn segment(from: SocketAddr, to: SocketAddr, flags: u8) -> Vec<u8> {
    let rest = [0, 0, 0, 1, 0, 0, 0, 1, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0];
    [&ports(from, to)[..], &rest].concat()
}

pub(crate) fn ports(from: SocketAddr, to: SocketAddr) -> [u8; 4] {
    let ([a, b], [c, d]) = (from.port().to_be_bytes(), to.port().to_be_bytes());
    [a, b, c, d]
}

/// A datagram in two fragments, the first of 1,400 bytes.
pub(crate) fn fragments(from: SocketAddr, to: SocketAddr, id: u16, body: &[u8]) -> [Vec<u8>; 2] {
    const FIRST: usize = 1_400;
    let datagram = udp(from, to, body);
    let part = |offset: usize, more: bool, payload: &[u8]| {
        let offset = u16::try_from(offset).unwrap();
        match (from.ip(), to.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                let flags = (offset / 8) | if more { 0x2000 } else { 0 };
                let mut packet = ipv4(from, to, UDP, &[], flags, payload);
                packet[4..6].copy_from_slice(&id.to_be_bytes());
                packet
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                let [high, low] = (offset | u16::from(more)).to_be_bytes();
                let [id_high, id_low] = id.to_be_bytes();
                let header = [UDP, 0, high, low, 0, 0, id_high, id_low];
                ipv6(from, to, FRAGMENT, &[&header[..], payload].concat())
            }
            _ => panic!("two families: {from} {to}"),
        }
    };
    [part(0, true, &datagram[..FIRST]), part(FIRST, false, &datagram[FIRST..])]
}

/// Makes a fragment of [`fragments`] one of another datagram.
pub(crate) fn set_datagram(fragment: &mut [u8], id: u16) {
    let at = if fragment[0] >> 4 == 4 { 4 } else { 46 };
    fragment[at..at + 2].copy_from_slice(&id.to_be_bytes());
}

/// "Packet too big", about a packet that `to` sent.
pub(crate) fn too_big(from: IpAddr, to: IpAddr, mtu: u16, about: &[u8]) -> Vec<u8> {
    let [high, low] = mtu.to_be_bytes();
    let (protocol, header) = match to {
        IpAddr::V4(_) => (ICMP, [3, 4, 0, 0, 0, 0, high, low]),
        IpAddr::V6(_) => (ICMPV6, [2, 0, 0, 0, 0, 0, high, low]),
    };
    let mut message = [&header[..], about].concat();
    let pseudo = match to {
        IpAddr::V4(_) => Vec::new(),
        IpAddr::V6(_) => pseudo_header(from, to, protocol, message.len()),
    };
    let sum = checksum(&[&pseudo, &message]);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    packet(from, to, protocol, &message)
}

/// What a sender puts into the checksum that it leaves to the device.
pub(crate) fn pseudo_sum(from: IpAddr, to: IpAddr, protocol: u8, len: usize) -> u16 {
    !checksum(&[&pseudo_header(from, to, protocol, len)])
}

pub(crate) fn pseudo_header(from: IpAddr, to: IpAddr, protocol: u8, len: usize) -> Vec<u8> {
    let mut bytes = match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => [from.octets(), to.octets()].concat(),
        (IpAddr::V6(from), IpAddr::V6(to)) => [from.octets(), to.octets()].concat(),
        _ => panic!("two families: {from} {to}"),
    };
    bytes.extend(u32::try_from(len).unwrap().to_be_bytes());
    bytes.extend(u32::from(protocol).to_be_bytes());
    bytes
}

/// RFC 1071. Every part but the last has an even length.
pub(crate) fn checksum(parts: &[&[u8]]) -> u16 {
    let words = parts.iter().flat_map(|part| part.chunks(2));
    let sum: u32 =
        words.map(|word| u32::from(word[0]) << 8 | word.get(1).copied().map_or(0, u32::from)).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !u16::try_from((folded & 0xffff) + (folded >> 16)).unwrap()
}
