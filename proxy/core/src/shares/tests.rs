//! Who gives to whom, case by case, and what is guaranteed under any script.

use super::*;
use proptest::prelude::*;
use std::collections::HashMap;

const BOUNDS: Bounds = Bounds { places_max: 10, guaranteed: 2, guaranteed_of_node: 1 };

/// Places whose last use is told by a table, by the number that is kept with them.
struct Stage {
    shares: Shares<u64>,
    now: u64,
    used: HashMap<u64, u64>,
}

fn pod(n: u8) -> Opener {
    Opener::Endpoint([10, 15, 0, n].into())
}

fn outsider(n: u8) -> Opener {
    Opener::outside([192, 0, n, 7].into(), [10, 15, 0, 1].into())
}

impl Stage {
    fn new(bounds: Bounds) -> Self {
        Self { shares: Shares::new(bounds), now: 0, used: HashMap::new() }
    }

    /// The number that is kept with the place.
    fn enter(&mut self, opener: Opener) -> Result<(Place, Option<u64>), Full> {
        self.now += 1;
        let _before = self.used.insert(self.now, self.now);
        let entered = self.shares.enter(opener, self.now, self.now, |kept| self.used[kept])?;
        Ok((entered.place, entered.given_back))
    }

    fn fill(&mut self, opener: Opener, count: usize) {
        for _ in 0..count {
            assert_eq!(self.enter(opener).unwrap().1, None);
        }
    }

    fn held<const N: usize>(&self, openers: [Opener; N]) -> [usize; N] {
        openers.map(|opener| self.shares.held_by(opener))
    }
}

#[test]
fn what_is_free_is_borrowed_up_to_the_last_place_and_no_further() {
    let mut stage = Stage::new(BOUNDS);
    stage.fill(pod(1), 10);
    assert_eq!(stage.enter(pod(1)), Err(Full));
    assert_eq!(stage.held([pod(1)]), [10]);
}

#[test]
fn a_place_that_is_left_is_free_once() {
    let mut stage = Stage::new(BOUNDS);
    let (place, _) = stage.enter(pod(1)).unwrap();
    stage.fill(pod(1), 9);
    assert!(stage.shares.leave(place));
    assert!(!stage.shares.leave(place));
    stage.fill(pod(1), 1);
    assert_eq!(stage.enter(pod(1)), Err(Full));
}

#[test]
fn the_biggest_borrower_gives_back_until_nobody_borrows_more() {
    let mut stage = Stage::new(BOUNDS);
    stage.fill(pod(1), 10);
    for _ in 0..5 {
        assert!(stage.enter(pod(2)).unwrap().1.is_some());
    }
    assert_eq!(stage.held([pod(1), pod(2)]), [5, 5]);
    assert_eq!(stage.enter(pod(2)), Err(Full));
    assert_eq!(stage.enter(pod(1)), Err(Full));
    for _ in 0..3 {
        assert!(stage.enter(pod(3)).unwrap().1.is_some());
    }
    assert_eq!(stage.enter(pod(3)), Err(Full));
    let mut held = stage.held([pod(1), pod(2), pod(3)]);
    held.sort_unstable();
    assert_eq!(held, [3, 3, 4]);
}

#[test]
fn of_its_places_it_gives_the_one_unused_for_longest() {
    let mut stage = Stage::new(BOUNDS);
    stage.fill(pod(1), 10);
    // The first two are used again; what is kept with the third was used last at 3.
    stage.used.extend([(1, 100), (2, 101)]);
    assert_eq!(stage.enter(pod(2)).unwrap().1, Some(3));
    stage.used.extend((4..=10).map(|kept| (kept, 200 + kept)));
    assert_eq!(stage.enter(pod(3)).unwrap().1, Some(1));
}

#[test]
fn with_all_places_in_use_one_of_those_looked_at_is_given() {
    let mut stage = Stage::new(Bounds { places_max: 2 * LOOKS_MAX, ..BOUNDS });
    stage.fill(pod(1), 2 * LOOKS_MAX);
    let in_use = stage.used.clone().into_keys().map(|kept| (kept, 1000 - kept));
    stage.used.extend(in_use);
    // One more look would have asked the next one as well.
    assert_eq!(stage.enter(pod(2)).unwrap().1, Some(u64::try_from(LOOKS_MAX).unwrap() + 1));
}

#[test]
fn the_node_s_own_are_there_whoever_holds_all() {
    for holder in [pod(1), outsider(1)] {
        let mut stage = Stage::new(BOUNDS);
        stage.fill(holder, 10);
        assert!(stage.enter(Opener::Node).unwrap().1.is_some());
        assert_eq!(stage.held([holder, Opener::Node]), [9, 1]);
    }
}

#[test]
fn the_node_borrows_like_everybody() {
    let mut stage = Stage::new(BOUNDS);
    stage.fill(Opener::Node, 10);
    assert!(stage.enter(pod(1)).unwrap().1.is_some());
    assert_eq!(stage.held([Opener::Node]), [9]);
}

#[test]
fn outsiders_within_their_guarantees_make_room_for_endpoints_and_not_for_outsiders() {
    let mut stage = Stage::new(BOUNDS);
    for n in 1..=5 {
        stage.fill(outsider(n), 2);
    }
    assert!(stage.enter(pod(1)).unwrap().1.is_some());
    assert!(stage.enter(pod(1)).unwrap().1.is_some());
    // Beyond its guarantee it would borrow, and nobody does.
    assert_eq!(stage.enter(pod(1)), Err(Full));
    assert!(stage.enter(Opener::Node).unwrap().1.is_some());
    assert_eq!(stage.held([pod(1), Opener::Node]), [2, 1]);
}

#[test]
fn an_outsider_takes_nothing_from_an_endpoint_s_guarantee() {
    let mut stage = Stage::new(BOUNDS);
    for n in 1..=5 {
        stage.fill(pod(n), 2);
    }
    assert_eq!(stage.enter(outsider(1)), Err(Full));
    assert!(stage.enter(Opener::Node).is_ok());
}

#[test]
fn more_openers_than_guarantees_fit_share_evenly() {
    for opener in [pod, outsider] {
        let mut stage = Stage::new(BOUNDS);
        for n in 1..=10 {
            while stage.enter(opener(n)).is_ok() {}
        }
        for n in 1..=10 {
            assert_eq!(stage.shares.held_by(opener(n)), 1, "{n}");
        }
        assert_eq!(stage.enter(opener(11)), Err(Full));
    }
}

#[test]
fn outsiders_are_charged_by_prefix_and_destination() {
    let outside = |source: &str, destination: &str| {
        Opener::outside(source.parse().unwrap(), destination.parse().unwrap())
    };
    let one = outside("192.0.2.1", "10.15.0.1");
    assert_eq!(one, outside("192.0.2.255", "10.15.0.1"));
    assert_eq!(one, outside("::ffff:192.0.2.9", "10.15.0.1"));
    assert_ne!(one, outside("192.0.3.1", "10.15.0.1"));
    assert_ne!(one, outside("192.0.2.1", "10.15.0.2"));
    let one = outside("2001:db8::1", "f00d::1");
    assert_eq!(one, outside("2001:db8::ffff:0:0:1", "f00d::1"));
    assert_ne!(one, outside("2001:db8:0:1::1", "f00d::1"));
}

#[derive(Clone, Debug)]
enum Do {
    Enter(Opener),
    /// The oldest place of this opener.
    Leave(Opener),
}

fn any_opener() -> impl Strategy<Value = Opener> {
    prop_oneof![Just(Opener::Node), (1..4_u8).prop_map(pod), (1..8_u8).prop_map(outsider)]
}

fn any_do() -> impl Strategy<Value = Do> {
    prop_oneof![3 => any_opener().prop_map(Do::Enter), 1 => any_opener().prop_map(Do::Leave)]
}

proptest! {
    /// Three endpoints, the node and seven prefixes, on ten places: seven of those are guaranteed to the node and the endpoints.
    #[test]
    fn guarantees_hold_whatever_others_do(script in prop::collection::vec(any_do(), 0..400)) {
        let mut stage = Stage::new(BOUNDS);
        let mut places: HashMap<Opener, Vec<Place>> = HashMap::new();
        let locals = [Opener::Node, pod(1), pod(2), pod(3)];
        for step in script {
            match step {
                Do::Leave(opener) => {
                    let Some(place) = places.get_mut(&opener).and_then(Vec::pop) else { continue };
                    let _was_held = stage.shares.leave(place);
                }
                Do::Enter(opener) => {
                    let before: Vec<_> = locals.iter().map(|local| stage.shares.held_by(*local)).collect();
                    let (own, all) = (stage.shares.held_by(opener), stage.shares.held());
                    let guaranteed = stage.shares.guaranteed(opener);
                    match stage.enter(opener) {
                        Ok((place, given_back)) => {
                            places.entry(opener).or_default().push(place);
                            prop_assert_eq!(given_back.is_some(), all == BOUNDS.places_max);
                        }
                        Err(Full) => {
                            prop_assert_eq!(all, BOUNDS.places_max);
                            prop_assert!(!locals.contains(&opener) || own >= guaranteed, "{:?} was refused", opener);
                        }
                    }
                    for (local, before) in locals.iter().zip(before) {
                        let (now, guaranteed) = (stage.shares.held_by(*local), stage.shares.guaranteed(*local));
                        prop_assert!(now >= before || now >= guaranteed, "{:?} lost what is guaranteed", local);
                    }
                }
            }
            prop_assert!(stage.shares.held() <= BOUNDS.places_max);
            let sum: usize = stage.shares.openers.values().map(BTreeSet::len).sum();
            prop_assert_eq!(sum, stage.shares.held());
            prop_assert_eq!(stage.shares.ranks.len(), stage.shares.openers.len());
        }
    }
}
