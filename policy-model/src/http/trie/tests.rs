//! The trie against a scan of all rules, with literals that fork everywhere and run on for long.

use super::super::grow::Builder;
use super::*;
use crate::automata::{Onward, Patterns, Place, Reads, Rest, Way};
use proptest::prelude::*;

#[test]
fn nobody() {
    let trie = trie(&[]);
    assert_eq!(found(&trie, b"", 0), None);
    assert_eq!(trie.deepest(b"/"), None);
}

#[test]
fn keys_order_like_bytes() {
    assert_eq!(key(b"/abcdefghi", 1, 8), Some(u64::from_be_bytes(*b"abcdefgh")));
    assert_eq!(key(b"/abcdefghi", 1, 2), Some(u64::from_be_bytes(*b"ab\0\0\0\0\0\0")));
    assert_eq!(key(b"/abcdefghi", 8, 2), Some(u64::from_be_bytes(*b"hi\0\0\0\0\0\0")));
    assert_eq!(key(b"/abcdefghi", 8, 3), None);
    assert_eq!(key(b"hi", 0, 2), key(b"/abcdefghi", 8, 2));
    assert_eq!(key(b"/abcdefghi", 10, 0), Some(0));
    assert_eq!(key(b"", 0, 0), Some(0));
    assert_eq!(key(b"", 1, 0), None);
    assert_eq!(key(b"/abcdefghi", 0, 9), None);
}

/// Ten thousand that differ in four digits, wherever these lie in a key.
#[test]
fn keys_lie_close_to_where_they_are_looked_for() {
    for length in 4..12 {
        let rules: Vec<Rule> =
            (0..10_000).map(|i| (format!("{i:04}{:x<length$}", ""), Rest::Nothing)).collect();
        let trie = trie(&rules);
        let steps = |node: &Node| {
            let (start, length) = trie.root.children.table();
            let at = trie.nodes.iter().position(|other| std::ptr::eq(node, other)).unwrap() - start;
            (at + length - hash(node.key, length)) % length
        };
        let children = slice(&trie.sorted, (trie.root.children.first, trie.root.children.count));
        // Looking each up by its place would take long: one in a hundred tells enough.
        let sample: Vec<&u32> = children.iter().step_by(100).collect();
        let all: usize = sample.iter().map(|at| steps(&trie.nodes[place(**at)])).sum();
        assert!(
            all < 2 * sample.len(),
            "{all} steps to {} keys, {length} bytes behind the digits",
            sample.len()
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn same_as_a_scan(
        rules in proptest::collection::vec(a_rule(), 0..48),
        paths in proptest::collection::vec(a_literal(), 1..16),
        refused in any::<u64>(),
    ) {
        let trie = trie(&rules);
        // Paths that begin as rules do, and go on, end early, or differ.
        let near = rules.iter().zip(&paths).map(|((literal, _), path)| format!("{literal}{path}"));
        let short = rules.iter().map(|(literal, _)| literal.chars().take(literal.len() / 2 + 3).collect());
        for path in paths.iter().cloned().chain(near).chain(short) {
            let path = path.as_bytes();
            let expect = rules.iter().enumerate().position(|(i, rule)| !is_refused(i, refused) && matches(rule, path));
            prop_assert_eq!(found(&trie, path, refused), expect, "{:?} in {:?}", path, rules);
let (length, rule) = trie.deepest(path).unzip();
            let same = |(literal, _): &Rule| common(literal.as_bytes(), path);
            prop_assert_eq!(length, rules.iter().map(same).max(), "{:?} in {:?}", path, rules);
            prop_assert_eq!(rule.map(|rule| same(&rules[rule.rule()])), length, "{:?} in {:?}", path, rules);
        }
    }
}

type Rule = (String, Rest);

/// Rules under a condition may be refused by it.
fn is_refused(rule: usize, refused: u64) -> bool {
    !is_certain(rule) && refused >> (rule % 64) & 1 == 1
}

fn is_certain(rule: usize) -> bool {
    rule.is_multiple_of(3)
}

fn matches((literal, rest): &Rule, path: &[u8]) -> bool {
    let Some(behind) = path.strip_prefix(literal.as_bytes()) else { return false };
    match rest {
        Rest::Anything => true,
        Rest::Line => !behind.contains(&b'\n'),
        Rest::Nothing => behind.is_empty(),
        Rest::Pattern(hir) => {
            let whole = crate::pattern::whole(hir.clone());
            crate::pattern::build_many(&[whole], 1 << 20).unwrap().is_match(behind)
        }
    }
}

fn a_rule() -> impl Strategy<Value = Rule> {
    (a_literal(), proptest::sample::select(vec!["", ".*", "(?s).*", "[ab]+", ".*b", "[^/]*\n.*", "x{3}"]))
        .prop_map(|(literal, rest)| {
            let hir = crate::pattern::parse(rest).unwrap();
            let rest = match rest {
                "" => Rest::Nothing,
                ".*" => Rest::Line,
                "(?s).*" => Rest::Anything,
                _ => Rest::Pattern(hir),
            };
            (literal, rest)
        })
}

/// Few pieces of many lengths, so that literals are starts of one another, and fork before and behind eight bytes.
fn a_literal() -> impl Strategy<Value = String> {
    let pieces = vec!["", "/", "a", "b", "ab", "\n", "/service", "/service-0001", "/a-long-label-of-20-b"];
    proptest::collection::vec(proptest::sample::select(pieces), 0..5).prop_map(|pieces| pieces.concat())
}

fn candidate(rule: usize) -> Candidate {
    Candidate::new(rule, is_certain(rule)).unwrap()
}

/// The patterns of all rules are of one group, as if each place had only some of its policy's.
fn trie(rules: &[Rule]) -> Trie {
    let mut hirs = Vec::new();
    for (_, rest) in rules {
        if let Rest::Pattern(hir) = rest
            && !hirs.contains(&hir)
        {
            hirs.push(hir);
        }
    }
    let group = Patterns::default().group(Reads::Forward, &hirs);
    let place = |hir| -> Place {
        let index = hirs.iter().position(|known| *known == hir).unwrap();
        group.places()[index].clone().unwrap()
    };
    let mut builder = Builder::default();
    for (i, (literal, rest)) in rules.iter().enumerate() {
        let onward = match rest {
            Rest::Anything => Onward::Anything,
            Rest::Line => Onward::Line,
            Rest::Nothing => Onward::Nothing,
            Rest::Pattern(hir) => Onward::Pattern(place(hir)),
        };
        builder.add(Way { literal: literal.clone().into_bytes(), onward }, candidate(i));
    }
    builder.finish()
}

fn found(trie: &Trie, path: &[u8], refused: u64) -> Option<usize> {
    let mut best = Candidate::NONE;
    trie.search(path, &mut best, &Effort::default(), &mut |rule| {
        rule.is_certain() || !is_refused(rule.rule(), refused)
    });
    (best != Candidate::NONE).then(|| best.rule())
}
