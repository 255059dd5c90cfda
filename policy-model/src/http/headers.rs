//! Which fields a rule about a header looks at, whatever some backend reads.
//!
//! Servers that make variables of field names (CGI, WSGI, PHP and the like) read `X_Role` and `X.Role` as `X-Role`: letters
//! lose their case, and all but letters and digits becomes one character. Others read the exact name only. Where a request
//! has a field in such another spelling of a ruled name, it is judged as either reads it, and both must be allowed.
//!
//! INVARIANT: a field that Connection names is absent for rules: the next hop takes it away. What is allowed without it is allowed
//! with it too, since rules only ask for headers that are there.

use super::Request;
use crate::rule::{HeaderMatch, HttpMatch};
use std::cmp::Ordering;

/// How a backend reads the names of fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Names {
    Exact,
    /// All spellings of a name are one, with their values in the order of the fields.
    Folded,
}

impl Names {
    fn same(self, ruled: &str, name: &[u8]) -> bool {
        match self {
            Self::Exact => name.eq_ignore_ascii_case(ruled.as_bytes()),
            Self::Folded => ruled.len() == name.len() && compare(ruled.as_bytes(), name).is_eq(),
        }
    }
}

/// The header names that some rule asks for.
#[derive(Debug, Default)]
pub(super) struct Ruled {
    /// Sorted as folded.
    names: Box<[Box<str>]>,
    /// A bit for each of their lengths, modulo 64: most fields have another.
    lengths: u64,
}

impl Ruled {
    /// A rule without conditions allows every request, whatever others ask for: no name matters then.
    pub(super) fn new(matches: &[HttpMatch]) -> Self {
        if matches.contains(&HttpMatch::default()) {
            return Self::default();
        }
        let headers = matches.iter().flat_map(|matches| &matches.headers);
        let mut names: Vec<Box<str>> = headers.map(|header| header.name.clone()).collect();
        names.sort_by(|a, b| compare(a.as_bytes(), b.as_bytes()).then_with(|| a.cmp(b)));
        names.dedup();
        let lengths = names.iter().fold(0, |lengths, name| lengths | bit(name.len()));
        Self { names: names.into(), lengths }
    }

    /// Whether the request has a field that reads like a ruled one to some, and not to others.
    pub(super) fn are_disguised(&self, request: &Request<'_>) -> bool {
        if self.names.is_empty() {
            return false;
        }
        let mut found = false;
        request.headers.each(&mut |name, _| found |= self.is_disguise(name));
        found
    }

    /// Whether a rule asks for a header of this name in any spelling, or, where the name is `cut`, of one that begins with it.
    pub(super) fn names(&self, name: &[u8], cut: bool) -> bool {
        let from = self.names.partition_point(|ruled| compare(ruled.as_bytes(), name).is_lt());
        let Some(ruled) = self.names.get(from).map(|ruled| ruled.as_bytes()) else { return false };
        let asked = if cut { ruled.get(..name.len()).unwrap_or_default() } else { ruled };
        compare(asked, name).is_eq()
    }

    fn is_disguise(&self, name: &[u8]) -> bool {
        if self.lengths & bit(name.len()) == 0 {
            return false;
        }
        let from = self.names.partition_point(|ruled| compare(ruled.as_bytes(), name).is_lt());
        let alike = self.names.iter().skip(from).take_while(|ruled| Names::Folded.same(ruled, name));
        alike.into_iter().any(|ruled| !Names::Exact.same(ruled, name))
    }
}

fn bit(length: usize) -> u64 {
    1 << (length % 64)
}

fn compare(a: &[u8], b: &[u8]) -> Ordering {
    a.iter().copied().map(folded).cmp(b.iter().copied().map(folded))
}

fn folded(byte: u8) -> u8 {
    if byte.is_ascii_alphanumeric() { byte.to_ascii_lowercase() } else { b'_' }
}

pub(crate) fn header_holds(header: &HeaderMatch, request: &Request<'_>, names: Names) -> bool {
    joined_equals(header, request, names) && !is_removed(&header.name, request)
}

/// Whether the header is there, and all values of it, joined by `,`, are the wanted one; compared piece by piece, so that nothing
/// is joined.
fn joined_equals(header: &HeaderMatch, request: &Request<'_>, names: Names) -> bool {
    let Some(wanted) = header.value.as_deref().map(str::as_bytes) else {
        let mut present = false;
        request.headers.each(&mut |name, _| present |= names.same(&header.name, name));
        return present;
    };
    let mut left: Option<&[u8]> = None;
    let mut differs = false;
    values(&header.name, request, names, &mut |value| {
        let rest = match left {
            None => Some(wanted),
            Some(rest) => rest.strip_prefix(b","),
        };
        match rest.and_then(|rest| rest.strip_prefix(value)) {
            Some(rest) => left = Some(rest),
            None => differs = true,
        }
    });
    !differs && left.is_some_and(<[u8]>::is_empty)
}

/// Calls `each` with every value of the header, in order.
pub(crate) fn values(ruled: &str, request: &Request<'_>, names: Names, each: &mut dyn FnMut(&[u8])) {
    request.headers.each(&mut |name, value| {
        if names.same(ruled, name) {
            each(value);
        }
    });
}

/// Whether a hop on the way may take the header away, because Connection names it.
pub(crate) fn is_removed(ruled: &str, request: &Request<'_>) -> bool {
    let mut named = false;
    request.headers.connection(&mut |list| {
        let options = list.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
        named |= options.into_iter().any(|option| Names::Folded.same(ruled, option));
    });
    named
}
