//! Interfaces that come and go while a process runs. No interval is looked at here: programs are attached because changes were
//! heard, or not at all.

use crate::fixture::{Node, ip, ip_batch, ip_says, plan};
use crate::lifecycle::{BOTH, apply, links, links_of, running, running_on, start};
use redirect::{Heard, Links, Redirector};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Longer than a test takes: at its end nothing happens but a failure.
const NEVER: Timespec = Timespec { tv_sec: 60, tv_nsec: 0 };

fn listen(node: &Node) -> Links {
    node.run(Links::open).unwrap()
}

/// Waits until something is heard.
#[track_caller]
fn hear(ear: &mut Links) -> Heard {
    let ready = poll(&mut [PollFd::new(&*ear, PollFlags::IN)], Some(&NEVER)).unwrap();
    assert_eq!(ready, 1, "nothing was heard");
    ear.hear().unwrap()
}

/// Sees to interfaces whenever something is heard, until the interfaces of these pods, and no others, are linked.
#[track_caller]
fn follow_until(node: &Node, redirector: &mut Redirector, ear: &mut Links, pods: &[usize]) {
    while links(node) != links_of(pods) || !pods.iter().all(|pod| running(node, *pod) == BOTH) {
        let _changes_or_lost = hear(ear);
        node.run(|| redirector.see_to_interfaces()).unwrap();
    }
}

#[test]
#[ignore = "needs root"]
fn a_new_interface_is_heard_of_and_gets_programs() {
    let node = Node::with_pods(2);
    node.unplug(1);
    let mut redirector = start(&node);
    apply(&node, &mut redirector, plan(2, &[]));
    assert_eq!(redirector.missing_interfaces().collect::<Vec<_>>(), ["lxc1"]);
    let mut ear = listen(&node);
    node.plug_in(1);
    follow_until(&node, &mut redirector, &mut ear, &[0, 1]);
    assert_eq!(redirector.missing_interfaces().count(), 0);
}

#[test]
#[ignore = "needs root"]
fn a_deleted_interface_is_heard_of_and_loses_its_pins() {
    let node = Node::with_pods(2);
    let mut redirector = start(&node);
    apply(&node, &mut redirector, plan(2, &[]));
    let mut ear = listen(&node);
    node.unplug(0);
    follow_until(&node, &mut redirector, &mut ear, &[1]);
    node.plug_in(0);
    follow_until(&node, &mut redirector, &mut ear, &[0, 1]);
}

#[test]
#[ignore = "needs root"]
fn an_interface_that_is_made_again_at_once_gets_programs_again() {
    let node = Node::with_pods(1);
    let mut redirector = start(&node);
    apply(&node, &mut redirector, plan(1, &[]));
    let mut ear = listen(&node);
    node.unplug(0);
    node.plug_in(0);
    assert_eq!(running(&node, 0), [""; 0]);
    follow_until(&node, &mut redirector, &mut ear, &[0]);
}

/// As checkpoint and restore do: neither name nor number tell that it is another one.
#[test]
#[ignore = "needs root"]
fn an_interface_that_is_made_again_under_its_old_number_gets_programs_again() {
    let node = Node::with_pods(1);
    let mut redirector = start(&node);
    apply(&node, &mut redirector, plan(1, &[]));
    let mut ear = listen(&node);
    let shown = ip_says(&format!("-n {} -o link show lxc0", node.netns()));
    let number = shown.split(':').next().unwrap().trim();
    node.unplug(0);
    ip(&format!("-n {} link add lxc0 index {number} type veth peer name end", node.netns()));
    follow_until(&node, &mut redirector, &mut ear, &[0]);
}

/// Container runtimes make an interface under a passing name.
#[test]
#[ignore = "needs root"]
fn an_interface_that_is_given_the_name_gets_programs() {
    let node = Node::with_pods(1);
    node.unplug(0);
    let mut redirector = start(&node);
    apply(&node, &mut redirector, plan(1, &[]));
    let mut ear = listen(&node);
    ip(&format!("-n {} link add passing type veth peer name end", node.netns()));
    ip(&format!("-n {} link set passing name lxc0", node.netns()));
    follow_until(&node, &mut redirector, &mut ear, &[0]);
}

/// Its pod is still behind it, and must not go unpoliced because the interface has another name.
#[test]
#[ignore = "needs root"]
fn an_interface_that_loses_the_name_keeps_its_programs_until_it_goes() {
    let node = Node::with_pods(1);
    let mut first = start(&node);
    apply(&node, &mut first, plan(1, &[]));
    let mut ear = listen(&node);
    ip(&format!("-n {} link set lxc0 name other", node.netns()));
    let _changes = hear(&mut ear);
    node.run(|| first.see_to_interfaces()).unwrap();
    assert_eq!(running_on(&node, "other"), BOTH);
    assert_eq!(first.missing_interfaces().collect::<Vec<_>>(), ["lxc0"]);
    drop(first);
    let mut second = start(&node);
    apply(&node, &mut second, plan(1, &[]));
    assert_eq!(running_on(&node, "other"), BOTH);
    ip(&format!("-n {} link set other name lxc0", node.netns()));
    node.run(|| second.see_to_interfaces()).unwrap();
    assert_eq!(running(&node, 0), BOTH);
    assert_eq!(second.missing_interfaces().count(), 0);
    ip(&format!("-n {} link set lxc0 name other", node.netns()));
    node.run(|| second.see_to_interfaces()).unwrap();
    ip(&format!("-n {} link del other", node.netns()));
    follow_until(&node, &mut second, &mut ear, &[]);
}

#[test]
#[ignore = "needs root"]
fn the_next_process_hears_too() {
    let node = Node::with_pods(1);
    let mut first = start(&node);
    apply(&node, &mut first, plan(1, &[]));
    drop(first);
    let mut second = start(&node);
    let mut ear = listen(&node);
    apply(&node, &mut second, plan(1, &[]));
    node.unplug(0);
    node.plug_in(0);
    follow_until(&node, &mut second, &mut ear, &[0]);
}

#[test]
#[ignore = "needs root"]
fn of_many_new_interfaces_those_of_the_plan_get_programs() {
    let node = Node::with_pods(3);
    node.unplug(0);
    node.unplug(2);
    let mut redirector = start(&node);
    apply(&node, &mut redirector, plan(3, &[]));
    let mut ear = listen(&node);
    let names = (0..200).map(|n| match n {
        50 => "lxc0".to_owned(),
        150 => "lxc2".to_owned(),
        n => format!("other{n}"),
    });
    let commands: Vec<String> =
        names.map(|name| format!("link add {name} type veth peer name end-{name}\n")).collect();
    ip_batch(&node.netns(), &commands.concat());
    follow_until(&node, &mut redirector, &mut ear, &[0, 1, 2]);
}

/// Nobody reads, and the socket holds a few hundred messages at most.
#[test]
#[ignore = "needs root"]
fn a_loss_is_told_and_what_was_lost_is_found() {
    let node = Node::with_pods(1);
    node.unplug(0);
    let mut redirector = start(&node);
    apply(&node, &mut redirector, plan(1, &[]));
    let mut ear = listen(&node);
    let flood: Vec<String> = (0..4_000).map(|n| format!("link set lo mtu {}\n", 2_000 + n)).collect();
    ip_batch(&node.netns(), &flood.concat());
    node.plug_in(0);
    assert_eq!(hear(&mut ear), Heard::Lost);
    node.run(|| redirector.see_to_interfaces()).unwrap();
    assert_eq!(running(&node, 0), BOTH);
    assert_eq!(ear.hear().unwrap(), Heard::Nothing);
    node.unplug(0);
    assert_eq!(hear(&mut ear), Heard::Changes);
}

#[test]
#[ignore = "needs root"]
fn interfaces_of_other_namespaces_are_not_heard() {
    let (node, other) = (Node::with_pods(0), Node::with_pods(0));
    let mut ear = listen(&node);
    ip(&format!("-n {} link add lxc0 type veth peer name end", other.netns()));
    assert_eq!(ear.hear().unwrap(), Heard::Nothing);
}
