//! What policy allows gets through and what it denies does not, also while it changes.

use crate::common::{Backend, Daemon, L4, L7, OK, Plan};
use std::io::ErrorKind;

fn plan(backend: &Backend, policies: &[&str]) -> Plan {
    let file = |(index, text): (usize, &&str)| (["a.yaml", "b.yaml", "c.yaml"][index], (*text).to_owned());
    Plan {
        policies: policies.iter().enumerate().map(file).collect(),
        limits: String::new(),
        backend: backend.address,
    }
}

#[test]
fn without_a_policy_everybody_lands() {
    let backend = Backend::start();
    let daemon = Daemon::start(&plan(&backend, &[]));
    for ship in [Daemon::TIEFIGHTER, Daemon::XWING] {
        assert_eq!(daemon.connect(ship).ask("POST", "/v1/request-landing").status, 200);
    }
    let seen = |ship| format!("{} POST /v1/request-landing 0", daemon.address(ship));
    assert_eq!(backend.log(), [seen(Daemon::TIEFIGHTER), seen(Daemon::XWING)]);
}

#[test]
fn an_l4_denial_is_a_reset() {
    let backend = Backend::start();
    let daemon = Daemon::start(&plan(&backend, &[L4]));
    assert_eq!(daemon.connect(Daemon::XWING).end(), Err(ErrorKind::ConnectionReset));
    assert_eq!(daemon.connect(Daemon::TIEFIGHTER).ask("PUT", "/v1/exhaust-port").status, 200);
    assert_eq!(backend.requests(), ["PUT /v1/exhaust-port 0"]);
}

#[test]
fn an_l7_denial_is_answered_and_the_connection_kept() {
    let backend = Backend::start();
    let daemon = Daemon::start(&plan(&backend, &[L7]));
    let mut client = daemon.connect(Daemon::TIEFIGHTER);
    assert_eq!(client.ask("POST", "/v1/request-landing").status, 200);
    let denied = client.ask("PUT", "/v1/exhaust-port");
    assert_eq!((denied.status, denied.body.as_slice()), (403, &b"Access denied\r\n"[..]));
    assert_eq!(client.ask("POST", "/v1/request-landing").status, 200);
    assert_eq!(backend.requests(), ["POST /v1/request-landing 0", "POST /v1/request-landing 0"]);
}

/// Rules that only make requests visible rely on it.
#[test]
fn requests_that_a_plain_allow_lets_through_are_recorded_under_its_name() {
    let backend = Backend::start();
    let plain = L4.replace("rule1", "plain");
    let daemon = Daemon::start(&plan(&backend, &[L7, &plain]));
    let mut records = daemon.follow("kind=http-request");
    let mut client = daemon.connect(Daemon::TIEFIGHTER);
    for (method, path) in [("PUT", "/v1/exhaust-port"), ("POST", "/v1/request-landing")] {
        assert_eq!(client.ask(method, path).status, 200);
        let record = records.next().unwrap();
        assert_eq!(
            (&record["verdict"], &record["direction"]),
            (&"forwarded".into(), &"ingress".into()),
            "{record}"
        );
        assert_eq!(record["rule"], "default/plain: spec.ingress[0].toPorts[0]", "{record}");
        assert_eq!(record["path"], path, "{record}");
    }
    assert_eq!(daemon.connect(Daemon::XWING).end(), Err(ErrorKind::ConnectionReset));
}

#[test]
fn a_connection_from_nobody_s_address_is_denied() {
    let backend = Backend::start();
    let daemon = Daemon::start(&plan(&backend, &[L4]));
    assert_eq!(daemon.connect(99).end(), Err(ErrorKind::ConnectionReset));
    assert_eq!(backend.log(), [""; 0]);
}

#[test]
fn policies_are_swapped_under_a_live_connection() {
    let backend = Backend::start();
    let mut daemon = Daemon::start(&plan(&backend, &[OK]));
    let mut client = daemon.connect(Daemon::TIEFIGHTER);
    assert_eq!(client.ask("GET", "/ok/1").status, 200);
    assert_eq!(client.ask("POST", "/v1/request-landing").status, 403);
    daemon.apply("a.yaml", L7);
    assert_eq!(client.ask("GET", "/ok/1").status, 403);
    assert_eq!(client.ask("POST", "/v1/request-landing").status, 200);
    daemon.apply("a.yaml", OK);
    assert_eq!(client.ask("GET", "/ok/2").status, 200);
    assert_eq!(backend.requests(), ["GET /ok/1 0", "POST /v1/request-landing 0", "GET /ok/2 0"]);
}

#[test]
fn an_uninspected_connection_is_reset_when_it_needs_inspection() {
    let backend = Backend::start();
    let mut daemon = Daemon::start(&plan(&backend, &[L4]));
    let mut records = daemon.follow("kind=connection");
    let mut client = daemon.connect(Daemon::TIEFIGHTER);
    assert_eq!(client.ask("GET", "/1").status, 200);
    daemon.apply("a.yaml", L7);
    assert_eq!(client.end(), Err(ErrorKind::ConnectionReset));
    let record = records.next().unwrap();
    assert_eq!((&record["reason"], &record["verdict"]), (&"redirect_required".into(), &"ended".into()));
    assert_eq!(daemon.connect(Daemon::TIEFIGHTER).ask("GET", "/1").status, 403);
}

#[test]
fn a_connection_that_is_no_longer_allowed_is_reset() {
    let backend = Backend::start();
    let mut daemon = Daemon::start(&plan(&backend, &[]));
    let mut records = daemon.follow("kind=connection");
    let mut client = daemon.connect(Daemon::XWING);
    assert_eq!(client.ask("GET", "/1").status, 200);
    daemon.apply("a.yaml", L4);
    assert_eq!(client.end(), Err(ErrorKind::ConnectionReset));
    assert_eq!(records.next().unwrap()["reason"], "revoked");
}

#[test]
fn an_inspected_connection_is_reset_when_its_peer_is_shut_out() {
    let backend = Backend::start();
    let mut daemon = Daemon::start(&plan(&backend, &[OK]));
    let mut client = daemon.connect(Daemon::TIEFIGHTER);
    assert_eq!(client.ask("GET", "/ok").status, 200);
    daemon.apply("a.yaml", &OK.replace("{org: empire}}]", "{org: alliance}}]"));
    assert_eq!(client.end(), Err(ErrorKind::ConnectionReset));
}

#[test]
fn a_refused_policy_opens_nothing() {
    let backend = Backend::start();
    let mut daemon = Daemon::start(&plan(&backend, &[L7]));
    let before = daemon.revision;
    daemon.write_policy("a.yaml", "kind: CiliumNetworkPolicy\nmetadata: {name: rule1}\nspec: [");
    let refused = daemon.wait_for("a policy is not in force as written");
    assert!(refused["file"].as_str().unwrap().ends_with("a.yaml"), "{refused}");
    assert_eq!(daemon.connect(Daemon::XWING).end(), Err(ErrorKind::ConnectionReset));
    assert_eq!(daemon.connect(Daemon::TIEFIGHTER).ask("PUT", "/v1/exhaust-port").status, 403);
    let status = daemon.get("/v1/status");
    assert_eq!((&status["ok"], &status["revision"]), (&false.into(), &before.into()));
}
