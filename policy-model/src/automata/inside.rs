//! Patterns that a line may have anywhere, such as `/.*orders.*`: one table of what must stand somewhere, which tells in passing.
//!
//! A table that answers at the end only would have to remember every set of those that were met.

use regex_automata::dfa::{Automaton as _, dense};
use regex_automata::util::primitives::StateID;
use regex_automata::{Anchored, Input};
use std::collections::BTreeSet;

type Table = dense::DFA<Vec<u32>>;

/// One table that finds more than so many at one place is not worth it.
const TOLD_MAX: usize = 8;

pub(super) struct Inside {
    table: Box<Table>,
    /// The most patterns that one byte can complete.
    told: usize,
}

impl Inside {
    /// `table` looks for what stands between `.*` and `.*`, from any place on. `None`: some byte completes too many.
    pub(super) fn new(table: Box<Table>) -> Option<Self> {
        let told = told(&table)?;
        (told <= TOLD_MAX).then_some(Self { table, told })
    }

    pub(super) fn bytes(&self) -> usize {
        self.table.memory_usage()
    }

    /// To tell one costs about as much as a byte.
    pub(super) fn weight(&self) -> usize {
        1 + self.told
    }

    /// Calls `each`, more than once at times, with every pattern that `bytes[from..]` matches. Nothing does where that is not one line.
    pub(super) fn matches(&self, bytes: &[u8], from: usize, each: &mut impl FnMut(usize)) -> Option<()> {
        let rest = bytes.get(from..)?;
        if rest.contains(&b'\n') {
            return None;
        }
        let input = Input::new(bytes).range(from..).anchored(Anchored::No);
        let mut state = self.table.start_state_forward(&input).ok()?;
        for byte in rest {
            state = self.table.next_state(state, *byte);
            if self.table.is_special_state(state) {
                if self.table.is_dead_state(state) || self.table.is_quit_state(state) {
                    return None;
                }
                self.tell(state, each);
            }
        }
        self.tell(self.table.next_eoi_state(state), each);
        Some(())
    }

    fn tell(&self, state: StateID, each: &mut impl FnMut(usize)) {
        if self.table.is_match_state(state) {
            (0..self.table.match_len(state))
                .for_each(|i| each(self.table.match_pattern(state, i).as_usize()));
        }
    }
}

/// The most patterns of any state.
fn told(table: &Table) -> Option<usize> {
    let start = table.start_state_forward(&Input::new(b"").anchored(Anchored::No)).ok()?;
    let (mut seen, mut todo) = (BTreeSet::from([start]), vec![start]);
    let mut told = 0;
    while let Some(state) = todo.pop() {
        if table.is_match_state(state) {
            told = told.max(table.match_len(state));
        }
        let next =
            (0..=u8::MAX).map(|byte| table.next_state(state, byte)).chain([table.next_eoi_state(state)]);
        todo.extend(next.filter(|next| seen.insert(*next)));
    }
    Some(told)
}
