//! Tells user space of drops and new connections. Equal ones are told once; what a sender causes beyond its rate, and what finds no
//! room, is counted for the sender, and waited for never.

use crate::maps::{AGGREGATES, EVENTS, Maps, count};
use redirect_abi::{Aggregate, AggregateKey, Event, Payer, counter};
use redirect_prog::aggregate;
use redirect_prog::packet::Packet;
use redirect_prog::quota;
use redirect_prog::rate;
use redirect_prog::tables::{Account, Tables};
use redirect_prog::verdict::Report;

/// What became of a packet that came from this interface; `reason` is 0 where it was allowed.
#[inline(never)]
pub(crate) fn tell(packet: &Packet, report: &Report, came_from: u32, verdict: u8, reason: u8) {
    let now_ns = Maps.now_ns();
    let sender = Maps.endpoint_on(came_from).map_or(0, |endpoint| endpoint.id);
    let key = aggregate::key(packet, report, sender, verdict, reason);
    let known = AGGREGATES.get_ptr_mut(&key);
    let Some(occurrences) = occurrences(known, packet, now_ns) else { return };
    let account = account(packet, report);
    if let Some(account) = account
        && !rate::may_tell(&Maps, account, now_ns)
    {
        count(counter::EVENTS_LOST);
        return;
    }
    let Some(mut event) = EVENTS.reserve(0) else {
        if let Some(account) = account {
            rate::lose(&Maps, account);
        }
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
    told(known, &key, packet, now_ns);
}

/// How many occurrences an event would stand for. `None`: it is too early to tell of this one.
#[inline(always)]
fn occurrences(known: Option<*mut Aggregate>, packet: &Packet, now_ns: u64) -> Option<u32> {
    match known {
        // SAFETY: the kernel keeps the entry while the program runs; two CPUs at once may lose one of their occurrences.
        Some(known) => aggregate::again(unsafe { &mut *known }, packet, now_ns),
        None => Some(1),
    }
}

/// What is lost is not noted: else it would hide what comes after.
#[inline(always)]
fn told(known: Option<*mut Aggregate>, key: &AggregateKey, packet: &Packet, now_ns: u64) {
    match known {
        // SAFETY: as in `occurrences`.
        Some(known) => unsafe { *known = aggregate::first(packet, now_ns) },
        // Without an entry the next one is told too: once too often, never too seldom.
        None => drop(AGGREGATES.insert(key, &aggregate::first(packet, now_ns), 0)),
    }
}

/// Whoever caused it.
#[inline(never)]
fn account(packet: &Packet, report: &Report) -> Option<&'static Account> {
    let mut payer = Payer::of(report.payer_endpoint, report.payer, &packet.flow.source);
    quota::known_account(&Maps, &mut payer)
}
