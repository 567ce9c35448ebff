//! BIRD's end when the node leaves: with its routes, which otherwise outlive it on purpose.

use std::time::Duration;

use calico_mesh::birdc::command;

use super::config::{ConfigError, install, reconfigure};
use super::control::{ControlError, ask};
use super::daemon::{Paths, StartError, adopt};

/// How long BIRD may take to close its sessions and withdraw its routes.
const END_TIMEOUT: Duration = Duration::from_secs(10);
/// What keeps the routes in the kernel when BIRD ends in order.
const PERSIST: &str = " persist;";

/// Why BIRD still runs, or its routes are still there.
#[derive(Debug, thiserror::Error)]
pub enum RetireError {
    /// It cannot be watched.
    #[error(transparent)]
    Watch(#[from] StartError),
    /// Its configuration cannot be read.
    #[error("cannot read BIRD's configuration")]
    Read(#[source] std::io::Error),
    /// It cannot be told to take its routes along.
    #[error("BIRD cannot be told to withdraw its routes")]
    Config(#[from] ConfigError),
    /// It cannot be told to end.
    #[error("BIRD cannot be told to end")]
    Control(#[from] ControlError),
    /// It goes on.
    #[error("process {0} has not ended after {seconds} s", seconds = END_TIMEOUT.as_secs())]
    Goes(i32),
}

/// Ends the BIRD that answers on our socket and lets it take its routes along. Its process, or `None` if there is none.
pub async fn retire(paths: &Paths) -> Result<Option<i32>, RetireError> {
    let Some(mut daemon) = adopt(paths).await? else { return Ok(None) };
    let text = std::fs::read_to_string(&paths.config).map_err(RetireError::Read)?;
    install(paths, &text.replace(PERSIST, "")).await?;
    reconfigure(paths).await?;
    ask(&paths.socket, command::DOWN).await?;
    match tokio::time::timeout(END_TIMEOUT, daemon.wait()).await {
        Ok(_) => Ok(Some(daemon.pid)),
        Err(_) => Err(RetireError::Goes(daemon.pid)),
    }
}
