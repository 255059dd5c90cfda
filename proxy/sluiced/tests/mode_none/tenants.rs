//! What one tenant writes costs others neither time nor memory.

use crate::common::{Backend, Daemon, L4, Plan};
use std::io::ErrorKind;

/// What may stay of policies that are gone.
const STAYS_MAX: usize = 64 << 20;

const DENY: &str = r#"
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: deny}
spec:
  endpointSelector: {matchLabels: {org: empire, class: deathstar}}
  ingressDeny: [{fromEndpoints: [{matchLabels: {class: tiefighter}}]}]
"#;

/// A policy of `default` with these paths.
fn policy(name: &str, paths: impl IntoIterator<Item = String>) -> String {
    let rules: Vec<String> = paths.into_iter().map(|path| format!("{{path: '/{name}/{path}'}}")).collect();
    format!(
        "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {{name: {name}}}\nspec:\n  \
         endpointSelector: {{matchLabels: {{org: empire, class: deathstar}}}}\n  ingress:\n  - toPorts:\n    \
         - ports: [{{port: '80', protocol: TCP}}]\n      rules: {{http: [{}]}}\n",
        rules.join(", ")
    )
}

/// Just within the budget of a policy. Every byte of the end is a column of its own in the table.
fn heavy(name: &str) -> String {
    let end = "abcdefghijklmnopqrstuvwxyz0123456789";
    policy(name, (0..16).map(|i| format!("{i}x?[a-z]{{{}}}{end}", 850 + i)))
}

/// Takes room rather than time.
fn large(name: &str) -> String {
    policy(
        name,
        (0..1000)
            .map(|i| format!("{i}/{}", "a".repeat(64)))
            .chain((0..3).map(|i| format!("{i}x?.*y.{{120}}.*"))),
    )
}

/// Given up when the budget is gone.
fn over(name: &str) -> String {
    policy(name, (0..200).map(|i| format!("{i:03}x?.*y.{{{}}}.*", 100 + i % 20)))
}

fn findings(daemon: &Daemon) -> Vec<String> {
    let status = daemon.get("/v1/status");
    status["findings"].as_array().unwrap().iter().map(ToString::to_string).collect()
}

fn still_compiles(daemon: &Daemon) -> bool {
    findings(daemon).iter().any(|finding| finding.contains("still being compiled"))
}

/// What was compiled, and what was given up, leaves with its file.
#[test]
fn the_memory_of_hostile_policies_comes_back_when_they_are_gone() {
    let backend = Backend::start();
    let plan =
        Plan { policies: vec![("0.yaml", L4.to_owned())], limits: String::new(), backend: backend.address };
    let daemon = Daemon::start(&plan);
    let before = daemon.resident_bytes();
    let files: Vec<String> = (0..60).map(|i| format!("hostile-{i}")).collect();
    for (i, name) in files.iter().enumerate() {
        let text = if i % 10 == 9 { over(name) } else { large(name) };
        daemon.write_policy(&format!("{name}.yaml"), &text);
    }
    let policies = |daemon: &Daemon| daemon.get("/v1/status")["policies"].as_u64().unwrap();
    daemon.wait_until(|daemon| policies(daemon) == 61 && !still_compiles(daemon));
    let under = daemon.resident_bytes();
    let refused = findings(&daemon).iter().filter(|finding| finding.contains("need more than")).count();
    assert_eq!(refused, 6, "{:?}", findings(&daemon));
    for name in &files {
        std::fs::remove_file(daemon.policy(&format!("{name}.yaml"))).unwrap();
    }
    daemon.wait_until(|daemon| policies(daemon) == 1);
    assert!(under > before + 2 * STAYS_MAX, "the test proves nothing: {before} {under}");
    daemon.wait_until(|daemon| daemon.resident_bytes().saturating_sub(before) <= STAYS_MAX);
}

/// A deny is in force while what was written before it still compiles, and everything that is asked says so.
#[test]
fn a_deny_written_behind_heavy_policies_is_in_force_while_they_still_compile() {
    let backend = Backend::start();
    let plan =
        Plan { policies: vec![("0.yaml", L4.to_owned())], limits: String::new(), backend: backend.address };
    let daemon = Daemon::start(&plan);
    let mut client = daemon.connect(Daemon::TIEFIGHTER);
    assert_eq!(client.ask("GET", "/").status, 200);
    // Some minutes of compiling: the test waits for none of it.
    for i in 0..100 {
        let name = format!("heavy-{i}");
        daemon.write_policy(&format!("{name}.yaml"), &heavy(&name));
    }
    daemon.write_policy("z-deny.yaml", DENY);
    daemon.wait_until(|daemon| printed(daemon).contains("ingressDeny"));
    assert_eq!(client.end(), Err(ErrorKind::ConnectionReset));
    assert_eq!(daemon.connect(Daemon::TIEFIGHTER).end(), Err(ErrorKind::ConnectionReset));
    let status = daemon.get("/v1/status");
    assert_eq!(status["ok"], true, "{status}");
    assert!(still_compiles(&daemon), "{status}");
    // Rules as they were written: what of them is not in force yet is a finding.
    assert!(printed(&daemon).contains("/heavy-99/"));
    let endpoints = daemon.get("/v1/endpoints");
    assert_eq!(endpoints[0]["ingress_enforcement"], "Enabled", "{endpoints}");
    // What compiles opens nothing meanwhile.
    assert_eq!(daemon.connect(Daemon::XWING).ask("GET", "/heavy-99/0x").status, 403);
}

/// The rules in force, as `sluice policy get` prints them.
fn printed(daemon: &Daemon) -> String {
    daemon.get("/v1/policies")["rules"].to_string()
}
