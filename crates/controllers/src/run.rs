//! The role: reads the settings, runs the controllers that they enable, and starts them anew when the settings change.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use calico_api::Selection;
use calico_store::error::chain;
use calico_store::{Store, SyncEvent, Syncer, SyncerOptions};
use prometheus_client::registry::Registry;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::cluster::Cluster;
use crate::config::{Controller, Environment, Running};
use crate::health::{Condition, Reporter};
use crate::metrics::Metrics;
use crate::node::NodeController;
use crate::settings;

/// Time between two tries to read the settings from a datastore that does not answer.
const RETRY: Duration = Duration::from_secs(5);

/// What happens outside this crate when settings come into force.
pub trait Surroundings: Send + Sync {
    /// Logs from this severity on.
    fn follow_log(&self, severity: &str);
    /// Serves metrics on a port until told to stop.
    fn serve_metrics(&self, port: u16, registry: Registry, shutdown: CancellationToken);
}

/// What the role works on.
pub struct Options {
    /// Where Kubernetes' nodes and pods are seen.
    pub kubernetes: Arc<dyn Store>,
    /// Where Calico's data is; the same where Kubernetes is the datastore.
    pub calico: Arc<dyn Store>,
    /// Who is asked once more before anything is taken away.
    pub cluster: Arc<dyn Cluster>,
    /// What the environment says.
    pub environment: Environment,
    /// The file that probes read.
    pub status_file: PathBuf,
    /// What is outside.
    pub surroundings: Box<dyn Surroundings>,
}

/// Runs until it is told to stop.
pub async fn run(options: Options, shutdown: CancellationToken) {
    let mut stored = Syncer::spawn(
        options.calico.clone(),
        vec![Selection::all(calico_api::Kind::KubeControllersConfiguration)],
        SyncerOptions::default(),
    );
    let (node, metrics) = (Condition::default(), Metrics::default());
    let mut running: Option<(Running, CancellationToken, JoinSet<()>)> = None;
    // Until the datastore answers, probes are told so.
    let health = |shutdown: CancellationToken| {
        let reporter = Reporter {
            store: options.calico.clone(),
            cluster: options.cluster.clone(),
            controllers: vec![("NodeController", node.clone())],
            file: options.status_file.clone(),
        };
        reporter.run(shutdown)
    };
    node.not_ready("reading the settings");
    let early = shutdown.child_token();
    let mut early_health = options.environment.has_health().then(|| tokio::spawn(health(early.clone())));
    loop {
        let spec = tokio::select! {
            () = shutdown.cancelled() => break,
            spec = read(&*options.calico) => spec,
        };
        let wanted = Running::new(&options.environment, &spec);
        if running.as_ref().is_none_or(|(now, _, _)| *now != wanted) {
            if let Some((_, stop, tasks)) = running.take() {
                tracing::info!("the settings have changed; the controllers start anew");
                stop.cancel();
                tasks.join_all().await;
            }
            if let Some(task) = early_health.take() {
                early.cancel();
                // It ends by itself; a panic of it would be one of the next as well.
                let _ = task.await;
            }
            let stop = shutdown.child_token();
            let mut tasks = spawn(&options, &wanted, &node, &metrics, &stop);
            if wanted.has_health() {
                tasks.spawn(health(stop.clone()));
            }
            settings::report(&*options.calico, &wanted).await;
            running = Some((wanted, stop, tasks));
        }
        tokio::select! {
            () = shutdown.cancelled() => break,
            changed = changed(&mut stored) => if !changed { break },
        }
    }
    shutdown.cancelled().await;
    if let Some((_, _, tasks)) = running {
        tasks.join_all().await;
    }
}

/// Waits until the settings may have changed; `false` when the runtime ends.
async fn changed(stored: &mut Syncer) -> bool {
    loop {
        match stored.next().await {
            Some(SyncEvent::Updates(_)) => return true,
            Some(SyncEvent::InSync) => {}
            None => return false,
        }
    }
}

/// Reads the settings, however long it takes.
async fn read(store: &dyn Store) -> calico_api::KubeControllersConfigurationSpec {
    loop {
        match settings::read(store).await {
            Ok(spec) => return spec,
            Err(error) => tracing::warn!(error = chain(&error), "the settings cannot be read; trying again"),
        }
        sleep(RETRY).await;
    }
}

fn spawn(
    options: &Options,
    running: &Running,
    node: &Condition,
    metrics: &Metrics,
    stop: &CancellationToken,
) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    options.surroundings.follow_log(&running.spec.log_severity_screen);
    if let Some(port) = running.metrics_port() {
        let mut registry = Registry::default();
        metrics.register(&mut registry);
        options.surroundings.serve_metrics(port, registry, stop.clone());
    }
    // Where it does not run, it is as well as it should be.
    node.ready();
    let is_kubernetes = Arc::ptr_eq(&options.kubernetes, &options.calico);
    for controller in running.enabled() {
        let name = controller.name();
        match controller {
            Controller::Node => {
                let controller = NodeController {
                    kubernetes: options.kubernetes.clone(),
                    calico: options.calico.clone(),
                    cluster: options.cluster.clone(),
                    grace: running.leak_grace(),
                    metrics: metrics.clone(),
                    condition: node.clone(),
                };
                tasks.spawn(controller.run(stop.clone()));
                tracing::info!(leak_grace = ?running.leak_grace(), "controller {name} runs");
            }
            Controller::LoadBalancer => tracing::info!("controller {name} is enabled; this version has none"),
            _ if is_kubernetes => {
                tracing::debug!("controller {name} has nothing to do where Kubernetes is the datastore");
            }
            _ => tracing::info!("controller {name} is enabled; this version has none"),
        }
    }
    tasks
}
