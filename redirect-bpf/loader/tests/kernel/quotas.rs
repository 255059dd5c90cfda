//! What one pod opens beyond everything, and what its neighbours notice of it: nothing.

use crate::fixture::{Node, PORT, addresses, ip, plan};
use crate::lifecycle::{apply, start};
use crate::peers::{PATIENCE, Server, assert_dropped, assert_lands, connect, datagrams, reaches, talk};
use crate::traffic::{counter, events};
use redirect::{DropReason, FlowLimits, Opener, Redirector, Settings, Usage};
use redirect_abi::verdict::{ALLOW, REDIRECT};
use std::net::{SocketAddr, TcpStream, UdpSocket};

const TCP: u8 = 6;
const UDP: u8 = 17;
/// More direct flows than the node has room for, of any kind.
const FLOOD: u16 = 45_000;
/// Ids are one more than the pod's number.
const SERVER: u32 = 1;
const VICTIM: u32 = 2;
const GREEDY: u32 = 3;

/// Pod 2 opens flows beyond everything. Idle connections of pod 1 that are inspected, its flows, and its new ones go on.
#[test]
#[ignore = "needs root"]
fn a_flood_of_flows_evicts_nobody_elses() {
    let node = Node::with_pods(3);
    let _server = Server::echo(&node, 0, PORT);
    let proxy = Server::proxy(&node, 1);
    let mut redirector = start(&node);
    let (v4_listener, v6_listener) = proxy.listeners();
    redirector.set_listeners(v4_listener, v6_listener).unwrap();
    let rules = [(1, Some((TCP, PORT)), REDIRECT), (1, Some((UDP, 53)), ALLOW), (2, None, ALLOW)];
    // Replies pass because of their flow only.
    apply(&node, &mut redirector, plan(3, &[(0, &rules), (1, &[]), (2, &[])]));
    let idle: Vec<TcpStream> = (0..40)
        .map(|n| {
            let stream = connect(&node, 1, addresses(0, PORT)[n % 2]).unwrap();
            talk(&stream).unwrap();
            stream
        })
        .collect();
    let asking = addresses(0, 53).map(|to| {
        let server = datagrams(&node, 0, to);
        let clients: Vec<UdpSocket> = (0..10)
            .map(|n| {
                let from = addresses(1, 4000 + n)[usize::from(to.is_ipv6())];
                let client = datagrams(&node, 1, from);
                assert!(reaches(&client, &server));
                client
            })
            .collect();
        (server, clients)
    });
    for to in addresses(0, 0) {
        flood(&node, 2, to, FLOOD);
    }
    idle.iter().for_each(|stream| talk(stream).unwrap());
    for (server, clients) in &asking {
        clients.iter().for_each(|client| assert!(reaches(server, client), "the reply of an idle flow"));
    }
    for to in addresses(0, PORT) {
        assert_lands(&node, 1, to);
    }
    let greedy = usage(&redirector, GREEDY);
    assert_eq!(greedy.flows + greedy.flows_over_quota, 2 * u64::from(FLOOD));
    assert_eq!(counter(&redirector, "flows_over_quota"), greedy.flows_over_quota);
    assert!(greedy.flows > 8_000, "what is free is borrowed: {greedy:?}");
    let victim = usage(&redirector, VICTIM);
    assert_eq!((victim.flows, victim.flows_over_quota), (20, 0));
    assert_eq!(usage(&redirector, SERVER), Usage::default(), "who is asked is not charged");
    // Others come: what they need is given back, and no flow of the borrower ends for it.
    flood(&node, 1, addresses(0, 0)[0], 0);
    (0..40).for_each(|_| node.run(|| redirector.sweep()).unwrap());
    idle.iter().for_each(|stream| talk(stream).unwrap());
}

/// At the quota, one more, and again when one has gone.
#[test]
#[ignore = "needs root"]
fn inspected_connections_beyond_the_quota_are_refused_to_their_opener_only() {
    let node = Node::with_pods(3);
    let _server = Server::echo(&node, 0, PORT);
    let proxy = Server::proxy(&node, 1);
    let flows = FlowLimits { flows_max: 4096, inspected_flows_max: 64, flows_per_endpoint: 4 };
    let settings = Settings { flows, ..node.settings() };
    let mut redirector = node.run(|| Redirector::start(settings)).unwrap();
    let (v4_listener, v6_listener) = proxy.listeners();
    redirector.set_listeners(v4_listener, v6_listener).unwrap();
    apply(&node, &mut redirector, plan(3, &[(0, &[(1, None, REDIRECT), (2, None, REDIRECT)])]));
    // 4 that are guaranteed, and 35 of the 39 that are lent to all: then 4 are free.
    let held: Vec<TcpStream> = (0..39)
        .map(|n| {
            let stream = connect(&node, 1, addresses(0, PORT)[n % 2]).unwrap();
            talk(&stream).unwrap_or_else(|error| panic!("connection {n}: {error}"));
            stream
        })
        .collect();
    assert_eq!(usage(&redirector, VICTIM).inspected_flows, 39);
    for to in addresses(0, PORT) {
        assert_dropped(&node, 1, to);
        assert!(
            events(&mut redirector)
                .iter()
                .any(|event| event.drop == Some(DropReason::FlowQuota) && event.destination == to)
        );
        (0..4).for_each(|_| assert_lands(&node, 2, to));
    }
    held.iter().for_each(|stream| talk(stream).unwrap());
}

/// Pod 2 has all that it can get and goes on taking; pod 1 comes later, a little at a time, and finds room for all of its flows.
#[test]
#[ignore = "needs root"]
fn a_borrower_gives_back_under_its_own_flood() {
    const ROUNDS: u16 = 24;
    const STEP: u16 = 60;
    const PRESSURE: u16 = 200;
    const START: u16 = 6000;
    let node = Node::with_pods(3);
    let flows = FlowLimits { flows_max: 4096, inspected_flows_max: 64, flows_per_endpoint: 64 };
    let settings = Settings { flows, ..node.settings() };
    let mut redirector = node.run(|| Redirector::start(settings)).unwrap();
    apply(&node, &mut redirector, plan(3, &[]));
    let [v4, v6] = addresses(0, 0);
    flood(&node, 2, v4, START);
    let before = usage(&redirector, GREEDY);
    assert!((3000..3600).contains(&before.flows), "eight times what it leaves free: {before:?}");
    assert!(before.flows_over_quota > 0, "{before:?}");
    for round in 0..ROUNDS {
        flood(&node, 2, SocketAddr::new(v4.ip(), START + round * PRESSURE), PRESSURE);
        flood(&node, 1, SocketAddr::new(v6.ip(), round * STEP), STEP);
        let victim = usage(&redirector, VICTIM);
        let opened = u64::from((round + 1) * STEP);
        assert_eq!((victim.flows, victim.flows_over_quota), (opened, 0), "round {round}");
        (0..3).for_each(|_| node.run(|| redirector.sweep()).unwrap());
        assert_eq!(usage(&redirector, VICTIM).flows, opened, "who has little owes nothing: round {round}");
    }
    let after = usage(&redirector, GREEDY);
    assert!(after.flows < before.flows - 1000, "{before:?}, then {after:?}");
}

/// Pod 2 has all that it can get; what the node itself opens (health probes) is tracked within its own share.
#[test]
#[ignore = "needs root"]
fn the_node_reaches_a_pod_whatever_others_have_opened() {
    const PROBES: u64 = 4;
    let node = Node::with_pods(3);
    let _server = Server::echo(&node, 0, PORT);
    let addresses_of_node = ["192.0.2.1", "2001:db8::1"];
    for (address, bits) in addresses_of_node.iter().zip([32, 128]) {
        ip(&format!("-n {} addr add {address}/{bits} dev lo", node.netns()));
    }
    let mut redirector = start(&node);
    apply(&node, &mut redirector, plan(3, &[]));
    for to in addresses(0, 0) {
        flood(&node, 2, to, FLOOD);
    }
    assert!(usage(&redirector, GREEDY).flows_over_quota > 0);
    let probes: Vec<TcpStream> = (0..PROBES)
        .map(|n| {
            let to = addresses(0, PORT)[usize::from(n % 2 == 1)];
            let stream = node.run(|| TcpStream::connect_timeout(&to, PATIENCE)).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            talk(&stream).unwrap();
            stream
        })
        .collect();
    flood(&node, 2, addresses(0, FLOOD)[0], 1000);
    probes.iter().for_each(|stream| talk(stream).unwrap());
    let of_node = redirector.usage().unwrap().get(&(SERVER, Opener::Node)).copied().unwrap_or_default();
    assert_eq!((of_node.flows, of_node.flows_over_quota), (PROBES, 0));
}

/// A restart, and what has expired meanwhile.
#[test]
#[ignore = "needs root"]
fn accounts_survive_the_process_and_are_settled_by_its_successor() {
    let node = Node::with_pods(2);
    let mut first = start(&node);
    apply(&node, &mut first, plan(2, &[]));
    for to in addresses(0, 0) {
        flood(&node, 1, to, 1000);
    }
    assert_eq!(usage(&first, VICTIM).flows, 2000);
    drop(first);
    flood(&node, 1, addresses(0, 2000)[0], 100);
    let mut second = start(&node);
    assert_eq!(usage(&second, VICTIM).flows, 2100);
    apply(&node, &mut second, plan(2, &[]));
    let mut conntrack = crate::traffic::conntrack(&node);
    let entries: Vec<_> = conntrack.iter().map(Result::unwrap).collect();
    assert_eq!(entries.len(), 2100);
    for (key, mut state) in entries {
        state[..8].fill(0);
        conntrack.insert(key, state, 0).unwrap();
    }
    while conntrack.keys().next().is_some() {
        node.run(|| second.sweep()).unwrap();
    }
    assert_eq!(usage(&second, VICTIM).flows, 0);
}

/// What pod 2 is refused beyond its rate is counted for it; what pod 1 is refused meanwhile is told, every packet.
#[test]
#[ignore = "needs root"]
fn a_flood_of_refused_packets_hides_nobody_elses() {
    const FEW: u16 = 20;
    const MANY: u16 = 20_000;
    let node = Node::with_pods(3);
    let mut redirector = start(&node);
    apply(&node, &mut redirector, plan(3, &[(0, &[])]));
    for to in addresses(0, 0) {
        flood(&node, 2, to, MANY);
        flood(&node, 1, to, FEW);
    }
    let mut told = [0; 3];
    while let some = events(&mut redirector)
        && !some.is_empty()
    {
        for event in some {
            let of = |pod: &usize| addresses(*pod, 0).iter().any(|own| own.ip() == event.source.ip());
            told[(0..3).find(of).unwrap()] += 1;
        }
    }
    assert_eq!(told[1], 2 * u64::from(FEW));
    assert_eq!(usage(&redirector, VICTIM).events_lost, 0);
    let lost = usage(&redirector, GREEDY).events_lost;
    assert_eq!(told[2] + lost, 2 * u64::from(MANY), "each is told or counted");
    assert!(lost > u64::from(MANY), "the test proves nothing: {lost}");
    assert_eq!(counter(&redirector, redirect::EVENTS_LOST), lost);
}

fn usage(redirector: &Redirector, endpoint: u32) -> Usage {
    redirector.usage().unwrap().get(&(endpoint, Opener::Endpoint)).copied().unwrap_or_default()
}

/// As many flows from a pod: one socket, to as many ports from the one of `to` on.
fn flood(node: &Node, pod: usize, to: SocketAddr, flows: u16) {
    let from = addresses(pod, 0)[usize::from(to.is_ipv6())];
    let socket = node.run_in_pod(pod, || UdpSocket::bind(from).unwrap());
    for port in 1..=flows {
        // The server's refusals come back as errors of the next call.
        while socket.send_to(b"x", SocketAddr::new(to.ip(), to.port() + port)).is_err() {}
    }
}
