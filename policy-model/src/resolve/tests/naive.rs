//! Snapshots against a reference that knows no identities, no classes and no sharing: it looks at every rule, for every
//! question, and at addresses as they are.

use super::*;
use crate::inputs::{EndpointInputs, NamedPorts, NodeInputs, PeerInputs};
use crate::labels::LabelSet;
use crate::selector::{Requirement, Selector, SelectorKey};
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
        let (snapshot, _) = resolve(&inputs, &mut Numbers::default(), 1);
        compare(&snapshot, &inputs);
        disjoint(&snapshot);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Whatever came before.
    #[test]
    fn a_past_changes_no_answer(all in vec((any_inputs(), 0..4_usize, 0..3_usize, any::<bool>()), 2..5)) {
        let (mut resolver, mut numbers) = (Resolver::default(), Numbers::default());
        let mut before = Inputs::default();
        for (revision, (inputs, policies_kept, peers_kept, networks_kept)) in (1..).zip(all) {
            let mut inputs = inputs;
            // Some of the last ones', as the same objects.
            let kept = before.policies.iter().take(policies_kept).map(Arc::clone);
            inputs.policies = kept.chain(inputs.policies).collect();
            let kept = before.peers.iter().take(peers_kept).map(Arc::clone);
            inputs.peers = kept.chain(inputs.peers.into_iter().skip(peers_kept)).collect();
            if networks_kept && revision > 1 {
                inputs.node = before.node;
            }
            let (fresh, said) = resolve(&inputs, &mut numbers.clone(), revision);
            let (grown, said_too) = resolver.resolve(&inputs, &mut numbers, revision);
            prop_assert_eq!(said, said_too);
            compare(&grown, &inputs);
            same(&fresh, &grown);
            before = inputs;
        }
    }
}

/// All that the kernel is told.
fn same(fresh: &Snapshot, grown: &Snapshot) {
    assert_eq!(fresh.ipcache().collect::<Vec<_>>(), grown.ipcache().collect::<Vec<_>>());
    let identities = |snapshot: &Snapshot| snapshot.identities().cloned().collect::<Vec<_>>();
    assert_eq!(identities(fresh), identities(grown));
    let endpoints = |snapshot: &Snapshot| {
        let all = snapshot.endpoints().iter();
        all.map(|e| (e.id, Arc::clone(&e.identity), named(&e.ingress), named(&e.egress))).collect::<Vec<_>>()
    };
    assert_eq!(endpoints(fresh), endpoints(grown));
    let classes = |snapshot: &Snapshot| {
        let policies = snapshot.endpoints().iter().flat_map(|e| [&e.ingress, &e.egress].map(Arc::clone));
        let classes = |policy: Arc<DirectionPolicy>| {
            policy.classes(snapshot).map(|c| (c.identity, c.protocol, c.ports)).collect::<Vec<_>>()
        };
        policies.map(classes).collect::<Vec<_>>()
    };
    assert_eq!(classes(fresh), classes(grown));
}

fn named(policy: &DirectionPolicy) -> Vec<(Protocol, (u16, u16))> {
    policy.named_ports().collect()
}

const PORTS: &[u16] = &[0, 78, 79, 80, 81, 85, 90, 95, 100, 8080, 65535];
const ADDRESSES: &[&str] = &[
    "10.0.0.1",
    "10.0.0.2",
    "10.0.0.3",
    "10.0.0.4",
    "10.0.0.9",
    "192.168.0.1",
    "192.168.0.2",
    "172.16.0.1",
    "172.16.1.1",
    "8.8.8.8",
];
const PATHS: &[&str] = &["/a", "/b", "/c"];
/// Identities that no address of [`ADDRESSES`] has.
const RESERVED: &[IdentityId] = &[
    IdentityId::WORLD,
    IdentityId::UNMANAGED,
    IdentityId::HEALTH,
    IdentityId::INIT,
    IdentityId::REMOTE_NODE,
    IdentityId::KUBE_APISERVER,
    IdentityId::INGRESS,
];
const PROTOCOLS: [Protocol; 3] = [Protocol::TCP, Protocol::UDP, Protocol::ICMP];

/// Every question there is.
fn compare(snapshot: &Snapshot, inputs: &Inputs) {
    for source in ADDRESSES {
        for destination in ADDRESSES {
            for (protocol, port) in
                PROTOCOLS.into_iter().flat_map(|p| PORTS.iter().map(move |port| (p, *port)))
            {
                let [source, destination]: [IpAddr; 2] =
                    [source, destination].map(|text| text.parse().unwrap());
                let flow = Flow { source, destination, port, protocol };
                let connection = snapshot.connection(&flow);
                let asked = |direction, subject, peer| {
                    let Some(subject) = endpoint_at(inputs, subject) else { return Answer::Allow };
                    naive(inputs, direction, subject, &Who::at(inputs, peer), protocol, port)
                };
                let expect = asked(Direction::Egress, source, destination);
                assert_eq!(answer(&connection.egress), expect, "egress of {flow:?}");
                let expect = asked(Direction::Ingress, destination, source);
                assert_eq!(answer(&connection.ingress), expect, "ingress of {flow:?}");
            }
        }
    }
    compare_reserved(snapshot, inputs);
}

fn compare_reserved(snapshot: &Snapshot, inputs: &Inputs) {
    for endpoint in snapshot.endpoints() {
        for (direction, policy) in
            [(Direction::Egress, &endpoint.egress), (Direction::Ingress, &endpoint.ingress)]
        {
            for (id, protocol) in RESERVED.iter().flat_map(|id| PROTOCOLS.map(|protocol| (*id, protocol))) {
                for port in &[0, 80, 8080] {
                    let found = answer(&policy.verdict(snapshot, id, protocol, *port));
                    let who = Who::Reserved(id);
                    let expect = naive(inputs, direction, &endpoint.inputs, &who, protocol, *port);
                    assert_eq!(
                        found, expect,
                        "{direction:?} of {:?} and {id:?}, {port}",
                        endpoint.inputs.name
                    );
                }
            }
        }
    }
}

/// Sorted, and no class reaches into another; where everything has a class, each protocol's own classes cover all ports.
fn disjoint(snapshot: &Snapshot) {
    for endpoint in snapshot.endpoints() {
        for policy in [&endpoint.ingress, &endpoint.egress] {
            let classes: Vec<_> =
                policy.classes(snapshot).map(|c| (c.identity, c.protocol, c.ports)).collect();
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
        PortRules::Line(_) | PortRules::Unjudgeable(_) => Answer::Unjudgeable,
        PortRules::Http(rules) => Answer::Http(
            PATHS
                .iter()
                .map(|path| rules.matching(&request("GET", path), &crate::http::Effort::default()).is_some())
                .collect(),
        ),
    }
}

/// What is at the other end.
enum Who<'a> {
    Node,
    Outside(IpAddr),
    Pod(Pod<'a>),
    Reserved(IdentityId),
    Unknown,
}

/// A pod is what its labels are: those of others that have the same ones count too.
struct Pod<'a> {
    labels: &'a LabelSet,
    named_ports: Vec<&'a NamedPorts>,
    /// None of them is of another node.
    is_here: bool,
}

fn naive(
    inputs: &Inputs,
    direction: Direction,
    subject: &EndpointInputs,
    peer: &Who<'_>,
    protocol: Protocol,
    port: u16,
) -> Answer {
    let rules = inputs.policies.iter().flat_map(|policy| &policy.rules);
    let sections: Vec<&Section> = rules
        .filter(|rule| matches!(&rule.subject, Subject::Endpoints(s) if s.matches(&subject.labels)))
        .map(|rule| if direction == Direction::Egress { &rule.egress } else { &rule.ingress })
        .collect();
    let entries = || sections.iter().flat_map(|section| section.allow.iter().chain(&section.deny));
    let labels_pending = subject.labels.get("reserved", "init").is_some();
    let closes = sections.iter().any(|section| section.default_deny);
    if !labels_pending && !closes && entries().next().is_none() {
        return Answer::Allow;
    }
    let named = match (direction, peer) {
        (Direction::Ingress, _) => vec![&subject.named_ports],
        (Direction::Egress, Who::Pod(pod)) => pod.named_ports.clone(),
        (Direction::Egress, _) => Vec::new(),
    };
    let says = |entry: &Entry| words(entry, protocol, port, &named, direction);
    let mut deny = sections.iter().flat_map(|section| &section.deny);
    if deny.any(|entry| peer.is_denied(&entry.peers) && !says(entry).is_empty()) {
        return Answer::Deny(DenyReason::DenyRule);
    }
    let allow = sections.iter().flat_map(|section| &section.allow);
    let said: Vec<L7> = allow.filter(|entry| peer.is_among(&entry.peers)).flat_map(says).collect();
    let host_is_let_in = direction == Direction::Ingress
        && inputs.node.allow_localhost
        && matches!(peer, Who::Node)
        && (!labels_pending || entries().next().is_some());
    let read: Vec<&HttpRule> = said
        .iter()
        .filter_map(|l7| match l7 {
            L7::Http(rules) if protocol == Protocol::TCP => Some(rules),
            L7::Http(_) | L7::None | L7::Unjudgeable => None,
        })
        .flatten()
        .collect();
    // One plain allow is enough, and so is that nobody closes the direction.
    let anything_goes = said.contains(&L7::None) || host_is_let_in || !(closes || labels_pending);
    if anything_goes {
        // The proxy sees what leaves an endpoint of the node, whether it is the subject or the peer.
        let seen = direction == Direction::Egress || matches!(peer, Who::Pod(pod) if pod.is_here);
        return if seen && !read.is_empty() { Answer::Http(vec![true; PATHS.len()]) } else { Answer::Allow };
    }
    if !read.is_empty() {
        let goes = |path: &&str| read.iter().any(|r| r.matches.path.as_deref().is_none_or(|p| p == *path));
        return Answer::Http(PATHS.iter().map(goes).collect());
    }
    match peer {
        _ if protocol == Protocol::TCP && said.contains(&L7::Unjudgeable) => Answer::Unjudgeable,
        Who::Unknown => Answer::Deny(DenyReason::UnknownPeer),
        Who::Node | Who::Outside(_) | Who::Pod(_) | Who::Reserved(_) => Answer::Deny(DenyReason::NoRule),
    }
}

/// What an entry says of a port, once for every port rule that covers it.
fn words(
    entry: &Entry,
    protocol: Protocol,
    port: u16,
    named: &[&NamedPorts],
    direction: Direction,
) -> Vec<L7> {
    let rules = match &entry.ports {
        Ports::All => return vec![L7::None],
        Ports::Of(rules) => rules,
    };
    let is_deny = entry.path.starts_with("deny");
    let numbers = |name: &str| -> BTreeSet<u16> {
        let numbers = named.iter().filter_map(|names| names.get(name));
        let numbers: BTreeSet<u16> = numbers.filter(|(_, p)| *p == protocol).map(|(n, _)| *n).collect();
        // Pods of one identity that disagree: none is allowed, all are denied.
        if numbers.len() == 1 || is_deny { numbers } else { BTreeSet::new() }
    };
    let covers = |written: &PortMatch| {
        written.protocol == protocol
            && match &written.port {
                Port::Range(first, last) => (*first..=*last).contains(&port),
                Port::Named(name) => numbers(name).contains(&port),
                Port::NamedRange(name, last) => numbers(name).into_iter().any(|first| match direction {
                    Direction::Ingress => port == first || (port > first && port <= *last),
                    Direction::Egress => port == first,
                }),
            }
    };
    rules.iter().filter(|rule| rule.ports.iter().any(covers)).map(|rule| rule.l7.clone()).collect()
}

impl<'a> Who<'a> {
    fn at(inputs: &'a Inputs, address: IpAddr) -> Self {
        let elsewhere = || inputs.peers.iter().find(|peer| peer.addresses.contains(&address));
        let labels = endpoint_at(inputs, address).map(|pod| &pod.labels);
        let is_free = !inputs.node.addresses.contains(&address);
        match labels.or_else(|| elsewhere().filter(|_| is_free).map(|peer| &peer.labels)) {
            Some(labels) => Self::Pod(Pod::of(inputs, labels)),
            None if inputs.node.addresses.contains(&address) => Self::Node,
            None if inputs.node.pod_networks.is_empty() => Self::Unknown,
            None if inputs.node.pod_networks.iter().any(|p| p.contains(address)) => Self::Unknown,
            None => Self::Outside(address),
        }
    }

    fn is_among(&self, peers: &Peers) -> bool {
        match peers {
            Peers::Any => true,
            Peers::Of(peers) => peers.iter().any(|peer| self.is(peer)),
        }
    }

    /// Somebody unknown may be whoever is denied.
    fn is_denied(&self, peers: &Peers) -> bool {
        match (self, peers) {
            (Self::Unknown, Peers::Of(peers)) => peers.iter().any(|peer| *peer != Peer::Entity(Entity::None)),
            _ => self.is_among(peers),
        }
    }

    fn is(&self, peer: &Peer) -> bool {
        let marked = |key: &str| self.labels().get("reserved", key).is_some();
        let outside = || marked("world") || marked("world-ipv4");
        match peer {
            Peer::Entity(Entity::All) => true,
            _ if matches!(self, Self::Unknown) => false,
            Peer::Entity(Entity::None) => false,
            Peer::Entity(Entity::World) => outside(),
            Peer::Entity(Entity::Cluster) => !outside(),
            Peer::Entity(entity) => marked(entity.as_str()),
            Peer::Cidr { prefix, except } => match self {
                Self::Outside(address) => {
                    prefix.contains(*address) && !except.iter().any(|e| e.contains(*address))
                }
                Self::Node | Self::Pod(_) | Self::Reserved(_) | Self::Unknown => false,
            },
            Peer::Endpoints(selector) => {
                let asks_for_reserved = selector.requirements.iter().any(|r| *r.key().source == *"reserved");
                let is_pod = matches!(self, Self::Pod(pod) if pod.labels.iter().all(|l| *l.source == *"k8s"));
                (asks_for_reserved || is_pod) && selector.matches(&self.labels())
            }
        }
    }

    fn labels(&self) -> LabelSet {
        let parsed = |texts: &[&str]| texts.iter().map(|text| Label::parse(text)).collect();
        match self {
            Self::Node => parsed(&["reserved:host"]),
            Self::Outside(_) => parsed(&["reserved:world-ipv4"]),
            Self::Pod(pod) => pod.labels.clone(),
            Self::Reserved(id) => {
                let (_, texts) = IdentityId::RESERVED.iter().find(|(known, _)| known == id).unwrap();
                parsed(texts)
            }
            Self::Unknown => parsed(&[]),
        }
    }
}

impl<'a> Pod<'a> {
    fn of(inputs: &'a Inputs, labels: &'a LabelSet) -> Self {
        let here = inputs.endpoints.iter().filter(|pod| pod.labels == *labels).map(|pod| &pod.named_ports);
        let elsewhere = || inputs.peers.iter().filter(|pod| pod.labels == *labels);
        let named_ports = here.chain(elsewhere().map(|pod| &pod.named_ports)).collect();
        Self { labels, named_ports, is_here: elsewhere().next().is_none() }
    }
}

fn endpoint_at(inputs: &Inputs, address: IpAddr) -> Option<&EndpointInputs> {
    inputs.endpoints.iter().find(|endpoint| endpoint.addresses.contains(&address))
}

// Strategies.

fn any_inputs() -> impl Strategy<Value = Inputs> {
    let web = || select(vec![None, Some(80), Some(8080)]);
    // The last one's labels are not known yet, or not all of them.
    let pending = select(vec!["k8s:x=2 k8s:y=2", "reserved:init", "k8s:x=1 reserved:init"]);
    let networks =
        select(vec![&["10.0.0.0/24"][..], &["10.0.0.0/24"], &["10.0.0.0/8", "172.16.1.0/24"], &[]]);
    let peers = vec((0..3_usize, web(), select(vec!["10.0.0.9", "172.16.0.1", "8.8.8.8"])), 0..3);
    (vec(any_policy(), 0..4), [web(), web(), web(), web()], any::<bool>(), pending, peers, networks).prop_map(
        |(policies, web, allow_localhost, pending, peers, networks)| {
            let labels = ["k8s:x=1 k8s:y=1", "k8s:x=1 k8s:y=2", "k8s:x=2 k8s:y=1", pending];
            let endpoints =
                labels.into_iter().zip(web).zip(1..).map(|((labels, web), host)| EndpointInputs {
                    name: format!("e{host}").into(),
                    namespace: "default".into(),
                    interface: None,
                    addresses: vec![IpAddr::from([10, 0, 0, host])],
                    labels: labels.split(' ').map(Label::parse).collect(),
                    named_ports: web.map(|port| ("web".into(), (port, Protocol::TCP))).into_iter().collect(),
                });
            let peers = peers.into_iter().zip(1..).map(|((nth, web, address), number)| {
                let labels = ["k8s:x=1 k8s:y=1", "k8s:x=1 k8s:z=1", "k8s:y=2"][nth];
                Arc::new(PeerInputs {
                    name: format!("p{number}").into(),
                    namespace: "default".into(),
                    addresses: vec![address.parse().unwrap()],
                    labels: labels.split(' ').map(Label::parse).collect(),
                    named_ports: web.map(|port| ("web".into(), (port, Protocol::TCP))).into_iter().collect(),
                })
            });
            Inputs {
                peers: peers.collect(),
                node: NodeInputs {
                    name: "node".into(),
                    pod_networks: networks.iter().map(|network| network.parse().unwrap()).collect(),
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
    let denies = |entry: Entry| Entry { path: format!("deny.{}", entry.path).into(), ..entry };
    let section = section.prop_map(move |(default_deny, allow, deny)| Section {
        default_deny,
        allow,
        deny: deny.into_iter().map(denies).collect(),
    });
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
    let entities = vec![
        Entity::All,
        Entity::Cluster,
        Entity::Health,
        Entity::Host,
        Entity::Init,
        Entity::None,
        Entity::RemoteNode,
        Entity::World,
    ];
    prop_oneof![
        3 => any_selector().prop_map(Peer::Endpoints),
        2 => (prefix(), vec(prefix(), 0..2)).prop_map(|(prefix, except)| Peer::Cidr { prefix, except }),
        1 => select(entities).prop_map(Peer::Entity),
    ]
}

/// Up to two requirements, the empty one included; most are met by what has no such label at all.
fn any_selector() -> impl Strategy<Value = Selector> {
    let key = select(vec!["x", "k8s:y", "z", "x", "k8s:y", "host", "init", "reserved:host", "reserved:init"]);
    let values = vec(select(vec!["1", "2", ""]), 1..3);
    let requirement = (key, values, 0..4).prop_map(|(key, values, operator)| {
        let key = SelectorKey::parse(key);
        let values = values.into_iter().map(Into::into).collect();
        match operator {
            0 => Requirement::In(key, values),
            1 => Requirement::NotIn(key, values),
            2 => Requirement::Exists(key),
            _ => Requirement::DoesNotExist(key),
        }
    });
    let simple = select(vec!["x=1", "x=2", "y=1", "y=2"]).prop_map(selector);
    prop_oneof![
        2 => simple,
        3 => vec(requirement, 0..3).prop_map(|requirements| Selector { requirements }),
    ]
}

fn any_port_rule() -> impl Strategy<Value = PortRule> {
    let ports = vec![(80, 80), (79, 81), (80, 90), (85, 100), (0, u16::MAX), (65535, 65535)];
    let port = prop_oneof![
        6 => select(ports).prop_map(|(first, last)| Port::Range(first, last)),
        1 => Just(Port::Named("web".into())),
        1 => select(vec![79, 85]).prop_map(|last| Port::NamedRange("web".into(), last)),
    ];
    let any: &[Protocol] = &[Protocol::TCP, Protocol::UDP, Protocol::SCTP];
    let protocols = select(vec![&[Protocol::TCP][..], &[Protocol::TCP], &[Protocol::UDP], any]);
    let port = (protocols, port).prop_map(|(protocols, port)| {
        protocols
            .iter()
            .map(|protocol| PortMatch { protocol: *protocol, port: port.clone() })
            .collect::<Vec<_>>()
    });
    let http = vec(proptest::option::of(select(PATHS.to_vec())), 1..3).prop_map(|paths| {
        let rule = |path: Option<&str>| HttpRule {
            matches: HttpMatch { path: path.map(Into::into), ..HttpMatch::default() },
            ..HttpRule::default()
        };
        L7::Http(paths.into_iter().map(rule).collect())
    });
    let l7 = prop_oneof![3 => Just(L7::None), 3 => http, 1 => Just(L7::Unjudgeable)];
    (vec(port, 0..3), l7).prop_map(|(ports, l7)| PortRule { path: "".into(), ports: ports.concat(), l7 })
}
