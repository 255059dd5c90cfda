//! What holds packets of pods whose interface has no programs: netfilter hooks that need no process of ours.
//!
//! Programs are on an interface because a process has attached them. A pod that is plugged in again while none runs has a new
//! interface, with none. So pinned links, one a family and hook, drop from the first start until `uninstall`:
//!
//! ```text
//! forward, local in:  the source, with the interface that the packet came from
//! post routing:       the destination, with the interface that it goes to, ahead of any NAT
//!
//!   address of an endpoint (ADDRESSES)   passes if that interface is `HOOKED` and has programs, or `CARRIER`
//!   pod network, no endpoint (IPCACHE)   passes if that interface is one of these, or `OTHER`
//!   any other                            passes
//! ```
//! `OTHER` are interfaces that a process saw while it ran, and that are no endpoint's: uplinks, tunnels, other CNIs' pods. Pods of
//! other nodes come over those. An interface that no process has seen yet passes no address of a pod network, because a pod that
//! nobody has listed yet may be behind it. What passes over `lo` is the node's own.
//!
//! `CARRIER` is the bridge, bond or VRF that a `HOOKED` interface belongs to: IP takes that for where a packet came from, so among
//! its ports the guard can't tell one from another.
//!
//! INVARIANT: an interface is `HOOKED` after its programs were attached, and no more before they are detached.
//! INVARIANT: there is no instant without the link of an older process until that of this one is there.

use crate::error::Error;
use crate::interfaces::{self, Listed};
use crate::pins::{Pins, open, unpin};
use crate::repairs::{Fault, Look, Severity};
use crate::routes::{FAMILIES, Family};
use crate::sys::{self, Attachment};
use aya::maps::{HashMap, IterableMap, MapData, MapError};
use program::{Descriptors, Offsets};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

mod program;

/// By ifindex, one of [`kind`].
const INTERFACES: &str = "GUARD_INTERFACES";
const INTERFACES_MAX: u32 = 65_536;
const BPF_F_NO_PREALLOC: u32 = 1;

/// Ahead of every usual hook. One link has a priority to itself, so the next is tried where it is taken.
const PRIORITY_FIRST: i32 = -1000;
const PRIORITIES: i32 = 64;

/// A bond in a bridge in a VRF.
const MASTERS_MAX: usize = 4;

/// Where packets are judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hook {
    Forward,
    LocalIn,
    PostRouting,
}

const HOOKS: [Hook; 3] = [Hook::LocalIn, Hook::Forward, Hook::PostRouting];

impl Hook {
    /// As netfilter counts them: `NF_INET_...`.
    fn number(self) -> u32 {
        match self {
            Self::Forward => 2,
            Self::LocalIn => 1,
            Self::PostRouting => 4,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Forward => "forward",
            Self::LocalIn => "local_in",
            Self::PostRouting => "post_routing",
        }
    }
}

/// A program in the kernel, and where it belongs.
#[derive(Debug)]
struct Loaded {
    hook: Hook,
    family: Family,
    program: OwnedFd,
}

/// What an interface is to the guard.
pub(crate) mod kind {
    pub(crate) const HOOKED: u32 = 1;
    pub(crate) const CARRIER: u32 = 2;
    pub(crate) const OTHER: u32 = 3;
}

pub(crate) struct Guard {
    pins: Pins,
    interfaces: HashMap<MapData, u32, u32>,
    /// What is in the map.
    known: BTreeMap<u32, u32>,
    /// One a hook and family, or why there is none.
    programs: Result<Vec<Loaded>, Error>,
}

impl Guard {
    /// Opens what an earlier process left, and loads the programs; where that fails [`Guard::repair`] says why.
    pub(crate) fn open(pins: &Pins) -> Result<Self, Error> {
        let interfaces: HashMap<MapData, u32, u32> = match pins.map(INTERFACES).exists() {
            true => open(pins, INTERFACES)?,
            false => HashMap::create(INTERFACES_MAX, BPF_F_NO_PREALLOC)
                .map_err(Error::map("create", INTERFACES))?,
        };
        let known = interfaces.iter().collect::<Result<_, _>>().map_err(Error::map("read", INTERFACES))?;
        let mut guard = Self { pins: pins.clone(), interfaces, known, programs: Ok(Vec::new()) };
        let _pinned = guard.repin()?;
        guard.programs = guard.load();
        Ok(guard)
    }

    /// Makes the programs of this process those that run.
    pub(crate) fn install(&self) {
        for loaded in self.programs.iter().flatten() {
            if let Err(error) = self.link(loaded) {
                // Looked at again every second, and reported from there.
                tracing::debug!(%error, "the guard is not in place");
            }
        }
    }

    /// Puts back what is missing.
    pub(crate) fn repair(&mut self, look: &mut Look) {
        look.add(self.repin());
        if self.programs.as_ref().is_err_and(|error| !matches!(error, Error::GuardUnsupported(_))) {
            self.programs = self.load();
        }
        match &self.programs {
            Ok(programs) => {
                programs.iter().for_each(|loaded| look.add(self.repair_hook(loaded)));
            }
            Err(error) => look.faults.push(fault(error)),
        }
    }

    fn repair_hook(&self, loaded: &Loaded) -> Result<Vec<String>, Error> {
        if self.is_linked(loaded)? {
            return Ok(Vec::new());
        }
        self.link(loaded)?;
        let Loaded { hook, family, .. } = loaded;
        Ok(vec![format!("the {} guard of pods without programs ({})", family.name(), hook.name())])
    }

    /// An interface that has programs from now on.
    pub(crate) fn add(&mut self, ifindex: u32) -> Result<(), Error> {
        self.set(ifindex, kind::HOOKED)
    }

    /// An interface whose programs are about to be detached.
    pub(crate) fn remove(&mut self, ifindex: u32) -> Result<(), Error> {
        match self.interfaces.remove(&ifindex) {
            Err(MapError::SyscallError(error)) if error.io_error.raw_os_error() == Some(libc::ENOENT) => {}
            Ok(()) | Err(MapError::KeyNotFound | MapError::ElementNotFound) => {}
            Err(error) => return Err(Error::map("remove from", INTERFACES)(error)),
        }
        let _removed = self.known.remove(&ifindex);
        Ok(())
    }

    /// All interfaces that there are: those with programs, and those that are nobody's of the plan.
    pub(crate) fn set_interfaces(
        &mut self,
        hooked: &BTreeSet<u32>,
        planned: &BTreeSet<Box<str>>,
    ) -> Result<(), Error> {
        // On a kernel that can't there is nobody to tell.
        if self.programs.as_ref().is_err_and(|error| matches!(error, Error::GuardUnsupported(_))) {
            return Ok(());
        }
        let wanted = kinds(&interfaces::list()?, hooked, planned);
        let gone: Vec<u32> =
            self.known.keys().filter(|ifindex| !wanted.contains_key(ifindex)).copied().collect();
        gone.into_iter().try_for_each(|ifindex| self.remove(ifindex))?;
        wanted.into_iter().try_for_each(|(ifindex, kind)| self.set(ifindex, kind))
    }

    fn set(&mut self, ifindex: u32, kind: u32) -> Result<(), Error> {
        if self.known.get(&ifindex) != Some(&kind) {
            self.interfaces.insert(ifindex, kind, 0).map_err(Error::map("write", INTERFACES))?;
            let _previous = self.known.insert(ifindex, kind);
        }
        Ok(())
    }

    fn repin(&self) -> Result<Vec<String>, Error> {
        let path = self.pins.map(INTERFACES);
        if path.exists() {
            return Ok(Vec::new());
        }
        let pinned = sys::pin(self.interfaces.map().fd().as_fd(), &path);
        pinned.map_err(|cause| Error::Link { action: "pin", path, cause })?;
        Ok(vec![format!("the pin of the map {INTERFACES}")])
    }

    fn load(&self) -> Result<Vec<Loaded>, Error> {
        let offsets = Offsets::of_this_kernel().map_err(Error::GuardUnsupported)?;
        let pinned =
            |name| sys::pinned(&self.pins.map(name)).map_err(Error::file("open", self.pins.map(name)));
        let (addresses, counters, ipcache) = (pinned("ADDRESSES")?, pinned("COUNTERS")?, pinned("IPCACHE")?);
        let maps = Descriptors {
            addresses: addresses.as_fd(),
            counters: counters.as_fd(),
            interfaces: self.interfaces.map().fd().as_fd(),
            ipcache: ipcache.as_fd(),
        };
        let load = |(hook, family)| match sys::load_netfilter(
            b"sluice_guard\0\0\0\0",
            &program::guard(hook, family, &offsets, &maps)?,
        ) {
            Ok(program) => Ok(Loaded { hook, family, program }),
            // Without a word of the verifier: there is no such kind of program.
            Err(cause) if cause.raw_os_error() == Some(libc::EINVAL) => Err(Error::GuardUnsupported(cause)),
            Err(cause) => Err(Error::Guard { action: "load the program", family: family.name(), cause }),
        };
        HOOKS.into_iter().flat_map(|hook| FAMILIES.map(|family| (hook, family))).map(load).collect()
    }

    /// Whether the pinned link is attached. One that was detached keeps its pin, and says nothing of it; but its priority is free.
    fn is_linked(&self, loaded: &Loaded) -> Result<bool, Error> {
        let Loaded { hook, family, program } = loaded;
        let Ok(link) = sys::pinned(&self.pins.guard_link(&pin_name(loaded))) else { return Ok(false) };
        let Ok(Attachment::Netfilter(priority)) = sys::link_attachment(link.as_fd()) else {
            return Ok(false);
        };
        match sys::link_netfilter(program.as_fd(), number(*family), hook.number(), priority) {
            Ok(_detached_again) => Ok(false),
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => Ok(true),
            Err(cause) => Err(Error::Guard { action: "attach the hook", family: family.name(), cause }),
        }
    }

    /// The new link runs beside the old one until it takes its pin.
    fn link(&self, loaded: &Loaded) -> Result<(), Error> {
        let family = loaded.family.name();
        let failed = |action| move |cause| Error::Guard { action, family, cause };
        let link = attach(loaded).map_err(failed("attach the hook"))?;
        let pin = self.pins.guard_link(&pin_name(loaded));
        let new = self.pins.guard_link(&format!("{}_new", pin_name(loaded)));
        let _left_by_a_process_that_died = unpin(&new)?;
        sys::pin(link.as_fd(), &new).map_err(failed("pin the hook"))?;
        fs::rename(&new, &pin).map_err(failed("pin the hook"))
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard").field("known", &self.known).finish_non_exhaustive()
    }
}

/// A kernel that can't is told of, and no reason to refuse anything.
fn fault(error: &Error) -> Fault {
    if let Error::GuardUnsupported(_) = error {
        return Fault {
            severity: Severity::Warning,
            message: format!(
                "a pod that is plugged in again while sluiced is down has no policy until it is up: {error}"
            ),
            fix: "use a kernel that has them, or plug no pods in while sluiced is down".into(),
        };
    }
    Fault::of(error)
}

fn attach(Loaded { hook, family, program }: &Loaded) -> io::Result<OwnedFd> {
    let mut taken = io::Error::from_raw_os_error(libc::EBUSY);
    for priority in (0..PRIORITIES).map(|n| PRIORITY_FIRST.saturating_add(n)) {
        match sys::link_netfilter(program.as_fd(), number(*family), hook.number(), priority) {
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => taken = error,
            other => return other,
        }
    }
    Err(taken)
}

/// bpffs lets nobody use a dot in a name.
fn pin_name(loaded: &Loaded) -> String {
    let family = match loaded.family {
        Family::V4 => "ipv4",
        Family::V6 => "ipv6",
    };
    format!("{}_{family}", loaded.hook.name())
}

/// As netfilter counts families.
fn number(family: Family) -> u32 {
    match family {
        Family::V4 => 2,
        Family::V6 => 10,
    }
}

/// What each interface is. One that is planned and has no programs is nothing: that is what the guard is for.
fn kinds(listed: &[Listed], hooked: &BTreeSet<u32>, planned: &BTreeSet<Box<str>>) -> BTreeMap<u32, u32> {
    let others = listed.iter().filter(|interface| !planned.contains(&interface.name));
    let mut kinds: BTreeMap<u32, u32> = others.map(|interface| (interface.index, kind::OTHER)).collect();
    let masters: BTreeMap<u32, Option<u32>> = listed.iter().map(|i| (i.index, i.master)).collect();
    let master_of = |ifindex: &u32| masters.get(ifindex).copied().flatten();
    for ifindex in hooked {
        let above = std::iter::successors(master_of(ifindex), master_of).take(MASTERS_MAX);
        kinds.extend(above.map(|master| (master, kind::CARRIER)));
    }
    let there = hooked.iter().filter(|ifindex| masters.contains_key(ifindex));
    kinds.extend(there.map(|ifindex| (*ifindex, kind::HOOKED)));
    kinds
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Interfaces as (index, name, master); a name that begins with `lxc` is planned.
    #[track_caller]
    fn check(listed: &[(u32, &str, Option<u32>)], hooked: &[u32], expect: &[(u32, u32)]) {
        let listed: Vec<Listed> = listed
            .iter()
            .map(|(index, name, master)| Listed {
                index: *index,
                name: (*name).into(),
                master: *master,
                ..Listed::default()
            })
            .collect();
        let planned = listed.iter().map(|i| i.name.clone()).filter(|name| name.starts_with("lxc")).collect();
        let found = kinds(&listed, &hooked.iter().copied().collect(), &planned);
        assert_eq!(found, expect.iter().copied().collect());
    }

    #[test]
    fn planned_interfaces_without_programs_are_nothing() {
        let listed = [(1, "lo", None), (2, "eth0", None), (3, "lxc-a", None), (4, "lxc-b", None)];
        check(&listed, &[3], &[(1, kind::OTHER), (2, kind::OTHER), (3, kind::HOOKED)]);
    }

    #[test]
    fn interfaces_that_are_gone_are_nothing() {
        check(&[(1, "lo", None)], &[3], &[(1, kind::OTHER)]);
    }

    #[test]
    fn what_lost_its_name_and_has_programs_is_hooked() {
        check(&[(3, "other", None)], &[3], &[(3, kind::HOOKED)]);
    }

    #[test]
    fn masters_stand_for_interfaces_with_programs_only() {
        let listed = [
            (2, "br0", Some(5)),
            (3, "lxc-a", Some(2)),
            (5, "vrf", None),
            (6, "br1", None),
            (7, "lxc-b", Some(6)),
        ];
        let expect = [(2, kind::CARRIER), (3, kind::HOOKED), (5, kind::CARRIER), (6, kind::OTHER)];
        check(&listed, &[3], &expect);
    }

    #[test]
    fn a_kernel_without_such_programs_is_a_warning() {
        let unsupported = Error::GuardUnsupported(io::Error::from_raw_os_error(libc::EINVAL));
        let Fault { severity, message, .. } = fault(&unsupported);
        assert_eq!(severity, Severity::Warning);
        assert!(message.contains("Linux 6.4, `CONFIG_NETFILTER_BPF_LINK`"), "{message}");
        let cause = io::Error::from_raw_os_error(libc::ENOMEM);
        let refused = Error::Guard { action: "attach the hook", family: "IPv4", cause };
        assert_eq!(fault(&refused).severity, Severity::Error);
    }

    #[test]
    fn masters_in_a_circle_end() {
        check(
            &[(2, "a", Some(4)), (3, "lxc", Some(2)), (4, "b", Some(2))],
            &[3],
            &[(2, kind::CARRIER), (3, kind::HOOKED), (4, kind::CARRIER)],
        );
    }
}
