//! Every way in which a head can deviate, each with its own name.

/// Why a head is refused. Each is one deviation; the session turns it into a reason and a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HeadError {
    /// `Transfer_Encoding`, `Content.Length`: gateways that map names to variables read all but letters and digits as one.
    AmbiguousFieldName,
    /// A connection option that is no token, or that names a field which frames or routes the message
    /// (`Connection: content-length` makes the next proxy drop what was judged).
    BadConnection,
    /// Empty, signed, hexadecimal, a list, with a leading zero or a tab, or beyond 63 bits.
    BadContentLength,
    /// `Expect` other than one `100-continue`.
    BadExpectation,
    /// A byte in a field name that is not of a token.
    BadFieldName,
    /// A control byte in a field value.
    BadFieldValue,
    /// Empty, or not a name or address with an optional port.
    BadHost,
    /// No method, a byte in it that is not of a token, or `HEAD` or `CONNECT` in other letters.
    BadMethod,
    /// A response does not begin with `HTTP/1.x`, three digits and a reason.
    BadStatusLine,
    /// Not of one of the four forms, or with `#`, a control byte or a byte beyond ASCII.
    BadTarget,
    /// Any transfer-encoding but exactly one `chunked`.
    BadTransferEncoding,
    /// A request line does not end with `HTTP/1.0` or `HTTP/1.1`.
    BadVersion,
    /// CR without LF.
    BareCr,
    /// LF without CR.
    BareLf,
    /// A response that can't have a body (1xx, 204) says that it has one.
    BodyNotAllowed,
    /// A line that begins with a colon.
    EmptyFieldName,
    /// Larger than `head_bytes_max`.
    HeadTooLarge,
    /// The authority of an absolute-form target is not what Host says.
    HostMismatch,
    /// An empty line where a request or status line should be.
    LeadingEmptyLine,
    /// Both content-length and transfer-encoding.
    LengthWithTransferEncoding,
    /// The method `PRI`, which only the preface of HTTP/2 has.
    MethodPri,
    /// A field line without a colon.
    MissingColon,
    /// No Host, on HTTP/1.1 or beside an absolute-form target.
    MissingHost,
    /// A line that begins with whitespace, which some read as more of the line before.
    ObsFold,
    /// Content-length more than once, equal or not.
    SecondContentLength,
    /// Host more than once, equal or not.
    SecondHost,
    /// Whitespace between a field's name and its colon.
    SpaceBeforeColon,
    /// More fields than `fields_max`.
    TooManyFields,
    /// Transfer-encoding, which HTTP/1.0 does not know.
    TransferEncodingOn10,
    /// A response 101, though no request that was forwarded asked for it.
    UnexpectedUpgrade,
}
