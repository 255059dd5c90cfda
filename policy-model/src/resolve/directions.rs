//! The policy of one direction of an endpoint, settled once per distinct set of selecting rules.

use super::Report;
use super::grants::{Effect, Grant, grants, section, touches};
use super::known::{Inspection, Known, KnownPeer};
use super::lists::Lists;
use super::members::find;
use super::words::{Builtin, ByDefault, PortNames, named_ports, spans};
use crate::compiled::Compiled;
use crate::inputs::{EndpointInputs, Inputs};
use crate::labels::LabelSet;
use crate::ports::{Class, PortRange, settle};
use crate::rule::{Policy, Protocol, Rule, Section, Subject};
use crate::snapshot::{Direction, DirectionPolicy, Snapshot};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;
use std::sync::Arc;

#[derive(Debug)]
pub(super) struct Directions<'a> {
    previous: Option<&'a Snapshot>,
    rules: Vec<(&'a Policy, &'a Rule)>,
    known: &'a Known<'a>,
    allow_localhost: bool,
    selecting: HashMap<&'a LabelSet, Rc<[usize]>>,
    covered: HashMap<(usize, Direction), Rc<[Covered<'a>]>>,
    policies: HashMap<Key<'a>, Arc<DirectionPolicy>>,
    lists: Lists<'a>,
}

/// What the policy of a direction depends on, beside what is the same for all endpoints.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Key<'a> {
    direction: Direction,
    rules: Vec<usize>,
    is_init: bool,
    /// Where a rule names a port of the subject.
    named_ports: Option<&'a BTreeMap<Box<str>, (u16, Protocol)>>,
}

/// A grant and the places of the known peers that it covers.
#[derive(Debug)]
struct Covered<'a> {
    grant: Grant<'a>,
    peers: Vec<usize>,
}

impl<'a> Directions<'a> {
    pub(super) fn new(previous: Option<&'a Snapshot>, inputs: &'a Inputs, known: &'a Known<'a>) -> Self {
        let rules =
            inputs.policies.iter().flat_map(|policy| policy.rules.iter().map(move |rule| (&**policy, rule)));
        Self {
            previous,
            rules: rules.collect(),
            known,
            allow_localhost: inputs.node.allow_localhost,
            selecting: HashMap::new(),
            covered: HashMap::new(),
            policies: HashMap::new(),
            lists: Lists::new(previous, &inputs.policies),
        }
    }

    pub(super) fn finish(self, report: &mut Report) -> Compiled {
        self.lists.finish(report)
    }

    pub(super) fn policy(
        &mut self,
        direction: Direction,
        subject: &'a EndpointInputs,
    ) -> Arc<DirectionPolicy> {
        let key = self.key(direction, subject);
        if let Some(policy) = self.policies.get(&key) {
            return Arc::clone(policy);
        }
        let fresh = self.settle(&key, subject);
        let before = self.before(direction, subject).into_iter().find(|before| ***before == fresh);
        let policy = before.map_or_else(|| Arc::new(fresh), Arc::clone);
        let _new = self.policies.insert(key, Arc::clone(&policy));
        policy
    }

    /// Policies of the previous snapshot that may well be this one: the endpoint's own, for a new endpoint all.
    fn before(&self, direction: Direction, subject: &EndpointInputs) -> Vec<&'a Arc<DirectionPolicy>> {
        let endpoints = self.previous.map_or(&[][..], |previous| &previous.endpoints);
        let own = find(endpoints, subject);
        let candidates = own.map_or(endpoints, std::slice::from_ref).iter().map(|endpoint| match direction {
            Direction::Egress => &endpoint.egress,
            Direction::Ingress => &endpoint.ingress,
        });
        let mut seen = BTreeSet::new();
        candidates.filter(|policy| seen.insert(Arc::as_ptr(policy))).collect()
    }

    fn key(&mut self, direction: Direction, subject: &'a EndpointInputs) -> Key<'a> {
        let selecting = self.selecting(&subject.labels);
        let touching = |index: &&usize| {
            self.rules.get(**index).is_some_and(|(_, rule)| touches(section(rule, direction)))
        };
        let rules: Vec<usize> = selecting.iter().filter(touching).copied().collect();
        let is_init = subject.labels.get("reserved", "init").is_some();
        let by_name = direction == Direction::Ingress
            && rules
                .iter()
                .any(|rule| self.covered(*rule, direction).iter().any(|c| c.grant.has_named_ports()));
        Key { direction, rules, is_init, named_ports: by_name.then_some(&subject.named_ports) }
    }

    fn selecting(&mut self, labels: &'a LabelSet) -> Rc<[usize]> {
        let select = || {
            let selects = |rule: &Rule| match &rule.subject {
                Subject::Endpoints(selector) => selector.matches(labels),
                Subject::Nodes(_) | Subject::Nobody => false,
            };
            self.rules
                .iter()
                .enumerate()
                .filter(|(_, (_, rule))| selects(rule))
                .map(|(index, _)| index)
                .collect()
        };
        Rc::clone(self.selecting.entry(labels).or_insert_with(select))
    }

    fn covered(&mut self, rule: usize, direction: Direction) -> Rc<[Covered<'a>]> {
        let cover = || {
            let grants = self.rules.get(rule).map(|(policy, rule)| grants(policy, rule, direction));
            grants.into_iter().flatten().map(|grant| Covered::new(grant, self.known)).collect()
        };
        Rc::clone(self.covered.entry((rule, direction)).or_insert_with(cover))
    }

    fn settle(&mut self, key: &Key<'a>, subject: &'a EndpointInputs) -> DirectionPolicy {
        let enforced = key.is_init || !key.rules.is_empty();
        if !enforced {
            return DirectionPolicy::default();
        }
        let covered: Vec<Rc<[Covered<'a>]>> =
            key.rules.iter().map(|rule| self.covered(*rule, key.direction)).collect();
        let covered: Vec<&Covered<'a>> = covered.iter().flat_map(|grants| grants.iter()).collect();
        let mut grants_of = vec![Vec::new(); self.known.peers.len()];
        for (nth, covered) in covered.iter().enumerate() {
            for peer in &covered.peers {
                grants_of.get_mut(*peer).into_iter().for_each(|grants: &mut Vec<usize>| grants.push(nth));
            }
        }
        let by_default = self.by_default(key);
        let builtin = Builtin::new(key.direction, self.admits_localhost(key), by_default);
        let mut settled: HashMap<GrantsOf, Arc<[Class]>> = HashMap::new();
        let mut peers = Vec::new();
        for (place, (peer, numbers)) in self.known.peers.iter().zip(grants_of).enumerate() {
            let grants = || numbers.iter().filter_map(|nth| covered.get(*nth)).map(|covered| &covered.grant);
            let by_name = key.direction == Direction::Egress && grants().any(Grant::has_named_ports);
            let special = by_name || builtin.is_special(peer);
            let inspection = peer.inspection(key.direction);
            let grants_of = (numbers.clone(), inspection, special.then_some(place));
            let classes = settled.entry(grants_of).or_insert_with(|| {
                let names = match key.direction {
                    Direction::Egress => PortNames::Peer(&peer.pods),
                    Direction::Ingress => PortNames::Subject(subject),
                };
                let written = grants().flat_map(|grant| spans(grant, by_default, names));
                let spans: Vec<_> = written.chain(builtin.spans(peer)).collect();
                settle(&spans, |protocols, words| self.lists.decide(protocols, words, inspection))
            });
            if !classes.is_empty() {
                peers.push((peer.identity.id, Arc::clone(classes)));
            }
        }
        DirectionPolicy { enforced, peers, named: self.named(key.direction, subject, &covered) }
    }

    /// The ports that these grants name.
    fn named(
        &self,
        direction: Direction,
        subject: &EndpointInputs,
        covered: &[&Covered<'a>],
    ) -> Vec<PortRange> {
        let everybody: Vec<&EndpointInputs>;
        let names = match direction {
            Direction::Egress if covered.iter().any(|covered| covered.grant.has_named_ports()) => {
                everybody = self.known.peers.iter().flat_map(|peer| peer.pods.iter().copied()).collect();
                PortNames::Peer(&everybody)
            }
            Direction::Egress => PortNames::Peer(&[]),
            Direction::Ingress => PortNames::Subject(subject),
        };
        let named: BTreeSet<PortRange> =
            covered.iter().flat_map(|covered| named_ports(&covered.grant, names)).collect();
        named.into_iter().collect()
    }

    fn by_default(&self, key: &Key<'a>) -> ByDefault {
        let denies = self.sections(key).any(|section| section.default_deny);
        if key.is_init || denies { ByDefault::Deny } else { ByDefault::Allow }
    }

    /// An endpoint whose labels are not known yet is closed to the host too, until some rule's entry selects it.
    fn admits_localhost(&self, key: &Key<'a>) -> bool {
        let mentioned =
            || self.sections(key).any(|section| !section.allow.is_empty() || !section.deny.is_empty());
        self.allow_localhost && (!key.is_init || mentioned())
    }

    fn sections(&self, key: &Key<'a>) -> impl Iterator<Item = &'a Section> {
        let rules = key.rules.iter().filter_map(|index| self.rules.get(*index));
        rules.map(|(_, rule)| section(rule, key.direction))
    }
}

impl<'a> Covered<'a> {
    fn new(grant: Grant<'a>, known: &Known<'_>) -> Self {
        let covers = |peer: &KnownPeer<'_>| match grant.effect {
            Effect::Allow => peer.candidate().allowed_by(grant.peers),
            Effect::Deny => peer.candidate().denied_by(grant.peers),
        };
        let peers =
            known.peers.iter().enumerate().filter(|(_, peer)| covers(peer)).map(|(place, _)| place).collect();
        Self { grant, peers }
    }
}

/// The grants that cover a peer; and the peer, where the ports that they cover depend on it.
type GrantsOf = (Vec<usize>, Inspection, Option<usize>);
