//! L4 records as they leave the daemon; those of sessions know it themselves.

use super::l4::L4Record;
use policy_model::Snapshot;
use proxy_core::api::{FlowParty, FlowView, direction_name, rfc3339};
use std::net::SocketAddr;

pub(crate) fn of_l4(record: &L4Record, snapshot: &Snapshot) -> FlowView {
    let (source, destination) = record.identities.unzip();
    let party = |address: SocketAddr, identity| {
        let now = snapshot.identity_of(address.ip());
        judged_as(FlowParty::new(address, Some(now), snapshot), identity, snapshot)
    };
    FlowView {
        time: rfc3339(record.unix_ns),
        kind: "l4".into(),
        direction: direction_name(record.direction).into(),
        verdict: record.outcome.verdict().into(),
        reason: record.outcome.reason().map(Into::into),
        revision: record.revision,
        source: party(record.source, source),
        destination: party(record.destination, destination),
        protocol: protocol(record.protocol),
        count: record.count,
        ..FlowView::default()
    }
}

/// The identity that decided; what the address means by now may differ.
fn judged_as(mut party: FlowParty, identity: Option<u32>, snapshot: &Snapshot) -> FlowParty {
    if let Some(identity) = identity.filter(|identity| *identity != party.identity) {
        let known = snapshot.identities().find(|known| known.id.0 == identity);
        party.identity = identity;
        party.labels =
            known.map_or_else(Vec::new, |known| known.labels.iter().map(ToString::to_string).collect());
    }
    party
}

fn protocol(number: u8) -> String {
    match number {
        1 => "ICMP".into(),
        6 => "TCP".into(),
        17 => "UDP".into(),
        58 => "ICMPv6".into(),
        132 => "SCTP".into(),
        other => other.to_string(),
    }
}
