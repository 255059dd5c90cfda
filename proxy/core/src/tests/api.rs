//! Flow records as the daemon's answers show them.

use super::script::{Do, INSPECTED, Policy, Setting, act, c, s, snapshot};
use super::shell::LIMITS;
use crate::api::FlowView;
use crate::limits::{Limits, Queries};

/// The first record of a script, as JSON.
#[track_caller]
fn check(setting: Setting, script: &[Do], expect: &str) {
    let mut shell = setting.shell();
    script.iter().for_each(|event| act(&mut shell, event));
    let view = FlowView::new(&shell.records[0], &snapshot(setting.policy));
    let json = serde_json::to_value(&view).unwrap();
    let expect: serde_json::Value = serde_json::from_str(expect).unwrap();
    for (name, value) in expect.as_object().unwrap() {
        assert_eq!(&json[name], value, "{name}");
    }
    let back: FlowView = serde_json::from_value(json).unwrap();
    assert_eq!(back, view);
}

#[test]
fn a_forwarded_request() {
    let script = [
        c("GET /ok?a=b HTTP/1.1\r\nHost: h:80\r\n\r\n"),
        Do::Sleep(1_500),
        s("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"),
    ];
    let expect = r#"{
        "time": "1970-01-01T00:00:00.001000000Z", "kind": "http-request", "direction": "ingress",
        "verdict": "forwarded", "reason": null, "rule": "default/rule1: spec.ingress[0].toPorts[0].rules.http[0]",
        "revision": 3, "protocol": "TCP", "method": "GET", "path": "/ok?…", "host": "h:80", "version": "HTTP/1.1", "status": 200,
        "bytes_up": 36, "bytes_down": 40, "latency_ns": 1500, "count": 1
    }"#;
    check(INSPECTED, &script, expect);
}

#[test]
fn a_query_is_recorded_where_that_is_asked_for() {
    let script = [c("GET /ok?token=secret?x HTTP/1.1\r\nHost: a\r\n\r\n")];
    let shown = Setting { limits: Limits { queries: Queries::Recorded, ..LIMITS }, ..INSPECTED };
    let denied = c("GET /no?token=secret HTTP/1.1\r\nHost: a\r\n\r\n");
    check(shown, &[script[0].clone(), s("HTTP/1.1 204 No\r\n\r\n")], r#"{"path": "/ok?token=secret?x"}"#);
    check(shown, std::slice::from_ref(&denied), r#"{"path": "/no?token=secret", "verdict": "denied"}"#);
    check(INSPECTED, &[denied], r#"{"path": "/no?…", "verdict": "denied"}"#);
}

#[test]
fn a_denied_request() {
    let expect = r#"{
        "verdict": "denied", "reason": "no_http_rule", "method": "PUT", "path": "/no", "host": "a", "status": 403,
        "bytes_up": 0, "bytes_down": 0, "latency_ns": null
    }"#;
    check(INSPECTED, &[c("PUT /no HTTP/1.1\r\nHost: a\r\n\r\n")], expect);
}

#[test]
fn a_request_that_could_not_be_read() {
    let expect = r#"{
        "kind": "http-request", "verdict": "denied", "reason": "leading_empty_line", "rule": null,
        "method": null, "path": null, "host": null, "version": null, "status": 400
    }"#;
    check(INSPECTED, &[c("\r\n\r\n")], expect);
}

#[test]
fn a_request_of_http_1_0() {
    check(
        INSPECTED,
        &[c("GET /no HTTP/1.0\r\n\r\n")],
        r#"{"version": "HTTP/1.0", "host": null, "status": 403}"#,
    );
}

/// Every field that records are promised to have, and no other.
#[test]
fn the_fields_of_a_record() {
    let view = serde_json::to_value(FlowView::default()).unwrap();
    let names =
        |value: &serde_json::Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(" ");
    assert_eq!(
        names(&view),
        "time kind direction verdict reason rule revision source destination protocol method path host version status \
         bytes_up bytes_down latency_ns count"
    );
    assert_eq!(names(&view["source"]), "address port identity labels endpoint");
}

#[test]
fn a_denied_connection() {
    let setting = Setting { policy: Policy::DenyRule, ..INSPECTED };
    let expect = r#"{
        "kind": "connection", "direction": "ingress", "verdict": "denied", "reason": "deny_rule",
        "method": null, "path": null, "host": null, "status": null, "latency_ns": null
    }"#;
    check(setting, &[], expect);
}

#[test]
fn the_parties() {
    let mut shell = Setting { policy: Policy::Closed, ..INSPECTED }.shell();
    shell.stop();
    let view = FlowView::new(&shell.records[0], &snapshot(Policy::Closed));
    let source = serde_json::to_string(&view.source).unwrap();
    let identity = view.source.identity;
    assert_eq!(
        source,
        format!(
            "{{\"address\":\"10.0.0.1\",\"port\":40000,\"identity\":{identity},\"labels\":\
             [\"k8s:io.kubernetes.pod.namespace=default\",\"k8s:name=tiefighter\",\"k8s:org=empire\"],\
             \"endpoint\":\"default/tiefighter\"}}"
        )
    );
    assert_eq!(view.destination.endpoint.as_deref(), Some("default/deathstar"));
}
