//! The envelope: kind, name and namespace, and the rules in `spec` and `specs`.

use super::diagnostic::{Complaints, Severity, Unreadable, quoted};
use super::place::{Place, Refused, Schema, Written, nearest};
use super::rules;
use super::tree::{Node, Value};
use crate::labels::Label;
use crate::rule::{ObjectKind, ObjectName, Policy, Rule};

const OBJECT: Schema = Schema {
    what: "a policy object",
    known: &["apiVersion", "kind", "metadata", "spec", "specs", "status"],
    refused: &[Refused::Misplaced("description", "move `description` into `spec`")],
    unknown: Severity::Error,
};

/// What Kubernetes keeps in the metadata of every object; only the name, the namespace and the uid mean anything here.
const METADATA: Schema = Schema {
    what: "`metadata`",
    known: &[
        "name",
        "namespace",
        "uid",
        "annotations",
        "creationTimestamp",
        "deletionGracePeriodSeconds",
        "deletionTimestamp",
        "finalizers",
        "generateName",
        "generation",
        "labels",
        "managedFields",
        "ownerReferences",
        "resourceVersion",
        "selfLink",
    ],
    refused: &[],
    unknown: Severity::Warning,
};

const API_VERSION: &str = "cilium.io/v2";
const KINDS: [(&str, ObjectKind); 2] = [
    ("CiliumNetworkPolicy", ObjectKind::CiliumNetworkPolicy),
    ("CiliumClusterwideNetworkPolicy", ObjectKind::CiliumClusterwideNetworkPolicy),
];

/// Reads the object of one document.
///
/// # Errors
/// It has no kind, no name, or is of another kind: there is no object to refuse.
pub(super) fn read(node: &Node, complaints: &mut Complaints) -> Result<Policy, Unreadable> {
    let root = Place::root(node);
    if let Value::List(_) = node.value {
        let message = "a bare list is no policy object: it has no kind and no name";
        return Err(root.error(complaints, message, "put every rule under `spec` of a CiliumNetworkPolicy"));
    }
    let kind = kind(&root, complaints)?;
    let mut fields = root.fields(&OBJECT, complaints)?;
    let (name, uid) = match fields.take("metadata") {
        Written::Absent => {
            Err(root.error(complaints, "`metadata` is missing", "write `metadata: {name: ...}`"))
        }
        Written::Unreadable => Err(Unreadable),
        Written::Value(place) => metadata(&place, kind, complaints),
    }?;
    api_version(fields.take("apiVersion"), &root, complaints);
    let derived = derived_labels(&name, uid);
    let rules = specs(fields.take("spec"), fields.take("specs"), &root, (&name, &derived), complaints);
    Ok(Policy::new(name, rules))
}

/// The kind decides whether there is an object at all, so it is read before the other fields are judged.
fn kind(root: &Place<'_>, complaints: &mut Complaints) -> Result<ObjectKind, Unreadable> {
    let Value::Map(entries) = &root.node.value else {
        return Err(root.error(complaints, "a policy object is a mapping", ""));
    };
    let mut kinds = entries.iter().filter(|(key, _)| *key.text == *"kind");
    let (Some((key, node)), None) = (kinds.next(), kinds.next()) else {
        return Err(root.error(
            complaints,
            "`kind` is missing, or written twice",
            "write `kind: CiliumNetworkPolicy`",
        ));
    };
    let place = Place { node, path: "kind".into(), line: key.line };
    let text = place.string(complaints)?;
    if let Some((_, kind)) = KINDS.iter().find(|(name, _)| *name == text) {
        return Ok(*kind);
    }
    let message = match text {
        "CiliumCIDRGroup" | "ClusterNetworkPolicy" | "NetworkPolicy" => {
            format!("not supported yet: kind `{text}`")
        }
        _ => format!("{} is not a kind of policy", quoted(text)),
    };
    let fix = match nearest(text, KINDS.iter().map(|(name, _)| *name)) {
        Some(name) => format!("did you mean `{name}`"),
        None => "keep CiliumNetworkPolicy and CiliumClusterwideNetworkPolicy only in policy files".into(),
    };
    Err(place.error(complaints, message, fix))
}

fn api_version(written: Written<'_>, root: &Place<'_>, complaints: &mut Complaints) {
    match written {
        Written::Absent => {
            let _refused = root.error(
                complaints,
                "`apiVersion` is missing",
                format!("write `apiVersion: {API_VERSION}`"),
            );
        }
        Written::Unreadable => {}
        Written::Value(place) => match place.string(complaints) {
            Ok(API_VERSION) | Err(Unreadable) => {}
            Ok(other) => {
                let message = format!("unknown apiVersion {}", quoted(other));
                let _refused = place.error(complaints, message, format!("write `{API_VERSION}`"));
            }
        },
    }
}

/// The object's name, and its uid where it has one.
fn metadata<'t>(
    place: &Place<'t>,
    kind: ObjectKind,
    complaints: &mut Complaints,
) -> Result<(ObjectName, Option<&'t str>), Unreadable> {
    let mut fields = place.fields(&METADATA, complaints)?;
    let name = match fields.take("name") {
        Written::Absent => Err(place.error(complaints, "`name` is missing", "give the policy a name")),
        Written::Unreadable => Err(Unreadable),
        Written::Value(place) => dns_name(&place, 253, complaints),
    };
    let namespace = match (fields.take("namespace"), kind) {
        (Written::Unreadable, _) => Err(Unreadable),
        (Written::Absent, ObjectKind::CiliumNetworkPolicy) => Ok(Some("default".into())),
        (Written::Value(place), ObjectKind::CiliumNetworkPolicy) => {
            dns_name(&place, 63, complaints).map(Some)
        }
        (Written::Absent, ObjectKind::CiliumClusterwideNetworkPolicy) => Ok(None),
        (Written::Value(place), ObjectKind::CiliumClusterwideNetworkPolicy) => {
            let message = "a clusterwide policy has no namespace";
            let _refused =
                place.error(complaints, message, "leave it out, or write `kind: CiliumNetworkPolicy`");
            Ok(None)
        }
    };
    let uid = match fields.take("uid") {
        Written::Absent | Written::Unreadable => None,
        Written::Value(place) => place.string(complaints).ok(),
    };
    Ok((ObjectName { kind, namespace: namespace?, name: name? }, uid))
}

/// RFC 1123, as Kubernetes has it. Names become file names and parts of messages: nothing else may be in them.
fn dns_name(
    place: &Place<'_>,
    bytes_max: usize,
    complaints: &mut Complaints,
) -> Result<Box<str>, Unreadable> {
    let text = place.string(complaints)?;
    let part = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !part.starts_with('-')
            && !part.ends_with('-')
    };
    match text.len() <= bytes_max && text.split('.').all(part) {
        true => Ok(text.into()),
        false => {
            let fix = format!("at most {bytes_max} lower-case letters, digits, `-` and `.`");
            Err(place.error(complaints, format!("{} is not a name", quoted(text)), fix))
        }
    }
}

fn derived_labels(name: &ObjectName, uid: Option<&str>) -> Vec<Label> {
    let kind = match name.kind {
        ObjectKind::CiliumClusterwideNetworkPolicy => "CiliumClusterwideNetworkPolicy",
        ObjectKind::CiliumNetworkPolicy => "CiliumNetworkPolicy",
    };
    let namespace = name.namespace.as_deref().map(|namespace| ("namespace", namespace));
    let uid = uid.map(|uid| ("uid", uid));
    [Some(("derived-from", kind)), Some(("name", &*name.name)), namespace, uid]
        .into_iter()
        .flatten()
        .map(|(key, value)| Label::new("k8s", &format!("io.cilium.k8s.policy.{key}"), value))
        .collect()
}

fn specs(
    spec: Written<'_>,
    specs: Written<'_>,
    root: &Place<'_>,
    (name, derived): (&ObjectName, &[Label]),
    complaints: &mut Complaints,
) -> Vec<Rule> {
    let mut places = Vec::new();
    let mut unreadable = false;
    match spec {
        Written::Absent => {}
        Written::Unreadable => unreadable = true,
        Written::Value(place) => places.push(place),
    }
    match specs {
        Written::Absent => {}
        Written::Unreadable => unreadable = true,
        Written::Value(place) => match place.list(complaints) {
            Ok(items) => places.extend(items),
            Err(Unreadable) => unreadable = true,
        },
    }
    if places.is_empty() && !unreadable {
        let message = "the policy is empty: `spec` or `specs` must be there";
        let _refused =
            root.error(complaints, message, "write one rule under `spec`, or a list of rules under `specs`");
    }
    places.iter().map(|place| rules::read(place, name.namespace.as_deref(), derived, complaints)).collect()
}
