//! The endpoints with their policies.

use super::directions::Directions;
use super::known::Known;
use super::members::{Member, find};
use crate::snapshot::{Direction, Endpoint, Snapshot};
use std::sync::Arc;

pub(super) fn resolve<'a>(
    previous: Option<&Snapshot>,
    members: &[Member<'a>],
    known: &Known<'_>,
    directions: &mut Directions<'a>,
) -> Vec<Arc<Endpoint>> {
    let mut endpoints = Vec::new();
    for Member { id, inputs } in members {
        let ingress = directions.policy(Direction::Ingress, inputs);
        let egress = directions.policy(Direction::Egress, inputs);
        let identity = known.identity_of(inputs);
        let endpoint = Endpoint { id: *id, inputs: (*inputs).clone(), identity, ingress, egress };
        let before =
            previous.and_then(|p| find(&p.endpoints, inputs)).filter(|before| same(before, &endpoint));
        endpoints.push(before.map_or_else(|| Arc::new(endpoint), Arc::clone));
    }
    endpoints
}

fn same(a: &Endpoint, b: &Endpoint) -> bool {
    a.id == b.id
        && a.inputs == b.inputs
        && Arc::ptr_eq(&a.identity, &b.identity)
        && Arc::ptr_eq(&a.ingress, &b.ingress)
        && Arc::ptr_eq(&a.egress, &b.egress)
}
