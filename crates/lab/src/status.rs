//! `calico lab status`: nodes, routers, endpoints, routes and BGP sessions, read from those who have them.

use anyhow::{Result, bail};
use comfy_table::{ContentArrangement, Table, presets};
use serde_json::{Value, json};

use crate::fabric::Subnet;
use crate::process::output;
use crate::state::Lab;
use crate::{node, router, workload};

/// No line of a table is wider, wherever it is read.
const WIDTH: u16 = 100;
/// The state of a node whose first process is gone, and its namespaces with it.
const ENDED: &str = "ended: its first process is gone";

/// Prints the state as tables (`ps`) or as one JSON document.
pub fn print(lab: &Lab, format: &str) -> Result<()> {
    match format {
        "json" => println!("{}", serde_json::to_string_pretty(&read(lab)?)?),
        "ps" => println!("{}", tables(&read(lab)?)),
        other => bail!("output format {other:?}: use ps or json"),
    }
    Ok(())
}

/// Reads the state of every node.
pub fn read(lab: &Lab) -> Result<Value> {
    let mut nodes = Vec::new();
    let mut routes = Vec::new();
    let mut sessions = Vec::new();
    for n in &lab.nodes {
        if !lab.runs(&n.name) {
            nodes.push(json!({"name": n.name, "ipv4": n.ipv4, "ipv6": n.ipv6, "state": ENDED}));
            continue;
        }
        let ready = node::readiness(lab, &n.name).map_or_else(|e| format!("{e:#}"), |()| "ready".to_owned());
        nodes.push(json!({"name": n.name, "ipv4": n.ipv4, "ipv6": n.ipv6, "state": ready}));
        for family in ["-4", "-6"] {
            let text =
                output(lab.on_node(&n.name, "ip")?.args([family, "-j", "route", "show", "table", "main"]))?;
            let listed: Vec<Value> = serde_json::from_str(&text).unwrap_or_default();
            let of_interest = |r: &Value| {
                r["protocol"] == "bird"
                    || r["type"] == "blackhole"
                    || r["dev"].as_str().is_some_and(|d| d.starts_with("cali") || d.ends_with(".calico"))
            };
            routes.extend(listed.into_iter().filter(of_interest).filter(|r| r["dst"] != "fe80::/64").map(
                |r| {
                    json!({"node": n.name, "destination": r["dst"], "via": r["gateway"], "device": r["dev"],
                       "type": r["type"], "protocol": r["protocol"]})
                },
            ));
        }
        let text = workload::calicoctl(lab, &n.name, &["node", "status", "-o", "json"], "")?;
        let status: Value = serde_json::from_str(&text)?;
        for peer in status["peers"].as_array().into_iter().flatten() {
            sessions.push(json!({"node": n.name, "peer": peer["address"], "type": peer["type"],
                                 "state": peer["state"], "since": peer["since"], "info": peer["info"]}));
        }
    }
    let mut routers = Vec::new();
    for r in &lab.routers {
        let (ipv4, ipv6) = Subnet::default().node(r.number);
        let heard = router::sessions(lab, &r.name).and_then(|s| Ok((s, router::routes(lab, &r.name)?)));
        let (state, heard) = match heard {
            Ok((own, routes)) => {
                sessions
                    .extend(own.into_iter().map(
                        |s| json!({"node": r.name, "peer": s.peer, "type": "router", "state": s.state}),
                    ));
                (format!("told {} routes", routes.len()), routes)
            }
            Err(error) => (format!("{error:#}"), Vec::new()),
        };
        routers.push(
            json!({"name": r.name, "daemon": r.daemon.name(), "as": r.speaker.asn, "ipv4": ipv4, "ipv6": ipv6,
                            "state": state, "told": heard}),
        );
    }
    let endpoints = match lab.nodes.iter().find(|n| lab.runs(&n.name)) {
        None => Vec::new(),
        Some(n) => {
            let text = workload::calicoctl(lab, &n.name, &["get", "wep", "-A", "-o", "json"], "")?;
            let list: Value = serde_json::from_str(&text)?;
            let items = list["items"].as_array().cloned().unwrap_or_else(|| vec![list.clone()]);
            items
                .iter()
                .filter(|i| i["spec"].is_object())
                .map(|i| {
                    let spec = &i["spec"];
                    json!({"namespace": i["metadata"]["namespace"], "workload": spec["pod"], "node": spec["node"],
                           "networks": spec["ipNetworks"], "interface": spec["interfaceName"]})
                })
                .collect()
        }
    };
    Ok(
        json!({"nodes": nodes, "routers": routers, "endpoints": endpoints, "routes": routes, "sessions": sessions}),
    )
}

/// The state as tables, one section each.
pub fn tables(state: &Value) -> String {
    let routes: Vec<Value> = state["routes"].as_array().into_iter().flatten().map(route_row).collect();
    let mut state = state.clone();
    state["routes"] = Value::Array(routes);
    [
        ("Nodes", "nodes", &["name", "ipv4", "ipv6", "state"][..]),
        ("Routers", "routers", &["name", "daemon", "as", "ipv4", "ipv6", "state"]),
        ("Endpoints", "endpoints", &["namespace", "workload", "node", "networks", "interface"]),
        ("Routes", "routes", &["node", "destination", "via", "device", "made by"]),
        ("BGP sessions", "sessions", &["node", "peer", "type", "state", "since", "info"]),
    ]
    .iter()
    // Most labs have none.
    .filter(|(_, key, _)| *key != "routers" || state[key].as_array().is_some_and(|all| !all.is_empty()))
    .map(|(title, key, columns)| format!("{title}\n{}\n", table(&state[key], columns)))
    .collect::<Vec<_>>()
    .join("\n")
}

/// A route as people read it: a blackhole leads nowhere, and the number 80 is the agent's.
fn route_row(route: &Value) -> Value {
    let device = if route["type"] == "blackhole" { &route["type"] } else { &route["device"] };
    let maker = if route["protocol"] == "bird" { "bird" } else { "agent" };
    json!({"node": route["node"], "destination": route["destination"], "via": route["via"], "device": device,
           "made by": maker})
}

/// One row for each object, one column for each of its named fields.
pub fn table(rows: &Value, columns: &[&str]) -> Table {
    let mut table = new_table();
    table.set_header(columns.iter().map(|c| c.to_uppercase()));
    for row in rows.as_array().into_iter().flatten() {
        table.add_row(columns.iter().map(|c| cell(&row[c])));
    }
    table
}

/// A table that breaks its cells rather than the terminal's lines.
pub fn new_table() -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::UTF8_FULL_CONDENSED)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(WIDTH);
    table
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(cell).collect::<Vec<_>>().join("\n"),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_fits() {
        let long = "fd00:10:244:c182:2227:c278:ddd1:ea40";
        let route = |via: &str, device: &str, kind: Option<&str>, protocol: Option<&str>| {
            json!({"node": "node12", "destination": format!("{long}/122"), "via": via, "device": device, "type": kind,
                   "protocol": protocol})
        };
        let state = |routes: &[Value]| {
            json!({
                "nodes": [{"name": "node12", "ipv4": "10.65.0.12", "ipv6": "fd65::c", "state": "waiting ".repeat(30)}],
                "routers": [],
                "endpoints": [{"namespace": "shop", "workload": "stranger", "node": "node12",
                               "networks": ["10.244.234.64/32", format!("{long}/128")], "interface": "cali670e5c7bc04"}],
                "routes": routes,
                "sessions": [{"node": "node12", "peer": "fd65:0:0:2::12", "type": "node-to-node mesh", "state": "start",
                              "since": "02:35:54", "info": "Connect Socket: Connection refused"}],
            })
        };
        let mut routes = vec![
            route("fd65:0:0:2::12", "cali670e5c7bc04", None, Some("bird")),
            route("", "lo", Some("blackhole"), Some("80")),
        ];
        let plain = tables(&state(&routes));
        routes.push(route(long, "vxlan-v6.calico", None, Some("80")));
        let tunnelled = tables(&state(&routes));
        for line in plain.lines().chain(tunnelled.lines()) {
            assert!(line.chars().count() <= usize::from(WIDTH), "{line}");
        }
        // What is common is not broken.
        assert!(plain.contains(&format!("{long}/122 ┆ fd65:0:0:2::12 ┆ cali670e5c7bc04 ┆ bird ")), "{plain}");
        assert!(plain.contains("┆ blackhole       ┆ agent "), "{plain}");
        assert!(!plain.contains("Routers"), "{plain}");
    }
}
