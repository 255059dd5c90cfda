//! A flow record as it leaves the daemon. Everything that it says is in the record: nothing is looked up when it is shown.

use super::detail::DetailView;
use super::rfc3339;
use crate::record::{Audit, FlowRecord};
use core::net::SocketAddr;
use policy_model::Party;
use policy_model::snapshot::Direction;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FlowView {
    /// RFC 3339, UTC, nanoseconds.
    pub time: String,
    /// Its `kind` is `http-request`, `connection` or `l4`; the fields of that kind stand beside it.
    #[serde(flatten)]
    pub detail: DetailView,
    /// `ingress` or `egress`.
    pub direction: String,
    /// `forwarded`, `denied`, `ended`, `dropped`.
    pub verdict: String,
    pub reason: Option<String>,
    pub rule: Option<String>,
    /// Of the policy that judged. 0 in an L4 record: not known, as of an earlier process.
    pub revision: u64,
    /// Absent unless a second policy was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audit: Option<AuditView>,
    pub source: FlowParty,
    pub destination: FlowParty,
    /// L4: `TCP`, `UDP`, `ICMP`, or a number.
    pub protocol: String,
    pub bytes_up: u64,
    pub bytes_down: u64,
    pub latency_ns: Option<u64>,
    /// How many equal events an L4 record stands for.
    pub count: u64,
}

/// What a policy that is not in force would have said.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AuditView {
    pub verdict: String,
    pub reason: Option<String>,
    pub rule: Option<String>,
}

/// Who was at one end when the flow was judged.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FlowParty {
    pub address: String,
    pub port: u16,
    pub identity: u32,
    pub labels: Vec<String>,
    /// `namespace/name` of the pod, where it is known.
    pub endpoint: Option<String>,
    /// Of the endpoint, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
}

impl From<&FlowRecord> for FlowView {
    fn from(record: &FlowRecord) -> Self {
        Self {
            time: rfc3339(record.unix_ns),
            detail: (&record.detail).into(),
            direction: direction_name(record.direction).to_owned(),
            verdict: record.outcome.name().to_owned(),
            reason: record.reason.map(|reason| reason.name().to_owned()),
            rule: record.rule.as_ref().map(ToString::to_string),
            revision: record.revision,
            audit: record.audit.as_ref().map(Into::into),
            source: FlowParty::new(record.client.0, record.source.as_deref()),
            destination: FlowParty::new(record.destination.0, record.target.as_deref()),
            protocol: record.protocol.to_string(),
            bytes_up: record.bytes_up,
            bytes_down: record.bytes_down,
            latency_ns: Some(record.latency_ns).filter(|latency_ns| *latency_ns != 0),
            count: 1,
        }
    }
}

impl From<&Audit> for AuditView {
    fn from(audit: &Audit) -> Self {
        Self {
            verdict: audit.outcome.name().to_owned(),
            reason: audit.reason.map(|reason| reason.name().to_owned()),
            rule: audit.rule.as_ref().map(ToString::to_string),
        }
    }
}

impl FlowParty {
    pub fn new(address: SocketAddr, party: Option<&Party>) -> Self {
        let labels = party.map(|party| party.identity.labels.iter().map(ToString::to_string).collect());
        let endpoint = party.and_then(|party| party.endpoint.as_ref());
        Self {
            address: address.ip().to_string(),
            port: address.port(),
            identity: party.map_or(0, |party| party.identity.id.0),
            labels: labels.unwrap_or_default(),
            endpoint: endpoint.map(|endpoint| format!("{}/{}", endpoint.namespace, endpoint.name)),
            uid: endpoint.and_then(|endpoint| endpoint.uid.as_deref()).map(ToOwned::to_owned),
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
