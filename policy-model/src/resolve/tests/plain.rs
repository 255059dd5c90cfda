//! Ports that one rule inspects and another allows whatever is asked for.

use super::Resolver;
use super::fixture::*;
use crate::explain::explain;
use crate::identity::Numbers;
use crate::resolve;
use crate::snapshot::Snapshot;

const INSPECTED: &str = r#"{endpointSelector: {matchLabels: {class: deathstar}},
    ingress: [{toPorts: [{ports: [{port: "79", endPort: 81, protocol: TCP}], rules: {http: [{path: /only}]}}]}]}"#;

fn allowed(entry: &str) -> String {
    format!("{{endpointSelector: {{matchLabels: {{class: deathstar}}}}, ingress: [{entry}]}}")
}

/// The connection is inspected, and this rule allows what the other one does not.
#[track_caller]
fn lifted(snapshot: &Snapshot, from: &str, rule: &str) {
    check(snapshot, from, DEATHSTAR, 80, "inspect");
    for target in ["/only", "/other"] {
        check_http(snapshot, from, "GET", target, &format!("allow {rule}"));
    }
    let explanation = explain(snapshot, &flow(from, DEATHSTAR, 80), Some(&[request("GET", "/other")]));
    assert_eq!((explanation.allowed, &*explanation.layer), (true, "HTTP"));
    assert_eq!((&*explanation.ingress.verdict, explanation.ingress.rule.as_deref()), ("allowed", Some(rule)));
}

#[test]
fn a_plain_allow_lifts_the_restriction_for_whom_it_covers_and_requests_stay_inspected() {
    let plain = allowed("{fromEndpoints: [{matchLabels: {class: xwing}}]}");
    for specs in [[INSPECTED, &plain], [&plain, INSPECTED]] {
        let snapshot = parsed(&specs);
        let nth = specs.iter().position(|spec| **spec == plain).unwrap();
        lifted(&snapshot, XWING, &format!("default/p{nth}: spec.ingress[0]"));
        check(&snapshot, XWING, DEATHSTAR, 82, &format!("allow default/p{nth}: spec.ingress[0]"));
        check(&snapshot, TIEFIGHTER, DEATHSTAR, 80, "inspect");
        let rule = format!("default/p{}: spec.ingress[0].toPorts[0].rules.http[0]", 1 - nth);
        check_http(&snapshot, TIEFIGHTER, "GET", "/other", &format!("deny no_http_rule {rule}"));
    }
}

#[test]
fn so_does_one_of_the_port_alone_or_of_a_range_around_it() {
    for ports in [
        r#"{port: "80", protocol: TCP}"#,
        r#"{port: "80"}"#,
        r#"{port: "70", endPort: 90, protocol: TCP}"#,
        r#"{port: "0"}"#,
    ] {
        let snapshot = parsed(&[INSPECTED, &allowed(&format!("{{toPorts: [{{ports: [{ports}]}}]}}"))]);
        lifted(&snapshot, XWING, "default/p1: spec.ingress[0].toPorts[0]");
    }
    let beside = parsed(&[
        INSPECTED,
        &allowed(r#"{toPorts: [{ports: [{port: "80", protocol: UDP}, {port: "82"}]}]}"#),
    ]);
    let rule = "default/p0: spec.ingress[0].toPorts[0].rules.http[0]";
    check_http(&beside, XWING, "GET", "/other", &format!("deny no_http_rule {rule}"));
}

#[test]
fn a_deny_is_not_lifted() {
    let deny = r#"{endpointSelector: {matchLabels: {class: deathstar}}, ingressDeny: [{fromEndpoints: [{matchLabels: {class: xwing}}]}]}"#;
    let snapshot = parsed(&[INSPECTED, &allowed("{fromEndpoints: [{}]}"), deny]);
    check(&snapshot, XWING, DEATHSTAR, 80, "deny ingress deny_rule default/p2: spec.ingressDeny[0]");
    lifted(&snapshot, TIEFIGHTER, "default/p1: spec.ingress[0]");
}

/// The proxy can't be put between: what is allowed whatever is asked for passes as it did.
#[test]
fn what_enters_from_outside_and_may_ask_anything_is_not_lost() {
    let snapshot = parsed(&[INSPECTED, &allowed("{fromEntities: [world, cluster]}")]);
    check(&snapshot, WORLD, DEATHSTAR, 80, "allow default/p1: spec.ingress[0]");
    lifted(&snapshot, XWING, "default/p1: spec.ingress[0]");
    let shown = r#"{endpointSelector: {matchLabels: {class: deathstar}}, enableDefaultDeny: {ingress: false},
        ingress: [{toPorts: [{ports: [{port: "80", protocol: TCP}], rules: {http: [{path: /only}]}}]}]}"#;
    let snapshot = parsed(&[shown]);
    check(&snapshot, WORLD, DEATHSTAR, 80, "allow default/p0: spec.ingress[0].toPorts[0]");
    check(&snapshot, XWING, DEATHSTAR, 80, "inspect");
    check(&parsed(&[INSPECTED]), WORLD, DEATHSTAR, 80, "inspect");
}

/// Such a port may well carry another protocol than HTTP.
#[test]
fn rules_of_a_kind_that_is_not_understood_are_lifted_without_inspection() {
    let kafka = r#"{endpointSelector: {matchLabels: {class: deathstar}}, ingress: [
        {toPorts: [{ports: [{port: "80", protocol: TCP}], rules: {kafka: [{}]}}]}]}"#;
    let plain = allowed("{fromEndpoints: [{matchLabels: {class: xwing}}]}");
    let snapshot = world(texts(&[&plain]).into_iter().chain([closed(kafka)]).collect());
    check(&snapshot, XWING, DEATHSTAR, 80, "allow default/p0: spec.ingress[0]");
    check_http(
        &snapshot,
        TIEFIGHTER,
        "GET",
        "/",
        "deny unjudgeable default/closed: spec.ingress[0].toPorts[0]",
    );
}

#[test]
fn lifted_rules_survive_the_next_revision() {
    let specs = texts(&[INSPECTED, &allowed("{fromEndpoints: [{matchLabels: {class: xwing}}]}")]);
    let mut numbers = Numbers::default();
    let mut resolver = Resolver::default();
    let (before, _) = resolver.resolve(&inputs(specs.clone()), &mut numbers, 1);
    let (after, _) = resolver.resolve(&inputs(specs), &mut numbers, 2);
    assert!(std::sync::Arc::ptr_eq(&before.endpoints()[0].ingress, &after.endpoints()[0].ingress));
    lifted(&after, XWING, "default/p1: spec.ingress[0]");
}

/// Upstream lets the range of a named port begin at the subject's own.
#[test]
fn a_range_from_a_named_port() {
    let spec = r#"{endpointSelector: {matchLabels: {class: deathstar}},
        ingress: [{toPorts: [{ports: [{port: web, endPort: 90, protocol: TCP}]}]}],
        ingressDeny: [{toPorts: [{ports: [{port: admin, endPort: 99, protocol: TCP}]}]}],
        egress: [{toPorts: [{ports: [{port: web, endPort: 90, protocol: TCP}]}]}]}"#;
    let mut inputs = inputs(texts(&[spec]));
    for endpoint in &mut inputs.endpoints {
        for (name, number) in [("web", 80), ("admin", 88)] {
            let _new = endpoint.named_ports.insert(name.into(), (number, crate::rule::Protocol::TCP));
        }
    }
    let (snapshot, _) = resolve(&inputs, &mut Numbers::default(), 1);
    for (port, expect) in [
        (79, "deny ingress no_rule"),
        (80, "allow default/p0: spec.ingress[0].toPorts[0]"),
        (87, "allow default/p0: spec.ingress[0].toPorts[0]"),
        (88, "deny ingress deny_rule default/p0: spec.ingressDeny[0].toPorts[0]"),
        (99, "deny ingress deny_rule default/p0: spec.ingressDeny[0].toPorts[0]"),
        (100, "deny ingress no_rule"),
    ] {
        check(&snapshot, XWING, DEATHSTAR, port, expect);
    }
    check(&snapshot, DEATHSTAR, XWING, 80, "allow default/p0: spec.egress[0].toPorts[0]");
    check(&snapshot, DEATHSTAR, XWING, 81, "deny egress no_rule");
}
