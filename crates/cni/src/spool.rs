//! The durable spool: DELs that came while the agent was away.
//!
//! A DEL must not fail because the agent is being replaced: the runtime would keep the sandbox and try for ever. So the
//! plugin writes the request here, answers success, and the agent completes it when it is back. One file per request,
//! written aside, synced, renamed; the name orders them.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::request::Request;

/// Where the agent looks, next to its other state that survives a reboot.
pub const SPOOL: &str = "/var/lib/calico/cni-spool";

/// The most requests that wait. Beyond, DEL fails and the runtime keeps the work: a disk is not a queue without end.
const MAX_SPOOLED: usize = 10_000;

/// A spooled request could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// The directory or a file.
    #[error("{path}")]
    Io {
        /// Which.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// Too many wait already.
    #[error("{0} requests wait in the spool already; is the agent running?")]
    Full(usize),
    /// The request cannot be written down.
    #[error("the request cannot be encoded")]
    Encode(#[source] serde_json::Error),
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> SpoolError {
    let path = path.display().to_string();
    move |source| SpoolError::Io { path, source }
}

/// Writes a request down, durably. `stamp` orders requests and tells two of one container apart.
pub fn write(dir: &Path, request: &Request, stamp: u128) -> Result<PathBuf, SpoolError> {
    fs::create_dir_all(dir).map_err(io(dir))?;
    let waiting = list(dir)?.len();
    if waiting >= MAX_SPOOLED {
        return Err(SpoolError::Full(waiting));
    }
    let name = format!("{stamp:032x}-{}-{}", request.arguments.container_id, request.arguments.ifname);
    let path = dir.join(format!("{name}.json"));
    let aside = dir.join(format!("{name}.next"));
    let body = serde_json::to_vec(request).map_err(SpoolError::Encode)?;
    let mut file = File::create(&aside).map_err(io(&aside))?;
    file.write_all(&body).and_then(|()| file.sync_all()).map_err(io(&aside))?;
    fs::rename(&aside, &path).map_err(io(&path))?;
    File::open(dir).and_then(|d| d.sync_all()).map_err(io(dir))?;
    Ok(path)
}

/// The spooled requests' files, oldest first.
pub fn list(dir: &Path) -> Result<Vec<PathBuf>, SpoolError> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(io(dir)(e)),
    };
    let mut files: Vec<PathBuf> =
        entries.flatten().map(|e| e.path()).filter(|p| p.extension().is_some_and(|x| x == "json")).collect();
    files.sort();
    Ok(files)
}

/// Reads one back; `None` if it is not a request (a damaged file is set aside as `.bad`, not tried for ever).
pub fn read(path: &Path) -> Result<Option<Request>, SpoolError> {
    let body = fs::read(path).map_err(io(path))?;
    match serde_json::from_slice(&body) {
        Ok(request) => Ok(Some(request)),
        Err(_) => {
            fs::rename(path, path.with_extension("bad")).map_err(io(path))?;
            Ok(None)
        }
    }
}

/// Removes a request that is done.
pub fn remove(path: &Path) -> Result<(), SpoolError> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(io(path)(e)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments::{Arguments, Verb};
    use crate::request::{PROTOCOL, Plugin};

    fn request(container: &str) -> Request {
        Request {
            protocol: PROTOCOL,
            plugin: Plugin::Network,
            arguments: Arguments {
                verb: Verb::Del,
                container_id: container.to_owned(),
                netns: String::new(),
                ifname: "eth0".to_owned(),
                args: String::new(),
                path: String::new(),
            },
            netconf: serde_json::json!({"name": "n"}),
        }
    }

    #[test]
    fn requests_come_back_in_order_and_damaged_ones_are_set_aside() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let spool = dir.path().join("spool");
        assert_eq!(list(&spool).expect("an absent spool is empty"), Vec::<PathBuf>::new());
        for (stamp, container) in [(2, "b"), (1, "a"), (3, "c")] {
            write(&spool, &request(container), stamp).expect("written");
        }
        let files = list(&spool).expect("listed");
        let read_back: Vec<String> =
            files.iter().map(|f| read(f).expect("read").expect("whole").arguments.container_id).collect();
        assert_eq!(read_back, ["a", "b", "c"]);
        fs::write(&files[0], b"{").expect("damaged");
        assert_eq!(read(&files[0]).expect("read"), None);
        remove(&files[1]).expect("removed");
        remove(&files[1]).expect("removing twice is no error");
        assert_eq!(list(&spool).expect("listed"), vec![files[2].clone()]);
    }
}
