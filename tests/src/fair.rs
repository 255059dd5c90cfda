//! Whether one pod that takes all it can get costs another one anything: attacks, a victim that goes on asking, and a verdict.
//!
//! Every attack is measured twice in turn: against a server behind Sluice, and, as the baseline, with the same load past it. The
//! victim asks the server behind Sluice both times, so that what the machine itself is slowed by counts for neither.
//!
//! INVARIANT: every attack is bounded in count, and ends with its measurement; all traffic is between the namespaces made here.

pub mod arena;
pub mod attacks;
pub mod revocation;
pub mod table;
pub mod victim;

use crate::pods::Family;
use anyhow::{Context, Result};
use arena::{Arena, Scale, Way};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use table::Row;
use victim::{Asked, Victim};

/// One way to take what others need.
#[derive(Clone, Copy, Debug)]
pub struct Attack {
    pub name: &'static str,
    /// What stands against it.
    pub bound: &'static str,
    /// Of the server.
    pub port: u16,
    /// So much is done before the victim asks; one that asks for more than is ever done waits for all of it.
    pub head_start: fn(&Scale) -> usize,
    /// Works from inside the attacker until told to stop.
    pub work: fn(&Assault) -> Result<()>,
    /// What must hold beside that the victim is answered, asked while the attack goes on.
    pub check: fn(&Arena, Family) -> Result<()>,
}

/// What an attack works with.
#[derive(Clone, Debug)]
pub struct Assault {
    pub to: SocketAddr,
    /// A server that the victim does not ask.
    pub aside: SocketAddr,
    pub way: Way,
    pub scale: Scale,
    /// Where policies are read from; past Sluice: a directory that nobody reads.
    pub policies: PathBuf,
    stop: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
}

/// An attack that goes on.
#[derive(Debug)]
struct Running {
    assault: Assault,
    thread: JoinHandle<Result<Result<()>>>,
}

/// Attacks wait at most so long for their head start.
const PATIENCE: Duration = Duration::from_secs(20);

impl Assault {
    /// Whether to go on after one more thing was done. With all of it done it waits to be stopped: what is held stays held.
    pub fn goes_on(&self) -> bool {
        let stopped = || self.stop.load(Ordering::Relaxed);
        if self.done.fetch_add(1, Ordering::Relaxed) >= self.scale.actions_max {
            while !stopped() {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        !stopped()
    }
}

/// Runs an attack on one family: rounds through and past Sluice in turn.
///
/// # Errors
/// Something of the harness fails, or the attack's own check does. A victim that is not answered is no error: the row says so.
pub fn run(arena: &Arena, attack: &Attack, family: Family) -> Result<Row> {
    let (mut attacked, mut baseline) = (Asked::default(), Asked::default());
    for _round in 0..arena.scale.rounds {
        baseline.add(round(arena, attack, family, Way::Past)?);
        attacked.add(round(arena, attack, family, Way::Through)?);
    }
    Ok(Row { attack: attack.name, bound: attack.bound, family, attacked, baseline })
}

fn round(arena: &Arena, attack: &Attack, family: Family, way: Way) -> Result<Asked> {
    let mut victim = Victim::start(arena, family)?;
    let running = start(arena, attack, family, way)?;
    let asked = victim.ask(arena.scale.asks);
    let checked = match way {
        Way::Past => Ok(()),
        Way::Through => (attack.check)(arena, family).with_context(|| attack.name),
    };
    running.assault.stop.store(true, Ordering::Relaxed);
    let worked = running.thread.join().ok().context("the attack panicked")?;
    let asked = asked?.and(victim.ask_kept()?);
    worked?.with_context(|| attack.name)?;
    checked?;
    Ok(asked)
}

/// Returns when the head start is over.
fn start(arena: &Arena, attack: &Attack, family: Family, way: Way) -> Result<Running> {
    let assault = Assault {
        to: arena.server(way, family, attack.port),
        aside: arena.server(Way::Past, family, attack.port),
        way,
        scale: arena.scale,
        policies: arena.policies(way)?,
        stop: Arc::default(),
        done: Arc::default(),
    };
    let (work, given) = (attack.work, assault.clone());
    let thread = arena.attacker().spawn(move || work(&given));
    let running = Running { assault, thread };
    let begun = Instant::now();
    while running.assault.done.load(Ordering::Relaxed) < (attack.head_start)(&arena.scale)
        && !running.thread.is_finished()
        && begun.elapsed() < PATIENCE
    {
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(running)
}
