//! One node is one process's, whatever directories each is given; and what is taken down is all of that node's, and only that.

use crate::fixture::{Node, plan};
use crate::lifecycle::{apply, links, links_of, start};
use redirect::{Error, Redirector, Settings, uninstall};
use std::fs;

/// As of a node file that names other places.
fn elsewhere(node: &Node) -> Settings {
    let settings = node.settings();
    let bpffs = settings.bpffs.join("other");
    let _there = fs::create_dir(&bpffs);
    Settings { bpffs, state_directory: settings.state_directory.join("other"), ..settings }
}

#[track_caller]
fn check_names_us(error: &Error) {
    assert!(matches!(error, Error::NamespaceInUse(_)), "{error}");
    assert!(error.to_string().contains(&format!("the process {}", std::process::id())), "{error}");
}

#[test]
#[ignore = "needs root"]
fn a_node_has_one_process_whatever_its_directories_are() {
    let node = Node::with_pods(1);
    let mut first = start(&node);
    apply(&node, &mut first, plan(1, &[]));
    check_names_us(&node.run(|| Redirector::start(elsewhere(&node))).unwrap_err());
    check_names_us(&node.run(|| uninstall(&elsewhere(&node))).unwrap_err());
    check_names_us(&node.run(|| uninstall(&node.settings())).unwrap_err());
    assert_eq!(links(&node), links_of(&[0]));
    // Another node is not concerned.
    drop(start(&Node::with_pods(0)));
    drop(first);
    let left = node.run(|| Redirector::start(elsewhere(&node))).unwrap_err();
    assert!(matches!(&left, Error::OtherPins(root) if *root == node.pins()), "{left}");
    drop(start(&node));
}

#[test]
#[ignore = "needs root"]
fn uninstall_finds_what_is_pinned_elsewhere_and_spares_other_nodes() {
    let (node, other) = (Node::with_pods(1), Node::with_pods(1));
    for node in [&node, &other] {
        let mut redirector = start(node);
        apply(node, &mut redirector, plan(1, &[]));
    }
    let undone = node.run(|| uninstall(&elsewhere(&node))).unwrap();
    let line = format!("removed the link lxc0:from_endpoint, pinned in {}", node.pins().display());
    assert!(undone.contains(&line), "{undone:#?}");
    assert!(!node.pins().exists());
    assert_eq!(links(&other), links_of(&[0]));
    let refused = node.run(|| uninstall(&other.settings())).unwrap_err();
    assert!(matches!(refused, Error::OtherNamespace(_)), "{refused}");
    assert_eq!(links(&other), links_of(&[0]));
}
