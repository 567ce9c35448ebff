//! `show route`: the daemon's routes, each way to a prefix on its own.

use std::net::IpAddr;

use calico_net::Cidr;

use super::{Line, Reply, code};

/// Where a route leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// To its next hops.
    Unicast,
    /// Dropped in silence.
    Blackhole,
    /// Refused.
    Unreachable,
    /// Refused by policy.
    Prohibited,
}

/// One way out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NextHop {
    /// The gateway; none for a device route.
    pub gateway: Option<IpAddr>,
    /// The interface, where the daemon names it.
    pub interface: Option<String>,
}

/// One route of one protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The table, such as `master4`; empty if the daemon did not say.
    pub table: String,
    /// What it leads to.
    pub prefix: Cidr,
    /// Where it leads.
    pub destination: Destination,
    /// The protocol that it came from.
    pub protocol: String,
    /// Since when, in the daemon's format.
    pub since: String,
    /// It is the one that the daemon chose for the prefix.
    pub primary: bool,
    /// The ways out, for a unicast route.
    pub next_hops: Vec<NextHop>,
}

/// Reads the answer to `show route`, in the daemon's order. Lines that are no route are passed over.
pub fn parse_routes(reply: &Reply) -> Vec<Route> {
    let mut routes: Vec<Route> = Vec::new();
    let mut table = String::new();
    let mut prefix: Option<Cidr> = None;
    for Line { code, text } in &reply.lines {
        if *code != code::ROUTE {
            continue;
        }
        if let Some(name) = text.strip_prefix("Table ") {
            table = name.trim_end().trim_end_matches(':').to_owned();
            prefix = None;
        } else if text.starts_with('\t') {
            if let (Some(route), Some(hop)) = (routes.last_mut(), parse_next_hop(text)) {
                route.next_hops.push(hop);
            }
        } else if let Some(route) = parse_route(text, &table, &mut prefix) {
            routes.push(route);
        }
    }
    routes
}

/// `10.0.0.0/26  unicast [Mesh_10_0_0_2 03:47:17.448] * (100) [i]`; a further route to the same prefix begins blank.
fn parse_route(text: &str, table: &str, prefix: &mut Option<Cidr>) -> Option<Route> {
    let (head, rest) = text.split_once('[')?;
    let (origin, flags) = rest.split_once(']')?;
    let mut head: Vec<&str> = head.split_whitespace().collect();
    let destination = match head.pop()? {
        "unicast" => Destination::Unicast,
        "blackhole" => Destination::Blackhole,
        "unreachable" => Destination::Unreachable,
        "prohibited" => Destination::Prohibited,
        _ => return None,
    };
    if let Some(text) = head.pop() {
        *prefix = text.parse().ok();
    }
    let (protocol, since) = origin.split_once(' ').unwrap_or((origin, ""));
    Some(Route {
        table: table.to_owned(),
        prefix: (*prefix)?,
        destination,
        protocol: protocol.to_owned(),
        since: since.trim().split(" from ").next().unwrap_or_default().to_owned(),
        primary: flags.split_whitespace().next() == Some("*"),
        next_hops: Vec::new(),
    })
}

/// `via 10.9.0.2 on va`, or `dev cali1`.
fn parse_next_hop(text: &str) -> Option<NextHop> {
    let mut words = text.split_whitespace();
    let mut hop = NextHop::default();
    while let Some(word) = words.next() {
        match word {
            "via" => hop.gateway = words.next()?.parse().ok(),
            "on" | "dev" => hop.interface = Some(words.next()?.to_owned()),
            _ => {}
        }
    }
    (hop != NextHop::default()).then_some(hop)
}
