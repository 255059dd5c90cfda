//! Request heads.

use super::authority::{agree, has_port, is_authority};
use super::error::HeadError;
use super::field::{Fields, RawField, Section, read_section};
use super::framing::{Framing, Version};
use super::search::HeadScan;
use super::upgrade::{self, Upgrade};
use crate::Progress;
use crate::http1::body::BodyLength;
use crate::http1::limits::Limits;
use crate::http1::syntax::{is_token, target_len, token_len};

/// A request head. Everything borrows from the input.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    pub method: &'a str,
    /// The request target as sent.
    pub target: &'a str,
    /// Origin form of the target: what stands behind the authority of an absolute form (`/` where that is empty), else `target`.
    pub origin: &'a str,
    pub version: Version,
    /// Host, as sent, agreeing with the authority of an absolute form; empty on HTTP/1.0 without one.
    pub host: &'a str,
    pub body: BodyLength,
    pub expects_continue: bool,
    /// The connection may carry another request after this one.
    pub persistent: bool,
    pub upgrade: Upgrade,
    /// The fields' bytes: from the first field to before the empty line.
    fields: &'a [u8],
}

impl<'a> Request<'a> {
    /// Every field, in order. Allocates nothing.
    pub fn fields(&self) -> Fields<'a> {
        Fields::new(self.fields)
    }

    /// The values of the fields of this name, in order. Cheaper than looking through [`Request::fields`].
    pub fn values<'n>(&self, name: &'n str) -> impl Iterator<Item = &'a [u8]> + use<'a, 'n> {
        self.fields().values(name.as_bytes())
    }
}

/// Reads a request head at the start of `input`: all that was not consumed before, then what is new.
///
/// # Errors
/// The first deviation found; the connection can't go on.
pub fn request<'a>(
    scan: &mut HeadScan,
    input: &'a [u8],
    limits: &Limits,
) -> Result<Progress<Request<'a>>, HeadError> {
    // Most heads are whole when they are first seen: then the search for their end can be left out. Whatever else
    // comes of this is forgotten, and told again by the search, which does not depend on how the bytes were split.
    if scan.is_fresh() {
        let at_once = parse(input.get(..limits.head_bytes_max).unwrap_or(input), limits);
        if matches!(at_once, Ok(Progress::Complete { .. })) {
            return at_once;
        }
    }
    search(scan, input, limits)
}

#[cold]
fn search<'a>(
    scan: &mut HeadScan,
    input: &'a [u8],
    limits: &Limits,
) -> Result<Progress<Request<'a>>, HeadError> {
    if input.first().is_some_and(|byte| !is_token(*byte) && !matches!(byte, b'\r' | b'\n')) {
        return Err(HeadError::BadMethod);
    }
    let Some(end) = scan.find_end(input, limits.head_bytes_max, check_request_line)? else {
        return Ok(Progress::Incomplete);
    };
    *scan = HeadScan::default();
    parse(input.get(..end).unwrap_or(input), limits)
}

/// A request line without its LF.
fn check_request_line(line: &[u8]) -> Result<(), HeadError> {
    let _ = RequestLine::read(line)?;
    Ok(())
}

struct RequestLine<'a> {
    method: &'a [u8],
    target: &'a [u8],
    version: Version,
    /// What follows the version, from its CR on.
    rest: &'a [u8],
}

impl<'a> RequestLine<'a> {
    fn read(input: &'a [u8]) -> Result<Self, HeadError> {
        let (method, rest) = input.split_at_checked(token_len(input)).unwrap_or_default();
        let [b' ', rest @ ..] = rest else {
            return Err(if rest.starts_with(b"\r") { HeadError::BadTarget } else { HeadError::BadMethod });
        };
        check_method(method)?;
        let (target, rest) = rest.split_at_checked(target_len(rest)).unwrap_or_default();
        let rest = match rest {
            [b' ', rest @ ..] if !target.is_empty() => rest,
            // HTTP/0.9 knows no version.
            [b'\r', ..] if !target.is_empty() => return Err(HeadError::BadVersion),
            _ => return Err(HeadError::BadTarget),
        };
        let (version, rest) = match rest {
            [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'1', rest @ ..] => (Version::Http11, rest),
            [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'0', rest @ ..] => (Version::Http10, rest),
            _ => return Err(HeadError::BadVersion),
        };
        if !rest.starts_with(b"\r") {
            return Err(HeadError::BadVersion);
        }
        Ok(Self { method, target, version, rest })
    }
}

/// Methods are case-sensitive, but a lenient backend that reads `head` as HEAD would send a response of another length,
/// and one that reads `connect` as CONNECT would open a tunnel.
fn check_method(method: &[u8]) -> Result<(), HeadError> {
    let in_other_letters = |name: &[u8]| method.eq_ignore_ascii_case(name) && method != name;
    match method {
        [] => Err(HeadError::BadMethod),
        b"PRI" => Err(HeadError::MethodPri),
        _ if in_other_letters(b"HEAD") || in_other_letters(b"CONNECT") => Err(HeadError::BadMethod),
        _ => Ok(()),
    }
}

/// What the fields of a request say.
#[derive(Default)]
struct Seen<'a> {
    framing: Framing,
    host: Option<&'a [u8]>,
    expects_continue: bool,
    /// Upgrade or HTTP2-Settings is there.
    offers: bool,
}

impl<'a> Seen<'a> {
    fn read(&mut self, field: &RawField<'a>) -> Result<(), HeadError> {
        match field.name.len() {
            4 if field.name.eq_ignore_ascii_case(b"host") => {
                if self.host.is_some() {
                    return Err(HeadError::SecondHost);
                }
                self.host = Some(field.strict_value());
            }
            6 if field.name.eq_ignore_ascii_case(b"expect") => {
                if self.expects_continue || !field.value().eq_ignore_ascii_case(b"100-continue") {
                    return Err(HeadError::BadExpectation);
                }
                self.expects_continue = true;
            }
            7 if field.name.eq_ignore_ascii_case(b"upgrade") => self.offers = true,
            14 if field.name.eq_ignore_ascii_case(b"http2-settings") => self.offers = true,
            10 | 14 | 17 => return self.framing.read(field),
            _ => {}
        }
        Ok(())
    }
}

/// Reads a head in one pass.
fn parse<'a>(input: &'a [u8], limits: &Limits) -> Result<Progress<Request<'a>>, HeadError> {
    let line = RequestLine::read(input)?;
    let rest = match line.rest {
        [b'\r', b'\n', rest @ ..] => rest,
        [b'\r'] => return Ok(Progress::Incomplete),
        _ => return Err(HeadError::BareCr),
    };
    let mut seen = Seen::default();
    match read_section(rest, limits.fields_max, |field| seen.read(&field))? {
        Section::Unfinished => Ok(Progress::Incomplete),
        Section::Complete { lines, after } => {
            let message = assemble(&line, &seen, lines, input.len() - rest.len())?;
            Ok(Progress::Complete { message, consumed: input.len() - after.len() })
        }
    }
}

/// Judges the head as a whole.
fn assemble<'a>(
    line: &RequestLine<'a>,
    seen: &Seen<'a>,
    fields: &'a [u8],
    fields_at: usize,
) -> Result<Request<'a>, HeadError> {
    seen.framing.check(line.version)?;
    if seen.host.is_none() && line.version == Version::Http11 {
        return Err(HeadError::MissingHost);
    }
    if seen.host.is_some_and(|host| !is_authority(host)) {
        return Err(HeadError::BadHost);
    }
    // INVARIANT: methods, targets and hosts were found to be ASCII.
    let target = str::from_utf8(line.target).map_err(|_not_ascii| HeadError::BadTarget)?;
    let origin = origin(line.method, target, seen.host)?;
    let upgrade = match (line.method, seen.offers) {
        (b"CONNECT", _) => Upgrade::Other,
        (_, true) => upgrade::read(Fields::new(fields), fields_at),
        (_, false) => Upgrade::None,
    };
    let body = match (seen.framing.chunked, seen.framing.content_length) {
        (true, _) => BodyLength::Chunked,
        (false, Some(bytes)) => BodyLength::Length(bytes),
        (false, None) => BodyLength::None,
    };
    Ok(Request {
        method: str::from_utf8(line.method).map_err(|_not_ascii| HeadError::BadMethod)?,
        target,
        origin,
        version: line.version,
        host: str::from_utf8(seen.host.unwrap_or_default()).map_err(|_not_ascii| HeadError::BadHost)?,
        body,
        expects_continue: seen.expects_continue,
        persistent: seen.framing.is_persistent(line.version),
        upgrade,
        fields,
    })
}

/// The origin form of a target in one of the four forms of RFC 9112 section 3.2.
fn origin<'a>(method: &[u8], target: &'a str, host: Option<&[u8]>) -> Result<&'a str, HeadError> {
    match (method, target.as_bytes()) {
        (b"CONNECT", authority) if is_authority(authority) && has_port(authority) => Ok(target),
        (b"CONNECT", _) => Err(HeadError::BadTarget),
        (_, [b'/', ..]) | (b"OPTIONS", b"*") => Ok(target),
        _ => origin_of_absolute(method, target, host),
    }
}

#[cold]
fn origin_of_absolute<'a>(method: &[u8], target: &'a str, host: Option<&[u8]>) -> Result<&'a str, HeadError> {
    let (scheme, behind) = target.split_once("://").ok_or(HeadError::BadTarget)?;
    let scheme_port = match scheme {
        _ if scheme.eq_ignore_ascii_case("http") => b"80".as_slice(),
        _ if scheme.eq_ignore_ascii_case("https") => b"443".as_slice(),
        _ => return Err(HeadError::BadTarget),
    };
    let (authority, origin) = behind.split_at(behind.find(['/', '?']).unwrap_or(behind.len()));
    if !is_authority(authority.as_bytes()) {
        return Err(HeadError::BadTarget);
    }
    let origin = match origin.as_bytes() {
        [b'/', ..] => origin,
        // RFC 9112 section 3.2.4: the last proxy turns this into `OPTIONS *`, which is not the request for `/`.
        [] if method == b"OPTIONS" => return Err(HeadError::BadTarget),
        [] => "/",
        // The path of `http://host?query` is not among the bytes that are forwarded.
        _ => return Err(HeadError::BadTarget),
    };
    // On HTTP/1.0 too: some backends take the host from the target, others see none.
    let host = host.ok_or(HeadError::MissingHost)?;
    if agree(authority.as_bytes(), host, scheme_port) { Ok(origin) } else { Err(HeadError::HostMismatch) }
}

#[cfg(test)]
mod tests;
