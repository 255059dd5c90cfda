//! What came of the attacks, a row each.

use super::victim::Asked;
use crate::pods::Family;
use std::fmt;
use std::time::Duration;

/// One attack on one family.
#[derive(Debug)]
pub struct Row {
    pub attack: &'static str,
    pub bound: &'static str,
    pub family: Family,
    pub attacked: Asked,
    pub baseline: Asked,
}

/// The victim's 99th percentile under attack, as a multiple of that with the same load past Sluice.
const RATIO_MAX: f64 = 2.0;

pub const HEAD: &str = "| attack | family | victim answered | p99 | baseline p99 | ratio | bound | verdict |\n|---|---|---|---|---|---|---|---|";

impl Row {
    pub fn ratio(&self) -> f64 {
        self.attacked.p99().as_secs_f64() / self.baseline.p99().as_secs_f64().max(f64::MIN_POSITIVE)
    }

    pub fn is_fair(&self) -> bool {
        self.attacked.lost.is_empty() && self.ratio() <= RATIO_MAX
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.is_fair() { "fair" } else { "UNFAIR" };
        let (p99, baseline) = (self.attacked.p99(), self.baseline.p99());
        write!(
            f,
            "| {} | {} | {:.2} % of {} ",
            self.attack,
            self.family.name(),
            self.attacked.success(),
            self.attacked.count
        )?;
        write!(f, "| {:.2} ms | {:.2} ms ", milliseconds(p99), milliseconds(baseline))?;
        write!(f, "| {:.2} | {} | {verdict} |", self.ratio(), self.bound)
    }
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}
