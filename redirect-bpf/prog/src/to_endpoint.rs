//! What reaches an endpoint: already judged where it came from, or the proxy's own, or judged here by ingress policy.

use redirect_abi::{Endpoint, direction, flow_flags, kind, mark, payer};

use crate::conntrack;
use crate::fragments::{self, Ports};
use crate::icmp;
use crate::neighbours;
use crate::packet::{self, Arrival, Bytes, Fragment, Network, Packet};
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
    report.ifindex = arrival.ifindex;
    report.destination_identity = endpoint.identity;
    let local_sender = arrival.ingress_ifindex == 0;
    report.payer = if local_sender { payer::NODE } else { payer::OUTSIDE };
    report.payer_endpoint = endpoint.id;
    match packet::parse(frame, arrival, packet)? {
        Network::Arp => return Ok(Pass::Unmarked),
        Network::Ip => {}
    }
    match arrival.mark & mark::MASK {
        mark::CHECKED if arrival.mark >> mark::CHECKED_FOR_SHIFT == endpoint.id => return Ok(Pass::Unmarked),
        // The rule that delivers it to the proxy is gone.
        mark::TO_PROXY if !local_sender => return Err(Reason::NoListener),
        mark::PROXY_DOWNSTREAM if local_sender => {
            conntrack::note_end_of_downstream(tables, packet);
            return Ok(Pass::Unmarked);
        }
        mark::PROXY_UPSTREAM if local_sender => {
            if packet.fragment != Fragment::Whole {
                return Err(Reason::FragmentRedirected);
            }
            // In the name of the client, who pays for it.
            if let Some(client) = tables.endpoint_at(&packet.flow.source) {
                (report.payer, report.payer_endpoint) = (payer::ENDPOINT, client.id);
            }
            conntrack::track_proxied(tables, packet, kind::PROXY_UPSTREAM, report)?;
            return Ok(Pass::Unmarked);
        }
        _ => {}
    }
    if packet.fragment == Fragment::Whole && icmp::is_link_control_of_node(packet) {
        return Ok(Pass::Unmarked);
    }
    if !local_sender && is_spoofed(tables, arrival, packet) {
        return Err(Reason::SpoofedSource);
    }
    let ends = Ends { source: None, destination: Some(endpoint), foreign: !local_sender };
    match fragments::resolve(tables, packet, report)? {
        Ports::Known => {}
        Ports::Unknown if policy::allows_every_port(tables, &packet.flow, &ends, report) => {
            return Ok(Pass::Unmarked);
        }
        Ports::Unknown => return Err(Reason::FragmentOrphan),
    }
    if !admits_answer(tables, frame, endpoint, packet, report)? {
        admit(tables, packet, &ends, report)?;
    }
    fragments::admitted(tables, packet)?;
    Ok(Pass::Unmarked)
}

/// What nobody asked for, by the endpoint's policy.
#[inline(always)]
fn admit(tables: &impl Tables, packet: &Packet, ends: &Ends<'_>, report: &mut Report) -> Result<(), Reason> {
    let origin = if ends.foreign { flow_flags::FOREIGN } else { 0 };
    match policy::judge(tables, &packet.flow, ends, report) {
        Ok(Verdict::Allow) => {
            conntrack::track_direct(tables, packet, flow_flags::INGRESS_ONLY | origin, report)
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
    endpoint: &Endpoint,
    packet: &Packet,
    report: &mut Report,
) -> Result<bool, Reason> {
    // It began nothing under another address, and policy is asked again by the addresses of a flow.
    if !neighbours::owns(endpoint, &packet.flow.destination, packet.is_ipv4()) {
        return Ok(false);
    }
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
