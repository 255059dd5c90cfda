//! Compiled HTTP rules by what they were compiled from, so that a list is put together once and outlives its snapshot.

use crate::automata::Patterns;
use crate::http::{HttpRules, PatternError, Shelf};
use crate::ports::PortRules;
use crate::rule::{HttpMatch, HttpRule, Policy};
use crate::verdict::RuleRef;
use std::collections::HashMap;
use std::sync::Arc;

/// A list of rules, and what compiling it came to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Compiled {
    lists: HashMap<Arc<[Source]>, List>,
    closed: HashMap<RuleRef, Arc<PortRules>>,
    /// Of all policies. Lists share what they have in common.
    shelf: Shelf,
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
    /// No list yet; the patterns of `policies` compiled, as far as they were not. `before`: the policies of the previous
    /// snapshot, by name, and what it compiled.
    pub(crate) fn of(policies: &[Arc<Policy>], before: Option<(&[Arc<Policy>], &Self)>) -> Self {
        let mut patterns = before.map(|(_, before)| before.patterns.clone()).unwrap_or_default();
        patterns.forget_unused();
        let known = |policy: &Policy| {
            let (policies, compiled) = before?;
            let place = policies.binary_search_by(|before| before.name.cmp(&policy.name)).ok()?;
            let same = policies.get(place).is_some_and(|before| **before == *policy);
            compiled.shelf.get(&policy.name).filter(|_| same)
        };
        let mut shelf = Shelf::new();
        for policy in policies {
            let known = if policy.automata.is_compiled() { None } else { known(policy) };
            let automata = known.cloned().unwrap_or_else(|| policy.compiled(&mut patterns));
            let _new = shelf.insert(policy.name.clone(), automata);
        }
        Self { shelf, patterns, ..Self::default() }
    }

    /// Takes `rules` over from `previous`, or puts them together.
    pub(crate) fn list(&mut self, previous: Option<&Self>, rules: &[(HttpRule, RuleRef)]) -> List {
        let key: Arc<[Source]> =
            rules.iter().filter(|(http, _)| !http.unjudgeable).map(Source::new).collect();
        if let Some(list) = self.lists.get(&key) {
            return list.clone();
        }
        let before = previous.and_then(|previous| previous.lists.get(&key)).cloned();
        let list = before.unwrap_or_else(|| List::of(rules, &self.shelf));
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
    fn of(rules: &[(HttpRule, RuleRef)], shelf: &Shelf) -> Self {
        let (rules, errors) = HttpRules::index(rules, shelf);
        Self { rules: Arc::new(PortRules::Http(rules)), errors: errors.into() }
    }
}
