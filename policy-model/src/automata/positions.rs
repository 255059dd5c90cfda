//! One pattern as a set of positions: for patterns whose tables would explode, such as `/.*-.{36}`.
//!
//! A position is a place in the pattern that takes one byte. A step looks at one byte and goes from the set of positions
//! that may take it to the set of those that may come next, all of them at once as bits. What a step costs depends on the
//! pattern alone: no path, however hostile, makes it remember more.

use regex_automata::nfa::thompson::{NFA, State, Transition};
use regex_automata::util::primitives::StateID;
use std::collections::{BTreeMap, BTreeSet};

/// Sets lie on the stack; patterns with more positions are for the lazy automaton.
const WORDS_MAX: usize = 16;
const POSITIONS_MAX: usize = WORDS_MAX * 64;

/// One word takes no loops.
const WEIGHT_OF_A_WORD: usize = 7;
const WEIGHT_OF_WORDS: usize = 8;
const JUMPS_OF_A_STEP: usize = 2;

type Set = [u64; WORDS_MAX];

#[derive(Debug)]
pub(super) struct Positions {
    /// How much of a set is in use.
    words: usize,
    start: Set,
    start_accepts: bool,
    /// By byte: who takes it. Only the words in use, as in `follows`.
    takes: Box<[u64]>,
    /// Behind these comes the next position, and nothing else but what `exit` has: all of them step at once, by a shift.
    steps: Set,
    /// Those of the steps behind which all of `exit` may come as well, as behind each of `x{1,63}`.
    leaves: Set,
    exit: Set,
    /// What comes behind each position.
    follows: Box<[u64]>,
    /// Behind these the value may end.
    accepts: Set,
}

impl Positions {
    /// `None`: there are too many, or the pattern looks around.
    pub(super) fn new(nfa: &NFA) -> Option<Self> {
        let places = places(nfa)?;
        let words = places.len().div_ceil(64).max(1);
        let mut this = Self {
            words,
            start: [0; WORDS_MAX],
            start_accepts: false,
            takes: vec![0; 256 * words].into(),
            steps: [0; WORDS_MAX],
            leaves: [0; WORDS_MAX],
            exit: [0; WORDS_MAX],
            follows: vec![0; places.len() * words].into(),
            accepts: [0; WORDS_MAX],
        };
        (this.start, this.start_accepts) = reach(nfa, &places, nfa.start_anchored());
        for (index, place) in places.iter().enumerate() {
            for byte in place.bytes.iter().flat_map(|(first, last)| *first..=*last) {
                add(this.takes.get_mut(usize::from(byte) * words..).unwrap_or_default(), index);
            }
            let (follows, accepts) = reach(nfa, &places, place.next);
            if accepts {
                add(&mut this.accepts, index);
            }
            let to = this.follows.iter_mut().skip(index * words).take(words);
            to.zip(follows).for_each(|(to, word)| *to = word);
        }
        this.shifts();
        Some(this)
    }

    /// Tells those that step. The exit is what most of those that do not just step have in common.
    fn shifts(&mut self) {
        let mut exits: BTreeMap<Vec<u64>, Vec<usize>> = BTreeMap::new();
        for index in 0..self.follows.len() / self.words {
            let mut follows = self.set(&self.follows, index).to_vec();
            if take(&mut follows, index + 1) {
                exits.entry(follows).or_default().push(index);
            }
        }
        let none = vec![0; self.words];
        exits.remove(&none).iter().flatten().for_each(|index| add(&mut self.steps, *index));
        let most = exits.into_iter().max_by_key(|(_, positions)| positions.len());
        let Some((exit, positions)) = most.filter(|(_, positions)| positions.len() > 1) else { return };
        self.exit.iter_mut().zip(exit).for_each(|(to, word)| *to = word);
        for index in positions {
            add(&mut self.steps, index);
            add(&mut self.leaves, index);
        }
    }

    pub(super) fn bytes(&self) -> usize {
        size_of::<Self>() + size_of_val(&*self.takes) + size_of_val(&*self.follows)
    }

    /// A set of those that lie one behind the other.
    fn set<'a>(&self, sets: &'a [u64], index: usize) -> &'a [u64] {
        sets.get(index * self.words..).and_then(|sets| sets.get(..self.words)).unwrap_or_default()
    }

    /// What a byte costs at most, as measured, where a table that is walked abreast with others costs 1: every word, and what
    /// comes behind each position that does not just step.
    pub(super) fn weight(&self) -> usize {
        let positions = self.follows.len() / self.words;
        let ones: u32 = self.steps.iter().map(|word| word.count_ones()).sum();
        let jumps = positions - usize::try_from(ones).unwrap_or(0).min(positions);
        let words = if self.words == 1 { WEIGHT_OF_A_WORD } else { WEIGHT_OF_WORDS + self.words };
        words + jumps / JUMPS_OF_A_STEP
    }

    pub(super) fn matches(&self, bytes: &[u8]) -> bool {
        // A set of a known size stays in registers.
        match self.words {
            1 => self.run::<1>(bytes),
            2 => self.run::<2>(bytes),
            3 => self.run::<3>(bytes),
            4 => self.run::<4>(bytes),
            5 => self.run::<5>(bytes),
            6 => self.run::<6>(bytes),
            7 => self.run::<7>(bytes),
            8 => self.run::<8>(bytes),
            9 => self.run::<9>(bytes),
            10 => self.run::<10>(bytes),
            11 => self.run::<11>(bytes),
            12 => self.run::<12>(bytes),
            13 => self.run::<13>(bytes),
            14 => self.run::<14>(bytes),
            15 => self.run::<15>(bytes),
            WORDS_MAX.. => self.run::<WORDS_MAX>(bytes),
            0 => false,
        }
    }

    fn run<const N: usize>(&self, bytes: &[u8]) -> bool {
        let (steps, leaves) = (head::<N>(&self.steps), head::<N>(&self.leaves));
        let (exit, ends) = (head::<N>(&self.exit), head::<N>(&self.accepts));
        let (takes, _) = self.takes.as_chunks::<N>();
        let (follows, _) = self.follows.as_chunks::<N>();
        let mut accepts = self.start_accepts;
        let mut active = head::<N>(&self.start);
        for byte in bytes {
            let takes = takes.get(usize::from(*byte)).copied().unwrap_or([0; N]);
            let mut next = [0; N];
            let (mut carry, mut any, mut leaving, mut jumping, mut ending) = (0, 0, 0, 0, 0);
            let words = active.iter_mut().zip(takes).zip(steps.iter().zip(leaves)).zip(ends).zip(&mut next);
            for ((((active, takes), (steps, leaves)), ends), next) in words {
                let taking = *active & takes;
                any |= taking;
                ending |= taking & ends;
                leaving |= taking & leaves;
                let stepping = taking & steps;
                *next = stepping << 1 | carry;
                carry = stepping >> 63;
                *active = taking & !steps;
                jumping |= *active;
            }
            if any == 0 {
                return false;
            }
            accepts = ending != 0;
            if leaving != 0 {
                next.iter_mut().zip(exit).for_each(|(next, exit)| *next |= exit);
            }
            if jumping != 0 {
                jump(follows, &active, &mut next);
            }
            active = next;
        }
        accepts
    }
}

/// Adds what comes behind each of `from`.
fn jump<const N: usize>(follows: &[[u64; N]], from: &[u64; N], next: &mut [u64; N]) {
    for (word, from) in from.iter().enumerate() {
        let mut from = *from;
        while from != 0 {
            let bit = usize::try_from(from.trailing_zeros()).unwrap_or(0);
            from &= from - 1;
            let follows = follows.get(word * 64 + bit);
            next.iter_mut().zip(follows.into_iter().flatten()).for_each(|(next, follows)| *next |= follows);
        }
    }
}

fn head<const N: usize>(set: &Set) -> [u64; N] {
    set.first_chunk().copied().unwrap_or([0; N])
}

/// The bytes that lead from a state to one other.
struct Place {
    state: usize,
    next: StateID,
    /// From the first to the last.
    bytes: Vec<(u8, u8)>,
}

/// In the order of their states: what is written side by side mostly lies side by side.
fn places(nfa: &NFA) -> Option<Vec<Place>> {
    if !nfa.look_set_any().is_empty() {
        return None;
    }
    let mut places = Vec::new();
    for (state, kind) in nfa.states().iter().enumerate() {
        let mut by_next: BTreeMap<StateID, Vec<(u8, u8)>> = BTreeMap::new();
        for (bytes, next) in transitions(kind) {
            by_next.entry(next).or_default().push(bytes);
        }
        places.extend(by_next.into_iter().map(|(next, bytes)| Place { state, next, bytes }));
        if places.len() > POSITIONS_MAX {
            return None;
        }
    }
    Some(places)
}

fn transitions(state: &State) -> Vec<((u8, u8), StateID)> {
    let one = |t: &Transition| ((t.start, t.end), t.next);
    match state {
        State::ByteRange { trans } => vec![one(trans)],
        State::Sparse(sparse) => sparse.transitions.iter().map(one).collect(),
        State::Dense(dense) => {
            let step = |byte| dense.matches_byte(byte).map(|next| ((byte, byte), next));
            (0..=u8::MAX).filter_map(step).collect()
        }
        State::BinaryUnion { .. }
        | State::Capture { .. }
        | State::Fail
        | State::Look { .. }
        | State::Match { .. }
        | State::Union { .. } => Vec::new(),
    }
}

/// The positions that can be next in a state, and whether the end can.
fn reach(nfa: &NFA, places: &[Place], from: StateID) -> (Set, bool) {
    let mut set = [0; WORDS_MAX];
    let mut accepts = false;
    let mut seen = BTreeSet::new();
    let mut todo = vec![from];
    while let Some(id) = todo.pop() {
        if !seen.insert(id) {
            continue;
        }
        match nfa.state(id) {
            State::BinaryUnion { alt1, alt2 } => todo.extend([*alt1, *alt2]),
            State::Capture { next, .. } => todo.push(*next),
            State::Match { .. } => accepts = true,
            State::Union { alternates } => todo.extend(alternates.iter()),
            State::ByteRange { .. } | State::Dense(_) | State::Sparse(_) => {
                let own = places.partition_point(|place| place.state < id.as_usize());
                let own = places.iter().enumerate().skip(own).take_while(|(_, p)| p.state == id.as_usize());
                own.for_each(|(index, _)| add(&mut set, index));
            }
            State::Fail | State::Look { .. } => {}
        }
    }
    (set, accepts)
}

/// What lies beyond the last word is the position behind the last one: nobody is there.
fn add(set: &mut [u64], index: usize) {
    set.get_mut(index / 64).into_iter().for_each(|word| *word |= 1 << (index % 64));
}

/// Takes one out of a set; `false`: it was not there.
fn take(set: &mut [u64], index: usize) -> bool {
    let Some(word) = set.get_mut(index / 64) else { return false };
    let was = *word;
    *word &= !(1 << (index % 64));
    *word != was
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use regex_automata::nfa::thompson::{Compiler, Config, WhichCaptures};

    #[test]
    fn runs_longer_than_a_word() {
        let positions = positions("a.{100}b").unwrap();
        assert_eq!(positions.words, 2);
        for (length, expect) in [(99, false), (100, true), (101, false)] {
            assert_eq!(positions.matches(format!("a{}b", "x".repeat(length)).as_bytes()), expect);
        }
    }

    #[test]
    fn at_most_so_many() {
        // One is that of the automaton's unanchored start, which is never entered.
        let most = POSITIONS_MAX - 1;
        assert!(positions(&format!("a{{{most}}}")).unwrap().matches(&vec![b'a'; most]));
        assert!(positions(&format!("a{{{POSITIONS_MAX}}}")).is_none());
        assert!(positions(r"a\b.").is_none());
    }

    /// A repetition that may end anywhere costs no more by the byte for being longer.
    #[test]
    fn repetitions_of_any_length() {
        let weight = |pattern: &str| positions(pattern).unwrap().weight();
        assert!(weight(".*-[a-z-]{1,60}x") <= weight(".*-[a-z-]{1,9}x"));
        assert!(weight(".*x.{1,250}y") <= weight(".*x.{1,9}y") + 8);
        let positions = positions(".*x.{1,100}y").unwrap();
        for (length, expect) in [(0, false), (1, true), (64, true), (100, true), (101, false)] {
            assert_eq!(
                positions.matches(format!("ax{}y", "b".repeat(length)).as_bytes()),
                expect,
                "{length}"
            );
        }
    }

    #[test]
    fn nothing() {
        let positions = positions("a*").unwrap();
        assert!(positions.matches(b""));
        assert!(!positions.matches(b"b"));
        assert!(!self::positions("a+").unwrap().matches(b""));
    }

    proptest! {
        #[test]
        fn same_as_the_engine(
            pieces in proptest::collection::vec(proptest::sample::select(PIECES.to_vec()), 0..6),
            values in proptest::collection::vec("[ab0/]{0,12}", 16),
        ) {
            let pattern = pieces.concat();
            let positions = positions(&pattern).unwrap();
            let engine = crate::pattern::build(&pattern).unwrap();
            for value in values {
                prop_assert_eq!(positions.matches(value.as_bytes()), engine.is_match(&value), "{} {}", pattern, value);
            }
        }
    }

    const PIECES: &[&str] = &[
        "a",
        "b",
        "/",
        ".*",
        ".{3}",
        "[ab/]{1,5}",
        "a{0,70}",
        "(b.{1,3}){2}",
        "[ab]{2,4}",
        "(a|b0)",
        "(a|/.*)?",
        "[^/]+",
        "(ab|a|0*)*",
        "(a?b?)+",
        "(?i)A",
        ".",
    ];

    fn positions(pattern: &str) -> Option<Positions> {
        let config = Config::new().utf8(false).which_captures(WhichCaptures::None);
        let hir = crate::pattern::parse(pattern).unwrap();
        Positions::new(&Compiler::new().configure(config).build_from_hir(&hir).unwrap())
    }
}
