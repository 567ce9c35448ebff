//! What a cluster consists of, as written to its directory; and running commands inside it.

use std::ffi::OsStr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::args::{Cni, ProxyMode, UpArgs};
use super::cgroups::Cgroups;
use crate::namespace;
use crate::process::is_marked;
use crate::state::MARK;

/// The place where etcd, the API server, the scheduler and the controllers run; the fabric's bridge is there too.
pub const CONTROL_PLANE: &str = "control-plane";
/// A place on the fabric that is no part of the cluster: whoever comes from outside.
pub const CLIENT: &str = "client";

/// What a place is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// etcd and the control plane.
    ControlPlane,
    /// Outside.
    Client,
    /// A node with containerd, kubelet and kube-proxy.
    Node,
}

/// One place: namespaces around a first process.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Place {
    /// `control-plane`, `client`, `node1`, …
    pub name: String,
    /// What it is for.
    pub kind: Kind,
    /// Its IPv4 address on the fabric.
    pub ipv4: String,
    /// Its IPv6 address on the fabric.
    pub ipv6: String,
}

/// A cluster: read from and written to `cluster.json` of its directory.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Cluster {
    /// Its directory.
    pub dir: PathBuf,
    /// What every process of the lab carries in its environment ([`MARK`]).
    pub mark: String,
    /// Where the programs of Kubernetes are.
    pub parts: PathBuf,
    /// How kube-proxy works.
    pub proxy: ProxyMode,
    /// Whether IPv6 is on.
    pub dual_stack: bool,
    /// Who gives pods their network.
    pub cni: Cni,
    /// The control plane, the client, and the nodes in order.
    pub places: Vec<Place>,
}

impl Cluster {
    /// A cluster of which nothing runs yet.
    pub fn new(dir: &Path, parts: &Path, args: &UpArgs) -> Result<Cluster> {
        let mark = std::fs::read_to_string("/proc/sys/kernel/random/uuid").context("a unique mark")?;
        let place = |name: String, kind, host: u8| Place {
            name,
            kind,
            ipv4: format!("10.65.0.{host}"),
            ipv6: format!("fd65::{host:x}"),
        };
        // The numbers of the fabric's own address and of its neighbour; a lab has at most 60 nodes.
        let mut places = vec![
            place(CONTROL_PLANE.to_owned(), Kind::ControlPlane, 254),
            place(CLIENT.to_owned(), Kind::Client, 253),
        ];
        places.extend((1..=args.nodes).map(|number| place(format!("node{number}"), Kind::Node, number)));
        Ok(Cluster {
            dir: dir.to_owned(),
            mark: mark.trim().to_owned(),
            parts: parts.to_owned(),
            proxy: args.proxy,
            dual_stack: args.dual_stack,
            cni: args.cni,
            places,
        })
    }

    /// Whether there is a cluster in a directory.
    pub fn is_in(dir: &Path) -> bool {
        dir.join("cluster.json").exists()
    }

    /// The cluster in a directory.
    pub fn load(dir: &Path) -> Result<Cluster> {
        let path = dir.join("cluster.json");
        let text = std::fs::read(&path).with_context(|| {
            format!("no cluster in {}: start one with `calico lab k8s up`", dir.display())
        })?;
        serde_json::from_slice(&text).with_context(|| format!("{}", path.display()))
    }

    /// Writes the state, before anything of it runs.
    pub fn save(&self) -> Result<()> {
        std::fs::write(self.dir.join("cluster.json"), serde_json::to_vec_pretty(self)?)
            .context("cluster.json")
    }

    /// A place by name.
    pub fn place(&self, name: &str) -> Result<&Place> {
        self.places.iter().find(|p| p.name == name).with_context(|| {
            let names: Vec<&str> = self.places.iter().map(|p| p.name.as_str()).collect();
            format!("no place {name:?} in this cluster; there are {}", names.join(", "))
        })
    }

    /// The nodes, in order.
    pub fn nodes(&self) -> impl Iterator<Item = &Place> {
        self.places.iter().filter(|p| p.kind == Kind::Node)
    }

    /// The directory of a place's files.
    pub fn place_dir(&self, place: &str) -> PathBuf {
        self.dir.join(place)
    }

    /// A log of a place.
    pub fn log(&self, place: &str, program: &str) -> PathBuf {
        self.place_dir(place).join("log").join(format!("{program}.log"))
    }

    /// A program of Kubernetes.
    pub fn program(&self, name: &str) -> PathBuf {
        self.dir.join("bin").join(name)
    }

    /// The file that says that the API server answers: what every other program waits for.
    pub fn api_ready(&self) -> PathBuf {
        self.dir.join("api-ready")
    }

    /// The cgroups of a node.
    pub fn cgroups(&self, place: &str) -> Result<Cgroups> {
        Cgroups::of(&self.group(), place)
    }

    /// What the cgroup of all nodes is called.
    pub fn group(&self) -> String {
        format!("calico-lab-{}", self.mark.split('-').next().unwrap_or_default())
    }

    /// The first process of a place.
    pub fn pid(&self, place: &str) -> Result<i32> {
        let path = self.place_dir(place).join("pid");
        let text = std::fs::read_to_string(&path).with_context(|| format!("{place} has not started"))?;
        let pid = text.trim().parse().with_context(|| format!("{}", path.display()))?;
        if !is_marked(pid, &self.mark) {
            bail!("{place} does not run any more; `calico lab k8s down` removes what is left");
        }
        Ok(pid)
    }

    /// What every process of the lab has in its environment.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            (MARK, self.mark.clone()),
            (
                "PATH",
                format!(
                    "{}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                    self.dir.join("bin").display()
                ),
            ),
        ]
    }

    /// What a command of the cluster's user has in its environment besides.
    pub fn user_environment(&self) -> Vec<(&'static str, String)> {
        let mut environment = self.environment();
        environment.push(("KUBECONFIG", self.dir.join("pki/admin.conf").display().to_string()));
        environment.push(("DATASTORE_TYPE", "kubernetes".to_owned()));
        environment
    }

    /// A command with the network of a place and, besides, this process's own files and directory.
    pub fn on_network(&self, place: &str, program: impl AsRef<OsStr>) -> Result<Command> {
        let mut command = Command::new(program);
        command.envs(self.user_environment());
        namespace::enter_network(&mut command, self.pid(place)?)?;
        Ok(command)
    }

    /// kubectl as the administrator, with this process's own files.
    pub fn kubectl(&self) -> Result<Command> {
        self.on_network(CONTROL_PLANE, self.program("kubectl"))
    }

    /// A command that runs wholly inside a place.
    pub fn inside(&self, place: &str, program: impl AsRef<OsStr>) -> Result<Command> {
        let mut command = Command::new(std::env::current_exe().context("own path")?);
        command.args(["lab", "--dir"]).arg(&self.dir).args(["k8s", "exec", place, "--"]).arg(program);
        Ok(command)
    }

    /// Runs a command in a place with this terminal, and gives its exit code.
    pub fn exec(&self, place: &str, program: &OsStr, arguments: &[impl AsRef<OsStr>]) -> Result<ExitCode> {
        let found = self.place(place)?;
        if found.kind != Kind::Node {
            // The rest of these places is the machine's own.
            let error = self.on_network(place, program)?.args(arguments).exec();
            return Err(error).with_context(|| program.display().to_string());
        }
        let mut command = Command::new(program);
        command.envs(self.user_environment()).args(arguments);
        // Only a child is inside another process namespace, so this process stays to wait for it.
        self.cgroups(place)?.join()?;
        namespace::enter_all(self.pid(place)?).with_context(|| format!("entering {place}"))?;
        let status = command.status().with_context(|| program.display().to_string())?;
        Ok(crate::process::exit_code(status))
    }
}
