//! What stays in force of a refused object that was never accepted: nothing more than it would have allowed.

use super::{only, text};
use crate::parse::Judged;
use crate::rule::{Policy, Subject};
use serde_json::{Value, json};

#[track_caller]
fn closed(text: &str) -> Policy {
    match only(text).judged {
        Judged::Accepted { policy, .. } => panic!("accepted: {policy:#?}"),
        Judged::Refused { closed, .. } => closed,
    }
}

/// The closed form of one rule as printed, without its subject and labels.
#[track_caller]
fn check(spec: &str, expect: Value) {
    let mut printed = closed(&text(spec)).rules.remove(0).printed;
    let printed = printed.as_object_mut().unwrap();
    let _subject = printed.shift_remove("endpointSelector").unwrap();
    let _labels = printed.shift_remove("labels").unwrap();
    assert_eq!(Value::Object(printed.clone()), expect, "{spec}");
}

/// One allow entry of egress beside a good one.
#[track_caller]
fn allow(entry: &str, expect: Value) {
    let spec = format!("  endpointSelector: {{}}\n  egress: [{{toEntities: [host]}}, {entry}]\n");
    check(&spec, json!({"egress": [{"toEntities": ["host"]}, expect]}));
}

/// One deny entry of egress beside a good one.
#[track_caller]
fn deny(entry: &str, expect: Value) {
    let spec = format!("  endpointSelector: {{}}\n  egressDeny: [{{toEntities: [host]}}, {entry}]\n");
    check(&spec, json!({"egressDeny": [{"toEntities": ["host"]}, expect]}));
}

const PORT: &str = "toPorts: [{ports: [{port: '80', protocol: TCP}]}]";

fn port() -> Value {
    json!([{"ports": [{"port": "80", "protocol": "TCP"}]}])
}

fn everybody() -> Value {
    json!({"toEntities": ["all"]})
}

#[test]
fn what_allows_and_cant_be_judged_grants_nothing() {
    allow("{toFQDNs: [{matchName: a.example}]}", json!({}));
    allow(&format!("{{toServices: [{{}}], {PORT}}}"), json!({}));
    allow("{icmps: [{fields: [{type: 8}]}]}", json!({}));
    allow("{toEntities: [world], authentication: {mode: required}}", json!({}));
    allow("{toEntities: [world], auth: {mode: required}}", json!({}));
    allow("{toEntities: [world], something: else}", json!({}));
    allow("{toEndpoints: [{}], toCIDR: [10.0.0.0/8]}", json!({}));
    allow("{toEntities: [world], toEntities: [host]}", json!({}));
    allow("{toEntities: world}", json!({}));
    allow("{toEntities: }", json!({}));
    allow("{toEntities: [world], toPorts: }", json!({}));
    allow("{toEntities: [world], toPort: []}", json!({}));
    allow("[]", json!({}));
    allow("null", json!({}));
    allow(
        "{toEndpoints: [{matchExpressions: [{key: a, operator: NotIn, values: ['%']}]}]}",
        json!({"toEndpoints": []}),
    );
    allow("{toEntities: [cluster-mesh]}", json!({"toEndpoints": []}));
}

#[test]
fn what_denies_and_cant_be_judged_covers_all_it_might_mean() {
    deny("{toFQDNs: [{matchName: a.example}]}", everybody());
    deny(&format!("{{toServices: [{{}}], {PORT}}}"), json!({"toPorts": port()}));
    deny("{icmps: [{fields: [{type: 8}]}]}", everybody());
    deny("{something: else}", everybody());
    deny("{toEntities: [martians]}", everybody());
    deny("{toEntities: [cluster-mesh]}", everybody());
    deny("{toEndpoints: [{matchExpressions: [{key: a, operator: In, values: ['%']}]}]}", everybody());
    deny("{toEndpoints: [], toEntities: [martians]}", everybody());
    deny("{toEntities: [world, martians]}", everybody());
    deny("{toCIDR: [10.0.0.0/33]}", everybody());
    deny("{toEndpoints: [{matchLabels: {a: [b]}}]}", everybody());
    deny(&format!("{{toEntities: [martians], {PORT}}}"), json!({"toPorts": port()}));
    deny(&format!("{{toCIDRSet: [{{cidrGroupRef: g}}], {PORT}}}"), json!({"toPorts": port()}));
    deny("[]", everybody());
    deny("null", everybody());
}

#[test]
fn peers_that_can_be_read_stand() {
    allow("{toEntities: [world, martians]}", json!({"toEntities": ["world"]}));
    allow("{toEntities: [martians]}", json!({"toEndpoints": []}));
    allow("{toCIDR: [10.0.0.0/33, 10.0.0.0/8]}", json!({"toCIDR": ["10.0.0.0/8"]}));
    allow(
        "{toEndpoints: [{matchLabels: {a: b}}, {matchLabel: {c: d}}]}",
        json!({"toEndpoints": [{"matchLabels": {"any:a": "b", "k8s:io.kubernetes.pod.namespace": "ns"}}]}),
    );
    allow("{toCIDRSet: [{cidrGroupRef: g}, {cidr: 10.0.0.0/8}]}", json!({"toCIDR": ["10.0.0.0/8"]}));
    deny(
        "{toEntities: [world], toCIDR: [10.0.0.0/8]}",
        json!({"toCIDR": ["10.0.0.0/8"], "toEntities": ["world"]}),
    );
}

#[test]
fn exceptions() {
    allow("{toCIDRSet: [{cidr: 10.0.0.0/8, except: [11.0.0.0/8]}]}", json!({"toEndpoints": []}));
    allow("{toCIDRSet: [{cidr: 10.0.0.0/8, excpt: [10.1.0.0/16]}]}", json!({"toEndpoints": []}));
    allow("{toCIDRSet: [{cidr: 10.0.0.0/8, except: }]}", json!({"toEndpoints": []}));
    deny("{toCIDRSet: [{cidr: 10.0.0.0/8, except: [10.1.0.0/16, x]}]}", json!({"toCIDR": ["10.0.0.0/8"]}));
    deny("{toCIDRSet: [{cidr: 10.0.0.0/8, except: }]}", json!({"toCIDR": ["10.0.0.0/8"]}));
}

#[test]
fn ports() {
    let nothing = json!([{"ports": [], "rules": {"unjudgeable": true}}]);
    let allow_ports = |ports: &str, expect: Value| {
        allow(
            &format!("{{toEntities: [world], toPorts: {ports}}}"),
            json!({"toEntities": ["world"], "toPorts": expect}),
        );
    };
    allow_ports("[{ports: [{port: '80', protocol: TCP}, {port: '80', protocol: tcp}]}]", port());
    allow_ports("[{ports: [{port: '80', protocol: TCP}, {port: '65536'}]}]", port());
    allow_ports("[{ports: [{port: '80', protocol: TCP}], serverNames: [a.example]}]", nothing.clone());
    allow_ports("[{ports: [{port: '80', protocol: TCP}], terminatingTLS: {}}]", nothing.clone());
    allow_ports("[{ports: [{port: '80', protocol: TCP}], listener: {}}]", nothing.clone());
    allow_ports("[{ports: [{port: '80', protocol: TCP}], other: 1}]", nothing.clone());
    allow_ports("[{ports: '80'}]", nothing.clone());
    allow_ports("[7]", nothing);
    let deny_ports = |ports: &str, expect: Value| {
        let spec = format!("{{toEntities: [world], toPorts: {ports}}}");
        deny(&spec, expect);
    };
    let all = || json!({"toEntities": ["world"]});
    deny_ports("[{ports: [{port: '80', protocol: TCP}, {port: '65536'}]}]", all());
    deny_ports("[{ports: [{port: '80', protocol: VRRP}]}]", all());
    deny_ports("[{ports: [{port: '80', protcol: TCP}]}]", all());
    deny_ports("[{port: '80'}]", all());
    deny_ports("80", all());
    deny_ports(
        "[{ports: [{port: '80', protocol: TCP}], rules: {http: [{}]}}]",
        json!({"toEntities": ["world"], "toPorts": port()}),
    );
}

#[test]
fn forty_one_ports() {
    let ports = |count: u16| -> String {
        (0..count).map(|n| format!("{{port: '{}', protocol: TCP}}, ", 1000 + n)).collect()
    };
    let allowed = closed(&text(&format!(
        "  endpointSelector: {{}}\n  ingress: [{{toPorts: [{{ports: [{}]}}]}}]\n",
        ports(41)
    )));
    let printed = &allowed.rules[0].printed["ingress"][0]["toPorts"][0]["ports"];
    assert_eq!(*printed, json!([]));
    let denied = closed(&text(&format!(
        "  endpointSelector: {{}}\n  ingressDeny: [{{toPorts: [{{ports: [{}]}}]}}]\n",
        ports(41)
    )));
    assert_eq!(
        denied.rules[0].printed["ingressDeny"][0]["toPorts"][0]["ports"].as_array().unwrap().len(),
        41
    );
    let most = super::ingress(&format!("{{toPorts: [{{ports: [{}]}}]}}", ports(40)));
    assert!(matches!(most.ports, crate::rule::Ports::Of(rules) if rules[0].ports.len() == 40));
}

#[test]
fn rules_of_requests() {
    let rules = |rules: &str, ports: &str, expect: Value| {
        allow(&format!("{{toPorts: [{{ports: [{ports}], rules: {rules}}}]}}"), json!({"toPorts": [expect]}));
    };
    let tcp = "{port: '80', protocol: TCP}";
    let port = json!([{"port": "80", "protocol": "TCP"}]);
    let unjudgeable = json!({"ports": port, "rules": {"unjudgeable": true}});
    rules("{kafka: [{}]}", tcp, unjudgeable.clone());
    rules("{kafka: [{}]}", "{port: '80'}", unjudgeable.clone());
    rules("{dns: [{}]}", "{port: '53', protocol: UDP}", json!({"ports": [], "rules": {"unjudgeable": true}}));
    rules("{http: [{}], dns: [{}]}", tcp, unjudgeable.clone());
    rules("{http: [{}], other: 1}", tcp, unjudgeable.clone());
    rules("{htp: [{}]}", tcp, unjudgeable.clone());
    rules("{http: {path: /x}}", tcp, unjudgeable.clone());
    rules("{http: }", tcp, unjudgeable.clone());
    rules("[]", tcp, unjudgeable);
    let nothing = json!({"ports": [], "rules": {"unjudgeable": true}});
    rules("{http: [{}]}", "{port: '80'}", nothing.clone());
    rules("{http: [{}]}", "{port: '80', protocol: UDP}", nothing.clone());
    rules("{http: [{}]}", "{port: '0', protocol: TCP}", nothing);
    let http = |list: Value| json!({"ports": port, "rules": {"http": list}});
    rules("{http: [{path: '/a('}, {path: /b}]}", tcp, http(json!([{"unjudgeable": true}, {"path": "/b"}])));
    rules("{http: [{path: /a, metod: GET}]}", tcp, http(json!([{"unjudgeable": true}])));
    rules("{http: [{headerMatches: [], path: /a}]}", tcp, http(json!([{"unjudgeable": true}])));
    rules("{http: [{headers: [''], path: /a}]}", tcp, http(json!([{"unjudgeable": true}])));
    rules("{http: [{path: }, 7]}", tcp, http(json!([{"unjudgeable": true}, {"unjudgeable": true}])));
}

#[test]
fn whole_lists() {
    check("  endpointSelector: {}\n  ingress: {}\n", json!({"ingress": [{}]}));
    check("  endpointSelector: {}\n  ingress:\n", json!({"ingress": [{}]}));
    check("  endpointSelector: {}\n  ingressDeny: {}\n", json!({"ingressDeny": [{"fromEntities": ["all"]}]}));
    check(
        "  endpointSelector: {}\n  ingress: [{fromEntities: [all]}]\n  IngressDeny: [{fromEntities: [world]}]\n",
        json!({"ingress": [{"fromEntities": ["all"]}], "ingressDeny": [{"fromEntities": ["all"]}]}),
    );
    check(
        "  endpointSelector: {}\n  egress: [{toEntities: [all]}]\n  egress: [{}]\n",
        json!({"egress": [{}]}),
    );
    check(
        "  endpointSelector: {}\n  ingress: [{fromEntities: [all]}]\n  egres: [{}]\n",
        json!({"ingress": [{"fromEntities": ["all"]}], "egress": [{}]}),
    );
}

#[test]
fn a_list_that_may_be_of_either_direction_is_of_both() {
    check("  endpointSelector: {}\n  igress: [{}]\n", json!({"ingress": [{}], "egress": [{}]}));
    check(
        "  endpointSelector: {}\n  egress: [{}]\n  xxgressDeny: [{toEntities: [world]}]\n",
        json!({"ingressDeny": [{"fromEntities": ["all"]}], "egress": [{}], "egressDeny": [{"toEntities": ["all"]}]}),
    );
}

#[test]
fn default_deny_under_any_reading() {
    let with = |written: &str, expect: Value| {
        let spec = format!("  endpointSelector: {{}}\n  ingress: [{{fromEntities: [all]}}]\n  {written}\n");
        let mut object = json!({"ingress": [{"fromEntities": ["all"]}]});
        if expect != Value::Null {
            object["enableDefaultDeny"] = expect;
        }
        check(&spec, object);
    };
    with("enableDefaultDeny: {ingress: no}", Value::Null);
    with("enableDefaultDeny: {egress: yes}", json!({"egress": true}));
    with("enableDefaultDeny: {egres: false}", json!({"egress": true}));
    with("enableDefaultDeny: {other: false}", json!({"egress": true}));
    with("enableDefaultDeny: []", json!({"egress": true}));
    with("enableDefaultDenny: {egress: false}", json!({"egress": true}));
}

#[test]
fn a_field_that_may_mean_anything_leaves_no_grant() {
    check(
        "  endpointSelector: {}\n  ingress: [{fromEntities: [all]}]\n  ingressDeny: [{fromEntities: [world]}]\n  other: 1\n",
        json!({"ingress": [{}], "ingressDeny": [{"fromEntities": ["world"]}], "enableDefaultDeny": {"egress": true}}),
    );
    // These change nothing of what is allowed.
    let all = json!({"ingress": [{"fromEntities": ["all"]}]});
    check("  endpointSelector: {}\n  ingress: [{fromEntities: [all]}]\n  log: {value: x}\n", all.clone());
    check("  endpointSelector: {}\n  ingress: [{fromEntities: [all]}]\n  descripton: x\n", all.clone());
    check("  endpointSelector: {}\n  ingress: [{fromEntities: [all]}]\n  labels: {a: b}\n", all);
}

#[test]
fn no_entry_at_all() {
    check("  endpointSelector: {}\n", json!({}));
    check("  endpointSelector: {}\n  ingress: []\n", json!({}));
    check(
        "  endpointSelector: {}\n  enableDefaultDeny: {egress: true}\n",
        json!({"enableDefaultDeny": {"egress": true}}),
    );
}

#[test]
fn a_subject_that_cant_be_read_selects_nobody() {
    let subject = |spec: &str| closed(&text(&format!("  ingress: [{{}}]\n{spec}"))).rules.remove(0).subject;
    assert_eq!(subject(""), Subject::Nobody);
    assert_eq!(subject("  endpointSelector:\n"), Subject::Nobody);
    assert_eq!(subject("  endpointSelector: []\n"), Subject::Nobody);
    assert_eq!(subject("  endpointSelectr: {}\n"), Subject::Nobody);
    assert_eq!(subject("  endpointSelector: {}\n  endpointSelector: {}\n"), Subject::Nobody);
    assert_eq!(subject("  endpointSelector: {}\n  nodeSelector: {}\n"), Subject::Nobody);
    assert_eq!(subject("  endpointSelector: {matchLabels: {a: 1}}\n"), Subject::Nobody);
    assert_eq!(subject("  endpointSelector: {matchLabel: {a: b}}\n"), Subject::Nobody);
    assert_eq!(
        subject("  endpointSelector: {matchExpressions: [{key: a, operator: in, values: [b]}]}\n"),
        Subject::Nobody
    );
    assert!(matches!(subject("  nodeSelector: {}\n"), Subject::Nodes(_)));
}

#[test]
fn a_rule_that_cant_be_read_leaves_the_others() {
    let text = "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {name: p}\nspecs: [7, {endpointSelector: {}, ingress: [{}]}]\n";
    let rules = closed(text).rules;
    assert_eq!(rules[0].subject, Subject::Nobody);
    assert!(matches!(rules[1].subject, Subject::Endpoints(_)));
    assert_eq!(closed(&text.replace("specs", "spek")).rules, []);
    assert_eq!(closed(&text.replace("specs: [7, ", "specs: 7 # ")).rules, []);
}
