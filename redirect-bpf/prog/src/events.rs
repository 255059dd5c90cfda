//! Tells user space of drops and new connections. Equal ones are told once; nobody listening is counted, never waited for.

use crate::maps::{AGGREGATES, EVENTS, Maps, count};
use redirect_abi::{AggregateKey, Event, counter};
use redirect_prog::aggregate;
use redirect_prog::packet::Packet;
use redirect_prog::tables::Tables;
use redirect_prog::verdict::Report;

/// What became of a packet that came from this interface; `reason` is 0 where it was allowed.
#[inline(never)]
pub(crate) fn tell(packet: &Packet, report: &Report, came_from: u32, verdict: u8, reason: u8) {
    let now_ns = Maps.now_ns();
    let sender = Maps.endpoint_on(came_from).map_or(0, |endpoint| endpoint.id);
    let key = aggregate::key(packet, report, sender, verdict, reason);
    let Some(occurrences) = occurrences(packet, &key, now_ns) else { return };
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
        sender,
    });
    event.submit(0);
}

/// How many occurrences an event would stand for. `None`: it is too early to tell of this one.
#[inline(always)]
fn occurrences(packet: &Packet, key: &AggregateKey, now_ns: u64) -> Option<u32> {
    let Some(known) = AGGREGATES.get_ptr_mut(key) else {
        // Without an entry the next one is told too: once too often, never too seldom.
        let _ = AGGREGATES.insert(key, &aggregate::first(packet, now_ns), 0);
        return Some(1);
    };
    // SAFETY: the kernel keeps the entry while the program runs; two CPUs at once may lose one of their occurrences.
    aggregate::again(unsafe { &mut *known }, packet, now_ns)
}
