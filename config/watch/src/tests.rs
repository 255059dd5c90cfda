//! The watcher on real directories. Every wait is for a set, never for a time.

use super::*;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

/// A directory of its own with `policies/` and `state/` in it, removed at the end.
struct Place(PathBuf);

impl Place {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let nth = COUNT.fetch_add(1, Ordering::Relaxed);
        let place = std::env::temp_dir().join(format!("policy-watch-{}-{nth}", std::process::id()));
        fs::create_dir_all(place.join("policies")).unwrap();
        Self(place)
    }

    fn policies(&self) -> PathBuf {
        self.0.join("policies")
    }

    /// Written aside and renamed into place.
    fn put(&self, name: &str, text: &str) {
        let aside = self.0.join("aside");
        fs::write(&aside, text).unwrap();
        fs::rename(aside, self.policies().join(name)).unwrap();
    }

    fn settings(&self) -> Settings {
        Settings {
            directories: vec![self.policies()],
            state_directory: self.0.join("state"),
            settle: Duration::from_millis(10),
            bounds: Bounds { policies: 1000, automaton_bytes: 1 << 30 },
        }
    }

    fn start(&self) -> Watched {
        Watched::start(self.settings())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

struct Watched {
    watcher: Watcher,
    sets: watch::Receiver<Arc<PolicySet>>,
}

impl Watched {
    fn start(settings: Settings) -> Self {
        let (watcher, sets) = Watcher::start(settings).unwrap();
        Self { watcher, sets }
    }

    /// The policies of the current set, as `name=label`.
    fn policies(&self) -> Vec<String> {
        self.sets.borrow().policies.iter().map(|policy| words(policy)).collect()
    }

    /// The first set from now on that holds exactly these.
    #[track_caller]
    fn wait_for(&mut self, expect: &[&str]) -> Arc<PolicySet> {
        self.wait_until(|set| set.policies.iter().map(|policy| words(policy)).eq(expect.iter().copied()))
    }

    #[track_caller]
    fn wait_until(&mut self, holds: impl FnMut(&Arc<PolicySet>) -> bool) -> Arc<PolicySet> {
        let waiting = async {
            let waited = tokio::time::timeout(Duration::from_secs(20), self.sets.wait_for(holds)).await;
            waited.map(|set| Arc::clone(&set.unwrap()))
        };
        let waited = runtime().block_on(waiting);
        waited.unwrap_or_else(|_late| panic!("waited in vain; the set is {:?}", self.sets.borrow()))
    }

    fn reload(&self) {
        runtime().block_on(self.watcher.reload());
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap()
}

fn words(policy: &Policy) -> String {
    let printed = policy.rules.first().map(|rule| rule.printed["endpointSelector"]["matchLabels"].clone());
    let label = printed.and_then(|labels| labels["any:app"].as_str().map(str::to_owned));
    format!("{}={}", policy.name.name, label.unwrap_or_default())
}

fn policy(name: &str, label: &str) -> String {
    format!(
        "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {{name: {name}, namespace: default}}\n\
         spec:\n  endpointSelector: {{matchLabels: {{app: '{label}'}}}}\n  ingress: [{{}}]\n"
    )
}

#[test]
fn the_first_set_is_complete() {
    let place = Place::new();
    place.put("a.yaml", &policy("a", "1"));
    place.put("b.json", r#"{"apiVersion":"cilium.io/v2","kind":"CiliumNetworkPolicy","metadata":{"name":"b","namespace":"x"},"spec":{"endpointSelector":{"matchLabels":{"app":"2"}},"ingress":[{}]}}"#);
    place.put("c.yml", &policy("c", "3"));
    assert_eq!(place.start().policies(), ["a=1", "c=3", "b=2"]);
}

#[test]
fn other_names_are_not_policies() {
    let place = Place::new();
    for name in [".a.yaml", ".a.yaml.swp", "a.yaml~", "#a.yaml#", "a.txt", "yaml", "4913"] {
        place.put(name, "kind: [");
    }
    fs::create_dir(place.policies().join("d.yaml")).unwrap();
    assert!(place.start().sets.borrow().reports.is_empty());
}

#[test]
fn written_renamed_and_deleted_files() {
    let place = Place::new();
    let mut watched = place.start();
    fs::write(place.policies().join("a.yaml"), policy("a", "1")).unwrap();
    let _set = watched.wait_for(&["a=1"]);
    place.put("a.yaml", &policy("a", "2"));
    let _set = watched.wait_for(&["a=2"]);
    fs::rename(place.policies().join("a.yaml"), place.policies().join("a.off")).unwrap();
    let _set = watched.wait_for(&[]);
    fs::hard_link(place.policies().join("a.off"), place.policies().join("b.yaml")).unwrap();
    let _set = watched.wait_for(&["a=2"]);
    fs::remove_file(place.policies().join("b.yaml")).unwrap();
    let _set = watched.wait_for(&[]);
}

#[test]
fn several_changes_are_one_version() {
    let place = Place::new();
    place.put("b.yaml", &policy("b", "1"));
    // However busy the machine is: they come within this time of one another.
    let mut watched = Watched::start(Settings { settle: Duration::from_secs(1), ..place.settings() });
    let before = watched.sets.borrow().version;
    place.put("a.yaml", &policy("a", "1"));
    place.put("b.yaml", &policy("b", "2"));
    place.put("c.yaml", &policy("c", "1"));
    assert_eq!(watched.wait_for(&["a=1", "b=2", "c=1"]).version, before + 1);
}

/// Half a file may be a whole policy: fewer rules, fewer denials.
#[test]
fn a_file_is_never_read_half_written() {
    let place = Place::new();
    place.put("a.yaml", &policy("a", "1"));
    let mut watched = place.start();
    let mut writer = fs::File::create(place.policies().join("a.yaml")).unwrap();
    writer.write_all(policy("half", "1").as_bytes()).unwrap();
    // Another change makes a set; the open file keeps what it held before.
    place.put("b.yaml", &policy("b", "1"));
    let _set = watched.wait_for(&["a=1", "b=1"]);
    watched.reload();
    assert_eq!(watched.policies(), ["a=1", "b=1"]);
    writer.write_all(format!("---\n{}", policy("whole", "2")).as_bytes()).unwrap();
    drop(writer);
    let _set = watched.wait_for(&["b=1", "half=1", "whole=2"]);
}

#[test]
fn a_new_file_is_never_read_half_written() {
    let place = Place::new();
    let mut watched = place.start();
    let mut writer = fs::File::create(place.policies().join("a.yaml")).unwrap();
    writer.write_all(policy("half", "1").as_bytes()).unwrap();
    place.put("b.yaml", &policy("b", "1"));
    let _set = watched.wait_for(&["b=1"]);
    drop(writer);
    let _set = watched.wait_for(&["b=1", "half=1"]);
}

/// Rewritten in place without a pause, in two steps each time: no set holds one step alone.
#[test]
fn a_busy_file_is_never_seen_half_written() {
    let place = Place::new();
    let path = place.policies().join("a.yaml");
    let write = move |label: &str| {
        let mut writer = fs::File::create(&path).unwrap();
        writer.write_all(policy("a", label).as_bytes()).unwrap();
        writer.write_all(format!("---\n{}", policy("b", label)).as_bytes()).unwrap();
    };
    write("0");
    let mut watched = place.start();
    let writer = std::thread::spawn(move || (0..=2000).for_each(|nth| write(&nth.to_string())));
    let last = watched.wait_until(|set| {
        let labels: Vec<String> = set.policies.iter().map(|policy| words(policy).split_off(2)).collect();
        assert!(matches!(&labels[..], [a, b] if a == b), "half a file: {set:?}");
        labels[0] == "2000"
    });
    writer.join().unwrap();
    assert_eq!(last.reports, []);
}

#[test]
fn links_are_followed_to_files_elsewhere() {
    let place = Place::new();
    let elsewhere = place.0.join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    fs::write(elsewhere.join("x"), policy("a", "1")).unwrap();
    symlink("../elsewhere/x", place.policies().join("a.yaml")).unwrap();
    let mut watched = place.start();
    assert_eq!(watched.policies(), ["a=1"]);
    fs::write(elsewhere.join("x"), policy("a", "2")).unwrap();
    let _set = watched.wait_for(&["a=2"]);
}

/// As a mounted ConfigMap is updated: one link is renamed, every file changes at once.
#[test]
fn one_swapped_link_changes_every_file() {
    let place = Place::new();
    let generation = |name: &str, label: &str| {
        let directory = place.policies().join(name);
        fs::create_dir(&directory).unwrap();
        fs::write(directory.join("a.yaml"), policy("a", label)).unwrap();
        fs::write(directory.join("b.yaml"), policy("b", label)).unwrap();
        symlink(name, place.policies().join("..data_tmp")).unwrap();
        fs::rename(place.policies().join("..data_tmp"), place.policies().join("..data")).unwrap();
    };
    generation("..1", "1");
    symlink("..data/a.yaml", place.policies().join("a.yaml")).unwrap();
    symlink("..data/b.yaml", place.policies().join("b.yaml")).unwrap();
    let mut watched = place.start();
    assert_eq!(watched.policies(), ["a=1", "b=1"]);
    let before = watched.sets.borrow().version;
    generation("..2", "2");
    assert_eq!(watched.wait_for(&["a=2", "b=2"]).version, before + 1);
    generation("..3", "3");
    let _set = watched.wait_for(&["a=3", "b=3"]);
}

#[test]
fn a_directory_that_returns_is_watched_again() {
    let place = Place::new();
    place.put("a.yaml", &policy("a", "1"));
    let mut watched = place.start();
    fs::rename(place.policies(), place.0.join("away")).unwrap();
    let set = watched.wait_until(|set| !set.reports.is_empty());
    assert_eq!(set.reports[0].instead, Instead::LastAccepted);
    assert_eq!(watched.policies(), ["a=1"], "a directory's absence takes nothing away");
    fs::create_dir(place.policies()).unwrap();
    let _set = watched.wait_for(&[]);
    place.put("b.yaml", &policy("b", "1"));
    let _set = watched.wait_for(&["b=1"]);
}

/// What it holds was written where nobody watched.
#[track_caller]
fn check_replaced(replaced: &str) {
    let place = Place::new();
    let directory = |parent: &str| {
        fs::create_dir_all(place.0.join(parent).join("policies")).unwrap();
        place.0.join(parent).join("policies")
    };
    let (directory, other) = (directory("here"), directory("there"));
    fs::write(directory.join("a.yaml"), policy("a", "1")).unwrap();
    fs::write(other.join("a.yaml"), policy("a", "2")).unwrap();
    let mut watched = Watched::start(Settings { directories: vec![directory.clone()], ..place.settings() });
    let _set = watched.wait_for(&["a=1"]);
    fs::rename(place.0.join("here").join(replaced), place.0.join("away")).unwrap();
    fs::rename(place.0.join("there").join(replaced), place.0.join("here").join(replaced)).unwrap();
    let _set = watched.wait_for(&["a=2"]);
    fs::write(directory.join("a.yaml"), policy("a", "3")).unwrap();
    let _set = watched.wait_for(&["a=3"]);
}

#[test]
fn a_directory_that_takes_another_one_s_place_is_read() {
    check_replaced("policies");
    check_replaced("");
}

#[test]
fn a_directory_whose_parent_returns_is_watched_again() {
    let place = Place::new();
    place.put("a.yaml", &policy("a", "1"));
    let link = place.0.join("parent");
    fs::create_dir_all(link.join("policies")).unwrap();
    let settings = Settings { directories: vec![link.join("policies")], ..place.settings() };
    let mut watched = Watched::start(settings);
    fs::remove_dir_all(&link).unwrap();
    let _set = watched.wait_until(|set| !set.reports.is_empty());
    fs::create_dir_all(link.join("policies")).unwrap();
    fs::write(link.join("policies/a.yaml"), policy("a", "2")).unwrap();
    let _set = watched.wait_for(&["a=2"]);
    fs::write(link.join("policies/a.yaml"), policy("a", "3")).unwrap();
    let _set = watched.wait_for(&["a=3"]);
}

#[test]
fn accepted_texts_survive_a_restart() {
    let place = Place::new();
    place.put("a.yaml", &policy("a", "1"));
    drop(place.start());
    place.put("a.yaml", "kind: [");
    let mut watched = place.start();
    assert_eq!(watched.policies(), ["a=1"]);
    assert_eq!(watched.sets.borrow().reports[0].instead, Instead::LastAccepted);
    fs::remove_file(place.policies().join("a.yaml")).unwrap();
    let _set = watched.wait_for(&[]);
    drop(watched);
    for kind in ["objects", "files"] {
        assert_eq!(fs::read_dir(place.0.join("state/policies").join(kind)).unwrap().count(), 0);
    }
}

/// Puts something else in a directory's place, and it back once `said`: no set is without the report until then.
#[track_caller]
fn check_unwritable(
    directory: &str,
    said: impl FnOnce(&Place, &mut Watched) -> Arc<PolicySet>,
    expect: (Instead, &str),
) {
    let place = Place::new();
    let mut watched = place.start();
    let (directory, away) = (place.0.join("state/policies").join(directory), place.0.join("away"));
    fs::rename(&directory, &away).unwrap();
    fs::write(&directory, "").unwrap();
    let set = said(&place, &mut watched);
    let reports: Vec<_> = set.reports.iter().map(|report| (&report.file, report.instead)).collect();
    assert_eq!(reports, [(&place.0.join("state"), expect.0)]);
    let diagnostic = &set.reports[0].diagnostics[0];
    assert!(diagnostic.message.starts_with(expect.1), "{}", diagnostic.message);
    assert_eq!(diagnostic.severity, policy_model::parse::Severity::Error);
    fs::remove_file(&directory).unwrap();
    fs::rename(&away, &directory).unwrap();
    let set = watched.wait_until(|set| set.reports.is_empty());
    assert_eq!(set.policies.iter().map(|policy| words(policy)).collect::<Vec<_>>(), ["a=1"]);
    drop(watched);
    place.put("a.yaml", "kind: [");
    assert_eq!(place.start().policies(), ["a=1"], "it was saved in the end");
}

#[test]
fn an_accepted_text_that_can_t_be_saved_is_reported_until_it_is() {
    let expect = (Instead::AsWritten, "an accepted policy text can't be kept for the next start: `");
    for directory in ["objects", "files"] {
        let said = |place: &Place, watched: &mut Watched| {
            place.put("a.yaml", &policy("a", "1"));
            let _in_force = watched.wait_for(&["a=1"]);
            watched.wait_until(|set| !set.reports.is_empty())
        };
        check_unwritable(directory, said, expect);
    }
}

#[test]
fn a_change_that_can_t_be_told_from_half_a_change_is_reported_until_it_can() {
    let expect = (Instead::LastAccepted, "can't be written to, so no change of a policy is taken up: ");
    let said = |place: &Place, watched: &mut Watched| {
        place.put("a.yaml", &policy("a", "1"));
        let set = watched.wait_until(|set| !set.reports.is_empty());
        assert_eq!(set.policies, []);
        set
    };
    check_unwritable(".heard", said, expect);
}

#[test]
fn a_torn_copy_counts_as_absent() {
    let place = Place::new();
    place.put("a.yaml", &policy("a", "1"));
    drop(place.start());
    for entry in fs::read_dir(place.0.join("state/policies/files")).unwrap() {
        let path = entry.unwrap().path();
        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[..whole.len() - 10]).unwrap();
    }
    place.put("a.yaml", "kind: [");
    assert!(matches!(Watcher::start(place.settings()), Err(StartError::Unparsable { .. })));
}

#[track_caller]
fn refuses_to_start(place: &Place, expect: &str) {
    let error = Watcher::start(place.settings()).expect_err("it starts");
    let text = error.to_string().replace(&place.0.display().to_string(), "");
    assert_eq!(text, expect);
}

#[test]
fn a_file_that_was_never_accepted_stops_the_start() {
    let place = Place::new();
    place.put("a.yaml", "kind: [");
    refuses_to_start(&place, "`/policies/a.yaml` does not parse and was never accepted before");
}

#[test]
fn a_missing_directory_stops_the_start() {
    let place = Place::new();
    fs::remove_dir(place.policies()).unwrap();
    refuses_to_start(&place, "policy directory `/policies`: No such file or directory (os error 2)");
    fs::create_dir(place.policies()).unwrap();
}

#[test]
fn a_state_directory_that_can_t_be_made_stops_the_start() {
    let place = Place::new();
    fs::write(place.0.join("state"), "a file").unwrap();
    refuses_to_start(&place, "state directory `/state/policies`: not a directory");
}

#[track_caller]
fn unusable(make: impl FnOnce(&Path), expect: &str) {
    let place = Place::new();
    make(&place.policies().join("a.yaml"));
    match Watcher::start(place.settings()) {
        Err(StartError::Unparsable { diagnostics, .. }) => {
            assert_eq!(format!("{}; {}", diagnostics[0].message, diagnostics[0].fix), expect);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn files_that_can_t_be_used_are_named() {
    let size = |bytes: u64| move |path: &Path| fs::File::create(path).unwrap().set_len(bytes).unwrap();
    unusable(size(directory::FILE_BYTES_MAX + 1), "the file is larger than 4194304 bytes; split it");
    unusable(|path| fs::write(path, b"\xff").unwrap(), "the file is not UTF-8; save it as UTF-8");
    unusable(
        |path| symlink("nowhere", path).unwrap(),
        "the link leads nowhere; make its target or remove the link",
    );
    unusable(
        |path| drop(std::os::unix::net::UnixListener::bind(path).unwrap()),
        "is not a regular file; put a file in its place or remove it",
    );
}

#[test]
fn a_file_of_the_largest_size_is_read() {
    let place = Place::new();
    let mut text = policy("a", "1");
    text.push('#');
    let fill = usize::try_from(directory::FILE_BYTES_MAX).unwrap() - text.len();
    place.put("a.yaml", &(text + &"x".repeat(fill)));
    assert_eq!(place.start().policies(), ["a=1"]);
}

#[test]
fn more_files_than_are_read_are_named() {
    let place = Place::new();
    for nth in 0..=directory::FILES_MAX {
        fs::write(place.policies().join(format!("{nth:05}.yaml")), "").unwrap();
    }
    match Watcher::start(place.settings()) {
        Err(StartError::Unparsable { file, diagnostics }) => {
            assert!(file.ends_with("04096.yaml"), "{file:?}");
            assert!(diagnostics[0].message.starts_with("there are more than 4096 policy files"));
        }
        other => panic!("{other:?}"),
    }
    fs::remove_file(place.policies().join("00000.yaml")).unwrap();
    assert!(place.start().policies().is_empty());
}

/// As many as are read, and one more that comes first by path.
#[test]
fn a_new_file_crowds_out_none_that_was_accepted() {
    let place = Place::new();
    for nth in 1..directory::FILES_MAX {
        fs::write(place.policies().join(format!("{nth:05}.yaml")), "").unwrap();
    }
    place.put("z.yaml", &policy("a", "1"));
    let mut watched = place.start();
    assert_eq!(watched.policies(), ["a=1"]);
    assert!(watched.sets.borrow().reports.is_empty());
    place.put("00000.yaml", &policy("new", "1"));
    place.put("z.yaml", &policy("a", "2"));
    watched.reload();
    let set = watched.wait_until(|set| set.policies.iter().any(|policy| words(policy) == "a=2"));
    assert_eq!(set.policies.len(), 1);
    let set = watched.wait_until(|set| !set.reports.is_empty());
    let [report] = set.reports.as_slice() else { panic!("{:?}", set.reports) };
    assert!(report.file.ends_with("00000.yaml"), "{report:?}");
    assert_eq!(report.instead, Instead::Nothing);
    drop(watched);
    match Watcher::start(place.settings()) {
        Err(StartError::Unparsable { file, .. }) => assert!(file.ends_with("00000.yaml"), "{file:?}"),
        other => panic!("{other:?}"),
    }
    fs::remove_file(place.policies().join("00001.yaml")).unwrap();
    assert_eq!(place.start().policies(), ["a=2", "new=1"]);
}

/// Its last accepted text stands, says so, and is what a restart begins with.
#[test]
fn a_file_rewritten_over_its_budget_changes_nothing() {
    let over = |label: &str| {
        let path = |nth| format!("{{path: '/{nth:03}x?.*y.{{{}}}.*'}}", 100 + nth % 20);
        let paths: Vec<String> = (0..200).map(path).collect();
        let entry = format!(
            "{{toPorts: [{{ports: [{{port: '80', protocol: TCP}}], rules: {{http: [{}]}}}}]}}",
            paths.join(", ")
        );
        policy("a", label).replace("[{}]", &format!("[{entry}]"))
    };
    let place = Place::new();
    place.put("a.yaml", &policy("a", "1"));
    let mut watched = place.start();
    place.put("a.yaml", &over("2"));
    let is_refused = |set: &Arc<PolicySet>| {
        let mut diagnostics = set.reports.iter().flat_map(|report| &report.diagnostics);
        diagnostics.any(|diagnostic| diagnostic.message.contains("need more than"))
    };
    let set = watched.wait_until(is_refused);
    let [report] = set.reports.as_slice() else { panic!("{:?}", set.reports) };
    assert_eq!(report.instead, Instead::LastAccepted);
    assert_eq!(watched.policies(), ["a=1"]);
    drop(watched);
    let mut watched = place.start();
    assert_eq!(watched.policies(), ["a=1"]);
    let _again = watched.wait_until(is_refused);
    place.put("a.yaml", &policy("a", "3"));
    let set = watched.wait_for(&["a=3"]);
    assert!(set.reports.is_empty(), "{:?}", set.reports);
}

#[test]
fn trails_name_every_link() {
    let place = Place::new();
    let root = fs::canonicalize(&place.0).unwrap();
    fs::create_dir(root.join("real")).unwrap();
    symlink("real", root.join("one")).unwrap();
    symlink("../one/./x", root.join("real/link")).unwrap();
    symlink("loop", root.join("loop")).unwrap();
    let trail = |path: &str| -> Vec<String> {
        let strip = |entry: &PathBuf| entry.strip_prefix(&root).unwrap().display().to_string();
        directory::trail(&root.join(path)).iter().map(strip).collect()
    };
    assert_eq!(trail("real/x"), ["real/x"]);
    assert_eq!(trail("one/link"), ["one", "real/link", "one", "real/x"]);
    assert_eq!(trail("missing/x"), ["missing/x"]);
    assert_eq!(trail("loop").len(), 41);
}

/// As many links as the kernel follows, and one more.
#[test]
fn a_trail_follows_no_more_links_than_the_kernel() {
    let place = Place::new();
    let root = fs::canonicalize(&place.0).unwrap();
    fs::write(root.join("0"), "").unwrap();
    for nth in 1..=directory::LINKS_MAX + 1 {
        symlink((nth - 1).to_string(), root.join(nth.to_string())).unwrap();
    }
    let check = |links: usize, end: &str, leads_somewhere: bool| {
        let link = root.join(links.to_string());
        assert_eq!(directory::trail(&link).pop(), Some(root.join(end)), "{links} links");
        assert_eq!(fs::metadata(link).is_ok(), leads_somewhere, "{links} links");
    };
    check(directory::LINKS_MAX, "0", true);
    check(directory::LINKS_MAX + 1, "1", false);
}
