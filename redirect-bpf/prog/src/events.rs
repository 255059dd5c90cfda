//! Tells user space of drops and new connections. Equal ones are told once; nobody listening is counted, never waited for.

use crate::maps::{AGGREGATES, EVENTS, Maps, count};
use redirect_abi::{Aggregate, AggregateKey, Event, counter};
use redirect_prog::packet::Packet;
use redirect_prog::tables::Tables;
use redirect_prog::verdict::Report;

/// What happens again within this time is part of what was told before.
const WINDOW_NS: u64 = 10_000_000_000;

/// `outcome` is a verdict, then a reason or 0.
#[inline(never)]
pub(crate) fn tell(packet: &Packet, report: &Report, ifindex: u32, verdict: u8, reason: u8) {
    let now_ns = Maps.now_ns();
    let Some(occurrences) = occurrences(packet, report, verdict, reason, now_ns) else { return };
    let Some(mut event) = EVENTS.reserve(0) else {
        count(counter::EVENTS_LOST);
        return;
    };
    let _: &mut Event = event.write(Event {
        time_ns: now_ns,
        endpoint: report.endpoint,
        source_identity: report.source_identity,
        destination_identity: report.destination_identity,
        epoch: report.epoch,
        source: packet.flow.source,
        destination: packet.flow.destination,
        source_port: packet.flow.source_port,
        destination_port: packet.flow.destination_port,
        protocol: packet.flow.protocol,
        direction: report.direction,
        verdict,
        reason,
        count: occurrences,
        ifindex,
    });
    event.submit(0);
}

/// How many occurrences an event would stand for. `None`: it is too early to tell of this one.
#[inline(always)]
fn occurrences(packet: &Packet, report: &Report, verdict: u8, reason: u8, now_ns: u64) -> Option<u32> {
    let key = AggregateKey { flow: packet.flow, verdict, reason, direction: report.direction, pad: 0 };
    let Some(known) = AGGREGATES.get_ptr_mut(&key) else {
        let first = Aggregate { sent_ns: now_ns, pending: 0, sequence: packet.sequence };
        // Without an entry the next one is told too: once too often, never too seldom.
        let _ = AGGREGATES.insert(&key, &first, 0);
        return Some(1);
    };
    // SAFETY: the kernel keeps the entry while the program runs; two CPUs at once may lose one of their occurrences.
    let known = unsafe { &mut *known };
    let same_syn = packet.opens() && known.sequence == packet.sequence;
    let soon = !packet.opens() && now_ns.saturating_sub(known.sent_ns) < WINDOW_NS;
    if same_syn || soon {
        known.pending = known.pending.wrapping_add(1);
        return None;
    }
    let occurrences = known.pending.wrapping_add(1);
    *known = Aggregate { sent_ns: now_ns, pending: 0, sequence: packet.sequence };
    Some(occurrences)
}
