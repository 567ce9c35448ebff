//! What a lab consists of, as written to its directory; and running commands inside it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::args::Datastore;
use crate::namespace::Namespaces;
use crate::process;
use crate::router::Router;

/// The variable that marks the processes that hold a lab's namespaces.
pub const MARK: &str = "CALICO_LAB_MARK";

/// The place that is no node, router or workload: what lies between them.
pub const FABRIC: &str = "fabric";

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
        let text = std::fs::read(&path)
            .with_context(|| format!("no lab in {}: start one with `calico lab up`", dir.display()))?;
        serde_json::from_slice(&text).with_context(|| format!("{}", path.display()))
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
            format!("no node {name:?}; there are {}", names.join(", "))
        })
    }

    /// A router by name.
    pub fn router(&self, name: &str) -> Result<&Router> {
        self.routers.iter().find(|r| r.name == name).with_context(|| {
            let names: Vec<&str> = self.routers.iter().map(|r| r.name.as_str()).collect();
            format!("no router {name:?}; there are {}", listed(&names))
        })
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
        Namespaces::of_node(found.init_pid)?.enter(&mut command);
        Ok(command)
    }

    /// A command that runs in a workload.
    pub fn in_workload(&self, name: &str, program: impl Into<OsString>) -> Result<Command> {
        let Some(workload) = self.workloads.get(name) else {
            let names: Vec<&str> = self.workloads.keys().map(String::as_str).collect();
            bail!("no workload {name:?}; there are {}", listed(&names));
        };
        let mut command = Command::new(program.into());
        Namespaces::of_node(workload.pid)?.enter(&mut command);
        Ok(command)
    }

    /// Environment of processes on a node.
    pub fn environment(&self, node: &str) -> Vec<(&'static str, String)> {
        let mut path = self.dir.join("bin").into_os_string().into_string().unwrap_or_default();
        path.push_str(":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        let mut environment = self.datastore_environment();
        environment.push(("PATH", path));
        environment.push(("NODENAME", node.to_owned()));
        environment
    }

    /// Runs a command in a place of the lab with this terminal, and gives its exit code.
    pub fn exec(&self, place: &str, arguments: &[OsString]) -> Result<ExitCode> {
        let (program, rest) = arguments.split_first().context("a command is needed after the place")?;
        let mut command = if place == FABRIC {
            crate::fabric::in_fabric(self, program)?
        } else if self.nodes.iter().any(|n| n.name == place) {
            self.on_node(place, program)?
        } else if let Ok(router) = self.router(place) {
            crate::fabric::in_place(router.pid, program)?
        } else {
            self.in_workload(place, program).with_context(|| {
                format!("{place:?} is neither a node, a router, a workload of this lab, nor {FABRIC}")
            })?
        };
        let status = command.args(rest).status().with_context(|| format!("{}", program.display()))?;
        Ok(process::exit_code(status))
    }
}

fn listed(names: &[&str]) -> String {
    if names.is_empty() { "none".into() } else { names.join(", ") }
}
