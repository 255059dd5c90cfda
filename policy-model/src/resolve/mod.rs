//! Inputs to snapshots. What a change costs depends on what changed.
//!
//! ```text
//!   policies ─► subjects: which rules select whom ──► grants: named entries, in order ──► terms: whom they speak of
//!                                                                                            │ (interned, by label)
//!   endpoints, peers, prefixes ─► population: who there is, and its labels ──────────────────┤
//!                                                                                            ▼
//!   directions: one policy per distinct list of rules: port classes per group ◄── groups: identities covered by the same terms
//! ```
//!
//! INVARIANT: a peer that is not known is covered by an allow only if the allow covers everybody.
//! INVARIANT: the snapshot of a resolver with a past answers as that of one without.

mod changes;
mod members;
mod subjects;
mod terms;
mod grants;
mod groups;
mod population;
mod warnings;
mod claims;
mod words;
mod lists;
mod directions;

use crate::directory::Directory;
use crate::identity::{Numbers, Party};
use crate::inputs::{Inputs, PeerInputs};
use crate::parse::{Diagnostic, Severity};
use crate::rule::Policy;
use crate::snapshot::{Direction, Endpoint, Snapshot};
use changes::between;
use claims::Claims;
use core::cmp::Ordering;
use directions::{Directions, Scene};
use grants::Grants;
use groups::Groups;
use lists::Lists;
use members::Member;
use population::Population;
use std::collections::BTreeSet;
use std::sync::Arc;
use subjects::{Change, Subjects};
use terms::Terms;

/// Resolves every policy for every endpoint, from nothing. Total: what can't be enforced is closed and reported, never skipped.
/// `revision` becomes the snapshot's. Equal inputs and numbers give snapshots that answer alike.
pub fn resolve(inputs: &Inputs, numbers: &mut Numbers, revision: u64) -> (Snapshot, Vec<Diagnostic>) {
    Resolver::default().resolve(inputs, numbers, revision)
}

/// Makes one snapshot after the other, each from what differs from the last.
#[derive(Debug, Default)]
pub struct Resolver {
    subjects: Subjects,
    grants: Grants,
    terms: Terms,
    population: Population,
    groups: Groups,
    lists: Lists,
    directions: Directions,
    claims: Claims,
    endpoints: Vec<Arc<Endpoint>>,
    policies: Arc<[Arc<Policy>]>,
    peers: Vec<Arc<PeerInputs>>,
    /// Of the policies alone.
    warnings: Vec<Diagnostic>,
    pod_networks_known: bool,
}

impl Resolver {
    /// As [`resolve`], by what differs from the inputs of the call before.
    pub fn resolve(
        &mut self,
        inputs: &Inputs,
        numbers: &mut Numbers,
        revision: u64,
    ) -> (Snapshot, Vec<Diagnostic>) {
        if self.terms.are_mostly_unused() {
            *self = Self { lists: core::mem::take(&mut self.lists), ..Self::default() };
            self.lists.forget_policies();
        }
        let mut report = Report::default();
        let members = members::number(inputs, numbers, &mut report);
        let rules = self.subjects.update(&inputs.policies, &members);
        let peers = core::mem::take(&mut self.peers);
        let (gone, come) = between(&peers, &inputs.peers, peers_by_name, is_same_peer);
        let moved = Moved { gone: &gone, come: &come };
        self.update_population(inputs, &members, moved, &rules, numbers);
        self.update_rules(inputs, &rules);
        let endpoints = self.endpoints(inputs, &members);
        report.add(&self.warnings);
        let both = claims::Endpoints { before: &self.endpoints, after: &endpoints };
        let addresses = self.claims.update(inputs, both, &members, moved, &self.population, &mut report);
        if rules.changes_policies() {
            self.lists.forget_unused();
            self.policies = inputs.policies.as_slice().into();
        }
        report.add(&self.directions.diagnostics());
        let named = endpoints.iter().map(|endpoint| (endpoint.id, Arc::clone(&endpoint.party))).collect();
        let directory = Directory { revision, peers: self.groups.peers(), endpoints: named, addresses };
        let snapshot = Snapshot {
            revision,
            endpoints: endpoints.clone(),
            policies: Arc::clone(&self.policies),
            directory: Arc::new(directory),
        };
        self.endpoints = endpoints;
        self.peers = if gone.is_empty() && come.is_empty() { peers } else { inputs.peers.clone() };
        (snapshot, report.diagnostics)
    }

    /// Who there is, in which group.
    fn update_population(
        &mut self,
        inputs: &Inputs,
        members: &[Member<'_>],
        moved: Moved<'_>,
        rules: &Change,
        numbers: &mut Numbers,
    ) {
        let outside = population::Outside { inputs, policies_changed: rules.changes_policies() };
        let touched = self.population.update(&outside, &self.endpoints, members, moved, numbers);
        for id in touched.gone {
            self.groups.remove(id);
        }
        for known in touched.come {
            let terms = self.terms.covering(&known.candidate());
            self.groups.place(&known.identity, terms, known.traits);
        }
        for (identity, traits) in touched.changed {
            self.groups.change(&identity, traits);
        }
    }

    /// What the rules in use say, and of whom.
    fn update_rules(&mut self, inputs: &Inputs, change: &Change) {
        self.lists.update(change, &inputs.policies);
        for rule in &change.gone {
            self.grants.remove(rule, &mut self.terms);
        }
        for rule in &change.come {
            for term in self.grants.add(rule, &mut self.terms) {
                let covered = self.population.covered(term.effect, &term.peers);
                self.groups.split(term.id, &covered);
            }
        }
        let is_known = !inputs.node.pod_networks.is_empty();
        if change.changes_policies() || is_known != self.pod_networks_known {
            self.warnings = warnings::of(&inputs.policies, is_known);
            self.pod_networks_known = is_known;
        }
    }

    /// The endpoints with their policies; what did not change is shared with those of before.
    fn endpoints(&mut self, inputs: &Inputs, members: &[Member<'_>]) -> Vec<Arc<Endpoint>> {
        self.directions.begin(self.groups.take_changes(), self.population.port_names());
        let mut endpoints = Vec::new();
        for Member { id, inputs: subject } in members {
            let rules = self.subjects.rules_of(&subject.labels);
            let scene =
                Scene { groups: &self.groups, grants: &self.grants, localhost: inputs.node.allow_localhost };
            let lists = &mut self.lists;
            let ingress = self.directions.policy(Direction::Ingress, subject, rules.ingress, &scene, lists);
            let egress = self.directions.policy(Direction::Egress, subject, rules.egress, &scene, lists);
            let identity = self.population.identity_of(&subject.labels);
            let before = members::find(&self.endpoints, subject);
            let party = before.filter(|before| Arc::ptr_eq(&before.identity, &identity));
            let party = party.map_or_else(
                || Arc::new(Party::named(Arc::clone(&identity), &subject.namespace, &subject.name)),
                |before| Arc::clone(&before.party),
            );
            let inputs = (*subject).clone();
            let endpoint = Endpoint { id: *id, inputs, identity, party, ingress, egress };
            let before = before.filter(|before| is_same(before, &endpoint));
            endpoints.push(before.map_or_else(|| Arc::new(endpoint), Arc::clone));
        }
        self.directions.end();
        endpoints
    }
}

fn is_same(a: &Endpoint, b: &Endpoint) -> bool {
    a.id == b.id
        && a.inputs == b.inputs
        && Arc::ptr_eq(&a.identity, &b.identity)
        && Arc::ptr_eq(&a.ingress, &b.ingress)
        && Arc::ptr_eq(&a.egress, &b.egress)
}

/// Peers that are not there any more, and those that were not there before.
#[derive(Clone, Copy)]
struct Moved<'a> {
    gone: &'a [&'a Arc<PeerInputs>],
    come: &'a [&'a Arc<PeerInputs>],
}

// Most are one object, and there are very many: names are looked at where they are not.

fn by_name(a: &Arc<Policy>, b: &Arc<Policy>) -> Ordering {
    if Arc::ptr_eq(a, b) { Ordering::Equal } else { a.name.cmp(&b.name) }
}

fn peers_by_name(a: &Arc<PeerInputs>, b: &Arc<PeerInputs>) -> Ordering {
    if Arc::ptr_eq(a, b) { Ordering::Equal } else { (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)) }
}

fn is_same_peer(a: &Arc<PeerInputs>, b: &Arc<PeerInputs>) -> bool {
    Arc::ptr_eq(a, b) || a == b
}

/// Whether both say the same; what is one object does.
fn is_same_policy(a: &Arc<Policy>, b: &Arc<Policy>) -> bool {
    Arc::ptr_eq(a, b) || **a == **b
}

/// What could not be enforced as asked; each said once.
#[derive(Debug, Default)]
struct Report {
    diagnostics: Vec<Diagnostic>,
    said: BTreeSet<(String, String)>,
}

impl Report {
    fn say(&mut self, severity: Severity, field: String, message: String, fix: &str) {
        self.add(&[Diagnostic { severity, line: 0, field, message, fix: fix.to_owned() }]);
    }

    fn add(&mut self, diagnostics: &[Diagnostic]) {
        for diagnostic in diagnostics {
            if self.said.insert((diagnostic.field.clone(), diagnostic.message.clone())) {
                self.diagnostics.push(diagnostic.clone());
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
