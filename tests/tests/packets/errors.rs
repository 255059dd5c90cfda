//! ICMP errors: those about a flow that passes reach its sender, whatever policy says of ICMP; others do not.

use crate::raw::{self, UDP};
use crate::stage::{DEAF_TIEFIGHTERS, Stage};
use e2e::pods::Family;
use e2e::policies::{CLOSED, empire_may_reach};
use std::io::ErrorKind;
use std::net::IpAddr;

const PORT_53: &str = "[{ports: [{port: \"53\", protocol: UDP}]}]";
const MTU: u16 = 1300;

#[test]
#[ignore = "needs root"]
fn an_unreachable_port_is_told_to_the_sender() {
    let stage = Stage::new();
    stage.apply("rule3.yaml", DEAF_TIEFIGHTERS);
    for family in Family::BOTH {
        stage.apply("rule1.yaml", &empire_may_reach(PORT_53));
        let (from, to) = (stage.at("tiefighter", family, 4000), stage.at("deathstar-1", family, 53));
        let socket = stage.datagrams("tiefighter", from, to);
        let _sent = socket.send(b"anybody there?").unwrap();
        assert_eq!(socket.recv(&mut [0; 8]).unwrap_err().kind(), ErrorKind::ConnectionRefused, "{family:?}");
        // Denied, the datagram reaches nobody who could say so.
        stage.apply("rule1.yaml", CLOSED);
        let _sent = socket.send(b"anybody there?").unwrap();
        assert_eq!(socket.recv(&mut [0; 8]).unwrap_err().kind(), ErrorKind::WouldBlock, "{family:?}");
    }
}

#[test]
#[ignore = "needs root"]
fn a_smaller_path_is_told_to_the_sender_of_a_flow_only() {
    let stage = Stage::new();
    stage.apply("rule3.yaml", DEAF_TIEFIGHTERS);
    stage.apply("rule1.yaml", &empire_may_reach(PORT_53));
    for family in Family::BOTH {
        let (from, to) = (stage.at("tiefighter", family, 4000), stage.at("deathstar-1", family, 53));
        let about = |port| {
            let mut from = from;
            from.set_port(port);
            let datagram = raw::packet(from.ip(), to.ip(), UDP, &raw::udp(from, to, &[7; 64]));
            raw::too_big(to.ip(), from.ip(), MTU, &datagram)
        };
        let socket = stage.datagrams("tiefighter", from, to);
        let _sent = socket.send(b"hello").unwrap();
        raw::send(stage.pod("deathstar-1"), from.ip(), about(4001));
        stage.wait_for_drop("policy", to.ip());
        assert!(!knows_mtu(&stage, to.ip()), "{family:?}: an error about nothing has passed");
        raw::send(stage.pod("deathstar-1"), from.ip(), about(4000));
        stage.daemon.wait_until("the sender knows", |_| knows_mtu(&stage, to.ip())).unwrap();
    }
}

/// Whether tiefighter has learned that the way to this address is narrow.
fn knows_mtu(stage: &Stage, to: IpAddr) -> bool {
    let route =
        stage.pod("tiefighter").command("ip").args(["route", "get", &to.to_string()]).output().unwrap();
    String::from_utf8(route.stdout).unwrap().contains(&format!("mtu {MTU}"))
}
