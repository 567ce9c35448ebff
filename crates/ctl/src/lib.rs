//! `calicoctl`: reads and changes Calico's resources in a datastore (spec 7 §5).
//!
//! ```text
//! arguments ─ args ─▶ commands/<verb> ─▶ resources (rules of reading and writing) ─▶ calico_store::Store
//! files ───── files ─▶      │
//!                           └─▶ output (tables, YAML, JSON)
//! ```
//!
//! Every command gets its surroundings ([`Context`]) as an argument: environment, standard streams, clock, randomness.
//! Nothing here needs Linux.

#![forbid(unsafe_code)]
#![allow(
    clippy::disallowed_methods,
    reason = "the command line reads files, the environment and the clock, and writes to the terminal"
)]

mod args;
mod bird;
mod commands;
mod config;
mod context;
mod files;
mod ipam;
mod output;
mod resources;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;

pub use context::{Context, Environment};

/// Runs `calicoctl` with its arguments (its own name first) in the process's surroundings.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match args::Cli::try_parse_from(args) {
        Ok(cli) => cli,
        // Help and version are "errors" that go to standard output with code 0.
        Err(error) => {
            let printed = error.print().is_ok();
            return if printed && error.exit_code() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE };
        }
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&anyhow::Error::new(error).context("cannot start")),
    };
    let mut context = Context::of_process();
    match runtime.block_on(commands::run(cli, &mut context)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

/// Runs `calicoctl` in given surroundings: what tests and embedding programs use.
///
/// # Errors
/// What the command could not do, for standard error.
pub async fn run(args: impl IntoIterator<Item = OsString>, context: &mut Context) -> anyhow::Result<()> {
    commands::run(args::Cli::try_parse_from(args)?, context).await
}

/// The answer was printed, and is this exit code: no failure, nothing more to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("exit code {0}")]
pub struct ExitWith(pub u8);

fn fail(error: &anyhow::Error) -> ExitCode {
    if let Some(ExitWith(code)) = error.downcast_ref() {
        return ExitCode::from(*code);
    }
    // What is one per line begins on a line of its own.
    let text = format!("{error:#}").replace(": \n", ":\n");
    // Nobody is left to tell when standard error is closed.
    let _ = std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("{text}\n"));
    ExitCode::FAILURE
}

#[cfg(test)]
mod tests;
