//! Hands connections to the proxy: a mark routes them to the node, SK_LOOKUP picks the listener.
//!
//! INVARIANT: PROXIED knows a connection before its packet is marked, and nothing evicts it. Without its entry a listener of the
//! host's on the same port would take it.

use redirect_abi::{FlowKey, kind, listener};

use crate::conntrack;
use crate::packet::{Fragment, Packet};
use crate::tables::Tables;
use crate::verdict::{Decision, Opened, Pass, Reason, Report};

/// A packet whose policy wants it inspected.
#[inline(always)]
pub fn to_proxy(tables: &impl Tables, packet: &Packet, report: &mut Report) -> Decision {
    if !packet.is_tcp() {
        return Err(Reason::NotRedirectable);
    }
    if packet.fragment != Fragment::Whole {
        return Err(Reason::FragmentRedirected);
    }
    if packet.opens() { open(tables, packet, report) } else { mid_stream(tables, packet, report) }
}

/// A packet of a connection that the proxy has, and that a new one would not need.
#[inline(always)]
pub fn keep(packet: &Packet) -> Decision {
    if packet.fragment == Fragment::Whole { Ok(Pass::ToProxy) } else { Err(Reason::FragmentRedirected) }
}

#[inline(always)]
fn open(tables: &impl Tables, packet: &Packet, report: &mut Report) -> Decision {
    let index = if packet.is_ipv4() { listener::IPV4 } else { listener::IPV6 };
    if !tables.has_listener(index) {
        return Err(Reason::NoListener);
    }
    conntrack::track_proxied(tables, packet, kind::PROXY_DOWNSTREAM, report)?;
    report.opened = Opened::Redirected;
    Ok(Pass::ToProxy)
}

/// The proxy can't inspect what it did not see from the start: such a connection is to be reset.
#[inline(always)]
fn mid_stream(tables: &impl Tables, packet: &Packet, report: &Report) -> Decision {
    if stays_with_proxy(tables, packet) {
        return Ok(Pass::ToProxy);
    }
    if !conntrack::touch_refused(tables, packet) {
        conntrack::track_cut(tables, packet, report)?;
    }
    Err(Reason::RedirectRequired)
}

/// Whether the proxy has this connection: it keeps it, whatever policy says of new ones.
#[inline(always)]
pub fn stays_with_proxy(tables: &impl Tables, packet: &Packet) -> bool {
    if packet.opens() || !packet.is_tcp() {
        return false;
    }
    match conntrack::find_of(tables, &packet.flow, kind::PROXY_DOWNSTREAM) {
        Some(flow) => {
            conntrack::touch(tables, kind::PROXY_DOWNSTREAM, flow, packet, conntrack::Sender::Source);
            true
        }
        None => false,
    }
}

/// The key of a connection that the proxy accepted.
#[inline(always)]
pub fn downstream(flow: &FlowKey) -> FlowKey {
    FlowKey { kind: kind::PROXY_DOWNSTREAM, ..*flow }
}
