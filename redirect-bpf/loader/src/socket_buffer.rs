//! Makes the object fit this kernel: where `struct sk_buff` has what the programs read, and the number of the one function of
//! the kernel's own that they call.
//!
//! The programs call a helper with a number that none has; that call becomes one of the kernel's function here, or nothing.
//! INVARIANT: one call is changed. None, or a second, is another object, which is refused.
//! INVARIANT: a kernel that can't be read runs the programs all the same, without this check, and says so.

use crate::btf::Btf;
use redirect_abi::SocketBuffer;
use std::io;

/// The object was built from other sources than this loader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OtherObject;

/// What the programs have to know of this kernel's packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) buffer: SocketBuffer,
    /// The number of [`SocketBuffer::CAST_FUNCTION`].
    cast: u32,
}

/// `call`, with what kind of number follows in the upper half of the second byte: 0 a helper, 2 a function of the kernel.
const CALL: [u8; 4] = [0x85, 0, 0, 0];
const CALL_KERNEL: [u8; 4] = [0x85, 0x20, 0, 0];
/// r0 = 0, in place of a call that is never made.
const NOTHING: [u8; INSTRUCTION_LEN] = [0xb7, 0, 0, 0, 0, 0, 0, 0];
const ELF: &[u8] = b"\x7fELF";
const INSTRUCTION_LEN: usize = 8;
/// `ip_summed` has two bits, whole in one byte.
const IP_SUMMED_BITS: u32 = 2;
const BYTE_BITS: u32 = 8;

impl Layout {
    /// Of what the kernel says of its types; why it can't be told.
    pub(crate) fn read(types: io::Result<Vec<u8>>) -> Result<Self, String> {
        let bytes = types.map_err(|error| format!("no types of the kernel: {error}"))?;
        let btf = Btf::parse(&bytes).map_err(|error| format!("types of the kernel: {error}"))?;
        let place = |member: &str| {
            btf.member("sk_buff", member).ok_or_else(|| format!("`sk_buff` has no `{member}`"))
        };
        let ip_summed = place("ip_summed")?;
        if ip_summed.bits != IP_SUMMED_BITS || ip_summed.shift > BYTE_BITS - IP_SUMMED_BITS {
            return Err("`ip_summed` is no two bits of a byte".into());
        }
        let cast = btf
            .function(SocketBuffer::CAST_FUNCTION)
            .ok_or_else(|| format!("the kernel has no `{}`", SocketBuffer::CAST_FUNCTION))?;
        let buffer = SocketBuffer {
            known: 1,
            ip_summed: ip_summed.byte,
            ip_summed_shift: ip_summed.shift,
            csum_start: place("csum_start")?.byte,
            csum_offset: place("csum_offset")?.byte,
            head: place("head")?.byte,
            data: place("data")?.byte,
        };
        Ok(Self { buffer, cast })
    }

    /// Changes the call in an object; what is no object at all is left to the kernel's loader to refuse. `Layout::default()`: nothing is called.
    pub(crate) fn patch(&self, object: &mut [u8]) -> Result<(), OtherObject> {
        if !object.starts_with(ELF) {
            return Ok(());
        }
        let call = |kind: [u8; 4], number: u32| {
            let [a, b, c, d] = kind;
            let [e, f, g, h] = number.to_le_bytes();
            [a, b, c, d, e, f, g, h]
        };
        let (old, new) = match self.buffer.known {
            0 => (call(CALL, SocketBuffer::CAST_CALL), NOTHING),
            _ => (call(CALL, SocketBuffer::CAST_CALL), call(CALL_KERNEL, self.cast)),
        };
        let mut instructions = object.chunks_exact_mut(INSTRUCTION_LEN).filter(|bytes| **bytes == old);
        match (instructions.next(), instructions.next()) {
            (Some(call), None) => {
                call.copy_from_slice(&new);
                Ok(())
            }
            _ => Err(OtherObject),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARKED: [u8; 8] = [0x85, 0, 0, 0, 0x1e, 0xab, 0xa1, 0x5c];
    const OTHER: [u8; 8] = [0x85, 0, 0, 0, 1, 0, 0, 0];
    const HEAD: [u8; 8] = *b"\x7fELF\x02\x01\x01\0";

    fn known(cast: u32) -> Layout {
        Layout { buffer: SocketBuffer { known: 1, ..SocketBuffer::default() }, cast }
    }

    #[test]
    fn the_call_becomes_one_of_the_kernels_function() {
        let mut object = [HEAD, MARKED, OTHER].concat();
        known(0x0001_0203).patch(&mut object).unwrap();
        let call = [0x85, 0x20, 0, 0, 3, 2, 1, 0];
        assert_eq!(object, [HEAD, call, OTHER].concat());
    }

    #[test]
    fn the_call_becomes_nothing_where_the_kernel_is_not_known() {
        let mut object = [HEAD, MARKED, OTHER].concat();
        Layout::default().patch(&mut object).unwrap();
        assert_eq!(object, [HEAD, NOTHING, OTHER].concat());
    }

    #[test]
    fn another_number_of_calls_is_another_object() {
        for count in [0, 2, 3] {
            let object = [&HEAD[..], &MARKED.repeat(count)].concat();
            for layout in [Layout::default(), known(7)] {
                let mut patched = object.clone();
                assert_eq!(layout.patch(&mut patched), Err(OtherObject));
                assert_eq!(patched, object, "changed all the same");
            }
        }
        // Not where an instruction could be.
        let mut shifted = [&HEAD[..], &[0; 4], &MARKED, &[0; 4]].concat();
        assert_eq!(known(7).patch(&mut shifted), Err(OtherObject));
    }

    #[test]
    fn what_is_no_object_is_left_alone() {
        let mut text = b"root:x:0:0".to_vec();
        assert_eq!(known(7).patch(&mut text), Ok(()));
    }

    #[test]
    fn a_kernel_that_does_not_tell_its_types_is_named() {
        let error = Layout::read(Err(io::ErrorKind::NotFound.into())).unwrap_err();
        assert!(error.starts_with("no types of the kernel"), "{error}");
        assert_eq!(Layout::read(Ok(vec![0; 64])).unwrap_err(), "types of the kernel: no BTF header");
    }

    #[test]
    fn this_kernel_is_known() {
        // Not every kernel describes its types.
        let Ok(bytes) = std::fs::read(crate::btf::KERNEL) else { return };
        let layout = Layout::read(Ok(bytes)).unwrap();
        assert_eq!(layout.buffer.known, 1);
        assert_eq!(layout.buffer.csum_offset, layout.buffer.csum_start + 2);
        assert!(layout.cast > 0);
    }
}
