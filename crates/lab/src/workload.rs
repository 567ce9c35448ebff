//! Workloads: a network namespace on a node, attached by the CNI plugin, with a process in it.

use std::ffi::OsString;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::cni::{self, Attachment};
use crate::fabric;
use crate::namespace;
use crate::process::output;
use crate::state::{Lab, MARK, Workload};
use crate::wait::until;

/// Attaches a workload and starts `command` in it; gives its first address.
pub fn add(
    lab: &mut Lab,
    name: &str,
    node: &str,
    namespace: &str,
    labels: &[String],
    command: &[OsString],
) -> Result<String> {
    if let Some(kind) = lab.kind_of_place(name) {
        bail!("the name {name:?} is taken by {kind} of this lab");
    }
    // Before anything else speaks of it in its own words.
    lab.node(node)?;
    let labels: Vec<(String, String)> = labels
        .iter()
        .map(|label| {
            let (key, value) = label
                .split_once('=')
                .with_context(|| format!("--label {label}: a label is written key=value"))?;
            Ok((key.to_owned(), value.to_owned()))
        })
        .collect::<Result<_>>()?;
    ensure_profile(lab, node, namespace)?;
    let pid = spawn_sandbox(lab, node)?;
    let container_id = format!("{name}-{pid}");
    let attachment = Attachment { node, name, namespace, labels: &labels, container_id: &container_id, pid };
    let result = cni::run(lab, "ADD", &attachment).inspect_err(|_| end(pid))?;
    let address = result["ips"]
        .as_array()
        .and_then(|ips| ips.first()?["address"].as_str()?.split('/').next().map(str::to_owned))
        .with_context(|| format!("the plugin gave no address: {result}"))?;
    let workload = Workload {
        node: node.to_owned(),
        namespace: namespace.to_owned(),
        container_id,
        address: address.clone(),
        pid,
    };
    lab.workloads.insert(name.to_owned(), workload);
    lab.save()?;
    if let Some((program, arguments)) = command.split_first() {
        let log = std::fs::File::create(lab.node_dir(node).join(format!("log/workload-{name}.log")))?;
        let mut child = lab.in_workload(name, program)?;
        child.args(arguments).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        crate::process_group_of_its_own(&mut child);
        child.spawn().with_context(|| format!("{}", program.display()))?;
    }
    Ok(address)
}

/// Ends a workload's processes after the plugin has detached it.
pub fn remove(lab: &mut Lab, name: &str) -> Result<()> {
    let workload = lab.workload(name)?;
    let pid = workload.pid;
    cni::run(lab, "DEL", &Attachment::of(name, workload))?;
    end_all_of_network(lab, pid)?;
    lab.workloads.remove(name);
    lab.save()
}

/// The addresses of a workload, both families, as the kernel has them.
pub fn addresses(lab: &Lab, name: &str) -> Result<Vec<String>> {
    let text =
        output(lab.in_workload(name, "ip")?.args(["-o", "addr", "show", "dev", "eth0", "scope", "global"]))?;
    let address = |line: &str| {
        let mut words = line.split_whitespace().skip_while(|w| !w.starts_with("inet")).skip(1);
        words.next().and_then(|a| a.split('/').next()).map(str::to_owned)
    };
    Ok(text.lines().filter_map(address).collect())
}

/// In Kubernetes a controller writes a profile for each namespace; in the lab it is written here.
pub fn ensure_profile(lab: &Lab, node: &str, namespace: &str) -> Result<()> {
    let profile = serde_json::json!({
        "apiVersion": "projectcalico.org/v3",
        "kind": "Profile",
        "metadata": {"name": format!("kns.{namespace}")},
        "spec": {
            "ingress": [{"action": "Allow"}],
            "egress": [{"action": "Allow"}],
            "labelsToApply": {"pcns.projectcalico.org/name": namespace},
        },
    });
    calicoctl(lab, node, &["apply", "-f", "-"], &profile.to_string())?;
    Ok(())
}

/// Runs the lab's `calicoctl` on a node with a document on its standard input.
pub fn calicoctl(lab: &Lab, node: &str, arguments: &[&str], input: &str) -> Result<String> {
    with_input(lab, lab.on_node(node, lab.dir.join("bin/calicoctl"))?, arguments, input)
}

/// Writes resources from the fabric: before there is a node.
pub fn apply_from_fabric(lab: &Lab, manifest: &str) -> Result<()> {
    let mut command = fabric::in_fabric(lab, lab.dir.join("bin/calicoctl"))?;
    command.envs(lab.datastore_environment());
    with_input(lab, command, &["apply", "-f", "-"], manifest)?;
    Ok(())
}

fn with_input(lab: &Lab, mut command: Command, arguments: &[&str], input: &str) -> Result<String> {
    let file = lab.dir.join(format!("input-{}.yaml", std::process::id()));
    std::fs::write(&file, input)?;
    let result = std::fs::File::open(&file)
        .map_err(Into::into)
        .and_then(|input| output(command.args(arguments).stdin(input)));
    std::fs::remove_file(&file)?;
    result
}

/// A process that holds a fresh network namespace on a node.
pub fn spawn_sandbox(lab: &Lab, node: &str) -> Result<i32> {
    let mut command = Command::new("sleep");
    command
        .env(MARK, &lab.mark)
        .arg("infinity")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    crate::process_group_of_its_own(&mut command);
    namespace::enter_with_own_network(&mut command, lab.node(node)?.init_pid)?;
    let pid = i32::try_from(command.spawn().context("sandbox")?.id())?;
    let mut up = Command::new("ip");
    namespace::Namespaces::of_node(pid)?.enter(&mut up);
    output(up.args(["link", "set", "lo", "up"])).inspect_err(|_| end(pid))?;
    Ok(pid)
}

fn end(pid: i32) {
    let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
}

/// Ends every process in the network namespace of the sandbox `pid`, if that is still the lab's.
pub fn end_all_of_network(lab: &Lab, pid: i32) -> Result<()> {
    if !crate::process::is_marked(pid, &lab.mark) {
        return Ok(());
    }
    let network = |pid: i32| std::fs::read_link(format!("/proc/{pid}/ns/net")).ok();
    let Some(identity) = network(pid) else { return Ok(()) };
    let gone = until(Duration::from_secs(5), Duration::from_millis(5), || {
        let pids: Vec<i32> = std::fs::read_dir("/proc")
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|e| e.file_name().to_str()?.parse().ok())
            .filter(|p| network(*p).as_ref() == Some(&identity))
            .collect();
        pids.iter().for_each(|p| end(*p));
        pids.is_empty()
    });
    if gone { Ok(()) } else { bail!("processes of the workload outlive SIGKILL") }
}
