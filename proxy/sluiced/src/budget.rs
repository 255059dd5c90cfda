//! The bytes that the connections of one worker hold: how many in all, and how many each opener.
//!
//! An opener may hold as much as is left over: half of all if it is the only one, a third each of two, and so on. So something is
//! left for whoever comes next, however much the others hold.
//!
//! INVARIANT: no opener's bytes grow beyond what is left over, and all together never beyond the bound.

/// What a worker is bounded by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) pipes_max: usize,
    pub(crate) held_bytes_max: usize,
}

#[derive(Debug)]
pub(crate) struct Budget {
    bytes_max: usize,
    held: usize,
    /// By the number that stands for the opener.
    by_opener: Vec<usize>,
}

/// There is no room for so much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exceeded;

impl Budget {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, held: 0, by_opener: Vec::new() }
    }

    /// A connection of this opener holds `now` bytes, of which `before` are counted already.
    ///
    /// # Errors
    /// That is more than there is room for; then what was counted before is no longer.
    pub(crate) fn change(&mut self, opener: usize, before: usize, now: usize) -> Result<(), Exceeded> {
        if self.by_opener.len() <= opener {
            self.by_opener.resize(opener + 1, 0);
        }
        let Some(of_opener) = self.by_opener.get_mut(opener) else { return Err(Exceeded) };
        *of_opener -= before;
        self.held -= before;
        let (of_opener_now, held_now) = (*of_opener + now, self.held + now);
        if now > before && held_now + of_opener_now > self.bytes_max {
            return Err(Exceeded);
        }
        (*of_opener, self.held) = (of_opener_now, held_now);
        Ok(())
    }

    /// Whether the opener holds less than half of what it may.
    pub(crate) fn is_ample(&self, opener: usize) -> bool {
        let of_opener = self.by_opener.get(opener).copied().unwrap_or_default();
        self.held + 3 * of_opener < self.bytes_max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_opener_holds_half_at_max_and_max_plus_one() {
        let mut budget = Budget::new(100);
        assert_eq!(budget.change(0, 0, 50), Ok(()));
        assert_eq!(budget.change(0, 0, 1), Err(Exceeded));
        assert_eq!(budget.change(0, 10, 0), Ok(()));
        assert_eq!(budget.change(0, 0, 10), Ok(()));
    }

    #[test]
    fn something_is_left_for_whoever_comes_next() {
        let mut budget = Budget::new(96);
        let takes = |budget: &mut Budget, opener| {
            (0..100).take_while(|_| budget.change(opener, 0, 1).is_ok()).count()
        };
        let taken: Vec<_> = (0..5).map(|opener| takes(&mut budget, opener)).collect();
        assert_eq!(taken, [48, 24, 12, 6, 3]);
    }

    #[test]
    fn what_shrinks_is_never_refused_and_what_is_refused_is_not_counted() {
        let mut budget = Budget::new(100);
        for (opener, bytes) in [(0, 50), (1, 25)] {
            assert_eq!(budget.change(opener, 0, bytes), Ok(()));
        }
        assert_eq!(budget.change(0, 50, 49), Ok(()));
        assert_eq!(budget.change(0, 49, 100), Err(Exceeded));
        assert_eq!(budget.held, 25);
    }

    #[test]
    fn half_of_the_share_is_ample() {
        let mut budget = Budget::new(100);
        assert!(budget.is_ample(0));
        assert_eq!(budget.change(0, 0, 24), Ok(()));
        assert!(budget.is_ample(0));
        assert_eq!(budget.change(0, 24, 25), Ok(()));
        assert!(!budget.is_ample(0));
        assert!(budget.is_ample(1));
    }
}
