//! Moves flow records from the workers to [`crate::flows::Flows`], in batches: a system call for each would cost more than
//! the whole verdict.

use crate::flows::Handoff;
use crate::shared::Shared;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// No more often than this, unless there are many.
const COLLECT_EVERY: Duration = Duration::from_millis(10);

/// Runs until `stop`, and once more then.
pub(crate) async fn collect(shared: Arc<Shared>, handoffs: Vec<Handoff>, mut stop: oneshot::Receiver<()>) {
    let bells = shared.flows.bells();
    let mut stopped = false;
    while !stopped {
        tokio::select! {
            () = bells.some.notified() => {}
            _ = &mut stop => stopped = true,
        }
        handoffs.iter().for_each(|handoff| shared.flows.drain(handoff));
        if !stopped {
            tokio::select! {
                () = tokio::time::sleep(COLLECT_EVERY) => {}
                () = bells.many.notified() => {}
            }
        }
    }
}
