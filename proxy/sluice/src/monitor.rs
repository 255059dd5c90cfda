//! `sluice monitor`: one line a flow.

use crate::args::{Format, MonitorArgs};
use crate::client::Client;
use crate::output::{Answer, Out, harmless, yaml};
use anyhow::{Context, Result};
use proxy_core::api::{AuditView, FlowParty, FlowView};

pub(crate) fn monitor(out: Out<'_>, client: &Client, format: Format, args: &MonitorArgs) -> Result<Answer> {
    client.lines(&format!("/v1/flows?{}", query(args)), |line| {
        match format {
            // As they came: what a newer daemon adds is kept.
            Format::Json => {
                writeln!(out, "{}", harmless(&String::from_utf8_lossy(line)))?;
            }
            Format::Table => writeln!(out, "{}", words(&record(line)?))?,
            Format::Yaml => write!(out, "---\n{}", yaml(&record(line)?)?)?,
        }
        Ok(out.flush()?)
    })?;
    Ok(Answer::Yes)
}

fn record(line: &[u8]) -> Result<FlowView> {
    serde_json::from_slice(line).context("sluiced sends records that this version does not understand")
}

fn query(args: &MonitorArgs) -> String {
    let last = args.last.map(|last| last.to_string());
    let one_of = |values: &[String]| (!values.is_empty()).then(|| values.join(","));
    let (verdict, kind) = (one_of(&args.verdict), one_of(&args.kind));
    let filters = [
        ("last", last.as_deref()),
        ("verdict", verdict.as_deref()),
        ("from", args.from.as_deref()),
        ("to", args.to.as_deref()),
        ("kind", kind.as_deref()),
        ("reason", args.reason.as_deref()),
        ("direction", args.direction.as_deref()),
        ("method", args.method.as_deref()),
        ("path", args.path.as_deref()),
    ];
    let mut query = format!("follow={}", args.follow);
    for (name, value) in filters {
        if let Some(value) = value {
            query.push_str(&format!("&{name}={}", escaped(value)));
        }
    }
    query
}

fn escaped(text: &str) -> String {
    let escape = |b: u8| match b {
        b if b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'/' | b':' | b',') => {
            char::from(b).to_string()
        }
        b => format!("%{b:02X}"),
    };
    text.bytes().map(escape).collect()
}

/// Time, type, who to whom, verdict and why, the request, and the rule.
fn words(flow: &FlowView) -> String {
    let verdict = match &flow.reason {
        Some(reason) => format!("{} {reason}", flow.verdict),
        None => flow.verdict.clone(),
    };
    let mut line = format!(
        "{} {:<12} {:<7} {} -> {} {:<24}",
        time(&flow.time),
        flow.detail.kind(),
        flow.direction,
        source(flow),
        party(&flow.destination),
        verdict,
    );
    let rule = flow.rule.as_ref().map(|rule| format!("[{rule}]"));
    for part in [Some(summary(flow)), rule, flow.audit.as_ref().map(audit)].into_iter().flatten() {
        line.push(' ');
        line.push_str(&part);
    }
    harmless(line.trim_end())
}

/// To the millisecond: `2026-10-01T12:00:00.123Z`.
fn time(rfc3339: &str) -> String {
    match rfc3339.trim_end_matches('Z').split_once('.') {
        Some((seconds, fraction)) => format!("{seconds}.{}Z", fraction.get(..3).unwrap_or(fraction)),
        None => rfc3339.to_owned(),
    }
}

/// Who sent it, and in whose name where that is another's.
fn source(flow: &FlowView) -> String {
    match flow.reason.as_deref() {
        Some("spoofed_source") => format!("{} as {}", party(&flow.source), flow.source.address),
        Some(_) | None => party(&flow.source),
    }
}

fn party(party: &FlowParty) -> String {
    let name = party.endpoint.as_deref().unwrap_or(&party.address);
    let reserved = party.labels.iter().find_map(|label| label.strip_prefix("reserved:"));
    let identity = reserved.map_or_else(|| party.identity.to_string(), str::to_owned);
    match (party.port, party.endpoint.is_none() && party.address.contains(':')) {
        (0, _) => format!("{name} ({identity})"),
        (port, true) => format!("[{name}]:{port} ({identity})"),
        (port, false) => format!("{name}:{port} ({identity})"),
    }
}

fn summary(flow: &FlowView) -> String {
    match flow.detail.words(&flow.destination.address) {
        Some(detail) => detail + &flow.latency_ns.map(latency).unwrap_or_default(),
        None => {
            let count = if flow.count > 1 { format!(" x{}", flow.count) } else { String::new() };
            format!("{}{count}", flow.protocol)
        }
    }
}

/// What another policy would have said.
fn audit(audit: &AuditView) -> String {
    let parts = [Some(&audit.verdict), audit.reason.as_ref(), audit.rule.as_ref()];
    let parts: Vec<&str> = parts.into_iter().flatten().map(String::as_str).collect();
    format!("audit: {}", parts.join(" "))
}

/// Three digits are enough to see what is slow.
fn latency(ns: u64) -> String {
    let tenths = ns / 100_000;
    format!(" {}.{}ms", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proxy_core::api::{DetailView, HttpView};

    fn request() -> HttpView {
        HttpView {
            method: Some("PUT".into()),
            path: Some("/v1/exhaust-port".into()),
            host: Some("deathstar".into()),
            version: Some("HTTP/1.1".into()),
            status: Some(403),
        }
    }

    fn flow() -> FlowView {
        FlowView {
            time: "2026-10-01T12:00:00.123456789Z".into(),
            detail: DetailView::Http(request()),
            direction: "ingress".into(),
            verdict: "denied".into(),
            reason: Some("no_http_rule".into()),
            rule: Some("default/rule1: spec.ingress[0].toPorts[0].rules.http[0]".into()),
            source: FlowParty {
                address: "10.0.0.1".into(),
                port: 41234,
                identity: 27301,
                labels: vec!["k8s:org=empire".into()],
                endpoint: Some("default/tiefighter".into()),
                uid: None,
            },
            destination: FlowParty {
                address: "f00d::1".into(),
                port: 80,
                identity: 2,
                labels: vec!["reserved:world".into()],
                endpoint: None,
                uid: None,
            },
            protocol: "TCP".into(),
            latency_ns: Some(312_345),
            count: 1,
            ..FlowView::default()
        }
    }

    #[test]
    fn a_denied_request() {
        assert_eq!(
            words(&flow()),
            "2026-10-01T12:00:00.123Z http-request ingress default/tiefighter:41234 (27301) -> [f00d::1]:80 (world) \
             denied no_http_rule      HTTP/1.1 PUT http://deathstar/v1/exhaust-port => 403 0.3ms \
             [default/rule1: spec.ingress[0].toPorts[0].rules.http[0]]"
        );
    }

    #[test]
    fn a_forged_source_is_told_beside_its_sender() {
        let source =
            FlowParty { endpoint: Some("default/evil".into()), address: "10.0.0.9".into(), ..flow().source };
        let drop = FlowView { reason: Some("spoofed_source".into()), source, ..flow() };
        assert!(words(&drop).contains(" default/evil:41234 (27301) as 10.0.0.9 -> "), "{}", words(&drop));
    }

    #[test]
    fn an_aggregated_drop() {
        let drop = FlowView {
            detail: DetailView::L4,
            verdict: "dropped".into(),
            reason: Some("no_rule".into()),
            rule: None,
            count: 7,
            ..flow()
        };
        assert!(words(&drop).ends_with("dropped no_rule          TCP x7"), "{}", words(&drop));
    }

    #[test]
    fn a_second_verdict_comes_last() {
        let audit = AuditView { verdict: "denied".into(), reason: Some("no_rule".into()), rule: None };
        let flow = FlowView { rule: None, audit: Some(audit), ..flow() };
        assert!(words(&flow).ends_with("=> 403 0.3ms audit: denied no_rule"), "{}", words(&flow));
    }

    #[test]
    fn what_the_wire_says_does_not_reach_the_terminal_as_it_is() {
        let hostile = HttpView { path: Some("/\u{1b}[2J".into()), ..request() };
        let hostile = FlowView { detail: DetailView::Http(hostile), ..flow() };
        assert!(words(&hostile).contains("/\\u001b[2J =>"));
    }

    #[test]
    fn queries_are_escaped() {
        assert_eq!(escaped("k8s:org=empire&x"), "k8s:org%3Dempire%26x");
        assert_eq!(escaped("denied,dropped"), "denied,dropped");
    }
}
