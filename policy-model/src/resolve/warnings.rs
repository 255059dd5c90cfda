//! What policies say that can't be as it is meant, whatever the endpoints are.

use super::Report;
use crate::parse::{Diagnostic, Severity};
use crate::rule::{Entity, Entry, Peer, Peers, Policy, Rule};
use crate::verdict::RuleRef;
use std::sync::Arc;

/// Rules that speak of the outside say nothing as long as nobody knows where it begins.
pub(super) fn of(policies: &[Arc<Policy>], pod_networks_known: bool) -> Vec<Diagnostic> {
    let mut report = Report::default();
    if !pod_networks_known && !policies.is_empty() {
        let message = "it is not known which addresses are pods, so none counts as outside, and all that no endpoint or \
                       node claims are unknown";
        let fix = "list the networks that pods get their addresses from";
        report.say(Severity::Warning, "node.pod_networks".to_owned(), message.to_owned(), fix);
    }
    for policy in policies {
        for (rule, entry) in policy.rules.iter().flat_map(|rule| denies(rule).map(move |entry| (rule, entry)))
        {
            for name in unknown_entities(entry) {
                let at = RuleRef::new(policy.name.clone(), &format!("{}.{}", rule.path, entry.path));
                let message = format!("no address is known to be `{name}`, so this denies nobody");
                report.say(Severity::Warning, at.to_string(), message, "deny its addresses as a CIDR");
            }
        }
    }
    report.diagnostics
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
