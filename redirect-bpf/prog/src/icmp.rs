//! ICMP of both families: what keeps a link alive, and the flow that an error is about.

use redirect_abi::FlowKey;

use crate::packet::{Bytes, Fragment, Packet, is_mapped, load, mapped};
use crate::protocol::{self, is_error, is_question, v6};
use crate::verdict::Reason;

/// An ICMP header, before the packet that an error quotes.
const ICMP_LEN: u32 = 8;

/// What an endpoint says to its link: it can't leave it, so no policy is asked.
///
/// The hop limit proves that a message was not forwarded, the destination that it will not be: else this would be a way
/// out for anything that calls itself a neighbour advertisement. Endpoints are not routers: they may not advertise or redirect.
#[inline(always)]
pub fn is_link_control_of_endpoint(packet: &Packet) -> bool {
    let link_scoped = is_link_local(&packet.flow.destination) || is_multicast(&packet.flow.destination);
    packet.flow.protocol == protocol::ICMPV6
        && link_scoped
        && match packet.flow.destination_port[1] {
            v6::ROUTER_SOLICITATION | v6::NEIGHBOUR_SOLICITATION | v6::NEIGHBOUR_ADVERTISEMENT => {
                packet.hop_limit == 255
            }
            v6::LISTENER_REPORT | v6::LISTENER_DONE | v6::LISTENER_REPORT_2 => packet.hop_limit == 1,
            _ => false,
        }
}

/// What the node says to an endpoint's link.
#[inline(always)]
pub fn is_link_control_of_node(packet: &Packet) -> bool {
    packet.flow.protocol == protocol::ICMPV6
        && match packet.flow.destination_port[1] {
            v6::ROUTER_SOLICITATION
            | v6::ROUTER_ADVERTISEMENT
            | v6::NEIGHBOUR_SOLICITATION
            | v6::NEIGHBOUR_ADVERTISEMENT
            | v6::REDIRECT => packet.hop_limit == 255,
            v6::LISTENER_QUERY | v6::LISTENER_REPORT | v6::LISTENER_DONE | v6::LISTENER_REPORT_2 => {
                packet.hop_limit == 1 && is_link_local(&packet.flow.source)
            }
            _ => false,
        }
}

/// fe80::/10.
#[inline(always)]
pub(crate) fn is_link_local(address: &[u8; 16]) -> bool {
    address[0] == 0xfe && address[1] & 0xc0 == 0x80
}

#[inline(always)]
fn is_multicast(address: &[u8; 16]) -> bool {
    address[0] == 0xff
}

/// Fills in the flow of the packet that an ICMP error quotes. `false`: it is no error, or quotes nothing that could be tracked.
#[inline(never)]
pub fn quoted(frame: &impl Bytes, packet: &Packet, quote: &mut FlowKey) -> bool {
    let Some(message) = packet.icmp_type() else { return false };
    // No error is as long as to be sent in fragments; another one could write over what the first quotes.
    if !is_error(packet.flow.protocol, message) || packet.fragment != Fragment::Whole {
        return false;
    }
    let offset = packet.transport + ICMP_LEN;
    let read =
        if packet.is_ipv4() { quoted_ipv4(frame, offset, quote) } else { quoted_ipv6(frame, offset, quote) };
    // An error goes to whoever sent the packet: one that quotes somebody else's is made up.
    read.is_ok() && quote.source == packet.flow.destination
}

#[inline(always)]
fn quoted_ipv4(frame: &impl Bytes, offset: u32, quote: &mut FlowKey) -> Result<(), Reason> {
    let header: [u8; 20] = load(frame, offset)?;
    let header_len = u32::from(header[0] & 0x0f) * 4;
    let later_fragment = header[6] & 0x1f != 0 || header[7] != 0;
    if header[0] >> 4 != 4 || header_len < 20 || later_fragment {
        return Err(Reason::Malformed);
    }
    quote.source = mapped([header[12], header[13], header[14], header[15]]);
    quote.destination = mapped([header[16], header[17], header[18], header[19]]);
    quote.protocol = header[9];
    quoted_ports(frame, offset + header_len, quote)
}

#[inline(always)]
fn quoted_ipv6(frame: &impl Bytes, offset: u32, quote: &mut FlowKey) -> Result<(), Reason> {
    let [version, _, _, _, _, _, next, _] = load(frame, offset)?;
    quote.source = load(frame, offset + 8)?;
    quote.destination = load(frame, offset + 24)?;
    quote.protocol = next;
    if version >> 4 != 6 || is_mapped(&quote.source) || is_mapped(&quote.destination) {
        return Err(Reason::Malformed);
    }
    quoted_ports(frame, offset + 40, quote)
}

/// Only 8 bytes of the transport header are sure to be quoted.
#[inline(always)]
fn quoted_ports(frame: &impl Bytes, offset: u32, quote: &mut FlowKey) -> Result<(), Reason> {
    let header: [u8; 8] = load(frame, offset)?;
    match quote.protocol {
        protocol::TCP | protocol::UDP | protocol::UDP_LITE | protocol::DCCP | protocol::SCTP => {
            quote.source_port = [header[0], header[1]];
            quote.destination_port = [header[2], header[3]];
        }
        protocol::ICMP | protocol::ICMPV6 if is_question(quote.protocol, header[0]) => {
            quote.source_port = [header[4], header[5]];
            quote.destination_port = [0, header[0]];
        }
        _ => return Err(Reason::Malformed),
    }
    Ok(())
}

#[cfg(test)]
mod tests;
