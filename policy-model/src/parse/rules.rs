//! One rule: its subject, its four lists, and what it says of default-deny.

use super::diagnostic::{Complaints, Severity, Unreadable};
use super::entries::{self, EGRESS, EGRESS_DENY, INGRESS, INGRESS_DENY, List, ListKind, nothing};
use super::place::{Fields, Place, Refused, Schema, Written};
use super::print;
use super::scope::Scope;
use super::selectors;
use crate::labels::{Label, LabelSet};
use crate::rule::{Rule, Section, Subject};

const RULE: Schema = Schema {
    what: "a rule",
    known: &[
        "endpointSelector",
        "nodeSelector",
        "ingress",
        "ingressDeny",
        "egress",
        "egressDeny",
        "enableDefaultDeny",
        "labels",
        "description",
    ],
    refused: &[Refused::NotYet("log", "leave it out: it changes no verdict")],
    unknown: Severity::Error,
};
const DEFAULT_DENY: Schema = Schema {
    what: "`enableDefaultDeny`",
    known: &["ingress", "egress"],
    refused: &[],
    unknown: Severity::Error,
};
const LABEL: Schema =
    Schema { what: "a label", known: &["key", "value", "source"], refused: &[], unknown: Severity::Error };

/// Reads the rule at `place`; `derived` are the labels that its object gives to every rule.
pub(super) fn read(
    place: &Place<'_>,
    namespace: Option<&str>,
    derived: &[Label],
    complaints: &mut Complaints,
) -> Rule {
    let Ok(mut fields) = place.fields(&RULE, complaints) else {
        return unreadable(place, derived);
    };
    let subject = subject(&mut fields, place, namespace, complaints);
    let subject_is_init = match &subject {
        Subject::Endpoints(selector) | Subject::Nodes(selector) => selectors::selects_init(selector),
        Subject::Nobody => false,
    };
    let scope = Scope { rule: &place.path, namespace, subject_is_init };
    let mut list = |kind: &'static ListKind, fields: &mut Fields<'_>| {
        let written = fields.take(kind.name);
        entries::read(kind, written, &scope, complaints)
    };
    let ingress = (list(&INGRESS, &mut fields), list(&INGRESS_DENY, &mut fields));
    let egress = (list(&EGRESS, &mut fields), list(&EGRESS_DENY, &mut fields));
    if !fields.unknown && ![&ingress.0, &ingress.1, &egress.0, &egress.1].iter().any(|list| list.touches) {
        let message =
            "a rule must have at least one entry in `ingress`, `ingressDeny`, `egress` or `egressDeny`";
        let _unreadable = place.error(complaints, message, "`ingress: [{}]` denies everything by default");
    }
    let default_deny = default_deny(fields.take("enableDefaultDeny"), complaints);
    let unknown = fields.unknown;
    let mut rule = Rule {
        path: place.path.as_str().into(),
        subject,
        ingress: section(ingress, default_deny.0, unknown, complaints),
        egress: section(egress, default_deny.1, unknown, complaints),
        description: description(fields.take("description"), complaints),
        labels: labels(fields.take("labels"), derived, complaints),
        printed: serde_json::Value::Null,
    };
    rule.printed = print::rule(&rule);
    rule
}

/// A rule of which nothing is known selects nobody.
fn unreadable(place: &Place<'_>, derived: &[Label]) -> Rule {
    let mut rule = Rule {
        path: place.path.as_str().into(),
        subject: Subject::Nobody,
        ingress: Section::default(),
        egress: Section::default(),
        description: None,
        labels: derived.iter().cloned().collect(),
        printed: serde_json::Value::Null,
    };
    rule.printed = print::rule(&rule);
    rule
}

fn subject(
    fields: &mut Fields<'_>,
    rule: &Place<'_>,
    namespace: Option<&str>,
    complaints: &mut Complaints,
) -> Subject {
    match (fields.take("endpointSelector"), fields.take("nodeSelector")) {
        (Written::Absent, Written::Absent) => {
            let fix = "`endpointSelector: {}` selects every endpoint of the namespace";
            let _unreadable = rule.error(complaints, "a rule must have an `endpointSelector`", fix);
            Subject::Nobody
        }
        (Written::Value(place), Written::Absent) => {
            selectors::read_subject(&place, namespace, complaints).map_or(Subject::Nobody, Subject::Endpoints)
        }
        (Written::Absent, Written::Value(place)) => {
            let _unreadable = place.error(
                complaints,
                "not supported yet: `nodeSelector`",
                "select endpoints with `endpointSelector`",
            );
            selectors::read(&place, complaints).map_or(Subject::Nobody, Subject::Nodes)
        }
        (Written::Value(_), Written::Value(place)) => {
            let message = "a rule cannot have both `endpointSelector` and `nodeSelector`";
            let _unreadable = place.error(complaints, message, "write one rule for each");
            Subject::Nobody
        }
        (Written::Unreadable, _) | (_, Written::Unreadable) => Subject::Nobody,
    }
}

/// What `enableDefaultDeny` says of one direction.
enum Said<'t> {
    No,
    Nothing,
    Unreadable,
    Yes(Place<'t>),
}

/// What it says of ingress and of egress.
fn default_deny<'t>(written: Written<'t>, complaints: &mut Complaints) -> (Said<'t>, Said<'t>) {
    let place = match written {
        Written::Absent => return (Said::Nothing, Said::Nothing),
        Written::Unreadable => return (Said::Unreadable, Said::Unreadable),
        Written::Value(place) => place,
    };
    let Ok(mut fields) = place.fields(&DEFAULT_DENY, complaints) else {
        return (Said::Unreadable, Said::Unreadable);
    };
    let unknown = fields.unknown;
    let mut said = |name: &str| match fields.take(name) {
        _ if unknown => Said::Unreadable,
        Written::Absent => Said::Nothing,
        Written::Unreadable => Said::Unreadable,
        Written::Value(place) => match place.boolean(complaints) {
            Err(Unreadable) => Said::Unreadable,
            Ok(false) => Said::No,
            Ok(true) => Said::Yes(place),
        },
    };
    (said("ingress"), said("egress"))
}

/// One direction. `unknown`: the rule has a field that may mean anything, so that nothing of it may be granted.
fn section(
    (allow, deny): (List, List),
    said: Said<'_>,
    unknown: bool,
    complaints: &mut Complaints,
) -> Section {
    let touched = allow.touches || deny.touches;
    let default_deny = match said {
        Said::No => false,
        Said::Nothing => touched || unknown,
        Said::Unreadable => true,
        Said::Yes(place) => {
            if !touched {
                let message = "the rule has no entry in this direction: everything is denied there";
                place.warn(complaints, message, "leave it out if that is not meant; Cilium ignores it");
            }
            true
        }
    };
    let allow = match unknown {
        true => allow.entries.iter().map(|entry| nothing(&entry.path)).collect(),
        false => allow.entries,
    };
    Section { default_deny, allow, deny: deny.entries }
}

fn description(written: Written<'_>, complaints: &mut Complaints) -> Option<Box<str>> {
    match written {
        Written::Absent | Written::Unreadable => None,
        Written::Value(place) => place.string(complaints).ok().map(Into::into),
    }
}

fn labels(written: Written<'_>, derived: &[Label], complaints: &mut Complaints) -> LabelSet {
    let own = match written {
        Written::Absent | Written::Unreadable => Ok(Vec::new()),
        Written::Value(place) => place.list(complaints),
    };
    let own = own.unwrap_or_default();
    let own = own.iter().filter_map(|item| label(item, complaints).ok());
    own.chain(derived.iter().cloned()).collect()
}

fn label(place: &Place<'_>, complaints: &mut Complaints) -> Result<Label, Unreadable> {
    let mut fields = place.fields(&LABEL, complaints)?;
    let mut text = |name: &str| match fields.take(name) {
        Written::Absent => Ok(None),
        Written::Unreadable => Err(Unreadable),
        Written::Value(place) => place.string(complaints).map(Some),
    };
    let (key, value, source) = (text("key")?, text("value")?, text("source")?);
    match key {
        Some(key) if !key.is_empty() => Ok(Label::new(source.unwrap_or("unspec"), key, value.unwrap_or(""))),
        Some(_) | None => Err(place.error(complaints, "a label needs a `key`", "write `key` and `value`")),
    }
}
