//! The kernel's tables: read back, changed entry by entry, and policy maps swapped as a whole.
//!
//! What is known to be in the kernel is kept beside it and follows every write that succeeded, so that a change that failed
//! half-way is completed by the next one.

use crate::epochs::Epochs;
use crate::error::Error;
use crate::pins::{Pins, ignoring_absence, open};
use crate::plan::{Difference, PolicyMap, difference};
use crate::pod::Raw;
use crate::quotas::{FlowLimits, Quotas};
use crate::tables::{Entries, Installed, InstalledPolicies, Policies, Step, same};
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, HashMap, HashOfMaps, IterableMap, Map, MapData, MapError, PerCpuArray, SockMap};
use redirect_abi::{Address, Endpoint, IpcacheKey, Neighbour, PolicyKey, PolicyValue, Settings, listener};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::TcpListener;
use std::sync::Arc;

type PolicyTrie = LpmTrie<MapData, Raw<PolicyKey>, Raw<PolicyValue>>;
type PolicyTable = HashOfMaps<MapData, u32, MapData>;

/// Twice what a policy may have: it is changed in place by adding first. Nothing of this is allocated ahead.
const POLICY_ROOM: u32 = 1 << 21;
/// As the inner map that the programs were made for.
const BPF_F_NO_PREALLOC: u32 = 1;
/// A swap waits for the kernel, not for a CPU: this many wait at once.
const THREADS_MAX: usize = 64;

pub(crate) struct Maps {
    pins: Pins,
    endpoints: HashMap<MapData, u32, Raw<Endpoint>>,
    addresses: HashMap<MapData, Raw<Address>, Raw<Endpoint>>,
    ipcache: LpmTrie<MapData, Raw<IpcacheKey>, u32>,
    policies: PolicyTable,
    neighbours: HashMap<MapData, u32, Raw<Neighbour>>,
    settings: Array<MapData, Raw<Settings>>,
    counters: PerCpuArray<MapData, u64>,
    listeners: SockMap<MapData>,
    pub(crate) quotas: Quotas,
    pub(crate) epochs: Epochs,
    /// What is in the kernel.
    pub(crate) entries: Entries,
    pub(crate) installed: InstalledPolicies,
}

/// A map that is to become the policy of an endpoint.
struct Swap {
    /// The endpoint's.
    id: u32,
    /// The map's, as the kernel counts them.
    number: u32,
    map: Arc<MapData>,
    content: Arc<PolicyMap>,
}

impl Maps {
    /// Opens the pinned maps and reads what an earlier process left in them.
    pub(crate) fn open(pins: &Pins, flows: FlowLimits) -> Result<Self, Error> {
        let mut maps = Self {
            endpoints: open(pins, "ENDPOINTS")?,
            addresses: open(pins, "ADDRESSES")?,
            ipcache: open(pins, "IPCACHE")?,
            policies: open(pins, "POLICIES")?,
            neighbours: open(pins, "NEIGHBOURS")?,
            settings: open(pins, "SETTINGS")?,
            counters: open(pins, "COUNTERS")?,
            listeners: open(pins, "LISTENERS")?,
            quotas: Quotas::open(pins, flows)?,
            epochs: Epochs::default(),
            pins: pins.clone(),
            entries: Entries::default(),
            installed: InstalledPolicies::new(),
        };
        maps.entries = maps.read_entries()?;
        maps.installed = maps.read_policies()?;
        maps.quotas.cover(maps.entries.ids())?;
        Ok(maps)
    }

    fn read_entries(&self) -> Result<Entries, Error> {
        let endpoints = self.endpoints.iter().map(|e| e.map(|(ifindex, Raw(endpoint))| (ifindex, endpoint)));
        let addresses =
            self.addresses.iter().map(|e| e.map(|(Raw(address), Raw(endpoint))| (address, endpoint)));
        let ipcache = self.ipcache.iter().map(|e| e.map(|(key, id)| ((key.prefix_len(), key.data().0), id)));
        Ok(Entries {
            endpoints: endpoints.collect::<Result<_, _>>().map_err(Error::map("read", "ENDPOINTS"))?,
            addresses: addresses.collect::<Result<_, _>>().map_err(Error::map("read", "ADDRESSES"))?,
            ipcache: ipcache.collect::<Result<_, _>>().map_err(Error::map("read", "IPCACHE"))?,
        })
    }

    fn read_policies(&self) -> Result<InstalledPolicies, Error> {
        let failed = || Error::map("read", "POLICIES");
        let mut contents: BTreeMap<u32, Arc<PolicyMap>> = BTreeMap::new();
        let mut installed = InstalledPolicies::new();
        for id in self.policies.keys() {
            let id = id.map_err(failed())?;
            let inner = self.policies.get(&id, 0).map_err(failed())?;
            let map = inner.info().map_err(failed())?.id();
            let content = match contents.get(&map) {
                Some(content) => Arc::clone(content),
                None => Arc::new(read_policy(inner).map_err(failed())?),
            };
            let _none = contents.insert(map, Arc::clone(&content));
            let _none = installed.insert(id, Installed { map, content });
        }
        Ok(installed)
    }

    /// Policy maps become what is wanted, each at one instant; those that change wait for the kernel side by side.
    pub(crate) fn set_policies(&mut self, step: Step) -> Result<(), Error> {
        for (map, content) in step.in_place {
            self.change_in_place(map, &content)?;
        }
        let jobs = step.swaps.iter().map(|(content, _)| (content, self.existing(content))).collect();
        let maps = side_by_side(jobs, |(content, ready)| {
            ready.map_or_else(|| create_policy(content), MapData::from_id)
        });
        let mut swaps = Vec::new();
        for ((content, ids), map) in step.swaps.iter().zip(maps) {
            let map = map.map_err(Error::map("fill a map for", "POLICIES"))?;
            let number = map.info().map_err(Error::map("fill a map for", "POLICIES"))?.id();
            let map = Arc::new(map);
            let swap =
                |id: &u32| Swap { id: *id, number, map: Arc::clone(&map), content: Arc::clone(content) };
            swaps.extend(ids.iter().map(swap));
        }
        self.swap(&swaps)
    }

    /// A map with this content that is in the kernel already.
    fn existing(&self, content: &Arc<PolicyMap>) -> Option<u32> {
        self.installed.values().find(|policy| same(&policy.content, content)).map(|policy| policy.map)
    }

    /// After this returns no CPU judges by an old map any more. The kernel waits for that with every write, but once for writes
    /// that come together: so whatever else is to be done was done before.
    fn swap(&mut self, swaps: &[Swap]) -> Result<(), Error> {
        let each = swaps.len().div_ceil(THREADS_MAX).max(1);
        // Handles of their own, because inserting takes them mutably.
        let handle = |_: &[Swap]| open::<PolicyTable>(&self.pins, "POLICIES");
        let handles = swaps.chunks(each).map(handle).collect::<Result<Vec<_>, _>>()?;
        let answers = side_by_side(swaps.chunks(each).zip(handles).collect(), |(swaps, mut policies)| {
            let answers = swaps.iter().map(|swap| policies.insert(swap.id, &*swap.map, 0));
            answers.collect::<Vec<_>>()
        });
        let mut result = Ok(());
        for (swap, answer) in swaps.iter().zip(answers.into_iter().flatten()) {
            match answer {
                Ok(()) => {
                    let now = Installed { map: swap.number, content: Arc::clone(&swap.content) };
                    let _previous = self.installed.insert(swap.id, now);
                }
                Err(error) => result = result.and(Err(error)),
            }
        }
        result.map_err(Error::map("swap a policy in", "POLICIES"))
    }

    fn change_in_place(&mut self, map: u32, content: &Arc<PolicyMap>) -> Result<(), Error> {
        let Some(old) =
            self.installed.values().find(|policy| policy.map == map).map(|p| Arc::clone(&p.content))
        else {
            return Ok(());
        };
        let failed = || Error::map("change a policy in", "POLICIES");
        let mut trie = MapData::from_id(map).and_then(policy_trie).map_err(failed())?;
        let Difference { set, removed } = difference(&old, content);
        for ((length, key), verdict) in set {
            trie.insert(&Key::new(length, Raw(key)), policy_value(verdict), 0).map_err(failed())?;
        }
        for (length, key) in removed {
            ignoring_absence(trie.remove(&Key::new(length, Raw(key)))).map_err(failed())?;
        }
        for policy in self.installed.values_mut().filter(|policy| policy.map == map) {
            policy.content = Arc::clone(content);
        }
        Ok(())
    }

    /// Removes the policies of endpoints that are not named.
    pub(crate) fn retain_policies(&mut self, named: &Policies) -> Result<(), Error> {
        let gone = self.installed.keys().filter(|id| !named.contains_key(id)).copied().collect();
        self.withdraw_policies(&gone).map(|_any| ())
    }

    /// Removes the policies of these endpoints: from now on nothing passes for them. `false`: there was none.
    pub(crate) fn withdraw_policies(&mut self, of: &BTreeSet<u32>) -> Result<bool, Error> {
        let installed: Vec<u32> = of.iter().filter(|id| self.installed.contains_key(id)).copied().collect();
        for id in &installed {
            let id = *id;
            ignoring_absence(self.policies.remove(&id))
                .map_err(Error::map("remove a policy from", "POLICIES"))?;
            let _removed = self.installed.remove(&id);
        }
        Ok(!installed.is_empty())
    }

    /// Writes what is new and what changed, then removes what is gone. An address becomes known, and keeps its old identity
    /// until its new one is written: it is never unknown in between.
    pub(crate) fn set_entries(&mut self, wanted: &Entries) -> Result<(), Error> {
        self.quotas.cover(wanted.ids())?;
        self.set_ipcache(wanted)?;
        let change = difference(&self.entries.addresses, &wanted.addresses);
        for (address, endpoint) in change.set {
            self.addresses
                .insert(Raw(address), Raw(endpoint), 0)
                .map_err(Error::map("write", "ADDRESSES"))?;
            let _previous = self.entries.addresses.insert(address, endpoint);
        }
        for address in change.removed {
            ignoring_absence(self.addresses.remove(&Raw(address)))
                .map_err(Error::map("remove from", "ADDRESSES"))?;
            let _removed = self.entries.addresses.remove(&address);
        }
        let change = difference(&self.entries.endpoints, &wanted.endpoints);
        for (ifindex, endpoint) in change.set {
            // Another endpoint is known by other addresses.
            if self.entries.endpoints.get(&ifindex).is_some_and(|previous| previous.id != endpoint.id) {
                self.forget_neighbour(ifindex)?;
            }
            self.endpoints.insert(ifindex, Raw(endpoint), 0).map_err(Error::map("write", "ENDPOINTS"))?;
            let _previous = self.entries.endpoints.insert(ifindex, endpoint);
        }
        for ifindex in change.removed {
            ignoring_absence(self.endpoints.remove(&ifindex))
                .map_err(Error::map("remove from", "ENDPOINTS"))?;
            let _removed = self.entries.endpoints.remove(&ifindex);
            // After the endpoint: its programs learn nothing any more.
            self.forget_neighbour(ifindex)?;
        }
        Ok(())
    }

    /// The hardware address that the endpoint on an interface was heard with.
    pub(crate) fn station(&self, ifindex: u32) -> Result<Option<[u8; 6]>, Error> {
        match self.neighbours.get(&ifindex, 0) {
            Ok(Raw(known)) => Ok(Some(known.station).filter(|station| *station != [0; 6])),
            Err(MapError::KeyNotFound) => Ok(None),
            Err(error) => Err(Error::map("read", "NEIGHBOURS")(error)),
        }
    }

    fn forget_neighbour(&mut self, ifindex: u32) -> Result<(), Error> {
        ignoring_absence(self.neighbours.remove(&ifindex)).map_err(Error::map("remove from", "NEIGHBOURS"))
    }

    fn set_ipcache(&mut self, wanted: &Entries) -> Result<(), Error> {
        let change = difference(&self.entries.ipcache, &wanted.ipcache);
        // The longest first: what a rule excepts is never taken, while it is not yet there, for the wider prefix that is allowed.
        for ((length, key), identity) in change.set.into_iter().rev() {
            self.ipcache
                .insert(&Key::new(length, Raw(key)), identity, 0)
                .map_err(Error::map("write", "IPCACHE"))?;
            let _previous = self.entries.ipcache.insert((length, key), identity);
        }
        for (length, key) in change.removed {
            ignoring_absence(self.ipcache.remove(&Key::new(length, Raw(key))))
                .map_err(Error::map("remove from", "IPCACHE"))?;
            let _removed = self.entries.ipcache.remove(&(length, key));
        }
        Ok(())
    }

    /// From now on flows that were judged before are judged again, under this revision.
    pub(crate) fn bump_epoch(&mut self, revision: u64) -> Result<(), Error> {
        let Raw(settings) = self.settings.get(&0, 0).map_err(Error::map("read", "SETTINGS"))?;
        let next = Settings { epoch: settings.epoch.wrapping_add(1), ..settings };
        self.epochs.note(next.epoch, revision);
        self.settings.set(0, Raw(next), 0).map_err(Error::map("write", "SETTINGS"))
    }

    /// How many events a second each sender may cause.
    pub(crate) fn set_event_rate(&mut self, per_second: u32) -> Result<(), Error> {
        let Raw(settings) = self.settings.get(&0, 0).map_err(Error::map("read", "SETTINGS"))?;
        let next = Settings { event_interval_ns: 1_000_000_000 / per_second.max(1), ..settings };
        self.settings.set(0, Raw(next), 0).map_err(Error::map("write", "SETTINGS"))
    }

    pub(crate) fn set_listeners(&mut self, v4: &TcpListener, v6: &TcpListener) -> Result<(), Error> {
        for (index, listener) in [(listener::IPV4, v4), (listener::IPV6, v6)] {
            self.listeners.set(index, listener, 0).map_err(Error::map("put a listener into", "LISTENERS"))?;
        }
        Ok(())
    }

    /// The sum over all CPUs.
    pub(crate) fn counter(&self, index: u32) -> Result<u64, Error> {
        let values = self.counters.get(&index, 0).map_err(Error::map("read", "COUNTERS"))?;
        Ok(values.iter().copied().fold(0, u64::wrapping_add))
    }

    pub(crate) fn identities_in_use(&self) -> BTreeSet<u32> {
        self.entries.identities()
    }
}

impl fmt::Debug for Maps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Maps").field("pins", &self.pins).finish_non_exhaustive()
    }
}

fn create_policy(content: &PolicyMap) -> Result<MapData, MapError> {
    let mut trie = PolicyTrie::create(POLICY_ROOM, BPF_F_NO_PREALLOC)?;
    for ((length, key), verdict) in content {
        trie.insert(&Key::new(*length, Raw(*key)), policy_value(*verdict), 0)?;
    }
    // A second descriptor: the trie keeps its own to itself.
    MapData::from_id(trie.map().info()?.id())
}

fn read_policy(inner: MapData) -> Result<PolicyMap, MapError> {
    let trie = policy_trie(inner)?;
    trie.iter()
        .map(|e| e.map(|(key, Raw(value))| ((key.prefix_len(), key.data().0), value.verdict)))
        .collect()
}

fn policy_trie(map: MapData) -> Result<PolicyTrie, MapError> {
    PolicyTrie::try_from(Map::LpmTrie(map))
}

fn policy_value(verdict: u8) -> Raw<PolicyValue> {
    Raw(PolicyValue { verdict, pad: [0; 3] })
}

/// Does the jobs in threads, results in order.
fn side_by_side<J: Send, R: Send>(jobs: Vec<J>, work: impl Fn(J) -> R + Sync) -> Vec<R> {
    let each = jobs.len().div_ceil(THREADS_MAX).max(1);
    if jobs.len() <= 1 {
        return jobs.into_iter().map(work).collect();
    }
    let (work, mut jobs) = (&work, jobs.into_iter());
    std::thread::scope(|scope| {
        let mut threads = Vec::new();
        while jobs.len() > 0 {
            let some: Vec<J> = jobs.by_ref().take(each).collect();
            threads.push(scope.spawn(move || some.into_iter().map(work).collect::<Vec<_>>()));
        }
        let joined =
            threads.into_iter().map(|t| t.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        joined.flatten().collect()
    })
}
