//! Inputs to snapshot. What did not change is shared with the previous one.
//!
//! ```text
//!   policies ─► grants: named entries, in order         endpoints, prefixes ─► known peers, addresses
//!        which rules select an endpoint, per direction  ─► one policy per distinct set of rules
//!        which grants cover a peer                      ─► one list of port classes per distinct set of grants
//! ```
//!
//! INVARIANT: a peer that is not known is covered by an allow only if the allow covers everybody.

mod grants;
mod members;
mod known;
mod words;
mod lists;
mod directions;
mod endpoints;

use crate::identity::Numbers;
use crate::inputs::Inputs;
use crate::parse::{Diagnostic, Severity};
use crate::snapshot::Snapshot;
use directions::Directions;
use known::Known;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Resolves every policy for every endpoint. Total: what can't be enforced is closed and reported, never skipped.
/// `revision` becomes the snapshot's. Equal inputs and numbers give equal snapshots, with or without `previous`.
pub fn resolve(
    previous: Option<&Snapshot>,
    inputs: &Inputs,
    numbers: &mut Numbers,
    revision: u64,
) -> (Snapshot, Vec<Diagnostic>) {
    let mut report = Report::default();
    let members = members::number(inputs, numbers, &mut report);
    let known = Known::new(previous, inputs, &members, numbers);
    let mut directions = Directions::new(previous, inputs, &known);
    let endpoints = endpoints::resolve(previous, &members, &known, &mut directions);
    known::warn(inputs, &mut report);
    let addresses = known::addresses(inputs, &members, &known, &mut report);
    let compiled = directions.finish(&mut report);
    let snapshot = Snapshot {
        revision,
        endpoints,
        policies: inputs.policies.iter().map(Arc::clone).collect(),
        identities: known.identities(),
        addresses,
        compiled,
    };
    (snapshot, report.diagnostics)
}

/// What could not be enforced as asked; each said once.
#[derive(Debug, Default)]
struct Report {
    diagnostics: Vec<Diagnostic>,
    said: BTreeSet<(String, String)>,
}

impl Report {
    fn say(&mut self, severity: Severity, field: String, message: String, fix: &str) {
        if self.said.insert((field.clone(), message.clone())) {
            self.diagnostics.push(Diagnostic { severity, line: 0, field, message, fix: fix.to_owned() });
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
