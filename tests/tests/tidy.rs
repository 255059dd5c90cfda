//! The architecture, as a test: arrows between crates, what pure crates never touch, sizes of files, opening words.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What each crate may depend on, of ours. Everything else is a broken arrow.
const ARROWS: &[(&str, &[&str])] = &[
    ("policy-model", &[]),
    ("parsers", &[]),
    ("redirect-abi", &[]),
    ("durable", &[]),
    ("redirect", &["durable", "policy-model", "redirect-abi"]),
    ("config-node", &[]),
    ("policy-watch", &["durable", "policy-model"]),
    ("proxy-core", &["parsers", "policy-model"]),
    (
        "sluiced",
        &["config-node", "durable", "parsers", "policy-model", "policy-watch", "proxy-core", "redirect"],
    ),
    ("sluice", &["config-node", "parsers", "policy-model", "proxy-core"]),
];

/// Crates without sockets, clocks, tasks and files.
const PURE: &[(&str, &str)] = &[
    ("policy-model", "policy-model"),
    ("parsers", "parsers"),
    ("redirect-abi", "redirect-bpf/abi"),
    ("config-node", "config/node"),
    ("proxy-core", "proxy/core"),
];

const NEVER_IN_PURE: &[&str] = &["aya", "hyper", "kube", "mio", "notify", "rustix", "socket2", "tokio"];
const NEVER_WRITTEN_IN_PURE: &[&str] =
    &["std::net", "std::time", "std::fs", "std::thread", "SystemTime", "Instant::now"];

/// A longer file is two ideas.
const LINES_MAX: usize = 600;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Names of all crates that `package` depends on, in its normal build.
fn closure(package: &str, depth: &str) -> BTreeSet<String> {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--offline", "--prefix", "none", "--edges", "normal", "--depth", depth, "-p", package])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().skip(1).filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

#[test]
fn arrows_point_down() {
    let ours: BTreeSet<&str> = ARROWS.iter().map(|(name, _)| *name).collect();
    for (package, allowed) in ARROWS {
        for dependency in closure(package, "1").iter().filter(|d| ours.contains(d.as_str())) {
            assert!(allowed.contains(&dependency.as_str()), "{package} must not depend on {dependency}");
        }
    }
}

#[test]
fn pure_crates_reach_no_shell() {
    for (package, _) in PURE {
        let reached = closure(package, "99");
        for banned in NEVER_IN_PURE {
            assert!(!reached.contains(*banned), "{package} must not reach {banned}");
        }
    }
    for banned in ["aya", "kube"] {
        assert!(!closure("sluice", "99").contains(banned), "the command line must not reach {banned}");
    }
}

#[test]
fn pure_crates_name_no_shell() {
    for (package, folder) in PURE {
        for (path, text) in sources(&root().join(folder).join("src")) {
            for banned in NEVER_WRITTEN_IN_PURE {
                assert!(!text.contains(banned), "{package}: {} names {banned}", path.display());
            }
        }
    }
}

#[test]
fn every_file_opens_with_what_it_is_and_stays_short() {
    let mut complaints = Vec::new();
    for (path, text) in sources(root()) {
        let lines = text.lines().count();
        if lines > LINES_MAX && !is_table(&path) {
            complaints.push(format!("{}: {lines} lines, at most {LINES_MAX}", path.display()));
        }
        if !text.starts_with("//!") && !text.starts_with("#![") {
            complaints.push(format!("{}: does not open with `//!`", path.display()));
        }
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn modules_import_from_modules_above_them() {
    let all = sources(root());
    let mut seen = 0;
    for (path, text) in all.iter().filter(|(path, _)| path.ends_with("src/lib.rs")) {
        let folder = path.parent().unwrap();
        let names: Vec<&str> = text.lines().filter_map(module).filter(|name| *name != "tests").collect();
        for (index, name) in names.iter().enumerate() {
            let own = [folder.join(format!("{name}.rs")), folder.join(name)];
            let files = all.iter().filter(|(file, _)| own.iter().any(|own| file.starts_with(own)));
            for (file, text) in files.filter(|(file, _)| !is_table(file)) {
                let below =
                    imports(text).find(|import| names.iter().skip(index + 1).any(|name| name == import));
                assert_eq!(below, None, "{} imports from below", file.display());
                seen += 1;
            }
        }
    }
    assert!(seen > 100, "only {seen} files were looked at");
}

/// The modules of its own crate that a text outside of its tests names.
fn imports(text: &str) -> impl Iterator<Item = &str> {
    let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
    let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
    lines.flat_map(|line| line.split("crate::").skip(1)).flat_map(first_names)
}

/// What `a::b` or `{a, b}` at the start of a text names first.
fn first_names(text: &str) -> Vec<&str> {
    let is_end = |c: char| !c.is_alphanumeric() && c != '_';
    match text.strip_prefix('{') {
        Some(group) => group.split('}').next().unwrap().split(is_end).collect(),
        None => text.split(is_end).take(1).collect(),
    }
}

/// The name of the module that a line of a `lib.rs` declares.
fn module(line: &str) -> Option<&str> {
    line.strip_prefix("pub ").unwrap_or(line).strip_prefix("mod ")?.strip_suffix(';')
}

/// What the architecture page calls by its path is there.
#[test]
fn the_architecture_names_what_exists() {
    let page = std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let paths: Vec<&str> = page.split('`').skip(1).step_by(2).filter(|word| is_path(word)).collect();
    assert!(paths.len() > 20, "{paths:?}");
    let missing: Vec<&&str> = paths.iter().filter(|path| !root().join(path).exists()).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

fn is_path(word: &str) -> bool {
    word.contains('/') && (word.ends_with('/') || word.ends_with(".rs")) && !word.contains(' ')
}

#[test]
fn unsafe_lives_in_the_redirect_crates_only() {
    for (path, text) in sources(root()) {
        let inside = path.starts_with(root().join("redirect-bpf"));
        let written =
            text.lines().any(|line| !line.trim_start().starts_with("//") && line.contains("unsafe {"));
        assert!(inside || !written || is_test(&path), "{} holds an unsafe block", path.display());
    }
}

/// Cases of three lines each may be as many as there are.
fn is_table(path: &Path) -> bool {
    path.ends_with("tests.rs") || is_test(path)
}

/// Counting allocators of tests can't do without.
fn is_test(path: &Path) -> bool {
    path.components().any(|c| ["tests", "benches"].contains(&c.as_os_str().to_str().unwrap_or_default()))
}

/// Every Rust file below `folder` that is ours, with its text.
fn sources(folder: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap().map(Result::unwrap) {
            let path = entry.path();
            let name = entry.file_name();
            if path.is_dir() && name != "target" && !name.to_string_lossy().starts_with('.') {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                found.push((path, text));
            }
        }
    }
    found.sort();
    found
}
