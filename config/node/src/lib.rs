//! The node file: TOML or YAML text in, a checked [`Config`] out. Pure: the text is an argument.
//!
//! ```text
//! text ─► tree (values with lines) ─► shape (against the schema) ─► raw (serde) ─► convert ─► Config
//! ```
//!
//! Errors name file, line, field and the fix, all that can be found at once. Unknown fields are errors.
//! Relative paths are relative to the node file.
//!
//! INVARIANT: what the shipped JSON Schema says and what [`read`] checks are one thing: the types of `raw`.

mod format;
mod raw;
mod suggest;
mod tree;
mod convert;
mod shape;

use core::fmt;
use core::net::{IpAddr, SocketAddr};
use std::collections::BTreeMap;
use std::path::PathBuf;

#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub node: Node,
    pub policies: Policies,
    pub redirect: Redirect,
    pub endpoints: Vec<Endpoint>,
    pub listeners: Vec<Listener>,
    pub api: Api,
    pub limits: Limits,
    pub log: Log,
    pub metrics: Option<Metrics>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    pub name: String,
    /// (address, prefix length), host bits zero.
    pub pod_networks: Vec<(IpAddr, u8)>,
    /// The node's own addresses; empty: all those of its interfaces, which the daemon follows.
    pub addresses: Vec<IpAddr>,
    /// `/var/lib/sluice` by default: last accepted policies, identity numbers, revision, saved sysctls.
    pub state_directory: PathBuf,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Policies {
    pub directories: Vec<PathBuf>,
    /// `true` by default.
    pub allow_localhost: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Redirect {
    pub mode: Mode,
    /// The kernel object; `None`: the installed place, `/usr/lib/sluice/redirect.o`.
    pub object: Option<PathBuf>,
    /// `/sys/fs/bpf` by default.
    pub bpffs: PathBuf,
    /// A sysctl that another program changes is put back. `true` by default; `false`: it is only reported.
    pub keep_sysctls: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Ebpf,
    None,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Endpoint {
    pub name: String,
    /// `default` by default.
    pub namespace: String,
    pub interface: Option<String>,
    /// One or two, at most one of each family.
    pub addresses: Vec<IpAddr>,
    /// `source:key` -> value, complete: a key written without source has got `k8s`, and the labels that every pod has
    /// (its namespace, the cluster) are among them.
    pub labels: BTreeMap<String, String>,
    /// Name -> (port, `TCP`, `UDP` or `SCTP`).
    pub named_ports: BTreeMap<String, (u16, String)>,
}

/// Only with mode `none`.
#[derive(Clone, Debug, PartialEq)]
pub struct Listener {
    /// `name` or `namespace/name` of an endpoint of this file.
    pub endpoint: String,
    pub port: u16,
    pub bind: SocketAddr,
    pub upstream: SocketAddr,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Api {
    /// `/run/sluice/sluiced.sock` by default; mode 0660.
    pub socket: PathBuf,
}

/// Durations in milliseconds, as written.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    pub head_bytes: usize,
    pub header_fields: usize,
    /// The path of a request, as sent, without the query. 8,192 by default.
    pub path_bytes: usize,
    pub chunk_line_bytes: usize,
    pub trailer_bytes: usize,
    pub head_ms: u64,
    pub pipelined_requests: usize,
    pub swallow_bytes: u64,
    pub swallow_ms: u64,
    pub dial_ms: u64,
    /// Connections that the proxy holds at once; further ones are reset. 16,384 by default.
    pub connections: usize,
    /// Of these for each opener but the node. 64 by default.
    pub guaranteed_connections: usize,
    /// Of these for the node itself. 64 by default.
    pub node_connections: usize,
    /// Pipes for long bodies. 512 by default.
    pub pipes: usize,
    /// Memory for bytes that peers do not take. 268,435,456 by default.
    pub held_bytes: usize,
    /// SIGTERM waits this long for live connections. 30,000 by default.
    pub drain_ms: u64,
    /// Records kept for `sluice monitor`. 4,096 by default.
    pub flow_records: usize,
    /// Worker threads; 0 (default): one a core.
    pub workers: usize,
    /// Uninspected flows that the kernel tracks. 131,072 by default.
    pub flows: u32,
    /// Inspected connections that the kernel tracks. 65,536 by default.
    pub inspected_flows: u32,
    /// Of each, what an endpoint has whatever others do. 1,024 by default.
    pub flows_per_endpoint: u32,
    /// Entries of an endpoint's policy in the kernel. 1,048,576 by default.
    pub policy_entries: usize,
    /// Kernel verdicts recorded of each sender, a second. 500 by default.
    pub events_per_endpoint: u32,
    /// Policies of a namespace. 4,096 by default.
    pub policies_per_namespace: usize,
    /// Bytes of the automata of a namespace's policies. 256 MiB by default; at least what one policy may have.
    pub automaton_bytes_per_namespace: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Log {
    /// A tracing filter: `info` by default.
    pub level: String,
    pub format: LogFormat,
    /// Whether flow records hold queries. Not by default.
    pub query_strings: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Json,
    Text,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Metrics {
    pub listen: SocketAddr,
}

/// One complaint about the file. Printed as `node.toml:12: endpoint[0].addresses[1]: ...; fix`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub file: String,
    /// 1-based; 0 where none is known.
    pub line: u32,
    pub field: String,
    pub message: String,
    pub fix: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line != 0 {
            write!(f, ":{}", self.line)?;
        }
        if !self.field.is_empty() {
            write!(f, ": {}", self.field)?;
        }
        write!(f, ": {}", self.message)?;
        if !self.fix.is_empty() {
            write!(f, "; {}", self.fix)?;
        }
        Ok(())
    }
}

/// Reads a node file. YAML where the name ends in `.yaml` or `.yml`, TOML otherwise.
///
/// # Errors
/// Every problem that was found, not only the first.
pub fn read(file: &str, text: &str) -> Result<Config, Vec<Problem>> {
    let tree = tree::read(file, text)?;
    let problems = shape::check(file, schema_of_raw().as_value(), &tree);
    if !problems.is_empty() {
        return Err(problems);
    }
    let raw = serde_json::from_value(tree.to_json()).map_err(|error| vec![unexpected(file, &error)])?;
    convert::convert(file, &tree, raw)
}

/// The shape was checked, so serde has nothing left to find; if it does all the same, the file is not accepted.
fn unexpected(file: &str, error: &serde_json::Error) -> Problem {
    let message = error.to_string();
    Problem { file: file.to_owned(), line: 0, field: String::new(), message, fix: String::new() }
}

/// The JSON Schema of the file.
pub fn schema() -> String {
    let mut text = serde_json::to_string_pretty(&schema_of_raw()).unwrap_or_default();
    text.push('\n');
    text
}

fn schema_of_raw() -> schemars::Schema {
    let settings = schemars::generate::SchemaSettings::draft2020_12().with(|s| s.inline_subschemas = true);
    settings.into_generator().into_root_schema_for::<raw::File>()
}

#[cfg(test)]
mod tests;
