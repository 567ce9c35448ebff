//! A stand-in for Calico, to test the lab alone: a veth for each pod, addresses of the node's range, static routes.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::api::wait_for;
use super::cluster::{CONTROL_PLANE, Cluster, Place};
use super::node;
use crate::process::output;

const RANGES_DEADLINE: Duration = Duration::from_secs(180);

/// Configures every node as soon as the controllers gave it its ranges, and routes the ranges everywhere.
pub fn install(cluster: &Cluster) -> Result<()> {
    let mut ranges: Vec<(&Place, Vec<String>)> = Vec::new();
    for node in cluster.nodes() {
        let mut found = Vec::new();
        wait_for(&format!("pod addresses of {}", node.name), RANGES_DEADLINE, || {
            let object = cluster.get_json(&format!("/api/v1/nodes/{}", node.name))?;
            let listed = object["spec"]["podCIDRs"].as_array().into_iter().flatten();
            found = listed.filter_map(Value::as_str).map(str::to_owned).collect();
            Ok(found.is_empty().then(|| "no podCIDRs".to_owned()))
        })?;
        configure(cluster, &node.name, &found)?;
        ranges.push((node, found));
    }
    for (node, ranges) in &ranges {
        for range in ranges {
            let via = if range.contains(':') { &node.ipv6 } else { &node.ipv4 };
            let others =
                cluster.nodes().filter(|other| other.name != node.name).map(|other| other.name.as_str());
            for place in others.chain([CONTROL_PLANE]) {
                output(cluster.on_network(place, "ip")?.args(["route", "replace", range, "via", via]))?;
            }
        }
    }
    Ok(())
}

fn configure(cluster: &Cluster, node: &str, ranges: &[String]) -> Result<()> {
    let ranges: Vec<Value> = ranges.iter().map(|range| json!([{"subnet": range}])).collect();
    let defaults = if cluster.dual_stack { vec!["0.0.0.0/0", "::/0"] } else { vec!["0.0.0.0/0"] };
    let routes: Vec<Value> = defaults.iter().map(|route| json!({"dst": route})).collect();
    let list = json!({
        "cniVersion": "0.4.0",
        "name": "lab",
        "plugins": [
            {"type": "ptp", "ipMasq": false, "ipam": {"type": "host-local", "ranges": ranges, "routes": routes}},
            {"type": "portmap", "capabilities": {"portMappings": true}},
        ],
    });
    let dir = node::own_directory(&cluster.place_dir(node), "/etc/cni").join("net.d");
    // containerd watches the directory and must not read half a file.
    let next = dir.join(".next");
    std::fs::write(&next, list.to_string())
        .and_then(|()| std::fs::rename(&next, dir.join("10-lab.conflist")))
        .with_context(|| format!("{}", dir.display()))
}
