//! A real Kubernetes on this machine: control plane, nodes with containerd and kubelet, and a client outside.
//!
//! ```text
//!   client         control-plane: etcd, kube-apiserver, kube-controller-manager, kube-scheduler
//!  10.65.0.253      10.65.0.254 and the fabric's bridge
//!      └──────────────────┬──────────────┬──────────────┐
//!                       eth0           eth0           eth0        10.65.0.1, .2, .3 and fd65::1, ::2, ::3
//!                      node1          node2          node3        containerd, kubelet, kube-proxy; pods
//! ```
//!
//! A node is mount, host name, IPC, network, process and cgroup namespaces around one first process, with directories of its
//! own where Kubernetes and Calico expect theirs. The programs are built from their Go modules by `make k8s-parts`, once, and
//! kept outside the tree; images are made here from the machine's programs. Nothing is pulled, and nothing outside the lab's
//! directory and its cgroups is written.

mod api;
pub mod args;
mod cgroups;
mod cluster;
mod control_plane;
pub mod demo;
mod down;
pub mod images;
mod init;
mod network;
mod node;
mod oci;
mod pki;
mod place;
mod ptp;
pub mod race;
mod services;
mod status;
mod up;

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};

use args::K8sCommand;
use cluster::Cluster;

/// Where a cluster lives unless told otherwise: on disk, as images and etcd's log take hundreds of megabytes.
pub const DEFAULT_DIR: &str = "/var/cache/calico-lab/k8s";

/// Runs one command of `calico lab k8s`.
pub fn run(dir: &Path, command: K8sCommand) -> Result<ExitCode> {
    match command {
        K8sCommand::Up(args) => up::build(dir, &args)?,
        K8sCommand::Demo(args) => return demo::run(dir, &args),
        K8sCommand::Down if !Cluster::is_in(dir) => {
            println!("no cluster in {}: nothing to take down", dir.display());
        }
        K8sCommand::Down => down::tear_down(dir)?,
        K8sCommand::Status => println!("{}", status::tables(&Cluster::load(dir)?)?),
        K8sCommand::Exec { place, command } => {
            let (program, rest) = command.split_first().context("a command is needed after the place")?;
            return Cluster::load(dir)?.exec(&place, program, rest);
        }
        K8sCommand::Kubectl { arguments } => {
            let error = Cluster::load(dir)?.kubectl()?.args(arguments).exec();
            return Err(error).context("kubectl");
        }
        K8sCommand::Load { images } => load(&Cluster::load(dir)?, &images)?,
        K8sCommand::Race(race) => {
            race::run(&Cluster::load(dir)?, &race)?.iter().for_each(|line| println!("{line}"));
        }
        K8sCommand::Hold { place } => init::hold(dir, &place)?,
        K8sCommand::Init { place } => init::run(dir, &place)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn load(cluster: &Cluster, paths: &[std::path::PathBuf]) -> Result<()> {
    let archives: Vec<_> =
        paths.iter().map(|path| images::resolve(&cluster.parts, path)).collect::<Result<_>>()?;
    cluster.nodes().try_for_each(|node| place::load_images(cluster, &node.name, &archives))
}
