//! Explanations: the verdict, the deciding rule, the nearest miss.

use super::*;
use crate::http::Headers;
use crate::resolve::tests::fixture::{DEATHSTAR, NODE, TIEFIGHTER, WORLD, XWING, flow, parsed, request};

const L4: &str = r#"{endpointSelector: {matchLabels: {class: deathstar}}, ingress: [{fromEndpoints: [{matchLabels: {org: empire}}],
    toPorts: [{ports: [{port: "80", protocol: TCP}]}]}]}"#;
const L7: &str = r#"{endpointSelector: {matchLabels: {class: deathstar}}, ingress: [{fromEndpoints: [{matchLabels: {org: empire}}],
    toPorts: [{ports: [{port: "80", protocol: TCP}], rules: {http: [{method: POST, path: /v1/request-landing}]}}]}]}"#;

#[test]
fn the_parties() {
    let explanation = explain(&parsed(&[L4]), &flow(TIEFIGHTER, DEATHSTAR, 80), None);
    assert_eq!((explanation.allowed, explanation.revision, &*explanation.layer), (true, 7, "L4"));
    assert_eq!(explanation.source.endpoint.as_deref(), Some("default/tiefighter"));
    assert_eq!(explanation.source.labels[0], "k8s:class=tiefighter");
    assert_eq!(explanation.egress, half("not enforced", None, None));
    assert_eq!(explanation.ingress, half("allowed", None, Some("default/p0: spec.ingress[0].toPorts[0]")));
    let outside = explain(&parsed(&[L4]), &flow(WORLD, DEATHSTAR, 80), None);
    assert_eq!((outside.source.endpoint, outside.source.identity), (None, 9));
}

#[test]
fn the_nearest_miss_of_a_connection() {
    let entry = "default/p0: spec.ingress[0]";
    let namespace = "k8s:io.kubernetes.pod.namespace=default";
    check_l4(
        &[L4],
        XWING,
        80,
        "no_rule",
        entry,
        "peer",
        &format!(
            "peer is `k8s:class=xwing, {namespace}, k8s:org=alliance`, the rule wants `any:org=empire, {namespace}`"
        ),
    );
    check_l4(&[L4], TIEFIGHTER, 81, "no_rule", entry, "port", "port is `81`, the rule wants `80`");
    check_l4(
        &[L4],
        "10.15.9.9",
        80,
        "unknown_peer",
        entry,
        "peer",
        &format!("peer is `reserved:unknown`, the rule wants `any:org=empire, {namespace}`"),
    );
    let far = r#"{endpointSelector: {}, ingress: [{fromEndpoints: [{matchLabels: {org: empire}}], toPorts: [{ports: [{port: "1", protocol: UDP}]}]}]}"#;
    check_l4(
        &[far, L4],
        TIEFIGHTER,
        81,
        "no_rule",
        "default/p1: spec.ingress[0]",
        "port",
        "port is `81`, the rule wants `80`",
    );
    check_l4(&[far], TIEFIGHTER, 1, "no_rule", entry, "protocol", "protocol is `TCP`, the rule wants `UDP`");
    let outside =
        r#"{endpointSelector: {}, ingress: [{fromCIDRSet: [{cidr: 192.0.0.0/8, except: [192.0.2.0/24]}]}]}"#;
    check_l4(
        &[outside],
        WORLD,
        80,
        "no_rule",
        entry,
        "peer",
        "peer is `cidr:192.0.2.0/24, reserved:world-ipv4`, the rule wants `192.0.0.0/8 except 192.0.2.0/24`",
    );
}

/// The outside lacks whatever a selector of pods wants to be absent: that it is no pod is what it misses.
#[test]
fn the_nearest_miss_of_what_is_no_pod() {
    let namespace = "k8s:io.kubernetes.pod.namespace";
    let spec = format!(
        "{{endpointSelector: {{}}, ingress: [{{fromEndpoints: [{{matchExpressions: [{{key: \"{namespace}\", operator: NotIn, values: [b]}}]}}]}}]}}"
    );
    check_l4(
        &[&spec],
        WORLD,
        80,
        "no_rule",
        "default/p0: spec.ingress[0]",
        "peer",
        &format!("peer is `reserved:world-ipv4`, the rule wants `a pod with {namespace} not in (b)`"),
    );
}

#[test]
fn nothing_comes_near_a_deny_rule() {
    let spec =
        r#"{endpointSelector: {}, ingress: [{fromEntities: [all]}], ingressDeny: [{fromEntities: [world]}]}"#;
    let explanation = explain(&parsed(&[spec]), &flow(WORLD, DEATHSTAR, 80), None);
    assert!(!explanation.allowed);
    assert_eq!(
        explanation.ingress,
        half("denied", Some("deny_rule"), Some("default/p0: spec.ingressDeny[0]"))
    );
}

#[test]
fn a_connection_that_is_inspected() {
    let explanation = explain(&parsed(&[L7]), &flow(TIEFIGHTER, DEATHSTAR, 80), None);
    assert_eq!((explanation.allowed, &*explanation.layer), (true, "L4"));
    assert_eq!(explanation.ingress, half("inspected", None, None));
    let bypassing =
        explain(&parsed(&[L7]), &flow(NODE, DEATHSTAR, 80), Some(&[request("PUT", "/v1/exhaust-port")]));
    assert_eq!((bypassing.allowed, &*bypassing.layer), (true, "L4"));
    assert_eq!(bypassing.ingress, half("allowed", None, Some("built-in: allow-localhost-ingress")));
}

#[test]
fn a_request() {
    let rule = "default/p0: spec.ingress[0].toPorts[0].rules.http[0]";
    let landing = explain(
        &parsed(&[L7]),
        &flow(TIEFIGHTER, DEATHSTAR, 80),
        Some(&[request("POST", "/v1/request-landing")]),
    );
    assert_eq!((landing.allowed, &*landing.layer), (true, "HTTP"));
    assert_eq!(landing.ingress, half("allowed", None, Some(rule)));
    check_http(
        L7,
        &[request("PUT", "/v1/exhaust-port")],
        "path",
        "path is `/v1/exhaust-port`, the rule wants `/v1/request-landing`",
    );
    check_http(
        L7,
        &[request("PUT", "/v1/request-landing")],
        "method",
        "method is `PUT`, the rule wants `POST`",
    );
}

#[test]
fn every_reading_must_be_allowed() {
    let readings = [request("POST", "/v1/request-landing"), request("POST", "/v1/request-landing/")];
    check_http(L7, &readings, "path", "path is `/v1/request-landing/`, the rule wants `/v1/request-landing`");
    let snapshot = parsed(&[L7]);
    let none = explain(&snapshot, &flow(TIEFIGHTER, DEATHSTAR, 80), Some(&[]));
    assert_eq!(none, explain(&snapshot, &flow(TIEFIGHTER, DEATHSTAR, 80), None), "no reading proves nothing");
}

#[test]
fn hosts_and_headers() {
    let spec = |http: &str| {
        format!(
            "{{endpointSelector: {{}}, ingress: [{{toPorts: [{{ports: [{{port: \"80\", protocol: TCP}}], rules: {{http: [{{{http}}}]}}}}]}}]}}"
        )
    };
    check_http(
        &spec("host: naboo"),
        &[request("GET", "/")],
        "host",
        "host is `deathstar`, the rule wants `naboo`",
    );
    let tokens = Request { headers: &Tokens, ..request("GET", "/") };
    check_http(
        &spec("headers: ['X-Token: c']"),
        &[tokens],
        "headers",
        "header `x-token` is `a,b`, the rule wants `c`",
    );
    let tokens = Request { headers: &Tokens, ..request("GET", "/") };
    check_http(
        &spec("headers: [X-Other]"),
        &[tokens],
        "headers",
        "header `x-other` is absent, the rule wants any value",
    );
}

#[test]
fn headers_that_backends_read_otherwise() {
    let spec = |http: &str| {
        format!(
            "{{endpointSelector: {{}}, ingress: [{{toPorts: [{{ports: [{{port: \"80\", protocol: TCP}}], rules: {{http: [{{{http}}}]}}}}]}}]}}"
        )
    };
    let check = |rule: &str, detail: &str| {
        let tokens = Request { headers: &Tokens, ..request("GET", "/") };
        check_http(&spec(rule), &[tokens], "headers", detail);
    };
    check("headers: ['X-Secret: c']", "header `x-secret` is absent, the rule wants `c`");
    check(
        "headers: ['X-Gone: d']",
        "header `x-gone` is named by Connection, as good as absent, the rule wants `d`",
    );
}

struct Tokens;

impl Headers for Tokens {
    fn each(&self, each: &mut dyn FnMut(&[u8], &[u8])) {
        each(b"X-Token", b"a");
        each(b"x-token", b"b");
        each(b"X_Secret", b"c");
        each(b"X-Gone", b"d");
        each(b"Connection", b"close, x-gone");
    }
}

#[track_caller]
fn check_l4(specs: &[&str], source: &str, port: u16, reason: &str, rule: &str, failed: &str, detail: &str) {
    let explanation = explain(&parsed(specs), &flow(source, DEATHSTAR, port), None);
    assert!(!explanation.allowed);
    let nearest = Nearest { rule: rule.into(), failed: failed.into(), detail: detail.into() };
    assert_eq!(
        explanation.ingress,
        DirectionExplanation { nearest: Some(nearest), ..half("denied", Some(reason), None) }
    );
}

#[track_caller]
fn check_http(spec: &str, readings: &[Request<'_>], failed: &str, detail: &str) {
    let explanation = explain(&parsed(&[spec]), &flow(TIEFIGHTER, DEATHSTAR, 80), Some(readings));
    assert_eq!((explanation.allowed, &*explanation.layer), (false, "HTTP"));
    let rule = "default/p0: spec.ingress[0].toPorts[0].rules.http[0]";
    let nearest = Nearest { rule: rule.into(), failed: failed.into(), detail: detail.into() };
    assert_eq!(
        explanation.ingress,
        DirectionExplanation { nearest: Some(nearest), ..half("denied", Some("no_http_rule"), Some(rule)) }
    );
}

fn half(verdict: &str, reason: Option<&str>, rule: Option<&str>) -> DirectionExplanation {
    DirectionExplanation {
        verdict: verdict.into(),
        reason: reason.map(Into::into),
        rule: rule.map(Into::into),
        nearest: None,
    }
}
