//! The exit status of every command, whatever the answer looks like: 0 yes or ok, 1 no, 2 there is no answer.

use crate::asking::{DENIED, ENDPOINTS, FLOWS, IDENTITIES, POLICIES, STATUS};
use crate::fake::Fake;
use crate::offline::{L4, NODE, refused};
use crate::run::{Place, sluice};
use std::process::Output;

const FORMATS: [&str; 3] = ["json", "table", "yaml"];
const EXPLAIN: &str = "policy explain --from tiefighter --to deathstar-1 --port 80";

/// The words of a command, and the format.
fn arguments<'a>(command: &'a str, format: &'a str) -> Vec<&'a str> {
    command.split_whitespace().chain(["-o", format]).collect()
}

#[track_caller]
fn check(status: i32, command: &str, format: &str, output: &Output) {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(status), "{command} -o {format}: {out}{err}");
    // Where there is no answer there is a complaint, and nothing for a program to take for one.
    assert_eq!((status == 2, status == 2), (out.is_empty(), !err.is_empty()), "{command}: {out}{err}");
    // Records come one a line.
    let mut values =
        out.lines().filter(|_| command == "monitor").chain((command != "monitor").then_some(&*out));
    match format {
        "json" if status != 2 => {
            assert!(values.all(|value| serde_json::from_str::<serde_json::Value>(value).is_ok()), "{out}");
        }
        "yaml" if status != 2 && command != "monitor" => {
            drop(serde_saphyr::from_str::<serde_json::Value>(&out).expect(command));
        }
        _ => {}
    }
}

#[test]
fn of_what_the_daemon_answers() {
    let endpoint = ENDPOINTS.trim_start_matches("[\n").split_once(",\n{").unwrap().0;
    let (allowed, not_ok) = (DENIED.replace("false", "true"), STATUS.replace("true", "false"));
    let refused = |status: u16| (status, r#"{"error":"no"}"#);
    for (status, command, answer) in [
        (0, "endpoint get deathstar-1", (200, endpoint)),
        (0, "endpoint list", (200, ENDPOINTS)),
        (0, "identity list", (200, IDENTITIES)),
        (0, "monitor", (200, FLOWS)),
        (0, "policy get", (200, POLICIES)),
        (0, "status", (200, STATUS)),
        (0, EXPLAIN, (200, &allowed)),
        (1, "status", (200, &not_ok)),
        (1, EXPLAIN, (200, DENIED)),
        (2, "endpoint get deathstar-1", refused(404)),
        (2, "endpoint get deathstar-1", refused(409)),
        (2, "monitor", refused(503)),
        (2, EXPLAIN, refused(422)),
    ] {
        let fake = Fake::answering(answer.0, answer.1);
        for format in FORMATS {
            check(status, command, format, &fake.sluice(&arguments(command, format)));
        }
    }
}

#[test]
fn where_no_daemon_answers() {
    let place = Place::new();
    let nobody = place.path("s");
    for command in
        ["endpoint get x", "endpoint list", "identity list", "monitor", "policy get", "status", EXPLAIN]
    {
        for format in FORMATS {
            let arguments = [&["--socket", &nobody], &*arguments(command, format)].concat();
            check(2, command, format, &sluice(&arguments));
        }
    }
}

#[test]
fn of_commands_that_ask_nobody() {
    let place = Place::new();
    place.write("node.toml", NODE);
    place.write("bad.toml", "[nodes]\n");
    place.write("policies/good.yaml", L4);
    place.write("refused.yaml", &refused());
    let explain = "policy explain --config PLACE/node.toml --to deathstar-1 --port";
    for (status, command) in [
        (0, "config check PLACE/node.toml"),
        (1, "config check PLACE/bad.toml"),
        (2, "config check PLACE/missing.toml"),
        (0, "policy check PLACE/policies"),
        (1, "policy check PLACE/policies PLACE/refused.yaml"),
        (2, "policy check PLACE/policies PLACE/missing.yaml"),
        (0, &format!("{explain} 80 --from tiefighter")),
        (1, &format!("{explain} 80 --from xwing")),
        (2, &format!("{explain} 80 --from rebel-base")),
        (2, &format!("{explain} 80 --from xwing --protocol GRE")),
        (2, &format!("{explain} 80 --from xwing --policies PLACE/missing.yaml")),
        (2, "policy explain --config PLACE/bad.toml --from a --to b --port 80"),
        (2, "--config PLACE/bad.toml status"),
        (2, "man --dir /proc/nowhere"),
    ] {
        let command = command.replace("PLACE", &place.path(""));
        for format in FORMATS {
            check(status, &command, format, &sluice(&arguments(&command, format)));
        }
    }
}

#[test]
fn of_what_is_not_understood() {
    for command in [
        "polcy",
        "policy",
        "status extra",
        "status -o xml",
        "completions",
        "completions cmd",
        "config check",
        "endpoint get",
        "monitor --direction up",
        "monitor --follow=maybe",
        "monitor --last many",
        "monitor --type http",
        "monitor --verdict denied --verdict dropped",
        "monitor --verdict denied,allowed",
        "policy check",
        "policy explain --from a --to b",
        "policy explain --from a --to b --port 65536",
    ] {
        check(2, command, "as asked", &sluice(&command.split_whitespace().collect::<Vec<_>>()));
    }
}
