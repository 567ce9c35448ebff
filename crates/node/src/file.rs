//! Files that are whole at every moment.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

/// For whoever is on the host.
pub const PUBLIC: u32 = 0o644;
/// For root alone.
pub const PRIVATE: u32 = 0o600;

/// Replaces a file's content at once, with this mode: readers see the old or the new. The directory is made if it is
/// missing.
pub fn write_atomically(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let no_name = || io::Error::new(io::ErrorKind::InvalidInput, "the path names no file");
    let directory = path.parent().ok_or_else(no_name)?;
    fs::create_dir_all(directory)?;
    let mut name = path.file_name().ok_or_else(no_name)?.to_owned();
    name.push(".new");
    let new = directory.join(name);
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&new)?;
    // One that a killed writer left may have another, and the umask may have taken some of it.
    file.set_permissions(Permissions::from_mode(mode))?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&new, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_and_leaves_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("sub/name");
        write_atomically(&path, b"one", PUBLIC).unwrap();
        fs::write(path.with_file_name("name.new"), "what a killed writer left").unwrap();
        write_atomically(&path, b"two", PRIVATE).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, PRIVATE);
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
        assert!(write_atomically(Path::new("/"), b"x", PUBLIC).is_err());
    }
}
