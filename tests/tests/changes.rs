//! Changes of policy against live traffic: what was allowed and no longer is ends; what still is loses nothing.

use e2e::daemon::Daemon;
use e2e::deathstar::Deathstar;
use e2e::echo;
use e2e::pods::{Family, Node, STAR_WARS};
use e2e::policies::{CLOSED, empire_may_ask, empire_may_reach, tiefighter_egress};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

const WAIT: Duration = Duration::from_secs(2);

struct Stage {
    node: Node,
    daemon: Daemon,
}

fn start() -> Stage {
    let node = Node::new(&STAR_WARS).unwrap();
    let daemon = Daemon::start(&node).unwrap();
    Stage { node, daemon }
}

impl Stage {
    fn address(&self, pod: &str, family: Family, port: u16) -> SocketAddr {
        SocketAddr::new(self.node.pod(pod).spec.address(family), port)
    }

    /// Waits for the record of a cut flow of the tiefighter: the direction that decided, and its rule.
    fn wait_for_cut(&self, reason: &str, family: Family, direction: &str, rule: Option<&str>) {
        let tiefighter = self.node.pod("tiefighter").spec.address(family).to_string();
        let is_it = |flow: &serde_json::Value| {
            flow["verdict"] == "ended"
                && flow["reason"] == reason
                && flow["source"]["address"] == tiefighter
                && flow["direction"] == direction
                && flow["rule"].as_str() == rule
        };
        let recorded = |daemon: &Daemon| daemon.flows().unwrap().iter().any(is_it);
        self.daemon.wait_until(&format!("{tiefighter}: {reason} {direction} {rule:?}"), recorded).unwrap();
    }

    fn connect(&self, from: &str, to: SocketAddr) -> io::Result<TcpStream> {
        let stream =
            self.node.pod(from).namespace.run(move || TcpStream::connect_timeout(&to, WAIT)).unwrap()?;
        stream.set_read_timeout(Some(WAIT))?;
        Ok(stream)
    }
}

fn echoes(stream: &mut TcpStream) -> io::Result<()> {
    stream.write_all(b"ping")?;
    let mut buffer = [0; 4];
    stream.read_exact(&mut buffer)
}

fn datagram_echoes(socket: &UdpSocket) -> bool {
    socket.send(b"ping").is_ok() && socket.recv(&mut [0; 8]).is_ok()
}

#[test]
#[ignore = "needs root"]
fn a_revoked_tcp_connection_is_reset_at_both_ends() {
    let stage = start();
    let _arrivals = echo::tcp(&stage.node.pod("deathstar-1").namespace, 7).unwrap();
    for family in Family::BOTH {
        let _revision = stage
            .daemon
            .apply("rule1.yaml", &empire_may_reach("[{ports: [{port: \"7\", protocol: TCP}]}]"))
            .unwrap();
        let mut stream = stage.connect("tiefighter", stage.address("deathstar-1", family, 7)).unwrap();
        echoes(&mut stream).unwrap();
        let _revision = stage.daemon.apply("rule1.yaml", CLOSED).unwrap();
        let error = stream.read(&mut [0; 1]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "{family:?}");
        stage.wait_for_cut("revoked", family, "ingress", None);
        let server = &stage.node.pod("deathstar-1").namespace;
        let left =
            server.command("ss").args(["-Htn", "state", "established", "sport", "=", ":7"]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&left.stdout), "", "the server's end is still open");
    }
}

#[test]
#[ignore = "needs root"]
fn a_revoked_udp_flow_stops_in_both_directions() {
    let stage = start();
    let arrivals = echo::udp(&stage.node.pod("deathstar-1").namespace, 53).unwrap();
    for family in Family::BOTH {
        let _revision = stage
            .daemon
            .apply("rule1.yaml", &empire_may_reach("[{ports: [{port: \"53\", protocol: UDP}]}]"))
            .unwrap();
        let own = stage.node.pod("tiefighter").spec.address(family);
        let server = stage.address("deathstar-1", family, 53);
        let open = move || -> io::Result<UdpSocket> {
            let socket = UdpSocket::bind((own, 0))?;
            socket.connect(server)?;
            socket.set_read_timeout(Some(Duration::from_millis(500)))?;
            Ok(socket)
        };
        let socket = stage.node.pod("tiefighter").namespace.run(open).unwrap().unwrap();
        assert!(datagram_echoes(&socket));
        let _revision = stage.daemon.apply("rule1.yaml", CLOSED).unwrap();
        let before = echo::list(&arrivals).len();
        assert!(!datagram_echoes(&socket), "{family:?}");
        assert_eq!(echo::list(&arrivals).len(), before, "the forward direction still passes");
    }
}

#[test]
#[ignore = "needs root"]
fn egress_policy_revokes_too() {
    let stage = start();
    let _arrivals = echo::tcp(&stage.node.pod("deathstar-1").namespace, 7).unwrap();
    let _arrivals = echo::udp(&stage.node.pod("deathstar-1").namespace, 53).unwrap();
    for family in Family::BOTH {
        let mut stream = stage.connect("tiefighter", stage.address("deathstar-1", family, 7)).unwrap();
        echoes(&mut stream).unwrap();
        let _revision = stage.daemon.apply("rule2.yaml", &tiefighter_egress("[{}]")).unwrap();
        let error = stream.read(&mut [0; 1]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "{family:?}");
        stage.wait_for_cut("revoked", family, "egress", None);
        assert!(stage.connect("tiefighter", stage.address("deathstar-1", family, 7)).is_err());
        let _revision = stage.daemon.remove("rule2.yaml").unwrap();
    }
}

#[test]
#[ignore = "needs root"]
fn the_record_of_a_cut_connection_names_the_rule() {
    let stage = start();
    let _arrivals = echo::tcp(&stage.node.pod("deathstar-1").namespace, 80).unwrap();
    let deny = CLOSED.replace("ingress: [{}]", "ingressDeny: [{toPorts: [{ports: [{port: \"80\"}]}]}]");
    let inspect = empire_may_ask("[{method: POST}]");
    for family in Family::BOTH {
        for (policy, reason, rule) in [
            (&deny, "revoked", "default/rule1: spec.ingressDeny[0].toPorts[0]"),
            (&inspect, "redirect_required", "default/rule1: spec.ingress[0].toPorts[0].rules.http[0]"),
        ] {
            let mut stream = stage.connect("tiefighter", stage.address("deathstar-1", family, 80)).unwrap();
            echoes(&mut stream).unwrap();
            let _revision = stage.daemon.apply("rule1.yaml", policy).unwrap();
            stage.wait_for_cut(reason, family, "ingress", Some(rule));
            let _revision = stage.daemon.remove("rule1.yaml").unwrap();
        }
    }
}

#[test]
#[ignore = "needs root"]
fn a_denied_upload_leaves_the_connection_usable() {
    let stage = start();
    let deathstar = Deathstar::start(&stage.node.pod("deathstar-1").namespace, 80).unwrap();
    let _revision = stage
        .daemon
        .apply("rule1.yaml", &empire_may_ask("[{method: POST, path: /v1/request-landing}]"))
        .unwrap();
    for family in Family::BOTH {
        let mut stream = stage.connect("tiefighter", stage.address("deathstar-1", family, 80)).unwrap();
        let body = vec![b'x'; 200_000];
        for _round in 0..3 {
            write!(
                stream,
                "PUT /v1/exhaust-port HTTP/1.1\r\nHost: d\r\nContent-Length: {}\r\n\r\n",
                body.len()
            )
            .unwrap();
            stream.write_all(&body).unwrap();
            assert!(answer(&mut stream).starts_with("HTTP/1.1 403"), "{family:?}");
            write!(stream, "POST /v1/request-landing HTTP/1.1\r\nHost: d\r\nContent-Length: 5\r\n\r\nhello")
                .unwrap();
            assert!(answer(&mut stream).starts_with("HTTP/1.1 200"), "{family:?}");
        }
    }
    let log = deathstar.log();
    assert_eq!(log.len(), 6);
    assert!(log.iter().all(|seen| seen.request == "POST /v1/request-landing" && seen.body_bytes == 5));
}

/// Reads one answer with a content-length.
fn answer(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    let mut byte = [0; 1];
    while !text.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        text.push(byte[0]);
    }
    let head = String::from_utf8(text).unwrap();
    let lower = head.to_ascii_lowercase();
    let length = lower.lines().find_map(|l| l.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
    stream.read_exact(&mut vec![0; length]).unwrap();
    head
}
