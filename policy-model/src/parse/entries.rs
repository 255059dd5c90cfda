//! The four lists of a rule: ingress, ingressDeny, egress, egressDeny.
//!
//! Closed form: an allow entry with a part that can't be judged grants nothing; a deny entry covers all it might mean.

use super::diagnostic::{Complaints, Severity, Unreadable};
use super::peers::{self, Names};
use super::place::{Place, Refused, Schema, Written};
use super::ports;
use super::scope::{Effect, Scope};
use crate::rule::{Entry, Peers, Ports};

/// What one of the four lists is called, and what its entries may hold.
#[derive(Debug)]
pub(super) struct ListKind {
    pub(super) name: &'static str,
    effect: Effect,
    peers: Names,
    entry: Schema,
}

const INGRESS_NAMES: Names =
    Names { endpoints: "fromEndpoints", cidr: "fromCIDR", cidr_set: "fromCIDRSet", entities: "fromEntities" };
const EGRESS_NAMES: Names =
    Names { endpoints: "toEndpoints", cidr: "toCIDR", cidr_set: "toCIDRSet", entities: "toEntities" };

const PEERS_FIX: &str = "name the peers by labels, entities or address ranges";
const ICMP_FIX: &str = "leave it out; an entry without `toPorts` covers ICMP too";
const AUTHENTICATION_FIX: &str = "leave it out; until it is supported the entry grants nothing";

pub(super) const INGRESS: ListKind = ListKind {
    name: "ingress",
    effect: Effect::Allow,
    peers: INGRESS_NAMES,
    entry: Schema {
        what: "an ingress entry",
        known: &["fromEndpoints", "fromCIDR", "fromCIDRSet", "fromEntities", "toPorts"],
        refused: &[
            Refused::NotYet("authentication", AUTHENTICATION_FIX),
            Refused::NotYet("fromGroups", PEERS_FIX),
            Refused::NotYet("fromNodes", PEERS_FIX),
            Refused::Removed("fromRequires", "add its labels to every `fromEndpoints` of the rule"),
            Refused::NotYet("icmps", ICMP_FIX),
        ],
        unknown: Severity::Error,
    },
};

pub(super) const INGRESS_DENY: ListKind = ListKind {
    name: "ingressDeny",
    effect: Effect::Deny,
    peers: INGRESS_NAMES,
    entry: Schema {
        what: "an ingressDeny entry",
        known: &["fromEndpoints", "fromCIDR", "fromCIDRSet", "fromEntities", "toPorts"],
        refused: &[
            Refused::NotYet("fromGroups", PEERS_FIX),
            Refused::NotYet("fromNodes", PEERS_FIX),
            Refused::Removed("fromRequires", PEERS_FIX),
            Refused::NotYet("icmps", ICMP_FIX),
        ],
        unknown: Severity::Error,
    },
};

pub(super) const EGRESS: ListKind = ListKind {
    name: "egress",
    effect: Effect::Allow,
    peers: EGRESS_NAMES,
    entry: Schema {
        what: "an egress entry",
        known: &["toEndpoints", "toCIDR", "toCIDRSet", "toEntities", "toPorts"],
        refused: &[
            Refused::NotYet("authentication", AUTHENTICATION_FIX),
            Refused::NotYet("icmps", ICMP_FIX),
            Refused::NotYet("toFQDNs", "name the destinations by address ranges"),
            Refused::NotYet("toGroups", PEERS_FIX),
            Refused::NotYet("toNodes", PEERS_FIX),
            Refused::Removed("toRequires", "add its labels to every `toEndpoints` of the rule"),
            Refused::NotYet("toServices", "name the endpoints behind the service by their labels"),
        ],
        unknown: Severity::Error,
    },
};

pub(super) const EGRESS_DENY: ListKind = ListKind {
    name: "egressDeny",
    effect: Effect::Deny,
    peers: EGRESS_NAMES,
    entry: Schema {
        what: "an egressDeny entry",
        known: &["toEndpoints", "toCIDR", "toCIDRSet", "toEntities", "toPorts"],
        refused: &[
            Refused::NotYet("icmps", ICMP_FIX),
            Refused::Misplaced("toFQDNs", PEERS_FIX),
            Refused::NotYet("toGroups", PEERS_FIX),
            Refused::NotYet("toNodes", PEERS_FIX),
            Refused::Removed("toRequires", PEERS_FIX),
            Refused::NotYet("toServices", PEERS_FIX),
        ],
        unknown: Severity::Error,
    },
};

/// One of the four lists as read.
#[derive(Debug)]
pub(super) struct List {
    pub(super) entries: Vec<Entry>,
    /// Whether it puts its direction in default-deny, under any reading of it.
    pub(super) touches: bool,
}

/// An empty list is no list.
pub(super) fn read(
    kind: &'static ListKind,
    written: Written<'_>,
    scope: &Scope<'_>,
    complaints: &mut Complaints,
) -> List {
    let items = match written {
        Written::Absent => return List { entries: Vec::new(), touches: false },
        Written::Unreadable => Err(Unreadable),
        Written::Value(place) => place.list(complaints),
    };
    let entries = match items {
        Ok(items) => items.iter().map(|item| entry(kind, item, scope, complaints)).collect(),
        Err(Unreadable) => vec![kind.closed(kind.name)],
    };
    List { touches: !entries.is_empty(), entries }
}

impl ListKind {
    /// An entry of which nothing is known.
    fn closed(&self, path: &str) -> Entry {
        match self.effect {
            Effect::Allow => nothing(path),
            Effect::Deny => Entry { path: path.into(), peers: Peers::Any, ports: Ports::All },
        }
    }
}

/// An entry that covers nothing: `{}`, or an allow entry that can't be judged.
pub(super) fn nothing(path: &str) -> Entry {
    Entry { path: path.into(), peers: Peers::Of(Vec::new()), ports: Ports::Of(Vec::new()) }
}

fn entry(
    kind: &'static ListKind,
    place: &Place<'_>,
    scope: &Scope<'_>,
    complaints: &mut Complaints,
) -> Entry {
    let path = scope.inside(&place.path);
    let Ok(mut fields) = place.fields(&kind.entry, complaints) else {
        return kind.closed(path);
    };
    let peers = peers::read(kind.peers, &mut fields, place, scope, kind.effect, complaints);
    let ports = ports::read(fields.take("toPorts"), scope, kind.effect, complaints);
    let strange = fields.unknown || !fields.refused.is_empty();
    // `icmps` stands in the place of ports; everything else that is refused by name is about peers.
    let strange_ports = fields.unknown || fields.refused.contains(&"icmps");
    let strange_peers = fields.unknown || fields.refused.iter().any(|name| *name != "icmps");
    let peers = if strange_peers { Err(Unreadable) } else { peers };
    let ports = if strange_ports { Err(Unreadable) } else { ports };
    match (peers, ports) {
        _ if strange && kind.effect == Effect::Allow => kind.closed(path),
        // Neither peers nor ports are written: the entry only puts its direction in default-deny.
        (Ok(Peers::Any), Ok(Ports::All)) => nothing(path),
        (Ok(peers), Ok(ports)) => Entry { path: path.into(), peers, ports },
        (Err(Unreadable), Ok(ports)) if kind.effect == Effect::Deny => {
            Entry { path: path.into(), peers: Peers::Any, ports }
        }
        (Ok(peers), Err(Unreadable)) if kind.effect == Effect::Deny => {
            Entry { path: path.into(), peers, ports: Ports::All }
        }
        (Err(Unreadable), _) | (_, Err(Unreadable)) => kind.closed(path),
    }
}
