//! What the kernel keeps beside a frame's bytes, and will do to them behind the hook: fill in a checksum, cut into segments.
//!
//! A sender in a pod writes these too: with a raw socket (`PACKET_VNET_HDR`), or as a virtual machine behind its tap device.
//! INVARIANT: what the device will write lies in the checksum of the header that was judged, or behind everything judged; what
//! it cuts has its whole header in every segment.

use crate::protocol;
use crate::verdict::Reason;

/// Flat: the verifier refuses code that moves a value which is there in one variant only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Promises {
    /// A checksum is left to the device.
    pub checksum: bool,
    /// Where its sum begins, from the start of the frame. Negative: before it.
    pub checksum_start: i32,
    /// Where it is written, from where its sum begins.
    pub checksum_offset: i32,
    /// The payload of each segment that the frame will be cut into; 0: it stays whole.
    pub segment_bytes: u32,
}

/// Smaller ones no sender makes: the least segment of TCP that a kernel will send, and a UDP header, which has to be in the
/// first of the fragments that a datagram may be cut into.
const SEGMENT_BYTES_MIN: u32 = 8;

impl Promises {
    pub const NONE: Self = Self { checksum: false, checksum_start: 0, checksum_offset: 0, segment_bytes: 0 };

    /// Where every byte may have been judged, or it is not known what they are.
    #[inline(always)]
    pub fn check_none(&self) -> Result<(), Reason> {
        if self.checksum { Err(Reason::DeferredChecksum) } else { self.check_uncut() }
    }

    /// Of a packet with this transport header. An inner checksum of a tunnel of the pod's own lies behind it.
    #[inline(always)]
    pub fn check_checksum(&self, transport: u32, protocol: u8) -> Result<(), Reason> {
        let end = transport + protocol::header_len(protocol);
        let is_own = self.checksum_start == transport.cast_signed()
            && protocol::deferred_checksum(protocol) == Some(self.checksum_offset);
        let is_behind = self.checksum_start.wrapping_add(self.checksum_offset) >= end.cast_signed();
        if !self.checksum || is_own || is_behind { Ok(()) } else { Err(Reason::DeferredChecksum) }
    }

    /// Of a packet that is no fragment.
    #[inline(always)]
    pub fn check_segments(&self) -> Result<(), Reason> {
        if self.segment_bytes >= SEGMENT_BYTES_MIN { Ok(()) } else { self.check_uncut() }
    }

    #[inline(always)]
    pub fn check_uncut(&self) -> Result<(), Reason> {
        if self.segment_bytes != 0 { Err(Reason::Segmentation) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests;
