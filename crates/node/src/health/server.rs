//! HTTP: `/liveness` and `/readiness`, as Felix serves them (spec 3 §6.1), and `/metrics` on a port of its own.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::visits::Visits;
use super::{Health, Summary};

/// What `/metrics` answers with (OpenMetrics 1.0).
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Why nothing is served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address is taken or is not this host's.
    #[error("cannot listen on {address}")]
    Listen {
        /// Host and port as given.
        address: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Serving ended.
    #[error("serving HTTP failed")]
    Serve(#[source] io::Error),
}

/// Serves health on a host and port (Felix' defaults are `localhost` and 9099) until it is told to stop. `bound` hears
/// the address, which tells the port where 0 was given.
pub async fn serve_health(
    (host, port): (&str, u16),
    health: Health,
    bound: impl FnOnce(SocketAddr),
    shutdown: CancellationToken,
) -> Result<(), ServeError> {
    let app = Router::new()
        .route("/liveness", get(async |State(health): State<Health>| answer(&health, |s| s.live)))
        .route("/readiness", get(async |State(health): State<Health>| answer(&health, |s| s.ready)))
        .with_state(health);
    serve(host, port, app, bound, shutdown).await
}

/// Serves `/metrics` of a registry (Felix' default port is 9091) until it is told to stop.
pub async fn serve_metrics(
    (host, port): (&str, u16),
    registry: Arc<Registry>,
    bound: impl FnOnce(SocketAddr),
    shutdown: CancellationToken,
) -> Result<(), ServeError> {
    let app = Router::new()
        .route("/metrics", get(async |State(registry): State<Arc<Registry>>| exposition(&registry)))
        .with_state(registry);
    serve(host, port, app, bound, shutdown).await
}

async fn serve(
    host: &str,
    port: u16,
    app: Router,
    bound: impl FnOnce(SocketAddr),
    shutdown: CancellationToken,
) -> Result<(), ServeError> {
    let listen = |source| ServeError::Listen { address: format!("{host}:{port}"), source };
    let listener = TcpListener::bind((host, port)).await.map_err(listen)?;
    bound(listener.local_addr().map_err(listen)?);
    axum::serve(Visits::new(listener), app)
        .with_graceful_shutdown(shutdown.cancelled_owned())
        .await
        .map_err(ServeError::Serve)
}

fn answer(health: &Health, is_good: impl Fn(&Summary) -> bool) -> Response {
    let summary = health.summary(Instant::now());
    let is_good = is_good(&summary);
    match (is_good, summary.detail.is_empty()) {
        (true, true) => StatusCode::NO_CONTENT.into_response(),
        (true, false) => summary.detail.into_response(),
        (false, _) => (StatusCode::SERVICE_UNAVAILABLE, summary.detail).into_response(),
    }
}

fn exposition(registry: &Registry) -> Response {
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, registry) {
        Ok(()) => ([(CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(e) => (StatusCode::INTERNAL_SERVER_ERROR, e.to_string()).into_response(),
    }
}
