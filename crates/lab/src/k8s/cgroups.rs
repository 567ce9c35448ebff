//! A node's cgroups: a subtree in every hierarchy of the machine, which inside the node is the whole tree.
//!
//! ```text
//! machine: /sys/fs/cgroup/memory/calico-lab-1f2e3d4c/node1/…      node: /sys/fs/cgroup/memory/…
//! ```
//!
//! kubelet makes its groups for pods at the root of the tree that it sees, and in version 2 a group with groups below it
//! holds no processes. So there, the node's own programs are in a leaf.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::mount::{MsFlags, mount};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::wait::until;

/// Where the machine has its hierarchies.
const ROOT: &str = "/sys/fs/cgroup";
/// The leaf for a node's own programs.
const LEAF: &str = "lab";
/// How long the kernel may take to empty a group whose processes were killed.
const EMPTY_DEADLINE: Duration = Duration::from_secs(20);

/// One mounted hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Hierarchy {
    mounted: PathBuf,
    version: Version,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Version {
    /// With the mount options that choose its controllers.
    V1(String),
    V2,
}

/// The groups of one node.
#[derive(Debug)]
pub struct Cgroups {
    hierarchies: Vec<Hierarchy>,
    group: String,
    node: String,
}

impl Cgroups {
    /// The groups of `node` among those of a lab, `group`.
    pub fn of(group: &str, node: &str) -> Result<Cgroups> {
        let mounts = std::fs::read_to_string("/proc/self/mounts").context("/proc/self/mounts")?;
        let hierarchies = hierarchies(&mounts);
        if hierarchies.is_empty() {
            bail!("no cgroups below {ROOT}: kubelet needs them");
        }
        Ok(Cgroups { hierarchies, group: group.to_owned(), node: node.to_owned() })
    }

    fn path(&self, hierarchy: &Hierarchy) -> PathBuf {
        hierarchy.mounted.join(&self.group).join(&self.node)
    }

    /// What everything of the node has used of the processor.
    pub fn cpu(&self) -> Result<Duration> {
        for hierarchy in &self.hierarchies {
            let path = self.path(hierarchy);
            if let Ok(text) = std::fs::read_to_string(path.join("cpuacct.usage")) {
                return Ok(Duration::from_nanos(text.trim().parse().context("cpuacct.usage")?));
            }
            let Ok(text) = std::fs::read_to_string(path.join("cpu.stat")) else { continue };
            if let Some(micros) = text.lines().find_map(|line| line.strip_prefix("usage_usec ")) {
                return Ok(Duration::from_micros(micros.trim().parse().context("cpu.stat")?));
            }
        }
        bail!("no cgroup of {} counts the processor", self.node)
    }

    /// Makes the groups and moves this process into them; then it may make its own cgroup namespace, and [`settle`].
    ///
    /// [`settle`]: Cgroups::settle
    pub fn create(&self) -> Result<()> {
        for hierarchy in &self.hierarchies {
            let path = self.path(hierarchy);
            std::fs::create_dir_all(&path).with_context(|| format!("{}", path.display()))?;
            let lab = hierarchy.mounted.join(&self.group);
            match &hierarchy.version {
                Version::V1(_) => inherit_cpuset(&hierarchy.mounted, &[&lab, &path])?,
                Version::V2 => {
                    std::fs::create_dir_all(path.join(LEAF))?;
                    enable_controllers(&hierarchy.mounted)?;
                    enable_controllers(&lab)?;
                }
            }
            enter(&path)?;
        }
        Ok(())
    }

    /// Moves this process from the root of its tree to the leaf, where processes may stay.
    pub fn settle(&self) -> Result<()> {
        for hierarchy in self.hierarchies.iter().filter(|h| h.version == Version::V2) {
            let path = self.path(hierarchy);
            enter(&path.join(LEAF))?;
            enable_controllers(&path)?;
        }
        Ok(())
    }

    /// Moves this process to where the node's own programs are.
    pub fn join(&self) -> Result<()> {
        for hierarchy in &self.hierarchies {
            let path = self.path(hierarchy);
            match hierarchy.version {
                Version::V1(_) => enter(&path)?,
                Version::V2 => enter(&path.join(LEAF))?,
            }
        }
        Ok(())
    }

    /// Mounts the trees as this process's cgroup namespace shows them, in a fresh `/sys`.
    pub fn mount(&self) -> Result<()> {
        let none = MsFlags::empty();
        if self.hierarchies.iter().any(|h| h.mounted != Path::new(ROOT)) {
            mount(Some("tmpfs"), ROOT, Some("tmpfs"), none, Some("mode=755")).context(ROOT)?;
        }
        for Hierarchy { mounted, version } in &self.hierarchies {
            std::fs::create_dir_all(mounted).with_context(|| format!("{}", mounted.display()))?;
            match version {
                Version::V1(options) => {
                    mount(Some("cgroup"), mounted, Some("cgroup"), none, Some(options.as_str()))
                }
                Version::V2 => mount(Some("cgroup2"), mounted, Some("cgroup2"), none, None::<&str>),
            }
            .with_context(|| format!("{}", mounted.display()))?;
        }
        Ok(())
    }
}

/// Ends whoever is left in a lab's groups, and removes them.
pub fn remove_all(group: &str) -> Result<()> {
    let mounts = std::fs::read_to_string("/proc/self/mounts").context("/proc/self/mounts")?;
    let paths: Vec<PathBuf> = hierarchies(&mounts).iter().map(|h| h.mounted.join(group)).collect();
    let mut problem = String::new();
    let gone = until(EMPTY_DEADLINE, Duration::from_millis(20), || {
        problem.clear();
        for path in paths.iter().filter(|path| path.exists()) {
            if let Err(error) = remove(path) {
                problem = format!("{}: {error}", path.display());
            }
        }
        problem.is_empty()
    });
    if gone { Ok(()) } else { bail!("cgroups are left: {problem}") }
}

/// A group goes only after the groups in it, and when nobody is in it.
fn remove(path: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(path)?.flatten().filter(|e| e.path().is_dir()) {
        remove(&entry.path())?;
    }
    for pid in std::fs::read_to_string(path.join("cgroup.procs"))?.lines().filter_map(|l| l.parse().ok()) {
        // It may end by itself meanwhile.
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
    std::fs::remove_dir(path)
}

/// Moves this process: 0 is whoever writes it.
fn enter(path: &Path) -> Result<()> {
    let procs = path.join("cgroup.procs");
    std::fs::write(&procs, "0").with_context(|| format!("{}", procs.display()))
}

/// In version 1 a new cpuset is empty, and takes no process until it is filled.
fn inherit_cpuset(root: &Path, groups: &[&PathBuf]) -> Result<()> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let Ok(all) = std::fs::read_to_string(root.join(file)) else { continue };
        for group in groups {
            let path = group.join(file);
            std::fs::write(&path, all.trim()).with_context(|| format!("{}", path.display()))?;
        }
    }
    Ok(())
}

/// Gives the groups below `path` every controller that it has itself.
fn enable_controllers(path: &Path) -> Result<()> {
    let file = path.join("cgroup.controllers");
    let text = std::fs::read_to_string(&file).with_context(|| format!("{}", file.display()))?;
    let wanted: Vec<String> = text.split_whitespace().map(|c| format!("+{c}")).collect();
    let control = path.join("cgroup.subtree_control");
    std::fs::write(&control, wanted.join(" ")).with_context(|| format!("{}", control.display()))
}

/// The hierarchies in a text as `/proc/self/mounts` has it.
fn hierarchies(mounts: &str) -> Vec<Hierarchy> {
    let parse = |line: &str| {
        let mut words = line.split(' ');
        let (_, mounted, kind, options) = (words.next()?, words.next()?, words.next()?, words.next()?);
        let mounted = PathBuf::from(mounted);
        if !mounted.starts_with(ROOT) {
            return None;
        }
        match kind {
            "cgroup2" => Some(Hierarchy { mounted, version: Version::V2 }),
            "cgroup" => {
                let version = Version::V1(controllers(options));
                Some(Hierarchy { mounted, version })
            }
            _ => None,
        }
    };
    mounts.lines().filter_map(parse).collect()
}

/// Of the options of a mounted version 1 hierarchy, those that say which it is.
fn controllers(options: &str) -> String {
    let general = ["rw", "ro", "nosuid", "nodev", "noexec", "relatime", "noatime", "xattr", "clone_children"];
    let chosen: Vec<&str> = options
        .split(',')
        .filter(|option| !general.contains(option) && !option.starts_with("release_agent="))
        .collect();
    let named = chosen.iter().any(|option| option.starts_with("name="));
    // A named hierarchy without controllers must say so.
    if named && chosen.len() == 1 { format!("none,{}", chosen[0]) } else { chosen.join(",") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(mounts: &str, expected: &[(&str, Option<&str>)]) {
        let found = hierarchies(mounts);
        let found: Vec<(&str, Option<&str>)> = found
            .iter()
            .map(|h| {
                let options = match &h.version {
                    Version::V1(options) => Some(options.as_str()),
                    Version::V2 => None,
                };
                (h.mounted.to_str().unwrap(), options)
            })
            .collect();
        assert_eq!(found, expected, "{mounts}");
    }

    #[test]
    fn hierarchies_of_a_machine() {
        check(
            "proc /proc proc rw 0 0\ncgroup2 /sys/fs/cgroup cgroup2 rw,nosuid,nodev 0 0\n",
            &[("/sys/fs/cgroup", None)],
        );
        check(
            "tmpfs /sys/fs/cgroup tmpfs rw 0 0\n\
             cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,nosuid,nodev,noexec,relatime,cpu,cpuacct 0 0\n\
             cgroup /sys/fs/cgroup/systemd cgroup rw,relatime,xattr,release_agent=/lib/agent,name=systemd 0 0\n\
             cgroup2 /sys/fs/cgroup/unified cgroup2 rw,relatime 0 0\n",
            &[
                ("/sys/fs/cgroup/cpu,cpuacct", Some("cpu,cpuacct")),
                ("/sys/fs/cgroup/systemd", Some("none,name=systemd")),
                ("/sys/fs/cgroup/unified", None),
            ],
        );
        // A tree that somebody mounted elsewhere is not the machine's.
        check("cgroup2 /srv/root/sys/fs/cgroup cgroup2 rw 0 0\n", &[]);
        check("", &[]);
    }
}
