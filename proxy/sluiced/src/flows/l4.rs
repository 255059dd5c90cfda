//! Verdicts that were reached without the proxy: by the kernel, or when the publisher cut a direct flow.

use policy_model::identity::Party;
use policy_model::rule::Protocol;
use policy_model::snapshot::Direction;
use policy_model::{Directory, IdentityId, RuleRef};
use std::net::SocketAddr;
use std::sync::Arc;

/// Equal events, counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct L4Record {
    pub(crate) unix_ns: u64,
    pub(crate) source: L4End,
    pub(crate) destination: L4End,
    pub(crate) protocol: Protocol,
    pub(crate) direction: Direction,
    pub(crate) outcome: L4Outcome,
    pub(crate) rule: Option<RuleRef>,
    /// 0: not known.
    pub(crate) revision: u64,
    pub(crate) count: u64,
}

/// An address, and who was behind it when the flow was judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct L4End {
    pub(crate) address: SocketAddr,
    pub(crate) party: Arc<Party>,
}

impl L4End {
    /// Where a packet came from: the endpoint with this number, whatever source it bears; a forged source would name its victim.
    pub(crate) fn sender(
        address: SocketAddr,
        sender: Option<u16>,
        judged_as: IdentityId,
        directory: &Directory,
    ) -> Self {
        let party = match sender.map(|id| directory.endpoint(id)) {
            Some(Some(endpoint)) => as_judged(endpoint, judged_as, directory),
            Some(None) => Arc::new(Party::nameless(directory.identity(judged_as))),
            None => {
                let at = directory.party_at(address.ip());
                let outside = !directory.is_local(address.ip()) && at.identity.id == judged_as;
                let nameless = || Arc::new(Party::nameless(directory.identity(judged_as)));
                if outside { Arc::clone(at) } else { nameless() }
            }
        };
        Self { address, party }
    }

    /// Where a packet went to.
    pub(crate) fn receiver(address: SocketAddr, judged_as: IdentityId, directory: &Directory) -> Self {
        Self { address, party: as_judged(directory.party_at(address.ip()), judged_as, directory) }
    }

    /// One end of a flow that `now` does not allow. An endpoint that is gone, which may be why, is named as it was `before`.
    pub(crate) fn cut(address: SocketAddr, now: &Directory, before: Option<&Directory>) -> Self {
        let party = now.party_at(address.ip());
        let before = before.map(|before| before.party_at(address.ip()));
        let before = before.filter(|before| before.endpoint.is_some() && party.endpoint.is_none());
        Self { address, party: Arc::clone(before.unwrap_or(party)) }
    }

    #[cfg(test)]
    pub(crate) fn unknown(address: &str) -> Self {
        let address: SocketAddr = address.parse().unwrap();
        Self { address, party: Arc::clone(Directory::default().party_at(address.ip())) }
    }
}

/// With the identity that decided; what the address means may differ in the midst of a change.
fn as_judged(party: &Arc<Party>, identity: IdentityId, directory: &Directory) -> Arc<Party> {
    if party.identity.id == identity {
        return Arc::clone(party);
    }
    Arc::new(Party { identity: directory.identity(identity), endpoint: party.endpoint.clone() })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum L4Outcome {
    /// A direct connection began.
    Allowed,
    /// A direct flow was cut by a change of policy.
    Cut(&'static str),
    Dropped(&'static str),
}

impl L4Outcome {
    pub(crate) fn verdict(self) -> &'static str {
        match self {
            Self::Allowed => "forwarded",
            Self::Cut(_) => "ended",
            Self::Dropped(_) => "dropped",
        }
    }

    pub(crate) fn reason(self) -> Option<&'static str> {
        match self {
            Self::Allowed => None,
            Self::Cut(reason) | Self::Dropped(reason) => Some(reason),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use policy_model::Inputs;
    use policy_model::identity::Numbers;
    use policy_model::inputs::{EndpointInputs, NodeInputs};
    use policy_model::labels::Label;

    /// What endpoints there are, each with a label of its name.
    fn directory(endpoints: &[(&str, &str)]) -> Arc<Directory> {
        let endpoint = |(name, address): &(&str, &str)| EndpointInputs {
            name: (*name).into(),
            namespace: "default".into(),
            interface: None,
            addresses: vec![address.parse().unwrap()],
            labels: [Label::new("k8s", "name", name)].into_iter().collect(),
            named_ports: Default::default(),
        };
        let node = NodeInputs { pod_networks: vec!["10.0.0.0/8".parse().unwrap()], ..NodeInputs::default() };
        let endpoints = endpoints.iter().map(endpoint).collect();
        let inputs = Inputs { node, endpoints, peers: Vec::new(), policies: Vec::new() };
        Arc::clone(policy_model::resolve(&inputs, &mut Numbers::default(), 1).0.directory())
    }

    fn named(end: &L4End) -> (Option<&str>, IdentityId) {
        (end.party.endpoint.as_ref().map(|endpoint| &*endpoint.name), end.party.identity.id)
    }

    const BOTH: &[(&str, &str)] = &[("victim", "10.0.0.1"), ("evil", "10.0.0.2")];

    /// A packet that bears the victim's address: whom its record names.
    #[track_caller]
    fn check(sender: Option<&str>, expect: Option<&str>) {
        let directory = directory(BOTH);
        let by_name = |name: &str| {
            (1..=u16::MAX).find(|id| {
                let party = directory.endpoint(*id).and_then(|party| party.endpoint.as_ref());
                party.is_some_and(|endpoint| &*endpoint.name == name)
            })
        };
        let id = sender.and_then(by_name);
        let identity = id.map_or(IdentityId::UNKNOWN, |id| directory.endpoint(id).unwrap().identity.id);
        let source = L4End::sender("10.0.0.1:9".parse().unwrap(), id, identity, &directory);
        assert_eq!(named(&source), (expect, identity));
        assert_eq!(source.address.to_string(), "10.0.0.1:9");
    }

    #[test]
    fn a_packet_is_its_senders_whatever_source_it_bears() {
        check(Some("evil"), Some("evil"));
        check(Some("victim"), Some("victim"));
        check(None, None);
    }

    #[test]
    fn the_identity_is_the_one_that_decided() {
        let directory = directory(BOTH);
        let judged = directory.party_at([10, 0, 0, 2].into()).identity.id;
        let receiver = L4End::receiver("10.0.0.1:53".parse().unwrap(), judged, &directory);
        assert_eq!(named(&receiver), (Some("victim"), judged));
        assert_eq!(receiver.party.identity.labels.iter().next().unwrap().to_string(), "k8s:name=evil");
        let unknown = L4End::receiver("10.0.0.1:53".parse().unwrap(), IdentityId(77_777), &directory);
        assert_eq!(
            (named(&unknown), unknown.party.identity.labels.iter().count()),
            ((Some("victim"), IdentityId(77_777)), 0)
        );
    }

    #[test]
    fn an_end_that_is_gone_is_named_as_it_was() {
        let (before, now) = (directory(BOTH), directory(&BOTH[1..]));
        let cut = |before| L4End::cut("10.0.0.1:9".parse().unwrap(), &now, before);
        assert_eq!(named(&cut(Some(&before))).0, Some("victim"));
        assert_eq!(named(&cut(None)), (None, IdentityId::UNKNOWN));
        // Who has the address now is who is cut.
        let renamed = directory(&[("other", "10.0.0.1")]);
        let end = L4End::cut("10.0.0.1:9".parse().unwrap(), &renamed, Some(&before));
        assert_eq!(named(&end).0, Some("other"));
    }
}
