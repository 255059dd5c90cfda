//! Start, adoption by the next process, interfaces that come and go, and uninstall.

use crate::fixture::{Node, interface, ip_says, plan};
use aya::programs::{SchedClassifier, TcAttachType};
use redirect::plan::Plan;
use redirect::{BPFFS_DEFAULT, Error, Redirector, Settings, uninstall};
use rustix::mount::{MountPropagationFlags, UnmountFlags, mount_change, unmount};
use rustix::thread::{UnshareFlags, unshare_unsafe};
use std::fs;
use std::path::Path;

pub(crate) fn start(node: &Node) -> Redirector {
    node.run(|| Redirector::start(node.settings())).unwrap()
}

/// A whole change.
pub(crate) fn apply(node: &Node, redirector: &mut Redirector, plan: Plan) {
    node.run(|| {
        let pending = redirector.apply_before(plan).unwrap();
        redirector.apply_after(pending).unwrap();
    });
}

pub(crate) fn links(node: &Node) -> Vec<String> {
    let entries = fs::read_dir(node.pins().join(redirect_abi::SCHEMA).join("links")).unwrap();
    let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

pub(crate) fn links_of(pods: &[usize]) -> Vec<String> {
    let of_pod = |pod: &usize| ["from", "to"].map(|side| format!("{}:{side}_endpoint", interface(*pod)));
    pods.iter().flat_map(of_pod).chain(["pick_listener".into()]).collect()
}

pub(crate) const BOTH: [&str; 2] = ["from_endpoint", "to_endpoint"];

/// Names of the programs that run on the interface of a pod.
pub(crate) fn running(node: &Node, pod: usize) -> Vec<String> {
    running_on(node, &interface(pod))
}

pub(crate) fn running_on(node: &Node, interface: &str) -> Vec<String> {
    let on = |attach_type| {
        let (_, programs) = SchedClassifier::query_tcx(interface, attach_type).unwrap();
        programs.iter().map(|program| program.name_as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    node.run(|| [TcAttachType::Ingress, TcAttachType::Egress].map(on).concat())
}

#[test]
#[ignore = "needs root"]
fn start_sets_everything_up_and_uninstall_undoes_it() {
    let node = Node::with_pods(1);
    let before = (ip_rules(&node), early_demux(&node));
    let mut redirector = start(&node);
    apply(&node, &mut redirector, plan(1, &[]));
    assert_eq!(links(&node), links_of(&[0]));
    for rules in ip_rules(&node) {
        assert!(rules.contains("9:\tfrom all fwmark 0x200/0xf00 lookup 2004"), "{rules}");
    }
    for family in ["-4", "-6"] {
        let routes = ip_says(&format!("-n {} {family} route show table 2004", node.netns()));
        assert!(routes.starts_with("local default dev lo"), "{routes}");
    }
    assert_eq!(early_demux(&node), "0");
    drop(redirector);

    let undone = node.run(|| uninstall(&node.settings())).unwrap();
    for what in
        ["link lxc0:from_endpoint", "map POLICIES", "IPv4 rule", "IPv6 route", "tcp_early_demux back to 1"]
    {
        assert!(undone.iter().any(|line| line.contains(what)), "{what}: {undone:#?}");
    }
    assert!(!node.pins().exists());
    assert_eq!((ip_rules(&node), early_demux(&node)), before);
    assert_eq!(node.run(|| uninstall(&node.settings())).unwrap(), Vec::<String>::new());
}

#[test]
#[ignore = "needs root"]
fn start_can_be_repeated() {
    let node = Node::with_pods(1);
    let mut first = start(&node);
    apply(&node, &mut first, plan(1, &[]));
    let rules = ip_rules(&node);
    drop(first);
    let second = start(&node);
    assert_eq!(links(&node), links_of(&[0]));
    assert_eq!(ip_rules(&node), rules);
    drop(second);
    let undone = node.run(|| uninstall(&node.settings())).unwrap();
    // The value from before the first start, not what the second found.
    assert!(undone.iter().any(|line| line == "set net.ipv4.tcp_early_demux back to 1"), "{undone:#?}");
}

#[test]
#[ignore = "needs root"]
fn endpoints_that_are_gone_leave_no_pins() {
    let node = Node::with_pods(2);
    let mut redirector = start(&node);
    apply(&node, &mut redirector, plan(2, &[]));
    assert_eq!(links(&node), links_of(&[0, 1]));
    apply(&node, &mut redirector, plan(1, &[]));
    assert_eq!(links(&node), links_of(&[0]));
}

#[test]
#[ignore = "needs root"]
fn the_next_process_clears_what_it_did_not_plan() {
    let node = Node::with_pods(2);
    let mut first = start(&node);
    apply(&node, &mut first, plan(2, &[]));
    drop(first);
    let mut second = start(&node);
    assert_eq!(links(&node), links_of(&[0, 1]), "adopted");
    apply(&node, &mut second, plan(1, &[]));
    assert_eq!(links(&node), links_of(&[0]));
}

#[test]
#[ignore = "needs root"]
fn what_another_version_left_runs_until_the_first_change() {
    let node = Node::with_pods(1);
    let mut old = start(&node);
    apply(&node, &mut old, plan(1, &[]));
    drop(old);
    let (old_pins, pins) = (node.pins().join("v0"), node.pins().join(redirect_abi::SCHEMA));
    fs::rename(&pins, &old_pins).unwrap();
    let mut new = start(&node);
    assert!(old_pins.join("links/lxc0:from_endpoint").exists());
    apply(&node, &mut new, plan(1, &[]));
    assert!(!old_pins.exists());
    assert_eq!(links(&node), links_of(&[0]));
}

#[test]
#[ignore = "needs root"]
fn an_interface_that_is_deleted_and_made_again_gets_programs_again() {
    let node = Node::with_pods(2);
    let mut redirector = start(&node);
    apply(&node, &mut redirector, plan(2, &[]));
    node.unplug(1);
    node.run(|| redirector.see_to_interfaces()).unwrap();
    assert_eq!(links(&node), links_of(&[0]));
    assert_eq!(redirector.missing_interfaces().collect::<Vec<_>>(), ["lxc1"]);
    node.plug_in(1);
    node.run(|| redirector.see_to_interfaces()).unwrap();
    assert_eq!(links(&node), links_of(&[0, 1]));
    // Both within one sweep: the name is there, the number is another.
    node.unplug(1);
    node.plug_in(1);
    node.run(|| redirector.see_to_interfaces()).unwrap();
    assert_eq!(links(&node), links_of(&[0, 1]));
    assert_eq!(redirector.missing_interfaces().count(), 0);
}

/// Connections are adopted more easily in the first seconds of an interface, and never again: not after a restart either.
#[test]
#[ignore = "needs root"]
fn the_first_time_that_an_interface_had_programs_is_kept() {
    let node = Node::with_pods(2);
    let times = |node: &Node| -> std::collections::BTreeMap<u32, u64> {
        let pin = node.pins().join(redirect_abi::SCHEMA).join("maps/ATTACHED");
        let map = aya::maps::Map::from_map_data(aya::maps::MapData::from_pin(pin).unwrap()).unwrap();
        let map: aya::maps::HashMap<_, u32, u64> = map.try_into().unwrap();
        map.iter().map(Result::unwrap).collect()
    };
    let mut redirector = start(&node);
    apply(&node, &mut redirector, plan(2, &[]));
    let first = times(&node);
    assert_eq!(first.len(), 2);
    assert!(first.values().all(|time| *time > 0));
    apply(&node, &mut redirector, plan(1, &[]));
    apply(&node, &mut redirector, plan(2, &[]));
    assert_eq!(times(&node), first, "attached again");
    drop(redirector);
    let mut redirector = start(&node);
    apply(&node, &mut redirector, plan(2, &[]));
    assert_eq!(times(&node), first, "another process");
    node.unplug(1);
    node.plug_in(1);
    node.run(|| redirector.see_to_interfaces()).unwrap();
    let again = times(&node);
    assert_eq!(again.len(), 2);
    assert_eq!(
        again.iter().filter(|entry| first.get(entry.0) == Some(entry.1)).count(),
        1,
        "one was made again"
    );
    drop(redirector);
    // Pins of another version: its programs have seen what is there.
    let (old_pins, pins) = (node.pins().join("v0"), node.pins().join(redirect_abi::SCHEMA));
    fs::rename(&pins, &old_pins).unwrap();
    let mut redirector = start(&node);
    apply(&node, &mut redirector, plan(2, &[]));
    assert_eq!(times(&node).into_values().collect::<Vec<_>>(), [0, 0]);
}

#[test]
#[ignore = "needs root"]
fn an_interface_that_was_deleted_while_nobody_ran_is_cleaned_up() {
    let node = Node::with_pods(2);
    let mut first = start(&node);
    apply(&node, &mut first, plan(2, &[]));
    drop(first);
    node.unplug(0);
    node.unplug(1);
    node.plug_in(1);
    let mut second = start(&node);
    assert_eq!(links(&node), ["pick_listener"]);
    apply(&node, &mut second, plan(2, &[]));
    assert_eq!(links(&node), links_of(&[1]));
}

/// A look before the first change must not take what it does not know for what is not wanted.
#[test]
#[ignore = "needs root"]
fn before_the_first_change_what_was_adopted_stays() {
    let node = Node::with_pods(2);
    let mut first = start(&node);
    apply(&node, &mut first, plan(2, &[]));
    drop(first);
    let mut second = start(&node);
    node.unplug(1);
    node.run(|| second.see_to_interfaces()).unwrap();
    assert_eq!(links(&node), links_of(&[0, 1]));
    node.plug_in(1);
    apply(&node, &mut second, plan(2, &[]));
    assert_eq!(running(&node, 0), BOTH);
    assert_eq!(running(&node, 1), BOTH);
}

/// Nobody else hears of it: it comes between the first half of a change, which knows of no interface, and the second.
#[test]
#[ignore = "needs root"]
fn an_interface_that_appears_during_a_change_gets_programs_with_it() {
    let node = Node::with_pods(1);
    node.unplug(0);
    let mut redirector = start(&node);
    let pending = node.run(|| redirector.apply_before(plan(1, &[]))).unwrap();
    assert_eq!(redirector.missing_interfaces().collect::<Vec<_>>(), ["lxc0"]);
    node.plug_in(0);
    node.run(|| redirector.apply_after(pending)).unwrap();
    assert_eq!(running(&node, 0), BOTH);
    assert_eq!(redirector.missing_interfaces().count(), 0);
}

/// Between the halves of a change interfaces of both plans are seen to.
#[test]
#[ignore = "needs root"]
fn a_look_during_a_change_serves_what_is_and_what_comes() {
    let node = Node::with_pods(3);
    let mut redirector = start(&node);
    apply(&node, &mut redirector, plan(2, &[]));
    node.unplug(2);
    let mut next = plan(3, &[]);
    let _leaves = next.endpoints.remove("lxc0").unwrap();
    let pending = node.run(|| redirector.apply_before(next)).unwrap();
    node.unplug(1);
    for pod in [1, 2] {
        node.plug_in(pod);
        node.run(|| redirector.see_to_interfaces()).unwrap();
        assert_eq!(running(&node, pod), BOTH);
    }
    assert_eq!(links(&node), links_of(&[0, 1, 2]));
    node.run(|| redirector.apply_after(pending)).unwrap();
    assert_eq!(links(&node), links_of(&[1, 2]));
}

#[test]
#[ignore = "needs root"]
fn pins_of_another_node_are_left_alone() {
    let (node, other) = (Node::with_pods(0), Node::with_pods(0));
    let _redirector = start(&node);
    let stolen = Settings { bpffs: node.settings().bpffs, ..other.settings() };
    let error = other.run(|| Redirector::start(stolen)).unwrap_err();
    assert!(matches!(error, Error::OtherNamespace(_)), "{error}");
}

#[test]
#[ignore = "needs root"]
fn pins_that_a_process_uses_are_left_to_it() {
    let node = Node::with_pods(0);
    let first = start(&node);
    let error = node.run(|| Redirector::start(node.settings())).unwrap_err();
    assert!(matches!(error, Error::InUse(_)), "{error}");
    drop(first);
    let _second = start(&node);
}

#[test]
#[ignore = "needs root"]
fn pins_of_another_version_that_stay_stop_nothing() {
    let node = Node::with_pods(1);
    fs::create_dir_all(node.pins().join("v0/stray")).unwrap();
    let mut redirector = start(&node);
    apply(&node, &mut redirector, plan(1, &[]));
    assert_eq!(links(&node), links_of(&[0]));
    fs::remove_dir_all(node.pins().join("v0")).unwrap();
}

#[test]
#[ignore = "needs root"]
fn a_directory_that_is_no_bpffs_is_refused() {
    let node = Node::with_pods(0);
    let settings = Settings { bpffs: node.settings().state_directory, ..node.settings() };
    let error = node.run(|| Redirector::start(settings)).unwrap_err();
    assert!(matches!(error, Error::NotBpffs(_)), "{error}");
}

#[test]
#[ignore = "needs root"]
fn bpffs_is_mounted_where_it_is_missing_and_unmounted_by_uninstall() {
    let node = Node::with_pods(0);
    let settings = Settings { bpffs: BPFFS_DEFAULT.into(), ..node.settings() };
    let undone = node.run(|| {
        leave_mounts();
        while unmount(BPFFS_DEFAULT, UnmountFlags::DETACH).is_ok() {}
        assert!(fs::create_dir(Path::new(BPFFS_DEFAULT).join("sluice")).is_err(), "no BPF file system");
        drop(Redirector::start(settings.clone()).unwrap());
        assert!(Path::new(BPFFS_DEFAULT).join("sluice/v3/maps/POLICIES").exists());
        uninstall(&settings).unwrap()
    });
    assert_eq!(undone.last().map(String::as_str), Some("unmounted /sys/fs/bpf"), "{undone:#?}");
}

/// What this thread mounts from now on, nobody else sees.
fn leave_mounts() {
    // SAFETY: descriptors stay shared, which is what the function warns of.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS) }.unwrap();
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).unwrap();
}

#[test]
#[ignore = "needs root"]
fn a_file_that_is_no_object_is_refused() {
    let node = Node::with_pods(0);
    let settings = Settings { object: Path::new("/etc/passwd").into(), ..node.settings() };
    let error = node.run(|| Redirector::start(settings)).unwrap_err();
    assert!(matches!(error, Error::Load { .. }), "{error}");
}

fn ip_rules(node: &Node) -> [String; 2] {
    ["-4", "-6"].map(|family| ip_says(&format!("-n {} {family} rule show", node.netns())))
}

fn early_demux(node: &Node) -> String {
    node.run(|| fs::read_to_string("/proc/sys/net/ipv4/tcp_early_demux").unwrap().trim().to_owned())
}
