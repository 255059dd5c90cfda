//! The tables as trees, for tests and fuzz targets: what the kernel's maps would answer, and nothing evicted: full is full.

pub mod frames;
pub mod world;

use core::cell::{Cell, OnceCell, RefCell};
use redirect_abi::{
    Address, ClosedKey, Endpoint, FlowKey, FlowState, FragmentKey, FragmentPlace, FragmentValue, IpcacheKey,
    Neighbour, Payer, PolicyKey, Quota, family, payer,
};
use std::collections::BTreeMap;
use std::vec::Vec;

use crate::packet::{Packet, is_mapped, mapped};
use crate::tables::{Account, Full, NoPolicyMap, Refused, Slot, Tables, Tracked, Word};

/// Entries of a longest-prefix trie: how many bits count, and the key.
type Trie<K, V> = Vec<(u32, K, V)>;

/// Flows that one model tracks in its life.
const FLOWS_MAX: usize = 1024;
/// Outside prefixes that have an account of their own.
pub const OUTSIDERS_MAX: usize = 4;

#[derive(Debug)]
pub struct Model {
    pub now_ns: Cell<u64>,
    pub epoch: Cell<u32>,
    pub event_interval_ns: Cell<u64>,
    pub endpoints: BTreeMap<u32, Endpoint>,
    /// When programs were first attached, by ifindex.
    pub attached_ns: BTreeMap<u32, u64>,
    pub addresses: BTreeMap<Address, Endpoint>,
    pub ipcache: Trie<IpcacheKey, u32>,
    pub policies: BTreeMap<u32, Trie<PolicyKey, u8>>,
    /// Where in `entries` the state of a flow is.
    flows: RefCell<BTreeMap<FlowKey, usize>>,
    /// Filled from the start on and never freed: who found one may keep it, as in the kernel.
    entries: Vec<OnceCell<Tracked>>,
    entries_used: Cell<usize>,
    pub fragments: RefCell<BTreeMap<FragmentKey, FragmentValue>>,
    fragment_places: RefCell<BTreeMap<FragmentPlace, usize>>,
    fragmented: Vec<Word<FragmentKey>>,
    pub neighbours: RefCell<BTreeMap<u32, Neighbour>>,
    /// Direct flows beyond the quota of who opened them.
    pub overflow: RefCell<BTreeMap<FlowKey, usize>>,
    /// Where in `closed` a place is.
    closed_places: RefCell<BTreeMap<ClosedKey, usize>>,
    closed: Vec<Slot>,
    /// By payer. As in the kernel, those of outside prefixes make themselves.
    accounts: BTreeMap<Payer, Account>,
    outsiders: [OnceCell<(Payer, Account)>; OUTSIDERS_MAX],
    pub quotas: [Quota; 3],
    pools: [Word<u64>; 3],
    /// By [`redirect_abi::listener`].
    pub listeners: [bool; 2],
    /// Nothing more fits.
    pub full: bool,
}

impl Default for Model {
    fn default() -> Self {
        Self {
            now_ns: Cell::default(),
            epoch: Cell::default(),
            event_interval_ns: Cell::default(),
            endpoints: BTreeMap::new(),
            attached_ns: BTreeMap::new(),
            addresses: BTreeMap::new(),
            ipcache: Trie::new(),
            policies: BTreeMap::new(),
            flows: RefCell::default(),
            entries: core::iter::repeat_with(OnceCell::new).take(FLOWS_MAX).collect(),
            entries_used: Cell::default(),
            fragments: RefCell::default(),
            fragment_places: RefCell::default(),
            fragmented: core::iter::repeat_with(|| Word::new(FragmentKey::NONE)).take(FLOWS_MAX).collect(),
            neighbours: RefCell::default(),
            overflow: RefCell::default(),
            closed_places: RefCell::default(),
            closed: core::iter::repeat_with(|| Slot::new(Packet::EMPTY.flow)).take(FLOWS_MAX).collect(),
            accounts: BTreeMap::new(),
            outsiders: [const { OnceCell::new() }; OUTSIDERS_MAX],
            quotas: [Quota { endpoint: 64, other: 64, pool: 64 }; 3],
            pools: Default::default(),
            listeners: [false; 2],
            full: false,
        }
    }
}

impl Model {
    /// A local endpoint, reachable under both addresses, known to the ipcache, without a policy map.
    pub fn add_endpoint(&mut self, id: u32, identity: u32, v4: [u8; 4], v6: Address) {
        let endpoint = Endpoint { id, identity, ifindex: id, families: 3, v4: mapped(v4), v6 };
        let _: Option<Endpoint> = self.endpoints.insert(id, endpoint);
        for kind in [payer::ENDPOINT, payer::NODE, payer::OUTSIDE_REST] {
            let payer = Payer { endpoint: id, kind, ..Payer::default() };
            let _: Option<Account> = self.accounts.insert(payer, Account::default());
        }
        for address in [endpoint.v4, v6] {
            let _: Option<Endpoint> = self.addresses.insert(address, endpoint);
            self.add_identity(128, address, identity);
        }
    }

    /// `bits` of the 128 of the address.
    pub fn add_identity(&mut self, bits: u32, address: Address, identity: u32) {
        let family = if is_mapped(&address) { family::IPV4 } else { family::IPV6 };
        self.ipcache.push((8 + bits, IpcacheKey { family, address, pad: [0; 3] }, identity));
    }

    /// The policy map of an endpoint becomes this, as a whole. Prefixes as in [`PolicyKey`].
    pub fn set_policy(&mut self, endpoint: u32, entries: &[(u32, PolicyKey, u8)]) {
        let _: Option<Trie<PolicyKey, u8>> = self.policies.insert(endpoint, entries.to_vec());
    }

    /// The keys of all flows that are tracked.
    pub fn flow_keys(&self) -> Vec<FlowKey> {
        self.flows.borrow().keys().chain(self.overflow.borrow().keys()).copied().collect()
    }

    pub fn all_accounts(&self) -> impl Iterator<Item = (&Payer, &Account)> {
        let outsiders = self.outsiders.iter().filter_map(OnceCell::get);
        outsiders.map(|(payer, account)| (payer, account)).chain(&self.accounts)
    }

    fn place(&self, state: &FlowState) -> Result<usize, Full> {
        self.room()?;
        let place = self.entries_used.get();
        let entry = self.entries.get(place).ok_or(Full)?;
        entry.set(Tracked::from(*state)).map_err(|_taken| Full)?;
        self.entries_used.set(place + 1);
        Ok(place)
    }

    fn room(&self) -> Result<(), Full> {
        if self.full { Err(Full) } else { Ok(()) }
    }
}

impl Tables for Model {
    fn now_ns(&self) -> u64 {
        self.now_ns.get()
    }

    fn epoch(&self) -> u32 {
        self.epoch.get()
    }

    fn event_interval_ns(&self) -> u64 {
        self.event_interval_ns.get()
    }

    fn endpoint_on(&self, ifindex: u32) -> Option<&Endpoint> {
        self.endpoints.get(&ifindex)
    }

    fn attached_ns(&self, ifindex: u32) -> Option<u64> {
        self.attached_ns.get(&ifindex).copied()
    }

    fn endpoint_at(&self, address: &Address) -> Option<&Endpoint> {
        self.addresses.get(address)
    }

    fn identity(&self, key: &IpcacheKey) -> Option<u32> {
        longest(&self.ipcache, ipcache_bytes, key)
    }

    fn policy(&self, endpoint: u32, key: &PolicyKey) -> Result<Option<u8>, NoPolicyMap> {
        let entries = self.policies.get(&endpoint).ok_or(NoPolicyMap)?;
        Ok(longest(entries, policy_bytes, key))
    }

    fn flow(&self, key: &FlowKey) -> Option<&Tracked> {
        let place = self.flows.borrow().get(key).or(self.overflow.borrow().get(key)).copied()?;
        self.entries.get(place)?.get()
    }

    fn insert_flow(&self, key: &FlowKey, state: &FlowState) -> Result<(), Refused> {
        if self.flows.borrow().contains_key(key) {
            return Err(Refused::Exists);
        }
        let place = self.place(state).map_err(|Full| Refused::Full)?;
        let _: Option<usize> = self.flows.borrow_mut().insert(*key, place);
        Ok(())
    }

    fn insert_overflow(&self, key: &FlowKey, state: &FlowState) -> Result<(), Full> {
        let place = self.place(state)?;
        let _: Option<usize> = self.overflow.borrow_mut().insert(*key, place);
        Ok(())
    }

    fn remove_flow(&self, key: &FlowKey) -> bool {
        self.flows.borrow_mut().remove(key).or_else(|| self.overflow.borrow_mut().remove(key)).is_some()
    }

    fn closed(&self, key: &ClosedKey) -> Option<&Slot> {
        let mut places = self.closed_places.borrow_mut();
        let next = places.len();
        let place = *places.entry(*key).or_insert(next);
        self.closed.get(place)
    }

    fn account(&self, payer: &Payer) -> Option<&Account> {
        self.all_accounts().find(|(known, _)| *known == payer).map(|(_, account)| account)
    }

    fn open_account(&self, payer: &Payer) -> Option<&Account> {
        let free = || self.outsiders.iter().find(|place| place.get().is_none());
        if payer.kind == payer::OUTSIDE
            && self.account(payer).is_none()
            && let Some(place) = free()
        {
            let _: &(Payer, Account) = place.get_or_init(|| (*payer, Account::default()));
        }
        self.account(payer)
    }

    fn quota(&self, quota: u32) -> Quota {
        at(&self.quotas, quota).copied().unwrap_or_default()
    }

    fn pool(&self, quota: u32) -> Option<&Word<u64>> {
        at(&self.pools, quota)
    }

    fn add(&self, counter: &Word<u64>, amount: u64) {
        counter.store(counter.load().wrapping_add(amount));
    }

    fn fragment(&self, key: &FragmentKey) -> Option<FragmentValue> {
        self.fragments.borrow().get(key).copied()
    }

    fn insert_fragment(&self, key: &FragmentKey, value: &FragmentValue) -> Result<(), Full> {
        self.room()?;
        let _: Option<FragmentValue> = self.fragments.borrow_mut().insert(*key, *value);
        Ok(())
    }

    fn remove_fragment(&self, key: &FragmentKey) {
        let _: Option<FragmentValue> = self.fragments.borrow_mut().remove(key);
    }

    fn fragment_place(&self, place: &FragmentPlace) -> Option<&Word<FragmentKey>> {
        let mut places = self.fragment_places.borrow_mut();
        let next = places.len();
        let place = *places.entry(*place).or_insert(next);
        self.fragmented.get(place)
    }

    fn neighbour(&self, ifindex: u32) -> Option<Neighbour> {
        self.neighbours.borrow().get(&ifindex).copied()
    }

    fn insert_neighbour(&self, ifindex: u32, neighbour: &Neighbour) -> Result<(), Full> {
        self.room()?;
        let _: Option<Neighbour> = self.neighbours.borrow_mut().insert(ifindex, *neighbour);
        Ok(())
    }

    fn has_listener(&self, index: u32) -> bool {
        usize::try_from(index).ok().and_then(|index| self.listeners.get(index).copied()).unwrap_or(false)
    }
}

fn at<T>(list: &[T], index: u32) -> Option<&T> {
    list.get(usize::try_from(index).ok()?)
}

fn longest<K, V: Copy, const N: usize>(
    entries: &[(u32, K, V)],
    bytes: impl Fn(&K) -> [u8; N],
    key: &K,
) -> Option<V> {
    entries
        .iter()
        .filter(|(bits, prefix, _)| covers(*bits, &bytes(prefix), &bytes(key)))
        .max_by_key(|(bits, ..)| *bits)
        .map(|(.., value)| *value)
}

fn covers(bits: u32, prefix: &[u8], key: &[u8]) -> bool {
    let bit = |bytes: &[u8], n: u32| {
        bytes.get(usize::try_from(n / 8).unwrap_or(usize::MAX)).map(|byte| byte >> (7 - n % 8) & 1)
    };
    (0..bits).all(|n| bit(prefix, n) == bit(key, n))
}

fn ipcache_bytes(key: &IpcacheKey) -> [u8; 17] {
    let mut bytes = [key.family; 17];
    bytes[1..].copy_from_slice(&key.address);
    bytes
}

fn policy_bytes(key: &PolicyKey) -> [u8; 8] {
    let [a, b, c, d] = key.identity;
    [key.direction, a, b, c, d, key.protocol, key.port[0], key.port[1]]
}
