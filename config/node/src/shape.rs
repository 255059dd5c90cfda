//! Whether a tree has the shape of the schema: no unknown field, none missing, each of the right kind and in range.
//! All problems at once. Knows the few words of JSON Schema that [`crate::raw`]'s types produce.

use crate::tree::{Step, Tree, Value, field};
use crate::{Problem, format, suggest};
use serde_json::Value as Json;

/// The problems of `tree`, in the order of the text.
pub(crate) fn check(file: &str, schema: &Json, tree: &Tree) -> Vec<Problem> {
    let mut shape = Shape { file, problems: Vec::new() };
    shape.value(schema, tree, &mut Vec::new());
    shape.problems
}

struct Shape<'a> {
    file: &'a str,
    problems: Vec<Problem>,
}

type Path<'a> = Vec<Step<'a>>;

impl Shape<'_> {
    fn problem(&mut self, line: u32, path: &Path<'_>, message: String, fix: String) {
        self.problems.push(Problem { file: self.file.to_owned(), line, field: field(path), message, fix });
    }

    fn value<'a>(&mut self, schema: &'a Json, tree: &'a Tree, path: &mut Path<'a>) {
        match (word(schema, "type"), &tree.value) {
            ("object", Value::Table(_)) if schema.get("properties").is_some() => {
                self.fields(schema, tree, path);
            }
            ("object", Value::Table(_)) => self.entries(schema, tree, path),
            ("array", Value::List(items)) => self.items(schema, tree, items, path),
            ("string", Value::Text(text)) => self.text(schema, tree.line, text, path),
            ("integer", Value::Integer(number)) => self.number(schema, tree.line, *number, path),
            ("boolean", Value::Bool(_)) => {}
            (wanted, found) => {
                let (wanted, fix) = kind(wanted);
                let message = format!("found {}, expected {wanted}", found.kind());
                self.problem(tree.line, path, message, fix.to_owned());
            }
        }
    }

    /// A table whose fields are named in the schema.
    fn fields<'a>(&mut self, schema: &'a Json, tree: &'a Tree, path: &mut Path<'a>) {
        let Value::Table(entries) = &tree.value else { return };
        for (key, child) in entries {
            path.push(Step::Field(&key.name));
            match schema.get("properties").and_then(|known| known.get(&key.name)) {
                Some(schema) => self.value(schema, child, path),
                None => self.unknown(schema, &key.name, key.line, path),
            }
            let _popped = path.pop();
        }
        for name in list(schema, "required").filter_map(Json::as_str) {
            if !entries.iter().any(|(key, _)| key.name == name) {
                path.push(Step::Field(name));
                let kind = schema.get("properties").and_then(|known| known.get(name));
                let fix = format!("add {}", example(name, kind));
                self.problem(tree.line, path, "is missing".to_owned(), fix);
                let _popped = path.pop();
            }
        }
    }

    fn unknown(&mut self, schema: &Json, name: &str, line: u32, path: &Path<'_>) {
        let known: Vec<&str> = schema
            .get("properties")
            .and_then(Json::as_object)
            .into_iter()
            .flat_map(|map| map.keys())
            .map(String::as_str)
            .collect();
        let fix = match suggest::nearest(name, known.iter().copied()) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => format!("the fields here are {}", known.join(", ")),
        };
        self.problem(line, path, format!("there is no field `{name}`"), fix);
    }

    /// A table whose keys are the user's own.
    fn entries<'a>(&mut self, schema: &'a Json, tree: &'a Tree, path: &mut Path<'a>) {
        let Value::Table(entries) = &tree.value else { return };
        for (key, child) in entries {
            path.push(Step::Field(&key.name));
            if let Some(names) = schema.get("propertyNames") {
                self.text(names, key.line, &key.name, path);
            }
            if let Some(schema) = schema.get("additionalProperties") {
                self.value(schema, child, path);
            }
            let _popped = path.pop();
        }
    }

    fn items<'a>(&mut self, schema: &'a Json, tree: &'a Tree, items: &'a [Tree], path: &mut Path<'a>) {
        for (index, item) in items.iter().enumerate() {
            path.push(Step::Index(index));
            if let Some(schema) = schema.get("items") {
                self.value(schema, item, path);
            }
            let _popped = path.pop();
        }
        let count = i64::try_from(items.len()).unwrap_or(i64::MAX);
        if bound(schema, "minItems").is_some_and(|min| count < min) {
            self.problem(tree.line, path, "is empty".to_owned(), "write at least one".to_owned());
        }
        if let Some(max) = bound(schema, "maxItems").filter(|max| count > *max) {
            self.problem(tree.line, path, format!("has {count} elements"), format!("write at most {max}"));
        }
    }

    fn text(&mut self, schema: &Json, line: u32, text: &str, path: &Path<'_>) {
        let words: Vec<&str> = list(schema, "enum").filter_map(Json::as_str).collect();
        if !words.is_empty() && !words.contains(&text) {
            let fix = format!("write `{}`", words.join("` or `"));
            self.problem(line, path, format!("`{text}` is not one of the choices"), fix);
        }
        if let Some(Err((message, fix))) =
            schema.get("format").and_then(Json::as_str).map(|name| format::check(name, text))
        {
            self.problem(line, path, message, fix);
        }
    }

    fn number(&mut self, schema: &Json, line: u32, number: i64, path: &Path<'_>) {
        let (Some(min), Some(max)) = (bound(schema, "minimum"), bound(schema, "maximum")) else { return };
        if !(min..=max).contains(&number) {
            self.problem(
                line,
                path,
                format!("{number} is out of range"),
                format!("write a number from {min} to {max}"),
            );
        }
    }
}

fn word<'a>(schema: &'a Json, name: &str) -> &'a str {
    schema.get(name).and_then(Json::as_str).unwrap_or_default()
}

fn list<'a>(schema: &'a Json, name: &str) -> impl Iterator<Item = &'a Json> {
    schema.get(name).and_then(Json::as_array).into_iter().flatten()
}

fn bound(schema: &Json, name: &str) -> Option<i64> {
    schema.get(name).and_then(Json::as_i64)
}

/// A type of the schema in words, and how one is written.
fn kind(name: &str) -> (&'static str, &'static str) {
    match name {
        "array" => ("a list", "write it in brackets: `[...]`"),
        "boolean" => ("`true` or `false`", "write it without quotes"),
        "integer" => ("a whole number", "write it in digits, without quotes"),
        "string" => ("a string", "write it in quotes"),
        _ => ("a table", "write its fields, each with a value"),
    }
}

fn example(name: &str, schema: Option<&Json>) -> String {
    match schema.map(|schema| word(schema, "type")) {
        Some("array") => format!("`{name} = [\"...\"]`"),
        Some("integer") => format!("`{name} = ...`"),
        Some("object") => format!("the section `{name}`"),
        Some(_) | None => format!("`{name} = \"...\"`"),
    }
}
