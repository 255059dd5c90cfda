//! Cases: what is read, and what is refused with which words.

use super::*;
use proptest::prelude::*;

/// The least that a node file says.
const NODE: &str = "node: {name: n, pod_networks: [10.0.0.0/8, 'fd00::/64']}";
const NO_ROOT: &str = "redirect: {mode: none}";
const A: &str = "{name: a, addresses: [10.0.0.1]}";

/// The YAML `lines` are refused with exactly these complaints.
#[track_caller]
fn refused(lines: &[&str], expect: &[&str]) {
    let text = lines.join("\n");
    let problems = read("n.yaml", &text).expect_err(&text);
    let problems: Vec<String> = problems.iter().map(Problem::to_string).collect();
    assert_eq!(problems, expect, "{text}");
}

/// One endpoint's body is refused with this complaint about it.
#[track_caller]
fn refused_endpoint(body: &str, expect: &str) {
    let endpoint = format!("endpoint: [{{name: a, {body}}}]");
    refused(&[NODE, NO_ROOT, &endpoint], &[&format!("n.yaml:3: endpoint[0].{expect}")]);
}

#[track_caller]
fn accepted(file: &str, lines: &[&str]) -> Config {
    read(file, &lines.join("\n")).unwrap_or_else(|problems| panic!("{problems:?}"))
}

/// Word for word what the documentation shows.
const EXAMPLE: &str = r#"
[node]
name = "node-1"
pod_networks = ["10.15.0.0/16", "f00d::/64"]

[policies]
directories = ["/etc/sluice/policies"]

[redirect]
mode = "ebpf"                 # "none": only the listeners below, no root needed

[[endpoint]]
name = "deathstar-1"
namespace = "default"
interface = "lxc-deathstar-1" # the node's end; not needed with mode "none"
addresses = ["10.15.42.252", "f00d::a0f:0:0:ad"]
labels = { org = "empire", class = "deathstar" }
"#;

const EXAMPLE_LISTENER: &str = r#"
[[listener]]                  # only with mode "none": stands for connections to this endpoint's port
endpoint = "deathstar-1"
port = 80                     # the port that policy speaks of
bind = "127.0.0.11:8080"
upstream = "127.0.0.1:9080"
"#;

#[test]
fn the_example_is_read() {
    let config = accepted("/etc/sluice/node.toml", &[EXAMPLE]);
    let [endpoint] = config.endpoints.as_slice() else { panic!("{config:?}") };
    assert_eq!(config.node.name, "node-1");
    assert_eq!(config.redirect.mode, Mode::Ebpf);
    assert_eq!(endpoint.interface.as_deref(), Some("lxc-deathstar-1"));
    assert_eq!(endpoint.labels.get("k8s:org").map(String::as_str), Some("empire"));
    assert_eq!(config.policies.directories, [PathBuf::from("/etc/sluice/policies")]);
    assert_eq!(config.api.socket, PathBuf::from("/run/sluice/sluiced.sock"));
}

#[test]
fn the_example_s_listener_needs_mode_none() {
    let problems = read("node.toml", &format!("{EXAMPLE}{EXAMPLE_LISTENER}")).unwrap_err();
    assert_eq!(
        problems.iter().map(Problem::to_string).collect::<Vec<_>>(),
        ["node.toml:19: listener[0]: listeners need `redirect.mode` to be `none`; \
          remove the listener: with `ebpf` the endpoint's own port is guarded"]
    );
    let without_root = EXAMPLE.replace("mode = \"ebpf\"", "mode = \"none\"");
    let config = accepted("node.toml", &[&without_root, EXAMPLE_LISTENER]);
    assert_eq!(config.listeners[0].bind.to_string(), "127.0.0.11:8080");
    assert_eq!(config.listeners[0].port, 80);
}

#[test]
fn both_syntaxes_say_the_same() {
    let toml = EXAMPLE.replace("mode = \"ebpf\"", "mode = \"none\"") + EXAMPLE_LISTENER;
    let yaml = "
node: {name: node-1, pod_networks: [10.15.0.0/16, 'f00d::/64']}
policies: {directories: [/etc/sluice/policies]}
redirect: {mode: none}
endpoint:
- name: deathstar-1
  namespace: default
  interface: lxc-deathstar-1
  addresses: [10.15.42.252, 'f00d::a0f:0:0:ad']
  labels: {org: empire, class: deathstar}
listener:
- {endpoint: deathstar-1, port: 80, bind: '127.0.0.11:8080', upstream: '127.0.0.1:9080'}";
    assert_eq!(accepted("node.toml", &[&toml]), accepted("node.yaml", &[yaml]));
}

#[test]
fn defaults_stand_for_absent_sections() {
    let config = accepted("n.yml", &[NODE]);
    let redirect =
        Redirect { mode: Mode::Ebpf, object: None, bpffs: "/sys/fs/bpf".into(), keep_sysctls: true };
    assert_eq!(config.redirect, redirect);
    assert!(config.policies.allow_localhost);
    assert_eq!(config.node.state_directory, PathBuf::from("/var/lib/sluice"));
    assert_eq!((config.limits.head_bytes, config.limits.path_bytes), (65_536, 8192));
    assert_eq!(config.log, Log { level: "info".into(), format: LogFormat::Text, query_strings: false });
    assert_eq!(config.metrics, None);
}

#[test]
fn defaults_stand_for_absent_fields() {
    let config = accepted("n.yml", &[NODE, "limits: {head_ms: 5}", "log: {format: json}"]);
    assert_eq!((config.limits.head_ms, config.limits.dial_ms), (5, 10_000));
    assert_eq!(config.log, Log { level: "info".into(), format: LogFormat::Json, query_strings: false });
}

#[test]
fn relative_paths_are_relative_to_the_file() {
    let config =
        accepted("/x/n.yml", &[NODE, "policies: {directories: [policies, /y]}", "api: {socket: run/s.sock}"]);
    assert_eq!(config.policies.directories, [PathBuf::from("/x/policies"), PathBuf::from("/y")]);
    assert_eq!(config.api.socket, PathBuf::from("/x/run/s.sock"));
    assert_eq!(accepted("n.yml", &[NODE, "api: {socket: s.sock}"]).api.socket, PathBuf::from("s.sock"));
}

#[test]
fn named_ports() {
    let ports = "endpoint: [{name: a, addresses: [10.0.0.1], named_ports: {http: 80, dns: 53/udp}}]";
    refused(
        &[NODE, NO_ROOT, ports],
        &["n.yaml:3: endpoint[0].named_ports.http: found a number, expected a string; write it in quotes"],
    );
    let config = accepted("n.yaml", &[NODE, NO_ROOT, &ports.replace("80", "'80'")]);
    assert_eq!(config.endpoints[0].named_ports["http"], (80, "TCP".to_owned()));
    assert_eq!(config.endpoints[0].named_ports["dns"], (53, "UDP".to_owned()));
    refused_endpoint(
        "addresses: [10.0.0.1], named_ports: {http: 0/TCP}",
        "named_ports.http: `0/TCP` is not a port with its protocol; write it such as `80/TCP`; the protocols are SCTP, TCP and UDP",
    );
    refused_endpoint(
        "addresses: [10.0.0.1], named_ports: {HTTP: 80/TCP}",
        "named_ports.HTTP: `HTTP` can't name a port; write 1 to 15 lower-case letters, digits and single dashes, at least one letter among them",
    );
}

#[test]
fn text_that_is_neither() {
    refused(&["node: [", "}"], &["n.yaml:1: not YAML: mismatched bracket '[' closed by '}'"]);
    refused(&["node: {}", "node: {}"], &["n.yaml:2: not YAML: duplicate mapping key: node"]);
    refused(
        &["node:", "\tname: n"],
        &["n.yaml:2: not YAML: tabs disallowed within this context (block indentation); indent with spaces"],
    );
    refused(&["a: 1", "---", "b: 1"], &["n.yaml:3: not YAML: multiple YAML documents detected"]);
    let problems = read("n.toml", "[node\nname = \n").unwrap_err();
    assert!(problems.iter().all(|p| p.message.starts_with("not TOML: ") && p.line > 0), "{problems:?}");
    assert_eq!(problems[0].line, 1);
    assert_eq!(problems.len(), 1, "its consequences are not told: {problems:?}");
    assert_eq!(problems[0].fix, "");
    let other = read("n.conf", "node: {}").unwrap_err();
    assert_eq!(other[0].fix, "a node file in YAML has a name that ends in `.yaml` or `.yml`");
    let twice = read("n.toml", "[node]\nname = 'a'\nname = 'b'\n").unwrap_err();
    assert_eq!(twice[0].to_string(), "n.toml:3: not TOML: duplicate key");
}

#[test]
fn an_empty_file() {
    let missing = "n.toml:1: node: is missing; add the section `node`";
    assert_eq!(read("n.toml", "").unwrap_err()[0].to_string(), missing);
}

#[test]
fn unknown_fields_are_named_with_what_was_meant() {
    refused(
        &[NODE, "endpoints: []", "colour: red"],
        &[
            "n.yaml:2: endpoints: there is no field `endpoints`; did you mean `endpoint`?",
            "n.yaml:3: colour: there is no field `colour`; the fields here are node, policies, redirect, endpoint, listener, api, limits, log, metrics",
        ],
    );
}

#[test]
fn all_problems_at_once() {
    refused(
        &[
            "node: {pod_networks: 10.0.0.0/8}",
            "redirect: {mode: ebfp}",
            "endpoint: [{name: a, adresses: [10.0.0.1]}]",
            "limits: {head_ms: soon}",
        ],
        &[
            "n.yaml:1: node.pod_networks: found a string, expected a list; write it in brackets: `[...]`",
            "n.yaml:1: node.name: is missing; add `name = \"...\"`",
            "n.yaml:2: redirect.mode: `ebfp` is not one of the choices; write `ebpf` or `none`",
            "n.yaml:3: endpoint[0].adresses: there is no field `adresses`; did you mean `addresses`?",
            "n.yaml:3: endpoint[0].addresses: is missing; add `addresses = [\"...\"]`",
            "n.yaml:4: limits.head_ms: found a string, expected a whole number; write it in digits, without quotes",
        ],
    );
}

#[test]
fn toml_lines() {
    let text = "[node]\nname = 'n'\npod_networks = [\n  '10.0.0.0/8',\n  '10.0.0.1/8',\n]\n\n[[endpoint]]\nname = 'a'\n";
    let problems = read("n.toml", text).unwrap_err();
    assert_eq!(
        problems.iter().map(|p| (p.line, p.field.as_str())).collect::<Vec<_>>(),
        [(5, "node.pod_networks[1]"), (8, "endpoint[0].addresses")]
    );
}

#[test]
fn networks() {
    let check = |network: &str, expect: &str| {
        let node = format!("node: {{name: n, pod_networks: ['{network}']}}");
        refused(&[&node], &[&format!("n.yaml:1: node.pod_networks[0]: {expect}")]);
    };
    check("10.0.0.1", "`10.0.0.1` has no prefix length; write the network, such as `10.0.0.1/24`");
    check("10.0.0.1/8", "`10.0.0.1/8` has bits behind its prefix; write it as `10.0.0.0/8`");
    check("10.0.0.0/33", "`33` is not a prefix length; write a number from 0 to 32 behind the `/`");
    check("fd00::/+8", "`+8` is not a prefix length; write a number from 0 to 128 behind the `/`");
    check(
        "pods/8",
        "`pods` is not an IPv4 or IPv6 address; write a network such as `10.0.0.0/16` or `fd00::/64`",
    );
    check("::ffff:10.0.0.0/104", "`::ffff:10.0.0.0` is an IPv4-mapped IPv6 address; write it as `10.0.0.0`");
    refused(
        &["node: {name: n, pod_networks: []}"],
        &["n.yaml:1: node.pod_networks: is empty; write at least one"],
    );
}

#[test]
fn addresses() {
    refused_endpoint(
        "addresses: [deathstar]",
        "addresses[0]: `deathstar` is not an IPv4 or IPv6 address; write one such as `10.0.0.1` or `fd00::1`",
    );
    refused_endpoint(
        "addresses: [10.0.0.1/32]",
        "addresses[0]: `10.0.0.1/32` is a network, not an address; write the address alone: `10.0.0.1`",
    );
    refused_endpoint(
        "addresses: ['::ffff:10.0.0.1']",
        "addresses[0]: `::ffff:10.0.0.1` is an IPv4-mapped IPv6 address; write it as `10.0.0.1`",
    );
    refused_endpoint(
        "addresses: [0.0.0.0]",
        "addresses[0]: `0.0.0.0` can't be anybody's own address; write a unicast address",
    );
    refused_endpoint("addresses: []", "addresses: is empty; write at least one");
    refused_endpoint(
        "addresses: [10.0.0.1, 10.0.0.2]",
        "addresses[1]: a second IPv4 address; keep at most one of each family",
    );
    refused_endpoint(
        "addresses: [192.0.2.1]",
        "addresses[0]: `192.0.2.1` lies in none of `node.pod_networks`; add its network there, or correct the address",
    );
    refused_endpoint(
        "addresses: [10.0.0.1, 'fd00::1', 'fd00::2']",
        "addresses: has 3 elements; write at most 2",
    );
}

#[test]
fn the_node_s_own_address_is_no_endpoint_s() {
    let node = "node: {name: n, pod_networks: [10.0.0.0/8], addresses: [10.0.0.1]}";
    refused(
        &[node, NO_ROOT, "endpoint:", &format!("- {A}")],
        &[
            "n.yaml:4: endpoint[0].addresses[0]: `10.0.0.1` is the node's own; remove it here or in `node.addresses`",
        ],
    );
}

#[test]
fn endpoints_share_nothing() {
    refused(
        &[NODE, NO_ROOT, "endpoint:", &format!("- {A}"), "- {name: a, addresses: [10.0.0.2]}"],
        &[
            "n.yaml:5: endpoint[1].name: the same name as `default/a` (endpoint[0]); give it another name or namespace",
        ],
    );
    refused(
        &[NODE, NO_ROOT, "endpoint:", &format!("- {A}"), "- {name: b, addresses: [10.0.0.1]}"],
        &[
            "n.yaml:5: endpoint[1].addresses[0]: `10.0.0.1` is also an address of `default/a` (endpoint[0]); give each endpoint its own",
        ],
    );
    refused(
        &[
            NODE,
            "endpoint:",
            "- {name: a, addresses: [10.0.0.1], interface: x}",
            "- {name: b, addresses: [10.0.0.2], interface: x}",
        ],
        &[
            "n.yaml:4: endpoint[1].interface: the same interface as `default/a` (endpoint[0]); give each endpoint its own",
        ],
    );
    let _fine = accepted(
        "n.yaml",
        &[NODE, NO_ROOT, "endpoint:", &format!("- {A}"), "- {name: a, namespace: b, addresses: [10.0.0.2]}"],
    );
}

#[test]
fn mode_ebpf_needs_interfaces() {
    refused(
        &[NODE, "endpoint:", &format!("- {A}")],
        &[
            "n.yaml:3: endpoint[0].interface: is missing, and `redirect.mode` is `ebpf`; add `interface = \"...\"`, the node's end of the endpoint's interface",
        ],
    );
    refused_endpoint(
        "addresses: [10.0.0.1], interface: lxc-of-a-long-name",
        "interface: `lxc-of-a-long-name` can't be an interface; write 1 to 15 characters without `/`, `:` or spaces, as `ip link` shows it",
    );
}

#[test]
fn names() {
    refused(
        &[NODE, NO_ROOT, "endpoint: [{name: a/b, addresses: [10.0.0.1]}]"],
        &[
            "n.yaml:3: endpoint[0].name: `a/b` can't be a name; write at most 253 lower-case letters, digits, `-` and `.`, a letter or digit at each end",
        ],
    );
}

#[test]
fn labels() {
    refused_endpoint(
        "addresses: [10.0.0.1], labels: {'reserved:host': ''}",
        "labels.reserved:host: the source `reserved` can't be given to an endpoint; write `host`, which means `k8s:host`",
    );
    refused_endpoint(
        "addresses: [10.0.0.1], labels: {io.kubernetes.pod.namespace: x}",
        "labels.io.kubernetes.pod.namespace: `io.kubernetes.pod.namespace` is made from the endpoint's namespace; write `namespace = \"...\"` at the endpoint instead",
    );
    refused_endpoint(
        "addresses: [10.0.0.1], labels: {a;b: x}",
        "labels.a;b: `a;b` can't be a label's key; write letters, digits, `-`, `_`, `.` and `/`, with at most one source before a `:`",
    );
    refused_endpoint(
        "addresses: [10.0.0.1], labels: {a: b;c}",
        "labels.a: `b;c` can't be a label's value; write at most 63 letters, digits, `-`, `_` and `.`",
    );
    refused_endpoint(
        "addresses: [10.0.0.1], labels: {'a': x, 'k8s:a': y}",
        "labels.k8s:a: `k8s:a` is given twice, with and without its source; remove one of them",
    );
}

#[test]
fn labels_that_every_pod_has() {
    let endpoint = "endpoint: [{name: a, namespace: b, addresses: [10.0.0.1], labels: {io.cilium.k8s.policy.cluster: c}}]";
    let config = accepted("n.yaml", &[NODE, NO_ROOT, endpoint]);
    let labels: Vec<String> =
        config.endpoints[0].labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    assert_eq!(
        labels,
        [
            "k8s:io.cilium.k8s.namespace.labels.kubernetes.io/metadata.name=b",
            "k8s:io.cilium.k8s.policy.cluster=c",
            "k8s:io.kubernetes.pod.namespace=b",
        ]
    );
}

#[track_caller]
fn refused_listener(listener: &str, expect: &str) {
    let line = format!(
        "listener: [{{endpoint: a, port: 80, bind: '127.0.0.1:1', upstream: '127.0.0.1:2'}}, {listener}]"
    );
    let endpoints = format!(
        "endpoint: [{A}, {{name: b, addresses: [10.0.0.2]}}, {{name: b, namespace: c, addresses: [10.0.0.3]}}]"
    );
    refused(
        &[NODE, NO_ROOT, &endpoints, "metrics: {listen: '127.0.0.1:3'}", &line],
        &[&format!("n.yaml:5: listener[1].{expect}")],
    );
}

#[test]
fn listeners() {
    refused_listener(
        "{endpoint: a, port: 0, bind: '127.0.0.1:4', upstream: '127.0.0.1:5'}",
        "port: 0 is out of range; write a number from 1 to 65535",
    );
    refused_listener(
        "{endpoint: default/aa, port: 1, bind: '127.0.0.1:4', upstream: '127.0.0.1:5'}",
        "endpoint: there is no endpoint `default/aa`; did you mean `default/a`?",
    );
    refused_listener(
        "{endpoint: rebel-base, port: 1, bind: '127.0.0.1:4', upstream: '127.0.0.1:5'}",
        "endpoint: there is no endpoint `rebel-base`; add an `[[endpoint]]` of this name",
    );
    refused_listener(
        "{endpoint: b, port: 1, bind: '127.0.0.1:4', upstream: '127.0.0.1:5'}",
        "endpoint: `b` names 2 endpoints; write it as `namespace/name`",
    );
    refused_listener(
        "{endpoint: a, port: 1, bind: 'localhost:4', upstream: '127.0.0.1:5'}",
        "bind: `localhost:4` is not an address with a port; write it such as `127.0.0.1:8080` or `[::1]:8080`; names are not looked up",
    );
    refused_listener(
        "{endpoint: a, port: 1, bind: '127.0.0.1:0', upstream: '127.0.0.1:5'}",
        "bind: `127.0.0.1:0` has port 0; write the port, from 1 to 65535",
    );
}

#[test]
fn sockets_of_listeners() {
    refused_listener(
        "{endpoint: a, port: 1, bind: '127.0.0.1:1', upstream: '127.0.0.1:5'}",
        "bind: `127.0.0.1:1` is already bound by listener[0]; give each listener its own address or port",
    );
    refused_listener(
        "{endpoint: a, port: 1, bind: '0.0.0.0:1', upstream: '127.0.0.1:5'}",
        "bind: `0.0.0.0:1` is already bound by listener[0]; give each listener its own address or port",
    );
    refused_listener(
        "{endpoint: a, port: 1, bind: '127.0.0.1:4', upstream: '127.0.0.1:1'}",
        "upstream: `127.0.0.1:1` is where listener[0] is bound: a loop; write where the service itself listens",
    );
    refused_listener(
        "{endpoint: a, port: 1, bind: '127.0.0.1:3', upstream: '127.0.0.1:5'}",
        "bind: `127.0.0.1:3` is taken by `metrics.listen`; give one of them another port",
    );
}

#[test]
fn limits_hold_their_ranges() {
    let check = |limit: &str, max: u64| {
        let _fine = accepted("n.yaml", &[NODE, &format!("limits: {{{limit}: {max}}}")]);
        for wrong in [0, max + 1] {
            let problems = read("n.yaml", &format!("{NODE}\nlimits: {{{limit}: {wrong}}}")).unwrap_err();
            assert_eq!(problems[0].field, format!("limits.{limit}"));
            assert_eq!(problems[0].message, format!("{wrong} is out of range"));
        }
    };
    check("head_bytes", 1_048_576);
    check("header_fields", 256);
    check("path_bytes", 65_536);
    check("chunk_line_bytes", 65_536);
    check("trailer_bytes", 1_048_576);
    check("head_ms", 3_600_000);
    check("pipelined_requests", 1024);
    check("swallow_bytes", 1_073_741_824);
    check("swallow_ms", 3_600_000);
    check("dial_ms", 3_600_000);
    check("connections", 1_048_576);
    check("guaranteed_connections", 1_048_576);
    check("drain_ms", 3_600_000);
    check("flow_records", 1_048_576);
    let check_from_nothing = |limit: &str, max: u64| {
        for fine in [0, max] {
            let _fine = accepted("n.yaml", &[NODE, &format!("limits: {{{limit}: {fine}}}")]);
        }
        let problems = read("n.yaml", &format!("{NODE}\nlimits: {{{limit}: {}}}", max + 1)).unwrap_err();
        assert_eq!(problems[0].field, format!("limits.{limit}"));
    };
    let _fine = accepted("n.yaml", &[NODE, "limits: {held_bytes: 1048576}"]);
    let problems = read("n.yaml", &format!("{NODE}\nlimits: {{held_bytes: 1048575}}")).unwrap_err();
    assert_eq!(problems[0].field, "limits.held_bytes");
    check_from_nothing("node_connections", 1_048_576);
    check_from_nothing("pipes", 65_536);
    refused(
        &[NODE, "limits: {workers: -1}"],
        &["n.yaml:2: limits.workers: -1 is out of range; write a number from 0 to 256"],
    );
    refused(
        &[NODE, "limits: {head_ms: 1.5}"],
        &[
            "n.yaml:2: limits.head_ms: found a fraction, expected a whole number; write it in digits, without quotes",
        ],
    );
}

#[test]
fn other_sections() {
    refused(
        &[NODE, "policies: {directories: [a, a]}"],
        &["n.yaml:2: policies.directories[1]: `a` is given twice; remove one of them"],
    );
    refused(
        &[NODE, "policies: {directories: ['']}"],
        &["n.yaml:2: policies.directories[0]: `` is not a path; write the path of a file or directory"],
    );
    refused(&[NODE, "metrics: {}"], &["n.yaml:2: metrics.listen: is missing; add `listen = \"...\"`"]);
    refused(
        &[NODE, "log: {level: ''}"],
        &[
            "n.yaml:2: log.level: `` is not a log level; write `error`, `warn`, `info`, `debug` or `trace`, or a filter such as `info,sluiced=debug`",
        ],
    );
    refused(
        &[NODE, "log: {level: lots}"],
        &[
            "n.yaml:2: log.level: `lots` is not a log level; write `error`, `warn`, `info`, `debug` or `trace`, or a filter such as `info,sluiced=debug`",
        ],
    );
    let _config = accepted("n.yml", &[NODE, "log: {level: 'info,sluiced::pump=trace'}"]);
    refused(
        &[NODE, &format!("api: {{socket: /{}}}", "x".repeat(107))],
        &[
            "n.yaml:2: api.socket: the path has 108 bytes, and that of a socket at most 107; choose a shorter one",
        ],
    );
    refused(
        &[NODE, "policies: {allow_localhost: 'yes'}"],
        &[
            "n.yaml:2: policies.allow_localhost: found a string, expected `true` or `false`; write it without quotes",
        ],
    );
    refused(
        &[NODE, "api:"],
        &["n.yaml:2: api: found nothing, expected a table; write its fields, each with a value"],
    );
}

#[test]
fn every_format_of_the_schema_is_known() {
    fn formats(schema: &serde_json::Value, each: &mut dyn FnMut(&str)) {
        if let Some(name) = schema["format"].as_str().filter(|_| schema["type"] != "integer") {
            each(name);
        }
        let children = schema
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(key, _)| *key != "default")
            .map(|(_, child)| child);
        children.chain(schema.as_array().into_iter().flatten()).for_each(|child| formats(child, each));
    }
    let schema: serde_json::Value = serde_json::from_str(&schema()).unwrap();
    formats(&schema, &mut |name| {
        let known = format::check(name, "\0").map_err(|(message, _)| message);
        assert!(!known.is_err_and(|message| message.contains("is unknown")), "{name}");
    });
}

#[test]
fn depth_is_bounded() {
    for open in ["[", "{a: ", "- ", "[[a"] {
        let text = format!("node: {}", open.repeat(100_000));
        assert!(read("n.yaml", &text).is_err());
        assert!(read("n.toml", &text.replacen(':', " =", 1)).is_err());
    }
}

proptest! {
    #[test]
    fn any_text_never_panics(text in "\\PC{0,200}") {
        let _any = read("n.toml", &text);
        let _any = read("n.yaml", &text);
    }

    /// Near enough to a node file to get past the syntax.
    #[test]
    fn any_node_file_never_panics(
        section in "node|policies|redirect|endpoint|listener|api|limits|log|metrics",
        field in "name|addresses|labels|bind|mode|port|head_ms|directories|level|listen",
        value in "[0-9]{1,30}|'[^']{0,9}'|\\[('[0-9a-f:./]{0,20}',?){0,3}\\]|true|null|\\{a: b\\}|-1.5e300",
    ) {
        for text in [
            format!("{section}: {{{field}: {value}}}"),
            format!("{section}: [{{{field}: {value}}}]"),
            format!("{NODE}\n{section}: {{{field}: {value}}}"),
            format!("{NODE}\n{section}: [{{name: a, addresses: [10.0.0.1], {field}: {value}}}]"),
        ] {
            let _any = read("n.yaml", &text);
        }
        let _any = read("n.toml", &format!("[{section}]\n{field} = {value}"));
        let _any = read("n.toml", &format!("[[{section}]]\n{field} = {value}"));
    }

    /// Whatever is complained about has a line of the text.
    #[test]
    fn every_problem_has_a_line(value in "[0-9]{1,5}|'[a-z]{0,5}'|\\[\\]") {
        let text = format!("{NODE}\nlimits: {{head_ms: {value}, x: {value}}}");
        for problem in read("n.yaml", &text).unwrap_err() {
            prop_assert_eq!(problem.line, 2);
        }
    }
}
