//! Policy maps as functions from packets to verdicts: the smallest map of a function, and the stricter of two. Pure.
//!
//! deny > redirect > allow; what no entry covers is denied.

use redirect_abi::{PolicyKey, verdict};
use std::collections::BTreeMap;

/// Prefix length and key data -> verdict. One inner map; endpoints with equal policy share it.
pub type PolicyMap = BTreeMap<(u32, PolicyKey), u8>;

/// Prefix lengths of policy keys.
pub(crate) const ASPECT_BITS: u32 = 1;
pub(crate) const DIRECTION_BITS: u32 = 8;
pub(crate) const IDENTITY_BITS: u32 = 40;
pub(crate) const PROTOCOL_BITS: u32 = 48;
pub(crate) const PORT_BITS: u32 = 16;

/// The bits of a policy key in the kernel's order.
fn bits(key: &PolicyKey) -> u64 {
    let [i0, i1, i2, i3] = key.identity;
    let [p0, p1] = key.port;
    u64::from_be_bytes([key.direction, i0, i1, i2, i3, key.protocol, p0, p1])
}

pub(crate) fn identity(key: &PolicyKey) -> u32 {
    u32::from_be_bytes(key.identity)
}

/// Without the entries that say what would hold anyhow. Maps that judge alike become equal if their entries were cut alike.
pub(crate) fn minimal(map: &PolicyMap) -> PolicyMap {
    stricter(map, map, &|_| false)
}

/// As strict as the stricter of both for every packet, but for peers that are `fresh`: their identity belongs to no address
/// yet, so nothing of theirs was judged by `old`, and they get what `new` says.
pub(crate) fn stricter(old: &PolicyMap, new: &PolicyMap, fresh: &dyn Fn(u32) -> bool) -> PolicyMap {
    let mut strict = PolicyMap::new();
    // The prefixes that cover the one at hand, outermost first.
    let mut open: Vec<Open> = Vec::new();
    for Both { length, key, old, new } in merged(old, new) {
        while open.pop_if(|outer| !covers(outer.bits, outer.length, bits(&key))).is_some() {}
        let outer = open.last().copied().unwrap_or(Open::NOTHING);
        let (old, new) = (old.unwrap_or(outer.old), new.unwrap_or(outer.new));
        let is_fresh = length >= IDENTITY_BITS && fresh(identity(&key));
        let verdict = if is_fresh { new } else { strictest(old, new) };
        open.push(Open { bits: bits(&key), length, old, new, verdict });
        if verdict != outer.verdict {
            let _none = strict.insert((length, key), verdict);
        }
    }
    strict
}

/// A prefix of either map, with what each says of exactly this prefix.
struct Both {
    length: u32,
    key: PolicyKey,
    old: Option<u8>,
    new: Option<u8>,
}

/// A prefix whose subtree is being walked, with what holds in it.
#[derive(Clone, Copy)]
struct Open {
    bits: u64,
    length: u32,
    old: u8,
    new: u8,
    verdict: u8,
}

impl Open {
    const NOTHING: Self =
        Self { bits: 0, length: 0, old: verdict::DENY, new: verdict::DENY, verdict: verdict::DENY };
}

/// All prefixes of both maps, each before those that it covers.
fn merged(old: &PolicyMap, new: &PolicyMap) -> Vec<Both> {
    let of_old =
        old.iter().map(|((length, key), v)| Both { length: *length, key: *key, old: Some(*v), new: None });
    let of_new =
        new.iter().map(|((length, key), v)| Both { length: *length, key: *key, old: None, new: Some(*v) });
    let mut all: Vec<Both> = of_old.chain(of_new).collect();
    all.sort_by_key(|both| (bits(&both.key), both.length));
    all.dedup_by(|second, first| {
        let same = (second.length, second.key) == (first.length, first.key);
        if same {
            first.old = first.old.or(second.old);
            first.new = first.new.or(second.new);
        }
        same
    });
    all
}

fn covers(prefix: u64, length: u32, key: u64) -> bool {
    let mask = u64::MAX.checked_shl(u64::BITS.saturating_sub(length)).unwrap_or(0);
    prefix & mask == key & mask
}

fn strictest(a: u8, b: u8) -> u8 {
    core::cmp::max_by_key(a, b, |verdict| strictness(*verdict))
}

fn strictness(verdict: u8) -> u8 {
    match verdict {
        verdict::ALLOW => 0,
        verdict::REDIRECT => 1,
        // DENY, and what nobody writes: the kernel drops on it.
        _ => 2,
    }
}

#[cfg(test)]
pub(crate) mod tests;
