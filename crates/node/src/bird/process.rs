//! The BIRDs that run in this network namespace, ours and others', as /proc tells.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::daemon::Paths;

/// A running BIRD.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BirdProcess {
    /// Its process.
    pub pid: i32,
    /// Whether it was started for our control socket.
    pub is_ours: bool,
}

/// The names of BIRD's programs; a process shows the first 15 bytes of its own.
const PROGRAMS: [&str; 2] = ["bird", "bird6"];

/// Reads the BIRDs of this network namespace. Not from the PID file alone: it may be gone while its process lives, or
/// name one that has nothing to do with BIRD.
///
/// # Errors
/// If /proc cannot be listed. A process that ends meanwhile is none.
pub fn read_birds(paths: &Paths) -> io::Result<Vec<BirdProcess>> {
    let own_namespace = fs::read_link("/proc/thread-self/ns/net")?;
    let mut birds = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let entry = entry?;
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let Ok(name) = fs::read_to_string(entry.path().join("comm")) else { continue };
        if !is_bird(name.trim_end(), paths) || read_namespace(&entry.path()) != Some(own_namespace.clone()) {
            continue;
        }
        let Ok(arguments) = fs::read(entry.path().join("cmdline")) else { continue };
        let socket = paths.socket.as_os_str().as_encoded_bytes();
        let is_ours = arguments.split(|byte| *byte == 0).any(|argument| argument == socket);
        birds.push(BirdProcess { pid, is_ours });
    }
    Ok(birds)
}

fn is_bird(name: &str, paths: &Paths) -> bool {
    let program = paths.program.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    PROGRAMS.contains(&name) || name == program.get(..15).unwrap_or(program)
}

/// `None` once the process has ended.
fn read_namespace(process: &Path) -> Option<PathBuf> {
    fs::read_link(process.join("ns/net")).ok()
}
