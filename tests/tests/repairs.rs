//! What another program changes on the node while the daemon runs: what it removes of ours, and the node's addresses.

use e2e::daemon::Daemon;
use e2e::deathstar::{Deathstar, LANDED};
use e2e::echo;
use e2e::netns::Namespace;
use e2e::pods::{Family, Node, PodSpec, STAR_WARS};
use e2e::policies::{empire_may_ask, tiefighter_egress};
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

const WAIT: Duration = Duration::from_millis(500);
const HTTP: &str = "[{method: POST, path: /v1/request-landing}]";

/// Of both families, outside of the pod networks and in one of them.
const LATE: [&str; 3] = ["10.99.0.1", "fd99::1", "10.15.0.77"];

/// Beyond an uplink, which has no programs.
const OUTSIDE: PodSpec = PodSpec {
    name: "up",
    v4: Ipv4Addr::new(198, 51, 100, 2),
    v6: Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 2),
    labels: &[],
};
/// What ships send is inspected, wherever it goes. Servers let everybody in.
const INSPECTED_EGRESS: &str = "[{toEntities: [all], toPorts: [{ports: [{port: \"80\", protocol: TCP}], \
rules: {http: [{method: POST, path: /v1/request-landing}]}}]}]";

/// Ships may open connections to the node, and nowhere else.
const ONLY_THE_NODE: &str = "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\n\
metadata: {name: node, namespace: default}\nspec: {endpointSelector: {matchLabels: {class: tiefighter}}, egress: [{toEntities: [host]}]}\n";

fn lands(node: &Node, family: Family) -> bool {
    let server = SocketAddr::new(node.pod("deathstar-1").spec.address(family), 80);
    let mut curl = node.pod("tiefighter").namespace.command("curl");
    let url = format!("http://{server}/v1/request-landing");
    curl.args(["-s", "--max-time", "1", "-XPOST", &url]).output().unwrap().stdout == LANDED.as_bytes()
}

fn says(daemon: &Daemon, part: &str) -> bool {
    let status: serde_json::Value =
        serde_json::from_str(&daemon.sluice(&["status", "-o", "json"]).unwrap()).unwrap();
    let findings = status["findings"].as_array().unwrap();
    findings.iter().any(|finding| finding["message"].as_str().unwrap().starts_with(part))
}

#[test]
#[ignore = "needs root"]
fn inspected_ports_live_on_when_rules_and_routes_are_removed() {
    let node = Node::new(&STAR_WARS).unwrap();
    let _deathstar = Deathstar::start(&node.pod("deathstar-1").namespace, 80).unwrap();
    let daemon = Daemon::start(&node).unwrap();
    let _revision = daemon.apply("rule1.yaml", &empire_may_ask(HTTP)).unwrap();
    for (family, words, part) in [
        (Family::V4, "-4 rule del pref 9", "the IPv4 rule for marked packets: "),
        (Family::V6, "-6 rule del pref 9", "the IPv6 rule for marked packets: "),
        (Family::V4, "-4 route flush table 2004", "the IPv4 route of table 2004: "),
        (Family::V6, "-6 route flush table 2004", "the IPv6 route of table 2004: "),
    ] {
        assert!(lands(&node, family) && !says(&daemon, part), "{words}");
        node.namespace.ip(words).unwrap();
        daemon.wait_until(words, |_| lands(&node, family)).unwrap();
        daemon.wait_until(part, |daemon| says(daemon, part)).unwrap();
    }
    let log = daemon.log();
    assert_eq!(log.matches("restored after another program").count(), 4, "{log}");
}

#[test]
#[ignore = "needs root"]
fn policy_is_enforced_on_when_programs_are_removed() {
    let node = Node::new(&STAR_WARS).unwrap();
    let _arrivals = echo::tcp(&node.pod("deathstar-1").namespace, 7).unwrap();
    let daemon = Daemon::start(&node).unwrap();
    let _revision = daemon.apply("node.yaml", ONLY_THE_NODE).unwrap();
    for program in ["from_endpoint", "to_endpoint"] {
        let pin = daemon.pins().join(format!("sluice/v3/links/lxc-tiefighter:{program}"));
        std::fs::remove_file(&pin).unwrap();
        daemon.wait_until("it is pinned again", |_| pin.exists()).unwrap();
    }
    daemon.wait_until("it is reported", |daemon| says(daemon, "the programs on `lxc-tiefighter`: ")).unwrap();
    for family in Family::BOTH {
        let server = SocketAddr::new(node.pod("deathstar-1").spec.address(family), 7);
        let connects = move || TcpStream::connect_timeout(&server, WAIT).is_ok();
        assert!(!node.pod("tiefighter").namespace.run(connects).unwrap(), "{family:?}");
    }
}

#[test]
#[ignore = "needs root"]
fn addresses_that_the_node_gets_late_are_its_own() {
    let node = Node::new(&STAR_WARS).unwrap();
    let _arrivals = echo::tcp(&node.namespace, 7).unwrap();
    let mut daemon = Daemon::start(&node).unwrap();
    let _revision = daemon.apply("node.yaml", ONLY_THE_NODE).unwrap();
    let connects = |address: &str| {
        let to = SocketAddr::new(address.parse().unwrap(), 7);
        let connecting = move || TcpStream::connect_timeout(&to, WAIT).is_ok();
        node.pod("tiefighter").namespace.run(connecting).unwrap()
    };
    let add = |address: &str| {
        let length = if address.parse::<IpAddr>().unwrap().is_ipv4() { 32 } else { 128 };
        node.namespace.ip(&format!("addr add {address}/{length} dev lo")).unwrap();
    };
    // As long as the node file lists the node's addresses, others are the world, or nobody.
    let before = daemon.revision().unwrap();
    LATE.iter().for_each(|address| add(address));
    assert!(!LATE.iter().any(|address| connects(address)));
    assert_eq!(daemon.revision().unwrap(), before);

    daemon.kill().unwrap();
    let listed = std::fs::read_to_string(daemon.config()).unwrap();
    let followed: String = listed
        .lines()
        .filter(|line| !line.starts_with("addresses = [\"10.15.0.1\""))
        .map(|line| format!("{line}\n"))
        .collect();
    assert_ne!(listed, followed);
    std::fs::write(daemon.config(), followed).unwrap();
    for address in LATE {
        node.namespace.ip(&format!("addr del {address} dev lo")).unwrap();
    }
    daemon.spawn().unwrap();
    for address in LATE {
        let before = daemon.revision().unwrap();
        add(address);
        let _revision = daemon.wait_for_revision_after(before).unwrap();
        daemon.wait_until(address, |_| connects(address)).unwrap();
    }
    let before = daemon.revision().unwrap();
    node.namespace.ip(&format!("addr del {}/32 dev lo", LATE[0])).unwrap();
    let _revision = daemon.wait_for_revision_after(before).unwrap();
    // A local route makes an address the node's own as well.
    let before = daemon.revision().unwrap();
    node.namespace.ip(&format!("route add local {} dev lo", LATE[0])).unwrap();
    let _revision = daemon.wait_for_revision_after(before).unwrap();
    assert!(connects(LATE[0]));
}

#[test]
#[ignore = "needs root"]
fn an_interface_that_refuses_its_programs_holds_up_no_change() {
    let node = Node::new(&STAR_WARS).unwrap();
    let _deathstar = Deathstar::start(&node.pod("deathstar-1").namespace, 80).unwrap();
    let daemon = Daemon::start(&node).unwrap();
    let pin = daemon.pins().join("sluice/v3/links/lxc-xwing:from_endpoint");
    std::fs::remove_file(&pin).unwrap();
    while std::fs::create_dir(&pin).is_err() {
        // It was put back in between.
        drop(std::fs::remove_file(&pin));
    }
    let part = "the programs can't be attached to `lxc-xwing`";
    daemon.wait_until(part, |daemon| says(daemon, part)).unwrap();
    let status = daemon.sluice_command().unwrap().arg("status").output().unwrap();
    assert_eq!(status.status.code(), Some(1), "{status:?}");
    let _revision = daemon.apply("rule1.yaml", &empire_may_ask(HTTP)).unwrap();
    for family in Family::BOTH {
        assert!(lands(&node, family), "{family:?}");
    }
    let _revision = daemon.remove("rule1.yaml").unwrap();
    std::fs::remove_dir(&pin).unwrap();
    daemon.wait_until("it is over", |daemon| !says(daemon, part)).unwrap();
}

/// Nothing passes for the endpoint, everybody else's change comes into force, and it is over with the policy.
#[test]
#[ignore = "needs root"]
fn a_policy_too_big_for_the_kernel_closes_its_endpoint_alone() {
    let node = Node::new(&STAR_WARS).unwrap();
    let _deathstar = Deathstar::start(&node.pod("deathstar-1").namespace, 80).unwrap();
    let daemon = Daemon::start_with(&node, "\n[limits]\npolicy_entries = 16\n").unwrap();
    let _revision = daemon.apply("rule1.yaml", &empire_may_ask(HTTP)).unwrap();
    let ports: Vec<String> =
        (0..16).map(|port| format!("{{port: \"{}\", protocol: TCP}}", 1000 + 2 * port)).collect();
    let big = format!(
        "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {{name: big}}\nspec:\n  \
         endpointSelector: {{matchLabels: {{class: xwing}}}}\n  egress:\n  - toEndpoints: [{{}}]\n    \
         toPorts:\n    - ports: [{}]\n",
        ports.join(", ")
    );
    let _revision = daemon.apply("big.yaml", &big).unwrap();
    let part = "the policy of the endpoint on `lxc-xwing` needs ";
    daemon.wait_until(part, |daemon| says(daemon, part)).unwrap();
    let status = daemon.sluice_command().unwrap().arg("status").output().unwrap();
    assert_eq!(status.status.code(), Some(1), "{status:?}");
    let _revision = daemon.remove("rule1.yaml").unwrap();
    let _revision = daemon.apply("rule1.yaml", &empire_may_ask(HTTP)).unwrap();
    for family in Family::BOTH {
        assert!(lands(&node, family), "{family:?}");
    }
    let _revision = daemon.remove("big.yaml").unwrap();
    daemon.wait_until("it is over", |daemon| !says(daemon, part)).unwrap();
}

/// What is marked for the proxy would be forwarded as any other packet: to a pod, and to the outside.
#[test]
#[ignore = "needs root"]
fn nothing_passes_uninspected_while_the_rules_are_missing() {
    let node = Node::new(&STAR_WARS).unwrap();
    let outside = Namespace::new(&format!("{}-up", node.name)).unwrap();
    node.connect(&OUTSIDE, &outside).unwrap();
    let inside = Deathstar::start(&node.pod("deathstar-1").namespace, 80).unwrap();
    let beyond = Deathstar::start(&outside, 80).unwrap();
    let daemon = Daemon::start(&node).unwrap();
    let _revision = daemon.apply("rule2.yaml", &tiefighter_egress(INSPECTED_EGRESS)).unwrap();
    // It has a listener, and puts nothing back.
    signal(&daemon, "-STOP");
    for family in ["-4", "-6"] {
        node.namespace.ip(&format!("{family} rule del pref 9")).unwrap();
    }
    for family in Family::BOTH {
        for server in [node.pod("deathstar-1").spec.address(family), OUTSIDE.address(family)] {
            let server = SocketAddr::new(server, 80);
            let passed = node.pod("tiefighter").namespace.run(move || exhaust(server)).unwrap();
            assert!(passed.is_err(), "{server}");
        }
    }
    signal(&daemon, "-CONT");
    for family in Family::BOTH {
        daemon.wait_until("the rules are there again", |_| lands(&node, family)).unwrap();
    }
    let landings = inside.log().into_iter().chain(beyond.log());
    assert!(landings.map(|seen| seen.request).all(|request| request == "POST /v1/request-landing"));
}

fn signal(daemon: &Daemon, signal: &str) {
    let pid = daemon.pid().unwrap().to_string();
    assert!(std::process::Command::new("kill").args([signal, &pid]).status().unwrap().success());
}

/// A request that policy denies.
fn exhaust(server: SocketAddr) -> std::io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&server, WAIT)?;
    stream.set_read_timeout(Some(WAIT))?;
    stream.write_all(b"PUT /v1/exhaust-port HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n")?;
    stream.read_exact(&mut [0; 1])
}
