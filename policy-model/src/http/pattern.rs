//! Patterns as automata that answer one question: which of them match these bytes from here to the end?
//!
//! A table where it stays small, else a set of positions; where that does not do either, an automaton that builds its
//! states as it meets them. All look at each byte once; none allocates once warm.

use super::positions::Positions;
use super::start::words;
use crate::pattern::PATTERN_NFA_BYTES_MAX;
use regex_automata::dfa::{Automaton as _, StartKind, dense};
use regex_automata::hybrid;
use regex_automata::nfa::thompson::{self, NFA, WhichCaptures};
use regex_automata::util::pool::Pool;
use regex_automata::{Anchored, Input, MatchKind};
use regex_syntax::hir::Hir;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

/// What a table may grow to; above it, a group is split, and a single pattern becomes lazy.
const TABLE_BYTES_MAX: usize = 256 << 10;
/// The states that a lazy automaton remembers, per thread.
const LAZY_BYTES_MAX: usize = 512 << 10;

/// More words than this are matched by an automaton.
const WORDS_MAX: usize = 16;

/// Patterns that are run together.
pub(super) enum Automaton {
    Lazy(Box<Lazy>),
    /// Of one pattern.
    Positions(Box<Positions>),
    Table(Box<dense::DFA<Vec<u32>>>),
}

pub(super) struct Lazy {
    dfa: hybrid::dfa::DFA,
    caches: Pool<hybrid::dfa::Cache, Box<dyn Fn() -> hybrid::dfa::Cache + Send + Sync>>,
}

impl fmt::Debug for Automaton {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lazy(_) => "Lazy",
            Self::Positions(_) => "Positions",
            Self::Table(_) => "Table",
        })
    }
}

impl Automaton {
    /// Calls `each` with the place of every pattern that matches `bytes[from..]` as a whole.
    pub(super) fn matches(&self, bytes: &[u8], from: usize, each: &mut impl FnMut(usize)) {
        match self {
            Self::Lazy(lazy) => lazy.matches(bytes, from, each).unwrap_or_default(),
            Self::Positions(positions) => {
                if positions.matches(bytes.get(from..).unwrap_or_default()) {
                    each(0);
                }
            }
            Self::Table(table) => table_matches(table, bytes, from, each).unwrap_or_default(),
        }
    }

    fn table(nfa: &NFA) -> Option<Self> {
        let config = dense::Config::new()
            .match_kind(MatchKind::All)
            .start_kind(StartKind::Anchored)
            .dfa_size_limit(Some(TABLE_BYTES_MAX))
            .determinize_size_limit(Some(TABLE_BYTES_MAX));
        dense::Builder::new()
            .configure(config)
            .build_from_nfa(nfa)
            .ok()
            .map(|table| Self::Table(Box::new(table)))
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

/// `None`: nothing matches. The whole of `bytes` is given, so that `^` and `\b` see what stands before `from`.
fn table_matches(
    table: &dense::DFA<Vec<u32>>,
    bytes: &[u8],
    from: usize,
    each: &mut impl FnMut(usize),
) -> Option<()> {
    let input = Input::new(bytes).range(from..).anchored(Anchored::Yes);
    let mut state = table.start_state_forward(&input).ok()?;
    for byte in bytes.get(from..)? {
        state = table.next_state(state, *byte);
        if table.is_special_state(state) && (table.is_dead_state(state) || table.is_quit_state(state)) {
            return None;
        }
    }
    let state = table.next_eoi_state(state);
    if table.is_match_state(state) {
        (0..table.match_len(state)).for_each(|i| each(table.match_pattern(state, i).as_usize()));
    }
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

/// Compiles patterns, each text once.
#[derive(Debug, Default)]
pub(super) struct Patterns {
    known: HashMap<String, Arc<Automaton>>,
}

impl Patterns {
    /// A matcher of whole values.
    pub(super) fn matcher(&mut self, hir: &Hir) -> Result<Matcher, String> {
        match words(hir, WORDS_MAX) {
            Some(words) => Ok(Matcher::Words(words.into())),
            None => self.single(hir).map(Matcher::Automaton),
        }
    }

    /// One table for all of them; `None` where it would be too big.
    pub(super) fn table(&mut self, hirs: &[&Hir]) -> Option<Arc<Automaton>> {
        self.build(hirs, |nfa| Automaton::table(&nfa).ok_or_else(String::new)).ok()
    }

    pub(super) fn single(&mut self, hir: &Hir) -> Result<Arc<Automaton>, String> {
        self.build(&[hir], |nfa| {
            let small = Automaton::table(&nfa).or_else(|| Automaton::positions(&nfa));
            small.map_or_else(|| Automaton::lazy(nfa), Ok)
        })
    }

    fn build(
        &mut self,
        hirs: &[&Hir],
        make: impl FnOnce(NFA) -> Result<Automaton, String>,
    ) -> Result<Arc<Automaton>, String> {
        let key = hirs.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
        if let Some(known) = self.known.get(&key) {
            return Ok(Arc::clone(known));
        }
        let automaton = Arc::new(make(nfa(hirs)?)?);
        let _new = self.known.insert(key, Arc::clone(&automaton));
        Ok(automaton)
    }
}

/// Whether the pattern stays within its bound.
pub(super) fn check(hir: &Hir) -> Result<(), String> {
    nfa(&[hir]).map(|_nfa| ())
}

fn nfa(hirs: &[&Hir]) -> Result<NFA, String> {
    let config = thompson::Config::new()
        .utf8(false)
        .which_captures(WhichCaptures::None)
        .nfa_size_limit(Some(PATTERN_NFA_BYTES_MAX * hirs.len()));
    NFA::compiler().configure(config).build_many_from_hir(hirs).map_err(|error| error.to_string())
}

/// One pattern against one whole value.
#[derive(Debug)]
pub(super) enum Matcher {
    Automaton(Arc<Automaton>),
    Words(Box<[Vec<u8>]>),
}

impl Matcher {
    pub(super) fn matches(&self, value: &[u8]) -> bool {
        match self {
            Self::Automaton(automaton) => {
                let mut found = false;
                automaton.matches(value, 0, &mut |_| found = true);
                found
            }
            Self::Words(words) => words.iter().any(|word| word == value),
        }
    }
}
