//! Groups: identities that no rule tells apart. Policy is settled once for each.

use super::terms::TermId;
use crate::identity::{Identity, IdentityId};
use crate::inputs::NamedPorts;
use crate::snapshot::{Direction, GroupId, KnownPeer};
use imbl::OrdMap;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// What the members of a group have in common. Never changes: who differs is in another group.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Group {
    /// That cover them, sorted.
    pub(super) terms: Vec<TermId>,
    pub(super) traits: Traits,
}

/// What policy depends on beside terms.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Traits {
    /// It is not like any other: the host, and who is unknown.
    pub(super) special: Option<IdentityId>,
    /// Of connections that it opens.
    pub(super) inspection: Inspection,
    /// What its pods call their ports, those of several that differ beside one another.
    pub(super) names: Arc<[NamedPorts]>,
}

/// Whether connections can be handed to the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Inspection {
    /// They may enter from outside of the node's endpoints.
    Impossible,
    Possible,
}

#[derive(Debug, Default)]
pub(super) struct Groups {
    peers: OrdMap<IdentityId, KnownPeer>,
    groups: BTreeMap<GroupId, Living>,
    ids: HashMap<Arc<Group>, GroupId>,
    /// The next group's.
    next: u64,
    changes: Changes,
}

#[derive(Debug)]
struct Living {
    group: Arc<Group>,
    members: usize,
}

/// Groups that came and went since this was asked for last.
#[derive(Debug, Default)]
pub(super) struct Changes {
    pub(super) come: BTreeSet<GroupId>,
    pub(super) gone: BTreeSet<GroupId>,
}

impl Traits {
    /// A connection is handed over where it is opened: at an endpoint of this node.
    pub(super) fn inspection(&self, direction: Direction) -> Inspection {
        match direction {
            Direction::Egress => Inspection::Possible,
            Direction::Ingress => self.inspection,
        }
    }
}

impl Groups {
    /// Puts an identity, new or not, into the group that it belongs to.
    pub(super) fn place(&mut self, identity: &Arc<Identity>, terms: Vec<TermId>, traits: Traits) {
        let group = self.id_of(Group { terms, traits });
        self.move_to(identity, group);
    }

    /// Of a known identity other things hold now; who speaks of it is the same.
    pub(super) fn change(&mut self, identity: &Arc<Identity>, traits: Traits) {
        let group = self.peers.get(&identity.id).and_then(|peer| self.groups.get(&peer.group));
        let terms = group.map(|living| living.group.terms.clone()).unwrap_or_default();
        self.place(identity, terms, traits);
    }

    pub(super) fn remove(&mut self, id: IdentityId) {
        if let Some(peer) = self.peers.remove(&id) {
            self.leave(peer.group);
        }
    }

    /// A term, higher than all before, covers these.
    pub(super) fn split(&mut self, term: TermId, covered: &[IdentityId]) {
        let mut halves: HashMap<GroupId, GroupId> = HashMap::new();
        for id in covered {
            let Some(peer) = self.peers.get(id).cloned() else { continue };
            let half = match halves.get(&peer.group) {
                Some(half) => *half,
                None => {
                    let Some(living) = self.groups.get(&peer.group) else { continue };
                    let mut terms = living.group.terms.clone();
                    terms.push(term);
                    let half = self.id_of(Group { terms, traits: living.group.traits.clone() });
                    let _new = halves.insert(peer.group, half);
                    half
                }
            };
            self.move_to(&peer.identity, half);
        }
    }

    pub(super) fn peers(&self) -> OrdMap<IdentityId, KnownPeer> {
        self.peers.clone()
    }

    pub(super) fn get(&self, id: GroupId) -> Option<&Group> {
        self.groups.get(&id).map(|living| &*living.group)
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = GroupId> {
        self.groups.keys().copied()
    }

    pub(super) fn take_changes(&mut self) -> Changes {
        core::mem::take(&mut self.changes)
    }

    fn id_of(&mut self, group: Group) -> GroupId {
        if let Some(id) = self.ids.get(&group) {
            return *id;
        }
        let (id, group) = (GroupId(self.next), Arc::new(group));
        self.next += 1;
        let _new = self.ids.insert(Arc::clone(&group), id);
        let _new = self.groups.insert(id, Living { group, members: 0 });
        let _new = self.changes.come.insert(id);
        id
    }

    fn move_to(&mut self, identity: &Arc<Identity>, group: GroupId) {
        // First in, then out: a group that it does not leave does not end.
        if let Some(living) = self.groups.get_mut(&group) {
            living.members += 1;
        }
        let peer = KnownPeer { identity: Arc::clone(identity), group };
        if let Some(before) = self.peers.insert(identity.id, peer) {
            self.leave(before.group);
        }
    }

    fn leave(&mut self, id: GroupId) {
        let Some(living) = self.groups.get_mut(&id) else { return };
        living.members = living.members.saturating_sub(1);
        if living.members > 0 {
            return;
        }
        if let Some(living) = self.groups.remove(&id) {
            let _id = self.ids.remove(&living.group);
        }
        if !self.changes.come.remove(&id) {
            let _new = self.changes.gone.insert(id);
        }
    }
}
