//! What is read of a frame, and what is refused.

use proptest::prelude::*;
use std::vec::Vec;

use super::*;
use crate::icmp;
use crate::model::frames::{self, Ipv4, Ipv6, TestFrame, ethernet, fragment_header, tcp, udp};

const A4: [u8; 4] = [10, 0, 0, 1];
const B4: [u8; 4] = [10, 0, 0, 2];
const A6: [u8; 16] = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
const B6: [u8; 16] = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];
/// An extension header of 8 bytes: length 0, and padding. As a routing header: type 1, no segments left.
const PAD: [u8; 7] = [0, 1, 0, 0, 0, 0, 0];

#[test]
fn tcp_over_ipv4() {
    let packet = check_ok(&v4(protocol::TCP).frame(&tcp(4000, 80, tcp::SYN)));
    assert_eq!(packet.flow.source, mapped(A4));
    assert_eq!(packet.flow.destination, mapped(B4));
    check_ports(&packet, 4000, 80);
    assert_eq!(packet.sequence, 1000_u32.to_be_bytes());
    assert_eq!(packet.acknowledged, 2000_u32.to_be_bytes());
    assert!(packet.opens() && packet.is_ipv4());
}

#[test]
fn tcp_over_ipv6() {
    let packet = check_ok(&v6(protocol::TCP).frame(&tcp(4000, 80, tcp::SYN | tcp::ACK)));
    assert_eq!((packet.flow.source, packet.flow.destination), (A6, B6));
    check_ports(&packet, 4000, 80);
    assert!(!packet.opens() && !packet.is_ipv4());
}

#[test]
fn udp_and_sctp_have_ports() {
    check_ports(&check_ok(&v4(protocol::UDP).frame(&udp(53, 5353))), 53, 5353);
    let mut header = udp(1, 2);
    header.extend([0; 4]);
    check_ports(&check_ok(&v6(protocol::SCTP).frame(&header)), 1, 2);
}

#[test]
fn other_protocols_have_none() {
    const GRE: u8 = 47;
    let packet = check_ok(&v4(GRE).frame(&[1, 2, 3, 4]));
    assert_eq!(packet.flow.protocol, GRE);
    check_ports(&packet, 0, 0);
}

#[test]
fn icmp_has_identifier_and_type() {
    check_ports(&check_ok(&v4(protocol::ICMP).frame(&frames::icmp(8, 77))), 77, 8);
    check_ports(&check_ok(&v6(protocol::ICMPV6).frame(&frames::icmp(128, 77))), 77, 128);
}

#[test]
fn icmp_messages_without_identifier() {
    // What stands in its place in a redirect is an address.
    check_ports(&check_ok(&v4(protocol::ICMP).frame(&frames::icmp(5, 77))), 0, 5);
}

#[test]
fn icmp_of_the_other_family() {
    check(&v4(protocol::ICMPV6).frame(&frames::icmp(128, 1)), Reason::Malformed);
    check(&v6(protocol::ICMP).frame(&frames::icmp(8, 1)), Reason::Malformed);
}

#[test]
fn an_echo_reply_answers_the_request_of_its_identifier() {
    let reply = check_ok(&v4(protocol::ICMP).frame(&frames::icmp(0, 77)));
    let mut back = v4(protocol::ICMP);
    (back.source, back.destination) = (B4, A4);
    let request = check_ok(&back.frame(&frames::icmp(8, 77)));
    assert_eq!(reply.reply_to(), Some(request.flow));
    assert_eq!(request.reply_to(), None);
}

#[test]
fn arp_is_for_the_link() {
    let frame = TestFrame { ethertype: ethertype::ARP, bytes: ethernet(ethertype::ARP) };
    assert_eq!(parsed(&frame).1, Ok(Network::Arp));
}

#[test]
fn other_ethertypes() {
    for ethertype in [0x0004, 0x8100, 0x88a8, 0x8847, 0x8864, 0x0000] {
        let bytes = v4(protocol::TCP).frame(&tcp(1, 2, 0)).bytes;
        check(&TestFrame { ethertype, bytes }, Reason::UnknownL3);
    }
}

#[test]
fn vlan_tags() {
    let frame = v4(protocol::TCP).frame(&tcp(1, 2, 0));
    let mut packet = Packet::EMPTY;
    let arrival = Arrival { tagged: true, ..arrival(frame.ethertype) };
    assert_eq!(parse(&frame.bytes.as_slice(), &arrival, &mut packet), Err(Reason::UnknownL3));
}

#[test]
fn the_version_has_to_agree_with_the_ethertype() {
    let bytes = v4(protocol::TCP).frame(&tcp(1, 2, 0)).bytes;
    check(&TestFrame { ethertype: ethertype::IPV6, bytes }, Reason::Malformed);
    let bytes = v6(protocol::TCP).frame(&tcp(1, 2, 0)).bytes;
    check(&TestFrame { ethertype: ethertype::IPV4, bytes }, Reason::Malformed);
}

#[test]
fn ipv4_header_too_short() {
    let mut frame = v4(protocol::TCP).frame(&tcp(1, 2, 0));
    frame.bytes[14] = 0x44;
    check(&frame, Reason::Malformed);
}

#[test]
fn ports_beyond_the_end_that_the_header_names() {
    let mut packet = v4(protocol::TCP);
    packet.total_len = Some(39);
    check(&packet.frame(&tcp(1, 2, 0)), Reason::Malformed);
    packet.total_len = Some(40);
    let _: Packet = check_ok(&packet.frame(&tcp(1, 2, 0)));
}

#[test]
fn the_kernels_own_long_packets_name_no_end() {
    let mut packet = v4(protocol::TCP);
    packet.total_len = Some(0);
    let _: Packet = check_ok(&packet.frame(&tcp(1, 2, 0)));
}

#[test]
fn only_jumbograms_name_no_end_in_ipv6() {
    let mut frame = v6(protocol::TCP).frame(&tcp(1, 2, 0));
    frame.bytes[18..20].fill(0);
    check(&frame, Reason::Malformed);
    let jumbo = Ipv6 { extensions: Vec::from([(0, PAD.to_vec())]), ..v6(protocol::TCP) };
    let mut frame = jumbo.frame(&tcp(1, 2, 0));
    frame.bytes[18..20].fill(0);
    let _: Packet = check_ok(&frame);
}

#[test]
fn tcp_header_shorter_than_it_may_be() {
    let mut header = tcp(1, 2, 0);
    header[12] = 0x40;
    check(&v4(protocol::TCP).frame(&header), Reason::Malformed);
}

#[test]
fn ipv4_options_are_stepped_over() {
    // Record route with room for one address, no-operation, end.
    check_options(&[7, 7, 4, 0, 0, 0, 0, 1], Ok(()));
    check_options(&[1; 40], Ok(()));
    check_options(&[0, 131, 0, 0], Ok(()));
}

#[test]
fn ipv4_source_routes() {
    check_options(&[131, 7, 4, 10, 0, 0, 3], Err(Reason::ExtensionHeaders));
    check_options(&[1, 137, 7, 4, 10, 0, 0, 3], Err(Reason::ExtensionHeaders));
    let mut last = [1; 40];
    last[37..].copy_from_slice(&[131, 3, 4]);
    check_options(&last, Err(Reason::ExtensionHeaders));
}

#[test]
fn ipv4_options_that_do_not_add_up() {
    check_options(&[7, 0, 0, 0], Err(Reason::Malformed));
    check_options(&[7, 1, 0, 0], Err(Reason::Malformed));
    check_options(&[7, 5, 0, 0], Err(Reason::Malformed));
    check_options(&[1, 1, 1, 7], Err(Reason::Malformed));
}

#[test]
fn ipv6_extension_headers_are_stepped_over() {
    for number in [0, 43, 60] {
        check_extensions(&[(number, PAD.to_vec())], Ok(()));
    }
    // Authentication counts in words of 4, less 2.
    check_extensions(&[(51, [&[4_u8][..], &[0; 22]].concat())], Ok(()));
    check_extensions(&[(0, [&[1_u8][..], &[0; 14]].concat()), (60, PAD.to_vec())], Ok(()));
}

#[test]
fn ipv6_extension_headers_without_end() {
    let most = std::vec![(60, PAD.to_vec()); 8];
    check_extensions(&most, Ok(()));
    let more = std::vec![(60, PAD.to_vec()); 9];
    check_extensions(&more, Err(Reason::ExtensionHeaders));
}

#[test]
fn ipv6_source_routes() {
    let mut routing = PAD;
    routing[2] = 1;
    check_extensions(&[(43, routing.to_vec())], Err(Reason::ExtensionHeaders));
}

#[test]
fn mapped_addresses() {
    for (source, destination) in [(mapped(A4), B6), (A6, mapped(B4))] {
        check(&Ipv6::new(source, destination, protocol::TCP).frame(&tcp(1, 2, 0)), Reason::MappedAddress);
    }
}

#[test]
fn first_fragment() {
    let packet = check_ok(&v4_fragment(0x2000, protocol::UDP).frame(&udp(1, 2)));
    assert_eq!(packet.fragment, Fragment::First);
    assert_eq!(packet.fragment_id, [0, 0, 0xab, 0xcd]);
    check_ports(&packet, 1, 2);
    check(&v4_fragment(0x2000, protocol::TCP).frame(&tcp(1, 2, 0)[..16]), Reason::Malformed);
}

#[test]
fn later_fragment() {
    let packet = check_ok(&v4_fragment(3, protocol::TCP).frame(&[0; 8]));
    assert_eq!(packet.fragment, Fragment::Rest);
    check_ports(&packet, 0, 0);
    assert!(!packet.opens());
}

#[test]
fn later_fragments_that_would_write_over_the_header() {
    check(&v4_fragment(1, protocol::TCP).frame(&[0; 16]), Reason::Malformed);
    check(&v4_fragment(2, protocol::TCP).frame(&[0; 16]), Reason::Malformed);
    let _: Packet = check_ok(&v4_fragment(1, protocol::UDP).frame(&[0; 16]));
}

#[test]
fn ipv6_fragments() {
    let with = |offset, more, payload: &[u8]| {
        let mut packet = v6(protocol::UDP);
        packet.extensions = Vec::from([fragment_header(offset, more, 0x1234_5678), (60, PAD.to_vec())]);
        parsed(&packet.frame(payload))
    };
    let (first, result) = with(0, true, &udp(1, 2));
    assert_eq!((result, first.fragment), (Ok(Network::Ip), Fragment::First));
    assert_eq!((first.fragment_id, first.next_header), ([0x12, 0x34, 0x56, 0x78], 60));
    check_ports(&first, 1, 2);
    let (rest, result) = with(2, false, &[0; 8]);
    assert_eq!((result, rest.fragment), (Ok(Network::Ip), Fragment::Rest));
    assert_eq!((rest.fragment_id, rest.next_header), (first.fragment_id, 60));
    let (atomic, result) = with(0, false, &udp(1, 2));
    assert_eq!((result, atomic.fragment), (Ok(Network::Ip), Fragment::Whole));
}

#[test]
fn later_fragments_hold_no_extension_headers() {
    // Bytes from the middle of a datagram, which look like a routing header with segments left.
    let mut packet = v6(60);
    packet.extensions = Vec::from([fragment_header(2, false, 1)]);
    assert_eq!(check_ok(&packet.frame(&[43, 0, 43, 1, 0, 0, 0, 0])).fragment, Fragment::Rest);
}

#[test]
fn two_fragment_headers() {
    let twice = [fragment_header(0, true, 1), fragment_header(0, true, 2)];
    check_extensions(&twice, Err(Reason::ExtensionHeaders));
}

#[test]
fn whatever_is_missing_at_the_end_is_malformed() {
    let mut options = v4(protocol::TCP);
    options.options = Vec::from([7, 7, 4, 0, 0, 0, 0, 1]);
    let mut extensions = v6(protocol::TCP);
    extensions.extensions = Vec::from([(0, PAD.to_vec()), (43, PAD.to_vec()), fragment_header(0, false, 1)]);
    for frame in [options.frame(&tcp(1, 2, 0)), extensions.frame(&tcp(1, 2, 0))] {
        let _: Packet = check_ok(&frame);
        for len in 0..frame.bytes.len() {
            let ethertype = frame.ethertype;
            check(&TestFrame { ethertype, bytes: frame.bytes[..len].to_vec() }, Reason::Malformed);
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(ethertype in any::<u16>(), bytes in any::<Vec<u8>>()) {
        let frame = TestFrame { ethertype, bytes };
        let (_, result) = parsed(&frame);
        prop_assert!(matches!(ethertype, ethertype::ARP | ethertype::IPV4 | ethertype::IPV6) || result.is_err());
    }

    /// Close to what is accepted, where the branches are.
    #[test]
    fn headers_with_flipped_bytes(flips in proptest::collection::vec((14_usize..90, any::<u8>()), 0..4), six in any::<bool>()) {
        let mut frame = if six {
            let mut packet = v6(protocol::TCP);
            packet.extensions = Vec::from([(0, PAD.to_vec()), fragment_header(0, true, 1)]);
            packet.frame(&tcp(1, 2, tcp::SYN))
        } else {
            let mut packet = v4(protocol::TCP);
            packet.options = Vec::from([7, 7, 4, 0, 0, 0, 0, 1]);
            packet.frame(&tcp(1, 2, tcp::SYN))
        };
        let len = frame.bytes.len();
        for (at, value) in flips {
            frame.bytes[at % len] = value;
        }
        if let (packet, Ok(Network::Ip)) = parsed(&frame) {
            let mut quote = packet.flow;
            let _: bool = icmp::quoted(&frame.bytes.as_slice(), &packet, &mut quote);
            prop_assert!(six != packet.is_ipv4());
            if packet.fragment == Fragment::Whole && packet.is_tcp() {
                let transport = usize::try_from(packet.transport).unwrap();
                prop_assert_eq!(&frame.bytes[transport..transport + 2], packet.flow.source_port);
            }
        }
    }

    #[test]
    fn the_reply_of_a_reply_is_the_flow(source_port in any::<u16>(), destination_port in any::<u16>()) {
        let there = check_ok(&v6(protocol::UDP).frame(&udp(source_port, destination_port)));
        let back = Packet { flow: there.reply_to().unwrap(), ..there };
        prop_assert_eq!(back.reply_to(), Some(there.flow));
    }
}

fn v4(protocol: u8) -> Ipv4 {
    Ipv4::new(A4, B4, protocol)
}

fn v4_fragment(fragment: u16, protocol: u8) -> Ipv4 {
    Ipv4 { fragment, id: 0xabcd, ..v4(protocol) }
}

fn v6(protocol: u8) -> Ipv6 {
    Ipv6::new(A6, B6, protocol)
}

fn arrival(ethertype: u16) -> Arrival {
    Arrival { ethertype, tagged: false, ifindex: 1, ingress_ifindex: 0, mark: 0 }
}

fn parsed(frame: &TestFrame) -> (Packet, Result<Network, Reason>) {
    let mut packet = Packet::EMPTY;
    let result = parse(&frame.bytes.as_slice(), &arrival(frame.ethertype), &mut packet);
    (packet, result)
}

#[track_caller]
fn check(frame: &TestFrame, refused: Reason) {
    assert_eq!(parsed(frame).1, Err(refused));
}

#[track_caller]
fn check_ok(frame: &TestFrame) -> Packet {
    let (packet, result) = parsed(frame);
    assert_eq!(result, Ok(Network::Ip));
    packet
}

#[track_caller]
fn check_ports(packet: &Packet, source: u16, destination: u16) {
    let ports = (packet.flow.source_port, packet.flow.destination_port);
    assert_eq!(ports, (source.to_be_bytes(), destination.to_be_bytes()));
}

#[track_caller]
fn check_options(options: &[u8], expect: Result<(), Reason>) {
    let packet = Ipv4 { options: options.to_vec(), ..v4(protocol::TCP) };
    assert_eq!(parsed(&packet.frame(&tcp(1, 2, 0))).1, expect.map(|()| Network::Ip));
}

#[track_caller]
fn check_extensions(extensions: &[(u8, Vec<u8>)], expect: Result<(), Reason>) {
    let packet = Ipv6 { extensions: extensions.to_vec(), ..v6(protocol::TCP) };
    let (read, result) = parsed(&packet.frame(&tcp(1, 2, 0)));
    assert_eq!(result, expect.map(|()| Network::Ip));
    if result.is_ok() {
        check_ports(&read, 1, 2);
    }
}
