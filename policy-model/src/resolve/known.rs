//! Everybody that policy can tell apart: the identities, and whose addresses are whose.

use super::Report;
use super::members::{Member, endpoint_name};
use crate::addresses::{AddressTable, Owner};
use crate::cidr::Prefix;
use crate::identity::{Identity, IdentityId, Numbers, cidr_labels};
use crate::inputs::{EndpointInputs, Inputs};
use crate::labels::{Label, LabelSet};
use crate::parse::Severity;
use crate::peers::{Candidate, Kind};
use crate::rule::{Entity, Entry, Peer, Peers, Rule};
use crate::snapshot::{Direction, Snapshot};
use crate::verdict::RuleRef;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The identities, sorted by number.
#[derive(Debug)]
pub(super) struct Known<'a> {
    pub(super) peers: Vec<KnownPeer<'a>>,
    by_labels: BTreeMap<LabelSet, Arc<Identity>>,
    by_prefix: BTreeMap<Prefix, Arc<Identity>>,
    reserved: BTreeMap<IdentityId, Arc<Identity>>,
}

#[derive(Debug)]
pub(super) struct KnownPeer<'a> {
    pub(super) identity: Arc<Identity>,
    kind: Kind,
    /// Whose ports a name on the egress side means.
    pub(super) pods: Vec<&'a EndpointInputs>,
}

impl<'a> Known<'a> {
    pub(super) fn new(
        previous: Option<&Snapshot>,
        inputs: &Inputs,
        members: &[Member<'a>],
        numbers: &mut Numbers,
    ) -> Self {
        let share = |id: IdentityId, labels: LabelSet| -> Arc<Identity> {
            let before = previous.and_then(|p| p.identities.binary_search_by_key(&id, |i| i.id).ok());
            let before =
                before.and_then(|index| previous?.identities.get(index)).filter(|i| i.labels == labels);
            before.map_or_else(|| Arc::new(Identity { id, labels }), Arc::clone)
        };
        let reserved = IdentityId::RESERVED
            .iter()
            .map(|(id, labels)| (*id, share(*id, labels.iter().map(|l| Label::parse(l)).collect())));
        let mut known = Self {
            peers: Vec::new(),
            by_labels: BTreeMap::new(),
            by_prefix: BTreeMap::new(),
            reserved: reserved.collect(),
        };
        let mut peers: BTreeMap<IdentityId, KnownPeer<'a>> = BTreeMap::new();
        for (id, identity) in &known.reserved {
            let _new = peers.insert(*id, KnownPeer::new(identity, None));
        }
        for prefix in prefixes(inputs) {
            let identity = known.outside(&prefix, |labels| share(numbers.number(&labels), labels));
            let _old = peers.insert(identity.id, KnownPeer::new(&identity, Some(prefix)));
            let _new = known.by_prefix.insert(prefix, identity);
        }
        for Member { inputs, .. } in members {
            let labels = &inputs.labels;
            let identity = known
                .by_labels
                .entry(labels.clone())
                .or_insert_with(|| share(numbers.number(labels), labels.clone()));
            let peer = peers.entry(identity.id).or_insert_with(|| KnownPeer::new(identity, None));
            peer.pods.push(inputs);
        }
        known.peers = peers.into_values().collect();
        known
    }

    /// A prefix of length 0 is the world of its family.
    fn outside(&self, prefix: &Prefix, make: impl FnOnce(LabelSet) -> Arc<Identity>) -> Arc<Identity> {
        let world = if prefix.address().is_ipv4() { IdentityId::WORLD_IPV4 } else { IdentityId::WORLD_IPV6 };
        let world = self.reserved.get(&world).filter(|_| prefix.length() == 0);
        world.map_or_else(|| make(cidr_labels(prefix)), Arc::clone)
    }

    pub(super) fn identities(&self) -> Vec<Arc<Identity>> {
        self.peers.iter().map(|peer| Arc::clone(&peer.identity)).collect()
    }

    pub(super) fn identity_of(&self, inputs: &EndpointInputs) -> Arc<Identity> {
        self.by_labels.get(&inputs.labels).map_or_else(|| self.reserved(IdentityId::UNKNOWN), Arc::clone)
    }

    fn reserved(&self, id: IdentityId) -> Arc<Identity> {
        let make = || Arc::new(Identity { id, labels: LabelSet::default() });
        self.reserved.get(&id).map_or_else(make, Arc::clone)
    }
}

/// Whether connections with a peer can be handed to the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Inspection {
    /// It is at the other end of a connection that enters from outside of the node's endpoints.
    Impossible,
    Possible,
}

impl KnownPeer<'_> {
    /// A connection is handed over where it is opened: at an endpoint of this node.
    pub(super) fn inspection(&self, direction: Direction) -> Inspection {
        match (direction, self.kind) {
            (Direction::Egress, _) | (Direction::Ingress, Kind::Pod) => Inspection::Possible,
            (Direction::Ingress, Kind::Cidr(_) | Kind::Reserved | Kind::Unknown) => Inspection::Impossible,
        }
    }

    fn new(identity: &Arc<Identity>, prefix: Option<Prefix>) -> Self {
        Self { identity: Arc::clone(identity), kind: Kind::new(identity.id, prefix), pods: Vec::new() }
    }

    pub(super) fn candidate(&self) -> Candidate<'_> {
        Candidate { identity: &self.identity, kind: self.kind }
    }
}

/// Every prefix that an address may fall into and that policy tells apart, the two worlds included. Those inside a pod
/// network are left out: nobody outside has such an address.
fn prefixes(inputs: &Inputs) -> BTreeSet<Prefix> {
    let rules = inputs.policies.iter().flat_map(|policy| &policy.rules);
    let named = rules.flat_map(named_prefixes);
    let inside = |prefix: &Prefix| inputs.node.pod_networks.iter().any(|pods| pods.covers(prefix));
    let all = worlds().into_iter().chain(named).filter(|prefix| !inside(prefix));
    // Who does not know which addresses are pods can't say of any that it is outside.
    all.filter(|_| !inputs.node.pod_networks.is_empty()).collect()
}

fn worlds() -> [Prefix; 2] {
    use core::net::{Ipv4Addr, Ipv6Addr};
    [(Ipv4Addr::UNSPECIFIED.into()), (Ipv6Addr::UNSPECIFIED.into())]
        .map(|address| Prefix::new(address, 0).unwrap_or_else(|| Prefix::host(address)))
}

fn named_prefixes(rule: &Rule) -> impl Iterator<Item = Prefix> {
    let sections = [&rule.ingress, &rule.egress].into_iter();
    let entries = sections.flat_map(|section| section.allow.iter().chain(&section.deny));
    let peers = entries.flat_map(|entry| match &entry.peers {
        Peers::Any => &[][..],
        Peers::Of(peers) => peers,
    });
    peers.flat_map(|peer| match peer {
        Peer::Cidr { prefix, except } => std::iter::once(*prefix).chain(except.iter().copied()).collect(),
        Peer::Endpoints(_) | Peer::Entity(_) => Vec::new(),
    })
}

/// Rules that speak of the outside say nothing as long as nobody knows where it begins.
pub(super) fn warn(inputs: &Inputs, report: &mut Report) {
    if inputs.node.pod_networks.is_empty() && !inputs.policies.is_empty() {
        let message = "it is not known which addresses are pods, so none counts as outside, and all that no endpoint or \
                       node claims are unknown";
        let fix = "list the networks that pods get their addresses from";
        report.say(Severity::Warning, "node.pod_networks".to_owned(), message.to_owned(), fix);
    }
    for policy in &inputs.policies {
        for (rule, entry) in policy.rules.iter().flat_map(|rule| denies(rule).map(move |entry| (rule, entry)))
        {
            for name in unknown_entities(entry) {
                let at = RuleRef::new(policy.name.clone(), &format!("{}.{}", rule.path, entry.path));
                let message = format!("no address is known to be `{name}`, so this denies nobody");
                report.say(Severity::Warning, at.to_string(), message, "deny its addresses as a CIDR");
            }
        }
    }
}

fn denies(rule: &Rule) -> impl Iterator<Item = &Entry> {
    [&rule.ingress, &rule.egress].into_iter().flat_map(|section| &section.deny)
}

/// Entities of an entry whose addresses are not among the inputs: what is theirs counts as something else.
fn unknown_entities(entry: &Entry) -> impl Iterator<Item = &'static str> {
    let peers = match &entry.peers {
        Peers::Any => &[][..],
        Peers::Of(peers) => peers,
    };
    peers.iter().filter_map(|peer| match peer {
        Peer::Entity(Entity::Health) => Some("health"),
        Peer::Entity(Entity::Ingress) => Some("ingress"),
        Peer::Entity(Entity::KubeApiserver) => Some("kube-apiserver"),
        Peer::Entity(Entity::RemoteNode) => Some("remote-node"),
        Peer::Entity(Entity::Unmanaged) => Some("unmanaged"),
        Peer::Entity(
            Entity::All
            | Entity::Cluster
            | Entity::Host
            | Entity::Init
            | Entity::None
            | Entity::World
            | Entity::WorldIpv4
            | Entity::WorldIpv6,
        )
        | Peer::Cidr { .. }
        | Peer::Endpoints(_) => None,
    })
}

/// Whose is which address. What is said later in this function is the stronger claim.
pub(super) fn addresses(
    inputs: &Inputs,
    members: &[Member<'_>],
    known: &Known<'_>,
    report: &mut Report,
) -> AddressTable {
    let nobody = || Owner { identity: known.reserved(IdentityId::UNKNOWN), endpoint: None };
    let mut table: BTreeMap<Prefix, Owner> = BTreeMap::new();
    for world in worlds() {
        let _new = table.insert(world, nobody());
    }
    for (prefix, identity) in &known.by_prefix {
        let _old = table.insert(*prefix, Owner { identity: Arc::clone(identity), endpoint: None });
    }
    for prefix in &inputs.node.pod_networks {
        let _old = table.insert(*prefix, nobody());
    }
    for address in &inputs.node.addresses {
        let host = Owner { identity: known.reserved(IdentityId::HOST), endpoint: None };
        let _old = table.insert(Prefix::host(*address), host);
    }
    let claims = members.iter().enumerate().flat_map(|(index, member)| {
        member.inputs.addresses.iter().map(move |address| (index, member, *address))
    });
    let mut claimed = BTreeMap::new();
    for (index, member, address) in claims {
        let first = *claimed.entry(address).or_insert(index);
        if first != index {
            let message =
                format!("address `{address}` belongs to another endpoint already, whose policy holds");
            report.say(
                Severity::Error,
                endpoint_name(member.inputs),
                message,
                "give every endpoint its own addresses",
            );
            continue;
        }
        let owner = Owner { identity: known.identity_of(member.inputs), endpoint: Some(index) };
        let _old = table.insert(Prefix::host(address), owner);
    }
    AddressTable::new(table, nobody())
}
