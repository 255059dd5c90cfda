//! The node's own addresses, followed: a change becomes a new revision, where the node file does not list them.
//!
//! ```text
//! subscribe ──► read ──► wait: a change, or [`READ_EVERY`] ──► read ──► wait ...
//!     ▲                   └─ an error: a finding; what was read last stays ─┐
//!     └─────────────────────────── a second later ──────────────────────────┘
//! ```
//! INVARIANT: a reading follows every change that is reported, and every subscription: none is missed for longer than [`READ_EVERY`].

use crate::findings::Findings;
use redirect::{Error, Links};
use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;

/// Behind the subscription: a machine may have addresses that no message tells of.
const READ_EVERY: Duration = Duration::from_secs(10);
/// Changes that come together are read together.
const SETTLE: Duration = Duration::from_millis(20);
const RETRY_AFTER: Duration = Duration::from_secs(1);

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Redirect(#[from] Error),
    #[error("can't wait for changes of the node's addresses: {0}")]
    Wait(#[from] std::io::Error),
    #[error(transparent)]
    Task(#[from] tokio::task::JoinError),
}

/// Reads them once. Blocking. Where they can't be read there are none, and that is a finding until they can.
pub(crate) fn read(findings: &Findings) -> Vec<IpAddr> {
    redirect::node_addresses().unwrap_or_else(|error| {
        report(&error.to_string(), findings);
        Vec::new()
    })
}

/// Until the process ends.
pub(crate) async fn follow(addresses: watch::Sender<Vec<IpAddr>>, findings: Arc<Findings>) {
    loop {
        let Err(error) = follow_subscription(&addresses, &findings).await;
        report(&error.to_string(), &findings);
        tokio::time::sleep(RETRY_AFTER).await;
    }
}

#[expect(
    deprecated,
    reason = "INVARIANT: `Links` owns its descriptor and never replaces it; what replaced this call is unsafe"
)]
async fn follow_subscription(
    addresses: &watch::Sender<Vec<IpAddr>>,
    findings: &Findings,
) -> Result<Infallible, Failure> {
    let mut links = AsyncFd::new(Links::of_addresses()?)?;
    loop {
        let read = tokio::task::spawn_blocking(redirect::node_addresses).await??;
        findings.set_addresses(None);
        let _changed = addresses.send_if_modified(|known| replace(known, read));
        if let Ok(ready) = tokio::time::timeout(READ_EVERY, links.readable_mut()).await {
            let mut ready = ready?;
            tokio::time::sleep(SETTLE).await;
            // Whether messages came or were lost, what there is now is read.
            let _heard = ready.get_inner_mut().hear()?;
            ready.clear_ready();
        }
    }
}

fn replace(known: &mut Vec<IpAddr>, read: Vec<IpAddr>) -> bool {
    if *known == read {
        return false;
    }
    tracing::info!(addresses = read.len(), "node addresses changed");
    *known = read;
    true
}

fn report(error: &str, findings: &Findings) {
    tracing::warn!(%error, "can't follow the node's addresses");
    findings.set_addresses(Some(error.to_owned()));
}
