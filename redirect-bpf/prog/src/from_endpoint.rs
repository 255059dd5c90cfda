//! What an endpoint sends: judged by its egress policy, and by the ingress policy of a destination on this node.

use redirect_abi::{Endpoint, FlowKey, direction, kind, payer};

use crate::conntrack;
use crate::fragments::{self, Ports};
use crate::icmp;
use crate::neighbours;
use crate::packet::{self, Arrival, Bytes, Fragment, Network, Packet, reversed};
use crate::policy::{self, Ends, Verdict};
use crate::redirect;
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
    report.direction = direction::EGRESS;
    let endpoint = tables.endpoint_on(arrival.ifindex).ok_or(Reason::NoEndpoint)?;
    report.endpoint = endpoint.id;
    report.ifindex = arrival.ifindex;
    report.source_identity = endpoint.identity;
    (report.payer, report.payer_endpoint) = (payer::ENDPOINT, endpoint.id);
    match packet::parse(frame, arrival, packet)? {
        Network::Arp => {
            neighbours::check_arp(tables, frame, endpoint, packet)?;
            return Ok(Pass::Unmarked);
        }
        Network::Ip => {}
    }
    if neighbours::is_discovery(packet) {
        neighbours::check_discovery(tables, frame, endpoint, packet)?;
    }
    if is_link_control(tables, endpoint, packet) {
        return Ok(Pass::Unmarked);
    }
    if !owns(endpoint, packet) {
        return Err(Reason::SpoofedSource);
    }
    let destination = tables.endpoint_at(&packet.flow.destination);
    let onward = match destination {
        Some(endpoint) => {
            report.destination = endpoint.id;
            Pass::Checked
        }
        None => Pass::Unmarked,
    };
    let ends = Ends { source: Some(endpoint), destination, foreign: false };
    match fragments::resolve(tables, packet, report)? {
        Ports::Known => {}
        Ports::Unknown if policy::allows_every_port(tables, &packet.flow, &ends, report) => {
            return Ok(onward);
        }
        Ports::Unknown => return Err(Reason::FragmentOrphan),
    }
    let pass = admit(tables, frame, packet, &ends, onward, report)?;
    fragments::admitted(tables, packet)?;
    Ok(pass)
}

#[inline(always)]
fn admit(
    tables: &impl Tables,
    frame: &impl Bytes,
    packet: &Packet,
    ends: &Ends<'_>,
    onward: Pass,
    report: &mut Report,
) -> Decision {
    match admit_reply(tables, frame, packet, report)? {
        ReplyTo::None => {}
        ReplyTo::Direct => return Ok(onward),
        ReplyTo::Proxied => return Ok(Pass::ToProxy),
    }
    match policy::judge(tables, &packet.flow, ends, report) {
        Ok(Verdict::Allow) if redirect::stays_with_proxy(tables, packet) => redirect::keep(packet),
        Ok(Verdict::Allow) => {
            conntrack::track_direct(tables, packet, 0, report)?;
            Ok(onward)
        }
        Ok(Verdict::Redirect) => redirect::to_proxy(tables, packet, report),
        Err(refusal) => Err(conntrack::refuse(tables, packet, refusal)),
    }
}

#[inline(always)]
fn is_link_control(tables: &impl Tables, endpoint: &Endpoint, packet: &Packet) -> bool {
    // Neighbours are not asked in fragments (RFC 6980).
    packet.fragment == Fragment::Whole
        && icmp::is_link_control_of_endpoint(packet)
        && neighbours::is_known(tables, endpoint, &packet.flow.source)
}

/// Whether the source is the endpoint's own address.
#[inline(always)]
fn owns(endpoint: &Endpoint, packet: &Packet) -> bool {
    neighbours::owns(endpoint, &packet.flow.source, packet.is_ipv4())
}

/// What a packet is to the flows that somebody else began: a reply, or an error about one.
#[derive(Clone, Copy, Debug)]
enum ReplyTo {
    None,
    Direct,
    /// To what the proxy sent in somebody's name.
    Proxied,
}

#[inline(always)]
fn admit_reply(
    tables: &impl Tables,
    frame: &impl Bytes,
    packet: &Packet,
    report: &mut Report,
) -> Result<ReplyTo, Reason> {
    let mut quoted = Packet::EMPTY.flow;
    if icmp::quoted(frame, packet, &mut quoted) {
        return admit_error(tables, packet, &quoted, report);
    }
    let Some(opener) = packet.reply_to() else {
        return Ok(ReplyTo::None);
    };
    if conntrack::admit_reply(tables, packet, &opener, report)? {
        return Ok(ReplyTo::Direct);
    }
    if !packet.is_tcp() {
        return Ok(ReplyTo::None);
    }
    match conntrack::find_of(tables, &opener, kind::PROXY_UPSTREAM) {
        None => Ok(ReplyTo::None),
        Some(flow) if !conntrack::may_answer(flow, packet) => Ok(ReplyTo::None),
        Some(_) if packet.fragment != Fragment::Whole => Err(Reason::FragmentRedirected),
        Some(flow) => {
            conntrack::touch(tables, kind::PROXY_UPSTREAM, flow, packet, conntrack::Sender::Destination);
            Ok(ReplyTo::Proxied)
        }
    }
}

/// An endpoint's error is about what it was sent, by the other end of a flow or by the proxy in its name.
#[inline(always)]
fn admit_error(
    tables: &impl Tables,
    packet: &Packet,
    quoted: &FlowKey,
    report: &mut Report,
) -> Result<ReplyTo, Reason> {
    if quoted.destination != packet.flow.source {
        return Ok(ReplyTo::None);
    }
    if conntrack::admit_error(tables, quoted, report)? {
        return Ok(ReplyTo::Direct);
    }
    let of_proxy = conntrack::find_of(tables, quoted, kind::PROXY_UPSTREAM).is_some()
        || conntrack::find_of(tables, &reversed(quoted), kind::PROXY_DOWNSTREAM).is_some();
    Ok(if of_proxy { ReplyTo::Proxied } else { ReplyTo::None })
}

#[cfg(test)]
mod tests;
