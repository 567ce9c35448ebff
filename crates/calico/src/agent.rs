//! `calico node`: one process of a node, composed of its roles: start-up, policy and routes, BGP, the CNI server,
//! health and metrics.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use calico_api::felix_config::resolve::{environment_settings, file_settings};
use calico_api::felix_config::{FelixConfig, Setting, resolve};
use calico_calc::change::WorkloadId;
use calico_cni::context::{Context, Live};
use calico_cni::netconf::AGENT_SOCKET;
use calico_cni::server::Server;
use calico_cni::spool::SPOOL;
use calico_felix::metrics::Metrics;
use calico_felix::{Agent, Exit, LiveEndpoints, Options};
use calico_linux::sysctl::Sysctl;
use calico_node::health::{Promise, Report, Reporter};
use calico_node::{Health, NodeArgs, NodeMetrics};
use calico_store::Store;
use calico_store::config::Settings;
use futures::FutureExt;
use futures::future::BoxFuture;
use prometheus_client::registry::Registry;
use smol_str::SmolStr;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// The exit code that asks to be started again: options changed that only a new process takes (spec 3 §6.1).
const RESTART: u8 = 129;

/// Threads of the runtime. The loop that programs the kernel blocks one while it does; CNI requests and the datastore
/// go on in the other.
const WORKERS: usize = 2;

/// Where Felix's own options may be.
const CONFIG_FILE: &str = "/etc/calico/felix.cfg";

/// How long ADD waits for policy to be in the kernel when the network configuration says nothing.
const LIVE_PATIENCE: Duration = Duration::from_secs(5);

/// A loop that has not turned for so long hangs (`DataplaneWatchdogTimeout` is an option; this is how often it is
/// looked at).
const WATCH: Duration = Duration::from_millis(200);

/// Runs the agent until it is told to stop.
pub fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build();
    let outcome = runtime.context("cannot start").and_then(|runtime| runtime.block_on(run()));
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

async fn run() -> Result<Exit> {
    let shutdown = CancellationToken::new();
    spawn_signals(shutdown.clone())?;
    let local = read_local_settings()?;
    let config = resolve(local.iter().cloned()).config;
    let settings = Settings::from_felix_environment(&variable).or(Settings::from_environment(&variable));
    let datastore = settings.resolve().context("datastore")?;
    let store = calico_store_etcd::connect(&datastore).await.context("datastore")?;

    let health = Health::new();
    let felix_reporter = health.register(
        "felix",
        Promise { live: true, ready: true, timeout: Some(config.dataplane_watchdog_timeout) },
    );
    let mut registry = Registry::default();
    let felix_metrics = Metrics::register(&mut registry);
    let node_metrics = NodeMetrics::register(&mut registry);
    spawn_servers(&config, &health, registry, &shutdown);

    let started = tokio::select! {
        () = shutdown.cancelled() => return Ok(Exit::Shutdown),
        started = calico_node::start(&store, &variable, env!("CARGO_PKG_VERSION")) => started.context("start")?,
    };
    let node = started.node.clone();
    tracing::info!(%node, version = env!("CARGO_PKG_VERSION"), "started");

    let live = LiveEndpoints::default();
    let condition = calico_felix::Health::default();
    tokio::spawn(pass_on(condition.clone(), felix_reporter));
    spawn_cni(&store, &node, &config, live.clone(), &shutdown);

    let args = NodeArgs::from_vars(store.clone(), started, health, node_metrics, &variable)?;
    let bgp = tokio::spawn(calico_node::run(args, shutdown.clone()));
    let options = Options { node, local, sysctl: Sysctl::default() };
    let agent = Agent::new(options, store, live, condition, felix_metrics);
    // A task of its own, since it blocks its thread while it talks to the kernel.
    let exit = tokio::spawn(agent.run(shutdown.clone())).await.context("the agent's loop")?;
    shutdown.cancel();
    bgp.await.context("BGP")?;
    Ok(exit?)
}

fn spawn_signals(shutdown: CancellationToken) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT")?;
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("told to stop; the kernel stays as it is");
        shutdown.cancel();
    });
    Ok(())
}

/// Options of Felix's file and of the environment.
pub fn read_local_settings() -> Result<Vec<Setting>> {
    let mut settings = environment_settings(std::env::vars());
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

fn spawn_servers(config: &FelixConfig, health: &Health, registry: Registry, shutdown: &CancellationToken) {
    if config.health_enabled {
        let (health, shutdown) = (health.clone(), shutdown.clone());
        let (host, port) = (config.health_host.clone(), config.health_port);
        tokio::spawn(async move {
            if let Err(error) =
                calico_node::health::serve_health((&host, port), health, listening("health"), shutdown).await
            {
                tracing::error!(error = &error as &dyn std::error::Error, "no health reports");
            }
        });
    }
    if config.prometheus_metrics_enabled {
        let shutdown = shutdown.clone();
        let (host, port) = (config.prometheus_metrics_host.clone(), config.prometheus_metrics_port);
        // Nothing said means every address.
        let host = if host.is_empty() { SmolStr::new_static("0.0.0.0") } else { host };
        tokio::spawn(async move {
            let registry = Arc::new(registry);
            if let Err(error) =
                calico_node::health::serve_metrics((&host, port), registry, listening("metrics"), shutdown)
                    .await
            {
                tracing::error!(error = &error as &dyn std::error::Error, "no metrics");
            }
        });
    }
}

fn listening(what: &'static str) -> impl FnOnce(std::net::SocketAddr) {
    move |address| tracing::info!(%address, "serving {what}")
}

/// Felix's condition, as health reports know it. A loop that hangs turns no more, so its report grows old.
async fn pass_on(condition: calico_felix::Health, reporter: Reporter) {
    let mut last = None;
    loop {
        let now = condition.condition();
        if last != Some(now.turned) {
            last = Some(now.turned);
            reporter.report(Report { live: true, ready: now.ready, detail: now.detail });
        }
        tokio::time::sleep(WATCH).await;
    }
}

fn spawn_cni(
    store: &Arc<dyn Store>,
    node: &SmolStr,
    config: &FelixConfig,
    live: LiveEndpoints,
    shutdown: &CancellationToken,
) {
    let prefix = config.interface_prefix.split(',').next().unwrap_or("cali").trim();
    let context = Context {
        patience: Some(LIVE_PATIENCE),
        ..Context::new(store.clone(), node, prefix, Arc::new(LiveOf(live)))
    };
    let server = Server::new(context, Path::new(SPOOL));
    let shutdown = shutdown.clone();
    tokio::spawn(async move {
        if let Err(error) = server.serve(Path::new(AGENT_SOCKET), shutdown).await {
            tracing::error!(%error, "no CNI server");
        }
    });
}

/// The agent's live endpoints, as the CNI server asks for them.
struct LiveOf(LiveEndpoints);

impl Live for LiveOf {
    fn wait_live(&self, endpoint: [SmolStr; 3], patience: Duration) -> BoxFuture<'_, bool> {
        let [orchestrator, workload, endpoint] = endpoint;
        let id = WorkloadId { orchestrator, workload, endpoint };
        async move { tokio::time::timeout(patience, self.0.wait(&id)).await.is_ok() }.boxed()
    }
}
