//! What covers a port, decided; HTTP rules are united and compiled, each union once.

use super::groups::Inspection;
use super::subjects::Change;
use super::words::{Says, Word};
use crate::compiled::{Compiled, List};
use crate::http::PatternError;
use crate::ports::{Decision, PortRules, Protocols};
use crate::rule::{HttpMatch, HttpRule, ObjectName, Policy, Protocol};
use crate::verdict::RuleRef;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

#[derive(Debug, Default)]
pub(super) struct Lists {
    compiled: Compiled,
    /// By the port rules that are united: where each lies (grants outlive what is made of them in one change), and how it is
    /// meant.
    unions: HashMap<Vec<(usize, Says)>, List>,
    /// Of what was decided since they were taken.
    errors: Vec<PatternError>,
}

impl Lists {
    /// Patterns of new policies are compiled where they were not; those of policies that are gone are forgotten.
    pub(super) fn update(&mut self, change: &Change, policies: &[Arc<Policy>]) {
        self.unions.clear();
        if !change.changes_policies() {
            return;
        }
        let gone: HashSet<&ObjectName> = change.policies_gone.iter().map(|policy| &policy.name).collect();
        gone.iter().for_each(|name| self.compiled.remove(name));
        // Of two policies of one name the other may have stayed.
        let stay = policies.iter().filter(|policy| gone.contains(&policy.name));
        change.policies_come.iter().chain(stay).for_each(|policy| self.compiled.add(policy));
    }

    pub(super) fn forget_policies(&mut self) {
        self.compiled = Compiled::default();
    }

    pub(super) fn forget_unused(&mut self) {
        self.unions.clear();
        self.compiled.forget_unused();
    }

    pub(super) fn take_errors(&mut self) -> Vec<PatternError> {
        core::mem::take(&mut self.errors)
    }

    /// Deny beats allow, an allow that looks no deeper lifts what others restrict, HTTP rules add up.
    pub(super) fn decide(
        &mut self,
        protocols: Protocols,
        words: &[&Word<'_>],
        inspection: Inspection,
    ) -> Option<Decision> {
        let first = |says| words.iter().find(|word| word.says == says).map(|word| word.rule.clone());
        if let Some(rule) = first(Says::Deny) {
            return Some(Decision::Deny(rule));
        }
        // Requests are only ever read from TCP.
        let is_tcp = protocols == Protocols::One(Protocol::TCP);
        let shown = first(Says::Show).filter(|_| is_tcp);
        let read = shown.is_some() || (is_tcp && words.iter().any(|word| word.says == Says::Http));
        match (first(Says::Allow), shown, inspection) {
            (Some(lifts), _, Inspection::Possible) if read => return Some(self.everything(&lifts)),
            // What is allowed whatever is asked for is not to be lost because nothing can look at it.
            (Some(lifts), _, _) | (None, Some(lifts), Inspection::Impossible) => {
                return Some(Decision::Allow(lifts));
            }
            (None, _, _) => {}
        }
        let inspect = if is_tcp { self.inspect(words) } else { None };
        inspect.map(Decision::Inspect).or_else(|| first(Says::Otherwise).map(Decision::Allow))
    }

    /// Every request is read, and allowed by this rule.
    fn everything(&mut self, rule: &RuleRef) -> Decision {
        let List { rules, .. } = self.compiled.list(&[(HttpRule::default(), rule.clone())]);
        Decision::Inspect(rules)
    }

    fn inspect(&mut self, words: &[&Word<'_>]) -> Option<Arc<PortRules>> {
        let judged = |word: &&&Word<'_>| matches!(word.says, Says::Http | Says::Show | Says::Unjudgeable);
        let words: Vec<&Word<'_>> = words.iter().filter(judged).copied().collect();
        let first = words.first()?;
        let key: Vec<_> =
            words.iter().map(|word| (std::ptr::from_ref(word.rule).addr(), word.says)).collect();
        let union = self.unions.entry(key).or_insert_with(|| {
            let rules = unite(&words);
            match rules.is_empty() {
                true => List { rules: self.compiled.unjudgeable(first.rule), errors: Arc::default() },
                false => self.compiled.list(&rules),
            }
        });
        self.errors.extend(union.errors.iter().cloned());
        Some(Arc::clone(&union.rules))
    }
}

/// All rules in order, equal ones once. A rule that restricts nobody is followed by one that allows everything.
fn unite(words: &[&Word<'_>]) -> Vec<(HttpRule, RuleRef)> {
    let mut seen: HashSet<HttpMatch> = HashSet::new();
    let mut united = Vec::new();
    for word in words {
        let everything = (word.says == Says::Show).then(|| (HttpRule::default(), word.rule.clone()));
        let written = word.http.iter().filter(|(rule, _)| !rule.unjudgeable);
        let all = written.cloned().chain(everything);
        united.extend(all.filter(|(rule, _)| seen.insert(rule.matches.clone())));
    }
    united
}
