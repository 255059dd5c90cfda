//! A connection and the revisions that it meets, on real sockets and paused time.

use super::*;
use crate::flows::{Handoff, handoff};
use crate::metrics::Counters;
use crate::shared::Shared;
use crate::upstream::Source;
use policy_model::Inputs;
use policy_model::identity::Numbers;
use proxy_core::Limits;
use proxy_core::record::Outcome;
use proxy_core::shares::{Bounds, Opener};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::yield_now;
use tokio::time::{Instant, advance};

#[test]
fn an_idle_connection_is_small() {
    let (all, of_the_session) = (size_of::<Pump>(), size_of::<Session>());
    assert!(all <= 512, "{all} bytes, {of_the_session} of them the session's");
}

#[test]
fn ahead_of_its_snapshot_it_waits() {
    run(async |node| {
        node.shared.announce(2);
        let (mut client, mut server) = node.connect().await;
        let pump = node.start(&mut client).await;
        assert_eq!(node.counters.events.snapshot_waited.value(), 1);
        advance(Duration::from_nanos(SNAPSHOT_WAIT_NS_MAX) - TICK).await;
        node.store(2);
        client.stream().write_all(b"x").await.unwrap();
        assert_eq!(server.accept().await.read_u8().await.unwrap(), b'x');
        assert_eq!(node.counters.events.snapshot_late.value(), 0);
        assert_eq!(*node.settled.borrow(), 2);
        drop(client);
        pump.await.unwrap();
    });
}

#[test]
fn it_does_not_wait_for_ever() {
    run(async |node| {
        node.shared.announce(2);
        let (mut client, _server) = node.connect().await;
        let begun = Instant::now();
        node.start(&mut client).await.await.unwrap();
        let (max, waited) = (Duration::from_nanos(SNAPSHOT_WAIT_NS_MAX), begun.elapsed());
        assert!((max..=max + TICK).contains(&waited), "{waited:?}");
        let error = client.stream().read_u8().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        assert_eq!(node.handoff.take().unwrap().reason, Some(Reason::SnapshotLate));
        assert_eq!(node.counters.events.snapshot_late.value(), 1);
        assert_eq!(node.shared.live.count(), 0);
    });
}

#[test]
fn where_the_snapshot_will_not_come_the_old_one_holds() {
    run(async |node| {
        node.shared.announce(2);
        let (mut client, mut server) = node.connect().await;
        let _pump = node.start(&mut client).await;
        node.shared.withdraw();
        node.worker.hear(&node.shared.notices.borrow());
        client.stream().write_all(b"x").await.unwrap();
        assert_eq!(server.accept().await.read_u8().await.unwrap(), b'x');
        assert_eq!(node.counters.events.snapshot_late.value(), 0);
    });
}

#[test]
fn a_revision_is_settled_when_every_connection_has_met_it() {
    run(async |node| {
        let (mut client, mut server) = node.connect().await;
        let _pump = node.start(&mut client).await;
        client.stream().write_all(b"x").await.unwrap();
        assert_eq!(server.accept().await.read_u8().await.unwrap(), b'x');
        node.store(2);
        assert_eq!(*node.settled.borrow(), 1);
        yield_now().await;
        assert_eq!(*node.settled.borrow(), 2);
    });
}

#[test]
fn a_dropped_connection_is_recorded_and_cut() {
    run(async |node| {
        let (mut client, mut server) = node.connect().await;
        let pump = node.start(&mut client).await;
        client.stream().write_all(b"x").await.unwrap();
        let mut server = server.accept().await;
        assert_eq!(server.read_u8().await.unwrap(), b'x');
        pump.abort();
        assert!(pump.await.unwrap_err().is_cancelled());
        assert_eq!(node.handoff.take().unwrap().reason, Some(Reason::Draining));
        for end in [client.stream(), &mut server] {
            assert_eq!(end.read_u8().await.unwrap_err().kind(), ErrorKind::ConnectionReset);
        }
    });
}

#[test]
fn a_panic_ends_one_connection_and_harms_no_other() {
    run(async |node| {
        let (mut before, mut server) = node.connect().await;
        let _pump = node.start(&mut before).await;
        let mut before_server = server.accept().await;
        pass(before.stream(), &mut before_server).await;

        let (mut broken, _server) = node.connect().await;
        let mut pump = node.pump(&mut broken);
        let ends = **pump.connection.ends.as_ref().unwrap();
        pump.connection.session = Some(node.line(ends));
        pump.connection.phase = Phase::Live;
        let pump = tokio::task::spawn_local(pump);
        broken.stream().write_all(b"panic\n").await.unwrap();
        // The task itself has not panicked.
        pump.await.unwrap();
        assert_eq!(broken.stream().read_u8().await.unwrap_err().kind(), ErrorKind::ConnectionReset);
        let record = node.handoff.take().unwrap();
        assert_eq!((record.outcome, record.reason), (Outcome::Ended, Some(Reason::InternalError)));
        assert!(node.handoff.take().is_none());
        assert_eq!(node.counters.events.connection_failed.value(), 1);
        assert_eq!(node.shared.live.count(), 1);

        // Who was there before, who comes behind, and the next revision.
        pass(before.stream(), &mut before_server).await;
        pass(&mut before_server, before.stream()).await;
        let (mut behind, mut server) = node.connect().await;
        let _pump = node.start(&mut behind).await;
        pass(behind.stream(), &mut server.accept().await).await;
        node.store(2);
        yield_now().await;
        assert_eq!(*node.settled.borrow(), 2);
    });
}

/// A peer that is not read is reset: both ends are cut at once, not when something is asked again.
#[track_caller]
fn check_gone(peer: &str, reason: Reason, script: impl AsyncFn(&mut Client, &mut TcpStream) -> Side) {
    for loopback in LOOPBACKS {
        run(async |node| {
            let (mut client, mut server) = node.connect_on(loopback).await;
            let pump = node.start(&mut client).await;
            let mut server = server.accept().await;
            let gone = script(&mut client, &mut server).await;
            let begun = Instant::now();
            let mut left = match gone {
                Side::Client => {
                    reset(client.stream);
                    server
                }
                Side::Server => {
                    reset(server);
                    client.stream
                }
            };
            while_time_stands(pump).await.unwrap();
            assert!(begun.elapsed() < TICK, "{peer} was gone for {:?}", begun.elapsed());
            let record = node.handoff.take().unwrap();
            assert_eq!((record.outcome, record.reason), (Outcome::Ended, Some(reason)), "{peer}");
            // Behind a FIN only a write tells of it.
            let end = match drain(&mut left).await {
                Ok(()) => left.write_all(b"x").await,
                reset => reset,
            };
            let errors = [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe];
            assert!(errors.contains(&end.unwrap_err().kind()), "{peer}");
            assert_eq!(node.shared.live.count(), 0);
        });
    }
}

#[test]
fn a_reset_of_an_end_that_is_not_read_ends_both_at_once() {
    check_gone("a client whose server takes nothing", Reason::ClientReset, async |client, _server| {
        fill(client.stream()).await;
        Side::Client
    });
    check_gone("a server whose client takes nothing", Reason::ServerReset, async |_client, server| {
        fill(server).await;
        Side::Server
    });
    check_gone("a client that has sent its FIN", Reason::ClientReset, async |client, server| {
        client.stream().write_all(b"x").await.unwrap();
        client.stream().shutdown().await.unwrap();
        assert_eq!(server.read_to_end(&mut Vec::new()).await.unwrap(), 1);
        Side::Client
    });
    check_gone("a server whose client has sent its FIN", Reason::ServerReset, async |client, server| {
        client.stream().shutdown().await.unwrap();
        assert_eq!(server.read_to_end(&mut Vec::new()).await.unwrap(), 0);
        Side::Server
    });
    check_gone("a client at rest", Reason::ClientReset, async |client, server| {
        pass(client.stream(), server).await;
        Side::Client
    });
    check_gone("a server at rest", Reason::ServerReset, async |client, server| {
        pass(client.stream(), server).await;
        Side::Server
    });
}

/// It has closed: the first bytes that it is sent are answered with RST, and the rest would be sent to nobody.
#[test]
fn a_client_that_has_sent_its_fin_and_takes_no_answer_ends_the_server_too() {
    for loopback in LOOPBACKS {
        run(async |node| {
            let (mut client, mut server) = node.connect_on(loopback).await;
            let pump = node.start(&mut client).await;
            let mut server = server.accept().await;
            drop(client);
            assert_eq!(server.read_to_end(&mut Vec::new()).await.unwrap(), 0);
            while server.write(&[0; 65_536]).await.is_ok() {}
            pump.await.unwrap();
            assert_eq!(node.handoff.take().unwrap().reason, Some(Reason::ClientReset));
        });
    }
}

#[test]
fn a_client_that_has_sent_its_fin_and_waits_is_served() {
    run(async |node| {
        let (mut client, mut server) = node.connect().await;
        let pump = node.start(&mut client).await;
        let mut server = server.accept().await;
        client.stream().shutdown().await.unwrap();
        assert_eq!(server.read_to_end(&mut Vec::new()).await.unwrap(), 0);
        advance(Duration::from_hours(1)).await;
        server.write_all(b"late").await.unwrap();
        drop(server);
        let mut answer = Vec::new();
        let _length = client.stream().read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer, b"late");
        pump.await.unwrap();
        assert_eq!(node.handoff.take().unwrap().reason, None);
    });
}

#[test]
fn a_client_that_is_gone_while_the_server_is_dialled_ends_the_dial() {
    run(async |node| {
        let (mut client, mut dialled) = node.connect_to_a_full_backlog().await;
        let pump = node.start(&mut client).await;
        let begun = Instant::now();
        reset(client.stream);
        while_time_stands(pump).await.unwrap();
        assert!(begun.elapsed() < TICK);
        assert_eq!(node.handoff.take().unwrap().reason, Some(Reason::ClientReset));
        dialled.clear();
    });
}

#[test]
fn a_client_that_is_gone_is_not_waited_for_a_snapshot_with() {
    run(async |node| {
        node.shared.announce(2);
        let (mut client, _server) = node.connect().await;
        let pump = node.start(&mut client).await;
        let begun = Instant::now();
        reset(client.stream);
        pump.await.unwrap();
        assert!(begun.elapsed() < TICK);
        assert_eq!(node.handoff.take().unwrap().reason, Some(Reason::ClientReset));
    });
}

#[test]
fn a_connection_gives_its_place_back_at_once() {
    for wait_for_snapshot in [false, true] {
        run(async |node| {
            if wait_for_snapshot {
                node.shared.announce(2);
            }
            let (mut client, _server) = node.connect().await;
            let (mut second, _server) = node.connect().await;
            let (first, _second) = (node.start(&mut client).await, node.start(&mut second).await);
            let begun = Instant::now();
            let _place = node.shared.live.enter(Opener::Node, 5).unwrap();
            first.await.unwrap();
            assert!(begun.elapsed() < TICK);
            assert_eq!(client.stream().read_u8().await.unwrap_err().kind(), ErrorKind::ConnectionReset);
            assert_eq!(node.handoff.take().unwrap().reason, Some(Reason::ConnectionReclaimed));
            assert_eq!(node.counters.events.connection_reclaimed.value(), 1);
            assert_eq!(node.shared.live.count(), 2);
        });
    }
}

/// Nothing is sent here; `splice` stands for bytes that are wanted.
#[test]
fn a_peer_is_read_until_more_than_the_bound_waits_for_it() {
    run(async |node| {
        let (mut client, _server) = node.connect().await;
        let mut pump = node.pump(&mut client);
        let connection = &mut pump.connection;
        connection.from_client.splice = 1;
        connection.from_server.push(&vec![0; QUEUE_BYTES_MAX], Vec::new);
        assert!(connection.may_take(Side::Client));
        connection.from_server.push(&[0], Vec::new);
        assert!(!connection.may_take(Side::Client));
        let _memory = connection.from_server.sent(1);
        assert!(connection.may_take(Side::Client));
    });
}

/// What a client gets of an answer that was promised before an abort, if it begins to read so much later: all of it and
/// its end, or an error.
#[track_caller]
fn check_last_word(later: Duration, expect: Result<(), ErrorKind>) {
    // More than both sockets hold.
    const BYTES: usize = 64 << 20;
    run(async |node| {
        let (mut client, _server) = node.connect().await;
        let mut pump = node.pump(&mut client);
        pump.connection.phase = Phase::Aborted;
        pump.connection.from_server.push(&vec![0; BYTES], Vec::new);
        pump.connection.from_server.finish = Finish::Wanted;
        let pump = tokio::task::spawn_local(pump);
        yield_now().await;
        advance(later).await;
        let (mut buffer, mut taken) = (vec![0; 1 << 20], 0);
        let end = loop {
            match client.stream().try_read(&mut buffer) {
                Ok(0) => break Ok(()),
                Ok(n) => taken += n,
                // Waiting would let the paused time go on.
                Err(error) if error.kind() == ErrorKind::WouldBlock => yield_now().await,
                Err(error) => break Err(error.kind()),
            }
        };
        assert_eq!((end, taken == BYTES), (expect, expect.is_ok()), "{taken} bytes");
        pump.await.unwrap();
    });
}

#[test]
fn a_last_word_may_be_taken_until_its_time_is_over() {
    let max = Duration::from_nanos(LAST_WORD_NS_MAX);
    check_last_word(max - TICK, Ok(()));
    check_last_word(max, Err(ErrorKind::ConnectionReset));
}

const BOUNDS: Bounds = Bounds { places_max: 2, guaranteed: 1, guaranteed_of_node: 1 };

const LOOPBACKS: [&str; 2] = ["127.0.0.1:0", "[::1]:0"];

/// The runtime's time has no finer steps.
const TICK: Duration = Duration::from_millis(1);

/// A worker without a thread, at revision 1, which allows everything.
struct Node {
    shared: Arc<Shared>,
    worker: Rc<Worker>,
    counters: Arc<Counters>,
    handoff: Handoff,
    settled: watch::Receiver<u64>,
}

/// A client whose connection has been made and not been given to a pump.
struct Client {
    stream: TcpStream,
    accepted: Option<(TcpStream, Ends)>,
}

struct Server(TcpListener);

fn run(test: impl AsyncFnOnce(Node)) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build_local(Default::default())
        .unwrap();
    runtime.block_on(async { test(Node::new()).await });
}

impl Node {
    fn new() -> Self {
        let shared = Arc::new(Shared::new(limits(), BOUNDS, 8, Source::WhereBindable));
        let (producer, handoff) = handoff(shared.flows.bells());
        let (settling, settled) = watch::channel(0);
        let counters = Arc::new(Counters::default());
        let worker = Worker::new(Arc::clone(&shared), Arc::clone(&counters), producer, settling, 1).unwrap();
        let node = Self { shared, worker: Rc::new(worker), counters, handoff, settled };
        let worker = Rc::clone(&node.worker);
        let _task = tokio::task::spawn_local(async move {
            crate::hangups::follow(&worker.hangups, &worker.connections).await.unwrap();
        });
        node.shared.announce(1);
        node.store(1);
        node
    }

    fn store(&self, revision: u64) {
        let (snapshot, diagnostics) =
            policy_model::resolve(None, &Inputs::default(), &mut Numbers::default(), revision);
        assert_eq!(diagnostics, []);
        self.shared.snapshot.store(Arc::new(snapshot));
        self.shared.notices.send_modify(|notice| notice.revision = revision);
        self.worker.hear(&self.shared.notices.borrow());
    }

    async fn connect(&self) -> (Client, Server) {
        self.connect_on(LOOPBACKS[0]).await
    }

    async fn connect_on(&self, loopback: &str) -> (Client, Server) {
        let server = TcpListener::bind(loopback).await.unwrap();
        let client = self.connect_for(server.local_addr().unwrap()).await;
        (client, Server(server))
    }

    /// To a server that answers no dial. Dropping what is returned beside the client ends it.
    async fn connect_to_a_full_backlog(&self) -> (Client, Vec<socket2::Socket>) {
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
        (self.connect_for(to.as_socket().unwrap()).await, sockets)
    }

    async fn connect_for(&self, to: SocketAddr) -> Client {
        let listener = TcpListener::bind(SocketAddr::new(to.ip(), 0)).await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (accepted, from) = listener.accept().await.unwrap();
        let ends = Ends { client: ClientAddr(from), destination: OrigDst(to), upstream: Upstream(to) };
        Client { stream, accepted: Some((accepted, ends)) }
    }

    fn pump(&self, client: &mut Client) -> Pump {
        let (accepted, ends) = client.accepted.take().unwrap();
        let opener = Opener::outside(ends.client.0.ip(), ends.destination.0.ip());
        let place = self.shared.live.enter(opener, self.shared.clock.now().mono_ns).unwrap();
        Pump::new(Rc::clone(&self.worker), Transport::accepted(accepted).unwrap(), ends, place)
    }

    /// A session of the test protocol.
    fn line(&self, ends: Ends) -> Session {
        let (hot, snapshot) = (&mut *self.worker.hot.borrow_mut(), self.shared.snapshot.load());
        Session::open_line(ends.client, ends.destination, &mut hot.cx(&snapshot, self.shared.clock.now()))
    }

    /// Returns when the pump was polled for the first time.
    async fn start(&self, client: &mut Client) -> tokio::task::JoinHandle<()> {
        let pump = tokio::task::spawn_local(self.pump(client));
        yield_now().await;
        pump
    }
}

impl Client {
    fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }
}

/// Closes with RST.
fn reset(stream: TcpStream) {
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
}

/// Paused time goes on where nobody has anything to do, and so past whatever the kernel has not told yet. It stands while a
/// blocking task runs: until this has come, or for as long as nothing takes that does come.
async fn while_time_stands<T>(work: impl Future<Output = T>) -> T {
    let (come, waits) = std::sync::mpsc::channel::<()>();
    let standing = tokio::task::spawn_blocking(move || waits.recv_timeout(Duration::from_secs(10)));
    let result = work.await;
    drop(come);
    let _ended = standing.await;
    result
}

/// Sends until nobody takes any more.
async fn fill(stream: &mut TcpStream) {
    while let Ok(sent) = tokio::time::timeout(TICK, stream.write(&[0; 65_536])).await {
        assert!(sent.unwrap() > 0);
    }
}

/// Sends a byte, and receives it.
async fn pass(from: &mut TcpStream, to: &mut TcpStream) {
    from.write_all(b"x").await.unwrap();
    assert_eq!(to.read_u8().await.unwrap(), b'x');
}

/// Reads to the end.
async fn drain(stream: &mut TcpStream) -> std::io::Result<()> {
    let mut buffer = vec![0; 65_536];
    while stream.read(&mut buffer).await? > 0 {}
    Ok(())
}

impl Server {
    async fn accept(&mut self) -> TcpStream {
        self.0.accept().await.unwrap().0
    }
}

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
