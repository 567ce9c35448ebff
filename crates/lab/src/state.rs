//! What a lab consists of, as written to its directory; and running commands inside it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::args::Datastore;
use crate::namespace::Namespaces;
use crate::router::Router;
use crate::{advice, directory, process};

/// The variable that marks the processes that hold a lab's namespaces.
pub const MARK: &str = "CALICO_LAB_MARK";

/// The place that is no node, router or workload: what lies between them.
pub const FABRIC: &str = "fabric";

/// Where nodes look for programs after the lab's own.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// One node of the lab.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Node {
    /// `node1`, `node2`, …
    pub name: String,
    /// The process that holds its namespaces and keeps its agent alive.
    pub init_pid: i32,
    /// Its IPv4 address on the fabric.
    pub ipv4: String,
    /// Its IPv6 address on the fabric.
    pub ipv6: String,
}

/// One workload of the lab.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Workload {
    /// The node that it runs on.
    pub node: String,
    /// Its namespace; also names its CNI network, `kns.<namespace>`.
    pub namespace: String,
    /// The container id that the CNI plugin was given.
    pub container_id: String,
    /// Its first address.
    pub address: String,
    /// Its process, which also holds its network namespace.
    pub pid: i32,
}

/// A lab: read from and written to `state.json` of its directory.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Lab {
    /// Its directory.
    pub dir: PathBuf,
    /// `embedded` or `etcd`.
    pub etcd: bool,
    /// What the lab's own processes carry in their environment ([`MARK`]): pids and namespaces are used again by the
    /// kernel, this never is.
    pub mark: String,
    /// The process that holds the fabric's namespace.
    pub fabric_pid: i32,
    /// Nodes, in order.
    pub nodes: Vec<Node>,
    /// Routers that are no nodes, in the order in which they came.
    pub routers: Vec<Router>,
    /// Workloads by name.
    pub workloads: BTreeMap<String, Workload>,
}

impl Lab {
    /// A lab with nothing in it yet.
    pub fn new(dir: &Path, datastore: Datastore) -> Result<Lab> {
        let mark = std::fs::read_to_string("/proc/sys/kernel/random/uuid").context("a unique mark")?;
        Ok(Lab {
            mark: mark.trim().to_owned(),
            fabric_pid: 0,
            dir: dir.to_owned(),
            etcd: datastore == Datastore::Etcd,
            nodes: Vec::new(),
            routers: Vec::new(),
            workloads: BTreeMap::new(),
        })
    }

    /// Whether there is a lab in a directory.
    pub fn is_in(dir: &Path) -> bool {
        dir.join("state.json").exists()
    }

    /// The lab in a directory.
    pub fn load(dir: &Path) -> Result<Lab> {
        let path = dir.join("state.json");
        let text = match std::fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => bail!("{}", directory::no_lab(dir)),
            read => read.with_context(|| format!("{}", path.display()))?,
        };
        serde_json::from_slice(&text).with_context(|| format!("{}", path.display()))
    }

    /// Whether the process that holds the fabric, and with it the lab, is still there.
    pub fn is_running(&self) -> bool {
        process::is_marked(self.fabric_pid, &self.mark)
    }

    /// Whether the process that holds a node is still there.
    pub fn runs(&self, node: &str) -> bool {
        self.nodes.iter().any(|n| n.name == node && process::is_marked(n.init_pid, &self.mark))
    }

    /// The namespaces of one of the lab's places. The kernel may have given the number of a process that has ended to
    /// somebody else's.
    fn namespaces(&self, place: &str, pid: i32) -> Result<Namespaces> {
        if !process::is_marked(pid, &self.mark) {
            bail!(
                "{place} is gone: process {pid}, which held it, has ended; {} removes what is left of the lab",
                advice::command(&self.dir, "down")
            );
        }
        Namespaces::of_node(pid)
    }

    /// Writes the state, whole or not at all.
    pub fn save(&self) -> Result<()> {
        let path = self.dir.join("state.json");
        let next = self.dir.join("state.json.next");
        std::fs::write(&next, serde_json::to_vec_pretty(self)?).context("state.json")?;
        std::fs::rename(&next, &path).context("state.json")
    }

    /// A node by name.
    pub fn node(&self, name: &str) -> Result<&Node> {
        self.nodes.iter().find(|n| n.name == name).with_context(|| {
            let names: Vec<&str> = self.nodes.iter().map(|n| n.name.as_str()).collect();
            advice::unknown("node", name, &names)
        })
    }

    /// A router by name.
    pub fn router(&self, name: &str) -> Result<&Router> {
        self.routers.iter().find(|r| r.name == name).with_context(|| {
            let names: Vec<&str> = self.routers.iter().map(|r| r.name.as_str()).collect();
            advice::unknown("router", name, &names)
        })
    }

    /// A workload by name.
    pub fn workload(&self, name: &str) -> Result<&Workload> {
        self.workloads.get(name).with_context(|| {
            let names: Vec<&str> = self.workloads.keys().map(String::as_str).collect();
            advice::unknown("workload", name, &names)
        })
    }

    /// What a name stands for, if anything has it: `exec` finds by it one place and no other.
    pub fn kind_of_place(&self, name: &str) -> Option<&'static str> {
        if name == FABRIC {
            Some("the fabric")
        } else if self.nodes.iter().any(|n| n.name == name) {
            Some("a node")
        } else if self.routers.iter().any(|r| r.name == name) {
            Some("a router")
        } else if self.workloads.contains_key(name) {
            Some("a workload")
        } else {
            None
        }
    }

    /// What is said of a place that there is not: every place that there is.
    fn no_place(&self, name: &str) -> String {
        let nodes: Vec<&str> = self.nodes.iter().map(|n| n.name.as_str()).collect();
        let routers: Vec<&str> = self.routers.iter().map(|r| r.name.as_str()).collect();
        let workloads: Vec<&str> = self.workloads.keys().map(String::as_str).collect();
        let mut said = format!("no place {name:?} in this lab");
        // Most labs have no routers.
        for (kind, names) in [("nodes", &nodes), ("routers", &routers), ("workloads", &workloads)] {
            match names.as_slice() {
                [] if kind == "routers" => {}
                [] => said += &format!("; {kind}: none"),
                names => said += &format!("; {kind}: {}", names.join(", ")),
            }
        }
        let all = nodes.into_iter().chain(routers).chain(workloads).chain([FABRIC]);
        format!("{said}; and {FABRIC}{}", advice::meant(name, all))
    }

    /// The directory of a node's or a router's files.
    pub fn node_dir(&self, node: &str) -> PathBuf {
        self.dir.join(node)
    }

    /// How every process of the lab reaches the datastore.
    pub fn datastore_environment(&self) -> Vec<(&'static str, String)> {
        if self.etcd {
            vec![
                ("DATASTORE_TYPE", "etcdv3".to_owned()),
                ("ETCD_ENDPOINTS", format!("http://{}:2379", crate::fabric::ADDRESS_V4)),
            ]
        } else {
            vec![
                ("DATASTORE_TYPE", "embedded".to_owned()),
                ("CALICO_DATASTORE_PATH", self.dir.join("datastore/calico.db").display().to_string()),
            ]
        }
    }

    /// A command that runs on a node, with the lab's `calicoctl` on its path and its datastore in its environment.
    pub fn on_node(&self, node: &str, program: impl Into<OsString>) -> Result<Command> {
        let found = self.node(node)?;
        let mut command = Command::new(program.into());
        command.envs(self.environment(node));
        self.namespaces(node, found.init_pid)?.enter(&mut command);
        Ok(command)
    }

    /// A command that runs in a workload.
    pub fn in_workload(&self, name: &str, program: impl Into<OsString>) -> Result<Command> {
        let workload = self.workload(name)?;
        let mut command = Command::new(program.into());
        self.namespaces(name, workload.pid)?.enter(&mut command);
        Ok(command)
    }

    /// Environment of processes on a node.
    pub fn environment(&self, node: &str) -> Vec<(&'static str, String)> {
        let mut path = self.dir.join("bin").into_os_string().into_string().unwrap_or_default();
        path.push(':');
        path.push_str(PATH);
        let mut environment = self.datastore_environment();
        environment.push(("PATH", path));
        environment.push(("NODENAME", node.to_owned()));
        environment
    }

    /// Runs a command in a place of the lab with this terminal, and gives its exit code.
    pub fn exec(&self, place: &str, arguments: &[OsString]) -> Result<ExitCode> {
        let (program, rest) = arguments.split_first().context("a command is needed after the place")?;
        let mut command = if self.nodes.iter().any(|n| n.name == place) {
            self.on_node(place, program)?
        } else {
            let holder = if place == FABRIC {
                self.fabric_pid
            } else if let Ok(router) = self.router(place) {
                router.pid
            } else if let Ok(workload) = self.workload(place) {
                workload.pid
            } else {
                bail!("{}", self.no_place(place));
            };
            let mut command = Command::new(program);
            self.namespaces(place, holder)?.enter(&mut command);
            command
        };
        let status =
            command.args(rest).status().with_context(|| format!("{place}: {}", program.display()))?;
        Ok(process::exit_code(status))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lab(dir: &Path) -> Lab {
        let mut lab = Lab::new(dir, Datastore::Embedded).unwrap();
        for name in ["node1", "node2"] {
            let (ipv4, ipv6) = Default::default();
            lab.nodes.push(Node { name: name.to_owned(), init_pid: 0, ipv4, ipv6 });
        }
        for name in ["web", "client"] {
            let (node, namespace, container_id, address) =
                ("node1".to_owned(), "shop".to_owned(), String::new(), String::new());
            let pid = i32::try_from(std::process::id()).unwrap();
            lab.workloads.insert(name.to_owned(), Workload { node, namespace, container_id, address, pid });
        }
        lab
    }

    #[test]
    fn a_place_that_is_not_there_is_told_with_all_that_are() {
        let dir = tempfile::tempdir().unwrap();
        let check = |lab: &Lab, place: &str, expected: &str| {
            let error = lab.exec(place, &["true".into()]).unwrap_err();
            assert_eq!(format!("{error:#}"), expected);
        };
        let mut lab = lab(dir.path());
        let places = "nodes: node1, node2; workloads: client, web; and fabric";
        check(&lab, "nosuch", &format!("no place \"nosuch\" in this lab; {places}"));
        check(&lab, "wbe", &format!("no place \"wbe\" in this lab; {places}; did you mean \"web\"?"));
        check(&lab, "nod2", &format!("no place \"nod2\" in this lab; {places}; did you mean \"node2\"?"));
        check(
            &lab,
            "fabrik",
            &format!("no place \"fabrik\" in this lab; {places}; did you mean \"fabric\"?"),
        );
        lab.workloads.clear();
        let bare = "nodes: node1, node2; workloads: none; and fabric";
        check(&lab, "nosuch", &format!("no place \"nosuch\" in this lab; {bare}"));
    }

    #[test]
    fn a_process_that_is_not_the_labs_is_not_entered() {
        let dir = tempfile::tempdir().unwrap();
        // This test's own process has the number, and not the mark.
        let error = lab(dir.path()).exec("web", &["true".into()]).unwrap_err().to_string();
        let down = format!("`calico lab --dir {} down` removes what is left", dir.path().display());
        assert!(error.starts_with("web is gone: process ") && error.contains(&down), "{error}");
    }

    #[test]
    fn a_name_stands_for_one_place() {
        let dir = tempfile::tempdir().unwrap();
        let lab = lab(dir.path());
        let kinds = ["fabric", "node1", "web", "other"].map(|name| lab.kind_of_place(name));
        assert_eq!(kinds, [Some("the fabric"), Some("a node"), Some("a workload"), None]);
    }
}
