//! What the fields of a head say of its body and its connection. The same for requests and responses.

use super::connection::Options;
use super::error::HeadError;
use super::field::RawField;
use crate::http1::syntax::folded;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    Http10,
    Http11,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Framing {
    pub(super) content_length: Option<u64>,
    pub(super) chunked: bool,
    pub(super) options: Options,
}

impl Framing {
    /// Takes notice of a field.
    pub(super) fn read(&mut self, field: &RawField<'_>) -> Result<(), HeadError> {
        match field.name.len() {
            10 if field.name.eq_ignore_ascii_case(b"connection") => self.options.read(field.raw),
            14 if field.name.eq_ignore_ascii_case(b"content-length") => self.content_length(field),
            17 if field.name.eq_ignore_ascii_case(b"transfer-encoding") => self.transfer_encoding(field),
            14 | 17 if is_framing_in_disguise(field.name) => Err(HeadError::AmbiguousFieldName),
            _ => Ok(()),
        }
    }

    /// What can't be said together.
    pub(super) fn check(&self, version: Version) -> Result<(), HeadError> {
        if self.chunked && version == Version::Http10 {
            return Err(HeadError::TransferEncodingOn10);
        }
        if self.chunked && self.content_length.is_some() {
            return Err(HeadError::LengthWithTransferEncoding);
        }
        Ok(())
    }

    pub(super) fn is_persistent(&self, version: Version) -> bool {
        !self.options.close && (version == Version::Http11 || self.options.keep_alive)
    }

    fn content_length(&mut self, field: &RawField<'_>) -> Result<(), HeadError> {
        if self.content_length.is_some() {
            return Err(HeadError::SecondContentLength);
        }
        self.content_length = Some(decimal(field.strict_value()).ok_or(HeadError::BadContentLength)?);
        Ok(())
    }

    fn transfer_encoding(&mut self, field: &RawField<'_>) -> Result<(), HeadError> {
        if self.chunked || !field.strict_value().eq_ignore_ascii_case(b"chunked") {
            return Err(HeadError::BadTransferEncoding);
        }
        self.chunked = true;
        Ok(())
    }
}

/// A number as every backend reads it: digits only, no leading zero (octal to some), within 63 bits (signed in most).
fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || (digits.len() > 1 && digits.starts_with(b"0")) {
        return None;
    }
    let number = digits.iter().try_fold(0_u64, |number, byte| match byte {
        b'0'..=b'9' => number.checked_mul(10)?.checked_add(u64::from(byte - b'0')),
        _ => None,
    })?;
    (number <= i64::MAX.unsigned_abs()).then_some(number)
}

#[cold]
fn is_framing_in_disguise(name: &[u8]) -> bool {
    let reads_as = |wanted: &[u8]| name.iter().copied().map(folded).eq(wanted.iter().copied());
    reads_as(b"content-length") || reads_as(b"transfer-encoding")
}
