//! The keys and values that the kernel programs and the loader share.
//!
//! Big-endian byte arrays, `repr(C)`, explicit padding that is zero, sizes asserted at compile time.
//! An address is 16 bytes: IPv6 as it is, IPv4 as `::ffff:a.b.c.d`, so that both families take one code path.
//! INVARIANT: a change of any layout or meaning changes [`SCHEMA`], which names the directory of pins.
#![no_std]

/// Names the pin directory: `/sys/fs/bpf/sluice/v3`.
pub const SCHEMA: &str = "v3";

pub type Address = [u8; 16];

/// The first 12 bytes of every IPv4 address in the maps.
pub const IPV4_PREFIX: [u8; 12] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];

/// skb marks. Pods can't forge them: crossing a network namespace clears the mark.
pub mod mark {
    pub const MASK: u32 = 0x0f00;
    /// Routed to the local table and so to the proxy.
    pub const TO_PROXY: u32 = 0x0200;
    /// Sockets accepted by the proxy (inherited from the listener), and its resets.
    pub const PROXY_DOWNSTREAM: u32 = 0x0a00;
    /// Sockets that the proxy dialled.
    pub const PROXY_UPSTREAM: u32 = 0x0b00;
    /// Judged by from_endpoint; to_endpoint need not judge again if the upper 16 bits name its endpoint:
    /// a packet whose destination was changed in between (DNAT) was judged for somebody else.
    pub const CHECKED: u32 = 0x0c00;
    pub const CHECKED_FOR_SHIFT: u32 = 16;
}

/// Identities that the programs know by number; the rest come out of the maps.
pub mod identity {
    /// What IPCACHE has no prefix for.
    pub const UNKNOWN: u32 = 0;
    /// The node itself.
    pub const HOST: u32 = 1;
}

/// Table and preference of the policy rule for [`mark::TO_PROXY`].
pub const ROUTE_TABLE: u32 = 2004;
pub const RULE_PREFERENCE: u32 = 9;

/// A local endpoint, by ifindex (ENDPOINTS) and by address (ADDRESSES).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub id: u32,
    pub identity: u32,
    pub ifindex: u32,
    /// Bit 0: has an IPv4 address. Bit 1: has an IPv6 address.
    pub families: u32,
    /// As `::ffff:a.b.c.d`.
    pub v4: Address,
    pub v6: Address,
}

/// Key data of IPCACHE: a longest-prefix trie over family and address, so that `::/0` never answers for IPv4.
/// Prefix lengths count the 8 bits of `family` first: IPv6 8 + n, IPv4 8 + 96 + n. Value: the identity, u32.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IpcacheKey {
    pub family: u8,
    pub address: Address,
    pub pad: [u8; 3],
}

pub mod family {
    pub const IPV4: u8 = 4;
    pub const IPV6: u8 = 6;
}

/// Key data of a policy map: a longest-prefix trie. Precedence was settled by the plan, the longest prefix is the answer.
///
/// bits: direction 8, identity 32, protocol 8, port 16. Prefix lengths in use:
/// 1 (see [`aspect::ANY`]), 8 (direction not enforced: any identity), 40 (identity, every protocol and port), 48 (and protocol), 49..=64 (and port prefix).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PolicyKey {
    pub direction: u8,
    pub identity: [u8; 4],
    pub protocol: u8,
    pub port: [u8; 2],
}

pub mod direction {
    pub const INGRESS: u8 = 0;
    pub const EGRESS: u8 = 1;
}

/// Questions that the verdict of one port does not answer: a policy map answers them too, under a direction with these bits
/// set, and as it answers all: what it does not allow is denied.
///
/// They are in the map so that a change of policy changes them in the same instant, and so that the stricter of two policies
/// is stricter in them too.
pub mod aspect {
    /// In all of them. One entry of this bit alone allows what no longer one denies.
    pub const ANY: u8 = 0x80;
    /// Whether no rule of the direction names this port, for whichever peer (the identity is 0).
    pub const UNNAMED: u8 = ANY;
    /// Whether the verdict for port 0 of this identity and protocol is that for every port of theirs, if that is to allow.
    pub const EVERY_PORT: u8 = ANY | 0x40;
}

#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PolicyValue {
    /// One of [`verdict`].
    pub verdict: u8,
    pub pad: [u8; 3],
}

pub mod verdict {
    pub const ALLOW: u8 = 1;
    pub const DENY: u8 = 2;
    pub const REDIRECT: u8 = 3;
}

/// Key of CONNTRACK, OVERFLOW and PROXIED: the flow in its own direction (source is who opened it).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlowKey {
    pub source: Address,
    pub destination: Address,
    pub source_port: [u8; 2],
    pub destination_port: [u8; 2],
    pub protocol: u8,
    /// One of [`kind`]: flows of the proxy and direct flows never share a key.
    pub kind: u8,
    pub pad: [u8; 2],
}

pub mod kind {
    /// Endpoint to endpoint, or endpoint and outside.
    pub const DIRECT: u8 = 0;
    /// What the proxy dialled: replies go to the proxy.
    pub const PROXY_UPSTREAM: u8 = 1;
    /// What the proxy accepted: stays with the proxy even if policy stops redirecting.
    pub const PROXY_DOWNSTREAM: u8 = 2;
}

#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowState {
    /// bpf_ktime_get_ns of the last packet.
    pub last_seen_ns: u64,
    /// The policy epoch that the flow was judged under.
    pub epoch: u32,
    /// Bits of [`flow_flags`].
    pub flags: u32,
    /// The last TCP acknowledgement that the opener sent, and the last that the other end sent: the sequence numbers of a reset that each will take.
    pub acked_by_source: [u8; 4],
    pub acked_by_destination: [u8; 4],
    pub packets: u64,
    /// [`Payer::endpoint`] of the account that was charged for the entry.
    pub payer_endpoint: u32,
    /// One of [`payer`].
    pub payer: u8,
    /// One of [`share`].
    pub share: u8,
    pub pad: [u8; 2],
}

pub mod flow_flags {
    pub const FIN_SOURCE: u32 = 1;
    pub const FIN_DESTINATION: u32 = 2;
    pub const RST: u32 = 4;
    /// Revoked: every packet is dropped, the entry only tells where to send resets.
    pub const REVOKED: u32 = 8;
    /// Tracked where it entered the destination: the source's egress policy had no say.
    pub const INGRESS_ONLY: u32 = 16;
    /// The source's address is the node's, but the packet came from elsewhere: judged as [`super::identity::UNKNOWN`].
    pub const FOREIGN: u32 = 32;
    /// Its first packet was seen (SYN, INIT): its source has opened it. Without this bit it was adopted: policy alone told who
    /// the opener is, and is asked again when it changes.
    pub const OPENED: u32 = 64;
    /// Adopted in the first seconds of an interface, when a connection may well be older than the programs.
    pub const ADOPTED_EARLY: u32 = 128;
}

/// By the family of a connection.
pub mod listener {
    pub const IPV4: u32 = 0;
    pub const IPV6: u32 = 1;
}

/// How long a flow may be silent before its entry means nothing.
pub mod lifetime {
    const SECOND_NS: u64 = 1_000_000_000;
    /// As long as an idle TCP connection may be silent.
    pub const TCP_NS: u64 = 6 * 3600 * SECOND_NS;
    /// A TCP connection that both ends have closed, or one has reset: for what is still on its way.
    pub const CLOSED_NS: u64 = 10 * SECOND_NS;
    /// A TCP connection whose opener has acknowledged nothing: nobody has answered, or nobody ever will.
    pub const UNANSWERED_NS: u64 = 60 * SECOND_NS;
    /// Protocols that do not say when they end.
    pub const DATAGRAM_NS: u64 = 60 * SECOND_NS;
}

const TCP: u8 = 6;

/// A TCP connection that both ends have closed, or one has reset.
#[inline(always)]
pub fn is_closed(protocol: u8, flags: u32) -> bool {
    const BY_BOTH: u32 = flow_flags::FIN_SOURCE | flow_flags::FIN_DESTINATION;
    protocol == TCP && (flags & flow_flags::RST != 0 || flags & BY_BOTH == BY_BOTH)
}

/// `acked_by_source` as in [`FlowState`]: 0 is what no acknowledgement has been seen for.
#[inline(always)]
pub fn lifetime_ns(protocol: u8, flags: u32, acked_by_source: [u8; 4]) -> u64 {
    if protocol != TCP {
        lifetime::DATAGRAM_NS
    } else if is_closed(protocol, flags) {
        lifetime::CLOSED_NS
    } else if u32::from_ne_bytes(acked_by_source) == 0 {
        lifetime::UNANSWERED_NS
    } else {
        lifetime::TCP_NS
    }
}

/// Key of ACCOUNTS, which the loader makes, and of OUTSIDERS, which the programs make: who is charged for an entry.
///
/// Who opens a flow is charged, never who is asked.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Payer {
    /// The id of the endpoint that opens, or else of the one that is asked.
    pub endpoint: u32,
    /// One of [`payer`].
    pub kind: u8,
    pub pad: [u8; 3],
    /// Of [`payer::OUTSIDE`]: the source's /24 or /64. Else zero.
    pub prefix: Address,
}

impl Payer {
    /// Who an entry is charged to: `endpoint` and `kind` as it has them, and the source of its flow.
    #[inline(always)]
    pub fn of(endpoint: u32, kind: u8, source: &Address) -> Self {
        let prefix = if kind == payer::OUTSIDE { prefix_of(source) } else { [0; 16] };
        Self { endpoint, kind, pad: [0; 3], prefix }
    }
}

/// The /24 or /64 that an address is in: whoever has one address there can as well have all.
#[inline(always)]
pub fn prefix_of(address: &Address) -> Address {
    let bits = u128::from_be_bytes(*address);
    let is_ipv4 = bits >> 32 == 0xffff;
    (bits & if is_ipv4 { !0xff } else { !0 << 64 }).to_be_bytes()
}

pub mod payer {
    /// Nothing is charged.
    pub const NOBODY: u8 = 0;
    /// An endpoint, for what it opens.
    pub const ENDPOINT: u8 = 1;
    /// The node, for what it opens to an endpoint: health probes among it.
    pub const NODE: u8 = 2;
    /// A source prefix elsewhere, for what it opens to an endpoint.
    pub const OUTSIDE: u8 = 3;
    /// All source prefixes that found no room for an account of their own, for what they open to an endpoint.
    pub const OUTSIDE_REST: u8 = 4;
}

/// What quotas are for, and the index of POOLS and QUOTAS. Not more: a word of an [`Account`] each.
pub mod quota {
    /// Entries of CONNTRACK.
    pub const DIRECT: u32 = 0;
    /// Entries of PROXIED for what the proxy accepted.
    pub const DOWNSTREAM: u32 = 1;
    /// Entries of PROXIED for what the proxy dialled.
    pub const UPSTREAM: u32 = 2;
    pub const COUNT: u32 = 3;
}

/// What an entry was charged to.
pub mod share {
    /// Nothing: it may be evicted.
    pub const NONE: u8 = 0;
    /// The payer's guaranteed minimum.
    pub const OWN: u8 = 1;
    /// What is free for all.
    pub const BORROWED: u8 = 2;
}

/// What one payer has. Written by the programs alone, which charge who inserts and discharge whoever's removal succeeds.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// Entries by [`quota`], of the guaranteed minimum.
    pub own: [u64; 3],
    /// ... and beyond.
    pub borrowed: [u64; 3],
    /// Flows that the quota did not cover.
    pub over: u64,
    /// Flows that have closed.
    pub closed: u64,
    /// Fragmented datagrams.
    pub fragmented: u64,
    /// bpf_ktime_get_ns: the events so far have used up what may be told until then.
    pub events_until_ns: u64,
    /// Events that were told nobody of.
    pub events_lost: u64,
}

impl Account {
    pub const NOTHING: Self = Self {
        own: [0; 3],
        borrowed: [0; 3],
        over: 0,
        closed: 0,
        fragmented: 0,
        events_until_ns: 0,
        events_lost: 0,
    };
}

/// Key of FRAGMENT_PLACES: a place in the queue of a payer's fragmented datagrams. Value: the [`FragmentKey`] of the one that was
/// last put there.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FragmentPlace {
    pub payer: Payer,
    pub place: u32,
    pub pad: u32,
}

/// Datagrams of which first fragments are remembered at once: of an endpoint, and of any other payer.
pub const FRAGMENTED_MAX: u64 = 64;
pub const FRAGMENTED_OTHER_MAX: u64 = 16;
/// Entries of FRAGMENTS and FRAGMENT_PLACES: those of 110 endpoints, the node and all the outsiders that have accounts.
pub const FRAGMENTS_MAX: u32 = 32_768;

/// Key of CLOSED: a place in the queue of a payer's closed flows. Value: the [`FlowKey`] of the one that was last put there.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClosedKey {
    /// As [`Payer::endpoint`].
    pub endpoint: u32,
    pub place: u16,
    /// One of [`payer`].
    pub payer: u8,
    pub pad: u8,
}

/// Closed flows of one payer that stay for what is still on its way; less where that would be more than a quarter of what the
/// payer is guaranteed.
pub const CLOSED_MAX: u64 = 256;

/// What all payers have borrowed of one [`quota`]. Written by the programs alone.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pool {
    pub borrowed: u64,
}

/// How much each may have of one [`quota`]. Written by the loader alone.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quota {
    /// Guaranteed to each endpoint.
    pub endpoint: u64,
    /// Guaranteed to each other payer.
    pub other: u64,
    /// What may be borrowed in all.
    pub pool: u64,
}

/// A borrower may have this many times what is free: one alone has nearly all, and n of them leave a part in 8n + 1 to the next.
pub const BORROW_FACTOR_LOG2: u32 = 3;

/// Accounts of outside prefixes; each has a guaranteed minimum.
pub const OUTSIDERS_MAX: u32 = 1_024;

/// What the program `collect` is asked: keys of flows behind a head of [`collect::HEAD_BYTES`].
pub mod collect {
    /// As an Ethernet header, which the kernel wants to see. Byte 0 is one of the words below.
    pub const HEAD_BYTES: usize = 14;
    pub const KEYS_MAX: usize = 64;
    /// Removes those that have been silent for their lifetime.
    pub const EXPIRED: u8 = 1;
    /// Moves direct flows from CONNTRACK to OVERFLOW.
    pub const BORROWED: u8 = 2;
}

/// Key of FRAGMENTS: the first fragment leaves its protocol and ports for the rest.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FragmentKey {
    pub source: Address,
    pub destination: Address,
    pub id: [u8; 4],
    /// What every fragment of the datagram says comes next: the protocol, or an IPv6 extension header before it.
    pub next_header: u8,
    pub pad: [u8; 3],
}

impl FragmentKey {
    /// Of no datagram.
    pub const NONE: Self =
        Self { source: [0; 16], destination: [0; 16], id: [0; 4], next_header: 0, pad: [0; 3] };
}

#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FragmentValue {
    pub source_port: [u8; 2],
    pub destination_port: [u8; 2],
    pub protocol: u8,
    pub pad: u8,
    /// Where the header that was judged ends, in bytes from where the first fragment begins. Native order.
    pub header_end: u16,
    /// When the first fragment came.
    pub seen_ns: u64,
}

/// What an endpoint is known by on its link. By ifindex (NEIGHBOURS).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// The one link-local address that it may speak from; unspecified: none was heard yet.
    pub link_local: Address,
    /// bpf_ktime_get_ns of when that was heard last, within a second.
    pub heard_ns: u64,
    /// Its hardware address; zeros: none was heard yet.
    pub station: [u8; 6],
    pub pad: [u8; 2],
}

impl Neighbour {
    pub const UNKNOWN: Self = Self { link_local: [0; 16], heard_ns: 0, station: [0; 6], pad: [0; 2] };
}

/// What the ring buffer EVENTS carries.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// bpf_ktime_get_ns.
    pub time_ns: u64,
    /// Whose policy decided.
    pub endpoint: u32,
    pub source_identity: u32,
    pub destination_identity: u32,
    pub epoch: u32,
    pub source: Address,
    pub destination: Address,
    pub source_port: [u8; 2],
    pub destination_port: [u8; 2],
    pub protocol: u8,
    /// One of [`direction`].
    pub direction: u8,
    /// One of [`verdict`].
    pub verdict: u8,
    /// One of [`reason`]; 0 for new connections.
    pub reason: u8,
    /// Equal events that this one stands for (retransmissions of one SYN are one event).
    pub count: u32,
    /// The id of the endpoint whose interface the packet came from, whatever source it bears; 0: from no endpoint.
    pub sender: u32,
}

/// Key of AGGREGATES: equal keys are one event, see [`Event::count`].
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AggregateKey {
    pub flow: FlowKey,
    /// As in [`Event::sender`]: two that forge one address are two senders.
    pub sender: u32,
    /// One of [`verdict`].
    pub verdict: u8,
    /// One of [`reason`]; 0 for new connections.
    pub reason: u8,
    /// One of [`direction`].
    pub direction: u8,
    pub pad: u8,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Aggregate {
    /// When the last event of this key went out.
    pub sent_ns: u64,
    /// What happened since and was not sent yet.
    pub pending: u32,
    /// The sequence number of the SYN that the event was about: a retransmission has the same.
    pub sequence: [u8; 4],
}

/// Why a packet was dropped. Every one has a counter (COUNTERS[reason]) and an event.
pub mod reason {
    pub const POLICY: u8 = 1;
    pub const SPOOFED_SOURCE: u8 = 2;
    pub const MALFORMED: u8 = 3;
    pub const FRAGMENT_ORPHAN: u8 = 4;
    pub const FRAGMENT_REDIRECTED: u8 = 5;
    pub const NO_LISTENER: u8 = 6;
    pub const UNKNOWN_L3: u8 = 7;
    pub const NO_ENDPOINT: u8 = 8;
    pub const MAPPED_ADDRESS: u8 = 9;
    pub const EXTENSION_HEADERS: u8 = 10;
    /// Policy wants inspection where it can't be had: not TCP, or traffic from outside that enters at the endpoint.
    pub const NOT_REDIRECTABLE: u8 = 11;
    /// The flow was allowed once and is no longer.
    pub const REVOKED: u8 = 12;
    /// An uninspected flow whose port is now inspected.
    pub const REDIRECT_REQUIRED: u8 = 13;
    pub const NO_POLICY_MAP: u8 = 14;
    pub const MAP_FULL: u8 = 15;
    /// A checksum is left to the device in a place that was judged.
    pub const DEFERRED_CHECKSUM: u8 = 16;
    /// To be cut into segments that would differ in what was judged.
    pub const SEGMENTATION: u8 = 17;
    /// It looks like an answer of a flow that nobody has seen opened and that policy denies.
    pub const UNTRACKED_ANSWER: u8 = 18;
    /// ARP or neighbour discovery that is not of an endpoint's own addresses on its own link.
    pub const FALSE_NEIGHBOUR: u8 = 19;
    /// Who opens the flow has as many as it may have.
    pub const FLOW_QUOTA: u8 = 20;
    pub const COUNT: usize = 21;
    /// Not a program's: the guard drops what comes from, or goes to, an interface that has none. The last number before the
    /// other counters.
    pub const NO_PROGRAMS: u8 = 31;
}

/// COUNTERS (per-CPU array of u64): 0..reason::COUNT are drops by reason, then these.
pub mod counter {
    pub const EVENTS_LOST: u32 = 32;
    pub const REDIRECTED: u32 = 33;
    pub const ALLOWED_FLOWS: u32 = 34;
    /// Direct flows beyond their opener's quota, tracked in OVERFLOW.
    pub const FLOWS_OVER_QUOTA: u32 = 35;
    pub const TOTAL: u32 = 64;
}

/// The single entry of SETTINGS, written by the loader.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Bumped last in every change; entries of older epochs are judged again.
    pub epoch: u32,
    /// What a sender's event uses up of its rate: an event each so many nanoseconds is told, and [`EVENTS_BURST`] at once. 0: no
    /// bound.
    pub event_interval_ns: u32,
}

/// Events that a sender may cause at once. Twenty senders' fit into the ring buffer together.
pub const EVENTS_BURST: u64 = 640;

/// Where the kernel's `struct sk_buff` has what the programs read of it: bytes from its start. A constant of the object, written
/// by the loader before the kernel sees it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SocketBuffer {
    /// 0: this kernel does not say, or has no way to read it. Nothing is read.
    pub known: u32,
    /// The byte that holds the two bits of `ip_summed`, and the bits below them.
    pub ip_summed: u32,
    pub ip_summed_shift: u32,
    pub csum_start: u32,
    pub csum_offset: u32,
    pub head: u32,
    pub data: u32,
}

impl SocketBuffer {
    /// Of the object.
    pub const NAME: &str = "SOCKET_BUFFER";
    /// What the object calls in place of the kernel's function of this name, whose number only the loader can find out: no
    /// helper has such a number.
    pub const CAST_CALL: u32 = 0x5ca1_ab1e;
    pub const CAST_FUNCTION: &str = "bpf_cast_to_kern_ctx";
}

const _: () = assert!(size_of::<SocketBuffer>() == 28);
const _: () = assert!(size_of::<Account>() == 88);
const _: () = assert!(size_of::<ClosedKey>() == 8);
const _: () = assert!(size_of::<Payer>() == 24);
const _: () = assert!(size_of::<Pool>() == 8);
const _: () = assert!(size_of::<Quota>() == 24);
const _: () = assert!(size_of::<Endpoint>() == 48);
const _: () = assert!(size_of::<IpcacheKey>() == 20);
const _: () = assert!(size_of::<PolicyKey>() == 8);
const _: () = assert!(size_of::<PolicyValue>() == 4);
const _: () = assert!(size_of::<Neighbour>() == 32);
const _: () = assert!(size_of::<FlowKey>() == 40);
const _: () = assert!(size_of::<FlowState>() == 40);
const _: () = assert!(size_of::<FragmentKey>() == 40);
const _: () = assert!(size_of::<FragmentPlace>() == 32);
const _: () = assert!(size_of::<FragmentValue>() == 16);
const _: () = assert!(size_of::<AggregateKey>() == 48);
const _: () = assert!(size_of::<Aggregate>() == 16);
const _: () = assert!(size_of::<Event>() == 72);
const _: () = assert!(size_of::<Settings>() == 8);
