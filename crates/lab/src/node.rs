//! One node: namespaces, a wire to the fabric, an agent that is kept alive.

use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sched::CloneFlags;

use crate::fabric::{Subnet, wire_to};
use crate::namespace;
use crate::process::output;
use crate::state::{Lab, MARK, Node};
use crate::wait::until;

/// Starts node `number`, wires it to a subnet of the fabric, and lets it run the shell command `before` before its agent.
pub fn spawn(lab: &mut Lab, number: u8, subnet: Subnet, before: Option<&str>) -> Result<()> {
    let name = format!("node{number}");
    let dir = lab.node_dir(&name);
    for sub in ["lib", "log", "etc", "cni"] {
        std::fs::create_dir_all(dir.join(sub)).with_context(|| format!("{}", dir.display()))?;
    }
    let log = std::fs::File::create(dir.join("log/init.log"))?;
    let mut command = Command::new(std::env::current_exe().context("own path")?);
    command
        .arg("lab")
        .arg("--dir")
        .arg(&lab.dir)
        .args(["init", &name])
        .env(MARK, &lab.mark)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    crate::process_group_of_its_own(&mut command);
    namespace::isolate(
        &mut command,
        CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWUTS,
    );
    let pid = i32::try_from(command.spawn().context("calico lab init")?.id())?;
    let (ipv4, ipv6) = subnet.node(number);
    let node = Node { name: name.clone(), init_pid: pid, ipv4, ipv6 };
    lab.nodes.push(node.clone());
    lab.save()?;
    let mounted = dir.join("mounted");
    if !until(Duration::from_secs(10), Duration::from_millis(5), || mounted.exists()) {
        bail!("{name} does not start; see {}", dir.join("log/init.log").display());
    }
    wire_to(subnet, lab.fabric_pid, &format!("port{number}"), pid, &node.ipv4, &node.ipv6)?;
    if let Some(script) = before {
        let mut command = Command::new("sh");
        namespace::Namespaces::of_node(pid)?.enter(&mut command);
        output(command.args(["-ec", script])).with_context(|| format!("before {name}'s agent"))?;
    }
    // The agent starts when its uplink has addresses, as on a machine that boots.
    std::fs::write(dir.join("wired"), "")?;
    Ok(())
}

/// Waits until every node's agent and BIRD say that they are ready.
pub fn wait_ready(lab: &Lab, deadline: Duration) -> Result<()> {
    for node in &lab.nodes {
        let mut last = String::new();
        let ready = until(deadline, Duration::from_millis(200), || match readiness(lab, &node.name) {
            Ok(()) => true,
            Err(error) => {
                last = format!("{error:#}");
                false
            }
        });
        if !ready {
            bail!(
                "{} is not ready after {} s: {last}; see {}",
                node.name,
                deadline.as_secs(),
                lab.node_dir(&node.name).join("log/agent.log").display()
            );
        }
    }
    Ok(())
}

/// Whether a node is ready; the reason if not.
pub fn readiness(lab: &Lab, node: &str) -> Result<()> {
    let mut command = lab.on_node(node, "curl")?;
    output(command.args(["-sS", "--fail-with-body", "--max-time", "2", "http://localhost:9099/readiness"]))?;
    Ok(())
}

/// One counter of a node's agent, by the name under which Prometheus reads it.
pub fn metric(lab: &Lab, node: &str, name: &str) -> Result<u64> {
    let mut command = lab.on_node(node, "curl")?;
    let all = output(command.args(["-sS", "--fail", "--max-time", "2", "http://localhost:9091/metrics"]))?;
    let value = all.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).map(str::trim);
    let value = value.with_context(|| format!("{node} has no metric {name}"))?;
    value.parse().with_context(|| format!("{name} of {node}: {value:?}"))
}
