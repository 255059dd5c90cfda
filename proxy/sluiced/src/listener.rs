//! Accepts connections, and gives each its place.

use crate::connections::Key;
use crate::live;
use crate::pump::{Ends, Pump};
use crate::transport::Transport;
use crate::worker::{self, Worker};
use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry, Token};
use proxy_core::record::{ClientAddr, OrigDst, Upstream};
use proxy_core::{Reason, Side};
use slab::Slab;
use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What a listener stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// One port of one endpoint (mode `none`).
    Fixed { destination: OrigDst, upstream: Upstream },
    /// Whatever the client asked for (mode `ebpf`).
    Original,
}

#[derive(Debug)]
pub(crate) struct Listener {
    socket: TcpListener,
    target: Target,
    own: Option<SocketAddr>,
    /// There may be connections to accept.
    ready: bool,
    failing: bool,
    /// Not to be asked before (monotonic).
    paused_until: u64,
}

/// When there are no descriptors or no memory, trying again at once would only burn the processor.
const ACCEPT_PAUSE_NS: u64 = 20_000_000;
/// Accepted before connections get their turns again.
pub(crate) const ACCEPTED_AT_ONCE_MAX: usize = 16;

impl Listener {
    pub(crate) fn new(
        socket: std::net::TcpListener,
        target: Target,
        registry: &Registry,
        token: Token,
    ) -> io::Result<Self> {
        let own = socket.local_addr().ok();
        let mut socket = TcpListener::from_std(socket);
        registry.register(&mut socket, token, Interest::READABLE)?;
        Ok(Self { socket, target, own, ready: true, failing: false, paused_until: 0 })
    }

    pub(crate) fn note(&mut self) {
        self.ready = true;
    }

    /// When to ask it again.
    pub(crate) fn due(&self) -> Option<u64> {
        self.ready.then_some(self.paused_until)
    }

    /// Accepts what waits, or some of it.
    pub(crate) fn accept(&mut self, worker: &mut Worker, pumps: &mut Slab<Pump>, now_ns: u64) {
        for _ in 0..ACCEPTED_AT_ONCE_MAX {
            if self.due().is_none_or(|at| at > now_ns) {
                return;
            }
            match self.socket.accept() {
                Ok((stream, client)) => {
                    self.failing = false;
                    // As in the pump: a bug that one connection meets here must not end the acceptance of others.
                    let admitting = AssertUnwindSafe(|| self.admit(worker, pumps, stream, client));
                    if catch_unwind(admitting).is_err() {
                        worker.counters.events.connection_failed.add(1);
                    }
                    if !worker.shared.live.has_room(&worker.inbox) {
                        return;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.ready = false,
                Err(error) if is_of_the_peer(&error) => {}
                Err(error) => {
                    worker.counters.events.accept_failed.add(1);
                    if !std::mem::replace(&mut self.failing, true) {
                        tracing::warn!(%error, "accept failed");
                    }
                    self.paused_until = now_ns + ACCEPT_PAUSE_NS;
                }
            }
        }
    }

    fn admit(&self, worker: &mut Worker, pumps: &mut Slab<Pump>, stream: TcpStream, client: SocketAddr) {
        worker.counters.accepted.add(1);
        let mut transport = Transport::accepted(stream);
        // Fails where the client has gone in the meantime: there is nobody to serve.
        let Ok(ends) = ends(&transport, client, self.target) else { return };
        if Some(ends.upstream.0) == self.own {
            // Nobody redirected it: who dials the proxy itself would be connected to the proxy, and so on for ever.
            worker.counters.events.not_redirected.add(1);
            return transport.reset();
        }
        let (snapshot, now) = (worker.shared.snapshot.load(), worker.shared.clock.now());
        let opener = live::opener(ends.client, ends.destination, &snapshot);
        let key = Key(pumps.vacant_key());
        let Ok(place) = worker.shared.live.enter(opener, now.mono_ns, &worker.inbox, key) else {
            worker.counters.events.connection_limit.add(1);
            worker.refuse(&ends, Reason::ConnectionLimit, &snapshot, now);
            return transport.reset();
        };
        if transport.register(&worker.registry, worker::token(key, Side::Client)).is_err() {
            worker.counters.events.accept_failed.add(1);
            worker.refuse(&ends, Reason::NodeExhausted, &snapshot, now);
            worker.shared.live.leave(&place);
            return transport.reset();
        }
        let mut seat = worker.turns.join(opener);
        worker.turns.wait(&mut seat, key);
        let _key = pumps.insert(Pump::new(worker, key, seat, transport, ends, place));
    }
}

/// The connection died while it waited.
fn is_of_the_peer(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset)
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
