//! The daemon's life: start, reload, drain.
//!
//! ```text
//!   node file ─► state ─► socket ─► policies ─► kernel side ─► workers ─► first revision ─► accept ... SIGTERM ─► drain
//! ```
//!
//! What can fail is tried before anything in the kernel is touched: a daemon that does not start leaves in force what was.

use crate::addresses;
use crate::admin::{self, Admin};
use crate::api_socket;
use crate::budget::Bounds;
use crate::collector;
use crate::event_loop::{self, Setup};
use crate::findings::Findings;
use crate::flows;
use crate::inbox::Lifecycle;
use crate::interfaces;
use crate::kernel::{self, Kernel};
use crate::log;
use crate::memory;
use crate::metrics::{Counters, Metrics};
use crate::publisher::{Publisher, Reload};
use crate::settings;
use crate::shared::Shared;
use crate::sockets::{self, Sockets};
use crate::state::State;
use crate::upstream::Source;
use anyhow::{Context as _, anyhow};
use config_node::{Config, Mode, Problem};
use policy_model::resolve::Resolver;
use policy_watch::Watcher;
use proxy_core::text::{Complaints, harmless};
use redirect::Redirector;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, mpsc, oneshot, watch};

/// Why the daemon did not run.
#[derive(Debug)]
pub enum Failure {
    /// The node file is not valid.
    Config(Vec<Problem>),
    /// Everything else.
    Start(anyhow::Error),
}

impl Failure {
    /// For the user, a line each.
    pub fn lines(&self) -> Vec<String> {
        match self {
            Self::Config(problems) => {
                problems.iter().map(|problem| harmless(&problem.to_string()).into_owned()).collect()
            }
            Self::Start(error) => match error.downcast_ref::<Complaints>() {
                Some(Complaints { what, each }) => {
                    let what = format!("sluiced: {what}");
                    Complaints { what, each: each.clone() }.lines()
                }
                None => vec![harmless(&format!("sluiced: {error:#}")).into_owned()],
            },
        }
    }

    /// Of the process.
    pub fn status(&self) -> u8 {
        match self {
            Self::Config(_) => 1,
            Self::Start(_) => 2,
        }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Start(error)
    }
}

/// Policies are settled when nothing has changed for this long.
const SETTLE: Duration = Duration::from_millis(10);

/// Runs until SIGTERM or SIGINT, and the drain behind it.
///
/// # Errors
/// The node file is invalid, or a part of the daemon can't start.
pub fn run(node_file: &Path) -> Result<(), Failure> {
    let config = read(node_file)?;
    let _log = log::init(&config)?;
    log_panics();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the main thread's runtime can't start")?;
    runtime.block_on(async {
        // Before everything else: a hangup that comes while the daemon starts must not end it.
        let mut signals = Signals::new().context("signals can't be received")?;
        tokio::select! {
            daemon = Daemon::start(config) => daemon?.serve(node_file, signals).await,
            () = signals.end() => Ok(()),
        }
    })?;
    Ok(())
}

/// Undoes the kernel side. Returns what was undone, a line each.
///
/// # Errors
/// The node file is invalid, a daemon runs by it, or something could not be undone.
pub fn uninstall(node_file: &Path) -> Result<Vec<String>, Failure> {
    let config = read(node_file)?;
    let socket = &config.api.socket;
    // It would go on as if its programs were there, and its connections would be nobody's.
    if std::os::unix::net::UnixStream::connect(socket).is_ok() {
        let running =
            anyhow!("a daemon answers at `{}`; end it first: `systemctl stop sluiced`", socket.display());
        return Err(running.into());
    }
    let undone =
        redirect::uninstall(&settings::redirect(&config)).context("not everything could be undone")?;
    if undone.is_empty() {
        return Ok(vec!["nothing to undo".into()]);
    }
    Ok(undone)
}

fn read(node_file: &Path) -> Result<Config, Failure> {
    let text = std::fs::read_to_string(node_file)
        .with_context(|| format!("the node file `{}` can't be read", node_file.display()))?;
    config_node::read(&node_file.display().to_string(), &text).map_err(Failure::Config)
}

/// A panic ends one connection, not the daemon; it is a bug all the same.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| tracing::error!(%panic, "a task has panicked")));
}

/// A daemon that has started and waits for signals.
struct Daemon {
    shared: Arc<Shared>,
    findings: Arc<Findings>,
    config: Config,
    reloads: mpsc::Sender<Reload>,
    state: Arc<State>,
    workers: Vec<JoinHandle<io::Result<()>>>,
    collector: (tokio::task::JoinHandle<()>, oneshot::Sender<()>),
}

/// The workers' threads and the main thread's ends of what they were given.
struct Workers {
    threads: Vec<JoinHandle<io::Result<()>>>,
    counters: Vec<Arc<Counters>>,
    settled: Vec<watch::Receiver<u64>>,
    handoffs: Vec<flows::Handoff>,
}

impl Daemon {
    async fn start(config: Config) -> anyhow::Result<Self> {
        let directory = &config.node.state_directory;
        let state = Arc::new(State::open(directory).context("the state directory can't be used")?);
        let (numbers, revision) = (state.numbers()?, state.revision()?);
        let socket = api_socket::bind(&config.api.socket)
            .await
            .with_context(|| format!("[api] socket `{}` can't be bound", config.api.socket.display()))?;
        let metrics_listener = match &config.metrics {
            None => None,
            Some(metrics) => Some(
                tokio::net::TcpListener::bind(metrics.listen)
                    .await
                    .with_context(|| format!("[metrics] listen `{}` can't be bound", metrics.listen))?,
            ),
        };
        let (watcher, policies) = watch_policies(&config)?;
        let findings = Arc::new(Findings::default());
        let worker_count = settings::workers(&config);
        let shared = Arc::new(shared(&config, worker_count, &findings)?);
        let (listeners, redirector) = sockets::open(&config, worker_count)?;
        let workers = start_workers(&shared, listeners, settings::worker_bounds(&config, worker_count))?;
        let metrics = Arc::new(Metrics::new(Arc::clone(&shared), workers.counters));
        let kernel = redirector
            .map(|redirector| start_kernel(redirector, &shared, &metrics, &findings))
            .transpose()?;
        let (addressed, node_addresses) = watch::channel(addresses::read(&findings));
        let (reporting, reported) = watch::channel(shared.snapshot.load_full());
        let changed = Arc::new(Notify::new());
        let mut publisher = Publisher {
            shared: Arc::clone(&shared),
            metrics: Arc::clone(&metrics),
            findings: Arc::clone(&findings),
            state: Arc::clone(&state),
            kernel,
            watcher,
            policies,
            heard: 0,
            settled: workers.settled,
            node_addresses,
            config: config.clone(),
            numbers,
            unsaved: false,
            resolver: Resolver::default(),
            revision,
            in_force: None,
            attempt: None,
            changed: Arc::clone(&changed),
            cutting: None,
            reported: reporting,
        };
        publisher.publish().await.context("the first revision can't be brought into force")?;
        let admin = Arc::new(Admin {
            shared: Arc::clone(&shared),
            metrics: Arc::clone(&metrics),
            findings: Arc::clone(&findings),
            reported,
            node: config.node.name.clone(),
            mode: settings::mode_name(config.redirect.mode),
        });
        let (stop, stopped) = oneshot::channel();
        let collector = tokio::spawn(collector::collect(Arc::clone(&shared), workers.handoffs, stopped));
        let (reloads, received) = mpsc::channel(1);
        // These tasks live as long as the process.
        let _memory = tokio::spawn(memory::give_back(changed));
        let _publisher = tokio::spawn(publisher.run(received));
        let _addresses = tokio::spawn(addresses::follow(addressed, Arc::clone(&findings)));
        let _admin = tokio::spawn(admin::serve(socket, admin));
        let _metrics = metrics_listener.map(|listener| tokio::spawn(admin::serve_metrics(listener, metrics)));
        let collector = (collector, stop);
        Ok(Self { shared, findings, config, reloads, state, workers: workers.threads, collector })
    }

    /// From the first connection to the last.
    async fn serve(self, node_file: &Path, mut signals: Signals) -> anyhow::Result<()> {
        self.shared.enter(Lifecycle::Running);
        tracing::info!(
            mode = settings::mode_name(self.config.redirect.mode),
            socket = %self.config.api.socket.display(),
            "ready"
        );
        while let Asked::Reload = signals.next().await {
            self.reload(node_file).await;
        }
        self.drain(signals).await
    }

    /// A node file with problems is reported and changes nothing.
    async fn reload(&self, node_file: &Path) {
        let problems = match read(node_file) {
            Ok(config) => {
                let restart =
                    settings::needs_restart(&self.config, &config, &node_file.display().to_string());
                // The publisher ends only with the process.
                drop(self.reloads.send(Reload(Box::new(config))).await);
                restart
            }
            Err(Failure::Config(problems)) => problems,
            Err(Failure::Start(error)) => vec![Problem {
                file: node_file.display().to_string(),
                line: 0,
                field: String::new(),
                message: format!("{error:#}"),
                fix: "restore the file and reload again".into(),
            }],
        };
        self.findings.set_node_file(&problems);
        for problem in &problems {
            tracing::warn!(
                file = problem.file,
                line = problem.line,
                field = problem.field,
                "the node file is not in force as written: {}",
                problem.message
            );
        }
        tracing::info!(problems = problems.len(), "node file read again");
    }

    /// Stops accepting, lets connections end, ends what is left after a while, or when told again. The kernel's state stays.
    async fn drain(self, mut signals: Signals) -> anyhow::Result<()> {
        let bound = Duration::from_millis(self.config.limits.drain_ms);
        tracing::info!(connections = self.shared.live.count(), "draining");
        self.shared.enter(Lifecycle::Draining);
        tokio::select! {
            () = self.shared.live.emptied() => {}
            () = tokio::time::sleep(bound) => tracing::warn!("drain timed out"),
            () = signals.end() => tracing::warn!("second signal"),
        }
        if self.shared.live.count() > 0 {
            tracing::warn!(connections = self.shared.live.count(), "closing the remaining connections");
        }
        self.shared.enter(Lifecycle::Ending);
        for worker in self.workers {
            match worker.join() {
                Ok(result) => result.context("a worker has failed")?,
                Err(_panic) => return Err(anyhow!("a worker has panicked")),
            }
        }
        let (collector, stop) = self.collector;
        // Fails where the collector has ended already.
        let _sent = stop.send(());
        collector.await.context("the flow collector has failed")?;
        self.state.give_back();
        // Nobody answers there any more; where it can't be removed, the next start does it.
        drop(std::fs::remove_file(&self.config.api.socket));
        tracing::info!("stopped");
        Ok(())
    }
}

/// With as many connections as are configured, or as the process has descriptors for.
fn shared(config: &Config, workers: usize, findings: &Findings) -> anyhow::Result<Shared> {
    let (connections, too_few) = sockets::raise_descriptor_limit(config, workers)?;
    if let Some(too_few) = &too_few {
        tracing::warn!("{too_few}");
    }
    findings.set_descriptors(too_few);
    let source = match config.redirect.mode {
        Mode::Ebpf => Source::Transparent,
        Mode::None => Source::WhereBindable,
    };
    let (limits, shares) = (settings::limits(config), settings::shares(config, connections));
    Ok(Shared::new(limits, shares, config.limits.flow_records, source))
}

fn watch_policies(
    config: &Config,
) -> anyhow::Result<(Watcher, watch::Receiver<Arc<policy_watch::PolicySet>>)> {
    use policy_watch::StartError;
    let settings = policy_watch::Settings {
        directories: config.policies.directories.clone(),
        state_directory: config.node.state_directory.clone(),
        settle: SETTLE,
        bounds: policy_watch::Bounds {
            policies: config.limits.policies_per_namespace,
            automaton_bytes: config.limits.automaton_bytes_per_namespace,
        },
    };
    Watcher::start(settings).map_err(|error| match &error {
        StartError::Unparsable { file, diagnostics } => {
            let each = diagnostics.iter().map(|diagnostic| {
                let (file, line) = (file.display(), diagnostic.line);
                format!("{file}:{line}: {}: {}; {}", diagnostic.field, diagnostic.message, diagnostic.fix)
            });
            Complaints { what: error.to_string(), each: each.collect() }.into()
        }
        // Said whole: as a link of a chain it would say its cause twice.
        StartError::Directory { .. } | StartError::State { .. } => {
            anyhow!("{error}")
        }
    })
}

fn start_kernel(
    mut redirector: Redirector,
    shared: &Arc<Shared>,
    metrics: &Arc<Metrics>,
    findings: &Arc<Findings>,
) -> anyhow::Result<Kernel> {
    if let Some(events) = redirector.take_events() {
        let _task = tokio::spawn(kernel::follow(events, Arc::clone(shared)));
    }
    let kernel = Kernel::spawn(redirector, Arc::clone(metrics), Arc::clone(findings), kernel::SWEEP_EVERY)
        .context("the kernel side's thread can't start")?;
    let _task = tokio::spawn(interfaces::follow(kernel.clone(), Arc::clone(findings)));
    Ok(kernel)
}

fn start_workers(shared: &Arc<Shared>, sockets: Sockets, bounds: Bounds) -> anyhow::Result<Workers> {
    let mut workers =
        Workers { threads: Vec::new(), counters: Vec::new(), settled: Vec::new(), handoffs: Vec::new() };
    for (index, listeners) in sockets.into_iter().enumerate() {
        let counters = Arc::new(Counters::default());
        let (producer, handoff) = flows::handoff(shared.flows.bells());
        let (settled, is_settled) = watch::channel(0);
        let (shared, counting) = (Arc::clone(shared), Arc::clone(&counters));
        let setup = Setup { shared, counters: counting, producer, settled, listeners, bounds };
        workers.threads.push(event_loop::spawn(index, setup).context("a worker can't start")?);
        workers.counters.push(counters);
        workers.settled.push(is_settled);
        workers.handoffs.push(handoff);
    }
    Ok(workers)
}

/// The signals that the daemon knows.
struct Signals {
    hangup: Signal,
    interrupt: Signal,
    terminate: Signal,
}

enum Asked {
    Drain,
    Reload,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.hangup.recv() => Asked::Reload,
            _ = self.interrupt.recv() => Asked::Drain,
            _ = self.terminate.recv() => Asked::Drain,
        }
    }

    /// Returns when the daemon is told to end.
    async fn end(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
