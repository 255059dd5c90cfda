//! Snapshots against a reference that knows no identities, no classes and no sharing: it looks at every rule, for every
//! question, and at addresses as they are.

use super::*;
use crate::inputs::NodeInputs;
use crate::selector::Selector;
use crate::snapshot::{Direction, Flow, PortRules, PortVerdict};
use crate::verdict::DenyReason;
use core::net::IpAddr;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn same_as_looking_at_every_rule(inputs in any_inputs()) {
        let (snapshot, _) = resolve(None, &inputs, &mut Numbers::default(), 1);
        compare(&snapshot, &inputs);
        disjoint(&snapshot);
    }

    #[test]
    fn a_previous_snapshot_changes_no_answer(before in any_inputs(), policies in vec(any_policy(), 0..2), keep in 0_usize..4) {
        let mut numbers = Numbers::default();
        let (previous, _) = resolve(None, &before, &mut numbers, 1);
        let mut after = before.clone();
        after.policies.truncate(keep);
        after.policies.extend(policies.into_iter().map(Arc::new));
        let (fresh, said) = resolve(None, &after, &mut numbers.clone(), 2);
        let (shared, said_too) = resolve(Some(&previous), &after, &mut numbers, 2);
        prop_assert_eq!(said, said_too);
        compare(&shared, &after);
        prop_assert_eq!(fresh.ipcache().collect::<Vec<_>>(), shared.ipcache().collect::<Vec<_>>());
        let ids = |snapshot: &Snapshot| snapshot.endpoints().iter().map(|e| e.id).collect::<Vec<_>>();
        prop_assert_eq!(ids(&fresh), ids(&shared));
        let classes = |snapshot: &Snapshot| {
            let policies = snapshot.endpoints().iter().flat_map(|e| [&e.ingress, &e.egress].map(Arc::clone));
            policies.map(|p| p.classes().map(|c| (c.identity, c.protocol, c.ports)).collect()).collect::<Vec<Vec<_>>>()
        };
        prop_assert_eq!(classes(&fresh), classes(&shared));
    }
}

const PORTS: &[u16] = &[0, 78, 79, 80, 81, 85, 90, 95, 100, 8080, 65535];
const ADDRESSES: &[&str] = &[
    "10.0.0.1",
    "10.0.0.2",
    "10.0.0.3",
    "10.0.0.9",
    "192.168.0.1",
    "192.168.0.2",
    "172.16.0.1",
    "172.16.1.1",
    "8.8.8.8",
];
const PATHS: &[&str] = &["/a", "/b", "/c"];

/// Every question there is.
fn compare(snapshot: &Snapshot, inputs: &Inputs) {
    for source in ADDRESSES {
        for destination in ADDRESSES {
            for protocol in [Protocol::TCP, Protocol::UDP, Protocol::ICMP] {
                for port in PORTS {
                    let flow = Flow {
                        source: source.parse().unwrap(),
                        destination: destination.parse().unwrap(),
                        port: *port,
                        protocol,
                    };
                    let connection = snapshot.connection(&flow);
                    let expect = naive(inputs, Direction::Egress, flow.source, flow.destination, &flow);
                    assert_eq!(answer(&connection.egress), expect, "egress of {flow:?}");
                    let expect = naive(inputs, Direction::Ingress, flow.destination, flow.source, &flow);
                    assert_eq!(answer(&connection.ingress), expect, "ingress of {flow:?}");
                }
            }
        }
    }
}

/// Sorted, and no class reaches into another; where everything has a class, each protocol's own classes cover all ports.
fn disjoint(snapshot: &Snapshot) {
    for endpoint in snapshot.endpoints() {
        for policy in [&endpoint.ingress, &endpoint.egress] {
            let classes: Vec<_> = policy.classes().map(|c| (c.identity, c.protocol, c.ports)).collect();
            let mut covered = BTreeMap::new();
            for (identity, protocol, (first, last)) in &classes {
                assert!(first <= last);
                *covered.entry((*identity, *protocol)).or_insert(0) +=
                    u32::from(*last) - u32::from(*first) + 1;
            }
            for pair in classes.windows(2) {
                let (a, b) = (pair[0], pair[1]);
                assert!(
                    (a.0, a.1) < (b.0, b.1) || ((a.0, a.1) == (b.0, b.1) && a.2.1 < b.2.0),
                    "{a:?} {b:?}"
                );
            }
            for ((identity, _), ports) in &covered {
                assert!(!covered.contains_key(&(*identity, None)) || *ports == 65536, "{classes:?}");
            }
        }
    }
}

#[derive(Debug, PartialEq)]
enum Answer {
    Allow,
    Deny(DenyReason),
    /// Which of [`PATHS`] are allowed.
    Http(Vec<bool>),
    Unjudgeable,
}

fn answer(verdict: &PortVerdict) -> Answer {
    let rules = match verdict {
        PortVerdict::Allow(_) => return Answer::Allow,
        PortVerdict::Deny(denial) => return Answer::Deny(denial.reason),
        PortVerdict::Inspect(rules) => rules,
    };
    match &**rules {
        PortRules::Unjudgeable(_) => Answer::Unjudgeable,
        PortRules::Http(rules) => {
            Answer::Http(PATHS.iter().map(|path| rules.matching(&request("GET", path)).is_some()).collect())
        }
    }
}

fn naive(inputs: &Inputs, direction: Direction, subject: IpAddr, peer: IpAddr, flow: &Flow) -> Answer {
    let Some(subject) = endpoint_at(inputs, subject) else { return Answer::Allow };
    let section =
        |rule: &Rule| if direction == Direction::Egress { rule.egress.clone() } else { rule.ingress.clone() };
    let rules = inputs.policies.iter().flat_map(|policy| &policy.rules);
    let sections: Vec<Section> = rules
        .filter(|rule| matches!(&rule.subject, Subject::Endpoints(s) if s.matches(&subject.labels)))
        .map(section)
        .filter(|section| section.default_deny || !section.allow.is_empty() || !section.deny.is_empty())
        .collect();
    if sections.is_empty() {
        return Answer::Allow;
    }
    let named = if direction == Direction::Egress { endpoint_at(inputs, peer) } else { Some(subject) };
    let covers = |entry: &Entry, denies| covers_peer(inputs, &entry.peers, peer, denies);
    if sections.iter().flat_map(|s| &s.deny).any(|e| covers(e, true) && !words(e, flow, named).is_empty()) {
        return Answer::Deny(DenyReason::DenyRule);
    }
    let mut said: Vec<(bool, L7)> = Vec::new();
    for section in &sections {
        let entries = section.allow.iter().filter(|entry| covers(entry, false));
        said.extend(entries.flat_map(|e| words(e, flow, named)).map(|l7| (section.default_deny, l7)));
    }
    let localhost = direction == Direction::Ingress && inputs.node.allow_localhost && is_node(inputs, peer);
    if localhost || said.iter().any(|(_, l7)| *l7 == L7::None) {
        return Answer::Allow;
    }
    let open = sections.iter().all(|section| !section.default_deny);
    said.retain(|(denies, l7)| flow.protocol == Protocol::TCP && (*denies || *l7 != L7::Unjudgeable));
    if said.is_empty() && open {
        return Answer::Allow;
    }
    if said.is_empty() {
        let unknown =
            endpoint_at(inputs, peer).is_none() && in_pod_network(inputs, peer) && !is_node(inputs, peer);
        return Answer::Deny(if unknown { DenyReason::UnknownPeer } else { DenyReason::NoRule });
    }
    if said.iter().all(|(_, l7)| *l7 == L7::Unjudgeable) {
        return Answer::Unjudgeable;
    }
    let allows = |path: &&str| {
        said.iter().any(|(denies, l7)| match l7 {
            L7::Http(rules) => {
                !denies || rules.iter().any(|r| r.matches.path.as_deref().is_none_or(|p| p == *path))
            }
            L7::None | L7::Unjudgeable => false,
        })
    };
    Answer::Http(PATHS.iter().map(allows).collect())
}

/// What an entry says of the flow's port, once for every port rule that covers it.
fn words(entry: &Entry, flow: &Flow, named: Option<&EndpointInputs>) -> Vec<L7> {
    let rules = match &entry.ports {
        Ports::All => return vec![L7::None],
        Ports::Of(rules) => rules,
    };
    let number =
        |name: &str| named?.named_ports.get(name).filter(|(_, p)| *p == flow.protocol).map(|(n, _)| *n);
    let covers = |port: &PortMatch| {
        port.protocol == flow.protocol
            && match &port.port {
                Port::Range(first, last) => (*first..=*last).contains(&flow.port),
                Port::Named(name) => number(name) == Some(flow.port),
            }
    };
    rules.iter().filter(|rule| rule.ports.iter().any(covers)).map(|rule| rule.l7.clone()).collect()
}

fn covers_peer(inputs: &Inputs, peers: &Peers, address: IpAddr, denies: bool) -> bool {
    let Peers::Of(peers) = peers else { return true };
    let pod = endpoint_at(inputs, address);
    let node = is_node(inputs, address);
    let unknown = pod.is_none() && !node && in_pod_network(inputs, address);
    peers.iter().any(|peer| match peer {
        Peer::Entity(Entity::None) => false,
        Peer::Entity(Entity::All) => true,
        _ if unknown => denies,
        Peer::Entity(Entity::World) => pod.is_none() && !node,
        Peer::Entity(Entity::Cluster) => pod.is_some() || node,
        Peer::Entity(Entity::Host) => pod.is_none() && node,
        Peer::Entity(_) => false,
        Peer::Endpoints(selector) => pod.is_some_and(|pod| selector.matches(&pod.labels)),
        Peer::Cidr { prefix, except } => {
            let inside = prefix.contains(address) && !except.iter().any(|e| e.contains(address));
            pod.is_none() && !node && inside
        }
    })
}

fn endpoint_at(inputs: &Inputs, address: IpAddr) -> Option<&EndpointInputs> {
    inputs.endpoints.iter().find(|endpoint| endpoint.addresses.contains(&address))
}

fn is_node(inputs: &Inputs, address: IpAddr) -> bool {
    inputs.node.addresses.contains(&address)
}

fn in_pod_network(inputs: &Inputs, address: IpAddr) -> bool {
    inputs.node.pod_networks.iter().any(|prefix| prefix.contains(address))
}

// Strategies.

fn any_inputs() -> impl Strategy<Value = Inputs> {
    let web = || select(vec![None, Some(80), Some(8080)]);
    (vec(any_policy(), 0..4), [web(), web(), web()], any::<bool>()).prop_map(
        |(policies, web, allow_localhost)| {
            let endpoints = ["x=1 y=1", "x=1 y=2", "x=2 y=1"].into_iter().zip(web).zip(1..).map(
                |((labels, web), host)| EndpointInputs {
                    name: format!("e{host}").into(),
                    namespace: "default".into(),
                    interface: None,
                    addresses: vec![IpAddr::from([10, 0, 0, host])],
                    labels: labels.split(' ').map(|label| Label::parse(&format!("k8s:{label}"))).collect(),
                    named_ports: web.map(|port| ("web".into(), (port, Protocol::TCP))).into_iter().collect(),
                },
            );
            Inputs {
                node: NodeInputs {
                    name: "node".into(),
                    pod_networks: vec!["10.0.0.0/24".parse().unwrap()],
                    addresses: vec!["192.168.0.1".parse().unwrap()],
                    allow_localhost,
                },
                endpoints: endpoints.collect(),
                policies: policies.into_iter().map(Arc::new).collect(),
            }
        },
    )
}

fn any_policy() -> impl Strategy<Value = Policy> {
    let subject = any_selector().prop_map(Subject::Endpoints);
    (0..1000_u32, subject, any_section(), any_section()).prop_map(|(name, subject, ingress, egress)| Policy {
        rules: vec![Rule { subject, ingress, egress, ..deathstar(vec![]) }],
        ..policy(&format!("p{name}"), vec![])
    })
}

fn any_section() -> impl Strategy<Value = Section> {
    let section = (proptest::bool::weighted(0.7), vec(any_entry(), 0..4), vec(any_entry(), 0..2));
    let section = section.prop_map(|(default_deny, allow, deny)| Section { default_deny, allow, deny });
    prop_oneof![1 => Just(Section::default()), 3 => section]
}

fn any_entry() -> impl Strategy<Value = Entry> {
    let peers = prop_oneof![1 => Just(Peers::Any), 4 => vec(any_peer(), 0..3).prop_map(Peers::Of)];
    let rules = vec(any_port_rule(), 0..3).prop_map(|rules| {
        let named = rules.into_iter().enumerate();
        Ports::Of(
            named.map(|(i, rule)| PortRule { path: format!("entry.toPorts[{i}]").into(), ..rule }).collect(),
        )
    });
    let ports = prop_oneof![1 => Just(Ports::All), 3 => rules];
    (0..1000_u32, peers, ports).prop_map(|(nth, peers, ports)| {
        // Names must tell rules apart, as the parser's do.
        let ports = match ports {
            Ports::All => Ports::All,
            Ports::Of(rules) => Ports::Of(
                rules
                    .into_iter()
                    .map(|rule| PortRule { path: format!("{nth}.{}", rule.path).into(), ..rule })
                    .collect(),
            ),
        };
        Entry { path: format!("entry[{nth}]").into(), peers, ports }
    })
}

fn any_peer() -> impl Strategy<Value = Peer> {
    let prefixes = [
        "0.0.0.0/0",
        "172.16.0.0/12",
        "172.16.0.0/24",
        "172.16.0.1/32",
        "192.168.0.0/24",
        "10.0.0.0/8",
        "10.0.0.0/24",
        "10.0.0.1/32",
        "10.0.0.8/29",
        "10.0.0.8/29",
        "8.8.8.8/32",
    ];
    let prefix = || select(prefixes.map(|prefix| prefix.parse().unwrap()).to_vec());
    let entities =
        vec![Entity::All, Entity::Cluster, Entity::Host, Entity::None, Entity::World, Entity::RemoteNode];
    prop_oneof![
        3 => any_selector().prop_map(Peer::Endpoints),
        2 => (prefix(), vec(prefix(), 0..2)).prop_map(|(prefix, except)| Peer::Cidr { prefix, except }),
        1 => select(entities).prop_map(Peer::Entity),
    ]
}

/// Never the empty one, which the parser does not make of any peer: it would select the outside too.
fn any_selector() -> impl Strategy<Value = Selector> {
    select(vec!["x=1", "x=2", "y=1", "y=2"]).prop_map(selector)
}

fn any_port_rule() -> impl Strategy<Value = PortRule> {
    let ports = vec![(80, 80), (79, 81), (80, 90), (85, 100), (0, u16::MAX), (65535, 65535)];
    let port = prop_oneof![
        4 => select(ports).prop_map(|(first, last)| Port::Range(first, last)),
        1 => Just(Port::Named("web".into())),
    ];
    let protocol = select(vec![Protocol::TCP, Protocol::TCP, Protocol::UDP]);
    let port = (protocol, port).prop_map(|(protocol, port)| PortMatch { protocol, port });
    let http = vec(proptest::option::of(select(PATHS.to_vec())), 1..3).prop_map(|paths| {
        let rule = |path: Option<&str>| HttpRule {
            matches: HttpMatch { path: path.map(Into::into), ..HttpMatch::default() },
            ..HttpRule::default()
        };
        L7::Http(paths.into_iter().map(rule).collect())
    });
    let l7 = prop_oneof![3 => Just(L7::None), 3 => http, 1 => Just(L7::Unjudgeable)];
    (vec(port, 0..3), l7).prop_map(|(ports, l7)| PortRule { path: "".into(), ports, l7 })
}
