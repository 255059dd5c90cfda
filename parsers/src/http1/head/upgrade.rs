//! What a request asks to turn its connection into, and how an offer of h2c is cut out of its head.
//!
//! An Upgrade field counts whether or not Connection names it: backends differ in whether they look.

use super::field::Fields;
use core::ops::Range;

/// What the request asks to turn the connection into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Upgrade {
    None,
    /// Only `h2c`: these byte ranges of the head (ascending, disjoint, the unused ones empty and last) must be cut out,
    /// and the request goes on as HTTP/1.1.
    H2c {
        cuts: [Range<usize>; 4],
    },
    /// CONNECT, any other upgrade, or an offer of h2c that is too scattered to be cut out.
    Other,
}

/// Reads the upgrade that `fields` ask for; they begin at `at` of the head.
#[cold]
pub(super) fn read(mut fields: Fields<'_>, mut at: usize) -> Upgrade {
    let mut cuts = Cuts::default();
    while let Some(field) = fields.next_raw() {
        let line = at..at + field.line_len();
        at = line.end;
        let fits = if field.name.eq_ignore_ascii_case(b"upgrade") {
            field.value().eq_ignore_ascii_case(b"h2c") && cuts.add(line)
        } else if field.name.eq_ignore_ascii_case(b"http2-settings") {
            cuts.add(line)
        } else if field.name.eq_ignore_ascii_case(b"connection") {
            cut_options(field.raw, &line, &mut cuts)
        } else {
            true
        };
        if !fits {
            return Upgrade::Other;
        }
    }
    Upgrade::H2c { cuts: cuts.done(at) }
}

/// Cuts the options of an h2c offer out of a list, so that the rest is still one; the whole line where nothing is left.
/// A run of them goes with the comma behind it, at the end of the list with the comma before it.
fn cut_options(raw: &[u8], line: &Range<usize>, cuts: &mut Cuts) -> bool {
    let mut at = line.end - 2 - raw.len();
    let mut run: Option<Range<usize>> = None;
    let mut kept_end = None;
    for element in raw.split(|byte| *byte == b',') {
        let start = at + element.len() - element.trim_ascii_start().len();
        let end = at + element.trim_ascii_end().len();
        at += element.len() + 1;
        if start >= end {
            continue;
        }
        if is_offer(element.trim_ascii()) {
            run = Some(run.map_or(start, |run| run.start)..end);
            continue;
        }
        kept_end = Some(end);
        if let Some(run) = run.take()
            && !cuts.add(run.start..start)
        {
            return false;
        }
    }
    match (run, kept_end) {
        (None, _) => true,
        (Some(_), None) => cuts.add(line.clone()),
        (Some(run), Some(kept_end)) => cuts.add(kept_end..run.end),
    }
}

fn is_offer(option: &[u8]) -> bool {
    option.eq_ignore_ascii_case(b"upgrade") || option.eq_ignore_ascii_case(b"http2-settings")
}

#[derive(Default)]
struct Cuts {
    ranges: [Range<usize>; 4],
    used: usize,
}

impl Cuts {
    /// Answers whether there was room. Ranges come in order; neighbours become one.
    fn add(&mut self, range: Range<usize>) -> bool {
        let last = self.used.checked_sub(1).and_then(|last| self.ranges.get_mut(last));
        if let Some(last) = last
            && last.end == range.start
        {
            last.end = range.end;
            return true;
        }
        let Some(free) = self.ranges.get_mut(self.used) else { return false };
        *free = range;
        self.used += 1;
        true
    }

    fn done(mut self, end: usize) -> [Range<usize>; 4] {
        self.ranges.iter_mut().skip(self.used).for_each(|unused| *unused = end..end);
        self.ranges
    }
}

#[cfg(test)]
mod tests;
