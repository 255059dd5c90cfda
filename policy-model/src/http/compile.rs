//! Rules to their index, one by one: one that fails leaves no trace but its error. Their patterns were compiled with their policies.

use super::condition::Conditions;
use super::grow::Builder;
use super::headers::Ruled;
use super::trie::{Candidate, Trie};
use super::{HttpRules, PatternError, Shelf};
use crate::automata::{Automata, Matcher, Onward, Way, words};
use crate::pattern::parse;
use crate::rule::HttpMatch;
use crate::verdict::RuleRef;
use std::collections::BTreeMap;

/// A rule for more methods than this is a rule for any method, under a condition.
const METHODS_MAX: usize = 16;

#[derive(Debug)]
pub(super) struct Compiler<'s> {
    shelf: &'s Shelf,
    rules: Vec<RuleRef>,
    matches: Vec<HttpMatch>,
    conditions: Vec<Option<Box<Conditions>>>,
    methods: BTreeMap<Vec<u8>, Builder>,
    any: Builder,
    errors: Vec<PatternError>,
}

/// A field and what is wrong with it.
type Fault = (&'static str, String);

enum Method {
    Literals(Vec<Vec<u8>>),
    Pattern(Matcher),
}

impl<'s> Compiler<'s> {
    pub(super) fn new(shelf: &'s Shelf) -> Self {
        Self {
            shelf,
            rules: Vec::new(),
            matches: Vec::new(),
            conditions: Vec::new(),
            methods: BTreeMap::new(),
            any: Builder::default(),
            errors: Vec::new(),
        }
    }

    pub(super) fn add(&mut self, matches: &HttpMatch, rule: &RuleRef) {
        if let Err((field, message)) = self.add_or_fail(matches, rule) {
            self.errors.push(PatternError { rule: rule.clone(), field, message });
        }
    }

    fn add_or_fail(&mut self, matches: &HttpMatch, rule: &RuleRef) -> Result<(), Fault> {
        let uncompiled = Automata::default();
        let automata = self.shelf.get(&rule.name().object).unwrap_or(&uncompiled);
        let ways = ways(automata, matches.path.as_deref())?;
        let method = matches.method.as_deref().map(|text| method(automata, text)).transpose()?;
        let host = matches.host.as_deref().map(|host| matcher(automata, "host", host)).transpose()?;
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
            ways.iter().for_each(|way| builder.add(way.clone(), candidate));
        };
        match methods {
            Some(methods) => methods.into_iter().for_each(|m| add(self.methods.entry(m).or_default())),
            None => add(&mut self.any),
        }
        Ok(())
    }

    pub(super) fn finish(self) -> (HttpRules, Vec<PatternError>) {
        let finish = |(method, builder): (Vec<u8>, Builder)| -> (Box<[u8]>, Trie) {
            (method.into(), builder.finish())
        };
        let methods = self.methods.into_iter().map(finish).collect();
        let any = Box::new(self.any.finish());
        let headers = Ruled::new(&self.matches);
        let (rules, matches, conditions) = (self.rules.into(), self.matches.into(), self.conditions.into());
        (HttpRules { rules, matches, conditions, methods, any, headers }, self.errors)
    }
}

fn method(automata: &Automata, text: &str) -> Result<Method, Fault> {
    let hir = parse(text).map_err(|message| ("method", message))?;
    match words(&hir, METHODS_MAX) {
        Some(methods) => Ok(Method::Literals(methods)),
        None => matcher(automata, "method", text).map(Method::Pattern),
    }
}

fn matcher(automata: &Automata, field: &'static str, text: &str) -> Result<Matcher, Fault> {
    automata.matcher(text).map_err(|message| (field, message))
}

fn ways(automata: &Automata, path: Option<&str>) -> Result<Vec<Way>, Fault> {
    match path {
        None => Ok(vec![Way { literal: Vec::new(), onward: Onward::Anything }]),
        Some(path) => automata.ways(path).map_err(|message| ("path", message)),
    }
}
