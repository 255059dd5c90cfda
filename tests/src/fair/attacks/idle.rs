//! More connections than the proxy holds, none of which asks for anything; those that are cut are opened again.

use crate::fair::arena::{Arena, SILENT, Scale};
use crate::fair::{Assault, Attack};
use crate::pods::Family;
use anyhow::{Result, ensure};
use std::collections::VecDeque;
use std::net::TcpStream;
use std::time::Duration;

pub(super) const ATTACK: Attack = Attack {
    name: "idle connections to the limit",
    bound: "`[limits] connections`, `guaranteed_connections`",
    port: SILENT,
    head_start: held_max,
    work,
    check,
};

/// A fifth more than there are.
fn held_max(scale: &Scale) -> usize {
    scale.connections + scale.connections / 5
}

fn work(assault: &Assault) -> Result<()> {
    let mut held = VecDeque::new();
    while assault.goes_on() {
        held.extend(TcpStream::connect_timeout(&assault.to, Duration::from_secs(1)));
        if held.len() > held_max(&assault.scale) {
            drop(held.pop_front());
        }
    }
    Ok(())
}

fn check(arena: &Arena, _family: Family) -> Result<()> {
    let live = arena.metric("sluice_live_connections", "")?;
    let bound = u64::try_from(arena.scale.connections)?;
    ensure!(
        live <= bound + 64,
        "the proxy holds {live} connections, at most {bound} and those that are told to end"
    );
    for reason in ["connection_limit", "connection_reclaimed"] {
        ensure!(arena.metric("sluice_events_total", reason)? > 0, "nothing was counted as {reason}");
    }
    Ok(())
}
