//! `sluice` as people run it: what it prints, and its exit status.
//!
//! What is printed stands in `tests/golden/`; `UPDATE_EXPECT=1` writes it anew.

#[cfg(test)]
mod asking;
#[cfg(test)]
mod documentation;
#[cfg(test)]
mod fake;
#[cfg(test)]
mod offline;
#[cfg(test)]
mod pages;
#[cfg(test)]
mod run;
#[cfg(test)]
mod statuses;
