//! Files of the host, whole at every moment.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// Replaces a file at once, with this mode from its first moment. Its directory is made if it is missing.
pub fn write_atomically(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let no_name = || io::Error::new(io::ErrorKind::InvalidInput, "the path names no file");
    let dir = path.parent().ok_or_else(no_name)?;
    fs::create_dir_all(dir)?;
    // Beginning with a dot and ending in .tmp: no runtime takes it for a configuration or a plugin.
    let name = path.file_name().ok_or_else(no_name)?.to_string_lossy().into_owned();
    let aside = dir.join(format!(".{name}.tmp"));
    match fs::remove_file(&aside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&aside)?;
    // What the umask took away.
    file.set_permissions(Permissions::from_mode(mode))?;
    let written = file.write_all(content).and_then(|()| file.sync_all());
    drop(file);
    let renamed = written.and_then(|()| fs::rename(&aside, path));
    if renamed.is_err() {
        // The first error is the one to report.
        let _ = fs::remove_file(&aside);
    }
    renamed
}
