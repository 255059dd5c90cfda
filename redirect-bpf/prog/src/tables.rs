//! What the programs ask of the kernel's maps, as a trait: the programs answer with maps, the tests with trees.

use core::cell::UnsafeCell;
use redirect_abi::{
    Address, ClosedKey, Endpoint, FlowKey, FlowState, FragmentKey, FragmentPlace, FragmentValue, IpcacheKey,
    Neighbour, Payer, PolicyKey, Quota,
};

/// A map had no room, or would not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// Why a flow was not recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It is there.
    Exists,
    Full,
}

/// The endpoint has no policy map: it is being set up, or torn down. Nothing passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoPolicyMap;

pub trait Tables {
    fn now_ns(&self) -> u64;
    /// Read it before policy is asked: a flow judged under the old policy must not be taken for one judged under the new.
    fn epoch(&self) -> u32;
    /// As [`redirect_abi::Settings::event_interval_ns`].
    fn event_interval_ns(&self) -> u64;
    fn endpoint_on(&self, ifindex: u32) -> Option<&Endpoint>;
    /// When programs were first attached to an interface.
    fn attached_ns(&self, ifindex: u32) -> Option<u64>;
    fn endpoint_at(&self, address: &Address) -> Option<&Endpoint>;
    fn identity(&self, key: &IpcacheKey) -> Option<u32>;
    /// The verdict of the longest prefix in the endpoint's policy map.
    fn policy(&self, endpoint: u32, key: &PolicyKey) -> Result<Option<u8>, NoPolicyMap>;
    /// Of any kind, wherever it is kept.
    fn flow(&self, key: &FlowKey) -> Option<&Tracked>;
    /// Among those of its kind that are never evicted.
    fn insert_flow(&self, key: &FlowKey, state: &FlowState) -> Result<(), Refused>;
    /// Among those that others of the kind evict.
    fn insert_overflow(&self, key: &FlowKey, state: &FlowState) -> Result<(), Full>;
    /// `true`: it was there, and nobody else has removed it.
    fn remove_flow(&self, key: &FlowKey) -> bool;
    /// A place in a queue of closed flows, made if need be; zero until a key is put there.
    fn closed(&self, key: &ClosedKey) -> Option<&Slot>;
    fn account(&self, payer: &Payer) -> Option<&Account>;
    /// Makes the account if it is one of an outside prefix.
    fn open_account(&self, payer: &Payer) -> Option<&Account>;
    /// By [`redirect_abi::quota`]: what may be had,
    fn quota(&self, quota: u32) -> Quota;
    /// ... and what has been borrowed.
    fn pool(&self, quota: u32) -> Option<&Word<u64>>;
    /// To a counter that every CPU adds to; wraps around.
    fn add(&self, counter: &Word<u64>, amount: u64);
    fn fragment(&self, key: &FragmentKey) -> Option<FragmentValue>;
    fn insert_fragment(&self, key: &FragmentKey, value: &FragmentValue) -> Result<(), Full>;
    fn remove_fragment(&self, key: &FragmentKey);
    /// A place in a queue of fragmented datagrams, made if need be; zero until a key is put there.
    fn fragment_place(&self, place: &FragmentPlace) -> Option<&Word<FragmentKey>>;
    /// What the endpoint on an interface is known by on its link.
    fn neighbour(&self, ifindex: u32) -> Option<Neighbour>;
    fn insert_neighbour(&self, ifindex: u32, neighbour: &Neighbour) -> Result<(), Full>;
    fn has_listener(&self, index: u32) -> bool;
}

/// A [`redirect_abi::Account`] in its map, where every CPU may be writing.
#[repr(C)]
#[derive(Debug, Default)]
pub struct Account {
    pub own: [Word<u64>; 3],
    pub borrowed: [Word<u64>; 3],
    pub over: Word<u64>,
    pub closed: Word<u64>,
    pub fragmented: Word<u64>,
    pub events_until_ns: Word<u64>,
    pub events_lost: Word<u64>,
}

const _: () = assert!(size_of::<Account>() == size_of::<redirect_abi::Account>());

/// A [`FlowState`] in its map, where every CPU may be writing.
#[repr(C)]
#[derive(Debug)]
pub struct Tracked {
    pub last_seen_ns: Word<u64>,
    pub epoch: Word<u32>,
    pub flags: Word<u32>,
    pub acked_by_source: Word<[u8; 4]>,
    pub acked_by_destination: Word<[u8; 4]>,
    pub packets: Word<u64>,
    pub payer_endpoint: Word<u32>,
    pub payer: Word<u8>,
    pub share: Word<u8>,
    pad: [u8; 2],
}

impl Tracked {
    #[inline(always)]
    pub fn state(&self) -> FlowState {
        FlowState {
            last_seen_ns: self.last_seen_ns.load(),
            epoch: self.epoch.load(),
            flags: self.flags.load(),
            acked_by_source: self.acked_by_source.load(),
            acked_by_destination: self.acked_by_destination.load(),
            packets: self.packets.load(),
            payer_endpoint: self.payer_endpoint.load(),
            payer: self.payer.load(),
            share: self.share.load(),
            pad: [0; 2],
        }
    }

    /// Becomes another flow's, which is charged as the old one was.
    #[inline(always)]
    pub fn begin_anew(&self, state: &FlowState) {
        self.last_seen_ns.store(state.last_seen_ns);
        self.epoch.store(state.epoch);
        self.flags.store(state.flags);
        self.acked_by_source.store(state.acked_by_source);
        self.acked_by_destination.store(state.acked_by_destination);
        self.packets.store(state.packets);
    }
}

/// A field that others write to meanwhile: read and written whole, never cached. (The BPF target has no atomics of 32 bits.)
#[repr(transparent)]
#[derive(Debug, Default)]
pub struct Word<T>(UnsafeCell<T>);

impl<T: Copy> Word<T> {
    pub const fn new(value: T) -> Self {
        Self(UnsafeCell::new(value))
    }

    #[inline(always)]
    pub fn load(&self) -> T {
        // SAFETY: the pointer is that of a live `T`. On the host nobody else has it: a `Word` is not `Sync`.
        unsafe { self.0.get().read_volatile() }
    }

    #[inline(always)]
    pub fn as_ptr(&self) -> *mut T {
        self.0.get()
    }

    #[inline(always)]
    pub fn store(&self, value: T) {
        // SAFETY: as in `load`.
        unsafe { self.0.get().write_volatile(value) }
    }
}

/// The key of a flow, in a map.
pub type Slot = Word<FlowKey>;

/// A key in a queue. Two CPUs at once may make one key of two, which is none of any entry.
impl<T: Copy> Word<T> {
    #[inline(always)]
    pub fn key(&self) -> &T {
        // SAFETY: the pointer is that of a live key, of which every bit pattern is one.
        unsafe { &*self.as_ptr() }
    }
}

impl From<FlowState> for Tracked {
    fn from(state: FlowState) -> Self {
        Self {
            last_seen_ns: Word(UnsafeCell::new(state.last_seen_ns)),
            epoch: Word(UnsafeCell::new(state.epoch)),
            flags: Word(UnsafeCell::new(state.flags)),
            acked_by_source: Word(UnsafeCell::new(state.acked_by_source)),
            acked_by_destination: Word(UnsafeCell::new(state.acked_by_destination)),
            packets: Word(UnsafeCell::new(state.packets)),
            payer_endpoint: Word(UnsafeCell::new(state.payer_endpoint)),
            payer: Word(UnsafeCell::new(state.payer)),
            share: Word(UnsafeCell::new(state.share)),
            pad: state.pad,
        }
    }
}

const _: () = assert!(size_of::<Tracked>() == size_of::<FlowState>());
const _: () = assert!(align_of::<Tracked>() == align_of::<FlowState>());
