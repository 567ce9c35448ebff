//! BIRD's configuration file: judged by BIRD before it replaces the one in force.

use std::io;
use std::path::PathBuf;

use calico_mesh::birdc::command;
use tokio::process::Command;

use super::control::{ControlError, ask};
use super::daemon::Paths;
use crate::file::write_atomically;

/// Why a configuration is not in force.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It cannot be written.
    #[error("cannot write {}", .path.display())]
    Write {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// BIRD cannot be run to judge it.
    #[error("cannot run {}", .program.display())]
    Run {
        /// The program.
        program: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// BIRD would refuse it; the one before stays in force.
    #[error("BIRD would refuse the configuration: {0}")]
    Refused(String),
    /// It is in its place, but the running daemon could not be told.
    #[error("BIRD did not take the configuration")]
    Reconfigure(#[from] ControlError),
}

/// Puts a configuration in its place if BIRD finds it good. The daemon is not told.
pub async fn install(paths: &Paths, text: &str) -> Result<(), ConfigError> {
    let mut candidate = paths.config.clone().into_os_string();
    candidate.push(".candidate");
    let candidate = PathBuf::from(candidate);
    let write_error = |source| ConfigError::Write { path: candidate.clone(), source };
    write_atomically(&candidate, text.as_bytes()).map_err(write_error)?;
    let program = &paths.program;
    let output = Command::new(program).arg("-p").arg("-c").arg(&candidate).output().await;
    let output = output.map_err(|source| ConfigError::Run { program: program.clone(), source })?;
    if !output.status.success() {
        let said = [output.stderr, output.stdout].concat();
        return Err(ConfigError::Refused(String::from_utf8_lossy(&said).trim().to_owned()));
    }
    std::fs::rename(&candidate, &paths.config).map_err(write_error)
}

/// Tells the daemon to take the configuration that is in its place. It applies the difference: sessions that are the
/// same in both stay up.
pub async fn reconfigure(paths: &Paths) -> Result<(), ConfigError> {
    ask(&paths.socket, command::CONFIGURE).await?;
    Ok(())
}
