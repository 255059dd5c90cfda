//! Verdicts that were reached without the proxy: by the kernel, or when the publisher cut a direct flow.

use policy_model::snapshot::Direction;
use std::net::SocketAddr;

/// Equal events, counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct L4Record {
    pub(crate) unix_ns: u64,
    pub(crate) source: SocketAddr,
    pub(crate) destination: SocketAddr,
    /// As the kernel's maps said; `None`: as the snapshot says.
    pub(crate) identities: Option<(u32, u32)>,
    /// The number in the IP header.
    pub(crate) protocol: u8,
    pub(crate) direction: Direction,
    pub(crate) outcome: L4Outcome,
    pub(crate) revision: u64,
    pub(crate) count: u64,
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
