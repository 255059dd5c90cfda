//! The Star Wars node, and policies for it as text or by hand.

use crate::http::{Headers, Request};
use crate::identity::Numbers;
use crate::inputs::{EndpointInputs, Inputs, NodeInputs};
use crate::labels::Label;
use crate::parse::Judged;
use crate::resolve;
use crate::rule::*;
use crate::selector::{Requirement, Selector, SelectorKey};
use crate::snapshot::{Admission, Efforts, Flow, Snapshot};
use crate::verdict::Verdict;
use core::net::IpAddr;
use std::collections::BTreeMap;
use std::sync::Arc;

pub(crate) const DEATHSTAR: &str = "10.15.1.1";
pub(crate) const TIEFIGHTER: &str = "10.15.1.2";
pub(crate) const XWING: &str = "10.15.1.3";
pub(crate) const TWIN: &str = "10.15.1.4";
pub(crate) const NODE: &str = "10.0.0.1";
pub(crate) const WORLD: &str = "192.0.2.1";

#[track_caller]
pub(crate) fn check(snapshot: &Snapshot, from: &str, to: &str, port: u16, expect: &str) {
    let connection = snapshot.connection(&flow(from, to, port));
    let answer = match connection.admission() {
        Admission::Allow(permit) => ["allow".to_owned()]
            .into_iter()
            .chain(permit.rule().map(ToString::to_string))
            .collect::<Vec<_>>()
            .join(" "),
        Admission::Deny(direction, denial) => {
            assert_eq!(denial.revision, snapshot.revision());
            let rule = denial.rule.map(|rule| format!(" {rule}")).unwrap_or_default();
            format!("deny {} {}{rule}", format!("{direction:?}").to_lowercase(), denial.reason.name())
        }
        Admission::Inspect => "inspect".to_owned(),
    };
    assert_eq!(answer, expect, "{from} -> {to}:{port}");
}

#[track_caller]
pub(crate) fn check_http(snapshot: &Snapshot, from: &str, method: &str, target: &str, expect: &str) {
    let connection = snapshot.connection(&flow(from, DEATHSTAR, 80));
    let (_, verdict) = connection.http(&request(method, target), &Efforts::default());
    assert_eq!(verdict_text(&verdict), expect, "{method} {target}");
}

#[track_caller]
pub(crate) fn check_direction(snapshot: &Snapshot, method: &str, target: &str, expect: &str) {
    let connection = snapshot.connection(&flow(TIEFIGHTER, DEATHSTAR, 80));
    let (direction, verdict) = connection.http(&request(method, target), &Efforts::default());
    assert_eq!(format!("{direction:?} {}", verdict_text(&verdict)), expect, "{method} {target}");
}

pub(crate) fn verdict_text(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Allow(permit) => {
            format!("allow {}", permit.rule().map(ToString::to_string).unwrap_or_default())
        }
        Verdict::Deny(denial) => {
            let rule = denial.rule.as_ref().map(ToString::to_string).unwrap_or_default();
            format!("deny {} {rule}", denial.reason.name())
        }
    }
}

/// Policies `default/p0`, `default/p1`, ... of these specs, through the parser.
#[track_caller]
pub(crate) fn parsed(specs: &[&str]) -> Snapshot {
    world(texts(specs))
}

#[track_caller]
pub(crate) fn texts(specs: &[&str]) -> Vec<Policy> {
    let policy = |(nth, spec): (usize, &&str)| {
        let text = format!(
            "{{apiVersion: cilium.io/v2, kind: CiliumNetworkPolicy, metadata: {{name: p{nth}, namespace: default}}, spec: {spec}}}"
        );
        match crate::parse::parse(&text).unwrap().objects.remove(0).judged {
            Judged::Accepted { policy, .. } => policy,
            Judged::Refused { diagnostics, .. } => panic!("{spec}: {diagnostics:#?}"),
        }
    };
    specs.iter().enumerate().map(policy).collect()
}

/// The closed form of `default/closed` with this spec, which must be refused.
#[track_caller]
pub(crate) fn closed(spec: &str) -> Policy {
    let text = format!(
        "{{apiVersion: cilium.io/v2, kind: CiliumNetworkPolicy, metadata: {{name: closed, namespace: default}}, spec: {spec}}}"
    );
    match crate::parse::parse(&text).unwrap().objects.remove(0).judged {
        Judged::Accepted { .. } => panic!("accepted: {spec}"),
        Judged::Refused { closed, .. } => closed,
    }
}

pub(crate) fn flow(from: &str, to: &str, port: u16) -> Flow {
    let address = |text: &str| -> IpAddr { text.parse().unwrap() };
    Flow { source: address(from), destination: address(to), port, protocol: Protocol::TCP }
}

pub(crate) struct NoHeaders;

impl Headers for NoHeaders {
    fn each(&self, _each: &mut dyn FnMut(&[u8], &[u8])) {}
}

pub(crate) fn request<'a>(method: &'a str, target: &'a str) -> Request<'a> {
    Request { method: method.as_bytes(), target: target.as_bytes(), host: b"deathstar", headers: &NoHeaders }
}

pub(crate) fn world(policies: Vec<Policy>) -> Snapshot {
    let (snapshot, diagnostics) = resolve(&inputs(policies), &mut Numbers::default(), 7);
    assert_eq!(diagnostics, []);
    snapshot
}

pub(crate) fn inputs(policies: Vec<Policy>) -> Inputs {
    Inputs {
        node: NodeInputs {
            name: "node-1".into(),
            pod_networks: vec!["10.15.0.0/16".parse().unwrap(), "f00d::/64".parse().unwrap()],
            addresses: vec![NODE.parse().unwrap()],
            allow_localhost: true,
        },
        endpoints: vec![
            endpoint("deathstar", 1, "org=empire class=deathstar"),
            endpoint("tiefighter", 2, "org=empire class=tiefighter"),
            endpoint("xwing", 3, "org=alliance class=xwing"),
        ],
        peers: Vec::new(),
        policies: policies.into_iter().map(Arc::new).collect(),
    }
}

pub(crate) fn endpoint(name: &str, host: u8, labels: &str) -> EndpointInputs {
    let labels = labels.split(' ').chain(["io.kubernetes.pod.namespace=default"]);
    EndpointInputs {
        name: name.into(),
        namespace: "default".into(),
        interface: None,
        addresses: vec![
            IpAddr::from([10, 15, 1, host]),
            IpAddr::from([0xf00d, 0, 0, 0, 0, 0, 0, u16::from(host)]),
        ],
        labels: labels.map(|l| Label::parse(&format!("k8s:{l}"))).collect(),
        named_ports: BTreeMap::new(),
    }
}

pub(crate) fn policy(name: &str, rules: Vec<Rule>) -> Policy {
    let kind = ObjectKind::CiliumNetworkPolicy;
    Policy::new(ObjectName { kind, namespace: Some("default".into()), name: name.into() }, rules)
}

pub(crate) fn deathstar(allow: Vec<Entry>) -> Rule {
    Rule {
        path: "spec".into(),
        subject: Subject::Endpoints(selector("class=deathstar")),
        ingress: Section { default_deny: true, allow, deny: Vec::new() },
        egress: Section::default(),
        description: None,
        labels: std::iter::empty().collect(),
        printed: serde_json::Value::Null,
    }
}

pub(crate) fn selector(text: &str) -> Selector {
    let (key, value) = text.split_once('=').unwrap();
    Selector { requirements: vec![Requirement::In(SelectorKey::parse(key), vec![value.into()])] }
}

pub(crate) fn peers(text: &str) -> Peers {
    Peers::Of(vec![Peer::Endpoints(selector(text))])
}

pub(crate) fn entry(peers: Peers, ports: Ports) -> Entry {
    Entry { path: "ingress[0]".into(), peers, ports }
}

pub(crate) fn tcp(port: u16, l7: L7) -> Ports {
    let ports = vec![PortMatch { protocol: Protocol::TCP, port: Port::Range(port, port) }];
    Ports::Of(vec![PortRule { path: "ingress[0].toPorts[0]".into(), ports, l7 }])
}

pub(crate) fn landing() -> L7 {
    L7::Http(vec![HttpRule {
        path: "ingress[0].toPorts[0].rules.http[0]".into(),
        matches: HttpMatch {
            method: Some("POST".into()),
            path: Some("/v1/request-landing".into()),
            ..HttpMatch::default()
        },
        unjudgeable: false,
    }])
}
