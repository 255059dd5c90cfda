//! Single packets: spoofed sources, fragments, options, extension headers, mapped addresses.

use crate::raw::{self, UDP};
use crate::stage::{Stage, WAIT};
use e2e::pods::Family;
use e2e::policies::empire_may_reach;
use e2e::{echo, sockopt};
use socket2::{Domain, Socket, Type};
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::AsFd;

/// Sends one datagram from a pod and waits for the echo.
fn ask(
    stage: &Stage,
    from: &str,
    bind: IpAddr,
    to: SocketAddr,
    bytes: usize,
    options: Option<Family>,
) -> io::Result<usize> {
    let work = move || {
        let socket = UdpSocket::bind((bind, 0))?;
        if let Some(family) = options {
            sockopt::add_options(socket.as_fd(), family)?;
        }
        socket.set_read_timeout(Some(WAIT))?;
        let _sent = socket.send_to(&vec![7; bytes], to)?;
        let mut buffer = vec![0; 65_536];
        socket.recv(&mut buffer)
    };
    stage.pod(from).run(work).unwrap()
}

/// A word and its echo over a connection with options in every packet, the SYN included.
fn converse(stage: &Stage, from: &str, to: SocketAddr, options: Family) -> io::Result<()> {
    let work = move || {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
        sockopt::add_options(socket.as_fd(), options)?;
        socket.connect_timeout(&to.into(), WAIT)?;
        socket.set_read_timeout(Some(WAIT))?;
        let mut stream = TcpStream::from(socket);
        stream.write_all(b"ping")?;
        stream.read_exact(&mut [0; 4])
    };
    stage.pod(from).run(work).unwrap()
}

/// Who reached a server.
fn clients(arrivals: &echo::Arrivals) -> Vec<IpAddr> {
    echo::list(arrivals).iter().map(|(client, _)| client.ip().to_canonical()).collect()
}

#[test]
#[ignore = "needs root"]
fn a_spoofed_source_is_dropped() {
    let stage = Stage::new();
    let arrivals = echo::udp(stage.pod("deathstar-1"), 53).unwrap();
    for family in Family::BOTH {
        let server = stage.at("deathstar-1", family, 53);
        let (nobodys, add) = match family {
            Family::V4 => ("10.15.42.99".parse().unwrap(), "addr add 10.15.42.99/32 dev eth0"),
            Family::V6 => ("f00d::99".parse().unwrap(), "addr add f00d::99/128 dev eth0 nodad"),
        };
        stage.pod("xwing").ip(add).unwrap();
        let own = stage.ip("xwing", family);
        assert_eq!(ask(&stage, "xwing", own, server, 100, None).unwrap(), 100);
        assert!(ask(&stage, "xwing", nobodys, server, 100, None).is_err());
        let tiefighters = stage.at("tiefighter", family, 4000);
        let stolen =
            raw::packet(tiefighters.ip(), server.ip(), UDP, &raw::udp(tiefighters, server, b"stolen"));
        raw::send(stage.pod("xwing"), server.ip(), stolen.clone());
        stage.wait_for_drop("spoofed_source", nobodys);
        let record = stage.drop_record("spoofed_source", tiefighters.ip());
        // Whoever sent it is named, not the victim.
        assert_eq!(record["source"]["endpoint"], "default/xwing", "{record}");
        assert_eq!(record["source"]["identity"], stage.identity("xwing"), "{record}");
        // The same packet from its owner arrives, behind everything that was sent before.
        raw::send(stage.pod("tiefighter"), server.ip(), stolen);
        stage.daemon.wait_until("it arrives", |_| clients(&arrivals).contains(&tiefighters.ip())).unwrap();
        assert!(!clients(&arrivals).contains(&nobodys));
        assert_eq!(clients(&arrivals).iter().filter(|client| **client == tiefighters.ip()).count(), 1);
    }
}

#[test]
#[ignore = "needs root"]
fn fragments_follow_the_verdict_of_their_first() {
    let stage = Stage::new();
    let arrivals = echo::udp(stage.pod("deathstar-1"), 53).unwrap();
    stage.apply("rule1.yaml", &empire_may_reach("[{ports: [{port: \"53\", protocol: UDP}]}]"));
    for family in Family::BOTH {
        let server = stage.at("deathstar-1", family, 53);
        let (tiefighter, xwing) = (stage.ip("tiefighter", family), stage.ip("xwing", family));
        for bytes in [100, 3_000, 9_000] {
            assert_eq!(ask(&stage, "tiefighter", tiefighter, server, bytes, None).unwrap(), bytes);
            assert!(ask(&stage, "xwing", xwing, server, bytes, None).is_err(), "{family:?} {bytes}");
        }
        assert!(!clients(&arrivals).contains(&xwing), "{family:?}");
    }
}

#[test]
#[ignore = "needs root"]
fn later_fragments_before_their_first_pass_where_every_port_is_allowed() {
    let stage = Stage::new();
    let arrivals = echo::udp(stage.pod("deathstar-1"), 53).unwrap();
    for (family, id) in Family::BOTH.into_iter().zip(1..) {
        let (from, to) = (stage.at("tiefighter", family, 4000), stage.at("deathstar-1", family, 53));
        let before = clients(&arrivals).len();
        let [first, rest] = raw::fragments(from, to, id, &[7; 2_000]);
        raw::send(stage.pod("tiefighter"), to.ip(), rest.clone());
        raw::send(stage.pod("tiefighter"), to.ip(), first.clone());
        stage.daemon.wait_until("it arrives", |_| clients(&arrivals).len() > before).unwrap();
        // One port is not enough to let a fragment pass that may be of another.
        stage.apply("rule1.yaml", &empire_may_reach("[{ports: [{port: \"53\", protocol: UDP}]}]"));
        let [first, rest] = raw::fragments(from, to, id + 10, &[7; 2_000]);
        raw::send(stage.pod("tiefighter"), to.ip(), rest.clone());
        stage.wait_for_drop("fragment_orphan", from.ip());
        raw::send(stage.pod("tiefighter"), to.ip(), first);
        raw::send(stage.pod("tiefighter"), to.ip(), rest);
        stage.daemon.wait_until("it arrives", |_| clients(&arrivals).len() > before + 1).unwrap();
        let _revision = stage.daemon.remove("rule1.yaml").unwrap();
    }
}

/// More first fragments than all that are remembered, to a third one: the rest of a datagram that was begun before arrives.
#[test]
#[ignore = "needs root"]
fn first_fragments_of_one_pod_keep_no_datagram_of_another_from_arriving() {
    const FLOOD: u16 = 40_000;
    let stage = Stage::new();
    let arrivals = echo::udp(stage.pod("deathstar-1"), 53).unwrap();
    stage.apply("rule1.yaml", &empire_may_reach("[{ports: [{port: \"53\", protocol: UDP}]}]"));
    for (family, id) in Family::BOTH.into_iter().zip(1..) {
        let (from, to) = (stage.at("tiefighter", family, 4000), stage.at("deathstar-1", family, 53));
        let before = clients(&arrivals).len();
        let [first, rest] = raw::fragments(from, to, id, &[7; 2_000]);
        raw::send(stage.pod("tiefighter"), to.ip(), first);
        let (own, third) = (stage.at("xwing", family, 4000), stage.at("tiefighter", family, 9));
        raw::send_each(stage.pod("xwing"), third.ip(), move || {
            let [mut begun, _rest] = raw::fragments(own, third, 0, &[7; 1_500]);
            (0..FLOOD).map(move |id| {
                raw::set_datagram(&mut begun, id);
                begun.clone()
            })
        });
        raw::send(stage.pod("tiefighter"), to.ip(), rest);
        stage.daemon.wait_until("it arrives", |_| clients(&arrivals).len() > before).unwrap();
    }
}

#[test]
#[ignore = "needs root"]
fn refused_packets_that_were_not_recorded_are_told_of_their_sender() {
    const FLOOD: u16 = 20_000;
    let stage = Stage::new();
    stage.apply("rule1.yaml", &empire_may_reach("[{ports: [{port: \"53\", protocol: UDP}]}]"));
    for family in Family::BOTH {
        let (own, to) = (stage.at("xwing", family, 4000), stage.at("deathstar-1", family, 53));
        raw::send_each(stage.pod("xwing"), to.ip(), move || {
            let mut refused = raw::packet(own.ip(), to.ip(), UDP, &raw::udp(own, to, b"refused"));
            let ports = refused.len() - b"refused".len() - 8;
            (0..FLOOD).map(move |port| {
                refused[ports..ports + 2].copy_from_slice(&port.to_be_bytes());
                refused.clone()
            })
        });
    }
    let json = |words: &[&str]| -> serde_json::Value {
        serde_json::from_str(&stage.daemon.sluice(words).unwrap()).unwrap()
    };
    let lost = |pod: &str| json(&["endpoint", "get", pod, "-o", "json"])["events_lost"].as_u64().unwrap();
    stage.daemon.wait_until("it is counted", |_| lost("xwing") > u64::from(FLOOD)).unwrap();
    assert_eq!(lost("tiefighter"), 0);
    let status = json(&["status", "-o", "json"]);
    let findings = status["findings"].as_array().unwrap();
    let named = findings.iter().filter(|finding| finding["field"] == "limits.events_per_endpoint");
    assert_eq!(named.map(|finding| &finding["subject"]).collect::<Vec<_>>(), ["default/xwing"], "{status}");
}

#[test]
#[ignore = "needs root"]
fn options_and_extension_headers_change_no_verdict() {
    let stage = Stage::new();
    let datagrams = echo::udp(stage.pod("deathstar-1"), 53).unwrap();
    let connections = echo::tcp(stage.pod("deathstar-1"), 7).unwrap();
    let ports = "[{ports: [{port: \"53\", protocol: UDP}, {port: \"7\", protocol: TCP}]}]";
    stage.apply("rule1.yaml", &empire_may_reach(ports));
    for family in Family::BOTH {
        let server = stage.ip("deathstar-1", family);
        for (ship, allowed) in [("tiefighter", true), ("xwing", false)] {
            let own = stage.ip(ship, family);
            let udp = ask(&stage, ship, own, SocketAddr::new(server, 53), 100, Some(family));
            assert_eq!(udp.is_ok(), allowed, "{ship} {family:?} UDP: {udp:?}");
            let tcp = converse(&stage, ship, SocketAddr::new(server, 7), family);
            assert_eq!(tcp.is_ok(), allowed, "{ship} {family:?} TCP: {tcp:?}");
            assert_eq!(clients(&datagrams).contains(&own), allowed, "{ship} {family:?} UDP");
            assert_eq!(clients(&connections).contains(&own), allowed, "{ship} {family:?} TCP");
        }
    }
}

#[test]
#[ignore = "needs root"]
fn source_routes_are_dropped() {
    let stage = Stage::new();
    for family in Family::BOTH {
        let (client, server) = (stage.at("xwing", family, 4000), stage.at("deathstar-1", family, 53));
        let datagram = raw::udp(client, server, b"detour");
        let packet = match (client.ip(), server.ip()) {
            // Loose source route over 10.15.42.21, and the end of options.
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                raw::ipv4(from, to, UDP, &[131, 7, 4, 10, 15, 42, 21, 0], 0, &datagram)
            }
            // Routing header of type 4 with a segment left, and no segments.
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                raw::ipv6(from, to, 43, &[&[UDP, 0, 4, 1, 0, 0, 0, 0], &datagram[..]].concat())
            }
            _ => panic!("two families"),
        };
        raw::send(stage.pod("xwing"), server.ip(), packet);
        stage.wait_for_drop("extension_headers", client.ip());
    }
}

#[test]
#[ignore = "needs root"]
fn mapped_addresses_are_dropped() {
    let stage = Stage::new();
    let arrivals = echo::udp(stage.pod("deathstar-1"), 53).unwrap();
    let (v4, v6) = (stage.node.pod("tiefighter").spec.v4, stage.node.pod("tiefighter").spec.v6);
    let server = &stage.node.pod("deathstar-1").spec;
    for (from, to) in [(v4.to_ipv6_mapped(), server.v6), (v6, server.v4.to_ipv6_mapped())] {
        let (client, port_53) = (SocketAddr::new(from.into(), 4000), SocketAddr::new(to.into(), 53));
        let packet = raw::ipv6(from, to, UDP, &raw::udp(client, port_53, b"mapped"));
        raw::send(stage.pod("tiefighter"), server.v6.into(), packet);
    }
    // Records write such an address as the IPv4 address that it holds.
    stage.wait_for_drop("mapped_address", v4.into());
    stage.wait_for_drop("mapped_address", v6.into());
    assert_eq!(clients(&arrivals), Vec::<IpAddr>::new());
}
