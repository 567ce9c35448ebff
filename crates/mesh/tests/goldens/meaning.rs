//! What a configuration means, in the words of Calico's, for one family and cut as its files are.

use std::collections::BTreeMap;

/// `bird.cfg`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Main {
    /// The router id.
    pub router_id: String,
    /// Address and port to listen on, as far as they are told.
    pub listen: (Option<String>, Option<String>),
    /// `none`, `normal` or `debug`.
    pub logging: String,
    /// Interfaces whose prefixes are not looked at, before the fixed ones.
    pub ignored_interfaces: Vec<String>,
    /// Prefixes and what communities they get.
    pub communities: Vec<(String, Vec<String>)>,
    /// What the filters of BGPFilters do, by the names of their functions.
    pub filters: BTreeMap<String, Vec<Rule>>,
    /// What all sessions begin with; none without an address in the family.
    pub template: Option<Template>,
    /// By name; several of one name where several nodes have one address.
    pub sessions: Vec<Session>,
}

/// What all sessions begin with.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Template {
    /// Our AS.
    pub local_as: String,
    /// Connect delay, connect retry, the two error waits.
    pub timers: Vec<String>,
}

/// A rule of a BGPFilter: conditions, operations, verdict.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// All of them.
    pub conditions: Vec<String>,
    /// In order.
    pub operations: Vec<String>,
    /// `accept` or `reject`.
    pub verdict: String,
}

/// A session.
#[derive(Clone, Debug, Default, PartialEq, PartialOrd)]
pub struct Session {
    /// Of the protocol.
    pub name: String,
    /// The neighbour's address.
    pub neighbor: String,
    /// The neighbour's port; 179 where none is given.
    pub port: String,
    /// The neighbour's AS.
    pub remote_as: String,
    /// Our AS.
    pub local_as: String,
    /// Where it connects from.
    pub source: Option<String>,
    /// TTL security: the most hops.
    pub hops: Option<String>,
    /// Calls of filters before a route is taken.
    pub import: Vec<String>,
    /// Above which local preference a route must win, and what its preference is then.
    pub elevated: (String, String),
    /// Calls of filters before a route is given.
    pub export: Vec<String>,
    /// Whether it counts as internal.
    pub internal: bool,
    /// The metric of routes without one, which local preference stands for.
    pub normal_metric: String,
    /// Waits for the neighbour.
    pub passive: bool,
    /// Graceful restart time.
    pub restart_time: Option<String>,
    /// Keepalive time.
    pub keepalive: Option<String>,
    /// Reflects for this client, as this cluster.
    pub cluster_id: Option<String>,
    /// With its quotes.
    pub password: Option<String>,
    /// `keep` or `self`.
    pub next_hop: Option<String>,
    /// How often our own AS may come back.
    pub allow_local_as: Option<String>,
    /// Recursive gateways, several paths, graceful restart.
    pub switches: (bool, bool, bool),
}

/// `bird_aggr.cfg`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Aggr {
    /// Prefixes with a blackhole, sorted.
    pub blackholes: Vec<String>,
    /// Peers and their gateways, sorted.
    pub gateways: Vec<(String, String)>,
    /// Blocks that are announced whole, and beneath which metric what is inside is announced nevertheless; sorted.
    pub blocks: Vec<(String, String)>,
}

/// `bird_ipam.cfg`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ipam {
    /// Pools that are not announced, sorted.
    pub held_back: Vec<String>,
    /// Interfaces whose routes internal peers do not get.
    pub internal_interfaces: Vec<String>,
    /// Interfaces whose routes nobody gets.
    pub interfaces: Vec<String>,
    /// What is announced besides blocks: services and pools, sorted.
    pub announced: Vec<String>,
    /// What is never installed: ranges of services, sorted.
    pub rejected: Vec<String>,
    /// The metric of routes that come without one.
    pub normal_metric: String,
    /// Pools and who installs their routes, sorted.
    pub pools: Vec<(String, Form)>,
}

/// Who installs the routes of a pool.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Form {
    /// BIRD.
    Accept,
    /// The agent.
    Reject,
    /// Calico's fork of BIRD, through the IPIP device.
    Tunnel,
    /// The same, but plain where the next hop is in this prefix.
    CrossSubnet(String),
}
