//! L4 records as they leave the daemon; those of sessions know it themselves.

use super::l4::L4Record;
use policy_model::Snapshot;
use proxy_core::api::{FlowParty, FlowView, direction_name, rfc3339};
use std::net::SocketAddr;

pub(crate) fn of_l4(record: &L4Record, snapshot: &Snapshot) -> FlowView {
    let party =
        |address: SocketAddr| FlowParty::new(address, Some(snapshot.identity_of(address.ip())), snapshot);
    let (mut source, mut destination) = (party(record.source), party(record.destination));
    if let Some(judged) = &record.judged {
        // A forged source would name its victim.
        source.endpoint = judged.sender.and_then(|id| endpoint_name(id, snapshot));
        source = judged_as(source, judged.source_identity, snapshot);
        destination = judged_as(destination, judged.destination_identity, snapshot);
    }
    FlowView {
        time: rfc3339(record.unix_ns),
        kind: "l4".into(),
        direction: direction_name(record.direction).into(),
        verdict: record.outcome.verdict().into(),
        reason: record.outcome.reason().map(Into::into),
        revision: record.revision,
        rule: record.rule.as_ref().map(ToString::to_string),
        source,
        destination,
        protocol: protocol(record.protocol),
        count: record.count,
        ..FlowView::default()
    }
}

fn endpoint_name(id: u16, snapshot: &Snapshot) -> Option<String> {
    let endpoint = snapshot.endpoints().iter().find(|endpoint| endpoint.id == id)?;
    Some(format!("{}/{}", endpoint.inputs.namespace, endpoint.inputs.name))
}

/// The identity that decided; what the address means by now may differ.
fn judged_as(mut party: FlowParty, identity: u32, snapshot: &Snapshot) -> FlowParty {
    if identity != party.identity {
        let known = snapshot.identities().find(|known| known.id.0 == identity);
        party.identity = identity;
        party.labels =
            known.map_or_else(Vec::new, |known| known.labels.iter().map(ToString::to_string).collect());
    }
    party
}

fn protocol(number: u8) -> String {
    match number {
        1 => "ICMP".into(),
        6 => "TCP".into(),
        17 => "UDP".into(),
        58 => "ICMPv6".into(),
        132 => "SCTP".into(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flows::{Judged, L4Outcome};
    use policy_model::inputs::{EndpointInputs, NodeInputs};
    use policy_model::labels::Label;
    use policy_model::snapshot::Direction;
    use policy_model::{Inputs, cidr::Prefix, identity::Numbers};

    fn endpoint(name: &str, address: &str) -> EndpointInputs {
        EndpointInputs {
            name: name.into(),
            namespace: "default".into(),
            interface: None,
            addresses: vec![address.parse().unwrap()],
            labels: [Label::new("k8s", "name", name)].into_iter().collect(),
            named_ports: Default::default(),
        }
    }

    fn snapshot() -> Snapshot {
        let inputs = Inputs {
            node: NodeInputs {
                name: "n".into(),
                pod_networks: vec![Prefix::new("10.0.0.0".parse().unwrap(), 8).unwrap()],
                addresses: Vec::new(),
                allow_localhost: true,
            },
            endpoints: vec![endpoint("victim", "10.0.0.1"), endpoint("evil", "10.0.0.2")],
            peers: Vec::new(),
            policies: Vec::new(),
        };
        policy_model::resolve(&inputs, &mut Numbers::default(), 1).0
    }

    /// A packet that bears the victim's address: whom its record names.
    #[track_caller]
    fn check(sender: Option<&str>, expect: Option<&str>) {
        let snapshot = snapshot();
        let by_name =
            |name: &str| snapshot.endpoints().iter().find(|endpoint| &*endpoint.inputs.name == name).unwrap();
        let sender = sender.map(by_name);
        let view = of_l4(
            &L4Record {
                unix_ns: 0,
                source: "10.0.0.1:9".parse().unwrap(),
                destination: "10.0.0.2:53".parse().unwrap(),
                judged: Some(Judged {
                    sender: sender.map(|endpoint| endpoint.id),
                    source_identity: sender.map_or(0, |endpoint| endpoint.identity.id.0),
                    destination_identity: by_name("evil").identity.id.0,
                }),
                protocol: 17,
                direction: Direction::Egress,
                outcome: L4Outcome::Dropped("spoofed_source"),
                rule: None,
                revision: 1,
                count: 1,
            },
            &snapshot,
        );
        assert_eq!(view.source.endpoint.as_deref(), expect);
        assert_eq!(view.source.identity, sender.map_or(0, |endpoint| endpoint.identity.id.0));
        assert_eq!((&*view.source.address, view.source.port), ("10.0.0.1", 9));
        assert_eq!(view.destination.endpoint.as_deref(), Some("default/evil"));
    }

    #[test]
    fn a_packet_is_its_senders_whatever_source_it_bears() {
        check(Some("evil"), Some("default/evil"));
        check(Some("victim"), Some("default/victim"));
        check(None, None);
    }
}
