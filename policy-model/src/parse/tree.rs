//! One YAML or JSON document as a tree that knows its lines.
//!
//! Built from the parser's events with a stack of our own, so that depth, size and what aliases expand to are bounded.
//! Duplicate keys are kept: whoever reads the mapping refuses them.
//!
//! INVARIANT: a plain word that YAML 1.1 (which kubectl speaks) and YAML 1.2 read differently is [`Value::Ambiguous`],
//! never silently one of the two.

use super::diagnostic::{Diagnostic, quoted};
use saphyr_parser::{Event, Parser, ScalarStyle, Tag};
use std::collections::BTreeMap;

/// Lists and mappings inside of each other; a policy needs about twelve.
pub(super) const DEPTH_MAX: u8 = 32;
/// Scalars, lists and mappings of one document, aliases counted as what they stand for.
pub(super) const NODES_MAX: u32 = 1_000_000;

#[derive(Clone, Debug)]
pub(super) struct Node {
    /// 1-based, in the whole text.
    pub(super) line: u32,
    pub(super) value: Value,
    /// How many nodes this one stands for, itself included; its bytes count as one node per 16.
    weight: u32,
    /// Of what is inside of it; a scalar has 0.
    height: u8,
}

#[derive(Clone, Debug)]
pub(super) enum Value {
    /// A plain word that is not a string to every reader: `yes`, `On`, `True`, `y`.
    Ambiguous(Box<str>),
    Bool(bool),
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
    Null,
    /// As written: `80`, `0x50`, `1e3`.
    Number(Box<str>),
    Text(Box<str>),
}

#[derive(Clone, Debug)]
pub(super) struct Key {
    pub(super) line: u32,
    pub(super) text: Box<str>,
}

impl Value {
    /// What a person would call it.
    pub(super) fn noun(&self) -> &'static str {
        match self {
            Self::Ambiguous(_) | Self::Bool(_) => "a boolean",
            Self::List(_) => "a list",
            Self::Map(_) => "a mapping",
            Self::Null => "empty (null)",
            Self::Number(_) => "a number",
            Self::Text(_) => "a string",
        }
    }
}

/// Reads one document. `None` where there is nothing in it but comments.
pub(super) fn read(text: &str, first_line: u32) -> Result<Option<Node>, Diagnostic> {
    let mut builder =
        Builder { open: Vec::new(), anchors: BTreeMap::new(), root: None, nodes: 0, first_line };
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| {
            let line = builder.line(error.marker().line());
            let fix = if error.info().starts_with("tabs ") { "indent with spaces" } else { "" };
            Diagnostic::error(line, "", format!("neither YAML nor JSON: {}", error.info()), fix)
        })?;
        let line = builder.line(span.start.line());
        builder.event(event, line)?;
    }
    Ok(builder.root.filter(|root| !matches!(root.value, Value::Null)))
}

struct Builder {
    open: Vec<Open>,
    /// Finished nodes that have an anchor: a node can't hold itself.
    anchors: BTreeMap<usize, Node>,
    root: Option<Node>,
    nodes: u32,
    first_line: u32,
}

/// A list or mapping whose end has not been seen.
struct Open {
    line: u32,
    anchor: usize,
    weight: u32,
    height: u8,
    content: Content,
}

enum Content {
    List(Vec<Node>),
    Map(Vec<(Key, Node)>, Option<Key>),
}

impl Builder {
    fn line(&self, line_of_document: usize) -> u32 {
        u32::try_from(line_of_document).unwrap_or(u32::MAX).saturating_add(self.first_line).saturating_sub(1)
    }

    fn event(&mut self, event: Event<'_>, line: u32) -> Result<(), Diagnostic> {
        match event {
            Event::DocumentEnd | Event::Nothing | Event::StreamEnd | Event::StreamStart => Ok(()),
            Event::DocumentStart(_) if self.root.is_some() => Err(Diagnostic::error(
                line,
                "",
                "a second document without `---` before it",
                "put a line `---` between them",
            )),
            Event::DocumentStart(_) => Ok(()),
            Event::Alias(anchor) => self.alias(anchor, line),
            Event::Scalar(text, style, anchor, tag) => {
                let value = scalar(&text, style, tag.as_deref(), line)?;
                let weight = u32::try_from(text.len() / 16).unwrap_or(u32::MAX).saturating_add(1);
                self.place(Node { line, value, weight, height: 0 }, anchor)
            }
            Event::SequenceStart(anchor, tag) => {
                refuse_tag(tag.as_deref(), "seq", line)?;
                self.begin(line, anchor, Content::List(Vec::new()))
            }
            Event::MappingStart(anchor, tag) => {
                refuse_tag(tag.as_deref(), "map", line)?;
                self.begin(line, anchor, Content::Map(Vec::new(), None))
            }
            Event::MappingEnd | Event::SequenceEnd => self.end(line),
        }
    }

    fn begin(&mut self, line: u32, anchor: usize, content: Content) -> Result<(), Diagnostic> {
        if self.open.len() >= usize::from(DEPTH_MAX) {
            return Err(too_deep(line));
        }
        self.open.push(Open { line, anchor, weight: 1, height: 0, content });
        Ok(())
    }

    fn end(&mut self, line: u32) -> Result<(), Diagnostic> {
        let open = self.open.pop().ok_or_else(|| unbalanced(line))?;
        let value = match open.content {
            Content::List(items) => Value::List(items),
            Content::Map(entries, None) => Value::Map(entries),
            Content::Map(_, Some(_)) => return Err(unbalanced(line)),
        };
        let height = open.height.saturating_add(1);
        self.place(Node { line: open.line, value, weight: open.weight, height }, open.anchor)
    }

    /// An alias becomes a copy of what it names, and is paid for as such.
    fn alias(&mut self, anchor: usize, line: u32) -> Result<(), Diagnostic> {
        let Some(node) = self.anchors.get(&anchor) else {
            return Err(Diagnostic::error(
                line,
                "",
                "an alias names a part that it stands in itself",
                "write it out",
            ));
        };
        if usize::from(node.height).saturating_add(self.open.len()) > usize::from(DEPTH_MAX) {
            return Err(too_deep(line));
        }
        let mut copy = node.clone();
        copy.line = line;
        self.charge(copy.weight, line)?;
        self.put(copy)
    }

    /// A node that has just ended; its elements have been paid for.
    fn place(&mut self, node: Node, anchor: usize) -> Result<(), Diagnostic> {
        self.charge(if node.height == 0 { node.weight } else { 1 }, node.line)?;
        if anchor > 0 {
            self.charge(node.weight, node.line)?;
            let _earlier = self.anchors.insert(anchor, node.clone());
        }
        self.put(node)
    }

    fn charge(&mut self, weight: u32, line: u32) -> Result<(), Diagnostic> {
        self.nodes = self.nodes.saturating_add(weight);
        if self.nodes > NODES_MAX { Err(too_large(line)) } else { Ok(()) }
    }

    /// Into the list or mapping that is open, or as the root.
    fn put(&mut self, node: Node) -> Result<(), Diagnostic> {
        let Some(parent) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        parent.weight = parent.weight.saturating_add(node.weight);
        parent.height = parent.height.max(node.height);
        match &mut parent.content {
            Content::List(items) => items.push(node),
            Content::Map(entries, key) => match key.take() {
                Some(key) => entries.push((key, node)),
                None => *key = Some(as_key(node)?),
            },
        }
        Ok(())
    }
}

fn as_key(node: Node) -> Result<Key, Diagnostic> {
    let (what, text) = match node.value {
        Value::Text(text) if &*text == "<<" => ("a merge key", text),
        Value::Text(text) => return Ok(Key { line: node.line, text }),
        Value::Number(text) if text.bytes().all(|b| b.is_ascii_digit()) && !text.starts_with('0') => {
            return Ok(Key { line: node.line, text });
        }
        Value::Ambiguous(text) => ("a boolean", text),
        Value::Number(text) => ("a number", text),
        Value::Bool(yes) => ("a boolean", yes.to_string().into()),
        Value::List(_) | Value::Map(_) | Value::Null => {
            return Err(Diagnostic::error(
                node.line,
                "",
                "a key that is no word",
                "write the key as a plain word",
            ));
        }
    };
    let message = format!("{} as a key is {what} to some readers", quoted(&text));
    Err(Diagnostic::error(node.line, "", message, "quote the key, or write what it stands for"))
}

fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>, line: u32) -> Result<Value, Diagnostic> {
    if let Some(tag) = tag {
        refuse_tag(Some(tag), "str", line)?;
        return Ok(Value::Text(text.into()));
    }
    if style != ScalarStyle::Plain {
        return Ok(Value::Text(text.into()));
    }
    Ok(match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        "True" | "TRUE" | "False" | "FALSE" | "y" | "Y" | "yes" | "Yes" | "YES" | "n" | "N" | "no" | "No"
        | "NO" | "on" | "On" | "ON" | "off" | "Off" | "OFF" => Value::Ambiguous(text.into()),
        _ if is_number(text) => Value::Number(text.into()),
        _ => Value::Text(text.into()),
    })
}

/// What YAML 1.1 or 1.2 takes for a number: `80`, `-1`, `017`, `0x50`, `0b1`, `1_000`, `1e3`, `.5`, `.inf`.
fn is_number(text: &str) -> bool {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if matches!(unsigned.to_ascii_lowercase().as_str(), ".inf" | ".nan") {
        return true;
    }
    let plain = unsigned.replace('_', "");
    let based = |prefix: &str, digits: fn(&u8) -> bool| {
        plain.strip_prefix(prefix).is_some_and(|rest| !rest.is_empty() && rest.as_bytes().iter().all(digits))
    };
    if based("0x", u8::is_ascii_hexdigit)
        || based("0o", u8::is_ascii_digit)
        || based("0b", u8::is_ascii_digit)
    {
        return true;
    }
    unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && plain.bytes().any(|b| b.is_ascii_digit())
        && plain.parse::<f64>().is_ok()
}

fn refuse_tag(tag: Option<&Tag>, allowed: &str, line: u32) -> Result<(), Diagnostic> {
    match tag {
        Some(tag) if !(tag.is_yaml_core_schema() && tag.suffix == allowed) => {
            let message = format!("the tag {} is not supported", quoted(&tag.to_string()));
            Err(Diagnostic::error(line, "", message, "leave the tag out"))
        }
        Some(_) | None => Ok(()),
    }
}

fn too_deep(line: u32) -> Diagnostic {
    Diagnostic::error(line, "", format!("more than {DEPTH_MAX} lists and mappings inside of each other"), "")
}

fn too_large(line: u32) -> Diagnostic {
    let message = format!("the document is larger than {NODES_MAX} values once its aliases are written out");
    Diagnostic::error(line, "", message, "split it into several objects")
}

fn unbalanced(line: u32) -> Diagnostic {
    Diagnostic::error(line, "", "a list or mapping ends where none is open", "")
}
