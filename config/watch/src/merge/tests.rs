//! Sets from contents, without files.

use super::*;

/// A policy that is understood.
fn good(name: &str, label: &str) -> String {
    format!(
        "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {{name: {name}, namespace: default}}\n\
         spec:\n  endpointSelector: {{matchLabels: {{app: '{label}'}}}}\n  ingress: [{{}}]\n"
    )
}

/// A policy with a part that can't be judged.
fn refused(name: &str) -> String {
    good(name, "x") + "  egress: [{toPorts: [{ports: [{port: \"80\"}], rules: {kafka: [{topic: t}]}}]}]\n"
}

const BROKEN: &str = "kind: [";

/// A world of files that changes step by step.
struct World {
    state: State,
    files: Files,
    bounds: Bounds,
}

impl Default for World {
    fn default() -> Self {
        Self::bounded(Bounds { policies: 1000, automaton_bytes: 1 << 30 })
    }
}

impl World {
    fn bounded(bounds: Bounds) -> Self {
        Self { state: State::new(Accepted::default(), bounds), files: Files::new(), bounds }
    }

    #[track_caller]
    fn write(&mut self, path: &str, text: &str) -> Arc<PolicySet> {
        let _before = self.files.insert(path.into(), Content::Text(text.into()));
        self.apply()
    }

    fn remove(&mut self, path: &str) -> Arc<PolicySet> {
        let _content = self.files.remove(Path::new(path));
        self.apply()
    }

    fn apply(&mut self) -> Arc<PolicySet> {
        self.state.apply(&self.files, &[])
    }

    fn restart(&mut self) -> Arc<PolicySet> {
        self.state = State::new(self.state.accepted().clone(), self.bounds);
        self.apply()
    }
}

/// One whose patterns take longer to compile than a set waits for.
fn heavy(name: &str, label: &str, count: usize) -> String {
    let rules =
        (0..count).map(|i| format!("{{path: '/{i:04}x?.*y.{{120}}.*'}}")).collect::<Vec<_>>().join(", ");
    good(name, label).replace(
        "[{}]",
        &format!("[{{toPorts: [{{ports: [{{port: '80', protocol: TCP}}], rules: {{http: [{rules}]}}}}]}}]"),
    )
}

impl World {
    /// What waits is compiled: all of it, in whatever order.
    fn compile(&mut self) -> Arc<PolicySet> {
        for policy in self.state.wanted().values().flatten().cloned().collect::<Vec<_>>() {
            let mut judged = Judged::Accepted { policy: policy.clone(), diagnostics: Vec::new() };
            judged.compile(&mut Default::default());
            self.state.learn(policy, judged);
        }
        self.apply()
    }

    fn waiting(&self) -> Vec<&str> {
        self.state.wanted().values().flatten().map(|policy| &*policy.name.name).collect()
    }
}

fn is_closed(set: &PolicySet, name: &str) -> bool {
    let policy = set.policies.iter().find(|policy| *policy.name.name == *name).unwrap();
    !policy.automata.is_compiled()
}

/// A deny behind it is in force at once, and the heavy one brings nothing that is not compiled.
#[test]
fn what_still_compiles_holds_up_nothing_else() {
    let mut world = World::default();
    check(&world.write("0.yaml", &good("first", "1")), &["first=1"], &[]);
    let set = world.write("a.yaml", &heavy("heavy", "1", 2));
    check(&set, &["first=1", "heavy=1"], &["a.yaml/heavy: ClosedForm"]);
    assert!(is_closed(&set, "heavy"));
    assert_eq!(set.reports[0].diagnostics[0].severity, Severity::Warning);
    check(
        &world.write("b.yaml", &good("deny", "1")),
        &["deny=1", "first=1", "heavy=1"],
        &["a.yaml/heavy: ClosedForm"],
    );
    assert_eq!(world.waiting(), ["heavy"]);
    let set = world.compile();
    check(&set, &["deny=1", "first=1", "heavy=1"], &[]);
    assert!(!is_closed(&set, "heavy"));
    assert!(world.waiting().is_empty());
}

#[test]
fn the_last_accepted_text_stands_until_the_next_is_compiled() {
    let mut world = World::default();
    let _set = world.write("a.yaml", &heavy("p", "1", 2));
    let _set = world.compile();
    let set = world.write("a.yaml", &heavy("p", "2", 3));
    check(&set, &["p=1"], &["a.yaml/p: LastAccepted"]);
    assert!(!is_closed(&set, "p"));
    // The newest text wins; the one before is not compiled any more.
    check(&world.write("a.yaml", &heavy("p", "3", 4)), &["p=1"], &["a.yaml/p: LastAccepted"]);
    assert_eq!(world.waiting(), ["p"]);
    check(&world.compile(), &["p=3"], &[]);
    // What was in force once, and is known no more, is compiled again.
    check(&world.write("a.yaml", &good("p", "4")), &["p=4"], &[]);
    check(&world.write("a.yaml", &heavy("p", "1", 2)), &["p=4"], &["a.yaml/p: LastAccepted"]);
}

#[test]
fn what_costs_more_than_its_budget_is_refused_when_that_is_known() {
    let mut world = World::default();
    check(&world.write("a.yaml", &good("p", "1")), &["p=1"], &[]);
    check(&world.write("a.yaml", &heavy("p", "2", 100)), &["p=1"], &["a.yaml/p: LastAccepted"]);
    let set = world.compile();
    check(&set, &["p=1"], &["a.yaml/p: LastAccepted"]);
    assert_eq!(set.reports[0].diagnostics[0].severity, Severity::Error);
    assert!(world.waiting().is_empty());
    // It is the accepted text that outlives the process.
    check(&world.restart(), &["p=1"], &["a.yaml/p: LastAccepted"]);
}

/// In `namespace`.
fn elsewhere(namespace: &str, text: &str) -> String {
    text.replace("namespace: default", &format!("namespace: {namespace}"))
}

#[track_caller]
fn check_refused(set: &PolicySet, object: &str, instead: Instead, part: &str) {
    let report = set.reports.iter().find(|report| report.object.as_ref().is_some_and(|o| &*o.name == object));
    let report = report.unwrap_or_else(|| panic!("{object} is in force: {:?}", set.reports));
    assert_eq!(report.instead, instead, "{report:?}");
    assert!(report.diagnostics.iter().any(|d| d.message.contains(part)), "{report:?}");
}

#[test]
fn a_namespace_that_has_all_its_policies_keeps_those_that_came_first() {
    let mut world = World::bounded(Bounds { policies: 2, automaton_bytes: 1 << 30 });
    let _set = world.write("m.yaml", &good("m", "1"));
    check(&world.write("q.yaml", &good("q", "1")), &["m=1", "q=1"], &[]);
    // By its path it would be the first.
    let set = world.write("a.yaml", &good("a", "1"));
    check(&set, &["a=1", "m=1", "q=1"], &["a.yaml/a: ClosedForm"]);
    check_refused(&set, "a", Instead::ClosedForm, "`default` has 2 policies");
    check(&world.restart(), &["a=1", "m=1", "q=1"], &["a.yaml/a: ClosedForm"]);
    // Another one's number is its own, and so is that of what is clusterwide.
    let _set = world.write("b.yaml", &elsewhere("other", &good("b", "1")));
    let clusterwide = good("c", "1")
        .replace("CiliumNetworkPolicy", "CiliumClusterwideNetworkPolicy")
        .replace(", namespace: default", "");
    let set = world.write("c.yaml", &clusterwide);
    check(&set, &["c=1", "a=1", "m=1", "q=1", "b=1"], &["a.yaml/a: ClosedForm"]);
    // A change needs no place more, and what makes room is used.
    let set = world.write("m.yaml", &good("m", "2"));
    check(&set, &["c=1", "a=1", "m=2", "q=1", "b=1"], &["a.yaml/a: ClosedForm"]);
    check(&world.remove("q.yaml"), &["c=1", "a=1", "m=2", "b=1"], &[]);
}

#[test]
fn a_namespace_that_has_all_its_automata_keeps_what_it_has() {
    let mut alone = World::default();
    let _set = alone.write("a.yaml", &heavy("a", "1", 2));
    let bytes = alone.compile().policies[0].automata.bytes();
    let mut world = World::bounded(Bounds { policies: 1000, automaton_bytes: 2 * bytes });
    let _set = world.write("m.yaml", &heavy("m", "1", 2));
    let _set = world.write("q.yaml", &heavy("q", "1", 2));
    check(&world.compile(), &["m=1", "q=1"], &[]);
    let _set = world.write("a.yaml", &heavy("a", "1", 1));
    let set = world.compile();
    check(&set, &["a=1", "m=1", "q=1"], &["a.yaml/a: ClosedForm"]);
    check_refused(&set, "a", Instead::ClosedForm, "the namespace `default` would need more than");
    assert!(is_closed(&set, "a") && !is_closed(&set, "m"));
    assert!(world.waiting().is_empty(), "what there is no room for is not compiled again");
    // One byte less, one namespace more.
    let mut tight = World::bounded(Bounds { policies: 1000, automaton_bytes: 2 * bytes - 1 });
    let _set = tight.write("m.yaml", &heavy("m", "1", 2));
    let _set = tight.write("q.yaml", &heavy("q", "1", 2));
    let _set = tight.write("o.yaml", &elsewhere("other", &heavy("o", "1", 2)));
    let set = tight.compile();
    check(&set, &["m=1", "q=1", "o=1"], &["q.yaml/q: ClosedForm"]);
    // It grows: its last text stands. Light policies need no room.
    let set = world.write("m.yaml", &heavy("m", "2", 3));
    check(&set, &["a=1", "m=1", "q=1"], &["a.yaml/a: ClosedForm", "m.yaml/m: LastAccepted"]);
    let set = world.compile();
    check(&set, &["a=1", "m=1", "q=1"], &["a.yaml/a: ClosedForm", "m.yaml/m: LastAccepted"]);
    check_refused(&set, "m", Instead::LastAccepted, "would need more than");
    let set = world.write("z.yaml", &good("z", "1"));
    check(&set, &["a=1", "m=1", "q=1", "z=1"], &["a.yaml/a: ClosedForm", "m.yaml/m: LastAccepted"]);
    // Room is used once it is there.
    let _set = world.remove("q.yaml");
    check(&world.compile(), &["a=1", "m=2", "z=1"], &[]);
}

/// One namespace spends its own: what others write is compiled at once.
#[test]
fn every_namespace_has_its_own_share_of_a_round() {
    let mut world = World::default();
    let _first = world.write("0.yaml", &good("first", "1"));
    let small = |name: &str, space: &str| {
        let rules =
            (0..16).map(|i| format!("{{path: '/{i}y?(a|b)*a(a|b){{8}}x'}}")).collect::<Vec<_>>().join(", ");
        let ports = format!(
            "[{{toPorts: [{{ports: [{{port: '80', protocol: TCP}}], rules: {{http: [{rules}]}}}}]}}]"
        );
        let in_space = format!("namespace: {space}");
        good(name, "1").replace("[{}]", &ports).replace("namespace: default", &in_space)
    };
    let many: Vec<String> = (0..20).map(|i| small(&format!("p{i}"), "a")).collect();
    let neighbour = small("neighbour", "b");
    let set = world.write("a.yaml", &format!("{}---\n{neighbour}", many.join("---\n")));
    let waiting = world.waiting();
    assert!(!waiting.is_empty() && waiting.len() < 20, "{waiting:?}");
    assert!(!is_closed(&set, "neighbour"));
    let set = world.compile();
    assert!(set.reports.is_empty() && world.waiting().is_empty());
}

/// `name=selector` of each policy, and `file[/object]: instead` of each report.
#[track_caller]
fn check(set: &PolicySet, policies: &[&str], reports: &[&str]) {
    let label = |policy: &Policy| {
        let printed =
            policy.rules.first().map(|rule| rule.printed["endpointSelector"]["matchLabels"].clone());
        let label = printed.and_then(|labels| labels["any:app"].as_str().map(str::to_owned));
        format!("{}={}", policy.name.name, label.unwrap_or_default())
    };
    let found: Vec<String> = set.policies.iter().map(|policy| label(policy)).collect();
    assert_eq!(found, policies);
    let words = |report: &Report| {
        let object = report.object.as_ref().map(|name| format!("/{}", name.name)).unwrap_or_default();
        format!("{}{object}: {:?}", report.file.display(), report.instead)
    };
    let found: Vec<String> = set.reports.iter().map(words).collect();
    assert_eq!(found, reports);
}

#[test]
fn nothing_is_a_set_too() {
    let set = World::default().apply();
    check(&set, &[], &[]);
    assert_eq!(set.version, 1);
}

#[test]
fn objects_come_sorted_by_name_from_all_files() {
    let mut world = World::default();
    let _first = world.write("/p/a.yaml", &[good("c", "1"), good("b", "2")].join("---\n"));
    check(&world.write("/p/b.yaml", &good("a", "3")), &["a=3", "b=2", "c=1"], &[]);
}

#[test]
fn versions_count_changes_only() {
    let mut world = World::default();
    let first = world.write("/p/a.yaml", &good("a", "1"));
    let same = world.write("/p/a.yaml", &good("a", "1"));
    assert!(Arc::ptr_eq(&first, &same));
    assert_eq!(world.write("/p/a.yaml", &good("a", "2")).version, first.version + 1);
}

#[test]
fn unchanged_policies_are_shared() {
    let mut world = World::default();
    let before = world.write("/p/a.yaml", &good("a", "1"));
    let after = world.write("/p/b.yaml", &good("b", "1"));
    assert!(Arc::ptr_eq(&before.policies[0], &after.policies[0]));
}

#[test]
fn a_file_that_does_not_parse_changes_nothing() {
    let mut world = World::default();
    let _good = world.write("/p/a.yaml", &good("a", "1"));
    check(&world.write("/p/a.yaml", BROKEN), &["a=1"], &["/p/a.yaml: LastAccepted"]);
    check(&world.restart(), &["a=1"], &["/p/a.yaml: LastAccepted"]);
    check(&world.write("/p/a.yaml", &good("a", "2")), &["a=2"], &[]);
}

#[test]
fn a_file_that_never_parsed_holds_nothing() {
    let mut world = World::default();
    let set = world.write("/p/a.yaml", BROKEN);
    check(&set, &[], &["/p/a.yaml: Nothing"]);
    assert!(without_stand_in(&set).is_some());
    assert!(!set.reports[0].diagnostics.is_empty());
}

#[test]
fn a_file_that_can_t_be_read_changes_nothing() {
    let mut world = World::default();
    let _good = world.write("/p/a.yaml", &good("a", "1"));
    let why = crate::directory::diagnostic("too large", "split it");
    let _text = world.files.insert("/p/a.yaml".into(), Content::Unusable(why.clone()));
    let set = world.apply();
    check(&set, &["a=1"], &["/p/a.yaml: LastAccepted"]);
    assert_eq!(set.reports[0].diagnostics, [why]);
}

#[test]
fn a_removed_file_s_objects_leave() {
    let mut world = World::default();
    let _good = world.write("/p/a.yaml", &good("a", "1"));
    check(&world.remove("/p/a.yaml"), &[], &[]);
    assert_eq!(world.state.accepted(), &Accepted::default());
}

#[test]
fn an_object_removed_from_its_file_leaves() {
    let mut world = World::default();
    let _both = world.write("/p/a.yaml", &[good("a", "1"), good("b", "2")].join("---\n"));
    check(&world.write("/p/a.yaml", &good("b", "2")), &["b=2"], &[]);
    check(&world.write("/p/a.yaml", &refused("a")), &["a=x"], &["/p/a.yaml/a: ClosedForm"]);
}

#[test]
fn a_refused_object_stays_as_last_accepted() {
    let mut world = World::default();
    let _good = world.write("/p/a.yaml", &good("a", "1"));
    check(&world.write("/p/a.yaml", &refused("a")), &["a=1"], &["/p/a.yaml/a: LastAccepted"]);
    check(&world.restart(), &["a=1"], &["/p/a.yaml/a: LastAccepted"]);
}

#[test]
fn a_refused_object_moved_to_another_file_stays_as_last_accepted() {
    let mut world = World::default();
    let _good = world.write("/p/a.yaml", &good("a", "1"));
    let _gone = world.files.remove(Path::new("/p/a.yaml"));
    check(&world.write("/p/b.yaml", &refused("a")), &["a=1"], &["/p/b.yaml/a: LastAccepted"]);
}

#[test]
fn a_refused_object_without_a_past_is_closed() {
    let mut world = World::default();
    let set = world.write("/p/a.yaml", &refused("a"));
    check(&set, &["a=x"], &["/p/a.yaml/a: ClosedForm"]);
    assert!(without_stand_in(&set).is_none());
    assert!(world.state.accepted().objects.is_empty());
}

#[test]
fn a_broken_file_keeps_the_last_accepted_of_its_refused_object() {
    let mut world = World::default();
    let _good = world.write("/p/a.yaml", &good("a", "1"));
    let _refused = world.write("/p/a.yaml", &refused("a"));
    let set = world.write("/p/a.yaml", BROKEN);
    check(&set, &["a=1"], &["/p/a.yaml: LastAccepted", "/p/a.yaml/a: LastAccepted"]);
}

#[test]
fn of_two_objects_the_first_by_path_is_in_force() {
    let mut world = World::default();
    let _second = world.write("/p/b.yaml", &good("a", "2"));
    let set = world.write("/p/a.yaml", &good("a", "1"));
    check(&set, &["a=1"], &["/p/b.yaml/a: Nothing"]);
    assert_eq!(
        set.reports[0].diagnostics[0].message,
        "`/p/a.yaml` has an object of this name too, and comes first"
    );
    check(&world.remove("/p/a.yaml"), &["a=2"], &[]);
}

#[test]
fn of_two_objects_in_one_file_the_first_is_in_force() {
    let mut world = World::default();
    let set = world.write("/p/a.yaml", &[good("a", "1"), good("a", "2")].join("---\n"));
    check(&set, &["a=1"], &["/p/a.yaml/a: Nothing"]);
}

#[test]
fn keys_are_file_names() {
    assert_eq!(key("cnp/default/rule1"), "cnp%2fdefault%2frule1");
    assert_eq!(key(".hidden"), "%2ehidden");
    assert_eq!(key("a~%"), "a%7e%25");
    assert_eq!(key(&"a".repeat(KEY_BYTES_MAX)).len(), KEY_BYTES_MAX);
    let long = |end| key(&("a".repeat(KEY_BYTES_MAX) + end));
    assert_eq!(long("b").len(), CUT_BYTES + 17);
    assert_ne!(long("b"), long("c"));
}
