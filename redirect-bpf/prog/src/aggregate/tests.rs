//! What is one event, and what are two.

use redirect_abi::verdict;

use super::*;
use crate::packet::tcp;
use crate::protocol;

#[test]
fn a_retransmitted_syn_is_the_same_attempt_however_late() {
    check(&syn(1), &[(syn(1), 1), (syn(1), 63), (syn(1), 3600)], &[None, None, None]);
}

#[test]
fn another_syn_is_another_attempt_however_soon() {
    check(&syn(1), &[(syn(2), 0), (syn(3), 0)], &[Some(1), Some(1)]);
}

#[test]
fn what_was_not_told_is_told_with_the_next() {
    check(&syn(1), &[(syn(1), 1), (syn(1), 3), (syn(2), 7), (syn(2), 8)], &[None, None, Some(3), None]);
}

#[test]
fn other_packets_are_told_once_in_a_window() {
    let packet = Packet::EMPTY;
    check(
        &packet,
        &[(packet, 1), (packet, 9), (packet, 10), (packet, 11), (packet, 20)],
        &[None, None, Some(3), None, Some(2)],
    );
}

/// An event that found no room leaves no trace but what it stands for.
#[test]
fn what_was_lost_is_part_of_the_next_and_delays_it_not() {
    let mut known = first(&syn(1), 0);
    assert_eq!(again(&mut known, &syn(2), 1), Some(1));
    assert_eq!(again(&mut known, &syn(2), 2), Some(2));
    assert_eq!(again(&mut known, &syn(3), 3), Some(3));
}

#[test]
fn a_clock_that_steps_back_tells_nothing() {
    let mut known = first(&Packet::EMPTY, 2 * WINDOW_NS);
    assert_eq!(again(&mut known, &Packet::EMPTY, 0), None);
}

#[test]
fn keys_tell_flow_sender_verdict_and_reason_apart() {
    let of_sender =
        |sender, packet, verdict, reason| key(&packet, &Report::default(), sender, verdict, reason);
    let key_of = |packet, verdict, reason| of_sender(7, packet, verdict, reason);
    let base = key_of(syn(1), verdict::DENY, 1);
    assert_eq!(base, key_of(syn(2), verdict::DENY, 1));
    assert_ne!(base, key_of(syn(1), verdict::ALLOW, 1));
    assert_ne!(base, key_of(syn(1), verdict::DENY, 2));
    assert_ne!(base, key_of(Packet::EMPTY, verdict::DENY, 1));
    assert_ne!(base, of_sender(8, syn(1), verdict::DENY, 1));
}

fn syn(sequence: u32) -> Packet {
    let mut packet = Packet { sequence: sequence.to_be_bytes(), tcp_flags: tcp::SYN, ..Packet::EMPTY };
    packet.flow.protocol = protocol::TCP;
    packet
}

/// After an event of `first_packet` at 0 come these packets at these seconds.
#[track_caller]
fn check(first_packet: &Packet, then: &[(Packet, u64)], expect: &[Option<u32>]) {
    let mut known = first(first_packet, 0);
    for ((packet, seconds), expect) in then.iter().zip(expect) {
        let now_ns = seconds * 1_000_000_000;
        let told = again(&mut known, packet, now_ns);
        assert_eq!(told, *expect, "at {seconds} s");
        if told.is_some() {
            known = first(packet, now_ns);
        }
    }
}
