//! Takes off a node what the installation in a cluster put there: what the installer recorded, and our own directories.
//!
//! Only for a node that a DaemonSet made one of ours. A host's own installation belongs to who made it, and its
//! datastore may be in one of these directories.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The installer's record of the files that were not there before it, one path of the node per line.
const RECORD: &str = "opt/cni/bin/.calico-installed";

/// Where the installer puts files: nothing else in a record is believed.
const INSTALLED: [&str; 2] = ["/opt/cni/bin", "/etc/cni/net.d"];

/// Our own directories.
const OURS: [&str; 3] = ["var/lib/calico", "run/calico", "var/log/calico"];

/// Directories that kubelet and the runtime made for us; others may use them.
const SHARED: [&str; 3] = ["run/nodeagent", "var/lib/cni/networks", "var/lib/cni/results"];

/// Where host-local keeps the addresses of the network that our configuration names.
const HOST_LOCAL: &str = "var/lib/cni/networks/k8s-pod-network";

/// The datastore of one host: never removed, whoever asks.
const DATASTORE: &str = "datastore.db";

/// What was done.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Paths of the node that are gone.
    pub removed: Vec<String>,
    /// What is still there, and why.
    pub problems: Vec<String>,
}

/// Removes the files of a node whose root directory is at `root`.
pub fn remove(root: &Path) -> Outcome {
    let mut outcome = Outcome::default();
    if root.join("var/lib/calico").join(DATASTORE).exists() {
        let why = format!(
            "/var/lib/calico/{DATASTORE}: it is this host's own datastore, so its files are left alone"
        );
        outcome.problems.push(why);
        return outcome;
    }
    let record = root.join(RECORD);
    match fs::read_to_string(&record) {
        Ok(text) => {
            for line in text.lines().filter(|line| !line.is_empty()) {
                match installed(root, line) {
                    Some(path) => outcome.note(line, remove_any(&path)),
                    None => outcome
                        .problems
                        .push(format!("{line}: recorded, but the installer puts nothing there")),
                }
            }
            if outcome.problems.is_empty() {
                outcome.note(&format!("/{RECORD}"), remove_any(&record));
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => outcome.problems.push(format!("/{RECORD}: {error}")),
    }
    for directory in OURS {
        outcome.note(&format!("/{directory}"), remove_tree(&root.join(directory)));
    }
    if keeps_no_address(&root.join(HOST_LOCAL)) {
        outcome.note(&format!("/{HOST_LOCAL}"), remove_any(&root.join(HOST_LOCAL)));
    }
    for directory in SHARED {
        // In use by somebody else where it is not empty.
        match fs::remove_dir(root.join(directory)) {
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {}
            result => outcome.note(&format!("/{directory}"), result),
        }
    }
    outcome
}

impl Outcome {
    fn note(&mut self, what: &str, result: io::Result<()>) {
        match result {
            Ok(()) => self.removed.push(what.to_owned()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => self.problems.push(format!("{what}: {error}")),
        }
    }
}

/// The path of a recorded file: a name directly in a directory of the installer's.
fn installed(root: &Path, line: &str) -> Option<PathBuf> {
    let (directory, name) = line.rsplit_once('/')?;
    let plain = !name.is_empty() && name != "." && name != "..";
    (plain && INSTALLED.contains(&directory)).then(|| root.join(&directory[1..]).join(name))
}

/// Whether host-local's records of a network name no address any more: what else it keeps there are a lock and where it
/// goes on looking.
fn keeps_no_address(directory: &Path) -> bool {
    fs::read_dir(directory).is_ok_and(|entries| {
        entries.flatten().all(|entry| {
            let name = entry.file_name();
            name == "lock" || name.to_string_lossy().starts_with("last_reserved_ip.")
        })
    })
}

/// A file, a link itself, or a directory with all that is in it.
fn remove_any(path: &Path) -> io::Result<()> {
    if fs::symlink_metadata(path)?.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
}

/// A directory with all that is in it. One on which somebody mounted a file system stays, empty.
fn remove_tree(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        remove_any(&entry?.path())?;
    }
    match fs::remove_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::ResourceBusy => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A node with these files, each holding its name.
    fn node(files: &[&str]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for file in files {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, file).unwrap();
        }
        root
    }

    fn left(root: &Path, found: &mut Vec<String>, at: &str) {
        let mut names: Vec<_> = fs::read_dir(root.join(at))
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        for name in names {
            let path = if at.is_empty() { name } else { format!("{at}/{name}") };
            if root.join(&path).is_dir() { left(root, found, &path) } else { found.push(path) }
        }
    }

    fn check(files: &[&str], record: Option<&str>, expected: &[&str], problems: usize) {
        let root = node(files);
        if let Some(record) = record {
            fs::write(root.path().join(RECORD), record).unwrap();
        }
        let outcome = remove(root.path());
        let mut found = Vec::new();
        left(root.path(), &mut found, "");
        assert_eq!(found, expected, "{outcome:?}");
        assert_eq!(outcome.problems.len(), problems, "{outcome:?}");
    }

    #[test]
    fn only_what_was_installed_goes() {
        let others = ["etc/cni/net.d/99-loopback.conf", "opt/cni/bin/bridge", "var/lib/other/file"];
        let ours = [
            "opt/cni/bin/calico",
            "etc/cni/net.d/10-calico.conflist",
            "var/lib/calico/nodename",
            "run/calico/bird.ctl",
        ];
        let all: Vec<&str> = others.into_iter().chain(ours).collect();
        check(
            &all,
            Some("/opt/cni/bin/calico\n/etc/cni/net.d/10-calico.conflist\n/opt/cni/bin/gone\n"),
            &others,
            0,
        );
        // Without a record the plugins may be anybody's.
        check(&all, None, &["etc/cni/net.d/10-calico.conflist", others[0], others[1], ours[0], others[2]], 0);
    }

    #[test]
    fn a_record_reaches_nowhere_else() {
        for line in
            ["/etc/passwd", "/opt/cni/bin/../../../etc/passwd", "/opt/cni/bin/..", "/opt/cni/bin/", "passwd"]
        {
            check(
                &["etc/passwd", "opt/cni/bin/x"],
                Some(line),
                &["etc/passwd", "opt/cni/bin/.calico-installed", "opt/cni/bin/x"],
                1,
            );
        }
    }

    #[test]
    fn a_host_with_its_own_datastore_keeps_everything() {
        let files = ["opt/cni/bin/calico", "var/lib/calico/datastore.db"];
        check(&files, Some("/opt/cni/bin/calico"), &["opt/cni/bin/.calico-installed", files[0], files[1]], 1);
    }

    #[test]
    fn a_shared_directory_stays_while_it_is_used() {
        check(
            &["run/nodeagent/socket", "opt/cni/bin/x"],
            None,
            &["opt/cni/bin/x", "run/nodeagent/socket"],
            0,
        );
        let root = node(&["opt/cni/bin/x"]);
        fs::create_dir_all(root.path().join(SHARED[0])).unwrap();
        assert_eq!(remove(root.path()).removed, ["/run/nodeagent"]);
    }

    #[test]
    fn records_of_host_local_go_when_no_address_is_in_them() {
        let [lock, last, address] =
            ["lock", "last_reserved_ip.0", "10.0.0.2"].map(|name| format!("{HOST_LOCAL}/{name}"));
        check(&[&lock, &last, "opt/cni/bin/x"], None, &["opt/cni/bin/x"], 0);
        check(&[&lock, &last, &address], None, &[&address, &last, &lock], 0);
    }

    /// As in a node whose state is kept on another disk. The mount is seen by this thread only.
    #[test]
    fn a_directory_that_is_a_mount_point_is_emptied() {
        use nix::mount::{MsFlags, mount};
        use nix::sched::{CloneFlags, unshare};
        let root = node(&["opt/cni/bin/x", "var/lib/calico/nodename"]);
        let directory = root.path().join("var/lib/calico");
        let done = std::thread::spawn(move || -> Result<Outcome, nix::Error> {
            unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_FS)?;
            let nothing: Option<&str> = None;
            mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_PRIVATE, nothing)?;
            mount(Some(&directory), &directory, nothing, MsFlags::MS_BIND, nothing)?;
            let outcome = remove(root.path());
            assert!(directory.is_dir() && !directory.join("nodename").exists());
            Ok(outcome)
        });
        match done.join().unwrap() {
            Ok(outcome) => assert_eq!(outcome.problems, Vec::<String>::new()),
            Err(nix::Error::EPERM) => println!("skipped: mounting needs root"),
            Err(error) => panic!("{error}"),
        }
    }
}
