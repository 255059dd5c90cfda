//! Who is charged for a flow's entry, and how many each may have.
//!
//! ```text
//!                  own < guaranteed           borrowed < 8 * free            else
//! a new flow ──► OWN                    ──► BORROWED                   ──► direct: in OVERFLOW, may be evicted
//!                                                                          proxied: refused
//! removed ──► whoever's removal succeeds gives back what the entry was charged to
//! ```
//!
//! An entry says who was charged for it and what it was charged to, so that counters are sums over entries and can't drift, and
//! every removal happens here: user space only says which entries to look at.
//! INVARIANT: who opens a flow is charged, never who is asked.
//! INVARIANT: what is guaranteed is never lent: the loader makes the pool of what no guarantee covers.

use redirect_abi::{
    BORROW_FACTOR_LOG2, CLOSED_MAX, ClosedKey, FlowKey, FlowState, Payer, is_closed, kind, lifetime_ns,
    payer, quota, share,
};

use crate::tables::{Account, Refused, Slot, Tables, Tracked, Word};
use crate::verdict::{Reason, Report};

/// What wraps around to one less.
const MINUS_ONE: u64 = u64::MAX;

/// Records a flow; who opened it is in the report. One that is there is written anew, and stays charged as it is.
#[inline(never)]
pub fn insert(
    tables: &impl Tables,
    key: &FlowKey,
    state: &mut FlowState,
    report: &Report,
) -> Result<(), Reason> {
    if let Some(known) = tables.flow(key) {
        known.begin_anew(state);
        return Ok(());
    }
    let Some(account) = open_account(tables, key, state, report) else { return beyond(tables, key, state) };
    state.share = charge(tables, account, key.kind, state.payer);
    if state.share == share::NONE {
        return beyond(tables, key, state);
    }
    match tables.insert_flow(key, state) {
        Ok(()) => Ok(()),
        Err(refused) => {
            discharge(tables, account, key.kind, state.share);
            match refused {
                // By another CPU, for a packet of the same flow.
                Refused::Exists => Ok(()),
                Refused::Full if key.kind == kind::DIRECT => {
                    state.share = share::NONE;
                    beyond(tables, key, state)
                }
                Refused::Full => Err(Reason::MapFull),
            }
        }
    }
}

/// Nothing of what is inspected can be evicted, so that no more of it than there is room for can be let in.
#[inline(always)]
fn beyond(tables: &impl Tables, key: &FlowKey, state: &FlowState) -> Result<(), Reason> {
    if key.kind != kind::DIRECT {
        return Err(Reason::FlowQuota);
    }
    tables.insert_overflow(key, state).map_err(|_full| Reason::MapFull)
}

/// Forgets a flow, if it is there.
#[inline(never)]
pub fn remove(tables: &impl Tables, key: &FlowKey) {
    let Some(flow) = tables.flow(key) else { return };
    let share = flow.share.load();
    let account = account_of(tables, key, flow);
    if tables.remove_flow(key)
        && let Some(account) = account
    {
        discharge(tables, account, key.kind, share);
    }
}

/// What was lent is taken back: the flow goes on, where others may evict it.
#[inline(always)]
pub fn take_back(tables: &impl Tables, key: &FlowKey) {
    let Some(flow) = tables.flow(key).filter(|flow| flow.share.load() == share::BORROWED) else { return };
    let moved = FlowState { share: share::NONE, ..flow.state() };
    if key.kind == kind::DIRECT && tables.insert_overflow(key, &moved).is_ok() {
        remove(tables, key);
    }
}

/// Forgets a flow that has been silent for its lifetime.
#[inline(always)]
pub fn remove_expired(tables: &impl Tables, key: &FlowKey) {
    if tables.flow(key).is_some_and(|flow| is_expired(tables, key, flow)) {
        remove(tables, key);
    }
}

/// Notes that a flow has closed. It stays for what is still on its way, and leaves for those of the same payer that close later:
/// who opens and closes many has no need of anybody to collect them.
#[inline(always)]
pub fn note_closed(tables: &impl Tables, key: &FlowKey, flow: &Tracked) {
    let Some(account) = account_of(tables, key, flow) else { return };
    let (payer, endpoint) = (flow.payer.load(), flow.payer_endpoint.load());
    let room = (guaranteed(tables, key.kind, payer) / 4).min(CLOSED_MAX);
    let place = account.closed.load().checked_rem(room).unwrap_or_default();
    tables.add(&account.closed, 1);
    let Some(slot) = closed_slot(tables, endpoint, payer, place) else { return };
    // Its ports may have been opened again since.
    let oldest = slot.key();
    if tables.flow(oldest).is_some_and(|flow| is_closed(oldest.protocol, flow.flags.load())) {
        remove(tables, oldest);
    }
    slot.store(*key);
}

#[inline(never)]
fn closed_slot<T: Tables>(tables: &T, endpoint: u32, payer: u8, place: u64) -> Option<&Slot> {
    tables.closed(&ClosedKey { endpoint, place: u16::try_from(place).ok()?, payer, pad: 0 })
}

/// Whether an entry means nothing any more.
#[inline(always)]
pub fn is_expired(tables: &impl Tables, key: &FlowKey, flow: &Tracked) -> bool {
    let silent_ns = tables.now_ns().saturating_sub(flow.last_seen_ns.load());
    silent_ns > lifetime_ns(key.protocol, flow.flags.load(), flow.acked_by_source.load())
}

/// The account that a new entry is to be charged to, which the entry names. One without an account of its own has a share in
/// another.
#[inline(never)]
fn open_account<'a, T: Tables>(
    tables: &'a T,
    key: &FlowKey,
    state: &mut FlowState,
    report: &Report,
) -> Option<&'a Account> {
    (state.payer_endpoint, state.payer) = (report.payer_endpoint, report.payer);
    let mut payer = Payer::of(report.payer_endpoint, report.payer, &key.source);
    if let Some(account) = tables.open_account(&payer) {
        return Some(account);
    }
    let account = known_account(tables, &mut payer);
    state.payer = payer.kind;
    account
}

/// The account of a payer if there is one, else, of an outside prefix, the one of all that have none: it is the payer then.
#[inline(always)]
pub fn known_account<'a, T: Tables>(tables: &'a T, payer: &mut Payer) -> Option<&'a Account> {
    if payer.kind != payer::OUTSIDE {
        return tables.account(payer);
    }
    if let Some(account) = tables.account(payer) {
        return Some(account);
    }
    payer.kind = payer::OUTSIDE_REST;
    payer.prefix = [0; 16];
    tables.account(payer)
}

#[inline(never)]
fn account_of<'a, T: Tables>(tables: &'a T, key: &FlowKey, flow: &Tracked) -> Option<&'a Account> {
    tables.account(&Payer::of(flow.payer_endpoint.load(), flow.payer.load(), &key.source))
}

/// What a new entry is charged to; one of [`share`].
#[inline(always)]
fn charge(tables: &impl Tables, account: &Account, kind: u8, payer: u8) -> u8 {
    let quota = quota_of(kind);
    let (Some(own), Some(borrowed), Some(pool)) =
        (word(&account.own, quota), word(&account.borrowed, quota), tables.pool(quota))
    else {
        return share::NONE;
    };
    if own.load() < guaranteed(tables, kind, payer) {
        tables.add(own, 1);
        return share::OWN;
    }
    let free = tables.quota(quota).pool.saturating_sub(pool.load());
    if borrowed.load() < free << BORROW_FACTOR_LOG2 {
        tables.add(borrowed, 1);
        tables.add(pool, 1);
        return share::BORROWED;
    }
    tables.add(&account.over, 1);
    share::NONE
}

#[inline(always)]
fn guaranteed(tables: &impl Tables, kind: u8, payer: u8) -> u64 {
    let limits = tables.quota(quota_of(kind));
    if payer == payer::ENDPOINT { limits.endpoint } else { limits.other }
}

#[inline(always)]
fn discharge(tables: &impl Tables, account: &Account, kind: u8, share: u8) {
    let quota = quota_of(kind);
    let counter = match share {
        share::OWN => word(&account.own, quota),
        share::BORROWED => word(&account.borrowed, quota),
        _ => None,
    };
    if let Some(counter) = counter {
        tables.add(counter, MINUS_ONE);
    }
    if share == share::BORROWED
        && let Some(pool) = tables.pool(quota)
    {
        tables.add(pool, MINUS_ONE);
    }
}

/// A match, where an index would be one that the verifier can't follow.
#[inline(always)]
fn word(words: &[Word<u64>; 3], quota: u32) -> Option<&Word<u64>> {
    let [direct, downstream, upstream] = words;
    match quota {
        quota::DIRECT => Some(direct),
        quota::DOWNSTREAM => Some(downstream),
        quota::UPSTREAM => Some(upstream),
        _ => None,
    }
}

#[inline(always)]
pub fn quota_of(kind: u8) -> u32 {
    match kind {
        kind::PROXY_DOWNSTREAM => quota::DOWNSTREAM,
        kind::PROXY_UPSTREAM => quota::UPSTREAM,
        _ => quota::DIRECT,
    }
}

#[cfg(test)]
mod tests;
