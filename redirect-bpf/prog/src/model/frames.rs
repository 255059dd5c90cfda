//! Frames by the header, for tests: what a real stack would send, and what an attacker would.

use std::vec::Vec;

use crate::packet::{Bytes, ETHERNET_LEN, ethertype};
use crate::promises::Promises;
use crate::protocol;

/// A frame and the ethertype that the kernel would give for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestFrame {
    pub ethertype: u16,
    pub bytes: Vec<u8>,
}

/// Bytes that something is still to be done to.
#[derive(Clone, Copy, Debug)]
pub struct Promised<'a> {
    pub bytes: &'a [u8],
    pub promises: Promises,
}

impl Bytes for Promised<'_> {
    fn load<const N: usize>(&self, offset: u32) -> Option<[u8; N]> {
        self.bytes.load(offset)
    }

    fn promises(&self) -> Promises {
        self.promises
    }
}

/// The fields of an IPv4 packet that tests have reason to change.
#[derive(Clone, Debug)]
pub struct Ipv4 {
    pub source: [u8; 4],
    pub destination: [u8; 4],
    pub protocol: u8,
    /// Padded to a multiple of 4 with zeros.
    pub options: Vec<u8>,
    /// Flags and offset, as in the header.
    pub fragment: u16,
    pub id: u16,
    /// In place of the true one.
    pub total_len: Option<u16>,
}

#[derive(Clone, Debug)]
pub struct Ipv6 {
    pub source: [u8; 16],
    pub destination: [u8; 16],
    /// Extension headers in order: number, and what follows the next-header byte.
    pub extensions: Vec<(u8, Vec<u8>)>,
    pub protocol: u8,
    pub hop_limit: u8,
}

impl Ipv4 {
    pub fn new(source: [u8; 4], destination: [u8; 4], protocol: u8) -> Self {
        Self { source, destination, protocol, options: Vec::new(), fragment: 0, id: 0, total_len: None }
    }

    pub fn frame(&self, payload: &[u8]) -> TestFrame {
        let mut options = self.options.clone();
        options.resize(options.len().next_multiple_of(4), 0);
        let header_len = 20 + options.len();
        let total_len = self.total_len.unwrap_or_else(|| low_u16(header_len + payload.len()));
        let mut bytes = ethernet(ethertype::IPV4);
        bytes.extend([0x40 | low_u8(header_len / 4), 0]);
        bytes.extend(total_len.to_be_bytes());
        bytes.extend(self.id.to_be_bytes());
        bytes.extend(self.fragment.to_be_bytes());
        bytes.extend([64, self.protocol, 0, 0]);
        bytes.extend(self.source);
        bytes.extend(self.destination);
        bytes.extend(options);
        bytes.extend(payload);
        TestFrame { ethertype: ethertype::IPV4, bytes }
    }
}

impl Ipv6 {
    pub fn new(source: [u8; 16], destination: [u8; 16], protocol: u8) -> Self {
        Self { source, destination, extensions: Vec::new(), protocol, hop_limit: 64 }
    }

    pub fn frame(&self, payload: &[u8]) -> TestFrame {
        let chain: Vec<u8> =
            self.extensions.iter().map(|(number, _)| *number).chain([self.protocol]).collect();
        let mut body = Vec::new();
        for ((_, rest), next) in self.extensions.iter().zip(chain.iter().skip(1)) {
            body.push(*next);
            body.extend(rest);
        }
        body.extend(payload);
        let mut bytes = ethernet(ethertype::IPV6);
        bytes.extend([0x60, 0, 0, 0]);
        bytes.extend(low_u16(body.len()).to_be_bytes());
        bytes.extend([chain.first().copied().unwrap_or(self.protocol), self.hop_limit]);
        bytes.extend(self.source);
        bytes.extend(self.destination);
        bytes.extend(body);
        TestFrame { ethertype: ethertype::IPV6, bytes }
    }
}

/// A TCP header of 20 bytes: sequence number 1000, acknowledging 2000.
pub fn tcp(source_port: u16, destination_port: u16, flags: u8) -> Vec<u8> {
    let mut bytes = ports(source_port, destination_port);
    bytes.extend(1000_u32.to_be_bytes());
    bytes.extend(2000_u32.to_be_bytes());
    bytes.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    bytes
}

pub fn udp(source_port: u16, destination_port: u16) -> Vec<u8> {
    let mut bytes = ports(source_port, destination_port);
    bytes.extend([0, 8, 0, 0]);
    bytes
}

/// An ICMP header of either family: type, code 0, and an identifier.
pub fn icmp(message: u8, identifier: u16) -> Vec<u8> {
    let mut bytes = Vec::from([message, 0, 0, 0]);
    bytes.extend(identifier.to_be_bytes());
    bytes.extend([0, 1]);
    bytes
}

/// The hardware address that frames here come from.
pub const STATION: [u8; 6] = [2, 0, 0, 0, 0, 2];

/// An ARP message: 1 asks, 2 answers.
pub fn arp(operation: u8, station: [u8; 6], sender: [u8; 4], target: [u8; 4]) -> TestFrame {
    let mut bytes = ethernet(ethertype::ARP);
    bytes.extend([0, 1, 8, 0, 6, 4, 0, operation]);
    bytes.extend(station);
    bytes.extend(sender);
    bytes.extend([0; 6]);
    bytes.extend(target);
    TestFrame { ethertype: ethertype::ARP, bytes }
}

/// A message of neighbour discovery about a target, with options.
pub fn discovery(message: u8, target: [u8; 16], options: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::from([message, 0, 0, 0, 0, 0, 0, 0]);
    if message == 135 || message == 136 {
        bytes.extend(target);
    }
    bytes.extend(options);
    bytes
}

/// The option that names a hardware address: 1 the sender's, 2 the target's.
pub fn station_option(kind: u8, station: [u8; 6]) -> Vec<u8> {
    let mut bytes = Vec::from([kind, 1]);
    bytes.extend(station);
    bytes
}

/// An ICMP error that quotes a frame, without its Ethernet header.
pub fn icmp_error(message: u8, quoted: &TestFrame) -> Vec<u8> {
    let mut bytes = Vec::from([message, 0, 0, 0, 0, 0, 0, 0]);
    bytes.extend(quoted.bytes.iter().skip(usize::try_from(ETHERNET_LEN).unwrap_or(usize::MAX)));
    bytes
}

/// A fragment header's bytes after its first: offset in units of 8, whether more follow, the identification.
pub fn fragment_header(offset: u16, more: bool, id: u32) -> (u8, Vec<u8>) {
    let mut rest = Vec::from([0]);
    rest.extend((offset << 3 | u16::from(more)).to_be_bytes());
    rest.extend(id.to_be_bytes());
    (44, rest)
}

/// The number of the protocol of an ICMP message in the family.
pub fn icmp_protocol(ethertype: u16) -> u8 {
    if ethertype == ethertype::IPV4 { protocol::ICMP } else { protocol::ICMPV6 }
}

fn ports(source: u16, destination: u16) -> Vec<u8> {
    let mut bytes = Vec::from(source.to_be_bytes());
    bytes.extend(destination.to_be_bytes());
    bytes
}

/// From one station to another.
pub fn ethernet(ethertype: u16) -> Vec<u8> {
    let mut bytes = Vec::from([2, 0, 0, 0, 0, 1]);
    bytes.extend(STATION);
    bytes.extend(ethertype.to_be_bytes());
    bytes
}

fn low_u16(n: usize) -> u16 {
    u16::try_from(n & 0xffff).unwrap_or(0)
}

fn low_u8(n: usize) -> u8 {
    u8::try_from(n & 0xff).unwrap_or(0)
}
