//! `calico node cleanup`: takes everything of ours off a node that leaves, and says what it took.
//!
//! With `--host-root DIR`, the node's root directory as a pod has it mounted beside /var/run/calico, also the files that
//! an installation in a cluster put there.

mod files;
mod sandboxes;

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use calico_linux::lock::AgentLock;
use calico_linux::sysctl::Sysctl;
use calico_node::bird::daemon::Paths;
use calico_node::bird::retirement::{Retired, retire};

use crate::agent::{LOCK, read_local_settings};

/// Cleans up; fails if anything of ours is left. `arguments` follow the word `cleanup`.
pub fn main(arguments: &[OsString]) -> ExitCode {
    let root = match arguments {
        [] => None,
        [option, root] if option == OsStr::new("--host-root") && Path::new(root).is_dir() => {
            Some(PathBuf::from(root))
        }
        _ => {
            eprintln!("calico node cleanup: it takes --host-root DIR, the node's root directory, or nothing");
            return ExitCode::from(2);
        }
    };
    match run(root.as_deref()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("calico node cleanup: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(host_root: Option<&Path>) -> Result<bool> {
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
    let mut clean = outcome.problems.is_empty() && bird.is_ok();
    // Last: while something is left in the kernel, who looks for the reason needs the files.
    if let (Some(root), true) = (host_root, clean) {
        if let Err(error) = sandboxes::await_ended(root) {
            eprintln!("goes on: {error:#}");
        }
        let outcome = files::remove(root);
        for path in &outcome.removed {
            println!("removed {path}");
        }
        for problem in &outcome.problems {
            eprintln!("stays: {problem}");
        }
        clean = outcome.problems.is_empty();
    }
    Ok(clean)
}
