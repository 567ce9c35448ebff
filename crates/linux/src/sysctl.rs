//! Kernel parameters under `/proc/sys`, of the calling thread's network namespace.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// A parameter could not be read or written.
#[derive(Debug, Error)]
#[error("sysctl {path}: {source}")]
pub struct SysctlError {
    /// Its file.
    pub path: PathBuf,
    /// Why.
    pub source: io::Error,
}

impl SysctlError {
    /// There is no such parameter: its interface is gone, or the kernel lacks the feature.
    pub fn is_absent(&self) -> bool {
        self.source.kind() == io::ErrorKind::NotFound
    }
}

/// The tree of parameters; the root is an argument so that tests can use a directory of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sysctl {
    root: PathBuf,
}

impl Default for Sysctl {
    fn default() -> Sysctl {
        Sysctl { root: PathBuf::from("/proc/sys") }
    }
}

impl Sysctl {
    /// A tree somewhere else.
    pub fn at(root: &Path) -> Sysctl {
        Sysctl { root: root.to_owned() }
    }

    /// Writes a parameter, named by its path below the root (`net/ipv4/ip_forward`). The file is opened and written
    /// in one go without looking first: writing what is there already costs no more than reading it.
    pub fn write(&self, name: &str, value: &str) -> Result<(), SysctlError> {
        let path = self.root.join(name);
        let file = fs::OpenOptions::new().write(true).open(&path);
        file.and_then(|mut file| io::Write::write_all(&mut file, value.as_bytes()))
            .map_err(|source| SysctlError { path, source })
    }

    /// Reads a parameter, without its line end.
    pub fn read(&self, name: &str) -> Result<String, SysctlError> {
        let path = self.root.join(name);
        match fs::read_to_string(&path) {
            Ok(text) => Ok(text.trim_end().to_owned()),
            Err(source) => Err(SysctlError { path, source }),
        }
    }
}
