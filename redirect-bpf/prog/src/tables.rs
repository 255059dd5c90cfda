//! What the programs ask of the kernel's maps, as a trait: the programs answer with maps, the tests with trees.

use core::cell::UnsafeCell;
use redirect_abi::{
    Address, Endpoint, FlowKey, FlowState, FragmentKey, FragmentValue, IpcacheKey, Neighbour, PolicyKey,
};

/// A map had no room, or would not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// The endpoint has no policy map: it is being set up, or torn down. Nothing passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoPolicyMap;

pub trait Tables {
    fn now_ns(&self) -> u64;
    /// Read it before policy is asked: a flow judged under the old policy must not be taken for one judged under the new.
    fn epoch(&self) -> u32;
    fn endpoint_on(&self, ifindex: u32) -> Option<&Endpoint>;
    /// When programs were first attached to an interface.
    fn attached_ns(&self, ifindex: u32) -> Option<u64>;
    fn endpoint_at(&self, address: &Address) -> Option<&Endpoint>;
    fn identity(&self, key: &IpcacheKey) -> Option<u32>;
    /// The verdict of the longest prefix in the endpoint's policy map.
    fn policy(&self, endpoint: u32, key: &PolicyKey) -> Result<Option<u8>, NoPolicyMap>;
    fn flow(&self, key: &FlowKey) -> Option<&Tracked>;
    fn insert_flow(&self, key: &FlowKey, state: &FlowState) -> Result<(), Full>;
    fn remove_flow(&self, key: &FlowKey);
    fn fragment(&self, key: &FragmentKey) -> Option<FragmentValue>;
    fn insert_fragment(&self, key: &FragmentKey, value: &FragmentValue) -> Result<(), Full>;
    /// What the endpoint on an interface is known by on its link.
    fn neighbour(&self, ifindex: u32) -> Option<Neighbour>;
    fn insert_neighbour(&self, ifindex: u32, neighbour: &Neighbour) -> Result<(), Full>;
    fn has_listener(&self, index: u32) -> bool;
    /// Tells SK_LOOKUP which listener a connection goes to.
    fn insert_redirect(&self, key: &FlowKey, listener: u32) -> Result<(), Full>;
}

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
}

/// A field that others write to meanwhile: read and written whole, never cached. (The BPF target has no atomics of 32 bits.)
#[repr(transparent)]
#[derive(Debug)]
pub struct Word<T>(UnsafeCell<T>);

impl<T: Copy> Word<T> {
    #[inline(always)]
    pub fn load(&self) -> T {
        // SAFETY: the pointer is that of a live `T`. On the host nobody else has it: a `Word` is not `Sync`.
        unsafe { self.0.get().read_volatile() }
    }

    #[inline(always)]
    pub fn store(&self, value: T) {
        // SAFETY: as in `load`.
        unsafe { self.0.get().write_volatile(value) }
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
        }
    }
}

const _: () = assert!(size_of::<Tracked>() == size_of::<FlowState>());
const _: () = assert!(align_of::<Tracked>() == align_of::<FlowState>());
