//! Who is who at one revision: names without policy. Records are made from it when the policy may be gone.

use crate::addresses::{AddressTable, Owner};
use crate::identity::{Identity, IdentityId, Party};
use crate::labels::{Label, LabelSet};
use core::net::IpAddr;
use imbl::OrdMap;
use std::sync::Arc;

#[derive(Debug)]
pub struct Directory {
    pub(crate) revision: u64,
    /// Everybody that policy can tell apart.
    pub(crate) peers: OrdMap<IdentityId, KnownPeer>,
    /// Of this node, by number.
    pub(crate) endpoints: OrdMap<u16, Arc<Party>>,
    pub(crate) addresses: AddressTable,
}

/// Identities that no rule of a snapshot tells apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct GroupId(pub(crate) u64);

#[derive(Clone, Debug)]
pub(crate) struct KnownPeer {
    pub(crate) identity: Arc<Identity>,
    pub(crate) group: GroupId,
}

impl Directory {
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Longest prefix; outside of every one: world, where the pod networks are known. IPv4-mapped IPv6 addresses are unknown.
    pub fn party_at(&self, address: IpAddr) -> &Arc<Party> {
        &self.addresses.owner(address).party
    }

    /// The endpoint of this node with this number.
    pub fn endpoint(&self, id: u16) -> Option<&Arc<Party>> {
        self.endpoints.get(&id)
    }

    /// Whether the address is of an endpoint of this node.
    pub fn is_local(&self, address: IpAddr) -> bool {
        self.addresses.owner(address).endpoint.is_some()
    }

    /// The identity that this number stands for. Without labels where it is not known.
    pub fn identity(&self, id: IdentityId) -> Arc<Identity> {
        let unknown = || Arc::new(Identity { id, labels: LabelSet::default() });
        self.peers.get(&id).map_or_else(unknown, |peer| Arc::clone(&peer.identity))
    }
}

/// Revision 0: nobody is known yet.
impl Default for Directory {
    fn default() -> Self {
        let labels: LabelSet = [Label::new("reserved", "unknown", "")].into_iter().collect();
        let nobody = Owner::nameless(&Arc::new(Identity { id: IdentityId::UNKNOWN, labels }));
        Self {
            revision: 0,
            peers: OrdMap::new(),
            endpoints: OrdMap::new(),
            addresses: AddressTable::new(OrdMap::new(), nobody),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::identity::{IdentityId, Numbers, Party};
    use crate::inputs::{EndpointInputs, Inputs, NodeInputs, PeerInputs};
    use crate::labels::Label;
    use std::sync::Arc;

    fn inputs(app: &str) -> Inputs {
        let labels = |app: &str| [Label::new("k8s", "app", app)].into_iter().collect();
        let endpoint = EndpointInputs {
            name: "a".into(),
            namespace: "ns".into(),
            interface: None,
            addresses: vec![[10, 0, 0, 1].into()],
            labels: labels(app),
            named_ports: Default::default(),
        };
        let peer = PeerInputs {
            name: "b".into(),
            namespace: "ns".into(),
            addresses: vec![[10, 0, 0, 2].into()],
            labels: labels("b"),
            named_ports: Default::default(),
        };
        let node = NodeInputs { pod_networks: vec!["10.0.0.0/8".parse().unwrap()], ..NodeInputs::default() };
        Inputs { node, endpoints: vec![endpoint], peers: vec![Arc::new(peer)], policies: Vec::new() }
    }

    fn name(party: &Party) -> Option<&str> {
        party.endpoint.as_ref().map(|endpoint| &*endpoint.name)
    }

    #[test]
    fn pods_have_names_wherever_they_are() {
        let (snapshot, _) = crate::resolve(&inputs("x"), &mut Numbers::default(), 1);
        let directory = snapshot.directory();
        let at = |n| directory.party_at([10, 0, 0, n].into());
        assert_eq!([1, 2, 3].map(|n| name(at(n))), [Some("a"), Some("b"), None]);
        assert_eq!([1, 2, 3].map(|n| directory.is_local([10, 0, 0, n].into())), [true, false, false]);
        assert_eq!(at(3).identity.id, IdentityId::UNKNOWN);
        let id = snapshot.endpoints()[0].id;
        assert!(Arc::ptr_eq(directory.endpoint(id).unwrap(), at(1)));
        assert!(directory.endpoint(id ^ 1).is_none());
        assert!(Arc::ptr_eq(&directory.identity(at(2).identity.id), &at(2).identity));
        assert_eq!(directory.identity(IdentityId(77_777)).labels.iter().count(), 0);
    }

    /// Records share what does not differ, and keep what does.
    #[test]
    fn a_pod_that_is_relabelled_is_somebody_else() {
        let (mut resolver, mut numbers) = (crate::resolve::Resolver::default(), Numbers::default());
        let mut party = |app, revision| {
            let (snapshot, _) = resolver.resolve(&inputs(app), &mut numbers, revision);
            Arc::clone(snapshot.directory().party_at([10, 0, 0, 1].into()))
        };
        let (first, same, other) = (party("x", 1), party("x", 2), party("y", 3));
        assert!(Arc::ptr_eq(&first, &same));
        assert_ne!(first.identity.id, other.identity.id);
        assert_eq!((name(&first), name(&other)), (Some("a"), Some("a")));
    }
}
