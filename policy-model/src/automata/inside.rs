//! Patterns that a line may have anywhere, such as `/.*orders.*`: one table of what must stand somewhere, which tells in passing.
//!
//! A table that answers at the end only would have to remember every set of those that were met.

use super::SHARED_MAX;
use regex_automata::dfa::{Automaton as _, dense};
use regex_automata::util::primitives::StateID;
use regex_automata::{Anchored, Input};
use std::collections::BTreeSet;

type Table = dense::DFA<Vec<u32>>;

/// One table that finds more than so many at one place is not worth it.
const TOLD_MAX: usize = 8;
/// What a byte costs at least; where it tells more than three, that counts.
const WEIGHT_MIN: usize = 4;

pub(super) struct Inside {
    table: Box<Table>,
    /// The first state that completes any; all others that do lie behind it.
    first: usize,
    /// Those of each state from there on, as many for each as for any: where it has fewer, the last one again.
    patterns: Box<[u16]>,
    /// The most patterns that one byte can complete.
    told: usize,
}

impl Inside {
    /// `table` looks for what stands between `.*` and `.*`, from any place on. `None`: some byte completes too many.
    pub(super) fn new(table: Box<Table>) -> Option<Self> {
        let states = telling(&table)?;
        let told = states.iter().map(|state| table.match_len(*state)).max().unwrap_or(0);
        if told > TOLD_MAX {
            return None;
        }
        let first = states.first().map_or(0, |state| state.as_usize());
        let mut this = Self { table, first, patterns: Box::default(), told };
        let mut patterns = Vec::new();
        for state in states {
            // What no bytes lead to tells nothing.
            patterns.resize(this.place(state) * told, u16::MAX);
            for i in 0..told {
                let i = i.min(this.table.match_len(state).saturating_sub(1));
                patterns.push(u16::try_from(this.table.match_pattern(state, i).as_usize()).ok()?);
            }
        }
        this.patterns = patterns.into();
        Some(this)
    }

    pub(super) fn bytes(&self) -> usize {
        self.table.memory_usage()
    }

    /// As measured, where one of the tables that are walked abreast costs 1.
    pub(super) fn weight(&self) -> usize {
        WEIGHT_MIN.max(1 + self.told)
    }

    /// Calls `each` once with every pattern that `bytes[from..]` matches. Nothing does where that is not one line.
    pub(super) fn matches(&self, bytes: &[u8], from: usize, each: &mut impl FnMut(usize)) -> Option<()> {
        let rest = bytes.get(from..)?;
        if rest.contains(&b'\n') {
            return None;
        }
        let start =
            self.table.start_state_forward(&Input::new(bytes).range(from..).anchored(Anchored::No)).ok()?;
        match self.told {
            0 | 1 => self.scan::<1>(start, rest, each),
            2 => self.scan::<2>(start, rest, each),
            3 => self.scan::<3>(start, rest, each),
            4 => self.scan::<4>(start, rest, each),
            5 => self.scan::<5>(start, rest, each),
            6 => self.scan::<6>(start, rest, each),
            7 => self.scan::<7>(start, rest, each),
            TOLD_MAX.. => self.scan::<TOLD_MAX>(start, rest, each),
        }
        Some(())
    }

    /// It looks from any place on, so it never ends before the bytes do.
    fn scan<const N: usize>(&self, start: StateID, bytes: &[u8], each: &mut impl FnMut(usize)) {
        let (patterns, _) = self.patterns.as_chunks::<N>();
        let stride = self.table.stride2();
        let mut seen = [false; SHARED_MAX];
        let mut tell = |state: StateID| {
            let place = state.as_usize().wrapping_sub(self.first) >> stride;
            let Some(patterns) = patterns.get(place) else { return };
            // Nearly always all have been told, and it takes no branch to see.
            let is_seen = |pattern: &u16| seen.get(usize::from(*pattern)).copied().unwrap_or(true);
            if patterns.iter().fold(true, |all, pattern| all & is_seen(pattern)) {
                return;
            }
            for pattern in patterns.iter().copied().map(usize::from) {
                if seen.get_mut(pattern).is_some_and(|seen| !std::mem::replace(seen, true)) {
                    each(pattern);
                }
            }
        };
        let mut state = start;
        for byte in bytes {
            state = self.table.next_state(state, *byte);
            tell(state);
        }
        tell(self.table.next_eoi_state(state));
    }

    fn place(&self, state: StateID) -> usize {
        state.as_usize().saturating_sub(self.first) >> self.table.stride2()
    }
}

/// The states that complete any pattern, in order.
fn telling(table: &Table) -> Option<Vec<StateID>> {
    let start = table.start_state_forward(&Input::new(b"").anchored(Anchored::No)).ok()?;
    let (mut seen, mut todo) = (BTreeSet::from([start]), vec![start]);
    while let Some(state) = todo.pop() {
        let next =
            (0..=u8::MAX).map(|byte| table.next_state(state, byte)).chain([table.next_eoi_state(state)]);
        todo.extend(next.filter(|next| seen.insert(*next)));
    }
    Some(seen.into_iter().filter(|state| table.is_match_state(*state)).collect())
}
