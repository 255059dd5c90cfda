//! The maps, and the answers that the logic gets from them.

use aya_ebpf::bindings::BPF_F_NO_PREALLOC;
use aya_ebpf::btf_maps::lpm_trie::Key;
use aya_ebpf::btf_maps::{Array, HashMap, HashOfMaps, LpmTrie, LruHashMap, PerCpuArray, RingBuf, SockMap};
use aya_ebpf::helpers::{bpf_ktime_get_ns, bpf_map_lookup_elem, bpf_sk_release};
use aya_ebpf::macros::btf_map;
use core::ptr::{self, NonNull};
use redirect_abi::{
    Address, Aggregate, AggregateKey, Endpoint, Event, FlowKey, FlowState, FragmentKey, FragmentValue,
    IpcacheKey, Neighbour, PolicyKey, PolicyValue, RedirectKey, Settings, counter,
};
use redirect_prog::packet::Packet;
use redirect_prog::tables::{Full, NoPolicyMap, Tables, Tracked};
use redirect_prog::verdict::Report;

const IPCACHE_BITS: u32 = 8 + 128;
const POLICY_BITS: u32 = 64;
const NO_PREALLOC: usize = BPF_F_NO_PREALLOC as usize;

/// The policy of one endpoint. The loader sizes each by its policy: only type, layout and flags have to agree.
pub(crate) type PolicyMap = LpmTrie<PolicyKey, PolicyValue, 65_536, NO_PREALLOC>;

/// By ifindex.
#[btf_map]
pub(crate) static ENDPOINTS: HashMap<u32, Endpoint, 4_096> = HashMap::new();
/// By ifindex: when programs were first attached to an interface that is still there. Whatever happens to them since, and to the
/// daemon, it is not written again.
#[btf_map]
pub(crate) static ATTACHED: HashMap<u32, u64, 8_192> = HashMap::new();
#[btf_map]
pub(crate) static ADDRESSES: HashMap<Address, Endpoint, 8_192> = HashMap::new();
#[btf_map]
pub(crate) static IPCACHE: LpmTrie<IpcacheKey, u32, 524_288, NO_PREALLOC> = LpmTrie::new();
/// By endpoint id.
#[btf_map]
pub(crate) static POLICIES: HashOfMaps<u32, PolicyMap, 4_096> = HashOfMaps::new();
#[btf_map]
pub(crate) static CONNTRACK: LruHashMap<FlowKey, FlowState, 131_072> = LruHashMap::new();
#[btf_map]
pub(crate) static REDIRECTS: LruHashMap<RedirectKey, u32, 65_536> = LruHashMap::new();
#[btf_map]
pub(crate) static FRAGMENTS: LruHashMap<FragmentKey, FragmentValue, 8_192> = LruHashMap::new();
/// By ifindex, as ENDPOINTS; the loader removes what is gone.
#[btf_map]
pub(crate) static NEIGHBOURS: HashMap<u32, Neighbour, 4_096> = HashMap::new();
/// By [`redirect_abi::listener`].
#[btf_map]
pub(crate) static LISTENERS: SockMap<2> = SockMap::new();
#[btf_map]
pub(crate) static EVENTS: RingBuf<Event, 1_048_576> = RingBuf::new();
#[btf_map]
pub(crate) static AGGREGATES: LruHashMap<AggregateKey, Aggregate, 16_384> = LruHashMap::new();
/// By [`redirect_abi::reason`], then [`redirect_abi::counter`].
#[btf_map]
pub(crate) static COUNTERS: PerCpuArray<u64, { counter::TOTAL as usize }> = PerCpuArray::new();
/// By hook. The loader has no use for it.
#[btf_map]
static SCRATCH: PerCpuArray<Scratch, 2> = PerCpuArray::new();
#[btf_map]
pub(crate) static SETTINGS: Array<Settings, 1> = Array::new();

/// Where a program puts together what it knows of a packet: the stack has 512 bytes, and what the verifier finds there it
/// follows byte by byte, so that each kind of packet would be a program of its own to it.
#[repr(C)]
pub(crate) struct Scratch {
    pub(crate) packet: Packet,
    pub(crate) report: Report,
}

#[derive(Clone, Copy)]
pub(crate) enum Hook {
    FromEndpoint,
    ToEndpoint,
}

impl Scratch {
    /// This CPU's. `None` never happens, but for the verifier.
    #[inline(always)]
    pub(crate) fn of(hook: Hook) -> Option<&'static mut Self> {
        let scratch = SCRATCH.get_ptr_mut(hook as u32)?;
        // SAFETY: the kernel runs one classifier at a time on a CPU (they run with bottom halves disabled, and none runs
        // another), and each asks once: nobody else has the slot until the program ends. Every byte is written before the
        // reference is made.
        unsafe {
            scratch.write(Self { packet: Packet::EMPTY, report: Report::default() });
            Some(&mut *scratch)
        }
    }
}

pub(crate) struct Maps;

impl Tables for Maps {
    #[inline(always)]
    fn now_ns(&self) -> u64 {
        // SAFETY: the helper takes no arguments and touches no memory.
        unsafe { bpf_ktime_get_ns() }
    }

    #[inline(always)]
    fn epoch(&self) -> u32 {
        match SETTINGS.get_ptr(0) {
            // SAFETY: the slot of an array is there for as long as the program; the loader may be writing to it, so the read
            // is volatile, and one word.
            Some(settings) => unsafe { ptr::read_volatile(&raw const (*settings).epoch) },
            None => 0,
        }
    }

    #[inline(always)]
    fn endpoint_on(&self, ifindex: u32) -> Option<&Endpoint> {
        // SAFETY: the loader alone writes here; the kernel keeps what was found until the program ends. An entry that is
        // overwritten meanwhile may be read in halves: both ends of a change are the same endpoint's.
        unsafe { ENDPOINTS.get(ifindex) }
    }

    #[inline(always)]
    fn attached_ns(&self, ifindex: u32) -> Option<u64> {
        // SAFETY: copied at once; the loader alone writes here, and each entry once.
        unsafe { ATTACHED.get(ifindex) }.copied()
    }

    #[inline(always)]
    fn endpoint_at(&self, address: &Address) -> Option<&Endpoint> {
        // SAFETY: as in `endpoint_on`.
        unsafe { ADDRESSES.get(address) }
    }

    #[inline(always)]
    fn identity(&self, key: &IpcacheKey) -> Option<u32> {
        IPCACHE.get(&Key::new(IPCACHE_BITS, *key)).copied()
    }

    #[inline(always)]
    fn policy(&self, endpoint: u32, key: &PolicyKey) -> Result<Option<u8>, NoPolicyMap> {
        // SAFETY: an inner map that is replaced lives until the programs that found it have ended (RCU).
        let policy = unsafe { POLICIES.get(&endpoint) }.ok_or(NoPolicyMap)?;
        Ok(policy.get(&Key::new(POLICY_BITS, *key)).map(|value| value.verdict))
    }

    #[inline(always)]
    fn flow(&self, key: &FlowKey) -> Option<&Tracked> {
        let state = NonNull::new(CONNTRACK.get_ptr_mut(key)?)?;
        // SAFETY: `Tracked` is `FlowState` with its words atomic, same size and alignment (asserted beside it); the kernel
        // keeps the memory while the program runs, though it may come to hold another flow if this one is evicted.
        Some(unsafe { state.cast::<Tracked>().as_ref() })
    }

    #[inline(always)]
    fn insert_flow(&self, key: &FlowKey, state: &FlowState) -> Result<(), Full> {
        CONNTRACK.insert(key, state, 0).map_err(|_| Full)
    }

    #[inline(always)]
    fn remove_flow(&self, key: &FlowKey) {
        // Not being there is as good as being removed.
        let _ = CONNTRACK.remove(key);
    }

    #[inline(always)]
    fn fragment(&self, key: &FragmentKey) -> Option<FragmentValue> {
        // SAFETY: copied at once; another datagram of the same id and ends could be written meanwhile, and is as good.
        unsafe { FRAGMENTS.get(key) }.copied()
    }

    #[inline(always)]
    fn insert_fragment(&self, key: &FragmentKey, value: &FragmentValue) -> Result<(), Full> {
        FRAGMENTS.insert(key, value, 0).map_err(|_| Full)
    }

    #[inline(always)]
    fn neighbour(&self, ifindex: u32) -> Option<Neighbour> {
        // SAFETY: copied at once. The programs of one interface write here, and one may read what another half wrote: an
        // address that nobody said is an address that nobody has.
        unsafe { NEIGHBOURS.get(ifindex) }.copied()
    }

    #[inline(always)]
    fn insert_neighbour(&self, ifindex: u32, neighbour: &Neighbour) -> Result<(), Full> {
        NEIGHBOURS.insert(ifindex, neighbour, 0).map_err(|_| Full)
    }

    #[inline(always)]
    fn has_listener(&self, index: u32) -> bool {
        // SAFETY: the map is a SockMap, for which the helper hands out a referenced socket, given back below.
        let socket = unsafe {
            bpf_map_lookup_elem((&raw const LISTENERS).cast_mut().cast(), (&raw const index).cast())
        };
        if socket.is_null() {
            return false;
        }
        // SAFETY: the socket is the one of the lookup above, and is not used after.
        unsafe { bpf_sk_release(socket) == 0 }
    }

    #[inline(always)]
    fn insert_redirect(&self, key: &FlowKey, listener: u32) -> Result<(), Full> {
        REDIRECTS.insert(key, listener, 0).map_err(|_| Full)
    }
}

/// Adds one on this CPU.
#[inline(always)]
pub(crate) fn count(counter: u32) {
    if let Some(value) = COUNTERS.get_ptr_mut(counter) {
        // SAFETY: the slot is this CPU's own, and programs are not interrupted by others that count.
        unsafe { *value += 1 }
    }
}
