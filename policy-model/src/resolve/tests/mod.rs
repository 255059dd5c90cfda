//! Resolving: answers case by case, and against a reference that looks at every rule.

pub(crate) mod fixture;
mod naive;
mod plain;

use super::*;
use crate::identity::IdentityId;
use crate::inputs::EndpointInputs;
use crate::labels::Label;
use crate::rule::*;
use crate::snapshot::{Direction, DirectionPolicy, Flow};
use fixture::*;
use std::collections::BTreeMap;

#[test]
fn no_policy_allows_everything() {
    let snapshot = world(vec![]);
    check(&snapshot, XWING, DEATHSTAR, 80, "allow");
    assert!(!snapshot.endpoints()[0].ingress.enforced());
    assert_eq!(snapshot.endpoints()[0].ingress.classes(&snapshot).count(), 0);
}

#[test]
fn star_wars_l4() {
    let snapshot =
        world(vec![policy("rule1", vec![deathstar(vec![entry(peers("org=empire"), tcp(80, L7::None))])])]);
    check(&snapshot, TIEFIGHTER, DEATHSTAR, 80, "allow default/rule1: spec.ingress[0].toPorts[0]");
    check(&snapshot, TIEFIGHTER, DEATHSTAR, 81, "deny ingress no_rule");
    check(&snapshot, XWING, DEATHSTAR, 80, "deny ingress no_rule");
    check(&snapshot, "192.0.2.1", DEATHSTAR, 80, "deny ingress no_rule");
    check(&snapshot, "10.15.9.9", DEATHSTAR, 80, "deny ingress unknown_peer");
    check(&snapshot, "::ffff:10.15.1.2", DEATHSTAR, 80, "deny ingress unknown_peer");
    check(&snapshot, NODE, DEATHSTAR, 9, "allow built-in: allow-localhost-ingress");
    check(&snapshot, DEATHSTAR, "192.0.2.1", 443, "allow");
    check(&snapshot, "f00d::2", "f00d::1", 80, "allow default/rule1: spec.ingress[0].toPorts[0]");
}

#[test]
fn star_wars_l7() {
    let snapshot =
        world(vec![policy("rule1", vec![deathstar(vec![entry(peers("org=empire"), tcp(80, landing()))])])]);
    check(&snapshot, TIEFIGHTER, DEATHSTAR, 80, "inspect");
    check(&snapshot, XWING, DEATHSTAR, 80, "deny ingress no_rule");
    check(&snapshot, NODE, DEATHSTAR, 80, "allow built-in: allow-localhost-ingress");
    let rule = "default/rule1: spec.ingress[0].toPorts[0].rules.http[0]";
    check_http(&snapshot, TIEFIGHTER, "POST", "/v1/request-landing", &format!("allow {rule}"));
    check_http(&snapshot, TIEFIGHTER, "PUT", "/v1/exhaust-port", &format!("deny no_http_rule {rule}"));
    check_http(&snapshot, TIEFIGHTER, "POST", "/v1/request-landing?x", &format!("deny no_http_rule {rule}"));
    check_http(&snapshot, TIEFIGHTER, "post", "/v1/request-landing", &format!("deny no_http_rule {rule}"));
}

#[test]
fn what_cuts_a_connection_is_named() {
    let rule = policy("rule1", vec![deathstar(vec![entry(peers("org=empire"), tcp(80, landing()))])]);
    let snapshot = world(vec![rule]);
    let restriction = |source: &str| {
        let flow = Flow {
            source: source.parse().unwrap(),
            destination: DEATHSTAR.parse().unwrap(),
            port: 80,
            protocol: Protocol::TCP,
        };
        let restriction = snapshot.connection(&flow).restriction();
        restriction.map(|(direction, rule)| (direction, rule.map(|rule| rule.to_string())))
    };
    let inspecting = "default/rule1: spec.ingress[0].toPorts[0].rules.http[0]";
    assert_eq!(restriction(TIEFIGHTER), Some((Direction::Ingress, Some(inspecting.into()))));
    assert_eq!(restriction(XWING), Some((Direction::Ingress, None)));
    assert_eq!(restriction(NODE), None);
}

#[test]
fn the_kernel_sees_the_same() {
    let snapshot =
        world(vec![policy("rule1", vec![deathstar(vec![entry(peers("org=empire"), tcp(80, landing()))])])]);
    let deathstar = snapshot.endpoint_at(DEATHSTAR.parse().unwrap()).unwrap();
    let id = |address: &str| snapshot.identity_of(address.parse().unwrap()).id;
    let classes: Vec<_> =
        deathstar.ingress.classes(&snapshot).map(|c| (c.identity, c.protocol, c.ports)).collect();
    let mut expect = vec![
        (IdentityId::HOST, None, (0, u16::MAX)),
        (id(TIEFIGHTER), Some(Protocol::TCP), (80, 80)),
        (id(DEATHSTAR), Some(Protocol::TCP), (80, 80)),
    ];
    expect.sort();
    assert_eq!(classes, expect);
    let ipcache: BTreeMap<String, IdentityId> =
        snapshot.ipcache().map(|(p, id)| (p.to_string(), id)).collect();
    for (prefix, expect) in [
        ("0.0.0.0/0", IdentityId::WORLD_IPV4),
        ("::/0", IdentityId::WORLD_IPV6),
        ("10.15.0.0/16", IdentityId::UNKNOWN),
        ("10.0.0.1/32", IdentityId::HOST),
        ("10.15.1.1/32", id(DEATHSTAR)),
        ("f00d::2/128", id(TIEFIGHTER)),
    ] {
        assert_eq!(ipcache.get(prefix), Some(&expect), "{prefix}");
    }
}

#[test]
fn deny_beats_allow_whatever_the_specificity() {
    let snapshot = parsed(&[r#"{endpointSelector: {matchLabels: {class: deathstar}},
        ingress: [{fromEndpoints: [{matchLabels: {org: empire}}], toPorts: [{ports: [{port: "80", protocol: TCP}]}]},
                  {fromEndpoints: [{matchLabels: {org: alliance}}]}],
        ingressDeny: [{fromEndpoints: [{matchLabels: {class: tiefighter}}]}, {toPorts: [{ports: [{port: "81"}]}]}]}"#]);
    check(&snapshot, TIEFIGHTER, DEATHSTAR, 80, "deny ingress deny_rule default/p0: spec.ingressDeny[0]");
    check(&snapshot, XWING, DEATHSTAR, 80, "allow default/p0: spec.ingress[1]");
    check(
        &snapshot,
        XWING,
        DEATHSTAR,
        81,
        "deny ingress deny_rule default/p0: spec.ingressDeny[1].toPorts[0]",
    );
    check(
        &snapshot,
        NODE,
        DEATHSTAR,
        81,
        "deny ingress deny_rule default/p0: spec.ingressDeny[1].toPorts[0]",
    );
    check(&snapshot, NODE, DEATHSTAR, 80, "allow built-in: allow-localhost-ingress");
}

#[test]
fn without_default_deny_the_rest_stays_open() {
    let open = r#"{endpointSelector: {matchLabels: {class: deathstar}}, enableDefaultDeny: {ingress: false},
        ingress: [{fromEndpoints: [{matchLabels: {org: empire}}]}], ingressDeny: [{fromEndpoints: [{matchLabels: {org: alliance}}]}]}"#;
    let snapshot = parsed(&[open]);
    check(&snapshot, TIEFIGHTER, DEATHSTAR, 80, "allow default/p0: spec.ingress[0]");
    check(&snapshot, XWING, DEATHSTAR, 80, "deny ingress deny_rule default/p0: spec.ingressDeny[0]");
    check(&snapshot, WORLD, DEATHSTAR, 80, "allow built-in: allow-any-ingress");
    let closed = r#"{endpointSelector: {matchLabels: {org: empire}}, ingress: [{}]}"#;
    let snapshot = parsed(&[open, closed]);
    check(&snapshot, TIEFIGHTER, DEATHSTAR, 80, "allow default/p0: spec.ingress[0]");
    check(&snapshot, WORLD, DEATHSTAR, 80, "deny ingress no_rule");
}

#[test]
fn http_without_default_deny_only_shows() {
    let snapshot = parsed(&[
        r#"{endpointSelector: {matchLabels: {class: deathstar}}, enableDefaultDeny: {ingress: false},
        ingress: [{toPorts: [{ports: [{port: "80", protocol: TCP}], rules: {http: [{path: /x}]}}]}]}"#,
    ]);
    check(&snapshot, XWING, DEATHSTAR, 80, "inspect");
    check_http(&snapshot, XWING, "GET", "/x", "allow default/p0: spec.ingress[0].toPorts[0].rules.http[0]");
    check_http(&snapshot, XWING, "GET", "/y", "allow default/p0: spec.ingress[0].toPorts[0]");
    check(&snapshot, XWING, DEATHSTAR, 81, "allow built-in: allow-any-ingress");
}

#[test]
fn named_ports_of_the_subject() {
    let mut inputs = inputs(texts(&[r#"{endpointSelector: {matchLabels: {class: deathstar}},
        ingress: [{toPorts: [{ports: [{port: web, protocol: TCP}]}]}]}"#]));
    let check_port = |inputs: &Inputs, port, expect| {
        let (snapshot, _) = resolve(inputs, &mut Numbers::default(), 1);
        check(&snapshot, XWING, DEATHSTAR, port, expect);
    };
    check_port(&inputs, 8080, "deny ingress no_rule");
    let _new = inputs.endpoints[0].named_ports.insert("web".into(), (8080, Protocol::TCP));
    check_port(&inputs, 8080, "allow default/p0: spec.ingress[0].toPorts[0]");
    check_port(&inputs, 80, "deny ingress no_rule");
    let _old = inputs.endpoints[0].named_ports.insert("web".into(), (8080, Protocol::UDP));
    check_port(&inputs, 8080, "deny ingress no_rule");
}

#[test]
fn named_ports_of_the_peer() {
    let spec = r#"{endpointSelector: {matchLabels: {class: xwing}}, egress: [{toPorts: [{ports: [{port: web, protocol: TCP}]}]}],
        egressDeny: [{toPorts: [{ports: [{port: admin, protocol: TCP}]}]}]}"#;
    let mut inputs = inputs(texts(&[spec]));
    let twin = EndpointInputs {
        name: "twin".into(),
        addresses: vec![TWIN.parse().unwrap()],
        ..inputs.endpoints[0].clone()
    };
    inputs.endpoints.push(twin);
    let mut name = |endpoint: usize, port: &str, number| {
        let _old = inputs.endpoints[endpoint].named_ports.insert(port.into(), (number, Protocol::TCP));
        resolve(&inputs, &mut Numbers::default(), 1).0
    };
    let snapshot = name(0, "web", 80);
    check(&snapshot, XWING, TWIN, 80, "allow default/p0: spec.egress[0].toPorts[0]");
    check(&snapshot, XWING, TIEFIGHTER, 80, "deny egress no_rule");
    // Pods of one identity that disagree: none is allowed, all are denied.
    let snapshot = name(3, "web", 81);
    check(&snapshot, XWING, DEATHSTAR, 80, "deny egress no_rule");
    check(&snapshot, XWING, DEATHSTAR, 81, "deny egress no_rule");
    let _snapshot = name(0, "admin", 90);
    let snapshot = name(3, "admin", 91);
    for port in [90, 91] {
        check(
            &snapshot,
            XWING,
            DEATHSTAR,
            port,
            "deny egress deny_rule default/p0: spec.egressDeny[0].toPorts[0]",
        );
    }
}

/// Whomever they are about, in denials too; rules of all ports name none.
#[test]
fn ports_that_rules_name() {
    let spec = r#"{endpointSelector: {matchLabels: {class: deathstar}},
        ingress: [{fromEndpoints: [{matchLabels: {class: nobody}}], toPorts: [{ports: [{port: "80", protocol: TCP}, {port: web}]}]},
          {fromEndpoints: [{matchLabels: {class: xwing}}]},
          {toPorts: [{ports: [{port: "0", protocol: UDP}, {port: "8000", endPort: 8010, protocol: TCP}]}]}],
        ingressDeny: [{toPorts: [{ports: [{port: "53", protocol: UDP}]}]}]}"#;
    let mut inputs = inputs(texts(&[spec]));
    let _new = inputs.endpoints[0].named_ports.insert("web".into(), (8080, Protocol::TCP));
    let (snapshot, _) = resolve(&inputs, &mut Numbers::default(), 1);
    let named =
        |policy: &DirectionPolicy| policy.named_ports().map(|(p, ports)| (p.0, ports)).collect::<Vec<_>>();
    let deathstar = snapshot.endpoint_at(DEATHSTAR.parse().unwrap()).unwrap();
    let expected = [(6, (80, 80)), (6, (8000, 8010)), (6, (8080, 8080)), (17, (53, 53))];
    assert_eq!(named(&deathstar.ingress), expected);
    assert_eq!(named(&deathstar.egress), []);
}

#[test]
fn prefixes_cover_what_is_outside() {
    let snapshot = parsed(&[r#"{endpointSelector: {matchLabels: {class: deathstar}}, ingress: [
        {fromCIDRSet: [{cidr: 172.16.0.0/12, except: [172.16.1.0/24]}], toPorts: [{ports: [{port: "80"}]}]},
        {fromCIDR: [172.16.1.128/25, "2001:db8::/32", 10.0.0.0/8], toPorts: [{ports: [{port: "81"}]}]}]}"#]);
    let [first, second] =
        ["allow default/p0: spec.ingress[0].toPorts[0]", "allow default/p0: spec.ingress[1].toPorts[0]"];
    check(&snapshot, "172.16.0.1", DEATHSTAR, 80, first);
    check(&snapshot, "172.16.1.1", DEATHSTAR, 80, "deny ingress no_rule");
    check(&snapshot, "172.16.1.200", DEATHSTAR, 80, "deny ingress no_rule");
    check(&snapshot, "172.16.1.200", DEATHSTAR, 81, second);
    check(&snapshot, "172.16.0.1", DEATHSTAR, 81, "deny ingress no_rule");
    check(&snapshot, "2001:db8::1", "f00d::1", 81, second);
    check(&snapshot, "2001:db9::1", "f00d::1", 81, "deny ingress no_rule");
    // Inside 10.0.0.0/8, and yet: a pod, nobody known, the host.
    check(&snapshot, XWING, DEATHSTAR, 81, "deny ingress no_rule");
    check(&snapshot, "10.15.9.9", DEATHSTAR, 81, "deny ingress unknown_peer");
    check(&snapshot, NODE, DEATHSTAR, 81, "allow built-in: allow-localhost-ingress");
    check(&snapshot, "10.99.0.1", DEATHSTAR, 81, second);
}

#[test]
fn worlds() {
    let snapshot = parsed(&[r#"{endpointSelector: {matchLabels: {class: deathstar}}, ingress: [
        {fromEntities: [world], toPorts: [{ports: [{port: "80"}]}]}, {fromCIDR: ["::/0"], toPorts: [{ports: [{port: "81"}]}]},
        {fromCIDR: [192.0.2.0/24], toPorts: [{ports: [{port: "82"}]}]}]}"#]);
    for (from, to) in [(WORLD, DEATHSTAR), ("8.8.8.8", DEATHSTAR), ("2001:db8::1", "f00d::1")] {
        check(&snapshot, from, to, 80, "allow default/p0: spec.ingress[0].toPorts[0]");
    }
    check(&snapshot, "2001:db8::1", "f00d::1", 81, "allow default/p0: spec.ingress[1].toPorts[0]");
    check(&snapshot, WORLD, DEATHSTAR, 81, "deny ingress no_rule");
    check(&snapshot, XWING, DEATHSTAR, 80, "deny ingress no_rule");
}

#[test]
fn nobody_known_is_allowed_with_everybody_and_denied_with_anybody() {
    let unknown = "10.15.9.9";
    let allow = |peers: &str| {
        parsed(&[&format!(
            "{{endpointSelector: {{matchLabels: {{class: deathstar}}}}, ingress: [{{{peers}, toPorts: [{{ports: [{{port: \"80\"}}]}}]}}]}}"
        )])
    };
    check(
        &allow("fromEntities: [all]"),
        unknown,
        DEATHSTAR,
        80,
        "allow default/p0: spec.ingress[0].toPorts[0]",
    );
    for peers in ["fromEntities: [world, cluster]", "fromEndpoints: [{}]", "fromCIDR: [0.0.0.0/0]"] {
        check(&allow(peers), unknown, DEATHSTAR, 80, "deny ingress unknown_peer");
    }
    let anybody = r#"{endpointSelector: {matchLabels: {class: deathstar}}, ingress: [{toPorts: [{ports: [{port: "80"}]}]}],
        ingressDeny: [{fromEndpoints: [{matchLabels: {org: alliance}}]}]}"#;
    check(
        &parsed(&[anybody]),
        unknown,
        DEATHSTAR,
        80,
        "deny ingress deny_rule default/p0: spec.ingressDeny[0]",
    );
    check(&parsed(&[anybody]), WORLD, DEATHSTAR, 80, "allow default/p0: spec.ingress[0].toPorts[0]");
}

#[test]
fn without_pod_networks_nobody_is_outside() {
    let spec = r#"{endpointSelector: {matchLabels: {class: deathstar}}, ingress: [{fromCIDR: [0.0.0.0/0]}]}"#;
    let mut inputs = inputs(texts(&[spec]));
    inputs.node.pod_networks.clear();
    let (snapshot, said) = resolve(&inputs, &mut Numbers::default(), 7);
    check(&snapshot, WORLD, DEATHSTAR, 80, "deny ingress unknown_peer");
    assert_eq!(
        said.iter().map(|d| (d.severity, d.field.as_str())).collect::<Vec<_>>(),
        [(Severity::Warning, "node.pod_networks")]
    );
}

#[test]
fn a_deny_of_somebody_without_addresses_is_told() {
    let spec = r#"{endpointSelector: {matchLabels: {class: deathstar}}, ingress: [{fromEntities: [kube-apiserver]}],
        ingressDeny: [{fromEntities: [world, kube-apiserver, remote-node]}]}"#;
    let (_snapshot, said) = resolve(&inputs(texts(&[spec])), &mut Numbers::default(), 7);
    let lines: Vec<String> =
        said.iter().map(|d| format!("{:?} {}: {}", d.severity, d.field, d.message)).collect();
    assert_eq!(
        lines,
        [
            "Warning default/p0: spec.ingressDeny[0]: no address is known to be `kube-apiserver`, so this denies nobody",
            "Warning default/p0: spec.ingressDeny[0]: no address is known to be `remote-node`, so this denies nobody",
        ]
    );
}

#[test]
fn the_local_host() {
    let spec = r#"{endpointSelector: {matchLabels: {class: deathstar}}, ingress: [{fromEndpoints: [{matchLabels: {org: empire}}]}],
        ingressDeny: [{fromEntities: [host], toPorts: [{ports: [{port: "81"}]}]}]}"#;
    let mut inputs = inputs(texts(&[spec]));
    let snapshot = resolve(&inputs, &mut Numbers::default(), 7).0;
    check(&snapshot, NODE, DEATHSTAR, 80, "allow built-in: allow-localhost-ingress");
    check(
        &snapshot,
        NODE,
        DEATHSTAR,
        81,
        "deny ingress deny_rule default/p0: spec.ingressDeny[0].toPorts[0]",
    );
    check(&snapshot, DEATHSTAR, NODE, 80, "allow");
    inputs.node.allow_localhost = false;
    let snapshot = resolve(&inputs, &mut Numbers::default(), 7).0;
    check(&snapshot, NODE, DEATHSTAR, 80, "deny ingress no_rule");
}

#[test]
fn an_endpoint_without_labels_yet_is_closed() {
    let mut inputs = inputs(vec![]);
    inputs.endpoints[0].labels = [Label::parse("reserved:init")].into_iter().collect();
    let snapshot = resolve(&inputs, &mut Numbers::default(), 7).0;
    check(&snapshot, XWING, DEATHSTAR, 80, "deny ingress no_rule");
    check(&snapshot, DEATHSTAR, XWING, 80, "deny egress no_rule");
}

#[test]
fn both_ends_must_allow() {
    let egress = r#"{endpointSelector: {matchLabels: {class: tiefighter}},
        egress: [{toPorts: [{ports: [{port: "80", protocol: TCP}], rules: {http: [{path: "/v1/.*"}]}}]}]}"#;
    let ingress = r#"{endpointSelector: {matchLabels: {class: deathstar}},
        ingress: [{toPorts: [{ports: [{port: "80", protocol: TCP}], rules: {http: [{method: GET}]}}]}]}"#;
    let [out, into] = [
        "default/p0: spec.egress[0].toPorts[0].rules.http[0]",
        "default/p1: spec.ingress[0].toPorts[0].rules.http[0]",
    ];
    let snapshot = parsed(&[egress, ingress]);
    check(&snapshot, TIEFIGHTER, DEATHSTAR, 80, "inspect");
    check(&snapshot, TIEFIGHTER, DEATHSTAR, 81, "deny egress no_rule");
    check_direction(&snapshot, "GET", "/v1/x", &format!("Ingress allow {into}"));
    check_direction(&snapshot, "GET", "/v2/x", &format!("Egress deny no_http_rule {out}"));
    check_direction(&snapshot, "PUT", "/v1/x", &format!("Ingress deny no_http_rule {into}"));
    check_direction(&parsed(&[egress]), "GET", "/v1/x", &format!("Egress allow {out}"));
}

#[test]
fn what_cannot_be_judged_is_denied() {
    let snapshot =
        world(vec![policy("rule1", vec![deathstar(vec![entry(Peers::Any, tcp(80, L7::Unjudgeable))])])]);
    check(&snapshot, XWING, DEATHSTAR, 80, "inspect");
    check_http(&snapshot, XWING, "GET", "/", "deny unjudgeable default/rule1: spec.ingress[0].toPorts[0]");
    let mut http = landing();
    if let L7::Http(rules) = &mut http {
        rules[0].unjudgeable = true;
    }
    let snapshot = world(vec![policy("rule1", vec![deathstar(vec![entry(Peers::Any, tcp(80, http))])])]);
    check_http(
        &snapshot,
        XWING,
        "POST",
        "/v1/request-landing",
        "deny unjudgeable default/rule1: spec.ingress[0].toPorts[0]",
    );
}

/// What allows and can't be judged grants nothing; the rest is enforced as written; grants of others stand.
#[test]
fn a_refused_policy_opens_nothing() {
    let spec = r#"{endpointSelector: {matchLabels: {class: deathstar}}, ingress: [
        {fromEndpoints: [{matchLabels: {org: empire}}], toPorts: [{ports: [{port: "80", protocol: TCP}], rules: {kafka: [{}]}}]},
        {fromNodes: [{}], toPorts: [{ports: [{port: "82", protocol: TCP}]}]},
        {fromEndpoints: [{matchLabels: {org: empire}}], toPorts: [{ports: [{port: "83", protocol: TCP}]}]}]}"#;
    let snapshot = world(vec![closed(spec)]);
    check(&snapshot, TIEFIGHTER, DEATHSTAR, 80, "inspect");
    check_http(
        &snapshot,
        TIEFIGHTER,
        "GET",
        "/",
        "deny unjudgeable default/closed: spec.ingress[0].toPorts[0]",
    );
    check(&snapshot, XWING, DEATHSTAR, 80, "deny ingress no_rule");
    check(&snapshot, TIEFIGHTER, DEATHSTAR, 82, "deny ingress no_rule");
    check(&snapshot, TIEFIGHTER, DEATHSTAR, 83, "allow default/closed: spec.ingress[2].toPorts[0]");
    let other = r#"{endpointSelector: {matchLabels: {class: deathstar}}, ingress: [{fromEndpoints: [{matchLabels: {org: alliance}}]}]}"#;
    let snapshot = world(texts(&[other]).into_iter().chain([closed(spec)]).collect());
    check(&snapshot, XWING, DEATHSTAR, 80, "allow default/p0: spec.ingress[0]");
    check(&snapshot, TIEFIGHTER, DEATHSTAR, 82, "deny ingress no_rule");
}

/// What denies and can't be judged covers all that it might mean, whatever others grant.
#[test]
fn a_refused_deny_covers_all_it_might_mean() {
    let spec = r#"{endpointSelector: {matchLabels: {class: deathstar}},
        ingressDeny: [{fromNodes: [{}], toPorts: [{ports: [{port: "80", protocol: TCP}]}]}]}"#;
    let other = r#"{endpointSelector: {matchLabels: {class: deathstar}}, ingress: [{fromEntities: [all]}]}"#;
    let snapshot = world(texts(&[other]).into_iter().chain([closed(spec)]).collect());
    for peer in [TIEFIGHTER, XWING, WORLD] {
        check(
            &snapshot,
            peer,
            DEATHSTAR,
            80,
            "deny ingress deny_rule default/closed: spec.ingressDeny[0].toPorts[0]",
        );
        check(&snapshot, peer, DEATHSTAR, 81, "allow default/p0: spec.ingress[0]");
    }
}

#[test]
fn a_pattern_over_its_limit_closes_its_rule_and_is_named() {
    let mut http = landing();
    if let L7::Http(rules) = &mut http {
        let path = Some("/(a{100}){100}{100}".into());
        rules.push(HttpRule {
            path: "ingress[0].toPorts[0].rules.http[1]".into(),
            matches: HttpMatch { path, ..HttpMatch::default() },
            unjudgeable: false,
        });
    }
    let inputs = inputs(vec![policy("rule1", vec![deathstar(vec![entry(Peers::Any, tcp(80, http))])])]);
    let mut numbers = Numbers::default();
    let mut resolver = Resolver::default();
    let (snapshot, said) = resolver.resolve(&inputs, &mut numbers, 7);
    check_http(
        &snapshot,
        XWING,
        "POST",
        "/v1/request-landing",
        "allow default/rule1: spec.ingress[0].toPorts[0].rules.http[0]",
    );
    let fields: Vec<&str> = said.iter().map(|d| d.field.as_str()).collect();
    assert_eq!(fields, ["default/rule1: spec.ingress[0].toPorts[0].rules.http[1].path"]);
    // Said again of what was taken over.
    assert_eq!(resolver.resolve(&inputs, &mut numbers, 8).1, said);
}

#[test]
fn two_claims_on_one_address() {
    let mut inputs = inputs(vec![]);
    inputs.endpoints[2].addresses.push(DEATHSTAR.parse().unwrap());
    let (snapshot, said) = resolve(&inputs, &mut Numbers::default(), 7);
    assert_eq!(&*snapshot.endpoint_at(DEATHSTAR.parse().unwrap()).unwrap().inputs.name, "deathstar");
    assert_eq!(said[0].field, "endpoint default/xwing");
    assert!(said[0].message.contains("`10.15.1.1` belongs to another endpoint"), "{said:?}");
}

#[test]
fn two_endpoints_of_one_name() {
    let mut inputs = inputs(vec![]);
    inputs.endpoints[2].name = "deathstar".into();
    let (snapshot, said) = resolve(&inputs, &mut Numbers::default(), 7);
    assert_eq!(snapshot.endpoints().len(), 2);
    assert!(snapshot.endpoint_at(XWING.parse().unwrap()).is_none());
    assert_eq!(said[0].field, "endpoint default/deathstar");
}

#[test]
fn what_did_not_change_is_shared() {
    let specs = [
        r#"{endpointSelector: {matchLabels: {org: empire}}, ingress: [{toPorts: [{ports: [{port: "80", protocol: TCP}], rules: {http: [{path: /x}]}}]}]}"#,
        r#"{endpointSelector: {matchLabels: {class: xwing}}, ingress: [{fromEndpoints: [{matchLabels: {org: empire}}]}]}"#,
    ];
    let mut numbers = Numbers::default();
    let mut resolver = Resolver::default();
    let (before, _) = resolver.resolve(&inputs(texts(&specs)), &mut numbers, 1);
    let [deathstar, tiefighter, xwing] = [0, 1, 2].map(|i| &before.endpoints()[i]);
    assert!(Arc::ptr_eq(&deathstar.ingress, &tiefighter.ingress), "equal policy");
    assert!(Arc::ptr_eq(&deathstar.egress, &xwing.egress), "equal policy");
    let (after, _) = resolver.resolve(&inputs(texts(&specs[..1])), &mut numbers, 2);
    assert!(Arc::ptr_eq(&after.endpoints()[0], deathstar));
    assert!(!Arc::ptr_eq(&after.endpoints()[2], xwing));
    assert!(Arc::ptr_eq(&after.endpoints()[2].identity, &xwing.identity));
    let mut grown = inputs(texts(&specs));
    grown
        .endpoints
        .insert(0, EndpointInputs { name: "a".into(), addresses: vec![], ..grown.endpoints[0].clone() });
    let mut resolver = Resolver::default();
    let (before, _) = resolver.resolve(&inputs(texts(&specs)), &mut numbers, 1);
    let deathstar = &before.endpoints()[0];
    let (grown, _) = resolver.resolve(&grown, &mut numbers, 2);
    assert!(
        Arc::ptr_eq(&grown.endpoints()[0].ingress, &deathstar.ingress),
        "a new endpoint joins an old policy"
    );
    assert_eq!(grown.connection(&flow(XWING, DEATHSTAR, 81)).revision, 2);
    check(&grown, XWING, DEATHSTAR, 81, "deny ingress no_rule");
}

/// Policies that come and go, each speaking of somebody else, leave nothing behind that grows.
#[test]
fn what_nobody_speaks_of_any_more_is_forgotten() {
    let spec = |nth: usize| {
        format!(
            "{{endpointSelector: {{matchLabels: {{class: deathstar}}}}, ingress: [{{fromEndpoints: [{{matchLabels: {{nth: n{nth}}}}}]}}]}}"
        )
    };
    let (mut resolver, mut numbers) = (Resolver::default(), Numbers::default());
    for nth in 0..500 {
        let inputs = inputs(texts(&[&spec(nth)]));
        let (snapshot, _) = resolver.resolve(&inputs, &mut numbers, 1);
        check(&snapshot, XWING, DEATHSTAR, 80, "deny ingress no_rule");
        assert!(resolver.terms.len() < 100, "{}", resolver.terms.len());
        assert!(resolver.groups.ids().count() < 20);
    }
}

#[test]
fn neighbours_with_one_decision_are_one_class() {
    let snapshot = parsed(&[
        r#"{endpointSelector: {matchLabels: {class: deathstar}}, ingress: [{fromEndpoints: [{matchLabels: {org: empire}}],
        toPorts: [{ports: [{port: "80", endPort: 90, protocol: TCP}, {port: "91", protocol: TCP}, {port: "85", protocol: TCP}]}]}]}"#,
    ]);
    let id = snapshot.identity_of(TIEFIGHTER.parse().unwrap()).id;
    let classes = snapshot.endpoints()[0].ingress.classes(&snapshot).filter(|class| class.identity == id);
    assert_eq!(classes.map(|class| class.ports).collect::<Vec<_>>(), [(80, 91)]);
}

#[test]
fn the_snapshot_of_nothing() {
    let snapshot = Snapshot::default();
    check(&snapshot, XWING, DEATHSTAR, 80, "allow");
    assert_eq!(snapshot.identity_of(WORLD.parse().unwrap()).id, IdentityId::UNKNOWN);
}
