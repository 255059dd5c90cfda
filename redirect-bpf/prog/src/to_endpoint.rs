//! What reaches an endpoint: already judged where it came from, or the proxy's own, or judged here by ingress policy.

use redirect_abi::{direction, flow_flags, kind, mark};

use crate::conntrack;
use crate::fragments;
use crate::icmp;
use crate::packet::{self, Arrival, Bytes, Network, Packet};
use crate::policy::{self, Ends, Verdict};
use crate::tables::Tables;
use crate::verdict::{Decision, Pass, Reason, Report};

#[inline(always)]
pub fn judge(
    tables: &impl Tables,
    frame: &impl Bytes,
    arrival: &Arrival,
    packet: &mut Packet,
    report: &mut Report,
) -> Decision {
    report.epoch = tables.epoch();
    report.direction = direction::INGRESS;
    let endpoint = tables.endpoint_on(arrival.ifindex).ok_or(Reason::NoEndpoint)?;
    report.endpoint = endpoint.id;
    report.destination_identity = endpoint.identity;
    match packet::parse(frame, arrival, packet)? {
        Network::Arp => return Ok(Pass::Unmarked),
        Network::Ip => fragments::resolve(tables, packet)?,
    }
    let local_sender = arrival.ingress_ifindex == 0;
    match arrival.mark & mark::MASK {
        mark::CHECKED if arrival.mark >> mark::CHECKED_FOR_SHIFT == endpoint.id => return Ok(Pass::Unmarked),
        mark::PROXY_DOWNSTREAM if local_sender => return Ok(Pass::Unmarked),
        mark::PROXY_UPSTREAM if local_sender => {
            conntrack::track_proxied(tables, packet, kind::PROXY_UPSTREAM, report.epoch)?;
            return Ok(Pass::Unmarked);
        }
        _ => {}
    }
    if icmp::is_link_control_of_node(packet) {
        return Ok(Pass::Unmarked);
    }
    if admits_answer(tables, frame, packet, report)? {
        return Ok(Pass::Unmarked);
    }
    if !local_sender && is_spoofed(tables, arrival, packet) {
        return Err(Reason::SpoofedSource);
    }
    let ends = Ends { source: None, destination: Some(endpoint), foreign: !local_sender };
    let origin = if local_sender { 0 } else { flow_flags::FOREIGN };
    match policy::judge(tables, &packet.flow, &ends, report) {
        Ok(Verdict::Allow) => {
            conntrack::track_direct(tables, packet, flow_flags::INGRESS_ONLY | origin, report)?;
            Ok(Pass::Unmarked)
        }
        // Its source is not at a hook of ours: nothing could carry it to the proxy.
        Ok(Verdict::Redirect) => Err(conntrack::refuse(tables, packet, Reason::NotRedirectable)),
        Err(refusal) => Err(conntrack::refuse(tables, packet, refusal)),
    }
}

/// Whether it bears the address of an endpoint of this node, but did not come from there.
#[inline(always)]
fn is_spoofed(tables: &impl Tables, arrival: &Arrival, packet: &Packet) -> bool {
    match tables.endpoint_at(&packet.flow.source) {
        Some(owner) => owner.ifindex != arrival.ingress_ifindex,
        None => false,
    }
}

/// Whether it belongs to what the endpoint began, or took part in: replies, and errors about a flow.
#[inline(always)]
fn admits_answer(
    tables: &impl Tables,
    frame: &impl Bytes,
    packet: &Packet,
    report: &mut Report,
) -> Result<bool, Reason> {
    let mut quoted = Packet::EMPTY.flow;
    if icmp::quoted(frame, packet, &mut quoted) {
        return conntrack::admit_error(tables, &quoted, report);
    }
    match packet.reply_to() {
        Some(opener) => conntrack::admit_reply(tables, packet, &opener, report),
        None => Ok(false),
    }
}

#[cfg(test)]
mod tests;
