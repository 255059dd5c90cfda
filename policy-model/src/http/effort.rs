//! What matching one request may take, in steps of automata: one byte looked at by one table is one step.
//!
//! A policy is refused if it takes more than [`WEIGHT_MAX`] of them for a byte of any path, and a request has twice as many for each
//! of its own: what is accepted can be asked about paths of any length. Making many readings takes as long as half of these, so whoever
//! is read in many ways has half.
//!
//! INVARIANT: steps are counted, never time: the same request under the same rules has the same verdict everywhere.
//! INVARIANT: who has no steps left finds no match, so what is too costly to judge is denied, by that name.

use super::Request;
use crate::automata::WEIGHT_MAX;
use crate::rule::HeaderMatch;
use std::cell::Cell;

/// The steps of one direction's rules over all readings of one request, for each byte of the longest of them.
pub const STEPS_PER_BYTE: usize = 2 * WEIGHT_MAX;

/// The same, where there are more readings than are usual.
pub const STEPS_PER_BYTE_OF_MANY: usize = WEIGHT_MAX;

/// Most paths have one reading, and those with one kind of marks in them a second one.
pub const READINGS_USUAL: usize = 2;

/// What a request has at least, whatever its length: as much as one of 1 KiB.
pub const STEPS_MIN: usize = 1024 * STEPS_PER_BYTE;

/// The same, where there are more readings than are usual.
const STEPS_MIN_OF_MANY: usize = 1024 * STEPS_PER_BYTE_OF_MANY;

/// To find the rule that came nearest.
const NEAREST_STEPS_MAX: usize = 2560;

/// To begin with an automaton.
const START_STEPS: usize = 8;

/// To pass a field by, whose name is another.
pub(super) const FIELD_STEPS: usize = 2;
/// So many bytes of a header's value are compared in one step.
pub(super) const VALUE_BYTES_OF_A_STEP: usize = 8;

/// The steps that are left.
#[derive(Debug)]
pub struct Effort {
    per_byte: usize,
    granted: Cell<usize>,
    left: Cell<usize>,
    is_over: Cell<bool>,
    /// What it takes to look at all fields of the request, which are the same for all of its readings.
    fields: Cell<Option<usize>>,
}

/// Of a request with usual readings.
impl Default for Effort {
    fn default() -> Self {
        Self::of_readings(1)
    }
}

impl Effort {
    /// Of a request that can be read in so many ways.
    pub fn of_readings(count: usize) -> Self {
        let (per_byte, least) = match count > READINGS_USUAL {
            true => (STEPS_PER_BYTE_OF_MANY, STEPS_MIN_OF_MANY),
            false => (STEPS_PER_BYTE, STEPS_MIN),
        };
        Self {
            per_byte,
            granted: Cell::new(least),
            left: Cell::new(least),
            is_over: Cell::new(false),
            fields: Cell::new(None),
        }
    }

    #[cfg(test)]
    pub(super) fn unlimited() -> Self {
        Self { granted: Cell::new(usize::MAX), left: Cell::new(usize::MAX), ..Self::default() }
    }

    /// A reading of so many bytes is to be judged: the longest of them says what there is to spend.
    pub(super) fn grant(&self, bytes: usize) {
        let granted = bytes.saturating_mul(self.per_byte);
        let more = granted.saturating_sub(self.granted.get());
        if more > 0 && !self.is_over() {
            self.granted.set(granted);
            self.left.set(self.left.get().saturating_add(more));
        }
    }

    /// A denial says which rule came nearest as far as a few steps lead.
    pub(super) fn limit_to_nearest(&self) {
        self.left.set(self.left.get().min(NEAREST_STEPS_MAX));
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

    /// Takes the steps of looking for a header: past all fields, and along the value that is wanted.
    pub(super) fn spend_on(&self, header: &HeaderMatch, request: &Request<'_>) -> bool {
        let fields = self.fields.get().unwrap_or_else(|| {
            let mut steps = 0;
            request.headers.each(&mut |_, _| steps += FIELD_STEPS);
            request.headers.connection(&mut |list| steps += list.len());
            self.fields.set(Some(steps));
            steps
        });
        let wanted = header.value.as_deref().map_or(0, str::len);
        self.spend(fields + wanted.div_ceil(VALUE_BYTES_OF_A_STEP), 1)
    }

    /// Whether something was left out because of what it takes.
    pub fn is_over(&self) -> bool {
        self.is_over.get()
    }
}
