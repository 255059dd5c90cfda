//! A worker without a thread on real sockets and time that stands: connections, the revisions that they meet, and their turns.

use super::*;
use crate::connections::Key;
use crate::flows::{Handoff, handoff};
use crate::upstream::Source;
use policy_model::identity::Numbers;
use policy_model::inputs::{EndpointInputs, Inputs};
use policy_model::labels::Label;
use policy_model::parse::{Judged, parse};
use proxy_core::record::{OrigDst, Outcome, Upstream};
use proxy_core::shares::{Bounds as Places, Opener};
use proxy_core::{FlowRecord, Limits, Reason, Side};
use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::time::Instant;

#[test]
fn ahead_of_its_snapshot_it_waits() {
    let mut node = Node::new();
    node.shared.announce(2);
    let (mut client, server) = node.connect();
    node.round();
    assert_eq!(node.counters.events.snapshot_waited.value(), 1);
    node.advance(SNAPSHOT_WAIT - Duration::from_nanos(1));
    node.store(2);
    client.write_all(b"x").unwrap();
    let mut server = node.accept(&server);
    node.expect(&mut server, b"x");
    assert_eq!(node.counters.events.snapshot_late.value(), 0);
    assert_eq!(*node.settled.borrow(), 2);
}

#[test]
fn it_does_not_wait_for_ever() {
    let mut node = Node::new();
    node.shared.announce(2);
    let (mut client, _server) = node.connect();
    node.round();
    node.advance(SNAPSHOT_WAIT - Duration::from_nanos(1));
    node.round();
    assert_eq!(node.shared.live.count(), 1);
    node.advance(Duration::from_nanos(1));
    node.until("it is over", |node| node.shared.live.count() == 0);
    assert_eq!(node.end(&mut client), Err(ErrorKind::ConnectionReset));
    assert_eq!(node.record().reason, Some(Reason::SnapshotLate));
    assert_eq!(node.counters.events.snapshot_late.value(), 1);
}

#[test]
fn where_the_snapshot_will_not_come_the_old_one_holds() {
    let mut node = Node::new();
    node.shared.announce(2);
    let (mut client, server) = node.connect();
    node.round();
    node.shared.withdraw();
    client.write_all(b"x").unwrap();
    let mut server = node.accept(&server);
    node.expect(&mut server, b"x");
    assert_eq!(node.counters.events.snapshot_late.value(), 0);
}

#[test]
fn a_revision_is_settled_when_every_connection_has_met_it() {
    let mut node = Node::new();
    let (_client, _server) = node.connected();
    node.publish(2);
    assert_eq!(*node.settled.borrow(), 1);
    node.round();
    assert_eq!(*node.settled.borrow(), 2);
}

#[test]
fn the_end_of_the_worker_records_and_cuts_its_connections() {
    let mut node = Node::new();
    let (client, server) = node.connected();
    node.event_loop.end();
    assert_eq!(node.record().reason, Some(Reason::Draining));
    for mut end in [client, server] {
        assert_eq!(node.end(&mut end), Err(ErrorKind::ConnectionReset));
    }
    assert_eq!(node.shared.live.count(), 0);
}

#[test]
fn a_panic_ends_one_connection_and_harms_no_other() {
    let mut node = Node::new();
    let (mut before, mut before_server) = node.connected();
    let (mut broken, _server) = node.connect_ahead_of_a_snapshot();
    let pump = node.event_loop.pumps.iter_mut().map(|(_key, pump)| pump).find(|pump| pump.judged() == 0);
    pump.unwrap().speak_line(&mut node.event_loop.worker);
    broken.write_all(b"panic\n").unwrap();
    node.until("it is over", |node| node.shared.live.count() == 1);
    assert_eq!(node.end(&mut broken), Err(ErrorKind::ConnectionReset));
    let record = node.record();
    assert_eq!((record.outcome, record.reason), (Outcome::Ended, Some(Reason::InternalError)));
    assert!(node.handoff.take().is_none());
    assert_eq!(node.counters.events.connection_failed.value(), 1);

    // Who was there before, who comes behind, and the next revision.
    node.pass(&mut before, &mut before_server);
    node.pass(&mut before_server, &mut before);
    let (_behind, _server) = node.connected();
    node.store(2);
    assert_eq!(*node.settled.borrow(), 2);
}

/// A peer that is not read is reset: both ends are cut at once, not when something is asked again.
#[track_caller]
fn check_gone(
    peer: &str,
    reason: Reason,
    script: impl Fn(&mut Node, &mut TcpStream, &mut TcpStream) -> Side,
) {
    for loopback in LOOPBACKS {
        let mut node = Node::new();
        let (mut client, server) = node.connect_on(loopback);
        let mut server = node.accept(&server);
        let gone = script(&mut node, &mut client, &mut server);
        let mut left = match gone {
            Side::Client => {
                reset(client);
                server
            }
            Side::Server => {
                reset(server);
                client
            }
        };
        // Time stands, and nobody sends.
        node.until(peer, |node| node.shared.live.count() == 0);
        let record = node.record();
        assert_eq!((record.outcome, record.reason), (Outcome::Ended, Some(reason)), "{peer}");
        // Behind a FIN only a write tells of it.
        let end = match node.end(&mut left) {
            Ok(()) => left.write_all(b"x").map_err(|error| error.kind()),
            reset => reset,
        };
        let errors = [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe];
        assert!(errors.contains(&end.unwrap_err()), "{peer}");
    }
}

#[test]
fn a_reset_of_an_end_that_is_not_read_ends_both_at_once() {
    check_gone("a client whose server takes nothing", Reason::ClientReset, |node, client, _server| {
        node.fill(client);
        Side::Client
    });
    check_gone("a server whose client takes nothing", Reason::ServerReset, |node, _client, server| {
        node.fill(server);
        Side::Server
    });
    check_gone("a client that has sent its FIN", Reason::ClientReset, |node, client, server| {
        node.pass(client, server);
        client.shutdown(Shutdown::Write).unwrap();
        assert_eq!(node.end(server), Ok(()));
        Side::Client
    });
    check_gone("a server whose client has sent its FIN", Reason::ServerReset, |node, client, server| {
        client.shutdown(Shutdown::Write).unwrap();
        assert_eq!(node.end(server), Ok(()));
        Side::Server
    });
    check_gone("a client at rest", Reason::ClientReset, |node, client, server| {
        node.pass(client, server);
        Side::Client
    });
    check_gone("a server at rest", Reason::ServerReset, |node, client, server| {
        node.pass(client, server);
        Side::Server
    });
}

/// It has closed: the first bytes that it is sent are answered with RST, and the rest would be sent to nobody.
#[test]
fn a_client_that_has_sent_its_fin_and_takes_no_answer_ends_the_server_too() {
    for loopback in LOOPBACKS {
        let mut node = Node::new();
        let (client, server) = node.connect_on(loopback);
        let mut server = node.accept(&server);
        drop(client);
        assert_eq!(node.end(&mut server), Ok(()));
        let written = node.io(|| server.write(&[0; 65_536]).map(|_| ()), |result| result.is_err());
        assert!(written.is_err());
        node.until("it is over", |node| node.shared.live.count() == 0);
        assert_eq!(node.record().reason, Some(Reason::ClientReset));
    }
}

#[test]
fn a_client_that_has_sent_its_fin_and_waits_is_served() {
    let mut node = Node::new();
    let (mut client, mut server) = node.connected();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(node.end(&mut server), Ok(()));
    node.advance(Duration::from_hours(1));
    node.round();
    server.write_all(b"late").unwrap();
    drop(server);
    node.expect(&mut client, b"late");
    assert_eq!(node.end(&mut client), Ok(()));
    node.until("it is over", |node| node.shared.live.count() == 0);
    assert_eq!(node.record().reason, None);
}

#[test]
fn a_client_that_is_gone_while_the_server_is_dialled_ends_the_dial() {
    let mut node = Node::new();
    let (to, dialled) = full_backlog();
    let client = node.connect_to(to, ANY);
    node.until("it was accepted", |node| node.shared.live.count() == 1);
    node.round();
    reset(client);
    node.until("it is over", |node| node.shared.live.count() == 0);
    assert_eq!(node.record().reason, Some(Reason::ClientReset));
    drop(dialled);
}

#[test]
fn a_client_that_is_gone_is_not_waited_for_a_snapshot_with() {
    let mut node = Node::new();
    let (client, _server) = node.connect_ahead_of_a_snapshot();
    reset(client);
    node.until("it is over", |node| node.shared.live.count() == 0);
    assert_eq!(node.record().reason, Some(Reason::ClientReset));
}

#[test]
fn a_connection_gives_its_place_back_at_once() {
    for wait_for_snapshot in [false, true] {
        let mut node = Node::with(Places { places_max: 2, ..PLACES }, HELD_BYTES);
        if wait_for_snapshot {
            node.shared.announce(2);
        }
        let (mut client, _server) = node.connect();
        node.round();
        node.advance(Duration::from_millis(1));
        let (_second, _server) = node.connect();
        node.round();
        let inbox = Arc::clone(&node.event_loop.worker.inbox);
        let _place = node.shared.live.enter(Opener::Node, 5_000_000, &inbox, Key(1000)).unwrap();
        node.until("it has left", |node| node.shared.live.count() == 2);
        assert_eq!(node.end(&mut client), Err(ErrorKind::ConnectionReset));
        assert_eq!(node.record().reason, Some(Reason::ConnectionReclaimed));
        assert_eq!(node.counters.events.connection_reclaimed.value(), 1);
    }
}

/// What a client gets of an answer that was promised before an abort, if it begins to read so much later: all of it and
/// its end, or an error.
#[track_caller]
fn check_last_word(later: Duration, expect: Result<(), ErrorKind>) {
    // More than both sockets hold.
    const BYTES: usize = 64 << 20;
    let mut node = Node::with(PLACES, 4 * BYTES);
    let (mut client, _server) = node.connected();
    let (index, pump) = node.event_loop.pumps.iter_mut().next().unwrap();
    pump.abort_behind(BYTES);
    node.event_loop.wake(Key(index));
    node.round();
    node.advance(later);
    node.round();
    let (mut buffer, mut taken) = (vec![0; 1 << 20], 0);
    let end = loop {
        match node.io(|| client.read(&mut buffer), |_result| true) {
            Ok(0) => break Ok(()),
            Ok(n) => taken += n,
            Err(error) => break Err(error.kind()),
        }
    };
    assert_eq!((end, taken == BYTES), (expect, expect.is_ok()), "{taken} bytes");
}

#[test]
fn a_last_word_may_be_taken_until_its_time_is_over() {
    let max = Duration::from_secs(2);
    check_last_word(max - Duration::from_nanos(1), Ok(()));
    check_last_word(max, Err(ErrorKind::ConnectionReset));
}

/// Twenty connections of one opener always have requests to be denied; a request of another opener's is answered after one more turn
/// of theirs each time it needs one.
#[test]
fn a_neighbour_has_its_turn_behind_one_of_who_asks_without_end() {
    let mut node = Node::new();
    node.deny_requests();
    let to = node.listen(server_that_is_not_asked());
    let mut greedy: Vec<_> = (1..=20).map(|n| dial(to, Ipv4Addr::new(127, 0, 1, n))).collect();
    let mut victim = dial(to, Ipv4Addr::new(127, 0, 2, 1));
    node.until("all are accepted", |node| node.shared.live.count() == 21);
    greedy.iter_mut().for_each(fill_with_requests);
    victim.write_all(GET).unwrap();
    node.event_loop.poll_once();
    let mut turns = 0;
    while node.event_loop.turn_of(victim.local_addr().unwrap()) {
        let key = node.event_loop.worker.turns.next().unwrap();
        let _cost = node.event_loop.turn(key);
        turns += 1;
    }
    assert!((1..=2).contains(&turns), "{turns} turns");
    node.until_read(&mut victim, b"HTTP/1.1 403");
}

#[test]
fn one_turn_of_who_asks_without_end_costs_what_one_may() {
    let mut node = Node::new();
    node.deny_requests();
    let to = node.listen(server_that_is_not_asked());
    let mut client = dial(to, ANY);
    node.until("it is accepted", |node| node.shared.live.count() == 1);
    fill_with_requests(&mut client);
    node.event_loop.poll_once();
    let key = node.event_loop.worker.turns.next().unwrap();
    let cost = node.event_loop.turn(key);
    // Of what was read, one piece was shown: two steps for each request, and what reading 128 KiB costs.
    let (of_reading, of_a_piece) = (2 + 128 / 2, 2 * 2048 / GET.len() + 2);
    assert!(cost <= of_reading + of_a_piece, "{cost}");
    assert_eq!(node.event_loop.worker.turns.next(), Some(key), "it waits for its next turn");
}

#[test]
fn a_client_that_takes_no_answers_is_held_up_and_then_gets_all() {
    let mut node = Node::new();
    node.deny_requests();
    let to = node.listen(server_that_is_not_asked());
    let mut client = dial(to, ANY);
    node.until("it is accepted", |node| node.shared.live.count() == 1);
    let mut asked = 0;
    // Until nobody takes any more requests.
    let requests = GET.repeat(1000);
    let mut idle = 0;
    while idle < 50 {
        match client.write(&requests[asked % requests.len()..]) {
            Ok(n) => (asked, idle) = (asked + n, 0),
            Err(_full) => {
                node.event_loop.round(Some(Duration::from_millis(1))).unwrap();
                idle += 1;
            }
        }
    }
    let held = node.event_loop.pumps.iter().map(|(_key, pump)| pump.held_bytes()).sum::<usize>();
    // One buffer of requests and a part of one, and memory for answers up to the bound and those of one piece.
    assert!(held <= (128 + 1 + 128) << 10, "{held} bytes");
    let answers = asked / GET.len();
    assert!(answers > 1000, "{answers}");
    let (mut buffer, mut text, mut answered) = (vec![0; 1 << 16], Vec::new(), 0);
    while answered < answers {
        let n = node.io(|| client.read(&mut buffer), |_result| true).unwrap();
        assert!(n > 0);
        text.extend_from_slice(&buffer[..n]);
        let whole = text.windows(8).rposition(|window| window == b"HTTP/1.1").unwrap_or(0);
        answered += text[..whole].windows(8).filter(|window| window == b"HTTP/1.1").count();
        drop(text.drain(..whole));
        if answered + 1 == answers && text.ends_with(b"Access denied\r\n") {
            answered += 1;
        }
    }
}

/// A client that takes nothing, of a server that sends more than the connections of one opener may hold.
#[test]
fn who_holds_more_than_it_may_is_cut_with_a_record_and_others_go_on() {
    let mut node = Node::with(PLACES, 1024);
    let (mut neighbour, mut neighbour_server) = node.connect_from(Ipv4Addr::new(127, 0, 2, 1));
    let (client, mut server) = node.connect_from(Ipv4Addr::new(127, 0, 1, 1));
    let written = node.io(|| server.write(&[0; 65_536]).map(|_| ()), |result| result.is_err());
    assert_eq!(written.unwrap_err().kind(), ErrorKind::ConnectionReset);
    let record = node.record();
    assert_eq!((record.outcome, record.reason), (Outcome::Ended, Some(Reason::MemoryLimit)));
    assert_eq!(node.counters.events.memory_limit.value(), 1);
    node.pass(&mut neighbour, &mut neighbour_server);
    drop(client);
}

#[test]
fn nothing_is_kept_of_connections_that_are_over() {
    let mut node = Node::new();
    for _ in 0..3 {
        let (client, server) = node.connected();
        drop((client, server));
        node.until("it is over", |node| node.shared.live.count() == 0);
    }
    let EventLoop { worker, pumps, .. } = &node.event_loop;
    assert!(pumps.is_empty() && worker.turns.is_empty() && worker.timers.next().is_none());
}

const PLACES: Places = Places { places_max: 64, guaranteed: 1, guaranteed_of_node: 1 };
const HELD_BYTES: usize = 64 << 20;
const SNAPSHOT_WAIT: Duration = Duration::from_secs(1);
const LOOPBACKS: [&str; 2] = ["127.0.0.1:0", "[::1]:0"];
const ANY: Ipv4Addr = Ipv4Addr::LOCALHOST;
const GET: &[u8] = b"GET /no HTTP/1.1\r\nHost: a\r\n\r\n";
/// Longer than anything takes, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(60);
/// The address of the endpoint whose requests are judged.
const JUDGED: &str = "10.0.0.2:80";

/// A worker without a thread, at revision 1, which allows everything.
struct Node {
    shared: Arc<Shared>,
    counters: Arc<Counters>,
    handoff: Handoff,
    settled: watch::Receiver<u64>,
    event_loop: EventLoop,
}

impl Node {
    fn new() -> Self {
        Self::with(PLACES, HELD_BYTES)
    }

    fn with(places: Places, held_bytes_max: usize) -> Self {
        let mut shared = Shared::new(limits(), places, 8, Source::WhereBindable);
        shared.clock = crate::clock::Clock::frozen();
        let shared = Arc::new(shared);
        let (producer, handoff) = handoff(shared.flows.bells());
        let (settling, settled) = watch::channel(0);
        let counters = Arc::new(Counters::default());
        let event_loop = EventLoop::new(Setup {
            shared: Arc::clone(&shared),
            counters: Arc::clone(&counters),
            producer,
            settled: settling,
            listeners: Vec::new(),
            bounds: Bounds { pipes_max: 1, held_bytes_max },
        })
        .unwrap();
        let mut node = Self { shared, counters, handoff, settled, event_loop };
        node.shared.enter(Lifecycle::Running);
        node.shared.announce(1);
        node.store(1);
        node
    }

    /// Stores a revision and tells of it.
    fn publish(&self, revision: u64) {
        self.publish_inputs(&Inputs::default(), revision);
    }

    fn publish_inputs(&self, inputs: &Inputs, revision: u64) {
        let (snapshot, _diagnostics) = policy_model::resolve(inputs, &mut Numbers::default(), revision);
        self.shared.snapshot.store(Arc::new(snapshot));
        self.shared.notices.change(|notice| notice.revision = revision);
    }

    fn store(&mut self, revision: u64) {
        self.publish(revision);
        self.round();
    }

    /// Every request to [`JUDGED`] but those for `/ok` is denied from now on.
    fn deny_requests(&mut self) {
        let Judged::Accepted { policy, .. } = parse(POLICY).unwrap().objects.remove(0).judged else {
            panic!()
        };
        let endpoint = EndpointInputs {
            name: "server".into(),
            namespace: "default".into(),
            interface: None,
            addresses: vec!["10.0.0.2".parse().unwrap()],
            labels: [Label::new("k8s", "io.kubernetes.pod.namespace", "default")].into_iter().collect(),
            named_ports: BTreeMap::new(),
        };
        let inputs =
            Inputs { endpoints: vec![endpoint], policies: vec![Arc::new(policy)], ..Inputs::default() };
        self.publish_inputs(&inputs, 2);
        self.round();
    }

    fn advance(&self, by: Duration) {
        self.shared.clock.advance(by);
    }

    /// What the kernel and others have told until now, and the turns that come of it.
    fn round(&mut self) {
        for _ in 0..3 {
            self.event_loop.round(Some(Duration::ZERO)).unwrap();
        }
    }

    #[track_caller]
    fn until(&mut self, what: &str, condition: impl Fn(&Self) -> bool) {
        let begun = Instant::now();
        while !condition(self) {
            assert!(begun.elapsed() < PATIENCE, "{what}: in vain");
            self.event_loop.round(Some(Duration::from_millis(5))).unwrap();
        }
    }

    /// Repeats a call on a socket until it does not ask for patience and its result is the one that is waited for.
    #[track_caller]
    fn io<T>(
        &mut self,
        mut call: impl FnMut() -> io::Result<T>,
        is_last: impl Fn(&io::Result<T>) -> bool,
    ) -> io::Result<T> {
        let begun = Instant::now();
        loop {
            assert!(begun.elapsed() < PATIENCE, "in vain");
            match call() {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.event_loop.round(Some(Duration::from_millis(1))).unwrap();
                }
                result if is_last(&result) => return result,
                _not_yet => {}
            }
        }
    }

    #[track_caller]
    fn record(&self) -> Box<FlowRecord> {
        self.handoff.take().expect("a record")
    }

    #[track_caller]
    fn expect(&mut self, from: &mut TcpStream, bytes: &[u8]) {
        for byte in bytes {
            let mut read = [0];
            assert_eq!(self.io(|| from.read(&mut read), |_result| true).unwrap(), 1);
            assert_eq!(read[0], *byte);
        }
    }

    #[track_caller]
    fn until_read(&mut self, from: &mut TcpStream, begin: &[u8]) {
        self.expect(from, begin);
    }

    /// Reads to the end.
    fn end(&mut self, of: &mut TcpStream) -> Result<(), ErrorKind> {
        let mut buffer = vec![0; 65_536];
        let end = self.io(|| of.read(&mut buffer), |result| !matches!(result, Ok(1..)));
        end.map(|_zero| ()).map_err(|error| error.kind())
    }

    #[track_caller]
    fn pass(&mut self, from: &mut TcpStream, to: &mut TcpStream) {
        from.write_all(b"x").unwrap();
        self.expect(to, b"x");
    }

    /// Sends until nobody takes any more.
    fn fill(&mut self, stream: &mut TcpStream) {
        let mut idle = 0;
        while idle < 50 {
            match stream.write(&[0; 65_536]) {
                Ok(_some) => idle = 0,
                Err(_full) => {
                    self.event_loop.round(Some(Duration::from_millis(1))).unwrap();
                    idle += 1;
                }
            }
        }
    }

    /// A client and a server that are connected, and have been served.
    fn connected(&mut self) -> (TcpStream, TcpStream) {
        self.connect_from(ANY)
    }

    fn connect_from(&mut self, source: Ipv4Addr) -> (TcpStream, TcpStream) {
        let server = TcpListener::bind(LOOPBACKS[0]).unwrap();
        let mut client = self.connect_to(server.local_addr().unwrap(), source);
        let mut server = self.accept(&server);
        self.pass(&mut client, &mut server);
        (client, server)
    }

    fn connect(&mut self) -> (TcpStream, TcpListener) {
        self.connect_on(LOOPBACKS[0])
    }

    fn connect_on(&mut self, loopback: &str) -> (TcpStream, TcpListener) {
        let server = TcpListener::bind(loopback).unwrap();
        let client = self.connect_to(server.local_addr().unwrap(), ANY);
        let before = self.shared.live.count();
        self.until("it is accepted", |node| node.shared.live.count() > before);
        (client, server)
    }

    /// A connection that was not judged yet.
    fn connect_ahead_of_a_snapshot(&mut self) -> (TcpStream, TcpListener) {
        let now = self.shared.announced();
        self.shared.announce(now + 1);
        let connected = self.connect();
        self.shared.announce(now);
        connected
    }

    fn connect_to(&mut self, to: SocketAddr, source: Ipv4Addr) -> TcpStream {
        let listener = self.listen(to);
        dial(listener, source)
    }

    /// A listener in front of this server.
    fn listen(&mut self, upstream: SocketAddr) -> SocketAddr {
        let socket = TcpListener::bind(SocketAddr::new(upstream.ip(), 0)).unwrap();
        socket.set_nonblocking(true).unwrap();
        let address = socket.local_addr().unwrap();
        let destination = OrigDst(JUDGED.parse().unwrap());
        let target = Target::Fixed { destination, upstream: Upstream(upstream) };
        let EventLoop { poll, listeners, .. } = &mut self.event_loop;
        let token = token_of_listener(listeners.len());
        listeners.push(Listener::new(socket, target, poll.registry(), token).unwrap());
        address
    }

    #[track_caller]
    fn accept(&mut self, server: &TcpListener) -> TcpStream {
        server.set_nonblocking(true).unwrap();
        let stream = self.io(|| server.accept(), |_result| true).unwrap().0;
        stream.set_nonblocking(true).unwrap();
        stream
    }
}

impl EventLoop {
    /// Notes what the kernel has told, and gives nobody a turn.
    fn poll_once(&mut self) {
        self.poll.poll(&mut self.events, Some(Duration::ZERO)).unwrap();
        self.note();
    }

    /// Whether the connection of this client still waits for its turn.
    fn turn_of(&self, client: SocketAddr) -> bool {
        self.pumps.iter().any(|(_key, pump)| pump.is_of(client) && pump.seat.waits())
    }
}

/// From there to a listener of a worker's, or of a server's.
fn dial(to: SocketAddr, source: Ipv4Addr) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::for_address(to), socket2::Type::STREAM, None).unwrap();
    if to.is_ipv4() {
        socket.bind(&SocketAddr::from((source, 0)).into()).unwrap();
    }
    socket.connect(&to.into()).unwrap();
    socket.set_nonblocking(true).unwrap();
    socket.into()
}

/// As many requests as the socket takes.
fn fill_with_requests(client: &mut TcpStream) {
    let requests = GET.repeat(10_000);
    while client.write(&requests).is_ok_and(|n| n == requests.len()) {}
}

/// Nobody listens there.
fn server_that_is_not_asked() -> SocketAddr {
    TcpListener::bind(LOOPBACKS[0]).unwrap().local_addr().unwrap()
}

/// A server that answers no dial. Dropping what is returned beside its address ends it.
fn full_backlog() -> (SocketAddr, Vec<socket2::Socket>) {
    let server = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    server.bind(&LOOPBACKS[0].parse::<SocketAddr>().unwrap().into()).unwrap();
    server.listen(0).unwrap();
    let to = server.local_addr().unwrap();
    let mut sockets = vec![server];
    for _ in 0..4 {
        let waiting = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        waiting.set_nonblocking(true).unwrap();
        let _under_way = waiting.connect(&to);
        sockets.push(waiting);
    }
    (to.as_socket().unwrap(), sockets)
}

/// Closes with RST.
fn reset(stream: TcpStream) {
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
}

const POLICY: &str = r#"
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: rule1}
spec:
  endpointSelector: {}
  ingress:
  - fromEntities: [all]
    toPorts:
    - ports: [{port: "80", protocol: TCP}]
      rules: {http: [{path: "/ok"}]}
"#;

fn limits() -> Limits {
    let http = parsers::http1::Limits {
        head_bytes_max: 65_536,
        fields_max: 200,
        path_bytes_max: 8192,
        chunk_line_bytes_max: 4096,
        trailer_bytes_max: 16_384,
    };
    Limits {
        http,
        head_ns_max: 10_000_000_000,
        pipelined_max: 64,
        swallow_bytes_max: 1_048_576,
        swallow_ns_max: 10_000_000_000,
        dial_ns_max: 10_000_000_000,
        queries: proxy_core::Queries::Hidden,
    }
}
