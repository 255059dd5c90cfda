//! Frames from any bytes at the hooks of a small node: nothing panics, what is read of a frame is what is there, and what
//! passes was allowed by policy, under the sender's own address.
#![no_main]

use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use libfuzzer_sys::fuzz_target;
use redirect_abi::{FlowKey, direction, flow_flags, mark, verdict};
use redirect_prog::icmp;
use redirect_prog::model::frames::TestFrame;
use redirect_prog::model::world::{Party, SECOND_NS, World, any, peer, port};
use redirect_prog::packet::{Arrival, Fragment, Network, Packet, ethertype, is_mapped, mapped, parse};
use redirect_prog::protocol;
use redirect_prog::redirect::downstream;
use redirect_prog::tables::Tables;
use redirect_prog::verdict::{Decision, Pass, Reason};
use std::collections::BTreeSet;
use story::{Policy, Step};

/// The model tracks no more flows than a few hundred.
const STEPS_MAX: usize = 64;

fuzz_target!(|input: &[u8]| {
    let mut node = Node { world: World::open(), policy: Policy::Open, sent_to_b: BTreeSet::new() };
    for (step, bytes) in story::read(input).take(STEPS_MAX) {
        match step {
            Step::From(sender) => node.from(sender, &received(bytes)),
            Step::To(endpoint, sender, mark) => node.to(endpoint, sender, mark, &received(bytes)),
            Step::Policy(policy) => node.enforce(policy),
            Step::Cut => node.cut(),
            Step::Wait => node.world.pass_time(61 * SECOND_NS),
        }
    }
});

fn received(bytes: &[u8]) -> TestFrame {
    let ethertype = bytes.get(12..14).map_or(0, |two| u16::from_be_bytes([two[0], two[1]]));
    TestFrame { ethertype, bytes: bytes.to_vec() }
}

struct Node {
    world: World,
    policy: Policy,
    /// Flows of packets that reached B, and not by the proxy.
    sent_to_b: BTreeSet<FlowKey>,
}

impl Node {
    fn enforce(&mut self, policy: Policy) {
        let (of_a, of_b) = match policy {
            Policy::Open => (
                vec![any(direction::INGRESS), any(direction::EGRESS)],
                vec![any(direction::INGRESS), any(direction::EGRESS)],
            ),
            Policy::Everything => (
                vec![peer(direction::EGRESS, Party::B, verdict::ALLOW)],
                vec![peer(direction::INGRESS, Party::A, verdict::ALLOW)],
            ),
            Policy::Inspected => (
                vec![peer(direction::EGRESS, Party::B, verdict::ALLOW)],
                vec![port(direction::INGRESS, Party::A, protocol::TCP, 80, verdict::REDIRECT)],
            ),
            Policy::Nothing => (Vec::new(), Vec::new()),
        };
        self.world.policy(Party::A, &of_a);
        self.world.policy(Party::B, &of_b);
        self.world.next_epoch();
        self.policy = policy;
    }

    fn cut(&self) {
        for key in self.world.model.flow_keys() {
            if let Some(flow) = self.world.model.flow(&key) {
                flow.flags.store(flow.flags.load() | flow_flags::REVOKED);
            }
        }
    }

    fn from(&mut self, sender: Party, frame: &TestFrame) {
        let packet = read(frame);
        let (decision, report) = self.world.from(sender, frame);
        let Some(packet) = accepted(frame, packet, decision) else { return };
        assert!(owns(sender, frame) || icmp::is_link_control_of_endpoint(&packet), "a spoofed source passed");
        match decision {
            Ok(Pass::ToProxy) => self.may_be_proxied(&packet),
            Ok(Pass::Unmarked | Pass::Checked) => self.may_be_sent(sender, &packet),
            Err(_) => return,
        }
        if decision == Ok(Pass::Checked) {
            let receiver = if report.destination == Party::A.id() { Party::A } else { Party::B };
            assert!([mapped(receiver.v4()), receiver.v6()].contains(&packet.flow.destination));
            let mark = mark::CHECKED | report.destination << mark::CHECKED_FOR_SHIFT;
            assert_eq!(
                self.world.to(receiver, sender, mark, frame).0,
                Ok(Pass::Unmarked),
                "judged in two ways"
            );
            if receiver == Party::B {
                let _new: bool = self.sent_to_b.insert(packet.flow);
            }
        }
    }

    fn may_be_sent(&self, sender: Party, packet: &Packet) {
        if self.policy == Policy::Open || icmp::is_link_control_of_endpoint(packet) {
            return;
        }
        let quotes =
            packet.icmp_type().is_some_and(|message| protocol::is_error(packet.flow.protocol, message));
        match sender {
            _ if self.policy == Policy::Nothing => panic!("policy allows nothing"),
            Party::B if packet.fragment == Fragment::Rest || quotes => {}
            Party::B => {
                let opener = packet.reply_to().expect("B may only reply");
                assert!(self.sent_to_b.contains(&opener), "a reply to nothing");
            }
            Party::A => assert_ne!(
                (self.policy, packet.flow.protocol, packet.flow.destination_port, packet.opens()),
                (Policy::Inspected, protocol::TCP, [0, 80], true),
                "not inspected"
            ),
            Party::Host | Party::Outside => panic!("no endpoint"),
        }
    }

    fn may_be_proxied(&self, packet: &Packet) {
        assert!(packet.is_tcp() || packet.icmp_type().is_some());
        assert!(packet.fragment != Fragment::Rest, "its ports are somebody's guess");
        if packet.opens() {
            assert_eq!(self.policy, Policy::Inspected);
            assert!(
                self.world.model.flow(&downstream(&packet.flow)).is_some(),
                "no listener is found for it"
            );
        }
    }

    fn to(&mut self, endpoint: Party, sender: Party, mark: u32, frame: &TestFrame) {
        let packet = read(frame);
        let decision = self.world.to(endpoint, sender, mark, frame).0;
        let Some(packet) = accepted(frame, packet, decision) else { return };
        assert_eq!(decision, Ok(Pass::Unmarked), "only what an endpoint sends is marked");
        let of_proxy = [mark::PROXY_DOWNSTREAM, mark::PROXY_UPSTREAM].contains(&mark);
        assert!(
            self.policy != Policy::Nothing || of_proxy || icmp::is_link_control_of_node(&packet),
            "policy allows nothing"
        );
        if endpoint == Party::B && !of_proxy {
            let _new: bool = self.sent_to_b.insert(packet.flow);
        }
    }
}

/// The packet, if the frame passed and holds one that policy had to be asked about.
fn accepted(
    frame: &TestFrame,
    read: (Packet, Result<Network, Reason>),
    decision: Decision,
) -> Option<Packet> {
    match read {
        (_, Err(reason)) => assert_eq!(decision, Err(reason), "what can't be read does not pass"),
        (_, Ok(Network::Arp)) => assert!(matches!(
            decision,
            Ok(Pass::Unmarked) | Err(Reason::SpoofedSource | Reason::FalseNeighbour | Reason::Malformed)
        )),
        (packet, Ok(Network::Ip)) => {
            assert!(!names_mapped_addresses(frame), "judged as the other family");
            return decision.is_ok().then_some(packet);
        }
    }
    None
}

/// What the parser says, after it has been held to its promises.
fn read(frame: &TestFrame) -> (Packet, Result<Network, Reason>) {
    let first = parsed(frame.ethertype, &frame.bytes, false);
    assert_eq!(parsed(frame.ethertype, &frame.bytes, false), first, "read in two ways");
    assert_eq!(parsed(frame.ethertype, &frame.bytes, true).1, Err(Reason::UnknownL3), "a tag is ignored");
    if first.1 != Err(Reason::Malformed) {
        let longer = [&frame.bytes[..], &[0xff; 64]].concat();
        assert_eq!(parsed(frame.ethertype, &longer, false), first, "more bytes say something else");
    }
    if first.1.is_ok() {
        for len in 0..frame.bytes.len().min(160) {
            let shorter = parsed(frame.ethertype, &frame.bytes[..len], false);
            assert!(
                shorter.1 == Err(Reason::Malformed) || shorter == first,
                "fewer bytes say something else"
            );
        }
    }
    if let (packet, Ok(Network::Ip)) = &first {
        another_parser_agrees(packet, &frame.bytes);
    }
    first
}

fn parsed(ethertype: u16, bytes: &[u8], tagged: bool) -> (Packet, Result<Network, Reason>) {
    let mut packet = Packet::EMPTY;
    let arrival = Arrival { ethertype, tagged, ifindex: 1, ingress_ifindex: 1, mark: 0 };
    let result = parse(&bytes, &arrival, &mut packet);
    (packet, result)
}

fn owns(endpoint: Party, frame: &TestFrame) -> bool {
    match frame.ethertype {
        ethertype::IPV4 => frame.bytes.get(26..30) == Some(&endpoint.v4()[..]),
        _ => frame.bytes.get(22..38) == Some(&endpoint.v6()[..]),
    }
}

fn names_mapped_addresses(frame: &TestFrame) -> bool {
    let mapped_at =
        |at: usize| frame.bytes.get(at..).and_then(|rest| rest.first_chunk()).is_some_and(is_mapped);
    frame.ethertype == ethertype::IPV6 && (mapped_at(22) || mapped_at(38))
}

/// It refuses some of what we accept, which harms nobody; what both accept both take for the same.
fn another_parser_agrees(ours: &Packet, frame: &[u8]) {
    let Ok(theirs) = SlicedPacket::from_ethernet(frame) else { return };
    let (source, destination, protocol, fragmented) = match theirs.net {
        Some(NetSlice::Ipv4(ip)) => {
            let header = ip.header();
            (
                mapped(header.source()),
                mapped(header.destination()),
                header.protocol(),
                header.is_fragmenting_payload(),
            )
        }
        Some(NetSlice::Ipv6(ip)) => (
            ip.header().source(),
            ip.header().destination(),
            ip.payload().ip_number,
            ip.is_payload_fragmented(),
        ),
        Some(NetSlice::Arp(_)) | None => panic!("no IP packet to them"),
    };
    assert_eq!((ours.flow.source, ours.flow.destination), (source, destination));
    assert_eq!(ours.fragment != Fragment::Whole, fragmented);
    if ours.fragment == Fragment::Rest {
        return;
    }
    assert_eq!(ours.flow.protocol, protocol.0);
    let ports = (ours.flow.source_port, ours.flow.destination_port);
    match theirs.transport {
        Some(TransportSlice::Tcp(tcp)) => {
            assert_eq!(ports, (tcp.source_port().to_be_bytes(), tcp.destination_port().to_be_bytes()));
            assert_eq!(ours.opens(), tcp.syn() && !tcp.ack());
            assert_eq!(ours.sequence, tcp.sequence_number().to_be_bytes());
        }
        Some(TransportSlice::Udp(udp)) => {
            assert_eq!(ports, (udp.source_port().to_be_bytes(), udp.destination_port().to_be_bytes()));
        }
        Some(TransportSlice::Icmpv4(icmp)) => assert_eq!(ports.1, [0, icmp.type_u8()]),
        Some(TransportSlice::Icmpv6(icmp)) => assert_eq!(ports.1, [0, icmp.type_u8()]),
        Some(TransportSlice::Igmp(_)) | None => {}
    }
}
