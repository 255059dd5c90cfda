//! Packets that would be taken for the opener's: answers of flows that nobody has seen opened, openings the other way.

use crate::raw;
use crate::stage::{DEAF_TIEFIGHTERS, Stage};
use e2e::pods::Family;
use e2e::policies::{empire_may_ask, empire_may_reach};
use std::net::SocketAddr;

const SCTP: u8 = 132;
const ACK: u8 = 0x10;

#[test]
#[ignore = "needs root"]
fn the_answer_of_an_inspected_connection_that_nobody_has_seen_opened_is_cut() {
    let stage = Stage::new();
    stage.apply("rule1.yaml", &empire_may_ask("[{method: POST, path: /v1/request-landing}]"));
    for family in Family::BOTH {
        let (server, client) = (stage.at("deathstar-1", family, 80), stage.at("tiefighter", family, 4000));
        let answer = raw::packet(server.ip(), client.ip(), raw::TCP, &raw::segment(server, client, ACK));
        raw::send(stage.pod("deathstar-1"), client.ip(), answer);
        stage.wait_for_drop("redirect_required", server.ip());
    }
}

#[test]
#[ignore = "needs root"]
fn an_init_the_other_way_is_no_reply() {
    let stage = Stage::new();
    stage.apply("rule3.yaml", DEAF_TIEFIGHTERS);
    stage.apply("rule1.yaml", &empire_may_reach("[{ports: [{port: \"7\", protocol: SCTP}]}]"));
    for family in Family::BOTH {
        let (server, client) = (stage.at("deathstar-1", family, 7), stage.at("tiefighter", family, 4000));
        let init = |from: SocketAddr, to: SocketAddr| raw::packet(from.ip(), to.ip(), SCTP, &init(from, to));
        raw::send(stage.pod("tiefighter"), server.ip(), init(client, server));
        raw::send(stage.pod("deathstar-1"), client.ip(), init(server, client));
        stage.wait_for_drop("policy", server.ip());
    }
}

/// An SCTP packet with an INIT alone.
fn init(from: SocketAddr, to: SocketAddr) -> Vec<u8> {
    let chunk = [1, 0, 0, 20, 0, 0, 0, 9, 0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1];
    [&raw::ports(from, to)[..], &[0; 8], &chunk].concat()
}
