//! The kernel side, on a thread of its own: its calls block.
//!
//! Between commands the thread collects what has expired, reads the counters, and looks for what came, went or was removed
//! without a message.
//! The kernel's verdicts are read on the main thread, when there are some.

use crate::findings::Findings;
use crate::flows::{L4End, L4Outcome, L4Record};
use crate::metrics::Metrics;
use crate::repairs::Repairs;
use crate::shared::Shared;
use policy_model::rule::Protocol;
use policy_model::snapshot::{Admission, Flow};
use policy_model::{IdentityId, Snapshot};
use redirect::plan::Plan;
use redirect::{CutFlow, Error, Events, Fate, KernelEvent, Pending, Redirector};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};
use tokio::io::unix::AsyncFd;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

/// The thread's door.
#[derive(Clone, Debug)]
pub(crate) struct Kernel {
    commands: Sender<Queued>,
    /// The places of the queue: who finds none waits.
    places: Arc<Semaphore>,
}

/// A command keeps its place until it is obeyed, or the thread has ended.
type Queued = (Command, OwnedSemaphorePermit);

#[derive(Debug)]
enum Command {
    After(oneshot::Sender<Result<(), Failure>>),
    Before(Box<Plan>, oneshot::Sender<Result<(), Failure>>),
    Cut(Arc<Snapshot>, oneshot::Sender<Result<Option<Vec<CutFlow>>, Failure>>),
    Judge(Arc<Snapshot>, oneshot::Sender<Result<Vec<CutFlow>, Failure>>),
    Look(oneshot::Sender<Result<(), Failure>>),
    #[cfg(test)]
    Panic(oneshot::Sender<Result<(), Failure>>),
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Redirect(#[from] Error),
    #[error("the thread that owns the kernel side has ended")]
    ThreadEnded,
    #[error("a change was to be completed that had not begun")]
    NothingPending,
}

/// So many commands wait for the thread; who has another one waits for a place.
const QUEUE_MAX: usize = 4;
/// The kernel's verdicts are collected no more often than this,
const EVENTS_EVERY: Duration = Duration::from_millis(10);
/// ... and at most so many at once.
const EVENTS_MAX: usize = 4096;
/// Expired flows are collected, counters read, and everything of ours looked at this often.
pub(crate) const SWEEP_EVERY: Duration = Duration::from_secs(1);

impl Kernel {
    /// Starts the thread. It ends when the last [`Kernel`] is dropped; what it has set up stays.
    pub(crate) fn spawn(
        redirector: Redirector,
        metrics: Arc<Metrics>,
        findings: Arc<Findings>,
        sweep_every: Duration,
    ) -> std::io::Result<Self> {
        let (commands, receiver) = channel();
        findings.set_machine(redirector.warnings());
        let repairs = Repairs::default();
        let told = Arc::clone(&findings);
        let mut thread = Thread { redirector, pending: None, repairs, metrics, findings, sweep_every };
        let _detached = std::thread::Builder::new().name("kernel".into()).spawn(move || {
            let run = AssertUnwindSafe(|| thread.run(&receiver));
            if catch_unwind(run).is_err() {
                tracing::error!(
                    "the thread that programs the kernel has panicked; the policy that was in force stays enforced"
                );
                told.set_thread_ended();
                // Its locks are held as long as the process lives: nobody takes the pins from under the connections.
                core::mem::forget(thread);
            }
        })?;
        Ok(Self { commands, places: Arc::new(Semaphore::new(QUEUE_MAX)) })
    }

    /// The kernel becomes the stricter of old and new.
    pub(crate) async fn before(&self, plan: Plan) -> Result<(), Failure> {
        self.ask(|answer| Command::Before(Box::new(plan), answer)).await
    }

    /// Judges direct flows and cuts those that must not go on, the first of them.
    pub(crate) async fn judge(&self, snapshot: Arc<Snapshot>) -> Result<Vec<CutFlow>, Failure> {
        self.ask(|answer| Command::Judge(snapshot, answer)).await
    }

    /// Judges more of them, by the same snapshot, and cuts the next. `None`: none is left.
    pub(crate) async fn cut(&self, snapshot: Arc<Snapshot>) -> Result<Option<Vec<CutFlow>>, Failure> {
        self.ask(|answer| Command::Cut(snapshot, answer)).await
    }

    /// The kernel becomes what was planned.
    pub(crate) async fn after(&self) -> Result<(), Failure> {
        self.ask(Command::After).await
    }

    /// Interfaces that have come or gone get or lose programs now, and what another program removed is put back.
    pub(crate) async fn look(&self) -> Result<(), Failure> {
        self.ask(Command::Look).await
    }

    #[cfg(test)]
    pub(crate) async fn panic(&self) -> Result<(), Failure> {
        self.ask(Command::Panic).await
    }

    async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<T, Failure>>) -> Command,
    ) -> Result<T, Failure> {
        let (answer, answered) = oneshot::channel();
        let place = Arc::clone(&self.places).acquire_owned().await.map_err(|_closed| Failure::ThreadEnded)?;
        self.commands.send((command(answer), place)).map_err(|_ended| Failure::ThreadEnded)?;
        answered.await.unwrap_or(Err(Failure::ThreadEnded))
    }
}

#[derive(Debug)]
struct Thread {
    redirector: Redirector,
    pending: Option<Pending>,
    repairs: Repairs,
    metrics: Arc<Metrics>,
    findings: Arc<Findings>,
    sweep_every: Duration,
}

impl Thread {
    fn run(&mut self, commands: &Receiver<Queued>) {
        let mut swept = Instant::now();
        loop {
            match commands.recv_timeout(self.sweep_every.saturating_sub(swept.elapsed())) {
                Ok((command, place)) => {
                    drop(place);
                    self.obey(command);
                }
                Err(RecvTimeoutError::Timeout) => {
                    swept = Instant::now();
                    self.sweep();
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn obey(&mut self, command: Command) {
        // An answer that nobody waits for is of no use to anybody.
        match command {
            Command::After(answer) => drop(answer.send(self.after())),
            Command::Before(plan, answer) => drop(answer.send(self.before(*plan))),
            Command::Cut(snapshot, answer) => drop(answer.send(self.cut(&snapshot))),
            Command::Judge(snapshot, answer) => drop(answer.send(self.judge(&snapshot))),
            Command::Look(answer) => {
                self.look();
                drop(answer.send(Ok(())));
            }
            #[cfg(test)]
            Command::Panic(_answer) => panic!("told to"),
        }
    }

    fn before(&mut self, plan: Plan) -> Result<(), Failure> {
        self.pending = Some(self.redirector.apply_before(plan)?);
        Ok(())
    }

    fn judge(&mut self, snapshot: &Snapshot) -> Result<Vec<CutFlow>, Failure> {
        Ok(self.redirector.judge_flows(&|flow| fate(snapshot, flow))?)
    }

    fn cut(&mut self, snapshot: &Snapshot) -> Result<Option<Vec<CutFlow>>, Failure> {
        Ok(self.redirector.cut_flows(&|flow| fate(snapshot, flow))?)
    }

    fn after(&mut self) -> Result<(), Failure> {
        let pending = self.pending.take().ok_or(Failure::NothingPending)?;
        self.redirector.apply_after(pending)?;
        self.report_missing();
        Ok(())
    }

    fn look(&mut self) {
        let (look, now) = (self.redirector.look(), Instant::now());
        self.repairs.add(look, now);
        self.findings.set_kernel(self.repairs.findings(now));
        self.report_missing();
    }

    fn report_missing(&self) {
        let missing = self.redirector.missing_interfaces().map(Into::into).collect();
        self.findings.set_missing_interfaces(missing);
        self.findings.set_refusing_interfaces(self.redirector.refusing_interfaces());
        self.findings.set_too_big_policies(self.redirector.too_big_policies());
    }

    fn sweep(&mut self) {
        self.look();
        self.findings.set_machine(self.redirector.warnings());
        if let Err(error) = self.redirector.sweep() {
            tracing::warn!(%error, "could not remove expired flows");
        }
        match self.redirector.counters() {
            Ok(counters) => self.metrics.set_kernel(counters),
            Err(error) => tracing::warn!(%error, "could not read the kernel counters"),
        }
        match self.redirector.usage() {
            Ok(usage) => self.metrics.set_usage(usage),
            Err(error) => {
                tracing::warn!(%error, "could not read the usage per endpoint")
            }
        }
    }
}

/// Reads the kernel's verdicts as they come, for ever.
#[expect(
    deprecated,
    reason = "INVARIANT: `Events` owns its descriptor and never replaces it; what replaced this call is unsafe"
)]
pub(crate) async fn follow(events: Events, shared: Arc<Shared>) -> std::io::Result<()> {
    let mut events = AsyncFd::new(events)?;
    let mut read = Vec::new();
    loop {
        let mut ready = events.readable_mut().await?;
        ready.get_inner_mut().read(EVENTS_MAX, &mut read);
        if read.len() < EVENTS_MAX {
            ready.clear_ready();
        }
        shared.flows.add_l4(read.drain(..).map(|event| record(&event, &shared)));
        tokio::time::sleep(EVENTS_EVERY).await;
    }
}

/// What a direct flow may do from now on.
fn fate(snapshot: &Snapshot, flow: &Flow) -> Fate {
    match snapshot.connection(flow).admission() {
        Admission::Allow(_permit) => Fate::Keep,
        Admission::Deny(..) => Fate::Revoke,
        Admission::Inspect => Fate::RedirectRequired,
    }
}

fn record(event: &KernelEvent, shared: &Shared) -> L4Record {
    let directory = event.revision.and_then(|revision| shared.directories.of(revision));
    // Numbers are kept across processes.
    let directory = directory.unwrap_or_else(|| Arc::clone(shared.snapshot.load().directory()));
    let (source, destination) = (IdentityId(event.source_identity), IdentityId(event.destination_identity));
    L4Record {
        unix_ns: event.unix_ns,
        source: L4End::sender(event.source, event.sender, source, &directory),
        destination: L4End::receiver(event.destination, destination, &directory),
        protocol: Protocol(event.protocol),
        direction: event.direction,
        outcome: event.drop.map_or(L4Outcome::Allowed, |reason| L4Outcome::Dropped(reason.name())),
        rule: None,
        revision: event.revision.unwrap_or(0),
        count: event.count,
    }
}
