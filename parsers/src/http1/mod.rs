//! HTTP/1.0 and 1.1 (RFC 9110, RFC 9112): heads, targets, body framing. Stricter than the RFC where backends differ.

pub mod body;
pub mod head;
pub mod limits;
mod syntax;
pub mod target;

pub use body::{Advance, Body, BodyError, BodyLength, NAME_BYTES, NameEnd};
pub use head::{Field, HeadError, HeadScan, Request, Response, Upgrade, Version};
pub use limits::Limits;
pub use target::{Readings, TargetError};
