//! Policies and requests for the benches of `policy-model`.

use policy_model::automata::Patterns;
use policy_model::cidr::Prefix;
use policy_model::http::{Headers, HttpRules, Request};
use policy_model::identity::Numbers;
use policy_model::inputs::{EndpointInputs, Inputs, NodeInputs, PeerInputs};
use policy_model::labels::Label;
use policy_model::rule::{
    Entity, Entry, HttpMatch, HttpRule, L7, ObjectKind, ObjectName, Peer, Peers, Policy, Port, PortMatch,
    PortRule, Ports, Protocol, Rule, Section, Subject,
};
use policy_model::selector::{Requirement, Selector, SelectorKey};
use policy_model::{RuleRef, Snapshot};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

/// A path by the number of its rule.
pub type Path = fn(usize) -> String;

/// The kinds of paths: the rule, and a request that meets it.
pub const KINDS: [(&str, Path, Path); 4] = [
    ("literal", |i| format!("/api/v1/service-{i:04}/items"), |i| format!("/api/v1/service-{i:04}/items")),
    ("prefix", |i| format!("/api/v1/service-{i:04}/.*"), |i| format!("/api/v1/service-{i:04}/items/12345")),
    (
        "pattern",
        |i| format!("/api/v1/service-{i:04}/items/[0-9]+"),
        |i| format!("/api/v1/service-{i:04}/items/12345"),
    ),
    ("leading", |i| format!(".*/service-{i:04}/items"), |i| format!("/api/v1/service-{i:04}/items")),
];

/// Which of `count` rules requests meet: spread, so that no single path stays in the cache alone.
pub fn spread(count: usize) -> impl Iterator<Item = usize> {
    (0..64).map(move |i| i * 7919 % count)
}

/// A request without header fields.
#[derive(Debug)]
pub struct NoHeaders;

impl Headers for NoHeaders {
    fn each(&self, _each: &mut dyn FnMut(&[u8], &[u8])) {}
}

pub fn request<'a>(method: &'a str, target: &'a str) -> Request<'a> {
    Request { method: method.as_bytes(), target: target.as_bytes(), host: b"bench", headers: &NoHeaders }
}

/// `count` rules `GET path(i)`.
pub fn http_rules(count: usize, path: impl Fn(usize) -> String) -> Vec<HttpRule> {
    let rule = |i| HttpRule {
        path: format!("ingress[0].toPorts[0].rules.http[{i}]").into(),
        matches: HttpMatch { method: Some("GET".into()), path: Some(path(i).into()), ..HttpMatch::default() },
        unjudgeable: false,
    };
    (0..count).map(rule).collect()
}

/// # Panics
/// A rule does not compile.
pub fn compiled(rules: Vec<HttpRule>) -> HttpRules {
    let named: Vec<(HttpRule, RuleRef)> = rules
        .into_iter()
        .map(|rule| {
            let name = RuleRef::new(object("bench"), &rule.path);
            (rule, name)
        })
        .collect();
    let (rules, errors) = HttpRules::compile(&named);
    assert!(errors.is_empty(), "{errors:?}");
    rules
}

/// Two endpoints, `a` (10.0.0.1) and `b` (10.0.0.2); `b` lets `a` ask what the rules allow on port 80.
pub fn inspected(rules: Vec<HttpRule>) -> Snapshot {
    policy_model::resolve(&inspecting(rules), &mut Numbers::default(), 1).0
}

/// What [`inspected`] resolves.
pub fn inspecting(rules: Vec<HttpRule>) -> Inputs {
    Inputs {
        node: node(),
        endpoints: vec![endpoint("a", 1, "a"), endpoint("b", 2, "b")],
        peers: Vec::new(),
        policies: vec![Arc::new(policy("bench", "b", "a", L7::Http(rules)))],
    }
}

/// The inputs with one policy more: `a` lets `b` ask for one path.
pub fn with_another(inputs: &Inputs) -> Inputs {
    let mut inputs = inputs.clone();
    let rules = http_rules(1, |_| "/another".to_owned());
    inputs.policies.push(Arc::new(policy("another", "a", "b", L7::Http(rules))));
    inputs
}

/// `endpoints` of ten apps, and `policies` that each let one app ask another on a port of its own.
pub fn node_of(endpoints: u16, policies: usize) -> Inputs {
    let app = |i: usize| format!("app-{}", i % 10);
    let rules = || http_rules(4, |i| format!("/api/v{i}/items/[0-9]+"));
    let policy =
        |i: usize| Arc::new(policy(&format!("p{i:04}"), &app(i), &app(i / 10 + i), L7::Http(rules())));
    Inputs {
        node: node(),
        endpoints: (0..endpoints).map(|i| endpoint(&format!("e{i:04}"), i, &app(i.into()))).collect(),
        peers: Vec::new(),
        policies: (0..policies).map(policy).collect(),
    }
}

/// A cluster as one of its nodes sees it: `peers` endpoints elsewhere of a hundred apps, each with labels of its own, `endpoints` here,
/// and `policies` that each let one app ask another, as most do, or everybody in the cluster, as every tenth does.
pub fn cluster(policies: usize, endpoints: u16, peers: u16) -> Inputs {
    let app = |i: usize| format!("app-{}", i % 100);
    let policy = |i: usize| {
        let rules = L7::Http(http_rules(2, |nth| format!("/api/v{nth}/items/[0-9]+")));
        let mut policy = policy(&format!("p{i:05}"), &app(i), &app(i / 100 + i), rules);
        if i.is_multiple_of(10) {
            let entries = policy.rules.iter_mut().flat_map(|rule| &mut rule.ingress.allow);
            entries.for_each(|entry| entry.peers = Peers::Of(vec![Peer::Entity(Entity::Cluster)]));
        }
        Arc::new(policy)
    };
    Inputs {
        node: node(),
        endpoints: (0..endpoints).map(|i| endpoint(&format!("e{i:05}"), i, &app(i.into()))).collect(),
        peers: (0..peers).map(|i| Arc::new(peer(endpoints + i, &app(i.into())))).collect(),
        policies: (0..policies).map(policy).collect(),
    }
}

/// Another rule in one policy in the middle, which selects endpoints.
pub fn with_one_changed(inputs: &Inputs) -> Inputs {
    let mut inputs = inputs.clone();
    let middle = inputs.policies.len() / 2 + 1;
    if let Some(policy) = inputs.policies.get_mut(middle) {
        let rules = http_rules(1, |_| "/changed".to_owned());
        *policy = Arc::new(self::policy(&policy.name.name, "app-1", "app-77", L7::Http(rules)));
    }
    inputs
}

pub fn one_more_peer(inputs: &Inputs) -> Inputs {
    let mut inputs = inputs.clone();
    inputs.peers.push(Arc::new(peer(u16::MAX, "app-1")));
    inputs
}

fn peer(host: u16, app: &str) -> PeerInputs {
    let EndpointInputs { name, namespace, addresses, labels, named_ports, .. } =
        endpoint(&format!("p{host:05}"), host, app);
    PeerInputs { name, namespace, addresses, labels, named_ports }
}

fn node() -> NodeInputs {
    NodeInputs {
        name: "node".into(),
        pod_networks: Prefix::new(IpAddr::from([10, 0, 0, 0]), 8).into_iter().collect(),
        addresses: vec![IpAddr::from([192, 168, 0, 1])],
        allow_localhost: true,
    }
}

fn endpoint(name: &str, host: u16, app: &str) -> EndpointInputs {
    let [high, low] = host.to_be_bytes();
    let labels = [("app", app), ("name", name), ("io.kubernetes.pod.namespace", "default")];
    EndpointInputs {
        name: name.into(),
        namespace: "default".into(),
        interface: None,
        addresses: vec![IpAddr::from([10, 0, high, low])],
        labels: labels.iter().map(|(key, value)| Label::new("k8s", key, value)).collect(),
        named_ports: BTreeMap::new(),
    }
}

fn policy(name: &str, subject: &str, peer: &str, l7: L7) -> Policy {
    let port = PortMatch { protocol: Protocol::TCP, port: Port::Range(80, 80) };
    let ports = PortRule { path: "ingress[0].toPorts[0]".into(), ports: vec![port], l7 };
    let entry = Entry {
        path: "ingress[0]".into(),
        peers: Peers::Of(vec![Peer::Endpoints(app(peer))]),
        ports: Ports::Of(vec![ports]),
    };
    let rule = Rule {
        path: "spec".into(),
        subject: Subject::Endpoints(app(subject)),
        ingress: Section { default_deny: true, allow: vec![entry], deny: Vec::new() },
        egress: Section::default(),
        description: None,
        labels: std::iter::empty().collect(),
        printed: serde_json::Value::Null,
    };
    Policy::new(object(name), vec![rule])
}

fn object(name: &str) -> ObjectName {
    ObjectName { kind: ObjectKind::CiliumNetworkPolicy, namespace: Some("default".into()), name: name.into() }
}

fn app(name: &str) -> Selector {
    Selector { requirements: vec![Requirement::In(SelectorKey::parse("app"), vec![name.into()])] }
}

/// Whether a policy may have these rules.
pub fn is_accepted(rules: &[HttpRule]) -> bool {
    policy("bench", "b", "a", L7::Http(rules.to_vec())).compile(&mut Patterns::default()).is_ok()
}
