//! Kinds of BGP: configuration, peers, filters, and what a node reports of them.

use super::Group;
use super::schema::{
    Schema, atomic_list, boolean, cidr, given, int32, integer, moment, object, port, selector, set, text,
    word,
};

/// A whole number of 16 or 32 bits in decimal, as a regular expression.
const BITS16: &str =
    "(6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[1-5][0-9]{4}|[1-9][0-9]{0,3}|0)";
const BITS32: &str = "(429496729[0-5]|42949672[0-8][0-9]|4294967[01][0-9]{2}|429496[0-6][0-9]{3}|42949[0-5][0-9]{4}\
                      |4294[0-8][0-9]{5}|429[0-3][0-9]{6}|42[0-8][0-9]{7}|4[01][0-9]{8}|[1-3][0-9]{9}|[1-9][0-9]{0,8}|0)";

/// Highest priority of a route, so that BIRD's local preference stays above 0.
const MOST_PRIORITY: i64 = 2_147_483_646;

fn secret() -> Schema {
    let key = object([
        ("name", text().default(""), "Name of the Secret."),
        ("key", text(), "Key in the Secret."),
        ("optional", boolean(), "Whether the Secret may be missing."),
    ])
    .required(&["key"])
    .atomic();
    object([("secretKeyRef", key, "Key of a Secret in the namespace of the agents.")])
}

fn blocks() -> Schema {
    atomic_list(object([("cidr", cidr(), "Range to advertise.")]).atomic())
}

/// A community, `a:b` or `a:b:c`.
fn community() -> Schema {
    text().longest(32).pattern(&format!("^({BITS16}:{BITS16}|{BITS32}:{BITS32}:{BITS32})$"))
}

pub fn configuration(_: Group) -> Schema {
    let communities = object([
        ("name", text().longest(253), "Name that prefixAdvertisements use."),
        (
            "value",
            text().longest(40).pattern(r"^\d+:\d+(:\d+)?$"),
            "`a:b`, or `a:b:c` for a large community.",
        ),
    ])
    .atomic();
    let advertisements = object([
        ("cidr", cidr(), "Routes inside it carry the communities."),
        ("communities", atomic_list(text()).at_most(50), "Names of communities, or values."),
    ])
    .atomic();
    object([
        (
            "logSeverityScreen",
            text().pattern("^(?i)(trace|debug|info|warning|error|fatal)?$").default("Info"),
            "Least severity that BIRD logs.",
        ),
        (
            "nodeToNodeMeshEnabled",
            boolean(),
            "Every node peers with every other; true if not given. Only in `default`.",
        ),
        ("asNumber", int32(), "AS number of nodes without their own; 64512 if not given. Only in `default`."),
        ("serviceClusterIPs", blocks(), "Ranges of cluster IPs that nodes advertise."),
        (
            "serviceExternalIPs",
            blocks(),
            "Ranges of external IPs that nodes advertise where a service uses them.",
        ),
        ("serviceLoadBalancerIPs", blocks(), "Ranges of load balancer IPs that nodes advertise."),
        (
            "serviceLoadBalancerAggregation",
            word(&["Enabled", "Disabled"]).default("Enabled"),
            "Advertise the load balancer ranges whole, or single addresses.",
        ),
        ("communities", atomic_list(communities).at_most(500), "Communities by name."),
        (
            "prefixAdvertisements",
            atomic_list(advertisements).at_most(500),
            "Which routes carry which communities.",
        ),
        ("listenPort", port(), "Port on which BIRD listens; 179 if not given."),
        ("nodeMeshPassword", secret(), "Password of the sessions between nodes."),
        (
            "nodeMeshMaxRestartTime",
            text(),
            "How long peers of the mesh keep the routes of a node that restarts.",
        ),
        ("bindMode", word(&["None", "NodeIP"]), "Listen on every address, or on the node's only."),
        (
            "ignoredInterfaces",
            set(text()),
            "Interfaces whose networks are not read; `*` stands for any ending.",
        ),
        ("localWorkloadPeeringIPV4", text(), "IPv4 address with which workloads of the node peer."),
        ("localWorkloadPeeringIPV6", text(), "IPv6 address with which workloads of the node peer."),
        (
            "programClusterRoutes",
            word(&["Enabled", "Disabled", "EnabledIPIPOnly", "EnabledNoEncapOnly"]),
            "Which routes between nodes BIRD programs; the agent programs the others.",
        ),
        (
            "ipv4NormalRoutePriority",
            integer().within(1, MOST_PRIORITY),
            "Metric of IPv4 routes; 1024 if not given.",
        ),
        (
            "ipv6NormalRoutePriority",
            integer().within(1, MOST_PRIORITY),
            "Metric of IPv6 routes; 1024 if not given.",
        ),
    ])
    .rule(
        "!has(self.nodeMeshPassword) || !has(self.nodeToNodeMeshEnabled) || self.nodeToNodeMeshEnabled",
        "nodeMeshPassword is for the mesh, and nodeToNodeMeshEnabled is false",
    )
    .rule(
        "!has(self.nodeMeshMaxRestartTime) || !has(self.nodeToNodeMeshEnabled) || self.nodeToNodeMeshEnabled",
        "nodeMeshMaxRestartTime is for the mesh, and nodeToNodeMeshEnabled is false",
    )
    .rule(
        format!("!{} || {}", given("communities"), given("prefixAdvertisements")),
        "communities without prefixAdvertisements are of no use: say which routes carry them",
    )
}

pub fn peer(_: Group) -> Schema {
    object([
        (
            "node",
            text().longest(253),
            "Node that has this peering; without this and nodeSelector, every node.",
        ),
        ("nodeSelector", selector(), "Nodes that have this peering."),
        (
            "peerIP",
            text().longest(64),
            "Address of the peer, with a port or without: `192.0.2.1`, `[2001:db8::1]:179`.",
        ),
        ("peerSelector", selector(), "Nodes that are the peers."),
        ("localWorkloadSelector", selector(), "Workloads of the same node that are the peers."),
        ("asNumber", int32(), "AS number of the peer."),
        ("localASNumber", int32(), "AS number that the node uses in this session instead of its own."),
        ("keepOriginalNextHop", boolean(), "Old spelling of nextHopMode Keep."),
        ("nextHopMode", word(&["Auto", "Self", "Keep"]), "Next hop of routes that are sent to the peer."),
        ("password", secret(), "Password of the session."),
        (
            "sourceAddress",
            word(&["UseNodeIP", "None"]),
            "Connect from the node's address, or from what the kernel chooses.",
        ),
        ("maxRestartTime", text(), "How long routes of the peer stay while it restarts."),
        ("keepaliveTime", text(), "Time between keepalive messages."),
        ("numAllowedLocalASNumbers", int32(), "How often the node's own AS number may stand in a path."),
        ("ttlSecurity", integer(), "Hops to the peer, for the check of packets' TTL."),
        ("reachableBy", text().longest(64), "Gateway through which the peer is reached."),
        ("filters", atomic_list(text()), "Names of BGPFilters, in their order."),
        (
            "reversePeering",
            word(&["Auto", "Manual"]),
            "Whether selected peers get the session from their side too.",
        ),
    ])
    .not_both("node", "nodeSelector")
    .not_both("peerIP", "peerSelector")
    .rule(
        format!("!{} || !has(self.asNumber) || self.asNumber == 0", given("peerSelector")),
        "asNumber: with peerSelector every peer has the number of its node",
    )
    .not_both("localWorkloadSelector", "peerIP")
    .not_both("localWorkloadSelector", "peerSelector")
    .rule(
        format!("!{} || (has(self.asNumber) && self.asNumber != 0)", given("localWorkloadSelector")),
        "localWorkloadSelector needs asNumber",
    )
    .needs("reachableBy", "peerIP")
    .rule(
        "!has(self.nextHopMode) || !has(self.keepOriginalNextHop) || !self.keepOriginalNextHop",
        "keepOriginalNextHop is the old spelling of nextHopMode Keep: give nextHopMode only",
    )
}

fn filter_rules(longest: u32, bits: i64) -> Schema {
    let lengths = object([
        ("min", int32().within(0, bits), "Shortest prefix."),
        ("max", int32().within(0, bits), "Longest prefix."),
    ])
    .atomic();
    let operation = object([
        (
            "addCommunity",
            object([("value", community(), "Community to add.")]).required(&["value"]).atomic(),
            "Adds a community.",
        ),
        (
            "prependASPath",
            object([("prefix", atomic_list(int32()).at_least(1).at_most(10), "AS numbers, nearest first.")])
                .required(&["prefix"])
                .atomic(),
            "Puts AS numbers in front of the path.",
        ),
        (
            "setPriority",
            object([("value", integer().within(1, MOST_PRIORITY), "Metric of the route.")])
                .required(&["value"])
                .atomic(),
            "Sets the route's metric.",
        ),
    ])
    .just_one()
    .atomic();
    let rule = object([
        ("cidr", cidr().longest(longest), "Prefix to compare with, by matchOperator."),
        (
            "matchOperator",
            word(&["Equal", "NotEqual", "In", "NotIn"]),
            "How the route's prefix compares with cidr.",
        ),
        ("prefixLength", lengths, "Lengths of prefixes that match."),
        ("source", word(&["RemotePeers"]), "Where the route was learned."),
        ("interface", text().longest(15), "Interface of the route; `*` stands for any ending."),
        ("peerType", word(&["eBGP", "iBGP"]), "Kind of session."),
        (
            "communities",
            object([("values", atomic_list(community()).at_least(1).at_most(1), "The community.")])
                .required(&["values"])
                .atomic(),
            "Community that the route carries.",
        ),
        ("asPathPrefix", atomic_list(int32()), "AS numbers with which the path begins."),
        ("priority", integer().within(1, MOST_PRIORITY), "Metric of the route."),
        ("action", word(&["Accept", "Reject"]), "What becomes of a route that matches."),
        (
            "operations",
            atomic_list(operation).at_least(1).at_most(10),
            "Changes to a route that is accepted.",
        ),
    ])
    .required(&["action"])
    .atomic()
    .rule(
        format!("{} == {}", given("cidr"), given("matchOperator")),
        "cidr and matchOperator belong together: give both or neither",
    )
    .rule(format!("!has(self.prefixLength) || {}", given("cidr")), "prefixLength needs cidr")
    .rule(format!("!{} || self.action == 'Accept'", given("operations")), "operations need action Accept");
    atomic_list(rule)
}

pub fn filter(_: Group) -> Schema {
    object([
        (
            "exportV4",
            filter_rules(18, 32),
            "Rules for IPv4 routes that are sent; the first that matches counts.",
        ),
        ("importV4", filter_rules(18, 32), "Rules for IPv4 routes that are received."),
        ("exportV6", filter_rules(43, 128), "Rules for IPv6 routes that are sent."),
        ("importV6", filter_rules(43, 128), "Rules for IPv6 routes that are received."),
    ])
}

pub fn node_status(_: Group) -> Schema {
    object([
        ("node", text(), "Node that reports."),
        ("classes", set(word(&["Agent", "BGP", "Routes"])), "What it reports."),
        ("updatePeriodSeconds", int32(), "Seconds between reports; 0 for none."),
    ])
}

pub fn node_status_report(_: Group) -> Schema {
    let daemon = || {
        object([
            ("state", word(&["Ready", "NotReady"]), "Whether it answers and has converged."),
            ("version", text(), "Its version."),
            ("routerID", text(), "Its router ID."),
            ("lastBootTime", text(), "When it started."),
            ("lastReconfigurationTime", text(), "When it took its last configuration."),
        ])
    };
    let peers = || {
        let states = ["Idle", "Connect", "Active", "OpenSent", "OpenConfirm", "Established", "Close"];
        atomic_list(object([
            ("peerIP", text(), "Address of the peer."),
            ("type", word(&["NodeMesh", "NodePeer", "GlobalPeer"]), "Why the session exists."),
            ("state", word(&states), "State of the session."),
            ("since", text(), "Since when."),
        ]))
    };
    let routes = || {
        let learned = object([
            ("sourceType", word(&["Kernel", "Static", "Direct", "NodeMesh", "BGPPeer"]), "Kind of source."),
            ("peerIP", text(), "Peer that sent it."),
        ]);
        atomic_list(object([
            ("type", word(&["FIB", "RIB"]), "In the kernel, or known to BIRD only."),
            ("destination", text(), "Prefix."),
            ("gateway", text(), "Next hop."),
            ("interface", text(), "Interface."),
            ("learnedFrom", learned, "Where it comes from."),
        ]))
    };
    let bgp = object([
        ("numberEstablishedV4", integer(), "IPv4 sessions that are up."),
        ("numberNotEstablishedV4", integer(), "IPv4 sessions that are not."),
        ("numberEstablishedV6", integer(), "IPv6 sessions that are up."),
        ("numberNotEstablishedV6", integer(), "IPv6 sessions that are not."),
        ("peersV4", peers(), "IPv4 sessions."),
        ("peersV6", peers(), "IPv6 sessions."),
    ])
    .required(&[
        "numberEstablishedV4",
        "numberEstablishedV6",
        "numberNotEstablishedV4",
        "numberNotEstablishedV6",
    ]);
    object([
        ("lastUpdated", moment().nullable(), "When this was written."),
        (
            "agent",
            object([("birdV4", daemon(), "BIRD for IPv4."), ("birdV6", daemon(), "BIRD for IPv6.")]),
            "Daemons.",
        ),
        ("bgp", bgp, "Sessions."),
        ("routes", object([("routesV4", routes(), "IPv4."), ("routesV6", routes(), "IPv6.")]), "Routes."),
    ])
}
