//! What the shell must do next.

use crate::record::FlowRecord;
use core::ops::Range;

pub use crate::event::Side;

/// One thing to do. Steps are carried out in order, and all of them before the next call.
#[must_use]
#[derive(Debug)]
pub enum Step {
    /// Open the upstream connection, then call `on_dialled`. At most once in a connection.
    Dial,
    /// No more bytes will go to this side: send what is queued, then FIN.
    Finish {
        to: Side,
    },
    /// Send these bytes of the input of this call to the other side. Ranges ascend and are disjoint; what lies between is not sent.
    Forward {
        to: Side,
        range: Range<usize>,
    },
    Record(Box<FlowRecord>),
    /// Abort both sides with RST; nothing follows. Queued bytes to the client are still sent where `Finish` came before.
    Reset,
    /// Send bytes of our own.
    Send {
        to: Side,
        bytes: Reply,
    },
    /// The next `bytes` from this side go to the other one without being shown to the session; `Session::moved` counts them.
    Splice {
        from: Side,
        bytes: u64,
    },
    /// The next `bytes` from this side are dropped without being shown to the session.
    Swallow {
        from: Side,
        bytes: u64,
    },
    /// Call `on_timer` at this monotonic time (ns). A later one replaces it; `u64::MAX` clears it.
    WakeAt(u64),
}

/// Bytes of our own making.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    Owned(Box<[u8]>),
    Static(&'static [u8]),
}

impl Reply {
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Owned(bytes) => bytes,
            Self::Static(bytes) => bytes,
        }
    }
}

/// Adds a `Forward`, or lengthens the last one: sixteen pipelined requests of one read are one send.
/// Records in between don't matter; anything else that the peer could see does.
pub(crate) fn forward(steps: &mut Vec<Step>, to: Side, range: Range<usize>) {
    if range.is_empty() {
        return;
    }
    let seen = steps.iter_mut().rev().find(|step| !matches!(step, Step::Record(_)));
    if let Some(Step::Forward { to: before, range: sent }) = seen
        && *before == to
        && sent.end == range.start
    {
        sent.end = range.end;
        return;
    }
    steps.push(Step::Forward { to, range });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(ranges: &[(Side, Range<usize>)], expect: &[(Side, Range<usize>)]) {
        let mut steps = Vec::new();
        for (to, range) in ranges {
            forward(&mut steps, *to, range.clone());
        }
        let mut made = Vec::new();
        for step in steps {
            let Step::Forward { to, range } = step else { panic!("{step:?}") };
            made.push((to, range));
        }
        assert_eq!(made, expect);
    }

    #[test]
    fn adjacent_ranges_become_one() {
        check(&[(Side::Server, 0..3), (Side::Server, 3..5)], &[(Side::Server, 0..5)]);
    }

    #[test]
    fn gaps_and_other_sides_stay_apart() {
        let apart = [(Side::Server, 0..3), (Side::Server, 4..5), (Side::Client, 5..6)];
        check(&apart, &apart);
    }

    #[test]
    fn empty_ranges_vanish() {
        check(&[(Side::Server, 3..3)], &[]);
    }
}
