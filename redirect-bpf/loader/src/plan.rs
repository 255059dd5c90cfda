//! The desired kernel state as a value. Pure.
//!
//! Precedence between rules was settled by the snapshot: its classes of ports are disjoint. Here each class becomes
//! the fewest prefixes that cover it, so that the kernel's longest-prefix lookup gives the class's verdict.

use crate::policy_map::{ASPECT_BITS, DIRECTION_BITS, IDENTITY_BITS, PORT_BITS, PROTOCOL_BITS, minimal};
use core::net::IpAddr;
use policy_model::rule::Protocol;
use policy_model::snapshot::{DirectionPolicy, Endpoint, PortClass, PortVerdict};
use policy_model::{IdentityId, Snapshot};
use redirect_abi::{Address, IpcacheKey, PolicyKey, aspect, direction, family, verdict};
use std::collections::BTreeMap;
use std::sync::Arc;

pub use crate::policy_map::PolicyMap;

/// Prefix length and key data -> identity.
pub type Ipcache = BTreeMap<(u32, IpcacheKey), u32>;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Of the snapshot: what packets that this judges are recorded under.
    pub revision: u64,
    /// By interface name: an endpoint and its policy.
    pub endpoints: BTreeMap<Box<str>, PlannedEndpoint>,
    pub ipcache: Ipcache,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedEndpoint {
    pub id: u32,
    pub identity: u32,
    pub v4: Option<Address>,
    pub v6: Option<Address>,
    pub policy: Arc<PolicyMap>,
}

/// What turns one table into another.
#[derive(Debug, PartialEq, Eq)]
pub struct Difference<K, V> {
    /// Added or changed.
    pub set: Vec<(K, V)>,
    pub removed: Vec<K>,
}

/// Bits of an ipcache key that stand before those of the address.
const FAMILY_BITS: u32 = 8;
const MAPPED_BITS: u32 = 96;

pub fn plan(snapshot: &Snapshot) -> Plan {
    let mut policies = Policies::default();
    Plan {
        revision: snapshot.revision(),
        endpoints: snapshot.endpoints().iter().filter_map(|e| planned(e, snapshot, &mut policies)).collect(),
        ipcache: snapshot
            .ipcache()
            .map(|(prefix, id)| ipcache_entry(prefix.address(), prefix.length(), id))
            .collect(),
    }
}

/// `None` where nothing is enforced in the kernel.
fn planned(
    endpoint: &Arc<Endpoint>,
    snapshot: &Snapshot,
    policies: &mut Policies,
) -> Option<(Box<str>, PlannedEndpoint)> {
    let address_of =
        |wanted: fn(&IpAddr) -> bool| endpoint.inputs.addresses.iter().copied().find(wanted).map(address);
    let planned = PlannedEndpoint {
        id: endpoint.id.into(),
        identity: endpoint.identity.id.0,
        v4: address_of(IpAddr::is_ipv4),
        v6: address_of(IpAddr::is_ipv6),
        policy: policies.of(endpoint, snapshot),
    };
    Some((endpoint.inputs.interface.clone()?, planned))
}

/// The policy maps of a plan: made once for endpoints with equal policy.
#[derive(Default)]
struct Policies(Vec<Made>);

struct Made {
    ingress: Arc<DirectionPolicy>,
    egress: Arc<DirectionPolicy>,
    map: Arc<PolicyMap>,
}

impl Policies {
    fn of(&mut self, endpoint: &Endpoint, snapshot: &Snapshot) -> Arc<PolicyMap> {
        let same = |made: &&Made| {
            Arc::ptr_eq(&made.ingress, &endpoint.ingress) && Arc::ptr_eq(&made.egress, &endpoint.egress)
        };
        if let Some(made) = self.0.iter().find(same) {
            return Arc::clone(&made.map);
        }
        let map = policy_map(endpoint, snapshot);
        // Equal though not the same object: still one map.
        let map =
            self.0.iter().find(|made| *made.map == map).map_or_else(|| Arc::new(map), |m| Arc::clone(&m.map));
        self.0.push(Made {
            ingress: Arc::clone(&endpoint.ingress),
            egress: Arc::clone(&endpoint.egress),
            map: Arc::clone(&map),
        });
        map
    }
}

fn policy_map(endpoint: &Endpoint, snapshot: &Snapshot) -> PolicyMap {
    let mut map = PolicyMap::new();
    for (direction, policy) in
        [(direction::INGRESS, &endpoint.ingress), (direction::EGRESS, &endpoint.egress)]
    {
        match policy.enforced() {
            true => map.extend(policy.classes(snapshot).flat_map(|class| class_entries(direction, class))),
            false => map.extend([unenforced(direction)]),
        }
        map.extend(aspects(direction, policy, snapshot));
    }
    map.extend([unrestricted_aspects()]);
    minimal(&map)
}

/// What [`redirect_abi::aspect`] asks is answered with yes where no other entry says no.
fn unrestricted_aspects() -> ((u32, PolicyKey), u8) {
    let key = PolicyKey { direction: aspect::ANY, identity: [0; 4], protocol: 0, port: [0; 2] };
    ((ASPECT_BITS, key), verdict::ALLOW)
}

/// ... and with no for ports that are named, and for protocols of which only some ports are allowed.
fn aspects(
    direction: u8,
    policy: &DirectionPolicy,
    snapshot: &Snapshot,
) -> impl Iterator<Item = ((u32, PolicyKey), u8)> {
    let named = policy
        .named_ports()
        .flat_map(move |(protocol, ports)| deny(aspect::UNNAMED | direction, IdentityId(0), protocol, ports));
    let all = (0, u16::MAX);
    named.chain(
        partly_allowed(policy.classes(snapshot)).into_iter().flat_map(move |(identity, protocol)| {
            deny(aspect::EVERY_PORT | direction, identity, protocol, all)
        }),
    )
}

fn deny(
    direction: u8,
    identity: IdentityId,
    protocol: Protocol,
    ports: (u16, u16),
) -> impl Iterator<Item = ((u32, PolicyKey), u8)> {
    prefixes(Some(protocol), ports).map(move |(length, protocol, port)| {
        let identity = identity.0.to_be_bytes();
        ((length, PolicyKey { direction, identity, protocol, port: port.to_be_bytes() }), verdict::DENY)
    })
}

/// Identities and protocols of which port 0 is allowed, but not every port. `classes` are sorted.
fn partly_allowed(classes: impl Iterator<Item = PortClass>) -> Vec<(IdentityId, Protocol)> {
    // Ports from 0 on that are allowed, up to the first that is not, and whether there is such a one.
    let mut runs: Vec<((IdentityId, Protocol), u32)> = Vec::new();
    for class in classes {
        let (Some(protocol), PortVerdict::Allow(_)) = (class.protocol, &class.verdict) else { continue };
        let peer = (class.identity, protocol);
        let (first, end) = (u32::from(class.ports.0), u32::from(class.ports.1) + 1);
        match runs.last_mut() {
            Some((last, allowed)) if *last == peer => {
                if *allowed == first {
                    *allowed = end;
                }
            }
            Some(_) | None if first == 0 => runs.push((peer, end)),
            Some(_) | None => {}
        }
    }
    runs.into_iter().filter(|(_, allowed)| *allowed <= u32::from(u16::MAX)).map(|(peer, _)| peer).collect()
}

/// The one entry of a direction that no policy selects.
fn unenforced(direction: u8) -> ((u32, PolicyKey), u8) {
    let key = PolicyKey { direction, identity: [0; 4], protocol: 0, port: [0; 2] };
    ((DIRECTION_BITS, key), verdict::ALLOW)
}

fn class_entries(direction: u8, class: PortClass) -> impl Iterator<Item = ((u32, PolicyKey), u8)> {
    let verdict = match class.verdict {
        PortVerdict::Allow(_) => verdict::ALLOW,
        PortVerdict::Deny(_) => verdict::DENY,
        PortVerdict::Inspect(_) => verdict::REDIRECT,
    };
    prefixes(class.protocol, class.ports).map(move |(length, protocol, port)| {
        let key = PolicyKey {
            direction,
            identity: class.identity.0.to_be_bytes(),
            protocol,
            port: port.to_be_bytes(),
        };
        ((length, key), verdict)
    })
}

/// The fewest (prefix length, protocol, port) that cover these ports of a protocol, or all of them.
fn prefixes(protocol: Option<Protocol>, ports: (u16, u16)) -> Box<dyn Iterator<Item = (u32, u8, u16)>> {
    match protocol {
        None => Box::new(core::iter::once((IDENTITY_BITS, 0, 0))),
        Some(Protocol(number)) => Box::new(
            PortPrefixes::new(ports).map(move |(length, port)| (PROTOCOL_BITS + length, number, port)),
        ),
    }
}

/// Cuts a range of ports into aligned blocks, each as big as fits: at most 30 of them.
struct PortPrefixes {
    next: u32,
    last: u32,
}

impl PortPrefixes {
    fn new((first, last): (u16, u16)) -> Self {
        Self { next: first.into(), last: last.into() }
    }
}

/// (prefix length, first port).
impl Iterator for PortPrefixes {
    type Item = (u32, u16);

    fn next(&mut self) -> Option<(u32, u16)> {
        let first = u16::try_from(self.next).ok()?;
        let left = self.last.checked_sub(self.next)?.checked_add(1)?;
        let block_bits = self.next.trailing_zeros().min(left.ilog2()).min(PORT_BITS);
        self.next = self.next.checked_add(1_u32.checked_shl(block_bits)?)?;
        Some((PORT_BITS.saturating_sub(block_bits), first))
    }
}

/// As all maps hold it.
pub(crate) fn address(address: IpAddr) -> Address {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// The address that a map means.
pub(crate) fn ip(address: Address) -> IpAddr {
    core::net::Ipv6Addr::from(address).to_canonical()
}

fn ipcache_entry(prefix: IpAddr, length: u8, identity: IdentityId) -> ((u32, IpcacheKey), u32) {
    let (family, before) = match prefix {
        IpAddr::V4(_) => (family::IPV4, FAMILY_BITS + MAPPED_BITS),
        IpAddr::V6(_) => (family::IPV6, FAMILY_BITS),
    };
    ((before + u32::from(length), IpcacheKey { family, address: address(prefix), pad: [0; 3] }), identity.0)
}

/// What has to be written and removed to make `old` equal to `new`.
pub fn difference<K: Ord + Clone, V: PartialEq + Clone>(
    old: &BTreeMap<K, V>,
    new: &BTreeMap<K, V>,
) -> Difference<K, V> {
    let changed = new.iter().filter(|(key, value)| old.get(key) != Some(value));
    let gone = old.keys().filter(|key| !new.contains_key(key));
    Difference {
        set: changed.map(|(k, v)| (k.clone(), v.clone())).collect(),
        removed: gone.cloned().collect(),
    }
}

#[cfg(test)]
mod tests;
