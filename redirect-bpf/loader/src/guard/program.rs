//! The guard's program, instruction by instruction: aya has no programs of netfilter, and the toolchain of the others no way to
//! read the kernel's own structures. Pure but for the reading of the kernel's types.

use super::{Hook, kind};
use crate::assembler::{Assembler, Helper, Label, Register, Size};
use crate::btf::{self, Btf};
use crate::error::Error;
use crate::routes::Family;
use crate::sys::Instruction;
use redirect_abi::{family, identity, mark, reason};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Where the kernel keeps what the program reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Offsets {
    skb_head: i16,
    skb_mark: i16,
    skb_network_header: i16,
    state_in: i16,
    state_out: i16,
    device_ifindex: i16,
    /// Null where an interface has no program of that direction, ours or not. Since Linux 6.6.
    device_programs: Option<[i16; 2]>,
}

/// The maps that the program asks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Descriptors<'a> {
    pub(super) addresses: BorrowedFd<'a>,
    pub(super) counters: BorrowedFd<'a>,
    pub(super) interfaces: BorrowedFd<'a>,
    pub(super) ipcache: BorrowedFd<'a>,
}

/// One end of a packet: where its address is in the header, and its interface in the state of the hook.
#[derive(Clone, Copy, Debug)]
struct End {
    address: i32,
    interface: i16,
}

/// The number of `lo` in every network namespace.
const LOOPBACK: i32 = 1;
const NF_DROP: i32 = 0;
const NF_ACCEPT: i32 = 1;

/// Members of `struct bpf_nf_ctx`.
const CONTEXT_STATE: i16 = 0;
const CONTEXT_SKB: i16 = 8;

// The stack: a key of IPCACHE, whose address is a key of ADDRESSES as well, and below it a key of one word.
const KEY: i16 = -24;
const KEY_LEN: i16 = 24;
const KEY_FAMILY: i16 = KEY + 4;
const KEY_ADDRESS: i16 = KEY + 5;
const WORD: i16 = -32;
/// The whole address, and the family before it.
const KEY_BITS: i32 = 8 + 128;

impl Offsets {
    /// An error: this kernel does not say where.
    pub(super) fn of_this_kernel() -> io::Result<Self> {
        let bytes = std::fs::read(btf::KERNEL)?;
        let types = Btf::parse(&bytes).map_err(io::Error::other)?;
        Self::of(&types)
    }

    fn of(types: &Btf<'_>) -> io::Result<Self> {
        let find = |structure: &str, member: &str| {
            let place = types.member(structure, member).filter(|place| place.bits == 0);
            let byte = place.and_then(|place| i16::try_from(place.byte).ok());
            byte.ok_or_else(|| io::Error::other(format!("no member `{member}` of `{structure}`")))
        };
        let programs = [find("net_device", "tcx_ingress"), find("net_device", "tcx_egress")];
        let [ingress, egress] = programs;
        Ok(Self {
            skb_head: find("sk_buff", "head")?,
            skb_mark: find("sk_buff", "mark")?,
            skb_network_header: find("sk_buff", "network_header")?,
            state_in: find("nf_hook_state", "in")?,
            state_out: find("nf_hook_state", "out")?,
            device_ifindex: find("net_device", "ifindex")?,
            device_programs: ingress.ok().zip(egress.ok()).map(|(ingress, egress)| [ingress, egress]),
        })
    }
}

/// R6: the state of the hook; R8: the IP header; R7: an interface; R9: whether its address is an endpoint's.
pub(super) fn guard(
    hook: Hook,
    family: Family,
    offsets: &Offsets,
    maps: &Descriptors<'_>,
) -> Result<Vec<Instruction>, Error> {
    use Register::{Frame, R0, R1, R2, R6, R7, R8};
    let mut code = Assembler::default();
    let (drop, drop_marked, count) = (code.label(), code.label(), code.label());
    code.load(Size::Double, R6, R1, CONTEXT_STATE);
    code.load(Size::Double, R7, R1, CONTEXT_SKB);
    if hook == Hook::Forward {
        // Marked for the proxy, and on its way to somebody else: the rule that delivers it is gone.
        code.load(Size::Word, R2, R7, offsets.skb_mark);
        code.and_value(R2, value(mark::MASK));
        code.jump_if_equal(R2, value(mark::TO_PROXY), drop_marked);
    }
    code.load(Size::Double, R8, R7, offsets.skb_head);
    code.load(Size::Half, R2, R7, offsets.skb_network_header);
    code.add(R8, R2);
    write_key(&mut code, family);
    judge(&mut code, family, end(hook, family, offsets), offsets, maps, drop);
    code.set(R0, NF_ACCEPT);
    code.exit();
    if hook == Hook::Forward {
        code.put(drop_marked);
        code.store_value(Size::Word, Frame, WORD, reason::NO_LISTENER.into());
        code.jump(count);
    }
    code.put(drop);
    code.store_value(Size::Word, Frame, WORD, reason::NO_PROGRAMS.into());
    code.put(count);
    look_up(&mut code, maps.counters, WORD);
    let uncounted = code.label();
    code.jump_if_equal(R0, 0, uncounted);
    code.set(R1, 1);
    code.add_to_memory(R0, R1);
    code.put(uncounted);
    code.set(R0, NF_DROP);
    code.exit();
    let failed = |cause| Error::Guard { action: "make the program", family: family.name(), cause };
    code.finish().ok_or_else(|| failed(io::Error::other("a jump goes nowhere")))
}

/// The source where packets come in, the destination where they leave, in either family's header.
fn end(hook: Hook, family: Family, offsets: &Offsets) -> End {
    let [source, destination] = match family {
        Family::V4 => [12, 16],
        Family::V6 => [8, 24],
    };
    match hook {
        Hook::Forward | Hook::LocalIn => End { address: source, interface: offsets.state_in },
        Hook::PostRouting => End { address: destination, interface: offsets.state_out },
    }
}

/// What is the same in the keys of all addresses of a family.
fn write_key(code: &mut Assembler, family: Family) {
    let number = match family {
        Family::V4 => family::IPV4,
        Family::V6 => family::IPV6,
    };
    code.store_value(Size::Word, Register::Frame, KEY, KEY_BITS);
    code.store_value(Size::Byte, Register::Frame, KEY_FAMILY, number.into());
    for (at, byte) in (KEY_ADDRESS..KEY + KEY_LEN).zip(redirect_abi::IPV4_PREFIX.iter().chain(&[0; 7])) {
        code.store_value(Size::Byte, Register::Frame, at, (*byte).into());
    }
}

fn judge(
    code: &mut Assembler,
    family: Family,
    end: End,
    offsets: &Offsets,
    maps: &Descriptors<'_>,
    drop: Label,
) {
    use Register::{Frame, R0, R1, R6, R7, R9};
    let [judged, endpoints, known, programs] = [(); 4].map(|()| code.label());
    read_address(code, family, end, drop);
    look_up(code, maps.addresses, KEY_ADDRESS);
    code.set(R9, 1);
    code.jump_if_different(R0, 0, endpoints);
    code.set(R9, 0);
    look_up(code, maps.ipcache, KEY);
    code.jump_if_equal(R0, 0, judged);
    code.load(Size::Word, R0, R0, 0);
    // Of a pod network, and nobody's.
    code.jump_if_different(R0, identity_value(), judged);
    code.put(endpoints);
    code.load(Size::Double, R7, R6, end.interface);
    code.load(Size::Word, R1, R7, offsets.device_ifindex);
    // The node speaks to itself, perhaps in the name of an endpoint: that is the proxy.
    code.jump_if_equal(R1, LOOPBACK, judged);
    code.store(Size::Word, Frame, WORD, R1);
    look_up(code, maps.interfaces, WORD);
    code.jump_if_different(R0, 0, known);
    code.jump(drop);
    code.put(known);
    code.load(Size::Word, R0, R0, 0);
    code.jump_if_equal(R0, value(kind::HOOKED), programs);
    code.jump_if_equal(R0, value(kind::CARRIER), judged);
    code.jump_if_equal(R9, 0, judged);
    code.jump(drop);
    code.put(programs);
    // A number that was given to another interface meanwhile: that one has none.
    for place in offsets.device_programs.iter().flatten() {
        code.load(Size::Double, R1, R7, *place);
        code.jump_if_equal(R1, 0, drop);
    }
    code.put(judged);
}

/// Into the key. IPv4 addresses follow the prefix that is there.
fn read_address(code: &mut Assembler, family: Family, end: End, drop: Label) {
    use Register::{Frame, R0, R1, R2, R3, R8};
    let (at, len) = match family {
        Family::V4 => (KEY_ADDRESS + 12, 4),
        Family::V6 => (KEY_ADDRESS, 16),
    };
    code.copy(R1, Frame);
    code.add_value(R1, at.into());
    code.set(R2, len);
    code.copy(R3, R8);
    code.add_value(R3, end.address);
    code.call(Helper::ProbeReadKernel);
    code.jump_if_different(R0, 0, drop);
}

fn look_up(code: &mut Assembler, map: BorrowedFd<'_>, key: i16) {
    code.map(Register::R1, map.as_raw_fd());
    code.copy(Register::R2, Register::Frame);
    code.add_value(Register::R2, key.into());
    code.call(Helper::MapLookup);
}

fn identity_value() -> i32 {
    value(identity::UNKNOWN)
}

/// Numbers of ours are small.
fn value(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_that_does_not_say_where_members_are_is_not_guessed_at() {
        let empty = [&0xeb9f_u16.to_ne_bytes()[..], &[1, 0, 24, 0, 0, 0], &[0; 16]].concat();
        let error = Offsets::of(&Btf::parse(&empty).unwrap()).unwrap_err();
        assert_eq!(error.to_string(), "no member `head` of `sk_buff`");
    }
}
