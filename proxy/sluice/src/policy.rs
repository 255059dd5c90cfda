//! `sluice policy get`, and `sluice policy explain` in words.

use crate::args::{ExplainArgs, Format, Global};
use crate::client::Client;
use crate::offline;
use crate::output::{self, Answer, Out, harmless};
use anyhow::Result;
use policy_model::explain::{DirectionExplanation, Explanation, Party};
use proxy_core::api::{ExplainRequest, PolicyView};

pub(crate) fn get(out: Out<'_>, client: &Client, format: Format) -> Result<Answer> {
    let view: PolicyView = client.get("/v1/policies")?;
    output::write(out, format, &view, |out| {
        output::json(out, &view.rules)?;
        Ok(writeln!(out, "Revision: {}", view.revision)?)
    })?;
    Ok(Answer::Yes)
}

pub(crate) fn explain(out: Out<'_>, global: &Global, args: &ExplainArgs) -> Result<Answer> {
    let question = question(args);
    let explanation = if global.config.is_some() || !args.policies.is_empty() {
        offline::explain(global.config.as_deref(), &args.policies, &question)?
    } else {
        crate::client(global)?.post("/v1/explain", &question)?
    };
    output::write(out, global.output, &explanation, |out| words(out, &question, &explanation))?;
    Ok(Answer::from(explanation.allowed))
}

fn question(args: &ExplainArgs) -> ExplainRequest {
    ExplainRequest {
        from: args.from.clone(),
        to: args.to.clone(),
        port: args.port,
        protocol: Some(args.protocol.to_ascii_uppercase()),
        method: args.method.clone(),
        path: args.path.clone(),
        host: args.host.clone(),
        headers: args.headers.clone(),
    }
}

fn words(out: Out<'_>, question: &ExplainRequest, explanation: &Explanation) -> Result<()> {
    let verdict = if explanation.allowed { "allowed" } else { "denied" };
    let protocol = question.protocol.as_deref().unwrap_or("TCP");
    let request = match (&question.method, &question.path) {
        (None, None) => String::new(),
        (method, path) => {
            let (method, path) = (method.as_deref().unwrap_or("GET"), path.as_deref().unwrap_or("/"));
            format!(": {}", harmless(&format!("{method} {path}")))
        }
    };
    writeln!(
        out,
        "{verdict}: {} -> {} port {}/{protocol}{request}",
        name(&explanation.source),
        name(&explanation.destination),
        question.port,
    )?;
    let mut rows = Vec::new();
    half(&mut rows, "egress", &explanation.source, &explanation.egress);
    half(&mut rows, "ingress", &explanation.destination, &explanation.ingress);
    output::table(out, 0, 2, &rows)
}

fn name(party: &Party) -> String {
    match &party.endpoint {
        Some(endpoint) => format!("{endpoint} ({}, identity {})", party.address, party.identity),
        None => format!("{} ({}, identity {})", party.address, party.labels.join(","), party.identity),
    }
}

/// What one end's policy says, indented below the verdict.
fn half(rows: &mut Vec<Vec<String>>, direction: &str, of: &Party, half: &DirectionExplanation) {
    let meaning = match (half.verdict.as_str(), &half.reason, &of.endpoint) {
        (verdict, Some(reason), _) => format!("{verdict} ({reason})"),
        ("inspected", None, _) => "inspected: connections are allowed, and each request is judged".to_owned(),
        ("not enforced", None, Some(_)) => "not enforced: no policy selects it".to_owned(),
        ("not enforced", None, None) => "not enforced: no endpoint of this node".to_owned(),
        (verdict, None, _) => verdict.to_owned(),
    };
    let mut push = |name: &str, text: &str| {
        rows.push(vec![format!("  {name}"), harmless(text)]);
    };
    push(direction, &meaning);
    match (&half.nearest, &half.rule) {
        (Some(nearest), _) => {
            push("  nearest", &nearest.rule);
            push("  failed", &nearest.detail);
        }
        (None, Some(rule)) => push("  rule", rule),
        (None, None) => {}
    }
}
