//! Shared inputs of the benches.

pub mod heaviest;
pub mod http1;
pub mod policies;
