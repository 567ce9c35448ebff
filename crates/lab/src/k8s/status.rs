//! `calico lab k8s status`: nodes, pods and services, as the API has them.

use anyhow::Result;
use serde_json::{Value, json};

use super::api::has_condition;
use super::cluster::Cluster;
use crate::status::table;

/// The state as tables, one section each.
pub fn tables(cluster: &Cluster) -> Result<String> {
    let nodes = cluster.list("/api/v1/nodes")?.iter().map(node_row).collect();
    let pods = cluster.list("/api/v1/pods")?.iter().map(pod_row).collect();
    let services = cluster.list("/api/v1/services")?.iter().map(service_row).collect();
    let sections = [
        ("Nodes", nodes, &["name", "state", "addresses", "pods", "version"][..]),
        ("Pods", pods, &["namespace", "name", "state", "addresses", "node"]),
        ("Services", services, &["namespace", "name", "type", "addresses", "ports"]),
    ];
    let render =
        |(title, rows, columns): (&str, Value, &[&str])| format!("{title}\n{}\n", table(&rows, columns));
    Ok(sections.map(render).join("\n"))
}

fn node_row(node: &Value) -> Value {
    let addresses = node["status"]["addresses"].as_array().into_iter().flatten();
    let internal: Vec<&Value> =
        addresses.filter(|a| a["type"] == "InternalIP").map(|a| &a["address"]).collect();
    json!({
        "name": node["metadata"]["name"],
        "state": if has_condition(node, "Ready") { "Ready" } else { "NotReady" },
        "addresses": internal,
        "pods": node["spec"]["podCIDRs"],
        "version": node["status"]["nodeInfo"]["kubeletVersion"],
    })
}

fn pod_row(pod: &Value) -> Value {
    let addresses: Vec<&Value> =
        pod["status"]["podIPs"].as_array().into_iter().flatten().map(|ip| &ip["ip"]).collect();
    let phase = &pod["status"]["phase"];
    let state = if phase == "Running" && !has_condition(pod, "Ready") { &json!("not ready") } else { phase };
    json!({
        "namespace": pod["metadata"]["namespace"],
        "name": pod["metadata"]["name"],
        "state": state,
        "addresses": addresses,
        "node": pod["spec"]["nodeName"],
    })
}

fn service_row(service: &Value) -> Value {
    let spec = &service["spec"];
    let ports: Vec<String> = spec["ports"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|port| {
            let protocol = port["protocol"].as_str().unwrap_or_default();
            match port["nodePort"].as_u64() {
                Some(node_port) => format!("{}:{node_port}/{protocol}", port["port"]),
                None => format!("{}/{protocol}", port["port"]),
            }
        })
        .collect();
    json!({
        "namespace": service["metadata"]["namespace"],
        "name": service["metadata"]["name"],
        "type": spec["type"],
        "addresses": spec["clusterIPs"],
        "ports": ports,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows() {
        let check = |found: Value, expected: Value| assert_eq!(found, expected);
        check(
            node_row(&json!({
                "metadata": {"name": "node1"},
                "spec": {"podCIDRs": ["10.244.0.0/24"]},
                "status": {
                    "addresses": [{"type": "InternalIP", "address": "10.65.0.1"}, {"type": "Hostname", "address": "node1"}],
                    "conditions": [{"type": "MemoryPressure", "status": "False"}, {"type": "Ready", "status": "True"}],
                    "nodeInfo": {"kubeletVersion": "v1"},
                },
            })),
            json!({"name": "node1", "state": "Ready", "addresses": ["10.65.0.1"], "pods": ["10.244.0.0/24"], "version": "v1"}),
        );
        check(
            pod_row(&json!({
                "metadata": {"namespace": "a", "name": "b"},
                "spec": {},
                "status": {"phase": "Running", "podIPs": [{"ip": "10.244.0.2"}]},
            })),
            json!({"namespace": "a", "name": "b", "state": "not ready", "addresses": ["10.244.0.2"], "node": null}),
        );
        check(
            service_row(&json!({
                "metadata": {"namespace": "a", "name": "b"},
                "spec": {"type": "NodePort", "clusterIPs": ["10.96.0.1"], "ports": [
                    {"port": 80, "nodePort": 30080, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}]},
            })),
            json!({"namespace": "a", "name": "b", "type": "NodePort", "addresses": ["10.96.0.1"], "ports": ["80:30080/TCP", "53/UDP"]}),
        );
    }
}
