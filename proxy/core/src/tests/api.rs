//! Flow records as the daemon's answers show them.

use super::script::{Do, INSPECTED, Policy, Setting, act, c, s};
use super::shell::LIMITS;
use crate::api::{DetailView, FlowView, HttpView};
use crate::limits::{Limits, Queries};
use crate::record::{Audit, Outcome};

/// The first record of a script, as JSON.
#[track_caller]
fn check(setting: Setting, script: &[Do], expect: &str) {
    let mut shell = setting.shell();
    script.iter().for_each(|event| act(&mut shell, event));
    let view = FlowView::from(&shell.records[0]);
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
    let detail = DetailView::Http(HttpView::default());
    let view = serde_json::to_value(FlowView { detail, ..FlowView::default() }).unwrap();
    let names =
        |value: &serde_json::Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(" ");
    assert_eq!(
        names(&view),
        "time kind method path host version status direction verdict reason rule revision source destination protocol \
         bytes_up bytes_down latency_ns count"
    );
    assert_eq!(
        names(&serde_json::to_value(FlowView::default()).unwrap()),
        "time kind direction verdict reason rule revision source destination protocol bytes_up bytes_down latency_ns count"
    );
    assert_eq!(names(&view["source"]), "address port identity labels endpoint");
}

#[test]
fn a_denied_connection() {
    let setting = Setting { policy: Policy::DenyRule, ..INSPECTED };
    let expect = r#"{
        "kind": "connection", "direction": "ingress", "verdict": "denied", "reason": "deny_rule",
        "latency_ns": null, "protocol": "TCP"
    }"#;
    check(setting, &[], expect);
}

#[test]
fn the_parties() {
    let mut shell = Setting { policy: Policy::Closed, ..INSPECTED }.shell();
    shell.stop();
    let view = FlowView::from(&shell.records[0]);
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

#[test]
fn no_record_holds_credentials() {
    let secrets = "Authorization: Basic s3cret\r\nProxy-Authorization: s3cret\r\nCookie: id=s3cret\r\nX-Api-Key: s3cret\r\n";
    for target in ["/ok?key=s3cret", "/no?key=s3cret", "http://a/ok?s3cret"] {
        let mut shell = INSPECTED.shell();
        let answer = s("HTTP/1.1 200 OK\r\nSet-Cookie: id=s3cret\r\nContent-Length: 0\r\n\r\n");
        let request = format!("GET {target} HTTP/1.1\r\nHost: a\r\n{secrets}\r\n");
        for event in [c(&request), answer] {
            act(&mut shell, &event);
        }
        let json = serde_json::to_string(&FlowView::from(&shell.records[0])).unwrap();
        assert!(json.contains("\"host\":\"a\""), "{json}");
        assert!(!json.contains("s3cret"), "{json}");
    }
}

#[test]
fn a_second_verdict_has_a_place_of_its_own() {
    let mut shell = INSPECTED.shell();
    act(&mut shell, &c("PUT /no HTTP/1.1\r\nHost: a\r\n\r\n"));
    let record = &mut shell.records[0];
    let without = serde_json::to_value(FlowView::from(&*record)).unwrap();
    assert_eq!(without.get("audit"), None);
    record.audit = Some(Audit { outcome: Outcome::Denied, reason: record.reason, rule: None });
    let with = serde_json::to_value(FlowView::from(&*record)).unwrap();
    assert_eq!(with["audit"].to_string(), r#"{"verdict":"denied","reason":"no_http_rule","rule":null}"#);
    let back: FlowView = serde_json::from_value(with).unwrap();
    assert_eq!(back, FlowView::from(&*record));
}

/// A record is named by whoever judged, not by who has the address when it is shown.
#[test]
fn who_is_gone_is_named_as_it_was() {
    let named = |view: &FlowView| {
        [&view.source, &view.destination].map(|party| (party.endpoint.clone().unwrap(), party.identity != 0))
    };
    let expect = [("default/tiefighter".to_owned(), true), ("default/deathstar".to_owned(), true)];
    // The request was judged while both were there, ...
    let mut shell = INSPECTED.shell();
    for event in [c("GET /ok HTTP/1.1\r\nHost: a\r\n\r\n"), Do::Publish(Policy::Gone)] {
        act(&mut shell, &event);
    }
    let view = FlowView::from(&shell.records[0]);
    assert_eq!((view.reason.as_deref(), view.revision), (Some("revoked"), Policy::Ok.revision()));
    assert_eq!(named(&view), expect);
    // ... and a connection that is revoked was allowed then, though it is the later revision that says so.
    let mut shell = INSPECTED.shell();
    act(&mut shell, &Do::Publish(Policy::Gone));
    let view = FlowView::from(&shell.records[0]);
    assert_eq!((view.reason.as_deref(), view.revision), (Some("revoked"), Policy::Gone.revision()));
    assert_eq!(named(&view), expect);
    // Who comes later is judged as what it is then.
    let mut shell = Setting { policy: Policy::Gone, ..INSPECTED }.shell();
    shell.stop();
    let view = FlowView::from(&shell.records[0]);
    assert_eq!((view.reason.as_deref(), view.source.endpoint), (Some("unknown_peer"), None));
    assert_eq!(view.source.labels, ["reserved:unknown"]);
}
