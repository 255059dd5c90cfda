//! A part of the tree together with where it stands: everything that is read, and every complaint, goes through one.

use super::diagnostic::{Complaints, Diagnostic, Severity, Unreadable, quoted};
use super::tree::{Node, Value};

#[derive(Clone, Debug)]
pub(super) struct Place<'t> {
    pub(super) node: &'t Node,
    /// `spec.ingress[0]`.
    pub(super) path: String,
    /// Of the key, where there is one.
    pub(super) line: u32,
}

/// What is known of the fields of a mapping.
#[derive(Debug)]
pub(super) struct Schema {
    /// What the mapping is: `an ingress entry`.
    pub(super) what: &'static str,
    pub(super) known: &'static [&'static str],
    pub(super) refused: &'static [Refused],
    /// What a field that is none of them, and near none, is.
    pub(super) unknown: Severity,
}

/// A field that people write, and that is refused by name: why, and what to do about it.
#[derive(Debug)]
pub(super) enum Refused {
    /// Part of the format elsewhere, or of an older one's idea of this mapping.
    Misplaced(&'static str, &'static str),
    /// Part of the format, and not built yet.
    NotYet(&'static str, &'static str),
    /// Part of the format once.
    Removed(&'static str, &'static str),
}

impl Refused {
    fn name(&self) -> &'static str {
        match self {
            Self::Misplaced(name, _) | Self::NotYet(name, _) | Self::Removed(name, _) => name,
        }
    }

    fn fix(&self) -> &'static str {
        match self {
            Self::Misplaced(_, fix) | Self::NotYet(_, fix) | Self::Removed(_, fix) => fix,
        }
    }

    fn message(&self) -> String {
        match self {
            Self::Misplaced(name, _) => format!("unknown field `{name}` here"),
            Self::NotYet(name, _) => format!("not supported yet: `{name}`"),
            Self::Removed(name, _) => format!("not supported any more: `{name}`"),
        }
    }
}

/// One field of a mapping.
#[derive(Debug)]
pub(super) enum Written<'t> {
    Absent,
    /// Written twice, or under a name so near that it may have been meant. Complained about.
    Unreadable,
    Value(Place<'t>),
}

/// The fields of a mapping, checked against its [`Schema`].
#[derive(Debug)]
pub(super) struct Fields<'t> {
    known: Vec<(&'static str, Written<'t>)>,
    /// Fields that the schema refuses, and that are written.
    pub(super) refused: Vec<&'static str>,
    /// Some field is unknown, and nothing tells what it may mean.
    pub(super) unknown: bool,
}

impl<'t> Fields<'t> {
    pub(super) fn take(&mut self, name: &str) -> Written<'t> {
        match self.known.iter().position(|(known, _)| *known == name) {
            Some(index) => self.known.swap_remove(index).1,
            None => Written::Absent,
        }
    }

    /// A second value makes the field unreadable; whether it was the second.
    #[must_use]
    fn put(&mut self, name: &'static str, value: Written<'t>) -> bool {
        match self.known.iter_mut().find(|(known, _)| *known == name) {
            Some((_, slot)) => *slot = Written::Unreadable,
            None => {
                self.known.push((name, value));
                return false;
            }
        }
        true
    }
}

impl<'t> Place<'t> {
    pub(super) fn root(node: &'t Node) -> Self {
        Self { node, path: String::new(), line: node.line }
    }

    fn field(&self, name: &str, node: &'t Node, line: u32) -> Self {
        let path = if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) };
        Self { node, path, line }
    }

    pub(super) fn error(
        &self,
        complaints: &mut Complaints,
        message: impl Into<String>,
        fix: impl Into<String>,
    ) -> Unreadable {
        complaints.add(Diagnostic::error(self.line, &self.path, message, fix));
        Unreadable
    }

    pub(super) fn warn(
        &self,
        complaints: &mut Complaints,
        message: impl Into<String>,
        fix: impl Into<String>,
    ) {
        let (message, fix) = (message.into(), fix.into());
        let field = self.path.clone();
        complaints.add(Diagnostic { severity: Severity::Warning, line: self.line, field, message, fix });
    }

    pub(super) fn string(&self, complaints: &mut Complaints) -> Result<&'t str, Unreadable> {
        match &self.node.value {
            Value::Text(text) => Ok(text),
            Value::Ambiguous(text) | Value::Number(text) => {
                let fix =
                    if text.len() <= 32 { format!("write \"{text}\"") } else { "put it in quotes".into() };
                Err(self.error(
                    complaints,
                    format!("a string is needed, {} is {}", quoted(text), self.node.value.noun()),
                    fix,
                ))
            }
            Value::Bool(yes) => Err(self.error(
                complaints,
                format!("a string is needed, `{yes}` is a boolean"),
                format!("write \"{yes}\""),
            )),
            Value::List(_) | Value::Map(_) | Value::Null => Err(self.mistyped(complaints, "a string")),
        }
    }

    pub(super) fn boolean(&self, complaints: &mut Complaints) -> Result<bool, Unreadable> {
        match &self.node.value {
            Value::Bool(yes) => Ok(*yes),
            Value::Ambiguous(_)
            | Value::List(_)
            | Value::Map(_)
            | Value::Null
            | Value::Number(_)
            | Value::Text(_) => Err(self.mistyped(complaints, "`true` or `false`")),
        }
    }

    /// The elements of a list. Null is no list: templates leave it behind, and it must not mean "anybody".
    pub(super) fn list(&self, complaints: &mut Complaints) -> Result<Vec<Place<'t>>, Unreadable> {
        let Value::List(items) = &self.node.value else {
            return Err(self.mistyped(complaints, "a list"));
        };
        let item = |(index, node): (usize, &'t Node)| Self {
            node,
            path: format!("{}[{index}]", self.path),
            line: node.line,
        };
        Ok(items.iter().enumerate().map(item).collect())
    }

    /// The entries of a mapping whose keys are the user's own. Duplicate keys are an error.
    pub(super) fn entries(
        &self,
        complaints: &mut Complaints,
    ) -> Result<Vec<(&'t str, Place<'t>)>, Unreadable> {
        let Value::Map(entries) = &self.node.value else {
            return Err(self.mistyped(complaints, "a mapping"));
        };
        let mut sorted: Vec<_> =
            entries.iter().map(|(key, node)| (&*key.text, self.field(&key.text, node, key.line))).collect();
        sorted.sort_by(|a, b| a.0.cmp(b.0));
        let twice = sorted.windows(2).find_map(|pair| match pair {
            [(a, _), (b, place)] if a == b => Some(place.clone()),
            _ => None,
        });
        match twice {
            Some(place) => Err(place.error(complaints, "the key is written twice", "leave one of them out")),
            None => Ok(sorted),
        }
    }

    /// The fields of a mapping of the format, each complained about that is not in `schema`.
    pub(super) fn fields(
        &self,
        schema: &'static Schema,
        complaints: &mut Complaints,
    ) -> Result<Fields<'t>, Unreadable> {
        let Value::Map(entries) = &self.node.value else {
            return Err(self.mistyped(complaints, "a mapping"));
        };
        let mut fields = Fields { known: Vec::new(), refused: Vec::new(), unknown: false };
        for (key, node) in entries {
            let place = self.field(&key.text, node, key.line);
            if let Some(name) = schema.known.iter().find(|name| **name == &*key.text) {
                if fields.put(name, Written::Value(place.clone())) {
                    let _unreadable =
                        place.error(complaints, "the field is written twice", "leave one of them out");
                }
            } else if let Some(refused) = schema.refused.iter().find(|refused| refused.name() == &*key.text) {
                fields.refused.push(refused.name());
                let _unreadable = place.error(complaints, refused.message(), refused.fix());
            } else {
                place.unknown(&key.text, schema, &mut fields, complaints);
            }
        }
        Ok(fields)
    }

    fn unknown(
        &self,
        text: &str,
        schema: &'static Schema,
        fields: &mut Fields<'t>,
        complaints: &mut Complaints,
    ) {
        let names = schema.known.iter().copied().chain(schema.refused.iter().map(Refused::name));
        let meant = nearest_all(text, names);
        for name in &meant {
            match schema.known.contains(name) {
                true => drop(fields.put(name, Written::Unreadable)),
                false => fields.refused.push(name),
            }
        }
        let message = match meant.first() {
            Some(name) => format!("unknown field {}; did you mean `{name}`", quoted(text)),
            None if schema.unknown == Severity::Warning => {
                self.warn(
                    complaints,
                    format!("unknown field {}; it is ignored", quoted(text)),
                    "leave it out",
                );
                return;
            }
            None => {
                fields.unknown = true;
                format!("unknown field {}", quoted(text))
            }
        };
        let fix = format!("{} has the fields {}", schema.what, schema.known.join(", "));
        let _unreadable = self.error(complaints, message, fix);
    }

    fn mistyped(&self, complaints: &mut Complaints, wanted: &str) -> Unreadable {
        let fix = match self.node.value {
            Value::Null => "write a value, or leave the field out",
            Value::Ambiguous(_)
            | Value::Bool(_)
            | Value::List(_)
            | Value::Map(_)
            | Value::Number(_)
            | Value::Text(_) => "",
        };
        self.error(complaints, format!("{wanted} is needed, this is {}", self.node.value.noun()), fix)
    }
}

/// The name that was probably meant: equal but for case, an extension of what was written, or within two edits.
pub(super) fn nearest<'n>(written: &str, names: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    nearest_all(written, names).first().copied()
}

/// The names that may have been meant, the likeliest first: `igress` is as near to one direction as to the other.
fn nearest_all<'n>(written: &str, names: impl Iterator<Item = &'n str>) -> Vec<&'n str> {
    const EDITS_MAX: usize = 2;
    if written.len() > 64 {
        return Vec::new();
    }
    let distance = |name: &str| match name {
        // Not worth counting, unless one is the beginning of the other.
        _ if name.len().abs_diff(written.len()) > EDITS_MAX && !name.starts_with(written) => usize::MAX,
        _ if name.eq_ignore_ascii_case(written) => 0,
        _ if written.len() >= 4 && name.starts_with(written) => 1,
        _ => edits(&written.to_ascii_lowercase(), &name.to_ascii_lowercase()),
    };
    let allowed = |name: &str| EDITS_MAX.min(name.len().saturating_sub(1) / 2);
    let mut near: Vec<_> = names
        .map(|name| (distance(name), name.len().abs_diff(written.len()), name))
        .filter(|(edits, _, name)| *edits <= allowed(name))
        .collect();
    near.sort_unstable();
    let Some((least, _, likeliest)) = near.first().copied() else { return Vec::new() };
    if likeliest.starts_with(written) {
        return vec![likeliest];
    }
    near.into_iter().take_while(|(edits, ..)| *edits == least).map(|(.., name)| name).collect()
}

/// Levenshtein's distance, by bytes.
fn edits(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = i;
        let mut left = i.saturating_add(1);
        if let Some(first) = row.first_mut() {
            *first = left;
        }
        for (cell, y) in row.iter_mut().skip(1).zip(b.bytes()) {
            let substituted = diagonal.saturating_add(usize::from(x != y));
            diagonal = *cell;
            left = substituted.min(cell.saturating_add(1)).min(left.saturating_add(1));
            *cell = left;
        }
    }
    row.last().copied().unwrap_or(a.len())
}
