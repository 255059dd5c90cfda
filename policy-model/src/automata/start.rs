//! The literal start of a path pattern, and what is left to be matched behind it.

use regex_syntax::hir::{Class, Dot, Hir, HirKind, Look, Repetition};

/// One way into a pattern: a literal, then the rest. A pattern with several starts matches where any of them does.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Start {
    pub(crate) literal: Vec<u8>,
    pub(crate) rest: Rest,
}

/// What may follow the literal, up to the end.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Rest {
    /// Any bytes at all: no path was asked for, or `(?s).*`.
    Anything,
    /// `.*`: any bytes but a line feed.
    Line,
    Nothing,
    Pattern(Hir),
}

/// A pattern is spread over at most this many literals: `/v[12]/(a|b)` are four.
const STARTS_MAX: usize = 8;

/// The ways into `hir`. It is matched against a whole path, so anchors at its own ends say nothing.
pub(crate) fn starts(hir: &Hir) -> Vec<Start> {
    let hir = bare(hir);
    if let HirKind::Alternation(branches) = hir.kind()
        && branches.len() <= STARTS_MAX
    {
        return branches.iter().flat_map(branch).collect();
    }
    branch(&hir)
}

/// Every word that `hir` matches, where these are at most `max`.
pub(crate) fn words(hir: &Hir, max: usize) -> Option<Vec<Vec<u8>>> {
    let parts = anchored(&bare(hir));
    let (literals, rest) = spread(&parts, max);
    rest.is_empty().then_some(literals)
}

/// Which way patterns are best read that stand behind one literal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Reads {
    /// They begin with a repetition without a bound and end with something narrower: few of them have one end.
    Backward,
    /// They begin and end with `.*`, and have no line feed between.
    Inside,
    Forward,
}

pub(crate) fn reads(hir: &Hir) -> Reads {
    let HirKind::Concat(parts) = hir.kind() else { return Reads::Forward };
    let is_endless = |part: &Hir| matches!(part.kind(), HirKind::Repetition(one) if one.max.is_none());
    let is_line = |part: &Hir| is_any(part, Dot::AnyByteExceptLF);
    let [first, inside @ .., last] = parts.as_slice() else { return Reads::Forward };
    if !hir.properties().look_set().is_empty() || !is_endless(first) {
        return Reads::Forward;
    }
    match (is_line(first), is_line(last), is_any(last, Dot::AnyByte)) {
        (_, false, false) => Reads::Backward,
        (true, true, _) if !inside.is_empty() && !inside.iter().any(may_feed) => Reads::Inside,
        (..) => Reads::Forward,
    }
}

/// Whether a line feed may be in what it matches.
fn may_feed(hir: &Hir) -> bool {
    match hir.kind() {
        HirKind::Alternation(parts) | HirKind::Concat(parts) => parts.iter().any(may_feed),
        HirKind::Capture(capture) => may_feed(&capture.sub),
        HirKind::Class(Class::Bytes(class)) => {
            class.ranges().iter().any(|range| (range.start()..=range.end()).contains(&b'\n'))
        }
        HirKind::Class(Class::Unicode(class)) => {
            class.ranges().iter().any(|range| (range.start()..=range.end()).contains(&'\n'))
        }
        HirKind::Empty | HirKind::Look(_) => false,
        HirKind::Literal(literal) => literal.0.contains(&b'\n'),
        HirKind::Repetition(repetition) => may_feed(&repetition.sub),
    }
}

/// The pattern without its first and its last part.
pub(crate) fn inside(hir: &Hir) -> Hir {
    let HirKind::Concat(parts) = hir.kind() else { return hir.clone() };
    match parts.as_slice() {
        [_, inside @ .., _] => Hir::concat(inside.to_vec()),
        _ => hir.clone(),
    }
}

fn branch(hir: &Hir) -> Vec<Start> {
    let parts = anchored(hir);
    let (literals, rest) = spread(&parts, STARTS_MAX);
    let rest = match rest {
        [] => Rest::Nothing,
        [any] if is_any(any, Dot::AnyByteExceptLF) => Rest::Line,
        [any] if is_any(any, Dot::AnyByte) => Rest::Anything,
        parts => Rest::Pattern(Hir::concat(parts.to_vec())),
    };
    literals.into_iter().map(|literal| Start { literal, rest: rest.clone() }).collect()
}

/// The parts of a concatenation, without the anchors that a match of the whole always meets.
fn anchored(hir: &Hir) -> Vec<Hir> {
    let parts: &[Hir] = match hir.kind() {
        HirKind::Concat(parts) => parts,
        HirKind::Empty => &[],
        HirKind::Alternation(_)
        | HirKind::Capture(_)
        | HirKind::Class(_)
        | HirKind::Literal(_)
        | HirKind::Look(_)
        | HirKind::Repetition(_) => std::slice::from_ref(hir),
    };
    let begins =
        |part: &Hir| matches!(part.kind(), HirKind::Look(Look::Start | Look::StartLF | Look::StartCRLF));
    let ends = |part: &Hir| matches!(part.kind(), HirKind::Look(Look::End | Look::EndLF | Look::EndCRLF));
    let first = parts.iter().take_while(|part| begins(part)).count();
    let last = parts.iter().rev().take_while(|part| ends(part)).count();
    parts.iter().skip(first).take(parts.len().saturating_sub(first + last)).cloned().collect()
}

/// The literals that the parts begin with, spread over choices as long as `max` allows, and the parts behind them.
fn spread(parts: &[Hir], max: usize) -> (Vec<Vec<u8>>, &[Hir]) {
    let mut literals = vec![Vec::new()];
    for (index, part) in parts.iter().enumerate() {
        let room = max / literals.len();
        let Some(choices) = choices(part, room) else { return (literals, parts.get(index..).unwrap_or(&[])) };
        literals = literals
            .iter()
            .flat_map(|literal| choices.iter().map(move |choice| [literal.as_slice(), choice].concat()))
            .collect();
    }
    (literals, &[])
}

/// The words of one part, where these are few.
fn choices(hir: &Hir, max: usize) -> Option<Vec<Vec<u8>>> {
    let words = match hir.kind() {
        HirKind::Empty => vec![Vec::new()],
        HirKind::Literal(literal) => vec![literal.0.to_vec()],
        HirKind::Class(class) => class_words(class, max)?,
        HirKind::Alternation(branches) => {
            branches.iter().map(|branch| choices(branch, max)).collect::<Option<Vec<_>>>()?.concat()
        }
        HirKind::Concat(parts) => {
            let (literals, rest) = spread(parts, max.max(1));
            rest.is_empty().then_some(literals)?
        }
        HirKind::Capture(capture) => choices(&capture.sub, max)?,
        HirKind::Look(_) | HirKind::Repetition(_) => return None,
    };
    (words.len() <= max).then_some(words)
}

fn class_words(class: &Class, max: usize) -> Option<Vec<Vec<u8>>> {
    match class {
        Class::Unicode(class) => {
            let count: usize = class.ranges().iter().map(|range| range.len()).sum();
            let chars = class.ranges().iter().flat_map(|range| range.start()..=range.end());
            (count <= max).then(|| chars.map(|c| c.to_string().into_bytes()).collect())
        }
        Class::Bytes(class) => {
            let count: usize = class.ranges().iter().map(|range| range.len()).sum();
            let bytes = class.ranges().iter().flat_map(|range| range.start()..=range.end());
            (count <= max).then(|| bytes.map(|b| vec![b]).collect())
        }
    }
}

/// Without groups: only whether the whole matches is ever asked.
fn bare(hir: &Hir) -> Hir {
    match hir.kind() {
        HirKind::Capture(capture) => bare(&capture.sub),
        HirKind::Concat(parts) => Hir::concat(parts.iter().map(bare).collect()),
        HirKind::Alternation(branches) => Hir::alternation(branches.iter().map(bare).collect()),
        HirKind::Repetition(repetition) => {
            Hir::repetition(Repetition { sub: Box::new(bare(&repetition.sub)), ..repetition.clone() })
        }
        HirKind::Class(_) | HirKind::Empty | HirKind::Literal(_) | HirKind::Look(_) => hir.clone(),
    }
}

/// `.*`, with whatever `.` takes.
fn is_any(hir: &Hir, dot: Dot) -> bool {
    let HirKind::Repetition(repetition) = hir.kind() else { return false };
    (repetition.min, repetition.max) == (0, None) && repetition.sub.kind() == Hir::dot(dot).kind()
}
