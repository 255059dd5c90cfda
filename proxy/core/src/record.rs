//! One flow, one record.

use core::fmt;
use core::net::SocketAddr;
use parsers::http1::Version;
use policy_model::rule::Protocol;
use policy_model::snapshot::Direction;
use policy_model::{Party, RuleRef};
use std::sync::Arc;

pub use crate::reason::Reason;

/// Who talks to whom; fixed when the connection is accepted. Address roles are types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientAddr(pub SocketAddr);
/// Where the client believes it is connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OrigDst(pub SocketAddr);
/// Where we dial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Upstream(pub SocketAddr);

/// Monotonic and wall-clock time, ns. The shell reads the clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    pub mono_ns: u64,
    pub unix_ns: u64,
}

/// What is known of a finished request or connection. Boxed and recycled: making one allocates nothing once warm.
#[derive(Clone, Debug)]
pub struct FlowRecord {
    /// When the head was complete, or the connection was opened.
    pub unix_ns: u64,
    pub client: ClientAddr,
    pub destination: OrigDst,
    pub protocol: Protocol,
    /// Who was at either end when the flow was judged. Shared with the snapshot that judged.
    pub source: Option<Arc<Party>>,
    pub target: Option<Arc<Party>>,
    pub direction: Direction,
    pub outcome: Outcome,
    /// `None`: allowed and complete.
    pub reason: Option<Reason>,
    pub rule: Option<RuleRef>,
    pub revision: u64,
    /// What a policy that is not in force would have said; `None`: none was asked.
    pub audit: Option<Audit>,
    pub detail: Detail,
    /// Bytes that went from client to server and back.
    pub bytes_up: u64,
    pub bytes_down: u64,
    /// From the complete head to the complete response; 0 where there was none.
    pub latency_ns: u64,
}

impl FlowRecord {
    /// Of a connection of which only its ends are known.
    #[must_use]
    pub fn new(client: ClientAddr, destination: OrigDst) -> Self {
        Self {
            unix_ns: 0,
            client,
            destination,
            protocol: Protocol::TCP,
            source: None,
            target: None,
            direction: Direction::Ingress,
            outcome: Outcome::Forwarded,
            reason: None,
            rule: None,
            revision: 0,
            audit: None,
            detail: Detail::Connection,
            bytes_up: 0,
            bytes_down: 0,
            latency_ns: 0,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// Refused: a request was answered by us, a connection was reset before anything was forwarded.
    Denied,
    /// Cut before its end: by a peer, a limit, a change of policy.
    Ended,
    /// Forwarded, to its end.
    Forwarded,
}

impl Outcome {
    /// As in records and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Denied => "denied",
            Self::Ended => "ended",
            Self::Forwarded => "forwarded",
        }
    }
}

/// A second verdict, which nothing was done about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audit {
    pub outcome: Outcome,
    pub reason: Option<Reason>,
    pub rule: Option<RuleRef>,
}

/// What a flow was, by the protocol that was read. Rendered, parsed and filtered in [`crate::api::detail`].
#[derive(Clone, Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "records are boxed and recycled: a box inside would be allocated"
)]
pub enum Detail {
    /// A connection as a whole.
    Connection,
    Http(HttpInfo),
}

impl Detail {
    /// `None`: the record is of something else.
    pub fn http(&self) -> Option<&HttpInfo> {
        match self {
            Self::Http(http) => Some(http),
            Self::Connection => None,
        }
    }

    /// Makes the record one of a request, where it is not. What a former request has left is still there for `tell`.
    pub(crate) fn tell_http(&mut self, tell: impl FnOnce(&mut HttpInfo)) {
        match self {
            Self::Http(http) => tell(http),
            Self::Connection => {
                let mut http = HttpInfo::default();
                tell(&mut http);
                *self = Self::Http(http);
            }
        }
    }
}

#[derive(Clone, Debug, Default)]
pub struct HttpInfo {
    /// Cut off at [`Text`]'s bound. Empty where the head could not be read.
    pub method: Text<24>,
    /// The path as sent; the query where [`crate::Queries`] says so.
    pub path: Text<256>,
    pub host: Text<96>,
    /// 0 where no response was seen.
    pub status: u16,
    /// `None` where the head could not be read.
    pub version: Option<Version>,
}

/// Text held in place, cut off at `N` bytes (at a character's border).
#[derive(Clone, Copy)]
pub struct Text<const N: usize> {
    bytes: [u8; N],
    len: u16,
    cut: bool,
}

impl<const N: usize> Text<N> {
    /// Keeps the start of `text`.
    pub fn set(&mut self, text: &str) {
        let end = text.floor_char_boundary(N);
        let kept = text.as_bytes().get(..end).unwrap_or_default();
        if let Some(place) = self.bytes.get_mut(..end) {
            place.copy_from_slice(kept);
        }
        self.len = u16::try_from(end).unwrap_or(0);
        self.cut = end < text.len();
    }

    /// Keeps the first `bytes` of `text`, at most; what follows counts as cut off.
    pub fn set_start(&mut self, text: &str, bytes: usize) {
        self.set(text.get(..bytes).unwrap_or(text));
        self.cut |= bytes < text.len();
    }

    pub fn as_str(&self) -> &str {
        let kept = self.bytes.get(..usize::from(self.len)).unwrap_or_default();
        core::str::from_utf8(kept).unwrap_or_default()
    }

    /// Whether something was cut off.
    pub fn is_cut(&self) -> bool {
        self.cut
    }
}

impl<const N: usize> Default for Text<N> {
    fn default() -> Self {
        const { assert!(N <= 0xffff, "the length is kept in 16 bits") };
        Self { bytes: [0; N], len: 0, cut: false }
    }
}

impl<const N: usize> From<&str> for Text<N> {
    fn from(text: &str) -> Self {
        let mut this = Self::default();
        this.set(text);
        this
    }
}

impl<const N: usize> fmt::Display for Text<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())?;
        f.write_str(if self.cut { "…" } else { "" })
    }
}

impl<const N: usize> fmt::Debug for Text<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}{}", self.as_str(), if self.cut { "…" } else { "" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, kept: &str) {
        let text: Text<4> = text.into();
        assert_eq!(text.to_string(), kept);
    }

    #[test]
    fn text_is_cut_at_its_bound() {
        check("", "");
        check("abcd", "abcd");
        check("abcde", "abcd…");
    }

    #[test]
    fn text_is_cut_between_characters() {
        check("abcé", "abc…");
        check("éé", "éé");
    }

    #[test]
    fn a_shorter_text_replaces_a_longer_one() {
        let mut text: Text<4> = "abcde".into();
        text.set("x");
        assert_eq!((text.as_str(), text.is_cut()), ("x", false));
    }
}
