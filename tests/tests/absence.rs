//! While no daemon runs: a pod that is plugged in again has no programs, and is cut off from everybody but the node. Nobody else is.

use e2e::daemon::Daemon;
use e2e::netns::Namespace;
use e2e::pods::{Family, NODE_V4, NODE_V6, Node, PodSpec, STAR_WARS};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::time::Duration;

/// What is dropped is waited for this long, three times.
const DROPPED: Duration = Duration::from_millis(150);
const METRICS: &str = "127.0.0.1:9964";

/// Beyond the uplink, with an address of the world and one of a pod of another node.
const OUTSIDE: PodSpec = PodSpec {
    name: "up",
    v4: Ipv4Addr::new(192, 0, 2, 2),
    v6: Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 2),
    labels: &[],
};
const REMOTE_POD: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(10, 15, 200, 5)), IpAddr::V6(Ipv6Addr::new(0xf00d, 0, 0, 0, 0, 0, 0x200, 5))];
const OTHER_UPLINK: PodSpec = PodSpec {
    name: "up2",
    v4: Ipv4Addr::new(198, 51, 100, 2),
    v6: Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 2),
    labels: &[],
};
/// Of another CNI, with a network of its own.
const FOREIGN: PodSpec = PodSpec {
    name: "cni",
    v4: Ipv4Addr::new(10, 77, 0, 5),
    v6: Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 5),
    labels: &[],
};
/// In the pod networks, and no endpoint.
const UNLISTED: PodSpec = PodSpec {
    name: "unlisted",
    v4: Ipv4Addr::new(10, 15, 99, 9),
    v6: Ipv6Addr::new(0xf00d, 0, 0, 0, 0, 0, 0x99, 9),
    labels: &[],
};
/// The same, made while no daemon runs.
const LATE: PodSpec = PodSpec {
    name: "late",
    v4: Ipv4Addr::new(10, 15, 88, 8),
    v6: Ipv6Addr::new(0xf00d, 0, 0, 0, 0, 0, 0x88, 8),
    labels: &[],
};

struct Stage {
    node: Node,
    daemon: Daemon,
    /// Those that are no endpoints.
    others: BTreeMap<&'static str, (PodSpec, Namespace)>,
}

impl Stage {
    fn new() -> Self {
        let node = Node::new(&STAR_WARS).unwrap();
        let mut others = BTreeMap::new();
        for spec in [OUTSIDE, OTHER_UPLINK, FOREIGN, UNLISTED] {
            let _none = others.insert(spec.name, (spec.clone(), plug(&node, &spec)));
        }
        let outside = &others["up"].1;
        for (address, length) in REMOTE_POD.into_iter().zip([32, 128]) {
            let nodad = if length == 128 { " nodad" } else { "" };
            outside.ip(&format!("addr add {address}/{length} dev eth0{nodad}")).unwrap();
            node.namespace.ip(&format!("route add {address}/{length} dev {}", OUTSIDE.interface())).unwrap();
        }
        let daemon = Daemon::start_with(&node, &format!("\n[metrics]\nlisten = \"{METRICS}\"\n")).unwrap();
        Self { node, daemon, others }
    }

    fn replug(&self, pod: &str) {
        let pod = self.node.pod(pod);
        self.node.namespace.ip(&format!("link del {}", pod.spec.interface())).unwrap();
        self.node.connect(&pod.spec, &pod.namespace).unwrap();
    }

    fn end(&self, name: &str, family: Family) -> (&Namespace, IpAddr) {
        let address = |v4: IpAddr, v6: IpAddr| if family == Family::V4 { v4 } else { v6 };
        match name {
            "node" => (&self.node.namespace, address(NODE_V4.into(), NODE_V6.into())),
            "remote" => (&self.others["up"].1, address(REMOTE_POD[0], REMOTE_POD[1])),
            name => match self.others.get(name) {
                Some((spec, namespace)) => (namespace, spec.address(family)),
                None => (&self.node.pod(name).namespace, self.node.pod(name).spec.address(family)),
            },
        }
    }

    /// Whether a datagram of one arrives at the other. What passes is sent until it arrives: neighbours are resolved meanwhile.
    fn arrives(&self, from: &str, to: &str, family: Family, tries: usize) -> bool {
        let ((from, source), (to, destination)) = (self.end(from, family), self.end(to, family));
        let bind = |namespace: &Namespace, address| {
            namespace.run(move || UdpSocket::bind((address, 0)).unwrap()).unwrap()
        };
        let (sender, receiver) = (bind(from, source), bind(to, destination));
        receiver.set_read_timeout(Some(DROPPED)).unwrap();
        let to = receiver.local_addr().unwrap();
        (0..tries).any(|_| {
            let _refused = sender.send_to(b"ping", to);
            receiver.recv(&mut [0; 16]).is_ok()
        })
    }

    #[track_caller]
    fn assert_pass(&self, ways: &[(&str, &str)]) {
        for family in Family::BOTH {
            for (from, to) in ways {
                assert!(self.arrives(from, to, family, 30), "{from} to {to} over {}", family.name());
            }
        }
    }

    #[track_caller]
    fn assert_dropped(&self, ways: &[(&str, &str)]) {
        for family in Family::BOTH {
            for (from, to) in ways {
                assert!(!self.arrives(from, to, family, 3), "{from} to {to} over {}", family.name());
            }
        }
    }

    /// Packets that the guard has dropped.
    fn drops(&self) -> u64 {
        let mut curl = self.node.namespace.command("curl");
        let output = curl.args(["-s", &format!("http://{METRICS}/metrics")]).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let line = text.lines().find(|line| line.contains("\"no_programs\""));
        line.map_or(0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
    }
}

fn plug(node: &Node, spec: &PodSpec) -> Namespace {
    let namespace = Namespace::new(&format!("{}-{}", node.name, spec.name)).unwrap();
    node.connect(spec, &namespace).unwrap();
    namespace
}

/// Ways of the pod that is plugged in again.
const ITS_WAYS: [(&str, &str); 10] = [
    ("xwing", "up"),
    ("up", "xwing"),
    ("xwing", "tiefighter"),
    ("tiefighter", "xwing"),
    ("xwing", "remote"),
    ("remote", "xwing"),
    ("xwing", "cni"),
    ("cni", "xwing"),
    ("node", "xwing"),
    ("xwing", "node"),
];

/// Ways of everybody else.
const OTHER_WAYS: [(&str, &str); 18] = [
    ("tiefighter", "deathstar-1"),
    ("tiefighter", "up"),
    ("up", "tiefighter"),
    ("up", "up2"),
    ("up2", "up"),
    ("tiefighter", "remote"),
    ("remote", "tiefighter"),
    ("remote", "up2"),
    ("up2", "remote"),
    ("cni", "up"),
    ("up", "cni"),
    ("cni", "tiefighter"),
    ("tiefighter", "cni"),
    ("unlisted", "up"),
    ("up", "unlisted"),
    ("node", "up"),
    ("node", "tiefighter"),
    ("tiefighter", "node"),
];

#[test]
#[ignore = "needs root"]
fn a_pod_that_is_plugged_in_again_is_cut_off_until_the_daemon_is_back() {
    let mut stage = Stage::new();
    stage.assert_pass(&ITS_WAYS);
    stage.assert_pass(&OTHER_WAYS);
    stage.daemon.kill().unwrap();
    stage.assert_pass(&ITS_WAYS);
    stage.replug("xwing");
    stage.assert_dropped(&ITS_WAYS);
    stage.assert_pass(&OTHER_WAYS);
    stage.daemon.spawn().unwrap();
    stage.assert_pass(&ITS_WAYS);
    stage.assert_pass(&OTHER_WAYS);
    stage.daemon.wait_until("drops are counted", |_| stage.drops() >= 8).unwrap();
}

#[test]
#[ignore = "needs root"]
fn two_pods_that_are_plugged_in_again_do_not_reach_each_other() {
    let mut stage = Stage::new();
    stage.daemon.kill().unwrap();
    stage.replug("xwing");
    stage.replug("tiefighter");
    stage.assert_dropped(&[("xwing", "tiefighter"), ("tiefighter", "xwing")]);
    stage.daemon.spawn().unwrap();
    stage.assert_pass(&[("xwing", "tiefighter"), ("tiefighter", "xwing")]);
}

#[test]
#[ignore = "needs root"]
fn a_new_pod_that_no_daemon_has_seen_is_cut_off_and_another_networks_is_not() {
    let mut stage = Stage::new();
    stage.daemon.kill().unwrap();
    let late = plug(&stage.node, &LATE);
    let _none = stage.others.insert("late", (LATE, late));
    let (_, foreign) = stage.others.remove("cni").unwrap();
    stage.node.namespace.ip(&format!("link del {}", FOREIGN.interface())).unwrap();
    stage.node.connect(&FOREIGN, &foreign).unwrap();
    let _none = stage.others.insert("cni", (FOREIGN, foreign));
    stage.assert_dropped(&[("late", "up"), ("up", "late"), ("late", "tiefighter"), ("tiefighter", "late")]);
    stage.assert_pass(&[("cni", "up"), ("up", "cni"), ("cni", "tiefighter"), ("tiefighter", "cni")]);
    // A daemon knows it for nobody's endpoint: what enters pods is judged there, the rest is not its business.
    stage.daemon.spawn().unwrap();
    stage.assert_pass(&[("late", "up"), ("up", "late")]);
}

#[test]
#[ignore = "needs root"]
fn an_endpoint_that_left_the_node_file_is_held_until_a_daemon_has_taken_its_programs_away() {
    let mut stage = Stage::new();
    stage.daemon.kill().unwrap();
    let text = std::fs::read_to_string(stage.daemon.config()).unwrap();
    let (before, entry) = text.split_once("\n[[endpoint]]\nname = \"xwing\"").unwrap();
    let rest = entry.find("\n[metrics]").map_or("", |at| &entry[at..]);
    std::fs::write(stage.daemon.config(), format!("{before}{rest}")).unwrap();
    stage.replug("xwing");
    stage.assert_dropped(&[("xwing", "up"), ("up", "xwing")]);
    stage.daemon.spawn().unwrap();
    stage.assert_pass(&[("xwing", "up"), ("up", "xwing")]);
}
