//! The durable spool: DELs that came while the agent was away.
//!
//! A DEL must not fail because the agent is being replaced: the runtime would keep the sandbox and try for ever. So the
//! plugin writes the request here, answers success, and the agent completes it when it is back. One file per request,
//! written aside, synced, renamed; the name orders them.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::arguments::{Arguments, Verb};
use crate::request::Request;

/// Where the agent looks, next to its other state that survives a reboot.
pub const SPOOL: &str = "/var/lib/calico/cni-spool";

/// The most requests that wait. Beyond, DEL fails and the runtime keeps the work: a disk is not a queue without end.
const MAX_SPOOLED: usize = 10_000;

/// How much of a container's id is in a file's name. Runtimes use 64 hex digits; the limit of a file name is 255.
const MAX_LABEL: usize = 128;

/// A file that is being written is renamed within milliseconds; one that is older is of a plugin that was killed.
const MAX_UNFINISHED: Duration = Duration::from_secs(60);

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
    // A network configuration may carry a token: for root's eyes.
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(io(dir))?;
    let waiting = list(dir)?.len();
    if waiting >= MAX_SPOOLED {
        return Err(SpoolError::Full(waiting));
    }
    let name = format!("{stamp:032x}-{}", label(&request.arguments));
    let path = dir.join(format!("{name}.json"));
    let aside = dir.join(format!("{name}.next"));
    let body = serde_json::to_vec(request).map_err(SpoolError::Encode)?;
    let options = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).clone();
    let mut file = options.open(&aside).map_err(io(&aside))?;
    file.write_all(&body).and_then(|()| file.sync_all()).map_err(io(&aside))?;
    fs::rename(&aside, &path).map_err(io(&path))?;
    fs::File::open(dir).and_then(|d| d.sync_all()).map_err(io(dir))?;
    Ok(path)
}

/// The spooled requests' files, oldest first.
pub fn list(dir: &Path) -> Result<Vec<PathBuf>, SpoolError> {
    let mut files = list_with(dir, "json")?;
    files.sort();
    Ok(files)
}

fn list_with(dir: &Path, extension: &str) -> Result<Vec<PathBuf>, SpoolError> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(io(dir)(e)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(io(dir))?.path();
        files.extend(Some(path).filter(|p| p.extension().is_some_and(|x| x == extension)));
    }
    Ok(files)
}

/// Removes what plugins left that were killed while they wrote.
pub fn remove_unfinished(dir: &Path, now: SystemTime) -> Result<(), SpoolError> {
    for file in list_with(dir, "next")? {
        let modified = match fs::metadata(&file).and_then(|m| m.modified()) {
            // Finished just now.
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
            modified => modified.map_err(io(&file))?,
        };
        if now.duration_since(modified).is_ok_and(|age| age > MAX_UNFINISHED) {
            tracing::warn!(path = %file.display(), "removing a CNI request that was never finished");
            remove(&file)?;
        }
    }
    Ok(())
}

/// The files of requests for one attachment, oldest first. Others' may be among them, if their ids begin alike.
pub fn list_of(dir: &Path, arguments: &Arguments) -> Result<Vec<PathBuf>, SpoolError> {
    let suffix = format!("-{}", label(arguments));
    let ends = |path: &PathBuf| {
        path.file_stem().is_some_and(|stem| stem.to_str().is_some_and(|stem| stem.ends_with(&suffix)))
    };
    Ok(list(dir)?.into_iter().filter(ends).collect())
}

/// What a file's name says of its attachment: ids are long and file names are not.
fn label(arguments: &Arguments) -> String {
    let container = &arguments.container_id;
    // A request from the socket need not have an id of ASCII, as the plugin's own do.
    let end = container.floor_char_boundary(MAX_LABEL);
    format!("{}-{}", &container[..end], arguments.ifname)
}

/// Reads one back; `None` if it is gone, or is no DEL (a damaged file is set aside as `.bad`, not tried for
/// ever).
pub fn read(path: &Path) -> Result<Option<Request>, SpoolError> {
    let body = match fs::read(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        body => body.map_err(io(path))?,
    };
    let request: serde_json::Result<Request> = serde_json::from_slice(&body);
    let why = match request {
        Ok(request) if request.arguments.verb == Verb::Del => return Ok(Some(request)),
        Ok(request) => format!("{:?} is never spooled", request.arguments.verb),
        Err(error) => error.to_string(),
    };
    set_aside(path, why)?;
    Ok(None)
}

/// Keeps a request that can never succeed for a person to look at, where nobody tries it again.
pub fn set_aside(path: &Path, why: impl std::fmt::Display) -> Result<(), SpoolError> {
    tracing::error!(path = %path.display(), %why, "a spooled CNI request cannot be done; set aside as .bad");
    fs::rename(path, path.with_extension("bad")).map_err(io(path))
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
        let mut add = request("d");
        add.arguments.verb = Verb::Add;
        let add = write(&spool, &add, 4).expect("written");
        assert_eq!(read(&add).expect("read"), None, "only DELs are completed later");
        remove(&files[1]).expect("removed");
        remove(&files[1]).expect("removing twice is no error");
        assert_eq!(list(&spool).expect("listed"), vec![files[2].clone()]);
        assert_eq!(read(&files[1]).expect("one that is gone is no error"), None);
        assert_eq!(list_of(&spool, &request("c").arguments).expect("listed"), vec![files[2].clone()]);
        assert_eq!(list_of(&spool, &request("d").arguments).expect("listed"), Vec::<PathBuf>::new());
    }

    #[test]
    fn what_was_never_finished_goes_when_it_is_old() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let kept = write(dir.path(), &request("a"), 1).expect("written");
        for (name, age) in [("old.next", 61), ("young.next", 59)] {
            let file = fs::File::create(dir.path().join(name)).expect("created");
            file.set_modified(now - Duration::from_secs(age)).expect("dated");
        }
        fs::File::open(&kept).and_then(|f| f.set_modified(SystemTime::UNIX_EPOCH)).expect("dated");
        remove_unfinished(dir.path(), now).expect("removed");
        let mut left: Vec<_> =
            fs::read_dir(dir.path()).expect("there").map(|e| e.expect("entry").path()).collect();
        left.sort();
        assert_eq!(left, [kept, dir.path().join("young.next")]);
        remove_unfinished(&dir.path().join("absent"), now).expect("an absent spool has none");
    }

    #[test]
    fn a_spooled_request_is_roots_alone_whatever_its_name() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().expect("temporary directory");
        let spool = dir.path().join("spool");
        let file = write(&spool, &request(&"x".repeat(300)), 1).expect("written");
        let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
        assert_eq!((mode(&spool), mode(&file)), (0o700, 0o600));
        // 128 bytes end inside a character.
        write(&spool, &request(&format!("x{}", "ä".repeat(100))), 2).expect("written");
    }
}
