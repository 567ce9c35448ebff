//! A small CNI runtime: runs the plugin as kubelet's runtime would (CNI 1.0, "Execution of Network Configurations").

use std::io::Write;
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::state::{Lab, Workload};

/// One attachment: what the runtime tells the plugin.
pub struct Attachment<'a> {
    /// The node.
    pub node: &'a str,
    /// The workload's name: the pod's name in CNI_ARGS.
    pub name: &'a str,
    /// Its namespace: the pod's namespace.
    pub namespace: &'a str,
    /// Its labels.
    pub labels: &'a [(String, String)],
    /// Unique id of the sandbox.
    pub container_id: &'a str,
    /// The process whose network namespace is attached.
    pub pid: i32,
}

impl<'a> Attachment<'a> {
    /// The attachment of a workload that is up.
    pub fn of(name: &'a str, workload: &'a Workload) -> Attachment<'a> {
        Attachment {
            node: &workload.node,
            name,
            namespace: &workload.namespace,
            labels: &[],
            container_id: &workload.container_id,
            pid: workload.pid,
        }
    }
}

/// The network configuration of a namespace. Each namespace is a CNI network of its own, named as its profile.
pub fn netconf(lab: &Lab, labels: &[(String, String)], namespace: &str) -> Value {
    let labels: Vec<Value> = labels.iter().map(|(k, v)| json!({"key": k, "value": v})).collect();
    let mut conf = json!({
        "cniVersion": "1.0.0",
        "name": format!("kns.{namespace}"),
        "type": "calico",
        "log_level": "info",
        "agent_socket": "/run/calico/cni.sock",
        "policy_setup_timeout_seconds": 10,
        "ipam": {"type": "calico-ipam", "assign_ipv4": "true", "assign_ipv6": "true"},
        "args": {"org.apache.mesos": {"network_info": {"labels": {"labels": labels}}}},
    });
    for (name, value) in lab.datastore_environment() {
        if name == "DATASTORE_TYPE" || name == "ETCD_ENDPOINTS" {
            conf[name.to_ascii_lowercase()] = Value::String(value);
        }
    }
    conf
}

/// Runs the plugin with a command (ADD, DEL, CHECK) and gives its result; an empty answer is `null`.
pub fn run(lab: &Lab, verb: &str, attachment: &Attachment<'_>) -> Result<Value> {
    let Attachment { node, name, namespace, labels, container_id, pid } = attachment;
    let mut command = lab.on_node(node, lab.dir.join("bin/calico"))?;
    command
        .env("CNI_COMMAND", verb)
        .env("CNI_CONTAINERID", container_id)
        .env("CNI_NETNS", format!("/proc/{pid}/ns/net"))
        .env("CNI_IFNAME", "eth0")
        .env("CNI_PATH", lab.dir.join("bin"))
        .env("CNI_ARGS", format!("IgnoreUnknown=1;K8S_POD_NAMESPACE={namespace};K8S_POD_NAME={name}"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().context("CNI plugin")?;
    let stdin = child.stdin.take().context("CNI plugin's input")?;
    serde_json::to_writer(&stdin, &netconf(lab, labels, namespace))?;
    (&stdin).flush()?;
    drop(stdin);
    let output = child.wait_with_output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        let message = serde_json::from_str::<Value>(&text)
            .ok()
            .and_then(|e| {
                Some(format!(
                    "{} {}",
                    e.get("msg")?.as_str()?,
                    e.get("details").and_then(Value::as_str).unwrap_or_default()
                ))
            })
            .unwrap_or_else(|| format!("{text} {}", String::from_utf8_lossy(&output.stderr)));
        bail!("CNI {verb} of {name} on {node}: {}", message.trim());
    }
    if text.trim().is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_str(&text).with_context(|| format!("CNI {verb}'s answer: {text}"))
}
