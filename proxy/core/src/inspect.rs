//! What every inspector is to the session that drives it.

use crate::cx::Cx;
use crate::event::{Dialled, End, Ending, Side};
use crate::link::Link;
use crate::reason::Reason;
use core::fmt;
use policy_model::snapshot::Admission;

/// A protocol's state machine for one connection. The rules are those of [`crate::session`].
pub(crate) trait Inspect: fmt::Debug {
    fn on_bytes(&mut self, from: Side, bytes: &[u8], link: &mut Link, cx: &mut Cx<'_>) -> Taken;
    fn moved(&mut self, from: Side, bytes: u64);
    fn on_end(&mut self, of: Side, end: End, link: &Link, cx: &mut Cx<'_>);
    fn on_dialled(&mut self, result: Dialled, link: &Link, cx: &mut Cx<'_>);
    /// What a later revision says of the connection.
    fn on_admission(&mut self, admission: Admission, link: &Link, cx: &mut Cx<'_>);
    fn on_timer(&mut self, link: &Link, cx: &mut Cx<'_>);
    /// Ends both sides for a fault, which always leaves a record.
    fn abort(&mut self, reason: Reason, link: &Link, cx: &mut Cx<'_>);

    /// Records what nobody finished.
    fn end(&mut self, why: Ending, link: &Link, cx: &mut Cx<'_>) {
        self.abort(Reason::of_ending(why), link, cx);
    }

    fn wants(&self, from: Side) -> bool;
    /// Nothing is under way that closing the connection now would cut.
    fn is_at_rest(&self) -> bool;
    /// Nothing is under way that another inspector could not know of: a dial, a request, an answer.
    fn has_nothing_pending(&self) -> bool;

    /// Bytes from client to server and back that it has no record for yet.
    fn unrecorded(&self) -> (u64, u64) {
        (0, 0)
    }

    fn is_over(&self) -> bool;
}

/// What came of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Taken {
    pub(crate) consumed: usize,
    /// Who is to go on behind that.
    pub(crate) next: Option<Next>,
}

/// Who may be named to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    not(any(test, feature = "line-protocol")),
    expect(dead_code, reason = "only the test protocol hands over yet")
)]
pub(crate) enum Next {
    Http1,
    Opaque,
}

impl From<usize> for Taken {
    fn from(consumed: usize) -> Self {
        Self { consumed, next: None }
    }
}
