//! Where the store is: a path, and the one file that was found there.
//!
//! A database that is moved or deleted while it is open goes on for those who have it, and nobody else sees what they
//! write. So a process keeps to the file that it opened, and the store is lost for it while its path leads elsewhere.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use super::schema::{self, io_fault};
use crate::error::Fault;

/// How often a file that is being replaced is opened anew before that is an error.
const TRIES: usize = 3;

/// A file by its device and its inode. As long as it is open, no other gets the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct File(u64, u64);

impl File {
    fn read(path: &Path) -> std::io::Result<File> {
        std::fs::metadata(path).map(|found| File(found.dev(), found.ino()))
    }
}

/// A path and the file that it has to lead to.
#[derive(Debug)]
pub(super) struct Place {
    path: PathBuf,
    file: File,
}

impl Place {
    /// Opens what is at a path, and remembers which file it is.
    pub(super) fn find(
        path: PathBuf,
        open: impl Fn(&Path) -> Result<Connection, Fault>,
    ) -> Result<(Place, Connection), Fault> {
        for _ in 0..TRIES {
            // Before and after: else the file could be another than the one that is open.
            let before = File::read(&path).ok();
            let connection = open(&path)?;
            let file = File::read(&path).map_err(|e| io_fault(e, &path))?;
            if before == Some(file) {
                return Ok((Place { path, file }, connection));
            }
        }
        Err(Fault::Unavailable(format!("{} is being replaced", path.display()).into()))
    }

    /// The path.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Opens a further connection.
    pub(super) fn open(&self) -> Result<Connection, Fault> {
        self.check()?;
        let connection = schema::open(&self.path)?;
        self.check()?;
        Ok(connection)
    }

    /// Whether the path still leads to the file.
    pub(super) fn check(&self) -> Result<(), Fault> {
        let path = self.path.display();
        let what = match File::read(&self.path) {
            Ok(file) if file == self.file => return Ok(()),
            Ok(_) => format!("{path} is another file than the one that this process opened"),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => format!("{path} is gone"),
            Err(error) => return Err(io_fault(error, &self.path)),
        };
        let remedy = "put it back, or start anew whatever has it open";
        Err(Fault::Unavailable(format!("{what}: {remedy}").into()))
    }
}
