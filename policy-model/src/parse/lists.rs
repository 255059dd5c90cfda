//! Lists of objects, as `kubectl get -o yaml` prints them, and the text that is kept of one element.

use super::diagnostic::{Complaints, Severity, Unreadable};
use super::place::{Place, Schema, Written};
use super::tree::{Key, Node, Value};
use std::fmt::Write;

const LIST: Schema = Schema {
    what: "a list of objects",
    known: &["apiVersion", "kind", "metadata", "items"],
    refused: &[],
    unknown: Severity::Error,
};
const KINDS: [&str; 3] = ["CiliumClusterwideNetworkPolicyList", "CiliumNetworkPolicyList", "List"];

/// The elements, where the document is a list.
pub(super) fn items<'t>(
    node: &'t Node,
    complaints: &mut Complaints,
) -> Option<Result<Vec<&'t Node>, Unreadable>> {
    let Value::Map(entries) = &node.value else {
        return None;
    };
    let is_list = |(key, node): &(Key, Node)| {
        *key.text == *"kind" && matches!(&node.value, Value::Text(kind) if KINDS.contains(&&**kind))
    };
    entries.iter().any(is_list).then(|| elements(node, complaints))
}

fn elements<'t>(node: &'t Node, complaints: &mut Complaints) -> Result<Vec<&'t Node>, Unreadable> {
    let root = Place::root(node);
    let mut fields = root.fields(&LIST, complaints)?;
    match fields.take("items") {
        Written::Absent => Err(root.error(complaints, "`items` is missing", "")),
        Written::Unreadable => Err(Unreadable),
        Written::Value(place) => Ok(place.list(complaints)?.iter().map(|item| item.node).collect()),
    }
}

/// One element as a document of its own: on one line, in a form that reads as the same tree again.
pub(super) fn write(node: &Node) -> String {
    let mut out = String::new();
    write_node(&mut out, node);
    out.push('\n');
    out
}

fn write_node(out: &mut String, node: &Node) {
    match &node.value {
        Value::Ambiguous(text) | Value::Number(text) => out.push_str(text),
        Value::Bool(yes) => out.push_str(if *yes { "true" } else { "false" }),
        Value::Null => out.push_str("null"),
        Value::Text(text) => write_text(out, text),
        Value::List(items) => {
            for (index, item) in items.iter().enumerate() {
                out.push_str(if index == 0 { "[" } else { ", " });
                write_node(out, item);
            }
            out.push_str(if items.is_empty() { "[]" } else { "]" });
        }
        Value::Map(entries) => {
            for (index, (key, value)) in entries.iter().enumerate() {
                // The long form: a key may be longer than YAML allows in front of a colon.
                out.push_str(if index == 0 { "{? " } else { ", ? " });
                write_text(out, &key.text);
                out.push_str(" : ");
                write_node(out, value);
            }
            out.push_str(if entries.is_empty() { "{}" } else { "}" });
        }
    }
}

/// Everything but plain ASCII is escaped: line separators and byte order marks mean something to YAML.
fn write_text(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            ' '..='~' => out.push(c),
            // Writing to a String does not fail.
            _ => drop(write!(out, "\\U{:08x}", u32::from(c))),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::super::tree;
    use super::*;

    /// Writes, reads, and writes again.
    #[track_caller]
    fn check(text: &str, expect: &str) {
        let node = tree::read(text, 1).unwrap().unwrap();
        let written = write(&node);
        assert_eq!(written, format!("{expect}\n"));
        let again = tree::read(&written, 1).unwrap().unwrap();
        assert_eq!(write(&again), written);
    }

    #[test]
    fn elements_are_written_as_they_read() {
        check("a: [1, yes, true, '80', null, 0x50]", r#"{? "a" : [1, yes, true, "80", null, 0x50]}"#);
        check("a: {}\nb: []\n", r#"{? "a" : {}, ? "b" : []}"#);
        check("- 'é\u{2028}\"\\ :'", r#"["\U000000e9\U00002028\"\\ :"]"#);
        check("a: 1\na: 2", r#"{? "a" : 1, ? "a" : 2}"#);
        check(&format!("? {}\n: b", "k".repeat(2000)), &format!(r#"{{? "{}" : "b"}}"#, "k".repeat(2000)));
    }
}
