//! The node's neighbour entries for pods: permanent, right, ours alone, and gone with us.

use crate::fixture::{Node, interface, ip, ip_says, plan, v4, v6};
use crate::lifecycle::{apply, start};
use redirect::{Look, REPAIRS, Redirector, uninstall};
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, UdpSocket};

const ANOTHER: &str = "02:00:00:00:0a:01";

fn look(node: &Node, redirector: &mut Redirector) -> Look {
    node.run(|| redirector.look())
}

/// A node whose pods have said nothing yet.
fn silent(pods: usize) -> (Node, Redirector) {
    let node = Node::with_pods(pods);
    let mut redirector = start(&node);
    apply(&node, &mut redirector, plan(pods, &[]));
    assert_eq!(look(&node, &mut redirector), Look::default());
    (node, redirector)
}

fn own(pod: usize) -> [IpAddr; 2] {
    [v4(pod).into(), v6(pod).into()]
}

/// Of the pod's end.
fn station(node: &Node, pod: usize) -> String {
    let said = ip_says(&format!("-n {} -br link show eth0", node.pod_netns(pod)));
    said.split_whitespace().find(|word| word.len() == 17 && word.contains(':')).unwrap().to_owned()
}

/// Permanent entries on an interface: address, hardware address, whose.
fn permanent(node: &Node, interface: &str) -> BTreeSet<(IpAddr, String, bool)> {
    let said = ip_says(&format!("-n {} neigh show dev {interface} nud permanent", node.netns()));
    let entry = |line: &str| {
        let words: Vec<_> = line.split_whitespace().collect();
        assert_eq!(words[1], "lladdr", "{line}");
        (words[0].parse().unwrap(), words[2].to_owned(), line.contains("proto 204"))
    };
    said.lines().map(entry).collect()
}

#[track_caller]
fn check(node: &Node, pod: usize, station: &str) {
    let expect = own(pod).map(|address| (address, station.to_owned(), true));
    assert_eq!(permanent(node, &interface(pod)), BTreeSet::from(expect));
}

/// Sends what makes the one end ask for the other.
fn send(node: &Node, pod: usize) {
    for address in own(pod) {
        node.run(|| {
            let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
            let _sent = UdpSocket::bind(any).unwrap().send_to(b"hello", SocketAddr::new(address, 9));
        });
    }
}

fn look_until(node: &Node, redirector: &mut Redirector, holds: impl Fn() -> bool) {
    for _time in 0..500 {
        assert_eq!(look(node, redirector).faults, []);
        if holds() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    panic!("it doesn't come to hold: {}", ip_says(&format!("-n {} neigh", node.netns())));
}

/// Whoever fills the table afterwards, and before: permanent entries are not counted against its limit.
#[test]
#[ignore = "needs root"]
fn a_pod_that_has_said_nothing_is_known() {
    let (node, mut redirector) = silent(2);
    for pod in 0..2 {
        check(&node, pod, &station(&node, pod));
    }
    ip(&format!("-n {} neigh flush all", node.netns()));
    assert_eq!(look(&node, &mut redirector), Look::default());
    check(&node, 0, &station(&node, 0));
}

#[test]
#[ignore = "needs root"]
fn an_entry_that_is_removed_or_changed_is_put_back() {
    let (node, mut redirector) = silent(1);
    let right = station(&node, 0);
    for address in own(0) {
        for words in [
            format!("neigh del {address} dev lxc0"),
            format!("neigh replace {address} lladdr {ANOTHER} nud permanent dev lxc0"),
            format!("neigh replace {address} lladdr {ANOTHER} nud reachable dev lxc0"),
        ] {
            ip(&format!("-n {} {words}", node.netns()));
            let Look { put_back, faults } = look(&node, &mut redirector);
            let expect = vec![format!("the neighbour entry of {address} on `lxc0`")];
            assert_eq!((put_back, faults), (expect, vec![]), "{words}");
            check(&node, 0, &right);
            assert_eq!(look(&node, &mut redirector), Look::default());
        }
    }
    assert!(redirector.counters().unwrap().contains(&(REPAIRS, 6)));
}

#[test]
#[ignore = "needs root"]
fn a_pod_that_changes_its_hardware_address_is_followed() {
    let (node, mut redirector) = silent(1);
    // It was silent: its interface tells.
    ip(&format!("-n {} link set eth0 address {ANOTHER}", node.pod_netns(0)));
    assert_eq!(look(&node, &mut redirector), Look::default());
    check(&node, 0, ANOTHER);
    // It was heard with the one, and has another: it is asked.
    ip(&format!("-n {} neigh del {} dev lxc0", node.netns(), v4(0)));
    send(&node, 0);
    let heard =
        || node.run(|| ip_says(&format!("-n {} neigh show {}", node.netns(), v4(0)))).contains(ANOTHER);
    look_until(&node, &mut redirector, heard);
    let third = "02:00:00:00:0a:03";
    ip(&format!("-n {} link set eth0 address {third}", node.pod_netns(0)));
    look_until(&node, &mut redirector, || {
        send(&node, 0);
        let known = permanent(&node, "lxc0");
        assert!(known.iter().all(|(_, station, _)| station == third), "{known:?}");
        known.len() == 2
    });
    check(&node, 0, third);
}

/// The address is on a bridge in the pod, of which the interface is a port: only what is heard tells.
#[test]
#[ignore = "needs root"]
fn what_a_pod_is_heard_with_is_taken_where_its_interface_is_not_its_own() {
    let (node, mut redirector) = silent(1);
    let inside = node.pod_netns(0);
    ip(&format!("-n {inside} link add br0 address {ANOTHER} type bridge"));
    ip(&format!("-n {inside} link set br0 up"));
    ip(&format!("-n {inside} link set eth0 master br0"));
    ip(&format!("-n {inside} addr del {}/32 dev eth0", v4(0)));
    ip(&format!("-n {inside} addr del {}/128 dev eth0", v6(0)));
    ip(&format!("-n {inside} addr add {}/32 dev br0", v4(0)));
    ip(&format!("-n {inside} addr add {}/128 dev br0 nodad", v6(0)));
    ip(&format!("-n {inside} route add 169.254.1.1 dev br0 scope link"));
    ip(&format!("-n {inside} route add default via 169.254.1.1 dev br0"));
    ip(&format!("-n {inside} -6 route replace default via fe80::1 dev br0"));
    assert_eq!(look(&node, &mut redirector), Look::default());
    assert_eq!(permanent(&node, "lxc0"), BTreeSet::new());
    look_until(&node, &mut redirector, || {
        send(&node, 0);
        permanent(&node, "lxc0").len() == 2
    });
    check(&node, 0, ANOTHER);
}

#[test]
#[ignore = "needs root"]
fn behind_a_bridge_of_the_node_others_answer() {
    let (node, mut redirector) = silent(2);
    ip(&format!("-n {} link add br0 type bridge", node.netns()));
    ip(&format!("-n {} link set br0 up", node.netns()));
    node.put_behind(0, "br0");
    assert_eq!(look(&node, &mut redirector).faults, []);
    for interface in ["lxc0", "br0"] {
        assert!(permanent(&node, interface).iter().all(|(_, _, is_ours)| !is_ours), "{interface}");
    }
    check(&node, 1, &station(&node, 1));
}

#[test]
#[ignore = "needs root"]
fn what_others_made_permanent_stays() {
    let node = Node::with_pods(1);
    ip(&format!("-n {} neigh replace {} lladdr {ANOTHER} nud permanent dev lxc0", node.netns(), v4(0)));
    let mut redirector = start(&node);
    apply(&node, &mut redirector, plan(1, &[]));
    assert_eq!(look(&node, &mut redirector), Look::default());
    let others = (v4(0).into(), ANOTHER.to_owned(), false);
    let ours = (v6(0).into(), station(&node, 0), true);
    assert_eq!(permanent(&node, "lxc0"), BTreeSet::from([others.clone(), ours]));
    drop(redirector);
    let undone = node.run(|| uninstall(&node.settings())).unwrap();
    let what = format!("removed the neighbour entry of {} on lxc0", v6(0));
    assert!(undone.contains(&what), "{undone:#?}");
    assert_eq!(permanent(&node, "lxc0"), BTreeSet::from([others]));
}

#[test]
#[ignore = "needs root"]
fn endpoints_and_addresses_that_are_gone_leave_none() {
    let (node, mut redirector) = silent(2);
    let mut without = plan(2, &[]);
    without.endpoints.get_mut(&*interface(0)).unwrap().v4 = None;
    let _one = without.endpoints.remove(&*interface(1));
    apply(&node, &mut redirector, without);
    assert_eq!(look(&node, &mut redirector), Look::default());
    let left = (v6(0).into(), station(&node, 0), true);
    assert_eq!(permanent(&node, "lxc0"), BTreeSet::from([left]));
    assert_eq!(permanent(&node, "lxc1"), BTreeSet::new());
}

#[test]
#[ignore = "needs root"]
fn the_next_process_takes_them_over() {
    let (node, redirector) = silent(1);
    drop(redirector);
    check(&node, 0, &station(&node, 0));
    let mut next = start(&node);
    assert_eq!(look(&node, &mut next), Look::default());
    apply(&node, &mut next, plan(1, &[]));
    ip(&format!("-n {} neigh del {} dev lxc0", node.netns(), v4(0)));
    assert_eq!(look(&node, &mut next).put_back.len(), 1);
    check(&node, 0, &station(&node, 0));
}
