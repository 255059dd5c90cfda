//! Odd packets and the life of connections against the kernel programs, on both families. What a backend saw is read from
//! its own log.

mod connections;
mod errors;
mod neighbours;
mod odd;
mod older;
mod openers;
mod promises;
mod raw;
mod stage;
