//! Response heads.

use super::error::HeadError;
use super::field::{Section, read_section};
use super::framing::{Framing, Version};
use super::search::HeadScan;
use crate::Progress;
use crate::http1::body::BodyLength;
use crate::http1::limits::Limits;
use crate::http1::syntax::text_len;

/// A response head.
#[derive(Clone, Debug)]
pub struct Response {
    pub version: Version,
    pub status: u16,
    pub body: BodyLength,
    /// The connection may carry another response after this one. Says nothing on an interim response.
    pub persistent: bool,
}

/// What of the request decides how its response is framed (RFC 9112 section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnsweredMethod {
    Head,
    Other,
}

impl Response {
    /// 1xx: the answer to the request is still to come.
    pub fn is_interim(&self) -> bool {
        self.status < 200
    }
}

/// Reads a response head at the start of `input`. 1xx heads are complete messages of their own, without a body.
///
/// # Errors
/// The framing is ambiguous or the head malformed: both sides must end.
pub fn response(
    scan: &mut HeadScan,
    input: &[u8],
    to: AnsweredMethod,
    limits: &Limits,
) -> Result<Progress<Response>, HeadError> {
    // As for requests.
    if scan.is_fresh() {
        let at_once = parse(input.get(..limits.head_bytes_max).unwrap_or(input), to, limits);
        if matches!(at_once, Ok(Progress::Complete { .. })) {
            return at_once;
        }
    }
    search(scan, input, to, limits)
}

#[cold]
fn search(
    scan: &mut HeadScan,
    input: &[u8],
    to: AnsweredMethod,
    limits: &Limits,
) -> Result<Progress<Response>, HeadError> {
    if input.first().is_some_and(|byte| !matches!(byte, b'H' | b'\r' | b'\n')) {
        return Err(HeadError::BadStatusLine);
    }
    let Some(end) = scan.find_end(input, limits.head_bytes_max, check_status_line)? else {
        return Ok(Progress::Incomplete);
    };
    *scan = HeadScan::default();
    parse(input.get(..end).unwrap_or(input), to, limits)
}

/// A status line without its LF.
fn check_status_line(line: &[u8]) -> Result<(), HeadError> {
    let _ = StatusLine::read(line)?;
    Ok(())
}

struct StatusLine<'a> {
    version: Version,
    status: u16,
    /// What follows the reason, from its CR on.
    rest: &'a [u8],
}

impl<'a> StatusLine<'a> {
    /// The space behind the status may be left out with the reason: servers do, and nothing depends on it.
    fn read(input: &'a [u8]) -> Result<Self, HeadError> {
        let (version, rest) = match input {
            [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'1', b' ', rest @ ..] => (Version::Http11, rest),
            [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'0', b' ', rest @ ..] => (Version::Http10, rest),
            _ => return Err(HeadError::BadStatusLine),
        };
        let [a @ b'1'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9', rest @ ..] = rest else {
            return Err(HeadError::BadStatusLine);
        };
        let status = [a, b, c].iter().fold(0, |status, digit| status * 10 + u16::from(**digit - b'0'));
        let rest = match rest {
            [b' ', reason @ ..] => reason.get(text_len(reason)..).unwrap_or_default(),
            rest => rest,
        };
        if !rest.starts_with(b"\r") {
            return Err(HeadError::BadStatusLine);
        }
        Ok(Self { version, status, rest })
    }
}

fn parse(input: &[u8], to: AnsweredMethod, limits: &Limits) -> Result<Progress<Response>, HeadError> {
    let line = StatusLine::read(input)?;
    let rest = match line.rest {
        [b'\r', b'\n', rest @ ..] => rest,
        [b'\r'] => return Ok(Progress::Incomplete),
        _ => return Err(HeadError::BareCr),
    };
    let mut framing = Framing::default();
    let after = match read_section(rest, limits.fields_max, |field| framing.read(&field))? {
        Section::Unfinished => return Ok(Progress::Incomplete),
        Section::Complete { after, .. } => after,
    };
    framing.check(line.version)?;
    let body = body(line.status, to, &framing)?;
    let persistent = framing.is_persistent(line.version) && body != BodyLength::UntilClose;
    let message = Response { version: line.version, status: line.status, body, persistent };
    Ok(Progress::Complete { message, consumed: input.len() - after.len() })
}

/// RFC 9112 section 6.3, in its order.
fn body(status: u16, to: AnsweredMethod, framing: &Framing) -> Result<BodyLength, HeadError> {
    match (status, to) {
        (101, _) => Err(HeadError::UnexpectedUpgrade),
        // RFC 9110 section 8.6: "A server MUST NOT send a Content-Length header field in any response with a status
        // code of 1xx (Informational) or 204 (No Content)". Servers do send 0, which all agree upon.
        (100..200 | 204, _) if framing.chunked || framing.content_length.is_some_and(|bytes| bytes > 0) => {
            Err(HeadError::BodyNotAllowed)
        }
        (100..200 | 204 | 304, _) | (_, AnsweredMethod::Head) => Ok(BodyLength::None),
        (_, AnsweredMethod::Other) => Ok(match (framing.chunked, framing.content_length) {
            (true, _) => BodyLength::Chunked,
            (false, Some(bytes)) => BodyLength::Length(bytes),
            (false, None) => BodyLength::UntilClose,
        }),
    }
}

#[cfg(test)]
mod tests;
