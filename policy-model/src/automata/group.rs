//! Patterns as automata that answer one question: which of them match these bytes from here to the end?
//!
//! A table where it stays small, else a set of positions; where that does not do either, an automaton that builds its
//! states as it meets them. All look at each byte once; none allocates once warm.
//! Patterns that begin with `.*` are told apart by their ends: a table that reads backwards knows one of hundreds after a few bytes,
//! where one that reads forwards has to remember each that may have begun.

use super::abreast::{self, Lane, Table};
use super::inside::Inside;
use super::positions::Positions;
use super::start::{Reads, inside, words};
use crate::pattern::PATTERN_NFA_BYTES_MAX;
use regex_automata::dfa::{Automaton as _, StartKind, dense};
use regex_automata::hybrid;
use regex_automata::nfa::thompson::{self, NFA, WhichCaptures};
use regex_automata::util::pool::Pool;
use regex_automata::{Anchored, Input, MatchKind};
use regex_syntax::hir::Hir;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Weak};

/// What a table may grow to.
const TABLE_BYTES_MAX: usize = 256 << 10;
/// Where a group does not fit into one, a pattern that would take more than so many times its share gets none: to find
/// out costs by the byte.
const SHARES_MAX: usize = 2;
/// The states that a lazy automaton remembers, per thread.
const LAZY_BYTES_MAX: usize = 512 << 10;

/// What a table of hundreds of patterns may grow to, with what each of them brings; and what is needed to build one.
const SHARED_BYTES_MAX: usize = 2 << 20;
const SHARED_BYTES_MIN: usize = 64 << 10;
const SHARED_BYTES_EACH: usize = 8 << 10;
const SHARED_BUILD: usize = 4;
/// What a byte of it counts, where one of a group's table counts 1. Measured by what is counted so: 5 ns a byte for those read backwards, 66
/// to 69 for those of what stands inside, whose states are looked through; 19 to 32 for most groups' tables.
const SHARED_COST: usize = 8;

/// What is too big for one table together is cut into this many.
const SPLIT: usize = 4;

/// More words than this are matched by an automaton.
const WORDS_MAX: usize = 16;

/// What an automaton costs to build, by the byte, grows with the states that it is built from: so many more count it once more.
const STATES_SHARE: usize = 64;
/// A table is not tried for more states: each of its own may be a set of all of these.
const TABLE_STATES_MAX: usize = 16 * 1024;

/// Patterns that are run together.
enum Automaton {
    Backward(Box<Table>),
    /// For what stands anywhere in a line.
    Inside(Box<Inside>),
    Lazy(Box<Lazy>),
    /// Of one pattern.
    Positions(Box<Positions>),
    Table(Box<Table>),
}

struct Lazy {
    dfa: hybrid::dfa::DFA,
    caches: Pool<hybrid::dfa::Cache, Box<dyn Fn() -> hybrid::dfa::Cache + Send + Sync>>,
}

impl fmt::Debug for Automaton {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Backward(_) => "Backward",
            Self::Inside(_) => "Inside",
            Self::Lazy(_) => "Lazy",
            Self::Positions(_) => "Positions",
            Self::Table(_) => "Table",
        })
    }
}

impl Automaton {
    /// Calls `each` with the place of every pattern that matches `bytes[from..]` as a whole.
    fn matches(&self, bytes: &[u8], from: usize, each: &mut impl FnMut(usize)) {
        match self {
            Self::Backward(table) => backward_matches(table, bytes, from, each).unwrap_or_default(),
            Self::Inside(inside) => inside.matches(bytes, from, each).unwrap_or_default(),
            Self::Lazy(lazy) => lazy.matches(bytes, from, each).unwrap_or_default(),
            Self::Positions(positions) => {
                if positions.matches(bytes.get(from..).unwrap_or_default()) {
                    each(0);
                }
            }
            Self::Table(table) => table_matches(table, bytes, from, each).unwrap_or_default(),
        }
    }

    /// What a byte costs, where one of a table costs 1.
    fn weight(&self) -> usize {
        match self {
            // A path can make each byte lead to a new state, which is made from all of those of the pattern.
            Self::Lazy(lazy) => lazy.dfa.get_nfa().states().len(),
            Self::Inside(inside) => inside.weight(),
            Self::Positions(positions) => positions.weight(),
            Self::Backward(_) | Self::Table(_) => 1,
        }
    }

    fn table(nfa: &NFA, bytes_max: usize) -> Option<Self> {
        dense(nfa, StartKind::Anchored, bytes_max, bytes_max).map(Self::Table)
    }

    /// Of hundreds, none of which is to be read forwards as a whole.
    fn shared(reads: Reads, nfa: &NFA, bytes_max: usize) -> Option<Self> {
        let start = if reads == Reads::Inside { StartKind::Unanchored } else { StartKind::Anchored };
        let table = dense(nfa, start, bytes_max, bytes_max * SHARED_BUILD)?;
        match reads {
            Reads::Backward => Some(Self::Backward(table)),
            Reads::Forward => Some(Self::Table(table)),
            Reads::Inside => Inside::new(table).map(|inside| Self::Inside(Box::new(inside))),
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Lazy(lazy) => lazy.dfa.memory_usage() + LAZY_BYTES_MAX,
            Self::Inside(inside) => inside.bytes(),
            Self::Positions(positions) => positions.bytes(),
            Self::Backward(table) | Self::Table(table) => table.memory_usage(),
        }
    }

    fn positions(nfa: &NFA) -> Option<Self> {
        Positions::new(nfa).map(|positions| Self::Positions(Box::new(positions)))
    }

    fn lazy(nfa: NFA) -> Result<Self, String> {
        let config = hybrid::dfa::Config::new()
            .match_kind(MatchKind::All)
            .cache_capacity(LAZY_BYTES_MAX)
            .skip_cache_capacity_check(true);
        let dfa =
            hybrid::dfa::DFA::builder().configure(config).build_from_nfa(nfa).map_err(|e| e.to_string())?;
        let maker = dfa.clone();
        let caches: Box<dyn Fn() -> hybrid::dfa::Cache + Send + Sync> =
            Box::new(move || maker.create_cache());
        Ok(Self::Lazy(Box::new(Lazy { dfa, caches: Pool::new(caches) })))
    }
}

fn dense(nfa: &NFA, start: StartKind, bytes_max: usize, build_bytes_max: usize) -> Option<Box<Table>> {
    let config = dense::Config::new()
        .match_kind(MatchKind::All)
        .start_kind(start)
        .dfa_size_limit(Some(bytes_max))
        .determinize_size_limit(Some(build_bytes_max));
    dense::Builder::new().configure(config).build_from_nfa(nfa).ok().map(Box::new)
}

/// `None`: nothing matches. The whole of `bytes` is given, so that `^` and `\b` see what stands before `from`.
fn table_matches(table: &Table, bytes: &[u8], from: usize, each: &mut impl FnMut(usize)) -> Option<()> {
    let input = Input::new(bytes).range(from..).anchored(Anchored::Yes);
    let mut state = table.start_state_forward(&input).ok()?;
    for byte in bytes.get(from..)? {
        state = table.next_state(state, *byte);
        if table.is_special_state(state) && (table.is_dead_state(state) || table.is_quit_state(state)) {
            return None;
        }
    }
    abreast::report(table, state, each);
    Some(())
}

/// As [`table_matches`], from the end. Nothing looks around in here.
fn backward_matches(table: &Table, bytes: &[u8], from: usize, each: &mut impl FnMut(usize)) -> Option<()> {
    let input = Input::new(bytes).range(from..).anchored(Anchored::Yes);
    let mut state = table.start_state_reverse(&input).ok()?;
    for byte in bytes.get(from..)?.iter().rev() {
        state = table.next_state(state, *byte);
        if table.is_special_state(state) && (table.is_dead_state(state) || table.is_quit_state(state)) {
            return None;
        }
    }
    abreast::report(table, state, each);
    Some(())
}

impl Lazy {
    fn matches(&self, bytes: &[u8], from: usize, each: &mut impl FnMut(usize)) -> Option<()> {
        let input = Input::new(bytes).range(from..).anchored(Anchored::Yes);
        let cache = &mut *self.caches.get();
        let mut state = self.dfa.start_state_forward(cache, &input).ok()?;
        for byte in bytes.get(from..)? {
            state = self.dfa.next_state(cache, state, *byte).ok()?;
            if state.is_dead() || state.is_quit() {
                return None;
            }
        }
        let state = self.dfa.next_eoi_state(cache, state).ok()?;
        if state.is_match() {
            (0..self.dfa.match_len(cache, state))
                .for_each(|i| each(self.dfa.match_pattern(cache, state, i).as_usize()));
        }
        Some(())
    }
}

/// One automaton, of one or more patterns.
#[derive(Debug)]
pub(crate) struct Part {
    automaton: Automaton,
    patterns: usize,
}

impl Part {
    /// What a byte of the value costs.
    pub(crate) fn weight(&self) -> usize {
        self.automaton.weight()
    }

    /// How many patterns it looks for.
    pub(crate) fn patterns(&self) -> usize {
        self.patterns
    }

    /// Calls `each` with the number of every pattern that matches `bytes[from..]` as a whole.
    pub(crate) fn matches(&self, bytes: &[u8], from: usize, each: &mut impl FnMut(usize)) {
        self.automaton.matches(bytes, from, each);
    }

    /// As a walk that can go along with others, where it is one through a table.
    pub(crate) fn lane(&self) -> Option<Lane<'_>> {
        match &self.automaton {
            Automaton::Backward(table) => Some(Lane::Backward(table)),
            Automaton::Table(table) => Some(Lane::Forward(table)),
            Automaton::Inside(_) | Automaton::Lazy(_) | Automaton::Positions(_) => None,
        }
    }

    /// Whether any of its patterns matches `bytes[from..]` as a whole.
    pub(crate) fn is_match(&self, bytes: &[u8], from: usize) -> bool {
        let mut found = false;
        self.automaton.matches(bytes, from, &mut |_| found = true);
        found
    }
}

/// Where a pattern is looked for: in this automaton, under this number.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) part: Arc<Part>,
    pub(crate) pattern: usize,
}

/// What patterns cost: what was built for them and what was given up, and their states.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cost {
    pub(crate) bytes: usize,
    pub(crate) states: usize,
}

/// Patterns that were compiled together, into as few automata as their limits allow.
#[derive(Debug)]
pub(crate) struct Group {
    /// In the order of the patterns; why, where one could not be built.
    places: Box<[Result<Place, String>]>,
    bytes: usize,
}

/// A pattern by its place in the group.
type Placed<'a> = (usize, &'a Hir);

impl Group {
    fn build(hirs: &[&Hir]) -> Self {
        let mut group = Building { places: vec![Err(String::new()); hirs.len()], bytes: 0 };
        let all: Vec<Placed<'_>> = hirs.iter().copied().enumerate().collect();
        if let [one] = *all {
            group.one(one, TABLE_BYTES_MAX);
        } else if group.longest_is_big(&all) || !group.table(&all, TABLE_BYTES_MAX) {
            group.apart(&all);
        }
        Self { places: group.places.into(), bytes: group.bytes }
    }

    /// In one table; no places where it would be too big.
    fn build_shared(reads: Reads, hirs: &[&Hir]) -> Self {
        let mut group = Building { places: vec![Err(String::new()); hirs.len()], bytes: 0 };
        let bytes_max = SHARED_BYTES_MAX.min(SHARED_BYTES_MIN + hirs.len() * SHARED_BYTES_EACH);
        let nfa = shared_nfa(reads, hirs).ok();
        let table = nfa.as_ref().and_then(|nfa| Automaton::shared(reads, nfa, bytes_max));
        let bytes = table.as_ref().map_or(bytes_max, Automaton::bytes);
        let built = nfa.as_ref().map_or(0, NFA::memory_usage);
        group.bytes = bytes.saturating_mul(SHARED_COST).saturating_add(built);
        let all: Vec<Placed<'_>> = hirs.iter().copied().enumerate().collect();
        let is_built = table.map(|table| group.place(table, &all)).is_some();
        Self { places: if is_built { group.places.into() } else { Box::default() }, bytes: group.bytes }
    }

    pub(crate) fn places(&self) -> &[Result<Place, String>] {
        &self.places
    }

    /// Of all that was built, and of all that was given up.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

/// A lazy automaton builds nothing yet.
fn cost(automaton: &Automaton, states: usize) -> usize {
    match automaton {
        Automaton::Lazy(_) => automaton.bytes(),
        Automaton::Backward(_) | Automaton::Inside(_) | Automaton::Positions(_) | Automaton::Table(_) => {
            weighted(automaton.bytes(), states)
        }
    }
}

fn weighted(bytes: usize, states: usize) -> usize {
    bytes.saturating_mul(1 + states / STATES_SHARE)
}

struct Building {
    places: Vec<Result<Place, String>>,
    bytes: usize,
}

impl Building {
    fn one(&mut self, pattern: Placed<'_>, bytes_max: usize) {
        if !self.table(&[pattern], bytes_max) {
            self.big(pattern);
        }
    }

    /// A pattern that is too big for a table.
    fn big(&mut self, pattern: Placed<'_>) {
        let automaton = nfa(&[pattern.1]).and_then(|nfa| {
            let states = nfa.states().len();
            let automaton = Automaton::positions(&nfa).map_or_else(|| Automaton::lazy(nfa), Ok)?;
            Ok((cost(&automaton, states), automaton))
        });
        match automaton {
            Ok((cost, automaton)) => {
                self.bytes = self.bytes.saturating_add(cost);
                self.place(automaton, &[pattern]);
            }
            Err(message) => {
                self.places.get_mut(pattern.0).into_iter().for_each(|p| *p = Err(message.clone()))
            }
        }
    }

    /// `false`: one table for all of them would be too big.
    fn table(&mut self, patterns: &[Placed<'_>], bytes_max: usize) -> bool {
        let hirs: Vec<&Hir> = patterns.iter().map(|(_, hir)| *hir).collect();
        let table = self.try_table(&hirs, bytes_max);
        let is_built = table.is_some();
        table.into_iter().for_each(|table| self.place(table, patterns));
        is_built
    }

    /// Costs what it takes; `bytes_max` where that is not enough.
    fn try_table(&mut self, hirs: &[&Hir], bytes_max: usize) -> Option<Automaton> {
        let nfa = nfa(hirs).ok()?;
        let states = nfa.states().len();
        let table = (states <= TABLE_STATES_MAX).then(|| Automaton::table(&nfa, bytes_max)).flatten();
        let bytes = table.as_ref().map_or(bytes_max, Automaton::bytes);
        let cost = weighted(bytes, states).saturating_add(nfa.memory_usage());
        self.bytes = self.bytes.saturating_add(cost);
        table
    }

    fn place(&mut self, automaton: Automaton, patterns: &[Placed<'_>]) {
        let part = Arc::new(Part { automaton, patterns: patterns.len() });
        for (pattern, (index, _)) in patterns.iter().enumerate() {
            let place = Place { part: Arc::clone(&part), pattern };
            self.places.get_mut(*index).into_iter().for_each(|slot| *slot = Ok(place.clone()));
        }
    }

    /// Those that are too big by themselves are told from those that are so together: each is tried once, where
    /// cutting the group until all parts fit would try the big ones again and again.
    fn apart(&mut self, patterns: &[Placed<'_>]) {
        let share = TABLE_BYTES_MAX / patterns.len().max(1) * SHARES_MAX;
        let (small, big): (Vec<_>, Vec<_>) = patterns.iter().partition(|(_, hir)| self.fits(hir, share));
        big.iter().for_each(|pattern| self.big(*pattern));
        // Without the big ones, all of the small ones may fit.
        let parts = if big.is_empty() { SPLIT } else { 1 };
        self.together(&small, parts);
    }

    fn together(&mut self, small: &[Placed<'_>], parts: usize) {
        for chunk in small.chunks(small.len().div_ceil(parts).max(1)) {
            match chunk {
                [one] => self.one(*one, TABLE_BYTES_MAX),
                many if self.table(many, TABLE_BYTES_MAX) => {}
                many => self.together(many, SPLIT),
            }
        }
    }

    /// A table of many big patterns is given up late: every state of it is one of each.
    fn longest_is_big(&mut self, patterns: &[Placed<'_>]) -> bool {
        let longest = patterns.iter().max_by_key(|(_, hir)| hir.to_string().len());
        longest.is_some_and(|(_, hir)| !self.fits(hir, TABLE_BYTES_MAX / SPLIT))
    }

    fn fits(&mut self, hir: &Hir, bytes_max: usize) -> bool {
        self.try_table(&[hir], bytes_max).is_some()
    }
}

/// The groups in use, by the texts of their patterns: what was compiled once is not compiled again.
#[derive(Clone, Debug, Default)]
pub struct Patterns {
    known: HashMap<(Reads, Arc<[String]>), Weak<Group>>,
}

impl Patterns {
    /// Forgets those that nobody uses any more.
    pub fn forget_unused(&mut self) {
        self.known.retain(|_, group| group.strong_count() > 0);
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.known.len()
    }

    pub(crate) fn group(&mut self, reads: Reads, hirs: &[&Hir]) -> Arc<Group> {
        let key = (reads, hirs.iter().map(ToString::to_string).collect());
        if let Some(known) = self.known.get(&key).and_then(Weak::upgrade) {
            return known;
        }
        let group = Arc::new(match reads {
            Reads::Forward => Group::build(hirs),
            Reads::Backward | Reads::Inside => Group::build_shared(reads, hirs),
        });
        let _old = self.known.insert(key, Arc::downgrade(&group));
        group
    }
}

/// The states of a pattern before it is compiled.
pub(crate) fn states(hir: &Hir) -> Result<usize, String> {
    nfa(&[hir]).map(|nfa| nfa.states().len())
}

fn nfa(hirs: &[&Hir]) -> Result<NFA, String> {
    build_nfa(hirs, false)
}

fn shared_nfa(reads: Reads, hirs: &[&Hir]) -> Result<NFA, String> {
    match reads {
        Reads::Backward => build_nfa(hirs, true),
        Reads::Forward => build_nfa(hirs, false),
        Reads::Inside => {
            let parts: Vec<Hir> = hirs.iter().map(|hir| inside(hir)).collect();
            build_nfa(&parts.iter().collect::<Vec<_>>(), false)
        }
    }
}

fn build_nfa(hirs: &[&Hir], reverse: bool) -> Result<NFA, String> {
    let config = thompson::Config::new()
        .utf8(false)
        .reverse(reverse)
        .which_captures(WhichCaptures::None)
        .nfa_size_limit(Some(PATTERN_NFA_BYTES_MAX * hirs.len()));
    NFA::compiler().configure(config).build_many_from_hir(hirs).map_err(|error| error.to_string())
}

/// One pattern against one whole value.
#[derive(Clone, Debug)]
pub(crate) enum Matcher {
    Pattern(Place),
    Words(Arc<[Vec<u8>]>),
}

impl Matcher {
    /// Where the pattern is nothing but a few words.
    pub(crate) fn words(hir: &Hir) -> Option<Self> {
        words(hir, WORDS_MAX).map(|words| Self::Words(words.into()))
    }

    /// What a byte of the value costs, as [`Part::weight`]; 0 where it is only compared.
    pub(crate) fn weight(&self) -> usize {
        match self {
            Self::Pattern(place) => place.part.weight(),
            Self::Words(_) => 0,
        }
    }

    pub(crate) fn matches(&self, value: &[u8]) -> bool {
        match self {
            Self::Pattern(place) => place.part.is_match(value, 0),
            Self::Words(words) => words.iter().any(|word| word == value),
        }
    }
}
