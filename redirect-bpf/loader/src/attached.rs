//! When programs were first attached to each interface, as the kernel keeps it: in the first seconds connections may be older than
//! they, and are adopted more easily.
//!
//! INVARIANT: an interface has one first time, whatever happens to programs and processes since; what has had programs of another
//! version has had it long ago.

use crate::error::Error;

use crate::pins::{Pins, open};
use crate::sys::ktime_ns;
use aya::maps::{HashMap, MapData, MapError};

/// `BPF_NOEXIST`.
const ONCE: u64 = 1;
const LONG_AGO_NS: u64 = 0;

/// By ifindex.
#[derive(Debug)]
pub(crate) struct FirstAttached(HashMap<MapData, u32, u64>);

/// What an interface is to the programs that are to be attached to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Before {
    New,
    /// It has programs of another version.
    OtherVersion,
}

impl FirstAttached {
    pub(crate) fn open(pins: &Pins) -> Result<Self, Error> {
        Ok(Self(open(pins, "ATTACHED")?))
    }

    /// Notes that programs are being attached, if it is for the first time.
    pub(crate) fn note(&mut self, ifindex: u32, before: Before) -> Result<(), Error> {
        let now_ns = match before {
            Before::New => ktime_ns(),
            Before::OtherVersion => LONG_AGO_NS,
        };
        match self.0.insert(ifindex, now_ns, ONCE) {
            Err(MapError::SyscallError(error)) if error.io_error.raw_os_error() == Some(libc::EEXIST) => {
                Ok(())
            }
            other => other.map_err(Error::map("write", "ATTACHED")),
        }
    }

    /// Forgets interfaces that are gone: their numbers may come back.
    pub(crate) fn retain(&mut self, exists: impl Fn(u32) -> bool) -> Result<(), Error> {
        let known: Vec<u32> =
            self.0.keys().collect::<Result<_, _>>().map_err(Error::map("read", "ATTACHED"))?;
        for ifindex in known.into_iter().filter(|ifindex| !exists(*ifindex)) {
            match self.0.remove(&ifindex) {
                Err(MapError::SyscallError(error)) if error.io_error.raw_os_error() == Some(libc::ENOENT) => {
                }
                other => other.map_err(Error::map("remove from", "ATTACHED"))?,
            }
        }
        Ok(())
    }
}
