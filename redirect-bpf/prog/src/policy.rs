//! Asks the policy of both ends of a flow: the egress policy of a local source, the ingress policy of a local destination.
//!
//! INVARIANT: what no map answers is denied. Deny beats redirect beats allow.

use redirect_abi::{
    Address, Endpoint, FlowKey, IpcacheKey, PolicyKey, aspect, direction, family, identity, verdict,
};

use crate::packet::is_mapped;
use crate::tables::{NoPolicyMap, Tables};
use crate::verdict::{Reason, Report};

#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    Allow,
    Redirect,
}

/// The ends of a flow whose policy has a say.
#[derive(Clone, Copy, Debug)]
pub struct Ends<'a> {
    pub source: Option<&'a Endpoint>,
    pub destination: Option<&'a Endpoint>,
    /// The source's address may not speak for the node: see [`redirect_abi::flow_flags::FOREIGN`].
    pub foreign: bool,
}

/// Judges a flow; who decided is written to the report.
///
/// A call of its own in the kernel, as it is asked in several places: inlined it would be most of the program.
#[inline(never)]
pub fn judge(
    tables: &impl Tables,
    flow: &FlowKey,
    ends: &Ends<'_>,
    report: &mut Report,
) -> Result<Verdict, Reason> {
    report.source_identity = match ends.source {
        Some(endpoint) => endpoint.identity,
        None => match identity_of(tables, &flow.source) {
            identity::HOST if ends.foreign => identity::UNKNOWN,
            identity => identity,
        },
    };
    report.destination_identity = match ends.destination {
        Some(endpoint) => endpoint.identity,
        None => identity_of(tables, &flow.destination),
    };
    let egress = match ends.source {
        Some(endpoint) => {
            report.endpoint = endpoint.id;
            report.direction = direction::EGRESS;
            let key = policy_key(direction::EGRESS, report.destination_identity, flow);
            half(tables, endpoint, &key)?
        }
        None => Verdict::Allow,
    };
    let ingress = match ends.destination {
        Some(endpoint) => {
            report.endpoint = endpoint.id;
            report.direction = direction::INGRESS;
            let key = policy_key(direction::INGRESS, report.source_identity, flow);
            half(tables, endpoint, &key)?
        }
        None => Verdict::Allow,
    };
    Ok(egress.max(ingress))
}

#[inline(always)]
fn half(tables: &impl Tables, endpoint: &Endpoint, key: &PolicyKey) -> Result<Verdict, Reason> {
    match tables.policy(endpoint.id, key) {
        Ok(Some(verdict::ALLOW)) => Ok(Verdict::Allow),
        Ok(Some(verdict::REDIRECT)) => Ok(Verdict::Redirect),
        Ok(_) => Err(Reason::Policy),
        Err(NoPolicyMap) => Err(Reason::NoPolicyMap),
    }
}

/// Whether the policy of both ends allows every port of the flow's protocol: all that a packet without ports can be judged by.
#[inline(never)]
pub fn allows_every_port(tables: &impl Tables, flow: &FlowKey, ends: &Ends<'_>, report: &mut Report) -> bool {
    // Port 0 stands for all of them, where the maps say so.
    let flow = FlowKey { source_port: [0; 2], destination_port: [0; 2], ..*flow };
    if judge(tables, &flow, ends, report) != Ok(Verdict::Allow) {
        return false;
    }
    let every_port = |direction: u8, endpoint: Option<&Endpoint>, peer: u32| match endpoint {
        Some(endpoint) => {
            let key = policy_key(aspect::EVERY_PORT | direction, peer, &flow);
            half(tables, endpoint, &key) == Ok(Verdict::Allow)
        }
        None => true,
    };
    every_port(direction::EGRESS, ends.source, report.destination_identity)
        && every_port(direction::INGRESS, ends.destination, report.source_identity)
}

/// Whether no rule of either end's policy names the flow's destination port.
#[inline(never)]
pub fn is_unnamed(tables: &impl Tables, flow: &FlowKey, ends: &Ends<'_>) -> bool {
    let unnamed = |direction: u8, endpoint: Option<&Endpoint>| match endpoint {
        Some(endpoint) => {
            let key = policy_key(aspect::UNNAMED | direction, 0, flow);
            half(tables, endpoint, &key) == Ok(Verdict::Allow)
        }
        None => true,
    };
    unnamed(direction::EGRESS, ends.source) && unnamed(direction::INGRESS, ends.destination)
}

#[inline(always)]
pub fn policy_key(direction: u8, peer: u32, flow: &FlowKey) -> PolicyKey {
    PolicyKey {
        direction,
        identity: peer.to_be_bytes(),
        protocol: flow.protocol,
        port: flow.destination_port,
    }
}

/// Longest prefix. What has none is nobody in particular, never the world: the plan names what the world is.
#[inline(always)]
pub fn identity_of(tables: &impl Tables, address: &Address) -> u32 {
    let family = if is_mapped(address) { family::IPV4 } else { family::IPV6 };
    tables.identity(&IpcacheKey { family, address: *address, pad: [0; 3] }).unwrap_or(identity::UNKNOWN)
}
