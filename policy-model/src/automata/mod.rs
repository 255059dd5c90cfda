//! The automata of one policy's HTTP rules.
//!
//! ```text
//!   path ─► literal starts, each with what may follow ─► what follows one literal, in groups ─► one automaton a group
//!   host, method ─► words, or an automaton of its own
//! ```
//!
//! INVARIANT: what they are and what they cost depends on the policy's text alone: not on other policies, the machine or
//! the time, so a policy that is accepted once is accepted everywhere.
//! INVARIANT: compiling stops where the budget is gone: what a refused policy costs is bounded as well.

mod abreast;
mod positions;
mod start;
mod inside;
mod group;

use group::{Cost, Group};
use regex_syntax::hir::Hir;
use start::reads;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

pub(crate) use abreast::{LANES, Lane, matches};
pub use group::Patterns;
pub(crate) use group::{Matcher, Part, Place};
pub(crate) use start::{Reads, Rest, Start, starts, words};

/// What the automata of one policy may take. Those count that were given up because they grew too big, and those count more
/// than once that are built from many states: both cost as much to build. About a second of one CPU.
pub const AUTOMATON_BYTES_MAX: usize = 64 << 20;
/// The states that its patterns come to before they are compiled: about one for each byte that a pattern may stand for.
pub const AUTOMATON_STATES_MAX: usize = 400_000;

/// The steps that a policy's automata may take for one byte of a path, a host or a method, whatever the path: one for each automaton
/// on its way, as measured more for a pattern that is too big for a table.
pub const WEIGHT_MAX: usize = 12;

/// Patterns with one start are looked at in groups of this many.
const GROUP_MIN: usize = 24;
const GROUP_MAX: usize = 40;
/// Behind one pattern in so many a group may end.
const GROUP_END: u64 = 8;

/// Those that share a table of hundreds.
const SHARED_MIN: usize = 256;
const SHARED_MAX: usize = 640;
const SHARED_END: u64 = 64;
/// Their states before they are compiled: about as many as the table has.
const SHARED_STATES_MAX: usize = 16 << 10;

/// The compiled patterns of a policy; none at first. Not part of what a policy says: any two are equal.
#[derive(Clone, Default)]
pub struct Automata(Option<Arc<Compiled>>);

/// A pattern as a rule has it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Written<'a> {
    /// The place of its rule in the caller's list.
    pub(crate) rule: usize,
    pub(crate) field: Field,
    pub(crate) text: &'a str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Field {
    Path,
    /// A method or a host.
    Value,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Budget {
    /// That of one policy.
    Policy,
    /// So many bytes, and as many states as can be had in the time of these.
    Small(usize),
    Unlimited,
}

/// A policy whose patterns cost more than it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OverBudget {
    pub(crate) unit: &'static str,
    /// Up to where compiling was given up.
    pub(crate) cost: usize,
    pub(crate) limit: usize,
    /// The rules whose groups cost most, the costliest first.
    pub(crate) rules: Vec<usize>,
}

/// One way into a path: a literal, then what is left to be matched.
#[derive(Clone, Debug)]
pub(crate) struct Way {
    pub(crate) literal: Vec<u8>,
    pub(crate) onward: Onward,
}

#[derive(Clone, Debug)]
pub(crate) enum Onward {
    Anything,
    Line,
    Nothing,
    Pattern(Place),
}

type Ways = HashMap<Box<str>, Result<Box<[Way]>, String>>;

struct Compiled {
    /// Those with more than literal starts, by their text.
    paths: Ways,
    values: HashMap<Box<str>, Result<Matcher, String>>,
    /// Kept for whoever compiles the next text of the policy.
    _groups: Vec<Arc<Group>>,
    cost: Cost,
    weight: usize,
}

impl Automata {
    pub(crate) fn compile<'a>(
        written: impl IntoIterator<Item = Written<'a>>,
        known: &mut Patterns,
        budget: Budget,
    ) -> Result<Self, OverBudget> {
        let mut compiling = Compiling {
            known,
            budget,
            cost: Cost::default(),
            costs: Vec::new(),
            groups: Vec::new(),
            weight: 0,
        };
        let (mut paths, mut values) = (Paths::default(), HashMap::new());
        for Written { rule, field, text } in written {
            match field {
                Field::Path => paths.add(rule, text),
                Field::Value if values.contains_key(text) => {}
                Field::Value => {
                    let matcher = compiling.value(rule, text)?;
                    let _new = values.insert(text.into(), matcher);
                }
            }
        }
        let paths = compiling.paths(paths)?;
        let Compiling { cost, groups, weight, .. } = compiling;
        Ok(Self(Some(Arc::new(Compiled { paths, values, _groups: groups, cost, weight }))))
    }

    pub fn is_compiled(&self) -> bool {
        self.0.is_some()
    }

    /// What they take, and what was given up on the way: the figure that [`AUTOMATON_BYTES_MAX`] bounds.
    pub fn bytes(&self) -> usize {
        self.0.as_ref().map_or(0, |compiled| compiled.cost.bytes)
    }

    /// The figure that [`AUTOMATON_STATES_MAX`] bounds.
    pub fn states(&self) -> usize {
        self.0.as_ref().map_or(0, |compiled| compiled.cost.states)
    }

    /// The figure that [`WEIGHT_MAX`] bounds: what the byte of a value takes at most.
    pub fn weight(&self) -> usize {
        self.0.as_ref().map_or(0, |compiled| compiled.weight)
    }

    /// The ways into a path pattern of the policy.
    pub(crate) fn ways(&self, text: &str) -> Result<Vec<Way>, String> {
        match self.0.as_ref().and_then(|compiled| compiled.paths.get(text)) {
            Some(ways) => ways.as_deref().map(<[Way]>::to_vec).map_err(Clone::clone),
            None => starts(&crate::pattern::parse(text)?).into_iter().map(plain).collect(),
        }
    }

    pub(crate) fn matcher(&self, text: &str) -> Result<Matcher, String> {
        let matcher = self.0.as_ref().and_then(|compiled| compiled.values.get(text));
        matcher.cloned().unwrap_or_else(|| Err(NOT_COMPILED.to_owned()))
    }
}

impl PartialEq for Automata {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl fmt::Debug for Automata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(compiled) => compiled.cost.fmt(f),
            None => f.write_str("NotCompiled"),
        }
    }
}

const NOT_COMPILED: &str = "the pattern was not compiled with its policy";

fn plain(start: Start) -> Result<Way, String> {
    let onward = match start.rest {
        Rest::Anything => Onward::Anything,
        Rest::Line => Onward::Line,
        Rest::Nothing => Onward::Nothing,
        Rest::Pattern(_) => return Err(NOT_COMPILED.to_owned()),
    };
    Ok(Way { literal: start.literal, onward })
}

/// The path patterns of a policy before they are compiled, each text once.
#[derive(Default)]
struct Paths<'a> {
    seen: HashSet<&'a str>,
    texts: Vec<(&'a str, Result<Vec<Start>, String>)>,
    /// What stands behind each literal, each pattern once, in the order of the rules.
    behind: BTreeMap<Vec<u8>, Vec<Pattern>>,
    known: HashSet<(Vec<u8>, String)>,
}

#[derive(Clone)]
struct Pattern {
    rule: usize,
    hir: Hir,
    text: String,
    /// Before it is compiled; 0 until it is counted.
    states: usize,
}

impl<'a> Paths<'a> {
    fn add(&mut self, rule: usize, text: &'a str) {
        if !self.seen.insert(text) {
            return;
        }
        let starts = crate::pattern::parse(text).map(|hir| starts(&hir));
        for Start { literal, rest } in starts.iter().flatten() {
            if let Rest::Pattern(hir) = rest {
                let text = hir.to_string();
                if self.known.insert((literal.clone(), text.clone())) {
                    let pattern = Pattern { rule, hir: hir.clone(), text, states: 0 };
                    self.behind.entry(literal.clone()).or_default().push(pattern);
                }
            }
        }
        let is_plain =
            |starts: &Vec<Start>| starts.iter().all(|start| !matches!(start.rest, Rest::Pattern(_)));
        if !starts.as_ref().is_ok_and(is_plain) {
            self.texts.push((text, starts));
        }
    }
}

struct Compiling<'p> {
    known: &'p mut Patterns,
    budget: Budget,
    cost: Cost,
    /// What each group cost, and its first rule.
    costs: Vec<(Cost, usize)>,
    groups: Vec<Arc<Group>>,
    /// The heaviest yet.
    weight: usize,
}

type Placed = HashMap<(Vec<u8>, String), Result<Place, String>>;

impl Compiling<'_> {
    fn value(&mut self, rule: usize, text: &str) -> Result<Result<Matcher, String>, OverBudget> {
        let hir = match crate::pattern::parse(text) {
            Ok(hir) => hir,
            Err(message) => return Ok(Err(message)),
        };
        if let Some(matcher) = Matcher::words(&hir) {
            return Ok(Ok(matcher));
        }
        let text = hir.to_string();
        let reads = reads(&hir);
        let pattern = [self.counted(Pattern { rule, hir, text, states: 0 })?];
        let mut places = self.group(reads, &pattern)?;
        if places.is_empty() {
            places = self.group(Reads::Forward, &pattern)?;
        }
        self.bear(group_weight(&places), &pattern, &places)?;
        let [place] = places.try_into().unwrap_or([Err(String::new())]);
        Ok(place.map(Matcher::Pattern))
    }

    fn paths(&mut self, paths: Paths<'_>) -> Result<Ways, OverBudget> {
        let mut placed = Placed::new();
        // Of the literals that the one at hand begins with: a path that goes along with it meets all of these.
        let mut along: Vec<(Vec<u8>, usize)> = Vec::new();
        for (literal, patterns) in paths.behind {
            along.retain(|(shorter, _)| literal.starts_with(shorter));
            let mut weight = along.last().map_or(0, |(_, weight)| *weight);
            let mut by_way: BTreeMap<Reads, Vec<Pattern>> = BTreeMap::new();
            for pattern in patterns {
                let pattern = self.counted(pattern)?;
                by_way.entry(reads(&pattern.hir)).or_default().push(pattern);
            }
            let mut forward = by_way.remove(&Reads::Forward).unwrap_or_default();
            let mut place = |compiling: &mut Self, group: &[Pattern], places: Vec<Result<Place, String>>| {
                weight += group_weight(&places);
                let keys = group.iter().map(|pattern| (literal.clone(), pattern.text.clone()));
                placed.extend(keys.zip(places.iter().cloned()));
                compiling.bear(weight, group, &places)
            };
            for (reads, shared) in &by_way {
                for group in cut(shared, shared_length) {
                    let places = self.group(*reads, group)?;
                    match places.is_empty() {
                        true => forward.extend_from_slice(group),
                        false => place(self, group, places)?,
                    }
                }
            }
            for group in cut(&forward, group_length) {
                let places = self.group(Reads::Forward, group)?;
                place(self, group, places)?;
            }
            along.push((literal, weight));
        }
        let link = |start: Start| match &start.rest {
            Rest::Anything | Rest::Line | Rest::Nothing => plain(start),
            Rest::Pattern(hir) => {
                let key = (start.literal, hir.to_string());
                let place = placed.get(&key).cloned().unwrap_or_else(|| Err(NOT_COMPILED.to_owned()))?;
                Ok(Way { literal: key.0, onward: Onward::Pattern(place) })
            }
        };
        let link_all =
            |starts: Vec<Start>| starts.into_iter().map(link).collect::<Result<Box<[Way]>, String>>();
        Ok(paths.texts.into_iter().map(|(text, starts)| (text.into(), starts.and_then(link_all))).collect())
    }

    /// Before anything is built of it.
    fn counted(&mut self, pattern: Pattern) -> Result<Pattern, OverBudget> {
        let states = group::states(&pattern.hir).unwrap_or(0);
        self.charge(Cost { states, bytes: 0 }, pattern.rule)?;
        Ok(Pattern { states, ..pattern })
    }

    /// No places: they can't share a table so.
    fn group(
        &mut self,
        reads: Reads,
        patterns: &[Pattern],
    ) -> Result<Vec<Result<Place, String>>, OverBudget> {
        let rule = patterns.first().map_or(0, |pattern| pattern.rule);
        let hirs: Vec<&Hir> = patterns.iter().map(|pattern| &pattern.hir).collect();
        let group = self.known.group(reads, &hirs);
        self.charge(Cost { states: 0, bytes: group.bytes() }, rule)?;
        let places = group.places().to_vec();
        self.groups.push(group);
        Ok(places)
    }

    /// What a byte may cost is bounded wherever a budget is. The last ones to come are named, the heaviest first.
    fn bear(
        &mut self,
        cost: usize,
        group: &[Pattern],
        places: &[Result<Place, String>],
    ) -> Result<(), OverBudget> {
        self.weight = self.weight.max(cost);
        if cost <= WEIGHT_MAX || self.budget == Budget::Unlimited {
            return Ok(());
        }
        let weight = |place: &Result<Place, String>| place.as_ref().map_or(0, |place| place.part.weight());
        let mut rules: Vec<(usize, usize)> =
            places.iter().map(weight).zip(group.iter().map(|pattern| pattern.rule)).collect();
        rules.sort_by_key(|(weight, rule)| (std::cmp::Reverse(*weight), *rule));
        let rules = rules.into_iter().map(|(_, rule)| rule).take(NAMED_MAX).collect();
        Err(OverBudget { unit: "steps", cost, limit: WEIGHT_MAX, rules })
    }

    fn charge(&mut self, cost: Cost, rule: usize) -> Result<(), OverBudget> {
        self.costs.push((cost, rule));
        self.cost.states = self.cost.states.saturating_add(cost.states);
        self.cost.bytes = self.cost.bytes.saturating_add(cost.bytes);
        let (bytes_max, states_max) = match self.budget {
            Budget::Policy => (AUTOMATON_BYTES_MAX, AUTOMATON_STATES_MAX),
            Budget::Small(bytes) => {
                let bytes = bytes.min(AUTOMATON_BYTES_MAX);
                (bytes, bytes / (AUTOMATON_BYTES_MAX / AUTOMATON_STATES_MAX))
            }
            Budget::Unlimited => (usize::MAX, usize::MAX),
        };
        let over = |unit, cost, limit, of: fn(&Cost) -> usize| {
            (cost > limit).then(|| OverBudget { unit, cost, limit, rules: costliest(&self.costs, of) })
        };
        let states = over("states", self.cost.states, states_max, |cost| cost.states);
        let over = states.or_else(|| over("bytes", self.cost.bytes, bytes_max, |cost| cost.bytes));
        over.map_or(Ok(()), Err)
    }
}

/// What a byte costs those of one group: each automaton once.
fn group_weight(places: &[Result<Place, String>]) -> usize {
    let mut parts: Vec<&Arc<Part>> = places.iter().flatten().map(|place| &place.part).collect();
    parts.sort_by_key(|part| Arc::as_ptr(part));
    parts.dedup_by_key(|part| Arc::as_ptr(part));
    parts.iter().map(|part| part.weight()).sum()
}

/// The rules that a refusal names.
const NAMED_MAX: usize = 5;

fn costliest(groups: &[(Cost, usize)], of: fn(&Cost) -> usize) -> Vec<usize> {
    let mut by_rule: BTreeMap<usize, usize> = BTreeMap::new();
    groups.iter().for_each(|(cost, rule)| *by_rule.entry(*rule).or_default() += of(cost));
    let mut rules: Vec<(usize, usize)> = by_rule.into_iter().filter(|(_, cost)| *cost > 0).collect();
    rules.sort_by_key(|(rule, cost)| (std::cmp::Reverse(*cost), *rule));
    rules.into_iter().map(|(rule, _)| rule).take(NAMED_MAX).collect()
}

/// Where a group ends is up to its patterns: one that comes or goes changes its own group, and those behind it
/// are found again as they were.
fn cut(all: &[Pattern], length: fn(&[Pattern]) -> usize) -> Vec<&[Pattern]> {
    let (mut groups, mut rest) = (Vec::new(), all);
    while let Some((group, behind)) =
        rest.split_at_checked(length(rest)).filter(|(group, _)| !group.is_empty())
    {
        groups.push(group);
        rest = behind;
    }
    groups
}

fn group_length(all: &[Pattern]) -> usize {
    ends_at(all.get(..GROUP_MAX).unwrap_or(all), GROUP_MIN, GROUP_END)
}

fn shared_length(all: &[Pattern]) -> usize {
    let most = all.get(..SHARED_MAX).unwrap_or(all);
    let states = most.iter().scan(0, |sum: &mut usize, pattern| {
        *sum = sum.saturating_add(pattern.states);
        Some(*sum)
    });
    let fit = states.take_while(|sum| *sum <= SHARED_STATES_MAX).count();
    ends_at(most.get(..fit.max(1)).unwrap_or(most), SHARED_MIN, SHARED_END)
}

fn ends_at(within: &[Pattern], min: usize, one_in: u64) -> usize {
    let end = within.iter().skip(min - 1).position(|pattern| may_end(&pattern.text, one_in));
    end.map_or(within.len(), |end| min + end)
}

/// FNV-1a: the same in every build, as groups are part of what a policy costs.
fn may_end(text: &str, one_in: u64) -> bool {
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    (hash >> 32).is_multiple_of(one_in)
}

#[cfg(test)]
mod tests;
