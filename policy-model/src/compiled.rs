//! Compiled HTTP rules by what they were compiled from, so that a list is put together once and outlives its snapshot.
//!
//! INVARIANT: nothing here keeps a list: it goes with the last snapshot that uses it.

use crate::automata::Patterns;
use crate::http::{HttpRules, PatternError, Shelf};
use crate::ports::PortRules;
use crate::rule::{HttpMatch, HttpRule, ObjectName, Policy};
use crate::verdict::RuleRef;
use std::collections::HashMap;
use std::sync::{Arc, Weak};

#[derive(Debug, Default)]
pub(crate) struct Compiled {
    lists: HashMap<Arc<[Source]>, KnownList>,
    closed: HashMap<RuleRef, Weak<PortRules>>,
    /// Of all policies. Lists share what they have in common.
    shelf: Shelf,
    patterns: Patterns,
}

/// A list of rules, and what compiling it came to.
#[derive(Clone, Debug)]
pub(crate) struct List {
    pub(crate) rules: Arc<PortRules>,
    pub(crate) errors: Arc<[PatternError]>,
}

#[derive(Debug)]
struct KnownList {
    rules: Weak<PortRules>,
    errors: Arc<[PatternError]>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Source {
    matches: HttpMatch,
    rule: RuleRef,
}

impl Compiled {
    /// Its patterns are at hand from now on, compiled where they were not.
    pub(crate) fn add(&mut self, policy: &Policy) {
        let automata = policy.compiled(&mut self.patterns);
        let _before = self.shelf.insert(policy.name.clone(), automata);
    }

    pub(crate) fn remove(&mut self, policy: &ObjectName) {
        let _removed = self.shelf.remove(policy);
    }

    /// Forgets what no snapshot uses any more.
    pub(crate) fn forget_unused(&mut self) {
        self.lists.retain(|_, list| list.rules.strong_count() > 0);
        self.closed.retain(|_, rules| rules.strong_count() > 0);
        self.patterns.forget_unused();
    }

    /// `rules`, put together where they were not.
    pub(crate) fn list(&mut self, rules: &[(HttpRule, RuleRef)]) -> List {
        let key: Arc<[Source]> =
            rules.iter().filter(|(http, _)| !http.unjudgeable).map(Source::new).collect();
        let known = self.lists.get(&key);
        if let Some((rules, known)) = known.and_then(|known| Some((known.rules.upgrade()?, known))) {
            return List { rules, errors: Arc::clone(&known.errors) };
        }
        let list = List::of(rules, &self.shelf);
        let known = KnownList { rules: Arc::downgrade(&list.rules), errors: Arc::clone(&list.errors) };
        let _gone = self.lists.insert(key, known);
        list
    }

    pub(crate) fn unjudgeable(&mut self, rule: &RuleRef) -> Arc<PortRules> {
        if let Some(known) = self.closed.get(rule).and_then(Weak::upgrade) {
            return known;
        }
        let closed = Arc::new(PortRules::Unjudgeable(rule.clone()));
        let _gone = self.closed.insert(rule.clone(), Arc::downgrade(&closed));
        closed
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
