//! What may reach an endpoint, from whom, under which mark.

use redirect_abi::{FlowKey, PolicyKey, direction::*, mark::*, verdict};

use super::*;
use crate::model::frames::{Ipv4, Ipv6, TestFrame, ethernet, icmp, icmp_error, tcp, udp};
use crate::model::world::{FAMILIES, Family, Party, World, any, flow, frame, peer};
use crate::packet::{ethertype, tcp as flag};
use crate::protocol::{ICMP, ICMPV6, TCP, UDP};
use Party::{A, B, Host, Outside};

const SYN: u8 = flag::SYN;
const ACK: u8 = flag::ACK;
const PASS: Decision = Ok(Pass::Unmarked);
const DENIED: Decision = Err(Reason::Policy);

#[test]
fn ingress_policy_of_the_endpoint() {
    for family in FAMILIES {
        let world = ingress_of_b(&[peer(INGRESS, Outside, verdict::ALLOW)]);
        check(&world, Outside, 0, &syn(family, Outside, B), PASS);
        check(&world, Host, 0, &syn(family, Host, B), DENIED);
        let world = ingress_of_b(&[peer(INGRESS, Host, verdict::ALLOW)]);
        check(&world, Outside, 0, &syn(family, Outside, B), DENIED);
        check(&world, Host, 0, &syn(family, Host, B), PASS);
    }
}

#[test]
fn the_nodes_address_from_elsewhere_is_nobodys() {
    for family in FAMILIES {
        let world = ingress_of_b(&[peer(INGRESS, Host, verdict::ALLOW)]);
        check(&world, Outside, 0, &syn(family, Host, B), DENIED);
        let report = world.to(B, Outside, 0, &syn(family, Host, B)).1;
        assert_eq!(report.source_identity, redirect_abi::identity::UNKNOWN);
    }
}

#[test]
fn an_endpoints_address_from_elsewhere() {
    for family in FAMILIES {
        let world = World::open();
        check(&world, Outside, 0, &syn(family, A, B), Err(Reason::SpoofedSource));
        // Sent elsewhere, and brought here by a change of its destination.
        check(&world, A, 0, &syn(family, A, B), PASS);
    }
}

#[test]
fn checked_for_this_endpoint() {
    let world = ingress_of_b(&[]);
    let checked_for = |id: u32| CHECKED | id << CHECKED_FOR_SHIFT;
    check(&world, A, checked_for(B.id()), &syn(Family::V4, A, B), PASS);
    check(&world, A, checked_for(A.id()), &syn(Family::V4, A, B), DENIED);
    check(&world, A, CHECKED, &syn(Family::V4, A, B), DENIED);
}

#[test]
fn other_bits_of_a_mark_are_others_affair() {
    let mark = CHECKED | B.id() << CHECKED_FOR_SHIFT | 0x4000;
    check(&ingress_of_b(&[]), A, mark, &syn(Family::V4, A, B), PASS);
}

#[test]
fn marks_that_let_nothing_pass() {
    for mark in [0, TO_PROXY, 0x0100, 0x0800, 0x0f00, 0xffff_0000] {
        check(&ingress_of_b(&[]), Host, mark, &syn(Family::V4, Host, B), DENIED);
    }
}

#[test]
fn what_is_marked_for_the_proxy_reaches_nobody_else() {
    for family in FAMILIES {
        check(&World::open(), A, TO_PROXY, &syn(family, A, B), Err(Reason::NoListener));
    }
}

#[test]
fn the_proxys_packets() {
    for family in FAMILIES {
        let world = ingress_of_b(&[]);
        check(&world, Host, PROXY_DOWNSTREAM, &segment(family, A, B, ACK), PASS);
        check(&world, Host, PROXY_UPSTREAM, &syn(family, A, B), PASS);
        let key = FlowKey { kind: kind::PROXY_UPSTREAM, ..flow(family, A, B, TCP, (4000, 80)) };
        assert_eq!(world.model.flow_keys(), [key]);
        check(&world, Host, PROXY_UPSTREAM, &segment(family, A, B, ACK), PASS);
        assert_eq!(world.model.flow(&key).map(|flow| flow.packets.load()), Some(2));
    }
}

#[test]
fn the_proxys_marks_on_forwarded_packets() {
    for mark in [PROXY_DOWNSTREAM, PROXY_UPSTREAM] {
        let world = ingress_of_b(&[]);
        check(&world, Outside, mark, &syn(Family::V4, Outside, B), DENIED);
        assert_eq!(world.model.flow_keys(), []);
    }
}

#[test]
fn replies_to_what_the_endpoint_began() {
    for family in FAMILIES {
        let world = ingress_of_b(&[any(EGRESS)]);
        assert_eq!(world.from(B, &syn(family, B, Outside)).0, PASS);
        let reply = frame(family, Outside, B, TCP, &tcp(80, 4000, SYN | ACK));
        check(&world, Outside, 0, &reply, PASS);
        check(&world, Outside, 0, &frame(family, Outside, B, TCP, &tcp(80, 4001, SYN | ACK)), DENIED);
        check(&world, Outside, 0, &frame(family, Outside, B, TCP, &tcp(80, 4000, SYN)), DENIED);
    }
}

#[test]
fn what_is_for_another_address_is_no_reply() {
    for family in FAMILIES {
        let mut world = World::open();
        let question = frame(family, Outside, Host, UDP, &udp(7, 8));
        check(&world, Outside, 0, &question, PASS);
        world.policy(B, &[]);
        world.next_epoch();
        check(&world, Host, 0, &frame(family, Host, Outside, UDP, &udp(8, 7)), DENIED);
    }
}

#[test]
fn replies_of_a_flow_that_policy_no_longer_allows() {
    for family in FAMILIES {
        let mut world = ingress_of_b(&[any(EGRESS)]);
        let request = frame(family, B, Outside, UDP, &udp(4000, 53));
        let reply = frame(family, Outside, B, UDP, &udp(53, 4000));
        assert_eq!(world.from(B, &request).0, PASS);
        check(&world, Outside, 0, &reply, PASS);
        world.policy(B, &[]);
        // Not told yet: what is judged under one epoch stands until the next.
        check(&world, Outside, 0, &reply, PASS);
        world.next_epoch();
        check(&world, Outside, 0, &reply, Err(Reason::Revoked));
        world.policy(B, &[any(EGRESS)]);
        check(&world, Outside, 0, &reply, PASS);
    }
}

#[test]
fn the_nodes_address_from_elsewhere_is_nobodys_under_the_next_policy_too() {
    for family in FAMILIES {
        let mut world = World::open();
        let reply = frame(family, B, Host, TCP, &tcp(80, 4000, SYN | ACK));
        for (sender, expect) in [(Outside, Err(Reason::Revoked)), (Host, PASS)] {
            world.policy(B, &[any(INGRESS), any(EGRESS)]);
            check(&world, sender, 0, &syn(family, Host, B), PASS);
            world.policy(B, &[peer(INGRESS, Host, verdict::ALLOW)]);
            world.next_epoch();
            assert_eq!(world.from(B, &reply).0, expect, "{sender:?}");
        }
    }
}

#[test]
fn replies_to_what_was_judged_here_only_do_not_ask_the_senders_policy() {
    for family in FAMILIES {
        let mut world = ingress_of_b(&[peer(INGRESS, A, verdict::ALLOW)]);
        world.policy(A, &[]);
        // Brought here by a change of its destination: A may have been allowed to send it there.
        check(&world, A, 0, &syn(family, A, B), PASS);
        world.next_epoch();
        let reply = frame(family, B, A, TCP, &tcp(80, 4000, SYN | ACK));
        assert_eq!(world.from(B, &reply).0, Ok(Pass::Checked));
    }
}

#[test]
fn inspection_of_what_comes_from_elsewhere() {
    let world = ingress_of_b(&[peer(INGRESS, Outside, verdict::REDIRECT)]);
    check(&world, Outside, 0, &syn(Family::V4, Outside, B), Err(Reason::NotRedirectable));
}

#[test]
fn the_link_needs_no_policy() {
    let world = ingress_of_b(&[]);
    check(&world, Host, 0, &TestFrame { ethertype: ethertype::ARP, bytes: ethernet(ethertype::ARP) }, PASS);
    for message in 133..=137 {
        check_link(&world, 255, message, PASS);
        // It was forwarded.
        check_link(&world, 254, message, DENIED);
    }
    for message in [130, 131, 132, 143] {
        check_link(&world, 1, message, PASS);
        check_link(&world, 64, message, DENIED);
        // Not from the link.
        let packet = Ipv6 { hop_limit: 1, ..Ipv6::new(Outside.v6(), B.v6(), ICMPV6) };
        check(&world, Outside, 0, &packet.frame(&icmp(message, 0)), DENIED);
    }
}

#[test]
fn errors_of_routers_about_a_flow() {
    for family in FAMILIES {
        let world = ingress_of_b(&[any(EGRESS)]);
        let request = frame(family, B, Outside, UDP, &udp(4000, 53));
        assert_eq!(world.from(B, &request).0, PASS);
        // Too big, from the other end and from a router on the way.
        check(&world, Outside, 0, &too_big(family, Outside, &request), PASS);
        check(&world, Host, 0, &too_big(family, Host, &request), PASS);
        let other = frame(family, B, Outside, UDP, &udp(4001, 53));
        check(&world, Outside, 0, &too_big(family, Outside, &other), DENIED);
    }
}

#[test]
fn errors_about_replies_of_the_endpoint() {
    for family in FAMILIES {
        let world = ingress_of_b(&[peer(INGRESS, Outside, verdict::ALLOW), any(EGRESS)]);
        check(&world, Outside, 0, &syn(family, Outside, B), PASS);
        let reply = frame(family, B, Outside, TCP, &tcp(80, 4000, ACK));
        check(&world, Host, 0, &too_big(family, Host, &reply), PASS);
    }
}

#[test]
fn an_interface_of_nobody() {
    let world = World::open();
    let decision = world.to(Outside, Host, PROXY_DOWNSTREAM, &syn(Family::V4, A, B)).0;
    assert_eq!(decision, Err(Reason::NoEndpoint));
}

fn ingress_of_b(entries: &[(u32, PolicyKey, u8)]) -> World {
    let mut world = World::open();
    world.policy(B, entries);
    world
}

fn syn(family: Family, from: Party, to: Party) -> TestFrame {
    segment(family, from, to, SYN)
}

fn segment(family: Family, from: Party, to: Party, flags: u8) -> TestFrame {
    frame(family, from, to, TCP, &tcp(4000, 80, flags))
}

fn too_big(family: Family, from: Party, quoted: &TestFrame) -> TestFrame {
    match family {
        Family::V4 => Ipv4::new(from.v4(), B.v4(), ICMP).frame(&icmp_error(3, quoted)),
        Family::V6 => Ipv6::new(from.v6(), B.v6(), ICMPV6).frame(&icmp_error(2, quoted)),
    }
}

#[track_caller]
fn check(world: &World, sender: Party, mark: u32, frame: &TestFrame, expect: Decision) {
    assert_eq!(world.to(B, sender, mark, frame).0, expect);
}

#[track_caller]
fn check_link(world: &World, hop_limit: u8, message: u8, expect: Decision) {
    let mut source = [0; 16];
    source[..2].copy_from_slice(&[0xfe, 0x80]);
    let packet = Ipv6 { hop_limit, ..Ipv6::new(source, B.v6(), ICMPV6) };
    check(world, Host, 0, &packet.frame(&icmp(message, 0)), expect);
}
