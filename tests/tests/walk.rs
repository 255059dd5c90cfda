//! The walk of the README, on real eBPF, both families.

use e2e::pods::Family;
use e2e::walk::Walk;

#[test]
#[ignore = "needs root"]
fn the_walk_plays_on_both_families() {
    let mut told = Vec::new();
    let mut walk = Walk::new(&mut told).unwrap();
    for family in Family::BOTH {
        walk.play(family).unwrap();
    }
}
