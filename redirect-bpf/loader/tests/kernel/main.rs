//! The loader and the kernel programs on real interfaces. All of it needs root.
#![cfg(test)]
#![expect(unsafe_code, reason = "a thread leaves the mounts of the others")]

mod clsact;
mod fixture;
mod guard;
mod lifecycle;
mod links;
mod metadata;
mod namespace;
mod neighbours;
mod peers;
mod quotas;
mod refusals;
mod repairs;
mod traffic;
