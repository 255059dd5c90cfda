//! Every bound of a connection. Each has a [`crate::Reason`] and a counter.

pub use parsers::http1::Limits as Http;

/// All durations are nanoseconds. No `Default`: the node file decides (and carries the defaults).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub http: Http,
    /// From the first byte of a head to its end. 10 s by default.
    pub head_ns_max: u64,
    /// Requests forwarded whose response is not complete; further ones wait. 64 by default.
    pub pipelined_max: usize,
    /// Bytes of a denied request's body that are swallowed to keep the connection. 1 MiB by default.
    pub swallow_bytes_max: u64,
    /// Time for that. 10 s by default.
    pub swallow_ns_max: u64,
    /// Time for the upstream to answer the dial. 10 s by default.
    pub dial_ns_max: u64,
    pub queries: Queries,
}

/// What records hold of the part of a target that follows its first `?`. Credentials are often there, and in records they outlive
/// the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queries {
    /// That there was one.
    Hidden,
    Recorded,
}
