//! FRRouting: its configuration, and what `vtysh` says in JSON (tried on 8.4.4).

use std::fmt::Write as _;
use std::net::Ipv4Addr;

use serde_json::Value;

use super::{CONNECT_RETRY_SECS, Peer, RESTART_TIME_SECS, Received, Session, Speaker, family, is_v6};

/// What installs routes.
pub const ZEBRA: &str = "/usr/lib/frr/zebra";
/// What speaks BGP.
pub const BGPD: &str = "/usr/lib/frr/bgpd";
/// What asks them.
pub const VTYSH: &str = "/usr/bin/vtysh";

/// The questions that [`sessions`] and [`routes`] read the answers of.
pub const SESSIONS: &str = "show bgp summary json";
/// One for each family.
pub const ROUTES: [&str; 2] = ["show bgp ipv4 unicast json", "show bgp ipv6 unicast json"];

/// bgpd's configuration.
pub fn render(speaker: &Speaker, router_id: Ipv4Addr) -> String {
    let Speaker { asn, peers, announce } = speaker;
    let mut text = String::new();
    let mut line = |args: std::fmt::Arguments<'_>| {
        text.write_fmt(args).expect("writing to a String cannot fail");
        text.push('\n');
    };
    line(format_args!("router bgp {asn}"));
    line(format_args!(" bgp router-id {}", router_id));
    for option in [
        "no bgp ebgp-requires-policy",
        "no bgp default ipv4-unicast",
        "no bgp network import-check",
        "bgp graceful-restart",
        "bgp graceful-restart preserve-fw-state",
        // It chooses nothing before every peer has said that it has told all, or this time has passed.
        "bgp graceful-restart select-defer-time 30",
    ] {
        line(format_args!(" {option}"));
    }
    line(format_args!(" bgp graceful-restart restart-time {RESTART_TIME_SECS}"));
    for Peer { addr, asn, password, ttl_security } in peers {
        line(format_args!(" neighbor {addr} remote-as {asn}"));
        line(format_args!(" neighbor {addr} timers connect {CONNECT_RETRY_SECS}"));
        line(format_args!(" neighbor {addr} advertisement-interval 0"));
        if let Some(password) = password {
            line(format_args!(" neighbor {addr} password {password}"));
        }
        if *ttl_security {
            line(format_args!(" neighbor {addr} ttl-security hops 1"));
        }
    }
    for v6 in [false, true] {
        line(format_args!(" address-family {} unicast", family(v6)));
        for prefix in announce.iter().filter(|prefix| is_v6(prefix) == v6) {
            line(format_args!("  network {prefix}"));
        }
        for peer in peers.iter().filter(|peer| peer.addr.is_ipv6() == v6) {
            line(format_args!("  neighbor {} activate", peer.addr));
        }
        line(format_args!(" exit-address-family"));
    }
    text
}

/// Reads the answer to [`SESSIONS`].
pub fn sessions(answer: &Value) -> Vec<Session> {
    let families = answer.as_object().into_iter().flat_map(serde_json::Map::values);
    let peers = families.filter_map(|family| family["peers"].as_object()).flatten();
    let session = |(peer, facts): (&String, &Value)| Session {
        peer: peer.clone(),
        state: facts["state"].as_str().unwrap_or_default().to_owned(),
    };
    peers.map(session).collect()
}

/// Reads the answer to one of [`ROUTES`].
pub fn routes(answer: &Value) -> Vec<Received> {
    let prefixes = answer["routes"].as_object().into_iter().flatten();
    let ways = prefixes
        .flat_map(|(prefix, ways)| ways.as_array().into_iter().flatten().map(move |way| (prefix, way)));
    // Its own have no peer.
    let told = ways
        .filter(|(_, way)| way["peerId"].as_str().is_some_and(|id| id.parse::<std::net::IpAddr>().is_ok()));
    let received = |(prefix, way): (&String, &Value)| {
        // Of IPv6 there may be a link's own address too.
        let hops = || way["nexthops"].as_array().into_iter().flatten();
        let global = hops().find(|hop| hop["scope"] != "link-local").or_else(|| hops().next());
        Received {
            prefix: prefix.clone(),
            from: text(&way["peerId"]),
            next_hop: global.map(|hop| text(&hop["ip"])).unwrap_or_default(),
            as_path: text(&way["path"]),
        }
    };
    told.map(received).collect()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
