//! Request and response heads, read in place: what is judged is a view of the bytes that are forwarded.
//!
//! One pass over the bytes, which refuses every deviation that two parsers could take for different messages.
//! The line of thought is in the tests: each deviation has its own [`HeadError`].

mod authority;
mod connection;
mod error;
mod field;
mod framing;
mod request;
mod response;
mod search;
mod upgrade;

pub use error::HeadError;
pub use field::{Field, Fields};
pub use framing::Version;
pub use request::{Request, request};
pub use response::{AnsweredMethod, Response, response};
pub use search::HeadScan;
pub use upgrade::Upgrade;
