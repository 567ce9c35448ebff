//! The ends of a node's life that are commands: the start alone, and the word that it goes down.

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use calico_node::shutdown;
use calico_store::config::Settings;
use time::OffsetDateTime;

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// `calico node startup`: what the agent does first, and no more.
pub fn start_only() -> ExitCode {
    finish("the node is not started", try_start())
}

/// `calico node shutdown`, which a pod's preStop hook runs.
pub fn shut_down() -> ExitCode {
    finish("the node is not marked as going down", try_shut_down())
}

fn finish(what: &str, outcome: Result<()>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "{what}");
            ExitCode::FAILURE
        }
    }
}

fn try_start() -> Result<()> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start")?;
    runtime.block_on(async {
        let settings = Settings::from_felix_environment(&variable).or(Settings::from_environment(&variable));
        let store = crate::datastore::open(&settings, &variable).await?;
        let started = calico_node::start(&store, &variable, env!("CARGO_PKG_VERSION")).await?;
        tracing::info!(node = %started.node, "started");
        Ok(())
    })
}

fn try_shut_down() -> Result<()> {
    let file = shutdown::timestamp_file(&variable);
    let written = shutdown::write_timestamp(&file, OffsetDateTime::now_utc());
    written.with_context(|| file.display().to_string())
}
