//! How many flows each may have: what the programs decide by, and what has to be given back when others need it.
//!
//! INVARIANT: what is guaranteed to all and what may be borrowed is together no more than there is room for.

use crate::error::Error;
use crate::pins::{Pins, ignoring_absence, open};
use crate::pod::Raw;
use crate::sys::ktime_ns;
use aya::maps::{Array, HashMap, MapData, MapError};
use redirect_abi::{Account, BORROW_FACTOR_LOG2, OUTSIDERS_MAX, Payer, Pool, Quota, payer, quota};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Guaranteed to each payer that is no endpoint, if there is room: health probes of an endpoint, an outside prefix.
const OTHER: u64 = 32;
/// Each CPU may let one in beyond a quota while another one does the same.
const SLACK_DIVISOR: u64 = 64;
/// Nothing went to OVERFLOW for this long: who found it empty has seen all that there was.
const SETTLED_NS: u64 = 60_000_000_000;
/// `BPF_NOEXIST`.
const CREATE_ONLY: u64 = 1;

/// How many flows there may be. From the node file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowLimits {
    /// Direct flows that are tracked in all, whatever they are evicted by.
    pub flows_max: u32,
    /// Inspected connections that are tracked in all.
    pub inspected_flows_max: u32,
    /// Of each, what an endpoint has whatever others do.
    pub flows_per_endpoint: u32,
}

/// What a borrower has beyond what it may have.
pub(crate) type Owed = BTreeMap<Payer, u64>;

/// Who opens what is tracked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Opener {
    Endpoint,
    /// An interface that is no endpoint's.
    Nobody,
    /// The node, to an endpoint.
    Node,
    /// Somebody elsewhere, to an endpoint.
    Outside,
}

/// What one opener has, and missed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Direct flows within its quota.
    pub flows: u64,
    /// ... and so far beyond.
    pub flows_over_quota: u64,
    /// Inspected connections.
    pub inspected_flows: u64,
    /// Events beyond its rate, or that found no room.
    pub events_lost: u64,
}

pub(crate) struct Quotas {
    accounts: HashMap<MapData, Raw<Payer>, Raw<Account>>,
    outsiders: HashMap<MapData, Raw<Payer>, Raw<Account>>,
    pools: Array<MapData, Raw<Pool>>,
    quotas: Array<MapData, Raw<Quota>>,
    /// When a flow last went to OVERFLOW, as the programs have it.
    overflowed: Array<MapData, u64>,
    /// How many of each [`quota`] there is room for.
    room: [u64; 3],
    per_endpoint: u64,
    /// Ids of endpoints that have accounts.
    endpoints: BTreeSet<u32>,
    /// What accounts of outside prefixes had counted when they were forgotten, by the endpoint that was asked.
    forgotten: BTreeMap<u32, Account>,
}

impl Quotas {
    pub(crate) fn open(pins: &Pins, limits: FlowLimits) -> Result<Self, Error> {
        // Pinned maps keep the size that they were made with.
        let room = |map: &'static str, limit: u32| -> Result<u64, Error> {
            let info = MapData::from_pin(pins.map(map)).and_then(|map| map.info());
            let entries = info.map_err(Error::map("open", map))?.max_entries();
            if entries < limit {
                tracing::warn!(
                    map,
                    entries,
                    limit,
                    "the pinned map is smaller than `[limits]` says: run `sluice uninstall` and start again"
                );
            }
            Ok(entries.min(limit).into())
        };
        let inspected = room("PROXIED", limits.inspected_flows_max.saturating_mul(2))? / 2;
        Ok(Self {
            accounts: open(pins, "ACCOUNTS")?,
            outsiders: open(pins, "OUTSIDERS")?,
            pools: open(pins, "POOLS")?,
            quotas: open(pins, "QUOTAS")?,
            overflowed: open(pins, "OVERFLOWED")?,
            room: [room("CONNTRACK", limits.flows_max)?, inspected, inspected],
            per_endpoint: limits.flows_per_endpoint.into(),
            endpoints: BTreeSet::new(),
            forgotten: BTreeMap::new(),
        })
    }

    /// From now on these are the endpoints: each has its accounts, and all together their guarantees.
    pub(crate) fn cover(&mut self, endpoints: BTreeSet<u32>) -> Result<(), Error> {
        if endpoints == self.endpoints {
            return Ok(());
        }
        let of_endpoints = endpoints.iter().flat_map(|id| KINDS.map(|kind| (*id, kind)));
        // Also what comes from an interface that is no endpoint's has a rate of events.
        for (endpoint, kind) in of_endpoints.chain([(0, payer::NOBODY)]) {
            let payer = Payer { endpoint, kind, ..Payer::default() };
            match self.accounts.insert(Raw(payer), Raw(Account::default()), CREATE_ONLY) {
                Err(MapError::SyscallError(error)) if error.io_error.raw_os_error() == Some(libc::EEXIST) => {
                }
                other => other.map_err(Error::map("write", "ACCOUNTS"))?,
            }
        }
        let count = u64::try_from(endpoints.len()).unwrap_or(u64::MAX);
        for (index, quota) in self.shares(count) {
            self.quotas.set(index, Raw(quota), 0).map_err(Error::map("write", "QUOTAS"))?;
        }
        self.endpoints = endpoints;
        Ok(())
    }

    fn shares(&self, endpoints: u64) -> [(u32, Quota); 3] {
        let [direct, downstream, upstream] = self.room;
        let of = |room, outsiders| shares(room, self.per_endpoint, endpoints, outsiders);
        [
            (quota::DIRECT, of(direct, OUTSIDERS_MAX.into())),
            // What comes from outside is not inspected.
            (quota::DOWNSTREAM, of(downstream, 0)),
            (quota::UPSTREAM, of(upstream, 0)),
        ]
    }

    /// Borrowers of direct flows who have more than they may, since others have come. The biggest gives back first.
    pub(crate) fn owed(&self) -> Result<Owed, Error> {
        let read = |map: &'static str| Error::map("read", map);
        let Raw(pool) = self.pools.get(&quota::DIRECT, 0).map_err(read("POOLS"))?;
        let Raw(quota) = self.quotas.get(&quota::DIRECT, 0).map_err(read("QUOTAS"))?;
        let mut borrowers = Vec::new();
        for (payer, account) in self.all()? {
            let [borrowed, ..] = account.borrowed;
            borrowers.push((borrowed, payer));
        }
        Ok(owed(borrowers, pool.borrowed, quota.pool))
    }

    /// Accounts of outside prefixes to which nothing is charged make room for others.
    pub(crate) fn forget_idle(&mut self) -> Result<(), Error> {
        let idle = |account: &Account| account.own == [0; 3] && account.borrowed == [0; 3];
        let all: Vec<_> = self.outsiders.iter().filter_map(Result::ok).collect();
        for (payer, _) in all.iter().filter(|(_, Raw(account))| idle(account)) {
            // Looked at again: the window in which it may come to be used is that of two system calls.
            let Ok(Raw(account)) = self.outsiders.get(payer, 0) else { continue };
            if idle(&account) {
                ignoring_absence(self.outsiders.remove(payer))
                    .map_err(Error::map("remove from", "OUTSIDERS"))?;
                let Raw(Payer { endpoint, .. }) = *payer;
                let forgotten = self.forgotten.entry(endpoint).or_default();
                forgotten.over += account.over;
                forgotten.events_lost += account.events_lost;
            }
        }
        Ok(())
    }

    /// What each opener has, by the endpoint that opens or is asked. Of prefixes outside the sum.
    pub(crate) fn usage(&self) -> Result<BTreeMap<(u32, Opener), Usage>, Error> {
        let mut usage: BTreeMap<(u32, Opener), Usage> = BTreeMap::new();
        for (payer, account) in self.all()? {
            let opener = match payer.kind {
                payer::ENDPOINT => Opener::Endpoint,
                payer::NODE => Opener::Node,
                payer::NOBODY => Opener::Nobody,
                _outside => Opener::Outside,
            };
            let [own, own_inspected, _] = account.own;
            let [borrowed, borrowed_inspected, _] = account.borrowed;
            let sum = usage.entry((payer.endpoint, opener)).or_default();
            sum.flows += own + borrowed;
            sum.flows_over_quota += account.over;
            sum.inspected_flows += own_inspected + borrowed_inspected;
            sum.events_lost += account.events_lost;
        }
        for (endpoint, forgotten) in &self.forgotten {
            let sum = usage.entry((*endpoint, Opener::Outside)).or_default();
            sum.flows_over_quota += forgotten.over;
            sum.events_lost += forgotten.events_lost;
        }
        Ok(usage)
    }

    /// OVERFLOW was found empty: the programs need not look there until something goes there again.
    pub(crate) fn note_nothing_over(&mut self) -> Result<(), Error> {
        let at = self.overflowed.get(&0, 0).map_err(Error::map("read", "OVERFLOWED"))?;
        if at != 0 && ktime_ns().saturating_sub(at) > SETTLED_NS {
            self.overflowed.set(0, 0, 0).map_err(Error::map("write", "OVERFLOWED"))?;
        }
        Ok(())
    }

    /// Every account.
    pub(crate) fn all(&self) -> Result<Vec<(Payer, Account)>, Error> {
        let mut all = Vec::new();
        for (map, name) in [(&self.accounts, "ACCOUNTS"), (&self.outsiders, "OUTSIDERS")] {
            for entry in map.iter() {
                match entry {
                    Ok((Raw(payer), Raw(account))) => all.push((payer, account)),
                    // Removed meanwhile.
                    Err(MapError::KeyNotFound) => {}
                    Err(error) => return Err(Error::map("read", name)(error)),
                }
            }
        }
        Ok(all)
    }
}

impl fmt::Debug for Quotas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Quotas").field("room", &self.room).finish_non_exhaustive()
    }
}

const KINDS: [u8; 3] = [payer::ENDPOINT, payer::NODE, payer::OUTSIDE_REST];

/// Half of the room at most is guaranteed to endpoints, a quarter to others; the rest is for all.
fn shares(room: u64, per_endpoint: u64, endpoints: u64, outsiders: u64) -> Quota {
    let endpoints = endpoints.max(1);
    // The node and the rest of the outside have an account for each endpoint.
    let others = outsiders.saturating_add(endpoints.saturating_mul(2));
    let endpoint = per_endpoint.min(room / 2 / endpoints);
    let other = OTHER.min(room / 4 / others);
    let guaranteed = endpoint.saturating_mul(endpoints).saturating_add(other.saturating_mul(others));
    let pool = room.saturating_sub(guaranteed).saturating_sub(room / SLACK_DIVISOR);
    Quota { endpoint, other, pool }
}

/// What is left of `pool` is lent anew by each that is given back.
fn owed(mut borrowers: Vec<(u64, Payer)>, borrowed: u64, pool: u64) -> Owed {
    borrowers.sort_unstable_by(|one, other| other.cmp(one));
    let mut free = pool.saturating_sub(borrowed);
    let mut missing = borrowed.saturating_sub(pool);
    let mut owed = Owed::new();
    for (has, payer) in borrowers {
        let may = free << BORROW_FACTOR_LOG2;
        if has <= may {
            break;
        }
        // Each that is given back is one more that is free: has - back = factor * (free + back).
        let back = (has - may).div_ceil((1 << BORROW_FACTOR_LOG2) + 1).saturating_add(missing).min(has);
        free = free.saturating_add(back.saturating_sub(missing));
        missing = missing.saturating_sub(back);
        let _none = owed.insert(payer, back);
    }
    owed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_shares(room: u64, per_endpoint: u64, endpoints: u64, outsiders: u64) -> Quota {
        let quota = shares(room, per_endpoint, endpoints, outsiders);
        let others = outsiders + 2 * endpoints.max(1);
        let promised = quota.endpoint * endpoints.max(1) + quota.other * others + quota.pool;
        assert!(promised <= room, "{quota:?}");
        assert!(quota.pool >= room / 5, "{quota:?}");
        quota
    }

    #[test]
    fn no_more_is_promised_than_there_is_room_for() {
        let usual = check_shares(131_072, 1024, 30, 1024);
        assert_eq!((usual.endpoint, usual.other), (1024, 30), "a quarter of the room for all others");
        assert_eq!(check_shares(131_072, 1024, 64, 1024).endpoint, 1024);
        assert_eq!(check_shares(131_072, 1024, 65, 1024).endpoint, 1008, "half of the room for all of them");
        for endpoints in [0, 1, 2, 110, 250, 4096, 65_535] {
            for room in [1024, 16_384, 131_072, 4_194_304] {
                let _quota = check_shares(room, 1024, endpoints, 1024);
                let _quota = check_shares(room, 65_536, endpoints, 0);
            }
        }
    }

    fn payer(endpoint: u32) -> Payer {
        Payer { endpoint, kind: payer::ENDPOINT, ..Payer::default() }
    }

    #[test]
    fn one_that_has_all_owes_nothing_until_others_come() {
        assert_eq!(owed(vec![(800, payer(1))], 800, 900), Owed::new());
        assert_eq!(owed(vec![(800, payer(1)), (10, payer(2))], 810, 900), Owed::from([(payer(1), 9)]));
    }

    #[test]
    fn the_biggest_gives_back_first_until_all_have_what_they_may() {
        let mut has = [(700, payer(1)), (150, payer(2)), (40, payer(3))];
        for _ in 0..50 {
            let lent = has.iter().map(|(has, _)| has).sum();
            let owed = owed(has.to_vec(), lent, 900);
            for (has, payer) in &mut has {
                *has -= owed.get(payer).copied().unwrap_or_default();
            }
        }
        let lent: u64 = has.iter().map(|(has, _)| has).sum();
        assert!(has.iter().all(|(has, _)| *has <= (900 - lent) * 8), "{has:?}");
        assert_eq!((has[1].0, has[2].0), (150, 40));
        assert!(has[0].0 > 500, "no more than has to be: {has:?}");
    }

    #[test]
    fn a_smaller_pool_is_given_back_too() {
        let owed = owed(vec![(500, payer(1)), (400, payer(2))], 900, 700);
        assert!(owed.values().sum::<u64>() >= 200, "{owed:?}");
        assert!(owed.iter().all(|(who, back)| *back <= if *who == payer(1) { 500 } else { 400 }));
    }
}
