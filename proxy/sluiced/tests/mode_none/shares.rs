//! Connections are charged to who opens them: what one opener takes costs others nothing.

use crate::common::{Backend, Client, Daemon, Plan, Script};
use std::io::{ErrorKind, Read, Write};
use std::net::Ipv4Addr;

/// Everybody may ask for what begins with `/ok`.
const EVERYBODY: &str = r#"
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: rule1}
spec:
  endpointSelector: {matchLabels: {org: empire, class: deathstar}}
  ingress:
  - fromEntities: [all]
    toPorts:
    - ports: [{port: "80", protocol: TCP}]
      rules: {http: [{path: "/ok.*"}]}
"#;

/// Eight places: two are guaranteed to every opener, one to the node.
const EIGHT: &str = "connections = 8\nguaranteed_connections = 2\nnode_connections = 1\nworkers = 2";
const NODE: Ipv4Addr = Ipv4Addr::LOCALHOST;

struct Stage {
    daemon: Daemon,
    _backend: Backend,
}

fn start(limits: &str) -> Stage {
    let backend = Backend::start();
    let policies = vec![("a.yaml", EVERYBODY.to_owned())];
    let daemon = Daemon::start(&Plan { policies, limits: limits.to_owned(), backend: backend.address });
    Stage { daemon, _backend: backend }
}

impl Stage {
    /// A connection that has been served.
    fn served(&self, from: Ipv4Addr) -> Client {
        let mut client = Client::connect(from, self.daemon.listener());
        assert_eq!(client.ask("GET", "/ok").status, 200, "{from}");
        client
    }

    fn is_refused(&self, from: Ipv4Addr) -> bool {
        Client::connect(from, self.daemon.listener()).end() == Err(ErrorKind::ConnectionReset)
    }

    fn pod(&self, host: u8) -> Ipv4Addr {
        self.daemon.address(host)
    }

    fn event(&self, name: &str) -> usize {
        self.daemon.metric("sluice_events_total", name)
    }
}

/// An address outside of the pods' network.
fn outsider(daemon: &Daemon, net: u8, host: u8) -> Ipv4Addr {
    let [first, second, ..] = daemon.address(0).octets();
    Ipv4Addr::new(first, second, net, host)
}

#[track_caller]
fn check_reset(client: &mut Client) {
    assert_eq!(client.end(), Err(ErrorKind::ConnectionReset));
}

#[test]
fn idle_connections_of_one_opener_make_room_for_others_and_the_idlest_goes_first() {
    let stage = start(EIGHT);
    let mut records = stage.daemon.follow("reason=connection_reclaimed");
    let mut greedy: Vec<_> = (0..8).map(|_| stage.served(stage.pod(Daemon::TIEFIGHTER))).collect();
    assert!(stage.is_refused(stage.pod(Daemon::TIEFIGHTER)));
    // The oldest is used again: four others are idle for longer.
    assert_eq!(greedy[0].ask("GET", "/ok/again").status, 200);
    let mut others: Vec<_> = (0..4).map(|_| stage.served(stage.pod(Daemon::XWING))).collect();
    for client in &mut greedy[1..5] {
        check_reset(client);
        let record = records.next().unwrap();
        assert_eq!(record["verdict"], "ended");
        assert!(
            record["source"]["address"]
                .as_str()
                .unwrap()
                .starts_with(&stage.pod(Daemon::TIEFIGHTER).to_string()),
            "{record}"
        );
    }
    // Both hold as much now, and neither takes from the other.
    assert!(stage.is_refused(stage.pod(Daemon::XWING)));
    assert!(stage.is_refused(stage.pod(Daemon::TIEFIGHTER)));
    let kept = greedy.iter_mut().enumerate().filter(|(n, _)| !(1..5).contains(n)).map(|(_, client)| client);
    for client in kept.chain(&mut others) {
        assert_eq!(client.ask("GET", "/ok").status, 200);
    }
    assert_eq!((stage.event("connection_reclaimed"), stage.event("connection_limit")), (4, 3));
    let counted = |reason| stage.daemon.metric("sluice_connections_total", &format!("reason=\"{reason}\""));
    assert_eq!((counted("connection_reclaimed"), counted("connection_limit")), (4, 3));
}

#[test]
fn a_request_that_waits_for_its_answer_is_counted_and_ends_with_a_record() {
    let server = Script::start();
    let policies = vec![("a.yaml", EVERYBODY.to_owned())];
    let limits = "connections = 2\nguaranteed_connections = 1".to_owned();
    let daemon = Daemon::start(&Plan { policies, limits, backend: server.address });
    let mut records = daemon.follow("reason=connection_reclaimed");
    let mut waiting: Vec<_> = (0..2)
        .map(|_| {
            let mut client = daemon.connect(Daemon::TIEFIGHTER);
            client.request("GET", "/ok/waits");
            // A client that has sent its FIN and waits is a legal client: its opener is charged for it.
            client.finish();
            (client, server.accept())
        })
        .collect();
    let mut other = daemon.connect(Daemon::XWING);
    other.request("GET", "/ok");
    let _accepted = server.accept();
    let (client, at_server) = &mut waiting[0];
    check_reset(client);
    let _request = at_server.read_to_end(&mut Vec::new()).unwrap();
    // Behind a FIN only writing tells of a reset.
    while at_server.write_all(b"x").is_ok() {}
    let record = records.next().unwrap();
    assert_eq!((&record["path"], &record["verdict"]), (&"/ok/waits".into(), &"ended".into()));
}

#[test]
fn a_probe_of_the_node_is_served_whoever_holds_all() {
    let stage = start(EIGHT);
    let greedy: Vec<_> = (0..8).map(|_| stage.served(stage.pod(Daemon::TIEFIGHTER))).collect();
    let _probe = stage.served(NODE);
    assert_eq!(stage.event("connection_reclaimed"), 1);
    drop(greedy);
}

#[test]
fn outsiders_share_by_prefix_and_leave_endpoints_what_is_theirs() {
    let stage = start(EIGHT);
    let outside = |net, host| outsider(&stage.daemon, net, host);
    // One prefix, whatever the address.
    let mut one: Vec<_> = (1..=8).map(|host| stage.served(outside(252, host))).collect();
    assert!(stage.is_refused(outside(252, 9)));
    let mut another: Vec<_> = (1..=4).map(|host| stage.served(outside(253, host))).collect();
    assert!(stage.is_refused(outside(253, 9)));
    one.drain(..4).for_each(|mut client| check_reset(&mut client));
    let _pod = [(); 2].map(|()| stage.served(stage.pod(Daemon::XWING)));
    let _node = stage.served(NODE);
    let left: usize = [&mut one, &mut another]
        .into_iter()
        .flatten()
        .map(|client| {
            client.stream().set_nonblocking(true).unwrap();
            usize::from(client.end() == Err(ErrorKind::WouldBlock))
        })
        .sum();
    assert_eq!(left, 5);
}

#[test]
fn a_place_is_free_again_once_its_connection_is_over() {
    let stage = start("connections = 1\nguaranteed_connections = 1");
    for _ in 0..20 {
        let mut client = stage.served(stage.pod(Daemon::TIEFIGHTER));
        client.finish();
        assert_eq!(client.end(), Ok(()));
        // What is told to the client is told before the place is left.
        while stage.daemon.get("/v1/status")["connections"] != 0 {}
    }
    assert_eq!(stage.event("connection_limit"), 0);
}
