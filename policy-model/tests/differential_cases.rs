//! The cases of `tests/cases/differential.yaml`: policies that are easily read otherwise than upstream's engine reads them.
//!
//! Each is asked in both directions, of the snapshot's answer to the endpoint, of the classes that the kernel's plan is made
//! of, and of the explanation.

#![cfg(test)] // so that the lints know that all of this is a test

use policy_model::explain::explain;
use policy_model::http::{Headers, Request};
use policy_model::identity::Numbers;
use policy_model::inputs::{EndpointInputs, NodeInputs};
use policy_model::labels::Label;
use policy_model::parse::{Judged, parse};
use policy_model::rule::{Policy, Protocol};
use policy_model::snapshot::{Direction, DirectionPolicy, Efforts, PortVerdict};
use policy_model::{Flow, IdentityId, Inputs, Snapshot, Verdict, resolve};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

const CASES: &str = include_str!("../../tests/cases/differential.yaml");

const NODE: &str = "192.168.0.1";
const PORT: u16 = 80;

/// Name, address, and labels; a reserved one stands alone, as before the pod's own are known.
const ENDPOINTS: [(&str, &str, &str); 4] = [
    (
        "x",
        "10.15.0.1",
        "k8s:app=x k8s:io.kubernetes.pod.namespace=a k8s:io.cilium.k8s.policy.cluster=default",
    ),
    (
        "y",
        "10.15.0.2",
        "k8s:app=y k8s:io.kubernetes.pod.namespace=a k8s:io.cilium.k8s.policy.cluster=default",
    ),
    (
        "z",
        "10.15.0.3",
        "k8s:app=x k8s:io.kubernetes.pod.namespace=b k8s:io.cilium.k8s.policy.cluster=default",
    ),
    ("init", "10.15.0.4", "reserved:init"),
];

/// What the node file gives to every endpoint must not make a pod of one that is none yet.
const GIVEN: &str = "k8s:io.kubernetes.pod.namespace=a k8s:io.cilium.k8s.policy.cluster=default \
                     k8s:io.cilium.k8s.namespace.labels.kubernetes.io/metadata.name=a";

#[test]
fn ingress_answers_as_stated() {
    cases().iter().for_each(|case| check(case, Direction::Ingress, ""));
}

#[test]
fn egress_answers_as_stated() {
    let both = cases().into_iter().filter(|case| case.get("one_direction").is_none());
    both.for_each(|case| check(&turned(&case), Direction::Egress, ""));
}

/// As the daemon has it, where an endpoint without its labels has those of its namespace all the same.
#[test]
fn labels_of_the_namespace_make_no_pod() {
    for case in cases().iter().filter(|case| case["subject"] != "init") {
        check(case, Direction::Ingress, GIVEN);
    }
}

#[test]
fn there_are_cases() {
    assert!(cases().len() >= 24, "{}", cases().len());
}

#[track_caller]
fn check(case: &Value, direction: Direction, init_labels: &str) {
    let name = case["name"].as_str().unwrap();
    let snapshot = snapshot(case, init_labels);
    let subject = case["subject"].as_str().unwrap();
    for (question, expect) in case["want"].as_object().unwrap() {
        let (peer, request) =
            question.split_once(' ').map_or((&**question, None), |(peer, r)| (peer, Some(r)));
        let answer = answer(&snapshot, direction, subject, peer, request);
        assert_eq!(answer, expect.as_str().unwrap(), "{name}: {direction:?} of {subject}, {question}");
        explained(&snapshot, direction, subject, peer, request, &answer);
    }
}

fn answer(
    snapshot: &Snapshot,
    direction: Direction,
    subject: &str,
    peer: &str,
    request: Option<&str>,
) -> String {
    let policy = policy(snapshot, direction, subject);
    let verdict = match address(peer) {
        None => policy.verdict(snapshot, reserved(peer), Protocol::TCP, PORT),
        Some(peer) => {
            let connection = snapshot.connection(&flow(direction, address(subject).unwrap(), peer));
            match direction {
                Direction::Egress => connection.egress,
                Direction::Ingress => connection.ingress,
            }
        }
    };
    planned(snapshot, policy, peer, &verdict);
    match (&verdict, request) {
        (PortVerdict::Allow(_), _) => "allow",
        (PortVerdict::Deny(_), _) => "deny",
        (PortVerdict::Inspect(_), None) => "inspect",
        (PortVerdict::Inspect(_), Some(text)) => {
            let connection = policy_model::Connection {
                revision: snapshot.revision(),
                source: Arc::clone(snapshot.directory().party_at([10, 0, 0, 1].into())),
                destination: Arc::clone(snapshot.directory().party_at([10, 0, 0, 1].into())),
                egress: PortVerdict::Allow(None),
                ingress: verdict.clone(),
            };
            match connection.http(&asked(text), &Efforts::default()).1 {
                Verdict::Allow(permit) => {
                    assert!(permit.rule().is_some(), "every allowed request names its rule");
                    "allow"
                }
                Verdict::Deny(_) => "deny",
            }
        }
    }
    .to_owned()
}

/// The class that the kernel's plan is made of says the same.
#[track_caller]
fn planned(snapshot: &Snapshot, policy: &DirectionPolicy, peer: &str, verdict: &PortVerdict) {
    if !policy.enforced() {
        return;
    }
    let id = address(peer).map_or_else(|| reserved(peer), |address| snapshot.identity_of(address).id);
    let covers = |own: bool| {
        policy.classes(snapshot).find(|class| {
            class.identity == id
                && (class.ports.0..=class.ports.1).contains(&PORT)
                && class.protocol == own.then_some(Protocol::TCP)
        })
    };
    let kind = |verdict: &PortVerdict| match verdict {
        PortVerdict::Allow(_) => "allow",
        PortVerdict::Deny(_) => "deny",
        PortVerdict::Inspect(_) => "inspect",
    };
    let class = covers(true).or_else(|| covers(false));
    assert_eq!(class.map_or("deny", |class| kind(&class.verdict)), kind(verdict), "{peer}");
}

#[track_caller]
fn explained(
    snapshot: &Snapshot,
    direction: Direction,
    subject: &str,
    peer: &str,
    request: Option<&str>,
    answer: &str,
) {
    let Some(peer) = address(peer) else { return };
    let flow = flow(direction, address(subject).unwrap(), peer);
    let readings: Vec<Request<'_>> = request.into_iter().map(asked).collect();
    let explanation = explain(snapshot, &flow, Some(&readings));
    let half = match direction {
        Direction::Egress => explanation.egress,
        Direction::Ingress => explanation.ingress,
    };
    let expect: &[&str] = match answer {
        "allow" => &["allowed", "not enforced"],
        "deny" => &["denied"],
        _ => &["inspected"],
    };
    assert!(expect.contains(&&*half.verdict), "{half:?}");
}

// Helpers.

fn snapshot(case: &Value, init_labels: &str) -> Snapshot {
    let endpoints = ENDPOINTS.map(|(name, address, labels)| EndpointInputs {
        name: name.into(),
        namespace: "cases".into(),
        interface: None,
        addresses: vec![address.parse().unwrap()],
        labels: labels
            .split(' ')
            .chain(init_labels.split_whitespace().filter(|_| name == "init"))
            .map(Label::parse)
            .collect(),
        named_ports: BTreeMap::new(),
    });
    let node = NodeInputs {
        name: "node".into(),
        pod_networks: vec!["10.15.0.0/16".parse().unwrap()],
        addresses: vec![NODE.parse().unwrap()],
        allow_localhost: case["allow_localhost"] == true,
    };
    let policies = &case["policy"];
    let policies = policies.as_array().map_or_else(|| std::slice::from_ref(policies), Vec::as_slice);
    let policies = policies.iter().enumerate().map(|(nth, object)| Arc::new(accepted(nth, object)));
    let inputs =
        Inputs { node, endpoints: endpoints.into(), peers: Vec::new(), policies: policies.collect() };
    resolve(&inputs, &mut Numbers::default(), 1).0
}

#[track_caller]
fn accepted(nth: usize, policy: &Value) -> Policy {
    let mut object = policy.clone();
    let fields = object.as_object_mut().unwrap();
    let mut metadata = json!({"name": format!("p{nth}")});
    if let Some(namespace) = fields.remove("namespace") {
        metadata["namespace"] = namespace;
    }
    let _new = fields.insert("metadata".into(), metadata);
    let _new = fields.insert("apiVersion".into(), json!("cilium.io/v2"));
    match parse(&object.to_string()).unwrap().objects.remove(0).judged {
        Judged::Accepted { policy, .. } => policy,
        Judged::Refused { diagnostics, .. } => panic!("{policy}: {diagnostics:#?}"),
    }
}

/// The case with its directions exchanged.
fn turned(case: &Value) -> Value {
    let mut turned = case.clone();
    turn(&mut turned["policy"]);
    turned
}

fn turn(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(turn),
        Value::Object(fields) => {
            *fields = std::mem::take(fields)
                .into_iter()
                .map(|(key, mut value)| {
                    turn(&mut value);
                    (turned_name(&key), value)
                })
                .collect();
        }
        Value::Bool(_) | Value::Null | Value::Number(_) | Value::String(_) => {}
    }
}

fn turned_name(name: &str) -> String {
    for (one, other) in [("ingress", "egress"), ("egress", "ingress")] {
        if let Some(rest) = name.strip_prefix(one) {
            return format!("{other}{rest}");
        }
    }
    match name.strip_prefix("from") {
        Some(peers) => format!("to{peers}"),
        None => name.to_owned(),
    }
}

fn policy<'s>(snapshot: &'s Snapshot, direction: Direction, subject: &str) -> &'s DirectionPolicy {
    let endpoint = snapshot.endpoint_at(address(subject).unwrap()).unwrap();
    match direction {
        Direction::Egress => &endpoint.egress,
        Direction::Ingress => &endpoint.ingress,
    }
}

/// `None`: an identity of which no address is known here.
fn address(peer: &str) -> Option<IpAddr> {
    let endpoint = ENDPOINTS.iter().find(|(name, ..)| *name == peer).map(|(_, address, _)| *address);
    let text = endpoint.or_else(|| (peer == "host").then_some(NODE)).unwrap_or(peer);
    text.parse().ok()
}

fn reserved(peer: &str) -> IdentityId {
    match peer {
        "health" => IdentityId::HEALTH,
        "remote-node" => IdentityId::REMOTE_NODE,
        _ => panic!("unknown peer {peer}"),
    }
}

fn flow(direction: Direction, subject: IpAddr, peer: IpAddr) -> Flow {
    let (source, destination) = match direction {
        Direction::Egress => (subject, peer),
        Direction::Ingress => (peer, subject),
    };
    Flow { source, destination, port: PORT, protocol: Protocol::TCP }
}

struct NoHeaders;

impl Headers for NoHeaders {
    fn each(&self, _each: &mut dyn FnMut(&[u8], &[u8])) {}
}

fn asked(text: &str) -> Request<'_> {
    let (method, target) = text.split_once(' ').unwrap();
    Request { method: method.as_bytes(), target: target.as_bytes(), host: b"h", headers: &NoHeaders }
}

fn cases() -> Vec<Value> {
    let cases: Value = serde_saphyr::from_str(CASES).unwrap();
    cases.as_array().unwrap().clone()
}
