//! `sluice endpoint list|get` and `sluice identity list`.

use crate::args::Format;
use crate::client::Client;
use crate::output::{self, Answer, Out};
use anyhow::{Result, ensure};
use proxy_core::api::{EndpointView, IdentityView};

pub(crate) fn list(out: Out<'_>, client: &Client, format: Format) -> Result<Answer> {
    let endpoints: Vec<EndpointView> = client.get("/v1/endpoints")?;
    output::write(out, format, &endpoints, |out| table(out, &endpoints))?;
    Ok(Answer::Yes)
}

pub(crate) fn get(out: Out<'_>, client: &Client, format: Format, name: &str) -> Result<Answer> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'/');
    ensure!(
        !name.is_empty() && name.bytes().all(plain),
        "`{}` can't be an endpoint; write `name`, `namespace/name` or a number",
        output::harmless(name)
    );
    let endpoint: EndpointView = client.get(&format!("/v1/endpoints/{name}"))?;
    output::write(out, format, &endpoint, |out| details(out, &endpoint))?;
    Ok(Answer::Yes)
}

pub(crate) fn identities(out: Out<'_>, client: &Client, format: Format) -> Result<Answer> {
    let identities: Vec<IdentityView> = client.get("/v1/identities")?;
    output::write(out, format, &identities, |out| {
        let mut rows = vec![row(["ID", "LABELS"])];
        for identity in &identities {
            let (first, further) = split(&identity.labels, "no labels");
            rows.push(row([identity.id.to_string().as_str(), first]));
            rows.extend(further.iter().map(|label| row(["", label])));
        }
        output::table(out, 2, 3, &rows)
    })?;
    Ok(Answer::Yes)
}

fn table(out: Out<'_>, endpoints: &[EndpointView]) -> Result<()> {
    let mut rows = vec![
        row([
            "ENDPOINT",
            "POLICY (ingress)",
            "POLICY (egress)",
            "IDENTITY",
            "LABELS (source:key[=value])",
            "IPv6",
            "IPv4",
            "STATUS",
        ]),
        row(["", "ENFORCEMENT", "ENFORCEMENT"]),
    ];
    for endpoint in endpoints {
        let (first, further) = split(&endpoint.labels, "no labels");
        rows.push(row([
            endpoint.id.to_string().as_str(),
            &endpoint.ingress_enforcement,
            &endpoint.egress_enforcement,
            &identity(endpoint),
            first,
            endpoint.ipv6.as_deref().unwrap_or_default(),
            endpoint.ipv4.as_deref().unwrap_or_default(),
            &endpoint.status,
        ]));
        rows.extend(further.iter().map(|label| row(["", "", "", "", label])));
    }
    output::table(out, 5, 3, &rows)
}

fn details(out: Out<'_>, endpoint: &EndpointView) -> Result<()> {
    let (first, further) = split(&endpoint.labels, "no labels");
    let mut rows = vec![
        row(["Endpoint", &format!("{}/{}", endpoint.namespace, endpoint.name)]),
        row(["Number", &endpoint.id.to_string()]),
        row(["Status", &endpoint.status]),
        row(["Ingress", &endpoint.ingress_enforcement]),
        row(["Egress", &endpoint.egress_enforcement]),
        row(["Interface", endpoint.interface.as_deref().unwrap_or("-")]),
        row(["IPv4", endpoint.ipv4.as_deref().unwrap_or("-")]),
        row(["IPv6", endpoint.ipv6.as_deref().unwrap_or("-")]),
        row(["Identity", &identity(endpoint)]),
        row(["Flows", &flows(endpoint)]),
        row(["Events lost", &endpoint.events_lost.to_string()]),
        row(["Labels", first]),
    ];
    rows.extend(further.iter().map(|label| row(["", label])));
    output::table(out, 5, 3, &rows)
}

fn flows(endpoint: &EndpointView) -> String {
    let EndpointView { flows, inspected_flows, flows_over_quota, .. } = endpoint;
    format!("{inspected_flows} inspected, {flows} others, {flows_over_quota} beyond the quota so far")
}

fn identity(endpoint: &EndpointView) -> String {
    match endpoint.identity {
        0 => "<no label id>".to_owned(),
        identity => identity.to_string(),
    }
}

/// The label of the first row, and those of the rows below.
fn split<'a>(labels: &'a [String], none: &'a str) -> (&'a str, &'a [String]) {
    labels.split_first().map_or((none, &[]), |(first, further)| (first, further))
}

fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.iter().map(|cell| output::harmless(cell)).collect()
}
