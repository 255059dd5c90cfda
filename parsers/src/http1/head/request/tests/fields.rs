//! Field lines, and Host.

use super::{check, check_raw};
use std::format;

// Lines.

#[test]
fn leading_empty_line() {
    check_raw(b"\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n", "LeadingEmptyLine");
}

#[test]
fn leading_lf() {
    check_raw(b"\nGET / HTTP/1.1\r\nHost: x\r\n\r\n", "LeadingEmptyLine");
}

#[test]
fn bare_lf_behind_the_request_line() {
    check_raw(b"GET / HTTP/1.1\nHost: x\r\n\r\n", "BareLf");
}

#[test]
fn bare_lf_behind_a_field() {
    check_raw(b"GET / HTTP/1.1\r\nHost: x\nA: b\r\n\r\n", "BareLf");
}

#[test]
fn bare_lf_for_the_empty_line() {
    check_raw(b"GET / HTTP/1.1\r\nHost: x\r\n\n", "BareLf");
}

#[test]
fn bare_lf_in_a_name() {
    check_raw(b"GET / HTTP/1.1\r\nHo\nst: x\r\n\r\n", "BareLf");
}

#[test]
fn bare_cr_behind_the_request_line() {
    check_raw(b"GET / HTTP/1.1\rHost: x\r\n\r\n", "BareCr");
}

#[test]
fn bare_cr_in_a_value() {
    check_raw(b"GET / HTTP/1.1\r\nHost: x\rA: b\r\n\r\n", "BareCr");
}

#[test]
fn bare_cr_in_a_name() {
    check_raw(b"GET / HTTP/1.1\r\nHo\rst: x\r\n\r\n", "BareCr");
}

#[test]
fn bare_cr_before_crlf() {
    check_raw(b"GET / HTTP/1.1\r\nHost: x\r\r\n\r\n", "BareCr");
}

#[test]
fn folded_value() {
    check("GET / HTTP/1.1|Host: x|A: b| c", "ObsFold");
}

#[test]
fn value_folded_with_a_tab() {
    check("GET / HTTP/1.1|Host: x|A: b|\tc", "ObsFold");
}

#[test]
fn space_before_the_first_field() {
    check("GET / HTTP/1.1| Host: x", "ObsFold");
}

#[test]
fn line_of_spaces() {
    check("GET / HTTP/1.1|Host: x|  ", "ObsFold");
}

#[test]
fn space_before_the_colon() {
    check("GET / HTTP/1.1|Host : x", "SpaceBeforeColon");
}

#[test]
fn tab_before_the_colon() {
    check("GET / HTTP/1.1|Host\t: x", "SpaceBeforeColon");
}

#[test]
fn empty_name() {
    check("GET / HTTP/1.1|Host: x|: b", "EmptyFieldName");
}

#[test]
fn line_without_a_colon() {
    check("GET / HTTP/1.1|Host: x|Abc", "MissingColon");
}

#[test]
fn space_in_a_name() {
    check("GET / HTTP/1.1|Host: x|A b: c", "BadFieldName");
}

#[test]
fn name_beyond_ascii() {
    check("GET / HTTP/1.1|Host: x|\u{e9}: c", "BadFieldName");
}

#[test]
fn nul_in_a_name() {
    check("GET / HTTP/1.1|Host: x|A\0: c", "BadFieldName");
}

#[test]
fn nul_in_a_value() {
    check("GET / HTTP/1.1|Host: x|A: b\0c", "BadFieldValue");
}

#[test]
fn control_bytes_in_a_value() {
    for byte in (0_u8..0x20).filter(|byte| !b"\t\r\n".contains(byte)).chain([0x7f]) {
        let head =
            [b"GET / HTTP/1.1\r\nHost: x\r\nA: some text of some length ".as_slice(), &[byte], b"b\r\n\r\n"];
        check_raw(&head.concat(), "BadFieldValue");
    }
}

#[test]
fn tab_and_bytes_beyond_ascii_in_a_value() {
    check_raw(b"GET / HTTP/1.1\r\nHost: x\r\nA: b\tc\xff\x80\r\n\r\n", "GET / [/] x none keep");
}

#[test]
fn empty_value() {
    check("GET / HTTP/1.1|Host: x|A:", "GET / [/] x none keep");
}

// Host.

#[test]
fn missing_host() {
    check("GET / HTTP/1.1|A: b", "MissingHost");
}

#[test]
fn no_fields_at_all() {
    check("GET / HTTP/1.1", "MissingHost");
}

#[test]
fn missing_host_on_1_0() {
    check("GET / HTTP/1.0", "GET / [/]  none close");
}

#[test]
fn second_host() {
    check("GET / HTTP/1.1|Host: x|host: x", "SecondHost");
}

#[test]
fn second_host_on_1_0() {
    check("GET / HTTP/1.0|Host: x|Host: y", "SecondHost");
}

#[test]
fn host_without_a_space() {
    check("GET / HTTP/1.1|Host:x", "GET / [/] x none keep");
}

#[test]
fn host_with_port_underscore_and_dot() {
    check("GET / HTTP/1.1|Host: a_b.c-d.:8080", "GET / [/] a_b.c-d.:8080 none keep");
}

#[test]
fn host_that_is_an_ipv6_address() {
    check("GET / HTTP/1.1|Host: [f00d::a0f:0:0:ad]", "GET / [/] [f00d::a0f:0:0:ad] none keep");
}

#[test]
fn hosts_that_are_none() {
    let hosts = [
        "",
        "a,b",
        "a b",
        "u@a",
        "a/b",
        "a?b",
        "a#b",
        "a\\b",
        "a%41",
        "a:",
        ":80",
        "a:b",
        "a:8:0",
        "a:65536",
        "a:+80",
        "a:000080",
        "[::1",
        "::1",
        "[]",
        "[x]",
        "[::1]a",
        "[::1]]",
        "[fe80::1%25eth0]",
        "a\tb",
        "a\t",
        "\ta",
        "a ",
        "caf\u{e9}",
        "a;b",
        "a&b",
        "a\"b",
        "a*",
    ];
    for host in hosts {
        check(&format!("GET / HTTP/1.1|Host: {host}"), "BadHost");
    }
}
