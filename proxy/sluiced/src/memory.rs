//! Gives back to the system what policies that are gone have left in the allocator.
//!
//! Automata of many sizes come and go on several threads. What they leave is free, and yet it stays with the process: an allocator
//! keeps a page as long as anything around it is in use.

use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::timeout;

/// Between a change and the first look at the heap. Doubled for each look after it: whoever still has the old snapshot (a worker that
/// sleeps, a policy that is being compiled) may let go of it at any time.
const FIRST: Duration = Duration::from_secs(1);
const LAST: Duration = Duration::from_mins(1);

/// For as long as the process lives. However many changes there are, it looks at the heap once a second at most; without changes it
/// looks six more times, and then waits.
pub(crate) async fn give_back(changed: Arc<Notify>) {
    loop {
        changed.notified().await;
        let mut pause = FIRST;
        while pause < LAST {
            tokio::time::sleep(pause).await;
            // It panics in no case; an error would only say that the runtime ends.
            drop(tokio::task::spawn_blocking(redirect::give_back_memory).await);
            pause = pause.saturating_mul(2);
            if timeout(Duration::ZERO, changed.notified()).await.is_ok() {
                pause = FIRST;
            }
        }
    }
}
