//! What the kernel programs tell: drops and new connections, read from the ring buffer.

use crate::epochs::Epochs;
use crate::error::Error;
use crate::pins::{Pins, open};
use crate::plan::ip;
use crate::sys::{ktime_ns, nanoseconds};
use aya::maps::{MapData, RingBuf};
use core::net::SocketAddr;
use policy_model::snapshot::Direction;
use redirect_abi::{Address, Event, direction, reason};
use rustix::time::{ClockId, clock_gettime};
use std::fmt;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

/// A verdict of the kernel, aggregated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelEvent {
    pub unix_ns: u64,
    pub source: SocketAddr,
    pub destination: SocketAddr,
    pub source_identity: u32,
    pub destination_identity: u32,
    /// The id of the endpoint whose interface the packet came from, whatever source it bears. `None`: from no endpoint.
    pub sender: Option<u16>,
    pub protocol: u8,
    pub direction: Direction,
    /// Of the policy that judged; while a change is being made, the one that comes. `None`: that of an earlier process.
    pub revision: Option<u64>,
    /// `None`: a new direct connection was allowed.
    pub drop: Option<DropReason>,
    pub count: u64,
}

/// From `redirect_abi::reason`, exhaustive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DropReason {
    DeferredChecksum,
    ExtensionHeaders,
    FalseNeighbour,
    FlowQuota,
    FragmentOrphan,
    FragmentRedirected,
    Malformed,
    MapFull,
    MappedAddress,
    NoEndpoint,
    NoListener,
    NoPolicyMap,
    NoPrograms,
    NotRedirectable,
    Policy,
    RedirectRequired,
    Revoked,
    Segmentation,
    SpoofedSource,
    UnknownL3,
    /// The programs are newer than this process.
    Unnamed,
    UntrackedAnswer,
}

impl DropReason {
    /// With their numbers in events and counters.
    pub const ALL: &[(u8, Self)] = &[
        (reason::POLICY, Self::Policy),
        (reason::SPOOFED_SOURCE, Self::SpoofedSource),
        (reason::MALFORMED, Self::Malformed),
        (reason::FRAGMENT_ORPHAN, Self::FragmentOrphan),
        (reason::FRAGMENT_REDIRECTED, Self::FragmentRedirected),
        (reason::NO_LISTENER, Self::NoListener),
        (reason::UNKNOWN_L3, Self::UnknownL3),
        (reason::NO_ENDPOINT, Self::NoEndpoint),
        (reason::MAPPED_ADDRESS, Self::MappedAddress),
        (reason::EXTENSION_HEADERS, Self::ExtensionHeaders),
        (reason::NOT_REDIRECTABLE, Self::NotRedirectable),
        (reason::REVOKED, Self::Revoked),
        (reason::REDIRECT_REQUIRED, Self::RedirectRequired),
        (reason::NO_POLICY_MAP, Self::NoPolicyMap),
        (reason::MAP_FULL, Self::MapFull),
        (reason::DEFERRED_CHECKSUM, Self::DeferredChecksum),
        (reason::SEGMENTATION, Self::Segmentation),
        (reason::UNTRACKED_ANSWER, Self::UntrackedAnswer),
        (reason::FLOW_QUOTA, Self::FlowQuota),
        (reason::NO_PROGRAMS, Self::NoPrograms),
        (reason::FALSE_NEIGHBOUR, Self::FalseNeighbour),
    ];

    /// snake_case, as in records and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::DeferredChecksum => "deferred_checksum",
            Self::ExtensionHeaders => "extension_headers",
            Self::FalseNeighbour => "false_neighbour",
            Self::FlowQuota => "flow_quota",
            Self::FragmentOrphan => "fragment_orphan",
            Self::FragmentRedirected => "fragment_redirected",
            Self::Malformed => "malformed",
            Self::MapFull => "map_full",
            Self::MappedAddress => "mapped_address",
            Self::NoEndpoint => "no_endpoint",
            Self::NoListener => "no_listener",
            Self::NoPolicyMap => "no_policy_map",
            Self::NoPrograms => "no_programs",
            Self::NotRedirectable => "not_redirectable",
            Self::Policy => "policy",
            Self::RedirectRequired => "redirect_required",
            Self::Revoked => "revoked",
            Self::Segmentation => "segmentation",
            Self::SpoofedSource => "spoofed_source",
            Self::UnknownL3 => "unknown_l3",
            Self::Unnamed => "unnamed",
            Self::UntrackedAnswer => "untracked_answer",
        }
    }

    /// `None` is what 0 means: not dropped.
    fn of(number: u8) -> Option<Self> {
        let known = Self::ALL.iter().find(|(known, _)| *known == number).map(|(_, reason)| *reason);
        known.or((number != 0).then_some(Self::Unnamed))
    }
}

/// The reading end of the ring buffer. Its descriptor is readable when events wait.
pub struct Events {
    ring: RingBuf<MapData>,
    epochs: Epochs,
}

impl Events {
    /// Goes on where the last reader of the same ring buffer stopped.
    pub(crate) fn open(pins: &Pins, epochs: Epochs) -> Result<Self, Error> {
        Ok(Self { ring: open(pins, "EVENTS")?, epochs })
    }

    /// Waiting events, at most `max`. Never blocks.
    pub fn read(&mut self, max: usize, out: &mut Vec<KernelEvent>) {
        let boot_ns = unix_ns_at_boot();
        for _ in 0..max {
            let Some(record) = self.ring.next() else { return };
            out.extend(event(&record).map(|event| kernel_event(&event, boot_ns, &self.epochs)));
        }
    }
}

impl AsFd for Events {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ring.as_fd()
    }
}

impl AsRawFd for Events {
    fn as_raw_fd(&self) -> RawFd {
        self.ring.as_raw_fd()
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").finish_non_exhaustive()
    }
}

fn event(record: &[u8]) -> Option<Event> {
    if record.len() < size_of::<Event>() {
        return None;
    }
    // SAFETY: the record is at least as long as an event, of which every bit pattern is a value.
    Some(unsafe { record.as_ptr().cast::<Event>().read_unaligned() })
}

fn kernel_event(event: &Event, boot_ns: u64, epochs: &Epochs) -> KernelEvent {
    KernelEvent {
        unix_ns: boot_ns.wrapping_add(event.time_ns),
        source: socket_address(event.source, event.source_port),
        destination: socket_address(event.destination, event.destination_port),
        source_identity: event.source_identity,
        destination_identity: event.destination_identity,
        sender: u16::try_from(event.sender).ok().filter(|id| *id != 0),
        protocol: event.protocol,
        direction: if event.direction == direction::EGRESS { Direction::Egress } else { Direction::Ingress },
        revision: epochs.revision(event.epoch),
        drop: DropReason::of(event.reason),
        count: event.count.into(),
    }
}

pub(crate) fn socket_address(address: Address, port: [u8; 2]) -> SocketAddr {
    SocketAddr::new(ip(address), u16::from_be_bytes(port))
}

/// What has to be added to the programs' clock; asked anew each time, because the wall clock is set now and then.
fn unix_ns_at_boot() -> u64 {
    nanoseconds(clock_gettime(ClockId::Realtime)).wrapping_sub(ktime_ns())
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::Ipv4Addr;

    const EVENT: Event = Event {
        time_ns: 5,
        endpoint: 7,
        source_identity: 300,
        destination_identity: 400,
        epoch: 1,
        source: Ipv4Addr::new(10, 0, 0, 1).to_ipv6_mapped().octets(),
        destination: Ipv4Addr::new(10, 0, 0, 2).to_ipv6_mapped().octets(),
        source_port: 40_000_u16.to_be_bytes(),
        destination_port: 80_u16.to_be_bytes(),
        protocol: 6,
        direction: direction::INGRESS,
        verdict: redirect_abi::verdict::DENY,
        reason: reason::POLICY,
        count: 3,
        sender: 7,
    };

    #[test]
    fn every_reason_is_in_the_reference() {
        let reference = include_str!("../../../docs/reasons.md");
        let (_, packets) = reference.split_once("kernel programs drop").unwrap();
        let reasons = DropReason::ALL.iter().map(|(_, reason)| *reason).chain([DropReason::Unnamed]);
        for reason in reasons {
            assert!(packets.contains(&format!("| `{}` |", reason.name())), "{} is missing", reason.name());
        }
    }

    #[test]
    fn an_event_tells_addresses_time_and_reason() {
        let told = kernel_event(&EVENT, 1_000, &Epochs::default());
        assert_eq!(told.source, "10.0.0.1:40000".parse().unwrap());
        assert_eq!(told.destination, "10.0.0.2:80".parse().unwrap());
        assert_eq!((told.unix_ns, told.count, told.sender), (1_005, 3, Some(7)));
        assert_eq!(kernel_event(&Event { sender: 0, ..EVENT }, 0, &Epochs::default()).sender, None);
        assert_eq!((told.direction, told.drop), (Direction::Ingress, Some(DropReason::Policy)));
    }

    #[test]
    fn reason_0_is_no_drop_and_unknown_ones_are_drops() {
        let told = |reason| kernel_event(&Event { reason, ..EVENT }, 0, &Epochs::default()).drop;
        assert_eq!(told(0), None);
        assert_eq!(told(250), Some(DropReason::Unnamed));
    }

    #[test]
    fn the_revision_is_that_of_the_epoch_that_judged() {
        let epochs = Epochs::default();
        (1..=2).for_each(|epoch| epochs.note(epoch, u64::from(epoch) + 40));
        let told = |epoch| kernel_event(&Event { epoch, ..EVENT }, 0, &epochs).revision;
        assert_eq!([0, 1, 2].map(told), [None, Some(41), Some(42)]);
    }

    #[test]
    fn a_short_record_is_no_event() {
        assert_eq!(event(&[0; 71]), None);
        assert!(event(&[0; 72]).is_some());
    }

    #[test]
    fn every_reason_has_a_name_of_its_own() {
        // Those of the programs, of which 0 is none, and the guard's.
        assert_eq!(DropReason::ALL.len(), reason::COUNT);
        let mut names: Vec<_> = DropReason::ALL.iter().map(|(_, reason)| reason.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), DropReason::ALL.len());
    }
}
