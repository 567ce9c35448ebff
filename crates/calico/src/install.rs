//! `install-cni`, also as `/opt/cni/bin/install`: the installer of `calico-cni` on this container's paths.

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use calico_cni::install::{Paths, Settings, run};
use calico_cni::kubernetes::{Api, Kubernetes};
use calico_store::config::Settings as DatastoreSettings;
use tokio::signal::unix::{SignalKind, signal};

/// Installs; with `SLEEP` until it is told to stop.
pub fn main() -> ExitCode {
    match install() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "the CNI plugins are not installed");
            ExitCode::FAILURE
        }
    }
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn install() -> Result<()> {
    let hostname = std::env::var("HOSTNAME").unwrap_or_default();
    let settings = Settings::from_vars(variable, &hostname)?;
    let paths = Paths::new(std::env::current_exe().context("this program's own file")?);
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start")?;
    runtime.block_on(async {
        // Only in a cluster can there be a token to ask for.
        let api = settings.api_server.as_ref().and_then(|_| {
            let opened = Kubernetes::open(&DatastoreSettings::from_environment(&variable), &variable);
            opened.inspect_err(|error| tracing::warn!(%error, "no way to the Kubernetes API")).ok()
        });
        let api = api.as_deref().map(|api| api as &dyn Api);
        let mut terminate = signal(SignalKind::terminate()).context("SIGTERM")?;
        tokio::select! {
            done = run(&settings, &paths, api) => Ok(done?),
            _ = terminate.recv() => Ok(()),
        }
    })
}
