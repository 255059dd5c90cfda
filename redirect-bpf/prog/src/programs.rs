//! The entry points: each reads what the kernel hands it, asks the logic, and turns the answer into an action.

use aya_ebpf::bindings::sk_action::{SK_DROP, SK_PASS};
use aya_ebpf::bindings::{__sk_buff, TC_ACT_OK, TC_ACT_SHOT};
use aya_ebpf::macros::{classifier, sk_lookup};
use aya_ebpf::programs::{SkLookupContext, TcContext};
use core::mem::transmute;
use core::ptr::{self, addr_of};
use redirect_abi::{FlowKey, SocketBuffer, collect as ask, counter, kind, listener, mark, verdict};
use redirect_prog::packet::{Arrival, Bytes, Packet, is_mapped, mapped};
use redirect_prog::promises::Promises;
use redirect_prog::protocol;
use redirect_prog::verdict::{Decision, Opened, Pass, Reason, Report};
use redirect_prog::{from_endpoint, quota, to_endpoint};

use crate::events;
use crate::maps::{Hook, LISTENERS, Maps, PROXIED, Scratch, count};

/// Of `ip_summed`: the device completes the checksum.
const CHECKSUM_PARTIAL: u8 = 3;
const AF_INET: u32 = 2;
const AF_INET6: u32 = 10;

/// On the node's end of an endpoint's interface, TCX ingress.
#[classifier]
pub(crate) fn from_endpoint(context: TcContext) -> i32 {
    let Some(Scratch { packet, report }) = Scratch::of(Hook::FromEndpoint) else { return TC_ACT_SHOT };
    let arrival = arrival(&context);
    let decision = from_endpoint::judge(&Maps, &Frame(&context), &arrival, packet, report);
    act(&context, arrival.ifindex, decision, packet, report)
}

/// On the node's end of an endpoint's interface, TCX egress.
#[classifier]
pub(crate) fn to_endpoint(context: TcContext) -> i32 {
    let Some(Scratch { packet, report }) = Scratch::of(Hook::ToEndpoint) else { return TC_ACT_SHOT };
    let arrival = arrival(&context);
    let decision = to_endpoint::judge(&Maps, &Frame(&context), &arrival, packet, report);
    act(&context, arrival.ingress_ifindex, decision, packet, report)
}

/// `came_from`: the interface that the packet entered the node by.
#[inline(always)]
fn act(context: &TcContext, came_from: u32, decision: Decision, packet: &Packet, report: &Report) -> i32 {
    match report.opened {
        Opened::Nothing => {}
        Opened::Direct => {
            count(counter::ALLOWED_FLOWS);
            events::tell(packet, report, came_from, verdict::ALLOW, 0);
        }
        Opened::Redirected => count(counter::REDIRECTED),
    }
    match decision {
        Ok(Pass::Unmarked) => TC_ACT_OK,
        Ok(Pass::Checked) => {
            context.set_mark(mark::CHECKED | report.destination << mark::CHECKED_FOR_SHIFT);
            TC_ACT_OK
        }
        Ok(Pass::ToProxy) => {
            context.set_mark(mark::TO_PROXY);
            TC_ACT_OK
        }
        Err(reason) => {
            drop_for(packet, report, came_from, reason);
            TC_ACT_SHOT
        }
    }
}

#[inline(always)]
fn drop_for(packet: &Packet, report: &Report, came_from: u32, reason: Reason) {
    count(u32::from(reason as u8));
    events::tell(packet, report, came_from, verdict::DENY, reason as u8);
}

struct Frame<'a>(&'a TcContext);

impl Bytes for Frame<'_> {
    #[inline(always)]
    fn load<const N: usize>(&self, offset: u32) -> Option<[u8; N]> {
        self.0.load(offset as usize).ok()
    }

    #[inline(always)]
    fn promises(&self) -> Promises {
        let mut promises = Promises::NONE;
        read_promises(self.0.skb.skb, &mut promises);
        promises
    }
}

#[inline(always)]
fn arrival(context: &TcContext) -> Arrival {
    let skb = context.skb.skb;
    // SAFETY: the context is the kernel's, and these are fields of it that a classifier may read.
    unsafe {
        Arrival {
            // In network order, in the low half.
            ethertype: u16::from_be((*skb).protocol as u16),
            tagged: (*skb).vlan_present != 0,
            ifindex: (*skb).ifindex,
            ingress_ifindex: (*skb).ingress_ifindex,
            mark: (*skb).mark,
        }
    }
}

/// Where this kernel keeps it. Written by the loader; the verifier takes it for constants.
#[unsafe(no_mangle)]
static SOCKET_BUFFER: SocketBuffer = SocketBuffer {
    known: 0,
    ip_summed: 0,
    ip_summed_shift: 0,
    csum_start: 0,
    csum_offset: 0,
    head: 0,
    data: 0,
};

/// A member of [`SOCKET_BUFFER`]. Volatile: the compiler would take its own zeros for it.
macro_rules! place {
    ($member:ident) => {
        // SAFETY: a static of this object, which nobody writes to while it runs.
        unsafe { ptr::read_volatile(addr_of!(SOCKET_BUFFER.$member)) }
    };
}

/// A call of its own: the loader has to find the one call of the kernel's function in it.
#[inline(never)]
fn read_promises(skb: *mut __sk_buff, promises: &mut Promises) {
    // SAFETY: the context is the kernel's, and this is a field of it that a classifier may read.
    promises.segment_bytes = unsafe { (*skb).gso_size };
    if place!(known) == 0 {
        return;
    }
    // SAFETY: the loader puts the number of the kernel's function here, and `known` says that it has.
    let cast: extern "C" fn(*mut __sk_buff) -> *const u8 =
        unsafe { transmute(SocketBuffer::CAST_CALL as usize) };
    let buffer = cast(skb);
    macro_rules! member {
        ($kind:ty, $member:ident) => {{
            let place = place!($member) as usize;
            // SAFETY: the kernel's own structure, read where its description says that the member is.
            unsafe { ptr::read_volatile(buffer.add(place).cast::<$kind>()) }
        }};
    }
    promises.checksum = (member!(u8, ip_summed) >> place!(ip_summed_shift)) & 3 == CHECKSUM_PARTIAL;
    if promises.checksum {
        // `csum_start` counts from the start of the buffer; the frame begins at `data`.
        let start = member!(u64, head).wrapping_add(u64::from(member!(u16, csum_start)));
        promises.checksum_start = start.wrapping_sub(member!(u64, data)) as i32;
        promises.checksum_offset = i32::from(member!(u16, csum_offset));
    }
}

/// Run by the loader, on no interface: removes flows that have expired, or that it names. As removing and accounting are one
/// step here, a loader that is killed leaves no account that is wrong.
#[classifier]
pub(crate) fn collect(context: TcContext) -> i32 {
    let Ok(asked) = context.load::<u8>(0) else { return TC_ACT_SHOT };
    for place in 0..ask::KEYS_MAX {
        let offset = ask::HEAD_BYTES + place * size_of::<FlowKey>();
        let Ok(key) = context.load::<FlowKey>(offset) else { break };
        match asked {
            ask::EXPIRED => quota::remove_expired(&Maps, &key),
            ask::BORROWED => quota::take_back(&Maps, &key),
            _ => return TC_ACT_SHOT,
        }
    }
    TC_ACT_OK
}

/// In the node's network namespace: a connection that was redirected goes to the proxy's listener, whatever port it is for.
#[sk_lookup]
pub(crate) fn pick_listener(context: SkLookupContext) -> u32 {
    let Some(key) = looked_up(&context) else { return SK_PASS };
    if PROXIED.get_ptr(&key).is_none() {
        return SK_PASS;
    }
    let listener = if is_mapped(&key.source) { listener::IPV4 } else { listener::IPV6 };
    match LISTENERS.redirect_sk_lookup(&context, listener, 0) {
        Ok(()) => SK_PASS,
        // The proxy is down. A listener of the host's must not answer in its place.
        Err(_) => SK_DROP,
    }
}

/// The connection that a socket is looked for.
#[inline(always)]
fn looked_up(context: &SkLookupContext) -> Option<FlowKey> {
    let lookup = context.lookup;
    macro_rules! field {
        ($($place:tt)+) => {
            // SAFETY: the context is the kernel's, and this is a field of it. Volatile: a read that is made under a condition
            // becomes one at an offset that depends on it, which the verifier refuses.
            unsafe { ptr::read_volatile(addr_of!((*lookup).$($place)+)) }
        };
    }
    let remote4 = field!(remote_ip4);
    let local4 = field!(local_ip4);
    let remote6 =
        words([field!(remote_ip6[0]), field!(remote_ip6[1]), field!(remote_ip6[2]), field!(remote_ip6[3])]);
    let local6 =
        words([field!(local_ip6[0]), field!(local_ip6[1]), field!(local_ip6[2]), field!(local_ip6[3])]);
    let (source, destination) = match field!(family) {
        AF_INET => (mapped(remote4.to_ne_bytes()), mapped(local4.to_ne_bytes())),
        AF_INET6 => (remote6, local6),
        _ => return None,
    };
    (field!(protocol) == u32::from(protocol::TCP)).then_some(FlowKey {
        source,
        destination,
        source_port: field!(remote_port).to_ne_bytes(),
        destination_port: (field!(local_port) as u16).to_be_bytes(),
        protocol: protocol::TCP,
        kind: kind::PROXY_DOWNSTREAM,
        pad: [0; 2],
    })
}

#[inline(always)]
fn words([a, b, c, d]: [u32; 4]) -> [u8; 16] {
    let (a, b, c, d) = (a.to_ne_bytes(), b.to_ne_bytes(), c.to_ne_bytes(), d.to_ne_bytes());
    [a[0], a[1], a[2], a[3], b[0], b[1], b[2], b[3], c[0], c[1], c[2], c[3], d[0], d[1], d[2], d[3]]
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // The verifier refuses a program that could come here.
    loop {}
}

/// Several helpers are for programs under the GPL only.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
