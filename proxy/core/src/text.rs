//! Text that peers, policies and file names bring along, made harmless for terminals and for logs of one line an event.

use std::borrow::Cow;
use std::fmt::{self, Write as _};

/// Escapes what a terminal obeys and what ends a line: control characters of both sets, line and paragraph separators, and marks
/// that turn the direction of writing. As in JSON, so that an escape stays one there: `\n`, `\u001b`.
pub fn harmless(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_obeyed) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => escaped.push_str("\\n"),
            '\r' => escaped.push_str("\\r"),
            '\t' => escaped.push_str("\\t"),
            // Infallible; all of them are in the first plane, so four digits are enough.
            c if is_obeyed(c) => write!(escaped, "\\u{:04x}", u32::from(c)).unwrap_or_default(),
            c => escaped.push(c),
        }
    }
    Cow::Owned(escaped)
}

/// The same for JSON that is laid out in lines: those stay.
pub fn harmless_json(text: &str) -> Cow<'_, str> {
    if !text.chars().any(|c| c != '\n' && is_obeyed(c)) {
        return Cow::Borrowed(text);
    }
    let lines: Vec<Cow<'_, str>> = text.split('\n').map(harmless).collect();
    Cow::Owned(lines.join("\n"))
}

/// An error that has several things to say, each a line of its own where lines are read.
#[derive(Debug)]
pub struct Complaints {
    pub what: String,
    pub each: Vec<String>,
}

impl Complaints {
    /// For a terminal: no name that is part of a line begins another one.
    pub fn lines(&self) -> Vec<String> {
        let first = format!("{}:", self.what);
        std::iter::once(&first).chain(&self.each).map(|line| harmless(line).into_owned()).collect()
    }
}

impl fmt::Display for Complaints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.each.join("; "))
    }
}

impl std::error::Error for Complaints {}

fn is_obeyed(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expect: &str) {
        assert_eq!(harmless(text), expect);
        let json = format!("\"{}\"", harmless(text));
        assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text, "an escape of JSON");
    }

    #[test]
    fn json_keeps_its_lines() {
        let value = serde_json::json!({"a\u{202e}": ["b\n\u{9b}", "\u{7f}é"]});
        let pretty = serde_json::to_string_pretty(&value).unwrap();
        let escaped = harmless_json(&pretty);
        assert!(!escaped.chars().any(|c| c != '\n' && is_obeyed(c)), "{escaped}");
        assert_eq!(escaped.lines().count(), pretty.lines().count());
        assert_eq!(serde_json::from_str::<serde_json::Value>(&escaped).unwrap(), value);
        assert!(matches!(harmless_json("{\n}"), Cow::Borrowed(_)));
    }

    #[test]
    fn what_a_terminal_obeys_is_escaped() {
        check("/a\u{1b}[2J\r\n\té", "/a\\u001b[2J\\r\\n\\té");
        check("\u{0}\u{7f}\u{85}\u{9b}31m", "\\u0000\\u007f\\u0085\\u009b31m");
        check("a\u{202e}b\u{2066}c\u{2028}d\u{200f}", "a\\u202eb\\u2066c\\u2028d\\u200f");
        check("plain text, 漢字", "plain text, 漢字");
    }
}
