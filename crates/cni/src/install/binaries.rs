//! The plugins' files: our own program under its two names, and those of others that the image brings.

use std::fs;
use std::path::{Path, PathBuf};

use crate::install::{InstallError, Paths, Settings, failed, record, write_atomically};

/// Our own names.
const OURS: [&str; 2] = ["calico", "calico-ipam"];
/// Names of the installer, which no runtime needs.
const INSTALLERS: [&str; 2] = ["install", "install-cni"];
/// Readable and executable by everybody, writable by root; never more.
const MODE: u32 = 0o755;

/// Copies every plugin into each of the host's directories that can be written.
pub fn install(settings: &Settings, paths: &Paths) -> Result<(), InstallError> {
    let files = files(paths)?;
    let mut last = None;
    let mut done = 0;
    for dir in paths.bin_dirs.iter().filter(|dir| dir.is_dir()) {
        match install_into(dir, &files, settings, paths) {
            Ok(()) => done += 1,
            // A directory that cannot be written is fine where nothing would be changed in it.
            Err(error) if !settings.update_binaries && OURS.iter().all(|name| dir.join(name).exists()) => {
                tracing::info!(dir = %dir.display(), %error, "the plugins that are there stay");
                done += 1;
            }
            Err(error) => {
                tracing::warn!(dir = %dir.display(), error = &error as &dyn std::error::Error, "no plugins here");
                last = Some(error);
            }
        }
    }
    match last {
        Some(error) if done == 0 => Err(error),
        None if done == 0 => {
            let path = paths.bin_dirs.first().cloned().unwrap_or_default();
            let absent =
                std::io::Error::new(std::io::ErrorKind::NotFound, "no such directory; mount the host's");
            Err(failed(&path, "no directory for plugins")(absent))
        }
        _ => Ok(()),
    }
}

/// Every file and the name that it gets.
fn files(paths: &Paths) -> Result<Vec<(String, PathBuf)>, InstallError> {
    let mut files: Vec<_> = OURS.map(|name| (name.to_owned(), paths.program.clone())).to_vec();
    let unreadable = || failed(&paths.plugins, "cannot read the image's plugins");
    let entries = match fs::read_dir(&paths.plugins) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(files),
        entries => entries.map_err(unreadable())?,
    };
    for entry in entries {
        let path = entry.map_err(unreadable())?.path();
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        if path.is_file() && !OURS.contains(&name.as_str()) && !INSTALLERS.contains(&name.as_str()) {
            files.push((name, path));
        }
    }
    files.sort();
    Ok(files)
}

fn install_into(
    dir: &Path,
    files: &[(String, PathBuf)],
    settings: &Settings,
    paths: &Paths,
) -> Result<(), InstallError> {
    for (name, from) in files {
        let to = dir.join(name);
        if settings.skip_binaries.contains(name) || to.exists() && !settings.update_binaries {
            continue;
        }
        let content = fs::read(from).map_err(failed(from, "cannot read it"))?;
        // What is the same already is not written again: it may be running.
        if fs::read(&to).is_ok_and(|there| there == content) {
            continue;
        }
        if paths.bin_dirs.first().is_some_and(|first| first == dir) {
            record::note_new(paths, &to, &format!("{}/{name}", paths.bin_dir_on_host));
        }
        write_atomically(&to, &content, MODE).map_err(failed(&to, "cannot write it"))?;
        let read_back = fs::read(&to).map_err(failed(&to, "cannot read it back"))?;
        if read_back != content {
            let differs = std::io::Error::other("it differs from what was written");
            return Err(failed(&to, "cannot install it")(differs));
        }
        tracing::info!(file = %to.display(), "installed");
    }
    Ok(())
}
