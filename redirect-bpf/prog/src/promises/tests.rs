//! Where a device may write, and what it may cut, in every kind of packet: each place of the frame is tried.

use std::vec::Vec;

use super::*;
use crate::model::frames::{Ipv4, Ipv6, Promised, TestFrame, fragment_header, icmp, icmp_protocol, tcp, udp};
use crate::model::world::{FAMILIES, Family, Party, frame};
use crate::packet::{Arrival, ETHERNET_LEN, Network, Packet, ethertype, parse};
use crate::protocol::{ICMP, SCTP, TCP, UDP};
use Party::{A, B};

const ARP: u16 = ethertype::ARP;
const IPIP: u8 = 4;
const GRE: u8 = 47;

/// A frame, where its transport header begins, how far it was judged from there, and the one place of a checksum in it.
struct Case {
    frame: TestFrame,
    transport: i32,
    judged: i32,
    checksum: Option<i32>,
}

#[test]
fn a_checksum_is_left_in_its_own_field_or_behind_what_was_judged() {
    for case in cases() {
        check_every_place(&case);
    }
}

#[test]
fn the_sum_of_an_own_checksum_begins_at_its_header() {
    for case in cases() {
        let Some(field) = case.checksum else { continue };
        for start in [0, 14, case.transport - 2, case.transport - 1, case.transport + 1, case.transport + 2] {
            let place = deferred(start, case.transport + field - start);
            assert_eq!(parsed(&case.frame, place), Err(Reason::DeferredChecksum), "from {start}");
        }
    }
}

#[test]
fn a_place_before_the_frame_or_past_every_number_is_refused() {
    for case in cases() {
        for (start, offset) in [(-40, 6), (-1, 0), (i32::MIN, 0), (i32::MAX, 16), (i32::MAX, i32::MAX)] {
            assert_eq!(parsed(&case.frame, deferred(start, offset)), Err(Reason::DeferredChecksum));
        }
    }
}

#[test]
fn nothing_is_left_to_the_device_in_icmp_later_fragments_and_arp() {
    let mut frames = Vec::from([arp()]);
    for family in FAMILIES {
        let ethertype = frame(family, A, B, TCP, &[]).ethertype;
        for message in [0, 3, 8, 128, 135, 136] {
            frames.push(frame(family, A, B, icmp_protocol(ethertype), &icmp(message, 7)));
        }
        for protocol in [TCP, UDP, SCTP, ICMP, GRE] {
            frames.push(fragment(family, protocol, 100, false));
            frames.push(fragment(family, protocol, 100, true));
        }
    }
    for mut frame in frames {
        frame.bytes.resize(200, 0);
        for place in 0..200 {
            assert_eq!(parsed(&frame, deferred(place, 0)), Err(Reason::DeferredChecksum));
        }
        assert_eq!(parsed(&frame, segments(1000)), Err(Reason::Segmentation));
        assert!(parsed(&frame, Promises::NONE).is_ok());
    }
}

#[test]
fn segments_are_of_whole_packets_and_hold_their_header() {
    for case in cases() {
        for bytes in [1, 4, 7] {
            assert_eq!(parsed(&case.frame, segments(bytes)), Err(Reason::Segmentation), "{bytes} bytes");
        }
        for bytes in [8, 1448, 65_535] {
            assert_eq!(parsed(&case.frame, segments(bytes)), Ok(Network::Ip), "{bytes} bytes");
        }
    }
    for family in FAMILIES {
        for protocol in [TCP, UDP] {
            assert_eq!(
                parsed(&fragment(family, protocol, 0, true), segments(1448)),
                Err(Reason::Segmentation)
            );
        }
    }
}

#[test]
fn a_frame_that_says_another_protocol_than_the_kernel_is_refused() {
    for honest in FAMILIES.map(|family| frame(family, A, B, TCP, &tcp(1, 2, 0))).iter().chain([&arp()]) {
        for said in [ethertype::IPV4, ethertype::IPV6, ARP, 0x8100, 0x88a8, 0] {
            let mut frame = honest.clone();
            frame.bytes[12..14].copy_from_slice(&said.to_be_bytes());
            assert_eq!(parsed(&frame, Promises::NONE).is_ok(), said == honest.ethertype);
        }
    }
}

#[track_caller]
fn check_every_place(case: &Case) {
    let end = case.transport + case.judged;
    for field in 0..i32::try_from(case.frame.bytes.len()).unwrap() {
        let own = case.checksum.map(|offset| case.transport + offset) == Some(field);
        // From the header itself, as an honest sender does; from the IP header; from the field.
        for start in [case.transport, i32::try_from(ETHERNET_LEN).unwrap(), field] {
            let allowed = field >= end || (own && start == case.transport);
            let expect = if allowed { Ok(Network::Ip) } else { Err(Reason::DeferredChecksum) };
            assert_eq!(parsed(&case.frame, deferred(start, field - start)), expect, "{start}, {field}");
        }
    }
}

/// Of both families: plain, with options or extension headers, and the first of several fragments.
fn cases() -> Vec<Case> {
    let sctp = [&udp(4000, 53)[..], &[0; 8]].concat();
    let kinds = [
        (TCP, tcp(4000, 80, 0x10), 20, Some(16)),
        (UDP, udp(4000, 53), 8, Some(6)),
        (SCTP, sctp, 12, Some(8)),
        (IPIP, Vec::from([0x45; 20]), 0, None),
        (GRE, Vec::from([0; 8]), 0, None),
    ];
    let mut cases = Vec::new();
    for (protocol, header, judged, checksum) in kinds {
        let payload = [&header[..], &[7; 64]].concat();
        let mut add = |frame: TestFrame| {
            let transport = i32::try_from(frame.bytes.len() - payload.len()).unwrap();
            cases.push(Case { frame, transport, judged, checksum });
        };
        let (v4, v6) = (Ipv4::new(A.v4(), B.v4(), protocol), Ipv6::new(A.v6(), B.v6(), protocol));
        add(v4.frame(&payload));
        add(Ipv4 { options: Vec::from([1; 40]), ..v4 }.frame(&payload));
        add(v6.frame(&payload));
        let extensions = Vec::from([(0, Vec::from([0, 1, 4, 0, 0, 0, 0])), (60, Vec::from([1; 15]))]);
        add(Ipv6 { extensions, ..v6 }.frame(&payload));
    }
    cases
}

fn fragment(family: Family, protocol: u8, offset: u16, more: bool) -> TestFrame {
    let payload = [&tcp(4000, 80, 0x10)[..], &[7; 64]].concat();
    match family {
        Family::V4 => {
            let flag = if more { 0x2000 } else { 0 };
            Ipv4 { fragment: flag | offset, ..Ipv4::new(A.v4(), B.v4(), protocol) }.frame(&payload)
        }
        Family::V6 => {
            let extensions = Vec::from([fragment_header(offset, more, 7)]);
            Ipv6 { extensions, ..Ipv6::new(A.v6(), B.v6(), protocol) }.frame(&payload)
        }
    }
}

fn arp() -> TestFrame {
    let mut frame = frame(Family::V4, A, B, TCP, &[]);
    frame.bytes[12..14].copy_from_slice(&ARP.to_be_bytes());
    TestFrame { ethertype: ARP, ..frame }
}

fn deferred(checksum_start: i32, checksum_offset: i32) -> Promises {
    Promises { checksum: true, checksum_start, checksum_offset, ..Promises::NONE }
}

fn segments(segment_bytes: u32) -> Promises {
    Promises { segment_bytes, ..Promises::NONE }
}

fn parsed(frame: &TestFrame, promises: Promises) -> Result<Network, Reason> {
    let arrival =
        Arrival { ethertype: frame.ethertype, tagged: false, ifindex: 1, ingress_ifindex: 1, mark: 0 };
    parse(&Promised { bytes: &frame.bytes, promises }, &arrival, &mut Packet::EMPTY.clone())
}
