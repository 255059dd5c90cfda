//! Field lines: the one place that says what a field is.

use super::error::HeadError;
use crate::http1::syntax::{text_len, token_len, trim};
use memchr::memchr;

/// A header field as sent; optional whitespace around the value is not part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    pub name: &'a str,
    pub value: &'a [u8],
}

/// The fields of a head, in order.
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    rest: &'a [u8],
}

/// How far the field lines at the start of some bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Section<'a> {
    /// All of them, and what follows the empty line.
    Complete { lines: &'a [u8], after: &'a [u8] },
    /// The input ends inside a line, or before the next.
    Unfinished,
}

/// A field line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RawField<'a> {
    pub(super) name: &'a [u8],
    /// All between the colon and CRLF.
    pub(super) raw: &'a [u8],
}

impl<'a> RawField<'a> {
    /// Bytes of the line, with CRLF.
    pub(super) fn line_len(&self) -> usize {
        self.name.len() + self.raw.len() + ":\r\n".len()
    }

    pub(super) fn value(&self) -> &'a [u8] {
        trim(self.raw)
    }

    /// The value where only spaces before it surround it: what is stripped of the fields that frame a message is
    /// where parsers differ (`chunked\t`, `\x0bchunked`).
    pub(super) fn strict_value(&self) -> &'a [u8] {
        let mut value = self.raw;
        while let [b' ', rest @ ..] = value {
            value = rest;
        }
        value
    }
}

/// Reads field lines up to the empty one, and shows each to `each`.
pub(super) fn read_section<'a>(
    bytes: &'a [u8],
    fields_max: usize,
    mut each: impl FnMut(RawField<'a>) -> Result<(), HeadError>,
) -> Result<Section<'a>, HeadError> {
    let mut line = bytes;
    let mut fields = 0;
    loop {
        let (name, rest) = line.split_at_checked(token_len(line)).unwrap_or_default();
        let [b':', rest @ ..] = rest else {
            return without_colon(bytes, name, rest);
        };
        let (raw, rest) = rest.split_at_checked(text_len(rest)).unwrap_or_default();
        let [b'\r', b'\n', next @ ..] = rest else {
            return without_end(name, rest);
        };
        if name.is_empty() {
            return Err(HeadError::EmptyFieldName);
        }
        fields += 1;
        if fields > fields_max {
            return Err(HeadError::TooManyFields);
        }
        each(RawField { name, raw })?;
        line = next;
    }
}

/// The empty line, or what is wrong with a line of `section` whose name ends without a colon.
#[cold]
fn without_colon<'a>(section: &'a [u8], name: &[u8], rest: &'a [u8]) -> Result<Section<'a>, HeadError> {
    match rest {
        [b'\r', b'\n', after @ ..] if name.is_empty() => {
            let lines_len = section.len() - rest.len();
            Ok(Section::Complete { lines: section.get(..lines_len).unwrap_or_default(), after })
        }
        [] | [b'\r'] => Ok(Section::Unfinished),
        [b'\r', b'\n', ..] => Err(HeadError::MissingColon),
        [b'\r', ..] => Err(HeadError::BareCr),
        [b'\n', ..] => Err(HeadError::BareLf),
        [b' ' | b'\t', ..] if name.is_empty() => Err(HeadError::ObsFold),
        [b' ' | b'\t', ..] if trim(rest).starts_with(b":") => Err(HeadError::SpaceBeforeColon),
        _ => Err(HeadError::BadFieldName),
    }
}

/// What is wrong with a line whose value does not end with CRLF.
#[cold]
fn without_end<'a>(name: &[u8], rest: &[u8]) -> Result<Section<'a>, HeadError> {
    match rest {
        [] | [b'\r'] => Ok(Section::Unfinished),
        _ if name.is_empty() => Err(HeadError::EmptyFieldName),
        [b'\r', ..] => Err(HeadError::BareCr),
        [b'\n', ..] => Err(HeadError::BareLf),
        _ => Err(HeadError::BadFieldValue),
    }
}

impl<'a> Fields<'a> {
    /// `lines`: whole field lines that were read once.
    pub(super) fn new(lines: &'a [u8]) -> Self {
        Self { rest: lines }
    }

    pub(super) fn next_raw(&mut self) -> Option<RawField<'a>> {
        let line = self.next_line()?;
        let (name, value) = line.split_at_checked(memchr(b':', line)?)?;
        Some(RawField { name, raw: value.get(1..)? })
    }

    /// The values of the fields called `name`.
    pub(super) fn values(mut self, name: &[u8]) -> impl Iterator<Item = &'a [u8]> {
        core::iter::from_fn(move || {
            while let Some(line) = self.next_line() {
                if let Some((found, [b':', value @ ..])) = line.split_at_checked(name.len())
                    && found.eq_ignore_ascii_case(name)
                {
                    return Some(trim(value));
                }
            }
            None
        })
    }

    /// Takes a line, and gives it without CRLF.
    fn next_line(&mut self) -> Option<&'a [u8]> {
        let (line, after) = self.rest.split_at_checked(memchr(b'\r', self.rest)?)?;
        self.rest = after.get(2..)?;
        Some(line)
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Field<'a>;

    fn next(&mut self) -> Option<Field<'a>> {
        let field = self.next_raw()?;
        // INVARIANT: a token is ASCII.
        let name = str::from_utf8(field.name).unwrap_or_default();
        Some(Field { name, value: field.value() })
    }
}
