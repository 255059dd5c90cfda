//! Odd packets against the kernel programs, on both families: spoofed sources, fragments, options, extension headers.

use e2e::daemon::Daemon;
use e2e::pods::{Family, Node, STAR_WARS};
use e2e::policies::empire_may_reach;
use e2e::{echo, sockopt};
use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::time::Duration;

const WAIT: Duration = Duration::from_secs(2);

fn start() -> (Node, Daemon) {
    let node = Node::new(&STAR_WARS).unwrap();
    let daemon = Daemon::start(&node).unwrap();
    (node, daemon)
}

/// Sends one datagram from a pod and waits for the echo.
fn ask(
    node: &Node,
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
    node.pod(from).namespace.run(work).unwrap()
}

fn address(node: &Node, pod: &str, family: Family) -> IpAddr {
    node.pod(pod).spec.address(family)
}

fn has_drop(daemon: &Daemon, reason: &str) -> bool {
    daemon.flows().unwrap().iter().any(|f| f["verdict"] == "dropped" && f["reason"] == reason)
}

#[test]
#[ignore = "needs root"]
fn a_spoofed_source_is_dropped() {
    let (node, daemon) = start();
    let arrivals = echo::udp(&node.pod("deathstar-1").namespace, 53).unwrap();
    for family in Family::BOTH {
        let server = SocketAddr::new(address(&node, "deathstar-1", family), 53);
        let xwing = &node.pod("xwing").namespace;
        let (stolen, add) = match family {
            Family::V4 => ("10.15.42.99".parse().unwrap(), "addr add 10.15.42.99/32 dev eth0"),
            Family::V6 => ("f00d::99".parse().unwrap(), "addr add f00d::99/128 dev eth0 nodad"),
        };
        xwing.ip(add).unwrap();
        let own = address(&node, "xwing", family);
        assert_eq!(ask(&node, "xwing", own, server, 100, None).unwrap(), 100);
        assert!(ask(&node, "xwing", stolen, server, 100, None).is_err());
        assert!(echo::list(&arrivals).iter().all(|(client, _)| client.ip().to_canonical() != stolen));
    }
    daemon.wait_until("the drops are recorded", |d| has_drop(d, "spoofed_source")).unwrap();
}

#[test]
#[ignore = "needs root"]
fn fragments_follow_the_verdict_of_their_first() {
    let (node, daemon) = start();
    let _arrivals = echo::udp(&node.pod("deathstar-1").namespace, 53).unwrap();
    let _revision =
        daemon.apply("rule1.yaml", &empire_may_reach("[{ports: [{port: \"53\", protocol: UDP}]}]")).unwrap();
    for family in Family::BOTH {
        let server = SocketAddr::new(address(&node, "deathstar-1", family), 53);
        for bytes in [100, 3_000, 9_000] {
            let tiefighter = address(&node, "tiefighter", family);
            assert_eq!(ask(&node, "tiefighter", tiefighter, server, bytes, None).unwrap(), bytes);
            let xwing = address(&node, "xwing", family);
            assert!(ask(&node, "xwing", xwing, server, bytes, None).is_err(), "{family:?} {bytes}");
        }
    }
}

#[test]
#[ignore = "needs root"]
fn options_and_extension_headers_change_no_verdict() {
    let (node, daemon) = start();
    let _arrivals = echo::udp(&node.pod("deathstar-1").namespace, 53).unwrap();
    let _arrivals = echo::tcp(&node.pod("deathstar-1").namespace, 7).unwrap();
    let ports = "[{ports: [{port: \"53\", protocol: UDP}, {port: \"7\", protocol: TCP}]}]";
    let _revision = daemon.apply("rule1.yaml", &empire_may_reach(ports)).unwrap();
    for family in Family::BOTH {
        let server = address(&node, "deathstar-1", family);
        for (ship, allowed) in [("tiefighter", true), ("xwing", false)] {
            let own = address(&node, ship, family);
            let udp = ask(&node, ship, own, SocketAddr::new(server, 53), 100, Some(family));
            assert_eq!(udp.is_ok(), allowed, "{ship} {family:?} UDP: {udp:?}");
            let connect = move || TcpStream::connect_timeout(&SocketAddr::new(server, 7), WAIT);
            let tcp = node.pod(ship).namespace.run(connect).unwrap();
            assert_eq!(tcp.is_ok(), allowed, "{ship} {family:?} TCP");
        }
    }
}
