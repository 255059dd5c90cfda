//! Compiled HTTP rules by what they were compiled from, so that a list is compiled once and outlives its snapshot.

use crate::http::{HttpRules, PatternError, Patterns};
use crate::ports::PortRules;
use crate::rule::{HttpMatch, HttpRule};
use crate::verdict::RuleRef;
use std::collections::HashMap;
use std::sync::Arc;

/// A list of rules, and what compiling it came to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Compiled {
    lists: HashMap<Arc<[Source]>, List>,
    closed: HashMap<RuleRef, Arc<PortRules>>,
    /// Lists share what they have in common.
    patterns: Patterns,
}

#[derive(Clone, Debug)]
pub(crate) struct List {
    pub(crate) rules: Arc<PortRules>,
    pub(crate) errors: Arc<[PatternError]>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Source {
    matches: HttpMatch,
    rule: RuleRef,
}

impl Compiled {
    /// Empty, but for what may be taken over from `previous`, part by part.
    pub(crate) fn behind(previous: Option<&Self>) -> Self {
        let patterns = previous.map(|previous| previous.patterns.in_use()).unwrap_or_default();
        Self { patterns, ..Self::default() }
    }

    /// Takes `rules` over from `previous`, or compiles them.
    pub(crate) fn list(&mut self, previous: Option<&Self>, rules: &[(HttpRule, RuleRef)]) -> List {
        let key: Arc<[Source]> =
            rules.iter().filter(|(http, _)| !http.unjudgeable).map(Source::new).collect();
        if let Some(list) = self.lists.get(&key) {
            return list.clone();
        }
        let before = previous.and_then(|previous| previous.lists.get(&key)).cloned();
        let list = before.unwrap_or_else(|| List::compile(rules, &mut self.patterns));
        let _new = self.lists.insert(key, list.clone());
        list
    }

    pub(crate) fn unjudgeable(&mut self, previous: Option<&Self>, rule: &RuleRef) -> Arc<PortRules> {
        let before = previous.and_then(|p| p.closed.get(rule)).map(Arc::clone);
        let make = || before.unwrap_or_else(|| Arc::new(PortRules::Unjudgeable(rule.clone())));
        Arc::clone(self.closed.entry(rule.clone()).or_insert_with(make))
    }
}

impl Source {
    fn new((http, rule): &(HttpRule, RuleRef)) -> Self {
        Self { matches: http.matches.clone(), rule: rule.clone() }
    }
}

impl List {
    fn compile(rules: &[(HttpRule, RuleRef)], patterns: &mut Patterns) -> Self {
        let (rules, errors) = HttpRules::compile_with(rules, patterns);
        Self { rules: Arc::new(PortRules::Http(rules)), errors: errors.into() }
    }
}
