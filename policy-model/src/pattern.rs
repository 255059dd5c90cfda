//! The patterns of HTTP rules: RE2's dialect on bytes, always matched against the whole value.
//!
//! The engine is regex-automata. Where its dialect and RE2's read the same text differently (set operations in classes,
//! `\<`, the `x` flag), the pattern is refused: a rule must not mean more here than where it was written for.
//! Classes (`\d`, `\w`, `(?i)`) are ASCII, as in RE2; `.` is any byte but a newline.
//!
//! INVARIANT: [`check`] accepts exactly what [`build`] builds.

use regex_automata::meta::Regex;
use regex_automata::nfa::thompson::{Compiler, Config, WhichCaptures};
use regex_syntax::ast::parse::ParserBuilder;
use regex_syntax::ast::{
    self, AssertionKind, Ast, ClassSetBinaryOp, ClassSetItem, Flag, FlagsItemKind, GroupKind,
};
use regex_syntax::hir::translate::TranslatorBuilder;
use regex_syntax::hir::{Hir, Look};

/// Longer patterns are refused unread.
pub const PATTERN_BYTES_MAX: usize = 4096;
/// Nested groups and repetitions of one pattern.
pub const PATTERN_DEPTH_MAX: u32 = 100;
/// The automaton of one pattern; `(a{100}){100}` is over it.
pub const PATTERN_NFA_BYTES_MAX: usize = 256 * 1024;
const SHORT_BYTES_MAX: usize = 1024;

/// Whether a rule may carry this pattern.
///
/// # Errors
/// It is not a regular expression of RE2's dialect, or it is over a limit. Lower-case, without the pattern itself.
pub fn check(pattern: &str) -> Result<(), String> {
    let whole = whole(parse(pattern)?);
    // Without counted repetitions an automaton grows with its pattern alone: less than 100 bytes for each of these.
    if pattern.len() <= SHORT_BYTES_MAX && !pattern.contains('{') {
        return Ok(());
    }
    let config = Config::new()
        .utf8(false)
        .which_captures(WhichCaptures::None)
        .nfa_size_limit(Some(PATTERN_NFA_BYTES_MAX));
    match Compiler::new().configure(config).build_from_hir(&whole) {
        Ok(_nfa) => Ok(()),
        Err(error) => Err(compile_error(error.size_limit(), &error)),
    }
}

/// The automaton of one pattern, anchored at both ends. `is_match` is the question to ask it.
///
/// # Errors
/// As [`check`].
pub fn build(pattern: &str) -> Result<Regex, String> {
    check(pattern)?;
    build_many(&[whole(parse(pattern)?)], PATTERN_NFA_BYTES_MAX)
}

/// One automaton of several patterns, each made by [`parse`] and [`whole`].
///
/// # Errors
/// The automaton would be larger than `nfa_bytes_max`.
pub fn build_many(patterns: &[Hir], nfa_bytes_max: usize) -> Result<Regex, String> {
    let config = Regex::config()
        .utf8_empty(false)
        .which_captures(WhichCaptures::None)
        .nfa_size_limit(Some(nfa_bytes_max));
    Regex::builder()
        .configure(config)
        .build_many_from_hir(patterns)
        .map_err(|error| compile_error(error.size_limit(), &error))
}

/// The pattern as written, not anchored: for whoever takes its literal start apart.
///
/// # Errors
/// It is not a regular expression of RE2's dialect, too long, or nested too deeply.
pub fn parse(pattern: &str) -> Result<Hir, String> {
    if pattern.len() > PATTERN_BYTES_MAX {
        return Err(format!("the pattern is longer than {PATTERN_BYTES_MAX} bytes"));
    }
    let ast = ParserBuilder::new()
        .nest_limit(PATTERN_DEPTH_MAX)
        .build()
        .parse(pattern)
        .map_err(|error| format!("{} at byte {}", error.kind(), error.span().start.offset))?;
    ast::visit(&ast, Dialect)?;
    TranslatorBuilder::new()
        .unicode(false)
        .utf8(false)
        .build()
        .translate(pattern, &ast)
        .map_err(|error| format!("{} at byte {}", error.kind(), error.span().start.offset))
}

/// Anchors a pattern at both ends, alternations included. It cannot be escaped from: the tree is wrapped, not the text.
pub fn whole(pattern: Hir) -> Hir {
    Hir::concat(vec![Hir::look(Look::Start), pattern, Hir::look(Look::End)])
}

fn compile_error(size_limit: Option<usize>, error: &dyn std::fmt::Display) -> String {
    match size_limit {
        Some(limit) => format!("the pattern needs an automaton of more than {limit} bytes"),
        None => error.to_string(),
    }
}

/// Refuses what RE2 would read differently, or not at all.
struct Dialect;

impl Dialect {
    fn flags(flags: &ast::Flags) -> Result<(), String> {
        let foreign = flags.items.iter().find_map(|item| match item.kind {
            FlagsItemKind::Flag(Flag::Unicode) => Some('u'),
            FlagsItemKind::Flag(Flag::CRLF) => Some('R'),
            FlagsItemKind::Flag(Flag::IgnoreWhitespace) => Some('x'),
            FlagsItemKind::Negation
            | FlagsItemKind::Flag(
                Flag::CaseInsensitive | Flag::DotMatchesNewLine | Flag::MultiLine | Flag::SwapGreed,
            ) => None,
        });
        foreign.map_or(Ok(()), |flag| Err(format!("RE2 has no flag `{flag}`")))
    }

    fn assertion(kind: &AssertionKind) -> Result<(), String> {
        match kind {
            AssertionKind::EndLine
            | AssertionKind::EndText
            | AssertionKind::NotWordBoundary
            | AssertionKind::StartLine
            | AssertionKind::StartText
            | AssertionKind::WordBoundary => Ok(()),
            AssertionKind::WordBoundaryEnd
            | AssertionKind::WordBoundaryEndAngle
            | AssertionKind::WordBoundaryEndHalf
            | AssertionKind::WordBoundaryStart
            | AssertionKind::WordBoundaryStartAngle
            | AssertionKind::WordBoundaryStartHalf => {
                Err("RE2 has no assertions for one end of a word (`\\<`, `\\b{start}`)".into())
            }
        }
    }

    fn literal(literal: &ast::Literal) -> Result<(), String> {
        use ast::{HexLiteralKind, LiteralKind};
        match literal.kind {
            LiteralKind::HexFixed(HexLiteralKind::UnicodeShort | HexLiteralKind::UnicodeLong)
            | LiteralKind::HexBrace(HexLiteralKind::UnicodeShort | HexLiteralKind::UnicodeLong) => {
                Err("RE2 has no escapes `\\u` and `\\U`; write `\\x{...}`".into())
            }
            LiteralKind::HexBrace(HexLiteralKind::X)
            | LiteralKind::HexFixed(HexLiteralKind::X)
            | LiteralKind::Meta
            | LiteralKind::Octal
            | LiteralKind::Special(_)
            | LiteralKind::Superfluous
            | LiteralKind::Verbatim => Ok(()),
        }
    }
}

impl ast::Visitor for Dialect {
    type Output = ();
    type Err = String;

    fn finish(self) -> Result<(), String> {
        Ok(())
    }

    fn visit_pre(&mut self, ast: &Ast) -> Result<(), String> {
        match ast {
            Ast::Assertion(assertion) => Self::assertion(&assertion.kind),
            Ast::Flags(set) => Self::flags(&set.flags),
            Ast::Group(group) => match &group.kind {
                GroupKind::CaptureIndex(_) | GroupKind::CaptureName { .. } => Ok(()),
                GroupKind::NonCapturing(flags) => Self::flags(flags),
            },
            Ast::Literal(literal) => Self::literal(literal),
            Ast::Alternation(_)
            | Ast::ClassBracketed(_)
            | Ast::ClassPerl(_)
            | Ast::ClassUnicode(_)
            | Ast::Concat(_)
            | Ast::Dot(_)
            | Ast::Empty(_)
            | Ast::Repetition(_) => Ok(()),
        }
    }

    fn visit_class_set_item_pre(&mut self, item: &ClassSetItem) -> Result<(), String> {
        match item {
            ClassSetItem::Bracketed(_) => Err(
                "a `[` inside of a class is a nested class here and a plain character in RE2; write `\\[`"
                    .into(),
            ),
            ClassSetItem::Literal(literal) => Self::literal(literal),
            ClassSetItem::Range(range) => {
                Self::literal(&range.start).and_then(|()| Self::literal(&range.end))
            }
            ClassSetItem::Ascii(_)
            | ClassSetItem::Empty(_)
            | ClassSetItem::Perl(_)
            | ClassSetItem::Unicode(_)
            | ClassSetItem::Union(_) => Ok(()),
        }
    }

    fn visit_class_set_binary_op_pre(&mut self, _op: &ClassSetBinaryOp) -> Result<(), String> {
        Err("`&&`, `--` and `~~` inside of a class are set operations here and plain characters in RE2; escape them".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn matches(pattern: &str, value: &str, expect: bool) {
        let regex = build(pattern).unwrap();
        assert_eq!(regex.is_match(value), expect, "`{pattern}` on `{value}`");
    }

    #[track_caller]
    fn refused(pattern: &str, part: &str) {
        let message = check(pattern).unwrap_err();
        assert!(message.contains(part), "`{pattern}`: {message}");
        assert!(build(pattern).is_err(), "`{pattern}` is refused and yet built");
    }

    #[test]
    fn the_whole_value_is_matched() {
        matches("/public", "/public", true);
        matches("/public", "/public/", false);
        matches("/public", "/v1/public", false);
        matches("/a|/b", "/a/x", false);
        matches("/a|/b", "/b", true);
        matches("/.*", "/anything", true);
        matches("/.*", "/two\nlines", false);
        matches("^/x$", "/x", true);
        matches("(?m)^/x$", "/x\n", false);
    }

    #[test]
    fn classes_are_ascii() {
        matches(r"/\d+", "/42", true);
        matches(r"/\d", "/\u{0664}", false);
        matches(r"(?i)/k", "/K", true);
        matches(r"(?i)/k", "/\u{212a}", false);
        matches("/é", "/é", true);
    }

    #[test]
    fn what_is_no_regular_expression() {
        refused("/foo*(", "unclosed group");
        refused("a)|(b", "unopened group");
        refused(r"(a)\1", "backreferences");
        refused("(?=a)", "look-around");
        refused("*", "repetition operator");
    }

    #[test]
    fn what_re2_reads_differently() {
        refused("[a-z&&[^b]]", "set operations");
        refused("[a--b]", "set operations");
        refused("[[a]]", "nested class");
        refused(r"\<a", "one end of a word");
        refused(r"\b{start}a", "one end of a word");
        refused("(?x) a # b", "no flag `x`");
        refused("(?u:a)", "no flag `u`");
        refused(r"\u0041", r"`\u`");
        refused(r"[\u0041-z]", r"`\u`");
        assert_eq!(check("[[:alpha:]]+"), Ok(()));
    }

    /// `check` builds nothing for these; what costs the most for each byte of the pattern must be built all the same.
    #[test]
    fn short_patterns_are_never_too_large() {
        for part in [
            ".",
            "a+",
            "(?i)a",
            "[a-z]*",
            r"\W",
            r"\W+?",
            "(|a)",
            "[^a]",
            "a|",
            "()",
            r"\b",
            "[[:^alnum:]]",
            "é",
            "(a*)*",
        ] {
            let pattern = part.repeat(SHORT_BYTES_MAX / part.len());
            assert_eq!(check(&pattern), Ok(()), "{part}");
            assert!(build(&pattern).is_ok(), "{part}");
        }
    }

    #[test]
    fn limits() {
        let longest = "a".repeat(PATTERN_BYTES_MAX);
        assert_eq!(check(&longest), Ok(()));
        refused(&format!("{longest}a"), "longer than 4096 bytes");
        refused("(a{100}){100}{100}", "automaton");
        let nested = |depth: usize| format!("{}{}", "(".repeat(depth), ")".repeat(depth));
        assert_eq!(check(&nested(100)), Ok(()));
        refused(&nested(101), "nest");
    }

    /// The size of an automaton has no formula: the last repetition that fits and the next one are looked for.
    #[test]
    fn the_size_of_an_automaton_is_bounded() {
        let pattern = |count: u32| format!("(abcdefghij){{{count}}}");
        let (mut fits, mut too_large) = (1, 1_000_000);
        while too_large - fits > 1 {
            let middle = fits + (too_large - fits) / 2;
            match check(&pattern(middle)) {
                Ok(()) => fits = middle,
                Err(_) => too_large = middle,
            }
        }
        assert!(build(&pattern(fits)).is_ok(), "{fits}");
        refused(&pattern(too_large), "automaton");
        assert!(build(&pattern(too_large)).is_err(), "{too_large}");
        assert!((100..10_000).contains(&fits), "{fits}");
    }
}
