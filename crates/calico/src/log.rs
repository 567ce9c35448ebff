//! Logging of long-running roles: one line per event on standard error.

use tracing_subscriber::EnvFilter;

/// Starts logging. `CALICO_LOG` is a filter (`info`, `debug`, `calico_felix=debug`); `CALICO_LOG_FORMAT=json` makes
/// each line a JSON object.
pub fn start(filter: Option<&str>, json: bool) {
    let filter = EnvFilter::try_new(filter.unwrap_or("info")).unwrap_or_else(|_| EnvFilter::new("info"));
    let subscriber =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false);
    if json { subscriber.json().init() } else { subscriber.init() }
}
