//! HTTP rules against a naive reference.

mod effort;
mod headers;

use super::*;
use crate::rule::{HeaderMatch, ObjectKind, ObjectName};
use proptest::prelude::*;
use regex_automata::meta::Regex;

#[test]
fn the_first_that_matches_answers() {
    let rules = rules(&[("GET", "/a"), ("", "/a.*"), ("GET|PUT", "/a"), ("PUT", "/a/.*")]);
    check(&rules, "GET /a", Some(0));
    check(&rules, "GET /ab", Some(1));
    check(&rules, "PUT /a", Some(1));
    check(&rules, "PUT /a/b", Some(1));
    check(&rules, "PUT /b", None);
}

#[test]
fn a_pattern_is_matched_whole() {
    let rules = rules(&[("", "/public"), ("", "/x|/y"), ("", "/v[0-9]+/items")]);
    check(&rules, "GET /public", Some(0));
    check(&rules, "GET /public/", None);
    check(&rules, "GET /public?x", None);
    check(&rules, "GET /v1/public", None);
    check(&rules, "GET /x", Some(1));
    check(&rules, "GET /xy", None);
    check(&rules, "GET /x/secret", None);
    check(&rules, "GET /v12/items", Some(2));
    check(&rules, "GET /v/items", None);
    check(&rules, "GET /v12/items/", None);
    check(&rules, "GET ", None);
}

#[test]
fn methods() {
    let rules = rules(&[("GET", "/a"), ("P.T", "/a"), ("(?i)head", "/a"), ("[A-Z]+", "/b"), ("", "/c")]);
    check(&rules, "GET /a", Some(0));
    check(&rules, "get /a", None);
    check(&rules, "GETX /a", None);
    check(&rules, "PUT /a", Some(1));
    check(&rules, "hEaD /a", Some(2));
    check(&rules, "DELETE /b", Some(3));
    check(&rules, "delete /b", None);
    check(&rules, "whatever /c", Some(4));
}

#[test]
fn a_dot_is_no_line_feed() {
    let rules = rules(&[("", "/a.*"), ("", "/b(?s).*"), ("", "/c[^x]*")]);
    check(&rules, "GET /a/b", Some(0));
    check(&rules, "GET /a\nb", None);
    check(&rules, "GET \n/a", None);
    check(&rules, "GET /b\nb", Some(1));
    check(&rules, "GET /c\nb", Some(2));
}

#[test]
fn patterns_are_on_bytes() {
    let rules = rules(&[("", "/a.*"), ("", "/é"), ("", "/[^a]")]);
    for (target, expect) in [
        (&b"/a\xff\xfe"[..], Some(0)),
        ("/é".as_bytes(), Some(1)),
        (b"/\xff", Some(2)),
        ("/ü".as_bytes(), None),
    ] {
        let request = Request { method: b"GET", target, host: b"", headers: &Fields(&[]) };
        assert_eq!(answer(&rules, &request), expect, "{target:?}");
    }
}

#[test]
fn what_stands_before_the_rest_is_seen() {
    let rules = rules(&[("", r"/a\b.*x"), ("", r"/b^.*x"), ("", r"(?m)/c$[^y]*^z")]);
    check(&rules, "GET /a/x", Some(0));
    check(&rules, "GET /abx", None);
    check(&rules, "GET /bx", None);
    check(&rules, "GET /c\n\nz", Some(2));
    check(&rules, "GET /cz", None);
}

#[test]
fn hosts() {
    let rules =
        compile(&[with(|m| m.host = Some(".*REGEX.*".into())), with(|m| m.host = Some("a|b:80".into()))]);
    for (host, expect) in
        [("hostREGEXname", Some(0)), ("regex", None), ("a", Some(1)), ("a:80", None), ("b:80", Some(1))]
    {
        let request = Request { method: b"GET", target: b"/", host: host.as_bytes(), headers: &Fields(&[]) };
        assert_eq!(answer(&rules, &request), expect, "{host}");
    }
}

#[test]
fn header_values_are_joined_and_exact() {
    let header =
        |name: &str, value: Option<&str>| HeaderMatch { name: name.into(), value: value.map(Into::into) };
    let rules = compile(&[with(|m| m.headers = vec![header("x-a", Some("a,b")), header("x-b", None)])]);
    let check = |fields: &[(&str, &str)], expect| {
        let request = Request { method: b"GET", target: b"/", host: b"", headers: &Fields(fields) };
        assert_eq!(answer(&rules, &request), expect, "{fields:?}");
    };
    check(&[("x-a", "a,b"), ("x-b", "")], Some(0));
    check(&[("x-a", "a"), ("x-b", "y"), ("x-a", "b")], Some(0));
    check(&[("x-a", "a,b")], None);
    check(&[("x-b", "")], None);
    check(&[("x-a", "a"), ("x-b", "")], None);
    check(&[("x-a", "A,b"), ("x-b", "")], None);
    check(&[("x-a", "a,b"), ("x-a", ""), ("x-b", "")], None);
    check(&[("x-a", ""), ("x-a", "a,b"), ("x-b", "")], None);
    check(&[("x-a", "ab"), ("x-b", "")], None);
}

#[test]
fn an_empty_value_is_a_value() {
    let header = HeaderMatch { name: "x-a".into(), value: Some("".into()) };
    let rules = compile(&[with(|m| m.headers = vec![header.clone()])]);
    let check = |fields: &[(&str, &str)], expect| {
        let request = Request { method: b"GET", target: b"/", host: b"", headers: &Fields(fields) };
        assert_eq!(answer(&rules, &request), expect, "{fields:?}");
    };
    check(&[("x-a", "")], Some(0));
    check(&[("x-a", ""), ("x-a", "")], None);
    check(&[], None);
}

#[test]
fn a_rule_that_cannot_be_compiled_fails_alone() {
    let list = [with_path("/a"), with_path("/(b{100}){100}{100}"), with_path("/(c"), with_path("/d")];
    let named: Vec<_> = list.iter().enumerate().map(|(i, m)| (rule(m), name(i))).collect();
    let (rules, errors) = HttpRules::compile(&named);
    let failed: Vec<_> = errors.iter().map(|e| (e.rule.clone(), e.field)).collect();
    assert_eq!(failed, [(name(1), "path"), (name(2), "path")]);
    check(&rules, "GET /a", Some(0));
    check(&rules, "GET /(c", None);
    check(&rules, "GET /d", Some(3));
}

#[test]
fn an_unjudgeable_rule_matches_nothing() {
    let named = [(HttpRule { unjudgeable: true, ..rule(&with_path("/.*")) }, name(0))];
    let (rules, errors) = HttpRules::compile(&named);
    assert_eq!(errors, []);
    check(&rules, "GET /a", None);
    check_nearest(&rules, "GET /a", None);
}

#[test]
fn no_rules_match_nothing() {
    check(&compile(&[]), "GET /", None);
    check(&compile(&[HttpMatch::default()]), "GET /", Some(0));
}

#[test]
fn many_patterns_with_one_start_are_grouped() {
    let list: Vec<HttpMatch> = (0..200).map(|i| with_path(&format!("/.*/item{i}[a-z]"))).collect();
    let rules = compile(&list);
    for i in [0, 1, 63, 64, 127, 128, 199] {
        check(&rules, &format!("GET /any/item{i}x"), Some(i));
        check(&rules, &format!("GET /any/item{i}"), None);
    }
}

/// A line feed in a pattern is not what stands between two patterns.
#[test]
fn a_pattern_of_two_lines_is_not_two_patterns() {
    let rules = compile(&[with_path("/a[0-9]"), with_path("/a[b-z]"), with_path("/c[0-9]\n[b-z]")]);
    check(&rules, "GET /a1", Some(0));
    check(&rules, "GET /c1\nx", Some(2));
    check(&rules, "GET /c1", None);
    check(&rules, "GET /cx", None);
}

/// Small and big patterns with one start: the big ones are told apart, the order of the rules stays.
#[test]
fn a_group_too_big_for_a_table_is_cut() {
    let pattern = |i: usize| match i % 5 {
        0 => format!("/(a|b)*a(a|b){{20}}x{i}"),
        _ => format!("/[0-9]?.*item{i}[a-z]"),
    };
    let rules = compile(&(0..70).map(|i| with_path(&pattern(i))).collect::<Vec<_>>());
    for i in 0..70 {
        check(&rules, &format!("GET /bba{}x{i}", "ab".repeat(10)), (i % 5 == 0).then_some(i));
        check(&rules, &format!("GET /any/item{i}q"), (i % 5 != 0).then_some(i));
    }
    let all = [with_path("/(a|b)*a(a|b){20}"), with_path("/.*b"), with_path("/a.*b")];
    check(&compile(&all), &format!("GET /a{}", "ab".repeat(10)), Some(0));
    check(&compile(&all), "GET /ab", Some(1));
}

/// One rule more among many: only its group is compiled.
#[test]
fn what_was_compiled_is_not_compiled_again() {
    let list = |count: usize, more: &[&str]| -> Vec<(HttpRule, RuleRef)> {
        let many = (0..count).map(|i| format!("/[0-9]?.*item{i}[a-z]"));
        let all = more.iter().map(ToString::to_string).chain(many);
        all.enumerate().map(|(i, path)| (rule(&with_path(&path)), name(i))).collect()
    };
    let groups =
        |rules: &HttpRules| -> Vec<_> { rules.any.parts.iter().map(std::sync::Arc::as_ptr).collect() };
    let mut patterns = Patterns::default();
    let matches = |list: &[(HttpRule, RuleRef)]| list.iter().map(|(rule, _)| rule.matches.clone()).collect();
    let compile = |list: Vec<(HttpRule, RuleRef)>, patterns: &mut Patterns| {
        let matches: Vec<HttpMatch> = matches(&list);
        let automata = compile_patterns(matches.iter().collect(), patterns);
        let shelf = Shelf::from([(name(0).name().object.clone(), automata)]);
        (HttpRules::index(&list, &shelf).0, shelf)
    };
    // They begin with something narrow: hundreds with a wide beginning share one.
    let (before, old) = compile(list(400, &[]), &mut patterns);
    let (after, new) = compile(list(400, &["/[0-9]+x"]), &mut patterns);
    let known = groups(&before);
    let fresh = groups(&after).iter().filter(|group| !known.contains(group)).count();
    assert!(known.len() >= 10 && fresh <= 4, "{fresh} of {}", known.len());
    check(&after, "GET /11x", Some(0));
    check(&after, "GET /item7q", Some(8));

    drop((before, old));
    patterns.forget_unused();
    assert_eq!(patterns.len(), groups(&after).len());
    drop((after, new));
    patterns.forget_unused();
    assert_eq!(patterns.len(), 0);
}

/// Rules that share automata, against each of them by itself.
#[test]
fn those_that_share_a_table_match_as_each_alone() {
    let kinds: [fn(usize) -> String; 8] = [
        |i| format!("/.*/resource{i}/[a-z0-9-]+"),
        |i| format!("/.*/a{i}/.*/b{i}"),
        |i| format!(".*/service-{i}/items"),
        |i| format!("/.*{i}.*"),
        |i| format!("/[^/]+/orders-{i}/[0-9]+(/.*)?"),
        |i| format!("(?s)/.*/x{i}/.*"),
        |i| format!("/(a|b)*{i}[^x]*.*"),
        |i| format!("/.*-.{{3}}{i}"),
    ];
    let words = [
        "/",
        "resource1",
        "17",
        "/a1",
        "/b1",
        "/a12/x/b12",
        "-abc1",
        "service-3/items",
        "orders-2/7",
        "\n",
        "a",
        "/x1/",
        "b2",
    ];
    let mut random = 1_u64;
    let mut next = |n: usize| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(random >> 33).unwrap() % n
    };
    let texts: Vec<String> = (0..20).flat_map(|i| kinds.iter().map(move |kind| kind(i))).collect();
    let engines: Vec<Regex> = texts.iter().map(|text| crate::pattern::build(text).unwrap()).collect();
    // Under a condition each, so that every one that matches is asked.
    let rules = compile(&texts.iter().map(|text| with_path(text)).collect::<Vec<_>>());
    for _ in 0..4000 {
        let path: String = (0..next(6)).map(|_| words[next(words.len())]).collect();
        let path = format!("/{path}");
        let expect: Vec<usize> =
            (0..engines.len()).filter(|i| engines[*i].is_match(path.as_bytes())).collect();
        let mut found = Vec::new();
        let mut best = Candidate::NONE;
        rules.any.search(path.as_bytes(), &mut best, &Effort::unlimited(), &mut |rule: Candidate| {
            found.push(rule.rule());
            false
        });
        found.sort_unstable();
        found.dedup();
        // What hides behind a rule that is certain is not offered: none is here beyond its own list.
        assert_eq!(found, expect, "{path:?}");
    }
}

#[test]
fn patterns_too_big_for_a_table_still_match() {
    let rules = compile(&[with_path("/(a|b)*a(a|b){20}"), with_path("/(a|b)*b(a|b){20}x")]);
    let tail = "ab".repeat(10);
    check(&rules, &format!("GET /bba{tail}"), Some(0));
    check(&rules, &format!("GET /bbb{tail}x"), Some(1));
    check(&rules, &format!("GET /bbb{tail}"), None);
}

#[test]
fn patterns_too_big_for_anything_small_still_match() {
    // With `\b` there are no positions: the lazy automaton takes over.
    let rules = compile(&[with_path(r"/\b(a|b)*a(a|b){20}"), with_path("/(a|b)*b(a|b){1100}")]);
    check(&rules, &format!("GET /ba{}", "ab".repeat(10)), Some(0));
    check(&rules, &format!("GET /b{}", "ba".repeat(550)), Some(0));
    check(&rules, &format!("GET /b{}", "b".repeat(1100)), Some(1));
    check(&rules, &format!("GET /{}", "b".repeat(1100)), None);
}

#[test]
fn nearest() {
    let rules = rules(&[("POST", "/v1/request-landing"), ("GET", "/v1/status"), ("", "/v2/.*")]);
    check_nearest(&rules, "PUT /v1/exhaust-port", Some((2, "path")));
    check_nearest(&rules, "POST /v1/exhaust-port", Some((0, "path")));
    check_nearest(&rules, "GET /v1/request-landing", Some((0, "method")));
    check_nearest(&rules, "GET /v1/statu", Some((1, "path")));
    check_nearest(&rules, "GET /v2/\n", Some((2, "path")));
}

#[test]
fn nearest_names_the_condition() {
    let rules = compile(&[with(|m| {
        m.host = Some("a".into());
        m.headers = vec![HeaderMatch { name: "x".into(), value: None }];
    })]);
    let check = |host: &str, fields: &[(&str, &str)], expect| {
        let request =
            Request { method: b"GET", target: b"/", host: host.as_bytes(), headers: &Fields(fields) };
        assert_eq!(rules.nearest(&request, &Effort::default()).map(|(_, failed)| failed), expect);
    };
    check("b", &[("x", "")], Some("host"));
    check("a", &[], Some("headers"));
    check("b", &[], Some("host"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn same_as_asking_rule_by_rule(
        list in proptest::collection::vec(a_match(), 0..24),
        requests in proptest::collection::vec((a_method(), a_target(), a_host()), 1..24),
    ) {
        let rules = compile(&list);
        let naive: Vec<Naive> = list.iter().map(Naive::new).collect();
        for (method, target, host) in &requests {
            let request = Request {
                method: method.as_bytes(),
                target,
                host: host.as_bytes(),
                headers: &Fields(&[("x-a", "1"), ("x-a", "2")]),
            };
            let expect = naive.iter().position(|rule| rule.matches(&request));
            prop_assert_eq!(answer(&rules, &request), expect, "{} {:?} on {:#?}", method, target, list);
            prop_assert_eq!(rules.nearest(&request, &Effort::default()).is_some(), !list.is_empty());
        }
    }
}

/// Every field by itself, as written.
struct Naive {
    method: Option<Regex>,
    path: Option<Regex>,
    host: Option<Regex>,
    headers: Vec<HeaderMatch>,
}

impl Naive {
    fn new(matches: &HttpMatch) -> Self {
        let build =
            |pattern: &Option<Box<str>>| pattern.as_deref().map(|p| crate::pattern::build(p).unwrap());
        Self {
            method: build(&matches.method),
            path: build(&matches.path),
            host: build(&matches.host),
            headers: matches.headers.clone(),
        }
    }

    fn matches(&self, request: &Request<'_>) -> bool {
        let field =
            |regex: &Option<Regex>, value: &[u8]| regex.as_ref().is_none_or(|regex| regex.is_match(value));
        let header = |header: &HeaderMatch| {
            let mut values = Vec::new();
            request.headers.each(&mut |name, value| {
                if name == header.name.as_bytes() {
                    values.push(value.to_vec());
                }
            });
            let joined = values.join(&b","[..]);
            !values.is_empty() && header.value.as_ref().is_none_or(|wanted| wanted.as_bytes() == joined)
        };
        field(&self.method, request.method)
            && field(&self.path, request.target)
            && field(&self.host, request.host)
            && self.headers.iter().all(header)
    }
}

fn a_match() -> impl Strategy<Value = HttpMatch> {
    let header = prop_oneof![
        9 => Just(vec![]),
        1 => Just(vec![HeaderMatch { name: "x-a".into(), value: Some("1,2".into()) }]),
        1 => Just(vec![HeaderMatch { name: "x-b".into(), value: None }]),
    ];
    let methods = vec!["GET", "PUT|GET", "(?i)put", "P.*", "[A-Z]{3}"];
    let method = proptest::option::of(proptest::sample::select(methods));
    let host = proptest::option::weighted(0.2, proptest::sample::select(vec!["h", "h|g", "h.*"]));
    (method, proptest::option::weighted(0.95, a_pattern()), host, header).prop_map(
        |(method, path, host, headers)| HttpMatch {
            method: method.map(Into::into),
            path: path.map(Into::into),
            host: host.map(Into::into),
            headers,
        },
    )
}

fn a_pattern() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        6 => "[/ab0]{1,4}",
        2 => Just(".*".to_owned()),
        1 => Just("[0-9]+".to_owned()),
        1 => Just("[^/]*".to_owned()),
        1 => Just("(a|b)".to_owned()),
        1 => Just("(/a)?".to_owned()),
        1 => Just("(a|/b.*)".to_owned()),
        1 => Just("(?i)aB".to_owned()),
        1 => Just("(?s).*".to_owned()),
        1 => Just(r"\b".to_owned()),
        1 => Just(r"\B".to_owned()),
        1 => Just("(?m)^".to_owned()),
        1 => Just("(?m)$".to_owned()),
        1 => Just("^".to_owned()),
        1 => Just("$".to_owned()),
        1 => Just("(a*b|/)+".to_owned()),
        1 => Just("[ab]{2}".to_owned()),
        1 => Just("".to_owned()),
    ];
    let branch = proptest::collection::vec(piece, 0..4).prop_map(|pieces| pieces.concat());
    prop_oneof![
        4 => branch.clone(),
        1 => (branch.clone(), branch).prop_map(|(a, b)| format!("{a}|{b}")),
    ]
}

fn a_target() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![4 => Just(b'/'), 4 => Just(b'a'), 3 => Just(b'b'), 2 => Just(b'0'), 1 => Just(b'A'),
        1 => Just(b'\n'), 1 => Just(0xff)];
    proptest::collection::vec(byte, 0..8)
}

fn a_method() -> impl Strategy<Value = &'static str> {
    proptest::sample::select(vec!["GET", "PUT", "put"])
}

fn a_host() -> impl Strategy<Value = &'static str> {
    proptest::sample::select(vec!["h", "g", "hg"])
}

// Helpers.

struct Fields<'a>(&'a [(&'a str, &'a str)]);

impl Headers for Fields<'_> {
    fn each(&self, each: &mut dyn FnMut(&[u8], &[u8])) {
        self.0.iter().for_each(|(name, value)| each(name.as_bytes(), value.as_bytes()));
    }
}

#[track_caller]
fn check(rules: &HttpRules, request: &str, expect: Option<usize>) {
    with_request(request, |parsed| assert_eq!(answer(rules, parsed), expect, "{request:?}"));
}

#[track_caller]
fn check_nearest(rules: &HttpRules, request: &str, expect: Option<(usize, &str)>) {
    with_request(request, |parsed| {
        let nearest =
            rules.nearest(parsed, &Effort::default()).map(|(rule, failed)| (place_of(rule), failed));
        assert_eq!(nearest, expect, "{request:?}");
    });
}

#[track_caller]
fn with_request(text: &str, ask: impl FnOnce(&Request<'_>)) {
    let (method, target) = text.split_once(' ').unwrap();
    ask(&Request { method: method.as_bytes(), target: target.as_bytes(), host: b"h", headers: &Fields(&[]) });
}

fn answer(rules: &HttpRules, request: &Request<'_>) -> Option<usize> {
    rules.matching(request, &Effort::unlimited()).map(place_of)
}

fn rules(list: &[(&str, &str)]) -> HttpRules {
    let matches = |(method, path): &(&str, &str)| HttpMatch {
        method: (!method.is_empty()).then(|| (*method).into()),
        ..with_path(path)
    };
    compile(&list.iter().map(matches).collect::<Vec<_>>())
}

#[track_caller]
fn compile(list: &[HttpMatch]) -> HttpRules {
    let named: Vec<_> = list.iter().enumerate().map(|(i, m)| (rule(m), name(i))).collect();
    let (rules, errors) = HttpRules::compile(&named);
    assert_eq!(errors, []);
    rules
}

fn with_path(path: &str) -> HttpMatch {
    HttpMatch { path: Some(path.into()), ..HttpMatch::default() }
}

fn with(change: impl FnOnce(&mut HttpMatch)) -> HttpMatch {
    let mut matches = HttpMatch::default();
    change(&mut matches);
    matches
}

fn rule(matches: &HttpMatch) -> HttpRule {
    HttpRule { matches: matches.clone(), ..HttpRule::default() }
}

fn name(index: usize) -> RuleRef {
    let kind = ObjectKind::CiliumNetworkPolicy;
    RuleRef::new(ObjectName { kind, namespace: None, name: "p".into() }, &index.to_string())
}

fn place_of(rule: &RuleRef) -> usize {
    rule.name().path.parse().unwrap()
}
