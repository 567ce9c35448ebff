//! `install-cni`, also as `/opt/cni/bin/install`: the installer of `calico-cni` on this container's paths.

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use calico_cni::install::{Paths, Settings, run};
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

fn install() -> Result<()> {
    let hostname = std::env::var("HOSTNAME").unwrap_or_default();
    let settings = Settings::from_vars(|name| std::env::var(name).ok(), &hostname)?;
    let paths = Paths::new(std::env::current_exe().context("this program's own file")?);
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start")?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).context("SIGTERM")?;
        tokio::select! {
            done = run(&settings, &paths, None) => Ok(done?),
            _ = terminate.recv() => Ok(()),
        }
    })
}
