//! The loader and the kernel programs on real interfaces. All of it needs root.
#![cfg(test)]

mod fixture;
mod lifecycle;
mod peers;
mod traffic;
