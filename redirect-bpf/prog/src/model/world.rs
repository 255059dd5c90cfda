//! A node with two endpoints, a host and an outside, and what passes at their hooks.

use std::vec::Vec;

use redirect_abi::{FlowKey, PolicyKey, aspect, direction, mark, verdict};

use super::Model;
use super::frames::{Ipv4, Ipv6, Promised, TestFrame};
use crate::packet::{Arrival, Packet, mapped};
use crate::promises::Promises;
use crate::verdict::{Decision, Pass, Report};
use crate::{from_endpoint, to_endpoint};

/// Who sends and who receives. The numbers of the endpoints are their ids and ifindexes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Party {
    A,
    B,
    Host,
    Outside,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
}

pub const FAMILIES: [Family; 2] = [Family::V4, Family::V6];
/// Of a policy key, up to the protocol.
const PROTOCOL_BITS: u32 = 48;
pub const UPLINK: u32 = 9;
pub const SECOND_NS: u64 = 1_000_000_000;

impl Party {
    pub const fn v4(self) -> [u8; 4] {
        match self {
            Self::A => [10, 15, 0, 10],
            Self::B => [10, 15, 0, 11],
            Self::Host => [10, 15, 0, 1],
            Self::Outside => [192, 0, 2, 2],
        }
    }

    pub const fn v6(self) -> [u8; 16] {
        let last = self.v4()[3];
        match self {
            Self::Outside => [0xfd, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last],
            Self::A | Self::B | Self::Host => [0xfd, 15, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last],
        }
    }

    /// The reserved numbers for those that have one.
    pub const fn identity(self) -> u32 {
        match self {
            Self::A => 100,
            Self::B => 200,
            Self::Host => 1,
            Self::Outside => 2,
        }
    }

    pub const fn id(self) -> u32 {
        match self {
            Self::A => 1,
            Self::B => 2,
            Self::Host => 0,
            Self::Outside => UPLINK,
        }
    }
}

/// A packet from one party to another.
pub fn frame(family: Family, from: Party, to: Party, protocol: u8, payload: &[u8]) -> TestFrame {
    match family {
        Family::V4 => Ipv4::new(from.v4(), to.v4(), protocol).frame(payload),
        Family::V6 => Ipv6::new(from.v6(), to.v6(), protocol).frame(payload),
    }
}

/// The flow of such a packet.
pub fn flow(family: Family, from: Party, to: Party, protocol: u8, ports: (u16, u16)) -> FlowKey {
    let address = |party: Party| match family {
        Family::V4 => mapped(party.v4()),
        Family::V6 => party.v6(),
    };
    FlowKey {
        source: address(from),
        destination: address(to),
        source_port: ports.0.to_be_bytes(),
        destination_port: ports.1.to_be_bytes(),
        protocol,
        ..Packet::EMPTY.flow
    }
}

#[derive(Debug)]
pub struct World {
    pub model: Model,
}

impl World {
    /// Nothing is enforced, the proxy listens, the epoch is 1.
    pub fn open() -> Self {
        let mut model = Model { listeners: [true; 2], ..Model::default() };
        model.now_ns.set(SECOND_NS);
        model.epoch.set(1);
        for party in [Party::A, Party::B] {
            model.add_endpoint(party.id(), party.identity(), party.v4(), party.v6());
        }
        model.add_identity(96, mapped([0; 4]), Party::Outside.identity());
        model.add_identity(0, [0; 16], Party::Outside.identity());
        for address in [mapped(Party::Host.v4()), Party::Host.v6()] {
            model.add_identity(128, address, Party::Host.identity());
        }
        let mut world = Self { model };
        world.policy(Party::A, &[any(direction::INGRESS), any(direction::EGRESS)]);
        world.policy(Party::B, &[any(direction::INGRESS), any(direction::EGRESS)]);
        world
    }

    /// Entries of ports name them, as a plan would: those of one port also say that not every port of theirs is the same.
    pub fn policy(&mut self, of: Party, entries: &[(u32, PolicyKey, u8)]) {
        let mut all = Vec::from(entries);
        all.push((1, PolicyKey { direction: aspect::ANY, ..any(0).1 }, verdict::ALLOW));
        for (bits, key, _) in entries.iter().filter(|(bits, ..)| *bits > PROTOCOL_BITS) {
            let unnamed = PolicyKey { direction: aspect::UNNAMED | key.direction, identity: [0; 4], ..*key };
            let every_port = PolicyKey { direction: aspect::EVERY_PORT | key.direction, ..*key };
            all.extend([(*bits, unnamed, verdict::DENY), (PROTOCOL_BITS, every_port, verdict::DENY)]);
        }
        self.model.set_policy(of.id(), &all);
    }

    pub fn next_epoch(&self) {
        self.model.epoch.set(self.model.epoch.get() + 1);
    }

    pub fn pass_time(&self, ns: u64) {
        self.model.now_ns.set(self.model.now_ns.get() + ns);
    }

    /// At the hook where the endpoint's packets come in.
    pub fn from(&self, endpoint: Party, frame: &TestFrame) -> (Decision, Report) {
        self.from_with(endpoint, frame, Promises::NONE)
    }

    /// `from`, with what is still to be done to the frame.
    pub fn from_with(&self, endpoint: Party, frame: &TestFrame, promises: Promises) -> (Decision, Report) {
        let arrival = Arrival {
            ethertype: frame.ethertype,
            tagged: false,
            ifindex: endpoint.id(),
            ingress_ifindex: endpoint.id(),
            mark: 0,
        };
        let (mut packet, mut report) = (Packet::EMPTY, Report::default());
        let bytes = Promised { bytes: frame.bytes.as_slice(), promises };
        let decision = from_endpoint::judge(&self.model, &bytes, &arrival, &mut packet, &mut report);
        (decision, report)
    }

    /// At the hook where packets go to the endpoint, from whom, with what mark.
    pub fn to(&self, endpoint: Party, sender: Party, mark: u32, frame: &TestFrame) -> (Decision, Report) {
        self.to_with(endpoint, sender, mark, frame, Promises::NONE)
    }

    /// `to`, with what is still to be done to the frame.
    pub fn to_with(
        &self,
        endpoint: Party,
        sender: Party,
        mark: u32,
        frame: &TestFrame,
        promises: Promises,
    ) -> (Decision, Report) {
        let arrival = Arrival {
            ethertype: frame.ethertype,
            tagged: false,
            ifindex: endpoint.id(),
            ingress_ifindex: sender.id(),
            mark,
        };
        let (mut packet, mut report) = (Packet::EMPTY, Report::default());
        let bytes = Promised { bytes: frame.bytes.as_slice(), promises };
        let decision = to_endpoint::judge(&self.model, &bytes, &arrival, &mut packet, &mut report);
        (decision, report)
    }

    /// From one endpoint to another, through both hooks as the kernel would carry it.
    pub fn between(&self, from: Party, to: Party, frame: &TestFrame) -> Decision {
        let (decision, report) = self.from(from, frame);
        match decision? {
            Pass::ToProxy => Ok(Pass::ToProxy),
            Pass::Checked => {
                let mark = mark::CHECKED | report.destination << mark::CHECKED_FOR_SHIFT;
                self.to(to, from, mark, frame).0
            }
            Pass::Unmarked => self.to(to, from, 0, frame).0,
        }
    }
}

/// An entry for whatever comes, or goes.
pub fn any(direction: u8) -> (u32, PolicyKey, u8) {
    (8, PolicyKey { direction, identity: [0; 4], protocol: 0, port: [0; 2] }, verdict::ALLOW)
}

/// An entry for every protocol and port of a peer.
pub fn peer(direction: u8, peer: Party, verdict: u8) -> (u32, PolicyKey, u8) {
    (40, PolicyKey { direction, identity: peer.identity().to_be_bytes(), protocol: 0, port: [0; 2] }, verdict)
}

/// An entry for one port (or ICMP type) of a peer.
pub fn port(direction: u8, peer: Party, protocol: u8, port: u16, verdict: u8) -> (u32, PolicyKey, u8) {
    let identity = peer.identity().to_be_bytes();
    (64, PolicyKey { direction, identity, protocol, port: port.to_be_bytes() }, verdict)
}
