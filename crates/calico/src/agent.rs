//! `calico node`: one process of a node, composed of its roles: start-up, policy and routes, BGP, the CNI server,
//! health and metrics.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use calico_api::felix_config::resolve::{environment_settings, file_settings};
use calico_api::felix_config::{Resolution, Setting, resolve};
use calico_calc::change::WorkloadId;
use calico_cni::context::{Context, Expected, Live};
use calico_cni::datastore::Datastore;
use calico_cni::install::{self, Paths, renewal};
use calico_cni::kubernetes::Api;
use calico_cni::netconf::AGENT_SOCKET;
use calico_cni::server::{Server, bind};
use calico_cni::spool::SPOOL;
use calico_felix::metrics::Metrics;
use calico_felix::settings::programs_ipip;
use calico_felix::{Agent, Exit, LiveEndpoints, Options};
use calico_linux::lock::AgentLock;
use calico_linux::sysctl::Sysctl;
use calico_node::health::{Promise, Report, Reporter};
use calico_node::startup::settings::Backend;
use calico_node::{Health, NodeArgs, NodeMetrics};
use calico_store::Store;
use calico_store::error::chain;
use futures::FutureExt;
use futures::future::BoxFuture;
use prometheus_client::registry::Registry;
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::lifecycle::{self, announce};
use crate::log::Log;
use crate::roles::Roles;
use crate::servers::{HealthServer, spawn_metrics};

/// The exit code that asks to be started again: options changed that only a new process takes (spec 3 §6.1).
const RESTART: u8 = 129;

/// Threads of the runtime: one does CNI requests, the datastore and whoever asks how it goes. The loop that programs the
/// kernel, which blocks while it does, and the one that computes what BIRD is told have threads of their own; with more
/// of the runtime's a fifth of an ADD was handing it from one to another.
const WORKERS: usize = 1;

/// The agent's loop in health reports.
const FELIX: &str = "felix";

/// Where Felix's own options may be.
const CONFIG_FILE: &str = "/etc/calico/felix.cfg";

/// How long ADD waits for policy to be in the kernel when the network configuration says nothing.
const LIVE_PATIENCE: Duration = Duration::from_secs(5);

/// A loop that has not turned for so long hangs (`DataplaneWatchdogTimeout` is an option; this is how often it is
/// looked at).
const WATCH: Duration = Duration::from_millis(200);

/// Held while an agent of this node runs, or while everything of it is removed: two would undo each other's work.
pub const LOCK: &str = "/run/calico/agent.lock";

/// Runs the agent until it is told to stop.
pub fn main(log: Log) -> ExitCode {
    // Its memory is small objects of many threads: where the machine gives huge pages unasked, it would be mostly holes.
    if let Err(error) = nix::sys::prctl::set_thp_disable(true) {
        tracing::warn!(%error, "huge pages stay on: the agent takes more memory than it needs");
    }
    // Held until the process is about to end; a thread that gets no end of its work may be in the kernel a moment longer.
    let lock = AgentLock::take(Path::new(LOCK));
    let outcome = lock.as_ref().map_err(|error| anyhow::anyhow!("{error}")).and_then(|_| {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build();
        runtime.context("cannot start")?.block_on(run(log))
    });
    match outcome {
        Ok(Exit::Shutdown) => ExitCode::SUCCESS,
        Ok(Exit::Restart(_)) => ExitCode::from(RESTART),
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "terminating");
            ExitCode::FAILURE
        }
    }
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

async fn run(log: Log) -> Result<Exit> {
    let shutdown = CancellationToken::new();
    crate::roles::spawn_signals(shutdown.clone(), "told to stop; the kernel stays as it is")?;
    let local = read_local_settings()?;
    let early = resolve(local.iter().cloned()).config;
    log.follow(&early.log_severity_screen);
    let health = Health::new();
    // How long it may be silent is not known yet.
    health.register(FELIX, Promise { live: true, ready: true, timeout: None });
    let mut health_server = HealthServer::new(health.clone(), shutdown.clone());
    health_server.follow(&early).await;

    let Datastore { store, kubernetes, natives, keeps_endpoints } = tokio::select! {
        () = shutdown.cancelled() => return Ok(Exit::Shutdown),
        opened = lifecycle::open_datastore() => opened?,
    };
    let kubernetes = kubernetes.inspect_err(|error| tracing::debug!(%error, "no Kubernetes")).ok();
    let started = tokio::select! {
        () = shutdown.cancelled() => return Ok(Exit::Shutdown),
        started = lifecycle::start(&store, kubernetes.as_deref()) => started.context("start")?,
    };
    let node = started.node.clone();
    tracing::info!(%node, version = env!("CARGO_PKG_VERSION"), "started");

    // What the datastore says counts for the whole process. Should it change before the agent reads it, the agent
    // asks for a new process.
    let options = calico_felix::settings::Settings::read(&*store, &node, local.clone()).await;
    let options = options.context("options")?.resolve();
    let config = options.config.clone();
    log.follow(&config.log_severity_screen);
    health_server.follow(&config).await;
    let mut registry = Registry::default();
    let felix_metrics = Metrics::register(&mut registry);
    let node_metrics = NodeMetrics::register(&mut registry);
    spawn_metrics(&config, registry, &shutdown);
    let in_force = watch::Sender::new(options);
    tokio::spawn(follow_severity(log, in_force.subscribe()));

    let live = LiveEndpoints::default();
    let condition = calico_felix::Health::default();
    let promise = Promise { live: true, ready: true, timeout: Some(config.dataplane_watchdog_timeout) };
    tokio::spawn(pass_on(condition.clone(), store.clone(), health.register(FELIX, promise)));
    let cni_reporter = health.register("cni", Promise { live: true, ready: true, timeout: None });

    let mut roles = Roles::new(shutdown.clone());
    let prefix = config.interface_prefix.split(',').next().unwrap_or("cali").trim();
    let cni = Context {
        patience: Some(LIVE_PATIENCE),
        kubernetes: kubernetes.clone(),
        keeps_endpoints,
        ..Context::new(store.clone(), &node, prefix, Arc::new(LiveOf(live.clone())))
    };
    roles.spawn("the CNI server", serve_cni(cni, cni_reporter, shutdown.clone()));
    if let Some(api) = kubernetes.clone() {
        spawn_renewal(api, &node, &shutdown)?;
    }
    tokio::spawn(announce(health.clone(), kubernetes, node.clone(), shutdown.clone()));
    let has_bgp = started.settings.backend == Backend::Bird;
    let tunnels_ready = watch::Sender::default();
    let ready = tunnels_ready.subscribe();
    let args = NodeArgs::from_vars(store.clone(), started, ready, health, node_metrics, &variable)?;
    let args = NodeArgs { services: natives, ipip_is_speakers: !programs_ipip(&config), ..args };
    let bgp_shutdown = shutdown.clone();
    let bgp = on_thread("bgp", async move {
        calico_node::run(args, bgp_shutdown.clone()).await;
        if !has_bgp {
            // There may be nothing to do on such a node, now or ever.
            bgp_shutdown.cancelled().await;
        }
    });
    let bgp = bgp.context("cannot start a thread")?;
    roles.spawn("BGP", async move { bgp.await.context("its thread broke") });
    let options = Options { node, local, sysctl: Sysctl::default(), in_force, tunnels_ready };
    let agent = Agent::new(options, store, live, condition, felix_metrics);
    let felix = on_thread(FELIX, agent.run(shutdown)).context("cannot start a thread")?;
    roles.spawn_leading("policy and routes", async move { Ok(felix.await.context("its thread broke")??) });
    roles.run().await
}

/// Runs what blocks or computes for long on a thread of its own; its timers, sockets and tasks are the runtime's.
fn on_thread<T: Send + 'static>(
    name: &str,
    work: impl Future<Output = T> + Send + 'static,
) -> std::io::Result<oneshot::Receiver<T>> {
    let (done, outcome) = oneshot::channel();
    let runtime = Handle::current();
    // Whoever no longer waits is leaving too.
    let run = move || drop(done.send(runtime.block_on(work)));
    std::thread::Builder::new().name(name.to_owned()).spawn(run)?;
    Ok(outcome)
}

/// `LogSeverityScreen` takes effect at once.
async fn follow_severity(log: Log, mut in_force: watch::Receiver<Resolution>) {
    while in_force.changed().await.is_ok() {
        log.follow(&in_force.borrow_and_update().config.log_severity_screen);
    }
}

/// Options of Felix's file and of the environment.
pub fn read_local_settings() -> Result<Vec<Setting>> {
    // What is not Unicode is no option of ours, whatever it is for others.
    let unicode =
        |(name, value): (OsString, OsString)| Some((name.into_string().ok()?, value.into_string().ok()?));
    let mut settings = environment_settings(std::env::vars_os().filter_map(unicode));
    match std::fs::read_to_string(CONFIG_FILE) {
        Ok(text) => {
            let (of_file, bad) = file_settings(&text);
            settings.extend(of_file);
            for (number, line) in bad {
                tracing::warn!("{CONFIG_FILE}:{number}: {line:?} is not NAME = VALUE; passed over");
            }
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error).context(CONFIG_FILE),
    }
    Ok(settings)
}

/// Felix's condition, as health reports know it. A loop that hangs turns no more, so its report grows old. A datastore that is
/// away is borne with; one that is lost is not, because nobody sees any more what this node does.
async fn pass_on(condition: calico_felix::Health, store: Arc<dyn Store>, reporter: Reporter) {
    let mut last = None;
    loop {
        let now = condition.condition();
        let lost = store.lost().map(|fault| chain(&fault));
        let seen = Some((now.turned, lost.clone()));
        if last != seen {
            last = seen;
            let ready = now.ready && lost.is_none();
            reporter.report(Report { live: true, ready, detail: lost.unwrap_or(now.detail) });
        }
        tokio::time::sleep(WATCH).await;
    }
}

async fn serve_cni(context: Context, reporter: Reporter, shutdown: CancellationToken) -> Result<()> {
    let server = Server::new(context, Path::new(SPOOL));
    let listener = bind(Path::new(AGENT_SOCKET)).context(AGENT_SOCKET)?;
    reporter.good();
    Ok(server.serve_on(listener, shutdown).await?)
}

/// Keeps the credentials of plugins fresh that work without the agent.
fn spawn_renewal(api: Arc<dyn Api>, node: &str, shutdown: &CancellationToken) -> Result<()> {
    if !renewal::is_wanted(&variable) {
        return Ok(());
    }
    let settings = install::Settings::from_vars(variable, node)?;
    // A kubeconfig without a server is none.
    if settings.api_server.is_some() {
        let paths = Paths::new(std::env::current_exe().context("this program's own file")?);
        let renewal = async move { renewal::renew(&settings, &paths, &*api).await };
        // It waits for the disk.
        let renewing = on_thread("renewal", shutdown.clone().run_until_cancelled_owned(renewal));
        drop(renewing.context("cannot start a thread")?);
    }
    Ok(())
}

/// The agent's live endpoints, as the CNI server asks for them.
struct LiveOf(LiveEndpoints);

impl Live for LiveOf {
    fn wait_live(&self, expected: Expected, patience: Duration) -> BoxFuture<'_, bool> {
        let Expected { endpoint: [orchestrator, workload, endpoint], mac, addresses } = expected;
        let id = WorkloadId { orchestrator, workload, endpoint };
        async move { tokio::time::timeout(patience, self.0.wait(&id, mac, &addresses)).await.is_ok() }.boxed()
    }
}
