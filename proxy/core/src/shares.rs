//! Places that many openers share: who holds how many, and who gives one back when another needs it.
//!
//! Who opens a connection is charged for it, never who is asked. An opener may borrow what is free beyond its guaranteed places.
//! When nothing is free, this one gives back, whichever comes first:
//!
//! 1. the one that borrows most, to an opener with guaranteed places left, or to one that borrows less;
//! 2. where nobody borrows, the outsider that holds most, to the node and its endpoints: prefixes are cheap, endpoints are not;
//! 3. the one that holds most, to one of its kind that holds less: more openers than guarantees fit share evenly.
//!
//! Of its places it gives the one that was unused for longest.
//!
//! INVARIANT: never more places are held than there are, and none is given to who then holds more than who gave it.
//! INVARIANT: within their guaranteed places, as long as those of all endpoints and the node fit, endpoints and the node are
//! never refused, and never give.

use core::net::IpAddr;
use std::collections::{BTreeMap, BTreeSet};

/// Who is charged. Ordered by who gives last where nobody borrows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Opener {
    /// The node itself: probes of its pods' health.
    Node,
    /// A local endpoint, by the first of its addresses.
    Endpoint(IpAddr),
    /// A prefix outside, towards one destination: whoever has a prefix has all its addresses.
    Outside { prefix: IpAddr, destination: IpAddr },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    pub places_max: usize,
    /// Of each opener but the node.
    pub guaranteed: usize,
    pub guaranteed_of_node: usize,
}

/// A place that is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place(u64);

/// All places. `T` is what the shell keeps with each.
#[derive(Debug)]
pub struct Shares<T> {
    bounds: Bounds,
    next: u64,
    held: BTreeMap<Place, Held<T>>,
    /// The places of each opener that holds any, in order of their last known use.
    openers: BTreeMap<Opener, BTreeSet<(u64, Place)>>,
    /// The same openers; who gives first is last.
    ranks: BTreeSet<Rank>,
}

#[derive(Debug)]
struct Held<T> {
    opener: Opener,
    used: u64,
    value: T,
}

/// INVARIANT: the order of fields is the order in which openers give.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    /// Beyond what is guaranteed.
    borrowed: usize,
    class: Class,
    held: usize,
    opener: Opener,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    Node,
    Endpoint,
    Outside,
}

/// A place, and what was kept with the one that was given back for it.
#[derive(Debug, PartialEq, Eq)]
pub struct Entered<T> {
    pub place: Place,
    pub given_back: Option<T>,
}

/// No place is free, and nobody has to give one back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// Places that are asked for their last use before one is given back: those that turn out to be in use are asked later again.
const LOOKS_MAX: usize = 16;

impl Opener {
    /// Somebody who is no endpoint and not the node.
    pub fn outside(source: IpAddr, destination: IpAddr) -> Self {
        Self::Outside { prefix: prefix(source.to_canonical()), destination }
    }

    fn class(&self) -> Class {
        match self {
            Self::Node => Class::Node,
            Self::Endpoint(_) => Class::Endpoint,
            Self::Outside { .. } => Class::Outside,
        }
    }
}

/// A /24 of IPv4, a /64 of IPv6.
fn prefix(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(v4) => IpAddr::V4((v4.to_bits() & !0xff).into()),
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() & !u128::from(u64::MAX)).into()),
    }
}

impl<T> Shares<T> {
    pub fn new(bounds: Bounds) -> Self {
        Self { bounds, next: 0, held: BTreeMap::new(), openers: BTreeMap::new(), ranks: BTreeSet::new() }
    }

    /// Takes a place at the time `now`; `last_used` tells what a place is used for now (both in the same unit).
    ///
    /// # Errors
    /// None is free, and nobody has to give one back to this opener.
    pub fn enter(
        &mut self,
        opener: Opener,
        now: u64,
        value: T,
        last_used: impl Fn(&T) -> u64,
    ) -> Result<Entered<T>, Full> {
        let given_back = if self.held.len() < self.bounds.places_max {
            None
        } else {
            let giver =
                self.ranks.last().filter(|giver| gives(giver, &self.rank(opener), self.guaranteed(opener)));
            let giver = giver.ok_or(Full)?.opener;
            Some(self.give_back(giver, last_used).ok_or(Full)?)
        };
        let place = Place(self.next);
        self.next += 1;
        let _before = self.held.insert(place, Held { opener, used: now, value });
        self.change(opener, |places| places.insert((now, place)));
        Ok(Entered { place, given_back })
    }

    /// Whether the place was held until now; it is not where it was given back.
    pub fn leave(&mut self, place: Place) -> bool {
        self.remove(place).is_some()
    }

    /// How many places an opener holds.
    pub fn held_by(&self, opener: Opener) -> usize {
        self.openers.get(&opener).map_or(0, BTreeSet::len)
    }

    pub fn held(&self) -> usize {
        self.held.len()
    }

    fn give_back(&mut self, giver: Opener, last_used: impl Fn(&T) -> u64) -> Option<T> {
        for _ in 0..LOOKS_MAX {
            let (known, place) = *self.openers.get(&giver)?.first()?;
            let held = self.held.get_mut(&place)?;
            let used = last_used(&held.value);
            if used <= known {
                break;
            }
            held.used = used;
            self.change(giver, |places| places.remove(&(known, place)) && places.insert((used, place)));
        }
        let (_known, place) = *self.openers.get(&giver)?.first()?;
        self.remove(place)
    }

    fn remove(&mut self, place: Place) -> Option<T> {
        let Held { opener, used, value } = self.held.remove(&place)?;
        self.change(opener, |places| places.remove(&(used, place)));
        Some(value)
    }

    /// Changes an opener's places, and its rank with them.
    fn change(&mut self, opener: Opener, what: impl FnOnce(&mut BTreeSet<(u64, Place)>) -> bool) {
        let _before = self.ranks.remove(&self.rank(opener));
        let places = self.openers.entry(opener).or_default();
        let _changed = what(places);
        if places.is_empty() {
            let _nobody = self.openers.remove(&opener);
        } else {
            let _new = self.ranks.insert(self.rank(opener));
        }
    }

    fn rank(&self, opener: Opener) -> Rank {
        let held = self.held_by(opener);
        let borrowed = held.saturating_sub(self.guaranteed(opener));
        Rank { borrowed, class: opener.class(), held, opener }
    }

    fn guaranteed(&self, opener: Opener) -> usize {
        match opener {
            Opener::Node => self.bounds.guaranteed_of_node,
            Opener::Endpoint(_) | Opener::Outside { .. } => self.bounds.guaranteed,
        }
    }
}

/// Whether the first in rank gives to somebody who is guaranteed so many.
fn gives(giver: &Rank, taker: &Rank, guaranteed: usize) -> bool {
    if taker.held >= guaranteed {
        return giver.borrowed > taker.borrowed + 1;
    }
    giver.borrowed > 0
        || (giver.class == Class::Outside && taker.class != Class::Outside)
        || (giver.class >= taker.class && giver.held > taker.held + 1)
}

#[cfg(test)]
mod tests;
