//! What grants, and the allowances that nobody writes, say of ports.

use super::grants::{Grant, PortGrant, Requests, Scope};
use super::groups::Group;
use super::terms::Effect;
use crate::identity::IdentityId;
use crate::inputs::NamedPorts;
use crate::ports::{ALL_PORTS, PortRange, Span};
use crate::rule::{HttpRule, ObjectKind, ObjectName, Port, PortMatch};
use crate::snapshot::Direction;
use crate::verdict::RuleRef;
use std::collections::BTreeSet;

/// What a grant, or a built-in allowance, says of some ports.
#[derive(Clone, Copy, Debug)]
pub(super) struct Word<'g> {
    pub(super) says: Says,
    pub(super) rule: &'g RuleRef,
    pub(super) http: &'g [(HttpRule, RuleRef)],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Says {
    Allow,
    Deny,
    /// Requests must match.
    Http,
    /// Allow, but only where nothing else does.
    Otherwise,
    /// Requests are read, and all are allowed.
    Show,
    Unjudgeable,
}

/// What becomes of connections that no rule mentions, in one direction of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ByDefault {
    /// Rules select the endpoint, and none of them denies by default.
    Allow,
    Deny,
}

/// Whose ports a name means.
#[derive(Clone, Copy, Debug)]
pub(super) enum PortNames<'p> {
    /// Egress: those of all pods of the peer.
    Peer(&'p [NamedPorts]),
    /// Ingress: the endpoint's own.
    Subject(&'p NamedPorts),
}

/// The allowances that nobody writes.
pub(super) struct Builtin {
    localhost: Option<RuleRef>,
    anybody: Option<RuleRef>,
}

impl Builtin {
    pub(super) fn new(direction: Direction, allow_localhost: bool, by_default: ByDefault) -> Self {
        let name = |path: &str| {
            let kind = ObjectKind::CiliumClusterwideNetworkPolicy;
            RuleRef::new(ObjectName { kind, namespace: None, name: "built-in".into() }, path)
        };
        let (localhost, anybody) = match direction {
            Direction::Egress => (None, "allow-any-egress"),
            Direction::Ingress => (Some("allow-localhost-ingress"), "allow-any-ingress"),
        };
        Self {
            localhost: localhost.filter(|_| allow_localhost).map(name),
            anybody: (by_default == ByDefault::Allow).then(|| name(anybody)),
        }
    }

    pub(super) fn is_special(&self, peer: &Group) -> bool {
        self.localhost.is_some() && peer.traits.special == Some(IdentityId::HOST)
    }

    pub(super) fn spans(&self, peer: &Group) -> impl Iterator<Item = Span<Word<'_>>> {
        let localhost = self
            .localhost
            .as_ref()
            .filter(|_| self.is_special(peer))
            .map(|rule| Word::new(Says::Allow, rule));
        let anybody = self.anybody.as_ref().map(|rule| Word::new(Says::Otherwise, rule));
        let span = |rule| Span { protocol: None, ports: ALL_PORTS, rule };
        localhost.into_iter().chain(anybody).map(span)
    }
}

/// The ports of a grant.
pub(super) fn spans<'g>(
    grant: &'g Grant,
    by_default: ByDefault,
    names: PortNames<'_>,
) -> Vec<Span<Word<'g>>> {
    let rules = match &grant.ports {
        Scope::All => {
            return vec![Span { protocol: None, ports: ALL_PORTS, rule: plain(grant.effect, &grant.name) }];
        }
        Scope::Of(rules) => rules,
    };
    let words =
        rules.iter().filter_map(|rule| word(grant.effect, by_default, rule).map(|word| (&rule.ports, word)));
    let spans = words.flat_map(|(ports, word)| {
        ports.iter().flat_map(move |port| {
            numbers(port, grant.effect, names).into_iter().map(move |ports| Span {
                protocol: Some(port.protocol),
                ports,
                rule: word,
            })
        })
    });
    spans.collect()
}

/// The ports that a grant names, whomever it is about; one of all ports names none.
pub(super) fn named_ports(grant: &Grant, names: PortNames<'_>) -> Vec<PortRange> {
    let rules = match &grant.ports {
        Scope::All => return Vec::new(),
        Scope::Of(rules) => rules,
    };
    let ports = rules.iter().flat_map(|rule| &rule.ports).flat_map(|port| {
        // As a denial reads them: whatever a name may mean.
        numbers(port, Effect::Deny, names).into_iter().map(|ports| (port.protocol, ports))
    });
    ports.filter(|(_, ports)| *ports != ALL_PORTS).collect()
}

fn plain(effect: Effect, rule: &RuleRef) -> Word<'_> {
    Word::new(if effect == Effect::Deny { Says::Deny } else { Says::Allow }, rule)
}

/// Where all is allowed by default, rules about requests only make them visible; one rule that denies by default is enough
/// for the rules of all others to restrict. `None`: what can't be judged and restricts nobody says nothing.
fn word<'g>(effect: Effect, by_default: ByDefault, ports: &'g PortGrant) -> Option<Word<'g>> {
    let (says, http) = match (effect, &ports.requests, by_default) {
        (Effect::Deny, _, _) => (Says::Deny, &[][..]),
        (Effect::Allow, Requests::Nothing, _) => (Says::Allow, &[][..]),
        (Effect::Allow, Requests::Http(rules), ByDefault::Allow) => (Says::Show, rules.as_slice()),
        (Effect::Allow, Requests::Http(rules), ByDefault::Deny) => (Says::Http, rules.as_slice()),
        (Effect::Allow, Requests::Unjudgeable, ByDefault::Allow) => return None,
        (Effect::Allow, Requests::Unjudgeable, ByDefault::Deny) => (Says::Unjudgeable, &[][..]),
    };
    Some(Word { http, ..Word::new(says, &ports.name) })
}

impl<'g> Word<'g> {
    fn new(says: Says, rule: &'g RuleRef) -> Self {
        Self { says, rule, http: &[] }
    }
}

/// A name that pods of one identity give to different ports allows none of them, and denies all.
fn numbers(port: &PortMatch, effect: Effect, names: PortNames<'_>) -> Vec<(u16, u16)> {
    let (name, last) = match &port.port {
        Port::Range(first, last) => return vec![(*first, *last)],
        Port::Named(name) => (name, 0),
        Port::NamedRange(name, last) => (name, *last),
    };
    let (pods, last) = match &names {
        PortNames::Peer(pods) => (*pods, 0),
        PortNames::Subject(pod) => (std::slice::from_ref(*pod), last),
    };
    let numbers: BTreeSet<u16> = pods
        .iter()
        .filter_map(|names| names.get(name))
        .filter(|(_, protocol)| *protocol == port.protocol)
        .map(|(number, _)| *number)
        .collect();
    let clear = numbers.len() == 1 || effect == Effect::Deny;
    numbers.into_iter().filter(|_| clear).map(|number| (number, number.max(last))).collect()
}
