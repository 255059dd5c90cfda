//! HTTP rules of one (endpoint, direction, identity, port), compiled: cost does not grow with their number.
//!
//! ```text
//!   method ─► its own index, and the index of rules for any method
//!               │ literal start of the path: a radix trie
//!               ▼
//!             leaf: nothing may follow │ any line may follow │ groups of patterns, one automaton each
//!               │ candidates, in the order of the rules
//!               ▼
//!             conditions: method pattern, host, headers        first that holds: the answer
//! ```
//!
//! INVARIANT: a rule that can't be compiled or judged matches nothing; its neighbours are untouched.

mod compile;
mod condition;
mod effort;
mod grow;
mod headers;
mod trie;

use crate::automata::{Automata, Budget, Patterns};
use crate::rule::{HttpMatch, HttpRule, ObjectName};
use crate::verdict::RuleRef;
use compile::Compiler;
use condition::{Conditions, Failed};
use headers::Ruled;

pub use effort::{Effort, READINGS_USUAL, STEPS_MIN, STEPS_PER_BYTE, STEPS_PER_BYTE_OF_MANY};

pub(crate) use headers::{Names, header_holds, is_removed, values};
use std::cmp::Reverse;
use std::collections::HashMap;
use trie::{Candidate, Trie};

/// What a rule may look at, filled in by whoever read the bytes.
pub struct Request<'a> {
    pub method: &'a [u8],
    /// One reading of the target: path and, where there is one, `?` and the query, as policy matches them.
    pub target: &'a [u8],
    /// Host header or authority as sent, with its port; empty on HTTP/1.0 without one.
    pub host: &'a [u8],
    pub headers: &'a dyn Headers,
}

/// The header fields of a request.
pub trait Headers {
    /// Calls `each` with the name, as sent, and the value of every field that the server will see, in order.
    fn each(&self, each: &mut dyn FnMut(&[u8], &[u8]));

    /// Calls `each` with every list of fields that are meant for the next hop alone.
    fn connection(&self, each: &mut dyn FnMut(&[u8])) {
        let lists: [&[u8]; 2] = [b"connection", b"proxy-connection"];
        self.each(&mut |name, value| {
            if lists.iter().any(|list| name.eq_ignore_ascii_case(list)) {
                each(value);
            }
        });
    }
}

impl std::fmt::Debug for Request<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Request").finish_non_exhaustive()
    }
}

/// The compiled patterns of each policy.
pub(crate) type Shelf = HashMap<ObjectName, Automata>;

/// Compiled without a budget: whoever is to be held to one has been asked already.
fn compile_patterns(rules: Vec<&HttpMatch>, patterns: &mut Patterns) -> Automata {
    let written = rules.into_iter().flat_map(|rule| rule.written(0));
    Automata::compile(written, patterns, Budget::Unlimited).unwrap_or_default()
}

/// A compiled list of rules. Immutable; matching allocates nothing.
#[derive(Debug)]
pub struct HttpRules {
    /// By the place of the rule, each in a list of its own: what the answer does not need is not touched.
    rules: Box<[RuleRef]>,
    conditions: Box<[Option<Box<Conditions>>]>,
    matches: Box<[HttpMatch]>,
    /// Rules for literal methods, by method.
    methods: Box<[(Box<[u8]>, Trie)]>,
    /// Rules for any method, and those whose method is a pattern (a condition).
    any: Box<Trie>,
    headers: Ruled,
}

/// A rule whose pattern can't be compiled within the limits; it matches nothing, the others are untouched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PatternError {
    pub rule: RuleRef,
    pub field: &'static str,
    pub message: String,
}

/// The rule that came nearest, and the condition that failed where fields are read so.
pub(crate) struct Nearest<'a> {
    pub(crate) rule: &'a RuleRef,
    pub(crate) matches: &'a HttpMatch,
    pub(crate) failed: &'static str,
    pub(crate) names: Names,
}

impl HttpRules {
    /// The patterns are compiled here, whatever they cost.
    pub fn compile(rules: &[(HttpRule, RuleRef)]) -> (Self, Vec<PatternError>) {
        Self::compile_with(rules, &mut Patterns::default())
    }

    /// What `patterns` knows is not compiled again, and it is told what is.
    fn compile_with(rules: &[(HttpRule, RuleRef)], patterns: &mut Patterns) -> (Self, Vec<PatternError>) {
        let mut by_object: HashMap<&ObjectName, Vec<&HttpMatch>> = HashMap::new();
        for (http, rule) in rules {
            by_object.entry(&rule.name().object).or_default().push(&http.matches);
        }
        let compile =
            |(name, rules): (&ObjectName, Vec<&HttpMatch>)| (name.clone(), compile_patterns(rules, patterns));
        Self::index(rules, &by_object.into_iter().map(compile).collect())
    }

    /// Puts rules together whose patterns were compiled with their policies.
    pub(crate) fn index(rules: &[(HttpRule, RuleRef)], shelf: &Shelf) -> (Self, Vec<PatternError>) {
        let mut compiler = Compiler::new(shelf);
        for (http, rule) in rules.iter().filter(|(http, _)| !http.unjudgeable) {
            compiler.add(&http.matches, rule);
        }
        compiler.finish()
    }

    /// Whether rules ask for a header of this name, in any spelling.
    pub(crate) fn asks_for(&self, name: &[u8], cut: bool) -> bool {
        self.headers.names(name, cut)
    }

    /// The rules that can match, in order.
    pub fn rules(&self) -> &[RuleRef] {
        &self.rules
    }

    /// The first rule (in the order given) that matches; where backends may read other fields, one must match as well.
    /// None does where `effort` runs out before.
    pub fn matching(&self, request: &Request<'_>, effort: &Effort) -> Option<&RuleRef> {
        effort.grant(request.target.len());
        let first = self.matching_as(request, Names::Exact, effort)?;
        if self.headers.are_disguised(request) {
            let _as_folded = self.matching_as(request, Names::Folded, effort)?;
        }
        Some(first)
    }

    fn matching_as(&self, request: &Request<'_>, names: Names, effort: &Effort) -> Option<&RuleRef> {
        let mut best = Candidate::NONE;
        let mut accept = |rule: Candidate| {
            rule.is_certain()
                || self.conditions(rule).is_some_and(|conditions| conditions.hold(request, names, effort))
        };
        if let Some(own) = self.own(request.method) {
            own.search(request.target, &mut best, effort, &mut accept);
        }
        self.any.search(request.target, &mut best, effort, &mut accept);
        self.rules.get(best.rule())
    }

    /// The rule that came nearest (most conditions met), and the condition that failed: `method`, `path`, `host`, `headers`.
    ///
    /// It is looked for among the rules whose path matches, then among those that share the longest literal start with
    /// the path, and no further than `effort` goes: a denial may not cost more than a match.
    pub fn nearest(&self, request: &Request<'_>, effort: &Effort) -> Option<(&RuleRef, &'static str)> {
        self.nearest_match(request, effort).map(|nearest| (nearest.rule, nearest.failed))
    }

    pub(crate) fn nearest_match(&self, request: &Request<'_>, effort: &Effort) -> Option<Nearest<'_>> {
        let is_allowed = || self.matching_as(request, Names::Exact, effort).is_some();
        let names =
            if self.headers.are_disguised(request) && is_allowed() { Names::Folded } else { Names::Exact };
        effort.limit_to_nearest();
        let on_path = if effort.is_over() { None } else { self.path_matches(request, names, effort) };
        let (rule, failed) = on_path.or_else(|| self.path_begins(request))?;
        let (rule, matches) = (self.rules.get(rule.rule())?, self.matches.get(rule.rule())?);
        Some(Nearest { rule, matches, failed, names })
    }

    /// Among the rules whose path matches, the one with the fewest failed conditions.
    fn path_matches(
        &self,
        request: &Request<'_>,
        names: Names,
        effort: &Effort,
    ) -> Option<(Candidate, &'static str)> {
        let mut nearest: Option<(usize, Candidate, &'static str)> = None;
        for (method, trie) in self.tries() {
            let foreign = method.is_some_and(|method| method != request.method);
            let mut weigh = |rule: Candidate| {
                let Failed { count, first } =
                    Conditions::failed(self.conditions(rule), request, names, effort, foreign);
                if let Some(first) = first
                    && nearest.is_none_or(|(least, lowest, _)| (count, rule) < (least, lowest))
                {
                    nearest = Some((count, rule, first));
                }
                false
            };
            trie.search(request.target, &mut Candidate::NONE.clone(), effort, &mut weigh);
        }
        nearest.map(|(_, rule, failed)| (rule, failed))
    }

    /// The first of the rules that share most of their literal start with the path; those of the method come first.
    fn path_begins(&self, request: &Request<'_>) -> Option<(Candidate, &'static str)> {
        let ranked = self.tries().filter_map(|(method, trie)| {
            let fits = method.is_none_or(|method| method == request.method);
            trie.deepest(request.target).map(|(length, rule)| (fits, length, Reverse(rule)))
        });
        ranked.max().map(|(.., Reverse(rule))| (rule, "path"))
    }

    fn tries(&self) -> impl Iterator<Item = (Option<&[u8]>, &Trie)> {
        let own = self.methods.iter().map(|(method, trie)| (Some(&**method), trie));
        own.chain([(None, &*self.any)])
    }

    fn own(&self, method: &[u8]) -> Option<&Trie> {
        self.methods.iter().find(|(own, _)| **own == *method).map(|(_, trie)| trie)
    }

    /// `None`: there are none.
    fn conditions(&self, rule: Candidate) -> Option<&Conditions> {
        self.conditions.get(rule.rule())?.as_deref()
    }
}

/// An index as it is stored: half as wide, for the sake of the cache.
fn place(index: u32) -> usize {
    usize::try_from(index).unwrap_or(usize::MAX)
}

/// What does not fit stands for nobody: no list reaches so far.
fn short(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
