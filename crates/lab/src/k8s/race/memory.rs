//! Race I on the Kubernetes API: the agent's memory with thousands of pods on nodes of which only the objects are there.

use std::fmt::Write;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::agent::{Usage, settle};
use super::starts::list;
use crate::fabric::ADDRESS_V4;
use crate::k8s::api::wait_for;
use crate::k8s::cluster::{CONTROL_PLANE, Cluster};
use crate::k8s::network::API_PORT;
use crate::k8s::pki;
use crate::process::output;
use crate::race::line;

/// Pods of one node, as kubelet limits them by default.
const PODS_PER_NODE: u16 = 100;
const NAMESPACES: u16 = 50;
const DEADLINE: Duration = Duration::from_secs(300);
/// Requests under way at once: the API server answers others meanwhile.
const PARALLEL: &str = "16";

/// Makes the pods, waits until the agent of the first node knows them, and tells its memory before and after.
pub fn run(cluster: &Cluster, pods: u16) -> Result<Vec<String>> {
    let node = cluster.nodes().next().context("the race needs a node")?.name.clone();
    let before = settle(cluster, &node)?;
    create(cluster, "race-places.json", &places(pods))?;
    wait_for("the namespaces' accounts", DEADLINE, || {
        let accounts = cluster.list("/api/v1/serviceaccounts?fieldSelector=metadata.name%3Ddefault")?;
        let there =
            accounts.iter().filter(|a| a["metadata"]["namespace"].as_str().is_some_and(is_ours)).count();
        Ok((there < usize::from(NAMESPACES)).then(|| format!("{there} of {NAMESPACES}")))
    })?;
    for (what, method, content) in
        [("pods", "POST", "application/json"), ("status", "PATCH", "application/merge-patch+json")]
    {
        ask_all(cluster, what, method, content, pods)?;
    }
    let after = settle(cluster, &node)?;
    Ok(lines(pods, &before, &after))
}

fn lines(pods: u16, before: &Usage, after: &Usage) -> Vec<String> {
    let mega = |bytes: u64| bytes as f64 / 1e6;
    let figure = |name: String, value: f64, unit: &str| line('I', &name, value, unit, None);
    let each = after.rss.saturating_sub(before.rss) as f64 / f64::from(pods);
    vec![
        figure("kube_agent_rss".to_owned(), mega(before.rss), "MB"),
        figure("kube_agent_cgroup".to_owned(), mega(before.working_set), "MB"),
        figure(format!("kube_agent_rss_{pods}_pods"), mega(after.rss), "MB"),
        figure(format!("kube_agent_rss_peak_{pods}_pods"), mega(after.peak), "MB"),
        figure(format!("kube_agent_cgroup_{pods}_pods"), mega(after.working_set), "MB"),
        figure(format!("kube_agent_rss_each_of_{pods}_pods"), each, "bytes"),
        figure(
            format!("kube_agent_cpu_{pods}_pods"),
            after.cpu.saturating_sub(before.cpu).as_secs_f64(),
            "cpu-s",
        ),
    ]
}

fn is_ours(namespace: &str) -> bool {
    namespace.starts_with("race-plain-")
}

fn namespace(pod: u16) -> String {
    format!("race-plain-{}", pod % NAMESPACES)
}

/// Nodes that no kubelet serves, and that DaemonSets do not want; and namespaces with a policy each.
fn places(pods: u16) -> Value {
    let mut items = Vec::new();
    for number in 0..pods.div_ceil(PODS_PER_NODE) {
        items.push(json!({
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": format!("race-plain-{number}")},
            "spec": {"unschedulable": true},
        }));
    }
    for number in 0..NAMESPACES {
        let name = namespace(number);
        items.push(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": {"team": format!("t{}", number % 5)}}}));
        items.push(json!({
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": {"name": "race", "namespace": name},
            "spec": {"podSelector": {}, "ingress": [{"from": [{"podSelector": {"matchLabels": {"tier": "t1"}}}]}]},
        }));
    }
    list(items)
}

fn create(cluster: &Cluster, name: &str, objects: &Value) -> Result<()> {
    let path = cluster.dir.join(name);
    std::fs::write(&path, objects.to_string()).with_context(|| name.to_owned())?;
    output(cluster.kubectl()?.args(["create", "-f"]).arg(&path))?;
    Ok(())
}

/// A pod as Deployments make them.
fn pod(number: u16) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": format!("plain-{number}"),
            "namespace": namespace(number),
            "labels": {
                "app": format!("app-{}", number % 200),
                "tier": format!("t{}", number % 3),
                "pod-template-hash": format!("{:x}", 0x6d4c_0000 + u32::from(number % 200)),
            },
        },
        "spec": {
            "nodeName": format!("race-plain-{}", number / PODS_PER_NODE),
            // Its node never reports.
            "tolerations": [{"operator": "Exists"}],
            "containers": [{"name": "box", "image": "busybox:stable"}],
        },
    })
}

fn status(number: u16) -> Value {
    let address = format!("10.200.{}.{}", number / 250, number % 250 + 1);
    json!({"status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]}})
}

/// Sends one request for each pod, by one curl: a program for each would take longer than the API server.
fn ask_all(cluster: &Cluster, what: &str, method: &str, content: &str, pods: u16) -> Result<()> {
    let dir = cluster.dir.join(format!("race-{what}"));
    std::fs::create_dir_all(&dir).with_context(|| format!("{}", dir.display()))?;
    let pki = pki::directory(cluster);
    let mut config = String::new();
    for number in 0..pods {
        let (path, body) = match what {
            "pods" => (format!("/api/v1/namespaces/{}/pods", namespace(number)), pod(number)),
            _ => (
                format!("/api/v1/namespaces/{}/pods/plain-{number}/status", namespace(number)),
                status(number),
            ),
        };
        let file = dir.join(format!("{number}.json"));
        std::fs::write(&file, body.to_string()).with_context(|| format!("{}", file.display()))?;
        // Each part of such a file begins from nothing.
        write!(
            config,
            "next\nurl = \"https://{ADDRESS_V4}:{API_PORT}{path}\"\nrequest = {method}\n\
             header = \"content-type: {content}\"\ndata-binary = \"@{}\"\noutput = /dev/null\nfail\nsilent\nshow-error\n\
             cacert = \"{}\"\ncert = \"{}\"\nkey = \"{}\"\n",
            file.display(),
            pki.join("ca.crt").display(),
            pki.join("admin.crt").display(),
            pki.join("admin.key").display(),
        )?;
    }
    let file = dir.join("curl");
    std::fs::write(&file, config.trim_start_matches("next\n"))
        .with_context(|| format!("{}", file.display()))?;
    let mut curl = cluster.on_network(CONTROL_PLANE, "curl")?;
    output(curl.args(["--parallel", "--parallel-max", PARALLEL, "--fail-early", "--config"]).arg(&file))
        .with_context(|| format!("{method} of {pods} {what}"))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_nodes_of_many_pods() {
        let check = |number: u16, address: &str, node: &str| {
            assert_eq!(status(number)["status"]["podIP"], address);
            assert_eq!(pod(number)["spec"]["nodeName"], node);
        };
        check(0, "10.200.0.1", "race-plain-0");
        check(4999, "10.200.19.250", "race-plain-49");
        assert_eq!(places(4950)["items"].as_array().map(Vec::len), Some(50 + 2 * usize::from(NAMESPACES)));
    }
}
