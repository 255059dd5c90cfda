//! Programs that read the kernel's own packets: where it tells how, and where it does not.

use crate::fixture::{Node, PORT, addresses, plan};
use crate::lifecycle::{apply, start};
use crate::peers::{Server, assert_dropped, assert_lands};
use redirect::{Hook, Redirector};
use redirect_abi::verdict::ALLOW;
use std::fs;

const BLIND: &str = "this kernel does not let programs see a checksum that is left to the device";

#[test]
#[ignore = "needs root"]
fn on_this_kernel_programs_see_what_is_left_to_the_device() {
    let node = Node::with_pods(1);
    assert!(!is_blind(&start(&node)));
}

#[test]
#[ignore = "needs root"]
fn where_types_are_not_told_programs_enforce_without_that_check_and_say_so() {
    let node = Node::with_pods(3);
    let _server = Server::echo(&node, 0, PORT);
    let types = node.settings().state_directory.with_extension("btf");
    let of_this_kernel = fs::read(redirect::btf::KERNEL).unwrap();
    // No file; cut short; all there but the function; types that the verifier knows to be others.
    let renamed = |from: &[u8], to: &[u8]| {
        let mut bytes = of_this_kernel.clone();
        let place = bytes.windows(from.len()).position(|window| window == from).unwrap();
        bytes[place..place + to.len()].copy_from_slice(to);
        bytes
    };
    let half = of_this_kernel[..of_this_kernel.len() / 2].to_vec();
    let without_function = renamed(b"\0bpf_cast_to_kern_ctx\0", b"\0bpf_cast_to_kern_ctX");
    let without_member = renamed(b"\0csum_offset\0", b"\0csum_offseT");
    let another_function = renamed(b"\0bpf_cast_to_kern_ctx\0", b"\0kfree_skb_list_reas_");
    for content in [None, Some(half), Some(without_function), Some(without_member), Some(another_function)] {
        if let Some(content) = content {
            fs::write(&types, content).unwrap();
        }
        let settings = node.settings();
        let mut redirector =
            node.run(|| Redirector::start_on(settings, Hook::of_this_kernel(), &types)).unwrap();
        assert!(is_blind(&redirector));
        apply(&node, &mut redirector, plan(3, &[(0, &[(1, Some((6, PORT)), ALLOW)])]));
        for to in addresses(0, PORT) {
            assert_lands(&node, 1, to);
        }
        assert_dropped(&node, 2, addresses(0, PORT)[0]);
    }
}

fn is_blind(redirector: &Redirector) -> bool {
    redirector.warnings().iter().any(|warning| warning.starts_with(BLIND))
}
