//! The guard of pods without programs, as links in the kernel: installed, handed on, put back, removed. What it lets pass and what
//! it drops is in the suite of the whole daemon.

use crate::fixture::{Node, addresses, ip, plan};
use crate::lifecycle::{apply, start};
use crate::peers::{datagrams, reaches};
use crate::repairs::detach;
use redirect::{Look, Redirector, uninstall};
use redirect_abi::SCHEMA;
use socket2::{Domain, Socket, Type};
use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

const PINS: [&str; 6] = [
    "local_in_ipv4",
    "local_in_ipv6",
    "forward_ipv4",
    "forward_ipv6",
    "post_routing_ipv4",
    "post_routing_ipv6",
];
const PORT: u16 = 5000;
const WAIT: Duration = Duration::from_secs(1);
/// Addresses of the node itself.
const NODE: [&str; 2] = ["10.99.0.1", "fd99::1"];

fn look(node: &Node, redirector: &mut Redirector) -> Look {
    node.run(|| redirector.look())
}

/// Whether datagrams of a pod reach another one, on every family.
fn talk(node: &Node, from: usize, to: usize) -> [bool; 2] {
    let ends = addresses(from, PORT).into_iter().zip(addresses(to, PORT));
    let answers: Vec<bool> = ends
        .map(|(from_address, to_address)| {
            let (from, to) = (datagrams(node, from, from_address), datagrams(node, to, to_address));
            // The first to a new interface can be lost while neighbours are resolved.
            (0..3).any(|_| reaches(&from, &to))
        })
        .collect();
    answers.try_into().unwrap()
}

fn inodes(node: &Node) -> [u64; PINS.len()] {
    PINS.map(|pin| fs::metadata(node.pins().join(SCHEMA).join("guard").join(pin)).unwrap().ino())
}

/// Two pods, of which the second was plugged in again behind the back of the process that is gone.
fn left_alone() -> Node {
    let node = Node::with_pods(3);
    let mut redirector = start(&node);
    apply(&node, &mut redirector, plan(3, &[]));
    assert_eq!((talk(&node, 0, 1), talk(&node, 1, 0)), ([true; 2], [true; 2]));
    drop(redirector);
    node.unplug(1);
    node.plug_in(1);
    node
}

#[test]
#[ignore = "needs root"]
fn a_pod_that_is_plugged_in_again_without_a_process_is_cut_off_until_there_is_one() {
    let node = left_alone();
    for _process in 0..2 {
        assert_eq!((talk(&node, 0, 1), talk(&node, 1, 0)), ([false; 2], [false; 2]));
        assert_eq!(talk(&node, 0, 2), [true; 2]);
        // Before its first change a process knows no more than was left.
        drop(start(&node));
    }
    let mut next = start(&node);
    apply(&node, &mut next, plan(3, &[]));
    assert_eq!((talk(&node, 0, 1), talk(&node, 1, 0)), ([true; 2], [true; 2]));
    assert_eq!(look(&node, &mut next), Look::default());
    let counters = next.counters().unwrap();
    assert!(counters.iter().any(|(name, drops)| *name == "no_programs" && *drops >= 16), "{counters:?}");
}

/// Whether datagrams of a pod reach the node, and the node's the pod, on every family.
fn talk_with_node(node: &Node, pod: usize) -> [[bool; 2]; 2] {
    let ends =
        NODE.map(|own| SocketAddr::new(own.parse().unwrap(), PORT)).into_iter().zip(addresses(pod, PORT));
    let answers: Vec<[bool; 2]> = ends
        .map(|(own, of_pod)| {
            let of_node = node.run(|| UdpSocket::bind(own)).unwrap();
            of_node.set_read_timeout(Some(WAIT)).unwrap();
            let of_pod = datagrams(node, pod, of_pod);
            // The first to a new interface can be lost while neighbours are resolved.
            [(&of_pod, &of_node), (&of_node, &of_pod)].map(|(from, to)| (0..3).any(|_| may_reach(from, to)))
        })
        .collect();
    answers.try_into().unwrap()
}

/// As [`reaches`]; what the node's own hooks drop is an error of its own socket.
fn may_reach(from: &UdpSocket, to: &UdpSocket) -> bool {
    from.send_to(b"ping", to.local_addr().unwrap()).is_ok() && to.recv(&mut [0; 16]).is_ok()
}

/// What passes between a pod and the node itself is not forwarded.
#[test]
#[ignore = "needs root"]
fn a_pod_without_programs_is_cut_off_from_the_node_too() {
    let node = Node::with_pods(2);
    for own in NODE {
        let length = if own.contains(':') { 128 } else { 32 };
        ip(&format!("-n {} addr add {own}/{length} dev lo", node.netns()));
    }
    let mut redirector = start(&node);
    apply(&node, &mut redirector, plan(2, &[]));
    assert_eq!([0, 1].map(|pod| talk_with_node(&node, pod)), [[[true; 2]; 2]; 2]);
    // In the name of a pod, to itself: as the proxy does.
    for (own, of_pod) in NODE.into_iter().zip(addresses(0, 0)) {
        let to = node.run(|| UdpSocket::bind((own, PORT))).unwrap();
        to.set_read_timeout(Some(WAIT)).unwrap();
        let from = node.run(|| transparent(of_pod));
        assert!(reaches(&from, &to), "{own}");
    }
    drop(redirector);
    node.unplug(1);
    node.plug_in(1);
    assert_eq!([0, 1].map(|pod| talk_with_node(&node, pod)), [[[true; 2]; 2], [[false; 2]; 2]]);
    let mut next = start(&node);
    apply(&node, &mut next, plan(2, &[]));
    assert_eq!([0, 1].map(|pod| talk_with_node(&node, pod)), [[[true; 2]; 2]; 2]);
    // Of an interface that refuses a program there is nothing to be reached either.
    let pin = node.pins().join(SCHEMA).join("links/lxc1:to_endpoint");
    fs::remove_file(&pin).unwrap();
    fs::create_dir(&pin).unwrap();
    let _look = look(&node, &mut next);
    assert_eq!(next.refusing_interfaces().count(), 1);
    assert_eq!([0, 1].map(|pod| talk_with_node(&node, pod)), [[[true; 2]; 2], [[false; 2]; 2]]);
    fs::remove_dir(&pin).unwrap();
    let _look = look(&node, &mut next);
    assert_eq!([0, 1].map(|pod| talk_with_node(&node, pod)), [[[true; 2]; 2]; 2]);
}

/// A socket with an address that is not the node's.
fn transparent(address: SocketAddr) -> UdpSocket {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, None).unwrap();
    match address {
        SocketAddr::V4(_) => socket.set_ip_transparent_v4(true).unwrap(),
        SocketAddr::V6(_) => socket.set_freebind_v6(true).unwrap(),
    }
    socket.bind(&address.into()).unwrap();
    socket.into()
}

/// As where interfaces are made in another namespace and moved: a number is given again.
#[test]
#[ignore = "needs root"]
fn another_interface_with_the_number_of_the_old_one_is_cut_off_too() {
    let node = Node::with_pods(2);
    let mut redirector = start(&node);
    apply(&node, &mut redirector, plan(2, &[]));
    let index = |name: &str| {
        let shown = crate::fixture::ip_says(&format!("-n {} -o link show {name}", node.netns()));
        shown.split(':').next().unwrap().trim().to_owned()
    };
    let before = index("lxc1");
    drop(redirector);
    node.unplug(1);
    node.plug_in_as(1, &before);
    assert_eq!(index("lxc1"), before);
    assert_eq!((talk(&node, 0, 1), talk(&node, 1, 0)), ([false; 2], [false; 2]));
}

#[test]
#[ignore = "needs root"]
fn what_lost_its_programs_is_cut_off() {
    let node = Node::with_pods(2);
    let mut redirector = start(&node);
    apply(&node, &mut redirector, plan(2, &[]));
    drop(redirector);
    for program in crate::lifecycle::BOTH {
        fs::remove_file(node.pins().join(SCHEMA).join(format!("links/lxc1:{program}"))).unwrap();
    }
    while !crate::lifecycle::running(&node, 1).is_empty() {
        std::thread::yield_now();
    }
    assert_eq!((talk(&node, 0, 1), talk(&node, 1, 0)), ([false; 2], [false; 2]));
}

/// IP sees the bridge, not its port.
#[test]
#[ignore = "needs root"]
fn pods_behind_a_bridge_are_not_cut_off() {
    let node = Node::with_pods(2);
    ip(&format!("-n {} link add br0 address 02:00:00:00:00:01 type bridge", node.netns()));
    ip(&format!("-n {} link set br0 up", node.netns()));
    ip(&format!("-n {} addr add fe80::1/64 dev br0 nodad", node.netns()));
    for pod in [0, 1] {
        node.put_behind(pod, "br0");
    }
    assert_eq!((talk(&node, 0, 1), talk(&node, 1, 0)), ([true; 2], [true; 2]));
    let mut redirector = start(&node);
    apply(&node, &mut redirector, plan(2, &[]));
    assert_eq!((talk(&node, 0, 1), talk(&node, 1, 0)), ([true; 2], [true; 2]));
}

#[test]
#[ignore = "needs root"]
fn a_new_process_puts_its_own_in_the_place_of_the_old_one() {
    let node = Node::with_pods(0);
    let first = start(&node);
    let before = inodes(&node);
    drop(first);
    let mut second = start(&node);
    assert!(inodes(&node).iter().zip(before).all(|(now, before)| *now != before));
    assert_eq!(look(&node, &mut second), Look::default());
    assert_eq!(fs::read_dir(node.pins().join(SCHEMA).join("guard")).unwrap().count(), PINS.len());
}

#[test]
#[ignore = "needs root"]
fn a_guard_that_is_removed_or_detached_is_put_back() {
    let node = Node::with_pods(2);
    let mut redirector = start(&node);
    apply(&node, &mut redirector, plan(2, &[]));
    let guard = |pin: &str| node.pins().join(SCHEMA).join("guard").join(pin);
    for pin in PINS {
        let (hook, family) = pin.rsplit_once("_ip").unwrap();
        let put_back = [format!("the IP{family} guard of pods without programs ({hook})")];
        fs::remove_file(guard(pin)).unwrap();
        assert_eq!(look(&node, &mut redirector).put_back, put_back);
        detach(&guard(pin));
        assert_eq!(look(&node, &mut redirector).put_back, put_back);
        assert_eq!(look(&node, &mut redirector), Look::default());
    }
    fs::remove_file(node.pins().join(SCHEMA).join("maps/GUARD_INTERFACES")).unwrap();
    assert_eq!(look(&node, &mut redirector).put_back, ["the pin of the map GUARD_INTERFACES"]);
    drop(redirector);
    node.unplug(1);
    node.plug_in(1);
    assert_eq!((talk(&node, 0, 1), talk(&node, 1, 0)), ([false; 2], [false; 2]));
}

#[test]
#[ignore = "needs root"]
fn uninstall_removes_it() {
    let node = left_alone();
    let undone = node.run(|| uninstall(&node.settings())).unwrap();
    for pin in PINS {
        assert!(undone.contains(&format!("removed the guard {pin}")), "{undone:#?}");
    }
    assert_eq!((talk(&node, 0, 1), talk(&node, 1, 0)), ([true; 2], [true; 2]));
}

/// What leaves the plan is let pass again only by a process that has taken its programs away.
#[test]
#[ignore = "needs root"]
fn an_endpoint_that_is_gone_is_let_pass_once_a_process_has_removed_it() {
    let node = left_alone();
    let mut next = start(&node);
    let pending = node.run(|| next.apply_before(plan(1, &[]))).unwrap();
    assert_eq!(talk(&node, 1, 0), [false; 2]);
    node.run(|| next.apply_after(pending)).unwrap();
    assert_eq!(talk(&node, 1, 2), [true; 2]);
}
