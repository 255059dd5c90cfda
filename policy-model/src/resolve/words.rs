//! What grants, and the allowances that nobody writes, say of ports.

use super::grants::{Effect, Grant, NamedPorts, Scope};
use super::known::KnownPeer;
use crate::identity::IdentityId;
use crate::inputs::EndpointInputs;
use crate::ports::{ALL_PORTS, Span};
use crate::rule::{HttpRule, L7, ObjectKind, ObjectName, Port, PortMatch};
use crate::snapshot::Direction;
use crate::verdict::RuleRef;
use std::collections::BTreeSet;

/// What a grant, or a built-in allowance, says of some ports.
#[derive(Clone, Copy, Debug)]
pub(super) struct Word<'g> {
    pub(super) says: Says,
    pub(super) rule: &'g RuleRef,
    pub(super) http: &'g [(&'g HttpRule, RuleRef)],
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

/// The allowances that nobody writes.
pub(super) struct Builtin {
    localhost: Option<RuleRef>,
    anybody: Option<RuleRef>,
}

impl Builtin {
    /// `open`: no rule that selects the endpoint denies by default.
    pub(super) fn new(direction: Direction, allow_localhost: bool, open: bool) -> Self {
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
            anybody: open.then(|| name(anybody)),
        }
    }

    pub(super) fn is_special(&self, peer: &KnownPeer<'_>) -> bool {
        self.localhost.is_some() && peer.identity.id == IdentityId::HOST
    }

    pub(super) fn spans(&self, peer: &KnownPeer<'_>) -> impl Iterator<Item = Span<Word<'_>>> {
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

/// The ports of a grant. `pods` say what a port's name means.
pub(super) fn spans<'g>(grant: &'g Grant<'g>, pods: &[&EndpointInputs]) -> Vec<Span<Word<'g>>> {
    let rules = match &grant.ports {
        Scope::All => {
            return vec![Span { protocol: None, ports: ALL_PORTS, rule: plain(grant.effect, &grant.name) }];
        }
        Scope::Of(rules) => rules,
    };
    let words = rules.iter().filter_map(|ports| word(grant.effect, ports).map(|word| (ports.rule, word)));
    let spans = words.flat_map(|(rule, word)| {
        rule.ports.iter().flat_map(move |port| {
            numbers(port, grant.effect, pods).into_iter().map(move |ports| Span {
                protocol: Some(port.protocol),
                ports,
                rule: word,
            })
        })
    });
    spans.collect()
}

fn plain(effect: Effect, rule: &RuleRef) -> Word<'_> {
    Word::new(if effect == Effect::Deny { Says::Deny } else { Says::Allow }, rule)
}

/// `None`: what can't be judged and restricts nobody says nothing.
fn word<'g>(effect: Effect, ports: &'g NamedPorts<'g>) -> Option<Word<'g>> {
    let says = match (effect, &ports.rule.l7) {
        (Effect::Deny, _) => Says::Deny,
        (Effect::Allow | Effect::Show, L7::None) => Says::Allow,
        (Effect::Allow, L7::Http(_)) => Says::Http,
        (Effect::Allow, L7::Unjudgeable) => Says::Unjudgeable,
        (Effect::Show, L7::Http(_)) => Says::Show,
        (Effect::Show, L7::Unjudgeable) => return None,
    };
    Some(Word { http: &ports.http, ..Word::new(says, &ports.name) })
}

impl<'g> Word<'g> {
    fn new(says: Says, rule: &'g RuleRef) -> Self {
        Self { says, rule, http: &[] }
    }
}

/// A name that pods of one identity give to different ports allows none of them, and denies all.
fn numbers(port: &PortMatch, effect: Effect, pods: &[&EndpointInputs]) -> Vec<(u16, u16)> {
    let name = match &port.port {
        Port::Range(first, last) => return vec![(*first, *last)],
        Port::Named(name) => name,
    };
    let numbers: BTreeSet<u16> = pods
        .iter()
        .filter_map(|pod| pod.named_ports.get(name))
        .filter(|(_, protocol)| *protocol == port.protocol)
        .map(|(number, _)| *number)
        .collect();
    let clear = numbers.len() == 1 || effect == Effect::Deny;
    numbers.into_iter().filter(|_| clear).map(|number| (number, number)).collect()
}
