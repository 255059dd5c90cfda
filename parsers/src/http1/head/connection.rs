//! The connection options of a message: whether the connection lives on, and what must not be an option.

use super::error::HeadError;
use crate::http1::syntax::{token_len, trim};

/// What the Connection fields of a head say, all together.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Options {
    pub(super) close: bool,
    pub(super) keep_alive: bool,
}

impl Options {
    pub(super) fn read(&mut self, value: &[u8]) -> Result<(), HeadError> {
        for option in options(value) {
            match option.len() {
                5 if option.eq_ignore_ascii_case(b"close") => self.close = true,
                10 if option.eq_ignore_ascii_case(b"keep-alive") => self.keep_alive = true,
                _ if token_len(option) != option.len() || is_never_option(option) => {
                    return Err(HeadError::BadConnection);
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// An intermediary drops the fields that Connection names before it passes the message on. Where such a field frames or
/// routes, the backend behind it would see another message than the one that was judged.
fn is_never_option(option: &[u8]) -> bool {
    let never: [&[u8]; 4] = [b"content-length", b"expect", b"host", b"transfer-encoding"];
    never.iter().any(|never| option.eq_ignore_ascii_case(never))
}

/// The elements of a list that are not empty.
fn options(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(trim).filter(|option| !option.is_empty())
}
