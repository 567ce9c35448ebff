//! Starting the places of a cluster and wiring them to the fabric, whose bridge is where the control plane is.

use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::cluster::{Cluster, Kind, Place};
use super::node;
use crate::fabric;
use crate::wait::until;

/// How long a place may take to have its namespaces and mounts on a busy machine.
const START_DEADLINE: Duration = Duration::from_secs(60);
/// How long containerd may take to listen.
const CONTAINERD_DEADLINE: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(20);

/// Starts a place: its namespaces, its mounts, and the programs that wait for nothing.
pub fn spawn(cluster: &Cluster, place: &Place) -> Result<()> {
    let log = cluster.log(&place.name, "init");
    let file = std::fs::File::create(&log).with_context(|| format!("{}", log.display()))?;
    let mut command = Command::new(std::env::current_exe().context("own path")?);
    command
        .args(["lab", "--dir"])
        .arg(&cluster.dir)
        .args(["k8s", "hold", &place.name])
        .envs(cluster.environment())
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file);
    crate::process_group_of_its_own(&mut command);
    let mut child = command.spawn().context("calico lab k8s hold")?;
    // The first is written by the place's first process, the second by who started that: in either order.
    let signs = ["mounted", "pid"].map(|name| cluster.place_dir(&place.name).join(name));
    let mut ended = false;
    let started = until(START_DEADLINE, POLL, || {
        ended = child.try_wait().is_ok_and(|status| status.is_some());
        ended || signs.iter().all(|sign| sign.exists())
    });
    if !started || ended {
        let said = std::fs::read_to_string(&log).unwrap_or_default();
        bail!("{} does not start: {}", place.name, said.trim());
    }
    Ok(())
}

/// Connects a place to the fabric.
pub fn wire(cluster: &Cluster, place: &Place) -> Result<()> {
    let Place { name, kind, ipv4, ipv6 } = place;
    let fabric = cluster.pid(super::cluster::CONTROL_PLANE)?;
    match kind {
        Kind::ControlPlane => fabric::link_fabric(fabric),
        Kind::Client | Kind::Node => {
            fabric::wire(fabric, &format!("port-{name}"), cluster.pid(name)?, ipv4, ipv6)
        }
    }
    .with_context(|| format!("network of {name}"))
}

/// Imports images into a node's containerd, once that listens.
pub fn load_images(cluster: &Cluster, node: &str, images: &[PathBuf]) -> Result<()> {
    let socket = PathBuf::from(format!("/proc/{}/root{}", cluster.pid(node)?, node::CONTAINERD));
    let listens = || UnixStream::connect(&socket).is_ok();
    if !until(CONTAINERD_DEADLINE, POLL, || listens() || cluster.pid(node).is_err()) || !listens() {
        let (init, containerd) = (cluster.log(node, "init"), cluster.log(node, "containerd"));
        bail!("containerd of {node} does not listen; see {} and {}", containerd.display(), init.display());
    }
    for image in images {
        let mut import = cluster.inside(node, "ctr")?;
        import.args(["--namespace", "k8s.io", "images", "import", "-"]);
        super::images::feed(image, import)
            .with_context(|| format!("import of {} on {node}", image.display()))?;
    }
    Ok(())
}
