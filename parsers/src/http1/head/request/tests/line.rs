//! The request line, and the forms of its target.

use super::{check, check_raw};
use std::format;

// The request line.

#[test]
fn origin_form() {
    check("GET /a?b=c HTTP/1.1|Host: x", "GET /a?b=c [/a?b=c] x none keep");
}

#[test]
fn one_byte_methods_and_paths() {
    check("G / HTTP/1.1|Host: x", "G / [/] x none keep");
}

#[test]
fn methods_keep_their_case() {
    check("post / HTTP/1.1|Host: x", "post / [/] x none keep");
}

#[test]
fn head_in_other_letters() {
    check("Head / HTTP/1.1|Host: x", "BadMethod");
}

#[test]
fn connect_in_other_letters() {
    check("connect h:1 HTTP/1.1|Host: h:1", "BadMethod");
}

#[test]
fn method_pri() {
    check("PRI * HTTP/2.0", "MethodPri");
}

#[test]
fn method_pri_of_http1() {
    check("PRI / HTTP/1.1|Host: x", "MethodPri");
}

#[test]
fn method_that_begins_like_pri() {
    check("PRIZE / HTTP/1.1|Host: x", "PRIZE / [/] x none keep");
}

#[test]
fn method_with_a_separator() {
    check("G(T / HTTP/1.1|Host: x", "BadMethod");
}

#[test]
fn method_behind_a_space() {
    check(" GET / HTTP/1.1|Host: x", "BadMethod");
}

#[test]
fn method_before_a_tab() {
    check("GET\t/ HTTP/1.1|Host: x", "BadMethod");
}

#[test]
fn binary_garbage_is_refused_at_its_first_byte() {
    check_raw(b"\x16\x03\x01", "BadMethod");
}

#[test]
fn another_protocol_is_refused_at_its_first_line() {
    check_raw(b"HELO mail.example\r\n", "BadVersion");
}

#[test]
fn method_alone() {
    check("GET|Host: x", "BadTarget");
}

#[test]
fn two_spaces_before_the_target() {
    check("GET  / HTTP/1.1|Host: x", "BadTarget");
}

#[test]
fn two_spaces_behind_the_target() {
    check("GET /  HTTP/1.1|Host: x", "BadVersion");
}

#[test]
fn space_in_the_target() {
    check("GET /a b HTTP/1.1|Host: x", "BadVersion");
}

#[test]
fn tab_in_the_target() {
    check("GET /a\tb HTTP/1.1|Host: x", "BadTarget");
}

#[test]
fn control_byte_in_the_target() {
    check("GET /a\x7fb HTTP/1.1|Host: x", "BadTarget");
}

#[test]
fn nul_in_the_target() {
    check("GET /a\0b HTTP/1.1|Host: x", "BadTarget");
}

#[test]
fn fragment_in_the_target() {
    check("GET /a#b HTTP/1.1|Host: x", "BadTarget");
}

#[test]
fn target_beyond_ascii() {
    check("GET /caf\u{e9} HTTP/1.1|Host: x", "BadTarget");
}

#[test]
fn target_without_a_slash() {
    check("GET a/b HTTP/1.1|Host: x", "BadTarget");
}

#[test]
fn target_that_is_only_a_query() {
    check("GET ?a HTTP/1.1|Host: x", "BadTarget");
}

#[test]
fn version_0_9() {
    check("GET /", "BadVersion");
}

#[test]
fn version_1_2() {
    check("GET / HTTP/1.2|Host: x", "BadVersion");
}

#[test]
fn version_2_0() {
    check("GET / HTTP/2.0|Host: x", "BadVersion");
}

#[test]
fn version_in_small_letters() {
    check("GET / http/1.1|Host: x", "BadVersion");
}

#[test]
fn version_with_more_digits() {
    check("GET / HTTP/1.10|Host: x", "BadVersion");
}

#[test]
fn space_behind_the_version() {
    check("GET / HTTP/1.1 |Host: x", "BadVersion");
}

#[test]
fn no_version_but_a_space() {
    check("GET / |Host: x", "BadVersion");
}

// Forms of the target.

#[test]
fn absolute_form() {
    check("GET http://x/a?b HTTP/1.1|Host: x", "GET http://x/a?b [/a?b] x none keep");
}

#[test]
fn absolute_form_without_a_path() {
    check("GET http://x HTTP/1.1|Host: x", "GET http://x [/] x none keep");
}

#[test]
fn absolute_form_in_other_letters() {
    check("GET HTTP://ExAmple/ HTTP/1.1|Host: exaMPle", "GET HTTP://ExAmple/ [/] exaMPle none keep");
}

#[test]
fn absolute_form_with_the_port_of_its_scheme() {
    check("GET http://x:80/ HTTP/1.1|Host: x", "GET http://x:80/ [/] x none keep");
}

#[test]
fn absolute_form_beside_a_host_with_the_port_of_its_scheme() {
    check("GET https://x/ HTTP/1.1|Host: x:443", "GET https://x/ [/] x:443 none keep");
}

#[test]
fn absolute_form_with_an_ipv6_address() {
    check("GET http://[::1]:8/ HTTP/1.1|Host: [::1]:8", "GET http://[::1]:8/ [/] [::1]:8 none keep");
}

#[test]
fn absolute_form_of_another_host() {
    check("GET http://y/ HTTP/1.1|Host: x", "HostMismatch");
}

#[test]
fn absolute_form_of_another_port() {
    check("GET http://x:81/ HTTP/1.1|Host: x", "HostMismatch");
}

#[test]
fn absolute_form_with_the_port_of_another_scheme() {
    check("GET https://x:80/ HTTP/1.1|Host: x", "HostMismatch");
}

#[test]
fn absolute_form_without_host() {
    check("GET http://x/ HTTP/1.1|A: b", "MissingHost");
}

#[test]
fn absolute_form_without_host_on_1_0() {
    check("GET http://x/ HTTP/1.0|A: b", "MissingHost");
}

#[test]
fn absolute_form_with_a_user() {
    check("GET http://u@x/ HTTP/1.1|Host: x", "BadTarget");
}

#[test]
fn absolute_form_without_an_authority() {
    check("GET http:///a HTTP/1.1|Host: x", "BadTarget");
}

#[test]
fn absolute_form_with_a_query_and_no_path() {
    check("GET http://x?a=/b HTTP/1.1|Host: x", "BadTarget");
}

/// Some backends take the first for `/a`, and the second for `//x`.
#[test]
fn a_scheme_with_too_few_or_too_many_slashes() {
    for target in
        ["http:/a", "http:a", "http:////x", "http://///x", "http:\\\\x/a", "http:", "http:/", "//x:80"]
    {
        let expect = if target == "//x:80" { "GET //x:80 [//x:80] x none keep" } else { "BadTarget" };
        check(&format!("GET {target} HTTP/1.1|Host: x"), expect);
    }
}

#[test]
fn absolute_form_of_another_scheme() {
    check("GET ftp://x/ HTTP/1.1|Host: x", "BadTarget");
}

#[test]
fn absolute_form_with_a_backslash() {
    check("GET http:\\\\x/ HTTP/1.1|Host: x", "BadTarget");
}

#[test]
fn asterisk_form() {
    check("OPTIONS * HTTP/1.1|Host: x", "OPTIONS * [*] x none keep");
}

#[test]
fn asterisk_form_of_another_method() {
    check("GET * HTTP/1.1|Host: x", "BadTarget");
}

#[test]
fn asterisk_form_said_absolutely() {
    check("OPTIONS http://x HTTP/1.1|Host: x", "BadTarget");
}

#[test]
fn authority_form() {
    check("CONNECT x:443 HTTP/1.1|Host: x:443", "CONNECT x:443 [x:443] x:443 none keep upgrade");
}

#[test]
fn authority_form_without_a_port() {
    check("CONNECT x HTTP/1.1|Host: x", "BadTarget");
}

#[test]
fn authority_form_of_another_method() {
    check("GET x:443 HTTP/1.1|Host: x:443", "BadTarget");
}

#[test]
fn connect_to_a_path() {
    check("CONNECT /a HTTP/1.1|Host: x", "BadTarget");
}
