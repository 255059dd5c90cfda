//! A connection as a state machine: bytes, ends, answers of the dial and time come in; [`Step`]s come out.
//!
//! No socket, no clock, no task, no lock.
//!
//! INVARIANT: bytes of a request are forwarded only after its verdict was a `Permit`, and exactly as they came.
//! INVARIANT: every request and every connection without one ends in exactly one [`FlowRecord`].

mod bodies;
mod event;
pub mod limits;
pub mod reason;
pub mod record;
pub mod api;
mod exchange;
pub mod step;
mod cx;
mod denial;
pub mod explain;
mod link;
mod inspect;
mod http1;
#[cfg(any(test, feature = "line-protocol"))]
mod line;
mod opaque;
pub mod session;
pub mod shares;
pub mod text;

#[cfg(test)]
mod tests;

pub use limits::{Limits, Queries};
pub use record::{FlowRecord, Reason};
pub use session::Session;
pub use step::{Side, Step};
