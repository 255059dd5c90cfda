//! Verdicts that were reached without the proxy: by the kernel, or when the publisher cut a direct flow.

use policy_model::RuleRef;
use policy_model::snapshot::Direction;
use std::net::SocketAddr;

/// Equal events, counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct L4Record {
    pub(crate) unix_ns: u64,
    pub(crate) source: SocketAddr,
    pub(crate) destination: SocketAddr,
    /// `None`: the addresses tell who they are.
    pub(crate) judged: Option<Judged>,
    /// The number in the IP header.
    pub(crate) protocol: u8,
    pub(crate) direction: Direction,
    pub(crate) outcome: L4Outcome,
    pub(crate) rule: Option<RuleRef>,
    pub(crate) revision: u64,
    pub(crate) count: u64,
}

/// Who the ends of a packet were to the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Judged {
    /// The endpoint whose interface it came from, whatever source it bears.
    pub(crate) sender: Option<u16>,
    pub(crate) source_identity: u32,
    pub(crate) destination_identity: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum L4Outcome {
    /// A direct connection began.
    Allowed,
    /// A direct flow was cut by a change of policy.
    Cut(&'static str),
    Dropped(&'static str),
}

impl L4Outcome {
    pub(crate) fn verdict(self) -> &'static str {
        match self {
            Self::Allowed => "forwarded",
            Self::Cut(_) => "ended",
            Self::Dropped(_) => "dropped",
        }
    }

    pub(crate) fn reason(self) -> Option<&'static str> {
        match self {
            Self::Allowed => None,
            Self::Cut(reason) | Self::Dropped(reason) => Some(reason),
        }
    }
}
