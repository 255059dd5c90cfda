//! What a pod leaves to the device: checksums that would write over what was judged, segments that would lack it, tags.

use crate::raw::{self, ICMP, ICMPV6, TCP, UDP};
use crate::stage::{Stage, WAIT};
use e2e::daemon::Daemon;
use e2e::device::{self, Left};
use e2e::pods::{Family, Node, STAR_WARS};
use e2e::policies::empire_may_reach;
use e2e::{echo, sockopt};
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::AsFd;

const OPEN: u16 = 53;
const FORBIDDEN: u16 = 54;
const DEATHSTAR: &str = "lxc-deathstar-1";
const PORTS: &str = "[{ports: [{port: \"53\", protocol: UDP}, {port: \"7\", protocol: TCP}]}]";
const ETHERNET_LEN: usize = 14;
/// `VIRTIO_NET_HDR_GSO_TCPV4` and `_TCPV6`.
const SEGMENTS_V4: u8 = 1;
const SEGMENTS_V6: u8 = 4;
const SCTP: u8 = 132;
/// Of what [`fragment`] makes.
const FRAGMENT_PORT: u16 = 4_444;

#[test]
#[ignore = "needs root"]
fn a_port_is_not_rewritten_behind_the_hook() {
    let node = Node::new(&STAR_WARS).unwrap();
    device::complete_checksums(&node.namespace, DEATHSTAR).unwrap();
    let arrivals = echo::udp(&node.pod("deathstar-1").namespace, FORBIDDEN).unwrap();
    let stage = Unguarded { node };
    for family in Family::BOTH {
        stage.send_rewritten(family);
    }
    // Without Sluice both arrive: the device rewrites them.
    wait_until(|| echo::list(&arrivals).len() == 2);
    let stage = stage.guarded();
    for family in Family::BOTH {
        send_rewritten(&stage.node, family);
        stage.wait_for_drop("deferred_checksum", stage.ip("tiefighter", family));
    }
    // What was sent behind them is there: they are not.
    let open = echo::udp(stage.pod("deathstar-1"), OPEN).unwrap();
    for family in Family::BOTH {
        let socket = stage.datagrams(
            "tiefighter",
            stage.at("tiefighter", family, 0),
            stage.at("deathstar-1", family, OPEN),
        );
        assert_eq!(socket.send(b"hello").unwrap(), 5);
        assert_eq!(socket.recv(&mut [0; 8]).unwrap(), 5);
    }
    assert_eq!((echo::list(&arrivals).len(), echo::list(&open).len()), (2, 2));
}

#[test]
#[ignore = "needs root"]
fn no_place_up_to_the_end_of_the_judged_header_is_written_to() {
    let stage = stage();
    for family in Family::BOTH {
        let mut expected = BTreeSet::new();
        for (protocol, judged, own) in [(TCP, 20, 16), (UDP, 8, 6), (SCTP, 12, 8)] {
            for with_options in [false, true] {
                let transport = transport(family, with_options);
                // The kernel of a pod takes no place before the first of these.
                let first = if family == Family::V4 { 26 } else { 46 };
                for place in (first..transport + judged).filter(|place| *place != transport + own) {
                    let port = 2_000 + u16::try_from(expected.len()).unwrap();
                    let _new = expected.insert(port);
                    let packet = probe(&stage, family, protocol, port, with_options);
                    send(&stage.node, left(place, 0), packet);
                }
            }
        }
        wait_for_ports(&stage, family, &expected);
    }
}

#[test]
#[ignore = "needs root"]
fn nothing_is_left_to_the_device_in_icmp_and_in_later_fragments() {
    let stage = stage();
    for family in Family::BOTH {
        let (from, to) = (stage.ip("tiefighter", family), stage.ip("deathstar-1", family));
        let transport = transport(family, false);
        let (protocol, message) = match family {
            Family::V4 => (ICMP, 8),
            Family::V6 => (ICMPV6, 128),
        };
        let mut expected = BTreeSet::new();
        for (place, identifier) in [(2, 701_u16), (4, 702), (40, 703)] {
            let [high, low] = identifier.to_be_bytes();
            let echo = [&[message, 0, 0, 0, high, low, 0, 1][..], &[7; 64]].concat();
            send(&stage.node, left(transport, place), raw::packet(from, to, protocol, &echo));
            let _new = expected.insert(identifier);
        }
        wait_for_ports(&stage, family, &expected);
        // Behind its first fragment, so that it would pass.
        let (first, _) = fragment(from, to, 0);
        send(&stage.node, Left::default(), first);
        // 800 bytes on, the last.
        let (later, transport) = fragment(from, to, 100);
        send(&stage.node, left(transport, 40), later);
        wait_for_ports(&stage, family, &BTreeSet::from([0]));
    }
}

#[test]
#[ignore = "needs root"]
fn what_an_honest_sender_leaves_to_the_device_arrives() {
    let stage = stage();
    let datagrams = echo::udp(stage.pod("deathstar-1"), OPEN).unwrap();
    let _connections = echo::tcp(stage.pod("deathstar-1"), 7).unwrap();
    for offloaded in [true, false] {
        if !offloaded {
            device::complete_checksums(&stage.node.namespace, DEATHSTAR).unwrap();
        }
        for family in Family::BOTH {
            let from = |port| stage.at("tiefighter", family, port);
            stream(stage.connect("tiefighter", from(0), stage.at("deathstar-1", family, 7)).unwrap());
            let socket = stage.datagrams("tiefighter", from(0), stage.at("deathstar-1", family, OPEN));
            segments(&socket);
            let before = echo::list(&datagrams).len();
            // By hand: its own checksum, and that of a header within, as a tunnel of the pod's own has.
            let to = stage.at("deathstar-1", family, OPEN);
            let transport = transport(family, false);
            let own = raw::packet(from(0).ip(), to.ip(), UDP, &unfinished(from(4_001), to));
            send(&stage.node, left(transport, 6), own);
            // The sum of zeros is as good as zeros to the sum of the datagram.
            let inner = raw::packet(from(0).ip(), to.ip(), UDP, &raw::udp(from(4_002), to, &[0; 64]));
            send(&stage.node, left(transport + 8, 16), inner);
            wait_until(|| echo::list(&datagrams).len() == before + 2);
        }
    }
    let dropped = |flow: &serde_json::Value| flow["verdict"] == "dropped";
    assert!(!stage.daemon.flows().unwrap().iter().any(dropped));
}

#[test]
#[ignore = "needs root"]
fn what_has_no_whole_header_in_every_segment_is_not_cut() {
    let stage = stage();
    for (family, kind) in [(Family::V4, SEGMENTS_V4), (Family::V6, SEGMENTS_V6)] {
        let cut = |bytes| Left { segments: Some((kind, bytes)), ..left(transport(family, false), 16) };
        send(&stage.node, cut(7), probe(&stage, family, TCP, 4_001, false));
        wait_for(&stage, "segmentation", family, &BTreeSet::from([4_001]));
        // The kernel of a pod cuts IPv6 fragments itself, and fails.
        if let (IpAddr::V4(from), IpAddr::V4(to)) =
            (stage.ip("tiefighter", family), stage.ip("deathstar-1", family))
        {
            let segment = probe(&stage, family, TCP, 4_002, false).split_off(20);
            send(&stage.node, cut(16), raw::ipv4(from, to, TCP, &[], 0x2000, &segment));
            wait_for(&stage, "segmentation", family, &BTreeSet::from([4_002]));
        }
    }
}

#[test]
#[ignore = "needs root"]
fn a_tag_is_no_way_around_the_hook() {
    for tag in [[0x81, 0, 0, 5], [0x88, 0xa8, 0, 5], [0x81, 0, 0, 0]] {
        let stage = stage();
        let packet = probe(&stage, Family::V4, UDP, 4_001, false);
        let mut frame = framed(&stage.node, packet);
        drop(frame.splice(12..12, tag));
        device::send(stage.pod("tiefighter"), Left::default(), vec![frame]).unwrap();
        // Nothing of it is read.
        stage.wait_for_drop("unknown_l3", Ipv6Addr::UNSPECIFIED.into());
    }
}

/// A node that has no Sluice yet.
struct Unguarded {
    node: Node,
}

impl Unguarded {
    fn send_rewritten(&self, family: Family) {
        send_rewritten(&self.node, family);
    }

    fn guarded(self) -> Stage {
        let daemon = Daemon::start(&self.node).unwrap();
        let stage = Stage { node: self.node, daemon };
        stage.apply("rule1.yaml", &empire_may_reach(PORTS));
        stage
    }
}

fn stage() -> Stage {
    let stage = Stage::new();
    stage.apply("rule1.yaml", &empire_may_reach(PORTS));
    stage
}

/// A datagram to the open port whose checksum is to be written over the port: with the right source port it is the forbidden
/// one's number, and the datagram's own checksum is right.
fn send_rewritten(node: &Node, family: Family) {
    let address = |pod: &str| node.pod(pod).spec.address(family);
    let (from, to) = (address("tiefighter"), address("deathstar-1"));
    let forged = |source: u16| {
        let wanted = raw::udp(SocketAddr::new(from, source), SocketAddr::new(to, FORBIDDEN), b"moved!");
        let mut sent = wanted.clone();
        sent[2..4].copy_from_slice(&OPEN.to_be_bytes());
        (raw::completed(&sent, 2, 0) == wanted).then_some(sent)
    };
    let datagram = (1..=u16::MAX).find_map(forged).expect("one of the source ports makes the sum");
    send(node, left(transport(family, false) + 2, 0), raw::packet(from, to, UDP, &datagram));
}

/// A packet of this protocol from a port of the tiefighter's, with options or an extension header.
fn probe(stage: &Stage, family: Family, protocol: u8, port: u16, with_options: bool) -> Vec<u8> {
    let (from, to) = (stage.ip("tiefighter", family), stage.ip("deathstar-1", family));
    let mut header = [port.to_be_bytes(), OPEN.to_be_bytes()].concat();
    header.extend([0, 48, 0, 0, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0]);
    header.extend([7; 28]);
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let options: &[u8] = if with_options { &[7, 7, 4, 0, 0, 0, 0, 0] } else { &[] };
            raw::ipv4(from, to, protocol, options, 0, &header)
        }
        (IpAddr::V6(from), IpAddr::V6(to)) if with_options => {
            raw::ipv6(from, to, 60, &[&[protocol, 0, 1, 4, 0, 0, 0, 0][..], &header].concat())
        }
        _ => raw::packet(from, to, protocol, &header),
    }
}

/// A fragment of a datagram, the first or the last, and where its transport header begins, or would.
fn fragment(from: IpAddr, to: IpAddr, offset: u16) -> (Vec<u8>, usize) {
    let more = offset == 0;
    let (source, server) = (SocketAddr::new(from, FRAGMENT_PORT), SocketAddr::new(to, OPEN));
    let payload = raw::udp(source, server, &[7; 120]);
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            (raw::ipv4(from, to, UDP, &[], if more { 0x2000 } else { 0 } | offset, &payload), 34)
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let [high, low] = (offset << 3 | u16::from(more)).to_be_bytes();
            (raw::ipv6(from, to, 44, &[&[UDP, 0, high, low, 0, 0, 0, 9][..], &payload].concat()), 62)
        }
        _ => panic!("two families"),
    }
}

/// A datagram of 64 bytes with the sum of its pseudo header in place of its checksum.
fn unfinished(from: SocketAddr, to: SocketAddr) -> Vec<u8> {
    let mut datagram = raw::udp(from, to, &[7; 64]);
    let sum = raw::pseudo_sum(from.ip(), to.ip(), UDP, datagram.len());
    datagram[6..8].copy_from_slice(&sum.to_be_bytes());
    datagram
}

/// A megabyte and its echo: segments that the device cuts.
fn stream(mut stream: TcpStream) {
    const BYTES: usize = 1 << 20;
    let mut reader = stream.try_clone().unwrap();
    let writer = std::thread::spawn(move || stream.write_all(&vec![7; BYTES]).unwrap());
    reader.read_exact(&mut vec![0; BYTES]).unwrap();
    writer.join().unwrap();
}

/// Three datagrams sent as one.
fn segments(socket: &UdpSocket) {
    sockopt::cut_into(socket.as_fd(), 1_001).unwrap();
    assert_eq!(socket.send(&[7; 3_003]).unwrap(), 3_003);
    for _ in 0..3 {
        assert_eq!(socket.recv(&mut [0; 2_000]).unwrap(), 1_001);
    }
}

fn transport(family: Family, with_options: bool) -> usize {
    let header = if family == Family::V4 { 20 } else { 40 };
    ETHERNET_LEN + header + if with_options { 8 } else { 0 }
}

fn left(start: usize, offset: usize) -> Left {
    let checksum = Some((start.try_into().unwrap(), offset.try_into().unwrap()));
    Left { checksum, ..Left::default() }
}

fn framed(node: &Node, packet: Vec<u8>) -> Vec<u8> {
    let pod = node.pod("tiefighter");
    let own = device::mac(&pod.namespace, "eth0").unwrap();
    raw::frame(own, device::mac(&node.namespace, &pod.spec.interface()).unwrap(), packet)
}

fn send(node: &Node, left: Left, packet: Vec<u8>) {
    device::send(&node.pod("tiefighter").namespace, left, vec![framed(node, packet)]).unwrap();
}

fn wait_for_ports(stage: &Stage, family: Family, expected: &BTreeSet<u16>) {
    wait_for(stage, "deferred_checksum", family, expected);
}

/// Waits until a packet from each of the tiefighter's ports was dropped.
fn wait_for(stage: &Stage, reason: &str, family: Family, expected: &BTreeSet<u16>) {
    let source = stage.ip("tiefighter", family).to_string();
    let dropped = || -> BTreeSet<u16> {
        let flows = stage.daemon.flows().unwrap();
        let ours = flows.iter().filter(|flow| {
            flow["reason"] == reason && flow["source"]["address"] == source && flow["verdict"] == "dropped"
        });
        ours.filter_map(|flow| flow["source"]["port"].as_u64()?.try_into().ok()).collect()
    };
    let what = format!("{reason} of {source}: {expected:?}");
    stage.daemon.wait_until(&what, |_| dropped().is_superset(expected)).unwrap();
}

fn wait_until(mut holds: impl FnMut() -> bool) {
    let asked = std::time::Instant::now();
    while !holds() {
        assert!(asked.elapsed() < 5 * WAIT, "waited in vain");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}
