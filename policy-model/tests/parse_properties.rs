//! What holds of every text: it is read without a panic, what is kept of an object reads as that object again, and
//! breaking a policy anywhere never makes its closed form allow more, or deny less, than the policy did.

#![cfg(test)]

use policy_model::parse::{Judged, parse};
use policy_model::rule::{Entry, HttpRule, L7, Peer, Peers, Policy, PortRule, Ports, Rule, Section, Subject};
use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::{Value, json};

fn policies() -> Vec<Value> {
    let object = |kind: &str, specs: Value| json!({"apiVersion": "cilium.io/v2", "kind": kind, "metadata": {"name": "p", "labels": {"a": "b"}}, "specs": specs});
    let web = json!([{"port": "80", "protocol": "TCP"}, {"port": "http", "protocol": "TCP"}]);
    let http = json!([
        {"path": "/a", "method": "GET", "host": "h", "headers": ["X-A: b", "X-C"]},
        {"path": "/b/[0-9]+"},
        {},
    ]);
    let selector = json!({"matchLabels": {"org": "empire"}, "matchExpressions": [
        {"key": "class", "operator": "In", "values": ["x", "y"]},
        {"key": "tier", "operator": "Exists"},
    ]});
    let sets =
        json!([{"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16", "10.2.0.0/16"]}, {"cidr": "fd00::/64"}]);
    vec![
        object(
            "CiliumNetworkPolicy",
            json!([{
                "endpointSelector": selector,
                "description": "words",
                "labels": [{"key": "a", "value": "b", "source": "c"}],
                "enableDefaultDeny": {"ingress": false, "egress": true},
                "ingress": [
                    {"fromEndpoints": [selector, {}], "toPorts": [{"ports": web, "rules": {"http": http}}]},
                    {"fromEntities": ["world", "host"], "toPorts": [{"ports": [{"port": "8000", "endPort": 8100}]}]},
                ],
                "ingressDeny": [{"fromCIDRSet": sets}, {"toPorts": [{"ports": web}]}],
            }]),
        ),
        object(
            "CiliumClusterwideNetworkPolicy",
            json!([
                {"endpointSelector": {}, "egress": [{"toCIDRSet": sets, "toPorts": [{"ports": web}]}, {}]},
                {"endpointSelector": selector, "egressDeny": [
                    {"toEntities": ["world"]},
                    {"toEndpoints": [selector], "toPorts": [{"ports": [{"port": "0", "protocol": "UDP"}]}]},
                    {"toCIDR": ["10.0.0.0/8", "11.1.1.1"]},
                ]},
            ]),
        ),
    ]
}

/// A way to break one place; none of them leaves another valid value behind.
#[derive(Clone, Debug)]
enum Break {
    AddField,
    Misspell(Index),
    Replace(Value),
}

fn breaks() -> impl Strategy<Value = Break> {
    prop_oneof![
        Just(Break::AddField),
        any::<Index>().prop_map(Break::Misspell),
        prop_oneof![
            Just(Value::Null),
            Just(json!([[1]])),
            Just(json!({"junk": 1})),
            Just(json!(3.5)),
            Just(json!(true))
        ]
        .prop_map(Break::Replace),
    ]
}

proptest! {
    #[test]
    fn breaking_a_policy_never_opens_it(which: Index, place: Index, how in breaks()) {
        let policies = policies();
        let original = which.get(&policies);
        let mut broken = original.clone();
        let mut places = 0;
        visit(&mut broken, &mut |_| places += 1);
        let target = place.index(places);
        let mut at = 0;
        visit(&mut broken, &mut |value| {
            if at == target {
                break_at(value, &how);
            }
            at += 1;
        });
        let original = accepted(original);
        if let Ok(parsed) = parse(&broken.to_string())
            && let Some(Judged::Refused { closed, .. }) = parsed.objects.first().map(|object| &object.judged)
        {
            let verdict = never_opens(&original, closed);
            prop_assert!(verdict.is_ok(), "{how:?} made {broken:#}\n{}", verdict.unwrap_err());
        }
    }

    #[test]
    fn words_that_look_like_yaml(words in prop::collection::vec(word(), 0..60)) {
        reads_as_itself(&words.concat());
    }

    #[test]
    fn any_text(text: String) {
        reads_as_itself(&text);
    }

    #[test]
    fn cut_and_spliced_policies(which: Index, cut: Index, skip in 0..8_usize, insert in "[-:{}\\[\\]&*!#\"'\n\t a-c0-9]{0,6}") {
        let text = format!("{:#}", which.get(&policies()));
        let at = cut.index(text.len());
        let end = (at + skip).min(text.len());
        if let (Some(head), Some(tail)) = (text.get(..at), text.get(end..)) {
            reads_as_itself(&format!("{head}{insert}{tail}"));
        }
    }
}

fn word() -> impl Strategy<Value = String> {
    let fixed = [
        "\n",
        "\n  ",
        "\n- ",
        "- ",
        ": ",
        "{",
        "}",
        "[",
        "]",
        ", ",
        "? ",
        "&a ",
        "*a",
        "!!str ",
        "|\n",
        ">-\n",
        "'",
        "\"",
        "#",
        "\t",
        "\r\n",
        "---\n",
        "...\n",
        "%YAML 1.2\n",
        "~",
        "yes",
        "0x1",
        "1.5",
        "\u{feff}",
        "\u{85}",
        "\u{2028}",
        "\\",
        "apiVersion: cilium.io/v2\n",
        "kind: CiliumNetworkPolicy\n",
        "metadata: {name: p}\n",
        "spec:\n  ",
        "endpointSelector: {}\n  ",
        "ingress:\n  ",
        "- toPorts:\n    ",
    ];
    prop_oneof![4 => prop::sample::select(fixed.to_vec()).prop_map(str::to_owned), 1 => "[a-zA-Z.]{1,8}"]
}

/// What is kept of each object, read alone, is that object.
fn reads_as_itself(text: &str) {
    for object in parse(text).map_or_else(|_| Vec::new(), |parsed| parsed.objects) {
        let again = parse(&object.text).unwrap().objects;
        assert_eq!(again.len(), 1, "{text:?}");
        assert_eq!(policy(&again[0].judged), policy(&object.judged), "{text:?}");
    }
}

fn policy(judged: &Judged) -> &Policy {
    match judged {
        Judged::Accepted { policy, .. } => policy,
        Judged::Refused { closed, .. } => closed,
    }
}

fn accepted(value: &Value) -> Policy {
    match parse(&value.to_string()).unwrap().objects.remove(0).judged {
        Judged::Accepted { policy, .. } => policy,
        Judged::Refused { diagnostics, .. } => panic!("{diagnostics:#?}"),
    }
}

/// Every value below the root, in order.
fn visit(value: &mut Value, each: &mut dyn FnMut(&mut Value)) {
    each(value);
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| visit(item, each)),
        Value::Object(fields) => fields.values_mut().for_each(|field| visit(field, each)),
        Value::Bool(_) | Value::Null | Value::Number(_) | Value::String(_) => {}
    }
}

fn break_at(value: &mut Value, how: &Break) {
    match (how, &mut *value) {
        (Break::Replace(junk), _) => *value = junk.clone(),
        (Break::AddField, Value::Object(fields)) => drop(fields.insert("surprise".into(), json!({}))),
        (Break::Misspell(index), Value::Object(fields)) if !fields.is_empty() => {
            let key = fields.keys().nth(index.index(fields.len())).unwrap().clone();
            let field = fields.shift_remove(&key).unwrap();
            let misspelt = match index.index(3) {
                0 => key.to_ascii_uppercase(),
                1 => format!("{key}{}", key.chars().last().unwrap()),
                _ => key.replacen(|_: char| true, "xx", 1),
            };
            drop(fields.insert(misspelt, field));
        }
        (Break::AddField | Break::Misspell(_), other) => *other = json!({"junk": [1]}),
    }
}

fn never_opens(original: &Policy, closed: &Policy) -> Result<(), String> {
    for rule in &closed.rules {
        let before = original.rules.iter().find(|r| r.path == rule.path).ok_or("a rule from nowhere")?;
        rule_never_opens(before, rule).map_err(|what| format!("{what}: {rule:#?}"))?;
    }
    Ok(())
}

fn rule_never_opens(before: &Rule, after: &Rule) -> Result<(), &'static str> {
    if after.subject == Subject::Nobody {
        return Ok(());
    }
    let sections = [(&before.ingress, &after.ingress), (&before.egress, &after.egress)];
    match before.subject == after.subject {
        true => sections.into_iter().try_for_each(|(before, after)| section_never_opens(before, after)),
        false => Err("another subject"),
    }
}

fn section_never_opens(before: &Section, after: &Section) -> Result<(), &'static str> {
    if before.default_deny && !after.default_deny {
        return Err("not default-denied any more");
    }
    // With default-deny off everything is allowed, and an allow entry only inspects.
    let covered = |small: &Entry, large: &Entry| {
        peers_within(&small.peers, &large.peers) && ports_within(&small.ports, &large.ports)
    };
    let within =
        |small: &Entry, list: &[Entry]| list.iter().any(|large| covered(small, large)) || is_nothing(small);
    if !after.allow.iter().all(|entry| within(entry, &before.allow)) {
        return Err("an allow entry grew");
    }
    if !before.deny.iter().all(|entry| within(entry, &after.deny)) {
        return Err("a deny entry shrank");
    }
    Ok(())
}

fn is_nothing(entry: &Entry) -> bool {
    let no_port =
        |ports: &Ports| matches!(ports, Ports::Of(rules) if rules.iter().all(|rule| rule.ports.is_empty()));
    matches!(&entry.peers, Peers::Of(peers) if peers.is_empty()) || no_port(&entry.ports)
}

fn peers_within(small: &Peers, large: &Peers) -> bool {
    match (small, large) {
        (_, Peers::Any) => true,
        (Peers::Any, Peers::Of(_)) => false,
        (Peers::Of(small), Peers::Of(large)) => small.iter().all(|s| large.iter().any(|l| peer_within(s, l))),
    }
}

fn peer_within(small: &Peer, large: &Peer) -> bool {
    match (small, large) {
        (Peer::Cidr { prefix: a, except: fewer_left }, Peer::Cidr { prefix: b, except }) => {
            a == b && except.iter().all(|e| fewer_left.contains(e))
        }
        (small, large) => small == large,
    }
}

fn ports_within(small: &Ports, large: &Ports) -> bool {
    match (small, large) {
        (_, Ports::All) => true,
        (Ports::All, Ports::Of(_)) => false,
        (Ports::Of(small), Ports::Of(large)) => {
            small.iter().all(|s| s.ports.is_empty() || large.iter().any(|l| port_rule_within(s, l)))
        }
    }
}

fn port_rule_within(small: &PortRule, large: &PortRule) -> bool {
    let requests = match (&small.l7, &large.l7) {
        (_, L7::None) | (L7::Unjudgeable, _) => true,
        (L7::None, _) | (L7::Http(_), L7::Unjudgeable) => false,
        (L7::Http(small), L7::Http(large)) => {
            small.iter().all(|s| s.unjudgeable || large.iter().any(|l| same(s, l)))
        }
    };
    requests && small.ports.iter().all(|port| large.ports.contains(port))
}

fn same(a: &HttpRule, b: &HttpRule) -> bool {
    a.matches == b.matches && !b.unjudgeable
}
