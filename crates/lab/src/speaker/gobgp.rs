//! GoBGP: its configuration, and what `gobgp -j` says (tried on 3.10).

use std::fmt::Write as _;
use std::net::Ipv4Addr;

use serde_json::Value;

use super::{CONNECT_RETRY_SECS, Peer, RESTART_TIME_SECS, Received, Session, Speaker, family};

/// The daemon.
pub const DAEMON: &str = "/usr/bin/gobgpd";
/// What asks it.
pub const CLIENT: &str = "/usr/bin/gobgp";

/// Its states by their numbers, which are all that it tells in JSON.
const STATES: [&str; 7] = ["Unknown", "Idle", "Connect", "Active", "OpenSent", "OpenConfirm", "Established"];

/// The daemon's configuration. Prefixes of its own are told it once it runs.
pub fn render(speaker: &Speaker, router_id: Ipv4Addr) -> String {
    let Speaker { asn, peers, announce: _ } = speaker;
    let mut text = format!("[global.config]\nas = {asn}\nrouter-id = \"{}\"\n", router_id);
    for Peer { addr, asn, password, ttl_security } in peers {
        let mut section = |name: &str, lines: &[String]| {
            writeln!(text, "[neighbors.{name}]").expect("writing to a String cannot fail");
            lines.iter().for_each(|line| writeln!(text, "{line}").expect("writing to a String cannot fail"));
        };
        let mut config = vec![format!("neighbor-address = \"{addr}\""), format!("peer-as = {asn}")];
        config.extend(password.iter().map(|password| format!("auth-password = \"{password}\"")));
        section("config", &config);
        let timers = [
            format!("connect-retry = {CONNECT_RETRY_SECS}"),
            format!("idle-hold-time-after-reset = {CONNECT_RETRY_SECS}"),
        ];
        section("timers.config", &timers);
        if *ttl_security {
            section("ttl-security.config", &["enabled = true".to_owned(), "ttl-min = 255".to_owned()]);
        }
        section(
            "graceful-restart.config",
            &["enabled = true".to_owned(), format!("restart-time = {RESTART_TIME_SECS}")],
        );
        writeln!(
            text,
            "[[neighbors.afi-safis]]
[neighbors.afi-safis.config]
afi-safi-name = \"{}-unicast\"
[neighbors.afi-safis.mp-graceful-restart.config]
enabled = true",
            family(addr.is_ipv6())
        )
        .expect("writing to a String cannot fail");
    }
    // Each neighbour begins a new element.
    text.replace("[neighbors.config]", "[[neighbors]]\n[neighbors.config]")
}

/// Reads the answer to `neighbor`.
pub fn sessions(answer: &Value) -> Vec<Session> {
    let session = |peer: &Value| {
        let state =
            peer["state"]["session_state"].as_u64().and_then(|n| usize::try_from(n).ok()).unwrap_or(0);
        Session {
            peer: peer["conf"]["neighbor_address"].as_str().unwrap_or_default().to_owned(),
            state: (*STATES.get(state).unwrap_or(&STATES[0])).to_owned(),
        }
    };
    answer.as_array().into_iter().flatten().map(session).collect()
}

/// Reads the answer to `global rib`, of one family.
pub fn routes(answer: &Value) -> Vec<Received> {
    let prefixes = answer.as_object().into_iter().flatten();
    let ways = prefixes
        .flat_map(|(prefix, ways)| ways.as_array().into_iter().flatten().map(move |way| (prefix, way)));
    let received = |(prefix, way): (&String, &Value)| {
        // Its own have none.
        let from = way["neighbor-ip"].as_str()?.to_owned();
        let attribute =
            |name: &str| way["attrs"].as_array()?.iter().find_map(|attribute| attribute.get(name));
        let path = attribute("as_paths").and_then(Value::as_array).into_iter().flatten();
        let path = path.flat_map(|segment| segment["asns"].as_array().into_iter().flatten());
        Some(Received {
            prefix: prefix.clone(),
            from,
            next_hop: attribute("nexthop").and_then(Value::as_str).unwrap_or_default().to_owned(),
            as_path: path.map(Value::to_string).collect::<Vec<_>>().join(" "),
        })
    };
    ways.filter_map(received).collect()
}
