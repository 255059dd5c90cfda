//! From the file as written to a [`Config`]: what fields say of one another. All problems at once.
//!
//! INVARIANT: `raw` has passed [`crate::shape`], so every string has its format; a conversion that fails all the
//! same is reported like any other problem.

use crate::tree::{Step, Tree, field};
use crate::{
    Api, Config, Endpoint, Limits, Listener, Log, LogFormat, Metrics, Mode, Node, Policies, Problem,
    Redirect, format, raw, suggest,
};
use core::net::{IpAddr, SocketAddr};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// `sun_path` with its final zero has 108.
const SOCKET_BYTES_MAX: usize = 107;

/// # Errors
/// Every contradiction of the file.
pub(crate) fn convert(file: &str, tree: &Tree, raw: raw::File) -> Result<Config, Vec<Problem>> {
    let mut checks = Checks { file, tree, problems: Vec::new() };
    let endpoints: Vec<Endpoint> = raw
        .endpoint
        .into_iter()
        .enumerate()
        .map(|(index, endpoint)| checks.endpoint(index, endpoint))
        .collect();
    let config = Config {
        node: checks.node(raw.node),
        policies: Policies {
            directories: raw.policies.directories.iter().map(|text| beside(file, text)).collect(),
            allow_localhost: raw.policies.allow_localhost,
        },
        redirect: redirect(file, raw.redirect),
        listeners: raw.listener.into_iter().enumerate().filter_map(|(i, l)| checks.listener(i, l)).collect(),
        endpoints,
        api: checks.api(&raw.api),
        limits: limits(&raw.limits),
        log: log(raw.log),
        metrics: raw.metrics.and_then(|metrics| checks.metrics(&metrics)),
    };
    checks.together(&config);
    if checks.problems.is_empty() { Ok(config) } else { Err(checks.problems) }
}

/// A relative path is relative to the node file, wherever the daemon was started.
fn beside(file: &str, text: &str) -> PathBuf {
    Path::new(file).parent().unwrap_or(Path::new("")).join(text)
}

fn redirect(file: &str, raw: raw::Redirect) -> Redirect {
    let mode = match raw.mode {
        raw::Mode::Ebpf => Mode::Ebpf,
        raw::Mode::None => Mode::None,
    };
    Redirect {
        mode,
        object: raw.object.map(|text| beside(file, &text)),
        bpffs: beside(file, &raw.bpffs),
        keep_sysctls: raw.keep_sysctls,
    }
}

fn limits(raw: &raw::Limits) -> Limits {
    Limits {
        head_bytes: raw.head_bytes,
        header_fields: raw.header_fields,
        path_bytes: raw.path_bytes,
        chunk_line_bytes: raw.chunk_line_bytes,
        trailer_bytes: raw.trailer_bytes,
        head_ms: raw.head_ms,
        pipelined_requests: raw.pipelined_requests,
        swallow_bytes: raw.swallow_bytes,
        swallow_ms: raw.swallow_ms,
        dial_ms: raw.dial_ms,
        connections: raw.connections,
        guaranteed_connections: raw.guaranteed_connections,
        node_connections: raw.node_connections,
        pipes: raw.pipes,
        held_bytes: raw.held_bytes,
        drain_ms: raw.drain_ms,
        flow_records: raw.flow_records,
        workers: raw.workers,
        flows: raw.flows,
        inspected_flows: raw.inspected_flows,
        flows_per_endpoint: raw.flows_per_endpoint,
        policy_entries: raw.policy_entries,
        events_per_endpoint: raw.events_per_endpoint,
        policies_per_namespace: raw.policies_per_namespace,
        automaton_bytes_per_namespace: raw.automaton_bytes_per_namespace,
    }
}

fn log(raw: raw::Log) -> Log {
    let format = match raw.format {
        raw::LogFormat::Json => LogFormat::Json,
        raw::LogFormat::Text => LogFormat::Text,
    };
    Log { level: raw.level, format, query_strings: raw.query_strings }
}

struct Checks<'a> {
    file: &'a str,
    tree: &'a Tree,
    problems: Vec<Problem>,
}

impl Checks<'_> {
    fn problem(&mut self, path: &[Step<'_>], message: impl Into<String>, fix: impl Into<String>) {
        self.problems.push(Problem {
            file: self.file.to_owned(),
            line: self.tree.line_of(path),
            field: field(path),
            message: message.into(),
            fix: fix.into(),
        });
    }

    /// The value of a string whose format was checked.
    fn parsed<T>(&mut self, path: &[Step<'_>], parsed: Result<T, format::Complaint>) -> Option<T> {
        parsed.map_err(|(message, fix)| self.problem(path, message, fix)).ok()
    }

    fn addresses(&mut self, path: &[Step<'_>], texts: &[String]) -> Vec<IpAddr> {
        texts.iter().filter_map(|text| self.parsed(path, format::address(text))).collect()
    }

    fn node(&mut self, raw: raw::Node) -> Node {
        let path = [Step::Field("node"), Step::Field("pod_networks")];
        Node {
            name: raw.name,
            pod_networks: raw
                .pod_networks
                .iter()
                .filter_map(|text| self.parsed(&path, format::network(text)))
                .collect(),
            addresses: self.addresses(&[Step::Field("node"), Step::Field("addresses")], &raw.addresses),
            state_directory: beside(self.file, &raw.state_directory),
        }
    }

    fn api(&mut self, raw: &raw::Api) -> Api {
        let socket = beside(self.file, &raw.socket);
        let bytes = socket.as_os_str().len();
        if bytes > SOCKET_BYTES_MAX {
            self.problem(
                &[Step::Field("api"), Step::Field("socket")],
                format!("the path has {bytes} bytes, and that of a socket at most {SOCKET_BYTES_MAX}"),
                "choose a shorter one",
            );
        }
        Api { socket }
    }

    fn endpoint(&mut self, index: usize, raw: raw::Endpoint) -> Endpoint {
        let at = |name| [Step::Field("endpoint"), Step::Index(index), Step::Field(name)];
        let mut labels = BTreeMap::new();
        for (key, value) in raw.labels {
            let full = if key.contains(':') { key.clone() } else { format!("k8s:{key}") };
            if labels.insert(full.clone(), value).is_some() {
                let [list, item, table] = at("labels");
                let message = format!("`{full}` is given twice, with and without its source");
                self.problem(&[list, item, table, Step::Field(&key)], message, "remove one of them");
            }
        }
        for (key, value) in given(&raw.namespace) {
            let _written = labels.entry(format!("k8s:{key}")).or_insert_with(|| value.to_owned());
        }
        let ports = at("named_ports");
        Endpoint {
            addresses: self.addresses(&at("addresses"), &raw.addresses),
            named_ports: raw
                .named_ports
                .into_iter()
                .filter_map(|(name, text)| Some((name, self.parsed(&ports, format::port(&text))?)))
                .collect(),
            name: raw.name,
            namespace: raw.namespace,
            interface: raw.interface,
            labels,
        }
    }

    fn listener(&mut self, index: usize, raw: raw::Listener) -> Option<Listener> {
        let at = |name| [Step::Field("listener"), Step::Index(index), Step::Field(name)];
        let bind = self.parsed(&at("bind"), format::socket(&raw.bind));
        let upstream = self.parsed(&at("upstream"), format::socket(&raw.upstream));
        Some(Listener { endpoint: raw.endpoint, port: raw.port, bind: bind?, upstream: upstream? })
    }

    fn metrics(&mut self, raw: &raw::Metrics) -> Option<Metrics> {
        let path = [Step::Field("metrics"), Step::Field("listen")];
        Some(Metrics { listen: self.parsed(&path, format::socket(&raw.listen))? })
    }

    fn together(&mut self, config: &Config) {
        for (index, endpoint) in config.endpoints.iter().enumerate() {
            self.endpoint_alone(index, endpoint, config);
            self.endpoint_among(index, endpoint, config);
        }
        for (index, listener) in config.listeners.iter().enumerate() {
            self.listener_endpoint(index, listener, config);
            self.listener_sockets(index, listener, config);
        }
        let directories = &config.policies.directories;
        for (index, directory) in directories.iter().enumerate() {
            if directories.iter().take(index).any(|other| other == directory) {
                let path = [Step::Field("policies"), Step::Field("directories"), Step::Index(index)];
                self.problem(
                    &path,
                    format!("`{}` is given twice", directory.display()),
                    "remove one of them",
                );
            }
        }
    }

    /// What an endpoint says against itself and the node.
    fn endpoint_alone(&mut self, index: usize, endpoint: &Endpoint, config: &Config) {
        let at = |name| [Step::Field("endpoint"), Step::Index(index), Step::Field(name)];
        if config.redirect.mode == Mode::Ebpf && endpoint.interface.is_none() {
            self.problem(
                &at("interface"),
                "is missing, and `redirect.mode` is `ebpf`",
                "add `interface = \"...\"`, the node's end of the endpoint's interface",
            );
        }
        for (nth, address) in endpoint.addresses.iter().enumerate() {
            let [list, item, addresses] = at("addresses");
            let path = [list, item, addresses, Step::Index(nth)];
            if endpoint.addresses.iter().take(nth).any(|other| other.is_ipv4() == address.is_ipv4()) {
                let family = if address.is_ipv4() { "IPv4" } else { "IPv6" };
                self.problem(&path, format!("a second {family} address"), "keep at most one of each family");
            }
            if !config.node.pod_networks.iter().any(|network| format::contains(*network, *address)) {
                self.problem(
                    &path,
                    format!("`{address}` lies in none of `node.pod_networks`"),
                    "add its network there, or correct the address",
                );
            }
            if config.node.addresses.contains(address) {
                self.problem(
                    &path,
                    format!("`{address}` is the node's own"),
                    "remove it here or in `node.addresses`",
                );
            }
        }
    }

    /// What an endpoint shares with one before it.
    fn endpoint_among(&mut self, index: usize, endpoint: &Endpoint, config: &Config) {
        let at = |name| [Step::Field("endpoint"), Step::Index(index), Step::Field(name)];
        for (before, other) in config.endpoints.iter().take(index).enumerate() {
            let theirs = format!("`{}` (endpoint[{before}])", full_name(other));
            if other.name == endpoint.name && other.namespace == endpoint.namespace {
                self.problem(
                    &at("name"),
                    format!("the same name as {theirs}"),
                    "give it another name or namespace",
                );
            }
            if endpoint.interface.is_some() && endpoint.interface == other.interface {
                self.problem(
                    &at("interface"),
                    format!("the same interface as {theirs}"),
                    "give each endpoint its own",
                );
            }
            for (nth, address) in endpoint.addresses.iter().enumerate() {
                if other.addresses.contains(address) {
                    let [list, item, addresses] = at("addresses");
                    let path = [list, item, addresses, Step::Index(nth)];
                    let message = format!("`{address}` is also an address of {theirs}");
                    self.problem(&path, message, "give each endpoint its own");
                }
            }
        }
    }

    fn listener_endpoint(&mut self, index: usize, listener: &Listener, config: &Config) {
        let path = [Step::Field("listener"), Step::Index(index), Step::Field("endpoint")];
        if config.redirect.mode == Mode::Ebpf {
            self.problem(
                &[Step::Field("listener"), Step::Index(index)],
                "listeners need `redirect.mode` to be `none`",
                "remove the listener: with `ebpf` the endpoint's own port is guarded",
            );
        }
        let wanted = &listener.endpoint;
        let found = config.endpoints.iter().filter(|e| e.name == *wanted || full_name(e) == *wanted).count();
        match found {
            1 => {}
            0 => {
                let names: Vec<String> =
                    config.endpoints.iter().flat_map(|e| [e.name.clone(), full_name(e)]).collect();
                let fix = match suggest::nearest(wanted, names.iter().map(String::as_str)) {
                    Some(meant) => format!("did you mean `{meant}`?"),
                    None => "add an `[[endpoint]]` of this name".to_owned(),
                };
                self.problem(&path, format!("there is no endpoint `{wanted}`"), fix);
            }
            _ => {
                let message = format!("`{wanted}` names {found} endpoints");
                self.problem(&path, message, "write it as `namespace/name`");
            }
        }
    }

    fn listener_sockets(&mut self, index: usize, listener: &Listener, config: &Config) {
        let at = |name| [Step::Field("listener"), Step::Index(index), Step::Field(name)];
        let taken =
            |socket: SocketAddr| config.listeners.iter().position(|other| overlaps(other.bind, socket));
        if let Some(before) = taken(listener.bind).filter(|before| *before < index) {
            let message = format!("`{}` is already bound by listener[{before}]", listener.bind);
            self.problem(&at("bind"), message, "give each listener its own address or port");
        }
        if let Some(other) = taken(listener.upstream) {
            let message = format!("`{}` is where listener[{other}] is bound: a loop", listener.upstream);
            self.problem(&at("upstream"), message, "write where the service itself listens");
        }
        if config.metrics.as_ref().is_some_and(|metrics| overlaps(metrics.listen, listener.bind)) {
            let message = format!("`{}` is taken by `metrics.listen`", listener.bind);
            self.problem(&at("bind"), message, "give one of them another port");
        }
    }
}

/// What a cluster adds to the labels of every pod: a rule that names the namespace or the cluster then means here what
/// it means there. What is written wins.
fn given(namespace: &str) -> [(&'static str, &str); 3] {
    [
        ("io.cilium.k8s.namespace.labels.kubernetes.io/metadata.name", namespace),
        ("io.cilium.k8s.policy.cluster", "default"),
        ("io.kubernetes.pod.namespace", namespace),
    ]
}

/// Whether both can't be bound at once: `0.0.0.0:80` takes port 80 of every IPv4 address.
fn overlaps(a: SocketAddr, b: SocketAddr) -> bool {
    let wildcard = a.ip().is_unspecified() || b.ip().is_unspecified();
    a.port() == b.port() && a.is_ipv4() == b.is_ipv4() && (wildcard || a.ip() == b.ip())
}

fn full_name(endpoint: &Endpoint) -> String {
    format!("{}/{}", endpoint.namespace, endpoint.name)
}
