//! How long a pod's revoked connections live on, while another pod has very many flows.

use super::arena::{Arena, HTTP, Way};
use crate::pods::Family;
use anyhow::{Context, Result, ensure};
use std::io::{ErrorKind, Read};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What becomes of the other pod's flows by the same change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Others {
    /// There are none.
    None,
    Kept,
    Revoked,
}

/// From the instant at which the policy file is there.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// Both ends of a connection that was not inspected are reset.
    pub direct: Duration,
    /// The client of an inspected one is.
    pub inspected: Duration,
    /// `sluice status` has the revision.
    pub in_force: Duration,
}

pub const HEAD: &str =
    "| flows of another pod | direct: both ends reset | inspected: reset | in force |\n|---|---|---|---|";

/// Of the other pod, to as many ports, half of them by each family.
const FLOWS: u16 = 60_000;
const PORT: u16 = 61_000;
/// Longer than any revocation takes.
const PATIENCE: Duration = Duration::from_secs(20);

impl Others {
    pub const ALL: [Self; 3] = [Self::None, Self::Kept, Self::Revoked];

    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Kept => "120,000 that go on",
            Self::Revoked => "120,000 that end too",
        }
    }

    fn policy(self) -> String {
        let reaches_nobody = |app: &str| {
            format!(
                "---\napiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {{name: cut-{app}, namespace: default}}\n\
                 spec: {{endpointSelector: {{matchLabels: {{app: {app}}}}}, egress: [{{toEndpoints: [{{matchLabels: {{app: nobody}}}}]}}]}}\n"
            )
        };
        match self {
            Self::None | Self::Kept => reaches_nobody("victim"),
            Self::Revoked => reaches_nobody("victim") + &reaches_nobody("attacker"),
        }
    }
}

/// The connections of the victim are made, the flows of the attacker, and then the change.
///
/// # Errors
/// Something of the harness fails, or a connection goes on.
pub fn round(arena: &Arena, family: Family, others: Others) -> Result<Times> {
    let to = arena.server(Way::Past, family, PORT);
    let past = &arena.node.pod("past").namespace;
    let listener = past.run(move || TcpListener::bind(to))??;
    let near = arena.victim().run(move || TcpStream::connect(to))??;
    let (far, _) = listener.accept()?;
    let inspected = arena.server(Way::Through, family, HTTP);
    let inspected = arena.victim().run(move || TcpStream::connect(inspected))??;
    if others != Others::None {
        for family in Family::BOTH {
            let to = arena.server(Way::Past, family, 0);
            arena.attacker().run(move || flood(to))??;
        }
    }
    let ends = [near, far, inspected].map(until_reset);
    let (name, begun) = ("cut.yaml", Instant::now());
    let _revision = arena.daemon.apply(name, &others.policy())?;
    let in_force = begun.elapsed();
    let [near, far, inspected] = ends.map(|end| end.join().ok().context("a reader panicked")?);
    let since = |end: Instant| end.saturating_duration_since(begun);
    let times = Times { direct: since(near?.max(far?)), inspected: since(inspected?), in_force };
    let _revision = arena.daemon.remove(name)?;
    Ok(times)
}

/// The median of each.
pub fn medians(rounds: &[Times]) -> Option<Times> {
    let median = |of: fn(&Times) -> Duration| {
        let mut sorted: Vec<Duration> = rounds.iter().map(of).collect();
        sorted.sort_unstable();
        sorted.get(sorted.len() / 2).copied()
    };
    Some(Times {
        direct: median(|times| times.direct)?,
        inspected: median(|times| times.inspected)?,
        in_force: median(|times| times.in_force)?,
    })
}

fn until_reset(mut stream: TcpStream) -> JoinHandle<Result<Instant>> {
    std::thread::spawn(move || {
        stream.set_read_timeout(Some(PATIENCE))?;
        let end = stream.read(&mut [0; 1]);
        let at = Instant::now();
        let reset = end.as_ref().is_err_and(|error| error.kind() == ErrorKind::ConnectionReset);
        ensure!(reset, "no reset: {end:?}");
        Ok(at)
    })
}

fn flood(to: SocketAddr) -> std::io::Result<()> {
    let socket = UdpSocket::bind(if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
    for port in 1..=FLOWS {
        // The other end's refusals come back as errors of the next call.
        while socket.send_to(b"x", SocketAddr::new(to.ip(), port)).is_err() {}
    }
    Ok(())
}
