//! Complaints about a text: what is wrong, where it stands, and what to write instead.

use std::fmt::Write;

/// One complaint. Lower-case, no full stop, user input in backticks.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Diagnostic {
    pub severity: Severity,
    /// 1-based line of the text; 0 where none is known.
    pub line: u32,
    /// `spec.ingress[0].toPorts[0].rules.kafka`; empty for the whole text.
    pub field: String,
    pub message: String,
    /// What to write instead; may be empty.
    pub fix: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Warning,
    Error,
}

impl Diagnostic {
    pub(super) fn error(line: u32, field: &str, message: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            line,
            field: field.into(),
            message: message.into(),
            fix: fix.into(),
        }
    }
}

/// A part that could not be read, and has been complained about. Whoever gets it puts the closed form in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unreadable;

/// More than these are counted, not kept: a text of nothing but mistakes must not grow in memory.
pub(super) const COMPLAINTS_MAX: usize = 100;

/// The complaints about one object.
#[derive(Debug, Default)]
pub(super) struct Complaints {
    kept: Vec<Diagnostic>,
    dropped: usize,
    refused: bool,
}

impl Complaints {
    pub(super) fn add(&mut self, diagnostic: Diagnostic) {
        self.refused |= diagnostic.severity == Severity::Error;
        match self.kept.len() < COMPLAINTS_MAX {
            true => self.kept.push(diagnostic),
            false => self.dropped = self.dropped.saturating_add(1),
        }
    }

    /// Whether anything was an error.
    pub(super) fn refused(&self) -> bool {
        self.refused
    }

    pub(super) fn into_diagnostics(mut self) -> Vec<Diagnostic> {
        if self.dropped > 0 {
            let severity = if self.refused { Severity::Error } else { Severity::Warning };
            let message = format!("{} more complaints are not shown", self.dropped);
            self.kept.push(Diagnostic {
                severity,
                line: 0,
                field: String::new(),
                message,
                fix: String::new(),
            });
        }
        self.kept
    }
}

const QUOTED_CHARS_MAX: usize = 80;

/// Words of the user in backticks: cut to a bound, and nothing in them reaches a terminal as a control.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::from("`");
    for (count, c) in text.chars().enumerate() {
        if count == QUOTED_CHARS_MAX {
            out.push('…');
            break;
        }
        match c.is_control()
            || ('\u{200b}'..='\u{202e}').contains(&c)
            || ('\u{2066}'..='\u{2069}').contains(&c)
        {
            // Writing to a String does not fail.
            true => drop(write!(out, "{}", c.escape_unicode())),
            false => out.push(c),
        }
    }
    out.push('`');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_words_are_bounded_and_harmless() {
        assert_eq!(quoted("abc"), "`abc`");
        assert_eq!(quoted("a\u{1b}[31m"), "`a\\u{1b}[31m`");
        assert_eq!(quoted("a\u{202e}b"), "`a\\u{202e}b`");
        assert_eq!(quoted(&"x".repeat(80)), format!("`{}`", "x".repeat(80)));
        assert_eq!(quoted(&"x".repeat(81)), format!("`{}…`", "x".repeat(80)));
    }

    #[test]
    fn complaints_are_bounded() {
        let mut complaints = Complaints::default();
        for line in 0..150 {
            complaints.add(Diagnostic::error(line, "spec", "wrong", ""));
        }
        assert!(complaints.refused());
        let all = complaints.into_diagnostics();
        assert_eq!(all.len(), COMPLAINTS_MAX + 1);
        assert_eq!(all[COMPLAINTS_MAX].message, "50 more complaints are not shown");
    }
}
