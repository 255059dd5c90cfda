//! The plan of a resolved snapshot judges as the snapshot does, for every endpoint, peer and port that matters.
#![cfg(test)]

use policy_model::inputs::{EndpointInputs, Inputs, NodeInputs};
use policy_model::labels::Label;
use policy_model::parse::{Judged, parse};
use policy_model::rule::Protocol;
use policy_model::snapshot::{DirectionPolicy, PortVerdict};
use policy_model::{Snapshot, identity::Numbers, resolve};
use redirect::plan::{Plan, PolicyMap, plan};
use redirect_abi::{IPV4_PREFIX, PolicyKey, aspect, direction, family, verdict};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

const POLICIES: &str = r#"
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: deathstar, namespace: default}
spec:
  endpointSelector: {matchLabels: {class: deathstar}}
  ingress:
  - fromEndpoints: [{matchLabels: {org: empire}}]
    toPorts: [{ports: [{port: "80", protocol: TCP}], rules: {http: [{method: POST, path: /v1/request-landing}]}}]
  - fromEndpoints: [{matchLabels: {class: tiefighter}}]
  - fromEntities: [world]
    toPorts: [{ports: [{port: "8000", endPort: 8010, protocol: TCP}, {port: "53", protocol: ANY}]}]
  ingressDeny:
  - fromCIDR: [192.0.2.0/24]
  - fromEndpoints: [{matchLabels: {class: tiefighter}}]
    toPorts: [{ports: [{port: "1000", endPort: 1999, protocol: TCP}]}]
---
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: xwing, namespace: default}
spec:
  endpointSelector: {matchLabels: {org: alliance}}
  egress:
  - toCIDRSet: [{cidr: 10.0.0.0/8, except: [10.15.0.0/16]}]
  - toEndpoints: [{matchLabels: {class: deathstar}}]
    toPorts: [{ports: [{port: "80"}]}]
"#;

const PORTS: &[u16] =
    &[0, 52, 53, 54, 79, 80, 81, 999, 1000, 1024, 1999, 2000, 7999, 8000, 8004, 8010, 8011, 65535];
const PROTOCOLS: &[Protocol] = &[Protocol::TCP, Protocol::UDP, Protocol::ICMP, Protocol::SCTP];

#[test]
fn every_verdict_is_the_snapshots() {
    let snapshot = snapshot();
    let plan = plan(&snapshot);
    let mut seen = BTreeMap::new();
    for endpoint in snapshot.endpoints().iter().filter(|endpoint| endpoint.inputs.interface.is_some()) {
        let planned = &plan.endpoints[endpoint.inputs.interface.as_ref().unwrap()];
        assert_eq!((planned.id, planned.identity), (endpoint.id.into(), endpoint.identity.id.0));
        for (direction, policy) in
            [(direction::INGRESS, &endpoint.ingress), (direction::EGRESS, &endpoint.egress)]
        {
            check_aspects(&snapshot, &planned.policy, direction, policy);
            for verdict in check_direction(&snapshot, &planned.policy, direction, policy) {
                *seen.entry(verdict).or_insert(0) += 1;
            }
        }
    }
    assert!(seen.len() == 3, "the policies give every verdict: {seen:?}");
}

fn check_direction(snapshot: &Snapshot, map: &PolicyMap, direction: u8, policy: &DirectionPolicy) -> Vec<u8> {
    let mut verdicts = Vec::new();
    for peer in snapshot.identities() {
        for (protocol, port) in
            PROTOCOLS.iter().flat_map(|protocol| PORTS.iter().map(move |port| (protocol, port)))
        {
            let expected = match policy.verdict(snapshot, peer.id, *protocol, *port) {
                PortVerdict::Allow(_) => verdict::ALLOW,
                PortVerdict::Deny(_) => verdict::DENY,
                PortVerdict::Inspect(_) => verdict::REDIRECT,
            };
            let key = PolicyKey {
                direction,
                identity: peer.id.0.to_be_bytes(),
                protocol: protocol.0,
                port: port.to_be_bytes(),
            };
            assert_eq!(lookup(map, &key), expected, "{:?} {protocol:?} {port}", peer.labels);
            verdicts.push(expected);
        }
    }
    verdicts
}

/// What a map says of more than one port: which are named, and whether one verdict holds for all.
fn check_aspects(snapshot: &Snapshot, map: &PolicyMap, direction: u8, policy: &DirectionPolicy) {
    let key = |aspect: u8, identity: u32, protocol: &Protocol, port: u16| PolicyKey {
        direction: aspect | direction,
        identity: identity.to_be_bytes(),
        protocol: protocol.0,
        port: port.to_be_bytes(),
    };
    for protocol in PROTOCOLS {
        for port in PORTS {
            let is_named = policy
                .named_ports()
                .any(|(p, (first, last))| p == *protocol && (first..=last).contains(port));
            let expected = if is_named { verdict::DENY } else { verdict::ALLOW };
            assert_eq!(
                lookup(map, &key(aspect::UNNAMED, 0, protocol, *port)),
                expected,
                "{protocol:?} {port}"
            );
        }
        for peer in snapshot.identities() {
            let allows =
                |port| matches!(policy.verdict(snapshot, peer.id, *protocol, port), PortVerdict::Allow(_));
            let says_so = [0, aspect::EVERY_PORT]
                .iter()
                .all(|aspect| lookup(map, &key(*aspect, peer.id.0, protocol, 0)) == verdict::ALLOW);
            assert_eq!(says_so, (0..=u16::MAX).all(allows), "{:?} {protocol:?}", peer.labels);
        }
    }
}

#[test]
fn every_address_is_the_snapshots() {
    let snapshot = snapshot();
    let plan = plan(&snapshot);
    for address in [
        "10.15.0.1",
        "10.15.0.2",
        "10.15.9.9",
        "10.1.1.1",
        "192.0.2.7",
        "8.8.8.8",
        "10.0.0.1",
        "f00d::1",
        "2001:db8::1",
    ] {
        let address: IpAddr = address.parse().unwrap();
        assert_eq!(identity(&plan, address), snapshot.identity_of(address).id.0, "{address}");
    }
}

#[test]
fn equal_policies_share_a_map_and_what_has_no_interface_is_not_planned() {
    let plan = plan(&snapshot());
    let interfaces: Vec<_> = plan.endpoints.keys().map(|name| &**name).collect();
    assert_eq!(interfaces, ["lxc-deathstar-1", "lxc-deathstar-2", "lxc-tiefighter", "lxc-xwing"]);
    let policy = |name: &str| &plan.endpoints[name].policy;
    assert!(Arc::ptr_eq(policy("lxc-deathstar-1"), policy("lxc-deathstar-2")));
    assert!(!Arc::ptr_eq(policy("lxc-deathstar-1"), policy("lxc-xwing")));
    assert_eq!(
        policy("lxc-tiefighter").len(),
        3,
        "nothing enforced: one entry a direction, one for all aspects"
    );
}

fn snapshot() -> Snapshot {
    let objects = parse(POLICIES).unwrap().objects.into_iter();
    let policies = objects.map(|object| match object.judged {
        Judged::Accepted { policy, .. } => Arc::new(policy),
        Judged::Refused { diagnostics, .. } => panic!("{diagnostics:?}"),
    });
    let inputs = Inputs {
        node: NodeInputs {
            name: "node".into(),
            pod_networks: vec!["10.15.0.0/16".parse().unwrap(), "f00d::/64".parse().unwrap()],
            addresses: vec!["10.0.0.1".parse().unwrap()],
            allow_localhost: true,
        },
        endpoints: vec![
            endpoint(
                "deathstar-1",
                Some("lxc-deathstar-1"),
                &["10.15.0.1", "f00d::1"],
                "empire",
                "deathstar",
            ),
            endpoint("deathstar-2", Some("lxc-deathstar-2"), &["10.15.0.2"], "empire", "deathstar"),
            endpoint("tiefighter", Some("lxc-tiefighter"), &["10.15.0.3"], "empire", "tiefighter"),
            endpoint("xwing", Some("lxc-xwing"), &["10.15.0.4"], "alliance", "xwing"),
            endpoint("elsewhere", None, &["10.15.0.5"], "alliance", "ywing"),
        ],
        peers: Vec::new(),
        policies: policies.collect(),
    };
    resolve(&inputs, &mut Numbers::default(), 1).0
}

fn endpoint(
    name: &str,
    interface: Option<&str>,
    addresses: &[&str],
    org: &str,
    class: &str,
) -> EndpointInputs {
    let labels = [("org", org), ("class", class), ("io.kubernetes.pod.namespace", "default")];
    EndpointInputs {
        name: name.into(),
        namespace: "default".into(),
        interface: interface.map(Into::into),
        addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
        labels: labels.map(|(key, value)| Label::new("k8s", key, value)).into_iter().collect(),
        named_ports: BTreeMap::new(),
    }
}

/// Longest prefix, bit by bit; denied where there is none.
fn lookup(map: &PolicyMap, key: &PolicyKey) -> u8 {
    let bytes = |key: &PolicyKey| [&[key.direction][..], &key.identity, &[key.protocol], &key.port].concat();
    let covering = map.iter().filter(|((length, prefix), _)| covers(&bytes(prefix), *length, &bytes(key)));
    covering.max_by_key(|((length, _), _)| *length).map_or(verdict::DENY, |(_, verdict)| *verdict)
}

fn identity(plan: &Plan, address: IpAddr) -> u32 {
    let key = match address {
        IpAddr::V4(v4) => [&[family::IPV4][..], &IPV4_PREFIX, &v4.octets()].concat(),
        IpAddr::V6(v6) => [&[family::IPV6][..], &v6.octets()].concat(),
    };
    let bytes = |prefix: &redirect_abi::IpcacheKey| [&[prefix.family][..], &prefix.address].concat();
    let covering = plan.ipcache.iter().filter(|((length, prefix), _)| covers(&bytes(prefix), *length, &key));
    covering.max_by_key(|((length, _), _)| *length).map_or(0, |(_, identity)| *identity)
}

fn covers(prefix: &[u8], length: u32, key: &[u8]) -> bool {
    let bit = |bytes: &[u8], index: usize| bytes[index / 8] >> (7 - index % 8) & 1;
    (0..usize::try_from(length).unwrap()).all(|index| bit(prefix, index) == bit(key, index))
}
