//! Every reason has a packet that is dropped for it, at each hook where it can be, on both families.

use redirect_abi::direction::{EGRESS, INGRESS};
use redirect_abi::verdict::{ALLOW, REDIRECT};
use std::vec::Vec;

use super::Reason;
use crate::model::frames::{
    Ipv4, Ipv6, TestFrame, arp, discovery, fragment_header, station_option, tcp as segment, udp,
};
use crate::model::world::{FAMILIES, Family, Party, World, any, frame, peer, port};
use crate::packet::{ethertype, tcp};
use crate::promises::Promises;
use crate::protocol::{ICMPV6, TCP, UDP};
use Party::{A, B, Host, Outside};
use Reason as R;

const MORE_FRAGMENTS: u16 = 0x2000;

#[test]
fn every_reason_is_produced() {
    let mut reason = Some(R::Policy);
    let mut count = 1;
    while let Some(now) = reason {
        for family in FAMILIES {
            produce(now, family);
        }
        reason = after(now);
        count += usize::from(reason.is_some());
    }
    // 0 is no reason.
    assert_eq!(count, redirect_abi::reason::COUNT - 1);
}

/// The next reason in the order of their numbers: a new one does not compile until it is produced.
fn after(reason: Reason) -> Option<Reason> {
    Some(match reason {
        R::Policy => R::SpoofedSource,
        R::SpoofedSource => R::Malformed,
        R::Malformed => R::FragmentOrphan,
        R::FragmentOrphan => R::FragmentRedirected,
        R::FragmentRedirected => R::NoListener,
        R::NoListener => R::UnknownL3,
        R::UnknownL3 => R::NoEndpoint,
        R::NoEndpoint => R::MappedAddress,
        R::MappedAddress => R::ExtensionHeaders,
        R::ExtensionHeaders => R::NotRedirectable,
        R::NotRedirectable => R::Revoked,
        R::Revoked => R::RedirectRequired,
        R::RedirectRequired => R::NoPolicyMap,
        R::NoPolicyMap => R::MapFull,
        R::MapFull => R::DeferredChecksum,
        R::DeferredChecksum => R::Segmentation,
        R::Segmentation => R::UntrackedAnswer,
        R::UntrackedAnswer => R::FalseNeighbour,
        R::FalseNeighbour => R::FlowQuota,
        R::FlowQuota => return None,
    })
}

fn produce(reason: Reason, family: Family) {
    let mut world = World::open();
    let syn = frame(family, A, B, TCP, &segment(4000, 80, tcp::SYN));
    match reason {
        R::Policy => {
            world.policy(B, &[]);
            both(&world, &syn, reason);
        }
        R::SpoofedSource => {
            leaving(&world, A, &frame(family, B, A, TCP, &segment(4000, 80, tcp::SYN)), reason);
            reaching(&world, Outside, &syn, reason);
        }
        R::Malformed => both(&world, &cut_short(&syn), reason),
        R::FragmentOrphan => {
            world.policy(B, &[port(INGRESS, A, TCP, 80, ALLOW)]);
            both(&world, &fragment(family, TCP, 3, false), reason);
        }
        R::FragmentRedirected => {
            world.policy(B, &[peer(INGRESS, A, REDIRECT)]);
            leaving(&world, A, &fragment(family, TCP, 0, true), reason);
        }
        R::NoListener => {
            world.policy(B, &[peer(INGRESS, A, REDIRECT)]);
            world.model.listeners = [false; 2];
            leaving(&world, A, &syn, reason);
        }
        R::UnknownL3 => both(&world, &TestFrame { ethertype: 0x88cc, ..syn }, reason),
        R::NoEndpoint => {
            world.model.endpoints.clear();
            both(&world, &syn, reason);
        }
        R::MappedAddress => both(&world, &mapped_source(), reason),
        R::ExtensionHeaders => both(&world, &source_routed(family), reason),
        R::NotRedirectable => {
            world.policy(B, &[peer(INGRESS, A, REDIRECT), peer(INGRESS, Outside, REDIRECT)]);
            leaving(&world, A, &frame(family, A, B, UDP, &udp(4000, 53)), reason);
            let from_outside = frame(family, Outside, B, TCP, &segment(4000, 80, tcp::SYN));
            reaching(&world, Outside, &from_outside, reason);
        }
        R::Revoked | R::RedirectRequired => {
            let judged = world.from(A, &syn).0;
            assert!(judged.is_ok(), "{judged:?}");
            let entries = [peer(INGRESS, A, REDIRECT)];
            world.policy(B, if reason == R::Revoked { &[] } else { &entries });
            world.next_epoch();
            leaving(&world, A, &frame(family, A, B, TCP, &segment(4000, 80, tcp::ACK)), reason);
            leaving(&world, B, &frame(family, B, A, TCP, &segment(80, 4000, tcp::ACK)), reason);
        }
        R::NoPolicyMap => {
            world.model.policies.clear();
            both(&world, &syn, reason);
        }
        R::MapFull => {
            world.model.full = true;
            both(&world, &syn, reason);
        }
        R::DeferredChecksum => promised(&world, &syn, over_the_port(&syn), reason),
        R::FalseNeighbour => leaving(&world, A, &of_another_station(family), reason),
        R::Segmentation => {
            let fragment = fragment(family, TCP, 0, true);
            promised(&world, &fragment, Promises { segment_bytes: 1000, ..Promises::NONE }, reason);
        }
        R::UntrackedAnswer => untracked_answer(&mut world, family, reason),
        R::FlowQuota => {
            world.policy(B, &[peer(INGRESS, A, REDIRECT)]);
            world.model.quotas = Default::default();
            leaving(&world, A, &syn, reason);
        }
    }
}

fn untracked_answer(world: &mut World, family: Family, reason: Reason) {
    // B serves A's enemies only.
    world.policy(B, &[port(INGRESS, Outside, TCP, 80, ALLOW), any(EGRESS)]);
    leaving(world, B, &frame(family, B, A, TCP, &segment(80, 4000, tcp::ACK)), reason);
    world.policy(B, &[port(EGRESS, A, TCP, 80, ALLOW), any(INGRESS)]);
    let answer = frame(family, Outside, B, TCP, &segment(80, 4000, tcp::ACK));
    reaching(world, Outside, &answer, reason);
}

/// At the hook where A's packets come in, and at that where they go to B.
#[track_caller]
fn both(world: &World, frame: &TestFrame, reason: Reason) {
    leaving(world, A, frame, reason);
    reaching(world, Host, frame, reason);
}

#[track_caller]
fn leaving(world: &World, endpoint: Party, frame: &TestFrame, reason: Reason) {
    assert_eq!(world.from(endpoint, frame).0, Err(reason));
}

#[track_caller]
fn reaching(world: &World, sender: Party, frame: &TestFrame, reason: Reason) {
    assert_eq!(world.to(B, sender, 0, frame).0, Err(reason));
}

/// At both hooks, with this still to be done to the frame.
#[track_caller]
fn promised(world: &World, frame: &TestFrame, promises: Promises, reason: Reason) {
    assert_eq!(world.from_with(A, frame, promises).0, Err(reason));
    assert_eq!(world.to_with(B, Outside, 0, frame, promises).0, Err(reason));
}

/// The last two bytes of the IP header and options would be summed up, and written over the destination port.
fn over_the_port(frame: &TestFrame) -> Promises {
    let transport = i32::try_from(frame.bytes.len()).unwrap() - 20;
    Promises { checksum: true, checksum_start: transport - 2, checksum_offset: 4, ..Promises::NONE }
}

/// A's own address, at a hardware address that is not A's.
fn of_another_station(family: Family) -> TestFrame {
    let another = [2, 0, 0, 0, 0, 9];
    match family {
        Family::V4 => arp(2, another, A.v4(), Host.v4()),
        Family::V6 => Ipv6 { hop_limit: 255, ..Ipv6::new(A.v6(), Host.v6(), ICMPV6) }.frame(&discovery(
            136,
            A.v6(),
            &station_option(2, another),
        )),
    }
}

/// The last byte of its TCP header is missing.
fn cut_short(frame: &TestFrame) -> TestFrame {
    let bytes: Vec<u8> = frame.bytes.iter().copied().take(frame.bytes.len() - 1).collect();
    TestFrame { ethertype: frame.ethertype, bytes }
}

/// Of a packet from A to B; `offset` in units of 8 bytes.
fn fragment(family: Family, protocol: u8, offset: u16, more: bool) -> TestFrame {
    let payload = segment(4000, 80, tcp::SYN);
    match family {
        Family::V4 => {
            let flag = if more { MORE_FRAGMENTS } else { 0 };
            Ipv4 { fragment: flag | offset, id: 7, ..Ipv4::new(A.v4(), B.v4(), protocol) }.frame(&payload)
        }
        Family::V6 => {
            let extensions = Vec::from([fragment_header(offset, more, 7)]);
            Ipv6 { extensions, ..Ipv6::new(A.v6(), B.v6(), protocol) }.frame(&payload)
        }
    }
}

/// An IPv6 packet that says it comes from A's IPv4 address; IPv4 packets have no such form.
fn mapped_source() -> TestFrame {
    let packet = Ipv6::new(crate::packet::mapped(A.v4()), B.v6(), TCP).frame(&segment(4000, 80, tcp::SYN));
    assert_eq!(packet.ethertype, ethertype::IPV6);
    packet
}

fn source_routed(family: Family) -> TestFrame {
    let payload = segment(4000, 80, tcp::SYN);
    match family {
        Family::V4 => {
            let options = Vec::from([131, 7, 4, 10, 15, 0, 1]);
            Ipv4 { options, ..Ipv4::new(A.v4(), B.v4(), TCP) }.frame(&payload)
        }
        Family::V6 => {
            let routing =
                (43, Vec::from([2, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]));
            Ipv6 { extensions: Vec::from([routing]), ..Ipv6::new(A.v6(), B.v6(), TCP) }.frame(&payload)
        }
    }
}
