//! How answers look: tables for people, JSON and YAML for programs.

use crate::args::Format;
use anyhow::Result;
use proxy_core::text::harmless_json;
use serde::Serialize;
use std::borrow::Cow;
use std::io::Write;

/// Where answers go. A trait object, so that tests read what people read.
pub(crate) type Out<'a> = &'a mut dyn Write;

/// What an answer says: the exit status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Yes,
    No,
}

impl Answer {
    pub(crate) fn from(yes: bool) -> Self {
        if yes { Self::Yes } else { Self::No }
    }
}

/// Writes `value` for programs, or calls `table` for people.
pub(crate) fn write<T: Serialize>(
    out: Out<'_>,
    format: Format,
    value: &T,
    table: impl FnOnce(Out<'_>) -> Result<()>,
) -> Result<()> {
    match format {
        Format::Json => json(out, value),
        Format::Table => table(out),
        Format::Yaml => Ok(out.write_all(yaml(value)?.as_bytes())?),
    }
}

pub(crate) fn json<T: Serialize>(out: Out<'_>, value: &T) -> Result<()> {
    let text = serde_json::to_string_pretty(value)?;
    Ok(writeln!(out, "{}", harmless_json(&text))?)
}

/// With a line feed at its end. What holds characters that a terminal obeys is written as JSON, which is YAML too and can escape
/// them all.
pub(crate) fn yaml<T: Serialize>(value: &T) -> Result<String> {
    let text = serde_saphyr::to_string(value)?;
    Ok(match harmless_json(&text) {
        Cow::Borrowed(_) => text,
        Cow::Owned(_) => format!("{}\n", harmless_json(&serde_json::to_string_pretty(value)?)),
    })
}

/// Rows of cells in columns, each as wide as its widest cell and `padding` more, at least `width_min`. No trailing blanks.
pub(crate) fn table(out: Out<'_>, width_min: usize, padding: usize, rows: &[Vec<String>]) -> Result<()> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.max().unwrap_or_default().saturating_add(padding).max(width_min)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        writeln!(out, "{}", cells.collect::<String>().trim_end())?;
    }
    Ok(())
}

/// Text that came over the wire or from a file, made harmless for a terminal.
pub(crate) fn harmless(text: &str) -> String {
    proxy_core::text::harmless(text).into_owned()
}

/// `file:12: field: message; fix`, leaving out what is not known.
pub(crate) fn complaint(file: &str, line: u32, field: &str, message: &str, fix: &str) -> String {
    let line = if line == 0 { String::new() } else { format!(":{line}") };
    let field = if field.is_empty() { String::new() } else { format!(" {field}:") };
    let fix = if fix.is_empty() { String::new() } else { format!("; {fix}") };
    harmless(&format!("{file}{line}:{field} {message}{fix}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(rows: &[&[&str]], expect: &str) {
        let rows: Vec<Vec<String>> =
            rows.iter().map(|row| row.iter().map(|cell| (*cell).to_owned()).collect()).collect();
        let mut out = Vec::new();
        table(&mut out, 5, 3, &rows).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), expect);
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        check(
            &[&["ID", "LABELS"], &["12345", "a=b"], &["", "c=d"]],
            "ID      LABELS\n12345   a=b\n        c=d\n",
        );
        check(&[&["a", "b"]], "a    b\n");
        check(&[&["é", "b"], &["abcd", "c"]], "é      b\nabcd   c\n");
        check(&[], "");
    }

    #[test]
    fn a_terminal_obeys_nothing_that_programs_read() {
        let value = serde_json::json!({"name": "a\u{202e}b\u{9b}31m\nc"});
        let mut out = Vec::new();
        json(&mut out, &value).unwrap();
        for text in [String::from_utf8(out).unwrap(), yaml(&value).unwrap()] {
            assert!(!text.contains(['\u{202e}', '\u{9b}']), "{text:?}");
            assert_eq!(serde_saphyr::from_str::<serde_json::Value>(&text).unwrap(), value);
        }
        assert_eq!(yaml(&serde_json::json!({"name": "plain"})).unwrap(), "name: plain\n");
    }

    #[test]
    fn complaints() {
        assert_eq!(complaint("f", 3, "spec", "is wrong", "mend it"), "f:3: spec: is wrong; mend it");
        assert_eq!(complaint("f", 0, "", "is wrong", ""), "f: is wrong");
    }
}
