//! What a denied peer is told. The only file with reply texts.
//!
//! INVARIANT: a reply says nothing of policy: who may ask why reads the flow record.

use crate::reason::Reason;
use crate::step::Reply;
use parsers::http1::head::AnsweredMethod;

/// What becomes of the connection behind a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    Close,
    Keep,
}

/// A kind of answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ErrorReply {
    AccessDenied,
    BadRequest,
    HeadTooLarge,
    NodeExhausted,
    PathTooLong,
    RequestTimeout,
    UpstreamRefused,
    UpstreamTimeout,
    UpstreamUnreachable,
}

/// The status of our answer; 0 where a flow that ends for this reason is reset, not answered.
pub(crate) fn status(reason: Reason) -> u16 {
    answer(reason).map_or(0, |answer| match answer {
        ErrorReply::AccessDenied => 403,
        ErrorReply::BadRequest => 400,
        ErrorReply::HeadTooLarge => 431,
        ErrorReply::PathTooLong => 414,
        ErrorReply::RequestTimeout => 408,
        ErrorReply::NodeExhausted
        | ErrorReply::UpstreamRefused
        | ErrorReply::UpstreamTimeout
        | ErrorReply::UpstreamUnreachable => 503,
    })
}

/// The answer to a request, if a flow that ends for this reason gets one.
pub(crate) fn reply(reason: Reason, method: AnsweredMethod, then: Then) -> Option<Reply> {
    let answer = answer(reason)?;
    Some(match answer {
        ErrorReply::AccessDenied => Reply::Static(access_denied(method, then)),
        ErrorReply::BadRequest => named("400 Bad Request", "Bad request", reason, method),
        ErrorReply::HeadTooLarge => {
            named("431 Request Header Fields Too Large", "Head too large", reason, method)
        }
        ErrorReply::PathTooLong => named("414 URI Too Long", "Path too long", reason, method),
        ErrorReply::RequestTimeout => named("408 Request Timeout", "Request timeout", reason, method),
        ErrorReply::NodeExhausted => unavailable("gateway out of resources", method),
        ErrorReply::UpstreamRefused => unavailable("upstream connection refused", method),
        ErrorReply::UpstreamTimeout => unavailable("upstream timed out", method),
        ErrorReply::UpstreamUnreachable => unavailable("upstream unreachable", method),
    })
}

/// The one that policy causes and clients see most: made at compile time.
fn access_denied(method: AnsweredMethod, then: Then) -> &'static [u8] {
    macro_rules! text {
        ($connection:literal, $body:literal) => {
            concat!(
                "HTTP/1.1 403 Forbidden\r\ncontent-type: text/plain\r\ncontent-length: 15\r\n",
                $connection,
                "\r\n",
                $body
            )
            .as_bytes()
        };
    }
    match (method, then) {
        (AnsweredMethod::Head, Then::Close) => text!("connection: close\r\n", ""),
        (AnsweredMethod::Head, Then::Keep) => text!("", ""),
        (AnsweredMethod::Other, Then::Close) => text!("connection: close\r\n", "Access denied\r\n"),
        (AnsweredMethod::Other, Then::Keep) => text!("", "Access denied\r\n"),
    }
}

/// What is wrong with a request is its sender's to know: the body names it.
fn named(status: &str, text: &str, reason: Reason, method: AnsweredMethod) -> Reply {
    closing(status, &format!("{text}: {reason}\r\n"), method)
}

fn unavailable(text: &str, method: AnsweredMethod) -> Reply {
    closing("503 Service Unavailable", &format!("{text}\r\n"), method)
}

fn closing(status: &str, body: &str, method: AnsweredMethod) -> Reply {
    let length = body.len();
    let body = match method {
        AnsweredMethod::Head => "",
        AnsweredMethod::Other => body,
    };
    let text = format!(
        "HTTP/1.1 {status}\r\ncontent-type: text/plain\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    );
    Reply::Owned(text.into_bytes().into())
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn answer(reason: Reason) -> Option<ErrorReply> {
    Some(match reason {
        Reason::DenyRule
        | Reason::NoHttpRule
        | Reason::NoRule
        | Reason::ProtocolConflict
        | Reason::TooCostly
        | Reason::Unjudgeable
        | Reason::UnknownPeer
        | Reason::UpgradeRefused => ErrorReply::AccessDenied,
        Reason::AmbiguousFieldName
        | Reason::BadChunkEnd
        | Reason::BadChunkExtension
        | Reason::BadChunkSize
        | Reason::BadConnection
        | Reason::BadContentLength
        | Reason::BadExpectation
        | Reason::BadFieldName
        | Reason::BadFieldValue
        | Reason::BadHost
        | Reason::BadMethod
        | Reason::BadTarget
        | Reason::BadTrailer
        | Reason::BadTransferEncoding
        | Reason::BadVersion
        | Reason::BareCr
        | Reason::BareLf
        | Reason::BrokenEscape
        | Reason::ChunkLineTooLong
        | Reason::EmptyFieldName
        | Reason::EscapedControl
        | Reason::EscapedEscape
        | Reason::EscapedNul
        | Reason::ForbiddenTrailer
        | Reason::HostMismatch
        | Reason::LeadingEmptyLine
        | Reason::LengthWithTransferEncoding
        | Reason::MethodPri
        | Reason::MissingColon
        | Reason::MissingHost
        | Reason::NotAPath
        | Reason::ObsFold
        | Reason::OverlongUtf8
        | Reason::SecondContentLength
        | Reason::SecondHost
        | Reason::SpaceBeforeColon
        | Reason::TooManyReadings
        | Reason::TooManyTrailers
        | Reason::TrailerTooLarge
        | Reason::TransferEncodingOn10 => ErrorReply::BadRequest,
        Reason::HeadTooLarge | Reason::TooManyFields => ErrorReply::HeadTooLarge,
        Reason::PathTooLong => ErrorReply::PathTooLong,
        Reason::HeadTimeout => ErrorReply::RequestTimeout,
        Reason::NodeExhausted => ErrorReply::NodeExhausted,
        Reason::UpstreamRefused => ErrorReply::UpstreamRefused,
        Reason::UpstreamTimeout => ErrorReply::UpstreamTimeout,
        Reason::UpstreamUnreachable => ErrorReply::UpstreamUnreachable,
        Reason::BadStatusLine
        | Reason::BodyNotAllowed
        | Reason::ClientClosed
        | Reason::ClientReset
        | Reason::ConnectionLimit
        | Reason::ConnectionReclaimed
        | Reason::Draining
        | Reason::InternalError
        | Reason::MemoryLimit
        | Reason::ProtocolMismatch
        | Reason::RedirectRequired
        | Reason::Revoked
        | Reason::ServerClosed
        | Reason::ServerReset
        | Reason::SnapshotLate
        | Reason::SwallowTimeout
        | Reason::SwallowTooLarge
        | Reason::UnexpectedResponse
        | Reason::UnexpectedUpgrade => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(reason: Reason, method: AnsweredMethod, then: Then, expect: &str) {
        let reply = reply(reason, method, then).unwrap();
        assert_eq!(String::from_utf8_lossy(reply.as_bytes()), expect);
    }

    #[test]
    fn access_denied() {
        let reply = "HTTP/1.1 403 Forbidden\r\ncontent-type: text/plain\r\ncontent-length: 15\r\n\r\nAccess denied\r\n";
        check(Reason::NoHttpRule, AnsweredMethod::Other, Then::Keep, reply);
    }

    #[test]
    fn access_denied_and_closed() {
        let reply = "HTTP/1.1 403 Forbidden\r\ncontent-type: text/plain\r\ncontent-length: 15\r\nconnection: close\r\n\r\nAccess denied\r\n";
        check(Reason::UpgradeRefused, AnsweredMethod::Other, Then::Close, reply);
    }

    #[test]
    fn a_head_gets_no_body() {
        let reply = "HTTP/1.1 403 Forbidden\r\ncontent-type: text/plain\r\ncontent-length: 15\r\n\r\n";
        check(Reason::DenyRule, AnsweredMethod::Head, Then::Keep, reply);
        let reply = "HTTP/1.1 503 Service Unavailable\r\ncontent-type: text/plain\r\ncontent-length: 20\r\nconnection: close\r\n\r\n";
        check(Reason::UpstreamTimeout, AnsweredMethod::Head, Then::Close, reply);
    }

    #[test]
    fn a_bad_request_is_told_what_is_bad() {
        let reply = "HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\ncontent-length: 26\r\nconnection: close\r\n\r\nBad request: escaped_nul\r\n";
        check(Reason::EscapedNul, AnsweredMethod::Other, Then::Close, reply);
    }

    #[test]
    fn what_is_answered_has_a_status() {
        for reason in Reason::ALL {
            let answered = reply(*reason, AnsweredMethod::Other, Then::Close);
            let line = answered.map(|reply| reply.as_bytes()[9..12].to_vec());
            let status = Some(status(*reason)).filter(|status| *status != 0);
            assert_eq!(line, status.map(|status| status.to_string().into_bytes()), "{reason}");
        }
    }
}
