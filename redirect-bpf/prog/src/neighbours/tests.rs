//! What an endpoint may say on its link, and what would make others send to it, or remember it, in another's place.

use redirect_abi::Address;
use std::vec::Vec;

use super::*;
use crate::model::frames::{
    Ipv6, STATION, TestFrame, arp, discovery, fragment_header, station_option, tcp, udp,
};
use crate::model::world::{Family, Party, SECOND_NS, World, frame};
use crate::protocol::ICMPV6;
use crate::verdict::Pass;
use Party::{A, B, Host, Outside};
use Reason::{FalseNeighbour, Malformed, SpoofedSource};

const REQUEST: u8 = 1;
const REPLY: u8 = 2;
const ANOTHER: [u8; 6] = [2, 0, 0, 0, 0, 9];
const GROUP: [u8; 6] = [3, 0, 0, 0, 0, 9];
const ROUTER_SOLICITATION: u8 = 133;
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;

#[test]
fn arp_of_the_endpoints_own_address() {
    for operation in [REQUEST, REPLY] {
        for target in [A, B, Host, Outside] {
            check(&World::open(), &arp(operation, STATION, A.v4(), target.v4()), Ok(()));
        }
    }
}

#[test]
fn arp_in_the_name_of_others() {
    for operation in [REQUEST, REPLY] {
        for sender in [B, Host, Outside] {
            for target in [A, B, Host] {
                let message = arp(operation, STATION, sender.v4(), target.v4());
                check(&World::open(), &message, Err(SpoofedSource));
            }
        }
    }
}

#[test]
fn arp_probes_have_no_sender_and_only_ask() {
    check(&World::open(), &arp(REQUEST, STATION, [0; 4], A.v4()), Ok(()));
    check(&World::open(), &arp(REPLY, STATION, [0; 4], A.v4()), Err(SpoofedSource));
}

#[test]
fn arp_for_another_station() {
    for station in [ANOTHER, [0; 6], [0xff; 6]] {
        check(&World::open(), &arp(REPLY, station, A.v4(), Host.v4()), Err(FalseNeighbour));
    }
    let mut group = arp(REPLY, GROUP, A.v4(), Host.v4());
    group.bytes[6..12].copy_from_slice(&GROUP);
    check(&World::open(), &group, Err(FalseNeighbour));
}

#[test]
fn arp_of_other_kinds_and_lengths() {
    let honest = arp(REQUEST, STATION, A.v4(), Host.v4());
    // Hardware, protocol, the lengths of both, and the operation: reverse, inverse, none.
    for (place, value) in
        [(15, 6), (16, 0x86), (17, 1), (18, 8), (19, 16), (21, 0), (21, 3), (21, 8), (20, 1)]
    {
        let mut odd = honest.clone();
        odd.bytes[place] = value;
        check(&World::open(), &odd, Err(FalseNeighbour));
    }
    for len in 14..honest.bytes.len() {
        let bytes = honest.bytes[..len].to_vec();
        check(&World::open(), &TestFrame { bytes, ..honest }, Err(Malformed));
    }
}

#[test]
fn arp_of_an_endpoint_without_that_family() {
    let mut world = World::open();
    world.model.endpoints.get_mut(&A.id()).unwrap().families = 2;
    check(&world, &arp(REPLY, STATION, A.v4(), Host.v4()), Err(SpoofedSource));
}

#[test]
fn the_record_of_a_refused_arp_names_both_addresses() {
    let world = World::open();
    let (frame, mut packet) = (arp(REPLY, STATION, B.v4(), Host.v4()), Packet::EMPTY);
    let endpoint = world.model.endpoints[&A.id()];
    let refused = check_arp(&world.model, &frame.bytes.as_slice(), &endpoint, &mut packet);
    assert_eq!(refused, Err(SpoofedSource));
    assert_eq!((packet.flow.source, packet.flow.destination), (mapped(B.v4()), mapped(Host.v4())));
}

#[test]
fn one_link_local_address_is_learnt() {
    let world = World::open();
    let ask = |n| solicit(fe80(n), Host.v6());
    check(&world, &ask(1), Ok(()));
    for n in 2..200 {
        check(&world, &ask(n), Err(SpoofedSource));
        check(&world, &message(ROUTER_SOLICITATION, fe80(n), all_nodes(), [0; 16], &[]), Err(SpoofedSource));
        check(&world, &listener_report(fe80(n)), Err(SpoofedSource));
    }
    check(&world, &ask(1), Ok(()));
    check(&world, &solicit(A.v6(), Host.v6()), Ok(()));
    assert_eq!(world.model.neighbours.borrow().len(), 1);
}

#[test]
fn every_message_teaches_it() {
    for first in [
        solicit(fe80(1), Host.v6()),
        message(ROUTER_SOLICITATION, fe80(1), all_nodes(), [0; 16], &[]),
        listener_report(fe80(1)),
        advertise(fe80(1), fe80(1)),
        advertise(A.v6(), fe80(1)),
        // It would like to have it.
        solicit([0; 16], fe80(1)),
    ] {
        let world = World::open();
        check(&world, &first, Ok(()));
        check(&world, &solicit(fe80(2), Host.v6()), Err(SpoofedSource));
        check(&world, &solicit([0; 16], fe80(2)), Err(SpoofedSource));
        check(&world, &advertise(A.v6(), fe80(2)), Err(SpoofedSource));
        check(&world, &solicit(fe80(1), Host.v6()), Ok(()));
    }
}

#[test]
fn endpoints_have_link_local_addresses_of_their_own() {
    let world = World::open();
    check(&world, &solicit(fe80(1), Host.v6()), Ok(()));
    let of_b = solicit(fe80(2), Host.v6());
    assert_eq!(world.from(B, &of_b).0, Ok(Pass::Unmarked));
    check(&world, &solicit(fe80(1), Host.v6()), Ok(()));
}

#[test]
fn a_link_local_address_of_the_node_is_never_learnt() {
    let mut world = World::open();
    world.model.add_identity(128, fe80(1), Host.identity());
    for claim in [
        solicit(fe80(1), Host.v6()),
        solicit([0; 16], fe80(1)),
        advertise(fe80(1), fe80(1)),
        advertise(A.v6(), fe80(1)),
        message(ROUTER_SOLICITATION, fe80(1), all_nodes(), [0; 16], &[]),
        listener_report(fe80(1)),
    ] {
        check(&world, &claim, Err(SpoofedSource));
    }
    check(&world, &advertise(A.v6(), A.v6()), Ok(()));
    check(&world, &solicit(fe80(2), fe80(1)), Ok(()));
}

#[test]
fn a_link_local_address_that_becomes_the_nodes_is_no_longer_the_endpoints() {
    let mut world = World::open();
    check(&world, &advertise(fe80(1), fe80(1)), Ok(()));
    world.model.add_identity(128, fe80(1), Host.identity());
    check(&world, &advertise(fe80(1), fe80(1)), Err(SpoofedSource));
    check(&world, &solicit(A.v6(), fe80(1)), Ok(()));
}

#[test]
fn another_is_learnt_after_a_minute_of_silence() {
    let world = World::open();
    check(&world, &solicit(fe80(1), Host.v6()), Ok(()));
    world.pass_time(FORGET_NS - 1);
    check(&world, &solicit(fe80(2), Host.v6()), Err(SpoofedSource));
    check(&world, &solicit(fe80(1), Host.v6()), Ok(()));
    world.pass_time(FORGET_NS - 1);
    // Heard in between, and what is refused keeps nothing alive.
    check(&world, &solicit(fe80(2), Host.v6()), Err(SpoofedSource));
    world.pass_time(1);
    check(&world, &solicit(fe80(2), Host.v6()), Ok(()));
    check(&world, &solicit(fe80(1), Host.v6()), Err(SpoofedSource));
}

#[test]
fn the_hardware_address_is_remembered_beside_it() {
    let world = World::open();
    let known = || world.model.neighbours.borrow().get(&A.id()).copied();
    check(&world, &arp(REPLY, ANOTHER, A.v4(), Host.v4()), Err(FalseNeighbour));
    check(&world, &arp(REQUEST, STATION, [0; 4], A.v4()), Ok(()));
    check(&world, &solicit([0; 16], A.v6()), Ok(()));
    assert_eq!(known(), None);
    check(&world, &arp(REPLY, STATION, A.v4(), Host.v4()), Ok(()));
    assert_eq!(known(), Some(Neighbour { station: STATION, ..Neighbour::UNKNOWN }));
    check(&world, &solicit(fe80(1), Host.v6()), Ok(()));
    let (link_local, heard_ns) = (fe80(1), SECOND_NS);
    assert_eq!(known(), Some(Neighbour { link_local, heard_ns, station: STATION, pad: [0; 2] }));
}

#[test]
fn where_nothing_can_be_remembered_only_own_addresses_speak() {
    let mut world = World::open();
    world.model.full = true;
    check(&world, &solicit(fe80(1), Host.v6()), Err(SpoofedSource));
    check(&world, &solicit(A.v6(), Host.v6()), Ok(()));
    check(&world, &arp(REPLY, STATION, A.v4(), Host.v4()), Ok(()));
}

#[test]
fn addresses_of_others_are_neither_used_nor_advertised() {
    for other in [B.v6(), Host.v6(), Outside.v6()] {
        check(&World::open(), &solicit(other, Host.v6()), Err(SpoofedSource));
        check(&World::open(), &advertise(other, other), Err(SpoofedSource));
        check(&World::open(), &advertise(A.v6(), other), Err(SpoofedSource));
        check(&World::open(), &advertise(fe80(1), other), Err(SpoofedSource));
        // Its owner would take it for a sign that somebody else has it.
        check(&World::open(), &solicit([0; 16], other), Err(SpoofedSource));
        check(&World::open(), &listener_report(other), Err(SpoofedSource));
        // Wherever it goes: a bridge would carry it.
        check(&World::open(), &message(ADVERTISEMENT, A.v6(), B.v6(), other, &[]), Err(SpoofedSource));
    }
}

#[test]
fn an_advertisement_has_a_sender_and_a_target() {
    check(&World::open(), &advertise([0; 16], A.v6()), Err(FalseNeighbour));
    check(&World::open(), &advertise(A.v6(), [0; 16]), Err(SpoofedSource));
    check(&World::open(), &solicit([0; 16], [0; 16]), Err(SpoofedSource));
}

#[test]
fn hardware_addresses_are_those_of_the_frame() {
    for kind in [SOLICITATION, ADVERTISEMENT, ROUTER_SOLICITATION] {
        for option in [SOURCE_STATION, TARGET_STATION] {
            let with = |options: &[u8]| message(kind, A.v6(), all_nodes(), A.v6(), options);
            let own = station_option(option, STATION);
            check(&World::open(), &with(&own), Ok(()));
            check(&World::open(), &with(&station_option(option, ANOTHER)), Err(FalseNeighbour));
            // Behind another option, and as a second of its kind.
            let nonce = [14, 1, 1, 2, 3, 4, 5, 6];
            check(&World::open(), &with(&[&nonce[..], &own].concat()), Ok(()));
            for before in [&nonce[..], &own] {
                let options = [before, &station_option(option, ANOTHER)].concat();
                check(&World::open(), &with(&options), Err(FalseNeighbour));
            }
            let long = [&[option, 2][..], &STATION, &[0; 8]].concat();
            check(&World::open(), &with(&long), Err(FalseNeighbour));
        }
    }
    let nameless = message(SOLICITATION, [0; 16], all_nodes(), A.v6(), &station_option(1, STATION));
    check(&World::open(), &nameless, Err(FalseNeighbour));
}

#[test]
fn options_that_do_not_end_where_the_message_does() {
    let with = |options: &[u8]| message(SOLICITATION, A.v6(), all_nodes(), Host.v6(), options);
    for options in [&[1][..], &[14, 0, 0, 0, 0, 0, 0, 0], &[14, 2, 0, 0, 0, 0, 0, 0], &[14, 255]] {
        check(&World::open(), &with(options), Err(FalseNeighbour));
    }
    check(&World::open(), &with(&[14, 1, 0, 0, 0, 0, 0, 0].repeat(7)), Ok(()));
    check(&World::open(), &with(&[14, 1, 0, 0, 0, 0, 0, 0].repeat(9)), Err(FalseNeighbour));
    let honest = with(&station_option(1, STATION));
    // Padding behind the packet is nobody's option.
    let padded = [&honest.bytes[..], &[1, 1, 9, 9, 9, 9, 9, 9]].concat();
    check(&World::open(), &TestFrame { bytes: padded, ..honest }, Ok(()));
    for len in 54..honest.bytes.len() {
        let bytes = honest.bytes[..len].to_vec();
        assert!(World::open().from(A, &TestFrame { bytes, ..honest }).0.is_err(), "{len} bytes");
    }
}

#[test]
fn routers_messages_and_those_from_afar() {
    for kind in [134, 137] {
        for source in [A.v6(), fe80(1)] {
            for destination in [all_nodes(), fe80(9), B.v6()] {
                let from_router = message(kind, source, destination, A.v6(), &[]);
                check(&World::open(), &from_router, Err(FalseNeighbour));
            }
        }
    }
    for kind in [ROUTER_SOLICITATION, SOLICITATION, ADVERTISEMENT] {
        for hop_limit in [0, 1, 64, 254] {
            let packet = Ipv6 { hop_limit, ..Ipv6::new(A.v6(), all_nodes(), ICMPV6) };
            check(&World::open(), &packet.frame(&discovery(kind, A.v6(), &[])), Err(FalseNeighbour));
        }
        let mut coded = message(kind, A.v6(), all_nodes(), A.v6(), &[]);
        coded.bytes[55] = 1;
        check(&World::open(), &coded, Err(FalseNeighbour));
        let extensions = Vec::from([fragment_header(0, true, 7)]);
        let first = Ipv6 { extensions, hop_limit: 255, ..Ipv6::new(A.v6(), all_nodes(), ICMPV6) };
        check(&World::open(), &first.frame(&discovery(kind, A.v6(), &[])), Err(FalseNeighbour));
    }
}

#[test]
fn a_link_local_address_is_for_the_link_only() {
    let world = World::open();
    check(&world, &solicit(fe80(1), Host.v6()), Ok(()));
    for (protocol, payload) in [(6, tcp(1, 2, 2)), (17, udp(1, 2))] {
        let packet = Ipv6::new(fe80(1), B.v6(), protocol).frame(&payload);
        check(&world, &packet, Err(SpoofedSource));
    }
    assert!(world.from(A, &frame(Family::V6, A, B, 17, &udp(1, 2))).0.is_ok());
}

fn fe80(last: u8) -> Address {
    [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]
}

fn all_nodes() -> Address {
    [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]
}

fn solicit(source: Address, target: Address) -> TestFrame {
    message(SOLICITATION, source, all_nodes(), target, &[])
}

fn advertise(source: Address, target: Address) -> TestFrame {
    message(ADVERTISEMENT, source, all_nodes(), target, &[])
}

fn listener_report(source: Address) -> TestFrame {
    Ipv6 { hop_limit: 1, ..Ipv6::new(source, all_nodes(), ICMPV6) }.frame(&discovery(143, [0; 16], &[]))
}

fn message(kind: u8, source: Address, destination: Address, target: Address, options: &[u8]) -> TestFrame {
    Ipv6 { hop_limit: 255, ..Ipv6::new(source, destination, ICMPV6) }.frame(&discovery(kind, target, options))
}

/// From A.
#[track_caller]
fn check(world: &World, frame: &TestFrame, expect: Result<(), Reason>) {
    assert_eq!(world.from(A, frame).0, expect.map(|()| Pass::Unmarked));
}
