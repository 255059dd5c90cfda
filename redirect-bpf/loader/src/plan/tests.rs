//! Plans against a reference trie.

use super::*;
use crate::policy_map::tests::lookup;
use policy_model::RuleRef;
use policy_model::rule::{ObjectKind, ObjectName};
use policy_model::snapshot::PortRules;
use policy_model::verdict::{Denial, DenyReason};
use proptest::prelude::*;
use redirect_abi::verdict::{ALLOW, DENY, REDIRECT};

#[track_caller]
fn check_ports(ports: (u16, u16), expected: &[(u32, u16)]) {
    assert_eq!(PortPrefixes::new(ports).collect::<Vec<_>>(), expected);
}

#[test]
fn ranges_of_ports_become_the_fewest_prefixes() {
    check_ports((80, 80), &[(16, 80)]);
    check_ports((0, 65535), &[(0, 0)]);
    check_ports((80, 81), &[(15, 80)]);
    check_ports((81, 82), &[(16, 81), (16, 82)]);
    check_ports((8000, 8010), &[(13, 8000), (15, 8008), (16, 8010)]);
    check_ports((65535, 65535), &[(16, 65535)]);
    check_ports((32768, 65535), &[(1, 32768)]);
    check_ports((2, 1), &[]);
}

#[test]
fn the_worst_range_is_30_prefixes() {
    assert_eq!(PortPrefixes::new((1, 65534)).count(), 30);
}

#[test]
fn a_direction_that_is_not_enforced_is_one_entry() {
    let ((length, key), verdict) = unenforced(direction::EGRESS);
    assert_eq!((length, key.direction, verdict), (8, 1, ALLOW));
}

#[test]
fn every_protocol_is_the_identity_alone() {
    let entries: Vec<_> = class_entries(0, class(300, None, (0, 65535), allow())).collect();
    let key = PolicyKey { direction: 0, identity: [0, 0, 1, 44], protocol: 0, port: [0; 2] };
    assert_eq!(entries, [((40, key), ALLOW)]);
}

#[test]
fn one_port_is_a_full_key() {
    let entries: Vec<_> = class_entries(1, class(1, Some(Protocol::TCP), (80, 80), inspect())).collect();
    let key = PolicyKey { direction: 1, identity: [0, 0, 0, 1], protocol: 6, port: [0, 80] };
    assert_eq!(entries, [((64, key), REDIRECT)]);
}

#[test]
fn all_ports_of_a_protocol_are_one_entry() {
    let entries: Vec<_> = class_entries(0, class(1, Some(Protocol::UDP), (0, 65535), deny())).collect();
    let key = PolicyKey { direction: 0, identity: [0, 0, 0, 1], protocol: 17, port: [0; 2] };
    assert_eq!(entries, [((48, key), DENY)]);
}

#[track_caller]
fn check_partly(classes: &[PortClass], expected: &[(u32, u8)]) {
    let found = partly_allowed(classes.iter().cloned());
    assert_eq!(found.iter().map(|(id, protocol)| (id.0, protocol.0)).collect::<Vec<_>>(), expected);
}

#[test]
fn protocols_that_are_allowed_from_port_0_on_but_not_to_the_last() {
    let tcp = |ports, verdict| class(300, Some(Protocol::TCP), ports, verdict);
    check_partly(&[class(300, None, (0, 65535), allow())], &[]);
    check_partly(&[tcp((0, 65535), allow())], &[]);
    check_partly(&[tcp((0, 79), allow()), tcp((80, 65535), allow())], &[]);
    check_partly(&[tcp((80, 80), allow())], &[]);
    for other in [deny(), inspect()] {
        check_partly(
            &[tcp((0, 79), allow()), tcp((80, 80), other.clone()), tcp((81, 65535), allow())],
            &[(300, 6)],
        );
        check_partly(&[tcp((0, 0), other.clone()), tcp((1, 65535), allow())], &[]);
        check_partly(&[tcp((0, 65534), allow()), tcp((65535, 65535), other)], &[(300, 6)]);
    }
    check_partly(
        &[tcp((0, 79), allow()), tcp((81, 65535), allow()), class(301, Some(Protocol::UDP), (0, 9), allow())],
        &[(300, 6), (301, 17)],
    );
}

#[track_caller]
fn check_ipcache(prefix: &str, length: u8, expected_length: u32, expected_family: u8) {
    let address: IpAddr = prefix.parse().unwrap();
    let ((length, key), identity) = ipcache_entry(address, length, IdentityId(9));
    assert_eq!((length, key.family, identity), (expected_length, expected_family, 9));
    assert_eq!(ip(key.address), address);
}

#[test]
fn ipcache_prefixes_count_family_and_mapping() {
    check_ipcache("0.0.0.0", 0, 104, 4);
    check_ipcache("10.1.2.3", 32, 136, 4);
    check_ipcache("10.0.0.0", 8, 112, 4);
    check_ipcache("::", 0, 8, 6);
    check_ipcache("f00d::1", 128, 136, 6);
}

#[test]
fn a_difference_says_what_to_write_and_what_to_remove() {
    let old = BTreeMap::from([(1, 'a'), (2, 'b'), (3, 'c')]);
    let new = BTreeMap::from([(2, 'b'), (3, 'x'), (4, 'd')]);
    assert_eq!(difference(&old, &new), Difference { set: vec![(3, 'x'), (4, 'd')], removed: vec![1] });
    assert_eq!(difference(&old, &old), Difference { set: vec![], removed: vec![] });
}

/// Disjoint classes of a few peers: for each, perhaps one of every protocol, and per protocol ports cut at random places.
fn any_classes() -> impl Strategy<Value = Vec<PortClass>> {
    let verdict = || {
        (0_u8..4).prop_map(|v| [Some(allow()), Some(deny()), Some(inspect()), None][usize::from(v)].clone())
    };
    let ports = prop::collection::btree_map(any::<u16>(), verdict(), 0..4);
    let peer = (verdict(), prop::collection::btree_map(prop_oneof![Just(6_u8), Just(17)], ports, 0..3));
    prop::collection::btree_map(0_u32..4, peer, 0..4).prop_map(|peers| {
        peers
            .into_iter()
            .flat_map(|(identity, (all, protocols))| peer_classes(identity, all, protocols))
            .collect()
    })
}

fn peer_classes(
    identity: u32,
    all: Option<PortVerdict>,
    protocols: BTreeMap<u8, BTreeMap<u16, Option<PortVerdict>>>,
) -> Vec<PortClass> {
    let mut classes: Vec<PortClass> =
        all.map(|verdict| class(identity, None, (0, 65535), verdict)).into_iter().collect();
    for (protocol, cuts) in protocols {
        let starts: Vec<u16> = cuts.keys().copied().collect();
        for (index, (first, verdict)) in cuts.into_iter().enumerate() {
            let last = starts.get(index + 1).map_or(65535, |next| next - 1);
            classes.extend(
                verdict.map(|verdict| class(identity, Some(Protocol(protocol)), (first, last), verdict)),
            );
        }
    }
    classes
}

/// What the classes say: those of the protocol before the one of every protocol; what none covers is denied.
fn judged(classes: &[PortClass], identity: u32, protocol: u8, port: u16) -> u8 {
    let mine = || classes.iter().filter(|class| class.identity.0 == identity);
    let covers = |class: &&PortClass| (class.ports.0..=class.ports.1).contains(&port);
    let of_protocol = mine().find(|class| class.protocol == Some(Protocol(protocol)) && covers(class));
    let class = of_protocol.or_else(|| mine().find(|class| class.protocol.is_none()));
    match class.map(|class| &class.verdict) {
        Some(PortVerdict::Allow(_)) => ALLOW,
        Some(PortVerdict::Inspect(_)) => REDIRECT,
        Some(PortVerdict::Deny(_)) | None => DENY,
    }
}

proptest! {
    #[test]
    fn the_longest_prefix_says_what_the_classes_say(
        classes in any_classes(),
        direction in 0_u8..2,
        ports in prop::collection::vec(any::<u16>(), 8),
    ) {
        let map: PolicyMap = classes.iter().flat_map(|class| class_entries(direction, class.clone())).collect();
        let edges = classes.iter().flat_map(|c| [c.ports.0, c.ports.1, c.ports.0.wrapping_sub(1), c.ports.1.wrapping_add(1)]);
        let ports: Vec<u16> = edges.chain(ports).collect();
        for identity in 0..5_u32 {
            for protocol in [1, 6, 17] {
                for port in &ports {
                    let key = PolicyKey { direction, identity: identity.to_be_bytes(), protocol, port: port.to_be_bytes() };
                    prop_assert_eq!(lookup(&map, &key), judged(&classes, identity, protocol, *port));
                }
            }
        }
    }

    #[test]
    fn prefixes_cover_the_range_and_nothing_else(a in any::<u16>(), b in any::<u16>(), probe in any::<u16>()) {
        let (first, last) = (a.min(b), a.max(b));
        let hits = PortPrefixes::new((first, last))
            .filter(|(length, start)| probe.checked_shr(16 - length).unwrap_or(0) == start.checked_shr(16 - length).unwrap_or(0))
            .count();
        prop_assert_eq!(hits, usize::from((first..=last).contains(&probe)));
    }

    #[test]
    fn a_difference_turns_old_into_new(
        old in prop::collection::btree_map(0_u8..8, 0_u8..4, 0..8),
        new in prop::collection::btree_map(0_u8..8, 0_u8..4, 0..8),
    ) {
        let Difference { set, removed } = difference(&old, &new);
        let mut patched = old;
        patched.extend(set);
        patched.retain(|key, _| !removed.contains(key));
        prop_assert_eq!(patched, new);
    }
}

fn class(identity: u32, protocol: Option<Protocol>, ports: (u16, u16), verdict: PortVerdict) -> PortClass {
    PortClass { identity: IdentityId(identity), protocol, ports, verdict }
}

fn allow() -> PortVerdict {
    PortVerdict::Allow(None)
}

fn deny() -> PortVerdict {
    PortVerdict::Deny(Denial { reason: DenyReason::DenyRule, revision: 1, rule: None })
}

fn inspect() -> PortVerdict {
    let object = ObjectName { kind: ObjectKind::CiliumNetworkPolicy, namespace: None, name: "rule".into() };
    PortVerdict::Inspect(Arc::new(PortRules::Unjudgeable(RuleRef::new(object, "spec"))))
}
