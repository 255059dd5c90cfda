//! Where a message body ends: by length, by chunks, or with the connection. Bytes are only counted, never kept.
//!
//! ```text
//!   Size ──;──► Extension ──CR──► SizeLf ──► Data ──► DataCr ──► DataLf ──► Size ...
//!    └────────────CR───────────────┘ └─ 0 ─► LineStart ──► Name ──:──► Value ──CR──► ValueLf ──► LineStart ...
//!                                             └──────CR─────► EndLf ──► Done
//! ```
//!
//! Chunk extensions (RFC 9112 section 7.1.1): a reader that lets a quoted string run over CRLF would find a request inside
//! of an allowed body, where the quote is not closed on its line.
//!
//! INVARIANT: the state moves byte by byte, so the outcome does not depend on how the body was split.

use super::limits::Limits;
use super::syntax::{folded, is_text, is_token};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyLength {
    Chunked,
    Length(u64),
    /// No body: the message ends with its head.
    None,
    /// Until the peer closes (responses only).
    UntilClose,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BodyError {
    /// A chunk's data is not followed by CRLF.
    BadChunkEnd,
    /// What follows the `;` of a chunk-size line is not a list of names, each with a token or a closed quoted string as its value.
    BadChunkExtension,
    /// A chunk size is not 1 to 16 hexadecimal digits within 63 bits, or its line holds a CR without LF.
    BadChunkSize,
    /// A trailer field is malformed, by the rules of header fields.
    BadTrailer,
    /// A line of the framing ends without CR.
    BareLf,
    /// A chunk-size line is longer than `chunk_line_bytes_max`.
    ChunkLineTooLong,
    /// A trailer field that would frame or route the message, take up an upgrade, or be taken for a header that rules ask for,
    /// where a backend merges it into the head.
    ForbiddenTrailer,
    /// The peer closed before the body was complete.
    Truncated,
    /// The trailer section is larger than `trailer_bytes_max`.
    TrailerTooLarge,
    /// More trailer fields than `fields_max`.
    TooManyTrailers,
}

/// A body under way. A few words of state, whatever the body's size.
#[derive(Clone, Copy, Debug)]
pub struct Body {
    state: State,
    of: Of,
    /// Of the chunk-size line, or of the trailer section.
    framing_bytes: usize,
    trailers: usize,
    name: Name,
}

/// Which message a body belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Of {
    Request,
    Response,
}

/// How far a piece of input went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advance {
    /// Bytes of the input that belong to this body.
    pub taken: usize,
    /// The body is complete.
    pub done: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Bytes left of the chunk.
    Data(u64),
    Done,
    Framing(Framing),
    /// Bytes left of the body.
    Length(u64),
    UntilClose,
}

/// Between the data: what the next byte belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    DataCr,
    DataLf,
    EndLf,
    Extension { size: u64, part: Extension },
    LineStart,
    Name,
    Size { size: u64, digits: u8 },
    SizeLf { size: u64 },
    Value,
    ValueLf,
}

/// What of the extensions the next byte belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extension {
    /// Of a response: printable bytes of any kind.
    Any,
    /// Behind `;`: no byte of the name yet.
    BeforeName,
    /// Behind `=`: no byte of the value yet.
    BeforeValue,
    /// The whitespace that follows a name.
    BehindName,
    /// The whitespace that follows a value.
    BehindValue,
    /// Behind the quote that ends a value.
    Closed,
    /// Behind the backslash of a quoted pair.
    Escaped,
    Name,
    Quoted,
    Token,
}

const CHUNK_START: State = State::Framing(Framing::Size { size: 0, digits: 0 });

/// Sixteen digits are 64 bits.
const SIZE_DIGITS_MAX: u8 = 16;

impl Body {
    /// The body of a request.
    pub fn new(length: BodyLength) -> Self {
        Self::of(Of::Request, length)
    }

    /// The body of a response. Its chunk extensions may be any printable bytes: it is the server's own client that reads them,
    /// and nobody is judged by what comes of it.
    pub fn of_response(length: BodyLength) -> Self {
        Self::of(Of::Response, length)
    }

    fn of(of: Of, length: BodyLength) -> Self {
        let state = match length {
            BodyLength::Chunked => CHUNK_START,
            BodyLength::None | BodyLength::Length(0) => State::Done,
            BodyLength::Length(bytes) => State::Length(bytes),
            BodyLength::UntilClose => State::UntilClose,
        };
        Self { state, of, framing_bytes: 0, trailers: 0, name: Name::EMPTY }
    }

    /// Follows `input`. Takes all of it, or up to the body's end.
    ///
    /// # Errors
    /// The chunking is malformed.
    pub fn advance(&mut self, input: &[u8], limits: &Limits) -> Result<Advance, BodyError> {
        self.advance_without(input, limits, &|_name, _rest| false)
    }

    /// As [`Self::advance`], and refuses trailers of which `ruled` says so, beside those that are always refused. It is asked
    /// with a name as most lenient backends read it (small letters, `-` for all that is neither letter nor digit): the whole of
    /// it, or the first [`NAME_BYTES`] bytes of a longer one.
    ///
    /// # Errors
    /// The chunking is malformed, or a trailer is refused ([`BodyError::ForbiddenTrailer`]).
    pub fn advance_without(
        &mut self,
        input: &[u8],
        limits: &Limits,
        ruled: &dyn Fn(&[u8], NameEnd) -> bool,
    ) -> Result<Advance, BodyError> {
        let mut rest = input;
        while let Some(byte) = rest.first() {
            let taken = match self.state {
                State::Data(_) | State::Length(_) | State::UntilClose => self.pass(rest.len()),
                State::Done => break,
                State::Framing(framing) => {
                    self.state = self.next(framing, *byte, limits, ruled)?;
                    1
                }
            };
            rest = rest.get(taken..).unwrap_or_default();
        }
        Ok(Advance { taken: input.len() - rest.len(), done: self.is_done() })
    }

    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// The peer ended its side: complete where the body runs until close.
    ///
    /// # Errors
    /// [`BodyError::Truncated`].
    pub fn end(&mut self) -> Result<(), BodyError> {
        match self.state {
            State::Done | State::UntilClose => {
                self.state = State::Done;
                Ok(())
            }
            State::Data(_) | State::Framing(_) | State::Length(_) => Err(BodyError::Truncated),
        }
    }

    /// Bytes that may be moved without being looked at; `u64::MAX` until close.
    pub fn unseen(&self) -> u64 {
        match self.state {
            State::Data(left) | State::Length(left) => left,
            State::Done | State::Framing(_) => 0,
            State::UntilClose => u64::MAX,
        }
    }

    /// `advance` over `n <= unseen()` bytes that were moved unseen.
    pub fn skip(&mut self, n: u64) {
        debug_assert!(n <= self.unseen(), "more bytes were moved than may be");
        match &mut self.state {
            State::Data(left) if *left <= n => self.state = State::Framing(Framing::DataCr),
            State::Length(left) if *left <= n => self.state = State::Done,
            State::Data(left) | State::Length(left) => *left -= n,
            State::Done | State::Framing(_) | State::UntilClose => {}
        }
    }

    /// Lets as much data pass as there is, of `bytes`. Answers how much that is.
    fn pass(&mut self, bytes: usize) -> usize {
        let taken = usize::try_from(self.unseen()).unwrap_or(usize::MAX).min(bytes);
        self.skip(u64::try_from(taken).unwrap_or(u64::MAX));
        taken
    }

    /// The state behind a byte of the framing.
    fn next(
        &mut self,
        framing: Framing,
        byte: u8,
        limits: &Limits,
        ruled: &dyn Fn(&[u8], NameEnd) -> bool,
    ) -> Result<State, BodyError> {
        match (framing, byte) {
            (Framing::Extension { .. } | Framing::Size { .. } | Framing::SizeLf { .. }, _) => {
                self.size_line(framing, byte, limits)
            }
            (Framing::DataCr, b'\r') => Ok(State::Framing(Framing::DataLf)),
            (Framing::DataCr, b'\n') => Err(BodyError::BareLf),
            (Framing::DataLf, b'\n') => Ok(CHUNK_START),
            (Framing::DataCr | Framing::DataLf, _) => Err(BodyError::BadChunkEnd),
            (Framing::EndLf | Framing::LineStart | Framing::Name | Framing::Value | Framing::ValueLf, _) => {
                self.trailer(framing, byte, limits, ruled)
            }
        }
    }

    fn size_line(&mut self, framing: Framing, byte: u8, limits: &Limits) -> Result<State, BodyError> {
        if byte != b'\r' && byte != b'\n' {
            self.framing_bytes += 1;
            if self.framing_bytes > limits.chunk_line_bytes_max {
                return Err(BodyError::ChunkLineTooLong);
            }
        }
        Ok(State::Framing(match (framing, byte) {
            (Framing::SizeLf { size }, b'\n') => {
                self.framing_bytes = 0;
                if size > 0 {
                    return Ok(State::Data(size));
                }
                Framing::LineStart
            }
            (Framing::Size { .. } | Framing::Extension { .. }, b'\n') => return Err(BodyError::BareLf),
            (Framing::Size { size, digits: 1.. }, b'\r') => Framing::SizeLf { size },
            (Framing::Size { size, digits: 1.. }, b';') => {
                Framing::Extension { size, part: self.extensions() }
            }
            (Framing::Size { size, digits: digits @ 0..SIZE_DIGITS_MAX }, _) => {
                Framing::Size { size: with_digit(size, byte)?, digits: digits + 1 }
            }
            (Framing::Extension { size, part }, b'\r') if part.may_end() => Framing::SizeLf { size },
            (Framing::Extension { size, part }, _) => Framing::Extension { size, part: part.next(byte)? },
            _ => return Err(BodyError::BadChunkSize),
        }))
    }

    fn extensions(&self) -> Extension {
        match self.of {
            Of::Request => Extension::BeforeName,
            Of::Response => Extension::Any,
        }
    }

    fn trailer(
        &mut self,
        framing: Framing,
        byte: u8,
        limits: &Limits,
        ruled: &dyn Fn(&[u8], NameEnd) -> bool,
    ) -> Result<State, BodyError> {
        self.framing_bytes += 1;
        if self.framing_bytes > limits.trailer_bytes_max {
            return Err(BodyError::TrailerTooLarge);
        }
        Ok(State::Framing(match (framing, byte) {
            (Framing::EndLf, b'\n') => return Ok(State::Done),
            (Framing::LineStart, b'\r') => Framing::EndLf,
            (Framing::ValueLf, b'\n') => Framing::LineStart,
            (Framing::LineStart | Framing::Name | Framing::Value, b'\n') => return Err(BodyError::BareLf),
            (Framing::LineStart, _) if is_token(byte) => {
                self.trailers += 1;
                if self.trailers > limits.fields_max {
                    return Err(BodyError::TooManyTrailers);
                }
                self.name = Name::EMPTY;
                self.name.push(byte);
                Framing::Name
            }
            (Framing::Name, b':') if self.name.is_forbidden(ruled) => {
                return Err(BodyError::ForbiddenTrailer);
            }
            (Framing::Name, b':') => Framing::Value,
            (Framing::Name, _) if is_token(byte) => {
                self.name.push(byte);
                Framing::Name
            }
            (Framing::Value, b'\r') => Framing::ValueLf,
            (Framing::Value, _) if is_text(byte) => Framing::Value,
            _ => return Err(BodyError::BadTrailer),
        }))
    }
}

impl Extension {
    /// `chunk-ext = *( BWS ";" BWS chunk-ext-name [ BWS "=" BWS chunk-ext-val ] )`, without bytes beyond ASCII. No byte is
    /// taken for anything but what the grammar has at its place: `CR` ends the line in a quoted string too.
    fn next(self, byte: u8) -> Result<Self, BodyError> {
        Ok(match (self, byte) {
            (Self::Any, b'\t' | b' '..=b'~') => Self::Any,
            (Self::BeforeName | Self::BeforeValue, b'\t' | b' ') => self,
            (Self::BeforeName | Self::Name, _) if is_token(byte) => Self::Name,
            (Self::BeforeValue | Self::Token, _) if is_token(byte) => Self::Token,
            (Self::BeforeValue, b'"') => Self::Quoted,
            (Self::Name | Self::BehindName, b'\t' | b' ') => Self::BehindName,
            (Self::Name | Self::BehindName, b'=') => Self::BeforeValue,
            (Self::Name | Self::BehindName | Self::Token | Self::Closed | Self::BehindValue, b';') => {
                Self::BeforeName
            }
            (Self::Token | Self::Closed | Self::BehindValue, b'\t' | b' ') => Self::BehindValue,
            (Self::Quoted, b'"') => Self::Closed,
            (Self::Quoted, b'\\') => Self::Escaped,
            (Self::Quoted | Self::Escaped, b'\t' | b' '..=b'~') => Self::Quoted,
            _ => return Err(BodyError::BadChunkExtension),
        })
    }

    /// Whether the line may end here: whitespace is part of the grammar only where something follows it.
    fn may_end(self) -> bool {
        matches!(self, Self::Any | Self::Closed | Self::Name | Self::Token)
    }
}

/// The size with one more digit, within what a signed 64-bit number holds: backends that count in those would see less.
fn with_digit(size: u64, byte: u8) -> Result<u64, BodyError> {
    let digit = char::from(byte).to_digit(16).ok_or(BodyError::BadChunkSize)?;
    size.checked_mul(16)
        .and_then(|size| size.checked_add(u64::from(digit)))
        .filter(|size| *size <= i64::MAX.unsigned_abs())
        .ok_or(BodyError::BadChunkSize)
}

/// The start of a trailer's name, as the most lenient backend would read it.
#[derive(Clone, Copy, Debug)]
struct Name {
    start: [u8; NAME_BYTES],
    len: usize,
}

/// What is kept of a trailer's name.
pub const NAME_BYTES: usize = 64;

/// Whether a name is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameEnd {
    /// More of it may follow: it is longer than what is kept.
    Cut,
    Here,
}

const FORBIDDEN: [&[u8]; 9] = [
    b"connection",
    b"content-length",
    b"expect",
    b"host",
    b"http2-settings",
    b"te",
    b"trailer",
    b"transfer-encoding",
    b"upgrade",
];

impl Name {
    const EMPTY: Self = Self { start: [0; NAME_BYTES], len: 0 };

    fn push(&mut self, byte: u8) {
        if let Some(place) = self.start.get_mut(self.len) {
            *place = folded(byte);
        }
        self.len = self.len.saturating_add(1);
    }

    fn is_forbidden(&self, ruled: &dyn Fn(&[u8], NameEnd) -> bool) -> bool {
        let (name, end) = match self.start.get(..self.len) {
            Some(name) => (name, NameEnd::Here),
            None => (self.start.as_slice(), NameEnd::Cut),
        };
        (end == NameEnd::Here && FORBIDDEN.contains(&name)) || ruled(name, end)
    }
}

#[cfg(test)]
mod tests;
