//! Who opened a flow that nobody has seen opened: it was there before the programs, its entry was evicted, or its protocol does
//! not say.
//!
//! Whoever is called the opener gets replies that policy need not allow. So a packet that may as well be a reply is judged as one:
//!
//! ```text
//! what policy says of the other way:
//!   allow      the flow needs no entry; datagrams get one, as any new flow
//!   redirect   dropped: it may be an answer of what has to be inspected
//!   deny       adopted: its sender is the opener, but not where a rule names the port that it was sent from. There the sender
//!              serves, and this is an answer of a connection that policy denies: dropped (in the first seconds after programs
//!              were first attached to the interface connections are older than they, and it is adopted)
//! ```
//!
//! INVARIANT: nothing that has to be inspected is adopted, at no time.

use redirect_abi::{FlowKey, flow_flags};

use crate::packet::{Packet, reversed, tcp};
use crate::policy::{self, Ends, Verdict};
use crate::protocol;
use crate::tables::{Tables, Tracked};
use crate::verdict::{Reason, Report};

/// What an untracked packet that its own way's policy allows tells of its flow.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    Adopted,
    AdoptedEarly,
    Opened,
    /// Nothing. It passes without an entry.
    Unknown,
}

/// How long after programs were first attached to an interface connections are taken for older than they.
pub const EARLY_NS: u64 = 10_000_000_000;

/// What policy says of the other way of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Back {
    Allow,
    /// Denied, and its destination port is one that a rule names.
    DenyNamed,
    DenyUnnamed,
    Redirect,
}

/// Who opened the flow of an untracked packet; an error if it must not pass.
#[inline(always)]
pub fn origin(tables: &impl Tables, packet: &Packet, ifindex: u32) -> Result<Origin, Reason> {
    if packet.opens() {
        return Ok(Origin::Opened);
    }
    if let Some(message) = packet.icmp_type() {
        let asks = protocol::is_question(packet.flow.protocol, message);
        return Ok(if asks { Origin::Opened } else { Origin::Unknown });
    }
    let origin = match back(tables, &packet.flow) {
        Back::Redirect if packet.is_tcp() => return Err(Reason::RedirectRequired),
        Back::Redirect => return Err(Reason::NotRedirectable),
        Back::DenyNamed if is_early(tables, ifindex) => Origin::AdoptedEarly,
        Back::DenyNamed => return Err(Reason::UntrackedAnswer),
        Back::DenyUnnamed => Origin::Adopted,
        Back::Allow if protocol::has_handshake(packet.flow.protocol) => Origin::Unknown,
        Back::Allow => Origin::Adopted,
    };
    // The answer to an opening, or the end: no entry would be of use.
    Ok(if packet.tcp_flags & (tcp::SYN | tcp::RST) != 0 { Origin::Unknown } else { origin })
}

/// Whether an adopted flow would be adopted today: what was no answer yesterday may be one of what a rule has been written for.
/// If not it ends.
#[inline(always)]
pub fn confirm(tables: &impl Tables, flow: &FlowKey, entry: &Tracked) -> Result<(), Reason> {
    let flags = entry.flags.load();
    if flags & flow_flags::OPENED != 0 {
        return Ok(());
    }
    let refusal = match back(tables, flow) {
        Back::Allow | Back::DenyUnnamed => return Ok(()),
        Back::DenyNamed if flags & flow_flags::ADOPTED_EARLY != 0 => return Ok(()),
        Back::DenyNamed => Reason::Revoked,
        Back::Redirect => Reason::RedirectRequired,
    };
    entry.flags.store(flags | flow_flags::REVOKED);
    Err(refusal)
}

#[inline(always)]
fn is_early(tables: &impl Tables, ifindex: u32) -> bool {
    match tables.attached_ns(ifindex) {
        Some(attached_ns) => tables.now_ns().saturating_sub(attached_ns) <= EARLY_NS,
        None => false,
    }
}

#[inline(never)]
fn back(tables: &impl Tables, flow: &FlowKey) -> Back {
    let back = reversed(flow);
    let ends = Ends {
        source: tables.endpoint_at(&back.source),
        destination: tables.endpoint_at(&back.destination),
        foreign: false,
    };
    let mut unused = Report::default();
    match policy::judge(tables, &back, &ends, &mut unused) {
        Ok(Verdict::Allow) => Back::Allow,
        Ok(Verdict::Redirect) => Back::Redirect,
        Err(_) if policy::is_unnamed(tables, &back, &ends) => Back::DenyUnnamed,
        Err(_) => Back::DenyNamed,
    }
}

#[cfg(test)]
mod tests;
