//! The node file as written. These types are also the JSON Schema, and the schema is what [`crate::shape`] checks
//! by: a range, a format or a list of words is stated here once.
//!
//! Doc comments of fields are the schema's descriptions: they are written for whoever writes the file.

use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeMap;

/// What `sluiced --config` reads, as TOML or YAML. Relative paths are relative to the file.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "sluice node file")]
pub(crate) struct File {
    pub(crate) node: Node,
    #[serde(default)]
    pub(crate) policies: Policies,
    #[serde(default)]
    pub(crate) redirect: Redirect,
    /// The workloads of this node.
    #[serde(default)]
    pub(crate) endpoint: Vec<Endpoint>,
    /// Only with `redirect.mode = "none"`: what stands for connections to an endpoint's port.
    #[serde(default)]
    pub(crate) listener: Vec<Listener>,
    #[serde(default)]
    pub(crate) api: Api,
    #[serde(default)]
    pub(crate) limits: Limits,
    #[serde(default)]
    pub(crate) log: Log,
    /// Prometheus metrics; without this section none are served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Metrics")]
    pub(crate) metrics: Option<Metrics>,
}

#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Node {
    /// Shown in `sluice status`.
    #[schemars(extend("format" = "name"))]
    pub(crate) name: String,
    /// Networks whose addresses are pods. An address inside them that no endpoint claims is unknown, never `world`.
    #[schemars(length(min = 1), transform = each_network)]
    pub(crate) pod_networks: Vec<String>,
    /// The node's own addresses (identity `host`); empty: those of its interfaces, followed as they change.
    #[serde(default)]
    #[schemars(transform = each_address)]
    pub(crate) addresses: Vec<String>,
    /// Last accepted policies, identity numbers, the revision, saved sysctls.
    #[serde(default = "state_directory")]
    #[schemars(extend("format" = "path"))]
    pub(crate) state_directory: String,
}

#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Policies {
    /// Every `*.yaml`, `*.yml` and `*.json` in them is read, and read again when it changes.
    #[schemars(length(min = 1), transform = each_path)]
    pub(crate) directories: Vec<String>,
    /// The local host may reach local endpoints at L4, so that probes work.
    pub(crate) allow_localhost: bool,
}

#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Redirect {
    /// `ebpf`: programs on the endpoints' interfaces enforce; `none`: only the listeners, no root needed.
    pub(crate) mode: Mode,
    /// The kernel object; by default the installed one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", extend("format" = "path"))]
    pub(crate) object: Option<String>,
    /// Where the BPF file system is mounted.
    #[schemars(extend("format" = "path"))]
    pub(crate) bpffs: String,
    /// The kernel settings that redirection needs (`net.ipv4.tcp_early_demux = 0`) are put back when another program changes
    /// them; `false`: `sluice status` reports it, and nothing else.
    pub(crate) keep_sysctls: bool,
}

#[derive(Clone, Copy, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Mode {
    Ebpf,
    None,
}

#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Endpoint {
    #[schemars(extend("format" = "name"))]
    pub(crate) name: String,
    #[serde(default = "namespace")]
    #[schemars(extend("format" = "namespace"))]
    pub(crate) namespace: String,
    /// The node's end of its interface; not needed with `redirect.mode = "none"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", extend("format" = "interface"))]
    pub(crate) interface: Option<String>,
    /// One IPv4 address, one IPv6 address, or one of each.
    #[schemars(length(min = 1, max = 2), transform = each_address)]
    pub(crate) addresses: Vec<String>,
    /// Its identity. A key without source (`source:key`) gets the source `k8s`.
    #[serde(default)]
    #[schemars(transform = label_table)]
    pub(crate) labels: BTreeMap<String, String>,
    /// Names that policies may use for its ports: `http = "80/TCP"`.
    #[serde(default)]
    #[schemars(transform = port_table)]
    pub(crate) named_ports: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Listener {
    /// `name`, or `namespace/name`, of an endpoint of this file.
    pub(crate) endpoint: String,
    /// The port that policy speaks of.
    #[schemars(range(min = 1, max = 65535))]
    pub(crate) port: u16,
    /// Where clients connect to.
    #[schemars(extend("format" = "socket"))]
    pub(crate) bind: String,
    /// Where allowed connections go.
    #[schemars(extend("format" = "socket"))]
    pub(crate) upstream: String,
}

#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Api {
    /// The unix socket that `sluice` talks to; mode 0660.
    #[schemars(extend("format" = "path"))]
    pub(crate) socket: String,
}

/// Every bound of the daemon. Times are milliseconds.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Limits {
    /// Request line and header fields of one request together.
    #[schemars(range(min = 1024, max = 1_048_576))]
    pub(crate) head_bytes: usize,
    /// Header fields of one request.
    #[schemars(range(min = 1, max = 256))]
    pub(crate) header_fields: usize,
    /// The path of one request, without the query.
    #[schemars(range(min = 64, max = 65536))]
    pub(crate) path_bytes: usize,
    /// A chunk-size line with its extensions.
    #[schemars(range(min = 16, max = 65536))]
    pub(crate) chunk_line_bytes: usize,
    /// The trailer section behind a chunked body.
    #[schemars(range(min = 64, max = 1_048_576))]
    pub(crate) trailer_bytes: usize,
    /// From the first byte of a head to its last.
    #[schemars(range(min = 1, max = 3_600_000))]
    pub(crate) head_ms: u64,
    /// Requests of one connection whose responses are outstanding; further ones wait.
    #[schemars(range(min = 1, max = 1024))]
    pub(crate) pipelined_requests: usize,
    /// Bytes of a denied request's body that are swallowed to keep its connection.
    #[schemars(range(min = 1, max = 1_073_741_824))]
    pub(crate) swallow_bytes: u64,
    /// Time for that.
    #[schemars(range(min = 1, max = 3_600_000))]
    pub(crate) swallow_ms: u64,
    /// Time for the upstream to answer the dial.
    #[schemars(range(min = 1, max = 3_600_000))]
    pub(crate) dial_ms: u64,
    /// Inspected connections at once. An opener may borrow what is free; when nothing is, whoever borrows most gives back.
    #[schemars(range(min = 1, max = 1_048_576))]
    pub(crate) connections: usize,
    /// Of these for each endpoint that opens, and for each /24 (IPv6: /64) outside towards each endpoint.
    #[schemars(range(min = 1, max = 1_048_576))]
    pub(crate) guaranteed_connections: usize,
    /// Of these for the node itself, so that its probes arrive.
    #[schemars(range(min = 0, max = 1_048_576))]
    pub(crate) node_connections: usize,
    /// Pipes that carry long bodies; where all are in use, bodies are copied.
    #[schemars(range(min = 0, max = 65536))]
    pub(crate) pipes: usize,
    /// Memory for bytes that were read and that the other side does not take; shared by who opens connections.
    #[schemars(range(min = 1_048_576, max = 1_099_511_627_776u64))]
    pub(crate) held_bytes: usize,
    /// After SIGTERM, the time for live connections to end.
    #[schemars(range(min = 1, max = 3_600_000))]
    pub(crate) drain_ms: u64,
    /// Flow records kept for `sluice monitor`.
    #[schemars(range(min = 1, max = 1_048_576))]
    pub(crate) flow_records: usize,
    /// Worker threads; 0: one a core.
    #[schemars(range(min = 0, max = 256))]
    pub(crate) workers: usize,
    /// Uninspected flows that the kernel tracks. Nothing evicts them; an endpoint's flows beyond its share are tracked where such
    /// flows evict each other.
    #[schemars(range(min = 4096, max = 4_194_304))]
    pub(crate) flows: u32,
    /// Inspected connections that the kernel tracks, some seconds beyond their end included; those of an endpoint beyond its
    /// share are refused.
    #[schemars(range(min = 256, max = 1_048_576))]
    pub(crate) inspected_flows: u32,
    /// Of each of these two, what an endpoint has whatever others do; what is left may be borrowed. Less where half of the table
    /// does not suffice for all endpoints.
    #[schemars(range(min = 16, max = 1_048_576))]
    pub(crate) flows_per_endpoint: u32,
    /// Entries of an endpoint's policy in the kernel: one for each identity and range of ports that is allowed or denied. An
    /// endpoint whose policy needs more is cut off.
    #[schemars(range(min = 16, max = 1_048_576))]
    pub(crate) policy_entries: usize,
    /// Verdicts of the kernel (refused packets, new connections that are not inspected) that are recorded of each sender, a
    /// second; 640 at once. What is beyond is counted for it.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(crate) events_per_endpoint: u32,
    /// Policies of one namespace that are in force as written; clusterwide ones are a namespace of their own.
    #[schemars(range(min = 1, max = 1_048_576))]
    pub(crate) policies_per_namespace: usize,
    /// Bytes of the automata of HTTP patterns, of all policies of a namespace together.
    #[schemars(range(min = 67_108_864, max = 1_099_511_627_776_u64))]
    pub(crate) automaton_bytes_per_namespace: usize,
}

#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Log {
    /// `error`, `warn`, `info`, `debug`, `trace`, or a filter such as `info,sluiced=debug`.
    #[schemars(extend("format" = "log-level"))]
    pub(crate) level: String,
    pub(crate) format: LogFormat,
    /// Whether flow records hold the queries of requests. Where not, a path ends at its `?`: credentials are often behind it.
    pub(crate) query_strings: bool,
}

#[derive(Clone, Copy, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    Json,
    Text,
}

#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Metrics {
    /// Where `GET /metrics` is answered.
    #[schemars(extend("format" = "socket"))]
    pub(crate) listen: String,
}

impl Default for Policies {
    fn default() -> Self {
        Self { directories: vec!["/etc/sluice/policies".to_owned()], allow_localhost: true }
    }
}

impl Default for Redirect {
    fn default() -> Self {
        Self { mode: Mode::Ebpf, object: None, bpffs: "/sys/fs/bpf".to_owned(), keep_sysctls: true }
    }
}

impl Default for Api {
    fn default() -> Self {
        Self { socket: "/run/sluice/sluiced.sock".to_owned() }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head_bytes: 64 * 1024,
            header_fields: 200,
            path_bytes: 8192,
            chunk_line_bytes: 4096,
            trailer_bytes: 16 * 1024,
            head_ms: 10_000,
            pipelined_requests: 64,
            swallow_bytes: 1024 * 1024,
            swallow_ms: 10_000,
            dial_ms: 10_000,
            connections: 16_384,
            guaranteed_connections: 64,
            node_connections: 64,
            pipes: 512,
            held_bytes: 268_435_456,
            drain_ms: 30_000,
            flow_records: 4096,
            workers: 0,
            flows: 131_072,
            inspected_flows: 65_536,
            flows_per_endpoint: 1024,
            policy_entries: 1_048_576,
            events_per_endpoint: 500,
            policies_per_namespace: 4096,
            automaton_bytes_per_namespace: 256 << 20,
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { level: "info".to_owned(), format: LogFormat::Text, query_strings: false }
    }
}

fn state_directory() -> String {
    "/var/lib/sluice".to_owned()
}

fn namespace() -> String {
    "default".to_owned()
}

fn each_address(schema: &mut Schema) {
    list_of(schema, "address");
}

fn each_network(schema: &mut Schema) {
    list_of(schema, "network");
}

fn each_path(schema: &mut Schema) {
    list_of(schema, "path");
}

/// A list whose elements have a format.
fn list_of(schema: &mut Schema, format: &str) {
    let _before = schema.insert("items".to_owned(), json!({ "type": "string", "format": format }));
}

fn label_table(schema: &mut Schema) {
    table_of(schema, "label-key", "label-value");
}

fn port_table(schema: &mut Schema) {
    table_of(schema, "port-name", "port");
}

/// A table whose keys and values have a format.
fn table_of(schema: &mut Schema, keys: &str, values: &str) {
    let _before = schema.insert("propertyNames".to_owned(), json!({ "format": keys }));
    let _before =
        schema.insert("additionalProperties".to_owned(), json!({ "type": "string", "format": values }));
}
