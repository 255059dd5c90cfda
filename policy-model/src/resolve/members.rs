//! The endpoints of the node, numbered and in one order.

use super::Report;
use crate::identity::Numbers;
use crate::inputs::{EndpointInputs, Inputs};
use crate::parse::Severity;
use crate::snapshot::Endpoint;
use std::sync::Arc;

/// An endpoint with its number.
#[derive(Clone, Copy, Debug)]
pub(super) struct Member<'a> {
    pub(super) id: u16,
    pub(super) inputs: &'a EndpointInputs,
}

/// Sorted by namespace and name; of two with one name the first in the inputs stays.
pub(super) fn number<'a>(inputs: &'a Inputs, numbers: &mut Numbers, report: &mut Report) -> Vec<Member<'a>> {
    let mut sorted: Vec<&EndpointInputs> = inputs.endpoints.iter().collect();
    sorted.sort_by(|a, b| key(a).cmp(&key(b)));
    sorted.dedup_by(|later, first| {
        let same = key(later) == key(first);
        if same {
            let message = "two endpoints have this name; the first one is enforced".to_owned();
            report.say(Severity::Error, endpoint_name(first), message, "give every endpoint its own name");
        }
        same
    });
    numbers.retain_endpoints(|name| {
        let key = name.split_once('/').unwrap_or(("", name));
        sorted.binary_search_by(|endpoint| self::key(endpoint).cmp(&key)).is_ok()
    });
    let mut members = Vec::new();
    for inputs in sorted {
        match numbers.endpoint(&full_name(inputs)) {
            Some(id) => members.push(Member { id, inputs }),
            None => {
                let message = "all 65535 endpoint numbers are taken; it is not enforced".to_owned();
                report.say(
                    Severity::Error,
                    endpoint_name(inputs),
                    message,
                    "run fewer endpoints on this node",
                );
            }
        }
    }
    members
}

/// The endpoint of the same name. `endpoints` are sorted by it.
pub(super) fn find<'a>(endpoints: &'a [Arc<Endpoint>], inputs: &EndpointInputs) -> Option<&'a Arc<Endpoint>> {
    let index = endpoints.binary_search_by(|endpoint| key(&endpoint.inputs).cmp(&key(inputs))).ok()?;
    endpoints.get(index)
}

pub(super) fn key(inputs: &EndpointInputs) -> (&str, &str) {
    (&inputs.namespace, &inputs.name)
}

pub(super) fn full_name(inputs: &EndpointInputs) -> String {
    format!("{}/{}", inputs.namespace, inputs.name)
}

pub(super) fn endpoint_name(inputs: &EndpointInputs) -> String {
    format!("endpoint {}", full_name(inputs))
}
