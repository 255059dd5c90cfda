//! Endpoints' interfaces that come and go, and what other programs remove of ours: heard of as it happens, so that nothing
//! waits until somebody looks.
//!
//! ```text
//! open ──► look ──► hear ──► look ──► hear ...
//!   ▲                 └─ the ear is lost: a finding, the thread's own looks go on ─┐
//!   └──────────────────────────── a second later ──────────────────────────────────┘
//! ```
//! INVARIANT: a look follows everything that is heard, and the opening of an ear: no change falls between two of them.

use crate::findings::Findings;
use crate::kernel::{Failure, Kernel};
use redirect::{Heard, Links};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::unix::AsyncFd;

/// An ear that was lost is replaced after this time.
const REOPEN_AFTER: Duration = Duration::from_secs(1);

#[derive(Debug, thiserror::Error)]
enum Deaf {
    #[error(transparent)]
    Links(#[from] redirect::Error),
    #[error("can't wait for changes of network interfaces: {0}")]
    Wait(#[from] std::io::Error),
    #[error(transparent)]
    Kernel(Failure),
}

/// Until the kernel side's thread has ended.
pub(crate) async fn follow(kernel: Kernel, findings: Arc<Findings>) {
    loop {
        let Err(error) = hear(&kernel, &findings).await;
        if let Deaf::Kernel(_ended) = error {
            return;
        }
        tracing::warn!(%error, "netlink subscription lost; polling for new interfaces every second");
        findings.set_links(Some(error.to_string()));
        tokio::time::sleep(REOPEN_AFTER).await;
    }
}

#[expect(
    deprecated,
    reason = "INVARIANT: `Links` owns its descriptor and never replaces it; what replaced this call is unsafe"
)]
async fn hear(kernel: &Kernel, findings: &Findings) -> Result<Infallible, Deaf> {
    let mut links = AsyncFd::new(Links::open()?)?;
    findings.set_links(None);
    look(kernel).await?;
    loop {
        let mut ready = links.readable_mut().await?;
        let heard = ready.get_inner_mut().hear()?;
        // What came since then makes it ready again; what was left unread the look will find.
        ready.clear_ready();
        match heard {
            Heard::Nothing => continue,
            Heard::Changes => {}
            Heard::Lost => {
                tracing::info!("events lost, rescanning everything");
            }
        }
        look(kernel).await?;
    }
}

/// What fails is a finding, and tried again with every look.
async fn look(kernel: &Kernel) -> Result<(), Deaf> {
    kernel.look().await.map_err(Deaf::Kernel)
}

#[cfg(test)]
mod tests;
