//! Serves HTTP on a listener, within bounds: whoever can reach it must not be able to take the descriptors that connections need.
//!
//! INVARIANT: a connection that has not asked in time is closed; where as many as may be are served, further ones wait.

use axum::Router;
use axum::serve::Listener;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) connections_max: usize,
    /// Of one connection, from first to last.
    pub(crate) lifetime_max: Duration,
}

/// A client that is connected has to ask within this time, the first time and again.
const HEAD_MAX: Duration = Duration::from_secs(10);

/// Serves for as long as the process lives.
pub(crate) async fn serve(mut listener: impl Listener, router: Router, bounds: Bounds) {
    let places = Arc::new(Semaphore::new(bounds.connections_max));
    // Fails only where somebody closes the semaphore, which nobody does.
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        let (stream, _address) = listener.accept().await;
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_MAX)
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router.clone()));
        let _task = tokio::spawn(async move {
            // However it ends, the client knows it as well as we do.
            let _ended = tokio::time::timeout(bounds.lifetime_max, connection).await;
            drop(place);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio::sync::mpsc;
    use tokio::time::Instant;

    /// Connections that a test hands over.
    struct Clients(mpsc::Receiver<DuplexStream>);

    impl Listener for Clients {
        type Io = DuplexStream;
        type Addr = ();

        async fn accept(&mut self) -> (DuplexStream, ()) {
            match self.0.recv().await {
                Some(stream) => (stream, ()),
                None => std::future::pending().await,
            }
        }

        fn local_addr(&self) -> std::io::Result<()> {
            Ok(())
        }
    }

    const BODY_BYTES: usize = 100_000;
    const LIFETIME_MAX: Duration = Duration::from_secs(60);

    /// `count` clients of a door that serves one at a time, on paused time.
    fn run(count: usize, test: impl AsyncFnOnce(Vec<DuplexStream>)) {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let (sender, receiver) = mpsc::channel(count);
            let router = Router::new().route("/", get(|| async { "x".repeat(BODY_BYTES) }));
            let bounds = Bounds { connections_max: 1, lifetime_max: LIFETIME_MAX };
            let _door = tokio::spawn(serve(Clients(receiver), router, bounds));
            let mut clients = Vec::new();
            for _ in 0..count {
                let (client, served) = duplex(1024);
                sender.send(served).await.unwrap();
                clients.push(client);
            }
            test(clients).await;
        });
    }

    async fn answer(client: &mut DuplexStream) -> usize {
        client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.unwrap()
    }

    #[test]
    fn who_asks_nothing_makes_others_wait_within_bounds() {
        run(2, async |mut clients| {
            let begun = Instant::now();
            assert!(answer(&mut clients[1]).await > BODY_BYTES);
            assert_eq!(begun.elapsed().as_secs(), HEAD_MAX.as_secs());
        });
    }

    #[test]
    fn who_does_not_read_is_cut() {
        run(2, async |mut clients| {
            let begun = Instant::now();
            let request = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";
            clients[0].write_all(request).await.unwrap();
            assert!(answer(&mut clients[1]).await > BODY_BYTES);
            assert_eq!(begun.elapsed().as_secs(), LIFETIME_MAX.as_secs());
        });
    }
}
