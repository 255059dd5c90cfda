//! Fragments of pods that would be taken for somebody else's, come in the wrong order, or write over what was judged.

use redirect_abi::{direction::*, verdict::*};
use std::vec::Vec;

use super::*;
use crate::model::frames::{Ipv4, Ipv6, TestFrame, fragment_header, tcp as segment, udp};
use crate::model::world::{FAMILIES, Family, Party, World, any, peer, port};
use crate::packet::tcp;
use crate::protocol::{SCTP, TCP, UDP};
use crate::verdict::{Decision, Pass};
use Party::{A, B, Outside};

const ID: u16 = 7;
/// In units of 8 bytes.
const FAR: u16 = 150;

#[test]
fn what_a_spoofer_sends_is_not_remembered() {
    for family in FAMILIES {
        let world = World::open();
        let stolen = part(family, B, A, UDP, 0, true, &udp(4000, 53));
        check(&world, A, &stolen, Err(Reason::SpoofedSource));
        assert_eq!(world.to(A, Outside, 0, &stolen).0, Err(Reason::SpoofedSource));
        assert!(world.model.fragments.borrow().is_empty());
    }
}

#[test]
fn a_fragment_before_its_first_passes_where_every_port_is_allowed() {
    for family in FAMILIES {
        let mut world = World::open();
        let orphan = |protocol| part(family, A, B, protocol, FAR, false, &[0; 8]);
        let both = |world: &World, protocol, expect| {
            check(world, A, &orphan(protocol), expect);
            assert_eq!(world.to(B, A, 0, &orphan(protocol)).0, expect.map(|_| Pass::Unmarked));
        };
        both(&world, UDP, Ok(Pass::Checked));
        // Somebody else's.
        check(&world, B, &orphan(UDP), Err(Reason::SpoofedSource));
        world.policy(B, &[peer(INGRESS, A, ALLOW)]);
        both(&world, UDP, Ok(Pass::Checked));
        for exception in [DENY, REDIRECT] {
            world.policy(B, &[peer(INGRESS, A, ALLOW), port(INGRESS, A, UDP, 53, exception)]);
            both(&world, UDP, Err(Reason::FragmentOrphan));
            both(&world, TCP, Ok(Pass::Checked));
        }
        for rules in [
            &[][..],
            &[peer(INGRESS, A, REDIRECT)],
            &[port(INGRESS, A, UDP, 53, ALLOW)],
            &[port(INGRESS, A, UDP, 0, ALLOW)],
        ] {
            world.policy(B, rules);
            both(&world, UDP, Err(Reason::FragmentOrphan));
        }
        assert_eq!(world.model.flow_keys(), []);
        // The sender's policy has a say too.
        world.policy(B, &[any(INGRESS)]);
        world.policy(A, &[peer(EGRESS, B, ALLOW), port(EGRESS, B, UDP, 53, DENY)]);
        check(&world, A, &orphan(UDP), Err(Reason::FragmentOrphan));
    }
}

#[test]
fn a_first_fragment_that_is_refused_takes_nobody_s_place() {
    for family in FAMILIES {
        let mut world = World::open();
        world.policy(B, &[port(INGRESS, A, UDP, 53, ALLOW), port(INGRESS, A, UDP, 54, ALLOW)]);
        let first = |port| part(family, A, B, UDP, 0, true, &udp(4000, port));
        let rest = part(family, A, B, UDP, FAR, false, &[0; 8]);
        check(&world, A, &first(53), Ok(Pass::Checked));
        check(&world, A, &first(22), Err(Reason::Policy));
        check(&world, A, &rest, Ok(Pass::Checked));
        // Another datagram under the same number.
        check(&world, A, &first(54), Ok(Pass::Checked));
        world.policy(B, &[port(INGRESS, A, UDP, 53, ALLOW)]);
        check(&world, A, &rest, Err(Reason::Revoked));
    }
}

#[test]
fn a_first_fragment_that_receivers_have_given_up_is_forgotten() {
    for family in FAMILIES {
        let mut world = World::open();
        world.policy(B, &[port(INGRESS, A, UDP, 53, ALLOW)]);
        let rest = part(family, A, B, UDP, FAR, false, &[0; 8]);
        check(&world, A, &part(family, A, B, UDP, 0, true, &udp(4000, 53)), Ok(Pass::Checked));
        world.pass_time(REASSEMBLY_NS);
        check(&world, A, &rest, Ok(Pass::Checked));
        world.pass_time(REASSEMBLY_NS + 1);
        check(&world, A, &rest, Err(Reason::FragmentOrphan));
    }
}

#[test]
fn no_later_fragment_writes_over_a_header() {
    let world = World::open();
    for (protocol, offset) in [(TCP, 1), (TCP, 2), (SCTP, 1)] {
        for family in FAMILIES {
            let overlapping = part(family, A, B, protocol, offset, false, &[0; 8]);
            check(&world, A, &overlapping, Err(Reason::Malformed));
        }
    }
    // IPv6 receivers take the protocol from the first fragment, whatever a later one says.
    check(&world, A, &part(Family::V6, A, B, TCP, 0, true, &segment(4000, 80, tcp::ACK)), Ok(Pass::Checked));
    for offset in 1..=HEADERS_END_MAX / 8 - 1 {
        check(&world, A, &part(Family::V6, A, B, UDP, offset, false, &[0; 8]), Err(Reason::FragmentOrphan));
    }
    check(&world, A, &part(Family::V6, A, B, UDP, HEADERS_END_MAX / 8, false, &[0; 8]), Ok(Pass::Checked));
}

/// Ports that lie behind an extension header, in the part that is fragmented.
#[test]
fn no_later_fragment_writes_over_a_header_behind_an_extension_header() {
    let world = World::open();
    let with_options = |offset, more, payload: &[u8]| {
        let options = (60, Vec::from([0, 1, 4, 0, 0, 0, 0]));
        let mut packet = Ipv6::new(A.v6(), B.v6(), UDP);
        packet.extensions = Vec::from([fragment_header(offset, more, u32::from(ID))]);
        if offset == 0 {
            packet.extensions.push(options);
        } else {
            packet.protocol = 60;
        }
        packet.frame(payload)
    };
    check(&world, A, &with_options(1, false, &[0; 8]), Err(Reason::FragmentOrphan));
    check(&world, A, &with_options(FAR, false, &[0; 8]), Err(Reason::FragmentOrphan));
    check(&world, A, &with_options(0, true, &udp(4000, 53)), Ok(Pass::Checked));
    check(&world, A, &with_options(1, false, &[0; 8]), Err(Reason::Malformed));
    check(&world, A, &with_options(2, false, &[0; 8]), Ok(Pass::Checked));
    // More headers than a fragment that comes first is sure to begin behind.
    let long = (60, [&[63][..], &[0; 64 * 8 - 2]].concat());
    let mut packet = Ipv6::new(A.v6(), B.v6(), UDP);
    packet.extensions = Vec::from([fragment_header(0, true, 9), long]);
    check(&world, A, &packet.frame(&udp(4000, 53)), Err(Reason::ExtensionHeaders));
}

#[test]
fn a_second_fragment_header_is_refused_even_behind_one_that_fragments_nothing() {
    let world = World::open();
    let mut packet = Ipv6::new(A.v6(), B.v6(), UDP);
    packet.extensions = Vec::from([fragment_header(0, false, 1)]);
    check(&world, A, &packet.frame(&udp(4000, 53)), Ok(Pass::Checked));
    assert!(world.model.fragments.borrow().is_empty());
    for (offset, more) in [(0, false), (0, true), (FAR, false)] {
        packet.extensions = Vec::from([fragment_header(0, false, 1), fragment_header(offset, more, 2)]);
        check(&world, A, &packet.frame(&udp(4000, 53)), Err(Reason::ExtensionHeaders));
    }
}

#[test]
fn fragments_of_what_the_proxy_has_are_dropped_whatever_policy_says_now() {
    for family in FAMILIES {
        let mut world = World::open();
        world.policy(B, &[peer(INGRESS, A, REDIRECT)]);
        let whole = |flags| crate::model::world::frame(family, A, B, TCP, &segment(4000, 80, flags));
        check(&world, A, &whole(tcp::SYN), Ok(Pass::ToProxy));
        world.policy(B, &[any(INGRESS)]);
        world.next_epoch();
        check(&world, A, &whole(tcp::ACK), Ok(Pass::ToProxy));
        let first = part(family, A, B, TCP, 0, true, &segment(4000, 80, tcp::ACK));
        check(&world, A, &first, Err(Reason::FragmentRedirected));
    }
}

/// The first fragments of datagrams of one payer, to the bound and beyond, and nobody else's are forgotten for them.
#[test]
fn a_payer_s_datagrams_take_the_place_of_its_own_oldest() {
    let [own, others] = [FRAGMENTED_MAX, FRAGMENTED_OTHER_MAX].map(|max| u16::try_from(max).unwrap());
    for family in FAMILIES {
        let mut world = World::open();
        let first = |from, to, id| part_of(family, id, (from, to), UDP, 0, true, &udp(4000, 53));
        let rest = |from, to, id| part_of(family, id, (from, to), UDP, FAR, false, &[0; 8]);
        world.policy(A, &[port(INGRESS, B, UDP, 53, ALLOW), any(EGRESS)]);
        world.policy(
            B,
            &[port(INGRESS, A, UDP, 53, ALLOW), port(INGRESS, Outside, UDP, 53, ALLOW), any(EGRESS)],
        );
        let from_outside = |frame: &TestFrame| world.to(B, Outside, 0, frame).0;
        (0..own).for_each(|id| check(&world, B, &first(B, A, id), Ok(Pass::Checked)));
        // An outside prefix has an account, and so a queue of its own, once it has a flow.
        let whole = crate::model::world::frame(family, Outside, B, UDP, &udp(4000, 53));
        assert_eq!(from_outside(&whole), Ok(Pass::Unmarked));
        for id in 0..others {
            assert_eq!(from_outside(&first(Outside, B, id)), Ok(Pass::Unmarked));
        }
        (0..own).for_each(|id| check(&world, A, &first(A, B, id), Ok(Pass::Checked)));
        check(&world, A, &rest(A, B, 0), Ok(Pass::Checked));
        (own..10 * own).for_each(|id| check(&world, A, &first(A, B, id), Ok(Pass::Checked)));
        check(&world, A, &rest(A, B, 9 * own - 1), Err(Reason::FragmentOrphan));
        (9 * own..10 * own).for_each(|id| check(&world, A, &rest(A, B, id), Ok(Pass::Checked)));
        (0..own).for_each(|id| check(&world, B, &rest(B, A, id), Ok(Pass::Checked)));
        for id in 0..others {
            assert_eq!(from_outside(&rest(Outside, B, id)), Ok(Pass::Unmarked));
        }
        assert_eq!(from_outside(&first(Outside, B, others)), Ok(Pass::Unmarked));
        assert_eq!(from_outside(&rest(Outside, B, 0)), Err(Reason::FragmentOrphan));
        assert_eq!(from_outside(&rest(Outside, B, 1)), Ok(Pass::Unmarked));
        assert_eq!(world.model.fragments.borrow().len(), usize::from(2 * own + others));
    }
}

/// A first fragment that policy refuses has its place too, of its sender's: policy is asked after.
#[test]
fn refused_first_fragments_of_outsiders_share_one_queue() {
    for family in FAMILIES {
        let mut world = World::open();
        world.policy(B, &[port(INGRESS, A, UDP, 53, ALLOW), any(EGRESS)]);
        for id in 0..1000 {
            let first = part_of(family, id, (Outside, B), UDP, 0, true, &udp(4000, 53));
            assert_eq!(world.to(B, Outside, 0, &first).0, Err(Reason::Policy));
        }
        assert_eq!(world.model.fragments.borrow().len(), usize::try_from(FRAGMENTED_OTHER_MAX).unwrap());
    }
}

fn part(
    family: Family,
    from: Party,
    to: Party,
    protocol: u8,
    offset: u16,
    more: bool,
    payload: &[u8],
) -> TestFrame {
    part_of(family, ID, (from, to), protocol, offset, more, payload)
}

/// Of the datagram of this number.
fn part_of(
    family: Family,
    id: u16,
    (from, to): (Party, Party),
    protocol: u8,
    offset: u16,
    more: bool,
    payload: &[u8],
) -> TestFrame {
    match family {
        Family::V4 => {
            let fragment = offset | if more { 0x2000 } else { 0 };
            Ipv4 { fragment, id, ..Ipv4::new(from.v4(), to.v4(), protocol) }.frame(payload)
        }
        Family::V6 => {
            let extensions = Vec::from([fragment_header(offset, more, u32::from(id))]);
            Ipv6 { extensions, ..Ipv6::new(from.v6(), to.v6(), protocol) }.frame(payload)
        }
    }
}

#[track_caller]
fn check(world: &World, from: Party, frame: &TestFrame, expect: Decision) {
    assert_eq!(world.from(from, frame).0, expect);
}
