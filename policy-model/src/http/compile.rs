//! Rules to their compiled form, one by one: one that fails leaves no trace but its error.

use super::condition::Conditions;
use super::grow::Builder;
use super::headers::Ruled;
use super::pattern::{self, Matcher, Patterns};
use super::start::{self, Rest, Start};
use super::trie::{Candidate, Trie};
use super::{HttpRules, PatternError};
use crate::pattern::parse;
use crate::rule::HttpMatch;
use crate::verdict::RuleRef;
use std::collections::BTreeMap;

/// A rule for more methods than this is a rule for any method, under a condition.
const METHODS_MAX: usize = 16;

#[derive(Debug)]
pub(super) struct Compiler<'p> {
    rules: Vec<RuleRef>,
    matches: Vec<HttpMatch>,
    conditions: Vec<Option<Box<Conditions>>>,
    methods: BTreeMap<Vec<u8>, Builder>,
    any: Builder,
    patterns: &'p mut Patterns,
    errors: Vec<PatternError>,
}

/// A field and what is wrong with it.
type Fault = (&'static str, String);

enum Method {
    Literals(Vec<Vec<u8>>),
    Pattern(Matcher),
}

impl<'p> Compiler<'p> {
    pub(super) fn new(patterns: &'p mut Patterns) -> Self {
        Self {
            rules: Vec::new(),
            matches: Vec::new(),
            conditions: Vec::new(),
            methods: BTreeMap::new(),
            any: Builder::default(),
            patterns,
            errors: Vec::new(),
        }
    }

    pub(super) fn add(&mut self, matches: &HttpMatch, rule: &RuleRef) {
        if let Err((field, message)) = self.add_or_fail(matches, rule) {
            self.errors.push(PatternError { rule: rule.clone(), field, message });
        }
    }

    fn add_or_fail(&mut self, matches: &HttpMatch, rule: &RuleRef) -> Result<(), Fault> {
        let starts = starts(matches.path.as_deref())?;
        let method = matches.method.as_deref().map(|text| self.method(text)).transpose()?;
        let host = matches.host.as_deref().map(|host| self.matcher("host", host)).transpose()?;
        let (methods, method) = match method {
            Some(Method::Literals(methods)) => (Some(methods), None),
            Some(Method::Pattern(method)) => (None, Some(method)),
            None => (None, None),
        };
        let conditions = Conditions::new(method, host, &matches.headers);

        let candidate = Candidate::new(self.rules.len(), conditions.is_none());
        let candidate = candidate.ok_or_else(|| ("rules", "there are too many rules".to_owned()))?;
        self.rules.push(rule.clone());
        self.matches.push(matches.clone());
        self.conditions.push(conditions);
        let add = |builder: &mut Builder| {
            starts.iter().for_each(|start| builder.add(start.clone(), candidate));
        };
        match methods {
            Some(methods) => methods.into_iter().for_each(|m| add(self.methods.entry(m).or_default())),
            None => add(&mut self.any),
        }
        Ok(())
    }

    fn method(&mut self, text: &str) -> Result<Method, Fault> {
        let hir = parse(text).map_err(|message| ("method", message))?;
        match start::words(&hir, METHODS_MAX) {
            Some(methods) => Ok(Method::Literals(methods)),
            None => self.matcher("method", text).map(Method::Pattern),
        }
    }

    fn matcher(&mut self, field: &'static str, text: &str) -> Result<Matcher, Fault> {
        parse(text).and_then(|hir| self.patterns.matcher(&hir)).map_err(|message| (field, message))
    }

    pub(super) fn finish(mut self) -> (HttpRules, Vec<PatternError>) {
        let mut failed = Vec::new();
        let mut finish = |builder: Builder| -> Trie {
            let (trie, mut failures) = builder.finish(self.patterns);
            failed.append(&mut failures);
            trie
        };
        let methods =
            self.methods.into_iter().map(|(method, builder)| (method.into(), finish(builder))).collect();
        let any = Box::new(finish(self.any));
        for (candidate, message) in failed {
            let rule = self.rules.get(candidate.rule()).cloned();
            let error = rule.map(|rule| PatternError { rule, field: "path", message });
            if let Some(error) = error.filter(|error| !self.errors.contains(error)) {
                self.errors.push(error);
            }
        }
        let headers = Ruled::new(&self.matches);
        let (rules, matches, conditions) = (self.rules.into(), self.matches.into(), self.conditions.into());
        (HttpRules { rules, matches, conditions, methods, any, headers }, self.errors)
    }
}

/// The ways into a path; each within the limits.
fn starts(path: Option<&str>) -> Result<Vec<Start>, Fault> {
    let Some(path) = path else { return Ok(vec![Start { literal: Vec::new(), rest: Rest::Anything }]) };
    let on_path = |message| ("path", message);
    let starts = start::starts(&parse(path).map_err(on_path)?);
    for start in &starts {
        if let Rest::Pattern(hir) = &start.rest {
            pattern::check(hir).map_err(on_path)?;
        }
    }
    Ok(starts)
}
