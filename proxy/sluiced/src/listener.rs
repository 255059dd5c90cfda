//! Accepts connections and starts a pump for each.

use crate::flows::Producer;
use crate::hangups;
use crate::live;
use crate::metrics::Counters;
use crate::pump::{Ends, Pump};
use crate::shared::{Notice, Phase, Shared};
use crate::transport::Transport;
use crate::worker::Worker;
use proxy_core::Reason;
use proxy_core::record::{ClientAddr, OrigDst, Upstream};
use proxy_core::shares::Full;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::watch;

/// What a listener stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// One port of one endpoint (mode `none`).
    Fixed { destination: OrigDst, upstream: Upstream },
    /// Whatever the client asked for (mode `ebpf`).
    Original,
}

/// Everything that a worker thread starts with.
#[derive(Debug)]
pub(crate) struct Setup {
    pub(crate) shared: Arc<Shared>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) producer: Producer,
    pub(crate) settled: watch::Sender<u64>,
    pub(crate) listeners: Vec<(TcpListener, Target)>,
    pub(crate) pipes_max: usize,
}

/// When there are no descriptors or no memory, trying again at once would only burn the processor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// Starts a worker's thread. It ends when [`Phase::Ending`] is entered.
pub(crate) fn spawn(index: usize, setup: Setup) -> io::Result<JoinHandle<io::Result<()>>> {
    std::thread::Builder::new().name(format!("worker-{index}")).spawn(move || run(setup))
}

fn run(setup: Setup) -> io::Result<()> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build_local(Default::default())?;
    let Setup { shared, counters, producer, settled, listeners, pipes_max } = setup;
    let worker = Rc::new(Worker::new(shared, counters, producer, settled, pipes_max)?);
    runtime.block_on(serve(worker, listeners))
}

/// Hears notices, and accepts while they say so. Returning drops the connections that are left, which records them.
async fn serve(worker: Rc<Worker>, listeners: Vec<(TcpListener, Target)>) -> io::Result<()> {
    let _hangups = tokio::task::spawn_local(follow_hangups(Rc::clone(&worker)));
    let mut listeners = Some(listeners);
    let mut accepting = Vec::new();
    let mut notices = worker.shared.notices.subscribe();
    loop {
        let notice: Notice = *notices.borrow_and_update();
        worker.hear(&notice);
        match notice.phase {
            Phase::Starting => {}
            Phase::Running => {
                for (listener, target) in listeners.take().into_iter().flatten() {
                    let listener = tokio::net::TcpListener::from_std(listener)?;
                    accepting.push(tokio::task::spawn_local(accept(Rc::clone(&worker), listener, target)));
                }
            }
            Phase::Draining => accepting.drain(..).for_each(|task| task.abort()),
            Phase::Ending => return Ok(()),
        }
        if notices.changed().await.is_err() {
            return Ok(());
        }
    }
}

async fn follow_hangups(worker: Rc<Worker>) {
    if let Err(error) = hangups::follow(&worker.hangups, &worker.connections).await {
        tracing::warn!(%error, "ends of connections that are not read are no longer noticed at once");
    }
}

async fn accept(worker: Rc<Worker>, listener: tokio::net::TcpListener, target: Target) {
    let own = listener.local_addr().ok();
    let mut failing = false;
    loop {
        // Descriptors of connections that are about to end are bounded: until they have, new ones wait.
        worker.shared.live.room().await;
        match listener.accept().await {
            Ok((stream, client)) => {
                failing = false;
                // As in the pump: a bug that one connection meets here must not end the acceptance of others.
                let admitting = AssertUnwindSafe(|| admit(&worker, stream, client, target, own));
                if catch_unwind(admitting).is_err() {
                    worker.counters.events.connection_failed.add(1);
                }
            }
            Err(error) if is_of_the_peer(&error) => {}
            Err(error) => {
                worker.counters.events.accept_failed.add(1);
                if !std::mem::replace(&mut failing, true) {
                    tracing::warn!(%error, "connections can't be accepted");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// The connection died while it waited.
fn is_of_the_peer(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset)
}

fn admit(
    worker: &Rc<Worker>,
    stream: TcpStream,
    client: SocketAddr,
    target: Target,
    own: Option<SocketAddr>,
) {
    worker.counters.accepted.add(1);
    // Fails where the client has gone in the meantime: there is nobody to serve.
    let Ok(transport) = Transport::accepted(stream) else { return };
    let Ok(ends) = ends(&transport, client, target) else { return };
    if Some(ends.upstream.0) == own {
        // Nobody redirected it: who dials the proxy itself would be connected to the proxy, and so on for ever.
        worker.counters.events.not_redirected.add(1);
        return transport.reset();
    }
    let (snapshot, now) = (worker.shared.snapshot.load(), worker.shared.clock.now());
    let opener = live::opener(ends.client, ends.destination, &snapshot);
    match worker.shared.live.enter(opener, now.mono_ns) {
        Ok(place) => {
            let _task = tokio::task::spawn_local(Pump::new(Rc::clone(worker), transport, ends, place));
        }
        Err(Full) => {
            worker.counters.events.connection_limit.add(1);
            worker.refuse(&mut worker.hot.borrow_mut(), &ends, Reason::ConnectionLimit, &snapshot, now);
            transport.reset();
        }
    }
}

fn ends(transport: &Transport, client: SocketAddr, target: Target) -> io::Result<Ends> {
    let (destination, upstream) = match target {
        Target::Fixed { destination, upstream } => (destination, upstream),
        Target::Original => {
            let original = transport.local_addr()?;
            (OrigDst(original), Upstream(original))
        }
    };
    Ok(Ends { client: ClientAddr(client), destination, upstream })
}
