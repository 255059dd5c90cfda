//! Attacks that are known to make two HTTP/1 parsers see different messages, and paths that are known to slip past a rule.
//!
//! Each is written as an attacker would send it, with a request for `/admin` behind or inside, and each must be refused for
//! its own reason, however it arrives.
#![cfg(test)]

use parsers::Progress;
use parsers::http1::head::request;
use parsers::http1::{Body, HeadScan, Limits, Readings, Upgrade};

const LIMITS: Limits = Limits {
    head_bytes_max: 65_536,
    fields_max: 200,
    path_bytes_max: 8192,
    chunk_line_bytes_max: 4096,
    trailer_bytes_max: 16_384,
};

/// Fields of a request whose body smuggles another: name of the attack, fields (`|` for CRLF), refusal.
const FRAMING: &[(&str, &[u8], &str)] = &[
    // Two answers to the question how long the body is.
    ("CL.TE", b"Content-Length: 6|Transfer-Encoding: chunked", "LengthWithTransferEncoding"),
    ("TE.CL", b"Transfer-Encoding: chunked|Content-Length: 4", "LengthWithTransferEncoding"),
    ("CL.TE with zero", b"Content-Length: 0|Transfer-Encoding: chunked", "LengthWithTransferEncoding"),
    (
        "CL.TE far apart",
        b"Content-Length: 6|A: b|C: d|E: f|Transfer-Encoding: chunked",
        "LengthWithTransferEncoding",
    ),
    ("CL.CL", b"Content-Length: 0|Content-Length: 44", "SecondContentLength"),
    ("CL.CL equal", b"Content-Length: 44|Content-Length: 44", "SecondContentLength"),
    ("CL.CL in other letters", b"Content-Length: 0|CONTENT-LENGTH: 44", "SecondContentLength"),
    ("CL.CL behind an empty one", b"Content-Length:|Content-Length: 44", "BadContentLength"),
    ("TE.TE", b"Transfer-Encoding: chunked|Transfer-Encoding: identity", "BadTransferEncoding"),
    ("TE.TE unknown last", b"Transfer-Encoding: chunked|Transfer-Encoding: x", "BadTransferEncoding"),
    ("TE.TE unknown first", b"Transfer-Encoding: x|Transfer-Encoding: chunked", "BadTransferEncoding"),
    ("TE.TE twice the same", b"Transfer-Encoding: chunked|Transfer-Encoding: chunked", "BadTransferEncoding"),
    // Transfer-encodings that one parser takes for chunked and another does not.
    ("TE with a tab behind", b"Transfer-Encoding: chunked\t", "BadTransferEncoding"),
    ("TE with a tab before", b"Transfer-Encoding:\tchunked", "BadTransferEncoding"),
    ("TE with a space behind", b"Transfer-Encoding: chunked ", "BadTransferEncoding"),
    ("TE with a vertical tab", b"Transfer-Encoding: \x0bchunked", "BadFieldValue"),
    ("TE with a form feed", b"Transfer-Encoding: \x0cchunked", "BadFieldValue"),
    ("TE with a no-break space", b"Transfer-Encoding: \xa0chunked", "BadTransferEncoding"),
    ("TE with 0xff", b"Transfer-Encoding: chunked\xff", "BadTransferEncoding"),
    ("TE with NUL", b"Transfer-Encoding: chunked\0", "BadFieldValue"),
    ("TE with DEL", b"Transfer-Encoding: chunked\x7f", "BadFieldValue"),
    ("TE with a suffix", b"Transfer-Encoding: chunkedx", "BadTransferEncoding"),
    ("TE with a prefix", b"Transfer-Encoding: xchunked", "BadTransferEncoding"),
    ("TE with a letter less", b"Transfer-Encoding: chunke", "BadTransferEncoding"),
    ("TE in quotes", b"Transfer-Encoding: \"chunked\"", "BadTransferEncoding"),
    ("TE in single quotes", b"Transfer-Encoding: 'chunked'", "BadTransferEncoding"),
    ("TE with a parameter", b"Transfer-Encoding: chunked;q=0.5", "BadTransferEncoding"),
    ("TE with a comma behind", b"Transfer-Encoding: chunked,", "BadTransferEncoding"),
    ("TE with a comma before", b"Transfer-Encoding: ,chunked", "BadTransferEncoding"),
    ("TE identity, chunked", b"Transfer-Encoding: identity, chunked", "BadTransferEncoding"),
    ("TE chunked, identity", b"Transfer-Encoding: chunked, identity", "BadTransferEncoding"),
    ("TE cow, chunked", b"Transfer-Encoding: cow, chunked", "BadTransferEncoding"),
    ("TE gzip", b"Transfer-Encoding: gzip|Content-Length: 5", "BadTransferEncoding"),
    ("TE identity", b"Transfer-Encoding: identity|Content-Length: 5", "BadTransferEncoding"),
    ("TE empty", b"Transfer-Encoding:|Content-Length: 5", "BadTransferEncoding"),
    ("TE with a long s", b"Transfer-Encoding: chun\xe2\x84\xaaed", "BadTransferEncoding"),
    // Names that one parser takes for a framing field and another does not.
    (
        "TE with a space before the colon",
        b"Content-Length: 5|Transfer-Encoding : chunked",
        "SpaceBeforeColon",
    ),
    ("TE with a tab before the colon", b"Content-Length: 5|Transfer-Encoding\t: chunked", "SpaceBeforeColon"),
    ("CL with a space before the colon", b"Content-Length : 5", "SpaceBeforeColon"),
    ("TE with NUL in its name", b"Content-Length: 5|Transfer-Encoding\0: chunked", "BadFieldName"),
    (
        "TE with a vertical tab in its name",
        b"Content-Length: 5|Transfer-Encoding\x0b: chunked",
        "BadFieldName",
    ),
    ("TE with 0xff before its name", b"Content-Length: 5|\xffTransfer-Encoding: chunked", "BadFieldName"),
    ("TE with a space in its name", b"Content-Length: 5|Transfer Encoding: chunked", "BadFieldName"),
    ("TE with an underscore", b"Content-Length: 5|Transfer_Encoding: chunked", "AmbiguousFieldName"),
    ("CL with an underscore", b"Content_Length: 5", "AmbiguousFieldName"),
    ("TE with a dot", b"Content-Length: 5|Transfer.Encoding: chunked", "AmbiguousFieldName"),
    ("CL with a tilde", b"content~LENGTH: 5", "AmbiguousFieldName"),
    ("TE without a colon", b"Content-Length: 5|Transfer-Encoding chunked", "BadFieldName"),
    ("TE alone on its line", b"Content-Length: 5|Transfer-Encoding", "MissingColon"),
    ("empty name before TE", b"Content-Length: 5|: x|Transfer-Encoding: chunked", "EmptyFieldName"),
    ("colon before TE", b"Content-Length: 5|:Transfer-Encoding: chunked", "EmptyFieldName"),
    ("space before TE", b"Content-Length: 5| Transfer-Encoding: chunked", "ObsFold"),
    ("TE folded", b"Content-Length: 5|Transfer-Encoding:| chunked", "BadTransferEncoding"),
    ("TE folded with a tab", b"Content-Length: 5|A: b|\tTransfer-Encoding: chunked", "ObsFold"),
    ("TE hidden in a fold", b"Content-Length: 5|A: b| |Transfer-Encoding: chunked", "ObsFold"),
    // Line ends that one parser sees and another does not.
    ("TE behind a bare CR", b"Content-Length: 5|A: b\rTransfer-Encoding: chunked", "BareCr"),
    ("TE behind a bare LF", b"Content-Length: 5|A: b\nTransfer-Encoding: chunked", "BareLf"),
    ("TE behind LF CR", b"Content-Length: 5|A: b\n\rTransfer-Encoding: chunked", "BareLf"),
    ("TE behind CR CR LF", b"Content-Length: 5|A: b\r|Transfer-Encoding: chunked", "BareCr"),
    ("bare LF as the empty line", b"Content-Length: 5\n|A: b", "BareLf"),
    ("NUL in another value", b"Content-Length: 5|A: b\0c", "BadFieldValue"),
    // Lengths that parsers read as different numbers.
    ("CL with a sign", b"Content-Length: +44", "BadContentLength"),
    ("CL negative", b"Content-Length: -1", "BadContentLength"),
    ("CL negative zero", b"Content-Length: -0", "BadContentLength"),
    ("CL hexadecimal", b"Content-Length: 0x2c", "BadContentLength"),
    ("CL with hexadecimal digits", b"Content-Length: 2c", "BadContentLength"),
    ("CL octal", b"Content-Length: 044", "BadContentLength"),
    ("CL empty", b"Content-Length:", "BadContentLength"),
    ("CL of spaces", b"Content-Length:    ", "BadContentLength"),
    ("CL with a tab", b"Content-Length:\t44", "BadContentLength"),
    ("CL with a space behind", b"Content-Length: 44 ", "BadContentLength"),
    ("CL with a space inside", b"Content-Length: 4 4", "BadContentLength"),
    ("CL list", b"Content-Length: 0, 44", "BadContentLength"),
    ("CL list of equals", b"Content-Length: 44, 44", "BadContentLength"),
    ("CL list with an empty element", b"Content-Length: 44,", "BadContentLength"),
    ("CL with a fraction", b"Content-Length: 44.0", "BadContentLength"),
    ("CL with an exponent", b"Content-Length: 4e1", "BadContentLength"),
    ("CL with an underscore inside", b"Content-Length: 4_4", "BadContentLength"),
    ("CL in quotes", b"Content-Length: \"44\"", "BadContentLength"),
    ("CL beyond 64 bits", b"Content-Length: 18446744073709551660", "BadContentLength"),
    ("CL beyond 63 bits", b"Content-Length: 9223372036854775808", "BadContentLength"),
    ("CL of other digits", b"Content-Length: \xd9\xa4", "BadContentLength"),
    ("CL cut by a semicolon", b"Content-Length: 44;", "BadContentLength"),
    // What the next hop would drop.
    ("Connection names CL", b"Connection: Content-Length|Content-Length: 44", "BadConnection"),
    ("Connection names TE", b"Connection: transfer-encoding|Transfer-Encoding: chunked", "BadConnection"),
    ("Connection names Host", b"Connection: close, Host", "BadConnection"),
    ("Connection with a broken list", b"Connection: close; Host", "BadConnection"),
    // Who waits for whom.
    ("Expect with more in front", b"Expect: y 100-continue|Content-Length: 44", "BadExpectation"),
    ("Expect of something else", b"Expect: 200-ok|Content-Length: 44", "BadExpectation"),
    ("Expect twice", b"Expect: 100-continue|Expect: 100-continue|Content-Length: 44", "BadExpectation"),
    // What leaves HTTP.
    ("Upgrade websocket", b"Connection: Upgrade|Upgrade: websocket", "Upgrade"),
    ("Upgrade h2c beside websocket", b"Connection: Upgrade|Upgrade: websocket, h2c", "Upgrade"),
    ("Upgrade without Connection", b"Upgrade: websocket", "Upgrade"),
];

/// Whole heads: name of the attack, bytes, refusal.
const HEADS: &[(&str, &[u8], &str)] = &[
    (
        "TE on 1.0",
        b"POST / HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
        "TransferEncodingOn10",
    ),
    ("empty line first", b"\r\nGET /admin HTTP/1.1\r\nHost: x\r\n\r\n", "LeadingEmptyLine"),
    ("bare LF first", b"\nGET /admin HTTP/1.1\r\nHost: x\r\n\r\n", "LeadingEmptyLine"),
    ("bare LF only", b"GET / HTTP/1.1\nHost: x\n\n", "BareLf"),
    ("HTTP/0.9", b"GET /admin\r\n\r\n", "BadVersion"),
    ("HTTP/1.2", b"GET / HTTP/1.2\r\nHost: x\r\n\r\n", "BadVersion"),
    ("HTTP/2.0", b"GET / HTTP/2.0\r\nHost: x\r\n\r\n", "BadVersion"),
    ("HTTP/01.1", b"GET / HTTP/01.1\r\nHost: x\r\n\r\n", "BadVersion"),
    ("two versions", b"GET / HTTP/1.1 HTTP/1.0\r\nHost: x\r\n\r\n", "BadVersion"),
    ("HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "MethodPri"),
    ("space in the target", b"GET /admin /public HTTP/1.1\r\nHost: x\r\n\r\n", "BadVersion"),
    ("tab in the request line", b"GET\t/admin HTTP/1.1\r\nHost: x\r\n\r\n", "BadMethod"),
    ("vertical tab in the request line", b"GET /\x0bHTTP/1.1\r\nHost: x\r\n\r\n", "BadTarget"),
    ("bare CR in the request line", b"GET /\rHTTP/1.1\r\nHost: x\r\n\r\n", "BadVersion"),
    ("bare CR behind the version", b"GET / HTTP/1.1\rA: b\r\nHost: x\r\n\r\n", "BareCr"),
    ("NUL in the target", b"GET /public\0/admin HTTP/1.1\r\nHost: x\r\n\r\n", "BadTarget"),
    ("raw overlong dots", b"GET /public/\xc0\xae\xc0\xae/admin HTTP/1.1\r\nHost: x\r\n\r\n", "BadTarget"),
    ("raw overlong slash", b"GET /public/..\xe0\x80\xafadmin HTTP/1.1\r\nHost: x\r\n\r\n", "BadTarget"),
    ("raw control byte", b"GET /admin\x01 HTTP/1.1\r\nHost: x\r\n\r\n", "BadTarget"),
    ("raw delete", b"GET /admin\x7f HTTP/1.1\r\nHost: x\r\n\r\n", "BadTarget"),
    ("fragment", b"GET /public#/../admin HTTP/1.1\r\nHost: x\r\n\r\n", "BadTarget"),
    ("no slash", b"GET admin HTTP/1.1\r\nHost: x\r\n\r\n", "BadTarget"),
    ("gRPC without a slash", b"POST pkg.Service/Method HTTP/1.1\r\nHost: x\r\n\r\n", "BadTarget"),
    ("no Host", b"GET / HTTP/1.1\r\nA: b\r\n\r\n", "MissingHost"),
    ("two Hosts", b"GET / HTTP/1.1\r\nHost: public\r\nHost: admin\r\n\r\n", "SecondHost"),
    ("two equal Hosts", b"GET / HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n", "SecondHost"),
    ("Host list", b"GET / HTTP/1.1\r\nHost: public, admin\r\n\r\n", "BadHost"),
    ("Host with a user", b"GET / HTTP/1.1\r\nHost: public@admin\r\n\r\n", "BadHost"),
    ("Host with a path", b"GET / HTTP/1.1\r\nHost: public/admin\r\n\r\n", "BadHost"),
    ("Host with a tab", b"GET / HTTP/1.1\r\nHost:\tpublic\r\n\r\n", "BadHost"),
    (
        "Host with a space before the colon",
        b"GET / HTTP/1.1\r\nHost : admin\r\nHost: public\r\n\r\n",
        "SpaceBeforeColon",
    ),
    ("Host folded away", b"GET / HTTP/1.1\r\n Host: admin\r\nHost: public\r\n\r\n", "ObsFold"),
    ("absolute form of another host", b"GET http://admin/ HTTP/1.1\r\nHost: public\r\n\r\n", "HostMismatch"),
    ("absolute form with a user", b"GET http://public@admin/ HTTP/1.1\r\nHost: public\r\n\r\n", "BadTarget"),
    ("absolute form alone", b"GET http://admin/ HTTP/1.0\r\n\r\n", "MissingHost"),
    ("CONNECT", b"CONNECT admin:80 HTTP/1.1\r\nHost: admin:80\r\n\r\n", "Upgrade"),
    ("connect", b"connect admin:80 HTTP/1.1\r\nHost: admin:80\r\n\r\n", "BadMethod"),
    ("head", b"head / HTTP/1.1\r\nHost: x\r\n\r\n", "BadMethod"),
];

/// Bodies behind `Transfer-Encoding: chunked`: name of the attack, bytes, refusal.
const CHUNKS: &[(&str, &[u8], &str)] = &[
    ("size with a sign", b"+5\r\nhello\r\n0\r\n\r\n", "BadChunkSize"),
    ("size negative", b"-5\r\nhello\r\n0\r\n\r\n", "BadChunkSize"),
    ("size with 0x", b"0x5\r\nhello\r\n0\r\n\r\n", "BadChunkSize"),
    ("size empty", b"\r\nhello\r\n0\r\n\r\n", "BadChunkSize"),
    ("size behind a space", b" 5\r\nhello\r\n0\r\n\r\n", "BadChunkSize"),
    ("size before a space", b"5 \r\nhello\r\n0\r\n\r\n", "BadChunkSize"),
    ("size before a tab", b"5\t\r\nhello\r\n0\r\n\r\n", "BadChunkSize"),
    ("size with an underscore", b"0_5\r\nhello\r\n0\r\n\r\n", "BadChunkSize"),
    ("size with a fraction", b"5.0\r\nhello\r\n0\r\n\r\n", "BadChunkSize"),
    ("size with NUL", b"5\0\r\nhello\r\n0\r\n\r\n", "BadChunkSize"),
    ("size of other digits", b"\xd9\xa5\r\nhello\r\n0\r\n\r\n", "BadChunkSize"),
    ("size beyond 64 bits", b"10000000000000005\r\nhello\r\n0\r\n\r\n", "BadChunkSize"),
    ("size of 64 bits", b"ffffffffffffffff\r\nhello\r\n0\r\n\r\n", "BadChunkSize"),
    ("size that is negative when signed", b"8000000000000005\r\nhello\r\n0\r\n\r\n", "BadChunkSize"),
    ("size with many zeros", b"000000000000000005\r\nhello\r\n0\r\n\r\n", "BadChunkSize"),
    ("size before a bare LF", b"5\nhello\r\n0\r\n\r\n", "BareLf"),
    ("size before a bare CR", b"5\rhello\r\n0\r\n\r\n", "BadChunkSize"),
    ("extension before a bare LF", b"5;a\nhello\r\n0\r\n\r\n", "BareLf"),
    ("extension with a bare CR", b"5;a\rb\r\nhello\r\n0\r\n\r\n", "BadChunkSize"),
    ("extension of nothing", b"5;\r\nhello\r\n0\r\n\r\n", "BadChunkExtension"),
    ("extension without a name", b"5;=a\r\nhello\r\n0\r\n\r\n", "BadChunkExtension"),
    ("extension of two words", b"5;a b\r\nhello\r\n0\r\n\r\n", "BadChunkExtension"),
    ("extension before a space", b"5;a \r\nhello\r\n0\r\n\r\n", "BadChunkExtension"),
    ("extension with a quote left open", b"5;a=\"\r\nhello\r\n0\r\n\r\n", "BadChunkExtension"),
    ("extension with an escaped quote left open", b"5;a=\"\\\"\r\nhello\r\n0\r\n\r\n", "BadChunkExtension"),
    ("extension with a quote for a name", b"5;\"a\r\nhello\r\n0\r\n\r\n", "BadChunkExtension"),
    ("last chunk with a quote left open", b"0;a=\"\r\n\r\n", "BadChunkExtension"),
    ("extension with a quoted LF", b"5;a=\"\n\"\r\nhello\r\n0\r\n\r\n", "BareLf"),
    ("extension with NUL", b"5;\0\r\nhello\r\n0\r\n\r\n", "BadChunkExtension"),
    ("data longer than its size", b"4\r\nhello\r\n0\r\n\r\n", "BadChunkEnd"),
    ("data before a bare LF", b"5\r\nhello\n0\r\n\r\n", "BareLf"),
    ("data before a bare CR", b"5\r\nhello\r0\r\n\r\n", "BadChunkEnd"),
    ("data before nothing", b"5\r\nhello0\r\n\r\n", "BadChunkEnd"),
    ("data before two bytes of any kind", b"5\r\nhelloXX0\r\n\r\n", "BadChunkEnd"),
    ("end before a bare LF", b"0\r\n\nGET /admin HTTP/1.1\r\n", "BareLf"),
    ("end with two bare LF", b"0\n\n", "BareLf"),
    ("trailer CL", b"0\r\nContent-Length: 44\r\n\r\n", "ForbiddenTrailer"),
    ("trailer TE", b"0\r\nTransfer-Encoding: chunked\r\n\r\n", "ForbiddenTrailer"),
    ("trailer Host", b"0\r\nHost: admin\r\n\r\n", "ForbiddenTrailer"),
    ("trailer Connection", b"0\r\nConnection: close\r\n\r\n", "ForbiddenTrailer"),
    ("trailer with an underscore", b"0\r\nContent_Length: 44\r\n\r\n", "ForbiddenTrailer"),
    ("trailer folded", b"0\r\nA: b\r\n c\r\n\r\n", "BadTrailer"),
    ("trailer before a bare LF", b"0\r\nA: b\n\r\n", "BareLf"),
    ("trailer with a bare CR", b"0\r\nA: b\rC: d\r\n\r\n", "BadTrailer"),
    ("trailer without a colon", b"0\r\nGET /admin HTTP/1.1\r\n\r\n", "BadTrailer"),
    ("trailer with an empty name", b"0\r\n: b\r\n\r\n", "BadTrailer"),
    ("trailer with a space before the colon", b"0\r\nA : b\r\n\r\n", "BadTrailer"),
    ("trailer with NUL", b"0\r\nA: \0\r\n\r\n", "BadTrailer"),
];

/// Targets that some backend takes for `/admin` or what is below it, though a careless rule for `/public/.*` would not.
const PATHS: &[&str] = &[
    "/public/../admin",
    "/public/./../admin",
    "/public/x/../../admin",
    "/public/%2e%2e/admin",
    "/public/%2E%2e/admin",
    "/public/.%2e/admin",
    "/public/%2e./admin",
    "/public/..%2fadmin",
    "/public/..%2Fadmin",
    "/public%2f..%2fadmin",
    "/public/%2e%2e%2fadmin",
    "/public/..%5cadmin",
    "/public/..%5Cadmin",
    "/public/..\\admin",
    "/public\\..\\admin",
    "/public/\\../../admin",
    "/public/..;/admin",
    "/public/..;x=y/admin",
    "/public/%2e%2e;/admin",
    "/public/.;/..;/admin",
    "/public/..;%2fadmin",
    "/public/;/../../admin",
    "/public//../../admin",
    "/public/..//admin",
    "/public/..;a//admin",
    "/public/../admin?x=/public/",
    "/public/..\\%61dmin",
    "/public/%2e%2e/%61%64%6d%69%6e",
    "/public/x/..%2f../admin",
    "/public/x%2f..%2f..%5cadmin",
    "/public/../admin/",
    "/public/../admin;x",
    "/public/..%2fadmin%2f..%2fadmin",
    "/public/a/b/../../../admin",
    "/public/.;x/.;y/..;z/admin",
    "/public/..%3b/admin",
    "/public/..%3Bx%2fadmin",
    "/public/..%20/admin",
    "/public/..%20%20%2fadmin",
    "/public/../admin%3f/../public/x",
    "/public/../admin%23/../public/x",
    "/public/../admin%20/../public/x",
    "/public/../admin;/../public/x",
    "/admin%3f/../public/x",
    "/admin%23.css",
    "/admin%3F.css",
    "/public/x%2f../../admin%23x",
];

/// Targets that no path can be made of: target, refusal.
const BROKEN_PATHS: &[(&str, &str)] = &[
    ("/public/%252e%252e/admin", "EscapedEscape"),
    ("/public/%25%32%65%25%32%65/admin", "EscapedEscape"),
    ("/public/..%252fadmin", "EscapedEscape"),
    ("/public/..%255cadmin", "EscapedEscape"),
    ("/public/..%25%32fadmin", "EscapedEscape"),
    ("/public/%00/../admin", "EscapedNul"),
    ("/admin%00.html", "EscapedNul"),
    ("/public/%2", "BrokenEscape"),
    ("/public/%2/..%", "BrokenEscape"),
    ("/public/%u002e%u002e/admin", "BrokenEscape"),
    ("/public/%%32%65%%32%65/admin", "BrokenEscape"),
    ("/public/%2g", "BrokenEscape"),
    ("/public/%c0%ae%c0%ae%", "BrokenEscape"),
    ("/public/%c0%ae%c0%ae/admin", "OverlongUtf8"),
    ("/public/..%c0%afadmin", "OverlongUtf8"),
    ("/public/..%c1%9cadmin", "OverlongUtf8"),
    ("/public/..%c1%1cadmin", "EscapedControl"),
    ("/public/..%c0/admin", "OverlongUtf8"),
    ("/public/..%e0%80%afadmin", "OverlongUtf8"),
    ("/public/%e0%80%ae./admin", "OverlongUtf8"),
    ("/public/..%f0%80%80%afadmin", "OverlongUtf8"),
    ("/public/..%fc%80%80%80%80%afadmin", "OverlongUtf8"),
    ("/public/..%0a/admin", "EscapedControl"),
    ("/public/..%09/admin", "EscapedControl"),
    ("/admin%0d%0a", "EscapedControl"),
    ("/admin%7f", "EscapedControl"),
];

const SMUGGLED: &[u8] = b"0\r\n\r\nGET /admin HTTP/1.1\r\nHost: x\r\n\r\n";

#[test]
fn framing_fields() {
    for (name, fields, expect) in FRAMING {
        let fields = fields.split(|byte| *byte == b'|').collect::<Vec<_>>().join(b"\r\n".as_slice());
        let head = [b"POST /public HTTP/1.1\r\nHost: x\r\n".as_slice(), &fields, b"\r\n\r\n", SMUGGLED];
        check(name, &head.concat(), expect);
    }
}

#[test]
fn heads() {
    for (name, head, expect) in HEADS {
        check(name, head, expect);
    }
}

#[test]
fn chunks() {
    let head = b"POST /public HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".as_slice();
    for (name, body, expect) in CHUNKS {
        check(name, &[head, body, b"GET /admin HTTP/1.1\r\nHost: x\r\n\r\n"].concat(), expect);
    }
}

#[test]
fn paths() {
    let mut readings = Readings::default();
    for target in PATHS {
        readings.read(target, 8192).unwrap();
        assert!(
            readings.iter().any(|reading| reading.starts_with(b"/admin")),
            "{target} is not seen through"
        );
    }
}

#[test]
fn broken_paths() {
    for (target, expect) in BROKEN_PATHS {
        check(target, format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes(), expect);
    }
}

#[test]
fn the_corpus_is_as_large_as_it_should_be() {
    let attacks = FRAMING.len() + HEADS.len() + CHUNKS.len() + PATHS.len() + BROKEN_PATHS.len();
    assert!(attacks >= 200, "{attacks} attacks");
}

/// What follows a body that ends where all agree is a request of its own, and is judged as one.
#[test]
fn the_next_request_is_seen() {
    let input = b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n0\r\n\r\nGET /admin HTTP/1.1\r\nHost: x\r\n\r\n";
    check("pipelined", input, "POST /a, GET /admin");
}

#[track_caller]
fn check(name: &str, input: &[u8], expect: &str) {
    assert_eq!(arriving(input, &[input.len()]), expect, "{name}");
    assert_eq!(arriving(input, &(0..=input.len()).collect::<Vec<_>>()), expect, "{name}, byte by byte");
    for split in 0..input.len() {
        assert_eq!(arriving(input, &[split, input.len()]), expect, "{name}, split at {split}");
    }
}

/// The requests of a connection, or the name of what ends it first.
fn arriving(input: &[u8], ends: &[usize]) -> String {
    let mut scan = HeadScan::default();
    let mut requests = Vec::new();
    let mut body: Option<Body> = None;
    let mut at = 0;
    for end in ends {
        while at < *end {
            let rest = &input[at..*end];
            if let Some(current) = &mut body {
                match current.advance(rest, &LIMITS) {
                    Ok(advance) => at += advance.taken,
                    Err(error) => return format!("{error:?}"),
                }
                if current.is_done() {
                    body = None;
                }
                continue;
            }
            match request(&mut scan, rest, &LIMITS) {
                Ok(Progress::Incomplete) => break,
                Ok(Progress::Complete { message, .. }) if message.upgrade == Upgrade::Other => {
                    return "Upgrade".to_owned();
                }
                Ok(Progress::Complete { message, consumed }) => {
                    if let Err(error) = Readings::default().read(message.origin, 8192) {
                        return format!("{error:?}");
                    }
                    requests.push(format!("{} {}", message.method, message.target));
                    body = Some(Body::new(message.body)).filter(|body| !body.is_done());
                    at += consumed;
                }
                Err(error) => return format!("{error:?}"),
            }
        }
    }
    requests.join(", ")
}
