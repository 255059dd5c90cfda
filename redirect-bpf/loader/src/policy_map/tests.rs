//! The stricter of two policies, against both.

use super::*;
use proptest::prelude::*;
use redirect_abi::verdict::{ALLOW, DENY, REDIRECT};

const NOBODY_FRESH: &dyn Fn(u32) -> bool = &|_| false;

#[track_caller]
fn check(old: &PolicyMap, new: &PolicyMap, expected: &PolicyMap) {
    assert_eq!(stricter(old, new, NOBODY_FRESH), *expected);
}

fn map<const N: usize>(entries: [(u32, PolicyKey, u8); N]) -> PolicyMap {
    entries.into_iter().map(|(length, key, verdict)| ((length, key), verdict)).collect()
}

const fn key(identity: u8, protocol: u8, port: u16) -> PolicyKey {
    PolicyKey { direction: 0, identity: [0, 0, 1, identity], protocol, port: port.to_be_bytes() }
}

const ANY: PolicyKey = PolicyKey { direction: 0, identity: [0; 4], protocol: 0, port: [0; 2] };

#[test]
fn deny_beats_redirect_beats_allow() {
    let of = |verdict| map([(64, key(1, 6, 80), verdict)]);
    check(&of(ALLOW), &of(ALLOW), &of(ALLOW));
    check(&of(ALLOW), &of(REDIRECT), &of(REDIRECT));
    check(&of(REDIRECT), &of(ALLOW), &of(REDIRECT));
    // Denied is what has no entry.
    check(&of(REDIRECT), &of(DENY), &PolicyMap::new());
    check(&of(DENY), &of(ALLOW), &PolicyMap::new());
}

#[test]
fn absence_is_deny() {
    let allow = map([(64, key(1, 6, 80), ALLOW)]);
    check(&allow, &PolicyMap::new(), &PolicyMap::new());
    check(&PolicyMap::new(), &allow, &PolicyMap::new());
}

#[test]
fn a_direction_that_becomes_enforced_is_the_new_one() {
    let new = map([(64, key(1, 6, 80), REDIRECT)]);
    check(&map([(8, ANY, ALLOW)]), &new, &new);
    check(&new, &map([(8, ANY, ALLOW)]), &new);
}

#[test]
fn a_hole_is_kept_where_only_one_has_it() {
    let old = map([(40, key(1, 0, 0), ALLOW)]);
    let new = map([(40, key(1, 0, 0), ALLOW), (64, key(1, 6, 80), DENY)]);
    check(&old, &new, &new);
    check(&new, &old, &new);
}

#[test]
fn a_wide_verdict_meets_a_narrow_one() {
    let old = map([(48, key(1, 6, 0), REDIRECT)]);
    let new = map([(40, key(1, 0, 0), ALLOW), (64, key(1, 6, 80), DENY)]);
    check(&old, &new, &map([(48, key(1, 6, 0), REDIRECT), (64, key(1, 6, 80), DENY)]));
}

#[test]
fn fresh_identities_get_what_is_new() {
    let old = map([(64, key(1, 6, 80), ALLOW)]);
    let new = map([(64, key(1, 6, 80), ALLOW), (64, key(2, 6, 80), ALLOW), (64, key(3, 6, 80), ALLOW)]);
    let two_is_fresh = |identity| identity == 0x102;
    let expected = map([(64, key(1, 6, 80), ALLOW), (64, key(2, 6, 80), ALLOW)]);
    assert_eq!(stricter(&old, &new, &two_is_fresh), expected);
}

/// Few keys, so that prefixes of both maps meet.
fn any_map() -> impl Strategy<Value = PolicyMap> {
    let verdict = prop_oneof![Just(ALLOW), Just(DENY), Just(REDIRECT)];
    let length = prop_oneof![Just(8), Just(40), 48_u32..=64];
    let entry = (length, 0_u8..2, 1_u8..4, 6_u8..8, any_port(), verdict);
    let entry = entry.prop_map(|(length, direction, identity, protocol, port, verdict)| {
        let key = PolicyKey { direction, ..key(identity, protocol, port) };
        ((length, masked(&key, length)), verdict)
    });
    prop::collection::vec(entry, 0..12).prop_map(PolicyMap::from_iter)
}

fn any_port() -> impl Strategy<Value = u16> {
    prop_oneof![Just(0), Just(80), Just(81), Just(0x8000), Just(u16::MAX), any::<u16>()]
}

fn any_key() -> impl Strategy<Value = PolicyKey> {
    (0_u8..2, 1_u8..4, 6_u8..8, any_port()).prop_map(|(direction, identity, protocol, port)| PolicyKey {
        direction,
        ..key(identity, protocol, port)
    })
}

fn masked(key: &PolicyKey, length: u32) -> PolicyKey {
    let mask = u64::MAX.checked_shl(64 - length).unwrap_or(0);
    let [direction, i0, i1, i2, i3, protocol, p0, p1] = (bits(key) & mask).to_be_bytes();
    PolicyKey { direction, identity: [i0, i1, i2, i3], protocol, port: [p0, p1] }
}

proptest! {
    #[test]
    fn it_is_as_strict_as_the_stricter_everywhere(old in any_map(), new in any_map(), keys in prop::collection::vec(any_key(), 64)) {
        let strict = stricter(&old, &new, NOBODY_FRESH);
        for key in keys {
            let expected = strictest(lookup(&old, &key), lookup(&new, &key));
            prop_assert_eq!(lookup(&strict, &key), expected);
        }
    }

    #[test]
    fn it_is_idempotent_and_symmetric(old in any_map(), new in any_map()) {
        let strict = stricter(&old, &new, NOBODY_FRESH);
        prop_assert_eq!(&stricter(&new, &old, NOBODY_FRESH), &strict);
        prop_assert_eq!(&stricter(&strict, &strict, NOBODY_FRESH), &strict);
    }

    #[test]
    fn the_smallest_map_judges_alike(map in any_map(), keys in prop::collection::vec(any_key(), 64)) {
        let minimal = minimal(&map);
        prop_assert!(minimal.len() <= map.len());
        for key in keys {
            prop_assert_eq!(lookup(&minimal, &key), lookup(&map, &key));
        }
        // No entry is there for nothing.
        for entry in minimal.keys() {
            let mut without = minimal.clone();
            let _verdict = without.remove(entry);
            prop_assert_ne!(lookup_prefix(&without, entry), minimal[entry]);
        }
    }

    /// One swap is enough then.
    #[test]
    fn where_the_stricter_judges_like_the_new_it_is_the_new(old in any_map(), new in any_map()) {
        let (old, new) = (minimal(&old), minimal(&new));
        let strict = stricter(&old, &new, NOBODY_FRESH);
        let all = strict.keys().chain(old.keys()).chain(new.keys());
        if all.clone().all(|prefix| lookup_prefix(&strict, prefix) == lookup_prefix(&new, prefix)) {
            prop_assert_eq!(strict, new);
        }
    }

    #[test]
    fn peers_that_nobody_is_get_the_new_verdict(old in any_map(), new in any_map(), keys in prop::collection::vec(any_key(), 64)) {
        let strict = stricter(&old, &new, &|identity| identity == 0x102);
        // Where the new map has nothing of the peer itself, what both say of everybody holds.
        let own = |key: &PolicyKey| new.keys().any(|(length, k)| *length >= 40 && covers(bits(k), *length, bits(key)));
        for key in keys.iter().filter(|key| identity(key) == 0x102 && own(key)) {
            prop_assert_eq!(lookup(&strict, key), lookup(&new, key));
        }
    }
}

/// The verdict for what is as wide as a prefix.
fn lookup_prefix(map: &PolicyMap, (length, key): &(u32, PolicyKey)) -> u8 {
    let not_narrower = map.iter().filter(|((other, _), _)| other <= length);
    lookup(&not_narrower.map(|(prefix, verdict)| (*prefix, *verdict)).collect(), key)
}

/// The kernel's own lookup, written another way: by the bits that both have in common.
pub(crate) fn lookup(map: &PolicyMap, key: &PolicyKey) -> u8 {
    let bits = |key: &PolicyKey| {
        let [port_high, port_low] = key.port;
        let low = u64::from(key.protocol) << 16 | u64::from(port_high) << 8 | u64::from(port_low);
        u64::from(key.direction) << 56 | u64::from(u32::from_be_bytes(key.identity)) << 24 | low
    };
    let key = bits(key);
    let covers = |length: u32, prefix: &PolicyKey| (bits(prefix) ^ key).leading_zeros() >= length;
    let longest = map
        .iter()
        .filter(|((length, prefix), _)| covers(*length, prefix))
        .max_by_key(|((length, _), _)| *length);
    longest.map_or(DENY, |(_, verdict)| *verdict)
}
