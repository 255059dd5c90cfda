//! What packets meet: verdicts, swaps, cut flows, both families.

use crate::fixture::{Node, PORT, addresses, plan, v4, v6};
use crate::lifecycle::{apply, start};
use crate::peers::{
    Server, assert_dropped, assert_lands, assert_reset, connect, datagrams, exchange, pair, reaches, talk,
};
use policy_model::rule::Protocol;
use redirect::plan::Plan;
use redirect::{DropReason, Fate, KernelEvent, Redirector};
use redirect_abi::verdict::{ALLOW, DENY, REDIRECT};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

const TCP: u8 = 6;
const UDP: u8 = 17;
const HTTP: Option<(u8, u16)> = Some((TCP, PORT));

#[test]
#[ignore = "needs root"]
fn allowed_pods_land_and_others_time_out() {
    let node = Node::with_pods(3);
    let _server = Server::echo(&node, 0, PORT);
    let _other_port = Server::echo(&node, 0, 81);
    let mut redirector = start(&node);
    apply(&node, &mut redirector, plan(3, &[]));
    for to in addresses(0, PORT) {
        assert_lands(&node, 1, to);
        assert_lands(&node, 2, to);
    }
    apply(&node, &mut redirector, plan(3, &[(0, &[(1, HTTP, ALLOW)])]));
    for (to, other) in addresses(0, PORT).into_iter().zip(addresses(0, 81)) {
        assert_lands(&node, 1, to);
        assert_dropped(&node, 1, other);
        assert_dropped(&node, 2, to);
    }
    apply(&node, &mut redirector, plan(3, &[]));
    addresses(0, PORT).iter().for_each(|to| assert_lands(&node, 2, *to));
}

#[test]
#[ignore = "needs root"]
fn drops_are_told_with_identities() {
    let node = Node::with_pods(2);
    let mut redirector = start(&node);
    apply(&node, &mut redirector, plan(2, &[(0, &[])]));
    for to in addresses(0, PORT) {
        assert_dropped(&node, 1, to);
    }
    let events = events(&mut redirector);
    for to in addresses(0, PORT) {
        let event = events.iter().find(|event| event.destination == to).expect("an event");
        assert_eq!(event.drop, Some(DropReason::Policy));
        assert_eq!((event.source_identity, event.destination_identity), (1001, 1000));
        let now = u64::try_from(
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos(),
        )
        .unwrap();
        assert!(event.unix_ns <= now && event.unix_ns + 60_000_000_000 > now, "{event:?}");
    }
    assert!(counter(&redirector, "policy") >= 2);
}

#[test]
#[ignore = "needs root"]
fn redirected_connections_reach_the_listener_with_both_addresses() {
    let node = Node::with_pods(3);
    let server = Server::echo(&node, 0, PORT);
    let proxy = Server::proxy(&node, 1);
    let mut redirector = start(&node);
    let (v4_listener, v6_listener) = proxy.listeners();
    redirector.set_listeners(v4_listener, v6_listener).unwrap();
    apply(&node, &mut redirector, plan(3, &[(0, &[(1, HTTP, REDIRECT)])]));
    for (to, client) in addresses(0, PORT).into_iter().zip([IpAddr::V4(v4(1)), IpAddr::V6(v6(1))]) {
        assert_lands(&node, 1, to);
        assert_dropped(&node, 2, to);
        assert_eq!(proxy.clients.lock().unwrap().pop().unwrap().ip(), client, "the proxy sees the client");
        assert_eq!(server.clients.lock().unwrap().pop().unwrap().ip(), client, "the server sees the client");
    }
    assert_eq!(counter(&redirector, "redirected"), 2);
}

#[test]
#[ignore = "needs root"]
fn the_group_of_a_listener_shares_the_connections() {
    let node = Node::with_pods(2);
    let _server = Server::echo(&node, 0, PORT);
    let proxy = Server::proxy(&node, 2);
    let mut redirector = start(&node);
    let (v4_listener, v6_listener) = proxy.listeners();
    redirector.set_listeners(v4_listener, v6_listener).unwrap();
    apply(&node, &mut redirector, plan(2, &[(0, &[(1, HTTP, REDIRECT)])]));
    for to in addresses(0, PORT) {
        (0..32).for_each(|_| assert_lands(&node, 1, to));
    }
    let served: Vec<usize> = proxy.accepted();
    assert_eq!(served.iter().sum::<usize>(), 64);
    assert!(served.iter().all(|count| *count > 0), "{served:?}");
}

#[test]
#[ignore = "needs root"]
fn drops_are_told_with_the_revision_that_judged() {
    let node = Node::with_pods(2);
    let mut redirector = start(&node);
    let [to, _] = addresses(0, PORT);
    for revision in [5, 6] {
        apply(&node, &mut redirector, Plan { revision, ..plan(2, &[(0, &[])]) });
        assert_dropped(&node, 1, to);
    }
    // Both are read when the second one is in force.
    let revisions: BTreeSet<_> = events(&mut redirector).iter().map(|event| event.revision).collect();
    assert_eq!(revisions, [Some(5), Some(6)].into());
    drop(redirector);
    // What an earlier process has left in force has no number that this one knows.
    let mut redirector = start(&node);
    let [_, other] = addresses(0, PORT);
    assert_dropped(&node, 1, other);
    let told = events(&mut redirector);
    let told = told.iter().find(|event| event.destination == other).expect("an event");
    assert_eq!((told.drop, told.revision), (Some(DropReason::Policy), None));
}

#[test]
#[ignore = "needs root"]
fn without_a_proxy_redirected_connections_are_dropped() {
    let node = Node::with_pods(2);
    let _server = Server::echo(&node, 0, PORT);
    let mut redirector = start(&node);
    apply(&node, &mut redirector, plan(2, &[(0, &[(1, HTTP, REDIRECT)])]));
    addresses(0, PORT).iter().for_each(|to| assert_dropped(&node, 1, *to));
    assert!(events(&mut redirector).iter().any(|event| event.drop == Some(DropReason::NoListener)));
}

#[test]
#[ignore = "needs root"]
fn policy_stays_in_force_without_a_process_and_until_the_next_one_has_a_plan() {
    let node = Node::with_pods(3);
    let _server = Server::echo(&node, 0, PORT);
    let mut first = start(&node);
    apply(&node, &mut first, plan(3, &[(0, &[(1, HTTP, ALLOW)])]));
    let [to, _] = addresses(0, PORT);
    let lasting = connect(&node, 1, to).unwrap();
    drop(first);
    assert_lands(&node, 1, to);
    assert_dropped(&node, 2, to);
    let mut second = start(&node);
    assert_lands(&node, 1, to);
    assert_dropped(&node, 2, to);
    talk(&lasting).unwrap();
    // What the first one left is replaced, stale entries included.
    apply(&node, &mut second, plan(3, &[(0, &[(2, HTTP, ALLOW)])]));
    assert_lands(&node, 2, to);
    assert_dropped(&node, 1, to);
}

#[test]
#[ignore = "needs root"]
fn between_the_halves_of_a_change_the_stricter_policy_holds() {
    let node = Node::with_pods(3);
    let _server = Server::echo(&node, 0, PORT);
    let mut redirector = start(&node);
    apply(&node, &mut redirector, plan(3, &[(0, &[(1, HTTP, ALLOW)])]));
    let [to, _] = addresses(0, PORT);
    let pending = node.run(|| redirector.apply_before(plan(3, &[(0, &[(2, HTTP, ALLOW)])]))).unwrap();
    assert_dropped(&node, 1, to);
    assert_dropped(&node, 2, to);
    node.run(|| redirector.apply_after(pending)).unwrap();
    assert_dropped(&node, 1, to);
    assert_lands(&node, 2, to);
}

#[test]
#[ignore = "needs root"]
fn revoked_connections_are_reset_at_both_ends() {
    check_cut(&[(1, HTTP, DENY)], Fate::Revoke);
}

#[test]
#[ignore = "needs root"]
fn connections_that_need_inspection_now_are_reset_at_both_ends() {
    check_cut(&[(1, HTTP, REDIRECT)], Fate::RedirectRequired);
}

#[track_caller]
fn check_cut(rules: &[crate::fixture::Rule], fate: Fate) {
    let node = Node::with_pods(2);
    let mut redirector = start(&node);
    for to in addresses(0, PORT) {
        apply(&node, &mut redirector, plan(2, &[]));
        let (near, far) = pair(&node, 1, 0, to);
        // Long enough for both ends to put off acknowledgements.
        (0..100).for_each(|_| exchange(&near, &far));
        let client = near.local_addr().unwrap();
        let pending = node.run(|| redirector.apply_before(plan(2, &[(0, rules)]))).unwrap();
        let judge = |flow: &policy_model::Flow| if flow.destination == to.ip() { fate } else { Fate::Keep };
        let cut = node.run(|| redirector.judge_flows(&judge)).unwrap();
        node.run(|| redirector.apply_after(pending)).unwrap();
        let cut: Vec<_> = cut.iter().map(|c| (c.client, c.server, c.protocol, c.redirect_required)).collect();
        assert_eq!(cut, [(client, to, Protocol::TCP, fate == Fate::RedirectRequired)]);
        assert_reset(&near);
        assert_reset(&far);
    }
}

#[test]
#[ignore = "needs root"]
fn flows_that_may_go_on_go_on() {
    let node = Node::with_pods(2);
    let mut redirector = start(&node);
    apply(&node, &mut redirector, plan(2, &[]));
    let [to, _] = addresses(0, PORT);
    let (near, far) = pair(&node, 1, 0, to);
    let pending = node.run(|| redirector.apply_before(plan(2, &[(0, &[(1, HTTP, ALLOW)])]))).unwrap();
    assert_eq!(node.run(|| redirector.judge_flows(&|_| Fate::Keep)).unwrap(), []);
    node.run(|| redirector.apply_after(pending)).unwrap();
    exchange(&near, &far);
}

#[test]
#[ignore = "needs root"]
fn datagrams_of_a_revoked_flow_stop_in_both_directions() {
    let node = Node::with_pods(2);
    let mut redirector = start(&node);
    let allowed = || plan(2, &[(0, &[(1, Some((UDP, 53)), ALLOW)]), (1, &[])]);
    for (to, from) in addresses(0, 53).into_iter().zip(addresses(1, 4000)) {
        apply(&node, &mut redirector, allowed());
        let (server, client) = (datagrams(&node, 0, to), datagrams(&node, 1, from));
        assert!(reaches(&client, &server));
        assert!(reaches(&server, &client), "a reply");
        let pending = node.run(|| redirector.apply_before(plan(2, &[(0, &[]), (1, &[])]))).unwrap();
        let cut = node.run(|| redirector.judge_flows(&|_| Fate::Revoke)).unwrap();
        assert!(cut.iter().any(|c| (c.client, c.server, c.protocol) == (from, to, Protocol::UDP)), "{cut:?}");
        node.run(|| redirector.apply_after(pending)).unwrap();
        assert!(!reaches(&server, &client), "a late reply");
        assert!(!reaches(&client, &server));
        // Allowed again, it goes on.
        apply(&node, &mut redirector, allowed());
        assert!(reaches(&client, &server));
        assert!(reaches(&server, &client));
    }
}

/// The programs see for themselves that a flow was judged under a policy that is no longer in force.
#[test]
#[ignore = "needs root"]
fn replies_stop_even_if_nobody_cuts_their_flow() {
    let node = Node::with_pods(2);
    let mut redirector = start(&node);
    for (to, from) in addresses(0, 53).into_iter().zip(addresses(1, 4000)) {
        apply(&node, &mut redirector, plan(2, &[(0, &[(1, Some((UDP, 53)), ALLOW)]), (1, &[])]));
        let (server, client) = (datagrams(&node, 0, to), datagrams(&node, 1, from));
        assert!(reaches(&client, &server));
        assert!(reaches(&server, &client));
        apply(&node, &mut redirector, plan(2, &[(0, &[]), (1, &[])]));
        assert!(!reaches(&server, &client));
    }
}

/// From the first half of the change on: judging flows may take its time.
#[test]
#[ignore = "needs root"]
fn replies_stop_before_any_flow_is_judged() {
    for rules in [&[][..], &[(1, Some((UDP, 53)), REDIRECT)]] {
        let node = Node::with_pods(2);
        let mut redirector = start(&node);
        for (to, from) in addresses(0, 53).into_iter().zip(addresses(1, 4000)) {
            apply(&node, &mut redirector, plan(2, &[(0, &[(1, Some((UDP, 53)), ALLOW)]), (1, &[])]));
            let (server, client) = (datagrams(&node, 0, to), datagrams(&node, 1, from));
            assert!(reaches(&client, &server));
            assert!(reaches(&server, &client));
            let pending = node.run(|| redirector.apply_before(plan(2, &[(0, rules), (1, &[])]))).unwrap();
            assert!(!reaches(&server, &client), "{rules:?}");
            assert!(!reaches(&client, &server), "{rules:?}");
            node.run(|| redirector.apply_after(pending)).unwrap();
        }
    }
}

/// Thousands of flows of one opener, from as many addresses, are judged and cut in pieces, and no neighbour waits for them.
#[test]
#[ignore = "needs root"]
fn a_flood_of_flows_holds_up_nobody_s_cut() {
    const FLOOD: u16 = 10_000;
    let node = Node::with_pods(2);
    let mut redirector = start(&node);
    apply(&node, &mut redirector, plan(2, &[]));
    let mut conntrack = conntrack(&node);
    for port in 0..FLOOD {
        let mut key = [0_u8; 40];
        key[..16].fill(9);
        key[14..16].copy_from_slice(&port.to_be_bytes());
        key[36] = UDP;
        let mut state = [0_u8; 40];
        state[..8].copy_from_slice(&u64::MAX.to_ne_bytes());
        conntrack.insert(key, state, 0).unwrap();
    }
    let [to, _] = addresses(0, PORT);
    let (near, far) = pair(&node, 1, 0, to);
    let pending = node.run(|| redirector.apply_before(plan(2, &[(0, &[])]))).unwrap();
    let judged = AtomicUsize::new(0);
    let revoke = |_: &policy_model::Flow| {
        let _before = judged.fetch_add(1, Ordering::Relaxed);
        Fate::Revoke
    };
    let first = node.run(|| redirector.judge_flows(&revoke)).unwrap();
    node.run(|| redirector.apply_after(pending)).unwrap();
    assert!(first.len() < usize::from(FLOOD), "{}", first.len());
    assert_eq!(judged.load(Ordering::Relaxed), first.len(), "none is judged long before it is cut");
    assert!(first.iter().take(4).any(|cut| cut.server == to), "the neighbour is among the first");
    assert_reset(&near);
    assert_reset(&far);
    let mut cut = first.len();
    while let Some(more) = node.run(|| redirector.cut_flows(&revoke)).unwrap() {
        cut += more.len();
    }
    assert_eq!(cut, usize::from(FLOOD) + 1);
}

#[test]
#[ignore = "needs root"]
fn a_new_pod_is_known_to_policies_before_its_address_is() {
    let node = Node::with_pods(3);
    let _server = Server::echo(&node, 0, PORT);
    let mut redirector = start(&node);
    apply(&node, &mut redirector, plan(2, &[(0, &[(1, HTTP, ALLOW)])]));
    let [to, _] = addresses(0, PORT);
    let pending =
        node.run(|| redirector.apply_before(plan(3, &[(0, &[(1, HTTP, ALLOW), (2, HTTP, ALLOW)])]))).unwrap();
    assert_lands(&node, 1, to);
    assert_lands(&node, 2, to);
    node.run(|| redirector.apply_after(pending)).unwrap();
    assert_lands(&node, 2, to);
    apply(&node, &mut redirector, plan(2, &[(0, &[(1, HTTP, ALLOW)])]));
    assert_lands(&node, 1, to);
    // No endpoint any more, and unknown.
    assert_dropped(&node, 2, to);
}

#[test]
#[ignore = "needs root"]
fn swaps_under_load_lose_nothing() {
    let node = Node::with_pods(3);
    let _server = Server::echo(&node, 0, PORT);
    let mut redirector = start(&node);
    let plans = [
        plan(3, &[(0, &[(1, HTTP, ALLOW)])]),
        plan(3, &[(0, &[(1, HTTP, ALLOW), (2, None, REDIRECT)])]),
        plan(3, &[(0, &[(1, None, ALLOW), (2, HTTP, ALLOW)])]),
    ];
    apply(&node, &mut redirector, plans[0].clone());
    let lasting = connect(&node, 1, addresses(0, PORT)[0]).unwrap();
    let landed = under_load(&node, || {
        for index in 0..150 {
            apply(&node, &mut redirector, plans[index % 3].clone());
            talk(&lasting).unwrap();
        }
    });
    assert!(landed > 0);
}

#[test]
#[ignore = "needs root"]
fn adoption_under_load_loses_nothing() {
    let node = Node::with_pods(3);
    let _server = Server::echo(&node, 0, PORT);
    let proxy = Server::proxy(&node, 1);
    let plan = || plan(3, &[(0, &[(1, HTTP, REDIRECT)])]);
    let begin = || {
        let mut redirector = start(&node);
        let (v4_listener, v6_listener) = proxy.listeners();
        redirector.set_listeners(v4_listener, v6_listener).unwrap();
        redirector
    };
    let mut redirector = begin();
    apply(&node, &mut redirector, plan());
    let landed = under_load(&node, || {
        for _ in 0..10 {
            drop(redirector);
            redirector = begin();
            apply(&node, &mut redirector, plan());
        }
    });
    assert!(landed > 0);
    assert_dropped(&node, 2, addresses(0, PORT)[0]);
}

/// Pod 1 connects to pod 0 again and again, over both families, while `change` runs: every attempt lands. Answers how many.
fn under_load(node: &Node, change: impl FnOnce()) -> usize {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let load = scope.spawn(|| {
            let to = addresses(0, PORT);
            let mut landed = 0;
            while !done.load(Ordering::Relaxed) {
                assert_lands(node, 1, to[landed % 2]);
                landed += 1;
            }
            landed
        });
        // The load is stopped before anybody is told: a scope waits for its threads, also when it panics.
        let changed = std::panic::catch_unwind(AssertUnwindSafe(change));
        done.store(true, Ordering::Relaxed);
        let landed = load.join().unwrap();
        changed.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        landed
    })
}

#[test]
#[ignore = "needs root"]
fn a_sweep_collects_what_has_been_silent_for_its_lifetime() {
    let node = Node::with_pods(2);
    let mut redirector = start(&node);
    let mut conntrack = conntrack(&node);
    let key = |port: u8| {
        let mut key = [0_u8; 40];
        (key[35], key[36]) = (port, UDP);
        key
    };
    let entry = |last_seen_ns: u64| {
        let mut state = [0_u8; 40];
        state[..8].copy_from_slice(&last_seen_ns.to_ne_bytes());
        state
    };
    conntrack.insert(key(1), entry(0), 0).unwrap();
    conntrack.insert(key(2), entry(u64::MAX), 0).unwrap();
    node.run(|| redirector.sweep()).unwrap();
    let left: Vec<_> = conntrack.keys().map(Result::unwrap).collect();
    assert_eq!(left, [key(2)]);
}

pub(crate) fn conntrack(node: &Node) -> aya::maps::HashMap<aya::maps::MapData, [u8; 40], [u8; 40]> {
    let data =
        aya::maps::MapData::from_pin(node.pins().join(redirect_abi::SCHEMA).join("maps/CONNTRACK")).unwrap();
    aya::maps::Map::from_map_data(data).unwrap().try_into().unwrap()
}

pub(crate) fn events(redirector: &mut Redirector) -> Vec<KernelEvent> {
    let mut events = Vec::new();
    redirector.events(1000, &mut events);
    events
}

pub(crate) fn counter(redirector: &Redirector, name: &str) -> u64 {
    redirector.counters().unwrap().into_iter().find(|(known, _)| *known == name).unwrap().1
}
