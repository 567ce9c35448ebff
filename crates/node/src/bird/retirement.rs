//! BIRD's end when the node leaves: with its routes, which otherwise outlive it on purpose.

use std::io;
use std::time::Duration;

use calico_dataplane::tables::route::Route;
use calico_linux::rtnl::RtnlError;
use calico_mesh::birdc::command;

use super::config::{ConfigError, install, reconfigure};
use super::control::ask;
use super::daemon::{Paths, StartError, adopt};
use super::process::read_birds;
use super::routes::{read_bird_routes, remove_routes};

/// How long BIRD may take to close its sessions and withdraw its routes.
const END_TIMEOUT: Duration = Duration::from_secs(10);
/// What keeps the routes in the kernel when BIRD ends in order.
const PERSIST: &str = " persist;";

/// What went, and what stays for a reason.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Retired {
    /// The BIRD that was ended.
    pub pid: Option<i32>,
    /// Routes that no BIRD took along, removed by us.
    pub routes: Vec<Route>,
    /// A BIRD that is not ours, whose the routes may be that are still there.
    pub left_to: Option<i32>,
}

/// Why BIRD still runs, or its routes are still there.
#[derive(Debug, thiserror::Error)]
pub enum RetireError {
    /// It cannot be watched.
    #[error(transparent)]
    Watch(#[from] StartError),
    /// It can be neither told to end nor killed.
    #[error("process {pid} goes on")]
    Kill {
        /// Which.
        pid: i32,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Its routes cannot be read or removed.
    #[error("BIRD's routes cannot be removed")]
    Routes(#[from] RtnlError),
    /// The kernel keeps some of them.
    #[error("{count} of BIRD's routes cannot be removed")]
    Refused {
        /// How many.
        count: usize,
        /// Why the first of them.
        #[source]
        source: RtnlError,
    },
}

/// Why BIRD would leave its routes behind. No reason to stop: they are removed after its end.
#[derive(Debug, thiserror::Error)]
enum WithdrawError {
    #[error("cannot read BIRD's configuration")]
    Read(#[from] io::Error),
    #[error(transparent)]
    Config(#[from] ConfigError),
}

/// Ends our BIRD, if it runs, and removes all routes that it or an earlier one left behind; but none while a BIRD that
/// is not ours runs, since a route does not tell whose it is.
pub async fn retire(paths: &Paths) -> Result<Retired, RetireError> {
    let pid = end(paths).await?;
    let routes = read_bird_routes()?;
    if routes.is_empty() {
        return Ok(Retired { pid, ..Retired::default() });
    }
    let others = read_birds(paths).map_err(StartError::Look)?;
    if let Some(other) = others.first() {
        return Ok(Retired { pid, left_to: Some(other.pid), ..Retired::default() });
    }
    let mut refused = remove_routes(&routes)?.into_iter();
    match refused.next() {
        Some(source) => Err(RetireError::Refused { count: 1 + refused.len(), source }),
        None => Ok(Retired { pid, routes, left_to: None }),
    }
}

/// Ends our BIRD, in order if it can be. Its process, or `None` if none answers.
async fn end(paths: &Paths) -> Result<Option<i32>, RetireError> {
    let Some(mut daemon) = adopt(paths).await? else { return Ok(None) };
    let pid = daemon.pid;
    if let Err(error) = withdraw(paths).await {
        tracing::warn!(error = &error as &dyn std::error::Error, pid, "BIRD leaves its routes behind");
    }
    let told = ask(&paths.socket, command::DOWN).await;
    if told.is_err() || tokio::time::timeout(END_TIMEOUT, daemon.wait()).await.is_err() {
        tracing::warn!(pid, "BIRD does not end; killing it");
        daemon.kill().await.map_err(|source| RetireError::Kill { pid, source })?;
    }
    Ok(Some(pid))
}

/// Tells BIRD to take its routes along.
async fn withdraw(paths: &Paths) -> Result<(), WithdrawError> {
    let text = std::fs::read_to_string(&paths.config)?;
    install(paths, &text.replace(PERSIST, "")).await?;
    Ok(reconfigure(paths).await?)
}
