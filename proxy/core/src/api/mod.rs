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

pub mod detail;
mod flow;
mod time;

use serde::{Deserialize, Serialize};

pub use detail::{DetailView, HttpView};
pub use flow::{AuditView, FlowParty, FlowView, direction_name};
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
