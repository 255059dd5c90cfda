//! Where one document of a text ends and the next begins.
//!
//! YAML's document markers stand at the start of a line and can stand nowhere else, not even in a block of text, so the
//! text is cut by lines, and each document is read alone: the text kept of an object is exactly what was judged.

use super::diagnostic::Diagnostic;

/// A longer text is refused unread.
pub const TEXT_BYTES_MAX: usize = 8 * 1024 * 1024;
const DOCUMENTS_MAX: usize = 10_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Document<'t> {
    pub(super) text: &'t str,
    /// 1-based, in the whole text.
    pub(super) first_line: u32,
}

pub(super) fn split(text: &str) -> Result<Vec<Document<'_>>, Diagnostic> {
    if text.len() > TEXT_BYTES_MAX {
        let message = format!("the text is longer than {TEXT_BYTES_MAX} bytes");
        return Err(Diagnostic::error(0, "", message, "split it into several files"));
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut documents = Vec::new();
    let (mut rest, mut first_line) = (text, 1_u32);
    while !rest.is_empty() {
        let (head, tail, lines) = document(rest);
        documents.push(Document { text: head, first_line });
        if documents.len() > DOCUMENTS_MAX {
            let message = format!("the text has more than {DOCUMENTS_MAX} documents");
            return Err(Diagnostic::error(first_line, "", message, "split it into several files"));
        }
        first_line = first_line.saturating_add(lines);
        rest = tail;
    }
    Ok(documents)
}

/// The first document, with the marker that begins it; what follows; and how many lines it has.
fn document(text: &str) -> (&str, &str, u32) {
    let (mut bytes, mut lines) = (0_usize, 0_u32);
    for line in text.split_inclusive('\n') {
        if lines > 0 && begins_document(line) {
            break;
        }
        bytes = bytes.saturating_add(line.len());
        lines = lines.saturating_add(1);
    }
    let (head, tail) = text.split_at_checked(bytes).unwrap_or((text, ""));
    (head, tail, lines)
}

fn begins_document(line: &str) -> bool {
    line.strip_prefix("---").is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expect: &[(&str, u32)]) {
        let documents = split(text).unwrap();
        let found: Vec<_> = documents.iter().map(|d| (d.text, d.first_line)).collect();
        assert_eq!(found, expect);
    }

    #[test]
    fn documents() {
        check("", &[]);
        check("a: b\n", &[("a: b\n", 1)]);
        check("a\n---\nb", &[("a\n", 1), ("---\nb", 2)]);
        check("---\na\n--- b\n---\r\nc\n", &[("---\na\n", 1), ("--- b\n", 3), ("---\r\nc\n", 4)]);
        check("a: |\n  ---\n ---\n----\n", &[("a: |\n  ---\n ---\n----\n", 1)]);
        check("\u{feff}a", &[("a", 1)]);
    }

    #[test]
    fn limits() {
        let longest = " ".repeat(TEXT_BYTES_MAX);
        assert!(split(&longest).is_ok());
        assert!(split(&format!("{longest} ")).unwrap_err().message.contains("longer than"));
        assert_eq!(split(&"---\n".repeat(DOCUMENTS_MAX)).unwrap().len(), DOCUMENTS_MAX);
        assert!(split(&"---\n".repeat(DOCUMENTS_MAX + 1)).unwrap_err().message.contains("documents"));
    }
}
