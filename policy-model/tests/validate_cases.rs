//! Every `validate` and `port` case of `tests/cases/policy-cases.yaml`, judged as the newest release judges it.
//!
//! The table below names every `validate` case: one that is missing there fails the test, so that nothing is skipped in silence.

#![cfg(test)]

use policy_model::parse::{Diagnostic, Judged, parse};
use policy_model::rule::{Policy, Port, Ports};
use serde_json::{Value, json};
use std::collections::BTreeSet;

const CASES: &str = include_str!("../../tests/cases/policy-cases.yaml");

/// What is expected here of a case.
#[derive(Clone, Copy, Debug)]
enum Expect {
    /// The case says so, and it is in scope.
    Accept,
    /// The case says so; the message that says it here.
    Reject(&'static str),
    /// Out of scope: refused by this name, whatever the case says.
    RefusedByName(&'static str),
    /// Says what an older release did.
    Older(&'static str),
}

const TABLE: &[(&str, Expect)] = &[
    ("V01", Expect::Reject("must have an `endpointSelector`")),
    ("V02", Expect::Reject("cannot have both")),
    ("V04", Expect::RefusedByName("nodeSelector")),
    ("V05", Expect::Reject("at least one entry in `ingress`, `ingressDeny`, `egress` or `egressDeny`")),
    ("V06", Expect::Older("since 1.18 a rule needs a section: V05")),
    ("V08", Expect::Reject("`fromEndpoints` and `fromCIDR` in one entry")),
    ("V09", Expect::Accept),
    ("V10", Expect::RefusedByName("toFQDNs")),
    ("V12", Expect::Reject("unsupported entity `martians`")),
    ("V13", Expect::Reject("HTTP rules apply to TCP only")),
    ("V14", Expect::Reject("HTTP rules apply to TCP only")),
    ("V16", Expect::RefusedByName("dns")),
    ("V17", Expect::RefusedByName("dns")),
    ("V18", Expect::RefusedByName("dns")),
    ("V20", Expect::Accept),
    ("V21", Expect::Reject("0 is every port")),
    ("V22", Expect::Accept),
    ("V24", Expect::Accept),
    ("V25", Expect::Reject("rules of several protocols in one element")),
    ("V26", Expect::Reject("too many ports: 41 are written, 40 are the most")),
    ("V28", Expect::RefusedByName("icmps")),
    ("V29", Expect::RefusedByName("icmps")),
    ("V30", Expect::Accept),
    ("V32", Expect::Reject("does not lie inside of")),
    ("V33", Expect::Reject("does not lie inside of")),
    ("V34", Expect::Reject("does not lie inside of")),
    ("V36", Expect::RefusedByName("nodeSelector")),
    ("V37", Expect::RefusedByName("nodeSelector")),
    ("V38", Expect::Reject("is not a regular expression")),
    ("V40", Expect::RefusedByName("serverNames")),
    ("V41", Expect::RefusedByName("serverNames")),
    ("V42", Expect::Reject("unknown field `rules` here")),
    ("V44", Expect::RefusedByName("toFQDNs")),
    ("V45", Expect::RefusedByName("dns")),
    ("V46", Expect::RefusedByName("fromRequires")),
    ("V48", Expect::RefusedByName("toServices")),
];

#[test]
fn every_case_is_in_the_table() {
    let ids: BTreeSet<String> = cases().iter().map(|case| id(case).to_owned()).collect();
    let named: BTreeSet<String> = TABLE.iter().map(|(id, _)| (*id).to_owned()).collect();
    assert_eq!(ids, named);
    let docs = include_str!("../../docs/compatibility.md");
    for (id, expect) in TABLE {
        let deviates = matches!(expect, Expect::Older(_) | Expect::RefusedByName(_));
        let documented = docs.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| word == *id);
        assert!(!deviates || documented, "{id} is not in docs/compatibility.md");
    }
}

#[test]
fn cases_are_judged_as_stated() {
    for case in cases() {
        let (_, expect) = TABLE.iter().find(|(known, _)| *known == id(&case)).unwrap();
        check(&case, *expect);
    }
}

#[test]
fn port_strings_mean_what_is_stated() {
    let cases = of_kind("port");
    let rows: Vec<&Value> = cases.iter().flat_map(|case| case["table"].as_array().unwrap()).collect();
    assert!(rows.len() > 10, "{}", rows.len());
    for row in rows {
        check_port(row);
    }
}

#[track_caller]
fn check_port(row: &Value) {
    let port = json!({"port": row["port"], "protocol": "TCP"});
    let spec = json!({"endpointSelector": {}, "ingress": [{"toPorts": [{"ports": [port]}]}]});
    let meant = judge(&json!({"resource": "CNP", "spec": spec})).map(|policy| {
        let Ports::Of(rules) = &policy.rules[0].ingress.allow[0].ports else { panic!("{row}") };
        rules[0].ports[0].port.clone()
    });
    match (row["number"].as_u64(), row["name"].as_str()) {
        (Some(0), None) => assert_eq!(meant, Ok(Port::Range(0, 65535)), "{row}"),
        (Some(number), None) => {
            let number = u16::try_from(number).unwrap();
            assert_eq!(meant, Ok(Port::Range(number, number)), "{row}");
        }
        (None, Some(name)) => assert_eq!(meant, Ok(Port::Named(name.into())), "{row}"),
        (None, None) => assert!(row["error"] == true && meant.is_err(), "{row}: {meant:?}"),
        (Some(_), Some(_)) => panic!("{row}"),
    }
}

#[track_caller]
fn check(case: &Value, expect: Expect) {
    let stated = case["expect"].as_str().unwrap();
    let diagnostics = judge(case).map(drop);
    let says =
        |part: &str| diagnostics.as_ref().is_err_and(|all| all.iter().any(|d| d.message.contains(part)));
    match expect {
        Expect::Accept => {
            assert_eq!(stated, "accept", "{case}");
            assert_eq!(diagnostics, Ok(()), "{case}");
        }
        Expect::Reject(part) => {
            assert_eq!(stated, "reject", "{case}");
            assert!(says(part), "{case}: {diagnostics:#?}");
        }
        Expect::RefusedByName(name) => assert!(says(&format!("`{name}`")), "{case}: {diagnostics:#?}"),
        Expect::Older(reason) => {
            assert!(case.get("until").is_some(), "{reason}: {case}");
            assert_eq!((stated, diagnostics.is_err()), ("accept", true), "{reason}: {case}");
        }
    }
}

/// The case's policy, or the errors about it.
fn judge(case: &Value) -> Result<Policy, Vec<Diagnostic>> {
    let kind = match case["resource"].as_str().unwrap() {
        "CNP" => "CiliumNetworkPolicy",
        "CCNP" => "CiliumClusterwideNetworkPolicy",
        other => panic!("unknown resource {other}"),
    };
    let mut object = json!({"apiVersion": "cilium.io/v2", "kind": kind, "metadata": {"name": "case"}});
    match (case.get("spec"), &case["generate"]["repeat_port"]) {
        (Some(spec), Value::Null) => object["spec"] = spec.clone(),
        (None, Value::Number(count)) => object["spec"] = many_ports(count.as_u64().unwrap()),
        (spec, count) => panic!("{spec:?} and {count}"),
    }
    let mut parsed = parse(&object.to_string())?;
    match parsed.objects.remove(0).judged {
        Judged::Accepted { policy, .. } => Ok(policy),
        Judged::Refused { diagnostics, .. } => Err(diagnostics),
    }
}

fn many_ports(count: u64) -> Value {
    let ports: Vec<Value> =
        (0..count).map(|n| json!({"port": (1000 + n).to_string(), "protocol": "TCP"})).collect();
    json!({"endpointSelector": {}, "ingress": [{"toPorts": [{"ports": ports}]}]})
}

fn cases() -> Vec<Value> {
    of_kind("validate")
}

fn of_kind(kind: &str) -> Vec<Value> {
    let file: Value = serde_saphyr::from_str(CASES).unwrap();
    let cases = file["cases"].as_array().unwrap().iter();
    cases.filter(|case| case["kind"] == kind).cloned().collect()
}

fn id(case: &Value) -> &str {
    case["id"].as_str().unwrap()
}
