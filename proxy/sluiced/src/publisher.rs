//! Brings changes of policy into force, one at a time, in one order.
//!
//! ```text
//!   resolve, save ─► announce ─┬─► kernel: stricter of both ─┬─► store ─► every live connection judged again
//!                              └─► use the revision ─────────┘      ─► direct flows judged again ─► kernel: new ─► in force
//! ```
//!
//! INVARIANT: at no instant does a connection without a rule reach the network: redirect first, publish second, un-redirect last.
//! INVARIANT: a number that stands for labels, and the number of a revision, are on disk, or reserved there, before they are used.

use crate::findings::{self, Findings};
use crate::flows::{L4End, L4Outcome, L4Record};
use crate::kernel::{Failure, Kernel};
use crate::metrics::Metrics;
use crate::settings;
use crate::shared::Shared;
use crate::state::{State, StateError};
use config_node::Config;
use policy_model::identity::Numbers;
use policy_model::parse::Diagnostic;
use policy_model::resolve::Resolver;
use policy_model::snapshot::Direction;
use policy_model::{Inputs, Snapshot};
use policy_watch::{PolicySet, Watcher};
use proxy_core::Reason;
use redirect::CutFlow;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;

/// Everything that one publisher needs; it owns the policy watcher.
#[derive(Debug)]
pub(crate) struct Publisher {
    pub(crate) shared: Arc<Shared>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) findings: Arc<Findings>,
    pub(crate) state: Arc<State>,
    pub(crate) kernel: Option<Kernel>,
    pub(crate) watcher: Watcher,
    pub(crate) policies: watch::Receiver<Arc<PolicySet>>,
    /// The version of the set that was reported last.
    pub(crate) heard: u64,
    /// One for each worker: the revision that all of its connections have met.
    pub(crate) settled: Vec<watch::Receiver<u64>>,
    /// Followed; the node file may list others.
    pub(crate) node_addresses: watch::Receiver<Vec<IpAddr>>,
    pub(crate) config: Config,
    pub(crate) numbers: Numbers,
    /// Numbers that were reserved are used, and the disk does not say for what yet.
    pub(crate) unsaved: bool,
    pub(crate) resolver: Resolver,
    /// The last revision that was given to a change, in force or not.
    pub(crate) revision: u64,
    pub(crate) in_force: Option<Inputs>,
    /// A change that is not in force yet: it is tried again under its number while its inputs stay.
    pub(crate) attempt: Option<Attempt>,
    /// The snapshot under which direct flows are still being cut. Nothing waits for it: the kernel refuses their packets already.
    pub(crate) cutting: Option<Arc<Snapshot>>,
    /// Told of each change, for memory to be given back.
    pub(crate) changed: Arc<Notify>,
    /// What is reported: the snapshot of the last change that is in force everywhere.
    pub(crate) reported: watch::Sender<Arc<Snapshot>>,
}

/// One settled change on its way.
#[derive(Clone, Debug)]
pub(crate) struct Attempt {
    inputs: Inputs,
    snapshot: Arc<Snapshot>,
    diagnostics: Vec<Diagnostic>,
}

/// Another node file, read without problems: what of it can change in a running daemon does.
#[derive(Debug)]
pub(crate) struct Reload(pub(crate) Box<Config>);

#[derive(Debug, thiserror::Error)]
pub(crate) enum PublishError {
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    Kernel(#[from] Failure),
    #[error(transparent)]
    Task(#[from] tokio::task::JoinError),
}

/// How long a report waits for workers that have not judged all their connections again.
const SETTLE_MAX: Duration = Duration::from_secs(2);
/// A change that failed is tried again.
const RETRY_EVERY: Duration = Duration::from_secs(1);

impl Publisher {
    /// Follows its sources until they end.
    pub(crate) async fn run(mut self, mut reloads: mpsc::Receiver<Reload>) {
        let mut failed = false;
        loop {
            tokio::select! {
                biased;
                changed = self.policies.changed() => if changed.is_err() { return },
                reload = reloads.recv() => match reload {
                    Some(Reload(config)) => self.reload(*config).await,
                    None => return,
                },
                Ok(()) = self.node_addresses.changed() => {}
                () = std::future::ready(()), if self.cutting.is_some() => {
                    self.cut_more().await;
                    continue;
                }
                () = tokio::time::sleep(RETRY_EVERY), if failed => {}
            }
            failed = match self.publish().await {
                Ok(()) => false,
                Err(error) => {
                    tracing::warn!(%error, "a change of policy is not in force");
                    true
                }
            };
            // Also where nothing came into force: what was compiled and then refused is gone too.
            self.changed.notify_one();
        }
    }

    async fn reload(&mut self, config: Config) {
        self.watcher.reload().await;
        let limits = settings::limits(&config);
        self.shared.notices.change(|notice| notice.limits = limits);
        self.config.node.pod_networks = config.node.pod_networks;
        self.config.node.addresses = config.node.addresses;
        self.config.policies.allow_localhost = config.policies.allow_localhost;
        self.config.endpoints = config.endpoints;
    }

    /// Brings what the sources say now into force, where it differs from what is.
    pub(crate) async fn publish(&mut self) -> Result<(), PublishError> {
        let policies = Arc::clone(&self.policies.borrow_and_update());
        self.report_policies(&policies);
        let node_addresses = self.node_addresses.borrow_and_update().clone();
        let inputs = settings::inputs(&self.config, &node_addresses, &policies.policies);
        let result = match self.in_force.as_ref() == Some(&inputs) {
            true => Ok(()),
            false => self.change(inputs).await,
        };
        let error = result.as_ref().err();
        self.metrics.apply_failed.add(u64::from(error.is_some()));
        self.findings.set_change(error.map(ToString::to_string));
        result
    }

    async fn change(&mut self, inputs: Inputs) -> Result<(), PublishError> {
        let begun = Instant::now();
        let attempt = match self.attempt.take() {
            Some(attempt) if attempt.inputs == inputs => attempt,
            Some(_) | None => self.resolve(inputs).await?,
        };
        match self.bring_into_force(&attempt.snapshot).await {
            Ok(()) => {
                self.report_in_force(attempt, begun);
                Ok(())
            }
            Err(error) => {
                // A half-applied change is the stricter of both; the next one starts from it.
                self.in_force = None;
                self.attempt = Some(attempt);
                Err(error)
            }
        }
    }

    /// The next revision, with its identities' numbers on disk, or reserved there.
    async fn resolve(&mut self, inputs: Inputs) -> Result<Attempt, PublishError> {
        let (state, before, revision) = (Arc::clone(&self.state), self.numbers.clone(), self.revision + 1);
        // What it gave numbers to is forgotten where these are not on disk.
        let mut resolver = std::mem::take(&mut self.resolver);
        let unsaved = self.unsaved;
        let resolve = move || -> Result<_, StateError> {
            let mut numbers = before.clone();
            numbers.reserve();
            let (mut snapshot, mut diagnostics) = resolver.resolve(&inputs, &mut numbers, revision);
            let mut problem = None;
            if (unsaved || numbers != before)
                && let Err(error) = state.save_numbers(&numbers)
            {
                resolver = Resolver::default();
                numbers = before;
                numbers.spend_reserve();
                (snapshot, diagnostics) = resolver.resolve(&inputs, &mut numbers, revision);
                if !numbers.save_again() {
                    return Err(error);
                }
                problem = Some(error);
            }
            let attempt = Attempt { inputs, snapshot: Arc::new(snapshot), diagnostics };
            Ok((attempt, numbers, resolver, problem))
        };
        let (attempt, numbers, resolver, problem) = tokio::task::spawn_blocking(resolve).await??;
        self.unsaved = problem.is_some();
        self.findings.set_numbers(problem.map(|error| error.to_string()));
        self.numbers = numbers;
        self.resolver = resolver;
        self.revision = revision;
        Ok(attempt)
    }

    async fn bring_into_force(&mut self, snapshot: &Arc<Snapshot>) -> Result<(), PublishError> {
        let revision = snapshot.revision();
        self.shared.directories.note(snapshot.directory());
        self.shared.announce(revision);
        // The disk and the kernel are waited for together; the kernel knows nothing of revisions.
        let (may_use, safe) = tokio::join!(self.use_revision(revision), self.make_safe(snapshot));
        if let Err(error) = may_use.and(safe) {
            self.shared.withdraw();
            return Err(error);
        }
        self.shared.snapshot.store(Arc::clone(snapshot));
        self.shared.notices.change(|notice| notice.revision = revision);
        self.settle(revision).await;
        if let Some(kernel) = &self.kernel {
            self.cutting = None;
            let cut = kernel.judge(Arc::clone(snapshot)).await?;
            let after = kernel.after().await;
            self.record_cut(&cut, snapshot);
            after?;
            self.cutting = Some(Arc::clone(snapshot));
        }
        Ok(())
    }

    /// A piece of what is left to be cut: between two of them a change may come.
    async fn cut_more(&mut self) {
        let (Some(kernel), Some(snapshot)) = (&self.kernel, self.cutting.take()) else { return };
        match kernel.cut(Arc::clone(&snapshot)).await {
            Ok(None) => {}
            Ok(Some(cut)) => {
                self.record_cut(&cut, &snapshot);
                self.cutting = Some(snapshot);
            }
            Err(error) => {
                tracing::warn!(%error, "could not reset connections that policy no longer allows")
            }
        }
    }

    async fn use_revision(&self, revision: u64) -> Result<(), PublishError> {
        let state = Arc::clone(&self.state);
        let problem = tokio::task::spawn_blocking(move || state.use_revision(revision)).await??;
        self.findings.set_revisions(problem.map(|(error, left)| (error.to_string(), left)));
        Ok(())
    }

    async fn make_safe(&self, snapshot: &Arc<Snapshot>) -> Result<(), PublishError> {
        let Some(kernel) = &self.kernel else { return Ok(()) };
        // Long where there are very many identities: others are answered meanwhile.
        let snapshot = Arc::clone(snapshot);
        let plan = tokio::task::spawn_blocking(move || redirect::plan::plan(&snapshot)).await?;
        Ok(kernel.before(plan).await?)
    }

    /// Waits until every live connection was judged under this revision, or for [`SETTLE_MAX`].
    async fn settle(&self, revision: u64) {
        let all = async {
            for settled in &self.settled {
                // A worker that has ended has no connections.
                drop(settled.clone().wait_for(|settled| *settled >= revision).await);
            }
        };
        if tokio::time::timeout(SETTLE_MAX, all).await.is_err() {
            self.metrics.settle_late.add(1);
            tracing::warn!(revision, "some connections have not been re-evaluated under the revision yet");
        }
    }

    fn record_cut(&self, cut: &[CutFlow], snapshot: &Snapshot) {
        let before = self.shared.directories.before(snapshot.revision());
        let end = |address: SocketAddr| L4End::cut(address, snapshot.directory(), before.as_deref());
        let records = cut.iter().map(|flow| {
            let reason = if flow.redirect_required { Reason::RedirectRequired } else { Reason::Revoked };
            let (direction, rule) =
                snapshot.connection(&flow.question()).restriction().unwrap_or((Direction::Ingress, None));
            L4Record {
                unix_ns: crate::clock::unix_ns(),
                source: end(flow.client),
                destination: end(flow.server),
                protocol: flow.protocol,
                direction,
                outcome: L4Outcome::Cut(reason.name()),
                rule,
                revision: snapshot.revision(),
                count: 1,
            }
        });
        self.shared.flows.add_l4(records);
    }

    /// Each set once, however often it is tried.
    fn report_policies(&mut self, set: &PolicySet) {
        use policy_watch::Instead;
        if std::mem::replace(&mut self.heard, set.version) == set.version {
            return;
        }
        let refused = set.reports.iter().filter(|report| report.instead != Instead::AsWritten);
        self.metrics.policies_refused.store(refused.clone().count(), Ordering::Relaxed);
        self.findings.set_policies(set);
        for report in refused {
            let first = report.diagnostics.first();
            tracing::warn!(
                file = %report.file.display(),
                line = first.map(|d| d.line),
                field = first.map(|d| d.field.as_str()),
                problem = first.map(|d| d.message.as_str()),
                "a policy is not in force as written"
            );
        }
    }

    fn report_in_force(&mut self, attempt: Attempt, begun: Instant) {
        let Attempt { inputs, snapshot, diagnostics } = attempt;
        self.findings.set_resolve(&diagnostics);
        self.findings.set_enforcement(findings::not_enforced(&self.config, &snapshot));
        self.metrics.apply_seconds.observe(begun.elapsed().as_secs_f64());
        self.metrics.revision.store(snapshot.revision(), Ordering::Relaxed);
        tracing::info!(
            revision = snapshot.revision(),
            policies = snapshot.policies().len(),
            endpoints = snapshot.endpoints().len(),
            milliseconds = begun.elapsed().as_secs_f64() * 1e3,
            "revision in force"
        );
        let _before = self.reported.send_replace(snapshot);
        self.in_force = Some(inputs);
    }
}
