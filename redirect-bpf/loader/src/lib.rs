//! Brings a snapshot into the kernel and keeps it there: programs, maps, links, routes, listeners, events.
//!
//! One change, in the order that [`Redirector`] has it from its caller:
//!
//! ```text
//! apply_before   policy maps: the stricter of old and new; then addresses and endpoints; the epoch; then new interfaces
//!     (the caller publishes the snapshot)
//! judge_flows    what must not go on is cut, the first of it, in turns by who opened it
//! apply_after    interfaces, endpoints and addresses that are gone; policy maps: the new ones; the epoch
//! cut_flows      the rest is judged and cut, until there is none
//! ```
//! Between changes interfaces come and go, and other programs remove what is ours: [`Links`] tells when, [`Redirector::look`]
//! attaches, and puts back.
//!
//! INVARIANT: at every instant of a change a connection without a rule reaches the proxy or is dropped, never the network.
//! INVARIANT: a policy map knows an identity before an address is taken for it.
//! INVARIANT: a packet with an endpoint's address is not forwarded over an interface without programs, whether or not a process runs.
//! INVARIANT: everything that is set up here is undone by [`uninstall`].
#![expect(
    unsafe_code,
    reason = "bpf(2) and setsockopt(2) for what no library offers; each block says why it is sound"
)]

pub mod btf;
mod error;
mod netlink;
mod addresses;
mod interfaces;
mod links;
mod pins;
mod pod;
mod policy_map;
pub mod plan;
mod reset;
mod routes;
mod neighbours;
pub mod sockets;
mod socket_buffer;
mod sys;
mod quotas;
mod assembler;
mod filters;
mod attach;
mod namespace;
mod sysctls;
mod checks;
mod tables;
mod epochs;
mod maps;
mod repairs;
mod guard;
mod events;
mod attached;
mod flows;
mod uninstall;
mod redirector;

pub use addresses::node_addresses;
pub use attach::Hook;
pub use error::Error;
pub use events::{DropReason, Events, KernelEvent};
pub use flows::{CutFlow, Fate};
pub use links::{Heard, Links};
pub use pins::BPFFS_DEFAULT;
pub use quotas::{FlowLimits, Opener, Usage};
pub use redirector::{EVENTS_LOST, Pending, REPAIRS, Redirector};
pub use repairs::{Fault, Look, Severity};
pub use sys::give_back_memory;
pub use uninstall::uninstall;

use std::path::PathBuf;

/// Where things are. From the node file.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The kernel object; its absence is [`Error::ObjectMissing`], which says where it was looked for.
    pub object: PathBuf,
    /// The directory that pins go below, as `<bpffs>/sluice/<schema>/`: one for each node, on a BPF file system.
    /// `/sys/fs/bpf` by default, mounted where it is missing.
    pub bpffs: PathBuf,
    /// Old values of sysctls are saved here, for uninstall.
    pub state_directory: PathBuf,
    /// A sysctl that another program changes is put back; else it is only reported.
    pub keep_sysctls: bool,
    pub flows: FlowLimits,
    /// Events that each sender may cause a second; what is beyond is lost, and counted for it ([`Usage::events_lost`]).
    pub events_per_second: u32,
    /// Entries of an endpoint's policy in the kernel; one whose policy has more passes nothing. At most [`POLICY_ENTRIES_MAX`].
    pub policy_entries: usize,
}

/// The most that [`Settings::policy_entries`] may be.
pub const POLICY_ENTRIES_MAX: usize = 1 << 20;
