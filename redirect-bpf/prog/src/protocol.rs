//! The numbers of protocols, and which ICMP messages answer which.

pub const ICMP: u8 = 1;
pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
pub const DCCP: u8 = 33;
pub const ICMPV6: u8 = 58;
pub const SCTP: u8 = 132;
pub const UDP_LITE: u8 = 136;

pub(crate) mod v4 {
    pub(crate) const ECHO_REPLY: u8 = 0;
    pub(crate) const UNREACHABLE: u8 = 3;
    pub(crate) const ECHO: u8 = 8;
    pub(crate) const TIME_EXCEEDED: u8 = 11;
    pub(crate) const PARAMETER_PROBLEM: u8 = 12;
    pub(crate) const TIMESTAMP: u8 = 13;
    pub(crate) const TIMESTAMP_REPLY: u8 = 14;
}

pub(crate) mod v6 {
    pub(crate) const UNREACHABLE: u8 = 1;
    pub(crate) const PARAMETER_PROBLEM: u8 = 4;
    pub(crate) const ECHO: u8 = 128;
    pub(crate) const ECHO_REPLY: u8 = 129;
    pub(crate) const LISTENER_QUERY: u8 = 130;
    pub(crate) const LISTENER_REPORT: u8 = 131;
    pub(crate) const LISTENER_DONE: u8 = 132;
    pub(crate) const ROUTER_SOLICITATION: u8 = 133;
    pub(crate) const ROUTER_ADVERTISEMENT: u8 = 134;
    pub(crate) const NEIGHBOUR_SOLICITATION: u8 = 135;
    pub(crate) const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
    pub(crate) const REDIRECT: u8 = 137;
    pub(crate) const LISTENER_REPORT_2: u8 = 143;
}

/// Bytes of a transport header that are judged, and have to be there; 0: policy knows nothing but the protocol's number.
#[inline(always)]
pub fn header_len(protocol: u8) -> u32 {
    match protocol {
        TCP => 20,
        DCCP | SCTP => 12,
        UDP | UDP_LITE | ICMP | ICMPV6 => 8,
        _ => 0,
    }
}

/// Where in its header a protocol has its checksum, if senders leave it to the device.
#[inline(always)]
pub fn deferred_checksum(protocol: u8) -> Option<i32> {
    match protocol {
        TCP => Some(16),
        SCTP => Some(8),
        UDP => Some(6),
        _ => None,
    }
}

/// Whether this is no protocol, but an IPv6 extension header before one.
#[inline(always)]
pub fn is_extension(protocol: u8) -> bool {
    // Hop-by-hop, routing, fragment, authentication, none, destination, mobility, HIP, Shim6.
    matches!(protocol, 0 | 43 | 44 | 51 | 59 | 60 | 135 | 139 | 140)
}

/// Whether connections of this protocol begin with a packet that nothing else looks like.
#[inline(always)]
pub fn has_handshake(protocol: u8) -> bool {
    matches!(protocol, TCP | DCCP | SCTP)
}

/// The type of message that one of this type answers.
#[inline(always)]
pub fn question(protocol: u8, answer: u8) -> Option<u8> {
    match (protocol, answer) {
        (ICMP, v4::ECHO_REPLY) => Some(v4::ECHO),
        (ICMP, v4::TIMESTAMP_REPLY) => Some(v4::TIMESTAMP),
        (ICMPV6, v6::ECHO_REPLY) => Some(v6::ECHO),
        _ => None,
    }
}

/// Whether something is expected to come back, under the same identifier.
#[inline(always)]
pub fn is_question(protocol: u8, message: u8) -> bool {
    matches!((protocol, message), (ICMP, v4::ECHO | v4::TIMESTAMP) | (ICMPV6, v6::ECHO))
}

#[inline(always)]
pub fn has_identifier(protocol: u8, message: u8) -> bool {
    is_question(protocol, message) || question(protocol, message).is_some()
}

#[inline(always)]
pub fn is_error(protocol: u8, message: u8) -> bool {
    match protocol {
        ICMP => matches!(message, v4::UNREACHABLE | v4::TIME_EXCEEDED | v4::PARAMETER_PROBLEM),
        ICMPV6 => matches!(message, v6::UNREACHABLE..=v6::PARAMETER_PROBLEM),
        _ => false,
    }
}
