//! Why a flow did not end as its peers wished: the label of every record, counter and line of the reference.
//!
//! Made from the model's answers, the parsers' errors and our own limits, each by an exhaustive match, so that a new
//! cause anywhere breaks the build here until it has a name.

use crate::event::{Dialled, Ending, Side};
use core::fmt;
use parsers::http1::{BodyError, HeadError, TargetError};
use policy_model::DenyReason;

/// Declares the reasons in one table, so that names, texts and the list can't drift apart.
macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $variant:ident => $name:literal,)+) => {
        /// Why a flow did not end as its peers wished. Fieldless: a metric label, and a line of the reference.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Reason {
            /// Every reason, in order of name.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// snake_case, as in records and metrics.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }

            /// One line for the reference.
            pub const fn about(self) -> &'static str {
                match self {
                    $(Self::$variant => concat!($($doc),+).trim_ascii(),)+
                }
            }
        }
    };
}

reasons! {
    /// A field name reads like one that frames the message once all but its letters and digits is taken for `-`.
    AmbiguousFieldName => "ambiguous_field_name",
    /// A chunk's data is not followed by CR LF.
    BadChunkEnd => "bad_chunk_end",
    /// A chunk extension is not a name, or a name with a token or a closed quoted string as its value.
    BadChunkExtension => "bad_chunk_extension",
    /// A chunk size is not a plain hexadecimal number that fits.
    BadChunkSize => "bad_chunk_size",
    /// Connection holds an option that is no token, or names a field that frames or routes the message.
    BadConnection => "bad_connection",
    /// Content-length is empty, signed, hexadecimal, a list, padded, or does not fit.
    BadContentLength => "bad_content_length",
    /// Expect is other than one `100-continue`.
    BadExpectation => "bad_expectation",
    /// A field name holds a byte that is not of a token.
    BadFieldName => "bad_field_name",
    /// A field value holds a control byte.
    BadFieldValue => "bad_field_value",
    /// Host is empty, or not a name or address with an optional port.
    BadHost => "bad_host",
    /// The method is not a token, or is `HEAD` or `CONNECT` in other letters.
    BadMethod => "bad_method",
    /// A response does not begin with a status line.
    BadStatusLine => "bad_status_line",
    /// The request target has none of the four forms, or holds a byte that does not belong there.
    BadTarget => "bad_target",
    /// A trailer field is malformed.
    BadTrailer => "bad_trailer",
    /// Transfer-encoding is other than exactly `chunked`.
    BadTransferEncoding => "bad_transfer_encoding",
    /// The request line does not end with `HTTP/1.0` or `HTTP/1.1`.
    BadVersion => "bad_version",
    /// A line holds a CR without LF.
    BareCr => "bare_cr",
    /// A line ends without CR.
    BareLf => "bare_lf",
    /// A response that can't have a body says that it has one.
    BodyNotAllowed => "body_not_allowed",
    /// `%` without two hexadecimal digits in the path.
    BrokenEscape => "broken_escape",
    /// A chunk-size line is longer than `chunk_line_bytes`.
    ChunkLineTooLong => "chunk_line_too_long",
    /// The client ended its side before its request was complete.
    ClientClosed => "client_closed",
    /// The client aborted the connection.
    ClientReset => "client_reset",
    /// The node holds as many connections as it may, and nobody else holds more of them than the opener.
    ConnectionLimit => "connection_limit",
    /// Its opener held the most connections when another needed one, and this one was idle for longest.
    ConnectionReclaimed => "connection_reclaimed",
    /// A deny rule covers the connection.
    DenyRule => "deny_rule",
    /// The daemon is shutting down.
    Draining => "draining",
    /// A field line begins with a colon.
    EmptyFieldName => "empty_field_name",
    /// `%01` to `%1f`, or `%7f`, in the path.
    EscapedControl => "escaped_control",
    /// An escaped escape in the path.
    EscapedEscape => "escaped_escape",
    /// `%00` in the path.
    EscapedNul => "escaped_nul",
    /// A trailer field would frame or route the message, or is a spelling of a header that rules ask for.
    ForbiddenTrailer => "forbidden_trailer",
    /// A head did not become complete within `head_ms` of its first byte.
    HeadTimeout => "head_timeout",
    /// A head is larger than `head_bytes`.
    HeadTooLarge => "head_too_large",
    /// The authority of an absolute-form target is not what Host says.
    HostMismatch => "host_mismatch",
    /// A bug of ours ended the connection; the log tells where.
    InternalError => "internal_error",
    /// An empty line stands where a message should begin.
    LeadingEmptyLine => "leading_empty_line",
    /// A message has both content-length and transfer-encoding.
    LengthWithTransferEncoding => "length_with_transfer_encoding",
    /// The connections of its opener hold as many bytes that a peer does not take as they may (`held_bytes`).
    MemoryLimit => "memory_limit",
    /// The method is `PRI`, which only the preface of HTTP/2 has.
    MethodPri => "method_pri",
    /// A field line has no colon.
    MissingColon => "missing_colon",
    /// A request needs a Host and has none.
    MissingHost => "missing_host",
    /// The port is inspected, and no HTTP rule matches the request.
    NoHttpRule => "no_http_rule",
    /// The direction is enforced, and no rule allows the connection.
    NoRule => "no_rule",
    /// The node had no descriptor, memory or port left to dial the upstream with.
    NodeExhausted => "node_exhausted",
    /// The request target is not a path.
    NotAPath => "not_a_path",
    /// A field is folded over two lines.
    ObsFold => "obs_fold",
    /// Escaped bytes in the path that careless decoders take for a character with a shorter form, such as `%c0%ae` for `.`.
    OverlongUtf8 => "overlong_utf8",
    /// The path is longer than `path_bytes`.
    PathTooLong => "path_too_long",
    /// Egress policy of the source and ingress policy of the destination name different protocols for the port.
    ProtocolConflict => "protocol_conflict",
    /// The first bytes are not of the protocol that policy names for the port.
    ProtocolMismatch => "protocol_mismatch",
    /// The connection was opened uninspected and now needs inspection.
    RedirectRequired => "redirect_required",
    /// Policy no longer allows the connection.
    Revoked => "revoked",
    /// Content-length is there more than once.
    SecondContentLength => "second_content_length",
    /// Host is there more than once.
    SecondHost => "second_host",
    /// The server ended its side before its response was complete.
    ServerClosed => "server_closed",
    /// The server aborted the connection.
    ServerReset => "server_reset",
    /// The snapshot that the connection needs did not come in time.
    SnapshotLate => "snapshot_late",
    /// A field name is followed by whitespace.
    SpaceBeforeColon => "space_before_colon",
    /// The rest of a denied request did not end within `swallow_ms`.
    SwallowTimeout => "swallow_timeout",
    /// The rest of a denied request is larger than `swallow_bytes`.
    SwallowTooLarge => "swallow_too_large",
    /// Judging the request by all patterns and headers that it leads to would take more steps than a request may.
    TooCostly => "too_costly",
    /// More fields than `header_fields`.
    TooManyFields => "too_many_fields",
    /// The path can be read in more ways than are judged.
    TooManyReadings => "too_many_readings",
    /// More trailer fields than `header_fields`.
    TooManyTrailers => "too_many_trailers",
    /// The trailer section is larger than `trailer_bytes`.
    TrailerTooLarge => "trailer_too_large",
    /// A message of HTTP/1.0 has a transfer-encoding.
    TransferEncodingOn10 => "transfer_encoding_on_10",
    /// The server sent a response that no request asked for.
    UnexpectedResponse => "unexpected_response",
    /// The server switched protocols though no request that was forwarded asked for it.
    UnexpectedUpgrade => "unexpected_upgrade",
    /// The rules of this port are of a kind that can't be judged.
    Unjudgeable => "unjudgeable",
    /// The peer's address lies in a pod network and belongs to no known endpoint.
    UnknownPeer => "unknown_peer",
    /// The request asks for CONNECT or an upgrade, which no rule can allow yet.
    UpgradeRefused => "upgrade_refused",
    /// The upstream refused the connection.
    UpstreamRefused => "upstream_refused",
    /// The upstream did not answer within `dial_ms`.
    UpstreamTimeout => "upstream_timeout",
    /// There is no way to the upstream.
    UpstreamUnreachable => "upstream_unreachable",
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl From<DenyReason> for Reason {
    fn from(reason: DenyReason) -> Self {
        match reason {
            DenyReason::DenyRule => Self::DenyRule,
            DenyReason::NoHttpRule => Self::NoHttpRule,
            DenyReason::NoRule => Self::NoRule,
            DenyReason::ProtocolConflict => Self::ProtocolConflict,
            DenyReason::TooCostly => Self::TooCostly,
            DenyReason::Unjudgeable => Self::Unjudgeable,
            DenyReason::UnknownPeer => Self::UnknownPeer,
        }
    }
}

impl From<HeadError> for Reason {
    fn from(error: HeadError) -> Self {
        match error {
            HeadError::AmbiguousFieldName => Self::AmbiguousFieldName,
            HeadError::BadConnection => Self::BadConnection,
            HeadError::BadContentLength => Self::BadContentLength,
            HeadError::BadExpectation => Self::BadExpectation,
            HeadError::BadFieldName => Self::BadFieldName,
            HeadError::BadFieldValue => Self::BadFieldValue,
            HeadError::BadHost => Self::BadHost,
            HeadError::BadMethod => Self::BadMethod,
            HeadError::BadStatusLine => Self::BadStatusLine,
            HeadError::BadTarget => Self::BadTarget,
            HeadError::BadTransferEncoding => Self::BadTransferEncoding,
            HeadError::BadVersion => Self::BadVersion,
            HeadError::BareCr => Self::BareCr,
            HeadError::BareLf => Self::BareLf,
            HeadError::BodyNotAllowed => Self::BodyNotAllowed,
            HeadError::EmptyFieldName => Self::EmptyFieldName,
            HeadError::HeadTooLarge => Self::HeadTooLarge,
            HeadError::HostMismatch => Self::HostMismatch,
            HeadError::LeadingEmptyLine => Self::LeadingEmptyLine,
            HeadError::LengthWithTransferEncoding => Self::LengthWithTransferEncoding,
            HeadError::MethodPri => Self::MethodPri,
            HeadError::MissingColon => Self::MissingColon,
            HeadError::MissingHost => Self::MissingHost,
            HeadError::ObsFold => Self::ObsFold,
            HeadError::SecondContentLength => Self::SecondContentLength,
            HeadError::SecondHost => Self::SecondHost,
            HeadError::SpaceBeforeColon => Self::SpaceBeforeColon,
            HeadError::TooManyFields => Self::TooManyFields,
            HeadError::TransferEncodingOn10 => Self::TransferEncodingOn10,
            HeadError::UnexpectedUpgrade => Self::UnexpectedUpgrade,
        }
    }
}

impl From<TargetError> for Reason {
    fn from(error: TargetError) -> Self {
        match error {
            TargetError::BrokenEscape => Self::BrokenEscape,
            TargetError::EscapedControl => Self::EscapedControl,
            TargetError::EscapedEscape => Self::EscapedEscape,
            TargetError::EscapedNul => Self::EscapedNul,
            TargetError::NotAPath => Self::NotAPath,
            TargetError::OverlongUtf8 => Self::OverlongUtf8,
            TargetError::PathTooLong => Self::PathTooLong,
            TargetError::TooManyReadings => Self::TooManyReadings,
        }
    }
}

impl Reason {
    /// Why a dial failed; `None`: it did not.
    pub fn of_dial(result: Dialled) -> Option<Self> {
        match result {
            Dialled::Connected => None,
            Dialled::Exhausted => Some(Self::NodeExhausted),
            Dialled::Refused => Some(Self::UpstreamRefused),
            Dialled::TimedOut => Some(Self::UpstreamTimeout),
            Dialled::Unreachable => Some(Self::UpstreamUnreachable),
        }
    }

    pub fn of_reset(by: Side) -> Self {
        match by {
            Side::Client => Self::ClientReset,
            Side::Server => Self::ServerReset,
        }
    }

    pub fn of_ending(why: Ending) -> Self {
        match why {
            Ending::Draining => Self::Draining,
            Ending::Failed => Self::InternalError,
            Ending::MemoryLimit => Self::MemoryLimit,
            Ending::Reclaimed => Self::ConnectionReclaimed,
        }
    }

    /// What a body error means where the client sent the body.
    pub fn of_request_body(error: BodyError) -> Self {
        Self::of_body(error).unwrap_or(Self::ClientClosed)
    }

    /// What a body error means where the server sent the body.
    pub fn of_response_body(error: BodyError) -> Self {
        Self::of_body(error).unwrap_or(Self::ServerClosed)
    }

    /// `None`: the sender closed.
    fn of_body(error: BodyError) -> Option<Self> {
        Some(match error {
            BodyError::BadChunkEnd => Self::BadChunkEnd,
            BodyError::BadChunkExtension => Self::BadChunkExtension,
            BodyError::BadChunkSize => Self::BadChunkSize,
            BodyError::BadTrailer => Self::BadTrailer,
            BodyError::BareLf => Self::BareLf,
            BodyError::ForbiddenTrailer => Self::ForbiddenTrailer,
            BodyError::ChunkLineTooLong => Self::ChunkLineTooLong,
            BodyError::TooManyTrailers => Self::TooManyTrailers,
            BodyError::TrailerTooLarge => Self::TrailerTooLarge,
            BodyError::Truncated => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_sorted_and_unique() {
        let names: Vec<_> = Reason::ALL.iter().map(|reason| reason.name()).collect();
        assert!(names.is_sorted_by(|before, after| before < after), "{names:?}");
    }

    #[test]
    fn names_are_snake_case() {
        let is_snake = |name: &str| {
            name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
        };
        assert!(Reason::ALL.iter().all(|reason| is_snake(reason.name())));
    }

    #[test]
    fn every_reason_is_described_in_one_sentence() {
        for reason in Reason::ALL {
            let about = reason.about();
            assert!(about.ends_with('.') && !about.contains('\n') && about.len() > 10, "{reason}: {about}");
        }
    }

    #[test]
    fn the_reference_is_complete() {
        let row = |reason: &Reason| format!("| `{}` | {} |\n", reason.name(), reason.about());
        let table: String = Reason::ALL.iter().map(row).collect();
        let reference = include_str!("../../../docs/reasons.md");
        assert!(reference.contains(&table), "docs/reasons.md should hold this table:\n{table}");
    }

    #[test]
    fn the_models_reasons_keep_their_names() {
        for reason in DenyReason::ALL {
            assert_eq!(Reason::from(*reason).name(), reason.name());
        }
    }
}
