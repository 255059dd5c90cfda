//! Walks through several tables at once. A walk waits for each load before it knows the place of the next one; while one waits,
//! the others go on, so that four of them take little longer than one.

use regex_automata::dfa::{Automaton as _, dense};
use regex_automata::util::primitives::StateID;
use regex_automata::{Anchored, Input};

pub(super) type Table = dense::DFA<Vec<u32>>;

/// So many walks go side by side.
pub(crate) const LANES: usize = 4;
/// After so many bytes it is asked whether any of them is still alive.
const STRIDE: usize = 32;

/// A walk through one table.
#[derive(Clone, Copy)]
pub(crate) enum Lane<'a> {
    /// From the end to the start.
    Backward(&'a Table),
    Forward(&'a Table),
}

impl Lane<'_> {
    fn table(&self) -> &Table {
        match self {
            Self::Backward(table) | Self::Forward(table) => table,
        }
    }

    fn start(&self, bytes: &[u8], from: usize) -> Option<StateID> {
        let input = Input::new(bytes).range(from..).anchored(Anchored::Yes);
        match self {
            Self::Backward(table) => table.start_state_reverse(&input).ok(),
            Self::Forward(table) => table.start_state_forward(&input).ok(),
        }
    }
}

/// Calls `each` with the place of a lane and the number of a pattern of it, for every one that matches the bytes from the lane's
/// own place to the end as a whole. All lanes go the same way.
pub(crate) fn matches<const N: usize>(
    lanes: [(Lane<'_>, usize); N],
    bytes: &[u8],
    each: &mut impl FnMut(usize, usize),
) {
    let tables = lanes.each_ref().map(|(lane, _)| lane.table());
    let rests = lanes.map(|(_, from)| bytes.get(from..).unwrap_or_default());
    let common = rests.iter().map(|rest| rest.len()).min().unwrap_or(0);
    // A table without such a start has none for any place: the patterns of a lane are all anchored.
    let starts = lanes.map(|(lane, from)| lane.start(bytes, from));
    let mut states = starts.map(Option::unwrap_or_default);
    let is_backward = matches!(lanes.first(), Some((Lane::Backward(_), _)));
    if is_backward {
        let (rest, shared) = bytes.split_at_checked(bytes.len() - common).unwrap_or_default();
        states = walk(tables, states, shared.rchunks(STRIDE).map(|chunk| chunk.iter().rev()));
        for ((state, table), own) in states.iter_mut().zip(tables).zip(&rests) {
            let own = rest.get(bytes.len() - own.len()..).unwrap_or_default();
            [*state] = walk([table], [*state], own.rchunks(STRIDE).map(|chunk| chunk.iter().rev()));
        }
    } else {
        for ((state, table), own) in states.iter_mut().zip(tables).zip(&rests) {
            let own = own.get(..own.len() - common).unwrap_or_default();
            [*state] = walk([table], [*state], own.chunks(STRIDE).map(<[u8]>::iter));
        }
        let shared = bytes.get(bytes.len() - common..).unwrap_or_default();
        states = walk(tables, states, shared.chunks(STRIDE).map(<[u8]>::iter));
    }
    for (lane, (state, table)) in states.into_iter().zip(tables).enumerate() {
        if starts.get(lane).is_some_and(Option::is_some) {
            report(table, state, &mut |pattern| each(lane, pattern));
        }
    }
}

/// What is dead stays dead.
fn walk<'b, const N: usize, I: Iterator<Item = &'b u8>>(
    tables: [&Table; N],
    mut states: [StateID; N],
    chunks: impl Iterator<Item = I>,
) -> [StateID; N] {
    for chunk in chunks {
        for byte in chunk {
            for (state, table) in states.iter_mut().zip(tables) {
                *state = table.next_state(*state, *byte);
            }
        }
        if states.iter().zip(tables).all(|(state, table)| table.is_dead_state(*state)) {
            break;
        }
    }
    states
}

/// The patterns that match where the walk ends in `state`.
pub(super) fn report(table: &Table, state: StateID, each: &mut impl FnMut(usize)) {
    let state = table.next_eoi_state(state);
    if table.is_match_state(state) {
        (0..table.match_len(state)).for_each(|i| each(table.match_pattern(state, i).as_usize()));
    }
}
