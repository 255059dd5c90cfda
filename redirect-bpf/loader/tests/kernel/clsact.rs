//! Where the kernel has no TCX: the same programs as filters of clsact enforce, are handed on, and are removed.

use crate::fixture::{Node, PORT, addresses, plan};
use crate::lifecycle::apply;
use crate::peers::{Server, assert_dropped, assert_lands, connect, talk};
use redirect::{Hook, Redirector, uninstall};
use redirect_abi::verdict::{ALLOW, REDIRECT};

const HTTP: Option<(u8, u16)> = Some((6, PORT));

fn start(node: &Node) -> Redirector {
    node.run(|| Redirector::start_with(node.settings(), Hook::Clsact)).unwrap()
}

#[test]
#[ignore = "needs root"]
fn filters_enforce_with_and_without_a_process() {
    let node = Node::with_pods(3);
    let server = Server::echo(&node, 0, PORT);
    let mut first = start(&node);
    apply(&node, &mut first, plan(3, &[(0, &[(1, HTTP, ALLOW)])]));
    let lasting = connect(&node, 1, addresses(0, PORT)[0]).unwrap();
    let only_the_first_lands = || {
        for to in addresses(0, PORT) {
            assert_lands(&node, 1, to);
            assert_dropped(&node, 2, to);
        }
        talk(&lasting).unwrap();
    };
    only_the_first_lands();
    drop(first);
    only_the_first_lands();
    let mut second = start(&node);
    only_the_first_lands();
    apply(&node, &mut second, plan(3, &[(0, &[(1, HTTP, ALLOW)])]));
    only_the_first_lands();
    let stranger = addresses(2, 0).map(|address| address.ip());
    assert!(server.clients.lock().unwrap().iter().all(|client| !stranger.contains(&client.ip())));
}

#[test]
#[ignore = "needs root"]
fn filters_redirect() {
    let node = Node::with_pods(2);
    let server = Server::echo(&node, 0, PORT);
    let proxy = Server::proxy(&node, 1);
    let mut redirector = start(&node);
    let (v4_listener, v6_listener) = proxy.listeners();
    redirector.set_listeners(v4_listener, v6_listener).unwrap();
    apply(&node, &mut redirector, plan(2, &[(0, &[(1, HTTP, REDIRECT)])]));
    for (to, client) in addresses(0, PORT).into_iter().zip(addresses(1, 0)) {
        assert_lands(&node, 1, to);
        assert_eq!(proxy.clients.lock().unwrap().pop().unwrap().ip(), client.ip());
        assert_eq!(server.clients.lock().unwrap().pop().unwrap().ip(), client.ip());
    }
}

#[test]
#[ignore = "needs root"]
fn filters_of_clsact_are_replaced_and_removed() {
    let node = Node::with_pods(1);
    let mut first = start(&node);
    apply(&node, &mut first, plan(1, &[]));
    drop(first);
    let mut second = start(&node);
    apply(&node, &mut second, plan(1, &[]));
    for (direction, program) in [("ingress", "from_endpoint"), ("egress", "to_endpoint")] {
        let filters = tc(&node, direction);
        assert_eq!(filters.matches(&format!(" name {program} ")).count(), 1, "{filters}");
    }
    drop(second);
    let undone = node.run(|| uninstall(&node.settings())).unwrap();
    assert!(undone.iter().any(|line| line == "removed the filter from_endpoint from lxc0"), "{undone:#?}");
    assert_eq!(tc(&node, "ingress"), "");
}

#[test]
#[ignore = "needs root"]
fn filters_of_endpoints_that_are_gone_are_removed() {
    let node = Node::with_pods(2);
    let _server = Server::echo(&node, 0, PORT);
    let mut redirector = start(&node);
    apply(&node, &mut redirector, plan(2, &[(0, &[])]));
    addresses(0, PORT).iter().for_each(|to| assert_dropped(&node, 1, *to));
    apply(&node, &mut redirector, plan(0, &[]));
    for direction in ["ingress", "egress"] {
        assert_eq!(tc(&node, direction), "");
    }
    addresses(0, PORT).iter().for_each(|to| assert_lands(&node, 1, *to));
}

#[test]
#[ignore = "needs root"]
fn an_interface_that_is_made_again_gets_filters_again() {
    let node = Node::with_pods(2);
    let mut redirector = start(&node);
    apply(&node, &mut redirector, plan(2, &[(0, &[])]));
    node.unplug(0);
    node.plug_in(0);
    assert_eq!(tc(&node, "ingress"), "");
    node.run(|| redirector.see_to_interfaces()).unwrap();
    assert!(tc(&node, "ingress").contains(" name from_endpoint "));
    assert!(tc(&node, "egress").contains(" name to_endpoint "));
}

fn tc(node: &Node, direction: &str) -> String {
    let arguments = ["-n", &node.netns(), "filter", "show", "dev", "lxc0", direction].map(str::to_owned);
    let output = std::process::Command::new("tc").args(arguments).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}
