//! Everybody that policy can tell apart: the identities, and what is known of each.

use super::Moved;
use super::changes::between;
use super::groups::{Inspection, Traits};
use super::members::{Member, key};
use super::terms::{Effect, LabelHash, hashes, needed};
use crate::cidr::Prefix;
use crate::identity::{Identity, IdentityId, Numbers, cidr_labels};
use crate::inputs::{Inputs, NamedPorts};
use crate::labels::{Label, LabelSet};
use crate::peers::{Candidate, Kind};
use crate::rule::{Peer, Peers, Rule};
use crate::snapshot::Endpoint;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

#[derive(Debug, Default)]
pub(super) struct Population {
    known: HashMap<IdentityId, (Arc<Identity>, Kind)>,
    pods: HashMap<LabelSet, Pods>,
    outside: BTreeMap<Prefix, Arc<Identity>>,
    reserved: BTreeMap<IdentityId, Arc<Identity>>,
    /// Pods by what is among their labels.
    by_label: HashMap<LabelHash, BTreeSet<IdentityId>>,
    /// All that pods call their ports, with how many do.
    names: BTreeMap<NamedPorts, usize>,
    port_names: Arc<[NamedPorts]>,
    pod_networks: Vec<Prefix>,
}

/// The pods of one identity.
#[derive(Debug)]
struct Pods {
    identity: Arc<Identity>,
    /// Of this node, and of others.
    here: usize,
    elsewhere: usize,
    names: BTreeMap<NamedPorts, usize>,
}

#[derive(Clone, Copy, Debug)]
enum Where {
    Here,
    Elsewhere,
}

/// What the prefixes are made from, and whether policies are others now.
pub(super) struct Outside<'a> {
    pub(super) inputs: &'a Inputs,
    pub(super) policies_changed: bool,
}

/// What came of an update.
#[derive(Debug, Default)]
pub(super) struct Touched {
    pub(super) gone: Vec<IdentityId>,
    pub(super) come: Vec<Known>,
    pub(super) changed: Vec<(Arc<Identity>, Traits)>,
}

#[derive(Debug)]
pub(super) struct Known {
    pub(super) identity: Arc<Identity>,
    kind: Kind,
    pub(super) traits: Traits,
}

impl Known {
    pub(super) fn candidate(&self) -> Candidate<'_> {
        Candidate { identity: &self.identity, kind: self.kind }
    }
}

impl Population {
    /// `endpoints`: those of before.
    pub(super) fn update(
        &mut self,
        outside: &Outside<'_>,
        endpoints: &[Arc<Endpoint>],
        members: &[Member<'_>],
        moved: Moved<'_>,
        numbers: &mut Numbers,
    ) -> Touched {
        let mut touched = Touched::default();
        if self.reserved.is_empty() {
            self.add_reserved(&mut touched);
        }
        if outside.policies_changed || self.pod_networks != outside.inputs.node.pod_networks {
            self.update_outside(outside.inputs, numbers, &mut touched);
        }
        let labels = self.count(endpoints, members, moved);
        self.settle(labels, numbers, &mut touched);
        touched
    }

    pub(super) fn reserved(&self, id: IdentityId) -> Arc<Identity> {
        let make = || Arc::new(Identity { id, labels: LabelSet::default() });
        self.reserved.get(&id).map_or_else(make, Arc::clone)
    }

    pub(super) fn identity_of(&self, labels: &LabelSet) -> Arc<Identity> {
        let pods = self.pods.get(labels);
        pods.map_or_else(|| self.reserved(IdentityId::UNKNOWN), |pods| Arc::clone(&pods.identity))
    }

    /// The prefixes outside that policy tells apart, the two worlds included.
    pub(super) fn outside(&self) -> &BTreeMap<Prefix, Arc<Identity>> {
        &self.outside
    }

    /// What pods call their ports, each once; another object where that has changed.
    pub(super) fn port_names(&self) -> Arc<[NamedPorts]> {
        Arc::clone(&self.port_names)
    }

    /// Those that a term covers.
    pub(super) fn covered(&self, effect: Effect, peers: &Peers) -> Vec<IdentityId> {
        let covers = |id: &IdentityId| {
            self.known
                .get(id)
                .is_some_and(|(identity, kind)| effect.covers(&Candidate { identity, kind: *kind }, peers))
        };
        let Some(labels) = needed(peers) else {
            return self.known.keys().copied().filter(covers).collect();
        };
        let pods = labels.iter().filter_map(|label| self.by_label.get(label)).flatten();
        let others = self.reserved.keys().copied().chain(self.outside.values().map(|identity| identity.id));
        let maybe: BTreeSet<IdentityId> = pods.copied().chain(others).collect();
        maybe.into_iter().filter(covers).collect()
    }

    fn add_reserved(&mut self, touched: &mut Touched) {
        for (id, labels) in IdentityId::RESERVED {
            let labels = labels.iter().map(|label| Label::parse(label)).collect();
            let identity = Arc::new(Identity { id: *id, labels });
            let _new = self.reserved.insert(*id, Arc::clone(&identity));
            self.come(identity, Kind::new(*id, None), touched);
        }
    }

    fn come(&mut self, identity: Arc<Identity>, kind: Kind, touched: &mut Touched) {
        let id = identity.id;
        let special = matches!(id, IdentityId::HOST | IdentityId::UNKNOWN).then_some(id);
        let traits = Traits { special, inspection: Inspection::Impossible, names: Arc::default() };
        let _before = self.known.insert(id, (Arc::clone(&identity), kind));
        touched.come.push(Known { identity, kind, traits });
    }

    fn update_outside(&mut self, inputs: &Inputs, numbers: &mut Numbers, touched: &mut Touched) {
        self.pod_networks.clone_from(&inputs.node.pod_networks);
        let prefixes = prefixes(inputs);
        let gone: Vec<Prefix> = self.outside.keys().filter(|p| !prefixes.contains(p)).copied().collect();
        for prefix in gone {
            let Some(identity) = self.outside.remove(&prefix) else { continue };
            if identity.id.is_reserved() {
                let kind = Kind::new(identity.id, None);
                self.come(identity, kind, touched);
            } else {
                let _known = self.known.remove(&identity.id);
                touched.gone.push(identity.id);
            }
        }
        for prefix in prefixes {
            if !self.outside.contains_key(&prefix) {
                let identity = self.outside_identity(&prefix, numbers);
                let _new = self.outside.insert(prefix, Arc::clone(&identity));
                let kind = Kind::new(identity.id, Some(prefix));
                if kind != Kind::Unknown {
                    self.come(identity, kind, touched);
                }
            }
        }
    }

    /// A prefix of length 0 is the world of its family.
    fn outside_identity(&self, prefix: &Prefix, numbers: &mut Numbers) -> Arc<Identity> {
        let world = if prefix.address().is_ipv4() { IdentityId::WORLD_IPV4 } else { IdentityId::WORLD_IPV6 };
        let world = self.reserved.get(&world).filter(|_| prefix.length() == 0);
        let mut make = |labels: LabelSet| Arc::new(Identity { id: numbers.number(&labels), labels });
        world.map_or_else(|| make(cidr_labels(prefix)), Arc::clone)
    }

    /// Counts pods that came and went. Returns the labels that this is about.
    fn count(
        &mut self,
        endpoints: &[Arc<Endpoint>],
        members: &[Member<'_>],
        moved: Moved<'_>,
    ) -> HashSet<LabelSet> {
        let mut touched = HashSet::new();
        let (gone, come) = between(
            endpoints,
            members,
            |old, new| key(&old.inputs).cmp(&key(new.inputs)),
            |old, new| old.inputs == *new.inputs,
        );
        for pod in come.iter().map(|member| member.inputs) {
            self.join(&pod.labels, &pod.named_ports, Where::Here, &mut touched);
        }
        for pod in gone.iter().map(|endpoint| &endpoint.inputs) {
            self.leave(&pod.labels, &pod.named_ports, Where::Here, &mut touched);
        }
        for pod in moved.come {
            self.join(&pod.labels, &pod.named_ports, Where::Elsewhere, &mut touched);
        }
        for pod in moved.gone {
            self.leave(&pod.labels, &pod.named_ports, Where::Elsewhere, &mut touched);
        }
        touched
    }

    /// Whoever was counted up from nothing is known from now on, whoever was counted down to nothing no more.
    fn settle(&mut self, labels: HashSet<LabelSet>, numbers: &mut Numbers, touched: &mut Touched) {
        // In one order, as numbers that are taken move those that come later.
        let mut labels: Vec<LabelSet> = labels.into_iter().collect();
        labels.sort_unstable();
        for labels in labels {
            let Some(pods) = self.pods.get_mut(&labels) else { continue };
            let is_known = pods.identity.id != IdentityId::UNKNOWN;
            let traits = pods.traits();
            if pods.here == 0 && pods.elsewhere == 0 {
                let id = pods.identity.id;
                let _pods = self.pods.remove(&labels);
                if is_known {
                    self.forget(id, &labels);
                    touched.gone.push(id);
                }
            } else if is_known {
                touched.changed.push((Arc::clone(&pods.identity), traits));
            } else {
                let id = numbers.number(&labels);
                pods.identity = Arc::new(Identity { id, labels });
                let (identity, kind) = (Arc::clone(&pods.identity), Kind::new(id, None));
                if kind != Kind::Unknown {
                    self.learn(&identity, kind);
                    touched.come.push(Known { identity, kind, traits });
                }
            }
        }
        if !self.names.keys().eq(self.port_names.iter()) {
            self.port_names = self.names.keys().cloned().collect();
        }
    }

    fn learn(&mut self, identity: &Arc<Identity>, kind: Kind) {
        for label in hashes(&identity.labels) {
            let _new = self.by_label.entry(label).or_default().insert(identity.id);
        }
        let _before = self.known.insert(identity.id, (Arc::clone(identity), kind));
    }

    fn forget(&mut self, id: IdentityId, labels: &LabelSet) {
        for label in hashes(labels) {
            if let Some(ids) = self.by_label.get_mut(&label) {
                let _was_there = ids.remove(&id);
                if ids.is_empty() {
                    let _empty = self.by_label.remove(&label);
                }
            }
        }
        let _known = self.known.remove(&id);
    }

    fn join(&mut self, labels: &LabelSet, names: &NamedPorts, at: Where, touched: &mut HashSet<LabelSet>) {
        let nobody = || Pods {
            identity: self.reserved(IdentityId::UNKNOWN),
            here: 0,
            elsewhere: 0,
            names: BTreeMap::new(),
        };
        let nobody = if self.pods.contains_key(labels) { None } else { Some(nobody()) };
        if let Some(pods) = nobody {
            let _new = self.pods.insert(labels.clone(), pods);
        }
        if let Some(pods) = self.pods.get_mut(labels) {
            *pods.count(at) += 1;
            more(&mut pods.names, names);
            more(&mut self.names, names);
        }
        let _new = touched.insert(labels.clone());
    }

    fn leave(&mut self, labels: &LabelSet, names: &NamedPorts, at: Where, touched: &mut HashSet<LabelSet>) {
        if let Some(pods) = self.pods.get_mut(labels) {
            let count = pods.count(at);
            *count = count.saturating_sub(1);
            fewer(&mut pods.names, names);
            fewer(&mut self.names, names);
        }
        let _new = touched.insert(labels.clone());
    }
}

impl Pods {
    fn count(&mut self, at: Where) -> &mut usize {
        match at {
            Where::Here => &mut self.here,
            Where::Elsewhere => &mut self.elsewhere,
        }
    }

    fn traits(&self) -> Traits {
        let inspection = if self.elsewhere == 0 { Inspection::Possible } else { Inspection::Impossible };
        Traits { special: None, inspection, names: self.names.keys().cloned().collect() }
    }
}

/// Pods that name no port are not counted.
fn more(counts: &mut BTreeMap<NamedPorts, usize>, names: &NamedPorts) {
    match counts.get_mut(names) {
        Some(count) => *count += 1,
        None if names.is_empty() => {}
        None => {
            let _new = counts.insert(names.clone(), 1);
        }
    }
}

fn fewer(counts: &mut BTreeMap<NamedPorts, usize>, names: &NamedPorts) {
    if let Some(count) = counts.get_mut(names) {
        *count = count.saturating_sub(1);
        if *count == 0 {
            let _gone = counts.remove(names);
        }
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

pub(super) fn worlds() -> [Prefix; 2] {
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
