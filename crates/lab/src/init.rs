//! The first process of a node: gives it directories of its own, then keeps its agent alive.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::mount::{MsFlags, mount};

use crate::state::Lab;
use crate::wait::until;

/// Runs until it is ended; already inside fresh network, mount and host-name namespaces.
pub fn run(dir: &Path, node: &str) -> Result<()> {
    let lab = Lab::load(dir)?;
    let node_dir = lab.node_dir(node);
    nix::unistd::sethostname(node).context("host name")?;
    mount_own(&node_dir, dir)?;
    std::fs::write(node_dir.join("mounted"), "")?;
    if !until(Duration::from_secs(30), Duration::from_millis(5), || node_dir.join("wired").exists()) {
        bail!("no wire to the fabric");
    }
    loop {
        let log =
            std::fs::OpenOptions::new().create(true).append(true).open(node_dir.join("log/agent.log"))?;
        let mut child = Command::new(dir.join("bin/calico"))
            .arg("node")
            .envs(lab.environment(node))
            .envs(agent_environment())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("calico node")?;
        std::fs::write(node_dir.join("agent.pid"), child.id().to_string())?;
        let status = child.wait()?;
        eprintln!("agent of {node} ended: {status}; starting it again");
        // As a service manager would: not in a tight loop, but without a noticeable gap.
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// What a lab's node is told besides the datastore. Its pools are not encapsulated: the fabric is one subnet.
fn agent_environment() -> [(&'static str, &'static str); 9] {
    [
        ("IP", "autodetect"),
        ("IP6", "autodetect"),
        ("CALICO_IPV4POOL_CIDR", "10.244.0.0/16"),
        ("CALICO_IPV4POOL_IPIP", "Never"),
        ("CALICO_IPV6POOL_CIDR", "fd00:10:244::/48"),
        ("WAIT_FOR_DATASTORE", "true"),
        ("CLUSTER_TYPE", "lab"),
        ("FELIX_HEALTHENABLED", "true"),
        ("FELIX_PROMETHEUSMETRICSENABLED", "true"),
    ]
}

/// `/run`, `/sys` and Calico's directories become the node's own; the machine's stay as they are.
fn mount_own(node_dir: &Path, lab_dir: &Path) -> Result<()> {
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
        .context("private mounts")?;
    // The lab may itself live under /run: keep a way to it.
    let keep = lab_dir.starts_with("/run") || lab_dir.starts_with("/var/run");
    let aside = Path::new("/mnt");
    if keep {
        mount(Some(lab_dir), aside, None::<&str>, MsFlags::MS_BIND, None::<&str>).context("lab directory")?;
    }
    mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::MS_NOSUID, Some("mode=755")).context("/run")?;
    if keep {
        std::fs::create_dir_all(lab_dir)?;
        mount(Some(aside), lab_dir, None::<&str>, MsFlags::MS_MOVE, None::<&str>).context("lab directory")?;
    }
    for dir in ["/run/calico", "/run/netns", "/run/lock"] {
        std::fs::create_dir_all(dir).with_context(|| dir.to_owned())?;
    }
    mount(Some("sysfs"), "/sys", Some("sysfs"), MsFlags::empty(), None::<&str>).context("/sys")?;
    for (parent, name) in [("/var/lib", "lib"), ("/var/log", "log"), ("/etc", "etc")] {
        // The machine may not have Calico's directories, and a lab must not make them: another lab, or a Calico of the
        // machine's own, may come and go meanwhile. So they are made in a layer of the node's own.
        let layer = node_dir.join("layer").join(name);
        let (upper, work) = (layer.join("upper"), layer.join("work"));
        std::fs::create_dir_all(&upper)?;
        std::fs::create_dir_all(&work)?;
        let options = format!("lowerdir={parent},upperdir={},workdir={}", upper.display(), work.display());
        mount(Some("overlay"), parent, Some("overlay"), MsFlags::empty(), Some(options.as_str()))
            .with_context(|| format!("a layer over {parent}"))?;
        let target = Path::new(parent).join("calico");
        std::fs::create_dir_all(&target).with_context(|| format!("{}", target.display()))?;
        mount(Some(&node_dir.join(name)), &target, None::<&str>, MsFlags::MS_BIND, None::<&str>)
            .with_context(|| format!("{}", target.display()))?;
    }
    Ok(())
}
