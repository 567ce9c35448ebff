//! [`BgpIntent`] → configuration of BIRD 2 (tried on 2.0.12): one daemon for both families.
//!
//! What differs from the BIRD 1.6 that Calico ships, and why this text looks as it does:
//!
//! * One `kernel` protocol and one channel per family, so every filter exists once per family (`…_v4`, `…_v6`).
//! * A session's local address, port and AS are one `local` statement; `listen bgp` is gone, and `strict bind` must
//!   be in all sessions or in none, because a bound and an unbound socket on one port exclude each other.
//! * There is no `krt_tunnel`. Where routes through IPIP are the daemon's, the filter of the kernel's channel sets `ifname`,
//!   `onlink` and `gw`, in this order: a next hop that is not `onlink` would be looked for among neighbours. A filter that
//!   names an interface that is not there rejects the route and does not look again when it appears, so such a filter is
//!   rendered only while the device is there.
//! * The agent installs the blackholes of blocks itself (protocol 80), so the static ones here are announced and never
//!   installed, and the agent's are not learned: with `add paths on` each would be announced a second time. Those of
//!   services are announced and never installed either: kube-proxy answers for them.
//! * The kernel protocol would install its own interfaces' prefixes again ("File exists"), so only BGP's and the
//!   gateways' routes are let out.

use std::fmt::Write as _;

use calico_net::{Cidr, Family};

use crate::birdc::PeerName;
use crate::filter::Direction;
use crate::intent::{BGP_PORT, BgpIntent, Community, Gateway, Listen, LogLevel, NextHopMode, Session};

mod filters;
mod functions;

/// How long the daemon, started with `-R` amid routes of its former life, waits for its peers before it removes those
/// that nobody announced again, in seconds. Until then it installs no new route either, so a peer that stays away
/// holds the others up. Peers that live are back after the connect delay of 2 s, or the connect retry of 5 s, and their
/// routes are here at once.
///
/// BIRD 2.0.12 lets nobody end the wait for a single peer: a protocol that never had its session up still counts after it
/// was restarted, disabled or taken out of the configuration.
const RECOVERY_WAIT_SECS: usize = 10;

/// For each so many sessions, a second more: all of them come up at the same time.
const SESSIONS_PER_RECOVERY_SEC: usize = 50;

/// The most seconds.
const MAX_RECOVERY_WAIT_SECS: usize = 60;

/// How long a neighbour keeps our routes while we are away, unless it is told (the daemon's own default).
const RESTART_TIME_SECS: u32 = 120;

/// At what size the log is turned over, in bytes; one old one is kept.
const LOG_LIMIT_BYTES: u32 = 10 << 20;

/// Renders the whole configuration. `log_file` is where the daemon logs: a path without quotes or newlines. (Not a
/// pipe to the agent: the daemon outlives it.)
pub fn render(intent: &BgpIntent, log_file: &str) -> String {
    let BgpIntent {
        router_id,
        log_level,
        listen,
        ignored_interfaces,
        sessions,
        filters: _,
        secrets: _,
        blocks: _,
        borrowed: _,
        gateways,
        pools: _,
        services: _,
        advertisements: _,
        normal_priority: _,
    } = intent;
    let mut text = String::with_capacity(4096 + 400 * sessions.len());
    text.push_str("# Written by calico from the datastore; whatever is changed here is overwritten.\n");
    line(&mut text, format_args!("log \"{log_file}\" {LOG_LIMIT_BYTES} \"{log_file}.1\" all;"));
    line(&mut text, format_args!("router id {router_id};"));
    let wait = RECOVERY_WAIT_SECS + sessions.len() / SESSIONS_PER_RECOVERY_SEC;
    line(&mut text, format_args!("graceful restart wait {};", wait.min(MAX_RECOVERY_WAIT_SECS)));
    text.push_str("timeformat protocol iso short;\n");

    let ignored: String = ignored_interfaces.iter().map(|name| format!("-\"{name}\", ")).collect();
    let states = match log_level {
        LogLevel::Silent => "",
        LogLevel::Normal => " debug { states };",
        LogLevel::Debug => " debug all;",
    };
    line(&mut text, format_args!("\nprotocol device {{ scan time 2;{states} }}"));
    line(
        &mut text,
        format_args!(
            "protocol direct {{ ipv4; ipv6;{states} interface {ignored}-\"cali*\", -\"kube-ipvs*\", \"*\"; }}"
        ),
    );
    for family in Family::ALL {
        filters::render_family(&mut text, intent, family);
        functions::render_functions(&mut text, intent, family);
        render_static(&mut text, intent, family, gateways);
        render_kernel(&mut text, family);
    }
    render_template(&mut text, *log_level);
    render_bfd(&mut text, sessions);
    for session in sessions {
        render_session(&mut text, intent, session, *listen);
    }
    text
}

/// Appends one line.
fn line(text: &mut String, args: std::fmt::Arguments<'_>) {
    text.write_fmt(args).expect("writing to a String cannot fail");
    text.push('\n');
}

/// `v4` or `v6`: how names of a family end.
fn suffix(family: Family) -> &'static str {
    match family {
        Family::V4 => "v4",
        Family::V6 => "v6",
    }
}

/// `ipv4` or `ipv6`: how the channel of a family is called.
fn channel(family: Family) -> &'static str {
    match family {
        Family::V4 => "ipv4",
        Family::V6 => "ipv6",
    }
}

fn render_static(text: &mut String, intent: &BgpIntent, family: Family, gateways: &[Gateway]) {
    line(text, format_args!("protocol static calico_blocks_{} {{ {};", suffix(family), channel(family)));
    // A block of one address is its own workload route.
    for block in intent.blocks_of(family).filter(|block| !block.is_host()) {
        line(text, format_args!("  route {block} blackhole;"));
    }
    text.push_str("}\n");
    render_services(text, intent, family);
    let mut gateways = gateways.iter().filter(|g| Family::of(g.peer) == family).peekable();
    if gateways.peek().is_some() {
        line(
            text,
            format_args!("protocol static calico_gateways_{} {{ {};", suffix(family), channel(family)),
        );
        for Gateway { peer, via } in gateways {
            line(text, format_args!("  route {peer}/{} via {via};", family.bits()));
        }
        text.push_str("}\n");
    }
}

/// Routes to services lead nowhere: kube-proxy takes what comes for them before anybody looks for a route.
fn render_services(text: &mut String, intent: &BgpIntent, family: Family) {
    // Two of one prefix would both be announced.
    let is_block = |route: &Cidr| !route.is_host() && intent.blocks.binary_search(route).is_ok();
    let routes = intent.services.routes.iter().filter(|r| r.family() == family && !is_block(r));
    let mut routes = routes.peekable();
    if routes.peek().is_some() {
        line(
            text,
            format_args!("protocol static calico_services_{} {{ {};", suffix(family), channel(family)),
        );
        for route in routes {
            line(text, format_args!("  route {route} blackhole;"));
        }
        text.push_str("}\n");
    }
}

fn render_kernel(text: &mut String, family: Family) {
    let (suffix, channel) = (suffix(family), channel(family));
    line(
        text,
        format_args!(
            "protocol kernel calico_kernel_{suffix} {{
  learn; persist; scan time 2; merge paths on;
  # 0 lets the filter choose the metric of each route.
  metric 0;
  # Without it a daemon that was killed removes its routes as soon as it is back.
  graceful restart;
  {channel} {{ import filter calico_learn_{suffix}; export filter calico_program_{suffix}; }};
}}"
        ),
    );
}

fn render_template(text: &mut String, log_level: LogLevel) {
    // Calico also traces routes and filters at Info: a line for each route and peer.
    let debug = match log_level {
        LogLevel::Silent => "",
        LogLevel::Normal => "  debug { states, events };\n",
        LogLevel::Debug => "  debug all;\n",
    };
    line(
        text,
        format_args!(
            "\ntemplate bgp calico_peer {{
{debug}  graceful restart on;
  connect delay time 2;
  connect retry time 5;
  error wait time 5, 30;
}}"
        ),
    );
}

/// One for all sessions that ask for it. Its intervals find a dead way in a second and cost three packets a second.
fn render_bfd(text: &mut String, sessions: &[Session]) {
    if sessions.iter().any(|session| session.bfd) {
        text.push_str(
            "protocol bfd calico_bfd {
  multihop { min rx interval 300 ms; min tx interval 300 ms; idle tx interval 1 s; multiplier 3; };
}\n",
        );
    }
}

fn render_session(text: &mut String, intent: &BgpIntent, session: &Session, listen: Listen) {
    let Session {
        name,
        port,
        remote_as,
        local_as,
        own_addr,
        from_own_addr,
        passive,
        ttl_security_hops,
        reflect_as,
        restart_time_secs,
        keepalive_secs,
        next_hop,
        allow_local_as,
        filters: _,
        password,
        bfd,
        long_lived,
    } = session;
    let PeerName { addr, .. } = name;
    let Listen { port: listen_port, node_ip_only } = listen;
    line(text, format_args!("protocol bgp {name} from calico_peer {{"));
    let listen_port = listen_port.unwrap_or(BGP_PORT);
    // Listening on the node's address alone is connecting from it alone: BIRD 2 has one setting for both. BFD over more
    // than one hop needs to know it too.
    if *from_own_addr || node_ip_only || *bfd {
        line(text, format_args!("  local {own_addr} port {listen_port} as {local_as};"));
    } else {
        line(text, format_args!("  local port {listen_port} as {local_as};"));
    }
    let port = port.unwrap_or(BGP_PORT);
    let port = if *passive { other_port(port) } else { port };
    line(text, format_args!("  neighbor {addr} port {port} as {remote_as};"));
    if node_ip_only {
        text.push_str("  strict bind;\n");
    }
    match ttl_security_hops {
        Some(hops) => line(text, format_args!("  multihop {hops}; ttl security on;")),
        None => text.push_str("  multihop; ttl security off;\n"),
    }
    if *passive {
        text.push_str("  passive;\n");
    }
    if *long_lived {
        // The long-lived phase follows the restart time, and only in it a further restart does no harm.
        let secs = restart_time_secs.unwrap_or(RESTART_TIME_SECS);
        line(
            text,
            format_args!(
                "  graceful restart time 0; long lived graceful restart on; long lived stale time {secs};"
            ),
        );
    } else if let Some(secs) = restart_time_secs {
        line(text, format_args!("  graceful restart time {secs};"));
    }
    if let Some(secs) = keepalive_secs {
        line(text, format_args!("  keepalive time {secs};"));
    }
    if let Some(cluster_id) = reflect_as {
        line(text, format_args!("  rr client; rr cluster id {cluster_id};"));
    }
    if let Some(password) = password {
        line(text, format_args!("  password \"{}\";", password.reveal()));
    }
    if *bfd {
        text.push_str("  bfd on;\n");
    }
    if let Some(times) = allow_local_as {
        line(text, format_args!("  allow local as {times};"));
    }
    let suffix = suffix(session.family());
    let side = if session.is_internal() { "internal" } else { "external" };
    let next_hop = match next_hop {
        NextHopMode::Auto => "",
        NextHopMode::Own => " next hop self;",
        NextHopMode::Keep => " next hop keep;",
    };
    // Filters by name where a session has none of its own: with a thousand sessions the text is much shorter.
    let import = match functions::calls(intent, session, Direction::Import) {
        calls if calls.is_empty() => format!("calico_import_{suffix}"),
        calls => format!("{{{calls} calico_accept_{suffix}(); }}"),
    };
    let export = match functions::calls(intent, session, Direction::Export) {
        calls if calls.is_empty() => format!("calico_export_{side}_{suffix}"),
        calls => {
            let internal = session.is_internal();
            format!("{{ calico_metric_{suffix}();{calls} calico_export_{suffix}({internal}); }}")
        }
    };
    line(
        text,
        format_args!(
            "  {} {{
    gateway recursive; add paths on;{next_hop}
    import filter {import};
    export filter {export};
  }};
}}",
            channel(session.family())
        ),
    );
}

/// Some other port than this one. The daemon locks the pair of neighbour and port for each session, so of two sessions
/// with one neighbour the second would wait for the first one's end. A session that waits for the neighbour's call uses
/// no port of it: naming another leaves the right one to the session that calls.
fn other_port(port: u16) -> u16 {
    // Never the same: the sum is odd.
    (u16::MAX - port).max(1)
}

/// The statement that adds a community.
fn add_community(added: &Community) -> String {
    let list = if added.is_large() { "bgp_large_community" } else { "bgp_community" };
    format!("{list}.add({});", community(added))
}

/// A community as a value.
fn community(community: &Community) -> String {
    match community {
        Community::Standard(a, n) => format!("({a}, {n})"),
        Community::Large(a, n, m) => format!("({a}, {n}, {m})"),
    }
}

#[cfg(test)]
mod tests;
