//! `calico node cleanup`: takes everything of ours off a node that leaves, and says what it took.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use calico_linux::lock::AgentLock;
use calico_linux::sysctl::Sysctl;
use calico_node::bird::daemon::Paths;
use calico_node::bird::retirement::{Retired, retire};

use crate::agent::{LOCK, read_local_settings};

/// Cleans up; fails if anything of ours is left.
pub fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("calico node cleanup: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<bool> {
    // Whoever runs would put everything back.
    let _lock = AgentLock::take(Path::new(LOCK)).context("nothing is removed")?;
    let local = read_local_settings()?;
    let outcome = calico_felix::cleanup(local, Sysctl::default()).context("nothing is removed")?;
    for what in &outcome.removed {
        println!("removed {what}");
    }
    for problem in &outcome.problems {
        eprintln!("stays: {}: {}", problem.object, problem.reason);
    }
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start")?;
    let bird = runtime.block_on(retire(&Paths::default())).context("BIRD");
    match &bird {
        Ok(Retired { pid, routes, left_to }) => {
            if let Some(pid) = pid {
                println!("removed BIRD, process {pid}");
            }
            for route in routes {
                println!("removed the route {route}");
            }
            if let Some(other) = left_to {
                println!("left: routes of protocol bird, to process {other}, a BIRD that is not ours");
            }
        }
        Err(error) => eprintln!("stays: {error:#}"),
    }
    Ok(outcome.problems.is_empty() && bird.is_ok())
}
