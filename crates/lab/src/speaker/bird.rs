//! BIRD 2 as a router of somebody else's: its configuration, and what `birdcl` says (tried on 2.0.12).

use std::fmt::Write as _;
use std::net::Ipv4Addr;

use super::{CONNECT_RETRY_SECS, Peer, RESTART_TIME_SECS, Received, Session, Speaker, family, is_v6};

/// The daemon.
pub const DAEMON: &str = "/usr/sbin/bird";
/// What asks it.
pub const CLIENT: &str = "/usr/sbin/birdcl";

/// The questions that [`sessions`] and [`routes`] read the answers of.
pub const SESSIONS: &str = "show protocols all";
/// All ways, not only those chosen.
pub const ROUTES: &str = "show route all";

/// The daemon's configuration.
pub fn render(speaker: &Speaker, router_id: Ipv4Addr, log: &str) -> String {
    let Speaker { asn, peers, announce } = speaker;
    let mut text = format!(
        "log \"{log}\" all;\nrouter id {};\ngraceful restart wait 30;\nprotocol device {{ }}\n",
        router_id
    );
    let mut block = |args: std::fmt::Arguments<'_>| {
        text.write_fmt(args).expect("writing to a String cannot fail");
        text.push('\n');
    };
    for v6 in [false, true] {
        let family = family(v6);
        block(format_args!(
            "protocol kernel kernel_{family} {{ persist; graceful restart; {family} {{ import none; export where source = RTS_BGP; }}; }}"
        ));
        let own: Vec<String> =
            announce.iter().filter(|p| is_v6(p) == v6).map(|p| format!("route {p} unreachable;")).collect();
        block(format_args!("protocol static own_{family} {{ {family}; {} }}", own.join(" ")));
    }
    for (number, Peer { addr, asn: peer_as, password, ttl_security }) in peers.iter().enumerate() {
        let password = password.as_ref().map(|p| format!("  password \"{p}\";\n")).unwrap_or_default();
        let security = if *ttl_security { "on" } else { "off" };
        block(format_args!(
            "protocol bgp peer{number} {{
  local as {asn};
  neighbor {addr} as {peer_as};
  direct; ttl security {security}; debug {{ states, events }};
  graceful restart on; graceful restart time {RESTART_TIME_SECS};
  connect delay time 1; connect retry time {CONNECT_RETRY_SECS}; error wait time 1, {CONNECT_RETRY_SECS};
{password}  {} {{ import all; export where source ~ [ RTS_BGP, RTS_STATIC ]; }};
}}",
            family(addr.is_ipv6())
        ));
    }
    text
}

/// Reads the answer to [`SESSIONS`].
pub fn sessions(answer: &str) -> Vec<Session> {
    let mut sessions = Vec::new();
    let mut state = String::new();
    for line in answer.lines() {
        let Some((label, value)) = line.trim().split_once(':') else { continue };
        match label {
            "BGP state" => state = value.trim().to_owned(),
            "Neighbor address" => {
                sessions.push(Session { peer: value.trim().to_owned(), state: std::mem::take(&mut state) });
            }
            _ => {}
        }
    }
    sessions
}

/// Reads the answer to [`ROUTES`].
pub fn routes(answer: &str, peers: &[Peer]) -> Vec<Received> {
    let mut routes: Vec<Received> = Vec::new();
    let mut prefix = "";
    let mut is_told = false;
    for line in answer.lines() {
        if let Some(attribute) = line.strip_prefix('\t') {
            let last = routes.last_mut().filter(|_| is_told);
            let (Some(route), Some((label, value))) = (last, attribute.split_once(':')) else { continue };
            match label {
                "BGP.as_path" => route.as_path = value.trim().to_owned(),
                // Of IPv6 the link's own address may follow.
                "BGP.next_hop" => {
                    route.next_hop = value.split_whitespace().next().unwrap_or_default().to_owned()
                }
                _ => {}
            }
            continue;
        }
        // `10.0.0.0/26  unicast [peer0 03:47:17.448] * (100) [AS1i]`; a further way to the same prefix begins blank.
        let Some((head, rest)) = line.split_once('[') else { continue };
        if !head.starts_with(' ') {
            prefix = head.split_whitespace().next().unwrap_or_default();
        }
        let protocol = rest.split([' ', ']']).next().unwrap_or_default();
        let peer = protocol.strip_prefix("peer").and_then(|n| peers.get(n.parse::<usize>().ok()?));
        is_told = peer.is_some();
        routes.extend(peer.map(|peer| Received {
            prefix: prefix.to_owned(),
            from: peer.addr.to_string(),
            next_hop: String::new(),
            as_path: String::new(),
        }));
    }
    routes
}
