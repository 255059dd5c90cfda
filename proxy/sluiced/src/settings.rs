//! The node file's values in the forms that the parts of the daemon take them.

use crate::budget;
use config_node::{Config, Mode, Problem};
use policy_model::cidr::Prefix;
use policy_model::inputs::{EndpointInputs, Inputs, NodeInputs};
use policy_model::labels::{Label, LabelSet};
use policy_model::rule::{Policy, Protocol};
use proxy_core::shares::Bounds;
use proxy_core::{Limits, Queries};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

pub(crate) fn limits(config: &Config) -> Limits {
    let limits = &config.limits;
    Limits {
        http: parsers::http1::Limits {
            head_bytes_max: limits.head_bytes,
            fields_max: limits.header_fields,
            path_bytes_max: limits.path_bytes,
            chunk_line_bytes_max: limits.chunk_line_bytes,
            trailer_bytes_max: limits.trailer_bytes,
        },
        head_ns_max: nanoseconds(limits.head_ms),
        pipelined_max: limits.pipelined_requests,
        swallow_bytes_max: limits.swallow_bytes,
        swallow_ns_max: nanoseconds(limits.swallow_ms),
        dial_ns_max: nanoseconds(limits.dial_ms),
        queries: if config.log.query_strings { Queries::Recorded } else { Queries::Hidden },
    }
}

/// `connections`: what the process has descriptors for.
pub(crate) fn shares(config: &Config, connections: usize) -> Bounds {
    Bounds {
        places_max: connections,
        guaranteed: config.limits.guaranteed_connections,
        guaranteed_of_node: config.limits.node_connections,
    }
}

/// Of each of so many workers.
pub(crate) fn worker_bounds(config: &Config, workers: usize) -> budget::Bounds {
    budget::Bounds {
        pipes_max: config.limits.pipes.div_ceil(workers),
        held_bytes_max: config.limits.held_bytes.div_ceil(workers),
    }
}

fn nanoseconds(milliseconds: u64) -> u64 {
    milliseconds.saturating_mul(1_000_000)
}

pub(crate) fn redirect(config: &Config) -> ::redirect::Settings {
    let installed = || PathBuf::from("/usr/lib/sluice/redirect.o");
    ::redirect::Settings {
        object: config.redirect.object.clone().unwrap_or_else(installed),
        bpffs: config.redirect.bpffs.clone(),
        state_directory: config.node.state_directory.clone(),
        keep_sysctls: config.redirect.keep_sysctls,
        flows: ::redirect::FlowLimits {
            flows_max: config.limits.flows,
            inspected_flows_max: config.limits.inspected_flows,
            flows_per_endpoint: config.limits.flows_per_endpoint,
        },
        policy_entries: config.limits.policy_entries,
        events_per_second: config.limits.events_per_endpoint,
    }
}

/// `0` asks for one a core.
pub(crate) fn workers(config: &Config) -> usize {
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    if config.limits.workers == 0 { cores() } else { config.limits.workers }
}

pub(crate) fn mode_name(mode: Mode) -> &'static str {
    match mode {
        Mode::Ebpf => "ebpf",
        Mode::None => "none",
    }
}

/// Everything that a snapshot is made from.
pub(crate) fn inputs(config: &Config, node_addresses: &[IpAddr], policies: &[Arc<Policy>]) -> Inputs {
    let addresses = if config.node.addresses.is_empty() { node_addresses } else { &config.node.addresses };
    let pods: Vec<IpAddr> = config.endpoints.iter().flat_map(|endpoint| endpoint.addresses.clone()).collect();
    Inputs {
        node: NodeInputs {
            name: config.node.name.as_str().into(),
            pod_networks: config.node.pod_networks.iter().filter_map(|(a, l)| Prefix::new(*a, *l)).collect(),
            addresses: addresses.iter().copied().filter(|address| !pods.contains(address)).collect(),
            allow_localhost: config.policies.allow_localhost,
        },
        endpoints: config.endpoints.iter().map(endpoint).collect(),
        peers: Vec::new(),
        policies: policies.to_vec(),
    }
}

fn endpoint(endpoint: &config_node::Endpoint) -> EndpointInputs {
    EndpointInputs {
        name: endpoint.name.as_str().into(),
        namespace: endpoint.namespace.as_str().into(),
        interface: endpoint.interface.as_deref().map(Into::into),
        addresses: endpoint.addresses.clone(),
        labels: labels(endpoint),
        named_ports: named_ports(&endpoint.named_ports),
    }
}

/// `source:key` -> value; the node file's reader has added those that every pod has.
fn labels(endpoint: &config_node::Endpoint) -> LabelSet {
    let label = |(name, value): (&String, &String)| {
        let (source, key) = name.split_once(':').unwrap_or(("k8s", name));
        Label::new(source, key, value)
    };
    endpoint.labels.iter().map(label).collect()
}

fn named_ports(written: &BTreeMap<String, (u16, String)>) -> BTreeMap<Box<str>, (u16, Protocol)> {
    let protocol = |name: &str| match name {
        "UDP" => Protocol::UDP,
        "SCTP" => Protocol::SCTP,
        _tcp => Protocol::TCP,
    };
    // Policies name ports without regard to case; their reader has made the names lower-case.
    written.iter().map(|(name, (port, p))| (name.to_ascii_lowercase().into(), (*port, protocol(p)))).collect()
}

/// What differs and can't change in a running daemon.
pub(crate) fn needs_restart(old: &Config, new: &Config, file: &str) -> Vec<Problem> {
    let fixed = |limits: &config_node::Limits| {
        let connections = (limits.connections, limits.guaranteed_connections, limits.node_connections);
        let memory = (limits.flow_records, limits.pipes, limits.held_bytes);
        let kernel = (limits.policy_entries, limits.events_per_endpoint);
        (connections, memory, kernel, limits.workers)
    };
    let tracked =
        |limits: &config_node::Limits| (limits.flows, limits.inspected_flows, limits.flows_per_endpoint);
    let tenants =
        |limits: &config_node::Limits| (limits.policies_per_namespace, limits.automaton_bytes_per_namespace);
    let differs = [
        ("node.name", old.node.name != new.node.name),
        ("node.state_directory", old.node.state_directory != new.node.state_directory),
        ("policies.directories", old.policies.directories != new.policies.directories),
        ("redirect", old.redirect != new.redirect),
        ("listener", old.listeners != new.listeners),
        ("api", old.api != new.api),
        ("log", old.log != new.log),
        ("metrics", old.metrics != new.metrics),
        (
            "limits.connections, guaranteed_connections, node_connections, flow_records, pipes, held_bytes, policy_entries, \
             events_per_endpoint or workers",
            fixed(&old.limits) != fixed(&new.limits),
        ),
        (
            "limits.policies_per_namespace or automaton_bytes_per_namespace",
            tenants(&old.limits) != tenants(&new.limits),
        ),
        ("limits.flows, inspected_flows or flows_per_endpoint", tracked(&old.limits) != tracked(&new.limits)),
    ];
    let differing = differs.into_iter().filter(|(_field, differs)| *differs);
    differing
        .map(|(field, _differs)| Problem {
            file: file.into(),
            line: 0,
            field: field.into(),
            message: "has changed, which a running daemon can't follow".into(),
            fix: "restart sluiced".into(),
        })
        .collect()
}
