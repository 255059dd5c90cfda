//! What another program removes of ours is put back, and said once.

use crate::fixture::{Node, ip, ip_says, plan};
use crate::lifecycle::{BOTH, apply, links, links_of, running, start};
use aya::maps::MapData;
use redirect::{Fault, Heard, Hook, Links, Look, REPAIRS, Redirector, Settings, Severity};
use redirect_abi::SCHEMA;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::ffi::CString;
use std::fs;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Command;

const EARLY_DEMUX: &str = "/proc/sys/net/ipv4/tcp_early_demux";

fn look(node: &Node, redirector: &mut Redirector) -> Look {
    node.run(|| redirector.look())
}

/// What a look puts back, once.
#[track_caller]
fn check(node: &Node, redirector: &mut Redirector, expect: &[&str]) {
    let first = look(node, redirector);
    assert_eq!(
        (first.put_back.iter().map(String::as_str).collect::<Vec<_>>(), first.faults),
        (expect.to_vec(), vec![])
    );
    assert_eq!(look(node, redirector), Look::default());
}

fn started(pods: usize) -> (Node, Redirector) {
    let node = Node::with_pods(pods);
    let mut redirector = start(&node);
    apply(&node, &mut redirector, plan(pods, &[]));
    assert_eq!(look(&node, &mut redirector), Look::default());
    (node, redirector)
}

fn routing(node: &Node) -> [String; 4] {
    ["-4 rule show", "-6 rule show", "-4 route show table 2004", "-6 route show table 2004"]
        .map(|words| ip_says(&format!("-n {} {words}", node.netns())))
}

#[test]
#[ignore = "needs root"]
fn rules_and_routes_are_put_back() {
    let (node, mut redirector) = started(0);
    let before = routing(&node);
    for (words, name) in [
        ("-4 rule del pref 9", "the IPv4 rule for marked packets"),
        ("-6 rule del pref 9", "the IPv6 rule for marked packets"),
        ("-4 route flush table 2004", "the IPv4 route of table 2004"),
        ("-6 route flush table 2004", "the IPv6 route of table 2004"),
    ] {
        ip(&format!("-n {} {words}", node.netns()));
        assert_ne!(routing(&node), before);
        check(&node, &mut redirector, &[name]);
        assert_eq!(routing(&node), before);
    }
    let counters = redirector.counters().unwrap();
    assert!(counters.contains(&(REPAIRS, 4)), "{counters:?}");
}

/// The route is there under the same prefix, and is another one.
#[test]
#[ignore = "needs root"]
fn a_route_that_was_replaced_is_ours_again() {
    let (node, mut redirector) = started(0);
    let before = routing(&node);
    for (family, name) in [("-4", "the IPv4 route of table 2004"), ("-6", "the IPv6 route of table 2004")] {
        ip(&format!("-n {} {family} route replace unreachable default table 2004", node.netns()));
        check(&node, &mut redirector, &[name]);
        assert_eq!(routing(&node), before);
    }
}

/// No replacing helps: it is ours, and comes second.
#[test]
#[ignore = "needs root"]
fn a_route_that_comes_before_ours_is_a_fault_while_it_is_there() {
    let (node, mut redirector) = started(0);
    let route = "unreachable default table 2004 metric 1";
    ip(&format!("-n {} -6 route add {route}", node.netns()));
    let faults = look(&node, &mut redirector).faults;
    assert!(faults.len() == 1 && faults[0].message.contains("IPv6"), "{faults:?}");
    ip(&format!("-n {} -6 route del {route}", node.netns()));
    assert_eq!(look(&node, &mut redirector), Look::default());
}

#[test]
#[ignore = "needs root"]
fn what_comes_before_the_rule_is_a_fault_while_it_is_there() {
    let (node, mut redirector) = started(0);
    for (family, name) in [("-4", "IPv4"), ("-6", "IPv6")] {
        ip(&format!("-n {} {family} rule add pref 5 prohibit", node.netns()));
        let faults = look(&node, &mut redirector).faults;
        assert!(faults.iter().all(|fault| fault.severity == Severity::Error), "{faults:?}");
        assert!(faults.len() == 1 && faults[0].message.contains(name), "{faults:?}");
        ip(&format!("-n {} {family} rule del pref 5", node.netns()));
        assert_eq!(look(&node, &mut redirector), Look::default());
    }
}

#[test]
#[ignore = "needs root"]
fn a_loopback_that_went_down_and_up_has_its_routes_again() {
    let (node, mut redirector) = started(0);
    let before = routing(&node);
    ip(&format!("-n {} link set lo down", node.netns()));
    assert!(!look(&node, &mut redirector).faults.is_empty());
    ip(&format!("-n {} link set lo up", node.netns()));
    assert_eq!(look(&node, &mut redirector).faults, []);
    assert_eq!(routing(&node), before);
}

#[test]
#[ignore = "needs root"]
fn a_setting_is_put_back_or_reported() {
    let (node, mut redirector) = started(0);
    let meddle = || node.run(|| fs::write(EARLY_DEMUX, "1").unwrap());
    let value = || node.run(|| fs::read_to_string(EARLY_DEMUX).unwrap());
    meddle();
    check(&node, &mut redirector, &["the setting net.ipv4.tcp_early_demux"]);
    assert_eq!(value().trim(), "0");
    drop(redirector);

    let settings = Settings { keep_sysctls: false, ..node.settings() };
    let mut redirector = node.run(|| Redirector::start(settings)).unwrap();
    meddle();
    for _look in 0..2 {
        let Look { put_back, faults } = look(&node, &mut redirector);
        assert_eq!(put_back, [""; 0]);
        let [Fault { severity: Severity::Warning, message, fix }] = &faults[..] else { panic!("{faults:?}") };
        assert!(
            message.starts_with("net.ipv4.tcp_early_demux is 1") && fix.contains("keep_sysctls"),
            "{message} {fix}"
        );
        assert_eq!(value().trim(), "1");
    }
    node.run(|| fs::write(EARLY_DEMUX, "0").unwrap());
    assert_eq!(look(&node, &mut redirector), Look::default());
}

#[test]
#[ignore = "needs root"]
fn programs_whose_pins_are_removed_run_again() {
    let (node, mut redirector) = started(2);
    for program in BOTH {
        fs::remove_file(node.pins().join(SCHEMA).join(format!("links/lxc1:{program}"))).unwrap();
        // The kernel detaches in its own time.
        while running(&node, 1).len() != 1 {
            std::thread::yield_now();
        }
        check(&node, &mut redirector, &["the programs on `lxc1`"]);
        assert_eq!(running(&node, 1), BOTH);
    }
    assert_eq!(links(&node), links_of(&[0, 1]));
}

#[test]
#[ignore = "needs root"]
fn the_picker_of_listeners_runs_again() {
    let (node, mut redirector) = started(0);
    fs::remove_file(node.pins().join(SCHEMA).join("links/pick_listener")).unwrap();
    check(&node, &mut redirector, &["the program `pick_listener` of this network namespace"]);
    assert_eq!(links(&node), links_of(&[]));
}

/// The pins stay, and hold links that are attached to nothing.
#[test]
#[ignore = "needs root"]
fn links_that_are_detached_are_attached_again() {
    let (node, mut redirector) = started(1);
    for (pin, name) in [
        ("lxc0:from_endpoint", "the programs on `lxc0`"),
        ("lxc0:to_endpoint", "the programs on `lxc0`"),
        ("pick_listener", "the program `pick_listener` of this network namespace"),
    ] {
        detach(&node.pins().join(SCHEMA).join("links").join(pin));
        check(&node, &mut redirector, &[name]);
    }
    assert_eq!(running(&node, 0), BOTH);
}

/// The next process finds what this one goes on with: the same maps, and its own lock.
#[test]
#[ignore = "needs root"]
fn pins_that_are_removed_altogether_are_there_again() {
    let (node, mut redirector) = started(1);
    let policies = node.pins().join(SCHEMA).join("maps/POLICIES");
    let number = || MapData::from_pin(&policies).unwrap().info().unwrap().id();
    let before = number();
    fs::remove_dir_all(node.pins()).unwrap();
    while !running(&node, 0).is_empty() {
        std::thread::yield_now();
    }
    let put_back = look(&node, &mut redirector).put_back;
    for name in ["the pin of the map POLICIES", "the programs on `lxc0`", "the program `pick_listener`"] {
        assert!(put_back.iter().any(|part| part.starts_with(name)), "{name}: {put_back:?}");
    }
    assert_eq!(look(&node, &mut redirector), Look::default());
    assert_eq!(
        (running(&node, 0), links(&node), number()),
        (BOTH.map(str::to_owned).to_vec(), links_of(&[0]), before)
    );
    let second = node.run(|| Redirector::start(node.settings()));
    assert!(matches!(second, Err(redirect::Error::InUse(_))), "{second:?}");
    apply(&node, &mut redirector, plan(1, &[(0, &[])]));
    drop(redirector);
    let mut next = start(&node);
    assert_eq!(number(), before);
    apply(&node, &mut next, plan(1, &[]));
}

#[test]
#[ignore = "needs root"]
fn filters_of_clsact_are_put_back() {
    let node = Node::with_pods(1);
    let mut redirector = node.run(|| Redirector::start_with(node.settings(), Hook::Clsact)).unwrap();
    apply(&node, &mut redirector, plan(1, &[]));
    assert_eq!(look(&node, &mut redirector), Look::default());
    for meddling in ["qdisc del dev lxc0 clsact", "filter del dev lxc0 ingress", "filter del dev lxc0 egress"]
    {
        let words = format!("-n {} {meddling}", node.netns());
        assert!(Command::new("tc").args(words.split(' ')).status().unwrap().success());
        check(&node, &mut redirector, &["the programs on `lxc0`"]);
    }
}

/// Of everything that another program can remove, the subscription tells: nothing waits for the look of every second.
#[test]
#[ignore = "needs root"]
fn removals_are_heard_of_and_routes_of_others_are_not() {
    let (node, mut redirector) = started(0);
    let mut subscription = node.run(Links::open).unwrap();
    for words in
        ["-4 rule del pref 9", "-6 rule del pref 9", "-4 route flush table 2004", "-6 route flush table 2004"]
    {
        ip(&format!("-n {} {words}", node.netns()));
        let never = Timespec { tv_sec: 60, tv_nsec: 0 };
        assert_eq!(
            poll(&mut [PollFd::new(&subscription, PollFlags::IN)], Some(&never)).unwrap(),
            1,
            "{words}"
        );
        assert_eq!(subscription.hear().unwrap(), Heard::Changes, "{words}");
        assert_eq!(look(&node, &mut redirector).put_back.len(), 1);
        // What putting it back has told.
        let _own_changes = subscription.hear().unwrap();
    }
    for words in ["-4 route add 198.51.100.0/24 dev lo", "-6 route add 2001:db8:1::/64 dev lo table 7"] {
        ip(&format!("-n {} {words}", node.netns()));
    }
    assert_eq!(subscription.hear().unwrap(), Heard::Nothing);
}

/// As `bpftool link detach pinned` does it.
pub(crate) fn detach(pin: &Path) {
    const BPF_OBJ_GET: libc::c_int = 7;
    const BPF_LINK_DETACH: libc::c_int = 34;
    let path = CString::new(pin.as_os_str().as_bytes()).unwrap();
    let mut opening = [0_u64; 2];
    opening[0] = u64::try_from(path.as_ptr().expose_provenance()).unwrap();
    // SAFETY: the command reads the address of a C string, which outlives the call, and fields that are zero.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, BPF_OBJ_GET, &raw mut opening, size_of_val(&opening)) };
    let number = u32::try_from(fd).unwrap();
    // SAFETY: the call gave us this descriptor, and nobody else has it.
    let _closed = unsafe { OwnedFd::from_raw_fd(RawFd::try_from(fd).unwrap()) };
    // SAFETY: the command reads the number of a descriptor, and the pointer is to one.
    let answer =
        unsafe { libc::syscall(libc::SYS_bpf, BPF_LINK_DETACH, &raw const number, size_of_val(&number)) };
    assert_eq!(answer, 0, "{}: {}", pin.display(), std::io::Error::last_os_error());
}
