//! One immutable, fully resolved revision of policy, and the questions that it answers.
//!
//! Questions allocate nothing: answers clone `Arc`s. Everything that costs is paid in `resolve`.

use crate::addresses::Owner;
use crate::cidr::Prefix;
use crate::directory::Directory;
use crate::http::{Effort, Request};
use crate::identity::{Identity, IdentityId, Party};
use crate::inputs::EndpointInputs;
use crate::ports::{Class, Decision, PortRange};
use crate::rule::{Policy, Protocol};
use crate::verdict::{Denial, DenyReason, Permit, RuleRef, Verdict};
use core::net::IpAddr;
use std::sync::Arc;

pub(crate) use crate::directory::{GroupId, KnownPeer};
pub use crate::ports::{PortProtocol, PortRules};

#[derive(Debug)]
pub struct Snapshot {
    pub(crate) revision: u64,
    pub(crate) endpoints: Vec<Arc<Endpoint>>,
    pub(crate) policies: Arc<[Arc<Policy>]>,
    pub(crate) directory: Arc<Directory>,
}

/// A connection, or a datagram's five-tuple without the ephemeral port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Flow {
    pub source: IpAddr,
    pub destination: IpAddr,
    /// Destination port; the type for ICMP; 0 where the protocol has none.
    pub port: u16,
    pub protocol: Protocol,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    Egress,
    Ingress,
}

/// A workload of this node with its policy.
#[derive(Debug)]
pub struct Endpoint {
    /// Stable while the endpoint lives: derived from its name. 1..=65535.
    pub id: u16,
    pub inputs: EndpointInputs,
    pub identity: Arc<Identity>,
    /// Its name, with that identity.
    pub(crate) party: Arc<Party>,
    pub ingress: Arc<DirectionPolicy>,
    pub egress: Arc<DirectionPolicy>,
}

/// The settled policy of one direction of an endpoint. Endpoints with equal policy share one `Arc`.
#[derive(Debug, Default, PartialEq)]
pub struct DirectionPolicy {
    pub(crate) enforced: bool,
    /// Sorted by group; those without a class are left out.
    pub(crate) peers: Vec<(GroupId, Arc<[Class]>)>,
    /// Sorted.
    pub(crate) named: Vec<PortRange>,
}

/// One class of ports of one peer identity. The classes of an identity are disjoint; what no class covers is denied.
#[derive(Clone, Debug)]
pub struct PortClass {
    pub identity: IdentityId,
    /// `None`: every protocol that has no class of its own (then `ports` is all of them). Where there is such a class
    /// beside others, those others cover all ports of their protocol.
    pub protocol: Option<Protocol>,
    /// Inclusive.
    pub ports: (u16, u16),
    /// A denial here carries revision 0: a policy may serve many revisions.
    pub verdict: PortVerdict,
}

/// What holds for a class of ports, with the rule that decided.
#[derive(Clone, Debug)]
pub enum PortVerdict {
    Allow(Option<RuleRef>),
    Deny(Denial),
    /// Handed to the proxy, which judges by these rules.
    Inspect(Arc<PortRules>),
}

impl DirectionPolicy {
    /// `false`: no policy selects the endpoint in this direction, everything is allowed.
    pub fn enforced(&self) -> bool {
        self.enforced
    }

    /// Every known identity's classes, sorted by (identity, protocol, ports); for the kernel's plan. `snapshot`: one that this
    /// policy is part of. Empty where nothing is enforced.
    pub fn classes<'a>(&'a self, snapshot: &'a Snapshot) -> Box<dyn Iterator<Item = PortClass> + 'a> {
        let known = snapshot.directory.peers.iter().filter(|_| !self.peers.is_empty());
        Box::new(known.flat_map(|(identity, peer)| {
            self.classes_of(peer.group).iter().map(|class| PortClass {
                identity: *identity,
                protocol: class.protocol,
                ports: class.ports,
                verdict: class.decision.verdict(0),
            })
        }))
    }

    fn classes_of(&self, group: GroupId) -> &[Class] {
        let place = self.peers.binary_search_by_key(&group, |(group, _)| *group).ok();
        place.and_then(|place| self.peers.get(place)).map_or(&[], |(_, classes)| classes)
    }

    /// The ports (of a protocol, inclusive) that rules of this direction name, whomever they are about: where the endpoint
    /// serves, or is served. A rule without ports, or of all of them, names none. Sorted.
    pub fn named_ports(&self) -> impl Iterator<Item = (Protocol, (u16, u16))> {
        self.named.iter().copied()
    }

    /// What holds between this endpoint and a peer of this identity. `snapshot`: one that this policy is part of.
    pub fn verdict(
        &self,
        snapshot: &Snapshot,
        peer: IdentityId,
        protocol: Protocol,
        port: u16,
    ) -> PortVerdict {
        if !self.enforced {
            return PortVerdict::Allow(None);
        }
        let classes =
            snapshot.directory.peers.get(&peer).map_or(&[][..], |known| self.classes_of(known.group));
        match Class::find(classes, protocol, port) {
            Some(decision) => decision.verdict(snapshot.revision),
            None if peer == IdentityId::UNKNOWN => deny(DenyReason::UnknownPeer, snapshot.revision, None),
            None => deny(DenyReason::NoRule, snapshot.revision, None),
        }
    }
}

impl Decision {
    fn verdict(&self, revision: u64) -> PortVerdict {
        match self {
            Self::Allow(rule) => PortVerdict::Allow(Some(rule.clone())),
            Self::Deny(rule) => deny(DenyReason::DenyRule, revision, Some(rule.clone())),
            Self::Inspect(rules) => PortVerdict::Inspect(Arc::clone(rules)),
        }
    }
}

fn deny(reason: DenyReason, revision: u64, rule: Option<RuleRef>) -> PortVerdict {
    PortVerdict::Deny(Denial { reason, revision, rule })
}

/// The answer for one connection: good for the snapshot that gave it.
#[derive(Clone, Debug)]
pub struct Connection {
    pub revision: u64,
    pub source: Arc<Party>,
    pub destination: Arc<Party>,
    /// Egress policy of the source where it is local (else allowed), ingress policy of the destination likewise.
    pub egress: PortVerdict,
    pub ingress: PortVerdict,
}

/// What the two halves of a [`Connection`] come to.
#[must_use]
#[derive(Clone, Debug)]
pub enum Admission {
    Allow(Permit),
    Deny(Direction, Denial),
    /// Requests must be judged one by one with [`Connection::http`].
    Inspect,
}

impl Connection {
    /// No bytes are of two protocols: where each end's policy names another one, the connection is denied.
    fn agree(&mut self) {
        let (PortVerdict::Inspect(egress), PortVerdict::Inspect(ingress)) = (&self.egress, &self.ingress)
        else {
            return;
        };
        if let (Some(one), Some(other)) = (egress.protocol(), ingress.protocol())
            && one != other
        {
            self.ingress = deny(DenyReason::ProtocolConflict, self.revision, ingress.first().cloned());
        }
    }

    /// What the connection speaks, where policy looks into it. `None`: no end's policy tells.
    pub fn protocol(&self) -> Option<PortProtocol> {
        [&self.egress, &self.ingress].into_iter().find_map(|half| match half {
            PortVerdict::Allow(_) | PortVerdict::Deny(_) => None,
            PortVerdict::Inspect(rules) => rules.protocol(),
        })
    }

    /// Deny beats inspect beats allow. The direction is the one that decided.
    pub fn admission(&self) -> Admission {
        use PortVerdict as Port;
        match (&self.egress, &self.ingress) {
            (Port::Deny(denial), _) => Admission::Deny(Direction::Egress, denial.clone()),
            (_, Port::Deny(denial)) => Admission::Deny(Direction::Ingress, denial.clone()),
            (Port::Inspect(_), _) | (_, Port::Inspect(_)) => Admission::Inspect,
            (Port::Allow(egress), Port::Allow(ingress)) => Admission::Allow(Permit {
                revision: self.revision,
                rule: ingress.as_ref().or(egress.as_ref()).cloned(),
            }),
        }
    }

    /// What keeps a connection from passing uninspected: the direction that decided, and its rule where there is one (of
    /// those that ask for inspection the first). `None`: nothing does.
    pub fn restriction(&self) -> Option<(Direction, Option<RuleRef>)> {
        use PortVerdict as Port;
        match (self.admission(), &self.egress, &self.ingress) {
            (Admission::Allow(_permit), _, _) => None,
            (Admission::Deny(direction, denial), _, _) => Some((direction, denial.rule)),
            (Admission::Inspect, _, Port::Inspect(rules)) => {
                Some((Direction::Ingress, rules.first().cloned()))
            }
            (Admission::Inspect, Port::Inspect(rules), _) => {
                Some((Direction::Egress, rules.first().cloned()))
            }
            (Admission::Inspect, _, _) => None,
        }
    }

    /// Whether what is allowed here may depend on a header of this name, in any spelling (case, and one character for all but
    /// letters and digits). `cut`: of one that begins with it.
    pub fn asks_for_header(&self, name: &[u8], cut: bool) -> bool {
        let asks = |half: &PortVerdict| match half {
            PortVerdict::Inspect(rules) => rules.asks_for_header(name, cut),
            PortVerdict::Allow(_) | PortVerdict::Deny(_) => false,
        };
        asks(&self.egress) || asks(&self.ingress)
    }

    /// Judges one reading of one request: both halves must allow. Allocates nothing. All readings share the efforts.
    ///
    /// The direction of an allowed request is that of the half that looked deepest; between equals the destination's
    /// ingress, which had the last word.
    pub fn http(&self, request: &Request<'_>, efforts: &Efforts) -> (Direction, Verdict) {
        let egress = self.half(&self.egress, request, &efforts.egress);
        let (direction, rule) = match (egress, self.half(&self.ingress, request, &efforts.ingress)) {
            (DirectionVerdict::Deny(denial), _) => return (Direction::Egress, Verdict::Deny(denial)),
            (_, DirectionVerdict::Deny(denial)) => return (Direction::Ingress, Verdict::Deny(denial)),
            (DirectionVerdict::Judged(rule), DirectionVerdict::Unseen(_)) => (Direction::Egress, Some(rule)),
            (DirectionVerdict::Unseen(Some(rule)), DirectionVerdict::Unseen(None)) => {
                (Direction::Egress, Some(rule))
            }
            (_, DirectionVerdict::Judged(rule)) => (Direction::Ingress, Some(rule)),
            (_, DirectionVerdict::Unseen(rule)) => (Direction::Ingress, rule),
        };
        (direction, Verdict::Allow(Permit { revision: self.revision, rule: rule.cloned() }))
    }

    fn half<'a>(
        &self,
        half: &'a PortVerdict,
        request: &Request<'_>,
        effort: &Effort,
    ) -> DirectionVerdict<'a> {
        match half {
            PortVerdict::Allow(rule) => DirectionVerdict::Unseen(rule.as_ref()),
            PortVerdict::Deny(denial) => DirectionVerdict::Deny(denial.clone()),
            PortVerdict::Inspect(rules) => match rules.judge(request, effort) {
                Ok(rule) => DirectionVerdict::Judged(rule),
                Err((reason, rule)) => {
                    DirectionVerdict::Deny(Denial { reason, revision: self.revision, rule: rule.cloned() })
                }
            },
        }
    }
}

/// What judging one request may take.
#[derive(Debug, Default)]
pub struct Efforts {
    egress: Effort,
    ingress: Effort,
}

impl Efforts {
    /// Of a request that can be read in so many ways.
    pub fn of_readings(count: usize) -> Self {
        Self { egress: Effort::of_readings(count), ingress: Effort::of_readings(count) }
    }
}

/// One direction's word on one request.
enum DirectionVerdict<'a> {
    Deny(Denial),
    Judged(&'a RuleRef),
    Unseen(Option<&'a RuleRef>),
}

impl Snapshot {
    pub fn revision(&self) -> u64 {
        self.revision
    }

    pub fn endpoints(&self) -> &[Arc<Endpoint>] {
        &self.endpoints
    }

    /// Who is who, without policy.
    pub fn directory(&self) -> &Arc<Directory> {
        &self.directory
    }

    /// The local endpoint that owns this address.
    pub fn endpoint_at(&self, address: IpAddr) -> Option<&Arc<Endpoint>> {
        self.endpoint(self.directory.addresses.owner(address))
    }

    /// Longest prefix; outside of every one: world, where the pod networks are known. IPv4-mapped IPv6 addresses are unknown.
    pub fn identity_of(&self, address: IpAddr) -> &Arc<Identity> {
        &self.directory.party_at(address).identity
    }

    /// What the kernel's ipcache must hold; the same table that `identity_of` reads.
    pub fn ipcache(&self) -> Box<dyn Iterator<Item = (Prefix, IdentityId)> + '_> {
        Box::new(self.directory.addresses.prefixes().map(|(prefix, owner)| (prefix, owner.party.identity.id)))
    }

    /// Every identity in use, sorted by number.
    pub fn identities(&self) -> Box<dyn Iterator<Item = &Arc<Identity>> + '_> {
        Box::new(self.directory.peers.values().map(|peer| &peer.identity))
    }

    pub fn policies(&self) -> &[Arc<Policy>] {
        &self.policies
    }

    pub fn connection(&self, flow: &Flow) -> Connection {
        let owner = |address| self.directory.addresses.owner(address);
        let (source, destination) = (owner(flow.source), owner(flow.destination));
        let verdict = |policy: &DirectionPolicy, peer: &Owner| {
            policy.verdict(self, peer.party.identity.id, flow.protocol, flow.port)
        };
        let egress = self.endpoint(source).map(|endpoint| verdict(&endpoint.egress, destination));
        let ingress = self.endpoint(destination).map(|endpoint| verdict(&endpoint.ingress, source));
        let mut connection = Connection {
            revision: self.revision,
            source: Arc::clone(&source.party),
            destination: Arc::clone(&destination.party),
            egress: egress.unwrap_or(PortVerdict::Allow(None)),
            ingress: ingress.unwrap_or(PortVerdict::Allow(None)),
        };
        connection.agree();
        connection
    }

    fn endpoint(&self, owner: &Owner) -> Option<&Arc<Endpoint>> {
        owner.endpoint.and_then(|index| self.endpoints.get(index))
    }
}

/// Revision 0: it has no endpoints, so it enforces nothing; the shell never serves from it.
impl Default for Snapshot {
    fn default() -> Self {
        Self { revision: 0, endpoints: Vec::new(), policies: Arc::default(), directory: Arc::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resolve::tests::fixture::{DEATHSTAR, TIEFIGHTER, flow, parsed};
    use crate::rule::{ObjectKind, ObjectName};

    const HTTP: &str = r#"{endpointSelector: {matchLabels: {class: deathstar}}, ingress: [{
        toPorts: [{ports: [{port: "80", protocol: TCP}], rules: {http: [{path: /x}]}}]}]}"#;

    /// What the source's policy names, against HTTP at the destination.
    #[track_caller]
    fn check(egress: PortVerdict, expect: &str, protocol: Option<PortProtocol>) {
        let mut connection = parsed(&[HTTP]).connection(&flow(TIEFIGHTER, DEATHSTAR, 80));
        connection.egress = egress;
        connection.agree();
        assert_eq!(connection.protocol(), protocol);
        let rule = |rule: Option<RuleRef>| rule.map(|rule| rule.to_string()).unwrap_or_default();
        let said = match connection.admission() {
            Admission::Allow(_permit) => "allow".to_owned(),
            Admission::Deny(direction, denial) => {
                format!("{direction:?} {} {}", denial.reason.name(), rule(denial.rule))
            }
            Admission::Inspect => "inspect".to_owned(),
        };
        assert_eq!(said, expect);
        let kept = connection.restriction().map(|(direction, _)| direction);
        assert_eq!(kept, Some(Direction::Ingress), "and no uninspected flow goes on");
    }

    fn egress_rule() -> RuleRef {
        let kind = ObjectKind::CiliumNetworkPolicy;
        RuleRef::new(ObjectName { kind, namespace: None, name: "out".into() }, "spec")
    }

    #[test]
    fn ends_that_name_different_protocols_have_no_connection() {
        let lines = PortVerdict::Inspect(Arc::new(PortRules::Line(egress_rule())));
        let rule = "default/p0: spec.ingress[0].toPorts[0].rules.http[0]";
        check(lines, &format!("Ingress protocol_conflict {rule}"), Some(PortProtocol::Line));
    }

    #[test]
    fn ends_that_name_one_protocol_or_none_do() {
        let http = parsed(&[HTTP]).connection(&flow(TIEFIGHTER, DEATHSTAR, 80)).ingress;
        check(http, "inspect", Some(PortProtocol::Http));
        check(PortVerdict::Allow(None), "inspect", Some(PortProtocol::Http));
        // What can't be judged names none, and denies every request.
        let unjudgeable = PortVerdict::Inspect(Arc::new(PortRules::Unjudgeable(egress_rule())));
        check(unjudgeable, "inspect", Some(PortProtocol::Http));
    }
}
