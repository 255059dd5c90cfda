//! What covers a port, decided; HTTP rules are united and compiled, each union once.

use super::Report;
use super::known::Inspection;
use super::words::{Says, Word};
use crate::compiled::{Compiled, List};
use crate::http::PatternError;
use crate::parse::Severity;
use crate::ports::{Decision, PortRules, Protocols};
use crate::rule::{HttpMatch, HttpRule, Policy, Protocol};
use crate::snapshot::Snapshot;
use crate::verdict::RuleRef;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

#[derive(Debug)]
pub(super) struct Lists<'a> {
    previous: Option<&'a Compiled>,
    compiled: Compiled,
    /// By the port rules that are united: where each lies (they all live as long as this), and how it is meant.
    unions: HashMap<Vec<(*const RuleRef, Says)>, Arc<PortRules>>,
    errors: Vec<PatternError>,
}

impl<'a> Lists<'a> {
    pub(super) fn new(previous: Option<&'a Snapshot>, policies: &[Arc<Policy>]) -> Self {
        let before = previous.map(|previous| (&*previous.policies, &previous.compiled));
        let (compiled, previous) = (Compiled::of(policies, before), before.map(|(_, compiled)| compiled));
        Self { previous, compiled, unions: HashMap::new(), errors: Vec::new() }
    }

    pub(super) fn finish(self, report: &mut Report) -> Compiled {
        for PatternError { rule, field, message } in self.errors {
            let message = format!("the pattern can't be enforced, so the rule allows nothing: {message}");
            report.say(Severity::Error, format!("{rule}.{field}"), message, "write a smaller pattern");
        }
        self.compiled
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
        let List { rules, .. } = self.compiled.list(self.previous, &[(HttpRule::default(), rule.clone())]);
        Decision::Inspect(rules)
    }

    fn inspect(&mut self, words: &[&Word<'_>]) -> Option<Arc<PortRules>> {
        let judged = |word: &&&Word<'_>| matches!(word.says, Says::Http | Says::Show | Says::Unjudgeable);
        let words: Vec<&Word<'_>> = words.iter().filter(judged).copied().collect();
        let first = words.first()?;
        let key: Vec<_> = words.iter().map(|word| (std::ptr::from_ref(word.rule), word.says)).collect();
        if let Some(known) = self.unions.get(&key) {
            return Some(Arc::clone(known));
        }
        let rules = unite(&words);
        let union = if rules.is_empty() {
            self.compiled.unjudgeable(self.previous, first.rule)
        } else {
            let List { rules, errors } = self.compiled.list(self.previous, &rules);
            self.errors.extend(errors.iter().cloned());
            rules
        };
        let _new = self.unions.insert(key, Arc::clone(&union));
        Some(union)
    }
}

/// All rules in order, equal ones once. A rule that restricts nobody is followed by one that allows everything.
fn unite(words: &[&Word<'_>]) -> Vec<(HttpRule, RuleRef)> {
    let mut seen: HashSet<HttpMatch> = HashSet::new();
    let mut united = Vec::new();
    for word in words {
        let everything = (word.says == Says::Show).then(|| (HttpRule::default(), word.rule.clone()));
        let written = word.http.iter().filter(|(rule, _)| !rule.unjudgeable);
        let all = written.map(|(rule, name)| ((*rule).clone(), name.clone())).chain(everything);
        united.extend(all.filter(|(rule, _)| seen.insert(rule.matches.clone())));
    }
    united
}
