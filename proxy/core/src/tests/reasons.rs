//! Every reason is the reason of something.

use super::script::{
    C_FIN, C_RST, Do, INSPECTED, Policy, S_FIN, S_RST, Setting, act, c, every_way, s, summary,
};
use super::shell::LIMITS;
use crate::Reason;
use crate::limits::{Http, Limits};
use crate::session::{Dialled, Side};

const GET: &str = "GET /ok HTTP/1.1\r\nHost: a\r\n\r\n";
const CHUNKED: &str = "POST /ok HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";

/// A connection that makes a record with this reason; `None`: only the daemon does.
#[expect(clippy::too_many_lines, reason = "a table")]
fn case(reason: Reason) -> Option<(Setting, Vec<Do>)> {
    let limits = |limits| Setting { limits, ..INSPECTED };
    let http = |http| limits(Limits { http, ..LIMITS });
    let policy = |policy| Setting { policy, ..INSPECTED };
    let dial = |result| (Setting { dial: Some(result), ..INSPECTED }, vec![c(GET)]);
    let inspected = |script: &[Do]| (INSPECTED, script.to_vec());
    let target = |target: &str| (INSPECTED, vec![c(&format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"))]);
    let field =
        |field: &str| (INSPECTED, vec![c(&format!("GET /ok HTTP/1.1\r\nHost: a\r\n{field}\r\n\r\n"))]);
    let line = |line: &str| (INSPECTED, vec![c(&format!("{line}\r\nHost: a\r\n\r\n"))]);
    let body = |body: &str| (INSPECTED, vec![c(CHUNKED), c(body)]);
    let response = |head: &str| (INSPECTED, vec![c(GET), s(&format!("{head}\r\n\r\n"))]);
    Some(match reason {
        Reason::AmbiguousFieldName => field("Content_Length: 1"),
        Reason::BadChunkEnd => body("1\r\nab\r\n"),
        Reason::BadChunkExtension => body("1;a=\"\r\n"),
        Reason::BadChunkSize => body("-1\r\n"),
        Reason::BadConnection => field("Connection: content-length"),
        Reason::BadContentLength => field("Content-Length: +1"),
        Reason::BadExpectation => field("Expect: 200-ok"),
        Reason::BadFieldName => field("a(b: c"),
        Reason::BadFieldValue => field("a: b\u{1}"),
        Reason::BadHost => inspected(&[c("GET /ok HTTP/1.1\r\nHost: a b\r\n\r\n")]),
        Reason::BadMethod => line("G(T /ok HTTP/1.1"),
        Reason::BadStatusLine => response("HTTP/1.1 OK"),
        Reason::BadTarget => target("/ok#a"),
        Reason::BadTrailer => body("0\r\na b\r\n\r\n"),
        Reason::BadTransferEncoding => field("Transfer-Encoding: gzip, chunked"),
        Reason::BadVersion => line("GET /ok HTTP/2.0"),
        Reason::BareCr => field("a: b\rc"),
        Reason::BareLf => inspected(&[c("GET /ok HTTP/1.1\nHost: a\n\n")]),
        Reason::BodyNotAllowed => response("HTTP/1.1 204 No Content\r\nContent-Length: 1"),
        Reason::BrokenEscape => target("/ok%2"),
        Reason::ChunkLineTooLong => {
            (http(Http { chunk_line_bytes_max: 4, ..LIMITS.http }), vec![c(CHUNKED), c("1;abc\r\n")])
        }
        Reason::ClientClosed => inspected(&[c("GET /"), C_FIN]),
        Reason::ClientReset => inspected(&[c(GET), C_RST]),
        Reason::ConnectionReclaimed => inspected(&[c(GET), Do::Reclaim]),
        Reason::DenyRule => (policy(Policy::DenyRule), Vec::new()),
        Reason::Draining => inspected(&[c(GET), Do::Stop]),
        Reason::EmptyFieldName => field(": a"),
        Reason::EscapedControl => target("/ok%0a"),
        Reason::EscapedEscape => target("/ok%252e"),
        Reason::EscapedNul => target("/ok%00"),
        Reason::ForbiddenTrailer => body("0\r\nHost: a\r\n\r\n"),
        Reason::HeadTimeout => inspected(&[c("GET /"), Do::Sleep(LIMITS.head_ns_max)]),
        Reason::HeadTooLarge => (http(Http { head_bytes_max: GET.len() - 1, ..LIMITS.http }), vec![c(GET)]),
        Reason::HostMismatch => target("http://b/ok"),
        Reason::InternalError => inspected(&[c(GET), Do::Fail]),
        Reason::MemoryLimit => inspected(&[c(GET), Do::HoldTooMuch]),
        Reason::LeadingEmptyLine => inspected(&[c("\r\n")]),
        Reason::LengthWithTransferEncoding => field("Content-Length: 1\r\nTransfer-Encoding: chunked"),
        Reason::MethodPri => inspected(&[c("PRI * HTTP/2.0\r\n\r\n")]),
        Reason::MissingColon => field("a"),
        Reason::MissingHost => inspected(&[c("GET /ok HTTP/1.1\r\n\r\n")]),
        Reason::NoHttpRule => target("/no"),
        Reason::NoRule => (policy(Policy::Closed), Vec::new()),
        Reason::NodeExhausted => dial(Dialled::Exhausted),
        Reason::NotAPath => line("OPTIONS * HTTP/1.1"),
        Reason::ObsFold => field("a: b\r\n c"),
        Reason::OverlongUtf8 => target("/ok/%c0%ae"),
        Reason::PathTooLong => (http(Http { path_bytes_max: 2, ..LIMITS.http }), vec![c(GET)]),
        Reason::ProtocolMismatch => inspected(&[c("\u{16}\u{3}\u{1}")]),
        Reason::RedirectRequired => (policy(Policy::L4), vec![Do::Publish(Policy::Ok)]),
        Reason::Revoked => inspected(&[Do::Publish(Policy::Closed)]),
        Reason::SecondContentLength => field("Content-Length: 1\r\nContent-Length: 1"),
        Reason::SecondHost => field("Host: a"),
        Reason::ServerClosed => inspected(&[c(GET), S_FIN]),
        Reason::ServerReset => inspected(&[c(GET), S_RST]),
        Reason::SpaceBeforeColon => field("a : b"),
        Reason::SwallowTimeout => inspected(&[
            c("PUT /no HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n"),
            Do::Sleep(LIMITS.swallow_ns_max),
        ]),
        Reason::SwallowTooLarge => {
            let put = "PUT /no HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n";
            (limits(Limits { swallow_bytes_max: 0, ..LIMITS }), vec![c(put)])
        }
        Reason::TooCostly => {
            let path = format!("/{}", "a".repeat(4096));
            (policy(Policy::Heavy), vec![c(&format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"))])
        }
        Reason::TooManyFields => (http(Http { fields_max: 0, ..LIMITS.http }), vec![c(GET)]),
        Reason::TooManyReadings => target(&"/%2f%5c;a//..".repeat(20)),
        Reason::TooManyTrailers => {
            (http(Http { fields_max: 2, ..LIMITS.http }), vec![c(CHUNKED), c("0\r\na:\r\nb:\r\nc:\r\n\r\n")])
        }
        Reason::TrailerTooLarge => {
            (http(Http { trailer_bytes_max: 4, ..LIMITS.http }), vec![c(CHUNKED), c("0\r\na: b\r\n\r\n")])
        }
        Reason::TransferEncodingOn10 => {
            inspected(&[c("POST /ok HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n")])
        }
        Reason::UnexpectedResponse => inspected(&[c(GET), s("HTTP/1.1 204 A\r\n\r\nHTTP/1.1 204 B\r\n\r\n")]),
        Reason::UnexpectedUpgrade => response("HTTP/1.1 101 Switching Protocols"),
        Reason::Unjudgeable => (policy(Policy::Unjudgeable), vec![c(GET)]),
        Reason::UnknownPeer => (Setting { client: "10.9.9.9:1", ..policy(Policy::Ok) }, Vec::new()),
        Reason::UpgradeRefused => field("Upgrade: websocket"),
        Reason::UpstreamRefused => dial(Dialled::Refused),
        Reason::UpstreamTimeout => dial(Dialled::TimedOut),
        Reason::UpstreamUnreachable => dial(Dialled::Unreachable),
        // Of the shell, or of policies that can't be written yet.
        Reason::ConnectionLimit | Reason::ProtocolConflict | Reason::SnapshotLate => return None,
    })
}

#[test]
fn every_reason_ends_something() {
    for reason in Reason::ALL {
        let Some((setting, script)) = case(*reason) else { continue };
        let mut whole = Vec::new();
        for script in every_way(&script) {
            let mut shell = setting.shell();
            script.iter().for_each(|event| act(&mut shell, event));
            let reasons: Vec<_> = shell.records.iter().map(|record| record.reason).collect();
            assert!(reasons.contains(&Some(*reason)), "{reason}: {reasons:?} for {script:?}");
            let made: Vec<_> = shell.records.iter().map(summary).collect();
            whole = if whole.is_empty() { made.clone() } else { whole };
            assert_eq!(made, whole, "{reason}: {script:?}");
        }
    }
}

/// Every way in which a request is malformed or ambiguous is answered 400, by its name, and the connection is closed.
#[test]
fn bad_requests_are_refused_with_400_and_closed() {
    let bad = [
        Reason::AmbiguousFieldName,
        Reason::BadChunkEnd,
        Reason::BadChunkExtension,
        Reason::BadChunkSize,
        Reason::BadConnection,
        Reason::BadContentLength,
        Reason::BadExpectation,
        Reason::BadFieldName,
        Reason::BadFieldValue,
        Reason::BadHost,
        Reason::BadMethod,
        Reason::BadTarget,
        Reason::BadTrailer,
        Reason::BadTransferEncoding,
        Reason::BadVersion,
        Reason::BareCr,
        Reason::BareLf,
        Reason::BrokenEscape,
        Reason::ChunkLineTooLong,
        Reason::EmptyFieldName,
        Reason::EscapedControl,
        Reason::EscapedEscape,
        Reason::EscapedNul,
        Reason::ForbiddenTrailer,
        Reason::HostMismatch,
        Reason::LeadingEmptyLine,
        Reason::LengthWithTransferEncoding,
        Reason::MethodPri,
        Reason::MissingColon,
        Reason::MissingHost,
        Reason::NotAPath,
        Reason::ObsFold,
        Reason::OverlongUtf8,
        Reason::SecondContentLength,
        Reason::SecondHost,
        Reason::SpaceBeforeColon,
        Reason::TooManyReadings,
        Reason::TooManyTrailers,
        Reason::TrailerTooLarge,
        Reason::TransferEncodingOn10,
    ];
    for reason in bad {
        let (setting, script) = case(reason).unwrap();
        let mut shell = setting.shell();
        script.iter().for_each(|event| act(&mut shell, event));
        let got = shell.got(Side::Client);
        let body = format!("Bad request: {reason}\r\n");
        let head = format!(
            "HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            body.len()
        );
        assert_eq!(got, format!("{head}{body}<fin>"), "{reason}");
    }
}

/// What is refused of a request is answered; the answer and the record agree, and nothing reaches the server.
#[test]
fn every_denied_request_is_answered_as_recorded() {
    for reason in Reason::ALL {
        let Some((setting, script)) = case(*reason) else { continue };
        let mut shell = setting.shell();
        script.iter().for_each(|event| act(&mut shell, event));
        let denied = shell.records.iter().filter(|record| record.outcome == crate::record::Outcome::Denied);
        let recorded: Vec<_> =
            denied.filter_map(|record| record.detail.http()).map(|http| http.status).collect();
        let got = shell.got(Side::Client);
        let answers =
            got.split("HTTP/1.1 4").skip(1).map(|rest| format!("4{}", rest.split(' ').next().unwrap()));
        let answered: Vec<u16> = answers.map(|status| status.parse().unwrap()).collect();
        assert_eq!(recorded, answered, "{reason}");
    }
}
