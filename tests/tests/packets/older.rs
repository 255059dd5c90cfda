//! Connections that are older than the daemon, or that it has forgotten: their packets are judged as what they may be, whoever
//! talks first.

use crate::raw;
use crate::stage::{DEAF_TIEFIGHTERS, Stage, WAIT};
use e2e::daemon::Daemon;
use e2e::pods::{Family, Node, STAR_WARS};
use e2e::policies::{empire_may_ask, empire_may_reach};
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

const HTTP: &str = "[{method: POST, path: /v1/request-landing}]";
const PORT_80: &str = "[{ports: [{port: \"80\", protocol: TCP}]}]";
const ACK: u8 = 0x10;
const SYN: u8 = 0x02;
const NOTHING: Duration = Duration::from_millis(300);

/// Both ends of a connection from the tiefighter to the deathstar.
struct Connection {
    client: TcpStream,
    server: TcpStream,
    family: Family,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Talker {
    Client,
    Server,
}

impl Talker {
    const BOTH: [Self; 2] = [Self::Client, Self::Server];

    fn other(self) -> Self {
        if self == Self::Client { Self::Server } else { Self::Client }
    }
}

impl Connection {
    fn new(node: &Node, family: Family) -> Self {
        let listener = node.pod("deathstar-1").namespace.run(listen).unwrap();
        let to = SocketAddr::new(node.pod("deathstar-1").spec.address(family), 80);
        let connect = move || TcpStream::connect_timeout(&to, WAIT).unwrap();
        let client = node.pod("tiefighter").namespace.run(connect).unwrap();
        let (server, _) = listener.accept().unwrap();
        for end in [&client, &server] {
            end.set_read_timeout(Some(NOTHING)).unwrap();
        }
        Self { client, server, family }
    }

    fn end(&self, talker: Talker) -> &TcpStream {
        if talker == Talker::Client { &self.client } else { &self.server }
    }

    /// What an end says is never read by the other.
    #[track_caller]
    fn assert_cut(&self, talker: Talker) {
        let _reset = self.end(talker).write_all(b"x");
        let read = self.end(talker.other()).read(&mut [0; 8]);
        assert!(!matches!(read, Ok(1..)), "{talker:?} {:?}", self.family);
    }

    /// What an end says is read by the other, however often it has to be sent.
    #[track_caller]
    fn assert_passes(&self, talker: Talker) {
        self.end(talker).write_all(b"x").unwrap();
        let mut other = self.end(talker.other());
        other.set_read_timeout(Some(5 * WAIT)).unwrap();
        assert_eq!(other.read(&mut [0; 8]).unwrap(), 1, "{talker:?} {:?}", self.family);
    }
}

/// The port is free once the last listener there is gone: a process that another test has just started holds a copy of it until its
/// program runs.
fn listen() -> TcpListener {
    let asked = Instant::now();
    loop {
        match TcpListener::bind((Ipv6Addr::UNSPECIFIED, 80)) {
            Err(error) if error.kind() == ErrorKind::AddrInUse && asked.elapsed() < 5 * WAIT => {
                std::thread::sleep(Duration::from_millis(1));
            }
            bound => return bound.unwrap(),
        }
    }
}

/// A connection of each family for each end that may talk first.
fn connections(node: &Node) -> Vec<(Talker, Connection)> {
    let each = |family| Talker::BOTH.map(|talker| (talker, Connection::new(node, family)));
    Family::BOTH.into_iter().flat_map(each).collect()
}

fn started(node: Node) -> Stage {
    let daemon = Daemon::start(&node).unwrap();
    Stage { node, daemon }
}

fn source(connection: &Connection, stage: &Stage, talker: Talker) -> IpAddr {
    let pod = if talker == Talker::Client { "tiefighter" } else { "deathstar-1" };
    stage.ip(pod, connection.family)
}

#[test]
#[ignore = "needs root"]
fn what_has_to_be_inspected_is_cut_on_connections_that_are_older_than_the_daemon() {
    let node = Node::new(&STAR_WARS).unwrap();
    let older = connections(&node);
    let mut stage = started(node);
    stage.apply("rule1.yaml", &empire_may_ask(HTTP));
    for (first, connection) in &older {
        connection.assert_cut(*first);
        stage.wait_for_drop("redirect_required", source(connection, &stage, *first));
        connection.assert_cut(first.other());
    }
    stage.daemon.kill().unwrap();
    for (first, connection) in &older {
        connection.assert_cut(*first);
        connection.assert_cut(first.other());
    }
    stage.daemon.spawn().unwrap();
    for (first, connection) in &older {
        connection.assert_cut(first.other());
        connection.assert_cut(*first);
    }
}

#[test]
#[ignore = "needs root"]
fn what_has_to_be_inspected_since_the_daemon_died_is_cut_when_it_is_back() {
    let mut stage = Stage::new();
    stage.apply("rule1.yaml", &empire_may_reach(PORT_80));
    let tracked = connections(&stage.node);
    for (first, connection) in &tracked {
        connection.assert_passes(*first);
        connection.assert_passes(first.other());
    }
    stage.daemon.kill().unwrap();
    for (first, connection) in &tracked {
        connection.assert_passes(*first);
    }
    std::fs::write(stage.daemon.policies().join("rule1.yaml"), empire_may_ask(HTTP)).unwrap();
    stage.daemon.spawn().unwrap();
    for (first, connection) in &tracked {
        connection.end(first.other()).set_read_timeout(Some(NOTHING)).unwrap();
        connection.end(*first).set_read_timeout(Some(NOTHING)).unwrap();
        connection.assert_cut(*first);
        connection.assert_cut(first.other());
    }
}

#[test]
#[ignore = "needs root"]
fn what_policy_allows_goes_on_on_connections_that_are_older_than_the_daemon() {
    let node = Node::new(&STAR_WARS).unwrap();
    let older = connections(&node);
    let mut stage = started(node);
    stage.apply("rule3.yaml", DEAF_TIEFIGHTERS);
    stage.apply("rule1.yaml", &empire_may_reach(PORT_80));
    for (_, connection) in &older {
        connection.assert_passes(Talker::Client);
        connection.assert_passes(Talker::Server);
    }
    stage.daemon.kill().unwrap();
    for (first, connection) in &older {
        connection.assert_passes(*first);
    }
    stage.daemon.spawn().unwrap();
    stage.apply("rule1.yaml", &empire_may_reach("[{ports: [{port: \"80\"}, {port: \"81\"}]}]"));
    for (first, connection) in &older {
        connection.assert_passes(first.other());
        connection.assert_passes(*first);
    }
}

#[test]
#[ignore = "needs root"]
fn the_answer_to_an_opening_is_none_after_the_end() {
    let stage = Stage::new();
    stage.apply("rule3.yaml", DEAF_TIEFIGHTERS);
    stage.apply("rule1.yaml", &empire_may_reach(PORT_80));
    for family in Family::BOTH {
        let connection = Connection::new(&stage.node, family);
        connection.assert_passes(Talker::Client);
        let (client, server) =
            (connection.client.local_addr().unwrap(), connection.client.peer_addr().unwrap());
        let answer =
            |flags| raw::packet(server.ip(), client.ip(), raw::TCP, &raw::segment(server, client, flags));
        drop(connection.client);
        assert_eq!((&connection.server).read(&mut [0; 8]).unwrap(), 0);
        drop(connection.server);
        let pod = stage.pod("deathstar-1");
        let refused = |stage: &Stage| {
            raw::send(pod, client.ip(), answer(SYN | ACK));
            let flows = stage.daemon.flows().unwrap();
            flows.iter().any(|flow| {
                flow["verdict"] == "dropped"
                    && flow["reason"] == "policy"
                    && flow["source"]["address"] == server.ip().to_string()
            })
        };
        stage.daemon.wait_until("it is refused", |_| refused(&stage)).unwrap();
    }
}
