//! The `flow`, `http`, `merge` and `selector` cases of `tests/cases/policy-cases.yaml`, asked of a snapshot.
//!
//! The tables below name every case that is not run, and every part of one, with the reason: whatever they do not name
//! must give the stated verdict.

#![cfg(test)] // so that the lints know that all of this is a test

use policy_model::http::{Headers, Request};
use policy_model::identity::{Numbers, cidr_labels};
use policy_model::inputs::{EndpointInputs, NodeInputs};
use policy_model::labels::{Label, LabelSet};
use policy_model::parse::{Judged, parse};
use policy_model::rule::{Policy, Protocol, Subject};
use policy_model::snapshot::{Admission, Direction, Efforts, PortRules, PortVerdict};
use policy_model::{Connection, Flow, IdentityId, Inputs, Snapshot, Verdict, resolve};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, LazyLock};

const CASES: &str = include_str!("../../tests/cases/policy-cases.yaml");

/// Whatever is not run is named there too.
const DOCS: &str = include_str!("../../docs/compatibility.md");

/// Kinds that are run elsewhere, or not in scope.
const OTHER_KINDS: &[(&str, &str)] = &[
    ("validate", "tests/validate_cases.rs"),
    ("port", "tests/validate_cases.rs"),
    ("normalise", "the readings of a path: tests of proxy-core"),
    ("labelfilter", "all labels of the node file count for the identity: docs/compatibility.md"),
    ("headermatch", "headerMatches are refused by name"),
    ("kafka", "kafka rules are refused by name"),
    ("dns", "dns rules and toFQDNs are refused by name"),
    ("sni", "serverNames are refused by name"),
];

const NOT_RUN: &[(&str, &str)] = &[
    ("F33", "icmps are refused by name"),
    ("K01", KNP),
    ("K03", KNP),
    ("K04", KNP),
    ("K05", KNP),
    ("K07", KNP),
    ("K08", KNP),
    ("K09", KNP),
    ("K11", KNP),
    ("H16", "answers given before policy: tests of proxy-core"),
    ("M01", "dns rules are refused by name"),
    ("M02", "dns rules are refused by name"),
    ("M05", "terminatingTLS is refused by name"),
    ("M06", "terminatingTLS is refused by name"),
    ("M08", "serverNames are refused by name"),
    ("M10", "authentication is refused by name"),
];

const KNP: &str = "NetworkPolicy objects are not in scope";

/// Peers that no inputs can describe yet.
const NO_SUCH_PEER: &[(&str, &str)] =
    &[("apiserver-ext", "an API server outside: its addresses are not among the inputs")];

#[test]
fn flows() {
    assert_eq!(run("flow", check_flows), 30);
}

#[test]
fn http() {
    assert_eq!(run("http", check_http), 11);
}

#[test]
fn merges() {
    assert_eq!(run("merge", check_merge), 2);
}

#[test]
fn selectors() {
    assert_eq!(run("selector", check_selectors), 3);
}

#[test]
fn nothing_is_skipped_in_silence() {
    let cases = cases();
    let ids: BTreeSet<&str> = cases.iter().map(|case| text(case, "id")).collect();
    for (id, reason) in NOT_RUN {
        assert!(ids.contains(id), "{id} ({reason}) is no case");
        assert!(is_documented(id), "{id} ({reason}) is not in docs/compatibility.md");
    }
    for (peer, reason) in NO_SUCH_PEER {
        assert!(DOCS.contains(&format!("`{peer}`")), "{peer} ({reason}) is not in docs/compatibility.md");
    }
    let run = ["flow", "http", "merge", "selector"];
    for case in cases {
        let kind = text(case, "kind");
        assert!(run.contains(&kind) || OTHER_KINDS.iter().any(|(other, _)| *other == kind), "{kind}");
        let out_of_scope = ["labelfilter", "headermatch", "kafka", "dns", "sni"].contains(&kind);
        assert!(!out_of_scope || is_documented(text(case, "id")), "{case}");
    }
}

fn is_documented(id: &str) -> bool {
    DOCS.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| word == id)
}

/// Runs the cases of a kind: how many.
fn run(kind: &str, check: fn(&Value)) -> usize {
    let of_kind = cases().iter().filter(|case| text(case, "kind") == kind);
    let in_scope = of_kind.filter(|case| !NOT_RUN.iter().any(|(id, _)| *id == text(case, "id")));
    in_scope.inspect(|case| check(case)).count()
}

#[track_caller]
fn check_flows(case: &Value) {
    let id = text(case, "id");
    let subject = text(case, "subject");
    let policies = case["policies"].as_array().unwrap().iter().enumerate();
    let mut world = World::new(policies.map(|(nth, policy)| object(id, nth, policy)).collect());
    world.endpoint(subject, labels_of(subject));
    for flow in case["flows"].as_array().unwrap() {
        let peer = text(flow, "peer");
        if ip_of(peer).is_none() && reserved(peer).is_none() {
            world.endpoint(peer, labels_of(peer));
        }
    }
    let snapshot = world.resolve();
    for flow in case["flows"].as_array().unwrap() {
        if NO_SUCH_PEER.iter().any(|(peer, _)| *peer == text(flow, "peer")) {
            continue;
        }
        let answer = match ask(&snapshot, subject, flow) {
            PortVerdict::Allow(_) => "allow",
            PortVerdict::Deny(_) => "drop",
            PortVerdict::Inspect(_) => "l7",
        };
        assert_eq!(answer, text(flow, "expect"), "{id}: {flow}");
    }
}

/// What the subject's policy says of a flow; peers without an address here are asked for by their identity.
fn ask(snapshot: &Snapshot, subject: &str, flow: &Value) -> PortVerdict {
    let peer = text(flow, "peer");
    let protocol = match text(flow, "proto") {
        "TCP" => Protocol::TCP,
        "UDP" => Protocol::UDP,
        "SCTP" => Protocol::SCTP,
        "ICMP" => Protocol::ICMP,
        "ICMPv6" => Protocol::ICMPV6,
        other => panic!("unknown protocol {other}"),
    };
    let number = flow.get("port").or(flow.get("icmp")).unwrap().as_u64().unwrap();
    let port = u16::try_from(number).unwrap();
    let direction = match text(flow, "dir") {
        "egress" => Direction::Egress,
        "ingress" => Direction::Ingress,
        other => panic!("unknown direction {other}"),
    };
    if let Some(id) = reserved(peer) {
        let endpoint = snapshot.endpoints().iter().find(|e| *e.inputs.name == *subject).unwrap();
        let policy = if direction == Direction::Egress { &endpoint.egress } else { &endpoint.ingress };
        return policy.verdict(snapshot, id, protocol, port);
    }
    let (subject, peer) =
        (address(snapshot, subject), ip_of(peer).unwrap_or_else(|| address(snapshot, peer)));
    let flow = |source, destination| snapshot.connection(&Flow { source, destination, port, protocol });
    match direction {
        Direction::Egress => flow(subject, peer).egress,
        Direction::Ingress => flow(peer, subject).ingress,
    }
}

#[track_caller]
fn check_http(case: &Value) {
    let id = text(case, "id");
    let mut ingress = Vec::new();
    let mut deny = Vec::new();
    for rule in case["rules"].as_array().unwrap() {
        let peers = |rule: &Value| -> Vec<Value> {
            let peers = rule["peers"].as_array().unwrap().iter();
            peers.map(|peer| json!({"matchLabels": {"peer": peer}})).collect()
        };
        let port = json!({"port": "80", "protocol": "TCP"});
        match (rule.get("http"), rule.get("l3_only"), rule.get("deny")) {
            (Some(http), None, None) => ingress.push(json!({
                "fromEndpoints": peers(rule),
                "toPorts": [{"ports": [port], "rules": {"http": http}}],
            })),
            (None, Some(_), None) => ingress.push(json!({"fromEndpoints": peers(rule)})),
            (None, None, Some(_)) => {
                deny.push(json!({"fromEntities": ["all"], "toPorts": [{"ports": [port]}]}))
            }
            _ => panic!("{rule}"),
        }
    }
    let spec = json!({"endpointSelector": {"matchLabels": {"peer": "server"}}, "ingress": ingress, "ingressDeny": deny});
    let mut world =
        World::new(vec![object(id, 0, &json!({"kind": "CNP", "namespace": "default", "spec": spec}))]);
    world.endpoint("server", pod("server"));
    for request in case["requests"].as_array().unwrap() {
        world.endpoint(text(request, "src"), pod(text(request, "src")));
    }
    let snapshot = world.resolve();
    for request in case["requests"].as_array().unwrap() {
        assert_eq!(answer(&snapshot, request), stated(request), "{id}: {request}");
    }
}

/// What a request comes to, up to who words the denial.
fn stated(request: &Value) -> &'static str {
    let expect = &request["expect"];
    match (expect.as_u64(), expect.as_str()) {
        (Some(200), None) => "allow",
        (Some(403), None) | (None, Some("grpc-7")) => "deny",
        (None, Some("l4-drop")) => "l4-drop",
        _ => panic!("unknown expectation {expect}"),
    }
}

fn answer(snapshot: &Snapshot, request: &Value) -> &'static str {
    let source = match text(request, "src") {
        "host" => NODE.parse().unwrap(),
        pod => address(snapshot, pod),
    };
    let destination = address(snapshot, "server");
    let connection = snapshot.connection(&Flow { source, destination, port: 80, protocol: Protocol::TCP });
    match connection.admission() {
        Admission::Deny(..) => return "l4-drop",
        Admission::Allow(_) => return "allow",
        Admission::Inspect => {}
    }
    verdict(&connection, request)
}

fn verdict(connection: &Connection, request: &Value) -> &'static str {
    let fields = Fields(request["headers"].as_object().cloned().unwrap_or_default());
    let (_, verdict) = connection.http(
        &Request {
            method: text(request, "method").as_bytes(),
            target: text(request, "path").as_bytes(),
            host: text(request, "host").as_bytes(),
            headers: &fields,
        },
        &Efforts::default(),
    );
    match verdict {
        Verdict::Allow(_) => "allow",
        Verdict::Deny(_) => "deny",
    }
}

/// M04 and M09: the rules that `a` and `b` come to.
#[track_caller]
fn check_merge(case: &Value) {
    let id = text(case, "id");
    let policies = ["a", "b"].iter().filter_map(|side| case.get(side)).enumerate().map(|(nth, side)| {
        let mut spec = json!({
            "endpointSelector": {"matchLabels": {"peer": "server"}},
            "ingress": [{"toPorts": [{"ports": [{"port": "80", "protocol": "TCP"}], "rules": {"http": side["http"]}}]}],
        });
        if let Some(default_deny) = side.get("enableDefaultDeny") {
            spec["enableDefaultDeny"] = json!({"ingress": default_deny});
        }
        object(id, nth, &json!({"kind": "CNP", "namespace": "default", "spec": spec}))
    });
    let mut world = World::new(policies.collect());
    world.endpoint("server", pod("server"));
    world.endpoint("client", pod("client"));
    let snapshot = world.resolve();
    let (source, destination) = (address(&snapshot, "client"), address(&snapshot, "server"));
    let connection = snapshot.connection(&Flow { source, destination, port: 80, protocol: Protocol::TCP });
    let PortVerdict::Inspect(rules) = &connection.ingress else { panic!("{id}: {connection:?}") };
    let PortRules::Http(rules) = &**rules else { panic!("{id}: {rules:?}") };
    let expect = case["result"]["http"].as_array().unwrap();
    assert_eq!(rules.rules().len(), expect.len(), "{id}");
    let other = json!({"method": "GET", "path": "/other", "host": "h"});
    let open = expect.contains(&json!({}));
    assert_eq!(verdict(&connection, &other), if open { "allow" } else { "deny" }, "{id}");
}

#[track_caller]
fn check_selectors(case: &Value) {
    for row in case["table"].as_array().unwrap() {
        if let Some(cidr) = row.get("cidr") {
            let labels = cidr_labels(&cidr.as_str().unwrap().parse().unwrap());
            let label = labels.iter().next().unwrap().to_string();
            assert!(text(row, "label").contains(&label), "{row}: {label}");
        } else if let Some(selector) = row.get("selector") {
            let spec = json!({"endpointSelector": selector, "ingress": [{}]});
            let policy = object("selector", 0, &json!({"kind": "CCNP", "spec": spec}));
            let Subject::Endpoints(selector) = &policy.rules[0].subject else { panic!("{row}") };
            let labels = row["labels"].as_array().unwrap().iter();
            let labels: LabelSet = labels.map(|label| Label::parse(label.as_str().unwrap())).collect();
            assert_eq!(selector.matches(&labels), row["match"].as_bool().unwrap(), "{row}");
        } else {
            let spec = json!({"endpointSelector": {"matchLabels": row["in"]}, "ingress": [{}]});
            let namespace = text(row, "policy_namespace");
            let policy = object("selector", 0, &json!({"kind": "CNP", "namespace": namespace, "spec": spec}));
            assert_eq!(
                policy.rules[0].printed["endpointSelector"]["matchLabels"], row["subject_out"],
                "{row}"
            );
        }
    }
}

// Helpers.

const NODE: &str = "192.168.0.1";

struct World {
    policies: Vec<Policy>,
    endpoints: Vec<EndpointInputs>,
}

impl World {
    fn new(policies: Vec<Policy>) -> Self {
        Self { policies, endpoints: Vec::new() }
    }

    /// Once per name.
    fn endpoint(&mut self, name: &str, labels: LabelSet) {
        if self.endpoints.iter().any(|endpoint| *endpoint.name == *name) {
            return;
        }
        let host = u8::try_from(self.endpoints.len() + 1).unwrap();
        self.endpoints.push(EndpointInputs {
            name: name.into(),
            namespace: "cases".into(),
            interface: None,
            addresses: vec![IpAddr::from([10, 15, 0, host])],
            labels,
            named_ports: BTreeMap::new(),
        });
    }

    #[track_caller]
    fn resolve(self) -> Snapshot {
        let node = NodeInputs {
            name: "node".into(),
            pod_networks: vec!["10.15.0.0/16".parse().unwrap()],
            addresses: vec![NODE.parse().unwrap()],
            allow_localhost: true,
        };
        let policies = self.policies.into_iter().map(Arc::new).collect();
        let inputs = Inputs { node, endpoints: self.endpoints, peers: Vec::new(), policies };
        let (snapshot, diagnostics) = resolve(&inputs, &mut Numbers::default(), 1);
        assert_eq!(diagnostics, []);
        snapshot
    }
}

struct Fields(serde_json::Map<String, Value>);

impl Headers for Fields {
    fn each(&self, each: &mut dyn FnMut(&[u8], &[u8])) {
        self.0.iter().for_each(|(name, value)| each(name.as_bytes(), value.as_str().unwrap().as_bytes()));
    }
}

/// Through the parser, which must accept it.
#[track_caller]
fn object(id: &str, nth: usize, policy: &Value) -> Policy {
    let kind = match text(policy, "kind") {
        "CNP" => "CiliumNetworkPolicy",
        "CCNP" => "CiliumClusterwideNetworkPolicy",
        other => panic!("unknown kind {other}"),
    };
    let mut object = json!({
        "apiVersion": "cilium.io/v2",
        "kind": kind,
        "metadata": {"name": format!("{}-{nth}", id.to_lowercase())},
    });
    for (from, to) in [("namespace", "/metadata"), ("spec", ""), ("specs", "")] {
        if let Some(value) = policy.get(from) {
            object.pointer_mut(to).unwrap()[from] = value.clone();
        }
    }
    let mut parsed = parse(&object.to_string()).unwrap();
    match parsed.objects.remove(0).judged {
        Judged::Accepted { policy, .. } => policy,
        Judged::Refused { diagnostics, .. } => panic!("{id}: {diagnostics:#?}"),
    }
}

static FILE: LazyLock<Value> = LazyLock::new(|| serde_saphyr::from_str(CASES).unwrap());

fn cases() -> &'static [Value] {
    FILE["cases"].as_array().unwrap()
}

fn peer(name: &str) -> &'static Value {
    &FILE["peers"][name]
}

fn labels_of(name: &str) -> LabelSet {
    let peer = peer(name);
    peer["labels"].as_array().unwrap().iter().map(|label| Label::parse(label.as_str().unwrap())).collect()
}

fn pod(name: &str) -> LabelSet {
    [Label::new("k8s", "peer", name), Label::new("k8s", "io.kubernetes.pod.namespace", "default")]
        .into_iter()
        .collect()
}

fn ip_of(name: &str) -> Option<IpAddr> {
    Some(peer(name).get("ip")?.as_str()?.parse().unwrap())
}

/// The reserved identity with exactly the peer's labels.
fn reserved(name: &str) -> Option<IdentityId> {
    let labels = labels_of(name);
    let of = |texts: &[&str]| -> LabelSet { texts.iter().map(|text| Label::parse(text)).collect() };
    IdentityId::RESERVED
        .iter()
        .find(|(_, texts)| of(texts) == labels)
        .map(|(id, _)| *id)
        .filter(|_| ip_of(name).is_none())
}

fn address(snapshot: &Snapshot, name: &str) -> IpAddr {
    let endpoint = snapshot.endpoints().iter().find(|endpoint| *endpoint.inputs.name == *name);
    endpoint.unwrap_or_else(|| panic!("no endpoint {name}")).inputs.addresses[0]
}

#[track_caller]
fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_else(|| panic!("no `{field}` in {value}"))
}
