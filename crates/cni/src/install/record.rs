//! What an installation made new on the host, for whoever takes it off again: a list of host paths beside the plugins.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::install::Paths;

/// The list's name in the directory of plugins.
pub const FILE: &str = ".calico-installed";

/// Notes a path that is about to be made, unless something is there already: that was somebody else's.
pub fn note_new(paths: &Paths, path: &Path, on_host: &str) {
    let Some(dir) = paths.bin_dirs.first().filter(|_| !path.exists()) else { return };
    let record = dir.join(FILE);
    if let Err(error) = append(&record, on_host) {
        // Without it the file stays behind when Calico leaves; no reason to do without Calico.
        tracing::warn!(record = %record.display(), %error, path = on_host, "a new file is not recorded");
    }
}

fn append(record: &Path, line: &str) -> io::Result<()> {
    let before = match fs::read_to_string(record) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        text => text?,
    };
    if before.lines().any(|there| there == line) {
        return Ok(());
    }
    let mut file = OpenOptions::new().append(true).create(true).mode(0o644).open(record)?;
    writeln!(file, "{line}")?;
    file.sync_all()
}
