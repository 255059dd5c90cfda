//! The README's walk without root: exactly its lines, run by a user who is not root.

use e2e::{binaries, leftovers};
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

/// Debian's `nobody`.
const NOBODY: &str = "65534";

/// The lines between the README's markers.
fn readme_lines() -> String {
    let readme = std::fs::read_to_string(binaries::checkout().join("README.md")).unwrap();
    let (_, rest) = readme.split_once("<!-- laptop -->\n```sh\n").expect("the README marks the laptop walk");
    rest.split_once("```").expect("the block ends").0.to_owned()
}

#[test]
fn the_lines_of_the_readme_play_without_root() {
    let lines = readme_lines();
    assert_eq!(lines.lines().count(), 5 + 1, "the walk has five lines and the one that sets PATH:\n{lines}");
    let directory = leftovers::directory(&leftovers::fresh_name());
    copy_what_is_needed(&directory);
    let output = play(&directory, &lines);
    let told = String::from_utf8_lossy(&output.stdout);
    let complaints = String::from_utf8_lossy(&output.stderr);
    std::fs::remove_dir_all(&directory).unwrap();
    assert!(told.contains("Ship landed"), "{told}{complaints}");
    assert!(told.contains("Access denied"), "{told}{complaints}");
    // curl may see the reset while it still connects (7), or when it reads (56).
    let reset = ["curl: (7)", "curl: (56)"].iter().any(|error| complaints.contains(error));
    assert!(reset, "the xwing was not reset:\n{told}{complaints}");
}

/// A checkout that everybody may read: the examples and what `cargo build --release` leaves.
fn copy_what_is_needed(directory: &Path) {
    let release = directory.join("target/release");
    std::fs::create_dir_all(&release).unwrap();
    for name in ["sluiced", "sluice"] {
        let _bytes = std::fs::copy(binaries::program(name).unwrap(), release.join(name)).unwrap();
    }
    let _bytes = std::fs::copy(env!("CARGO_BIN_EXE_deathstar"), release.join("deathstar")).unwrap();
    copy_tree(&binaries::checkout().join("examples"), &directory.join("examples"));
    for place in [directory, &directory.join("examples/laptop")] {
        std::fs::set_permissions(place, Permissions::from_mode(0o777)).unwrap();
    }
}

fn copy_tree(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_tree(&entry.path(), &target);
        } else {
            let _bytes = std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Runs the lines in one shell, then ends what they left in the background.
fn play(directory: &Path, lines: &str) -> Output {
    let script = format!("trap 'kill $(jobs -p)' EXIT\n{lines}");
    let mut command = if is_root() {
        let mut command = Command::new("setpriv");
        let _: &mut Command =
            command.args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups", "bash", "-c", &script]);
        command
    } else {
        let mut command = Command::new("bash");
        let _: &mut Command = command.args(["-c", &script]);
        command
    };
    command.current_dir(directory).env("HOME", directory).output().unwrap()
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
