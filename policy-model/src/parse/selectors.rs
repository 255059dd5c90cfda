//! Selectors as written, and what their object's namespace adds to them.

use super::diagnostic::{Complaints, Severity, Unreadable, quoted};
use super::place::{Place, Schema, Written, nearest};
use crate::selector::{RESERVED, Requirement, Selector, SelectorKey};

const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
const NAMESPACE_LABELS: &str = "io.cilium.k8s.namespace.labels.";

const SELECTOR: Schema = Schema {
    what: "a selector",
    known: &["matchExpressions", "matchLabels"],
    refused: &[],
    unknown: Severity::Error,
};
const EXPRESSION: Schema = Schema {
    what: "a match expression",
    known: &["key", "operator", "values"],
    refused: &[],
    unknown: Severity::Error,
};
const OPERATORS: [&str; 4] = ["In", "NotIn", "Exists", "DoesNotExist"];

/// A selector as written: requirements in the order of their keys, matchLabels before matchExpressions.
pub(super) fn read(place: &Place<'_>, complaints: &mut Complaints) -> Result<Selector, Unreadable> {
    let (mut requirements, expressions) = parts(place, complaints)?;
    requirements.extend(expressions);
    Ok(Selector { requirements })
}

/// The subject of a namespaced object is confined to its namespace, whatever its labels say of it.
/// An expression on the namespace stays, and may leave nobody.
pub(super) fn read_subject(
    place: &Place<'_>,
    namespace: Option<&str>,
    complaints: &mut Complaints,
) -> Result<Selector, Unreadable> {
    let Some(namespace) = namespace else {
        return read(place, complaints);
    };
    let (mut labels, expressions) = parts(place, complaints)?;
    let forced = Requirement::In(pod_namespace(), vec![namespace.into()]);
    labels.retain(|label| {
        let is_namespace = *label.key() == pod_namespace();
        if is_namespace && *label != forced {
            let message = format!("the subject is confined to the policy's namespace {}", quoted(namespace));
            place.warn(complaints, message, format!("leave `{}` out", label.key()));
        }
        !is_namespace
    });
    labels.push(forced);
    labels.sort();
    labels.extend(expressions);
    Ok(Selector { requirements: labels })
}

/// A peer of a namespaced object is confined to its namespace unless the selector speaks of namespaces itself.
pub(super) fn confine_peer(selector: &mut Selector, namespace: &str) {
    if !selector.names_reserved()
        && !names(selector, |key| is_namespace(key) || key.starts_with(NAMESPACE_LABELS))
    {
        insert_label(selector, pod_namespace(), namespace);
    }
}

/// A peer of a clusterwide object has some namespace.
pub(super) fn confine_to_pods(selector: &mut Selector) {
    if !selector.names_reserved() && !names(selector, is_namespace) {
        selector.requirements.push(Requirement::Exists(pod_namespace()));
    }
}

/// Whether the selector speaks of pods whose labels are not known yet.
pub(super) fn selects_init(selector: &Selector) -> bool {
    selector.requirements.iter().any(|r| *r.key().source == *RESERVED && *r.key().key == *"init")
}

/// Whether some key that is, or may be, a label of pods is one of these.
fn names(selector: &Selector, is_one: impl Fn(&str) -> bool) -> bool {
    let keys = selector.requirements.iter().map(Requirement::key);
    keys.filter(|key| matches!(&*key.source, "any" | "k8s")).any(|key| is_one(&key.key))
}

fn is_namespace(key: &str) -> bool {
    key == POD_NAMESPACE
}

fn pod_namespace() -> SelectorKey {
    SelectorKey { source: "k8s".into(), key: POD_NAMESPACE.into() }
}

/// Keeps the labels sorted and in front of the expressions.
fn insert_label(selector: &mut Selector, key: SelectorKey, value: &str) {
    let label = Requirement::In(key, vec![value.into()]);
    let is_before = |r: &Requirement| is_label(r) && r.key() < label.key();
    let index =
        selector.requirements.iter().position(|r| !is_before(r)).unwrap_or(selector.requirements.len());
    selector.requirements.insert(index, label);
}

/// Whether it is written as an entry of matchLabels.
pub(super) fn is_label(requirement: &Requirement) -> bool {
    matches!(requirement, Requirement::In(_, values) if values.len() == 1)
}

/// The labels, sorted, and the expressions.
fn parts(
    place: &Place<'_>,
    complaints: &mut Complaints,
) -> Result<(Vec<Requirement>, Vec<Requirement>), Unreadable> {
    let mut fields = place.fields(&SELECTOR, complaints)?;
    let labels = match_labels(fields.take("matchLabels"), complaints);
    let expressions = match_expressions(fields.take("matchExpressions"), complaints);
    match fields.unknown {
        true => Err(Unreadable),
        false => Ok((labels?, expressions?)),
    }
}

fn match_labels(written: Written<'_>, complaints: &mut Complaints) -> Result<Vec<Requirement>, Unreadable> {
    let place = match written {
        Written::Absent => return Ok(Vec::new()),
        Written::Unreadable => return Err(Unreadable),
        Written::Value(place) => place,
    };
    let mut labels = Vec::new();
    for (text, place) in place.entries(complaints)? {
        let key = key(text, &place, complaints)?;
        labels.push(Requirement::In(key, vec![value(&place, complaints)?.into()]));
    }
    labels.sort();
    let same = labels.windows(2).any(|pair| matches!(pair, [a, b] if a.key() == b.key()));
    match same {
        true => Err(place.error(
            complaints,
            "two keys are the same label: one has its source written, one has not",
            "",
        )),
        false => Ok(labels),
    }
}

fn match_expressions(
    written: Written<'_>,
    complaints: &mut Complaints,
) -> Result<Vec<Requirement>, Unreadable> {
    match written {
        Written::Absent => Ok(Vec::new()),
        Written::Unreadable => Err(Unreadable),
        Written::Value(place) => {
            place.list(complaints)?.iter().map(|item| expression(item, complaints)).collect()
        }
    }
}

fn expression(place: &Place<'_>, complaints: &mut Complaints) -> Result<Requirement, Unreadable> {
    let mut fields = place.fields(&EXPRESSION, complaints)?;
    let key = match fields.take("key") {
        Written::Absent => Err(place.error(complaints, "`key` is missing", "name the label")),
        Written::Unreadable => Err(Unreadable),
        Written::Value(place) => place.string(complaints).and_then(|text| key(text, &place, complaints)),
    }?;
    let operator = match fields.take("operator") {
        Written::Absent => {
            Err(place.error(complaints, "`operator` is missing", format!("one of {}", OPERATORS.join(", "))))
        }
        Written::Unreadable => Err(Unreadable),
        Written::Value(place) => Ok(place),
    }?;
    let values = values(fields.take("values"), complaints)?;
    if fields.unknown {
        return Err(Unreadable);
    }
    match (operator.string(complaints)?, values) {
        ("In", Some(values)) if !values.is_empty() => Ok(Requirement::In(key, values)),
        ("NotIn", Some(values)) if !values.is_empty() => Ok(Requirement::NotIn(key, values)),
        ("In" | "NotIn", _) => {
            Err(place.error(complaints, "the operators `In` and `NotIn` need values", "list the `values`"))
        }
        ("Exists", values) if values.as_ref().is_none_or(Vec::is_empty) => Ok(Requirement::Exists(key)),
        ("DoesNotExist", values) if values.as_ref().is_none_or(Vec::is_empty) => {
            Ok(Requirement::DoesNotExist(key))
        }
        ("Exists" | "DoesNotExist", _) => Err(place.error(
            complaints,
            "the operators `Exists` and `DoesNotExist` take no values",
            "leave `values` out",
        )),
        (other, _) => {
            let fix = match nearest(other, OPERATORS.into_iter()) {
                Some(name) => format!("write `{name}`"),
                None => format!("one of {}", OPERATORS.join(", ")),
            };
            Err(operator.error(complaints, format!("unknown operator {}", quoted(other)), fix))
        }
    }
}

fn values(written: Written<'_>, complaints: &mut Complaints) -> Result<Option<Vec<Box<str>>>, Unreadable> {
    match written {
        Written::Absent => Ok(None),
        Written::Unreadable => Err(Unreadable),
        Written::Value(place) => {
            let items = place.list(complaints)?;
            items
                .iter()
                .map(|item| value(item, complaints).map(Into::into))
                .collect::<Result<_, _>>()
                .map(Some)
        }
    }
}

/// No label has any other value: an `In` with one would select nobody, and a `NotIn` everybody.
fn value<'t>(place: &Place<'t>, complaints: &mut Complaints) -> Result<&'t str, Unreadable> {
    let text = place.string(complaints)?;
    if is_label_value(text) {
        return Ok(text);
    }
    let message = format!("{} is not a label value", quoted(text));
    let fix =
        format!("at most {NAME_BYTES_MAX} letters, digits, `-`, `_` and `.`, a letter or digit at both ends");
    Err(place.error(complaints, message, fix))
}

fn key(text: &str, place: &Place<'_>, complaints: &mut Complaints) -> Result<SelectorKey, Unreadable> {
    let key = SelectorKey::parse(text);
    let source = !key.source.is_empty() && key.source.bytes().all(|b| b.is_ascii_alphanumeric());
    match source && is_label_key(&key.key) {
        true => Ok(key),
        false => {
            let fix = "write `app`, `example.com/app` or, with its source, `k8s:app`";
            Err(place.error(complaints, format!("{} is not a label key", quoted(text)), fix))
        }
    }
}

/// `name` or `dns.name/name`, as Kubernetes has it.
fn is_label_key(text: &str) -> bool {
    let (prefix, name) = text.split_once('/').map_or((None, text), |(prefix, name)| (Some(prefix), name));
    is_word(name) && prefix.is_none_or(is_subdomain)
}

fn is_label_value(text: &str) -> bool {
    text.is_empty() || is_word(text)
}

const NAME_BYTES_MAX: usize = 63;
const PREFIX_BYTES_MAX: usize = 253;

fn is_word(text: &str) -> bool {
    text.len() <= NAME_BYTES_MAX
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.ends_with(|c: char| c.is_ascii_alphanumeric())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

/// RFC 1123, lower-case.
fn is_subdomain(text: &str) -> bool {
    let is_part = |part: &str| {
        let ends = [part.bytes().next(), part.bytes().next_back()];
        ends.iter().all(|end| end.is_some_and(|b| b.is_ascii_alphanumeric()))
            && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    text.len() <= PREFIX_BYTES_MAX && text.split('.').all(is_part)
}
