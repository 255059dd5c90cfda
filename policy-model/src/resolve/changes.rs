//! What differs between two sorted lists.

use core::cmp::Ordering;

/// Elements of the first list that are not in the second, and the other way round. `order` compares by name; an element whose
/// name is in both lists differs where they are not the `same`. Lists that are not sorted give more than differs, never less.
pub(super) fn between<'o, 'n, O, N>(
    old: &'o [O],
    new: &'n [N],
    order: impl Fn(&O, &N) -> Ordering,
    same: impl Fn(&O, &N) -> bool,
) -> (Vec<&'o O>, Vec<&'n N>) {
    let (mut gone, mut come) = (Vec::new(), Vec::new());
    let mut old = old.iter().peekable();
    for element in new {
        while let Some(before) = old.next_if(|before| order(before, element).is_lt()) {
            gone.push(before);
        }
        if old.next_if(|before| order(before, element).is_eq() && same(before, element)).is_none() {
            come.push(element);
        }
    }
    gone.extend(old);
    (gone, come)
}
