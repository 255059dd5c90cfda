//! What compiling a policy's patterns costs.

use super::*;

#[test]
fn literals_and_prefixes_cost_nothing() {
    let texts: Vec<String> =
        (0..10_000).flat_map(|i| [format!("/service-{i}/items"), format!("/service-{i}/.*")]).collect();
    let automata = compile(&texts).unwrap();
    assert_eq!((automata.bytes(), automata.states()), (0, 0));
}

/// What a policy costs is a property of its text.
#[test]
fn what_is_known_already_costs_the_same() {
    let texts: Vec<String> = (0..100).map(|i| format!("/.*{i}.*")).collect();
    let mut known = Patterns::default();
    let written = || texts.iter().enumerate().map(|(rule, text)| Written { rule, field: Field::Path, text });
    let first = Automata::compile(written(), &mut known, Budget::Policy).unwrap();
    let again = Automata::compile(written(), &mut known, Budget::Policy).unwrap();
    assert!(first.bytes() > 0);
    assert_eq!((first.bytes(), first.states()), (again.bytes(), again.states()));
}

/// The last one that fits, and the next.
#[test]
fn the_budget_of_states_is_exact() {
    let pattern = |i: usize| format!("/{i:05}x?y{{30}}");
    let one = compile(&[pattern(0)]).unwrap().states();
    let most = AUTOMATON_STATES_MAX / one;
    // One text behind every literal is compiled once, and counted for each.
    let all: Vec<String> = (0..=most).map(pattern).collect();
    assert!(compile(&all[..most]).unwrap().states() <= AUTOMATON_STATES_MAX);
    let over = compile(&all).unwrap_err();
    assert_eq!((over.unit, over.limit), ("states", AUTOMATON_STATES_MAX));
    assert!(over.cost > AUTOMATON_STATES_MAX && over.cost <= AUTOMATON_STATES_MAX + one, "{over:?}");
}

/// The last one that fits, and the next.
#[test]
fn the_budget_of_bytes_is_exact() {
    let one = compile(&[word(0)]).unwrap().bytes();
    let most = AUTOMATON_BYTES_MAX / one;
    let all: Vec<String> = (0..=most).map(word).collect();
    assert!(compile(&all[..most]).unwrap().bytes() <= AUTOMATON_BYTES_MAX);
    let over = compile(&all).unwrap_err();
    assert_eq!((over.unit, over.limit), ("bytes", AUTOMATON_BYTES_MAX));
    assert!(over.cost > AUTOMATON_BYTES_MAX && over.cost <= AUTOMATON_BYTES_MAX + one, "{over:?}");
    assert_eq!(over.rules, [0, 1, 2, 3, 4]);
}

/// One group more than there is room for is built, then it is over.
#[test]
fn compiling_ends_with_the_budget() {
    let texts: Vec<String> = (0..8000).map(|i| format!("/.*{i}.*")).collect();
    let over = compile(&texts).unwrap_err();
    assert!(over.cost < over.limit + (2 << 20), "{over:?}");
}

/// Under a literal of its own each, one that is too big for a table.
fn word(i: usize) -> String {
    format!("/{i:04}x?.*y.{{120}}.*")
}

/// A pattern by its number.
type Kind = fn(usize) -> String;

/// Many that begin alike share a table, whatever way they are told apart.
#[test]
fn many_of_a_kind_take_few_steps() {
    let kinds: [(Kind, usize); 5] = [
        (|i| format!("/.*/resource{i}/[a-z0-9-]+"), 4),
        (|i| format!("/.*/a{i}/.*/b{i}"), 4),
        (|i| format!(".*/service-{i:04}/items"), 4),
        (|i| format!("/.*{i}.*"), 4),
        (|i| format!("/[^/]+/orders-{i}/[0-9]+(/.*)?"), WEIGHT_MAX),
    ];
    for (kind, most) in kinds {
        let texts: Vec<String> = (0..60).map(kind).collect();
        let automata = compile(&texts);
        assert!(automata.unwrap().weight() <= most, "{}", texts[0]);
    }
}

/// One that would cost too much by the byte, or would build its states as it meets them, is refused, not accepted and then denied.
#[test]
fn a_heavy_pattern_is_refused() {
    for heavy in
        ["/x?\\b.{1100}y.*", "/x?.*y.{1100}.*", "/x?(.*y[ab]{30}.*|.*z[ab]{30}.*|.*[cd][ab]{500}){2}.*"]
    {
        let over = compile(&["/a.*b".to_owned(), heavy.to_owned()]).unwrap_err();
        assert_eq!((over.unit, over.limit, &*over.rules), ("steps", WEIGHT_MAX, &[1][..]), "{heavy}");
    }
    let accepted =
        ["/x?.*y.{60}.*", "/.*-.{36}", "/(a|b)*a(a|b){20}x", "/.*/[a-z0-9-]{1,63}x?.*", "/.*-[a-z-]{1,63}.*"];
    accepted.iter().for_each(|text| assert!(compile(&[(*text).to_owned()]).is_ok(), "{text}"));
}

/// Walks that go side by side find what each finds by itself, wherever they begin, and whatever dies on the way.
#[test]
fn side_by_side_is_one_by_one() {
    let texts =
        ["/x?.*[ab]x", "/(a|b){5,9}c?a*", "/b?(a|b)*", "/x?[^b]*", "/.*b[^a]*", "/.*[bx]", "/[ab]*.*b+"];
    // Behind a literal each, so that none shares an automaton.
    let texts: Vec<String> = (texts.iter().enumerate()).map(|(i, text)| format!("/{i}{text}")).collect();
    let automata = compile(&texts).unwrap();
    let parts: Vec<Arc<Part>> = (texts.iter().flat_map(|text| automata.ways(text).unwrap()))
        .filter_map(|way| match way.onward {
            Onward::Pattern(place) => Some(place.part),
            Onward::Anything | Onward::Line | Onward::Nothing => None,
        })
        .collect();
    let (forward, backward): (Vec<_>, Vec<_>) =
        parts.iter().partition(|part| matches!(part.lane(), Some(Lane::Forward(_))));
    assert_eq!((forward.len(), backward.len()), (4, 3));
    for path in [String::new(), "ab".repeat(50), "a".repeat(70) + "x", "b".repeat(33), "ab\nb".repeat(9)] {
        for all in [&forward, &backward] {
            (0..all.len()).for_each(|first| check_side_by_side(all, first, path.as_bytes()));
        }
    }
}

/// What takes long to look at is looked at once, however often it stands there.
#[test]
fn what_stands_inside_is_told_once() {
    let texts: Vec<String> = (1..=8).map(|i| format!("/.*{}.*", "a".repeat(i))).collect();
    let automata = compile(&texts).unwrap();
    let ways = automata.ways(&texts[0]).unwrap();
    let [Way { onward: Onward::Pattern(place), .. }] = &ways[..] else { panic!("{ways:?}") };
    let mut told = Vec::new();
    place.part.matches(format!("/{}ba", "a".repeat(7)).as_bytes(), 1, &mut |pattern| told.push(pattern));
    told.sort_unstable();
    assert_eq!(told, [0, 1, 2, 3, 4, 5, 6]);
}

#[track_caller]
fn check_side_by_side(parts: &[&Arc<Part>], first: usize, bytes: &[u8]) {
    let part = |i: usize| parts[(first + i) % parts.len()];
    let places = [0, first.min(bytes.len()), bytes.len() / 2, bytes.len()];
    let walks = [0, 1, 2, 3].map(|i| (part(i).lane().unwrap(), places[i]));
    let (mut found, mut expect) = (Vec::new(), Vec::new());
    matches(walks, bytes, &mut |lane, pattern| found.push((lane, pattern)));
    (0..4).for_each(|i| part(i).matches(bytes, places[i], &mut |pattern| expect.push((i, pattern))));
    assert_eq!(found, expect, "{first} {}", bytes.escape_ascii());
}

fn compile(texts: &[String]) -> Result<Automata, OverBudget> {
    let written = texts.iter().enumerate().map(|(rule, text)| Written { rule, field: Field::Path, text });
    Automata::compile(written, &mut Patterns::default(), Budget::Policy)
}
