//! Serves HTTP on a listener, within bounds: whoever can reach it must not be able to take the descriptors that connections need,
//! nor keep others from being served.
//!
//! A connection is one question. Where as many as may be are served, a new one takes the place of one that has not asked yet,
//! of the source that has most; see [`Crowded`] for when all have.
//!
//! INVARIANT: a connection that has not asked in time is closed, and who only connects delays nobody.

use axum::Router;
use axum::serve::Listener;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) connections_max: usize,
    /// Of one connection, from first to last.
    pub(crate) lifetime_max: Duration,
    pub(crate) crowded: Crowded,
}

/// What becomes of a new connection where all that are served have asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Crowded {
    /// It takes the place of the oldest one of the source that has most.
    Replace,
    /// It waits.
    Wait,
}

/// A client that is connected has to ask within this time.
const HEAD_MAX: Duration = Duration::from_secs(10);

/// Who a connection counts for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Source(Option<IpAddr>);

impl Source {
    /// All clients of a unix socket are one: its mode says who they are.
    pub(crate) const LOCAL: Self = Self(None);

    /// An IPv4 address, or the /64 of an IPv6 one, which is what one host has.
    pub(crate) fn of(address: IpAddr) -> Self {
        Self(Some(match address.to_canonical() {
            IpAddr::V4(address) => address.into(),
            IpAddr::V6(address) => IpAddr::V6((address.to_bits() >> 64 << 64).into()),
        }))
    }
}

/// A connection that is served. The oldest come first.
#[derive(Debug)]
struct Served {
    source: Source,
    asked: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

/// Serves for as long as the process lives.
pub(crate) async fn serve<L: Listener>(
    mut listener: L,
    source: impl Fn(&L::Addr) -> Source,
    router: Router,
    bounds: Bounds,
) {
    let mut all: Vec<Served> = Vec::new();
    let ended = Arc::new(Notify::new());
    loop {
        let (stream, address) = listener.accept().await;
        let source = source(&address);
        make_room(&mut all, source, &ended, bounds).await;
        let asked = Arc::new(AtomicBool::new(false));
        let task = tokio::spawn(answer(
            TokioIo::new(stream),
            router.clone(),
            Arc::clone(&asked),
            bounds.lifetime_max,
            Ending(Arc::clone(&ended)),
        ));
        all.push(Served { source, asked, task });
    }
}

/// Answers one question.
async fn answer<S>(stream: S, router: Router, asked: Arc<AtomicBool>, lifetime_max: Duration, _ending: Ending)
where
    S: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |request| {
        asked.store(true, Ordering::Relaxed);
        hyper::service::Service::call(&router, request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_MAX)
        .keep_alive(false)
        .serve_connection(stream, service);
    // However it ends, the client knows it as well as we do.
    let _ended = tokio::time::timeout(lifetime_max, connection).await;
}

/// Tells of its end however it comes.
struct Ending(Arc<Notify>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

async fn make_room(all: &mut Vec<Served>, newcomer: Source, ended: &Notify, bounds: Bounds) {
    loop {
        all.retain(|served| !served.task.is_finished());
        if all.len() < bounds.connections_max {
            return;
        }
        match replaceable(all, newcomer, bounds.crowded) {
            Some(index) => all.remove(index).task.abort(),
            None => ended.notified().await,
        }
    }
}

/// Of the source with most connections, the new one counted, the oldest that has not asked, else the oldest, if one that has asked may be replaced.
fn replaceable(all: &[Served], newcomer: Source, crowded: Crowded) -> Option<usize> {
    let sources = || all.iter().map(|served| served.source).chain([newcomer]);
    let count = |source: Source| sources().filter(|other| *other == source).count();
    let may_go = |served: &Served| crowded == Crowded::Replace || !served.asked.load(Ordering::Relaxed);
    let candidates = all.iter().enumerate().filter(|(_, served)| may_go(served));
    // `min_by_key` takes the first of equals, which is the oldest.
    let least = |served: &Served| (usize::MAX - count(served.source), served.asked.load(Ordering::Relaxed));
    candidates.min_by_key(|(_, served)| least(served)).map(|(index, _)| index)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio::sync::mpsc;
    use tokio::time::Instant;

    /// Connections that a test hands over, with their addresses.
    struct Clients(mpsc::Receiver<(DuplexStream, IpAddr)>);

    impl Listener for Clients {
        type Io = DuplexStream;
        type Addr = IpAddr;

        async fn accept(&mut self) -> (DuplexStream, IpAddr) {
            match self.0.recv().await {
                Some(client) => client,
                None => std::future::pending().await,
            }
        }

        fn local_addr(&self) -> std::io::Result<IpAddr> {
            Ok([127, 0, 0, 1].into())
        }
    }

    const BODY_BYTES: usize = 100_000;
    const LIFETIME_MAX: Duration = Duration::from_secs(60);
    const ATTACKER: [u8; 4] = [10, 0, 0, 66];
    const OTHER: [u8; 4] = [10, 0, 0, 1];

    struct Door(mpsc::Sender<(DuplexStream, IpAddr)>);

    impl Door {
        async fn connect(&self, from: impl Into<IpAddr>) -> DuplexStream {
            let (client, served) = duplex(1024);
            self.0.send((served, from.into())).await.unwrap();
            // Until it is taken and served.
            for _ in 0..8 {
                tokio::task::yield_now().await;
            }
            client
        }
    }

    /// A door for two at a time, on paused time.
    fn run(crowded: Crowded, test: impl AsyncFnOnce(Door)) {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let (sender, receiver) = mpsc::channel(1);
            let router = Router::new().route("/", get(|| async { "x".repeat(BODY_BYTES) }));
            let bounds = Bounds { connections_max: 2, lifetime_max: LIFETIME_MAX, crowded };
            let source = |address: &IpAddr| Source::of(*address);
            let _door = tokio::spawn(serve(Clients(receiver), source, router, bounds));
            test(Door(sender)).await;
        });
    }

    async fn ask(client: &mut DuplexStream) {
        client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    }

    async fn answer(client: &mut DuplexStream) -> usize {
        ask(client).await;
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.unwrap()
    }

    async fn is_closed(client: &mut DuplexStream) -> bool {
        matches!(client.read(&mut [0; 1]).await, Ok(0) | Err(_))
    }

    #[test]
    fn who_only_connects_delays_nobody() {
        run(Crowded::Replace, async |door| {
            let begun = Instant::now();
            let mut idle = Vec::new();
            for _ in 0..20 {
                idle.push(door.connect(ATTACKER).await);
            }
            assert!(answer(&mut door.connect(OTHER).await).await > BODY_BYTES);
            assert_eq!(begun.elapsed(), Duration::ZERO);
            assert!(is_closed(&mut idle[0]).await);
        });
    }

    /// At as many as may be, nobody is closed; the next one takes the place of the oldest.
    #[test]
    fn idle_clients_give_way_also_where_answers_are_not_cut() {
        run(Crowded::Wait, async |door| {
            let begun = Instant::now();
            let mut first = door.connect(OTHER).await;
            let mut second = door.connect(OTHER).await;
            let mut none = [0; 1];
            let open = tokio::time::timeout(Duration::from_millis(1), first.read(&mut none)).await;
            assert!(open.is_err(), "closed at the bound");
            assert!(answer(&mut door.connect(OTHER).await).await > BODY_BYTES);
            assert!(is_closed(&mut first).await);
            assert!(answer(&mut second).await > BODY_BYTES);
            assert!(begun.elapsed() < HEAD_MAX);
        });
    }

    #[test]
    fn who_does_not_read_is_replaced_before_others() {
        run(Crowded::Replace, async |door| {
            let begun = Instant::now();
            let mut slow = [door.connect(ATTACKER).await, door.connect(ATTACKER).await];
            for client in &mut slow {
                ask(client).await;
            }
            let mut other = door.connect(OTHER).await;
            // The attacker's new one takes the place of its own.
            let _another = door.connect(ATTACKER).await;
            assert!(answer(&mut other).await > BODY_BYTES);
            assert_eq!(begun.elapsed(), Duration::ZERO);
        });
    }

    #[test]
    fn an_answer_is_not_cut_for_who_waits() {
        run(Crowded::Wait, async |door| {
            let begun = Instant::now();
            let mut slow = [door.connect(OTHER).await, door.connect(OTHER).await];
            for client in &mut slow {
                ask(client).await;
            }
            let mut waiting = door.connect(OTHER).await;
            assert!(answer(&mut waiting).await > BODY_BYTES);
            assert_eq!(begun.elapsed(), LIFETIME_MAX);
        });
    }

    #[test]
    fn who_asks_nothing_is_closed_in_time() {
        run(Crowded::Wait, async |door| {
            let begun = Instant::now();
            assert!(is_closed(&mut door.connect(OTHER).await).await);
            assert_eq!(begun.elapsed(), HEAD_MAX);
        });
    }

    #[test]
    fn a_host_is_one_source() {
        let of = |address: &str| Source::of(address.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::2"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:10.0.0.1"), of("10.0.0.1"));
        assert_ne!(of("10.0.0.1"), of("10.0.0.2"));
    }
}
