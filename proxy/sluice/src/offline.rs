//! Answers without a daemon, by the daemon's own code: node file and policies are resolved here.

use crate::node;
use crate::output;
use anyhow::{Context, Result, bail};
use config_node::Config;
use policy_model::cidr::Prefix;
use policy_model::explain::Explanation;
use policy_model::identity::Numbers;
use policy_model::inputs::{EndpointInputs, NodeInputs};
use policy_model::labels::Label;
use policy_model::parse::{Diagnostic, Judged, parse};
use policy_model::rule::{Policy, Protocol};
use policy_model::{Inputs, resolve};
use proxy_core::api::ExplainRequest;
use proxy_core::text::Complaints;
use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A text with policies, and where it came from.
#[derive(Debug)]
pub(crate) struct PolicyText {
    pub(crate) name: String,
    pub(crate) text: String,
}

/// Directories give their `*.yaml`, `*.yml` and `*.json`, as the daemon reads them; `-` is the standard input.
///
/// # Errors
/// Something named can't be read.
pub(crate) fn policy_texts(paths: &[PathBuf]) -> Result<Vec<PolicyText>> {
    let mut texts = Vec::new();
    for path in paths {
        if path.as_os_str() == "-" {
            let mut text = String::new();
            let _bytes =
                std::io::stdin().read_to_string(&mut text).context("can't read the standard input")?;
            texts.push(PolicyText { name: "-".to_owned(), text });
        } else if path.is_dir() {
            for file in files(path)? {
                texts.push(read(&file)?);
            }
        } else {
            texts.push(read(path)?);
        }
    }
    Ok(texts)
}

fn read(path: &Path) -> Result<PolicyText> {
    let text = std::fs::read_to_string(path).with_context(|| format!("can't read `{}`", path.display()))?;
    Ok(PolicyText { name: path.display().to_string(), text })
}

fn files(directory: &Path) -> Result<Vec<PathBuf>> {
    let context = || format!("can't read the directory `{}`", directory.display());
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).with_context(context)? {
        let path = entry.with_context(context)?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        if ["json", "yaml", "yml"].contains(&extension) && !name.starts_with('.') && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// # Errors
/// The node file or a policy file can't be read, or the question makes no sense.
pub(crate) fn explain(
    config: Option<&Path>,
    policies: &[PathBuf],
    question: &ExplainRequest,
) -> Result<Explanation> {
    let config = node::read(config.unwrap_or(Path::new(node::NODE_FILE)))?;
    let places = if policies.is_empty() { &config.policies.directories } else { policies };
    let inputs = inputs(&config, in_force(places)?);
    let (snapshot, diagnostics) = resolve(&inputs, &mut Numbers::default(), 0);
    for diagnostic in &diagnostics {
        warn("policy", diagnostic);
    }
    Ok(proxy_core::explain::explain(&snapshot, config.limits.path_bytes, question)?)
}

/// What would be in force if these were the first policies of a node: refused objects in their closed form.
fn in_force(places: &[PathBuf]) -> Result<Vec<Arc<Policy>>> {
    let mut policies = BTreeMap::new();
    for PolicyText { name, text } in policy_texts(places)? {
        let parsed = match parse(&text) {
            Ok(parsed) => parsed,
            Err(diagnostics) => {
                let each = diagnostics.iter().map(|d| complaint(&name, d)).collect();
                bail!(Complaints { what: "a policy file does not parse".to_owned(), each });
            }
        };
        for object in parsed.objects {
            let (policy, diagnostics) = match object.judged {
                Judged::Accepted { policy, diagnostics } => (policy, diagnostics),
                Judged::Refused { closed, diagnostics } => (closed, diagnostics),
            };
            for diagnostic in &diagnostics {
                warn(&name, diagnostic);
            }
            // Of two with one name the first counts, as it does for the daemon.
            let _first = policies.entry(object.name).or_insert_with(|| Arc::new(policy));
        }
    }
    Ok(policies.into_values().collect())
}

fn complaint(file: &str, diagnostic: &Diagnostic) -> String {
    let Diagnostic { severity: _, line, field, message, fix } = diagnostic;
    output::complaint(file, *line, field, message, fix)
}

fn warn(file: &str, diagnostic: &Diagnostic) {
    crate::tell(&[complaint(file, diagnostic)]);
}

fn inputs(config: &Config, policies: Vec<Arc<Policy>>) -> Inputs {
    let node = &config.node;
    Inputs {
        node: NodeInputs {
            name: node.name.as_str().into(),
            pod_networks: node
                .pod_networks
                .iter()
                .filter_map(|(a, length)| Prefix::new(*a, *length))
                .collect(),
            addresses: node.addresses.clone(),
            allow_localhost: config.policies.allow_localhost,
        },
        endpoints: config.endpoints.iter().map(endpoint).collect(),
        peers: Vec::new(),
        policies,
    }
}

fn endpoint(endpoint: &config_node::Endpoint) -> EndpointInputs {
    let protocol = |name: &str| match name {
        "SCTP" => Protocol::SCTP,
        "UDP" => Protocol::UDP,
        _ => Protocol::TCP,
    };
    let label = |(key, value): (&String, &String)| {
        let (source, key) = key.split_once(':').unwrap_or(("k8s", key));
        Label::new(source, key, value)
    };
    let ports = endpoint.named_ports.iter();
    EndpointInputs {
        name: endpoint.name.as_str().into(),
        namespace: endpoint.namespace.as_str().into(),
        interface: endpoint.interface.as_deref().map(Into::into),
        addresses: endpoint.addresses.clone(),
        labels: endpoint.labels.iter().map(label).collect(),
        named_ports: ports.map(|(name, (port, p))| (name.as_str().into(), (*port, protocol(p)))).collect(),
    }
}
