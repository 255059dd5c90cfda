//! The daemon's answers as JSON, shared by the daemon (which writes them) and the command line (which reads them).
//! HTTP over the unix socket; every path begins with `/v1`.
//!
//! ```text
//! GET  /v1/status                       -> Status
//! GET  /v1/endpoints                    -> Vec<EndpointView>
//! GET  /v1/endpoints/{id or namespace/name} -> EndpointView
//! GET  /v1/identities                   -> Vec<IdentityView>
//! GET  /v1/policies                     -> PolicyView
//! POST /v1/explain   ExplainRequest     -> policy_model::explain::Explanation
//! GET  /v1/flows?follow=true&verdict=.. -> FlowView, one JSON object a line, until the client closes
//! ```
//!
//! Errors: 4xx/5xx with [`ErrorView`].

mod time;

use crate::record::FlowRecord;
use core::net::SocketAddr;
use parsers::http1::Version;
use policy_model::snapshot::Direction;
use policy_model::{Identity, Snapshot};
use serde::{Deserialize, Serialize};

pub use time::rfc3339;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    pub node: String,
    pub version: String,
    /// In force.
    pub revision: u64,
    pub mode: String,
    pub ok: bool,
    /// Why not, or what is worth knowing: refused policies, ports that nothing enforces, lost records.
    pub findings: Vec<Finding>,
    pub endpoints: usize,
    pub policies: usize,
    pub connections: u64,
    pub records_lost: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// `error`: `ok` is false because of it. `warning` otherwise.
    pub severity: String,
    /// File, object or endpoint that it is about.
    pub subject: String,
    pub line: u32,
    pub field: String,
    pub message: String,
    pub fix: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EndpointView {
    pub id: u16,
    pub name: String,
    pub namespace: String,
    /// `Enabled` or `Disabled`.
    pub ingress_enforcement: String,
    pub egress_enforcement: String,
    pub identity: u32,
    /// Sorted, `source:key=value`.
    pub labels: Vec<String>,
    pub ipv6: Option<String>,
    pub ipv4: Option<String>,
    pub interface: Option<String>,
    /// `ready`, or why not.
    pub status: String,
    /// What it has opened and the kernel tracks: uninspected flows within its quota, and inspected connections.
    #[serde(default)]
    pub flows: u64,
    #[serde(default)]
    pub inspected_flows: u64,
    /// Uninspected flows that its quota did not cover, so far: they may be evicted.
    #[serde(default)]
    pub flows_over_quota: u64,
    /// Verdicts of the kernel about what it sent that were not recorded, so far.
    #[serde(default)]
    pub events_lost: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IdentityView {
    pub id: u32,
    pub labels: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PolicyView {
    pub revision: u64,
    /// Rules as `policy get` prints them.
    pub rules: Vec<serde_json::Value>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ExplainRequest {
    /// An address, `namespace/name` or a name, or a reserved entity (`world`, `host`).
    pub from: String,
    pub to: String,
    pub port: u16,
    /// `TCP` by default.
    pub protocol: Option<String>,
    pub method: Option<String>,
    pub path: Option<String>,
    pub host: Option<String>,
    /// `Name: value`.
    #[serde(default)]
    pub headers: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ErrorView {
    pub error: String,
}

/// A flow record as it leaves the daemon.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FlowView {
    /// RFC 3339, UTC, nanoseconds.
    pub time: String,
    /// `http-request`, `connection`, `l4`.
    pub kind: String,
    /// `ingress` or `egress`.
    pub direction: String,
    /// `forwarded`, `denied`, `ended`, `dropped`.
    pub verdict: String,
    pub reason: Option<String>,
    pub rule: Option<String>,
    pub revision: u64,
    pub source: FlowParty,
    pub destination: FlowParty,
    pub protocol: String,
    pub method: Option<String>,
    pub path: Option<String>,
    pub host: Option<String>,
    /// Of the request: `HTTP/1.0`, `HTTP/1.1`.
    pub version: Option<String>,
    pub status: Option<u16>,
    pub bytes_up: u64,
    pub bytes_down: u64,
    pub latency_ns: Option<u64>,
    /// How many equal events an L4 record stands for.
    pub count: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FlowParty {
    pub address: String,
    pub port: u16,
    pub identity: u32,
    pub labels: Vec<String>,
    /// `namespace/name` of a local endpoint.
    pub endpoint: Option<String>,
}

impl FlowView {
    /// `snapshot` knows the names of local endpoints; it need not be the one that judged.
    pub fn new(record: &FlowRecord, snapshot: &Snapshot) -> Self {
        let http = record.http.as_ref();
        Self {
            time: rfc3339(record.unix_ns),
            kind: if http.is_some() { "http-request" } else { "connection" }.to_owned(),
            direction: direction_name(record.direction).to_owned(),
            verdict: record.outcome.name().to_owned(),
            reason: record.reason.map(|reason| reason.name().to_owned()),
            rule: record.rule.as_ref().map(ToString::to_string),
            revision: record.revision,
            source: FlowParty::new(record.client.0, record.source.as_deref(), snapshot),
            destination: FlowParty::new(record.destination.0, record.target.as_deref(), snapshot),
            protocol: "TCP".to_owned(),
            method: http.and_then(|http| known(http.method.to_string())),
            path: http.and_then(|http| known(http.path.to_string())),
            host: http.and_then(|http| known(http.host.to_string())),
            version: http.and_then(|http| http.version).map(|version| version_name(version).to_owned()),
            status: http.map(|http| http.status).filter(|status| *status != 0),
            bytes_up: record.bytes_up,
            bytes_down: record.bytes_down,
            latency_ns: Some(record.latency_ns).filter(|latency_ns| *latency_ns != 0),
            count: 1,
        }
    }
}

impl FlowParty {
    pub fn new(address: SocketAddr, identity: Option<&Identity>, snapshot: &Snapshot) -> Self {
        let endpoint = snapshot.endpoint_at(address.ip());
        Self {
            address: address.ip().to_string(),
            port: address.port(),
            identity: identity.map_or(0, |identity| identity.id.0),
            labels: identity
                .map(|identity| identity.labels.iter().map(ToString::to_string).collect())
                .unwrap_or_default(),
            endpoint: endpoint
                .map(|endpoint| format!("{}/{}", endpoint.inputs.namespace, endpoint.inputs.name)),
        }
    }
}

/// As in [`FlowView::direction`].
pub fn direction_name(direction: Direction) -> &'static str {
    match direction {
        Direction::Egress => "egress",
        Direction::Ingress => "ingress",
    }
}

fn version_name(version: Version) -> &'static str {
    match version {
        Version::Http10 => "HTTP/1.0",
        Version::Http11 => "HTTP/1.1",
    }
}

fn known(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}
