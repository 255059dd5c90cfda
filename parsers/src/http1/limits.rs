//! The bounds of one message.

/// Bounds on what one message may make us hold or look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Request or status line and fields, with the empty line. 64 KiB by default.
    pub head_bytes_max: usize,
    /// Header fields, and trailer fields. At most 256; 200 by default.
    pub fields_max: usize,
    /// The path of a request whose path is judged, as sent, without the query. 8 KiB by default.
    pub path_bytes_max: usize,
    /// A chunk-size line with its extensions, without CRLF. 4 KiB by default.
    pub chunk_line_bytes_max: usize,
    /// The trailer section, with the empty line. 16 KiB by default.
    pub trailer_bytes_max: usize,
}
