//! Every reading of a request target that some backend would take it for. Policy must allow all of them.
//!
//! The normal form has the escapes of unreserved characters decoded (RFC 3986 section 6.2.2.2), so `%2e` is `.`; other
//! escapes stay as they are, letter case included. From there on any of the `STEPS` may have been done by a
//! backend, in any order and any number of times: the readings are the closure of the normal form under them.
//!
//! INVARIANT: the readings of a target's normal form are the readings of the target.
//! INVARIANT: what follows the first `?` stands behind every reading as it was sent.

use alloc::vec::Vec;
use memchr::{memchr, memchr_iter, memrchr};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TargetError {
    /// `%` without two hex digits.
    BrokenEscape,
    /// `%25` before two hex digits: an escaped escape.
    EscapedEscape,
    /// `%00`.
    EscapedNul,
    /// The origin form does not begin with `/`.
    NotAPath,
    /// More readings, or more bytes of them, than are looked at.
    TooManyReadings,
}

/// Scratch space that outlives requests, so that reading a target allocates nothing once it is warm.
#[derive(Debug, Default)]
pub struct Readings {
    /// All readings, one behind the other.
    bytes: Vec<u8>,
    ends: Vec<usize>,
    /// The path that a step is making.
    work: Vec<u8>,
}

impl Readings {
    /// At most this many different readings; one more is [`TargetError::TooManyReadings`].
    pub const READINGS_MAX: usize = 32;

    /// At most this many bytes in all readings but the first, which bounds what judging a hostile target costs.
    pub const BYTES_MAX: usize = 256 * 1024;

    /// Computes all readings of `origin` (path, and `?query` which is kept as sent behind each).
    ///
    /// # Errors
    /// The target is refused with 400; there are no readings then.
    pub fn read(&mut self, origin: &str) -> Result<(), TargetError> {
        self.clear();
        let origin = origin.as_bytes();
        if !origin.starts_with(b"/") {
            return Err(TargetError::NotAPath);
        }
        let path_len = memchr(b'?', origin).unwrap_or(origin.len());
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

    fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    fn read_parts(&mut self, path: &[u8], query: &[u8]) -> Result<(), TargetError> {
        self.work.clear();
        decode_unreserved(path, &mut self.work)?;
        self.add(query)?;
        let mut next = 0;
        while next < self.ends.len() {
            for step in STEPS {
                self.work.clear();
                let path = path_of(&self.bytes, &self.ends, next, query.len());
                if step(path, &mut self.work) {
                    self.add(query)?;
                }
            }
            next += 1;
        }
        Ok(())
    }

    /// Adds the path in `work`, unless it is there already.
    fn add(&mut self, query: &[u8]) -> Result<(), TargetError> {
        let known = |index| path_of(&self.bytes, &self.ends, index, query.len()) == self.work.as_slice();
        if (0..self.ends.len()).any(known) {
            return Ok(());
        }
        let first_len = self.ends.first().copied().unwrap_or(usize::MAX);
        let bytes_after = self.bytes.len() + self.work.len() + query.len();
        if self.ends.len() == Self::READINGS_MAX || bytes_after.saturating_sub(first_len) > Self::BYTES_MAX {
            return Err(TargetError::TooManyReadings);
        }
        self.bytes.extend_from_slice(&self.work);
        self.bytes.extend_from_slice(query);
        self.ends.push(self.bytes.len());
        Ok(())
    }
}

fn path_of<'a>(bytes: &'a [u8], ends: &[usize], index: usize, query_len: usize) -> &'a [u8] {
    let start = index.checked_sub(1).and_then(|before| ends.get(before)).copied().unwrap_or(0);
    let end = ends.get(index).map_or(start, |end| end - query_len);
    bytes.get(start..end).unwrap_or_default()
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
    while let Some(found) = memchr(b'%', rest) {
        let (before, escape) = rest.split_at_checked(found).unwrap_or_default();
        let (escape, after) = escape.split_at_checked(3).ok_or(TargetError::BrokenEscape)?;
        out.extend_from_slice(before);
        match escaped(escape).ok_or(TargetError::BrokenEscape)? {
            0 => return Err(TargetError::EscapedNul),
            byte if is_unreserved(byte) => out.push(byte),
            _ => out.extend_from_slice(escape),
        }
        rest = after;
    }
    out.extend_from_slice(rest);
    // Asked of the normal form: `%25%341` is `%2541`, which a backend that decodes twice takes for `A`.
    if memchr_iter(b'%', out).any(|at| out.get(at..).is_some_and(is_escaped_escape)) {
        return Err(TargetError::EscapedEscape);
    }
    Ok(())
}

fn is_escaped_escape(bytes: &[u8]) -> bool {
    matches!(bytes, [b'%', b'2', b'5', high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit())
}

/// The byte that `%XX` stands for.
fn escaped(escape: &[u8]) -> Option<u8> {
    let [b'%', high, low] = escape else { return None };
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    Some(digit(*high)? * 16 + digit(*low)?)
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// What a backend may do to a path. Each writes the new path and answers `true`, or answers `false` where it changes nothing.
const STEPS: [Step; 6] = [
    decode_slashes,
    decode_backslashes,
    turn_backslashes,
    merge_slashes,
    drop_parameters,
    remove_dot_segments,
];

type Step = fn(&[u8], &mut Vec<u8>) -> bool;

fn decode_slashes(path: &[u8], out: &mut Vec<u8>) -> bool {
    decode(path, b'/', out)
}

fn decode_backslashes(path: &[u8], out: &mut Vec<u8>) -> bool {
    decode(path, b'\\', out)
}

/// Decodes every escape of `wanted`.
fn decode(path: &[u8], wanted: u8, out: &mut Vec<u8>) -> bool {
    let mut copied = 0;
    for at in memchr_iter(b'%', path) {
        if path.get(at..at + 3).and_then(escaped) == Some(wanted) {
            out.extend_from_slice(path.get(copied..at).unwrap_or_default());
            out.push(wanted);
            copied = at + 3;
        }
    }
    out.extend_from_slice(path.get(copied..).unwrap_or_default());
    copied > 0
}

fn turn_backslashes(path: &[u8], out: &mut Vec<u8>) -> bool {
    if memchr(b'\\', path).is_none() {
        return false;
    }
    out.extend(path.iter().map(|byte| if *byte == b'\\' { b'/' } else { *byte }));
    true
}

fn merge_slashes(path: &[u8], out: &mut Vec<u8>) -> bool {
    for byte in path {
        if *byte != b'/' || out.last() != Some(&b'/') {
            out.push(*byte);
        }
    }
    out.len() < path.len()
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
