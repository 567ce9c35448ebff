//! The lock of a single agent, for kernels whose tables can not be owned.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use thiserror::Error;

/// Why the lock was not taken.
#[derive(Debug, Error)]
pub enum LockError {
    /// Another process has it.
    #[error("another agent runs: it holds {0}")]
    Taken(PathBuf),
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
    /// Takes the lock, or says that another has it. The file is made if it is absent and stays.
    pub fn take(path: &Path) -> Result<AgentLock, LockError> {
        let failed = |source| LockError::Failed { path: path.to_owned(), source };
        let file = File::options().create(true).write(true).truncate(false).open(path).map_err(failed)?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(file) => Ok(AgentLock { _file: file }),
            Err((_, Errno::EWOULDBLOCK)) => Err(LockError::Taken(path.to_owned())),
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
        assert!(matches!(AgentLock::take(&path), Err(LockError::Taken(_))));
        drop(first);
        // A child of another test may hold a copy of the descriptor until it executes.
        wait_for("the lock", || AgentLock::take(&path).is_ok());
        std::fs::remove_file(&path).unwrap();
    }
}
