//! Cases of what is accepted, what is refused, and what stays in force of what is refused.

mod closed;
mod refused;

use super::*;
use crate::rule::{Entry, L7, Peer, Peers, Port, PortMatch, Ports, Protocol, Rule, Subject};
use serde_json::json;

const STAR_WARS: &str = "\
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata:
  name: rule1
spec:
  description: L7 policy to restrict access to specific HTTP call
  endpointSelector:
    matchLabels:
      org: empire
      class: deathstar
  ingress:
  - fromEndpoints:
    - matchLabels:
        org: empire
    toPorts:
    - ports:
      - port: \"80\"
        protocol: TCP
      rules:
        http:
        - method: POST
          path: /v1/request-landing
";

#[test]
fn star_wars() {
    let parsed = parse(STAR_WARS).unwrap();
    let [Object { judged: Judged::Accepted { policy, diagnostics }, text, .. }] = &parsed.objects[..] else {
        panic!("{parsed:#?}");
    };
    assert_eq!(*diagnostics, []);
    assert_eq!(text, STAR_WARS);
    let expect = json!({
        "endpointSelector": {"matchLabels": {
            "any:class": "deathstar", "any:org": "empire", "k8s:io.kubernetes.pod.namespace": "default",
        }},
        "ingress": [{
            "fromEndpoints": [{"matchLabels": {"any:org": "empire", "k8s:io.kubernetes.pod.namespace": "default"}}],
            "toPorts": [{
                "ports": [{"port": "80", "protocol": "TCP"}],
                "rules": {"http": [{"path": "/v1/request-landing", "method": "POST"}]},
            }],
        }],
        "labels": [
            {"key": "io.cilium.k8s.policy.derived-from", "value": "CiliumNetworkPolicy", "source": "k8s"},
            {"key": "io.cilium.k8s.policy.name", "value": "rule1", "source": "k8s"},
            {"key": "io.cilium.k8s.policy.namespace", "value": "default", "source": "k8s"},
        ],
        "description": "L7 policy to restrict access to specific HTTP call",
    });
    // Compared as text: the order of the keys is part of the format.
    assert_eq!(policy.rules[0].printed.to_string(), expect.to_string());
}

/// The policy `p` in the namespace `ns`; the lines of `spec` begin at line 5.
fn text(spec: &str) -> String {
    format!(
        "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {{name: p, namespace: ns}}\nspec:\n{spec}"
    )
}

#[track_caller]
fn only(text: &str) -> Object {
    let mut parsed = parse(text).unwrap();
    assert_eq!(parsed.objects.len(), 1);
    parsed.objects.pop().unwrap()
}

/// `line: field: message`, each.
fn lines(diagnostics: &[Diagnostic]) -> Vec<String> {
    diagnostics.iter().map(|d| format!("{}: {}: {}", d.line, d.field, d.message)).collect()
}

#[track_caller]
fn accepted(text: &str) -> (Policy, Vec<String>) {
    match only(text).judged {
        Judged::Accepted { policy, diagnostics } => (policy, lines(&diagnostics)),
        Judged::Refused { diagnostics, .. } => panic!("{diagnostics:#?}"),
    }
}

/// The one rule of an accepted policy.
#[track_caller]
fn rule(spec: &str) -> Rule {
    accepted(&text(spec)).0.rules.remove(0)
}

/// The one allow entry of ingress.
#[track_caller]
fn ingress(entry: &str) -> Entry {
    let rule = rule(&format!("  endpointSelector: {{}}\n  ingress: [{entry}]\n"));
    assert!(rule.ingress.default_deny);
    rule.ingress.allow.into_iter().next().unwrap()
}

#[track_caller]
fn warns(spec: &str, expect: &str) {
    assert_eq!(accepted(&text(spec)).1, [expect]);
}

#[track_caller]
fn ports(list: &str, expect: &[(u8, Port)]) {
    let entry = ingress(&format!("{{toPorts: [{{ports: {list}}}]}}"));
    let Ports::Of(rules) = entry.ports else { panic!("{entry:?}") };
    let expect: Vec<_> = expect
        .iter()
        .map(|(protocol, port)| PortMatch { protocol: Protocol(*protocol), port: port.clone() })
        .collect();
    assert_eq!(rules[0].ports, expect, "{list}");
}

fn one(port: u16) -> Port {
    Port::Range(port, port)
}

fn named(name: &str) -> Port {
    Port::Named(name.into())
}

#[test]
fn ports_and_protocols() {
    ports("[{port: '80', protocol: TCP}]", &[(6, one(80))]);
    ports("[{port: 80, protocol: TCP}]", &[(6, one(80))]);
    ports("[{port: '80'}]", &[(6, one(80)), (17, one(80)), (132, one(80))]);
    ports(
        "[{port: '0', protocol: ANY}]",
        &[(6, Port::Range(0, 65535)), (17, Port::Range(0, 65535)), (132, Port::Range(0, 65535))],
    );
    ports("[{port: 0, protocol: SCTP}]", &[(132, Port::Range(0, 65535))]);
    ports("[{port: '8000', endPort: 8100, protocol: UDP}]", &[(17, Port::Range(8000, 8100))]);
    ports("[{port: '8000', endPort: 8000, protocol: UDP}]", &[(17, one(8000))]);
    ports("[{port: '8000', endPort: 0, protocol: UDP}]", &[(17, one(8000))]);
    ports("[{port: '65535', protocol: TCP}]", &[(6, one(65535))]);
    ports("[]", &[]);
}

/// Case P01 of the shared cases.
#[test]
fn port_strings() {
    ports("[{port: '0x50', protocol: TCP}]", &[(6, named("0x50"))]);
    ports("[{port: HTTP, protocol: TCP}]", &[(6, named("http"))]);
    ports("[{port: http-alt, protocol: TCP}]", &[(6, named("http-alt"))]);
    ports("[{port: '0o17', protocol: TCP}]", &[(6, named("0o17"))]);
    ports("[{port: '017', protocol: TCP}]", &[(6, one(15))]);
}

#[test]
fn warnings() {
    let port =
        |port: &str| format!("  endpointSelector: {{}}\n  ingress:\n  - toPorts:\n    - ports: [{port}]\n");
    let at = "8: spec.ingress[0].toPorts[0].ports[0]";
    warns(&port("{port: 80}"), &format!("{at}.port: Kubernetes wants the port as a string"));
    warns(&port("{port: '017'}"), &format!("{at}.port: a leading zero makes it octal: this is port 15"));
    warns(
        &port("{port: '80', endPort: 79}"),
        &format!("{at}: `endPort` 79 lies before port 80 and is ignored"),
    );
    warns(
        &port("{port: http, endPort: 79}"),
        &format!(
            "{at}: a range from a named port is followed in ingress only; in egress it is that one port"
        ),
    );
    warns(
        "  endpointSelector: {}\n  ingress: [{toPorts: [{}]}]\n",
        "6: spec.ingress[0].toPorts[0]: an element of `toPorts` without `ports` covers no port at all",
    );
    warns(
        "  endpointSelector: {}\n  enableDefaultDeny: {egress: true}\n  ingress: [{}]\n",
        "6: spec.enableDefaultDeny.egress: the rule has no entry in this direction: everything is denied there",
    );
    warns(
        "  endpointSelector: {matchLabels: {'k8s:io.kubernetes.pod.namespace': other}}\n  ingress: [{}]\n",
        "5: spec.endpointSelector: the subject is confined to the policy's namespace `ns`",
    );
    warns(
        "  endpointSelector: {}\n  ingress: [{toPorts: [{ports: [{port: '80', protocol: TCP}], rules: {http: []}}]}]\n",
        "6: spec.ingress[0].toPorts[0].rules.http: an empty list asks for nothing: every request is allowed",
    );
    warns(
        "  endpointSelector: {}\n  ingress:\n  - toPorts:\n    - ports: [{port: '80', protocol: TCP}]\n      rules: {http: [{headers: ['X-Foo:bar']}]}\n",
        "9: spec.ingress[0].toPorts[0].rules.http[0].headers[0]: no request has a header called `X-Foo:bar`: the rule matches nothing",
    );
}

/// What absent and empty lists mean.
#[test]
fn absent_and_empty() {
    let nobody = Peers::Of(Vec::new());
    let no_port = Ports::Of(Vec::new());
    let entry = |text: &str| {
        let entry = ingress(text);
        (entry.peers, entry.ports)
    };
    assert_eq!(entry("{}"), (nobody.clone(), no_port.clone()));
    assert_eq!(entry("{toPorts: []}"), (nobody.clone(), no_port));
    assert_eq!(entry("{fromEndpoints: []}"), (nobody.clone(), Ports::All));
    assert_eq!(entry("{fromCIDR: [], fromEntities: []}"), (nobody.clone(), Ports::All));
    assert_eq!(entry("{fromEndpoints: [], toPorts: []}"), (nobody, Ports::All));
    let (peers, ports) = entry("{toPorts: [{ports: [{port: '1', protocol: TCP}]}]}");
    assert_eq!(peers, Peers::Any);
    assert!(matches!(ports, Ports::Of(rules) if rules.len() == 1));
    assert!(matches!(entry("{toPorts: [{}]}"), (Peers::Any, Ports::Of(rules)) if rules[0].ports.is_empty()));
    let rule = rule("  endpointSelector: {}\n  ingress: []\n  ingressDeny: [{}]\n");
    assert!(rule.ingress.default_deny && !rule.egress.default_deny);
    assert_eq!(rule.ingress.deny, [entries::nothing("ingressDeny[0]")]);
    assert_eq!(rule.ingress.allow, []);
}

#[test]
fn default_deny() {
    let said = |text: &str| {
        let rule = rule(&format!("  endpointSelector: {{}}\n  egress: [{{}}]\n{text}"));
        (rule.ingress.default_deny, rule.egress.default_deny)
    };
    assert_eq!(said(""), (false, true));
    assert_eq!(said("  enableDefaultDeny: {egress: false}\n"), (false, false));
    assert_eq!(said("  enableDefaultDeny: {ingress: true}\n"), (true, true));
    assert_eq!(said("  enableDefaultDeny: {}\n"), (false, true));
}

/// Selectors as printed, so that sources can be seen.
#[track_caller]
fn selectors(object: &str, subject: &str, peer: &str, expect: [serde_json::Value; 2]) {
    let text = format!(
        "apiVersion: cilium.io/v2\n{object}\nspec:\n  endpointSelector: {subject}\n  ingress: [{{fromEndpoints: [{peer}]}}]\n"
    );
    let printed = &accepted(&text).0.rules[0].printed;
    assert_eq!(
        [&printed["endpointSelector"], &printed["ingress"][0]["fromEndpoints"][0]],
        [&expect[0], &expect[1]]
    );
}

#[test]
fn namespaces_of_selectors() {
    let cnp = "kind: CiliumNetworkPolicy\nmetadata: {name: p, namespace: ns}";
    let ccnp = "kind: CiliumClusterwideNetworkPolicy\nmetadata: {name: p}";
    let ns = json!({"matchLabels": {"k8s:io.kubernetes.pod.namespace": "ns"}});
    let pods =
        json!({"matchExpressions": [{"key": "k8s:io.kubernetes.pod.namespace", "operator": "Exists"}]});
    let unnamed = "kind: CiliumNetworkPolicy\nmetadata: {name: p}";
    let default = json!({"matchLabels": {"k8s:io.kubernetes.pod.namespace": "default"}});
    selectors(unnamed, "{}", "{}", [default.clone(), default]);
    selectors(cnp, "{}", "{}", [ns.clone(), ns.clone()]);
    selectors(ccnp, "{}", "{}", [json!({}), pods]);
    let init = json!({"matchLabels": {"reserved:init": ""}});
    selectors(ccnp, "{matchLabels: {'reserved:init': ''}}", "{}", [init.clone(), json!({})]);
    selectors(cnp, "{}", "{matchLabels: {'reserved:init': ''}}", [ns.clone(), init.clone()]);
    selectors(ccnp, "{}", "{matchLabels: {'reserved:init': ''}}", [json!({}), init]);
    let other = json!({"matchLabels": {"k8s:io.kubernetes.pod.namespace": "other"}});
    selectors(cnp, "{}", "{matchLabels: {'k8s:io.kubernetes.pod.namespace': other}}", [ns.clone(), other]);
    let unsourced = json!({"matchLabels": {"any:io.kubernetes.pod.namespace": "other"}});
    selectors(
        cnp,
        "{}",
        "{matchLabels: {io.kubernetes.pod.namespace: other}}",
        [ns.clone(), unsourced.clone()],
    );
    selectors(ccnp, "{}", "{matchLabels: {io.kubernetes.pod.namespace: other}}", [json!({}), unsourced]);
    let container = json!({"matchLabels": {"container:io.kubernetes.pod.namespace": "x", "k8s:io.kubernetes.pod.namespace": "ns"}});
    selectors(
        cnp,
        "{}",
        "{matchLabels: {'container:io.kubernetes.pod.namespace': x}}",
        [ns.clone(), container],
    );
    let team = json!({"matchExpressions": [{"key": "k8s:io.cilium.k8s.namespace.labels.team", "operator": "In", "values": ["a", "b"]}]});
    let written = "{matchExpressions: [{key: 'k8s:io.cilium.k8s.namespace.labels.team', operator: In, values: [a, b]}]}";
    selectors(cnp, "{}", written, [ns.clone(), team]);
    selectors(
        cnp,
        "{matchLabels: {'k8s:io.kubernetes.pod.namespace': other}}",
        "{}",
        [ns.clone(), ns.clone()],
    );
    let nobody = json!({
        "matchLabels": {"k8s:io.kubernetes.pod.namespace": "ns"},
        "matchExpressions": [{"key": "k8s:io.kubernetes.pod.namespace", "operator": "In", "values": ["other"]}],
    });
    let written =
        "{matchExpressions: [{key: 'k8s:io.kubernetes.pod.namespace', operator: In, values: [other]}]}";
    selectors(cnp, written, "{}", [nobody, ns]);
}

/// Case L02 of the shared cases.
#[test]
fn stored_form_of_selectors() {
    let subject = |written: &str| {
        rule(&format!("  endpointSelector: {written}\n  ingress: [{{}}]\n")).printed["endpointSelector"]
            .clone()
    };
    let namespace = "k8s:io.kubernetes.pod.namespace";
    assert_eq!(
        subject("{matchLabels: {class: deathstar}}"),
        json!({"matchLabels": {"any:class": "deathstar", namespace: "ns"}})
    );
    assert_eq!(
        subject("{matchLabels: {'k8s:class': deathstar}}"),
        json!({"matchLabels": {"k8s:class": "deathstar", namespace: "ns"}})
    );
}

/// The list form of headers.
#[test]
fn headers() {
    let header = |text: &str| {
        let http = format!(
            "{{toPorts: [{{ports: [{{port: '80', protocol: TCP}}], rules: {{http: [{{headers: ['{text}']}}]}}}}]}}"
        );
        let Ports::Of(rules) = ingress(&http).ports else { panic!("{http}") };
        let L7::Http(rules) = &rules[0].l7 else { panic!("{rules:?}") };
        let header = &rules[0].matches.headers[0];
        (header.name.to_string(), header.value.as_deref().map(str::to_owned))
    };
    assert_eq!(header("X-Foo: bar"), ("x-foo".into(), Some("bar".into())));
    assert_eq!(header("X-Foo: bar baz "), ("x-foo".into(), Some("bar baz ".into())));
    assert_eq!(header("X-Foo bar"), ("x-foo".into(), Some("bar".into())));
    assert_eq!(header("X-Foo:: bar"), ("x-foo".into(), Some("bar".into())));
    assert_eq!(header("X-Foo"), ("x-foo".into(), None));
    assert_eq!(header("X-Foo:bar"), ("x-foo:bar".into(), None));
}

#[test]
fn paths_of_parts() {
    let text = "\
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: p}
spec: {endpointSelector: {}, egress: [{}]}
specs:
- {endpointSelector: {}, egress: [{}]}
- endpointSelector: {}
  ingress:
  - {}
  - toPorts:
    - ports: [{port: '80', protocol: TCP}]
      rules: {http: [{}, {path: /x}]}
";
    let (policy, _) = accepted(text);
    let paths: Vec<&str> = policy.rules.iter().map(|r| &*r.path).collect();
    assert_eq!(paths, ["spec", "specs[0]", "specs[1]"]);
    let entry = &policy.rules[2].ingress.allow[1];
    let Ports::Of(ports) = &entry.ports else { panic!("{entry:?}") };
    let L7::Http(http) = &ports[0].l7 else { panic!("{ports:?}") };
    assert_eq!(
        [&*entry.path, &*ports[0].path, &*http[1].path],
        ["ingress[1]", "ingress[1].toPorts[0]", "ingress[1].toPorts[0].rules.http[1]",]
    );
}

#[test]
fn everything_is_printed() {
    let spec = "
  endpointSelector: {matchExpressions: [{key: app, operator: NotIn, values: [db]}, {key: app, operator: Exists}]}
  description: all of it
  labels: [{key: z, value: '1'}, {key: a, value: '2', source: mine}]
  enableDefaultDeny: {ingress: false}
  egressDeny:
  - toCIDR: [10.1.2.3]
  egress:
  - toCIDRSet: [{cidr: 10.0.0.0/8, except: [10.1.0.0/16]}]
    toPorts: [{ports: [{port: '8000', endPort: 8100, protocol: UDP}, {port: DNS}]}]
  ingressDeny:
  - {}
  ingress:
  - fromEntities: [world, kube-apiserver]
    toPorts:
    - ports: [{port: '0', protocol: SCTP}]
    - ports: [{port: '80', protocol: TCP}]
      rules: {http: [{headers: ['X-A: b', X-C], host: h, method: GET, path: /x}]}
";
    let expect = json!({
        "endpointSelector": {
            "matchLabels": {"k8s:io.kubernetes.pod.namespace": "ns"},
            "matchExpressions": [
                {"key": "any:app", "operator": "NotIn", "values": ["db"]},
                {"key": "any:app", "operator": "Exists"},
            ],
        },
        "ingress": [{
            "fromEntities": ["world", "kube-apiserver"],
            "toPorts": [
                {"ports": [{"port": "0", "protocol": "SCTP"}]},
                {
                    "ports": [{"port": "80", "protocol": "TCP"}],
                    "rules": {"http": [{"path": "/x", "method": "GET", "host": "h", "headers": ["x-a: b", "x-c"]}]},
                },
            ],
        }],
        "ingressDeny": [{}],
        "egress": [{
            "toCIDRSet": [{"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}],
            "toPorts": [{"ports": [
                {"port": "8000", "endPort": 8100, "protocol": "UDP"},
                {"port": "dns", "protocol": "ANY"},
            ]}],
        }],
        "egressDeny": [{"toCIDR": ["10.1.2.3/32"]}],
        "labels": [
            {"key": "a", "value": "2", "source": "mine"},
            {"key": "io.cilium.k8s.policy.derived-from", "value": "CiliumNetworkPolicy", "source": "k8s"},
            {"key": "io.cilium.k8s.policy.name", "value": "p", "source": "k8s"},
            {"key": "io.cilium.k8s.policy.namespace", "value": "ns", "source": "k8s"},
            {"key": "z", "value": "1", "source": "unspec"},
        ],
        "enableDefaultDeny": {"ingress": false},
        "description": "all of it",
    });
    assert_eq!(rule(spec).printed.to_string(), expect.to_string());
}

#[test]
fn json_is_read_by_the_same_path() {
    let json = "{\"apiVersion\": \"cilium.io/v2\", \"kind\": \"CiliumNetworkPolicy\",\n\t\"metadata\": {\"name\": \"p\", \"namespace\": \"ns\"},\n\t\"spec\": {\"endpointSelector\": {},\n\t\t\"ingress\": [{\"fromCIDR\": [\"10.0.0.0/8\"]}]}}\n";
    let yaml = text("  endpointSelector: {}\n  ingress:\n  - fromCIDR:\n    - 10.0.0.0/8\n");
    assert_eq!(accepted(json), accepted(&yaml));
    let broken = json.replace("fromCIDR", "fromCidr");
    let Judged::Refused { diagnostics, .. } = only(&broken).judged else { panic!("accepted") };
    assert_eq!(
        lines(&diagnostics),
        ["4: spec.ingress[0].fromCidr: unknown field `fromCidr`; did you mean `fromCIDR`"]
    );
}

#[test]
fn several_documents() {
    let one = text("  endpointSelector: {}\n  ingress: [{}]\n");
    let all =
        format!("# nothing yet\n---\n{one}---\n\n# nothing here\n---\n{}", one.replace("name: p", "name: q"));
    let parsed = parse(&all).unwrap();
    let names: Vec<&str> = parsed.objects.iter().map(|o| &*o.name.name).collect();
    assert_eq!(names, ["p", "q"]);
    for object in &parsed.objects {
        assert_eq!(parse(&object.text).unwrap().objects, std::slice::from_ref(object));
    }
    assert_eq!(parse("").unwrap().objects, []);
    assert_eq!(parse("# a comment\n---\n").unwrap().objects, []);
}

#[test]
fn lists_of_objects() {
    let one = r#"{"apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy", "metadata": {"name": "p"}, "spec": {"endpointSelector": {}, "ingress": [{}]}}"#;
    let list = format!("apiVersion: v1\nkind: List\nitems:\n- {one}\n- {}\n", one.replace("\"p\"", "\"q\""));
    let parsed = parse(&list).unwrap();
    let names: Vec<&str> = parsed.objects.iter().map(|o| &*o.name.name).collect();
    assert_eq!(names, ["p", "q"]);
    for object in &parsed.objects {
        assert_eq!(parse(&object.text).unwrap().objects, std::slice::from_ref(object));
    }
    let broken = list.replacen("ingress", "ingres", 1);
    let Judged::Refused { diagnostics, .. } = &parse(&broken).unwrap().objects[0].judged else {
        panic!("accepted")
    };
    assert_eq!(lines(diagnostics)[0], "4: spec.ingres: unknown field `ingres`; did you mean `ingress`");
    assert!(parse(&list.replacen("\"kind\"", "\"knd\"", 1)).is_err());
}

#[test]
fn clusterwide_objects() {
    let text = "apiVersion: cilium.io/v2\nkind: CiliumClusterwideNetworkPolicy\nmetadata: {name: p, uid: u-1}\nspec: {endpointSelector: {}, egress: [{}]}\n";
    let (policy, _) = accepted(text);
    assert_eq!(policy.name.namespace, None);
    let labels: Vec<String> = policy.rules[0].labels.iter().map(ToString::to_string).collect();
    assert_eq!(
        labels,
        [
            "k8s:io.cilium.k8s.policy.derived-from=CiliumClusterwideNetworkPolicy",
            "k8s:io.cilium.k8s.policy.name=p",
            "k8s:io.cilium.k8s.policy.uid=u-1",
        ]
    );
}

#[test]
fn aliases_stand_for_what_they_name() {
    let spec = "  endpointSelector: &all {}\n  ingress:\n  - fromEndpoints: [*all]\n";
    let Peers::Of(peers) = &rule(spec).ingress.allow[0].peers else { panic!("{spec}") };
    assert!(matches!(peers[..], [Peer::Endpoints(_)]));
    assert!(matches!(rule(spec).subject, Subject::Endpoints(_)));
}
