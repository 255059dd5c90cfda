//! The entry points: each reads what the kernel hands it, asks the logic, and turns the answer into an action.
#![cfg_attr(target_arch = "bpf", no_std, no_main, feature(core_intrinsics))]
#![cfg_attr(
    target_arch = "bpf",
    expect(
        internal_features,
        reason = "the library has no atomic addition for targets without compare-and-swap"
    )
)]

#[cfg(target_arch = "bpf")]
mod events;
#[cfg(target_arch = "bpf")]
mod maps;
#[cfg(target_arch = "bpf")]
mod programs;

/// The kernel object is built for `bpfel-unknown-none`, see `redirect-bpf/build`; here is nothing to run.
#[cfg(not(target_arch = "bpf"))]
fn main() {}
