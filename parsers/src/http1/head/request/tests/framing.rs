//! Fields that say where the body ends, and what becomes of the connection.

use super::check;
use std::format;

// Framing.

#[test]
fn content_length() {
    check("POST / HTTP/1.1|Host: x|Content-Length: 5", "POST / [/] x 5 keep");
}

#[test]
fn content_length_zero() {
    check("POST / HTTP/1.1|Host: x|Content-Length:0", "POST / [/] x 0 keep");
}

#[test]
fn content_length_at_its_bound() {
    check(
        "POST / HTTP/1.1|Host: x|Content-Length: 9223372036854775807",
        "POST / [/] x 9223372036854775807 keep",
    );
}

#[test]
fn content_length_beyond_its_bound() {
    check("POST / HTTP/1.1|Host: x|Content-Length: 9223372036854775808", "BadContentLength");
}

#[test]
fn content_lengths_that_are_none() {
    let lengths = [
        "",
        "+5",
        "-5",
        "0x5",
        "5a",
        "5 ",
        "5\t",
        "\t5",
        "5, 5",
        "5,5",
        ",5",
        "5,",
        "5 5",
        "5.0",
        "5;",
        "\"5\"",
        "1e3",
        "05",
        "00",
        "18446744073709551616",
        "184467440737095516160",
        "99999999999999999999999999",
        "\u{663}",
        "five",
    ];
    for length in lengths {
        check(&format!("POST / HTTP/1.1|Host: x|Content-Length: {length}"), "BadContentLength");
    }
}

#[test]
fn second_content_length() {
    check("POST / HTTP/1.1|Host: x|Content-Length: 5|Content-Length: 6", "SecondContentLength");
}

#[test]
fn second_content_length_that_is_equal() {
    check("POST / HTTP/1.1|Host: x|Content-Length: 5|content-length: 5", "SecondContentLength");
}

#[test]
fn chunked() {
    check("POST / HTTP/1.1|Host: x|Transfer-Encoding: chunked", "POST / [/] x chunked keep");
}

#[test]
fn chunked_in_other_letters() {
    check("POST / HTTP/1.1|Host: x|TRANSFER-ENCODING:ChunKED", "POST / [/] x chunked keep");
}

#[test]
fn transfer_encodings_that_are_refused() {
    let encodings = [
        "",
        "identity",
        "gzip",
        "gzip, chunked",
        "chunked, gzip",
        "chunked, chunked",
        "chunked,",
        ",chunked",
        "chunked ",
        "chunked\t",
        "\tchunked",
        " \tchunked",
        "xchunked",
        "chunkedx",
        "chunked;q=1",
        "\"chunked\"",
        "chunke",
        "identity, chunked",
        "chunked\u{a0}",
        "'chunked'",
        "chunk ed",
    ];
    for encoding in encodings {
        check(&format!("POST / HTTP/1.1|Host: x|Transfer-Encoding: {encoding}"), "BadTransferEncoding");
    }
}

#[test]
fn second_transfer_encoding() {
    check(
        "POST / HTTP/1.1|Host: x|Transfer-Encoding: chunked|Transfer-Encoding: chunked",
        "BadTransferEncoding",
    );
}

#[test]
fn length_before_transfer_encoding() {
    check(
        "POST / HTTP/1.1|Host: x|Content-Length: 5|Transfer-Encoding: chunked",
        "LengthWithTransferEncoding",
    );
}

#[test]
fn length_behind_transfer_encoding() {
    check(
        "POST / HTTP/1.1|Host: x|Transfer-Encoding: chunked|Content-Length: 0",
        "LengthWithTransferEncoding",
    );
}

#[test]
fn transfer_encoding_on_1_0() {
    check("POST / HTTP/1.0|Host: x|Transfer-Encoding: chunked", "TransferEncodingOn10");
}

#[test]
fn names_that_gateways_take_for_framing() {
    for name in ["Content_Length", "content-LENGTH_", "Transfer_Encoding", "transfer_encoding"] {
        let expect = if name.ends_with('_') { "POST / [/] x none keep" } else { "AmbiguousFieldName" };
        check(&format!("POST / HTTP/1.1|Host: x|{name}: 5"), expect);
    }
}

// The connection.

#[test]
fn connection_close() {
    check("GET / HTTP/1.1|Host: x|Connection: Close", "GET / [/] x none close");
}

#[test]
fn connection_close_among_others() {
    check("GET / HTTP/1.1|Host: x|Connection: TE ,, close", "GET / [/] x none close");
}

#[test]
fn connection_close_in_the_second_field() {
    check("GET / HTTP/1.1|Host: x|Connection: keep-alive|Connection: close", "GET / [/] x none close");
}

#[test]
fn keep_alive_on_1_0() {
    check("GET / HTTP/1.0|Connection: Keep-Alive", "GET / [/]  none keep");
}

#[test]
fn close_wins_over_keep_alive_on_1_0() {
    check("GET / HTTP/1.0|Connection: keep-alive, close", "GET / [/]  none close");
}

#[test]
fn token_that_only_begins_with_close() {
    check("GET / HTTP/1.1|Host: x|Connection: closed", "GET / [/] x none keep");
}

#[test]
fn connection_options_that_are_none() {
    for option in ["clo se", "close;", "\"close\"", "a=b", "close, caf\u{e9}"] {
        check(&format!("GET / HTTP/1.1|Host: x|Connection: {option}"), "BadConnection");
    }
}

#[test]
fn connection_that_names_what_frames_or_routes() {
    for option in ["Content-Length", "close, transfer-encoding", "HOST", "Expect"] {
        check(&format!("GET / HTTP/1.1|Host: x|Connection: {option}"), "BadConnection");
    }
}

#[test]
fn expect_continue() {
    check("POST / HTTP/1.1|Host: x|Expect: 100-Continue|Content-Length: 1", "POST / [/] x 1 keep continue");
}

#[test]
fn expectations_that_are_refused() {
    for expect in ["", "100", "100-continue, 100-continue", "y 100-continue", "200-ok", "100-continue;q=1"] {
        check(&format!("POST / HTTP/1.1|Host: x|Expect: {expect}"), "BadExpectation");
    }
}

#[test]
fn second_expectation() {
    check("POST / HTTP/1.1|Host: x|Expect: 100-continue|Expect: 100-continue", "BadExpectation");
}
