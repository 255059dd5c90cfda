//! Gives back to the system what policies that are gone have left in the allocator.
//!
//! Automata of many sizes come and go on several threads. What they leave is free, and yet it stays with the process: an allocator
//! keeps a page as long as anything around it is in use.

use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

/// After a change, for whoever still has the old snapshot to let go of it.
const LET_GO: Duration = Duration::from_secs(1);

/// For as long as the process lives. However many changes there are, it looks at the heap once a second at most.
pub(crate) async fn give_back(changed: Arc<Notify>) {
    loop {
        changed.notified().await;
        tokio::time::sleep(LET_GO).await;
        // It panics in no case; an error would only say that the runtime ends.
        drop(tokio::task::spawn_blocking(redirect::give_back_memory).await);
    }
}
