//! What was decided and why. Forwarding consumes a [`Permit`], and only the snapshot makes one.

use crate::rule::ObjectName;
use std::fmt;
use std::sync::Arc;

/// The answer to a question about one request.
#[must_use]
#[derive(Clone, Debug)]
pub enum Verdict {
    Allow(Permit),
    Deny(Denial),
}

/// Proof that something was allowed, at which revision and by what.
#[must_use]
#[derive(Clone, Debug)]
pub struct Permit {
    pub(crate) revision: u64,
    pub(crate) rule: Option<RuleRef>,
}

impl Permit {
    pub fn revision(&self) -> u64 {
        self.revision
    }
    /// The rule that decided; `None` where no policy selects the endpoint.
    pub fn rule(&self) -> Option<&RuleRef> {
        self.rule.as_ref()
    }
    /// What is left to be recorded once the permit is spent.
    pub fn into_rule(self) -> Option<RuleRef> {
        self.rule
    }
}

#[derive(Clone, Debug)]
pub struct Denial {
    pub reason: DenyReason,
    pub revision: u64,
    /// The deny rule that decided, or the allow rule that came nearest; `None` where there is none.
    pub rule: Option<RuleRef>,
}

/// Why the model denied. Fieldless: it is a metric label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DenyReason {
    /// A deny rule covers the connection.
    DenyRule,
    /// The port is inspected, and no HTTP rule matches the request.
    NoHttpRule,
    /// The direction is enforced, and no rule allows the connection.
    NoRule,
    /// Egress policy of the source and ingress policy of the destination name different protocols for the port.
    ProtocolConflict,
    /// Judging the request by all patterns and headers that it leads to would take more steps than a request may.
    TooCostly,
    /// The rules of this port are of a kind that can't be judged.
    Unjudgeable,
    /// The peer's address lies in a pod network and belongs to no known endpoint.
    UnknownPeer,
}

impl DenyReason {
    pub const ALL: &[Self] = &[
        Self::DenyRule,
        Self::NoHttpRule,
        Self::NoRule,
        Self::ProtocolConflict,
        Self::TooCostly,
        Self::Unjudgeable,
        Self::UnknownPeer,
    ];

    /// snake_case, as in records and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::DenyRule => "deny_rule",
            Self::NoHttpRule => "no_http_rule",
            Self::NoRule => "no_rule",
            Self::ProtocolConflict => "protocol_conflict",
            Self::TooCostly => "too_costly",
            Self::Unjudgeable => "unjudgeable",
            Self::UnknownPeer => "unknown_peer",
        }
    }
}

/// Names a rule of a policy; cheap to clone. Printed as `default/rule1: ingress[0].toPorts[0].rules.http[1]`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleRef(Arc<RuleName>);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleName {
    pub object: ObjectName,
    /// Inside the object: `spec.ingress[0].toPorts[0].rules.http[1]`; for built-in rules (`allow-localhost`) their name.
    pub path: Box<str>,
}

impl RuleRef {
    pub fn new(object: ObjectName, path: &str) -> Self {
        Self(Arc::new(RuleName { object, path: path.into() }))
    }
    pub fn name(&self) -> &RuleName {
        &self.0
    }
}

impl fmt::Display for RuleRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(namespace) = &self.0.object.namespace {
            write!(f, "{namespace}/")?;
        }
        write!(f, "{}: {}", self.0.object.name, self.0.path)
    }
}
