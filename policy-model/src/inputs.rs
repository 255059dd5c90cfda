//! Everything a snapshot is made from, as one settled value.

use crate::cidr::Prefix;
use crate::labels::LabelSet;
use crate::rule::{Policy, Protocol};
use core::net::IpAddr;
use std::collections::BTreeMap;
use std::sync::Arc;

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Inputs {
    pub node: NodeInputs,
    /// Of this node. Sorted by namespace and name, as the others are, where changes are to cost no more than what changed.
    pub endpoints: Vec<EndpointInputs>,
    /// Known elsewhere.
    pub peers: Vec<Arc<PeerInputs>>,
    /// In force, each already in its accepted, last accepted or closed form. Sorted by object name.
    pub policies: Vec<Arc<Policy>>,
}

/// What the node file says of the node itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodeInputs {
    pub name: Box<str>,
    /// Addresses inside these are pods; those that no endpoint claims are unknown, never world.
    pub pod_networks: Vec<Prefix>,
    /// The node's own addresses: identity host.
    pub addresses: Vec<IpAddr>,
    /// The local host may reach local pods at L4 (upstream's allow-localhost).
    pub allow_localhost: bool,
}

/// A workload of this node.
#[derive(Clone, Debug, PartialEq)]
pub struct EndpointInputs {
    pub name: Box<str>,
    pub namespace: Box<str>,
    /// The node's end of its interface; `None` where nothing is enforced in the kernel.
    pub interface: Option<Box<str>>,
    /// At most one of each family.
    pub addresses: Vec<IpAddr>,
    /// Complete identity labels: `k8s:org=empire`, `k8s:io.kubernetes.pod.namespace=default`, ...
    pub labels: LabelSet,
    pub named_ports: NamedPorts,
}

/// An endpoint of another node: policy may speak of it, and it has none here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerInputs {
    pub name: Box<str>,
    pub namespace: Box<str>,
    pub addresses: Vec<IpAddr>,
    /// Complete identity labels, as those of an endpoint.
    pub labels: LabelSet,
    pub named_ports: NamedPorts,
}

/// What a pod calls its ports; names are lower-case.
pub type NamedPorts = BTreeMap<Box<str>, (u16, Protocol)>;
