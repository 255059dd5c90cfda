//! Whose turn it is: openers in a round, and the connections of each in a round of their own.
//!
//! ```text
//!   round:  A ──► B ──► C ──► A ...        a connection that has something to do waits in its opener's queue, once
//!           │     │     │
//!           a1    b1    c1                  next(): the first opener gives its first connection a turn
//!           a2          c2                          and goes to the end of the round if more of its connections wait
//! ```
//!
//! INVARIANT: an opener is in the round exactly while connections of it wait, however many: between two turns of one that waits
//! every other opener has one at most.

use crate::connections::Key;
use proxy_core::shares::Opener;
use slab::Slab;
use std::collections::{BTreeMap, VecDeque};

#[derive(Debug, Default)]
pub(crate) struct Turns {
    openers: Slab<Waiting>,
    by_opener: BTreeMap<Opener, usize>,
    round: VecDeque<usize>,
}

/// The connections of one opener that wait for their turn.
#[derive(Debug)]
struct Waiting {
    opener: Opener,
    /// Its connections, waiting or not.
    connections: usize,
    queue: VecDeque<Key>,
}

/// A connection's part in the round.
#[derive(Debug)]
pub(crate) struct Seat {
    opener: usize,
    waits: bool,
}

impl Seat {
    /// A small number that stands for the opener as long as it has connections.
    pub(crate) fn opener(&self) -> usize {
        self.opener
    }

    #[cfg(test)]
    pub(crate) fn waits(&self) -> bool {
        self.waits
    }

    /// Its turn has come.
    pub(crate) fn called(&mut self) {
        self.waits = false;
    }
}

impl Turns {
    pub(crate) fn join(&mut self, opener: Opener) -> Seat {
        let new = || Waiting { opener, connections: 0, queue: VecDeque::new() };
        let index = *self.by_opener.entry(opener).or_insert_with(|| self.openers.insert(new()));
        if let Some(waiting) = self.openers.get_mut(index) {
            waiting.connections += 1;
        }
        Seat { opener: index, waits: false }
    }

    pub(crate) fn leave(&mut self, seat: &Seat, key: Key) {
        let Some(waiting) = self.openers.get_mut(seat.opener) else { return };
        if seat.waits {
            waiting.queue.retain(|other| *other != key);
            if waiting.queue.is_empty() {
                self.round.retain(|other| *other != seat.opener);
            }
        }
        waiting.connections -= 1;
        if waiting.connections == 0 {
            let _index = self.by_opener.remove(&waiting.opener);
            let _nobody = self.openers.remove(seat.opener);
        }
    }

    /// There is something to do for a connection.
    pub(crate) fn wait(&mut self, seat: &mut Seat, key: Key) {
        if std::mem::replace(&mut seat.waits, true) {
            return;
        }
        let Some(waiting) = self.openers.get_mut(seat.opener) else { return };
        if waiting.queue.is_empty() {
            self.round.push_back(seat.opener);
        }
        waiting.queue.push_back(key);
    }

    /// Whose turn is next. The connection has then to be told by [`Seat::called`].
    pub(crate) fn next(&mut self) -> Option<Key> {
        let index = self.round.pop_front()?;
        let waiting = self.openers.get_mut(index)?;
        let key = waiting.queue.pop_front();
        if !waiting.queue.is_empty() {
            self.round.push_back(index);
        }
        key
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.round.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(n: u8) -> Opener {
        Opener::Endpoint([10, 0, 0, n].into())
    }

    fn all(turns: &mut Turns) -> Vec<usize> {
        std::iter::from_fn(|| turns.next()).map(|Key(index)| index).collect()
    }

    #[test]
    fn openers_take_turns_however_many_connections_each_has() {
        let mut turns = Turns::default();
        let mut seats: Vec<_> = [1, 1, 1, 1, 2, 3, 3].map(|n| turns.join(pod(n))).into();
        for (index, seat) in seats.iter_mut().enumerate() {
            turns.wait(seat, Key(index));
        }
        assert_eq!(all(&mut turns), [0, 4, 5, 1, 6, 2, 3]);
        assert!(turns.is_empty());
    }

    #[test]
    fn a_newcomer_waits_for_one_turn_of_each_other_opener() {
        let mut turns = Turns::default();
        let mut busy: Vec<_> = (0..100).map(|_| turns.join(pod(1))).collect();
        for (index, seat) in busy.iter_mut().enumerate() {
            turns.wait(seat, Key(index));
        }
        let mut victim = turns.join(pod(2));
        turns.wait(&mut victim, Key(100));
        assert_eq!([turns.next(), turns.next()], [Some(Key(0)), Some(Key(100))]);
    }

    #[test]
    fn a_connection_waits_once() {
        let mut turns = Turns::default();
        let mut seat = turns.join(pod(1));
        turns.wait(&mut seat, Key(0));
        turns.wait(&mut seat, Key(0));
        assert_eq!(turns.next(), Some(Key(0)));
        seat.called();
        assert_eq!(turns.next(), None);
        turns.wait(&mut seat, Key(0));
        assert_eq!(all(&mut turns), [0]);
    }

    #[test]
    fn one_that_is_over_is_not_called() {
        let mut turns = Turns::default();
        let mut seats = [turns.join(pod(1)), turns.join(pod(1)), turns.join(pod(2))];
        for (index, seat) in seats.iter_mut().enumerate() {
            turns.wait(seat, Key(index));
        }
        turns.leave(&seats[0], Key(0));
        turns.leave(&seats[2], Key(2));
        assert_eq!(all(&mut turns), [1]);
        turns.leave(&seats[1], Key(1));
        assert!(turns.by_opener.is_empty() && turns.openers.is_empty());
    }
}
