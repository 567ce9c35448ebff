//! The first process of a node: gives it directories of its own, then keeps its agent alive.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::mounts;
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

/// What a lab's node is told besides the datastore. Its pools are not encapsulated unless somebody changes them.
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
    mounts::make_private()?;
    mounts::own_run(lab_dir)?;
    for dir in ["/run/calico", "/run/netns", "/run/lock"] {
        std::fs::create_dir_all(dir).with_context(|| dir.to_owned())?;
    }
    mounts::own_sys()?;
    for (parent, name) in [("/var/lib", "lib"), ("/var/log", "log"), ("/etc", "etc")] {
        mounts::layer_over(parent, &node_dir.join("layer").join(name))?;
        mounts::bind_directory(&node_dir.join(name), &Path::new(parent).join("calico"))?;
    }
    Ok(())
}
