//! Which peers of a rule cover an identity.
//!
//! INVARIANT: a selector without a reserved key covers pods only, whatever its expressions say.
//! INVARIANT: somebody unknown is covered by an allow only if the allow covers everybody, and by every deny of somebody.

use crate::cidr::Prefix;
use crate::identity::{Identity, IdentityId};
use crate::rule::{Entity, Peer, Peers};
use crate::selector::{RESERVED, SelectorKey};

/// An identity, as the peers of a rule look at it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate<'a> {
    pub(crate) identity: &'a Identity,
    pub(crate) kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Kind {
    /// Addresses outside, as policy names them.
    Cidr(Prefix),
    Pod,
    Reserved,
    Unknown,
}

impl Kind {
    /// `prefix`: which prefix the identity was made for, if it was made for one.
    pub(crate) fn new(id: IdentityId, prefix: Option<Prefix>) -> Self {
        match prefix {
            _ if id == IdentityId::UNKNOWN => Self::Unknown,
            Some(prefix) => Self::Cidr(prefix),
            None if id.is_reserved() => Self::Reserved,
            None => Self::Pod,
        }
    }
}

impl Candidate<'_> {
    pub(crate) fn allowed_by(&self, peers: &Peers) -> bool {
        match peers {
            Peers::Any => true,
            Peers::Of(peers) => peers.iter().any(|peer| self.is(peer)),
        }
    }

    pub(crate) fn denied_by(&self, peers: &Peers) -> bool {
        match peers {
            Peers::Of(peers) if self.kind == Kind::Unknown => {
                peers.iter().any(|peer| *peer != Peer::Entity(Entity::None))
            }
            Peers::Any | Peers::Of(_) => self.allowed_by(peers),
        }
    }

    fn is(&self, peer: &Peer) -> bool {
        match (peer, self.kind) {
            (Peer::Entity(Entity::All), _) => true,
            (_, Kind::Unknown) => false,
            (Peer::Entity(entity), _) => self.is_entity(*entity),
            (Peer::Cidr { prefix, except }, Kind::Cidr(own)) => {
                prefix.covers(&own) && !except.iter().any(|except| except.covers(&own))
            }
            (Peer::Cidr { .. }, Kind::Pod | Kind::Reserved) => false,
            (Peer::Endpoints(selector), _) => {
                let names_cluster = || selector.requirements.iter().any(|r| is_cluster(r.key()));
                let is_meant = || self.is_pod() && (self.is_local() || names_cluster());
                selector.matches(&self.identity.labels) && (selector.names_reserved() || is_meant())
            }
        }
    }

    fn is_entity(&self, entity: Entity) -> bool {
        let reserved =
            |keys: &[&str]| keys.iter().any(|key| self.identity.labels.get("reserved", key).is_some());
        match entity {
            Entity::All => true,
            Entity::Cluster => (self.kind == Kind::Pod && self.is_local()) || reserved(CLUSTER),
            Entity::Health => reserved(&["health"]),
            Entity::Host => reserved(&["host"]),
            Entity::Ingress => reserved(&["ingress"]),
            Entity::Init => reserved(&["init"]),
            Entity::KubeApiserver => reserved(&["kube-apiserver"]),
            Entity::None => false,
            Entity::RemoteNode => reserved(&["remote-node"]),
            Entity::Unmanaged => reserved(&["unmanaged"]),
            Entity::World => reserved(&["world", "world-ipv4", "world-ipv6"]),
            Entity::WorldIpv4 => reserved(&["world-ipv4"]),
            Entity::WorldIpv6 => reserved(&["world-ipv6"]),
        }
    }

    /// An endpoint with a reserved label (`reserved:init`: its own labels are not known yet) is none, whatever else is
    /// known of it.
    fn is_pod(&self) -> bool {
        let reserved = || self.identity.labels.iter().any(|label| *label.source == *RESERVED);
        self.kind == Kind::Pod && !reserved()
    }

    /// Pods of another cluster of a mesh carry its name; a pod without one is ours. A selector that names no cluster
    /// means ours.
    fn is_local(&self) -> bool {
        let cluster = self.identity.labels.get("k8s", CLUSTER_KEY);
        cluster.is_none_or(|name| name == LOCAL_CLUSTER)
    }
}

fn is_cluster(key: &SelectorKey) -> bool {
    *key.key == *CLUSTER_KEY && matches!(&*key.source, "any" | "k8s")
}

const CLUSTER_KEY: &str = "io.cilium.k8s.policy.cluster";

const CLUSTER: &[&str] = &["health", "host", "ingress", "init", "kube-apiserver", "remote-node", "unmanaged"];

/// The name of a cluster that was given none.
const LOCAL_CLUSTER: &str = "default";
