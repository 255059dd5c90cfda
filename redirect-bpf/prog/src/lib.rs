//! The logic of the kernel programs, free of the kernel: a packet and some tables in, a decision out.
//!
//! Everything here compiles for the host too, where it is tested and fuzzed; `main.rs` puts the maps under it.
//! INVARIANT: nothing allocates, panics or loops without a bound, and no frame is large: the verifier counts 512 bytes of stack.
#![no_std]

#[cfg(any(test, feature = "model"))]
extern crate std;

pub mod protocol;
pub mod tables;
pub mod verdict;
pub mod promises;
pub mod packet;
pub mod aggregate;
pub mod icmp;
pub mod policy;
pub mod neighbours;
pub mod adoption;
pub mod rate;
pub mod quota;
pub mod fragments;
pub mod conntrack;
pub mod redirect;
pub mod from_endpoint;
pub mod to_endpoint;
#[cfg(any(test, feature = "model"))]
pub mod model;
