//! The end of a head, found once however it arrives.
//!
//! INVARIANT: what is answered depends on the bytes that are there, never on how they were split.

use super::error::HeadError;
use memchr::memchr;

/// How far the search for the end of a head has come, so that bytes arriving one by one cost linear time.
/// One per direction of a connection; `default()` at the start of every message, and again once a head is complete.
#[derive(Clone, Copy, Debug, Default)]
pub struct HeadScan {
    /// All before was searched.
    scanned: usize,
    /// The first line is complete, and was found to be sane.
    first_line_seen: bool,
}

impl HeadScan {
    pub(super) fn is_fresh(self) -> bool {
        self.scanned == 0
    }

    /// Where the head ends, behind its empty line; `None`: not yet.
    ///
    /// `first_line` judges the first line (without its LF) as soon as it is there: who speaks another protocol
    /// is told at once, not when the time for a head is over.
    pub(super) fn find_end(
        &mut self,
        input: &[u8],
        head_bytes_max: usize,
        first_line: fn(&[u8]) -> Result<(), HeadError>,
    ) -> Result<Option<usize>, HeadError> {
        if matches!(input, [b'\r' | b'\n', ..]) {
            return Err(HeadError::LeadingEmptyLine);
        }
        let window = input.get(..head_bytes_max).unwrap_or(input);
        while let Some(found) = window.get(self.scanned..).and_then(|unseen| memchr(b'\n', unseen)) {
            let lf = self.scanned + found;
            let before = window.get(..lf).unwrap_or_default();
            if !before.ends_with(b"\r") {
                return Err(HeadError::BareLf);
            }
            if !self.first_line_seen {
                first_line(before)?;
                self.first_line_seen = true;
            }
            self.scanned = lf + 1;
            if before.ends_with(b"\n\r") {
                return Ok(Some(self.scanned));
            }
        }
        self.scanned = window.len();
        if input.len() >= head_bytes_max { Err(HeadError::HeadTooLarge) } else { Ok(None) }
    }
}
