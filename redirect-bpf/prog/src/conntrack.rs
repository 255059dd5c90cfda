//! Flows that were let through, so that their replies are let through too.
//!
//! ```text
//!            SYN, INIT: opened                         policy changed (epoch), forward flow denied
//!   (none) ───────────────────────────► tracked ─────────────────────────────────────────────────► dropped
//!     │      else, by policy: adopted    │  ▲   forward flow still allowed: takes the new epoch
//!     │                                  └──┘
//!     └─ looks like an answer of what has to be inspected, or may not be: dropped (see `adoption`)
//!   silent for its lifetime: as good as (none), for whoever collects it
//! ```
//!
//! INVARIANT: a packet that opens (SYN, INIT) never matches an entry, and inherits nothing of one; one that answers it (SYN+ACK,
//! INIT ACK) is a reply only of a flow whose opening was seen, and which has not ended since. Where both ends open at once, each
//! opening is judged for itself: where both are allowed the later one's sender is the opener, where one is denied the other's.
//! INVARIANT: an end is reset by what it acknowledged itself, never by what the other one says of it.
//! INVARIANT: flows of the proxy and direct flows have keys of different kinds: neither is taken for the other.

use redirect_abi::{FlowKey, FlowState, flow_flags, is_closed, kind, payer, share};

use crate::adoption::{self, Origin};
use crate::packet::{Packet, reversed, tcp};
use crate::policy::{self, Ends, Verdict};
use crate::quota;
use crate::tables::{Tables, Tracked};
use crate::verdict::{Opened, Reason, Report};

/// Which end sent a packet of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    Source,
    Destination,
}

/// The entry of a flow, if it still means something.
#[inline(never)]
pub fn find<'a, T: Tables>(tables: &'a T, key: &FlowKey) -> Option<&'a Tracked> {
    tables.flow(key).filter(|flow| !quota::is_expired(tables, key, flow))
}

/// The entry of another kind for the same two ends. A call of its own in the kernel, for the key that it makes.
#[inline(never)]
pub fn find_of<'a, T: Tables>(tables: &'a T, flow: &FlowKey, kind: u8) -> Option<&'a Tracked> {
    find(tables, &FlowKey { kind, ..*flow })
}

/// Whether this is a reply of a direct flow; an error if it is one of a flow that no longer stands.
#[inline(always)]
pub fn admit_reply(
    tables: &impl Tables,
    packet: &Packet,
    opener: &FlowKey,
    report: &mut Report,
) -> Result<bool, Reason> {
    let Some(flow) = find(tables, opener).filter(|flow| may_answer(flow, packet)) else { return Ok(false) };
    touch(tables, kind::DIRECT, flow, packet, Sender::Destination);
    stand(tables, opener, flow, report)?;
    Ok(true)
}

/// Whether a packet of the other end can be part of this flow.
#[inline(always)]
pub fn may_answer(flow: &Tracked, packet: &Packet) -> bool {
    let flags = flow.flags.load();
    let ended = is_closed(packet.flow.protocol, flags);
    !packet.answers_opening() || flags & flow_flags::OPENED != 0 && !ended
}

/// Whether an ICMP error is about a direct flow, whichever end sent what it quotes.
#[inline(always)]
pub fn admit_error(tables: &impl Tables, quoted: &FlowKey, report: &mut Report) -> Result<bool, Reason> {
    let mut opener = *quoted;
    for _ in 0..2 {
        if let Some(flow) = find(tables, &opener) {
            stand(tables, &opener, flow, report)?;
            return Ok(true);
        }
        opener = reversed(&opener);
    }
    Ok(false)
}

/// Whether a tracked flow may go on: as it was judged, or as the policy of today judges it.
#[inline(always)]
pub fn stand(tables: &impl Tables, key: &FlowKey, flow: &Tracked, report: &mut Report) -> Result<(), Reason> {
    let epoch = tables.epoch();
    let flags = flow.flags.load();
    if flags & flow_flags::REVOKED != 0 {
        return Err(Reason::Revoked);
    }
    if flow.epoch.load() == epoch {
        return Ok(());
    }
    let ends = Ends {
        source: if flags & flow_flags::INGRESS_ONLY != 0 { None } else { tables.endpoint_at(&key.source) },
        destination: tables.endpoint_at(&key.destination),
        foreign: flags & flow_flags::FOREIGN != 0,
    };
    match policy::judge(tables, key, &ends, report) {
        Ok(Verdict::Allow) => {
            adoption::confirm(tables, key, flow)?;
            flow.epoch.store(epoch);
            Ok(())
        }
        Ok(Verdict::Redirect) => Err(Reason::RedirectRequired),
        Err(_) => Err(Reason::Revoked),
    }
}

/// Records an admitted packet of a direct flow, sent by its opener.
#[inline(always)]
pub fn track_direct(
    tables: &impl Tables,
    packet: &Packet,
    flags: u32,
    report: &mut Report,
) -> Result<(), Reason> {
    if packet.opens() {
        forget(tables, packet, kind::DIRECT);
    } else if let Some(flow) = find(tables, &packet.flow) {
        return go_on(tables, packet, flow, flags, report.epoch);
    }
    let origin = match adoption::origin(tables, packet, report.ifindex) {
        Err(reason) => {
            if reason == Reason::RedirectRequired {
                track_cut(tables, packet, report)?;
            }
            return Err(reason);
        }
        Ok(Origin::Unknown) => return Ok(()),
        Ok(Origin::Opened) => flow_flags::OPENED,
        Ok(Origin::Adopted) => 0,
        Ok(Origin::AdoptedEarly) => flow_flags::ADOPTED_EARLY,
    };
    report.opened = Opened::Direct;
    insert(tables, packet, kind::DIRECT, flags | origin, report)
}

/// Another packet of a flow that policy allows today.
#[inline(always)]
fn go_on(
    tables: &impl Tables,
    packet: &Packet,
    flow: &Tracked,
    flags: u32,
    epoch: u32,
) -> Result<(), Reason> {
    touch(tables, kind::DIRECT, flow, packet, Sender::Source);
    let before = flow.flags.load();
    let revoked = before & flow_flags::REVOKED != 0;
    if revoked && packet.is_tcp() {
        // Both ends were sent a reset; only a new connection may follow.
        return Err(Reason::Revoked);
    }
    if revoked || flow.epoch.load() != epoch {
        adoption::confirm(tables, &packet.flow, flow)?;
    }
    if revoked {
        flow.flags.store(flags | before & (flow_flags::OPENED | flow_flags::ADOPTED_EARLY));
    }
    flow.epoch.store(epoch);
    Ok(())
}

/// Notes a refused packet of the opener's. Whether its flow is tracked: then it was allowed once, and its entry stays, for
/// the resets.
#[inline(always)]
pub fn touch_refused(tables: &impl Tables, packet: &Packet) -> bool {
    if packet.opens() {
        return false;
    }
    match find(tables, &packet.flow) {
        Some(flow) => {
            touch(tables, kind::DIRECT, flow, packet, Sender::Source);
            true
        }
        None => false,
    }
}

/// What a packet that policy denies is refused for.
#[inline(always)]
pub fn refuse(tables: &impl Tables, packet: &Packet, refusal: Reason) -> Reason {
    let tracked = touch_refused(tables, packet);
    if tracked && refusal == Reason::Policy { Reason::Revoked } else { refusal }
}

/// Records a flow that was never tracked and has to end: resets are made from its entry. The sender alone has said what it waits
/// for, so that only the sender is reset; the other end is when it says so itself. What the sender says of the other end would
/// let it choose what the node sends to others.
#[inline(always)]
pub fn track_cut(tables: &impl Tables, packet: &Packet, report: &Report) -> Result<(), Reason> {
    if packet.tcp_flags & tcp::RST != 0 {
        return Ok(());
    }
    insert(tables, packet, kind::DIRECT, flow_flags::REVOKED, report)
}

/// Records a packet of the proxy's, or for the proxy, of the given kind.
#[inline(always)]
pub fn track_proxied(tables: &impl Tables, packet: &Packet, kind: u8, report: &Report) -> Result<(), Reason> {
    if packet.opens() {
        let other_leg =
            if kind == kind::PROXY_UPSTREAM { kind::PROXY_DOWNSTREAM } else { kind::PROXY_UPSTREAM };
        forget(tables, packet, other_leg);
    } else if let Some(flow) = find_of(tables, &packet.flow, kind) {
        touch(tables, kind, flow, packet, Sender::Source);
        return Ok(());
    }
    let flags = if packet.opens() { flow_flags::OPENED } else { 0 };
    insert(tables, packet, kind, flags, report)
}

/// A connection of the same addresses and ports ended long ago: nothing of it may speak for the new one.
///
/// `spared`: the entry that stays. The proxy dials in the client's name, from its port too: the two legs of one inspected
/// connection do not forget each other. A direct flow spares nothing but its own entry, which is written anew.
#[inline(never)]
fn forget(tables: &impl Tables, packet: &Packet, spared: u8) {
    for kind in [kind::DIRECT, kind::PROXY_UPSTREAM, kind::PROXY_DOWNSTREAM] {
        if kind != spared {
            quota::remove(tables, &FlowKey { kind, ..packet.flow });
        }
        quota::remove(tables, &FlowKey { kind, ..reversed(&packet.flow) });
    }
}

/// A call of its own in the kernel, for what it has on the stack.
#[inline(never)]
fn insert(
    tables: &impl Tables,
    packet: &Packet,
    kind: u8,
    flags: u32,
    report: &Report,
) -> Result<(), Reason> {
    let acknowledges = packet.tcp_flags & tcp::ACK != 0;
    let mut state = FlowState {
        last_seen_ns: tables.now_ns(),
        epoch: report.epoch,
        flags: flags | ending(packet, Sender::Source),
        acked_by_source: if acknowledges { packet.acknowledged } else { [0; 4] },
        acked_by_destination: [0; 4],
        packets: 1,
        payer_endpoint: 0,
        payer: payer::NOBODY,
        share: share::NONE,
        pad: [0; 2],
    };
    if kind != kind::DIRECT {
        // The last word of a connection that was forgotten is no sign of life: the next one is.
        state.acked_by_source = [0; 4];
    }
    quota::insert(tables, &FlowKey { kind, ..packet.flow }, &mut state, report)
}

#[inline(always)]
pub fn touch(tables: &impl Tables, kind: u8, flow: &Tracked, packet: &Packet, sender: Sender) {
    flow.last_seen_ns.store(tables.now_ns());
    // Two CPUs at once may count one packet for two: a hint, not an account.
    flow.packets.store(flow.packets.load().wrapping_add(1));
    if packet.tcp_flags & tcp::ACK != 0 {
        let acked = match sender {
            Sender::Source => &flow.acked_by_source,
            Sender::Destination => &flow.acked_by_destination,
        };
        acked.store(packet.acknowledged);
    }
    if packet.is_tcp() && packet.tcp_flags & (tcp::FIN | tcp::RST) != 0 {
        end(tables, kind, flow, packet, sender);
    }
}

/// A call of its own in the kernel, for the key that it makes.
#[inline(never)]
fn end(tables: &impl Tables, kind: u8, flow: &Tracked, packet: &Packet, sender: Sender) {
    let before = flow.flags.load();
    let after = before | ending(packet, sender);
    flow.flags.store(after);
    if is_closed(packet.flow.protocol, before) || !is_closed(packet.flow.protocol, after) {
        return;
    }
    let key = match sender {
        Sender::Source => FlowKey { kind, ..packet.flow },
        Sender::Destination => FlowKey { kind, ..reversed(&packet.flow) },
    };
    quota::note_closed(tables, &key, flow);
}

/// The proxy's side of what it accepted, of which nothing else is worth noting.
#[inline(always)]
pub fn note_end_of_downstream(tables: &impl Tables, packet: &Packet) {
    if packet.is_tcp()
        && packet.tcp_flags & (tcp::FIN | tcp::RST) != 0
        && let Some(flow) = find_of(tables, &reversed(&packet.flow), kind::PROXY_DOWNSTREAM)
    {
        end(tables, kind::PROXY_DOWNSTREAM, flow, packet, Sender::Destination);
    }
}

#[inline(always)]
fn ending(packet: &Packet, sender: Sender) -> u32 {
    let mut flags = 0;
    if packet.tcp_flags & tcp::FIN != 0 {
        flags |= match sender {
            Sender::Source => flow_flags::FIN_SOURCE,
            Sender::Destination => flow_flags::FIN_DESTINATION,
        };
    }
    if packet.tcp_flags & tcp::RST != 0 {
        flags |= flow_flags::RST;
    }
    flags
}

#[cfg(test)]
mod tests;
