//! Steps: spent up to their bound, shared by readings, and what is found without any.

use super::*;
use crate::automata::WEIGHT_MAX;

/// A table that looks at all of the path, and one step for each byte.
const TABLE: &str = "/.*[ab]x";

#[test]
fn steps_are_spent_up_to_their_bound() {
    // A start of its own for each, all of them on the way of one path; only the last one fits.
    let ends = |i| if i == 31 { "x" } else { "y" };
    let list: Vec<HttpMatch> =
        (0..32).map(|i| with_path(&format!("/{}.*[ab]{}", "a".repeat(i), ends(i)))).collect();
    let rules = compile(&list);
    for (bytes, is_enough) in [(100, true), (776, true), (777, false), (1024, false), (8192, false)] {
        // The literals are the trie's; an automaton takes 8 steps to begin with.
        let spent: usize = (0..32).map(|i| bytes - (1 + i) + 8).sum();
        assert_eq!(spent <= STEPS_MIN.max(STEPS_PER_BYTE * bytes), is_enough, "{bytes}");
        let effort = Effort::default();
        let path = format!("/{}x", "a".repeat(bytes - 2));
        let request = Request { method: b"GET", target: path.as_bytes(), host: b"", headers: &Fields(&[]) };
        assert_eq!(rules.matching(&request, &effort).map(place_of), is_enough.then_some(31), "{bytes}");
        assert_eq!(effort.is_over(), !is_enough);
        if !is_enough {
            // Nothing is left for the nearest but the literal starts.
            let nearest = rules.nearest(&request, &effort).map(|(rule, failed)| (place_of(rule), failed));
            assert_eq!(nearest, Some((31, "path")));
        }
    }
}

/// What a policy may be at most can be asked about paths of any length.
#[test]
fn what_is_accepted_is_judged_at_any_length() {
    // One automaton each, all of them on the way of one path.
    let nested = |count: usize| -> Vec<HttpMatch> {
        (0..count).map(|i| with_path(&format!("/{}.*[ab]x", "a".repeat(i)))).collect()
    };
    let accepted = |count: usize| {
        let list = nested(count);
        let written = list.iter().enumerate().flat_map(|(rule, matches)| matches.written(rule));
        Automata::compile(written, &mut Patterns::default(), Budget::Policy)
    };
    assert_eq!(accepted(WEIGHT_MAX).unwrap().weight(), WEIGHT_MAX);
    let over = accepted(WEIGHT_MAX + 1).unwrap_err();
    assert_eq!((over.unit, over.cost, over.limit, over.rules), ("steps", 13, 12, vec![12]));
    let rules = compile(&nested(WEIGHT_MAX));
    for bytes in [100, 427, 1024, 8192, 65_536] {
        let effort = Effort::default();
        let path = format!("/{}", "a".repeat(bytes - 1).replacen("aaaaaaaaaaaaaa", "aaaaaaaaaaaaa/", 1));
        let request = Request { method: b"GET", target: path.as_bytes(), host: b"", headers: &Fields(&[]) };
        let _answer = rules.matching(&request, &effort);
        assert!(!effort.is_over(), "{bytes}");
    }
}

#[test]
fn readings_share_their_steps() {
    let rules = compile(&[with_path(TABLE)]);
    let path = format!("/{}x", "a".repeat(STEPS_MIN / 4));
    let request = Request { method: b"GET", target: path.as_bytes(), host: b"", headers: &Fields(&[]) };
    let effort = Effort::default();
    let allowed = (0..25).filter(|_| rules.matching(&request, &effort).is_some()).count();
    assert_eq!((allowed, effort.is_over()), (23, true));
}

/// Where there are more than two, each byte has half the steps.
#[test]
fn many_readings_have_less() {
    let rules = compile(&[with_path("/x?.*[ab]y")]);
    let path = "/".to_owned() + &"a".repeat(2047);
    let request = Request { method: b"GET", target: path.as_bytes(), host: b"", headers: &Fields(&[]) };
    for (readings, passes) in [(READINGS_USUAL, 23), (READINGS_USUAL + 1, 11)] {
        let effort = Effort::of_readings(readings);
        let denied = (0..30).take_while(|_| rules.matching(&request, &effort).is_none() && !effort.is_over());
        assert_eq!(denied.count(), passes, "{readings}");
    }
}

#[test]
fn many_automata_cost_as_many_times() {
    // A start of its own for each, all of them on the way of one path.
    let nested: Vec<HttpMatch> = (0..64).map(|i| with_path(&format!("/{}.*[ab]x", "a".repeat(i)))).collect();
    let rules = compile(&nested);
    let ask = |path: &str| {
        let effort = Effort::default();
        let request = Request { method: b"GET", target: path.as_bytes(), host: b"", headers: &Fields(&[]) };
        (rules.matching(&request, &effort).is_some(), effort.is_over())
    };
    assert_eq!(ask(&format!("/{}", "a".repeat(100))), (false, false));
    assert_eq!(ask(&format!("/{}x", "a".repeat(100))), (true, false));
    assert_eq!(ask(&format!("/{}", "a".repeat(1023))), (false, true));
}

/// The last look that fits, and the next: by the number of rules, of fields, and by the length of values.
#[test]
fn headers_are_looked_at_as_long_as_there_are_steps() {
    let wanted = "a".repeat(400);
    let rule = |value: &str| HttpMatch {
        headers: vec![HeaderMatch { name: "x".into(), value: Some(value.into()) }],
        ..with_path("/")
    };
    let ask = |rules: usize, fields: usize, value: &str| {
        let mut list = vec![rule(&format!("{}b", &value[1..])); rules - 1];
        list.push(rule(value));
        let fields: Vec<(&str, &str)> =
            std::iter::repeat_n(("y", ""), fields - 1).chain([("x", value)]).collect();
        let request = Request { method: b"GET", target: b"/", host: b"", headers: &Fields(&fields) };
        let effort = Effort::default();
        let found = compile(&list).matching(&request, &effort).is_some();
        assert_eq!(found, !effort.is_over());
        found
    };
    // 8 to begin with, 2 for each field, 1 for each 8 bytes of the value.
    let each = |fields: usize, value: &str| 8 + 2 * fields + value.len().div_ceil(8);
    for (fields, value) in [(1, "ab"), (10, "ab"), (10, wanted.as_str())] {
        let most = STEPS_MIN / each(fields, value);
        assert_eq!((ask(most, fields, value), ask(most + 1, fields, value)), (true, false), "{most}");
    }
}

/// What costs nothing is found whatever is left.
#[test]
fn literals_and_hosts_under_costly_patterns() {
    let mut list: Vec<HttpMatch> =
        (0..64).map(|i| with_path(&format!("/{}.*[ab]x", "a".repeat(i)))).collect();
    let path = format!("/{}", "a".repeat(1023));
    list.push(with_path(&path));
    let rules = compile(&list);
    let effort = Effort::default();
    let request = Request { method: b"GET", target: path.as_bytes(), host: b"", headers: &Fields(&[]) };
    assert_eq!((rules.matching(&request, &effort).map(place_of), effort.is_over()), (Some(64), true));

    let rules = compile(&[HttpMatch { host: Some("(a|b)*a(a|b){20}x".into()), ..with_path("/") }]);
    let ask = |host: &str| {
        let effort = Effort::default();
        let request = Request { method: b"GET", target: b"/", host: host.as_bytes(), headers: &Fields(&[]) };
        (rules.matching(&request, &effort).is_some(), effort.is_over())
    };
    assert_eq!(ask(&format!("{}x", "a".repeat(60))), (true, false));
    assert_eq!(ask(&"a".repeat(60_000)), (false, true));
}
