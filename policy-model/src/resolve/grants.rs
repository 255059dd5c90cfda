//! The entries of rules as named grants, flat and in order.

use super::subjects::RuleAt;
use super::terms::{Effect, NewTerm, TermId, Terms};
use crate::rule::{Entry, HttpRule, L7, Port, PortMatch, PortRule, Ports};
use crate::snapshot::Direction;
use crate::verdict::RuleRef;
use std::collections::HashMap;

/// Those of the rules in use.
#[derive(Debug, Default)]
pub(super) struct Grants(HashMap<RuleAt, [Vec<Grant>; 2]>);

/// One entry of one section of a rule.
#[derive(Debug)]
pub(super) struct Grant {
    pub(super) effect: Effect,
    pub(super) term: TermId,
    pub(super) ports: Scope,
    pub(super) name: RuleRef,
}

#[derive(Debug)]
pub(super) enum Scope {
    All,
    Of(Vec<PortGrant>),
}

/// One element of toPorts.
#[derive(Debug)]
pub(super) struct PortGrant {
    pub(super) ports: Vec<PortMatch>,
    pub(super) requests: Requests,
    pub(super) name: RuleRef,
}

/// What is asked of requests.
#[derive(Debug)]
pub(super) enum Requests {
    Nothing,
    /// One of these.
    Http(Vec<(HttpRule, RuleRef)>),
    Unjudgeable,
}

impl Grants {
    /// Returns the terms that nobody spoke of before.
    pub(super) fn add(&mut self, rule: &RuleAt, terms: &mut Terms) -> Vec<NewTerm> {
        let mut new = Vec::new();
        let grants = [Direction::Egress, Direction::Ingress].map(|direction| {
            entries(rule, direction)
                .map(|(effect, entry)| {
                    let (term, first) = terms.acquire(effect, &entry.peers);
                    new.extend(first);
                    Grant::new(effect, term, entry, rule)
                })
                .collect()
        });
        let _none = self.0.insert(rule.clone(), grants);
        new
    }

    pub(super) fn remove(&mut self, rule: &RuleAt, terms: &mut Terms) {
        let grants = self.0.remove(rule).into_iter().flatten().flatten();
        grants.for_each(|grant| terms.release(grant.term));
    }

    /// Denials first.
    pub(super) fn of(&self, rule: &RuleAt, direction: Direction) -> &[Grant] {
        let [egress, ingress] = match self.0.get(rule) {
            Some(grants) => grants,
            None => return &[],
        };
        match direction {
            Direction::Egress => egress,
            Direction::Ingress => ingress,
        }
    }
}

fn entries(rule: &RuleAt, direction: Direction) -> impl Iterator<Item = (Effect, &Entry)> {
    rule.section(direction).into_iter().flat_map(|section| {
        let denies = section.deny.iter().map(|entry| (Effect::Deny, entry));
        denies.chain(section.allow.iter().map(|entry| (Effect::Allow, entry)))
    })
}

impl Grant {
    fn new(effect: Effect, term: TermId, entry: &Entry, rule: &RuleAt) -> Self {
        let at = rule.rule().map_or("", |rule| &rule.path);
        let name = |path: &str| RuleRef::new(rule.policy.name.clone(), &format!("{at}.{path}"));
        let ports = match &entry.ports {
            Ports::All => Scope::All,
            Ports::Of(rules) => Scope::Of(rules.iter().map(|rule| PortGrant::new(rule, &name)).collect()),
        };
        Self { effect, term, ports, name: name(&entry.path) }
    }

    /// Whether the ports it covers depend on what pods call them.
    pub(super) fn has_named_ports(&self) -> bool {
        match &self.ports {
            Scope::All => false,
            Scope::Of(rules) => {
                let mut ports = rules.iter().flat_map(|rule| &rule.ports);
                ports.any(|port| matches!(port.port, Port::Named(_) | Port::NamedRange(..)))
            }
        }
    }
}

impl PortGrant {
    fn new(rule: &PortRule, name: &impl Fn(&str) -> RuleRef) -> Self {
        let requests = match &rule.l7 {
            L7::None => Requests::Nothing,
            L7::Http(rules) => {
                Requests::Http(rules.iter().map(|http| (http.clone(), name(&http.path))).collect())
            }
            L7::Unjudgeable => Requests::Unjudgeable,
        };
        Self { ports: rule.ports.clone(), requests, name: name(&rule.path) }
    }
}
