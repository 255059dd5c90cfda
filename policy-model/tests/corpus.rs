//! Real policy files, each judged as the corpus's index says. The corpus is other people's data and no part of the
//! project: it is read from `shared/corpus/cnp` beside the repository.
//!
//! INVARIANT: what was not judged is not reported as passed. Where there is no corpus that shows when the tests run, and the
//! standard harness can't tell `ignored` then: this target has its own, with a test for each file.

#![expect(clippy::disallowed_methods, reason = "a test of files reads files; the library does not")]

use libtest_mimic::{Arguments, Completion, Trial};
use policy_model::parse::{Diagnostic, Judged, Severity, parse};
use std::collections::BTreeMap;
use std::fs::read_to_string;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

/// Words of the index for what is not supported yet, and the name by which it must be refused.
const OUT_OF_SCOPE: &[(&str, &str)] = &[
    ("L7:dns", "`dns`"),
    ("L7:kafka", "`kafka`"),
    ("L7:l7", "`l7`"),
    ("L7:l7proto", "`l7proto`"),
    ("authentication", "`authentication`"),
    ("cidrSet.cidrGroupRef", "`cidrGroupRef`"),
    ("cidrSet.cidrGroupSelector", "`cidrGroupSelector`"),
    ("fromNodes", "`fromNodes`"),
    ("fromRequires", "`fromRequires`"),
    ("http.headerMatches", "`headerMatches`"),
    ("icmps", "`icmps`"),
    ("listener", "`listener`"),
    ("nodeSelector", "`nodeSelector`"),
    ("originatingTLS", "`originatingTLS`"),
    ("proto:AH", "protocol `AH`"),
    ("proto:ESP", "protocol `ESP`"),
    ("proto:GRE", "protocol `GRE`"),
    ("proto:IPIP", "protocol `IPIP`"),
    ("proto:IPV6", "protocol `IPV6`"),
    ("proto:VRRP", "protocol `VRRP`"),
    ("serverNames", "`serverNames`"),
    ("terminatingTLS", "`terminatingTLS`"),
    ("toFQDNs", "`toFQDNs`"),
    ("toServices", "`toServices`"),
    ("top-level-description(unknown field)", "unknown field `description`"),
];

/// Files that the index calls valid and in scope, and that are refused all the same: a part of the message, and why.
const REFUSED_ALL_THE_SAME: &[(&str, &str)] = &[
    // A field that the format does not have; an API server would drop it, and with it the authentication asked for.
    (
        "main-2026-06-25/examples/policies/auth/auth.yaml",
        "unknown field `auth`; did you mean `authentication`",
    ),
    // Words that stand for what has to be filled in.
    ("main-2026-06-25/test/k8s/manifests/cnp-ingress-from-cidr-to-ports.yaml", "is not an address range"),
    (
        "main-2026-06-25/cilium-cli/connectivity/builder/manifests/client-egress-to-cidr-external.yaml",
        "is not an address range",
    ),
    (
        "main-2026-06-25/cilium-cli/connectivity/builder/manifests/client-egress-to-cidr-external-deny.yaml",
        "is not an address range",
    ),
    (
        "main-2026-06-25/cilium-cli/connectivity/builder/manifests/client-egress-to-cidr-k8s.yaml",
        "a key that is no word",
    ),
    (
        "main-2026-06-25/cilium-cli/connectivity/builder/manifests/client-egress-only-port-53.yaml",
        "`{{.ClusterNameLocal}}` is not a label value",
    ),
    (
        "main-2026-06-25/cilium-cli/connectivity/builder/manifests/echo-ingress-from-client-tiered-wildcard-pass-l7.yaml",
        "is not a name",
    ),
    (
        "main-2026-06-25/test/k8s/manifests/cnp-second-namespaces/templates/policy.yaml",
        "a key that is no word",
    ),
];

struct Line {
    path: String,
    kinds: String,
    validity: String,
    exercises: Vec<String>,
}

/// What became of one file.
#[derive(Debug)]
enum Outcome {
    Accepted,
    Refused(Vec<Diagnostic>),
    NotRead(Vec<Diagnostic>),
}

fn main() -> ExitCode {
    let trials = corpus().map_or_else(|| vec![absent()], |corpus| trials(&corpus));
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// Ignored whatever was asked for: `--include-ignored` does not make a corpus.
fn absent() -> Trial {
    const WHY: &str = "there is no `shared/corpus/cnp` beside the repository: no real policies were judged";
    Trial::ignorable_test("corpus", || Ok(Completion::ignored_with(WHY)))
}

fn trials(corpus: &Path) -> Vec<Trial> {
    let lines: Arc<[(Line, String)]> = index(corpus)
        .into_iter()
        .map(|line| {
            let text = read_to_string(corpus.join(&line.path)).unwrap();
            (line, text)
        })
        .collect();
    let each = (0..lines.len()).map(|nth| {
        let lines = Arc::clone(&lines);
        Trial::test(lines[nth].0.path.clone(), move || {
            let (line, text) = &lines[nth];
            let _class = check(line, text);
            Ok(())
        })
    });
    let mut trials: Vec<Trial> = each.collect();
    trials.push(Trial::test("classes_are_as_large_as_known", move || {
        check_classes(&lines);
        Ok(())
    }));
    trials
}

fn check_classes(lines: &[(Line, String)]) {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for (line, text) in lines {
        *counts.entry(check(line, text)).or_default() += 1;
    }
    // A change of these numbers is a change of what is understood: look at it, then write the new ones.
    let expect = [
        ("accepted", 141),
        ("bare list", 46),
        ("not YAML", 4),
        ("other kinds only", 14),
        ("refused", 11),
        ("refused by name", 95),
    ];
    assert_eq!(counts, BTreeMap::from(expect));
}

/// Which of the classes the line fell into.
fn check(line: &Line, text: &str) -> &'static str {
    let Line { path, kinds, validity, .. } = line;
    let outcome = judge(text);
    let says = |part: &str| match &outcome {
        Outcome::Accepted => false,
        Outcome::NotRead(all) | Outcome::Refused(all) => all.iter().any(|d| d.message.contains(part)),
    };
    if kinds.starts_with("raw-rule-list") {
        assert!(matches!(outcome, Outcome::NotRead(_)) && says("bare list"), "{path}: {outcome:#?}");
        return "bare list";
    }
    if kinds.starts_with("NetworkPolicy") {
        assert!(matches!(outcome, Outcome::NotRead(_)), "{path}: {outcome:#?}");
        return "other kinds only";
    }
    if validity == "unparsed" {
        assert!(matches!(outcome, Outcome::NotRead(_)), "{path}: {outcome:#?}");
        return "not YAML";
    }
    let names: Vec<&str> = OUT_OF_SCOPE
        .iter()
        .filter(|(word, _)| line.exercises.iter().any(|e| e == word))
        .map(|(_, name)| *name)
        .collect();
    let template = kinds.contains("go-template") && matches!(outcome, Outcome::NotRead(_));
    if let Some((_, message)) = REFUSED_ALL_THE_SAME.iter().find(|(known, _)| known == path) {
        assert!(says(message), "{path}: {outcome:#?}");
        "refused"
    } else if !names.is_empty() {
        // A template may not even be YAML before it is filled in.
        assert!(
            template || names.iter().any(|name| says(name)),
            "{path}: wants one of {names:?}: {outcome:#?}"
        );
        "refused by name"
    } else if validity == "valid" {
        assert!(matches!(outcome, Outcome::Accepted), "{path}: {outcome:#?}");
        "accepted"
    } else {
        assert!(!matches!(outcome, Outcome::Accepted), "{path} ({validity})");
        "refused"
    }
}

/// Judges the policy documents of a file; what else is in it (Deployments and the like) is left aside, unless it is all.
fn judge(text: &str) -> Outcome {
    let documents = documents(text);
    let policies: Vec<&String> = documents.iter().filter(|document| is_policy(document)).collect();
    if policies.is_empty() {
        return Outcome::NotRead(parse(text).expect_err("a file without policies was read"));
    }
    let mut errors = Vec::new();
    for document in policies {
        let parsed = match parse(document) {
            Ok(parsed) => parsed,
            Err(diagnostics) => return Outcome::NotRead(diagnostics),
        };
        for object in parsed.objects {
            assert_eq!(parse(&object.text).unwrap().objects[0].name, object.name);
            match object.judged {
                Judged::Accepted { diagnostics, .. } => {
                    assert!(diagnostics.iter().all(|d| d.severity == Severity::Warning), "{diagnostics:#?}");
                }
                Judged::Refused { diagnostics, .. } => errors.extend(diagnostics),
            }
        }
    }
    if errors.is_empty() { Outcome::Accepted } else { Outcome::Refused(errors) }
}

fn documents(text: &str) -> Vec<String> {
    let mut documents = vec![String::new()];
    for line in text.lines() {
        if line.starts_with("---") {
            documents.push(String::new());
        }
        let last = documents.last_mut().unwrap();
        last.push_str(line);
        last.push('\n');
    }
    documents
}

fn is_policy(document: &str) -> bool {
    let kinds = ["CiliumNetworkPolicy", "CiliumClusterwideNetworkPolicy"];
    document
        .lines()
        .filter_map(|line| line.strip_prefix("kind:"))
        .any(|kind| kinds.contains(&kind.trim().trim_matches('"')))
}

fn corpus() -> Option<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().map(|above| above.join("shared/corpus/cnp")).find(|corpus| corpus.is_dir())
}

fn index(corpus: &Path) -> Vec<Line> {
    let text = read_to_string(corpus.join("INDEX.tsv")).unwrap();
    let line = |line: &str| {
        let [path, kinds, validity, exercises] = line.split('\t').collect::<Vec<_>>()[..] else {
            panic!("{line}");
        };
        let exercises = exercises.split(", ").map(str::to_owned).collect();
        Line { path: path.into(), kinds: kinds.into(), validity: validity.into(), exercises }
    };
    text.lines().skip(1).map(line).collect()
}
