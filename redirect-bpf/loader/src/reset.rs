//! TCP resets on behalf of the other end of a connection, as raw packets. Building them is pure.

use crate::error::Error;
use core::net::{IpAddr, SocketAddr};
use redirect_abi::mark;
use socket2::{Domain, Protocol, Socket, Type};
use std::io;

const IPV4_HEADER_BYTES: u16 = 20;
const TCP_HEADER_BYTES: u16 = 20;
/// More than an end leaves unacknowledged (two segments), less than the window of any that one meets.
const AHEAD_BYTES: u32 = 16 * 1024;
const TCP: u8 = 6;
const HOPS: u8 = 64;
/// Data offset 5 words, flag RST.
const OFFSET_AND_FLAGS: [u8; 2] = [0x50, 0x04];

/// Sends packets that carry their own header; marked, so that they reach endpoints unjudged.
#[derive(Debug)]
pub(crate) struct ResetSender {
    v4: Socket,
    v6: Socket,
}

impl ResetSender {
    pub(crate) fn open() -> Result<Self, Error> {
        let v4 = raw_socket(Domain::IPV4).map_err(Error::ResetSocket)?;
        v4.set_header_included_v4(true).map_err(Error::ResetSocket)?;
        let v6 = raw_socket(Domain::IPV6).map_err(Error::ResetSocket)?;
        v6.set_header_included_v6(true).map_err(Error::ResetSocket)?;
        Ok(Self { v4, v6 })
    }

    /// Resets the connection at `to`, as if by `from`.
    ///
    /// `acknowledged` is what `to` was last seen to acknowledge. An end that puts off its acknowledgement has received more by
    /// now, and refuses a reset for what is behind it. So a second one follows that is ahead of it: to that it answers with what
    /// it waits for (a challenge, RFC 5961 section 3.2), which is recorded with the flow like every acknowledgement.
    pub(crate) fn send(&self, from: SocketAddr, to: SocketAddr, acknowledged: [u8; 4]) -> io::Result<()> {
        let ahead = u32::from_be_bytes(acknowledged).wrapping_add(AHEAD_BYTES).to_be_bytes();
        self.send_one(from, to, acknowledged)?;
        self.send_one(from, to, ahead)
    }

    fn send_one(&self, from: SocketAddr, to: SocketAddr, sequence: [u8; 4]) -> io::Result<()> {
        let socket = if to.is_ipv4() { &self.v4 } else { &self.v6 };
        let Some(packet) = packet(from, to, sequence) else { return Ok(()) };
        // Raw sockets have no ports.
        let _all = socket.send_to(&packet, &SocketAddr::new(to.ip(), 0).into())?;
        Ok(())
    }
}

fn raw_socket(domain: Domain) -> io::Result<Socket> {
    const IPPROTO_RAW: i32 = 255;
    let socket = Socket::new(domain, Type::RAW.nonblocking().cloexec(), Some(Protocol::from(IPPROTO_RAW)))?;
    socket.set_mark(mark::PROXY_DOWNSTREAM)?;
    Ok(socket)
}

/// A reset with this sequence number. The receiver takes it only if that is exactly the next byte that it waits for (RFC 5961,
/// section 3.2), which is what it last acknowledged. `None` for ends of different families.
fn packet(from: SocketAddr, to: SocketAddr, sequence: [u8; 4]) -> Option<Vec<u8>> {
    match (from.ip(), to.ip()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let (source, destination) = (source.octets(), destination.octets());
            let segment = segment(&source, &destination, from.port(), to.port(), sequence);
            Some([ipv4_header(source, destination), segment].concat())
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let (source, destination) = (source.octets(), destination.octets());
            let segment = segment(&source, &destination, from.port(), to.port(), sequence);
            Some([ipv6_header(&source, &destination), segment].concat())
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => None,
    }
}

fn ipv4_header(source: [u8; 4], destination: [u8; 4]) -> Vec<u8> {
    let [length_high, length_low] = (IPV4_HEADER_BYTES + TCP_HEADER_BYTES).to_be_bytes();
    let parts = |[high, low]: [u8; 2]| {
        let fixed = [0x45, 0, length_high, length_low, 0, 0, 0, 0, HOPS, TCP, high, low];
        [&fixed[..], &source, &destination].concat()
    };
    parts(checksum(&parts([0, 0])))
}

fn ipv6_header(source: &[u8; 16], destination: &[u8; 16]) -> Vec<u8> {
    let [length_high, length_low] = TCP_HEADER_BYTES.to_be_bytes();
    let fixed = [0x60, 0, 0, 0, length_high, length_low, TCP, HOPS];
    [&fixed[..], source, destination].concat()
}

fn segment(
    source: &[u8],
    destination: &[u8],
    source_port: u16,
    destination_port: u16,
    sequence: [u8; 4],
) -> Vec<u8> {
    let parts = |checksum: [u8; 2]| {
        let ports = [source_port.to_be_bytes(), destination_port.to_be_bytes()].concat();
        let (no_acknowledgement, no_window, no_urgency) = ([0; 4], [0; 2], [0; 2]);
        [&ports[..], &sequence, &no_acknowledgement, &OFFSET_AND_FLAGS, &no_window, &checksum, &no_urgency]
            .concat()
    };
    // The pseudo-header of both families sums up alike: what differs is width and place of the same numbers.
    let pseudo = [source, destination, &[0, TCP], &TCP_HEADER_BYTES.to_be_bytes()].concat();
    parts(checksum(&[pseudo, parts([0, 0])].concat()))
}

/// The ones' complement of the ones' complement sum of all 16-bit words (RFC 1071).
fn checksum(bytes: &[u8]) -> [u8; 2] {
    let words = bytes.chunks(2).map(|word| match *word {
        [high, low] => u32::from(u16::from_be_bytes([high, low])),
        [high] => u32::from(u16::from_be_bytes([high, 0])),
        _ => 0,
    });
    let sum: u32 = words.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    u16::try_from(folded).map_or([0; 2], |sum| (!sum).to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(from: &str, to: &str, expected: &str) {
        let bytes = packet(from.parse().unwrap(), to.parse().unwrap(), [0x12, 0x34, 0x56, 0x78]).unwrap();
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, expected.replace(' ', ""));
    }

    /// A sum over what is checksummed, the checksum included, is 0xffff: its complement is 0.
    #[track_caller]
    fn assert_sums_up(bytes: &[u8]) {
        assert_eq!(checksum(bytes), [0, 0]);
    }

    #[test]
    fn ipv4() {
        check(
            "10.0.0.2:80",
            "10.0.0.1:40000",
            "45000028 00000000 4006 66ce 0a000002 0a000001 0050 9c40 12345678 00000000 5004 0000 96a1 0000",
        );
        let bytes = packet("10.0.0.2:80".parse().unwrap(), "10.0.0.1:1".parse().unwrap(), [9; 4]).unwrap();
        assert_sums_up(&bytes[..20]);
        assert_sums_up(&[&bytes[12..20], &[0, 6, 0, 20], &bytes[20..]].concat());
    }

    #[test]
    fn ipv6() {
        let bytes =
            packet("[f00d::2]:80".parse().unwrap(), "[f00d::1]:40000".parse().unwrap(), [0xff; 4]).unwrap();
        assert_eq!(bytes.len(), 60);
        assert_eq!(bytes[..8], [0x60, 0, 0, 0, 0, 20, 6, 64]);
        // RFC 8200, section 8.1: upper-layer length as 32 bits, three zero bytes, next header.
        assert_sums_up(&[&bytes[8..40], &[0, 0, 0, 20, 0, 0, 0, 6], &bytes[40..]].concat());
    }

    #[test]
    fn ends_of_different_families_have_no_packet() {
        assert_eq!(packet("10.0.0.1:1".parse().unwrap(), "[::1]:1".parse().unwrap(), [0; 4]), None);
    }

    #[test]
    fn checksum_of_the_example_of_rfc_1071() {
        assert_eq!(checksum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), [0x22, 0x0d]);
        assert_eq!(checksum(&[0x01]), [0xfe, 0xff]);
    }
}
