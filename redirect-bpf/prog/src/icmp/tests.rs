//! What an error quotes, and what is not taken for a quote.

use super::*;
use crate::model::frames::{Ipv4, Ipv6, TestFrame, icmp_error, udp};
use crate::model::world::{FAMILIES, Family, Party, flow, frame};
use crate::packet::{Arrival, Network, parse};
use crate::protocol::{ICMP, ICMPV6, UDP};
use Party::{A, B, Outside};

#[test]
fn an_error_quotes_a_packet_of_its_receiver() {
    for family in FAMILIES {
        let sent = frame(family, A, B, UDP, &udp(4000, 53));
        check(&error(family, &sent), Some(flow(family, A, B, UDP, (4000, 53))));
        check(&error(family, &frame(family, Outside, B, UDP, &udp(4000, 53))), None);
        check(&error(family, &frame(family, B, A, UDP, &udp(53, 4000))), None);
    }
}

#[test]
fn a_quote_of_a_later_fragment_has_no_ports() {
    let first = Ipv4 { fragment: 0x2000, ..Ipv4::new(A.v4(), B.v4(), UDP) };
    check(&error(Family::V4, &first.frame(&udp(4000, 53))), Some(flow(Family::V4, A, B, UDP, (4000, 53))));
    for fragment in [1, 0x2001, 0x1f00] {
        let later = Ipv4 { fragment, ..first.clone() };
        check(&error(Family::V4, &later.frame(&udp(4000, 53))), None);
    }
}

#[test]
fn a_quote_with_mapped_addresses() {
    check(&error(Family::V6, &Ipv6::new(A.v6(), mapped(B.v4()), UDP).frame(&udp(4000, 53))), None);
}

#[test]
fn a_quote_of_the_other_version() {
    for (family, other) in [(Family::V4, Family::V6), (Family::V6, Family::V4)] {
        check(&error(family, &frame(other, A, B, UDP, &udp(4000, 53))), None);
    }
}

#[test]
fn a_quote_that_is_cut_short() {
    for family in FAMILIES {
        let sent = frame(family, A, B, UDP, &udp(4000, 53));
        for len in 14..sent.bytes.len() {
            let ethertype = sent.ethertype;
            check(&error(family, &TestFrame { ethertype, bytes: sent.bytes[..len].to_vec() }), None);
        }
    }
}

#[test]
fn later_fragments_of_an_error_quote_nothing() {
    let sent = frame(Family::V4, A, B, UDP, &udp(4000, 53));
    let whole = error(Family::V4, &sent);
    let mut packet = read(&whole);
    packet.fragment = Fragment::Rest;
    assert!(!quoted(&whole.bytes.as_slice(), &packet, &mut Packet::EMPTY.flow.clone()));
}

/// "Unreachable", from the other end to A.
fn error(family: Family, about: &TestFrame) -> TestFrame {
    match family {
        Family::V4 => frame(family, B, A, ICMP, &icmp_error(3, about)),
        Family::V6 => frame(family, B, A, ICMPV6, &icmp_error(1, about)),
    }
}

fn read(frame: &TestFrame) -> Packet {
    let mut packet = Packet::EMPTY;
    let arrival =
        Arrival { ethertype: frame.ethertype, tagged: false, ifindex: 1, ingress_ifindex: 1, mark: 0 };
    assert_eq!(parse(&frame.bytes.as_slice(), &arrival, &mut packet), Ok(Network::Ip));
    packet
}

#[track_caller]
fn check(frame: &TestFrame, expect: Option<FlowKey>) {
    let mut quote = Packet::EMPTY.flow;
    let is_quote = quoted(&frame.bytes.as_slice(), &read(frame), &mut quote);
    assert_eq!(is_quote.then_some(quote), expect);
}
