//! Every reading of a request target that some backend would take it for. Policy must allow all of them.
//!
//! The normal form has the escapes of unreserved characters decoded (RFC 3986 section 6.2.2.2), so `%2e` is `.`; other
//! escapes stay as they are, letter case included. From there on any of the `STEPS` may have been done by a
//! backend, in any order and any number of times: the readings are the closure of the normal form under them.
//!
//! INVARIANT: the readings of a target's normal form are the readings of the target.
//! INVARIANT: what follows the first `?` stands behind every reading as it was sent, unless the reading ends before it.

use alloc::vec::Vec;
use memchr::{memchr, memchr_iter, memmem, memrchr};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TargetError {
    /// `%` without two hex digits.
    BrokenEscape,
    /// `%01` to `%1f`, or `%7f`.
    EscapedControl,
    /// `%25` before two hex digits: an escaped escape.
    EscapedEscape,
    /// `%00`.
    EscapedNul,
    /// The origin form does not begin with `/`.
    NotAPath,
    /// Escaped bytes that decoders which don't check take for a character that has a shorter form: `%c0%ae` for `.`.
    OverlongUtf8,
    /// The path is longer than `path_bytes_max`.
    PathTooLong,
    /// More readings, or more bytes of them, than are looked at.
    TooManyReadings,
}

/// Scratch space that outlives requests, so that reading a target allocates nothing once it is warm.
#[derive(Debug, Default)]
pub struct Readings {
    /// All readings, one behind the other.
    bytes: Vec<u8>,
    ends: Vec<usize>,
    /// The reading that a step is making.
    work: Vec<u8>,
}

impl Readings {
    /// At most this many different readings; one more is [`TargetError::TooManyReadings`].
    pub const READINGS_MAX: usize = 32;

    /// At most this many bytes in all readings but the first, or as many as the first has: that bounds what judging a hostile
    /// target costs.
    pub const BYTES_MAX: usize = 2 * 1024;

    /// Computes all readings of `origin` (path, and `?query` which is kept as sent behind each).
    ///
    /// # Errors
    /// The target is refused with 400, or 414 for its length; there are no readings then.
    pub fn read(&mut self, origin: &str, path_bytes_max: usize) -> Result<(), TargetError> {
        self.clear();
        let origin = origin.as_bytes();
        if !origin.starts_with(b"/") {
            return Err(TargetError::NotAPath);
        }
        let path_len = memchr(b'?', origin).unwrap_or(origin.len());
        if path_len > path_bytes_max {
            return Err(TargetError::PathTooLong);
        }
        let (path, query) = origin.split_at_checked(path_len).unwrap_or_default();
        if is_plain(path) {
            self.bytes.extend_from_slice(origin);
            self.ends.push(origin.len());
            return Ok(());
        }
        let outcome = self.read_parts(path, query);
        if outcome.is_err() {
            self.clear();
        }
        outcome
    }

    /// The readings, the normal form first, without duplicates. Where the target is already in its only form, that is the one.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let starts = core::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| self.bytes.get(start..*end).unwrap_or_default())
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.ends.len()
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    fn read_parts(&mut self, path: &[u8], query: &[u8]) -> Result<(), TargetError> {
        self.work.clear();
        decode_unreserved(path, &mut self.work)?;
        self.work.extend_from_slice(query);
        self.add()?;
        let mut next = 0;
        while next < self.ends.len() {
            for (step, behind) in STEPS {
                self.work.clear();
                let (path, query) = parts(reading(&self.bytes, &self.ends, next));
                if step(path, &mut self.work) {
                    self.work.extend_from_slice(match behind {
                        Behind::Nothing => &[],
                        Behind::Query => query,
                    });
                    self.add()?;
                }
            }
            next += 1;
        }
        Ok(())
    }

    /// Adds what is in `work`, unless it is there already.
    fn add(&mut self) -> Result<(), TargetError> {
        let known = |index| reading(&self.bytes, &self.ends, index) == self.work.as_slice();
        if (0..self.ends.len()).any(known) {
            return Ok(());
        }
        let first_len = self.ends.first().copied().unwrap_or(usize::MAX);
        let others_after = (self.bytes.len() + self.work.len()).saturating_sub(first_len);
        if self.ends.len() == Self::READINGS_MAX || others_after > Self::BYTES_MAX.max(first_len) {
            return Err(TargetError::TooManyReadings);
        }
        self.bytes.extend_from_slice(&self.work);
        self.ends.push(self.bytes.len());
        Ok(())
    }
}

fn reading<'a>(bytes: &'a [u8], ends: &[usize], index: usize) -> &'a [u8] {
    let start = index.checked_sub(1).and_then(|before| ends.get(before)).copied().unwrap_or(0);
    ends.get(index).and_then(|end| bytes.get(start..*end)).unwrap_or_default()
}

/// The path, and all from the first `?` on.
fn parts(reading: &[u8]) -> (&[u8], &[u8]) {
    let path_len = memchr(b'?', reading).unwrap_or(reading.len());
    reading.split_at_checked(path_len).unwrap_or_default()
}

/// Whether the path has one form only, as most do. Two passes without a branch on the bytes, which vectorise.
fn is_plain(path: &[u8]) -> bool {
    let marks = path.iter().fold(false, |any, byte| any | matches!(byte, b'%' | b';' | b'\\'));
    let pairs = path.iter().zip(path.get(1..).unwrap_or_default());
    let doubles =
        pairs.fold(false, |any, (one, next)| any | ((*one == b'/') & ((*next == b'/') | (*next == b'.'))));
    !marks && !doubles
}

/// Writes the normal form of a path.
fn decode_unreserved(path: &[u8], out: &mut Vec<u8>) -> Result<(), TargetError> {
    let mut rest = path;
    while let Some(found) = if rest.starts_with(b"%") { Some(0) } else { memchr(b'%', rest) } {
        let (before, escape) = rest.split_at_checked(found).unwrap_or_default();
        let (escape, after) = escape.split_at_checked(3).ok_or(TargetError::BrokenEscape)?;
        out.extend_from_slice(before);
        match escaped(escape).ok_or(TargetError::BrokenEscape)? {
            0 => return Err(TargetError::EscapedNul),
            byte if byte.is_ascii_control() => return Err(TargetError::EscapedControl),
            byte if is_unreserved(byte) => out.push(byte),
            _ => out.extend_from_slice(escape),
        }
        rest = after;
    }
    out.extend_from_slice(rest);
    // Asked of the normal form: `%25%341` is `%2541`, which a backend that decodes twice takes for `A`.
    if has_escaped(out, b'%') && memchr_iter(b'%', out).any(|at| out.get(at..).is_some_and(is_escaped_escape))
    {
        return Err(TargetError::EscapedEscape);
    }
    if has_high_lead(out) && memchr_iter(b'%', out).any(|at| out.get(at..).is_some_and(is_overlong)) {
        return Err(TargetError::OverlongUtf8);
    }
    Ok(())
}

/// Whether any escape may be of `0xc0` or more.
fn has_high_lead(path: &[u8]) -> bool {
    let pairs = path.iter().zip(path.get(1..).unwrap_or_default());
    pairs.fold(false, |any, (mark, one)| any | ((*mark == b'%') & matches!(one | 0x20, b'c'..=b'f')))
}

/// Whether the escape that `bytes` begin with begins an overlong form: one of more bytes than the character needs, as UTF-8
/// forbids. Decoders that don't check the first byte of two take any second one (`%c0%2e`, `%c1%1c`), and so on.
fn is_overlong(bytes: &[u8]) -> bool {
    let mut bytes = Decoded(bytes);
    let Some(lead) = bytes.next().filter(|lead| *lead >= 0xc0) else { return false };
    let length = lead.leading_ones();
    if length == 2 {
        return lead <= 0xc1;
    }
    // Its own bits, of which forms of seven bytes and more have none.
    let bits = lead.checked_shl(length + 1).unwrap_or(0);
    let Some(second) = bytes.next().filter(|_second| bits == 0) else { return false };
    if second & 0xc0 == 0x80 && u32::from(second & 0x3f) < 1 << 8_u32.saturating_sub(length) {
        return true;
    }
    let behind = bytes.take(usize::try_from(length).unwrap_or(0) - 2);
    let (count, value) = behind.fold((2, u64::from(second & 0x3f)), |(count, value), byte| {
        (count + 1, value << 6 | u64::from(byte & 0x3f))
    });
    count == length && value < 0x80
}

/// The bytes of a path, escapes decoded.
struct Decoded<'a>(&'a [u8]);

impl Iterator for Decoded<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        match self.0.get(..3).and_then(escaped) {
            Some(byte) => {
                self.0 = rest.get(2..).unwrap_or_default();
                Some(byte)
            }
            None => {
                self.0 = rest;
                Some(*first)
            }
        }
    }
}

fn is_escaped_escape(bytes: &[u8]) -> bool {
    matches!(bytes, [b'%', b'2', b'5', high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit())
}

/// The byte that `%XX` stands for.
fn escaped(escape: &[u8]) -> Option<u8> {
    let [b'%', high, low] = escape else { return None };
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    Some(digit(*high)? << 4 | digit(*low)?)
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// What a backend may do to a path. Each writes the new path and answers `true`, or answers `false` where it changes nothing.
type Step = fn(&[u8], &mut Vec<u8>) -> bool;

/// What stands behind the path that a step has made.
#[derive(Clone, Copy)]
enum Behind {
    /// Who decodes the whole target and then cuts it loses the query too.
    Nothing,
    Query,
}

const STEPS: [(Step, Behind); 16] = [
    (decode_slashes, Behind::Query),
    (decode_backslashes, Behind::Query),
    (decode_semicolons, Behind::Query),
    (turn_backslashes, Behind::Query),
    (merge_slashes, Behind::Query),
    (drop_authority, Behind::Query),
    (drop_parameters, Behind::Query),
    (drop_spaces_behind_dots, Behind::Query),
    (remove_dot_segments, Behind::Query),
    (decode_question_mark, Behind::Query),
    (cut_at_question_mark, Behind::Query),
    (cut_at_hash, Behind::Query),
    (cut_at_hash, Behind::Nothing),
    (cut_at_space, Behind::Query),
    (cut_at_space, Behind::Nothing),
    (cut_at_semicolon, Behind::Query),
];

fn decode_slashes(path: &[u8], out: &mut Vec<u8>) -> bool {
    decode(path, b'/', out)
}

fn decode_backslashes(path: &[u8], out: &mut Vec<u8>) -> bool {
    decode(path, b'\\', out)
}

fn decode_semicolons(path: &[u8], out: &mut Vec<u8>) -> bool {
    decode(path, b';', out)
}

/// All behind the first one is the query then.
fn decode_question_mark(path: &[u8], out: &mut Vec<u8>) -> bool {
    let Some(at) = find_escaped(path, b'?') else { return false };
    out.extend_from_slice(path.get(..at).unwrap_or_default());
    out.push(b'?');
    out.extend_from_slice(path.get(at + 3..).unwrap_or_default());
    true
}

fn cut_at_question_mark(path: &[u8], out: &mut Vec<u8>) -> bool {
    cut(path, find_escaped(path, b'?'), out)
}

fn cut_at_hash(path: &[u8], out: &mut Vec<u8>) -> bool {
    cut(path, find_escaped(path, b'#'), out)
}

/// Spaces are usual in names of files, and hide nothing where no dot segment takes back what stands before them.
fn cut_at_space(path: &[u8], out: &mut Vec<u8>) -> bool {
    let at = find_escaped(path, b' ');
    at.is_some() && has_dot_segments(path) && cut(path, at, out)
}

fn cut_at_semicolon(path: &[u8], out: &mut Vec<u8>) -> bool {
    let at = memchr(b';', path);
    at.is_some() && has_dot_segments(path) && cut(path, at, out)
}

fn cut(path: &[u8], at: Option<usize>, out: &mut Vec<u8>) -> bool {
    let Some(kept) = at.and_then(|at| path.get(..at)) else { return false };
    out.extend_from_slice(kept);
    true
}

/// Segments of dots, and those that are once they are cut.
fn has_dot_segments(path: &[u8]) -> bool {
    dotted(path).any(|behind| {
        behind.is_empty() || [b"/".as_slice(), b";", SPACE].iter().any(|end| behind.starts_with(end))
    })
}

/// What stands behind each one or two dots that begin a segment.
fn dotted(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let starts = memmem::find_iter(path, b"/.").filter_map(|slash| path.get(slash + 1..));
    let behind = |rest: &'_ [u8]| (1..=2).contains(&dots_len(rest)).then(|| dots_len(rest));
    starts.filter_map(move |rest| rest.get(behind(rest)?..))
}

fn dots_len(segment: &[u8]) -> usize {
    segment.iter().take_while(|byte| **byte == b'.').count()
}

const SPACE: &[u8] = b"%20";

/// Windows does.
fn drop_spaces_behind_dots(path: &[u8], out: &mut Vec<u8>) -> bool {
    if !has_escaped(path, b' ') || !dotted(path).any(|behind| behind.starts_with(SPACE)) {
        return false;
    }
    for (index, segment) in path.split(|byte| *byte == b'/').enumerate() {
        if index > 0 {
            out.push(b'/');
        }
        let (dots, behind) = segment.split_at_checked(dots_len(segment)).unwrap_or_default();
        let is_dots = matches!(dots.len(), 1 | 2) && behind.chunks(SPACE.len()).all(|chunk| chunk == SPACE);
        out.extend_from_slice(if is_dots { dots } else { segment });
    }
    out.len() < path.len()
}

/// Without a branch on the bytes, which vectorises.
fn has_pair(path: &[u8], first: u8, second: u8) -> bool {
    let pairs = path.iter().zip(path.get(1..).unwrap_or_default());
    pairs.fold(false, |any, (one, next)| any | ((*one == first) & (*next == second)))
}

/// So many bytes are asked at once for an escape.
const STRETCH: usize = 64;

/// Whether a byte may be there as an escape: whoever finds it looks closer. Without a branch on the bytes, which vectorises, as
/// paths may consist of escapes.
fn has_escaped(path: &[u8], wanted: u8) -> bool {
    let digit = |value: u8| if value < 10 { b'0' + value } else { b'a' - 10 + value };
    let (high, low) = (digit(wanted >> 4), digit(wanted & 0xf));
    // The bit tells letters' case; the first digit of those that are asked for is none.
    let escapes = path.iter().zip(path.get(1..).unwrap_or_default()).zip(path.get(2..).unwrap_or_default());
    escapes
        .fold(false, |any, ((mark, one), two)| any | ((*mark == b'%') & (*one == high) & (two | 0x20 == low)))
}

fn find_escaped(path: &[u8], wanted: u8) -> Option<usize> {
    let is_wanted = |escape: &[u8]| escaped(escape) == Some(wanted);
    let starts = (0..path.len()).step_by(STRETCH);
    starts.into_iter().find_map(|start| {
        let rest = path.get(start..)?;
        let stretch = rest.get(..STRETCH + 2).unwrap_or(rest);
        let found = || stretch.windows(3).position(is_wanted);
        has_escaped(stretch, wanted).then(found).flatten().map(|at| start + at)
    })
}

/// Decodes every escape of `wanted`.
fn decode(path: &[u8], wanted: u8, out: &mut Vec<u8>) -> bool {
    if !has_escaped(path, wanted) {
        return false;
    }
    let mut rest = path;
    while let Some((first, behind)) = rest.split_first() {
        let is_wanted = *first == b'%' && rest.get(..3).and_then(escaped) == Some(wanted);
        out.push(if is_wanted { wanted } else { *first });
        rest = if is_wanted { behind.get(2..).unwrap_or_default() } else { behind };
    }
    true
}

fn turn_backslashes(path: &[u8], out: &mut Vec<u8>) -> bool {
    if memchr(b'\\', path).is_none() {
        return false;
    }
    out.extend(path.iter().map(|byte| if *byte == b'\\' { b'/' } else { *byte }));
    true
}

fn merge_slashes(path: &[u8], out: &mut Vec<u8>) -> bool {
    if !has_pair(path, b'/', b'/') {
        return false;
    }
    for byte in path {
        if *byte != b'/' || out.last() != Some(&b'/') {
            out.push(*byte);
        }
    }
    out.len() < path.len()
}

/// Whoever parses the target as a URI reference takes `//host/path` for a path on another host (RFC 3986 section 4.2).
fn drop_authority(path: &[u8], out: &mut Vec<u8>) -> bool {
    let Some(authority) = path.strip_prefix(b"//") else { return false };
    let behind = memchr(b'/', authority).and_then(|at| authority.get(at..));
    out.extend_from_slice(behind.unwrap_or(b"/"));
    true
}

fn drop_parameters(path: &[u8], out: &mut Vec<u8>) -> bool {
    let mut rest = path;
    while let Some(semicolon) = memchr(b';', rest) {
        let (before, parameters) = rest.split_at_checked(semicolon).unwrap_or_default();
        out.extend_from_slice(before);
        rest = memchr(b'/', parameters).and_then(|slash| parameters.get(slash..)).unwrap_or_default();
    }
    out.extend_from_slice(rest);
    out.len() < path.len()
}

/// RFC 3986 section 5.2.4. Empty segments count, so that `/a//../b` is `/a/b` here, and `/b` once slashes are merged.
fn remove_dot_segments(path: &[u8], out: &mut Vec<u8>) -> bool {
    if !has_pair(path, b'/', b'.') {
        return false;
    }
    let mut segments = path.split(|byte| *byte == b'/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        match segment {
            b"." => {}
            b".." => out.truncate(memrchr(b'/', out).unwrap_or(0)),
            _ => {
                out.push(b'/');
                out.extend_from_slice(segment);
                continue;
            }
        }
        if is_last {
            out.push(b'/');
        }
    }
    out.len() < path.len()
}

#[cfg(test)]
mod tests;
