//! When an event stands for more than one occurrence: a retransmitted SYN is no new attempt, and a stream of refused packets no
//! stream of events.

use redirect_abi::{Aggregate, AggregateKey};

use crate::packet::Packet;
use crate::verdict::Report;

/// What happens again within this time of an event is part of it.
pub const WINDOW_NS: u64 = 10_000_000_000;

#[inline(always)]
pub fn key(packet: &Packet, report: &Report, sender: u32, verdict: u8, reason: u8) -> AggregateKey {
    AggregateKey { flow: packet.flow, sender, verdict, reason, direction: report.direction, pad: 0 }
}

/// What is kept of an event that stands for one occurrence.
#[inline(always)]
pub fn first(packet: &Packet, now_ns: u64) -> Aggregate {
    Aggregate { sent_ns: now_ns, pending: 0, sequence: packet.sequence }
}

/// How many occurrences an event of this packet stands for. `None`: it is part of the last one, and waits for the next.
#[inline(always)]
pub fn again(known: &mut Aggregate, packet: &Packet, now_ns: u64) -> Option<u32> {
    let part_of_last = if packet.opens() {
        known.sequence == packet.sequence
    } else {
        now_ns.saturating_sub(known.sent_ns) < WINDOW_NS
    };
    // Pending until the event is on its way: [`first`] is written then.
    known.pending = known.pending.wrapping_add(1);
    if part_of_last { None } else { Some(known.pending) }
}

#[cfg(test)]
mod tests;
