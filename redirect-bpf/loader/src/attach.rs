//! The programs, and the links that make them run: on the node's end of every endpoint's interface, and in the node's network
//! namespace.
//!
//! ```text
//! interface:  (none) ──ensure──► linked ──program replaced in place──► linked ──detach──► (none)
//!                                  └──interface deleted: link severed──► unpinned
//! ```
//! TCX links are pinned, survive the process, and change their program without a gap. Where the kernel has no TCX (before
//! Linux 6.6) the programs are filters of a clsact qdisc: they survive the process too, but they are found by name and
//! priority only, other filters may run before them, and whoever deletes the qdisc deletes them.

use crate::error::Error;
use crate::filters;
use crate::pins::{Pins, unpin};
use crate::pod::Raw;
use crate::quotas::FlowLimits;
use crate::socket_buffer::{Layout, OtherObject};
use crate::sys::{self, Attachment};
use aya::programs::links::FdLink;
use aya::programs::tc::{self, NlOptions, SchedClassifierLink, TcAttachOptions, TcError, TcHandle};
use aya::programs::{LinkOrder, ProgramError, SchedClassifier, SkLookup, TcAttachType};
use aya::util::KernelVersion;
use aya::{Ebpf, EbpfLoader};
use redirect_abi::SocketBuffer;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// What programs are attached with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    Clsact,
    Tcx,
}

/// A program for one direction of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Side {
    pub(crate) program: &'static str,
    pub(crate) attach_type: TcAttachType,
}

/// `to_endpoint` comes first: what it lets through unasked is what `from_endpoint` has judged, and without that it judges itself.
pub(crate) const SIDES: [Side; 2] = [
    Side { program: "to_endpoint", attach_type: TcAttachType::Egress },
    Side { program: "from_endpoint", attach_type: TcAttachType::Ingress },
];

const COLLECT: &str = "collect";
pub(crate) const PICK_LISTENER: &str = "pick_listener";
/// Of this thread: threads may be in different network namespaces.
const NETWORK_NAMESPACE: &str = "/proc/thread-self/ns/net";

/// Of why the kernel refused programs that read its packets.
const REASON_CHARS_MAX: usize = 200;

#[derive(Debug)]
pub(crate) struct Programs {
    ebpf: Ebpf,
    hook: Hook,
    pins: Pins,
    unread: Option<String>,
}

impl Hook {
    /// The better one that this kernel has.
    pub fn of_this_kernel() -> Self {
        match KernelVersion::current() {
            Ok(version) if version >= KernelVersion::new(6, 6, 0) => Self::Tcx,
            _ => Self::Clsact,
        }
    }
}

impl Programs {
    /// Loads the object; its maps are those that are pinned, or are made and pinned.
    ///
    /// Where the kernel's types are not known, or it refuses programs that read its packets, they go without it: see
    /// [`Programs::unread`].
    pub(crate) fn load(
        object: &Path,
        pins: &Pins,
        hook: Hook,
        types: &Path,
        limits: FlowLimits,
    ) -> Result<Self, Error> {
        let layout = Layout::read(fs::read(types));
        let refused = match layout {
            Ok(layout) => match Self::load_for(object, pins, hook, layout, limits) {
                Ok(programs) => return Ok(programs),
                // The verifier may have more to say than fits a finding.
                Err(error) => error
                    .to_string()
                    .lines()
                    .next()
                    .unwrap_or_default()
                    .chars()
                    .take(REASON_CHARS_MAX)
                    .collect(),
            },
            Err(why) => why,
        };
        let mut programs = Self::load_for(object, pins, hook, Layout::default(), limits)?;
        programs.unread = Some(refused);
        Ok(programs)
    }

    fn load_for(
        object: &Path,
        pins: &Pins,
        hook: Hook,
        layout: Layout,
        limits: FlowLimits,
    ) -> Result<Self, Error> {
        let mut bytes = fs::read(object).map_err(Error::file("read", object))?;
        layout.patch(&mut bytes).map_err(|OtherObject| Error::OtherObject(object.into()))?;
        let buffer = Raw(layout.buffer);
        let mut loader = EbpfLoader::new();
        let _loader = loader.override_global(SocketBuffer::NAME, &buffer, true);
        for (name, path) in pins.all_maps() {
            let _loader = loader.map_pin_path(name, path);
        }
        let _loader = loader.map_max_entries("CONNTRACK", limits.flows_max);
        // What is accepted and what is dialled for it.
        let _loader = loader.map_max_entries("PROXIED", limits.inspected_flows_max.saturating_mul(2));
        let ebpf = loader
            .load(&bytes)
            .map_err(|cause| Error::Load { object: object.into(), cause: Box::new(cause) })?;
        let mut programs = Self { ebpf, hook, pins: pins.clone(), unread: None };
        for program in SIDES.map(|side| side.program).into_iter().chain([COLLECT]) {
            programs.classifier(program)?.load().map_err(|cause| Error::Program { program, cause })?;
        }
        let failed = |cause| Error::Program { program: PICK_LISTENER, cause };
        programs.listener_picker()?.load().map_err(failed)?;
        Ok(programs)
    }

    /// The program that removes flows.
    pub(crate) fn collect(&mut self) -> Result<OwnedFd, Error> {
        let failed = |cause| Error::Program { program: COLLECT, cause };
        let fd = self.classifier(COLLECT)?.fd().and_then(|fd| Ok(fd.as_fd().try_clone_to_owned()?));
        fd.map_err(failed)
    }

    pub(crate) fn hook(&self) -> Hook {
        self.hook
    }

    /// Why the programs can't see which checksums are left to the device. `None`: they can.
    pub(crate) fn unread(&self) -> Option<&str> {
        self.unread.as_deref()
    }

    /// Attaches what is not attached to this interface, and gives what is the programs of this process. Where one is refused the
    /// other one is attached all the same: half a judge, who knows of no policy, is better than none.
    pub(crate) fn ensure(&mut self, interface: &str, ifindex: u32) -> Result<(), Error> {
        let sides = SIDES.map(|side| match self.hook {
            Hook::Clsact => self.ensure_filter(interface, side),
            Hook::Tcx => self.ensure_link(interface, ifindex, side),
        });
        sides.into_iter().collect()
    }

    fn ensure_link(&mut self, interface: &str, ifindex: u32, side: Side) -> Result<(), Error> {
        let path = self.pins.interface_link(interface, side.program);
        let failed = |cause| Error::Attach { program: side.program, place: interface.into(), cause };
        let program = self.classifier(side.program)?;
        if adopt(&path, Attachment::Ifindex(ifindex), program.fd().map_err(failed)?.as_fd())? {
            return Ok(());
        }
        let order = TcAttachOptions::TcxOrder(LinkOrder::first());
        let id = program.attach_with_options(interface, side.attach_type, order).map_err(failed)?;
        let link = program.take_link(id).map_err(failed)?;
        let link = FdLink::try_from(link).map_err(|cause| Error::Link {
            action: "pin",
            path: path.clone(),
            cause: io::Error::other(cause),
        })?;
        pin(link, &path)
    }

    fn ensure_filter(&mut self, interface: &str, side: Side) -> Result<(), Error> {
        let failed = |cause| Error::Attach { program: side.program, place: interface.into(), cause };
        let handle = TcHandle::new(0, filters::HANDLE);
        if let Err(error) = tc::qdisc_add_clsact(interface) {
            // Found out below if there is no qdisc either.
            tracing::debug!(interface, %error, "no new clsact qdisc");
        }
        let program = self.classifier(side.program)?;
        let options = NlOptions { priority: filters::PRIORITY, handle, classid: None };
        let created =
            program.attach_with_options(interface, side.attach_type, TcAttachOptions::Netlink(options));
        let id = created.or_else(|_exists| {
            let old =
                SchedClassifierLink::attached(interface, side.attach_type, filters::PRIORITY, handle, None);
            program.attach_to_link(old.map_err(TcError::IoError)?)
        });
        let link = id.and_then(|id| program.take_link(id)).map_err(failed)?;
        // Dropping it would detach the filter, which is to outlive the process.
        core::mem::forget(link);
        Ok(())
    }

    /// Whether what was attached to this interface still is. Where that can't be learnt it is taken to be gone: attaching again
    /// what is there does no harm.
    pub(crate) fn is_attached(&self, interface: &str, ifindex: u32) -> bool {
        match self.hook {
            Hook::Clsact => filters::are_attached(ifindex).unwrap_or_default(),
            Hook::Tcx => is_linked(&self.pins, interface, ifindex),
        }
    }

    /// Detaches from an interface, which may be gone.
    pub(crate) fn detach(&self, interface: &str) -> Result<(), Error> {
        match self.hook {
            Hook::Clsact => {
                for side in SIDES {
                    let _was_there = remove_filter(interface, side);
                }
            }
            Hook::Tcx => {
                for side in SIDES {
                    let _was_pinned = unpin(&self.pins.interface_link(interface, side.program))?;
                }
            }
        }
        Ok(())
    }

    /// Whether `pick_listener` is the program of this network namespace, and will be that of the next process.
    pub(crate) fn picks_listeners(&self) -> Result<bool, Error> {
        let here = namespace_attachment(&own_namespace()?)?;
        let link = sys::pinned(&self.pins.link(PICK_LISTENER));
        Ok(link.and_then(|link| sys::link_attachment(link.as_fd())).is_ok_and(|place| place == here))
    }

    /// Pins again the maps whose pins are gone: without them the next process would begin with nothing. Their names.
    pub(crate) fn repin_maps(&self) -> Result<Vec<&'static str>, Error> {
        let mut missing = Vec::new();
        for (name, path) in self.pins.all_maps().filter(|(_, path)| !path.exists()) {
            let map = self.ebpf.map(name).ok_or(Error::MapMissing(name))?;
            let failed =
                |error| Error::Link { action: "pin", path: path.clone(), cause: io::Error::other(error) };
            map.pin(&path).map_err(failed)?;
            missing.push(name);
        }
        Ok(missing)
    }

    /// Makes `pick_listener` the program of this network namespace.
    pub(crate) fn ensure_listener_picker(&mut self) -> Result<(), Error> {
        let path = self.pins.link(PICK_LISTENER);
        let failed =
            |cause| Error::Attach { program: PICK_LISTENER, place: "this network namespace".into(), cause };
        let namespace = own_namespace()?;
        let here = namespace_attachment(&namespace)?;
        let program = self.listener_picker()?;
        if adopt(&path, here, program.fd().map_err(failed)?.as_fd())? {
            return Ok(());
        }
        let id = program.attach(&namespace).map_err(failed)?;
        pin(program.take_link(id).map_err(failed)?.into(), &path)
    }

    fn classifier(&mut self, name: &'static str) -> Result<&mut SchedClassifier, Error> {
        let program = self.ebpf.program_mut(name).ok_or(Error::ProgramMissing(name))?;
        program.try_into().map_err(|_other_kind: ProgramError| Error::ProgramMissing(name))
    }

    fn listener_picker(&mut self) -> Result<&mut SkLookup, Error> {
        let program = self.ebpf.program_mut(PICK_LISTENER).ok_or(Error::ProgramMissing(PICK_LISTENER))?;
        program.try_into().map_err(|_other_kind: ProgramError| Error::ProgramMissing(PICK_LISTENER))
    }
}

/// Whether every link of an interface that is pinned is attached to the interface of this index.
pub(crate) fn is_linked(pins: &Pins, interface: &str, ifindex: u32) -> bool {
    linked_ifindex(pins, interface) == Some(ifindex)
}

/// The index of the interface that every link pinned under this name is attached to: 0 once it is gone.
pub(crate) fn linked_ifindex(pins: &Pins, interface: &str) -> Option<u32> {
    let linked = SIDES.map(|side| {
        let link = sys::pinned(&pins.interface_link(interface, side.program)).ok()?;
        match sys::link_attachment(link.as_fd()) {
            Ok(Attachment::Ifindex(ifindex)) => Some(ifindex),
            Ok(Attachment::NetworkNamespace(_) | Attachment::Netfilter(_) | Attachment::Other) | Err(_) => {
                None
            }
        }
    });
    let [one, other] = linked;
    one.filter(|_| one == other)
}

/// Removes a filter of ours. `false`: there was none, or no such interface.
pub(crate) fn remove_filter(interface: &str, side: Side) -> bool {
    tc::qdisc_detach_program(interface, side.attach_type, side.program).is_ok()
}

/// Refuses pins that run in another network namespace than this thread's: they are another node's.
pub(crate) fn check_namespace(pins: &Pins) -> Result<(), Error> {
    let here = namespace_attachment(&own_namespace()?)?;
    let path = pins.link(PICK_LISTENER);
    match sys::pinned(&path).and_then(|link| sys::link_attachment(link.as_fd())) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(cause) => Err(Error::Link { action: "ask", path, cause }),
        // Its namespace is gone: nobody's.
        Ok(Attachment::NetworkNamespace(0)) => Ok(()),
        Ok(found) if found == here => Ok(()),
        Ok(_) => Err(Error::OtherNamespace(pins.root().into())),
    }
}

/// Whether these pins run in the network namespace of this thread. Where that can't be learnt they are somebody else's.
pub(crate) fn run_here(picker: &Path) -> Result<bool, Error> {
    let here = namespace_attachment(&own_namespace()?)?;
    Ok(sys::pinned(picker)
        .and_then(|link| sys::link_attachment(link.as_fd()))
        .is_ok_and(|place| place == here))
}

fn own_namespace() -> Result<File, Error> {
    File::open(NETWORK_NAMESPACE).map_err(Error::file("open", NETWORK_NAMESPACE))
}

fn namespace_attachment(namespace: &File) -> Result<Attachment, Error> {
    let inode = namespace.metadata().map_err(Error::file("ask", NETWORK_NAMESPACE))?.ino();
    Ok(u32::try_from(inode).map_or(Attachment::Other, Attachment::NetworkNamespace))
}

/// Gives the pinned link this program. `false`: there is none, or it was attached to something that is gone.
fn adopt(path: &Path, place: Attachment, program: std::os::fd::BorrowedFd<'_>) -> Result<bool, Error> {
    let failed = |action| move |cause| Error::Link { action, path: path.into(), cause };
    let link = match sys::pinned(path) {
        Ok(link) => link,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(failed("open")(error)),
    };
    if sys::link_attachment(link.as_fd()).map_err(failed("ask"))? == place {
        match sys::link_update(link.as_fd(), program) {
            Ok(()) => return Ok(true),
            // The interface was deleted since.
            Err(error) if error.raw_os_error() == Some(libc::ENOLINK) => {}
            Err(error) => return Err(failed("update")(error)),
        }
    }
    let _was_pinned = unpin(path)?;
    Ok(false)
}

/// The pin keeps the link when the descriptor is closed.
fn pin(link: FdLink, path: &Path) -> Result<(), Error> {
    let failed = |error: aya::pin::PinError| Error::Link {
        action: "pin",
        path: path.into(),
        cause: io::Error::other(error),
    };
    let _pinned = link.pin(path).map_err(failed)?;
    Ok(())
}
