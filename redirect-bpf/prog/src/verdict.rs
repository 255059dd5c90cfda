//! What a hook can come to: a packet goes on in one of three ways, or is dropped for one of these reasons.

use redirect_abi::reason;

/// How an admitted packet goes on. Fieldless, as [`Reason`] is: the verifier refuses code that moves a byte which is there in
/// one variant only.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// On its way; whoever it reaches next judges for himself.
    Unmarked,
    /// Judged for its destination too, the local endpoint [`Report::destination`].
    Checked,
    /// Delivered to the proxy on this node.
    ToProxy,
}

/// Why a packet is dropped. The numbers are those of [`redirect_abi::reason`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Reason {
    Policy = reason::POLICY,
    SpoofedSource = reason::SPOOFED_SOURCE,
    Malformed = reason::MALFORMED,
    FragmentOrphan = reason::FRAGMENT_ORPHAN,
    FragmentRedirected = reason::FRAGMENT_REDIRECTED,
    NoListener = reason::NO_LISTENER,
    UnknownL3 = reason::UNKNOWN_L3,
    NoEndpoint = reason::NO_ENDPOINT,
    MappedAddress = reason::MAPPED_ADDRESS,
    ExtensionHeaders = reason::EXTENSION_HEADERS,
    NotRedirectable = reason::NOT_REDIRECTABLE,
    Revoked = reason::REVOKED,
    RedirectRequired = reason::REDIRECT_REQUIRED,
    NoPolicyMap = reason::NO_POLICY_MAP,
    MapFull = reason::MAP_FULL,
    DeferredChecksum = reason::DEFERRED_CHECKSUM,
    Segmentation = reason::SEGMENTATION,
    UntrackedAnswer = reason::UNTRACKED_ANSWER,
    FalseNeighbour = reason::FALSE_NEIGHBOUR,
    FlowQuota = reason::FLOW_QUOTA,
}

pub type Decision = Result<Pass, Reason>;

/// What is known of a packet when it has been judged, for its event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Whose policy decided.
    pub endpoint: u32,
    /// The endpoint that the packet goes to, if it is of this node.
    pub destination: u32,
    pub source_identity: u32,
    pub destination_identity: u32,
    pub epoch: u32,
    /// The interface whose hook this is.
    pub ifindex: u32,
    /// One of [`redirect_abi::direction`].
    pub direction: u8,
    pub opened: Opened,
    /// One of [`redirect_abi::payer`]: who pays for what the packet opens.
    pub payer: u8,
    /// As [`redirect_abi::Payer::endpoint`].
    pub payer_endpoint: u32,
}

/// Whether the packet is the first of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Opened {
    #[default]
    Nothing,
    Direct,
    Redirected,
}

#[cfg(test)]
mod tests;
