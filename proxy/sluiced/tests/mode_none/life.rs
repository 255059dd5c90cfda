//! Start, reload, restart, the admin API and the totals.

use crate::common::{Backend, Daemon, L4, L7, OK, Plan, sluiced};
use rustix::process::Signal;
use std::fs;
use std::io::ErrorKind;
use std::io::Write;

fn plan(backend: &Backend, policy: &str) -> Plan {
    Plan { policies: vec![("a.yaml", policy.to_owned())], limits: String::new(), backend: backend.address }
}

const BROKEN: &str = "kind: CiliumNetworkPolicy\nspec: [";

#[test]
fn its_man_page_says_what_its_help_says() {
    let (page, help) = (sluiced(&["--man"]), sluiced(&["--help"]));
    assert!(page.contains(".TH sluiced 8 "), "{page}");
    for text in ["/etc/sluice/node.toml", "Signals: SIGHUP", "Exit status: 0 ended by a signal"] {
        assert!(page.contains(text) && help.contains(text), "{text}: {page}");
    }
}

#[test]
fn an_invalid_node_file_is_explained() {
    let backend = Backend::start();
    let limits = "conections = 5".to_owned();
    let exit = Daemon::start_and_fail(&Plan { limits, ..plan(&backend, OK) });
    assert_eq!(exit.status, Some(1));
    assert!(exit.stderr.contains("node.toml:"), "{}", exit.stderr);
    assert!(exit.stderr.contains("conections"), "{}", exit.stderr);
}

#[test]
fn a_policy_that_was_never_readable_keeps_the_daemon_from_starting() {
    let backend = Backend::start();
    let exit = Daemon::start_and_fail(&plan(&backend, BROKEN));
    assert_eq!(exit.status, Some(2));
    assert!(exit.stderr.contains("a.yaml"), "{}", exit.stderr);
}

/// Its name is a line of its own, and no command to a terminal.
#[test]
fn a_hostile_file_name_is_escaped_in_what_is_said_at_the_start() {
    let backend = Backend::start();
    let name = "a\u{1b}[31m\nsluiced: all is well.yaml";
    let policies = vec![(name, BROKEN.to_owned())];
    let exit = Daemon::start_and_fail(&Plan { policies, ..plan(&backend, OK) });
    assert_eq!(exit.status, Some(2));
    assert!(!exit.stderr.contains('\u{1b}'), "{:?}", exit.stderr);
    assert!(!exit.stderr.lines().any(|line| line.starts_with("sluiced: all is well")), "{}", exit.stderr);
    assert!(exit.stderr.contains("a\\u001b[31m\\nsluiced: all is well.yaml"), "{}", exit.stderr);
}

#[test]
fn so_is_the_name_of_a_node_file() {
    let name = "/nowhere/a\u{1b}[31m\nsluiced: all is well";
    let mut sluiced = std::process::Command::new(env!("CARGO_BIN_EXE_sluiced"));
    let output = sluiced.args(["--config", name]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains("a\\u001b[31m\\nsluiced: all is well"), "{said:?}");
}

#[test]
fn so_is_an_argument_that_is_not_understood() {
    let mut sluiced = std::process::Command::new(env!("CARGO_BIN_EXE_sluiced"));
    let output = sluiced.arg("a\u{1b}[31m\nsluiced: all is well\r\u{202e}").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("a\\u001b[31m\\nsluiced: all is well\\r\\u202e"), "{said:?}");
}

/// A pipe that takes nothing more, and whoever could read it.
fn full_pipe() -> (std::io::PipeReader, std::io::PipeWriter) {
    let (reader, mut writer) = std::io::pipe().unwrap();
    rustix::io::ioctl_fionbio(&writer, true).unwrap();
    while writer.write(&[b'x'; 4096]).is_ok() {}
    while writer.write(b"x").is_ok() {}
    rustix::io::ioctl_fionbio(&writer, false).unwrap();
    (reader, writer)
}

/// A full disk, a reader that has gone, or one that has stopped.
#[test]
fn a_log_that_takes_nothing_ends_nothing_and_holds_up_nothing() {
    let backend = Backend::start();
    let (reader, closed) = std::io::pipe().unwrap();
    drop(reader);
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut daemon = Daemon::start(&plan(&backend, OK)).restart_with_log(full);
    assert_eq!(daemon.connect(Daemon::TIEFIGHTER).ask("GET", "/ok").status, 200);
    daemon.write_policy("a.yaml", BROKEN);
    daemon.wait_until(|daemon| daemon.get("/v1/status")["ok"] == false);
    daemon = daemon.restart_with_log(closed);
    assert_eq!(daemon.connect(Daemon::TIEFIGHTER).ask("GET", "/ok").status, 200);
    let (_reader, full) = full_pipe();
    daemon = daemon.restart_with_log(full);
    assert_eq!(daemon.connect(Daemon::TIEFIGHTER).ask("GET", "/ok").status, 200);
    daemon.write_policy("a.yaml", BROKEN);
    daemon.wait_until(|daemon| daemon.get("/v1/status")["ok"] == false);
    assert_eq!(daemon.terminate().status, Some(0));
}

#[test]
fn after_a_restart_the_last_accepted_text_is_in_force_and_the_revision_has_grown() {
    let backend = Backend::start();
    let mut daemon = Daemon::start(&plan(&backend, L7));
    let first = daemon.revision;
    daemon.apply("a.yaml", OK);
    let landed = daemon.revision;
    assert_eq!(landed, first + 1);
    let identities = daemon.get("/v1/identities");
    daemon.write_policy("a.yaml", BROKEN);
    let daemon = daemon.restart(Signal::TERM);
    assert!(daemon.revision > landed, "{} after {landed}", daemon.revision);
    assert_eq!(daemon.get("/v1/identities"), identities);
    let mut client = daemon.connect(Daemon::TIEFIGHTER);
    assert_eq!((client.ask("GET", "/ok").status, client.ask("GET", "/no").status), (200, 403));
}

#[test]
fn killed_and_started_again() {
    let backend = Backend::start();
    let daemon = Daemon::start(&plan(&backend, OK)).restart(Signal::KILL);
    assert_eq!(daemon.connect(Daemon::TIEFIGHTER).ask("GET", "/ok").status, 200);
}

#[test]
fn a_reload_follows_endpoints_and_limits() {
    let backend = Backend::start();
    let mut daemon = Daemon::start(&plan(&backend, L4));
    assert_eq!(daemon.connect(Daemon::XWING).end(), Err(ErrorKind::ConnectionReset));
    let text = fs::read_to_string(daemon.node_file()).unwrap();
    fs::write(daemon.node_file(), text.replace("alliance", "empire")).unwrap();
    daemon.signal(Signal::HUP);
    let _revision = daemon.wait_for_revision();
    assert_eq!(daemon.connect(Daemon::XWING).ask("GET", "/").status, 200);
}

#[test]
fn a_broken_node_file_changes_nothing_and_is_reported() {
    let backend = Backend::start();
    let mut daemon = Daemon::start(&plan(&backend, OK));
    let before = daemon.revision;
    let text = fs::read_to_string(daemon.node_file()).unwrap();
    fs::write(daemon.node_file(), text.replace("[node]", "[nodes]")).unwrap();
    daemon.signal(Signal::HUP);
    let reload = daemon.wait_for("node file read again");
    assert!(reload["problems"].as_u64().unwrap() > 0);
    let status = daemon.get("/v1/status");
    assert_eq!((&status["ok"], &status["revision"]), (&false.into(), &before.into()));
    assert_eq!(daemon.connect(Daemon::TIEFIGHTER).ask("GET", "/ok").status, 200);
}

/// Peers outside, of which each has an identity of its own.
fn prefixes(name: &str, count: usize) -> String {
    let prefixes =
        (0..count).map(|nth| format!("192.0.{}.{}/32", 2 + nth / 250, nth % 250)).collect::<Vec<_>>();
    format!(
        "\n---\napiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {{name: {name}, namespace: default}}\n\
         spec: {{endpointSelector: {{matchLabels: {{class: deathstar}}}}, ingress: [{{fromCIDR: [{}], \
         toPorts: [{{ports: [{{port: '80', protocol: TCP}}]}}]}}]}}\n",
        prefixes.join(", ")
    )
}

/// What changes need of it was reserved before.
#[test]
fn changes_come_into_force_while_the_disk_takes_nothing() {
    let backend = Backend::start();
    let mut daemon = Daemon::start(&plan(&backend, OK));
    let before = daemon.revision;
    // As good as a full disk.
    let obstacles = [".revision.next", ".identities.json.next"].map(|name| daemon.state().join(name));
    obstacles.iter().for_each(|obstacle| fs::create_dir(obstacle).unwrap());
    daemon.apply("a.yaml", L7);
    assert_eq!(daemon.revision, before + 1);
    assert_eq!(daemon.connect(Daemon::TIEFIGHTER).ask("GET", "/ok").status, 403);
    assert_eq!(daemon.get("/v1/status")["ok"], true);
    // An identity that has no number yet.
    daemon.apply("a.yaml", &format!("{L7}{}", prefixes("b", 1)));
    let status = daemon.get("/v1/status");
    let message = status["findings"][0]["message"].as_str().unwrap();
    assert!(message.starts_with("can't save the numbers of identities"), "{status}");
    let numbered = daemon.get("/v1/identities");
    // More of them than were reserved.
    daemon.write_policy("a.yaml", &format!("{L4}{}", prefixes("b", 300)));
    let _warning = daemon.wait_for("a change of policy is not in force");
    let status = daemon.get("/v1/status");
    assert_eq!((&status["ok"], &status["revision"]), (&false.into(), &daemon.revision.into()));
    assert!(status.to_string().contains("the last change is not in force"), "{status}");
    assert_eq!(daemon.connect(Daemon::TIEFIGHTER).ask("GET", "/ok").status, 403);
    obstacles.iter().for_each(|obstacle| fs::remove_dir(obstacle).unwrap());
    let _revision = daemon.wait_for_revision();
    assert_eq!(daemon.connect(Daemon::TIEFIGHTER).ask("GET", "/ok").status, 200);
    assert_eq!(daemon.get("/v1/status")["ok"], true);
    let now = daemon.get("/v1/identities");
    let all = now.as_array().unwrap();
    assert!(numbered.as_array().unwrap().iter().all(|known| all.contains(known)), "{numbered} {now}");
    assert_eq!(daemon.restart(Signal::TERM).get("/v1/identities"), now);
}

#[test]
fn an_accepted_text_that_can_t_be_kept_is_in_force_and_reported() {
    let backend = Backend::start();
    let mut daemon = Daemon::start(&plan(&backend, OK));
    let (texts, away) = (daemon.state().join("policies/objects"), daemon.state().join("away"));
    fs::rename(&texts, &away).unwrap();
    fs::write(&texts, "").unwrap();
    daemon.apply("a.yaml", L4);
    // What is said of a change is known to the next one at the latest.
    daemon.apply("a.yaml", L7);
    let status = daemon.get("/v1/status");
    assert_eq!((&status["ok"], &status["revision"]), (&false.into(), &daemon.revision.into()));
    let message = status["findings"][0]["message"].as_str().unwrap();
    assert!(message.starts_with("an accepted policy text can't be kept for the next start: "), "{message}");
    fs::remove_file(&texts).unwrap();
    fs::rename(&away, &texts).unwrap();
    daemon.apply("a.yaml", L4);
    daemon.apply("a.yaml", OK);
    assert_eq!(daemon.get("/v1/status")["ok"], true);
}

#[test]
fn a_change_that_changes_nothing_is_no_revision() {
    let backend = Backend::start();
    let mut daemon = Daemon::start(&plan(&backend, OK));
    let before = daemon.revision;
    daemon.write_policy("a.yaml", &format!("# a remark\n{OK}"));
    daemon.apply("a.yaml", L7);
    assert_eq!(daemon.revision, before + 1);
}

#[test]
fn endpoints_and_policies_are_shown() {
    let backend = Backend::start();
    let daemon = Daemon::start(&plan(&backend, L7));
    let endpoints = daemon.get("/v1/endpoints");
    let deathstar = daemon.get("/v1/endpoints/default/deathstar-1");
    assert_eq!(endpoints.as_array().unwrap().len(), 3);
    assert!(endpoints.as_array().unwrap().contains(&deathstar));
    assert_eq!(deathstar["ingress_enforcement"], "Enabled");
    assert_eq!(deathstar["egress_enforcement"], "Disabled");
    assert_eq!(daemon.get("/v1/endpoints/xwing")["ingress_enforcement"], "Disabled");
    let policies = daemon.get("/v1/policies");
    assert_eq!(policies["revision"], daemon.revision);
    let rules = &policies["rules"][0]["ingress"][0]["toPorts"][0]["rules"]["http"][0];
    assert_eq!(rules["path"], "/v1/request-landing");
    assert!(daemon.get("/v1/endpoints/nobody")["error"].as_str().unwrap().contains("nobody"));
}

#[test]
fn a_governed_port_without_a_listener_is_not_enforced() {
    let backend = Backend::start();
    let daemon = Daemon::start(&plan(&backend, &L4.replace("\"80\"", "\"81\"")));
    let status = daemon.get("/v1/status");
    assert_eq!(status["ok"], false);
    let message = status["findings"][0]["message"].as_str().unwrap();
    assert!(message.contains("port 81/TCP") && message.contains("not enforced"), "{message}");
}

#[test]
fn more_connections_than_the_process_has_descriptors_for_is_a_finding() {
    let backend = Backend::start();
    let limits = "connections = 1048576".to_owned();
    let daemon = Daemon::start(&Plan { limits, ..plan(&backend, L7) });
    let status = daemon.get("/v1/status");
    let message = status["findings"][0]["message"].as_str().unwrap();
    assert!(message.starts_with("[limits] connections is 1048576, and an RLIMIT_NOFILE of "), "{message}");
}

#[test]
fn all_is_well() {
    let backend = Backend::start();
    // As many as any machine has descriptors for.
    let limits = "connections = 64\npipes = 8".to_owned();
    let daemon = Daemon::start(&Plan { limits, ..plan(&backend, L7) });
    let status = daemon.get("/v1/status");
    assert_eq!((&status["ok"], &status["findings"]), (&true.into(), &serde_json::json!([])));
    assert_eq!((&status["mode"], &status["policies"]), (&"none".into(), &1.into()));
}

#[test]
fn totals_equal_the_client_s_own() {
    let backend = Backend::start();
    let daemon = Daemon::start(&plan(&backend, OK));
    let records = daemon.follow("kind=http-request");
    let clients: Vec<_> = (0..4).map(|_| daemon.connect(Daemon::TIEFIGHTER)).collect();
    let answered = std::thread::scope(|scope| {
        let ask = |mut client: crate::common::Client| {
            let paths = (0..500).map(|n| if n % 3 == 0 { "/no" } else { "/ok" });
            let statuses: Vec<u16> = paths.map(|path| client.ask("GET", path).status).collect();
            let of = |status: u16| statuses.iter().filter(|is| **is == status).count();
            (of(200), of(403))
        };
        let threads: Vec<_> = clients.into_iter().map(|client| scope.spawn(move || ask(client))).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .fold((0, 0), |sum, n| (sum.0 + n.0, sum.1 + n.1))
    });
    assert_eq!(answered, (4 * 333, 4 * 167));
    assert_eq!(backend.requests().len(), answered.0);
    let recorded: Vec<_> = records.take(answered.0 + answered.1).collect();
    let denied = recorded.iter().filter(|record| record["verdict"] == "denied");
    assert!(denied.clone().all(|record| record["reason"] == "no_http_rule" && record["status"] == 403));
    assert_eq!(denied.count(), answered.1);
    let metric = |verdict| daemon.metric("sluice_requests_total", &format!("verdict=\"{verdict}\""));
    assert_eq!((metric("forwarded"), metric("denied")), answered);
    assert_eq!(daemon.metric("sluice_records_lost_total", ""), 0);
}
