//! One pod takes all that it can get, and another one loses nothing: every attack, in short. `make fair` measures them.

use e2e::fair::arena::{Arena, SHORT, Way};
use e2e::fair::{attacks, run};
use e2e::pods::Family;
use std::io::{ErrorKind, Read};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// By a word of its name.
#[track_caller]
fn check(word: &str) {
    let attack = attacks::ALL.iter().find(|attack| attack.name.contains(word)).unwrap();
    for family in Family::BOTH {
        let arena = Arena::start(SHORT).unwrap();
        let row = run(&arena, attack, family).unwrap();
        assert_eq!(row.attacked.lost, Vec::<String>::new(), "{row}");
    }
}

#[test]
#[ignore = "needs root"]
fn idle_connections_of_one_pod_cost_another_nothing() {
    check("idle");
}

#[test]
#[ignore = "needs root"]
fn requests_that_are_never_answered_cost_another_pod_nothing() {
    check("never answered");
}

#[test]
#[ignore = "needs root"]
fn datagram_flows_of_one_pod_cost_another_nothing() {
    check("datagram flows");
}

#[test]
#[ignore = "needs root"]
fn denials_of_one_pod_hide_none_of_another() {
    check("denials");
}

#[test]
#[ignore = "needs root"]
fn fragments_of_one_pod_cost_another_nothing() {
    check("fragments");
}

#[test]
#[ignore = "needs root"]
fn made_up_neighbours_of_one_pod_cost_another_nothing() {
    check("made-up senders");
}

#[test]
#[ignore = "needs root"]
fn policies_of_one_tenant_cost_another_nothing() {
    check("another tenant");
}

/// Whatever address of its own a pod opens from: it is one opener.
#[test]
#[ignore = "needs root"]
fn a_pod_is_charged_for_both_its_families_together() {
    let arena = Arena::start(SHORT).unwrap();
    let open = |family, count: usize| {
        let to = arena.server(Way::Through, family, e2e::fair::arena::SILENT);
        arena
            .attacker()
            .run(move || (0..count).map(|_| TcpStream::connect(to).unwrap()).collect::<Vec<_>>())
            .unwrap()
    };
    let half = SHORT.connections / 2;
    let mut held = open(Family::V4, half);
    held.extend(open(Family::V6, half));
    let held_now = |count: usize| {
        let live = |arena: &Arena| arena.metric("sluice_live_connections", "").unwrap();
        arena
            .daemon
            .wait_until("all are accepted", |_| live(&arena) == u64::try_from(count).unwrap())
            .unwrap();
    };
    held_now(SHORT.connections);
    // The next one is refused, whichever family it comes by.
    for family in Family::BOTH {
        let mut refused = open(family, 1).remove(0);
        refused.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        assert_eq!(refused.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset, "{family:?}");
    }
    // The node's own are there all the same, and those of another pod.
    let to: SocketAddr = arena.server(Way::Through, Family::V4, e2e::fair::arena::SILENT);
    let _other = arena.victim().run(move || TcpStream::connect(to).unwrap()).unwrap();
    held.iter().for_each(|stream| stream.set_nonblocking(true).unwrap());
    let mut given_back = 0;
    arena
        .daemon
        .wait_until("one is given back", |_| {
            let ends = held.iter_mut().map(|stream| stream.read(&mut [0]).map_err(|error| error.kind()));
            given_back += ends.filter(|end| *end == Err(ErrorKind::ConnectionReset)).count();
            given_back > 0
        })
        .unwrap();
    assert_eq!((given_back, arena.metric("sluice_events_total", "connection_reclaimed").unwrap()), (1, 1));
    held_now(SHORT.connections);
}
