//! Headers that backends read otherwise, and those that a hop removes.

use super::*;

/// `X-Role: user` and `X-Role: user,admin` are allowed on `/`, without a role only `/public` is, with any role `/any`.
#[track_caller]
fn check_roles(fields: &[(&str, &str)], allowed: &[&str]) {
    let role = |path: &str, value: Option<&str>| HttpMatch {
        headers: vec![a_header("x-role", value)],
        ..with_path(path)
    };
    let rules = compile(&[
        role("/", Some("user")),
        role("/", Some("user,admin")),
        role("/any", None),
        with_path("/public"),
    ]);
    for path in ["/", "/any", "/public"] {
        let request =
            Request { method: b"GET", target: path.as_bytes(), host: b"", headers: &Fields(fields) };
        assert_eq!(answer(&rules, &request).is_some(), allowed.contains(&path), "{path} with {fields:?}");
        let failed = rules.nearest(&request, &Effort::default()).map(|(_, failed)| failed);
        assert!(allowed.contains(&path) || failed == Some("headers"), "{path} with {fields:?}: {failed:?}");
    }
}

fn a_header(name: &str, value: Option<&str>) -> HeaderMatch {
    HeaderMatch { name: name.into(), value: value.map(Into::into) }
}

const SPELLINGS: [&str; 7] = ["X_Role", "x.role", "X~ROLE", "X!Role", "X|Role", "x_ROLE", "X'role"];

#[test]
fn names_that_rules_ask_for_in_any_spelling() {
    let rule = |name: &str| HttpMatch { headers: vec![a_header(name, None)], ..HttpMatch::default() };
    let rules = compile(&[rule("X-Role"), rule("x-roles-of-all"), rule("A")]);
    for name in ["x-role", "X_ROLE", "x.role", "a", "x-roles-of.all"] {
        assert!(rules.asks_for(name.as_bytes(), false), "{name}");
    }
    for name in ["x-rol", "x-roles", "x-role-", "b", "", "aa"] {
        assert!(!rules.asks_for(name.as_bytes(), false), "{name}");
    }
    assert!(rules.asks_for(b"x-roles-", true));
    assert!(!rules.asks_for(b"x-roles-of-all-", true));
    // Who may ask for anything may send any trailer.
    assert!(!compile(&[rule("X-Role"), HttpMatch::default()]).asks_for(b"x-role", false));
}

#[test]
fn headers_in_any_letters() {
    check_roles(&[("X-Role", "user")], &["/", "/any", "/public"]);
    check_roles(
        &[("x-ROLE", "user"), ("X-Roles", "b"), ("X-Rol", "c"), ("XXRole", "d"), ("_X_Role", "e")],
        &["/", "/any", "/public"],
    );
}

#[test]
fn a_header_in_another_spelling_alone_is_no_header() {
    for name in SPELLINGS {
        check_roles(&[(name, "user")], &["/public"]);
        check_roles(&[(name, "user"), (name, "user")], &["/public"]);
    }
}

#[test]
fn a_header_beside_another_spelling_is_judged_with_and_without_it() {
    for name in SPELLINGS {
        check_roles(&[("X-Role", "user"), (name, "root")], &["/any", "/public"]);
        check_roles(&[(name, "root"), ("X-Role", "user")], &["/any", "/public"]);
        check_roles(&[(name, ""), ("X-Role", "user")], &["/any", "/public"]);
        check_roles(&[("X-Role", "root"), (name, "user")], &["/any", "/public"]);
        // Only both together, or either alone, would do.
        check_roles(&[("X-Role", "user"), (name, "admin")], &["/", "/any", "/public"]);
        check_roles(&[(name, "admin"), ("X-Role", "user")], &["/any", "/public"]);
        check_roles(&[(name, "user"), ("X-Role", "admin")], &["/any", "/public"]);
    }
}

#[test]
fn a_header_that_connection_names_is_absent() {
    for name in ["Connection", "connection", "Proxy-Connection"] {
        for list in ["X-Role", "close, x-role", "x-role\t,", ",X-ROLE,y", "X_Role"] {
            check_roles(&[("X-Role", "user"), (name, list)], &["/public"]);
            check_roles(&[(name, "close"), (name, list), ("X-Role", "user")], &["/public"]);
            check_roles(&[("X-Role", "user"), ("X_Role", "user"), (name, list)], &["/public"]);
        }
        check_roles(&[("X-Role", "user"), (name, "close, X-Roles, XRole")], &["/", "/any", "/public"]);
    }
}

/// One rule's name is the other's disguise.
#[test]
fn two_ruled_headers_of_one_name_when_folded() {
    let rules =
        compile(&[with(|m| m.headers = vec![a_header("x-a", Some("1")), a_header("x_a", Some("2"))])]);
    let check = |fields: &[(&str, &str)]| {
        let request = Request { method: b"GET", target: b"/", host: b"", headers: &Fields(fields) };
        assert_eq!(answer(&rules, &request), None, "{fields:?}");
    };
    check(&[("x-a", "1"), ("x_a", "2")]);
    check(&[("x-a", "1")]);
}

proptest! {
    /// The rule once more, as plainly as it can be said: every list of fields that some backend has is allowed.
    #[test]
    fn headers_are_judged_as_every_backend_reads_them(fields in proptest::collection::vec(a_field(), 0..5)) {
        let headers = [a_header("x-a", Some("1")), a_header("x-a", Some("1,2")), a_header("x-a", None), a_header("x.b", Some("1"))];
        let list: Vec<HttpMatch> =
            (1_usize..6).map(|set| with(|m| m.headers = headers.iter().enumerate().filter(|(i, _)| set >> i & 1 == 1).map(|(_, h)| h.clone()).collect())).collect();
        let rules = compile(&list);
        let fold = |name: &str| name.to_ascii_lowercase().replace(|c: char| !c.is_ascii_alphanumeric(), "_");
        let named: Vec<String> = fields.iter().filter(|(name, _)| *name == "Connection").map(|(_, list)| fold(list)).collect();
        let read = |same: &dyn Fn(&str, &str) -> bool| {
            let holds = |header: &HeaderMatch| {
                let values: Vec<&str> = fields.iter().filter(|(name, _)| same(name, &header.name)).map(|(_, value)| *value).collect();
                !named.contains(&fold(&header.name)) && !values.is_empty() && header.value.as_deref().is_none_or(|wanted| wanted == values.join(","))
            };
            list.iter().any(|rule| rule.headers.iter().all(holds))
        };
        let expect = read(&|a, b| a.eq_ignore_ascii_case(b)) && read(&|a, b| fold(a) == fold(b));
        let request = Request { method: b"GET", target: b"/", host: b"", headers: &Fields(&fields) };
        prop_assert_eq!(answer(&rules, &request).is_some(), expect, "{:?}", fields);
    }
}

fn a_field() -> impl Strategy<Value = (&'static str, &'static str)> {
    let name = proptest::sample::select(vec!["X-A", "x-a", "X_A", "x.a", "X.B", "x-b", "y"]);
    let field = (name, proptest::sample::select(vec!["1", "2", "1,2", ""]));
    prop_oneof![
        6 => field,
        1 => proptest::sample::select(vec!["x-a", "X_A", "x.b", "close"]).prop_map(|list| ("Connection", list)),
    ]
}
