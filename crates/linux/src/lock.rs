//! The lock of a single agent, for kernels whose tables can not be owned.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use thiserror::Error;

/// Why the lock was not taken.
#[derive(Debug, Error)]
pub enum LockError {
    /// Another process has it.
    #[error("another agent runs: process {holder} holds {path}")]
    Taken {
        /// The file.
        path: PathBuf,
        /// What the file says of who has it: a process number, as its own PID namespace counts.
        holder: String,
    },
    /// The file can not be opened or locked.
    #[error("lock {path}: {source}")]
    Failed {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// A lock on a file; it ends with the process, however that ends.
#[derive(Debug)]
pub struct AgentLock {
    _file: Flock<File>,
}

impl AgentLock {
    /// Takes the lock, or says who has it. The file and its directory are made if they are absent, and stay.
    pub fn take(path: &Path) -> Result<AgentLock, LockError> {
        let failed = |source| LockError::Failed { path: path.to_owned(), source };
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir).map_err(failed)?;
        }
        let options = File::options().create(true).read(true).write(true).truncate(false).open(path);
        match Flock::lock(options.map_err(failed)?, FlockArg::LockExclusiveNonblock) {
            Ok(mut file) => {
                file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())).map_err(failed)?;
                Ok(AgentLock { _file: file })
            }
            Err((mut file, Errno::EWOULDBLOCK)) => {
                let mut text = String::new();
                // Empty while the holder has not written it yet: who it is is only for the operator.
                let said = file.read_to_string(&mut text).is_ok() && !text.trim().is_empty();
                let holder = if said { text.trim() } else { "unknown" }.to_owned();
                Err(LockError::Taken { path: path.to_owned(), holder })
            }
            Err((_, errno)) => Err(failed(errno.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::wait_for;

    #[test]
    fn one_at_a_time() {
        let path = std::env::temp_dir().join(format!("calico-lock-{}", std::process::id()));
        let first = AgentLock::take(&path).unwrap();
        let refused = AgentLock::take(&path).unwrap_err().to_string();
        assert!(refused.contains(&format!("process {} holds", std::process::id())), "{refused}");
        drop(first);
        // A child of another test may hold a copy of the descriptor until it executes.
        wait_for("the lock", || AgentLock::take(&path).is_ok());
        std::fs::remove_file(&path).unwrap();
    }
}
