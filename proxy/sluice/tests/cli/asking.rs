//! Commands that ask the daemon.

use crate::fake::{self, Fake};
use crate::run::{Place, check, no_answer, sluice};
use std::io::Read;
use std::process::Stdio;

pub(crate) const STATUS: &str = r#"{"node":"node-1","version":"0.1.0","revision":7,"mode":"ebpf","ok":true,"findings":[],
"endpoints":4,"policies":1,"connections":3,"records_lost":0}"#;

pub(crate) const ENDPOINTS: &str = r#"[
{"id":1234,"name":"deathstar-1","namespace":"default","ingress_enforcement":"Enabled","egress_enforcement":"Disabled",
 "identity":27301,"labels":["k8s:class=deathstar","k8s:io.kubernetes.pod.namespace=default","k8s:org=empire"],
 "ipv6":"f00d::a0f:0:0:ad","ipv4":"10.15.42.252","interface":"lxc-deathstar-1","status":"ready"},
{"id":52311,"name":"xwing","namespace":"default","ingress_enforcement":"Disabled","egress_enforcement":"Disabled",
 "identity":0,"labels":[],"ipv6":null,"ipv4":"10.15.1.1","interface":null,"status":"waiting-for-identity"}]"#;

pub(crate) const IDENTITIES: &str = r#"[{"id":1,"labels":["reserved:host"]},{"id":27301,"labels":["k8s:class=deathstar","k8s:org=empire"]},{"id":0,"labels":[]}]"#;

pub(crate) const POLICIES: &str = r#"{"revision":3,"rules":[{"endpointSelector":{"matchLabels":{"any:class":"deathstar"}},
"ingress":[{"fromEndpoints":[{"matchLabels":{"any:org":"empire"}}],
"toPorts":[{"ports":[{"port":"80","protocol":"TCP"}],"rules":{"http":[{"path":"/v1/request-landing","method":"POST"}]}}]}]}]}"#;

pub(crate) const FLOWS: &str = concat!(
    r#"{"time":"2026-10-01T12:00:00.123456789Z","kind":"http-request","direction":"ingress","verdict":"denied","reason":"no_http_rule","rule":"default/rule1: spec.ingress[0].toPorts[0].rules.http[0]","revision":3,"source":{"address":"10.15.1.1","port":41234,"identity":27301,"labels":["k8s:class=tiefighter"],"endpoint":"default/tiefighter"},"destination":{"address":"10.15.42.252","port":80,"identity":4711,"labels":[],"endpoint":"default/deathstar-1"},"protocol":"TCP","method":"PUT","path":"/v1/exhaust-port","host":"10.15.42.252","version":"HTTP/1.1","status":403,"bytes_up":0,"bytes_down":0,"latency_ns":312345,"count":1}"#,
    "\n",
    r#"{"time":"2026-10-01T12:00:01.000000000Z","kind":"l4","direction":"ingress","verdict":"dropped","reason":"no_rule","rule":null,"revision":3,"source":{"address":"10.15.1.2","port":41236,"identity":815,"labels":[],"endpoint":"default/xwing"},"destination":{"address":"10.15.42.252","port":80,"identity":4711,"labels":[],"endpoint":"default/deathstar-1"},"protocol":"TCP","method":null,"path":null,"host":null,"version":null,"status":null,"bytes_up":0,"bytes_down":0,"latency_ns":null,"count":3}"#,
    "\n",
);

/// As `policy_model::explain` tells it.
pub(crate) const DENIED: &str = r#"{"allowed":false,"revision":3,
"source":{"address":"10.15.1.1","endpoint":"default/tiefighter","identity":27301,"labels":["k8s:org=empire"]},
"destination":{"address":"10.15.42.252","endpoint":"default/deathstar-1","identity":4711,"labels":[]},"layer":"HTTP",
"egress":{"verdict":"not enforced","reason":null,"rule":null,"nearest":null},
"ingress":{"verdict":"denied","reason":"no_http_rule","rule":null,"nearest":{
"rule":"default/rule1: spec.ingress[0].toPorts[0].rules.http[0]","failed":"method","detail":"method is `PUT`, the rule wants `POST`"}}}"#;

#[test]
fn status() {
    let fake = Fake::answering(200, STATUS);
    check("status.txt", 0, &fake.sluice(&["status"]));
    assert_eq!(fake.question().0, "GET /v1/status");
    check("status.json", 0, &fake.sluice(&["status", "-o", "json"]));
    check("status.yaml", 0, &fake.sluice(&["status", "-o", "yaml"]));
}

#[test]
fn a_status_that_is_not_ok_is_a_no() {
    let finding = r#"{"severity":"error","subject":"policies/l7.yaml","line":12,"field":"spec.ingress[0].toPorts[0].rules.kafka","message":"is not understood","fix":"use http"}"#;
    let status =
        STATUS.replace(r#""ok":true,"findings":[]"#, &format!(r#""ok":false,"findings":[{finding}]"#));
    check("status-not-ok.txt", 1, &Fake::answering(200, &status).sluice(&["status"]));
}

#[test]
fn endpoints() {
    let fake = Fake::answering(200, ENDPOINTS);
    check("endpoint-list.txt", 0, &fake.sluice(&["endpoint", "list"]));
    assert_eq!(fake.question().0, "GET /v1/endpoints");
    check("endpoint-list.json", 0, &fake.sluice(&["-o", "json", "endpoint", "list"]));
    check("endpoint-list-none.txt", 0, &Fake::answering(200, "[]").sluice(&["endpoint", "list"]));
}

#[test]
fn one_endpoint() {
    let all: Vec<serde_json::Value> = serde_json::from_str(ENDPOINTS).unwrap();
    let fake = Fake::answering(200, &all[0].to_string());
    check("endpoint-get.txt", 0, &fake.sluice(&["endpoint", "get", "default/deathstar-1"]));
    assert_eq!(fake.question().0, "GET /v1/endpoints/default/deathstar-1");
    let missing = Fake::answering(404, r#"{"error":"no endpoint `rebel-base` on this node"}"#);
    no_answer("no endpoint `rebel-base` on this node", &missing.sluice(&["endpoint", "get", "rebel-base"]));
    no_answer(
        "`a b` can't be an endpoint; write `name`, `namespace/name` or a number",
        &missing.sluice(&["endpoint", "get", "a b"]),
    );
}

#[test]
fn identities() {
    let fake = Fake::answering(200, IDENTITIES);
    check("identity-list.txt", 0, &fake.sluice(&["identity", "list"]));
    assert_eq!(fake.question().0, "GET /v1/identities");
}

#[test]
fn policies() {
    let fake = Fake::answering(200, POLICIES);
    check("policy-get.txt", 0, &fake.sluice(&["policy", "get"]));
    assert_eq!(fake.question().0, "GET /v1/policies");
    check("policy-get.json", 0, &fake.sluice(&["policy", "get", "-o", "json"]));
}

const QUESTION: [&str; 12] = [
    "policy",
    "explain",
    "--from",
    "tiefighter",
    "--to",
    "deathstar-1",
    "--port",
    "80",
    "--method",
    "PUT",
    "--path",
    "/v1/exhaust-port",
];

#[test]
fn explanations() {
    let fake = Fake::answering(200, DENIED);
    check("explain-denied.txt", 1, &fake.sluice(&QUESTION));
    let (question, body) = fake.question();
    assert_eq!(question, "POST /v1/explain");
    let body: proxy_core::api::ExplainRequest = serde_json::from_str(&body).unwrap();
    assert_eq!((body.from.as_str(), body.to.as_str(), body.port), ("tiefighter", "deathstar-1", 80));
    assert_eq!(body.path.as_deref(), Some("/v1/exhaust-port"));
}

#[test]
fn a_question_that_makes_no_sense_has_no_answer() {
    let fake = Fake::answering(422, r#"{"error":"`tiefighter` is no endpoint of this node"}"#);
    no_answer("`tiefighter` is no endpoint of this node", &fake.sluice(&QUESTION));
}

/// A stream in chunks, cut in the middle of a record.
fn flows() -> Fake {
    let (first, rest) = FLOWS.split_at(100);
    let chunk = |data: &str| format!("{:x}\r\n{data}\r\n", data.len());
    Fake::raw(format!(
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{}{}0\r\n\r\n",
        chunk(first),
        chunk(rest)
    ))
}

#[test]
fn flows_for_people_and_programs() {
    let fake = flows();
    check("monitor.txt", 0, &fake.sluice(&["monitor"]));
    assert_eq!(fake.question().0, "GET /v1/flows?follow=true");
    let lines = fake.sluice(&[
        "monitor",
        "-o",
        "json",
        "--follow=false",
        "--last",
        "5",
        "--verdict",
        "denied,dropped",
        "--type",
        "l4",
        "--from",
        "org=empire",
    ]);
    assert_eq!(String::from_utf8_lossy(&lines.stdout), FLOWS);
    assert_eq!(
        fake.question().0,
        "GET /v1/flows?follow=false&last=5&verdict=denied,dropped&from=org%3Dempire&kind=l4"
    );
    check("monitor.yaml", 0, &fake.sluice(&["monitor", "-o", "yaml"]));
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let record = FLOWS.lines().next().unwrap();
    let many = format!("{record}\n").repeat(5000);
    let fake = Fake::answering(200, &many);
    let mut child =
        fake.command().arg("monitor").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut first = [0; 10];
    child.stdout.take().unwrap().read_exact(&mut first).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn no_daemon_is_no_answer() {
    let place = Place::new();
    let socket = place.path("s");
    let advice = "is it running? another one is named by --socket PATH, or by --config FILE, its node file";
    no_answer(
        &format!("sluiced does not answer at `s` (No such file or directory (os error 2)); {advice}"),
        &place.without_path(sluice(&["--socket", &socket, "status"])),
    );
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    no_answer(
        &format!("sluiced does not answer at `s` (Connection refused (os error 111)); {advice}"),
        &place.without_path(sluice(&["--socket", &socket, "status"])),
    );
}

#[test]
fn a_daemon_that_starts_is_waited_for() {
    let hangs_up = String::new();
    let starting = || Fake::in_turn(vec![hangs_up.clone(), hangs_up.clone(), fake::message(200, STATUS)]);
    let fake = starting();
    check("status.txt", 0, &fake.sluice(&["status", "--wait", "60"]));
    for _asked in 0..3 {
        assert_eq!(fake.question().0, "GET /v1/status");
    }
    assert_eq!(starting().sluice(&["status"]).status.code(), Some(2));
    assert_eq!(Fake::raw(hangs_up).sluice(&["status", "--wait", "1"]).status.code(), Some(2));
}

#[test]
fn something_else_is_no_answer() {
    no_answer(
        "what answers at `s` is no sluiced of this version: expected value at line 1 column 1",
        &Fake::answering(200, "hello").sluice(&["status"]),
    );
    no_answer("sluiced answers 500 Internal Server Error", &Fake::answering(500, "").sluice(&["status"]));
    let cut = Fake::raw("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n{".to_owned()).sluice(&["status"]);
    assert!(String::from_utf8_lossy(&cut.stderr).contains("has hung up"), "{cut:?}");
    assert_eq!(cut.status.code(), Some(2));
}

#[test]
fn the_node_file_names_the_socket() {
    let place = Place::new();
    place.write("node.yaml", "node: {name: n, pod_networks: [10.0.0.0/8]}\napi: {socket: run/x.sock}\n");
    let config = place.path("node.yaml");
    let output = place.without_path(sluice(&["--config", &config, "status"]));
    assert!(String::from_utf8_lossy(&output.stderr).contains("at `run/x.sock`"), "{output:?}");
    let output = place.without_path(sluice(&["--config", &place.path("missing.toml"), "status"]));
    no_answer(
        "can't read the node file `missing.toml`; name it with --config FILE: No such file or directory (os error 2)",
        &output,
    );
}
