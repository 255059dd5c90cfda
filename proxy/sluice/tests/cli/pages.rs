//! Help, completions and man pages.

use crate::run::{Place, sluice};

#[track_caller]
fn told(arguments: &[&str]) -> String {
    let output = sluice(arguments);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn completions() {
    for shell in ["bash", "fish", "zsh"] {
        let script = told(&["completions", shell]);
        assert!(script.contains("explain"), "{shell}");
    }
}

#[test]
fn man_pages() {
    assert!(told(&["man"]).contains("sluice \\- Asks sluiced"));
    let place = Place::new();
    assert_eq!(told(&["man", "--dir", &place.path("man1")]), "");
    for page in ["sluice.1", "sluice-endpoint-list.1", "sluice-policy-explain.1", "sluice-monitor.1"] {
        let text = std::fs::read_to_string(place.path(&format!("man1/{page}"))).unwrap();
        assert!(text.contains(".SH SYNOPSIS"), "{page}");
    }
}

#[test]
fn every_command_shows_how_it_is_used() {
    for command in [
        &["status"][..],
        &["monitor"],
        &["uninstall"],
        &["completions"],
        &["man"],
        &["config"],
        &["config", "check"],
        &["endpoint"],
        &["endpoint", "get"],
        &["endpoint", "list"],
        &["identity"],
        &["identity", "list"],
        &["policy"],
        &["policy", "check"],
        &["policy", "explain"],
        &["policy", "get"],
    ] {
        let help = told(&[command, &["--help"]].concat());
        assert!(help.contains("Example"), "{command:?}: {help}");
        assert!(help.contains(&format!("  sluice {}", command.join(" "))), "{command:?}: {help}");
    }
}
