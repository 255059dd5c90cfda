//! The harness: a node and its pods as network namespaces, the daemon in the node, real clients and servers in the pods.
//!
//! Everything that it makes is named after the process and removed when its value is dropped; what a killed process
//! left behind is removed by the next one ([`leftovers`]).
//!
//! INVARIANT: traffic stays on loopback or between the namespaces made here; only processes started here are ended.

pub mod binaries;
pub mod commands;
pub mod leftovers;
pub mod netns;
pub mod pods;
pub mod daemon;
pub mod deathstar;
pub mod device;
pub mod echo;
pub mod policies;
pub mod sockopt;
pub mod keepalive;
pub mod walk;
pub mod fair;
