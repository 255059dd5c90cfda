//! Entries: how long they mean something, what they note, and that nothing passes for a reply that is none.

use proptest::prelude::*;
use redirect_abi::{PolicyKey, direction::*, lifetime, lifetime_ns, verdict};
use std::collections::BTreeMap;
use std::vec::Vec;

use super::*;
use crate::model::frames::{TestFrame, tcp as segment_bytes, udp};
use crate::model::world::{FAMILIES, Family, Party, World, any, flow, frame, peer};
use crate::protocol::{DCCP, SCTP, TCP, UDP};
use crate::verdict::{Decision, Pass};
use Party::{A, B};
use tcp::{ACK, FIN, RST, SYN};

const TCP_LIFETIME_NS: u64 = lifetime::TCP_NS;
const CLOSED_LIFETIME_NS: u64 = lifetime::CLOSED_NS;
const DATAGRAM_LIFETIME_NS: u64 = lifetime::DATAGRAM_NS;

#[test]
fn lifetimes() {
    const BY_BOTH: u32 = flow_flags::FIN_SOURCE | flow_flags::FIN_DESTINATION;
    let of = |protocol, flags| lifetime_ns(protocol, flags, [0, 0, 0, 1]);
    assert_eq!(of(UDP, 0), DATAGRAM_LIFETIME_NS);
    assert_eq!(of(UDP, flow_flags::RST), DATAGRAM_LIFETIME_NS);
    assert_eq!(of(TCP, 0), TCP_LIFETIME_NS);
    assert_eq!(of(TCP, flow_flags::FIN_SOURCE), TCP_LIFETIME_NS);
    assert_eq!(of(TCP, flow_flags::FIN_DESTINATION), TCP_LIFETIME_NS);
    assert_eq!(of(TCP, BY_BOTH), CLOSED_LIFETIME_NS);
    assert_eq!(of(TCP, flow_flags::RST), CLOSED_LIFETIME_NS);
    assert_eq!(lifetime_ns(TCP, 0, [0; 4]), lifetime::UNANSWERED_NS);
    assert_eq!(lifetime_ns(TCP, BY_BOTH, [0; 4]), CLOSED_LIFETIME_NS);
}

#[test]
fn a_silent_flow_has_no_replies() {
    let world = one_way();
    let request = frame(Family::V4, A, B, UDP, &udp(4000, 53));
    let reply = frame(Family::V4, B, A, UDP, &udp(53, 4000));
    check(&world, A, &request, Ok(Pass::Checked));
    world.pass_time(DATAGRAM_LIFETIME_NS);
    check(&world, B, &reply, Ok(Pass::Checked));
    world.pass_time(DATAGRAM_LIFETIME_NS + 1);
    check(&world, B, &reply, Err(Reason::Policy));
}

#[test]
fn a_connection_that_ended_soon_has_no_replies() {
    for (from_a, from_b) in [(FIN | ACK, FIN | ACK), (RST, ACK), (ACK, RST)] {
        let world = one_way();
        check(&world, A, &there(SYN), Ok(Pass::Checked));
        check(&world, A, &there(from_a), Ok(Pass::Checked));
        check(&world, B, &back(from_b), Ok(Pass::Checked));
        check(&world, B, &back(ACK), Ok(Pass::Checked));
        world.pass_time(CLOSED_LIFETIME_NS + 1);
        check(&world, B, &back(ACK), Err(Reason::Policy));
    }
}

#[test]
fn a_half_closed_connection_goes_on() {
    let world = one_way();
    check(&world, A, &there(SYN), Ok(Pass::Checked));
    check(&world, A, &there(FIN | ACK), Ok(Pass::Checked));
    world.pass_time(TCP_LIFETIME_NS);
    check(&world, B, &back(ACK), Ok(Pass::Checked));
}

#[test]
fn entries_note_what_resets_are_made_of() {
    let world = one_way();
    check(&world, A, &there(SYN), Ok(Pass::Checked));
    let mut answer = back(SYN | ACK);
    answer.bytes[14 + 20 + 8..][..4].copy_from_slice(&1001_u32.to_be_bytes());
    check(&world, B, &answer, Ok(Pass::Checked));
    check(&world, A, &there(ACK), Ok(Pass::Checked));
    with_entry(&world, |entry| {
        assert_eq!(entry.acked_by_source.load(), 2000_u32.to_be_bytes());
        assert_eq!(entry.acked_by_destination.load(), 1001_u32.to_be_bytes());
        assert_eq!(entry.packets.load(), 3);
        assert_eq!(entry.last_seen_ns.load(), world.model.now_ns.get());
    });
}

#[test]
fn a_syn_starts_the_entry_anew() {
    let world = one_way();
    check(&world, A, &there(SYN), Ok(Pass::Checked));
    check(&world, A, &there(RST), Ok(Pass::Checked));
    check(&world, A, &there(SYN), Ok(Pass::Checked));
    with_entry(&world, |entry| {
        assert_eq!((entry.flags.load(), entry.packets.load()), (flow_flags::OPENED, 1));
    });
}

#[test]
fn a_revoked_connection_is_dead_until_a_new_one() {
    let mut world = one_way();
    check(&world, A, &there(SYN), Ok(Pass::Checked));
    with_entry(&world, |entry| entry.flags.store(flow_flags::REVOKED));
    check(&world, A, &there(ACK), Err(Reason::Revoked));
    check(&world, B, &back(ACK), Err(Reason::Revoked));
    check(&world, A, &there(SYN), Ok(Pass::Checked));
    check(&world, B, &back(SYN | ACK), Ok(Pass::Checked));
    world.policy(B, &[]);
    check(&world, A, &there(ACK), Err(Reason::Revoked));
    check(&world, A, &there(SYN), Err(Reason::Policy));
}

#[test]
fn revoked_datagrams_pass_again_when_policy_allows_them() {
    let mut world = one_way();
    let request = frame(Family::V6, A, B, UDP, &udp(4000, 53));
    let reply = frame(Family::V6, B, A, UDP, &udp(53, 4000));
    check(&world, A, &request, Ok(Pass::Checked));
    world.policy(B, &[]);
    world.next_epoch();
    check(&world, A, &request, Err(Reason::Revoked));
    check(&world, B, &reply, Err(Reason::Revoked));
    allow_one_way(&mut world);
    world.next_epoch();
    check(&world, A, &request, Ok(Pass::Checked));
    check(&world, B, &reply, Ok(Pass::Checked));
}

#[test]
fn datagrams_that_were_cut_pass_again_when_policy_allows_them() {
    let world = one_way();
    let request = frame(Family::V4, A, B, UDP, &udp(4000, 53));
    let reply = frame(Family::V4, B, A, UDP, &udp(53, 4000));
    check(&world, A, &request, Ok(Pass::Checked));
    let key = flow(Family::V4, A, B, UDP, (4000, 53));
    world.model.flow(&key).expect("the flow is tracked").flags.store(flow_flags::REVOKED);
    check(&world, B, &reply, Err(Reason::Revoked));
    check(&world, A, &request, Ok(Pass::Checked));
    check(&world, B, &reply, Ok(Pass::Checked));
}

#[test]
fn a_flow_is_judged_once_under_each_epoch() {
    let request = frame(Family::V4, A, B, UDP, &udp(4000, 53));
    let reply = frame(Family::V4, B, A, UDP, &udp(53, 4000));
    // Whichever end sends first under the new epoch: what it was told holds until the next one.
    for (first, packet) in [(A, &request), (B, &reply)] {
        let mut world = one_way();
        check(&world, A, &request, Ok(Pass::Checked));
        world.next_epoch();
        check(&world, first, packet, Ok(Pass::Checked));
        world.policy(B, &[]);
        check(&world, B, &reply, Ok(Pass::Checked));
        world.next_epoch();
        check(&world, B, &reply, Err(Reason::Revoked));
    }
}

#[test]
fn a_connection_from_before_is_adopted_by_its_openers_packets() {
    for family in FAMILIES {
        let world = one_way();
        let reply = frame(family, B, A, TCP, &segment_bytes(80, 4000, ACK));
        check(&world, B, &reply, Err(Reason::Policy));
        check(&world, A, &frame(family, A, B, TCP, &segment_bytes(4000, 80, ACK)), Ok(Pass::Checked));
        check(&world, B, &reply, Ok(Pass::Checked));
    }
}

#[test]
fn a_connection_from_before_has_no_opener_where_both_ways_are_allowed() {
    let mut world = World::open();
    // Who talks first may well be the server.
    check(&world, B, &back(ACK), Ok(Pass::Checked));
    check(&world, A, &there(ACK), Ok(Pass::Checked));
    assert_eq!(world.model.flow_keys(), []);
    allow_one_way(&mut world);
    world.next_epoch();
    check(&world, B, &back(ACK), Err(Reason::Policy));
    check(&world, A, &there(ACK), Ok(Pass::Checked));
    check(&world, B, &back(ACK), Ok(Pass::Checked));
}

#[test]
fn an_answer_that_nobody_asked_for_opens_nothing() {
    let world = one_way();
    for flags in [SYN | ACK, RST, RST | ACK] {
        check(&world, A, &there(flags), Ok(Pass::Checked));
        check(&world, B, &back(ACK), Err(Reason::Policy));
    }
}

#[test]
fn an_answer_to_a_syn_is_a_reply_only_where_there_was_one() {
    for family in FAMILIES {
        let there = |flags| frame(family, A, B, TCP, &segment_bytes(4000, 80, flags));
        let back = |flags| frame(family, B, A, TCP, &segment_bytes(80, 4000, flags));
        let world = one_way();
        check(&world, A, &there(ACK), Ok(Pass::Checked));
        check(&world, B, &back(SYN | ACK), Err(Reason::Policy));
        check(&world, B, &back(ACK), Ok(Pass::Checked));
        for (from_a, from_b) in [(FIN | ACK, FIN | ACK), (RST, ACK), (ACK, RST)] {
            let world = one_way();
            check(&world, A, &there(SYN), Ok(Pass::Checked));
            check(&world, B, &back(SYN | ACK), Ok(Pass::Checked));
            check(&world, B, &back(SYN | ACK), Ok(Pass::Checked));
            check(&world, A, &there(from_a), Ok(Pass::Checked));
            check(&world, B, &back(from_b), Ok(Pass::Checked));
            check(&world, B, &back(SYN | ACK), Err(Reason::Policy));
            check(&world, A, &there(SYN), Ok(Pass::Checked));
            check(&world, B, &back(SYN | ACK), Ok(Pass::Checked));
        }
    }
}

/// Both ends open at once: the denied one's SYN is dropped, and it goes on as the other's; of two allowed ones either answers.
#[test]
fn two_syns_that_cross() {
    let mut world = one_way();
    check(&world, A, &there(SYN), Ok(Pass::Checked));
    check(&world, B, &back(SYN), Err(Reason::Policy));
    check(&world, B, &back(SYN | ACK), Ok(Pass::Checked));
    check(&world, A, &there(ACK), Ok(Pass::Checked));
    world.policy(B, &[any(INGRESS), any(EGRESS)]);
    check(&world, A, &there(SYN), Ok(Pass::Checked));
    check(&world, B, &back(SYN), Ok(Pass::Checked));
    check(&world, A, &there(SYN | ACK), Ok(Pass::Checked));
    check(&world, B, &back(SYN | ACK), Ok(Pass::Checked));
    check(&world, A, &there(ACK), Ok(Pass::Checked));
}

#[test]
fn an_opening_of_sctp_or_dccp_the_other_way_is_a_new_flow() {
    for family in FAMILIES {
        for (protocol, opening, answer, data) in openings() {
            let world = one_way();
            let there = |bytes: &[u8]| frame(family, A, B, protocol, &with_ports(bytes, 4000, 80));
            let back = |bytes: &[u8]| frame(family, B, A, protocol, &with_ports(bytes, 80, 4000));
            // An answer to nothing.
            check(&world, B, &back(&answer), Err(Reason::Policy));
            check(&world, A, &there(&data), Ok(Pass::Checked));
            check(&world, B, &back(&answer), Err(Reason::Policy));
            check(&world, A, &there(&opening), Ok(Pass::Checked));
            check(&world, B, &back(&answer), Ok(Pass::Checked));
            check(&world, B, &back(&data), Ok(Pass::Checked));
            check(&world, B, &back(&opening), Err(Reason::Policy));
            // ... and the flow that it crossed stands.
            check(&world, B, &back(&data), Ok(Pass::Checked));
        }
    }
}

/// An INIT where it must not be, and one without its chunk in sight.
#[test]
fn an_init_that_is_not_where_it_belongs_opens_too() {
    let chunk = |kind: u8, len: usize| {
        [&[kind, 0, 0, u8::try_from(len).unwrap()][..], &std::vec![0; len - 4]].concat()
    };
    let packet = |tag: u32, chunks: &[Vec<u8>]| {
        let head = [&[0; 4][..], &tag.to_be_bytes(), &[0; 4]].concat();
        [&[head][..], chunks].concat().concat()
    };
    let (init, data, sack) = (chunk(1, 20), chunk(0, 20), chunk(3, 16));
    let world = one_way();
    let send = |from: Party, to, ports: (u16, u16), bytes: &[u8], expect| {
        check(&world, from, &frame(Family::V4, from, to, SCTP, &with_ports(bytes, ports.0, ports.1)), expect);
    };
    send(A, B, (4000, 80), &packet(0, core::slice::from_ref(&init)), Ok(Pass::Checked));
    for chunks in [
        Vec::from([init.clone(), data.clone()]),
        Vec::from([sack.clone(), init.clone()]),
        Vec::from([data.clone(), sack.clone(), data.clone(), init.clone()]),
        // Padded to a word.
        Vec::from([[&chunk(5, 18)[..], &[0; 2]].concat(), init.clone()]),
    ] {
        send(B, A, (80, 4000), &packet(7, &chunks), Err(Reason::Policy));
    }
    for chunks in [Vec::from([data.clone()]), Vec::new()] {
        send(B, A, (80, 4000), &packet(0, &chunks), Err(Reason::Policy));
        send(B, A, (80, 4000), &packet(7, &chunks), Ok(Pass::Checked));
    }
    send(B, A, (80, 4000), &packet(7, &[chunk(0, 4), chunk(0, 4)]), Ok(Pass::Checked));
}

#[test]
fn a_syn_the_other_way_ends_what_it_crosses() {
    let mut world = World::open();
    check(&world, A, &there(SYN), Ok(Pass::Checked));
    // Allowed: B opens on the same ports. What it sends is from now on judged for itself, not as a reply.
    check(&world, B, &back(SYN), Ok(Pass::Checked));
    world.policy(A, &[any(EGRESS)]);
    check(&world, B, &back(ACK), Err(Reason::Revoked));
}

proptest! {
    /// B may say nothing by itself. Whatever is sent, in whatever order: what passes from B answers a flow that A opened,
    /// that policy allows at the time, on the same ports.
    #[test]
    fn nothing_passes_for_a_reply_that_is_none(steps in proptest::collection::vec(step(), 1..60)) {
        let mut world = one_way();
        let mut allowed = true;
        let mut opened: BTreeMap<u16, ()> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Allow(now) => {
                    allowed = now;
                    if now { allow_one_way(&mut world) } else { world.policy(B, &[]) }
                    world.next_epoch();
                }
                Step::FromA(port, flags) => {
                    let sent = frame(Family::V4, A, B, TCP, &segment_bytes(port, 80, flags));
                    let passed = world.between(A, B, &sent).is_ok();
                    prop_assert!(allowed || !passed);
                    if passed {
                        let _: Option<()> = opened.insert(port, ());
                    }
                }
                Step::FromB(port, flags) => {
                    let sent = frame(Family::V4, B, A, TCP, &segment_bytes(80, port, flags));
                    let passed = world.between(B, A, &sent).is_ok();
                    prop_assert!(!passed || allowed && opened.contains_key(&port) && flags & (SYN | ACK) != SYN);
                }
            }
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Allow(bool),
    FromA(u16, u8),
    FromB(u16, u8),
}

fn step() -> impl Strategy<Value = Step> {
    let flags =
        || prop_oneof![Just(SYN), Just(SYN | ACK), Just(ACK), Just(FIN | ACK), Just(RST), any_flags()];
    prop_oneof![
        1 => proptest::bool::ANY.prop_map(Step::Allow),
        4 => (4000_u16..4003, flags()).prop_map(|(port, flags)| Step::FromA(port, flags)),
        4 => (4000_u16..4003, flags()).prop_map(|(port, flags)| Step::FromB(port, flags)),
    ]
}

fn any_flags() -> impl Strategy<Value = u8> {
    proptest::num::u8::ANY
}

/// A may send what it likes to B, B nothing to anybody.
fn one_way() -> World {
    let mut world = World::open();
    allow_one_way(&mut world);
    world
}

fn allow_one_way(world: &mut World) {
    let entries: Vec<(u32, PolicyKey, u8)> = Vec::from([peer(INGRESS, A, verdict::ALLOW)]);
    world.policy(B, &entries);
}

/// A protocol with its opening packet, the answer to it, and another one.
type Opening = (u8, Vec<u8>, Vec<u8>, Vec<u8>);

/// Ports are to be filled in.
fn openings() -> Vec<Opening> {
    let sctp = |tag: u8, chunk: u8| {
        let mut bytes = Vec::from([0; 32]);
        (bytes[7], bytes[12], bytes[15]) = (tag, chunk, 20);
        bytes
    };
    let dccp = |kind: u8| {
        let mut bytes = Vec::from([0; 16]);
        bytes[8] = kind << 1 | 1;
        bytes
    };
    Vec::from([(SCTP, sctp(0, 1), sctp(1, 2), sctp(1, 0)), (DCCP, dccp(0), dccp(1), dccp(4))])
}

fn with_ports(bytes: &[u8], source: u16, destination: u16) -> Vec<u8> {
    let mut bytes = Vec::from(bytes);
    bytes[..2].copy_from_slice(&source.to_be_bytes());
    bytes[2..4].copy_from_slice(&destination.to_be_bytes());
    bytes
}

fn there(flags: u8) -> TestFrame {
    frame(Family::V4, A, B, TCP, &segment_bytes(4000, 80, flags))
}

fn back(flags: u8) -> TestFrame {
    frame(Family::V4, B, A, TCP, &segment_bytes(80, 4000, flags))
}

fn with_entry(world: &World, look: impl Fn(&Tracked)) {
    let key = flow(Family::V4, A, B, TCP, (4000, 80));
    look(world.model.flow(&key).expect("the flow is tracked"));
}

#[track_caller]
fn check(world: &World, from: Party, frame: &TestFrame, expect: Decision) {
    assert_eq!(world.from(from, frame).0, expect);
}
