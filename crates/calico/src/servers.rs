//! The HTTP servers of the process: health and metrics, where the options want them.

use std::sync::Arc;

use calico_api::felix_config::FelixConfig;
use calico_node::Health;
use prometheus_client::registry::Registry;
use smol_str::SmolStr;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// The health server. It may run before the datastore's options are known, by those of this machine; then it follows.
pub struct HealthServer {
    health: Health,
    shutdown: CancellationToken,
    serving: Option<((SmolStr, u16), JoinHandle<()>)>,
}

impl HealthServer {
    /// Serves nothing yet.
    pub fn new(health: Health, shutdown: CancellationToken) -> HealthServer {
        HealthServer { health, shutdown, serving: None }
    }

    /// Serves where the options say, if they say so at all.
    pub async fn follow(&mut self, config: &FelixConfig) {
        let wanted = config.health_enabled.then(|| (config.health_host.clone(), config.health_port));
        if self.serving.as_ref().map(|(at, _)| at) == wanted.as_ref() {
            return;
        }
        if let Some((_, task)) = self.serving.take() {
            // Waited for: its port is free then.
            task.abort();
            let _ = task.await;
        }
        let Some((host, port)) = wanted else { return };
        let (health, shutdown, at) = (self.health.clone(), self.shutdown.clone(), (host.clone(), port));
        let task = tokio::spawn(async move {
            let served =
                calico_node::health::serve_health((&host, port), health, listening("health"), shutdown);
            if let Err(error) = served.await {
                tracing::error!(error = &error as &dyn std::error::Error, "no health reports");
            }
        });
        self.serving = Some((at, task));
    }
}

/// Serves metrics if the options say so.
pub fn spawn_metrics(config: &FelixConfig, registry: Registry, shutdown: &CancellationToken) {
    if !config.prometheus_metrics_enabled {
        return;
    }
    let shutdown = shutdown.clone();
    let (host, port) = (config.prometheus_metrics_host.clone(), config.prometheus_metrics_port);
    // Nothing said means every address.
    let host = if host.is_empty() { SmolStr::new_static("0.0.0.0") } else { host };
    tokio::spawn(async move {
        let registry = Arc::new(registry);
        let served =
            calico_node::health::serve_metrics((&host, port), registry, listening("metrics"), shutdown);
        if let Err(error) = served.await {
            tracing::error!(error = &error as &dyn std::error::Error, "no metrics");
        }
    });
}

fn listening(what: &'static str) -> impl FnOnce(std::net::SocketAddr) {
    move |address| tracing::info!(%address, "serving {what}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::time::Duration;

    /// A port that was free a moment ago.
    fn port() -> u16 {
        TcpListener::bind(("127.0.0.1", 0)).and_then(|l| l.local_addr()).expect("a port").port()
    }

    async fn until_listening(port: u16, expected: bool) {
        let reached = async {
            while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok() != expected {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), reached).await.expect("in time");
    }

    #[tokio::test]
    async fn health_follows_the_options() {
        let shutdown = CancellationToken::new();
        let mut server = HealthServer::new(Health::new(), shutdown);
        let at = |port| FelixConfig {
            health_enabled: true,
            health_host: "127.0.0.1".into(),
            health_port: port,
            ..FelixConfig::default()
        };
        let (early, stored) = (port(), port());
        server.follow(&at(early)).await;
        until_listening(early, true).await;
        server.follow(&at(stored)).await;
        until_listening(stored, true).await;
        until_listening(early, false).await;
        server.follow(&FelixConfig::default()).await;
        until_listening(stored, false).await;
    }
}
