//! What matching one request may take, in steps of automata: one byte looked at by one table is one step.
//!
//! INVARIANT: steps are counted, never time: the same request under the same rules has the same verdict everywhere.
//! INVARIANT: who has no steps left finds no match, so what is too costly to judge is denied, by that name.

use std::cell::Cell;

/// The steps of one direction's rules over all readings of one request: 15 - 30 us, as tables lie in the cache or not.
pub const STEPS_MAX: usize = 10 * 1024;

/// To begin with an automaton.
const START_STEPS: usize = 8;

/// The steps that are left.
#[derive(Debug)]
pub struct Effort {
    left: Cell<usize>,
    is_over: Cell<bool>,
}

impl Default for Effort {
    fn default() -> Self {
        Self { left: Cell::new(STEPS_MAX), is_over: Cell::new(false) }
    }
}

impl Effort {
    #[cfg(test)]
    pub(super) fn unlimited() -> Self {
        Self { left: Cell::new(usize::MAX), ..Self::default() }
    }

    /// Takes the steps of looking at so many bytes; `false`: there are not as many left, and from now on there are none.
    pub(super) fn spend(&self, bytes: usize, weight: usize) -> bool {
        let steps = bytes.saturating_mul(weight).saturating_add(START_STEPS);
        match self.left.get().checked_sub(steps) {
            Some(left) => self.left.set(left),
            None => {
                self.left.set(0);
                self.is_over.set(true);
                return false;
            }
        }
        true
    }

    /// Whether something was left out because of what it takes.
    pub(crate) fn is_over(&self) -> bool {
        self.is_over.get()
    }
}
