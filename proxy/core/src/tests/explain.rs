//! The question of `policy explain`, put to the snapshots of the scripts.

use super::script::{Policy, snapshot};
use crate::Reason;
use crate::api::ExplainRequest;
use crate::explain::{ExplainError, explain};

const PATH: usize = 64;

fn request(path: &str) -> ExplainRequest {
    ExplainRequest {
        from: "tiefighter".to_owned(),
        to: "default/deathstar".to_owned(),
        port: 80,
        path: Some(path.to_owned()),
        ..ExplainRequest::default()
    }
}

#[track_caller]
fn check(policy: Policy, question: &ExplainRequest, allowed: bool) {
    assert_eq!(explain(&snapshot(policy), PATH, question).unwrap().allowed, allowed);
}

#[track_caller]
fn refused(question: &ExplainRequest, error: ExplainError) {
    assert_eq!(explain(&snapshot(Policy::Ok), PATH, question), Err(error));
}

#[test]
fn requests() {
    check(Policy::Ok, &request("/ok"), true);
    check(Policy::Ok, &request("/no"), false);
    check(Policy::L4, &request("/no"), true);
    check(Policy::Closed, &request("/ok"), false);
}

#[test]
fn every_reading_of_a_path_counts() {
    check(Policy::Ok, &request("/ok/..%2fno"), false);
}

#[test]
fn headers() {
    let token = |line: &str| ExplainRequest { headers: vec![line.to_owned()], ..request("/ok") };
    check(Policy::Token, &token("X-Token: secret"), true);
    check(Policy::Token, &token("X-Token: other"), false);
    check(Policy::Token, &token("x-TOKEN: secret"), true);
    check(Policy::Token, &token("X_Token: secret"), false);
    let both = |more: &str| ExplainRequest {
        headers: vec!["X-Token: secret".to_owned(), more.to_owned()],
        ..request("/ok")
    };
    check(Policy::Token, &both("X.Token: secret"), false);
    check(Policy::Token, &both("Connection: X-Token"), false);
    check(Policy::Token, &both("Connection: close"), true);
    refused(&token("secret"), ExplainError::BadHeader("secret".to_owned()));
}

#[test]
fn connections() {
    let connection = |from: &str| ExplainRequest { from: from.to_owned(), path: None, ..request("") };
    check(Policy::L4, &connection("10.0.0.1"), true);
    check(Policy::L4, &connection("world"), false);
    check(Policy::Absent, &connection("world"), true);
    refused(&connection("nobody"), ExplainError::UnknownParty("nobody".to_owned()));
    refused(
        &connection("::1"),
        ExplainError::NoCommonFamily("::1".to_owned(), "default/deathstar".to_owned()),
    );
}

#[test]
fn what_would_be_a_400_is_said() {
    refused(&request("/%"), ExplainError::BadTarget("/%".to_owned(), Reason::BrokenEscape));
}

#[test]
fn what_would_be_a_414_is_said() {
    let path = |bytes: usize| format!("/{}", "a".repeat(bytes - 1));
    check(Policy::L4, &request(&path(PATH)), true);
    let error = ExplainError::BadTarget(path(PATH + 1), Reason::PathTooLong);
    assert!(error.to_string().contains("refused with 414 whatever policy says: path_too_long"), "{error}");
    refused(&request(&path(PATH + 1)), error);
}

#[test]
fn protocols() {
    let over =
        |protocol: &str| ExplainRequest { protocol: Some(protocol.to_owned()), path: None, ..request("") };
    check(Policy::L4, &over("tcp"), true);
    check(Policy::L4, &over("UDP"), false);
    refused(&over("gre"), ExplainError::UnknownProtocol("gre".to_owned()));
}
