//! The entries of rules as named grants, flat and in order.

use crate::rule::{Entry, HttpRule, L7, Peers, Policy, Port, Ports, Rule, Section};
use crate::snapshot::Direction;
use crate::verdict::RuleRef;

/// One entry of one section of a rule.
#[derive(Debug)]
pub(super) struct Grant<'a> {
    pub(super) effect: Effect,
    pub(super) peers: &'a Peers,
    pub(super) ports: Scope<'a>,
    pub(super) name: RuleRef,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    Allow,
    Deny,
}

#[derive(Debug)]
pub(super) enum Scope<'a> {
    All,
    Of(Vec<NamedPorts<'a>>),
}

/// One element of toPorts.
#[derive(Debug)]
pub(super) struct NamedPorts<'a> {
    pub(super) rule: &'a crate::rule::PortRule,
    pub(super) name: RuleRef,
    pub(super) http: Vec<(&'a HttpRule, RuleRef)>,
}

pub(super) fn section(rule: &Rule, direction: Direction) -> &Section {
    match direction {
        Direction::Egress => &rule.egress,
        Direction::Ingress => &rule.ingress,
    }
}

/// Whether a rule that selects the subject has anything to say of this direction.
pub(super) fn touches(section: &Section) -> bool {
    section.default_deny || !section.allow.is_empty() || !section.deny.is_empty()
}

pub(super) fn grants<'a>(policy: &Policy, rule: &'a Rule, direction: Direction) -> Vec<Grant<'a>> {
    let section = section(rule, direction);
    let name = |path: &str| RuleRef::new(policy.name.clone(), &format!("{}.{path}", rule.path));
    let denies = section.deny.iter().map(|entry| Grant::new(Effect::Deny, entry, &name));
    denies.chain(section.allow.iter().map(|entry| Grant::new(Effect::Allow, entry, &name))).collect()
}

impl<'a> Grant<'a> {
    fn new(effect: Effect, entry: &'a Entry, name: &impl Fn(&str) -> RuleRef) -> Self {
        let ports = match &entry.ports {
            Ports::All => Scope::All,
            Ports::Of(rules) => Scope::Of(rules.iter().map(|rule| NamedPorts::new(rule, name)).collect()),
        };
        Self { effect, peers: &entry.peers, ports, name: name(&entry.path) }
    }

    /// Whether the ports it covers depend on what pods call them.
    pub(super) fn has_named_ports(&self) -> bool {
        match &self.ports {
            Scope::All => false,
            Scope::Of(rules) => {
                let mut ports = rules.iter().flat_map(|r| &r.rule.ports);
                ports.any(|port| matches!(port.port, Port::Named(_) | Port::NamedRange(..)))
            }
        }
    }
}

impl<'a> NamedPorts<'a> {
    fn new(rule: &'a crate::rule::PortRule, name: &impl Fn(&str) -> RuleRef) -> Self {
        let http = match &rule.l7 {
            L7::Http(rules) => rules.iter().map(|http| (http, name(&http.path))).collect(),
            L7::None | L7::Unjudgeable => Vec::new(),
        };
        Self { rule, name: name(&rule.path), http }
    }
}
