//! An interface that does not take its programs, or does not give them back: its endpoint is cut off, and nobody else's change fails.

use crate::fixture::{Node, PORT, Rule, addresses, interface, plan};
use crate::lifecycle::{BOTH, apply, links, links_of, running, start};
use crate::peers::{Server, assert_dropped, assert_lands};
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Map, MapData};
use redirect::plan::Plan;
use redirect::{Hook, Redirector, Settings};
use redirect_abi::verdict::ALLOW;
use redirect_abi::{IpcacheKey, SCHEMA, family};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

const HTTP: Option<(u8, u16)> = Some((6, PORT));

/// The place of a pin: a directory there can neither be opened as one, nor replaced, nor removed.
fn pin(node: &Node, pod: usize, program: &str) -> PathBuf {
    node.pins().join(SCHEMA).join("links").join(format!("{}:{program}", interface(pod)))
}

fn tc(node: &Node, words: &str) {
    let arguments = ["-n", &node.netns()].map(str::to_owned).into_iter();
    // A space that does not part words is written so that it does not break them.
    let arguments = arguments.chain(words.split(' ').map(|word| word.replace('\u{a0}', " ")));
    assert!(Command::new("tc").args(arguments).status().unwrap().success(), "{words}");
}

fn refusing(redirector: &Redirector) -> Vec<&str> {
    redirector.refusing_interfaces().map(|(interface, _)| interface).collect()
}

/// Pod 1 is cut off from the others both ways; a policy change of another pod comes into force.
#[track_caller]
fn check_only_pod_1_is_cut_off(node: &Node, redirector: &mut Redirector) {
    for to_all in [false, true] {
        let second: (usize, Option<(u8, u16)>, u8) = (if to_all { 2 } else { 1 }, HTTP, ALLOW);
        apply(node, redirector, plan(3, &[(0, &[(1, HTTP, ALLOW), second])]));
        assert_eq!(refusing(redirector), ["lxc1"]);
        for to in addresses(0, PORT) {
            assert_dropped(node, 1, to);
            if to_all { assert_lands(node, 2, to) } else { assert_dropped(node, 2, to) }
        }
    }
    addresses(1, PORT).into_iter().for_each(|to| assert_dropped(node, 2, to));
    addresses(2, PORT).into_iter().for_each(|to| assert_lands(node, 0, to));
}

#[track_caller]
fn check_heals(node: &Node, redirector: &mut Redirector) {
    let _look = node.run(|| redirector.look());
    assert_eq!(refusing(redirector), [""; 0]);
    for to in addresses(0, PORT).into_iter().chain(addresses(2, PORT)) {
        assert_lands(node, 1, to);
    }
    addresses(1, PORT).into_iter().for_each(|to| assert_lands(node, 2, to));
}

#[test]
#[ignore = "needs root"]
fn an_interface_that_refuses_a_program_is_cut_off_alone() {
    for program in BOTH {
        let node = Node::with_pods(3);
        let _servers = [0, 1, 2].map(|pod| Server::echo(&node, pod, PORT));
        let mut redirector = start(&node);
        fs::create_dir(pin(&node, 1, program)).unwrap();
        check_only_pod_1_is_cut_off(&node, &mut redirector);
        let (_, cause) = redirector.refusing_interfaces().next().unwrap();
        assert!(cause.contains(program), "{cause}");
        // The next process finds it so.
        drop(redirector);
        let mut redirector = start(&node);
        check_only_pod_1_is_cut_off(&node, &mut redirector);
        fs::remove_dir(pin(&node, 1, program)).unwrap();
        check_heals(&node, &mut redirector);
        assert_eq!(links(&node), links_of(&[0, 1, 2]));
        // One that had its programs, and lost one.
        fs::remove_file(pin(&node, 1, program)).unwrap();
        fs::create_dir(pin(&node, 1, program)).unwrap();
        let _look = node.run(|| redirector.look());
        check_only_pod_1_is_cut_off(&node, &mut redirector);
        fs::remove_dir(pin(&node, 1, program)).unwrap();
        check_heals(&node, &mut redirector);
    }
}

#[test]
#[ignore = "needs root"]
fn an_interface_whose_clsact_refuses_a_filter_is_cut_off_alone() {
    for direction in ["ingress", "egress"] {
        let node = Node::with_pods(3);
        let _servers = [0, 1, 2].map(|pod| Server::echo(&node, pod, PORT));
        let mut redirector = node.run(|| Redirector::start_with(node.settings(), Hook::Clsact)).unwrap();
        tc(&node, "qdisc add dev lxc1 clsact");
        // Somebody else's, of another protocol in our place: it looks at nothing, and ours can't stand beside it.
        let place = format!("dev lxc1 {direction} prio 50");
        tc(&node, &format!("filter add {place} protocol ip handle 9 bpf bytecode 1,6\u{a0}0\u{a0}0\u{a0}0"));
        check_only_pod_1_is_cut_off(&node, &mut redirector);
        tc(&node, &format!("filter del {place}"));
        check_heals(&node, &mut redirector);
    }
}

#[test]
#[ignore = "needs root"]
fn an_interface_that_keeps_its_programs_holds_up_nobody() {
    let node = Node::with_pods(2);
    let mut redirector = start(&node);
    apply(&node, &mut redirector, plan(2, &[]));
    let stuck = pin(&node, 1, "to_endpoint");
    fs::remove_file(&stuck).unwrap();
    fs::create_dir(&stuck).unwrap();
    apply(&node, &mut redirector, plan(1, &[]));
    assert_eq!(refusing(&redirector), ["lxc1"]);
    fs::remove_dir(&stuck).unwrap();
    let _look = node.run(|| redirector.look());
    assert_eq!(refusing(&redirector), [""; 0]);
    assert_eq!(links(&node), links_of(&[0]));
    assert_eq!(running(&node, 1), [""; 0]);
}

/// Pod 1 may be asked by pod 2, and on `ports` from `first` on by pod 0; pod 0 by `client`.
fn with_ports(ports: u16, first: u16, client: usize) -> Plan {
    let mut of_pod_1: Vec<Rule> = vec![(2, HTTP, ALLOW)];
    of_pod_1.extend((first..first + ports).map(|port| (0, Some((6, port)), ALLOW)));
    plan(3, &[(0, &[(client, HTTP, ALLOW)]), (1, &of_pod_1)])
}

fn too_big(redirector: &Redirector) -> Vec<(&str, usize)> {
    redirector.too_big_policies().collect()
}

#[test]
#[ignore = "needs root"]
fn a_policy_beyond_its_bound_closes_its_endpoint_alone() {
    const PORTS: u16 = 3;
    let node = Node::with_pods(3);
    let _servers = [0, 1, 2].map(|pod| Server::echo(&node, pod, PORT));
    let bound = with_ports(PORTS, 9000, 1).endpoints[interface(1).as_str()].policy.len();
    let settings = Settings { policy_entries: bound, ..node.settings() };
    let mut redirector = node.run(|| Redirector::start(settings)).unwrap();
    let check = |to_1: bool, client: usize| {
        for (to, passes, from) in [(1, to_1, 2), (0, client == 2, 2), (2, to_1, 1), (2, true, 0)] {
            for to in addresses(to, PORT) {
                if passes { assert_lands(&node, from, to) } else { assert_dropped(&node, from, to) }
            }
        }
    };
    apply(&node, &mut redirector, with_ports(PORTS, 9000, 1));
    assert_eq!(too_big(&redirector), []);
    check(true, 1);
    // One port more; pod 0's change of the same plan is in force, back and forth.
    for client in [2, 1] {
        apply(&node, &mut redirector, with_ports(PORTS + 1, 9000, client));
        assert_eq!(too_big(&redirector), [("lxc1", bound + 2)]);
        check(false, client);
    }
    apply(&node, &mut redirector, with_ports(PORTS, 9000, 2));
    assert_eq!(too_big(&redirector), []);
    check(true, 2);
    // Each fits, and what is as strict as both does not: nothing passes until the change is over.
    let pending = node.run(|| redirector.apply_before(other_ports(PORTS - 1))).unwrap();
    addresses(1, PORT).into_iter().for_each(|to| assert_dropped(&node, 2, to));
    node.run(|| redirector.apply_after(pending)).unwrap();
    assert_eq!(too_big(&redirector), []);
    check(true, 2);
}

/// Other ports, and pod 0 on every one.
fn other_ports(ports: u16) -> Plan {
    let mut of_pod_1: Vec<Rule> = vec![(2, HTTP, ALLOW), (0, None, ALLOW)];
    of_pod_1.extend((8000..8000 + ports).map(|port| (2, Some((17, port)), ALLOW)));
    plan(3, &[(0, &[(2, HTTP, ALLOW)]), (1, &of_pod_1)])
}

/// A change that needs more prefixes than there is room for fails; until then none is taken for a wider one that it is excepted from.
#[test]
#[ignore = "needs root"]
fn the_narrower_prefix_is_known_before_the_wider_one() {
    let node = Node::with_pods(1);
    let mut redirector = start(&node);
    apply(&node, &mut redirector, plan(1, &[]));
    let pin = node.pins().join(SCHEMA).join("maps/IPCACHE");
    let mut ipcache: LpmTrie<MapData, [u8; 20], u32> =
        LpmTrie::try_from(Map::from_map_data(MapData::from_pin(pin).unwrap()).unwrap()).unwrap();
    let filler = |number: u32| {
        let mut data = [0; 20];
        (data[0], data[1]) = (family::IPV6, 0x20);
        data[13..17].copy_from_slice(&number.to_be_bytes());
        Key::new(136, data)
    };
    let full = (0..).find(|number| ipcache.insert(&filler(*number), 9, 0).is_err()).unwrap();
    assert!(full > 500_000, "{full}");
    ipcache.remove(&filler(0)).unwrap();
    let prefix = |length: u32, address: [u8; 4]| {
        let address = std::net::Ipv4Addr::from(address).to_ipv6_mapped().octets();
        (8 + 96 + length, IpcacheKey { family: family::IPV4, address, pad: [0; 3] })
    };
    let (wide, narrow) = (prefix(8, [203, 0, 0, 0]), prefix(24, [203, 0, 113, 0]));
    let mut wanted = plan(1, &[]);
    wanted.ipcache.extend([(wide, 5001), (narrow, 5002)]);
    let failed = node.run(|| redirector.apply_before(wanted.clone())).unwrap_err();
    assert!(failed.to_string().contains("IPCACHE"), "{failed}");
    let known = |ipcache: &LpmTrie<MapData, [u8; 20], u32>| {
        [(wide, 5001), (narrow, 5002)].map(|((length, key), identity)| {
            let mut data = [0; 20];
            data[0] = key.family;
            data[1..17].copy_from_slice(&key.address);
            ipcache.get(&Key::new(length, data), 0).is_ok_and(|found| found == identity)
        })
    };
    assert_eq!(known(&ipcache), [false, true]);
    // With room for it, it is in force.
    ipcache.remove(&filler(1)).unwrap();
    apply(&node, &mut redirector, wanted);
    assert_eq!(known(&ipcache), [true, true]);
}
