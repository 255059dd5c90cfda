//! `sluice uninstall`: what the daemon has done to the node is undone, whatever state the daemon left it in.

use e2e::binaries;
use e2e::daemon::Daemon;
use e2e::deathstar::{Deathstar, LANDED};
use e2e::pods::{Family, Node, Pod, STAR_WARS};
use e2e::policies::empire_may_ask;
use std::process::Output;

/// Connections are inspected, so that links, routes, rules and settings are all in use.
const HTTP: &str = "[{method: POST, path: /v1/request-landing}]";

/// All that a tool can tell of the node's network.
#[derive(Debug, PartialEq, Eq)]
struct Network(Vec<String>);

impl Network {
    fn of(node: &Node) -> Self {
        let mut seen = String::new();
        for family in ["-4", "-6"] {
            seen += &told(node, &["ip", family, "rule"]);
            seen += &told(node, &["ip", family, "route", "show", "table", "all"]);
        }
        for pod in &node.pods {
            let interface = pod.spec.interface();
            seen += &told(node, &["tc", "qdisc", "show", "dev", &interface]);
            seen += &told(node, &["ip", "neigh", "show", "dev", &interface, "nud", "permanent"]);
        }
        seen += &told(node, &["sysctl", "--all", "--pattern", "^net"]);
        // How many connections there are is no setting, and an interface gets its link-local address in its own time.
        let changes_by_itself = |line: &str| line.contains("nf_conntrack_count") || line.contains("fe80:");
        Self(seen.lines().filter(|line| !changes_by_itself(line)).map(str::to_owned).collect())
    }
}

fn told(node: &Node, words: &[&str]) -> String {
    let output = node.namespace.command(words[0]).args(&words[1..]).output().unwrap();
    assert!(output.status.success(), "{words:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn uninstall(node: &Node, daemon: &Daemon) -> Output {
    let mut sluice = node.namespace.command(binaries::program("sluice").unwrap().to_str().unwrap());
    sluice.arg("uninstall").arg("--config").arg(daemon.config()).output().unwrap()
}

fn lands(node: &Node, ship: &str, family: Family) -> bool {
    let server = std::net::SocketAddr::new(node.pod("deathstar-1").spec.address(family), 80);
    let url = format!("http://{server}/v1/request-landing");
    let mut curl = node.pod(ship).namespace.command("curl");
    curl.args(["-s", "--max-time", "2", "-XPOST", &url]).output().unwrap().stdout == LANDED.as_bytes()
}

/// On both families.
fn knows_for_good(node: &Node, pod: &Pod) -> bool {
    let known = told(node, &["ip", "neigh", "show", "dev", &pod.spec.interface(), "nud", "permanent"]);
    Family::BOTH.iter().all(|family| {
        let address = pod.spec.address(*family).to_string();
        known.lines().any(|entry| entry.split(' ').next() == Some(&*address))
    })
}

#[track_caller]
fn check_enforced(node: &Node) {
    for family in Family::BOTH {
        assert!(lands(node, "tiefighter", family), "{family:?}");
        assert!(!lands(node, "xwing", family), "{family:?}");
    }
}

#[test]
#[ignore = "needs root"]
fn nothing_stays_of_what_the_daemon_set_up() {
    let node = Node::new(&STAR_WARS).unwrap();
    let _deathstar = Deathstar::start(&node.pod("deathstar-1").namespace, 80).unwrap();
    let before = Network::of(&node);
    let mut daemon = Daemon::start(&node).unwrap();
    let _revision = daemon.apply("rule1.yaml", &empire_may_ask(HTTP)).unwrap();
    check_enforced(&node);
    assert_ne!(Network::of(&node), before);
    for pod in &node.pods {
        daemon.wait_until("the node knows its pods for good", |_| knows_for_good(&node, pod)).unwrap();
    }
    daemon.kill().unwrap();
    assert!(!lands(&node, "xwing", Family::V4), "the kernel enforces without the daemon");

    let output = uninstall(&node, &daemon);
    let undone = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    for what in [
        "deathstar",
        "pick_listener",
        "guard forward_ipv4",
        "guard forward_ipv6",
        "guard local_in_ipv4",
        "guard post_routing_ipv6",
        "map GUARD_INTERFACES",
        "map POLICIES",
        "IPv4 rule",
        "IPv6 route",
        "tcp_early_demux back to 1",
        "neighbour entry of 10.15.42.",
    ] {
        assert!(undone.contains(what), "{what}: {undone}");
    }
    assert_eq!(Network::of(&node), before);
    assert!(!daemon.pins().join("sluice").exists());
    assert!(!daemon.directory.join("state/sysctls").exists());
    // No program is left on any interface: packets pass that the policy forbids.
    for family in Family::BOTH {
        assert!(lands(&node, "xwing", family), "{family:?}");
    }

    let again = uninstall(&node, &daemon);
    assert_eq!(
        (again.status.code(), &*String::from_utf8_lossy(&again.stdout)),
        (Some(0), "nothing to undo\n")
    );
    daemon.spawn().unwrap();
    check_enforced(&node);
}

#[test]
#[ignore = "needs root"]
fn a_running_daemon_keeps_what_it_set_up() {
    let node = Node::new(&STAR_WARS).unwrap();
    let _deathstar = Deathstar::start(&node.pod("deathstar-1").namespace, 80).unwrap();
    let daemon = Daemon::start(&node).unwrap();
    let _revision = daemon.apply("rule1.yaml", &empire_may_ask(HTTP)).unwrap();
    let with_daemon = Network::of(&node);
    let output = uninstall(&node, &daemon);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(complaint.contains("sluiced.sock") && complaint.contains("end it first"), "{complaint}");
    assert_eq!(Network::of(&node), with_daemon);
    check_enforced(&node);
}

/// The node file of somebody who takes the node for one without a daemon: other directories, another socket.
fn other_node_file(daemon: &Daemon) -> std::path::PathBuf {
    let directory = daemon.directory.display();
    let (pins, other_pins) = (daemon.pins().display().to_string(), daemon.pins().join("other"));
    std::fs::create_dir_all(&other_pins).unwrap();
    let text = std::fs::read_to_string(daemon.config()).unwrap();
    let text = text
        .replace(&format!("\"{directory}/state\""), &format!("\"{directory}/other-state\""))
        .replace(&format!("\"{directory}/sluiced.sock\""), &format!("\"{directory}/other.sock\""))
        .replace(&format!("bpffs = \"{pins}\""), &format!("bpffs = \"{}\"", other_pins.display()));
    let file = daemon.directory.join("other.toml");
    std::fs::write(&file, text).unwrap();
    file
}

#[test]
#[ignore = "needs root"]
fn a_node_has_one_daemon_and_is_taken_down_by_any_node_file() {
    let node = Node::new(&STAR_WARS).unwrap();
    let _deathstar = Deathstar::start(&node.pod("deathstar-1").namespace, 80).unwrap();
    let mut daemon = Daemon::start(&node).unwrap();
    let _revision = daemon.apply("rule1.yaml", &empire_may_ask(HTTP)).unwrap();
    let with_daemon = Network::of(&node);
    let other = other_node_file(&daemon);
    let run = |program: &str, words: &[&str]| {
        let program = binaries::program(program).unwrap();
        node.namespace
            .command(program.to_str().unwrap())
            .args(words)
            .arg("--config")
            .arg(&other)
            .output()
            .unwrap()
    };
    let holder = format!("the process {} (", daemon.pid().unwrap());
    for output in [run("sluiced", &[]), run("sluice", &["uninstall"])] {
        let complaint =
            String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(complaint.contains(&holder) && complaint.contains("node.toml"), "{holder}: {complaint}");
    }
    assert_eq!(Network::of(&node), with_daemon);
    check_enforced(&node);

    daemon.kill().unwrap();
    let output = run("sluice", &["uninstall"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(!daemon.pins().join("sluice").exists());
    for family in Family::BOTH {
        assert!(lands(&node, "xwing", family), "{family:?}");
    }
}
