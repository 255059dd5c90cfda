//! What is allowed. Pure: policies in, an immutable [`Snapshot`] out, verdicts on request.
//!
//! It knows no bytes of any protocol, no sockets, no files and no clock.
//!
//! INVARIANT: a [`Permit`] is only ever made by the questions of [`Snapshot`].
//! INVARIANT: absence never means permission; every denial has a [`DenyReason`].

pub mod labels;
pub mod cidr;
pub mod selector;
pub mod pattern;
pub mod automata;
pub mod rule;
pub mod parse;
pub mod verdict;
pub mod http;
pub mod identity;
pub mod inputs;
mod addresses;
mod peers;
mod ports;
mod compiled;
mod directory;
pub mod snapshot;
pub mod resolve;
pub mod explain;

pub use directory::Directory;
pub use identity::{Identity, IdentityId, Party};
pub use inputs::Inputs;
pub use resolve::resolve;
pub use snapshot::{Connection, Flow, Snapshot};
pub use verdict::{Denial, DenyReason, Permit, RuleRef, Verdict};
