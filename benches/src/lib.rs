//! Shared inputs of the benches.

pub mod http1;
pub mod policies;
