//! What a pod says on its link: made-up senders fill no table, nobody's place is taken, and others find each other.

use crate::raw::{self, ICMPV6};
use crate::stage::Stage;
use e2e::daemon::Daemon;
use e2e::device::{self, Left, Mac};
use e2e::echo;
use e2e::netns::Namespace;
use e2e::pods::Family;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const FLOOD: u16 = 2_000;
const GATEWAY_V4: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
const GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
const XWING: &str = "lxc-xwing";
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;

#[test]
#[ignore = "needs root"]
fn made_up_senders_fill_no_neighbour_table() {
    let stage = Stage::new();
    let (pod, node) = macs(&stage);
    let mut frames = Vec::new();
    for n in 0..FLOOD {
        let [high, low] = n.to_be_bytes();
        frames.push(arp(node, pod, 1, pod, Ipv4Addr::new(10, 99, high, low), GATEWAY_V4));
        for source in [made_up_link_local(n), Ipv6Addr::new(0xf00d, 0, 0, 0, 9, 0, 0, n)] {
            frames.push(solicit(node, pod, source, GATEWAY_V6));
        }
    }
    device::send(stage.pod("xwing"), Left::default(), frames).unwrap();
    // What comes last says that all came: sent again until the flood has left it a place among the records.
    let (last_v4, last_v6) = (Ipv4Addr::new(10, 98, 0, 1), Ipv6Addr::new(0xf00d, 0, 0, 0, 8, 0, 0, 1));
    for (last, frame) in [
        (IpAddr::V4(last_v4), arp(node, pod, 2, pod, last_v4, GATEWAY_V4)),
        (IpAddr::V6(last_v6), solicit(node, pod, last_v6, GATEWAY_V6)),
    ] {
        let recorded = |_: &Daemon| {
            device::send(stage.pod("xwing"), Left::default(), vec![frame.clone()]).unwrap();
            stage.find_drop("spoofed_source", last).is_some()
        };
        stage.daemon.wait_until(&format!("{last} is refused"), recorded).unwrap();
    }
    // Its link-local address may be known from before Sluice; the first that was made up passes for it since.
    let mut own = BTreeSet::from(Family::BOTH.map(|family| stage.ip("xwing", family)));
    own.extend(own_link_local(stage.pod("xwing")).map(IpAddr::V6));
    own.extend([IpAddr::V6(made_up_link_local(0))]);
    let known = neighbours(&stage, XWING);
    assert!(known.is_subset(&own), "{known:?}");
    others_find_each_other(&stage);
}

#[test]
#[ignore = "needs root"]
fn nobodys_place_on_the_link_is_taken() {
    let stage = Stage::new();
    let (pod, node) = macs(&stage);
    let another = [2, 0, 0, 0, 0, 9];
    let (v4, v6) = (stage.node.pod("xwing").spec.v4, stage.node.pod("xwing").spec.v6);
    let victim = &stage.node.pod("tiefighter").spec;
    for (frame, reason, source) in [
        (arp(node, pod, 2, pod, victim.v4, victim.v4), "spoofed_source", IpAddr::V4(victim.v4)),
        (arp(node, pod, 2, pod, GATEWAY_V4, GATEWAY_V4), "spoofed_source", GATEWAY_V4.into()),
        (arp(node, pod, 2, another, v4, GATEWAY_V4), "false_neighbour", v4.into()),
        (advertise(node, pod, v6, victim.v6, pod), "spoofed_source", v6.into()),
        (advertise(node, pod, v6, v6, another), "false_neighbour", v6.into()),
    ] {
        device::send(stage.pod("xwing"), Left::default(), vec![frame]).unwrap();
        stage.wait_for_drop(reason, source);
    }
    assert!(!neighbours(&stage, XWING).contains(&victim.v4.into()));
    others_find_each_other(&stage);
}

#[test]
#[ignore = "needs root"]
fn a_pod_that_is_set_up_by_its_kernel_speaks_from_its_link_local_address() {
    let stage = Stage::new();
    for again in 0..2 {
        // Duplicate detection, reports of groups and solicitations of routers come with it.
        stage.pod("xwing").ip("link set eth0 down").unwrap();
        stage.pod("xwing").ip("link set eth0 up").unwrap();
        let spec = &stage.node.pod("xwing").spec;
        for words in [
            format!("addr replace {}/128 dev eth0 nodad", spec.v6),
            "route replace 169.254.1.1/32 dev eth0 scope link".into(),
            "route replace default via 169.254.1.1 dev eth0".into(),
            "-6 route replace default via fe80::1 dev eth0".into(),
        ] {
            stage.pod("xwing").ip(&words).unwrap();
        }
        let own = || own_link_local(stage.pod("xwing"));
        stage.daemon.wait_until("its address is no longer tentative", |_| own().is_some()).unwrap();
        flush(&stage);
        let work = move || {
            let to = std::net::SocketAddrV6::new(GATEWAY_V6, 9, 0, index_of_eth0());
            let socket = std::net::UdpSocket::bind("[::]:0")?;
            // From the link-local address: it asks for the gateway first.
            socket.send_to(b"anybody there?", to)
        };
        let _sent: usize = stage.pod("xwing").run(work).unwrap().unwrap();
        let known = || neighbours(&stage, XWING).contains(&IpAddr::V6(own().unwrap()));
        stage.daemon.wait_until(&format!("the node knows it ({again})"), |_| known()).unwrap();
        let flows = stage.daemon.flows().unwrap();
        let refused = |flow: &&serde_json::Value| flow["reason"] == "false_neighbour";
        assert_eq!(flows.iter().find(refused), None);
    }
}

/// First contacts, on both families.
fn others_find_each_other(stage: &Stage) {
    let _arrivals = echo::udp(stage.pod("deathstar-1"), 53).unwrap();
    for family in Family::BOTH {
        flush(stage);
        let socket = stage.datagrams(
            "tiefighter",
            stage.at("tiefighter", family, 0),
            stage.at("deathstar-1", family, 53),
        );
        assert_eq!(socket.send(b"hello").unwrap(), 5);
        assert_eq!(socket.recv(&mut [0; 8]).unwrap(), 5, "{family:?}");
    }
}

/// Nobody knows anybody any more.
fn flush(stage: &Stage) {
    for pod in &stage.node.pods {
        stage.node.namespace.ip(&format!("neigh flush dev {}", pod.spec.interface())).unwrap();
        pod.namespace.ip("neigh flush dev eth0").unwrap();
    }
}

/// Addresses that the node knows on an interface.
fn neighbours(stage: &Stage, interface: &str) -> BTreeSet<IpAddr> {
    let listed = ip_json(&stage.node.namespace, &["neigh", "show", "dev", interface]);
    listed.iter().map(|entry| entry["dst"].as_str().unwrap().parse().unwrap()).collect()
}

/// Once it may be used.
fn own_link_local(pod: &Namespace) -> Option<Ipv6Addr> {
    let links = ip_json(pod, &["-6", "addr", "show", "dev", "eth0", "scope", "link"]);
    let addresses = links.iter().flat_map(|link| link["addr_info"].as_array().cloned().unwrap_or_default());
    let mut usable =
        addresses.filter(|address| address.get("local").is_some() && address.get("tentative").is_none());
    usable.next().map(|address| address["local"].as_str().unwrap().parse().unwrap())
}

fn ip_json(namespace: &Namespace, words: &[&str]) -> Vec<serde_json::Value> {
    let output = namespace.command("ip").arg("-j").args(words).output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap_or_default()
}

fn index_of_eth0() -> u32 {
    rustix::net::netdevice::name_to_index(std::net::UdpSocket::bind("127.0.0.1:0").unwrap(), "eth0").unwrap()
}

/// The pod's, and the node's end of its interface.
fn macs(stage: &Stage) -> (Mac, Mac) {
    let pod = device::mac(stage.pod("xwing"), "eth0").unwrap();
    (pod, device::mac(&stage.node.namespace, XWING).unwrap())
}

fn arp(to: Mac, from: Mac, operation: u8, station: Mac, sender: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    let head = [0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, operation];
    [&to[..], &from, &head, &station, &sender.octets(), &[0; 6], &target.octets()].concat()
}

fn solicit(to: Mac, from: Mac, source: Ipv6Addr, target: Ipv6Addr) -> Vec<u8> {
    discovery(to, from, SOLICITATION, (source, target), &[&[1, 1][..], &from].concat())
}

fn advertise(to: Mac, from: Mac, source: Ipv6Addr, target: Ipv6Addr, station: Mac) -> Vec<u8> {
    discovery(to, from, ADVERTISEMENT, (source, target), &[&[2, 1][..], &station].concat())
}

fn discovery(
    to: Mac,
    from: Mac,
    kind: u8,
    (source, target): (Ipv6Addr, Ipv6Addr),
    options: &[u8],
) -> Vec<u8> {
    let message = [&[kind, 0, 0, 0, 0x20, 0, 0, 0][..], &target.octets(), options].concat();
    let mut packet = raw::ipv6(source, GATEWAY_V6, ICMPV6, &message);
    packet[7] = 255;
    let sum = raw::checksum(&[
        &raw::pseudo_header(source.into(), GATEWAY_V6.into(), ICMPV6, message.len()),
        &message,
    ]);
    packet[42..44].copy_from_slice(&sum.to_be_bytes());
    raw::frame(from, to, packet)
}

fn made_up_link_local(n: u16) -> Ipv6Addr {
    Ipv6Addr::new(0xfe80, 0, 0, 0, 0xdead, 0, 0, n)
}
