//! The maps, and the answers that the logic gets from them.

use aya_ebpf::bindings::{BPF_F_NO_PREALLOC, BPF_NOEXIST};
use aya_ebpf::btf_maps::lpm_trie::Key;
use aya_ebpf::btf_maps::{Array, HashMap, HashOfMaps, LpmTrie, LruHashMap, PerCpuArray, RingBuf, SockMap};
use aya_ebpf::helpers::{bpf_ktime_get_ns, bpf_map_lookup_elem, bpf_sk_release};
use aya_ebpf::macros::btf_map;
use core::intrinsics::{AtomicOrdering, atomic_xadd};
use core::ptr::{self, NonNull};
use redirect_abi::{
    self as abi, Address, Aggregate, AggregateKey, ClosedKey, Endpoint, Event, FRAGMENTS_MAX, FlowKey,
    FlowState, FragmentKey, FragmentPlace, FragmentValue, IpcacheKey, Neighbour, OUTSIDERS_MAX, Payer,
    PolicyKey, PolicyValue, Pool, Quota, Settings, counter, kind, payer, quota,
};
use redirect_prog::packet::Packet;
use redirect_prog::tables::{Account, Full, NoPolicyMap, Refused, Slot, Tables, Tracked, Word};
use redirect_prog::verdict::Report;

const IPCACHE_BITS: u32 = 8 + 128;
const POLICY_BITS: u32 = 64;
const EEXIST: i32 = 17;
/// Not on the stack.
static NOTHING_YET: abi::Account = abi::Account::NOTHING;
static NO_FLOW: FlowKey = Packet::EMPTY.flow;
static NO_FRAGMENT: FragmentKey = FragmentKey::NONE;
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
/// Direct flows, of which nobody has more than its quota: nothing is evicted. The loader says how many there may be.
#[btf_map]
pub(crate) static CONNTRACK: HashMap<FlowKey, FlowState, 131_072> = HashMap::new();
/// Direct flows beyond their opener's quota: they evict each other.
#[btf_map]
pub(crate) static OVERFLOW: LruHashMap<FlowKey, FlowState, 65_536> = LruHashMap::new();
/// When something last went to OVERFLOW; 0: nothing is there.
#[btf_map]
pub(crate) static OVERFLOWED: Array<u64, 1> = Array::new();
/// Flows of the proxy. The loader says how many there may be.
#[btf_map]
pub(crate) static PROXIED: HashMap<FlowKey, FlowState, 131_072> = HashMap::new();
/// Flows that have closed; the oldest of a payer is overwritten by the next.
#[btf_map]
pub(crate) static CLOSED: HashMap<ClosedKey, FlowKey, 262_144, NO_PREALLOC> = HashMap::new();
#[btf_map]
pub(crate) static ACCOUNTS: HashMap<Payer, abi::Account, 16_384> = HashMap::new();
/// Of outside prefixes. Made by the programs, removed by the loader when nothing is charged to them.
#[btf_map]
pub(crate) static OUTSIDERS: HashMap<Payer, abi::Account, { OUTSIDERS_MAX as usize }> = HashMap::new();
/// By [`redirect_abi::quota`].
#[btf_map]
pub(crate) static POOLS: Array<Pool, { quota::COUNT as usize }> = Array::new();
#[btf_map]
pub(crate) static QUOTAS: Array<Quota, { quota::COUNT as usize }> = Array::new();
/// First fragments. Each payer removes its own oldest ones, by FRAGMENT_PLACES; evicted is what two CPUs left here at once, and
/// what belongs to payers that are gone.
#[btf_map]
pub(crate) static FRAGMENTS: LruHashMap<FragmentKey, FragmentValue, { FRAGMENTS_MAX as usize }> =
    LruHashMap::new();
#[btf_map]
pub(crate) static FRAGMENT_PLACES: LruHashMap<FragmentPlace, FragmentKey, { FRAGMENTS_MAX as usize }> =
    LruHashMap::new();
/// By ifindex, as ENDPOINTS; the loader removes what is gone.
#[btf_map]
pub(crate) static NEIGHBOURS: HashMap<u32, Neighbour, 4_096> = HashMap::new();
/// By [`redirect_abi::listener`].
#[btf_map]
pub(crate) static LISTENERS: SockMap<2> = SockMap::new();
#[btf_map]
pub(crate) static EVENTS: RingBuf<Event, 1_048_576> = RingBuf::new();
#[btf_map]
pub(crate) static AGGREGATES: LruHashMap<AggregateKey, Aggregate, 65_536> = LruHashMap::new();
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
    fn event_interval_ns(&self) -> u64 {
        match SETTINGS.get_ptr(0) {
            // SAFETY: as in `epoch`.
            Some(settings) => unsafe { ptr::read_volatile(&raw const (*settings).event_interval_ns) }.into(),
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
        let state = if key.kind != kind::DIRECT {
            PROXIED.get_ptr_mut(key)
        } else {
            match CONNTRACK.get_ptr_mut(key) {
                None if has_overflowed() => OVERFLOW.get_ptr_mut(key),
                state => state,
            }
        };
        // SAFETY: `Tracked` is `FlowState` with its words atomic, same size and alignment (asserted beside it); the kernel
        // keeps the memory while the program runs, though it may come to hold another flow if this one is removed.
        NonNull::new(state?).map(|state| unsafe { state.cast::<Tracked>().as_ref() })
    }

    #[inline(always)]
    fn insert_flow(&self, key: &FlowKey, state: &FlowState) -> Result<(), Refused> {
        let flags = u64::from(BPF_NOEXIST);
        let answer = if key.kind == kind::DIRECT {
            CONNTRACK.insert(key, state, flags)
        } else {
            PROXIED.insert(key, state, flags)
        };
        answer.map_err(|error| if error == -EEXIST { Refused::Exists } else { Refused::Full })
    }

    #[inline(always)]
    fn insert_overflow(&self, key: &FlowKey, state: &FlowState) -> Result<(), Full> {
        count(counter::FLOWS_OVER_QUOTA);
        if let Some(at) = OVERFLOWED.get_ptr_mut(0) {
            // SAFETY: the slot of an array is there for as long as the program; one word, written whole.
            unsafe { ptr::write_volatile(at, self.now_ns()) }
        }
        OVERFLOW.insert(key, state, 0).map_err(|_| Full)
    }

    #[inline(always)]
    fn remove_flow(&self, key: &FlowKey) -> bool {
        if key.kind != kind::DIRECT {
            return PROXIED.remove(key).is_ok();
        }
        CONNTRACK.remove(key).is_ok() || OVERFLOW.remove(key).is_ok()
    }

    #[inline(always)]
    fn closed(&self, key: &ClosedKey) -> Option<&Slot> {
        if CLOSED.get_ptr(key).is_none() {
            // Full, or made by another CPU: what is there says.
            let _ = CLOSED.insert(key, &NO_FLOW, u64::from(BPF_NOEXIST));
        }
        let slot = NonNull::new(CLOSED.get_ptr_mut(key)?)?;
        // SAFETY: the value is a key, of which every bit pattern is one; the kernel keeps the memory while the program runs.
        Some(unsafe { slot.cast::<Slot>().as_ref() })
    }

    #[inline(always)]
    fn account(&self, payer: &Payer) -> Option<&Account> {
        let account = if payer.kind == payer::OUTSIDE {
            OUTSIDERS.get_ptr_mut(payer)
        } else {
            ACCOUNTS.get_ptr_mut(payer)
        };
        // SAFETY: the value is 64-bit words, of which every CPU adds to one at a time, atomically; the kernel keeps the memory
        // while the program runs.
        NonNull::new(account?).map(|account| unsafe { account.cast::<Account>().as_ref() })
    }

    #[inline(always)]
    fn open_account(&self, payer: &Payer) -> Option<&Account> {
        if let Some(account) = self.account(payer) {
            return Some(account);
        }
        if payer.kind == payer::OUTSIDE {
            // Full, or made by another CPU: what is there says.
            let _ = OUTSIDERS.insert(payer, &NOTHING_YET, u64::from(BPF_NOEXIST));
        }
        self.account(payer)
    }

    #[inline(always)]
    fn quota(&self, quota: u32) -> Quota {
        match QUOTAS.get_ptr(quota) {
            // SAFETY: the slot of an array is there for as long as the program; the loader may be writing to it, word by word.
            Some(quota) => unsafe { ptr::read_volatile(quota) },
            None => Quota::default(),
        }
    }

    #[inline(always)]
    fn pool(&self, quota: u32) -> Option<&Word<u64>> {
        let pool = NonNull::new(POOLS.get_ptr_mut(quota)?)?;
        // SAFETY: as in `account`.
        Some(unsafe { pool.cast::<Word<u64>>().as_ref() })
    }

    /// Nobody asks for what was there before: so it is an instruction that every kernel has.
    #[inline(always)]
    fn add(&self, counter: &Word<u64>, amount: u64) {
        // SAFETY: the counter is 64 aligned bits in a map, to which the programs of all CPUs add in this way only.
        let _ = unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(counter.as_ptr(), amount) };
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
    fn remove_fragment(&self, key: &FragmentKey) {
        // One that another CPU has removed is gone as well.
        let _ = FRAGMENTS.remove(key);
    }

    #[inline(always)]
    fn fragment_place(&self, place: &FragmentPlace) -> Option<&Word<FragmentKey>> {
        if FRAGMENT_PLACES.get_ptr(place).is_none() {
            // Made by another CPU, perhaps: what is there says.
            let _ = FRAGMENT_PLACES.insert(place, &NO_FRAGMENT, u64::from(BPF_NOEXIST));
        }
        let slot = NonNull::new(FRAGMENT_PLACES.get_ptr_mut(place)?)?;
        // SAFETY: the value is a key, of which every bit pattern is one; the kernel keeps the memory while the program runs,
        // though it may come to be another place if this one is evicted.
        Some(unsafe { slot.cast::<Word<FragmentKey>>().as_ref() })
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
}

/// Whether OVERFLOW is worth a look: it costs as much as the one before it.
#[inline(always)]
fn has_overflowed() -> bool {
    match OVERFLOWED.get_ptr(0) {
        // SAFETY: the slot of an array is there for as long as the program; one word, read whole.
        Some(at) => unsafe { ptr::read_volatile(at) != 0 },
        None => false,
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
