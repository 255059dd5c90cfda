//! What an endpoint may send, and every reason why it may not.

use redirect_abi::{FlowKey, direction::*, flow_flags, verdict};
use std::vec::Vec;

use super::*;
use crate::model::frames::{
    Ipv4, Ipv6, STATION, TestFrame, arp, discovery, fragment_header, icmp, icmp_error, icmp_protocol, tcp,
    udp,
};
use crate::model::world::{FAMILIES, Family, Party, World, any, flow, frame, peer, port};
use crate::packet::{ethertype, mapped, tcp as flag};
use crate::protocol;
use crate::protocol::{ICMPV6, TCP, UDP};
use crate::verdict::Opened;
use Party::{A, B, Host, Outside};

const SYN: u8 = flag::SYN;
const ACK: u8 = flag::ACK;
const SYN_ACK: u8 = flag::SYN | flag::ACK;

#[test]
fn open_policy_lets_everybody_talk() {
    for family in FAMILIES {
        let world = World::open();
        check(&world, A, &syn(family, A, B), Ok(Pass::Checked));
        check(&world, A, &syn(family, A, Outside), Ok(Pass::Unmarked));
        check(&world, A, &syn(family, A, Host), Ok(Pass::Unmarked));
    }
}

#[test]
fn a_checked_packet_names_the_endpoint_that_it_was_checked_for() {
    assert_eq!(World::open().from(A, &syn(Family::V4, A, B)).1.destination, B.id());
}

#[test]
fn ingress_policy_of_a_local_destination() {
    for family in FAMILIES {
        let world = ingress_of_b(&[port(INGRESS, A, TCP, 80, verdict::ALLOW)]);
        check(&world, A, &syn(family, A, B), Ok(Pass::Checked));
        check(&world, A, &segment(family, A, B, (4000, 81), SYN), Err(Reason::Policy));
        check(&world, A, &datagram(family, A, B), Err(Reason::Policy));
    }
}

#[test]
fn egress_policy_of_the_source() {
    for family in FAMILIES {
        let world = egress_of_a(&[port(EGRESS, Outside, TCP, 80, verdict::ALLOW)]);
        check(&world, A, &syn(family, A, Outside), Ok(Pass::Unmarked));
        check(&world, A, &syn(family, A, B), Err(Reason::Policy));
        check(&world, A, &syn(family, A, Host), Err(Reason::Policy));
    }
}

#[test]
fn both_ends_have_to_allow() {
    for (egress, ingress, expect) in [
        (verdict::ALLOW, verdict::ALLOW, Ok(Pass::Checked)),
        (verdict::ALLOW, verdict::DENY, Err(Reason::Policy)),
        (verdict::DENY, verdict::ALLOW, Err(Reason::Policy)),
        (verdict::REDIRECT, verdict::DENY, Err(Reason::Policy)),
        (verdict::DENY, verdict::REDIRECT, Err(Reason::Policy)),
        (verdict::REDIRECT, verdict::ALLOW, Ok(Pass::ToProxy)),
        (verdict::ALLOW, verdict::REDIRECT, Ok(Pass::ToProxy)),
        (verdict::REDIRECT, verdict::REDIRECT, Ok(Pass::ToProxy)),
    ] {
        let mut world = World::open();
        world.policy(A, &[peer(EGRESS, B, egress)]);
        world.policy(B, &[peer(INGRESS, A, ingress)]);
        check(&world, A, &syn(Family::V4, A, B), expect);
    }
}

#[test]
fn a_verdict_that_nobody_defined_denies() {
    check(&ingress_of_b(&[peer(INGRESS, A, 77)]), A, &syn(Family::V4, A, B), Err(Reason::Policy));
    check(&ingress_of_b(&[peer(INGRESS, A, 0)]), A, &syn(Family::V4, A, B), Err(Reason::Policy));
}

#[test]
fn the_report_names_who_decided() {
    let world = ingress_of_b(&[]);
    let report = world.from(A, &syn(Family::V6, A, B)).1;
    assert_eq!((report.endpoint, report.direction), (B.id(), INGRESS));
    assert_eq!((report.source_identity, report.destination_identity), (100, 200));
    let world = egress_of_a(&[]);
    let report = world.from(A, &syn(Family::V6, A, Outside)).1;
    assert_eq!((report.endpoint, report.direction), (A.id(), EGRESS));
    assert_eq!((report.source_identity, report.destination_identity), (100, 2));
}

#[test]
fn an_address_without_a_prefix_is_nobody() {
    let mut world = egress_of_a(&[peer(EGRESS, Outside, verdict::ALLOW)]);
    world.model.ipcache.clear();
    check(&world, A, &syn(Family::V4, A, Outside), Err(Reason::Policy));
}

#[test]
fn the_prefix_of_one_family_says_nothing_of_the_other() {
    let mut world = egress_of_a(&[peer(EGRESS, Outside, verdict::ALLOW)]);
    world.model.ipcache.clear();
    world.model.add_identity(0, [0; 16], Outside.identity());
    check(&world, A, &syn(Family::V6, A, Outside), Ok(Pass::Unmarked));
    check(&world, A, &syn(Family::V4, A, Outside), Err(Reason::Policy));
}

#[test]
fn an_endpoint_without_a_policy_map() {
    for end in [A, B] {
        let mut world = World::open();
        check(&world, A, &syn(Family::V4, A, B), Ok(Pass::Checked));
        assert!(world.model.policies.remove(&end.id()).is_some());
        check(&world, A, &syn(Family::V4, A, B), Err(Reason::NoPolicyMap));
        check(&world, A, &segment(Family::V4, A, B, (4000, 80), ACK), Err(Reason::NoPolicyMap));
    }
}

#[test]
fn an_interface_of_nobody() {
    check(&World::open(), Outside, &syn(Family::V4, A, B), Err(Reason::NoEndpoint));
}

#[test]
fn somebody_elses_address() {
    for family in FAMILIES {
        for source in [B, Host, Outside] {
            check(&World::open(), A, &syn(family, source, B), Err(Reason::SpoofedSource));
        }
    }
    let link_local = Ipv6::new(fe80(1), B.v6(), TCP).frame(&tcp(1, 2, SYN));
    check(&World::open(), A, &link_local, Err(Reason::SpoofedSource));
    let unspecified = Ipv6::new([0; 16], B.v6(), UDP).frame(&udp(1, 2));
    check(&World::open(), A, &unspecified, Err(Reason::SpoofedSource));
}

#[test]
fn a_family_that_the_endpoint_does_not_have() {
    let mut world = World::open();
    for endpoint in world.model.endpoints.values_mut() {
        endpoint.families = 1;
        endpoint.v6 = [0; 16];
    }
    check(&world, A, &syn(Family::V4, A, B), Ok(Pass::Checked));
    check(&world, A, &syn(Family::V6, A, B), Err(Reason::SpoofedSource));
    let unspecified = Ipv6::new([0; 16], B.v6(), UDP).frame(&udp(1, 2));
    check(&world, A, &unspecified, Err(Reason::SpoofedSource));
    for endpoint in world.model.endpoints.values_mut() {
        endpoint.families = 2;
    }
    check(&world, A, &syn(Family::V4, A, B), Err(Reason::SpoofedSource));
}

#[test]
fn frames_that_are_refused_before_policy() {
    let world = World::open();
    let arrived = |ethertype| TestFrame { ethertype, bytes: Vec::new() };
    check(&world, A, &arrived(0x88cc), Err(Reason::UnknownL3));
    check(&world, A, &arrived(ethertype::IPV4), Err(Reason::Malformed));
    let mapped_source = Ipv6::new(mapped(A.v4()), B.v6(), TCP).frame(&tcp(1, 2, SYN));
    check(&world, A, &mapped_source, Err(Reason::MappedAddress));
    let source_route = Ipv4 { options: Vec::from([131, 3, 4]), ..Ipv4::new(A.v4(), B.v4(), TCP) };
    check(&world, A, &source_route.frame(&tcp(1, 2, SYN)), Err(Reason::ExtensionHeaders));
}

#[test]
fn the_link_needs_no_policy() {
    let world = egress_of_a(&[]);
    check(&world, A, &arp(1, STATION, A.v4(), Host.v4()), Ok(Pass::Unmarked));
    // Solicitations and advertisements of neighbours and for routers, under the addresses that a host has.
    for message in [133, 135, 136] {
        for source in [A.v6(), fe80(7)] {
            check_link(&world, source, fe80(1), 255, message, Ok(Pass::Unmarked));
            check_link(&world, source, multicast(), 255, message, Ok(Pass::Unmarked));
        }
    }
    for message in [133, 135] {
        check_link(&world, [0; 16], multicast(), 255, message, Ok(Pass::Unmarked));
    }
    for message in [131, 132, 143] {
        for source in [A.v6(), fe80(7), [0; 16]] {
            check_link(&world, source, multicast(), 1, message, Ok(Pass::Unmarked));
        }
    }
}

#[test]
fn what_only_looks_like_the_link() {
    let world = egress_of_a(&[]);
    // It would be forwarded, or was.
    check_link(&world, A.v6(), B.v6(), 255, 136, Err(Reason::Policy));
    check_link(&world, A.v6(), fe80(1), 254, 136, Err(Reason::FalseNeighbour));
    check_link(&world, A.v6(), multicast(), 64, 143, Err(Reason::Policy));
    // Only routers say these.
    for message in [134, 137] {
        for source in [A.v6(), fe80(7)] {
            check_link(&world, source, multicast(), 255, message, Err(Reason::FalseNeighbour));
        }
    }
    check_link(&world, A.v6(), multicast(), 1, 130, Err(Reason::Policy));
    check_link(&world, fe80(7), multicast(), 1, 130, Err(Reason::SpoofedSource));
    check_link(&world, B.v6(), fe80(1), 255, 136, Err(Reason::SpoofedSource));
}

#[test]
fn icmp_is_judged_by_its_type() {
    for family in FAMILIES {
        let request = echo(family, A, B, 77);
        let kind = if family == Family::V4 { 8 } else { 128 };
        let protocol = icmp_protocol(request.ethertype);
        let world = ingress_of_b(&[port(INGRESS, A, protocol, kind, verdict::ALLOW)]);
        check(&world, A, &request, Ok(Pass::Checked));
        check(&world, B, &echo_reply(family, B, A, 77), Ok(Pass::Checked));
        let world = ingress_of_b(&[port(INGRESS, A, protocol, 5, verdict::ALLOW)]);
        check(&world, A, &request, Err(Reason::Policy));
    }
}

#[test]
fn replies_pass_in_spite_of_policy() {
    for family in FAMILIES {
        let mut world = ingress_of_b(&[peer(INGRESS, A, verdict::ALLOW)]);
        world.policy(A, &[any(EGRESS)]);
        check(&world, A, &syn(family, A, B), Ok(Pass::Checked));
        check(&world, B, &segment(family, B, A, (80, 4000), SYN_ACK), Ok(Pass::Checked));
        check(&world, A, &datagram(family, A, B), Ok(Pass::Checked));
        check(&world, B, &frame(family, B, A, UDP, &udp(53, 4000)), Ok(Pass::Checked));
        check(&world, A, &echo(family, A, B, 77), Ok(Pass::Checked));
        check(&world, B, &echo_reply(family, B, A, 77), Ok(Pass::Checked));
        // Of nothing that was asked.
        check(&world, B, &segment(family, B, A, (80, 4001), SYN_ACK), Err(Reason::Policy));
        check(&world, B, &frame(family, B, A, UDP, &udp(53, 4001)), Err(Reason::Policy));
        check(&world, B, &echo_reply(family, B, A, 78), Err(Reason::Policy));
        check(&world, B, &echo(family, B, A, 77), Err(Reason::Policy));
        check(&world, B, &segment(family, B, A, (80, 4000), SYN), Err(Reason::Policy));
    }
}

#[test]
fn first_packets_are_told() {
    let world = World::open();
    let opened = |frame: &TestFrame| world.from(A, frame).1.opened;
    assert_eq!(opened(&syn(Family::V4, A, B)), Opened::Direct);
    assert_eq!(opened(&segment(Family::V4, A, B, (4000, 80), ACK)), Opened::Nothing);
    assert_eq!(opened(&datagram(Family::V4, A, B)), Opened::Direct);
    assert_eq!(opened(&datagram(Family::V4, A, B)), Opened::Nothing);
}

#[test]
fn a_redirected_connection_goes_to_the_proxy_and_stays() {
    for family in FAMILIES {
        let mut world = redirecting();
        check(&world, A, &syn(family, A, B), Ok(Pass::ToProxy));
        let key = redirect::downstream(&flow(family, A, B, TCP, (4000, 80)));
        assert_eq!(world.model.flow_keys(), [key], "so that the listener is found");
        let data = segment(family, A, B, (4000, 80), ACK);
        check(&world, A, &data, Ok(Pass::ToProxy));
        world.policy(B, &[any(INGRESS)]);
        world.next_epoch();
        check(&world, A, &data, Ok(Pass::ToProxy));
        world.policy(B, &[]);
        check(&world, A, &data, Err(Reason::Policy));
    }
}

#[test]
fn a_new_connection_on_the_ports_of_a_proxied_one() {
    let mut world = redirecting();
    check(&world, A, &syn(Family::V4, A, B), Ok(Pass::ToProxy));
    world.policy(B, &[any(INGRESS), any(EGRESS)]);
    check(&world, A, &syn(Family::V4, A, B), Ok(Pass::Checked));
    check(&world, A, &segment(Family::V4, A, B, (4000, 80), ACK), Ok(Pass::Checked));
}

#[test]
fn a_proxied_connection_on_the_ports_of_a_direct_one() {
    for family in FAMILIES {
        let mut world = World::open();
        check(&world, A, &syn(family, A, B), Ok(Pass::Checked));
        world.policy(B, &[peer(INGRESS, A, verdict::REDIRECT)]);
        check(&world, A, &syn(family, A, B), Ok(Pass::ToProxy));
        let key = redirect::downstream(&flow(family, A, B, TCP, (4000, 80)));
        assert_eq!(world.model.flow_keys(), [key]);
    }
}

#[test]
fn no_listener_no_connection() {
    let mut world = redirecting();
    world.model.listeners = [true, false];
    check(&world, A, &syn(Family::V4, A, B), Ok(Pass::ToProxy));
    check(&world, A, &syn(Family::V6, A, B), Err(Reason::NoListener));
    assert_eq!(world.model.flow_keys().len(), 1);
}

#[test]
fn only_tcp_can_be_redirected() {
    let world = redirecting();
    check(&world, A, &datagram(Family::V4, A, B), Err(Reason::NotRedirectable));
    check(&world, A, &echo(Family::V6, A, B, 1), Err(Reason::NotRedirectable));
}

#[test]
fn fragments_cannot_be_redirected() {
    let world = redirecting();
    let first = Ipv4 { fragment: 0x2000, ..Ipv4::new(A.v4(), B.v4(), TCP) };
    check(&world, A, &first.frame(&tcp(4000, 80, SYN)), Err(Reason::FragmentRedirected));
    let mut six = Ipv6::new(A.v6(), B.v6(), TCP);
    six.extensions = Vec::from([fragment_header(0, true, 1)]);
    check(&world, A, &six.frame(&tcp(4000, 80, SYN)), Err(Reason::FragmentRedirected));
}

#[test]
fn a_direct_connection_that_needs_inspection_now() {
    for family in FAMILIES {
        let mut world = World::open();
        check(&world, A, &syn(family, A, B), Ok(Pass::Checked));
        check(&world, B, &segment(family, B, A, (80, 4000), SYN_ACK), Ok(Pass::Checked));
        world.policy(B, &[peer(INGRESS, A, verdict::REDIRECT), any(EGRESS)]);
        check(&world, A, &segment(family, A, B, (4000, 80), ACK), Err(Reason::RedirectRequired));
        world.next_epoch();
        check(&world, B, &segment(family, B, A, (80, 4000), ACK), Err(Reason::RedirectRequired));
    }
}

/// What the sender says of the other end resets nobody: else it could choose what the node sends.
#[test]
fn an_unknown_connection_that_needs_inspection_is_kept_for_the_resets_of_who_has_spoken() {
    for family in FAMILIES {
        let world = redirecting();
        let acked = || {
            let entry = world.model.flow(&flow(family, A, B, TCP, (4000, 80))).expect("the flow is tracked");
            assert_eq!(entry.flags.load(), flow_flags::REVOKED);
            (entry.acked_by_source.load(), entry.acked_by_destination.load())
        };
        check(&world, A, &segment(family, A, B, (4000, 80), ACK), Err(Reason::RedirectRequired));
        assert_eq!(acked(), (2000_u32.to_be_bytes(), [0; 4]));
        check(&world, B, &segment(family, B, A, (80, 4000), ACK), Err(Reason::Revoked));
        assert_eq!(acked(), (2000_u32.to_be_bytes(), 2000_u32.to_be_bytes()));
    }
}

#[test]
fn a_syn_acknowledges_nothing_that_a_reset_could_be_made_of() {
    let world = World::open();
    check(&world, A, &syn(Family::V4, A, Outside), Ok(Pass::Unmarked));
    let entry =
        world.model.flow(&flow(Family::V4, A, Outside, TCP, (4000, 80))).expect("the flow is tracked");
    assert_eq!((entry.acked_by_source.load(), entry.acked_by_destination.load()), ([0; 4], [0; 4]));
}

#[test]
fn an_unknown_connection_that_ends_needs_no_resets() {
    let world = redirecting();
    let end = segment(Family::V4, A, B, (4000, 80), flag::RST | ACK);
    check(&world, A, &end, Err(Reason::RedirectRequired));
    assert_eq!(world.model.flow_keys(), []);
}

#[test]
fn replies_to_the_proxy_go_to_the_proxy() {
    for family in FAMILIES {
        let mut world = World::open();
        dial_as_proxy(&world, family);
        let reply = segment(family, B, A, (80, 4000), SYN_ACK);
        check(&world, B, &reply, Ok(Pass::ToProxy));
        world.policy(B, &[]);
        world.next_epoch();
        check(&world, B, &reply, Ok(Pass::ToProxy));
    }
}

#[test]
fn a_direct_connection_on_the_ports_of_the_proxys() {
    let world = World::open();
    dial_as_proxy(&world, Family::V4);
    check(&world, A, &syn(Family::V4, A, B), Ok(Pass::Checked));
    check(&world, B, &segment(Family::V4, B, A, (80, 4000), SYN_ACK), Ok(Pass::Checked));
}

#[test]
fn fragmented_replies_to_the_proxy() {
    let world = World::open();
    dial_as_proxy(&world, Family::V4);
    let first = Ipv4 { fragment: 0x2000, ..Ipv4::new(B.v4(), A.v4(), TCP) };
    check(&world, B, &first.frame(&tcp(80, 4000, ACK)), Err(Reason::FragmentRedirected));
}

#[test]
fn later_fragments_share_the_fate_of_the_first() {
    let world = ingress_of_b(&[port(INGRESS, A, UDP, 53, verdict::ALLOW)]);
    let part = |fragment, id| Ipv4 { fragment, id, ..Ipv4::new(A.v4(), B.v4(), UDP) };
    check(&world, A, &part(2, 1).frame(&[0; 8]), Err(Reason::FragmentOrphan));
    check(&world, A, &part(0x2000, 1).frame(&udp(4000, 53)), Ok(Pass::Checked));
    check(&world, A, &part(2, 1).frame(&[0; 8]), Ok(Pass::Checked));
    check(&world, A, &part(0x2000, 2).frame(&udp(4000, 54)), Err(Reason::Policy));
    check(&world, A, &part(2, 2).frame(&[0; 8]), Err(Reason::Policy));
    check(&world, A, &part(2, 3).frame(&[0; 8]), Err(Reason::FragmentOrphan));
    let of_another_protocol = Ipv4 { protocol: protocol::SCTP, ..part(2, 1) };
    check(&world, A, &of_another_protocol.frame(&[0; 8]), Err(Reason::FragmentOrphan));
}

#[test]
fn later_fragments_behind_an_extension_header() {
    let world = ingress_of_b(&[port(INGRESS, A, UDP, 53, verdict::ALLOW)]);
    let options = (60, Vec::from([0, 1, 4, 0, 0, 0, 0]));
    let part = |offset, more, payload: &[u8]| {
        let mut packet = Ipv6::new(A.v6(), B.v6(), UDP);
        packet.extensions = Vec::from([fragment_header(offset, more, 5), options.clone()]);
        packet.frame(payload)
    };
    check(&world, A, &part(0, true, &udp(4000, 53)), Ok(Pass::Checked));
    check(&world, A, &part(2, false, &[0; 8]), Ok(Pass::Checked));
}

#[test]
fn full_maps_let_nothing_new_through() {
    let mut world = redirecting();
    world.policy(
        B,
        &[port(INGRESS, A, TCP, 80, verdict::REDIRECT), port(INGRESS, A, UDP, 53, verdict::ALLOW)],
    );
    world.model.full = true;
    check(&world, A, &syn(Family::V4, A, B), Err(Reason::MapFull));
    check(&world, A, &datagram(Family::V4, A, B), Err(Reason::MapFull));
    let first = Ipv4 { fragment: 0x2000, ..Ipv4::new(A.v4(), B.v4(), UDP) };
    check(&world, A, &first.frame(&udp(4000, 53)), Err(Reason::MapFull));
}

#[test]
fn errors_about_a_flow_pass_to_its_other_end() {
    for family in FAMILIES {
        let mut world = ingress_of_b(&[peer(INGRESS, A, verdict::ALLOW)]);
        let request = datagram(family, A, B);
        check(&world, A, &request, Ok(Pass::Checked));
        check(&world, A, &datagram(family, A, Outside), Ok(Pass::Unmarked));
        check(&world, B, &error(family, B, A, &request), Ok(Pass::Checked));
        check(
            &world,
            B,
            &error(family, B, A, &frame(family, A, B, UDP, &udp(4001, 53))),
            Err(Reason::Policy),
        );
        check(&world, B, &error(family, B, A, &datagram(family, A, Outside)), Err(Reason::Policy));
        check(&world, B, &error(family, B, A, &datagram(family, Outside, B)), Err(Reason::Policy));
        world.policy(B, &[]);
        world.next_epoch();
        check(&world, B, &error(family, B, A, &request), Err(Reason::Revoked));
    }
}

#[test]
fn errors_about_the_proxys_packets_go_to_the_proxy() {
    for family in FAMILIES {
        let mut world = redirecting();
        check(&world, A, &syn(family, A, B), Ok(Pass::ToProxy));
        world.policy(A, &[any(INGRESS), peer(EGRESS, B, verdict::REDIRECT)]);
        let to_client = segment(family, B, A, (80, 4000), ACK);
        check(&world, A, &error(family, A, B, &to_client), Ok(Pass::ToProxy));
        dial_as_proxy(&world, family);
        let to_server = segment(family, A, B, (4000, 80), ACK);
        check(&world, B, &error(family, B, A, &to_server), Ok(Pass::ToProxy));
    }
}

/// The two legs of an inspected connection have the same addresses and ports.
#[test]
fn the_proxy_dials_from_the_clients_port() {
    for family in FAMILIES {
        let world = redirecting();
        let (to_server, to_client) =
            (segment(family, A, B, (4000, 80), ACK), segment(family, B, A, (80, 4000), ACK));
        check(&world, A, &syn(family, A, B), Ok(Pass::ToProxy));
        dial_as_proxy(&world, family);
        check(&world, A, &to_server, Ok(Pass::ToProxy));
        check(&world, B, &to_client, Ok(Pass::ToProxy));
        // The client is at its next connection, the proxy not yet.
        check(&world, A, &syn(family, A, B), Ok(Pass::ToProxy));
        check(&world, A, &to_server, Ok(Pass::ToProxy));
        check(&world, B, &to_client, Ok(Pass::ToProxy));
    }
}

#[test]
fn a_direct_connection_inherits_neither_leg_of_an_inspected_one() {
    for family in FAMILIES {
        let mut world = redirecting();
        check(&world, A, &syn(family, A, B), Ok(Pass::ToProxy));
        dial_as_proxy(&world, family);
        world.policy(B, &[peer(INGRESS, A, verdict::ALLOW)]);
        check(&world, A, &syn(family, A, B), Ok(Pass::Checked));
        assert_eq!(world.model.flow_keys(), [flow(family, A, B, TCP, (4000, 80))]);
        check(&world, B, &segment(family, B, A, (80, 4000), ACK), Ok(Pass::Checked));
    }
}

fn ingress_of_b(entries: &[(u32, redirect_abi::PolicyKey, u8)]) -> World {
    let mut world = World::open();
    world.policy(B, entries);
    world
}

fn egress_of_a(entries: &[(u32, redirect_abi::PolicyKey, u8)]) -> World {
    let mut world = World::open();
    world.policy(A, entries);
    world
}

/// Everything that A sends to B is to be inspected.
fn redirecting() -> World {
    ingress_of_b(&[peer(INGRESS, A, verdict::REDIRECT)])
}

fn dial_as_proxy(world: &World, family: Family) {
    let dialled = world.to(B, Host, redirect_abi::mark::PROXY_UPSTREAM, &syn(family, A, B)).0;
    assert_eq!(dialled, Ok(Pass::Unmarked));
    let key = FlowKey { kind: kind::PROXY_UPSTREAM, ..flow(family, A, B, TCP, (4000, 80)) };
    assert!(world.model.flow(&key).is_some());
}

fn syn(family: Family, from: Party, to: Party) -> TestFrame {
    segment(family, from, to, (4000, 80), SYN)
}

fn segment(family: Family, from: Party, to: Party, ports: (u16, u16), flags: u8) -> TestFrame {
    frame(family, from, to, TCP, &tcp(ports.0, ports.1, flags))
}

fn datagram(family: Family, from: Party, to: Party) -> TestFrame {
    frame(family, from, to, UDP, &udp(4000, 53))
}

fn echo(family: Family, from: Party, to: Party, id: u16) -> TestFrame {
    match family {
        Family::V4 => frame(family, from, to, 1, &icmp(8, id)),
        Family::V6 => frame(family, from, to, 58, &icmp(128, id)),
    }
}

fn echo_reply(family: Family, from: Party, to: Party, id: u16) -> TestFrame {
    match family {
        Family::V4 => frame(family, from, to, 1, &icmp(0, id)),
        Family::V6 => frame(family, from, to, 58, &icmp(129, id)),
    }
}

/// Unreachable.
fn error(family: Family, from: Party, to: Party, quoted: &TestFrame) -> TestFrame {
    match family {
        Family::V4 => frame(family, from, to, 1, &icmp_error(3, quoted)),
        Family::V6 => frame(family, from, to, 58, &icmp_error(1, quoted)),
    }
}

fn fe80(last: u8) -> [u8; 16] {
    [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]
}

fn multicast() -> [u8; 16] {
    [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]
}

#[track_caller]
fn check(world: &World, endpoint: Party, frame: &TestFrame, expect: Decision) {
    assert_eq!(world.from(endpoint, frame).0, expect);
}

#[track_caller]
fn check_link(
    world: &World,
    source: [u8; 16],
    destination: [u8; 16],
    hop_limit: u8,
    message: u8,
    expect: Decision,
) {
    let packet = Ipv6 { hop_limit, ..Ipv6::new(source, destination, ICMPV6) };
    check(world, A, &packet.frame(&discovery(message, A.v6(), &[])), expect);
}
