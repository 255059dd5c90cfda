//! Upgrades: what is left of a head once an offer of h2c is cut out of it.

use crate::Progress;
use crate::http1::{HeadScan, Limits, Upgrade, head};
use std::format;
use std::string::String;

#[test]
fn an_offer_as_clients_make_it() {
    check(
        "A: b|Connection: Upgrade, HTTP2-Settings|Upgrade: h2c|HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA|C: d",
        "A: b|C: d",
    );
}

#[test]
fn an_offer_alone() {
    check("Upgrade: h2c|HTTP2-Settings: AA|Connection: Upgrade, HTTP2-Settings", "");
}

#[test]
fn an_offer_in_other_letters() {
    check("UPGRADE:  H2C |connection: upgrade,http2-settings", "");
}

#[test]
fn close_stays_in_front() {
    check("Connection: close, Upgrade, HTTP2-Settings|Upgrade: h2c", "Connection: close");
}

#[test]
fn close_stays_at_the_end() {
    check("Connection: Upgrade, HTTP2-Settings, close|Upgrade: h2c", "Connection: close");
}

#[test]
fn close_stays_in_between() {
    check("Connection: Upgrade, close, HTTP2-Settings|Upgrade: h2c", "Connection: close");
}

#[test]
fn keep_alive_stays_in_a_field_of_its_own() {
    check("Connection: keep-alive|Connection: Upgrade|Upgrade: h2c", "Connection: keep-alive");
}

#[test]
fn several_options_stay() {
    check("Connection: TE,Upgrade ,\tclose|Upgrade: h2c|TE: trailers", "Connection: TE,close|TE: trailers");
}

#[test]
fn empty_elements_are_no_options() {
    check("Connection: , Upgrade,, ,HTTP2-Settings ,|Upgrade: h2c", "");
    check("Connection: ,close, Upgrade,, |Upgrade: h2c", "Connection: ,close,, ");
}

#[test]
fn neighbours_are_one_cut() {
    check(
        "Connection: Upgrade|Upgrade: h2c|HTTP2-Settings: AA|A: b|Connection: a, Upgrade, b, Upgrade",
        "A: b|Connection: a, b",
    );
}

#[test]
fn settings_without_an_offer() {
    check("HTTP2-Settings: AA|A: b", "A: b");
}

#[test]
fn an_offer_twice() {
    check("Upgrade: h2c|A: b|Upgrade: h2c", "A: b");
}

#[test]
fn the_body_goes_on() {
    check("Content-Length: 5|Upgrade: h2c|Connection: Upgrade", "Content-Length: 5");
}

#[test]
fn an_option_without_an_offer_stays() {
    refuse("Connection: Upgrade", Upgrade::None);
}

#[test]
fn other_upgrades() {
    for upgrade in
        ["websocket", "h2", "TLS/1.0", "", "h2c, websocket", "websocket, h2c", "h2c,", "h2c/1", "h2c h2c"]
    {
        refuse(&format!("Connection: Upgrade|Upgrade: {upgrade}"), Upgrade::Other);
    }
}

#[test]
fn another_upgrade_beside_the_offer() {
    refuse("Upgrade: h2c|Upgrade: websocket", Upgrade::Other);
}

#[test]
fn an_upgrade_that_connection_does_not_name() {
    refuse("Upgrade: websocket", Upgrade::Other);
}

#[test]
fn as_many_cuts_as_there_are() {
    check("Upgrade: h2c|A: b|Upgrade: h2c|A: b|Upgrade: h2c|A: b|Upgrade: h2c", "A: b|A: b|A: b");
}

#[test]
fn one_cut_too_many() {
    refuse(
        "Upgrade: h2c|A: b|Upgrade: h2c|A: b|Upgrade: h2c|A: b|Upgrade: h2c|A: b|Upgrade: h2c",
        Upgrade::Other,
    );
    refuse(
        "Connection: Upgrade, a, Upgrade, b, Upgrade, c, Upgrade, d, Upgrade|Upgrade: h2c",
        Upgrade::Other,
    );
}

/// What is left of `fields` once the offer is cut out. That is a head of its own, and asks for nothing more.
#[track_caller]
fn check(fields: &str, expect: &str) {
    let head = wire(fields);
    let Upgrade::H2c { cuts } = upgrade_of(&head) else { panic!("no offer of h2c") };
    assert!(cuts.windows(2).all(|pair| pair[0].end <= pair[1].start), "not in order: {cuts:?}");
    let mut left = head;
    for cut in cuts.into_iter().rev() {
        left.replace_range(cut, "");
    }
    assert_eq!(left, wire(expect));
    assert_eq!(upgrade_of(&left), Upgrade::None);
}

#[track_caller]
fn refuse(fields: &str, expect: Upgrade) {
    assert_eq!(upgrade_of(&wire(fields)), expect, "{fields}");
}

fn wire(fields: &str) -> String {
    let end = if fields.is_empty() { "" } else { "|" };
    format!("POST /a HTTP/1.1|Host: x|{fields}{end}|").replace('|', "\r\n")
}

fn upgrade_of(head: &str) -> Upgrade {
    let limits = Limits {
        head_bytes_max: 65_536,
        fields_max: 200,
        path_bytes_max: 8192,
        chunk_line_bytes_max: 0,
        trailer_bytes_max: 0,
    };
    match head::request(&mut HeadScan::default(), head.as_bytes(), &limits) {
        Ok(Progress::Complete { message, .. }) => message.upgrade,
        other => panic!("not complete: {other:?}"),
    }
}
