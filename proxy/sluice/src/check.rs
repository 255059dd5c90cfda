//! `sluice policy check`: what is understood of policy files, object by object.

use crate::args::Format;
use crate::offline::{self, PolicyText};
use crate::output::{self, Answer, Out};
use anyhow::Result;
use policy_model::parse::{Diagnostic, Judged, Severity, parse};
use policy_model::rule::{ObjectKind, ObjectName};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// One object, or a whole file that does not parse.
#[derive(Debug, Serialize)]
struct Checked {
    file: String,
    /// `namespace/name`; absent where the whole file is meant.
    object: Option<String>,
    kind: Option<&'static str>,
    /// `Accepted` or `Refused`.
    verdict: &'static str,
    diagnostics: Vec<Diagnostic>,
}

const ACCEPTED: &str = "Accepted";
const REFUSED: &str = "Refused";

pub(crate) fn check(out: Out<'_>, format: Format, paths: &[PathBuf]) -> Result<Answer> {
    let mut checked = Vec::new();
    let mut seen = BTreeMap::new();
    for text in offline::policy_texts(paths)? {
        check_text(&text, &mut seen, &mut checked);
    }
    output::write(out, format, &checked, |out| words(out, &checked))?;
    Ok(Answer::from(checked.iter().all(|object| object.verdict == ACCEPTED)))
}

fn check_text(text: &PolicyText, seen: &mut BTreeMap<ObjectName, String>, checked: &mut Vec<Checked>) {
    let parsed = match parse(&text.text) {
        Ok(parsed) => parsed,
        Err(diagnostics) => {
            let file = text.name.clone();
            return checked.push(Checked { file, object: None, kind: None, verdict: REFUSED, diagnostics });
        }
    };
    for object in parsed.objects {
        let (mut verdict, mut diagnostics) = match object.judged {
            Judged::Accepted { diagnostics, .. } => (ACCEPTED, diagnostics),
            Judged::Refused { diagnostics, .. } => (REFUSED, diagnostics),
        };
        if let Some(first) = seen.get(&object.name) {
            verdict = REFUSED;
            diagnostics.insert(0, twice(first));
        }
        let _first = seen.entry(object.name.clone()).or_insert_with(|| text.name.clone());
        checked.push(Checked {
            file: text.name.clone(),
            object: Some(full_name(&object.name)),
            kind: Some(kind(object.name.kind)),
            verdict,
            diagnostics,
        });
    }
}

fn twice(first: &str) -> Diagnostic {
    Diagnostic {
        severity: Severity::Error,
        line: 0,
        field: "metadata.name".to_owned(),
        message: format!("`{first}` has an object of this name too, and comes first"),
        fix: "remove one of them or give it another name".to_owned(),
    }
}

fn full_name(name: &ObjectName) -> String {
    match &name.namespace {
        Some(namespace) => format!("{namespace}/{}", name.name),
        None => name.name.to_string(),
    }
}

fn kind(kind: ObjectKind) -> &'static str {
    match kind {
        ObjectKind::CiliumClusterwideNetworkPolicy => "CiliumClusterwideNetworkPolicy",
        ObjectKind::CiliumNetworkPolicy => "CiliumNetworkPolicy",
    }
}

fn words(out: Out<'_>, checked: &[Checked]) -> Result<()> {
    for object in checked {
        let name = object.object.as_deref().unwrap_or("the whole file");
        writeln!(out, "{}", output::harmless(&format!("{}: {name}: {}", object.file, object.verdict)))?;
        for d in &object.diagnostics {
            let severity = match d.severity {
                Severity::Error => "",
                Severity::Warning => "warning: ",
            };
            let message = format!("{severity}{}", d.message);
            writeln!(out, "  {}", output::complaint(&object.file, d.line, &d.field, &message, &d.fix))?;
        }
    }
    if checked.is_empty() {
        writeln!(out, "no policy objects")?;
    }
    Ok(())
}
