//! Sans-IO wire parsers: bytes in, borrowed messages out. `no_std`: there is no socket, clock or file to reach for.
//!
//! A parser answers `Complete`, `Incomplete` or a reason. It never consumes, never guesses, never panics,
//! and nothing is sized by the wire.
#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod http1;

/// The outcome of looking at the start of a stream.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress<T> {
    /// The message and how many bytes of the input it takes.
    Complete { message: T, consumed: usize },
    /// More bytes are needed; nothing was wrong so far.
    Incomplete,
}
