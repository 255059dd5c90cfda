//! Every refusal: the line, the field and the words.

use super::{lines, only, text};
use crate::parse::tree::{DEPTH_MAX, NODES_MAX};
use crate::parse::{Judged, Severity, parse};
use crate::rule::{L7, Ports};

/// The first error about a policy; the lines of `spec` begin at line 5.
#[track_caller]
fn check(spec: &str, expect: &str) {
    object(&text(spec), expect);
}

#[track_caller]
fn object(text: &str, expect: &str) {
    let Judged::Refused { diagnostics, .. } = only(text).judged else {
        panic!("accepted:\n{text}");
    };
    let first = diagnostics.iter().position(|d| d.severity == Severity::Error).unwrap();
    assert_eq!(lines(&diagnostics)[first], expect, "{text}");
}

/// The first error about a text that holds no object.
#[track_caller]
fn whole(text: &str, expect: &str) {
    let diagnostics = parse(text).unwrap_err();
    assert_eq!(lines(&diagnostics)[0], expect, "{text:.200}");
}

/// An ingress entry on line 6, its fields from line 7.
#[track_caller]
fn ingress(fields: &str, expect: &str) {
    let fields = fields.replace('\n', "\n    ");
    check(&format!("  endpointSelector: {{}}\n  ingress:\n  -\n    {fields}\n"), expect);
}

#[track_caller]
fn egress(fields: &str, expect: &str) {
    check(&format!("  endpointSelector: {{}}\n  egress:\n  - {fields}\n"), expect);
}

#[track_caller]
fn port(port: &str, expect: &str) {
    check(
        &format!("  endpointSelector: {{}}\n  ingress:\n  - toPorts:\n    - ports:\n      - {port}\n"),
        expect,
    );
}

#[track_caller]
fn http(rule: &str, expect: &str) {
    let ports = "toPorts:\n    - ports: [{port: '80', protocol: TCP}]\n      rules:\n        http:";
    check(&format!("  endpointSelector: {{}}\n  ingress:\n  - {ports}\n        - {rule}\n"), expect);
}

#[test]
fn envelopes() {
    let good = text("  endpointSelector: {}\n  ingress: [{}]\n");
    let without = |line: &str| good.replace(line, "");
    let with = |from: &str, to: &str| good.replace(from, to);
    whole(&without("kind: CiliumNetworkPolicy\n"), "1: : `kind` is missing, or written twice");
    whole(
        &with("kind: CiliumNetworkPolicy", "kind: NetworkPolicy"),
        "2: kind: not supported yet: kind `NetworkPolicy`",
    );
    whole(
        &with("kind: CiliumNetworkPolicy", "kind: Deployment"),
        "2: kind: `Deployment` is not a kind of policy",
    );
    whole(&with("kind: CiliumNetworkPolicy", "kind: 7"), "2: kind: a string is needed, `7` is a number");
    whole(&without("metadata: {name: p, namespace: ns}\n"), "1: : `metadata` is missing");
    whole(&with("name: p, ", ""), "3: metadata: `name` is missing");
    whole(&with("name: p,", "name: P,"), "3: metadata.name: `P` is not a name");
    whole(&with("name: p,", "name: ../p,"), "3: metadata.name: `../p` is not a name");
    whole(&with("name: p,", "name: p, name: q,"), "3: metadata.name: the field is written twice");
    whole(&with("namespace: ns", "namespace: n_s"), "3: metadata.namespace: `n_s` is not a name");
    whole(
        &with("namespace: ns", "namespce: ns"),
        "3: metadata.namespce: unknown field `namespce`; did you mean `namespace`",
    );
    whole("- endpointSelector: {}\n", "1: : a bare list is no policy object: it has no kind and no name");
    whole("just words\n", "1: : a policy object is a mapping");
    object(&without("apiVersion: cilium.io/v2\n"), "1: : `apiVersion` is missing");
    object(&with("cilium.io/v2", "cilium.io/v1"), "1: apiVersion: unknown apiVersion `cilium.io/v1`");
    object(&format!("{good}description: x\n"), "7: description: unknown field `description` here");
    object(&format!("{good}other: x\n"), "7: other: unknown field `other`");
    object(
        &with("spec:\n", "specs: []\nstatus:\n"),
        "1: : the policy is empty: `spec` or `specs` must be there",
    );
    let clusterwide = with("CiliumNetworkPolicy", "CiliumClusterwideNetworkPolicy");
    object(&clusterwide, "3: metadata.namespace: a clusterwide policy has no namespace");
}

/// As long as names may be, and one longer.
#[test]
fn long_names() {
    let with = |name: usize, namespace: usize, key: usize, value: usize| {
        let [name, namespace, key, value] = [name, namespace, key, value].map(|length| "a".repeat(length));
        format!(
            "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec:\n  endpointSelector: {{matchLabels: {{{key}: {value}}}}}\n  ingress: [{{}}]\n"
        )
    };
    let refused = |text: &str, part: &str| {
        let diagnostics = match parse(text) {
            Err(diagnostics) => diagnostics,
            Ok(parsed) => match &parsed.objects[0].judged {
                Judged::Accepted { .. } => panic!("accepted:\n{text}"),
                Judged::Refused { diagnostics, .. } => diagnostics.clone(),
            },
        };
        let first = &lines(&diagnostics)[0];
        assert!(first.contains(part), "{first}");
    };
    let _most = super::accepted(&with(253, 63, 63, 63));
    refused(&with(254, 63, 63, 63), "is not a name");
    refused(&with(253, 64, 63, 63), "is not a name");
    refused(&with(253, 63, 64, 63), "is not a label key");
    refused(&with(253, 63, 63, 64), "is not a label value");
}

#[test]
fn fixes_are_given() {
    let Judged::Refused { diagnostics, .. } = only(&text("  endpointSelector: {}\n  ingres: [{}]\n")).judged
    else {
        panic!("accepted");
    };
    assert_eq!(
        diagnostics[0].fix,
        "a rule has the fields endpointSelector, nodeSelector, ingress, ingressDeny, egress, egressDeny, enableDefaultDeny, labels, description"
    );
}

#[test]
fn rules() {
    check("  ingress: [{}]\n", "4: spec: a rule must have an `endpointSelector`");
    let both = "  endpointSelector: {}\n  nodeSelector: {}\n  ingress: [{}]\n";
    check(both, "6: spec.nodeSelector: a rule cannot have both `endpointSelector` and `nodeSelector`");
    check("  nodeSelector: {}\n  ingress: [{}]\n", "5: spec.nodeSelector: not supported yet: `nodeSelector`");
    let none =
        "4: spec: a rule must have at least one entry in `ingress`, `ingressDeny`, `egress` or `egressDeny`";
    check("  endpointSelector: {}\n", none);
    check("  endpointSelector: {}\n  ingress: []\n", none);
    let good = "  endpointSelector: {}\n  ingress: [{}]\n";
    check(&format!("{good}  log: {{value: x}}\n"), "7: spec.log: not supported yet: `log`");
    check(&format!("{good}  ingress: []\n"), "7: spec.ingress: the field is written twice");
    check(
        &format!("{good}  Egress: [{{}}]\n"),
        "7: spec.Egress: unknown field `Egress`; did you mean `egress`",
    );
    check(&format!("{good}  description: 7\n"), "7: spec.description: a string is needed, `7` is a number");
    check(&format!("{good}  labels: [a=b]\n"), "7: spec.labels[0]: a mapping is needed, this is a string");
    check(&format!("{good}  labels: [{{value: b}}]\n"), "7: spec.labels[0]: a label needs a `key`");
    check(
        &format!("{good}  enableDefaultDeny: {{ingress: yes}}\n"),
        "7: spec.enableDefaultDeny.ingress: `true` or `false` is needed, this is a boolean",
    );
    check("  endpointSelector: {}\n  ingress:\n", "6: spec.ingress: a list is needed, this is empty (null)");
    check("  endpointSelector: {}\n  ingress: {}\n", "6: spec.ingress: a list is needed, this is a mapping");
}

#[test]
fn selectors() {
    let check = |selector: &str, expect: &str| {
        check(&format!("  endpointSelector: {selector}\n  ingress: [{{}}]\n"), expect)
    };
    let at = "5: spec.endpointSelector";
    check("{matchLabels: {a: 1}}", &format!("{at}.matchLabels.a: a string is needed, `1` is a number"));
    check("{matchLabels: {a: yes}}", &format!("{at}.matchLabels.a: a string is needed, `yes` is a boolean"));
    check(
        "{matchLabels: {a: true}}",
        &format!("{at}.matchLabels.a: a string is needed, `true` is a boolean"),
    );
    check("{matchLabels: {a: }}", &format!("{at}.matchLabels.a: a string is needed, this is empty (null)"));
    check("{matchLabels: {a: b c}}", &format!("{at}.matchLabels.a: `b c` is not a label value"));
    check(
        &format!("{{matchLabels: {{a: {}}}}}", "b".repeat(64)),
        &format!("{at}.matchLabels.a: `{}` is not a label value", "b".repeat(64)),
    );
    check("{matchLabels: {a: b, a: c}}", &format!("{at}.matchLabels.a: the key is written twice"));
    check(
        "{matchLabels: {a: b, 'any:a': c}}",
        &format!("{at}.matchLabels: two keys are the same label: one has its source written, one has not"),
    );
    check("{matchLabels: {'a:b:c': d}}", &format!("{at}.matchLabels.a:b:c: `a:b:c` is not a label key"));
    check("{matchLabels: {'k8s!:a': d}}", &format!("{at}.matchLabels.k8s!:a: `k8s!:a` is not a label key"));
    check("{matchLabels: [a]}", &format!("{at}.matchLabels: a mapping is needed, this is a list"));
    check(
        "{matchlabels: {}}",
        &format!("{at}.matchlabels: unknown field `matchlabels`; did you mean `matchLabels`"),
    );
    check("{labels: {}}", &format!("{at}.labels: unknown field `labels`"));
    let check =
        |expression: &str, expect: &str| check(&format!("{{matchExpressions: [{expression}]}}"), expect);
    let at = format!("{at}.matchExpressions[0]");
    check("{operator: Exists}", &format!("{at}: `key` is missing"));
    check("{key: a}", &format!("{at}: `operator` is missing"));
    check("{key: a, operator: in, values: [b]}", &format!("{at}.operator: unknown operator `in`"));
    check("{key: a, operator: In}", &format!("{at}: the operators `In` and `NotIn` need values"));
    check(
        "{key: a, operator: NotIn, values: []}",
        &format!("{at}: the operators `In` and `NotIn` need values"),
    );
    check(
        "{key: a, operator: Exists, values: [b]}",
        &format!("{at}: the operators `Exists` and `DoesNotExist` take no values"),
    );
    check(
        "{key: a, operator: In, values: [1]}",
        &format!("{at}.values[0]: a string is needed, `1` is a number"),
    );
    check(
        "{key: a, operator: In, value: [b]}",
        &format!("{at}.value: unknown field `value`; did you mean `values`"),
    );
}

/// No label has such a key or value: what asks for one selects nobody, and what asks for anything else everybody.
#[test]
fn what_no_label_can_be() {
    let long = "a".repeat(64);
    let keys = [
        "",
        "%",
        "a b",
        "-a",
        "a-",
        "a/",
        "/a",
        "a/b/c",
        "A.example/b",
        ".example/b",
        "a..b/c",
        "-a/b",
        "{{ .key }}",
        "$KEY",
        "<key>",
        "k8s:",
        ":a",
        "k8s:a:b",
        "é",
        &long,
        &format!("k8s:{long}"),
        &format!("{}/a", "a".repeat(254)),
    ];
    let values =
        ["%", "a b", "-a", "a-", "a/b", "{{ .value }}", "${VALUE}", "<team>", "*", "é", "a\\n", &long];
    let lists = [
        "endpointSelector: ",
        "ingress: fromEndpoints",
        "ingressDeny: fromEndpoints",
        "egress: toEndpoints",
        "egressDeny: toEndpoints",
    ];
    for list in lists {
        let refused = |selector: String, what: &str| {
            let spec = match list.split_once(": ") {
                Some((subject, "")) => format!("  {subject}: {selector}\n  ingress: [{{}}]\n"),
                Some((entries, peers)) => {
                    format!("  endpointSelector: {{}}\n  {entries}: [{{{peers}: [{selector}]}}]\n")
                }
                None => panic!("{list}"),
            };
            let Judged::Refused { diagnostics, .. } = only(&text(&spec)).judged else {
                panic!("accepted:\n{spec}")
            };
            assert!(diagnostics[0].message.ends_with(what), "{diagnostics:#?}");
        };
        for key in &keys {
            refused(format!("{{matchLabels: {{\"{key}\": a}}}}"), "is not a label key");
            for rest in ["In, values: [a]", "NotIn, values: [a]", "Exists", "DoesNotExist"] {
                let expression = format!("{{key: \"{key}\", operator: {rest}}}");
                refused(format!("{{matchExpressions: [{expression}]}}"), "is not a label key");
            }
        }
        for value in &values {
            refused(format!("{{matchLabels: {{a: \"{value}\"}}}}"), "is not a label value");
            for operator in ["In", "NotIn"] {
                let expression = format!("{{key: a, operator: {operator}, values: [b, \"{value}\"]}}");
                refused(format!("{{matchExpressions: [{expression}]}}"), "is not a label value");
            }
        }
    }
}

#[test]
fn the_longest_labels() {
    let (name, prefix) = ("a".repeat(63), format!("{}.b", "a".repeat(251)));
    let expressions = format!(
        "[{{key: {prefix}/{name}, operator: NotIn, values: [{name}, '']}}, {{key: 'k8s:{name}', operator: Exists}}]"
    );
    let labels = format!("{{'k8s:{prefix}/{name}': {name}, x: '', '0-0_0.0': Z}}");
    let selector = format!("{{matchLabels: {labels}, matchExpressions: {expressions}}}");
    let _accepted = super::accepted(&text(&format!("  endpointSelector: {selector}\n  ingress: [{{}}]\n")));
}

#[test]
fn peers() {
    let combined = "7: spec.ingress[0]: `fromEndpoints` and `fromCIDR` in one entry: it is not said whether either or both must hold";
    check(
        "  endpointSelector: {}\n  ingress:\n  - fromEndpoints: [{}]\n    fromCIDR: [10.0.0.0/8]\n",
        combined,
    );
    let mesh = "not supported yet: entity `cluster-mesh`";
    ingress("fromEntities: [cluster-mesh]", &format!("8: spec.ingress[0].fromEntities[0]: {mesh}"));
    egress("toEntities: [world, cluster-mesh]", &format!("7: spec.egress[0].toEntities[1]: {mesh}"));
    ingress("fromEntities: [martians]", "8: spec.ingress[0].fromEntities[0]: unsupported entity `martians`");
    ingress(
        "fromCIDR:\n- 10.0.0/8",
        "9: spec.ingress[0].fromCIDR[0]: `10.0.0/8` is not an address range: not an IPv4 or IPv6 address",
    );
    ingress("fromCIDR: [1]", "8: spec.ingress[0].fromCIDR[0]: a string is needed, `1` is a number");
    ingress(
        "fromCIDR: ['']",
        "8: spec.ingress[0].fromCIDR[0]: `` is not an address range: not an IPv4 or IPv6 address",
    );
    let set = |item: &str, expect: &str| {
        ingress(&format!("fromCIDRSet:\n- {item}"), &format!("9: spec.ingress[0].fromCIDRSet[0]{expect}"))
    };
    set("{cidr: 10.0.0.1}", ".cidr: a range is needed, this is a bare address");
    set("{}", ": `cidr` is missing");
    set(
        "{cidr: 10.0.0.0/8, except: [11.0.0.0/8]}",
        ".except[0]: the exception `11.0.0.0/8` does not lie inside of `10.0.0.0/8`",
    );
    set(
        "{cidr: 10.0.0.0/24, except: [10.0.0.0/8]}",
        ".except[0]: the exception `10.0.0.0/8` does not lie inside of `10.0.0.0/24`",
    );
    set(
        "{cidr: 10.0.0.0/8, except: [fd00::/64]}",
        ".except[0]: the exception `fd00::/64` does not lie inside of `10.0.0.0/8`",
    );
    set("{cidr: 10.0.0.0/8, except: [10.0.0.1]}", ".except[0]: a range is needed, this is a bare address");
    set("{cidrGroupRef: g}", ".cidrGroupRef: not supported yet: `cidrGroupRef`");
    set("{cidrGroupSelector: {}}", ".cidrGroupSelector: not supported yet: `cidrGroupSelector`");
    for name in ["authentication", "fromGroups", "fromNodes", "icmps"] {
        ingress(&format!("{name}: []"), &format!("8: spec.ingress[0].{name}: not supported yet: `{name}`"));
    }
    ingress("fromRequires: [{}]", "8: spec.ingress[0].fromRequires: not supported any more: `fromRequires`");
    ingress("toEndpoints: [{}]", "8: spec.ingress[0].toEndpoints: unknown field `toEndpoints`");
    for name in ["authentication", "icmps", "toFQDNs", "toGroups", "toNodes", "toServices"] {
        egress(&format!("{name}: []"), &format!("7: spec.egress[0].{name}: not supported yet: `{name}`"));
    }
    egress("toRequires: [{}]", "7: spec.egress[0].toRequires: not supported any more: `toRequires`");
    egress(
        "auth: {mode: required}",
        "7: spec.egress[0].auth: unknown field `auth`; did you mean `authentication`",
    );
    let deny = "  endpointSelector: {}\n  egressDeny:\n  - toFQDNs: [{matchName: a}]\n";
    check(deny, "7: spec.egressDeny[0].toFQDNs: unknown field `toFQDNs` here");
}

#[test]
fn ports() {
    let at = "9: spec.ingress[0].toPorts[0].ports[0]";
    port("{protocol: TCP}", &format!("{at}: the port must be specified"));
    for bad in ["-http", "http--alt", "abcdefghijklmnop", "65536", "08", "1_000"] {
        port(&format!("{{port: '{bad}'}}"), &format!("{at}.port: `{bad}` is not a port"));
    }
    port("{port: ''}", &format!("{at}.port: the port must be specified"));
    port("{port: 017}", &format!("{at}.port: a string is needed, `017` is a number"));
    port("{port: 0x50}", &format!("{at}.port: a string is needed, `0x50` is a number"));
    port("{port: 70000}", &format!("{at}.port: `70000` is not a port"));
    port("{port: [80]}", &format!("{at}.port: a string is needed, this is a list"));
    port(
        "{port: '80', endPort: '90'}",
        &format!("{at}.endPort: a number from 0 to 65535 is needed, this is a string"),
    );
    port(
        "{port: '80', endPort: 65536}",
        &format!("{at}.endPort: a number from 0 to 65535 is needed, this is a number"),
    );
    port("{port: '0', endPort: 10}", &format!("{at}: port 0 is every port, and takes no `endPort`"));
    port("{port: '80', protocol: tcp}", &format!("{at}.protocol: unknown protocol `tcp`"));
    port("{port: '80', protocol: ''}", &format!("{at}.protocol: unknown protocol ``"));
    for name in ["AH", "ESP", "GRE", "ICMP", "ICMPV6", "IGMP", "IPIP", "IPV6", "VRRP"] {
        port(
            &format!("{{protocol: {name}}}"),
            &format!("{at}.protocol: not supported yet: protocol `{name}`"),
        );
    }
    port(
        "{port: '80', protcol: TCP}",
        &format!("{at}.protcol: unknown field `protcol`; did you mean `protocol`"),
    );
    let rule = |fields: &str, expect: &str| {
        let ports = "{port: '80', protocol: TCP}";
        check(
            &format!(
                "  endpointSelector: {{}}\n  ingress:\n  - toPorts:\n    - ports: [{ports}]\n      {fields}\n"
            ),
            expect,
        );
    };
    for name in ["listener", "originatingTLS", "serverNames", "terminatingTLS"] {
        rule(
            &format!("{name}: []"),
            &format!("9: spec.ingress[0].toPorts[0].{name}: not supported yet: `{name}`"),
        );
    }
    for name in ["dns", "kafka", "l7", "l7proto"] {
        rule(
            &format!("rules: {{{name}: []}}"),
            &format!("9: spec.ingress[0].toPorts[0].rules.{name}: not supported yet: `{name}`"),
        );
    }
    for empty in ["{}", "{http: [], dns: []}"] {
        let expect = if empty == "{}" {
            ": `rules` without any kind of rules"
        } else {
            ".dns: not supported yet: `dns`"
        };
        rule(&format!("rules: {empty}"), &format!("9: spec.ingress[0].toPorts[0].rules{expect}"));
    }
    rule("rules: []", "9: spec.ingress[0].toPorts[0].rules: a mapping is needed, this is a list");
    let deny = "  endpointSelector: {}\n  ingressDeny:\n  - toPorts:\n    - ports: [{port: '80'}]\n      rules: {http: [{}]}\n";
    check(deny, "9: spec.ingressDeny[0].toPorts[0].rules: unknown field `rules` here");
}

#[test]
fn rules_of_requests() {
    let at = "11: spec.ingress[0].toPorts[0].rules.http[0]";
    http("{path: '/a('}", &format!("{at}.path: `/a(` is not a regular expression: unclosed group at byte 2"));
    http(
        "{method: 'a[['}",
        &format!("{at}.method: `a[[` is not a regular expression: unclosed character class at byte 2"),
    );
    http(
        "{host: '*.example'}",
        &format!(
            "{at}.host: `*.example` is not a regular expression: repetition operator missing expression at byte 0"
        ),
    );
    http("{path: [/a]}", &format!("{at}.path: a string is needed, this is a list"));
    http("{headers: X-Foo}", &format!("{at}.headers: a list is needed, this is a string"));
    http("{headers: [' x']}", &format!("{at}.headers[0]: the name of the header is missing"));
    http("{headerMatches: []}", &format!("{at}.headerMatches: not supported yet: `headerMatches`"));
    http("{Path: /a}", &format!("{at}.Path: unknown field `Path`; did you mean `path`"));
    http("{header: [X-Foo]}", &format!("{at}.header: unknown field `header`; did you mean `headers`"));
    http("[]", &format!("{at}: a mapping is needed, this is a list"));
    let message = "8: spec.ingress[0].toPorts[0].ports[0]: HTTP rules apply to TCP only, not to other protocols or `ANY`";
    let rule = |port: &str| {
        format!(
            "  endpointSelector: {{}}\n  ingress:\n  - toPorts:\n    - ports: [{port}]\n      rules: {{http: [{{}}]}}\n"
        )
    };
    check(&rule("{port: '80'}"), message);
    check(&rule("{port: '80', protocol: UDP}"), message);
    check(
        &rule("{port: '0', protocol: TCP}"),
        "8: spec.ingress[0].toPorts[0].ports[0]: HTTP rules need a port; 0 is every port",
    );
}

#[test]
fn texts() {
    whole("a: [", "2: : neither YAML nor JSON: while parsing a node, did not find expected node content");
    whole(
        "---\n---\na: b: c\n",
        "3: : neither YAML nor JSON: mapping values are not allowed in this context",
    );
    whole(
        "a:\n\tb: c\n",
        "2: : neither YAML nor JSON: tabs disallowed within this context (block indentation)",
    );
    assert_eq!(parse("a:\n\tb: c\n").unwrap_err()[0].fix, "indent with spaces");
    whole("? [a]\n: b\n", "1: : a key that is no word");
    whole("{{ .Values.x }}: b\n", "1: : a key that is no word");
    whole("\nyes: b\n", "2: : `yes` as a key is a boolean to some readers");
    whole("1.0: b\n", "1: : `1.0` as a key is a number to some readers");
    whole("<<: b\n", "1: : `<<` as a key is a merge key to some readers");
    whole("a: !!int 7\n", "1: : the tag `tag:yaml.org,2002:!int` is not supported");
    whole("a: !mine {}\n", "1: : the tag `!mine` is not supported");
    whole("a: b\n...\nc: d\n", "3: : a second document without `---` before it");
    whole("a: &x [*x]\n", "1: : an alias names a part that it stands in itself");
}

#[test]
fn deep_texts() {
    let deep = |levels: usize| format!("{}7{}", "[".repeat(levels), "]".repeat(levels));
    let message = "1: : more than 32 lists and mappings inside of each other";
    whole(&deep(DEPTH_MAX.into()), "1: : a bare list is no policy object: it has no kind and no name");
    whole(&deep(usize::from(DEPTH_MAX) + 1), message);
    // The scanner looks ahead in a flow, and has a limit of its own.
    whole(&deep(100_000), "1: : neither YAML nor JSON: recursion limit exceeded");
    whole(&"- ".repeat(100_000), message);
    whole(
        &"a:\n"
            .lines()
            .cycle()
            .take(70)
            .enumerate()
            .map(|(n, l)| format!("{}{l}\n", " ".repeat(n)))
            .collect::<String>(),
        "33: : more than 32 lists and mappings inside of each other",
    );
    // Each alias is one level deeper than the one before.
    let chain: String = (1..100).map(|n| format!("- &a{n} [*a{}]\n", n - 1)).collect();
    whole(&format!("- &a0 []\n{chain}"), "32: : more than 32 lists and mappings inside of each other");
}

#[test]
fn alias_bombs() {
    let bomb: String =
        (1..30).map(|n| format!("- &a{n} [{}]\n", vec![format!("*a{}", n - 1); 10].join(", "))).collect();
    let message = format!("the document is larger than {NODES_MAX} values once its aliases are written out");
    whole(&format!("- &a0 [x]\n{bomb}"), &format!("7: : {message}"));
    // The list 1, the anchored one 1000 and as much again for being kept, and every alias 1000.
    let most = format!("- &a [{}]\n{}{}", "7, ".repeat(999), "- *a\n".repeat(997), "- 7\n".repeat(999));
    whole(&most, "1: : a bare list is no policy object: it has no kind and no name");
    whole(&format!("{most}- 7\n"), &format!("1: : {message}"));
    let long = format!("- &a \"{}\"\n{}", "x".repeat(1 << 20), "- *a\n".repeat(20));
    whole(&long, &format!("15: : {message}"));
}

/// A pattern that takes more steps by the byte than any request has would deny whatever leads to it.
#[test]
fn patterns_that_take_too_many_steps() {
    let text = "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {name: p}\nspec:\n  endpointSelector: {}\n  \
         ingress: [{toPorts: [{ports: [{port: '80', protocol: TCP}], rules: {http: [{path: /a}, {path: '/x?.*y.{1100}.*'}]}}]}]\n";
    let judged = parse(text).unwrap().objects.remove(0).judged;
    let Judged::Refused { diagnostics, .. } = judged else { panic!("it is accepted") };
    let [diagnostic] = &*diagnostics else { panic!("{diagnostics:?}") };
    assert_eq!(diagnostic.field, "spec.ingress[0].toPorts[0].rules.http[1]");
    assert!(diagnostic.message.contains("more than 12 steps"), "{diagnostic:?}");
    assert!(diagnostic.fix.contains("end with one"), "{diagnostic:?}");
}

/// It says which rules, what they cost, and what to write; its closed form keeps the deny and lets no request pass.
#[test]
fn patterns_over_the_budget_of_a_policy() {
    use crate::automata::AUTOMATON_BYTES_MAX;
    let rules =
        (0..400).map(|i| format!("{{path: '/{i:04}x?.*y.{{120}}.*'}}")).collect::<Vec<_>>().join(", ");
    let text = format!(
        "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {{name: p}}\nspec:\n  endpointSelector: {{}}\n  \
         ingress: [{{toPorts: [{{ports: [{{port: '80', protocol: TCP}}], rules: {{http: [{rules}]}}}}]}}]\n  \
         ingressDeny: [{{fromEntities: [world]}}]\n"
    );
    let judged = parse(&text).unwrap().objects.remove(0).judged;
    let Judged::Refused { closed, diagnostics } = judged else { panic!("it is accepted") };
    let [diagnostic] = &*diagnostics else { panic!("{diagnostics:?}") };
    assert_eq!(diagnostic.field, "spec.ingress[0].toPorts[0].rules.http[0]");
    assert!(
        diagnostic.message.contains(&format!("more than {AUTOMATON_BYTES_MAX} bytes of automata")),
        "{diagnostic:?}"
    );
    assert!(diagnostic.message.contains("`spec.ingress[0].toPorts[0].rules.http[4]`"), "{diagnostic:?}");
    assert!(diagnostic.fix.contains("begin with a literal"));
    let [rule] = &*closed.rules else { panic!("{closed:?}") };
    assert_eq!(rule.ingress.deny.len(), 1);
    let Ports::Of(ports) = &rule.ingress.allow[0].ports else { panic!("{rule:?}") };
    let L7::Http(http) = &ports[0].l7 else { panic!("{ports:?}") };
    assert!(http.len() == 400 && http.iter().all(|rule| rule.unjudgeable));
    // Unless it is asked for, nothing is compiled, and nothing refused for it.
    let read = super::super::read(&text).unwrap().objects.remove(0).judged;
    assert!(matches!(read, Judged::Accepted { policy, .. } if !policy.automata.is_compiled()));
}
