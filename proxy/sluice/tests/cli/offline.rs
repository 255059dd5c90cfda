//! Commands that need no daemon.

use crate::run::{Place, check, no_answer, sluice, sluice_reading};
use std::process::{Command, Output};

pub(crate) const NODE: &str = r#"
[node]
name = "node-1"
pod_networks = ["10.15.0.0/16", "f00d::/64"]
addresses = ["10.15.0.1"]

[policies]
directories = ["policies"]

[redirect]
mode = "none"

[[endpoint]]
name = "deathstar-1"
addresses = ["10.15.42.252", "f00d::a0f:0:0:ad"]
labels = { org = "empire", class = "deathstar" }

[[endpoint]]
name = "tiefighter"
addresses = ["10.15.1.1"]
labels = { org = "empire", class = "tiefighter" }

[[endpoint]]
name = "xwing"
addresses = ["10.15.1.2"]
labels = { org = "alliance", class = "xwing" }
"#;

pub(crate) const L4: &str = "apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: rule1, namespace: default}
spec:
  endpointSelector: {matchLabels: {org: empire, class: deathstar}}
  ingress:
  - fromEndpoints: [{matchLabels: {org: empire}}]
    toPorts:
    - ports: [{port: \"80\", protocol: TCP}]
";

fn l7() -> String {
    format!("{L4}      rules: {{http: [{{method: POST, path: /v1/request-landing}}]}}\n")
}

pub(crate) fn refused() -> String {
    format!("{L4}      rules: {{kafka: [{{topic: plans}}]}}\n").replace("rule1", "rule2")
}

struct Node(Place);

impl Node {
    fn new() -> Self {
        let place = Place::new();
        place.write("node.toml", NODE);
        place.write("policies/.keep", "");
        place.write("l4.yaml", L4);
        place.write("l7.yaml", &l7());
        Self(place)
    }

    /// `policy explain` with these policies instead of those in the node file's directories.
    fn explain(&self, policies: &[&str], question: &str) -> Output {
        let mut arguments: Vec<String> =
            ["policy", "explain", "--config", &self.0.path("node.toml")].map(str::to_owned).into();
        arguments.extend(question.split_whitespace().map(str::to_owned));
        if !policies.is_empty() {
            arguments.push("--policies".to_owned());
        }
        arguments.extend(policies.iter().map(|name| self.0.path(name)));
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        self.0.without_path(sluice(&arguments))
    }
}

const LANDING: &str = "--from tiefighter --to deathstar-1 --port 80 --method POST --path /v1/request-landing";
const EXHAUST_PORT: &str =
    "--from tiefighter --to deathstar-1 --port 80 --method PUT --path /v1/exhaust-port";
const XWING: &str = "--from xwing --to default/deathstar-1 --port 80";

#[test]
fn before_any_policy_everything_is_allowed() {
    let node = Node::new();
    check("explain-without-policy.txt", 0, &node.explain(&[], EXHAUST_PORT));
    check("explain-without-policy-xwing.txt", 0, &node.explain(&[], XWING));
}

#[test]
fn under_the_l4_policy_empire_ships_are_allowed() {
    let node = Node::new();
    check("explain-l4-exhaust-port.txt", 0, &node.explain(&["l4.yaml"], EXHAUST_PORT));
    check("explain-l4-xwing.txt", 1, &node.explain(&["l4.yaml"], XWING));
    check(
        "explain-l4-other-port.txt",
        1,
        &node.explain(&["l4.yaml"], "--from tiefighter --to deathstar-1 --port 8080"),
    );
}

#[test]
fn under_the_l7_policy_landing_is_allowed() {
    let node = Node::new();
    check("explain-l7-landing.txt", 0, &node.explain(&["l7.yaml"], LANDING));
    check("explain-l7-exhaust-port.txt", 1, &node.explain(&["l7.yaml"], EXHAUST_PORT));
    check("explain-l7-exhaust-port.json", 1, &node.explain(&["l7.yaml"], &format!("{EXHAUST_PORT} -o json")));
    check(
        "explain-l7-connection.txt",
        0,
        &node.explain(&["l7.yaml"], "--from tiefighter --to deathstar-1 --port 80"),
    );
    check("explain-l7-xwing.txt", 1, &node.explain(&["l7.yaml"], XWING));
}

/// A path that some backend reads as another one is denied for that one's sake.
#[test]
fn every_reading_of_a_path_counts() {
    let node = Node::new();
    let question = "--from tiefighter --to deathstar-1 --port 80 --method POST --path";
    check(
        "explain-l7-readings.txt",
        1,
        &node.explain(&["l7.yaml"], &format!("{question} /v1/x/../request-landing")),
    );
    no_answer(
        "a request on `/%00` is refused with 400 whatever policy says: escaped_nul",
        &node.explain(&["l7.yaml"], &format!("{question} /%00")),
    );
}

#[test]
fn policies_come_from_the_node_file_s_directories() {
    let node = Node::new();
    node.0.write("policies/rule1.yaml", L4);
    assert_eq!(node.explain(&[], XWING).status.code(), Some(1));
    assert_eq!(node.explain(&["policies"], XWING).status.code(), Some(1));
}

/// As for the daemon: policies name ports without regard to case.
#[test]
fn named_ports_are_found() {
    let node = Node::new();
    let named =
        NODE.replace("class = \"deathstar\" }", "class = \"deathstar\" }\nnamed_ports = { http = \"8080\" }");
    node.0.write("node.toml", &named);
    node.0.write("named.yaml", &L4.replace("\"80\"", "HTTP"));
    let ask = |port: &str| {
        node.explain(&["named.yaml"], &format!("--from tiefighter --to deathstar-1 --port {port}"))
            .status
            .code()
    };
    assert_eq!((ask("8080"), ask("80")), (Some(0), Some(1)));
}

#[test]
fn a_refused_policy_is_closed_and_told() {
    let node = Node::new();
    node.0.write("refused.yaml", &refused());
    let output = node.explain(&["refused.yaml"], LANDING);
    assert_eq!(output.status.code(), Some(1));
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(complaints.starts_with("sluice: refused.yaml:"), "{complaints}");
}

#[test]
fn questions_without_an_answer() {
    let node = Node::new();
    no_answer(
        "`rebel-base` is no endpoint of this node, no address and no reserved name (`host`, `world`)",
        &node.explain(&[], "--from rebel-base --to xwing --port 80"),
    );
    no_answer(
        "can't read `missing.yaml`: No such file or directory (os error 2)",
        &node.explain(&["missing.yaml"], XWING),
    );
    node.0.write("broken.yaml", "kind: [");
    let output = node.explain(&["broken.yaml"], XWING);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        String::from_utf8_lossy(&output.stderr)
            .starts_with("sluice: a policy file does not parse:\nbroken.yaml")
    );
    node.0.write("node.toml", "[node]\nname = 'n'\n");
    no_answer(
        "the node file is not valid:\nnode.toml:1: node.pod_networks: is missing; add `pod_networks = [\"...\"]`",
        &node.explain(&[], XWING),
    );
}

#[test]
fn accepted_and_refused_objects() {
    let place = Place::new();
    place.write("p/a.yaml", &format!("{L4}---\n{}", refused()));
    place.write("p/b.yaml", L4);
    place.write("p/broken.yaml", "kind: [");
    place.write("p/ignored.txt", "kind: [");
    let all = place.without_path(sluice(&["policy", "check", &place.path("p")]));
    check("check.txt", 1, &all);
    check("check.json", 1, &place.without_path(sluice(&["policy", "check", "-o", "json", &place.path("p")])));
    check("check-good.txt", 0, &place.without_path(sluice(&["policy", "check", &place.path("p/b.yaml")])));
}

#[test]
fn the_standard_input_is_checked() {
    check("check-stdin.txt", 0, &sluice_reading(L4, &["policy", "check", "-"]));
}

#[test]
fn nothing_to_check() {
    let place = Place::new();
    check("check-none.txt", 0, &sluice(&["policy", "check", &place.path("")]));
    no_answer(
        "can't read `missing`: No such file or directory (os error 2)",
        &place.without_path(sluice(&["policy", "check", &place.path("missing")])),
    );
}

#[test]
fn node_files() {
    let place = Place::new();
    place.write("node.toml", NODE);
    let good = place.path("node.toml");
    check("config-check.txt", 0, &place.without_path(sluice(&["config", "check", &good])));
    place.write("bad.toml", &NODE.replace("labels", "lables").replace("10.15.1.1", "10.15.1"));
    let bad = place.path("bad.toml");
    check("config-check-bad.txt", 1, &place.without_path(sluice(&["config", "check", &bad])));
    check("config-check-bad.json", 1, &place.without_path(sluice(&["config", "check", "-o", "json", &bad])));
    no_answer(
        "can't read the node file `missing`: No such file or directory (os error 2)",
        &place.without_path(sluice(&["config", "check", &place.path("missing")])),
    );
}

/// `sluiced` is looked for on PATH too; here it is a script that tells how it was called.
#[test]
fn uninstall_is_the_daemon_s() {
    const MAKE: &str =
        r#"cp "$1" sluice; printf '#!/bin/sh\necho "$@"\nexit 1\n' >sluiced; chmod +x sluiced"#;
    let place = Place::new();
    place.write("bin/here", "");
    // Another process writes the programs: one that a parallel test's fork still holds open for writing could not be run.
    let mut shell = Command::new("sh");
    let made =
        shell.args(["-ec", MAKE, "sh", env!("CARGO_BIN_EXE_sluice")]).current_dir(place.path("bin")).status();
    assert!(made.unwrap().success());
    let run = |arguments: &[&str]| Command::new(place.path("bin/sluice")).args(arguments).output().unwrap();
    check("uninstall.txt", 1, &run(&["uninstall"]));
    check("uninstall-config.txt", 1, &run(&["uninstall", "--config", "/x/node.toml"]));
    std::fs::remove_file(place.path("bin/sluiced")).unwrap();
    let output =
        Command::new(place.path("bin/sluice")).arg("uninstall").env("PATH", "/nowhere").output().unwrap();
    no_answer(
        "there is no `sluiced` beside this program or on PATH; run `sluiced --uninstall` where it is",
        &output,
    );
}

#[test]
fn commands_that_do_not_exist_have_no_answer() {
    assert_eq!(sluice(&["polcy"]).status.code(), Some(2));
    assert_eq!(sluice(&["policy", "explain"]).status.code(), Some(2));
}

/// A name is part of a line, and never a line, whatever it is made of.
#[test]
fn names_given_as_arguments_forge_no_line() {
    use std::os::unix::ffi::OsStringExt;
    let hostile = "x\u{1b}[31m\nsluice: all is well\r\u{202e}\u{2028}\u{9b}";
    let bytes = [hostile.as_bytes(), b"\xff.yaml"].concat();
    let commands: [&[&str]; 8] = [
        &[],
        &["status", "--output"],
        &["status", "--wait"],
        &["policy", "check"],
        &["config", "check"],
        &["status", "--config"],
        &["status", "--socket"],
        &["policy", "explain", "--from", "a", "--to", "b", "--port", "80", "--policies"],
    ];
    for command in commands {
        let mut run = Command::new(env!("CARGO_BIN_EXE_sluice"));
        let output = run.args(command).arg(std::ffi::OsString::from_vec(bytes.clone())).output().unwrap();
        let said =
            String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(2), "{command:?}: {said}");
        assert!(!said.lines().any(|line| line.starts_with("sluice: all is well")), "{command:?}: {said:?}");
        assert!(!said.contains(['\u{1b}', '\r', '\u{202e}', '\u{2028}', '\u{9b}']), "{command:?}: {said:?}");
    }
}

#[test]
fn nor_does_the_name_of_a_valid_file() {
    let place = Place::new();
    let file = place.path("x\u{1b}[31m\nsluice: all is well\u{202e}.toml");
    let _bytes =
        std::fs::copy(concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/laptop/node.toml"), &file)
            .unwrap();
    let output =
        Command::new(env!("CARGO_BIN_EXE_sluice")).args(["config", "check"]).arg(file).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!((output.status.code(), said.lines().count()), (Some(0), 1), "{said:?}");
    assert!(said.contains("x\\u001b[31m\\nsluice: all is well\\u202e.toml: ok"), "{said:?}");
}
