//! Why a connection or a request is allowed or denied, as a value for people and programs.
//!
//! INVARIANT: the verdict is that of the snapshot; what is worked out here is only how near a miss was.

use crate::http::{self, Effort, HttpRules, Names, Request, header_holds, is_removed};
use crate::identity::Identity;
use crate::peers::{Candidate, Kind};
use crate::rule::{
    Entry, HeaderMatch, HttpMatch, Peer, Peers, Policy, Port, PortMatch, Ports, Protocol, Rule, Subject,
};
use crate::selector::Requirement;
use crate::snapshot::{Admission, Connection, Direction, Endpoint, Flow, PortRules, PortVerdict, Snapshot};
use crate::verdict::{DenyReason, RuleRef};
use core::net::IpAddr;
use serde::{Deserialize, Serialize};

/// The whole answer to `policy explain`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    pub allowed: bool,
    pub revision: u64,
    pub source: Party,
    pub destination: Party,
    /// `L4` or `HTTP`: which layer decided.
    pub layer: String,
    pub egress: DirectionExplanation,
    pub ingress: DirectionExplanation,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Party {
    pub address: String,
    /// `namespace/name` of a local endpoint.
    pub endpoint: Option<String>,
    pub identity: u32,
    pub labels: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirectionExplanation {
    /// `allowed`, `denied`, `inspected`, `not enforced`.
    pub verdict: String,
    /// The name of a [`crate::DenyReason`].
    pub reason: Option<String>,
    pub rule: Option<String>,
    /// The rule that came nearest, and which condition failed.
    pub nearest: Option<Nearest>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nearest {
    pub rule: String,
    /// `peer`, `port`, `protocol`, `method`, `path`, `host`, `headers`.
    pub failed: String,
    /// ``path is `/v1/exhaust-port`, the rule wants `/v1/request-landing` ``.
    pub detail: String,
}

/// Explains `flow`, and the request on it where there is one: every reading of its target, all of which must be allowed.
pub fn explain(snapshot: &Snapshot, flow: &Flow, request: Option<&[Request<'_>]>) -> Explanation {
    let connection = snapshot.connection(flow);
    let readings = request.filter(|readings| !readings.is_empty());
    let asked = Question { snapshot, flow, connection: &connection, readings };
    let egress = asked.half(Direction::Egress);
    let ingress = asked.half(Direction::Ingress);
    let inspects = matches!(connection.admission(), Admission::Inspect) && readings.is_some();
    Explanation {
        allowed: [&egress, &ingress].iter().all(|half| half.verdict != DENIED),
        revision: snapshot.revision(),
        source: asked.party(flow.source, &connection.source.identity),
        destination: asked.party(flow.destination, &connection.destination.identity),
        layer: if inspects { "HTTP" } else { "L4" }.to_owned(),
        egress,
        ingress,
    }
}

const DENIED: &str = "denied";

struct Question<'a> {
    snapshot: &'a Snapshot,
    flow: &'a Flow,
    connection: &'a Connection,
    readings: Option<&'a [Request<'a>]>,
}

impl Question<'_> {
    fn party(&self, address: IpAddr, identity: &Identity) -> Party {
        let name = |endpoint: &Endpoint| format!("{}/{}", endpoint.inputs.namespace, endpoint.inputs.name);
        Party {
            address: address.to_string(),
            endpoint: self.snapshot.endpoint_at(address).map(|endpoint| name(endpoint)),
            identity: identity.id.0,
            labels: identity.labels.iter().map(ToString::to_string).collect(),
        }
    }

    fn half(&self, direction: Direction) -> DirectionExplanation {
        let (address, verdict) = match direction {
            Direction::Egress => (self.flow.source, &self.connection.egress),
            Direction::Ingress => (self.flow.destination, &self.connection.ingress),
        };
        let endpoint = self.snapshot.endpoint_at(address).filter(|endpoint| match direction {
            Direction::Egress => endpoint.egress.enforced(),
            Direction::Ingress => endpoint.ingress.enforced(),
        });
        let Some(endpoint) = endpoint else { return DirectionExplanation::new("not enforced", None) };
        match verdict {
            PortVerdict::Allow(rule) => DirectionExplanation::new("allowed", rule.as_ref()),
            PortVerdict::Deny(denial) => DirectionExplanation {
                nearest: denial.rule.is_none().then(|| self.nearest(direction, endpoint)).flatten(),
                ..DirectionExplanation::denied(denial.reason, denial.rule.as_ref())
            },
            PortVerdict::Inspect(rules) => self.judged(rules),
        }
    }

    fn judged(&self, rules: &PortRules) -> DirectionExplanation {
        let Some(readings) = self.readings else { return DirectionExplanation::new("inspected", None) };
        let (mut allowed, effort) = (None, Effort::of_readings(readings.len()));
        for reading in readings {
            match rules.judge(reading, &effort) {
                Ok(rule) => allowed = allowed.or(Some(rule)),
                Err((reason, rule)) => {
                    let nearest = match rules {
                        PortRules::Http(rules) => nearest_request(rules, reading, &effort),
                        PortRules::Line(_) | PortRules::Unjudgeable(_) => None,
                    };
                    return DirectionExplanation { nearest, ..DirectionExplanation::denied(reason, rule) };
                }
            }
        }
        DirectionExplanation::new("allowed", allowed)
    }

    /// Among the allow rules that select the endpoint, the one with the fewest conditions unmet.
    fn nearest(&self, direction: Direction, endpoint: &Endpoint) -> Option<Nearest> {
        let peer = match direction {
            Direction::Egress => &self.connection.destination.identity,
            Direction::Ingress => &self.connection.source.identity,
        };
        let peer = Candidate { identity: peer, kind: self.kind(peer) };
        let mut nearest: Option<(usize, Nearest)> = None;
        for (policy, rule, entry) in allows(self.snapshot, direction, endpoint) {
            let misses = misses(entry, &peer, self.flow, direction, endpoint);
            let Some((failed, detail)) = misses.first() else { continue };
            if nearest.as_ref().is_none_or(|(least, _)| misses.len() < *least) {
                let name = RuleRef::new(policy.name.clone(), &format!("{}.{}", rule.path, entry.path));
                let miss =
                    Nearest { rule: name.to_string(), failed: (*failed).to_owned(), detail: detail.clone() };
                nearest = Some((misses.len(), miss));
            }
        }
        nearest.map(|(_, nearest)| nearest)
    }

    fn kind(&self, identity: &Identity) -> Kind {
        let made_for = self
            .snapshot
            .directory
            .addresses
            .prefixes()
            .find(|(_, owner)| owner.endpoint.is_none() && owner.party.identity.id == identity.id);
        let outside =
            identity.labels.iter().any(|label| *label.source == *"cidr" || label.key.starts_with("world-"));
        Kind::new(identity.id, made_for.filter(|_| outside).map(|(prefix, _)| prefix))
    }
}

impl DirectionExplanation {
    fn new(verdict: &str, rule: Option<&RuleRef>) -> Self {
        Self { verdict: verdict.to_owned(), reason: None, rule: rule.map(ToString::to_string), nearest: None }
    }

    fn denied(reason: DenyReason, rule: Option<&RuleRef>) -> Self {
        Self { reason: Some(reason.name().to_owned()), ..Self::new(DENIED, rule) }
    }
}

fn allows<'a>(
    snapshot: &'a Snapshot,
    direction: Direction,
    endpoint: &Endpoint,
) -> impl Iterator<Item = (&'a Policy, &'a Rule, &'a Entry)> {
    let rules =
        snapshot.policies().iter().flat_map(|policy| policy.rules.iter().map(move |rule| (&**policy, rule)));
    let selecting = rules.filter(|(_, rule)| match &rule.subject {
        Subject::Endpoints(selector) => selector.matches(&endpoint.identity.labels),
        Subject::Nodes(_) | Subject::Nobody => false,
    });
    selecting.flat_map(move |(policy, rule)| {
        let section = match direction {
            Direction::Egress => &rule.egress,
            Direction::Ingress => &rule.ingress,
        };
        section.allow.iter().map(move |entry| (policy, rule, entry))
    })
}

type Miss = (&'static str, String);

/// What of an entry the flow does not meet; of several ports, those of the nearest one.
fn misses(
    entry: &Entry,
    peer: &Candidate<'_>,
    flow: &Flow,
    direction: Direction,
    endpoint: &Endpoint,
) -> Vec<Miss> {
    let mut misses = Vec::new();
    if !peer.allowed_by(&entry.peers) {
        let is: Vec<String> = peer.identity.labels.iter().map(ToString::to_string).collect();
        misses.push(("peer", wants("peer", &is.join(", "), &peers_text(&entry.peers, peer))));
    }
    if let Ports::Of(rules) = &entry.ports {
        let ports = rules.iter().flat_map(|rule| &rule.ports);
        let missed = ports.map(|port| port_misses(port, flow, direction, endpoint)).min_by_key(Vec::len);
        let none = || vec![("port", wants("port", &flow.port.to_string(), "no port at all"))];
        misses.extend(missed.unwrap_or_else(none));
    }
    misses
}

fn port_misses(port: &PortMatch, flow: &Flow, direction: Direction, endpoint: &Endpoint) -> Vec<Miss> {
    let mut misses = Vec::new();
    if port.protocol != flow.protocol {
        misses.push((
            "protocol",
            wants("protocol", &protocol_text(flow.protocol), &protocol_text(port.protocol)),
        ));
    }
    let named = |name: &str, last: u16| {
        let number = endpoint.inputs.named_ports.get(name).map(|(number, _)| *number);
        direction == Direction::Ingress
            && number.is_some_and(|number| (number..=number.max(last)).contains(&flow.port))
    };
    let (fits, text) = match &port.port {
        Port::Range(first, last) if first == last => (*first == flow.port, first.to_string()),
        Port::Range(first, last) => ((*first..=*last).contains(&flow.port), format!("{first}-{last}")),
        Port::Named(name) => (named(name, 0), name.to_string()),
        Port::NamedRange(name, last) => (named(name, *last), format!("{name}-{last}")),
    };
    if !fits {
        misses.push(("port", wants("port", &flow.port.to_string(), &text)));
    }
    misses
}

fn nearest_request(rules: &HttpRules, request: &Request<'_>, effort: &Effort) -> Option<Nearest> {
    let http::Nearest { rule, matches, failed, names } = rules.nearest_match(request, effort)?;
    let detail = match failed {
        "method" => wants("method", &text(request.method), matches.method.as_deref().unwrap_or("")),
        "host" => wants("host", &text(request.host), matches.host.as_deref().unwrap_or("")),
        "headers" => header_detail(matches, request, names),
        _ => wants("path", &text(request.target), matches.path.as_deref().unwrap_or("")),
    };
    Some(Nearest { rule: rule.to_string(), failed: failed.to_owned(), detail })
}

fn header_detail(matches: &HttpMatch, request: &Request<'_>, names: Names) -> String {
    let missed = matches.headers.iter().find(|header| !header_holds(header, request, names));
    let Some(HeaderMatch { name, value }) = missed else { return String::new() };
    let mut values = Vec::new();
    http::values(name, request, names, &mut |value| values.push(text(value)));
    let is = match values.is_empty() {
        true => "absent".to_owned(),
        false if is_removed(name, request) => "named by Connection, as good as absent".to_owned(),
        false => format!("`{}`", values.join(",")),
    };
    let wanted = value.as_ref().map_or_else(|| "any value".to_owned(), |value| format!("`{value}`"));
    format!("header `{name}` is {is}, the rule wants {wanted}")
}

fn wants(what: &str, is: &str, wanted: &str) -> String {
    format!("{what} is `{is}`, the rule wants `{wanted}`")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What the peers are, for somebody who is none of them.
fn peers_text(peers: &Peers, asker: &Candidate<'_>) -> String {
    match peers {
        Peers::Any => "anybody".to_owned(),
        Peers::Of(peers) if peers.is_empty() => "nobody".to_owned(),
        Peers::Of(peers) => peers.iter().map(|peer| peer_text(peer, asker)).collect::<Vec<_>>().join(" or "),
    }
}

fn peer_text(peer: &Peer, asker: &Candidate<'_>) -> String {
    match peer {
        Peer::Cidr { prefix, except } if except.is_empty() => prefix.to_string(),
        Peer::Cidr { prefix, except } => {
            let except: Vec<String> = except.iter().map(ToString::to_string).collect();
            format!("{prefix} except {}", except.join(", "))
        }
        Peer::Endpoints(selector) => {
            let requirements: Vec<String> = selector.requirements.iter().map(requirement_text).collect();
            // All of them may hold, and yet it is no pod.
            match (selector.matches(&asker.identity.labels), requirements.is_empty()) {
                (_, true) => "any pod".to_owned(),
                (true, false) => format!("a pod with {}", requirements.join(", ")),
                (false, false) => requirements.join(", "),
            }
        }
        Peer::Entity(entity) => format!("entity {}", entity.as_str()),
    }
}

fn requirement_text(requirement: &Requirement) -> String {
    match requirement {
        Requirement::DoesNotExist(key) => format!("no {key}"),
        Requirement::Exists(key) => key.to_string(),
        Requirement::In(key, values) => match &**values {
            [value] => format!("{key}={value}"),
            values => format!("{key} in ({})", values.join(", ")),
        },
        Requirement::NotIn(key, values) => format!("{key} not in ({})", values.join(", ")),
    }
}

fn protocol_text(protocol: Protocol) -> String {
    match protocol {
        Protocol::ICMP => "ICMP".to_owned(),
        Protocol::ICMPV6 => "ICMPv6".to_owned(),
        Protocol::SCTP => "SCTP".to_owned(),
        Protocol::TCP => "TCP".to_owned(),
        Protocol::UDP => "UDP".to_owned(),
        Protocol(number) => number.to_string(),
    }
}

#[cfg(test)]
mod tests;
