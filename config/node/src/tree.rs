//! What a text says, whatever its syntax: values that know their line.

use crate::Problem;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;
use std::fmt;
use toml::de::{DeTable, DeValue};

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tree {
    /// 1-based; 0 where none is known.
    pub(crate) line: u32,
    pub(crate) value: Value,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Bool(bool),
    Integer(i64),
    List(Vec<Tree>),
    /// Something that no field of the node file takes: its kind, for the message.
    Other(&'static str),
    Text(String),
    Table(Vec<(Key, Tree)>),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Key {
    pub(crate) line: u32,
    pub(crate) name: String,
}

/// One step from a table or list to what is inside.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Step<'a> {
    Field(&'a str),
    Index(usize),
}

impl Value {
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Bool(_) => "a boolean",
            Self::Integer(_) => "a number",
            Self::List(_) => "a list",
            Self::Other(kind) => kind,
            Self::Text(_) => "a string",
            Self::Table(_) => "a table",
        }
    }
}

impl Tree {
    fn child(&self, step: &Step<'_>) -> Option<&Self> {
        match (step, &self.value) {
            (Step::Field(name), Value::Table(entries)) => {
                entries.iter().find(|(key, _)| key.name == *name).map(|(_, tree)| tree)
            }
            (Step::Index(index), Value::List(items)) => items.get(*index),
            _ => None,
        }
    }

    /// The line of what lies at `path`, or of the deepest part of the path that was written.
    pub(crate) fn line_of(&self, path: &[Step<'_>]) -> u32 {
        match path.split_first() {
            None => self.line,
            Some((first, rest)) => self.child(first).map_or(self.line, |child| child.line_of(rest)),
        }
    }

    pub(crate) fn to_json(&self) -> serde_json::Value {
        match &self.value {
            Value::Bool(value) => (*value).into(),
            Value::Integer(value) => (*value).into(),
            Value::List(items) => items.iter().map(Self::to_json).collect(),
            Value::Other(_) => serde_json::Value::Null,
            Value::Text(text) => text.as_str().into(),
            Value::Table(entries) => {
                entries.iter().map(|(key, tree)| (key.name.clone(), tree.to_json())).collect()
            }
        }
    }
}

/// `endpoint[0].addresses[1]`.
pub(crate) fn field(path: &[Step<'_>]) -> String {
    let mut text = String::new();
    for step in path {
        match step {
            Step::Field(name) if text.is_empty() => text.push_str(name),
            Step::Field(name) => text.extend([".", name]),
            Step::Index(index) => text.push_str(&format!("[{index}]")),
        }
    }
    text
}

pub(crate) fn read(file: &str, text: &str) -> Result<Tree, Vec<Problem>> {
    if file.ends_with(".yaml") || file.ends_with(".yml") {
        read_yaml(file, text)
    } else {
        read_toml(file, text)
    }
}

fn not_readable(file: &str, line: u32, syntax: &str, message: &str) -> Problem {
    let first = message.lines().next().unwrap_or_default().trim_end_matches('.');
    // Advice to whoever calls the parser is none to whoever writes the file.
    let behind = [" at line ", ", set ", "; use "];
    let message =
        behind.iter().fold(first, |text, end| text.split_once(end).map_or(text, |(before, _)| before));
    let fix = if message.starts_with("tabs ") { "indent with spaces" } else { "" };
    Problem {
        file: file.to_owned(),
        line,
        field: String::new(),
        message: format!("not {syntax}: {message}"),
        fix: fix.to_owned(),
    }
}

fn read_toml(file: &str, text: &str) -> Result<Tree, Vec<Problem>> {
    let (table, errors) = DeTable::parse_recoverable(text);
    if errors.is_empty() {
        return Ok(from_toml_table(text, table.span().start, table.get_ref()));
    }
    let problem = |error: &toml::de::Error| {
        let line = error.span().map_or(0, |span| line_at(text, span.start));
        not_readable(file, line, "TOML", error.message())
    };
    // What follows the first complaint of a parser is mostly its consequence.
    let mut problems: Vec<Problem> = errors.first().map(problem).into_iter().collect();
    if !file.ends_with(".toml") {
        let fix = "a node file in YAML has a name that ends in `.yaml` or `.yml`";
        problems.iter_mut().for_each(|problem| fix.clone_into(&mut problem.fix));
    }
    Err(problems)
}

fn line_at(text: &str, offset: usize) -> u32 {
    let before = text.as_bytes().get(..offset).unwrap_or(text.as_bytes());
    u32::try_from(before.iter().filter(|b| **b == b'\n').count()).unwrap_or(u32::MAX).saturating_add(1)
}

fn from_toml_table(text: &str, start: usize, table: &DeTable<'_>) -> Tree {
    let mut entries: Vec<(usize, (Key, Tree))> = Vec::new();
    for (name, value) in table {
        let start = name.span().start;
        let key = Key { line: line_at(text, start), name: name.get_ref().clone().into_owned() };
        entries.push((start, (key, from_toml(text, value.span().start, value.get_ref()))));
    }
    entries.sort_by_key(|(start, _)| *start);
    Tree {
        line: line_at(text, start),
        value: Value::Table(entries.into_iter().map(|(_, entry)| entry).collect()),
    }
}

fn from_toml(text: &str, start: usize, value: &DeValue<'_>) -> Tree {
    let value = match value {
        DeValue::Table(table) => return from_toml_table(text, start, table),
        DeValue::Array(items) => {
            Value::List(items.iter().map(|item| from_toml(text, item.span().start, item.get_ref())).collect())
        }
        DeValue::String(string) => Value::Text(string.clone().into_owned()),
        DeValue::Boolean(value) => Value::Bool(*value),
        DeValue::Integer(digits) => i64::from_str_radix(digits.as_str(), digits.radix())
            .map_or(Value::Other("a number beyond all bounds"), Value::Integer),
        DeValue::Float(_) => Value::Other("a fraction"),
        DeValue::Datetime(_) => Value::Other("a date"),
    };
    Tree { line: line_at(text, start), value }
}

fn read_yaml(file: &str, text: &str) -> Result<Tree, Vec<Problem>> {
    // `n` and `yes` are words, not booleans; the file is at most four levels deep.
    let options = serde_saphyr::options! {
        strict_booleans: true,
        with_snippet: false,
        budget: serde_saphyr::budget! { max_depth: 16 },
    };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let line = error.location().map_or(0, |location| line_number(location.line()));
        vec![not_readable(file, line, "YAML", &error.to_string())]
    })
}

fn line_number(line: u64) -> u32 {
    u32::try_from(line).unwrap_or(u32::MAX)
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned: Spanned<Value> = Deserialize::deserialize(deserializer)?;
        Ok(Self { line: line_number(spanned.referenced.line()), value: spanned.value })
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue)
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Integer(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(i64::try_from(value).map_or(Value::Other("a number beyond all bounds"), Value::Integer))
    }

    fn visit_i128<E: Error>(self, _value: i128) -> Result<Value, E> {
        Ok(Value::Other("a number beyond all bounds"))
    }

    fn visit_u128<E: Error>(self, _value: u128) -> Result<Value, E> {
        Ok(Value::Other("a number beyond all bounds"))
    }

    fn visit_f64<E: Error>(self, _value: f64) -> Result<Value, E> {
        Ok(Value::Other("a fraction"))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Text(text.to_owned()))
    }

    fn visit_bytes<E: Error>(self, _bytes: &[u8]) -> Result<Value, E> {
        Ok(Value::Other("binary data"))
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Other("nothing"))
    }

    fn visit_none<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Other("nothing"))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        Value::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = sequence.next_element()? {
            items.push(item);
        }
        Ok(Value::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut entries = Vec::new();
        while let Some((name, tree)) = map.next_entry::<Spanned<String>, Tree>()? {
            let key = Key { line: line_number(name.referenced.line()), name: name.value };
            entries.push((key, tree));
        }
        Ok(Value::Table(entries))
    }
}
