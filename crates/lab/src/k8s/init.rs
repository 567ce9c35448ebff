//! The first process of a place: in namespaces of its own, it makes the place look like a machine and keeps its programs
//! alive. It ends by SIGKILL, and the kernel ends everything in its process namespace with it.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use super::cluster::{Cluster, Kind, Place};
use super::services::Services;
use super::{control_plane, node};
use crate::mounts;
use crate::process::output;

/// Makes the namespaces of a place, starts its first process, and waits for the end of it.
///
/// A process stays in the process namespace that it was born in, so the first one inside is a child.
pub fn hold(dir: &Path, place: &str) -> Result<()> {
    let cluster = Cluster::load(dir)?;
    let kind = cluster.place(place)?.kind;
    let mut kinds = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWPID;
    if kind == Kind::Node {
        let cgroups = cluster.cgroups(place)?;
        cgroups.create()?;
        kinds |= CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWCGROUP;
        unshare(kinds).context("namespaces: is this root?")?;
        cgroups.settle()?;
    } else {
        unshare(kinds).context("namespaces: is this root?")?;
    }
    let mut init = Command::new(std::env::current_exe().context("own path")?);
    init.args(["lab", "--dir"]).arg(dir).args(["k8s", "init", place]);
    let mut child = init.spawn().context("calico lab k8s init")?;
    write_whole(&cluster.place_dir(place).join("pid"), &child.id().to_string())?;
    let status = child.wait()?;
    bail!("{place} ended: {status}")
}

/// A file that appears with its contents, as others wait for it.
fn write_whole(path: &Path, text: &str) -> Result<()> {
    let next = path.with_extension("next");
    std::fs::write(&next, text)
        .and_then(|()| std::fs::rename(&next, path))
        .with_context(|| format!("{}", path.display()))
}

/// Runs until it is ended; already inside the namespaces that [`hold`] made.
pub fn run(dir: &Path, place: &str) -> Result<()> {
    let cluster = Cluster::load(dir)?;
    let place = cluster.place(place)?;
    nix::unistd::sethostname(&place.name).context("host name")?;
    mounts::make_private()?;
    let mut services = Services::new(&cluster, &place.name);
    match place.kind {
        Kind::Client => mount_proc()?,
        Kind::ControlPlane => {
            mount_proc()?;
            services.add(control_plane::etcd(&cluster));
            services.add(control_plane::api_server(&cluster));
            services.add(control_plane::controller_manager(&cluster));
            services.add(control_plane::scheduler(&cluster));
        }
        Kind::Node => {
            mount_node(&cluster, place).with_context(|| format!("mounts of {}", place.name))?;
            forward()?;
            node::services(&cluster, place).into_iter().for_each(|service| services.add(service));
        }
    }
    output(Command::new("ip").args(["link", "set", "lo", "up"]))?;
    std::fs::write(cluster.place_dir(&place.name).join("mounted"), "")?;
    services.keep()
}

fn mount_proc() -> Result<()> {
    mount(Some("proc"), "/proc", Some("proc"), MsFlags::empty(), None::<&str>).context("/proc")
}

/// A machine of its own, as far as kubelet, containers and their mounts can see.
fn mount_node(cluster: &Cluster, node: &Place) -> Result<()> {
    let dir = cluster.place_dir(&node.name);
    mounts::own_run(&cluster.dir)?;
    for path in ["/run/containerd", "/run/netns", "/run/lock"] {
        std::fs::create_dir_all(path).with_context(|| path.to_owned())?;
    }
    for (parent, layer) in [("/etc", "etc"), ("/opt", "opt"), ("/var/lib", "lib"), ("/var/log", "log")] {
        mounts::layer_over(parent, &dir.join("layer").join(layer))?;
    }
    for directory in node::OWN {
        mounts::bind_directory(&node::own_directory(&dir, directory), Path::new(directory))?;
    }
    mount_proc()?;
    for setting in node::MACHINE_SETTINGS {
        keep_setting(&dir, setting)?;
    }
    mounts::own_sys()?;
    // Not every kernel has BPF, and nothing here needs it.
    let _ = mount(Some("bpf"), "/sys/fs/bpf", Some("bpf"), MsFlags::empty(), None::<&str>);
    cluster.cgroups(&node.name)?.mount()?;
    // What a pod mounts with Bidirectional propagation shows on its node, as on a machine that systemd started.
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_SHARED, None::<&str>)
        .context("shared mounts")
}

/// Puts a file with the setting's present value in its place: writing it changes nothing but the file.
fn keep_setting(node_dir: &Path, setting: &str) -> Result<()> {
    let path = Path::new("/proc/sys").join(setting);
    let Ok(value) = std::fs::read(&path) else { return Ok(()) };
    let own = node_dir.join("settings").join(setting.replace('/', "."));
    std::fs::create_dir_all(node_dir.join("settings"))?;
    std::fs::write(&own, value)?;
    mounts::bind(&own, &path)
}

/// A node forwards, as every machine with Kubernetes on it is told to.
fn forward() -> Result<()> {
    for setting in ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"] {
        let path = Path::new("/proc/sys").join(setting);
        std::fs::write(&path, "1").with_context(|| format!("{}", path.display()))?;
    }
    Ok(())
}
