//! Steps: spent up to their bound, shared by readings, and what is found without any.

use super::*;

/// A table that looks at all of the path, and one step for each byte.
const TABLE: &str = "/.*[ab]x";

#[test]
fn steps_are_spent_up_to_their_bound() {
    let rules = compile(&[with_path(TABLE)]);
    let path = |bytes: usize| format!("/{}x", "a".repeat(bytes - 2));
    // The literal slash is the trie's; an automaton takes 8 steps to begin with.
    let most = STEPS_MAX - 8 + 1;
    for (bytes, expect) in [(most, Some(0)), (most + 1, None)] {
        let effort = Effort::default();
        let path = path(bytes);
        let request = Request { method: b"GET", target: path.as_bytes(), host: b"", headers: &Fields(&[]) };
        assert_eq!(rules.matching(&request, &effort).map(place_of), expect, "{bytes}");
        assert_eq!(effort.is_over(), expect.is_none());
        // Nothing is left for the nearest but the literal starts.
        let nearest = rules.nearest(&request, &effort).map(|(rule, failed)| (place_of(rule), failed));
        assert_eq!(nearest, Some((0, "path")));
    }
}

#[test]
fn readings_share_their_steps() {
    let rules = compile(&[with_path(TABLE)]);
    let path = format!("/{}x", "a".repeat(STEPS_MAX / 4));
    let request = Request { method: b"GET", target: path.as_bytes(), host: b"", headers: &Fields(&[]) };
    let effort = Effort::default();
    let allowed = (0..5).filter(|_| rules.matching(&request, &effort).is_some()).count();
    assert_eq!((allowed, effort.is_over()), (3, true));
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
