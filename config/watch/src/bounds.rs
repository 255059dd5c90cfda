//! What the policies of one namespace may be and take together: one tenant's number and size are no other one's cost.
//!
//! Who was accepted as it is written comes first, then who was accepted with another text, then the new ones; so a namespace that is
//! full keeps what it has, also over a restart, and it is what came last that is refused.
//! INVARIANT: what is refused is refused as an invalid policy is: it opens nothing, and what it selects is closed where no earlier text
//! of it stands in.

use crate::compile::Namespace;
use policy_model::parse::{Diagnostic, Severity};
use std::collections::BTreeMap;

/// Of each namespace; clusterwide policies are one of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Policies that are in force as written.
    pub policies: usize,
    /// Bytes of all their automata.
    pub automaton_bytes: usize,
}

/// What namespaces have while a set is being made.
#[derive(Debug)]
pub(crate) struct Tenants {
    bounds: Bounds,
    held: BTreeMap<Namespace, Held>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Held {
    policies: usize,
    automaton_bytes: usize,
}

impl Tenants {
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self { bounds, held: BTreeMap::new() }
    }

    /// The bytes of automata that one more policy may have. `Err`: there may not be one more.
    pub(crate) fn room(&self, namespace: &Namespace) -> Result<usize, Diagnostic> {
        let held = self.held.get(namespace).copied().unwrap_or_default();
        if held.policies >= self.bounds.policies {
            return Err(too_many(namespace, self.bounds.policies));
        }
        Ok(self.bounds.automaton_bytes.saturating_sub(held.automaton_bytes))
    }

    pub(crate) fn hold(&mut self, namespace: &Namespace, automaton_bytes: usize) {
        let held = self.held.entry(namespace.clone()).or_default();
        held.policies = held.policies.saturating_add(1);
        held.automaton_bytes = held.automaton_bytes.saturating_add(automaton_bytes);
    }

    /// Why a policy is refused that needs `bytes` where there is less room.
    pub(crate) fn too_big(&self, namespace: &Namespace, bytes: usize) -> Diagnostic {
        let limit = self.bounds.automaton_bytes;
        error(
            format!(
                "the HTTP patterns of {} would need more than {limit} bytes of automata together: this policy alone needs {bytes}",
                named(namespace)
            ),
            "use fewer or simpler patterns, or raise `[limits] automaton_bytes_per_namespace`",
        )
    }
}

fn too_many(namespace: &Namespace, limit: usize) -> Diagnostic {
    error(
        format!("{} has {limit} policies in force, and may not have more", named(namespace)),
        "remove some, join some (`specs` holds several), or raise `[limits] policies_per_namespace`",
    )
}

fn named(namespace: &Namespace) -> String {
    match namespace {
        Some(name) => format!("the namespace `{name}`"),
        None => "what is clusterwide".to_owned(),
    }
}

fn error(message: String, fix: &str) -> Diagnostic {
    Diagnostic {
        severity: Severity::Error,
        line: 0,
        field: "metadata.namespace".to_owned(),
        message,
        fix: fix.to_owned(),
    }
}
