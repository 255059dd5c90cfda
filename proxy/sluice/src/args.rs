//! The command line as typed. The help texts are the documentation: each command shows how it is used.

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use std::path::PathBuf;

/// Asks sluiced, and explains and checks policies without it.
///
/// Exit status: 0 yes or ok; 1 no (denied, invalid, status not ok); 2 there is no answer.
#[derive(Debug, Parser)]
#[command(
    name = "sluice",
    version,
    after_help = "\
Examples:
  sluice status
  sluice endpoint list
  sluice monitor --verdict denied,dropped
  sluice policy explain --from tiefighter --to deathstar-1 --port 80 --method PUT --path /v1/exhaust-port
  sluice policy check policies/"
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Args)]
pub(crate) struct Global {
    /// The daemon's socket [default: the one of --config, or /run/sluice/sluiced.sock]
    #[arg(long, global = true, value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,
    /// The node file
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// For people: table; for programs: json or yaml
    #[arg(short, long, global = true, value_enum, default_value_t = Format::Table)]
    pub(crate) output: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Json,
    Table,
    Yaml,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Writes a completion script for a shell
    #[command(
        after_help = "Example:\n  sluice completions bash > /usr/share/bash-completion/completions/sluice"
    )]
    Completions { shell: Shell },
    /// Node files
    #[command(subcommand, after_help = "Example:\n  sluice config check /etc/sluice/node.toml")]
    Config(ConfigCommand),
    /// The workloads of this node
    #[command(
        subcommand,
        after_help = "Examples:\n  sluice endpoint list\n  sluice endpoint get deathstar-1"
    )]
    Endpoint(EndpointCommand),
    /// Identities: their numbers and labels
    #[command(subcommand, after_help = "Example:\n  sluice identity list")]
    Identity(IdentityCommand),
    /// Writes the man page, or all of them
    #[command(after_help = "Examples:\n  sluice man | man -l -\n  sluice man --dir /usr/share/man/man1")]
    Man {
        /// Writes a page for every command into this directory
        #[arg(long, value_name = "DIRECTORY")]
        dir: Option<PathBuf>,
    },
    /// Shows requests, connections and drops as they happen
    Monitor(MonitorArgs),
    /// What is allowed, and why
    #[command(
        subcommand,
        after_help = "Examples:\n  sluice policy get\n  sluice policy check l7.yaml\n  sluice policy explain --from xwing --to deathstar-1 --port 80"
    )]
    Policy(PolicyCommand),
    /// The revision in force, and what is not enforced and why
    ///
    /// Exit status 1: something that policy asks for is not enforced as written.
    #[command(
        after_help = "Examples:\n  sluice status\n  sluice status --wait 10\n  sluice status -o json | jq .revision"
    )]
    Status {
        /// Keep retrying for this many seconds while the daemon starts
        #[arg(long, value_name = "SECONDS", default_value_t = 0)]
        wait: u16,
    },
    /// Remove everything that sluiced has set up in the kernel (`sluiced --uninstall`)
    ///
    /// Until then it stays in force, whether or not sluiced runs. Refused while sluiced runs: stop it first.
    #[command(
        after_help = "Examples:\n  sluice uninstall\n  sluice uninstall --config /etc/sluice/node.toml"
    )]
    Uninstall,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Validate a node file: reports line, field and fix of every problem
    #[command(after_help = "Example:\n  sluice config check /etc/sluice/node.toml")]
    Check {
        /// The node file: YAML where its name ends in `.yaml` or `.yml`, TOML otherwise
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum EndpointCommand {
    /// One endpoint
    #[command(
        after_help = "Examples:\n  sluice endpoint get deathstar-1\n  sluice endpoint get default/deathstar-1 -o json"
    )]
    Get {
        /// `name`, `namespace/name` or number
        #[arg(value_name = "ENDPOINT")]
        name: String,
    },
    /// All endpoints: whether policy is enforced, identity, labels, addresses
    #[command(after_help = "Examples:\n  sluice endpoint list\n  sluice endpoint list -o json")]
    List,
}

#[derive(Debug, Subcommand)]
pub(crate) enum IdentityCommand {
    /// All identities that are in use on this node
    #[command(after_help = "Example:\n  sluice identity list")]
    List,
}

#[derive(Debug, Subcommand)]
pub(crate) enum PolicyCommand {
    /// Validate policy files: each object is accepted, or refused with line, field and fix
    #[command(
        after_help = "Examples:\n  sluice policy check l7.yaml\n  sluice policy check policies/\n  kubectl get cnp -A -o yaml | sluice policy check -"
    )]
    Check {
        /// Files, directories, or `-` for the standard input
        #[arg(value_name = "FILE", required = true)]
        files: Vec<PathBuf>,
    },
    /// Why a connection or a request is allowed or denied: the deciding rule, or the nearest miss
    ///
    /// Asks the daemon. With --config or --policies it is evaluated locally by the same code, without a daemon:
    /// endpoints from the node file, policies from its directories or from --policies.
    #[command(after_help = "\
Examples:
  sluice policy explain --from tiefighter --to deathstar-1 --port 80 --method PUT --path /v1/exhaust-port
  sluice policy explain --from xwing --to 10.15.42.252 --port 80
  sluice policy explain --config node.toml --policies new/ --from xwing --to deathstar-1 --port 80")]
    Explain(ExplainArgs),
    /// The policies in force as JSON, and their revision
    #[command(after_help = "Example:\n  sluice policy get")]
    Get,
}

#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// The source: an endpoint, an address, `world` or `host`
    #[arg(long, value_name = "ENDPOINT")]
    pub(crate) from: String,
    /// The destination: an endpoint, an address, `world` or `host`
    #[arg(long, value_name = "ENDPOINT")]
    pub(crate) to: String,
    /// The destination port; for ICMP any number, such as 0
    #[arg(long)]
    pub(crate) port: u16,
    /// TCP, UDP, SCTP, ICMP or ICMPv6
    #[arg(long, default_value = "TCP")]
    pub(crate) protocol: String,
    /// Of an HTTP request on the connection
    #[arg(long)]
    pub(crate) method: Option<String>,
    /// Its target: path, and `?` and query if there is one
    #[arg(long)]
    pub(crate) path: Option<String>,
    /// Its host, with a port where the client sends one; empty unless given
    #[arg(long)]
    pub(crate) host: Option<String>,
    /// A header field of it, `Name: value`; may be repeated
    #[arg(long = "header", value_name = "FIELD")]
    pub(crate) headers: Vec<String>,
    /// Evaluate these policies (files or directories) without the daemon
    #[arg(long, value_name = "PATH", num_args = 1..)]
    pub(crate) policies: Vec<PathBuf>,
}

/// Filters are ANDed; each may be given once.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sluice monitor
  sluice monitor --verdict denied,dropped --to deathstar-1
  sluice monitor --from org=alliance -o json
  sluice monitor --follow=false --last 20")]
pub(crate) struct MonitorArgs {
    /// Keep following new records until interrupted; `--follow=false` shows the kept records only
    #[arg(short, long, default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) follow: bool,
    /// Start with this many kept records [default: 0, or 100 with --follow=false]
    #[arg(long, value_name = "COUNT")]
    pub(crate) last: Option<usize>,
    /// Verdicts, separated by commas
    #[arg(long, value_parser = ["denied", "dropped", "ended", "forwarded"], num_args = 1, value_delimiter = ',', ignore_case = true, action = clap::ArgAction::Set)]
    pub(crate) verdict: Vec<String>,
    /// An endpoint, an address or a label
    #[arg(long, value_name = "PARTY")]
    pub(crate) from: Option<String>,
    /// An endpoint, an address or a label
    #[arg(long, value_name = "PARTY")]
    pub(crate) to: Option<String>,
    /// Kinds of records, separated by commas
    #[arg(long = "type", value_name = "TYPE", value_parser = ["connection", "http-request", "l4"], num_args = 1, value_delimiter = ',', ignore_case = true, action = clap::ArgAction::Set)]
    pub(crate) kind: Vec<String>,
    /// Reasons for a denial, drop or end, such as no_http_rule, separated by commas
    #[arg(long)]
    pub(crate) reason: Option<String>,
    /// Whose policy decided: egress (of the opener) or ingress (of the destination)
    #[arg(long, value_parser = ["egress", "ingress"], ignore_case = true)]
    pub(crate) direction: Option<String>,
    /// Of the request
    #[arg(long)]
    pub(crate) method: Option<String>,
    /// Prefix of the path
    #[arg(long)]
    pub(crate) path: Option<String>,
}
