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

/// Under a literal of its own each, one that has no table for its word boundary: it costs room, and little time.
fn word(i: usize) -> String {
    format!("/{i:04}\\b.{{1100}}x")
}

fn compile(texts: &[String]) -> Result<Automata, OverBudget> {
    let written = texts.iter().enumerate().map(|(rule, text)| Written { rule, field: Field::Path, text });
    Automata::compile(written, &mut Patterns::default(), Budget::Policy)
}
