//! Network namespaces: opening one by path, and doing something inside one.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns, unshare};
use thiserror::Error;

/// What went wrong with a network namespace.
#[derive(Debug, Error)]
pub enum NetnsError {
    /// The path can not be opened.
    #[error("network namespace {path}: {source}")]
    Open {
        /// The path given.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Entering or making a namespace failed.
    #[error("{call} of a network namespace: {errno}")]
    System {
        /// Which call.
        call: &'static str,
        /// Why.
        errno: Errno,
    },
    /// The thread that worked inside the namespace could not be started.
    #[error("no thread for work inside a network namespace: {0}")]
    Thread(io::Error),
}

/// An open network namespace; it lives at least as long as this.
#[derive(Debug)]
pub struct Netns {
    file: File,
}

impl Netns {
    /// Opens the namespace at a path such as `/run/netns/x` or `/proc/1/ns/net`. The error's source has kind
    /// `NotFound` if the path is gone.
    pub fn open(path: &Path) -> Result<Netns, NetnsError> {
        let file = File::open(path).map_err(|source| NetnsError::Open { path: path.to_owned(), source })?;
        Ok(Netns { file })
    }

    /// The calling thread's own namespace.
    pub fn current() -> Result<Netns, NetnsError> {
        Netns::open(Path::new("/proc/thread-self/ns/net"))
    }

    /// A new namespace, empty but for a loopback device that is down. It goes when the last user closes it.
    pub fn create() -> Result<Netns, NetnsError> {
        on_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET)
                .map_err(|errno| NetnsError::System { call: "unshare", errno })?;
            Netns::current()
        })?
    }

    /// Runs `work` on a thread of its own that has entered the namespace, and returns what it returns. Sockets opened
    /// there stay in the namespace wherever they are used later.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, NetnsError> {
        on_thread(|| {
            setns(&self.file, CloneFlags::CLONE_NEWNET)
                .map_err(|errno| NetnsError::System { call: "setns", errno })?;
            Ok(work())
        })?
    }
}

/// A thread that changed its namespace is never used for anything else: it ends here.
fn on_thread<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T, NetnsError> {
    std::thread::scope(|scope| {
        let worker = std::thread::Builder::new()
            .name("netns".into())
            .spawn_scoped(scope, work)
            .map_err(NetnsError::Thread)?;
        Ok(worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}

impl From<std::os::fd::OwnedFd> for Netns {
    /// A namespace that somebody else opened, handed over as a descriptor.
    fn from(fd: std::os::fd::OwnedFd) -> Netns {
        Netns { file: fd.into() }
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}
