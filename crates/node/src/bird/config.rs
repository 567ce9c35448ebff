//! BIRD's configuration file: judged by BIRD before it replaces the one in force.

use std::io;
use std::path::PathBuf;
use std::process::Output;
use std::time::Duration;

use calico_mesh::birdc::command;
use tokio::process::Command;

use super::control::{ControlError, ask};
use super::daemon::Paths;
use crate::file::{PRIVATE, write_atomically};

/// How long BIRD may take to judge a configuration. It reads megabytes in less than a second; whoever waits for it does
/// not look after the running daemon.
const JUDGEMENT_TIMEOUT: Duration = Duration::from_secs(10);

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
    /// It does not come to a judgement; the one before stays in force.
    #[error("{} has not judged the configuration after {seconds} s", .program.display(), seconds = JUDGEMENT_TIMEOUT.as_secs())]
    Slow {
        /// The program.
        program: PathBuf,
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
    // The place of the sessions' passwords.
    write_atomically(&candidate, text.as_bytes(), PRIVATE).map_err(write_error)?;
    let program = &paths.program;
    let mut command = Command::new(program);
    command.arg("-p").arg("-c").arg(&candidate);
    let output = read_output(command, JUDGEMENT_TIMEOUT)
        .await
        .map_err(|source| ConfigError::Run { program: program.clone(), source })?
        .ok_or_else(|| ConfigError::Slow { program: program.clone() })?;
    if !output.status.success() {
        let said = [output.stderr, output.stdout].concat();
        return Err(ConfigError::Refused(String::from_utf8_lossy(&said).trim().to_owned()));
    }
    std::fs::rename(&candidate, &paths.config).map_err(write_error)
}

/// Runs a command to its end; `None` if it takes longer than it may, and then it is killed.
async fn read_output(mut command: Command, timeout: Duration) -> io::Result<Option<Output>> {
    command.kill_on_drop(true);
    tokio::time::timeout(timeout, command.output()).await.ok().transpose()
}

/// Tells the daemon to take the configuration that is in its place. It applies the difference: sessions that are the
/// same in both stay up.
pub async fn reconfigure(paths: &Paths) -> Result<(), ConfigError> {
    ask(&paths.socket, command::CONFIGURE).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_program_that_hangs_is_given_up() {
        let mut command = Command::new("sleep");
        command.arg("600");
        assert!(read_output(command, Duration::from_millis(20)).await.unwrap().is_none());
        assert!(
            read_output(Command::new("true"), JUDGEMENT_TIMEOUT).await.unwrap().unwrap().status.success()
        );
        assert!(read_output(Command::new("/nonexistent"), JUDGEMENT_TIMEOUT).await.is_err());
    }
}
