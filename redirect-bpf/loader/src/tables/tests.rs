//! Differences of tables, against reference models.

use super::*;
use redirect_abi::verdict::{ALLOW, REDIRECT};
use redirect_abi::{IpcacheKey, PolicyKey, family};

/// A policy that gives each of these identities a verdict.
fn policy<const N: usize>(verdicts: [(u32, u8); N]) -> Arc<PolicyMap> {
    let key = |identity: u32| PolicyKey {
        direction: 0,
        identity: identity.to_be_bytes(),
        protocol: 0,
        port: [0; 2],
    };
    Arc::new(verdicts.into_iter().map(|(identity, verdict)| ((40, key(identity)), verdict)).collect())
}

fn installed<const N: usize>(policies: [(u32, u32, &Arc<PolicyMap>); N]) -> InstalledPolicies {
    policies
        .into_iter()
        .map(|(id, map, content)| (id, Installed { map, content: Arc::clone(content) }))
        .collect()
}

fn wanted<const N: usize>(policies: [(u32, &Arc<PolicyMap>); N]) -> Policies {
    policies.into_iter().map(|(id, content)| (id, Arc::clone(content))).collect()
}

/// Identities from 1000 on belong to nobody.
#[track_caller]
fn check_step(installed: &InstalledPolicies, wanted: &Policies, in_place: &[u32], swapped: &[&[u32]]) {
    let step = step(installed, wanted, &|identity| identity >= 1000);
    assert_eq!(step.in_place.keys().copied().collect::<Vec<_>>(), in_place, "in place");
    assert_eq!(step.swaps.iter().map(|(_, ids)| &**ids).collect::<Vec<_>>(), swapped, "swapped");
}

#[test]
fn what_is_as_wanted_is_left_alone() {
    let a = policy([(300, ALLOW)]);
    let equal = policy([(300, ALLOW)]);
    check_step(&installed([(1, 10, &a)]), &wanted([(1, &equal)]), &[], &[]);
}

#[test]
fn what_a_packet_could_meet_is_swapped() {
    let (a, b) = (policy([(300, ALLOW)]), policy([(300, REDIRECT)]));
    check_step(&installed([(1, 10, &a)]), &wanted([(1, &b)]), &[], &[&[1]]);
    check_step(&installed([(1, 10, &a), (2, 10, &a)]), &wanted([(1, &b), (2, &b)]), &[], &[&[1, 2]]);
    check_step(&installed([]), &wanted([(1, &b), (2, &a)]), &[], &[&[1], &[2]]);
}

#[test]
fn an_identity_of_nobody_is_added_and_removed_in_place() {
    let (a, b) = (policy([(300, ALLOW)]), policy([(300, ALLOW), (1000, REDIRECT)]));
    check_step(&installed([(1, 10, &a), (2, 10, &a)]), &wanted([(1, &b), (2, &b)]), &[10], &[]);
    check_step(&installed([(1, 10, &b), (2, 10, &b)]), &wanted([(1, &a), (2, &a)]), &[10], &[]);
    // Two maps of equal content are two maps.
    check_step(&installed([(1, 10, &a), (2, 11, &a)]), &wanted([(1, &b), (2, &b)]), &[10, 11], &[]);
}

#[test]
fn sharers_that_part_are_not_changed_in_place() {
    let (a, b) = (policy([(300, ALLOW)]), policy([(300, ALLOW), (1000, REDIRECT)]));
    check_step(&installed([(1, 10, &a), (2, 10, &a)]), &wanted([(1, &a), (2, &b)]), &[], &[&[2]]);
}

#[test]
fn a_direction_that_opens_is_never_changed_in_place() {
    let a = policy([(1000, ALLOW)]);
    let key = PolicyKey { direction: 0, identity: [0; 4], protocol: 0, port: [0; 2] };
    let open = Arc::new(PolicyMap::from([((8, key), ALLOW)]));
    check_step(&installed([(1, 10, &a)]), &wanted([(1, &open)]), &[], &[&[1]]);
}

#[test]
fn endpoints_that_are_not_named_are_left_alone() {
    let (a, b) = (policy([(300, ALLOW)]), policy([(300, REDIRECT)]));
    check_step(&installed([(1, 10, &a), (2, 11, &a)]), &wanted([(1, &b)]), &[], &[&[1]]);
}

#[test]
fn reserved_identities_are_always_in_use() {
    let nobody = BTreeSet::new();
    let unused = unused(&nobody);
    assert!(!unused(0) && !unused(2) && !unused(255));
    assert!(unused(256));
}

#[test]
fn one_swap_where_the_change_only_closes_or_only_opens() {
    let (open, closed) = (policy([(300, ALLOW)]), policy([(300, REDIRECT)]));
    let fresh = |_| false;
    let strict = strict_policies(&installed([(1, 10, &open)]), &wanted([(1, &closed)]), &fresh);
    assert!(Arc::ptr_eq(&strict[&1], &closed));
    let strict = strict_policies(&installed([(1, 10, &closed)]), &wanted([(1, &open)]), &fresh);
    assert!(Arc::ptr_eq(&strict[&1], &closed));
}

#[test]
fn sharers_share_what_comes_between_too() {
    let (old, new) = (policy([(300, ALLOW), (301, REDIRECT)]), policy([(300, REDIRECT), (301, ALLOW)]));
    let strict =
        strict_policies(&installed([(1, 10, &old), (2, 10, &old)]), &wanted([(1, &new), (2, &new)]), &|_| {
            false
        });
    assert!(Arc::ptr_eq(&strict[&1], &strict[&2]));
    assert_eq!(strict[&1], policy([(300, REDIRECT), (301, REDIRECT)]));
}

#[test]
fn a_new_endpoint_gets_the_new_policy_at_once() {
    let new = policy([(300, ALLOW)]);
    assert!(Arc::ptr_eq(&strict_policies(&installed([]), &wanted([(1, &new)]), &|_| false)[&1], &new));
}

fn planned(id: u32, identity: u32) -> PlannedEndpoint {
    let v4 = crate::plan::address([10, 0, 0, 1].into());
    PlannedEndpoint { id, identity, v4: Some(v4), v6: None, policy: policy([]) }
}

#[test]
fn an_endpoint_without_its_interface_is_known_by_address_only() {
    let plan = Plan { endpoints: [("lxc".into(), planned(7, 300))].into(), ..Plan::default() };
    let absent = Entries::of(&plan, |_| 0);
    assert_eq!((absent.endpoints.len(), absent.addresses.len()), (0, 1));
    let present = Entries::of(&plan, |_| 12);
    assert_eq!(present.endpoints[&12], present.addresses[&planned(7, 300).v4.unwrap()]);
    assert_eq!((present.endpoints[&12].families, present.endpoints[&12].ifindex), (1, 12));
}

#[test]
fn between_two_plans_everything_of_both_is_known_and_the_new_one_decides() {
    let key = |last| (136, IpcacheKey { family: family::IPV4, address: [last; 16], pad: [0; 3] });
    let with = |ipcache: &[(u8, u32)]| Entries {
        ipcache: ipcache.iter().map(|(last, id)| (key(*last), *id)).collect(),
        ..Entries::default()
    };
    assert_eq!(
        with(&[(1, 301), (2, 302)]).over(&with(&[(1, 300), (3, 303)])),
        with(&[(1, 301), (2, 302), (3, 303)])
    );
}
