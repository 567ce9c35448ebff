//! Why a prefix is announced to a peer and installed in the kernel, or not: in sentences, from the model and, where there
//! is one, from the daemon.
//!
//! ```text
//! World, blocks of all nodes ─▶ Origin: whose is the prefix ─▶ for each session: announced? because …
//! Live: what BIRD says       ─▶ overrules the model, which then says why ─▶ installed? because …
//! ```

use std::collections::BTreeMap;
use std::net::IpAddr;

use calico_net::{Cidr, Family};
use smol_str::SmolStr;

use crate::birdc::{Destination, PeerName, Route};
use crate::intent::{BgpIntent, PoolIntent, Programmer, Session};
use crate::plan::{OtherEnd, Plan, PlannedSession};
use crate::resolve::Local;
use crate::world::World;

/// What the daemon of the node says of the prefix.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Live {
    /// Its routes to exactly the prefix.
    pub routes: Vec<Route>,
    /// Its sessions.
    pub peers: BTreeMap<PeerName, LivePeer>,
    /// Whether it hands the prefix to the kernel.
    pub to_kernel: bool,
}

/// What the daemon says of a session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LivePeer {
    /// The session is up.
    pub established: bool,
    /// In its own words how it is.
    pub info: String,
    /// The prefix is told to the peer.
    pub exported: bool,
    /// The prefix came as far as the export filter.
    pub offered: bool,
}

/// Whose a prefix is, seen from a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A block of the node.
    OwnBlock,
    /// Part of a block of the node.
    InOwnBlock(Cidr),
    /// An address of a workload of the node, in nobody's or another's block.
    Borrowed,
    /// In a block of another node.
    OtherBlock {
        /// The block.
        block: Cidr,
        /// Whose it is.
        node: SmolStr,
    },
    /// In a pool, but in no block.
    Unclaimed,
    /// In no pool.
    Outside,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Why {
    /// Of which node.
    pub node: SmolStr,
    /// Of which prefix.
    pub prefix: Cidr,
    /// Whose it is.
    pub origin: Origin,
    /// That in a sentence, and what else there is to say of it.
    pub facts: Vec<String>,
    /// By session.
    pub peers: Vec<Verdict>,
    /// Whether it is in the node's kernel.
    pub installed: Verdict,
    /// Whether the daemon was asked; else everything is from the model.
    pub is_live: bool,
}

/// Yes or no, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Of what: a session, or the kernel.
    pub subject: String,
    /// The node at the other end, if it is one.
    pub node: Option<SmolStr>,
    /// The answer.
    pub yes: bool,
    /// A sentence.
    pub because: String,
}

/// The sum of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Announced to somebody, or installed.
    Used,
    /// Known, but neither.
    Unused,
    /// Neither pool nor route.
    Unknown,
}

impl Why {
    /// The sum of it.
    pub fn outcome(&self) -> Outcome {
        if self.installed.yes || self.peers.iter().any(|peer| peer.yes) {
            Outcome::Used
        } else if self.origin == Origin::Outside {
            Outcome::Unknown
        } else {
            Outcome::Unused
        }
    }
}

/// Explains a prefix at a node. `owners` are the blocks of all nodes.
pub fn explain(
    world: &World,
    node: &str,
    prefix: Cidr,
    owners: &BTreeMap<Cidr, SmolStr>,
    live: Option<&Live>,
) -> Why {
    let (intent, _) = world.resolve(&Local { node: SmolStr::new(node), ..Local::default() });
    let plan = Plan::of(world);
    let pool =
        intent.pools.iter().filter(|pool| pool.cidr.covers(&prefix)).max_by_key(|p| p.cidr.prefix_len());
    let pool_name = world
        .pools
        .iter()
        .find(|(_, facts)| pool.is_some_and(|pool| pool.cidr == facts.cidr))
        .map(|(name, _)| name.clone());
    let origin = origin(world, &intent, node, prefix, owners, pool);
    let model = Model { world, plan: &plan, node, prefix, origin: &origin, pool, pool_name };
    let mut facts = vec![model.origin()];
    facts.extend(model.pool());
    if let Some(live) = live {
        facts.extend(routes(live));
    }
    let sessions = intent.sessions.iter().filter(|session| session.family() == prefix.family());
    let peers = sessions.map(|session| model.peer(session, live)).collect();
    let installed = model.installed(live);
    Why { node: SmolStr::new(node), prefix, origin, facts, peers, installed, is_live: live.is_some() }
}

fn origin(
    world: &World,
    intent: &BgpIntent,
    node: &str,
    prefix: Cidr,
    owners: &BTreeMap<Cidr, SmolStr>,
    pool: Option<&PoolIntent>,
) -> Origin {
    if let Some(block) = world.blocks.iter().find(|block| block.covers(&prefix)) {
        return if *block == prefix { Origin::OwnBlock } else { Origin::InOwnBlock(*block) };
    }
    if intent.borrowed.contains(&prefix) {
        return Origin::Borrowed;
    }
    match owners.iter().find(|(block, owner)| block.covers(&prefix) && *owner != node) {
        Some((block, node)) => Origin::OtherBlock { block: *block, node: node.clone() },
        None if pool.is_some() => Origin::Unclaimed,
        None => Origin::Outside,
    }
}

/// What the daemon has.
fn routes(live: &Live) -> Vec<String> {
    if live.routes.is_empty() {
        return vec!["BIRD has no route to exactly this prefix.".to_owned()];
    }
    let sentence = |route: &Route| {
        let way = match (route.destination, route.next_hops.first()) {
            (Destination::Unicast, Some(hop)) => match (hop.gateway, &hop.interface) {
                (Some(gateway), Some(interface)) => format!("via {gateway} on {interface}"),
                (Some(gateway), None) => format!("via {gateway}"),
                (None, Some(interface)) => format!("on {interface}"),
                (None, None) => "to nowhere that it names".to_owned(),
            },
            (Destination::Unicast, None) => "to nowhere that it names".to_owned(),
            (Destination::Blackhole, _) => "as a blackhole".to_owned(),
            (Destination::Unreachable, _) => {
                "as unreachable: its next hop is not reachable from here".to_owned()
            }
            (Destination::Prohibited, _) => "as prohibited".to_owned(),
        };
        let chosen = if route.primary { "the one it has chosen" } else { "not chosen" };
        format!("BIRD has it from {} {way} since {}, {chosen}.", route.protocol, route.since)
    };
    live.routes.iter().map(sentence).collect()
}

/// What is known of the prefix without the daemon.
struct Model<'a> {
    world: &'a World,
    plan: &'a Plan,
    node: &'a str,
    prefix: Cidr,
    origin: &'a Origin,
    pool: Option<&'a PoolIntent>,
    pool_name: Option<SmolStr>,
}

impl Model<'_> {
    fn origin(&self) -> String {
        let Model { prefix, node, .. } = self;
        match self.origin {
            Origin::OwnBlock => format!("{prefix} is a block of {node}."),
            Origin::InOwnBlock(block) => format!("{prefix} is in {block}, a block of {node}."),
            Origin::Borrowed => {
                format!("{prefix} is the address of a workload of {node}, in none of {node}'s blocks.")
            }
            Origin::OtherBlock { block, node: owner } if *block == *prefix => {
                format!("{prefix} is a block of {owner}.")
            }
            Origin::OtherBlock { block, node: owner } => {
                format!("{prefix} is in {block}, a block of {owner}.")
            }
            Origin::Unclaimed => format!("No node has claimed a block that covers {prefix}."),
            Origin::Outside => format!("No IPPool covers {prefix}."),
        }
    }

    fn pool(&self) -> Option<String> {
        let (pool, name) = (self.pool?, self.pool_name.as_ref()?);
        let export = if pool.export { "announced" } else { "not announced: disableBGPExport is set" };
        let by = match pool.programmed_by {
            Programmer::Speaker => "BIRD installs its routes".to_owned(),
            Programmer::SpeakerTunnel(None) => "BIRD installs its routes, through tunl0".to_owned(),
            Programmer::SpeakerTunnel(Some(subnet)) => {
                format!("BIRD installs its routes, through tunl0 to nodes outside {subnet}")
            }
            Programmer::Agent => "the agent installs its routes, not BIRD".to_owned(),
        };
        Some(format!("Its IPPool {name} ({}) is {export}, and {by}.", pool.cidr))
    }

    fn peer(&self, session: &Session, live: Option<&Live>) -> Verdict {
        let planned = self.planned(session);
        let node = planned.and_then(|planned| planned.node.clone());
        let subject = match &node {
            Some(node) => format!("{node} ({})", session.name.addr),
            None => session.name.addr.to_string(),
        };
        let (yes, because) = self.announced(session, node.as_deref());
        let verdict = |yes, because| Verdict { subject, node, yes, because };
        let Some(live) = live else {
            return match planned.map(|planned| planned.other_end) {
                Some(OtherEnd::Missing | OtherEnd::OtherAs | OtherEnd::BothWait) if yes => {
                    verdict(false, "the session cannot come up; see calicoctl bgp plan".to_owned())
                }
                _ => verdict(yes, because),
            };
        };
        match live.peers.get(&session.name) {
            None => verdict(false, "BIRD does not have the session yet".to_owned()),
            Some(LivePeer { established: false, info, .. }) => {
                verdict(false, format!("the session is not established: {info}"))
            }
            Some(LivePeer { exported: true, .. }) if yes => verdict(true, because),
            Some(LivePeer { exported: true, .. }) => {
                verdict(true, "BIRD announces it, by a rule that is not of pools and blocks".to_owned())
            }
            Some(_) if live.routes.is_empty() && yes => {
                verdict(false, "BIRD has no route to it, though it is to have one".to_owned())
            }
            Some(LivePeer { offered: true, .. }) if yes => {
                verdict(false, "a filter of the session keeps it back".to_owned())
            }
            Some(_) if yes => verdict(false, "BIRD does not offer it to this peer".to_owned()),
            Some(_) => verdict(false, because),
        }
    }

    fn planned(&self, session: &Session) -> Option<&PlannedSession> {
        self.plan.nodes.get(self.node)?.sessions.iter().find(|planned| planned.name == session.name)
    }

    /// Whether the rules of pools, blocks and reflection announce it.
    fn announced(&self, session: &Session, to: Option<&str>) -> (bool, String) {
        if let (Some(pool), Some(name)) = (self.pool, &self.pool_name)
            && !pool.export
        {
            return (false, format!("disableBGPExport of IPPool {name} keeps it back"));
        }
        match self.origin {
            Origin::OwnBlock => (true, "a block is announced whole".to_owned()),
            Origin::InOwnBlock(block) => {
                (false, format!("the block {block} is announced whole, and nothing beneath it"))
            }
            Origin::Borrowed => (true, "no block of the node covers it, so it is announced alone".to_owned()),
            Origin::Unclaimed => (false, "nobody has claimed it, so nobody announces it".to_owned()),
            Origin::Outside => (false, "only prefixes of pools are announced".to_owned()),
            Origin::OtherBlock { block, .. } if *block != self.prefix => {
                (false, format!("what is known of it is the block {block}"))
            }
            Origin::OtherBlock { node: owner, .. } => self.passed_on(session, owner, to),
        }
    }

    /// Whether a route of another node goes on to a peer.
    fn passed_on(&self, session: &Session, owner: &str, to: Option<&str>) -> (bool, String) {
        if to == Some(owner) {
            return (false, format!("it is {owner}'s own"));
        }
        if !session.is_internal() {
            return (true, "a peer of another AS is told of all routes".to_owned());
        }
        let own = self.plan.nodes.get(self.node);
        let from = own.and_then(|own| {
            own.sessions.iter().find(|s| {
                s.node.as_deref() == Some(owner)
                    && s.family() == self.prefix.family()
                    && s.other_end == OtherEnd::Agrees
            })
        });
        match from {
            Some(from) if !from.is_internal() => (true, "it came from another AS".to_owned()),
            Some(from) if from.reflect_as.is_some() => {
                (true, format!("it came from a client, and this node is a route reflector ({owner} is its client)"))
            }
            _ if session.reflect_as.is_some() => {
                (true, "the peer is a client of this node, a route reflector".to_owned())
            }
            _ => (
                false,
                "what came from a peer of the own AS is told to peers of the own AS only by a route reflector".to_owned(),
            ),
        }
    }

    fn installed(&self, live: Option<&Live>) -> Verdict {
        let (yes, because) = self.programmed();
        let verdict = |yes, because| Verdict { subject: "kernel".to_owned(), node: None, yes, because };
        match (live, self.origin) {
            // The agent's own, of which BIRD knows nothing or only by the kernel.
            (None, _) | (_, Origin::OwnBlock | Origin::InOwnBlock(_) | Origin::Borrowed) => {
                verdict(yes, because)
            }
            (Some(live), _) if live.to_kernel => verdict(true, "BIRD installs it".to_owned()),
            (Some(live), _) if live.routes.is_empty() && yes && self.is_speakers() => {
                verdict(false, "BIRD has not learned it from any peer".to_owned())
            }
            (Some(_), _) if yes && self.is_speakers() => {
                verdict(false, "BIRD has a route to it that it does not install".to_owned())
            }
            (Some(_), _) => verdict(yes, because),
        }
    }

    fn is_speakers(&self) -> bool {
        self.pool.is_some_and(|pool| pool.programmed_by != Programmer::Agent)
    }

    /// Whether somebody is to install it.
    fn programmed(&self) -> (bool, String) {
        let workload =
            |addr: &Cidr| self.world.workloads.values().any(|workload| workload.addrs.contains(addr));
        match self.origin {
            Origin::OwnBlock => {
                (true, "the agent drops packets to addresses of the block that nobody has".to_owned())
            }
            Origin::Borrowed => (true, "the agent routes it to the workload".to_owned()),
            Origin::InOwnBlock(_) if workload(&self.prefix) => {
                (true, "the agent routes it to the workload".to_owned())
            }
            Origin::InOwnBlock(_) => (false, "no workload of the node has it".to_owned()),
            Origin::Unclaimed => (false, "nobody has claimed it".to_owned()),
            Origin::Outside => (false, "nothing is known of it".to_owned()),
            Origin::OtherBlock { block, .. } if *block != self.prefix => {
                (false, format!("the route is that of the block {block}"))
            }
            Origin::OtherBlock { node: owner, .. } => match self.pool.map(|pool| pool.programmed_by) {
                None => (false, "no IPPool covers it any more".to_owned()),
                Some(Programmer::Agent) => (true, "the agent installs routes of the pool".to_owned()),
                Some(Programmer::Speaker) => (true, "BIRD installs routes of the pool".to_owned()),
                Some(Programmer::SpeakerTunnel(None)) => {
                    (true, "BIRD installs routes of the pool, through tunl0".to_owned())
                }
                Some(Programmer::SpeakerTunnel(Some(subnet))) => {
                    let is_near = self.owner_addr(owner).is_some_and(|addr| subnet.contains(addr));
                    let text = if is_near {
                        format!("BIRD installs it: {owner} is in {subnet}")
                    } else {
                        format!("BIRD installs it, through tunl0: {owner} is not in {subnet}")
                    };
                    (true, text)
                }
            },
        }
    }

    fn owner_addr(&self, owner: &str) -> Option<IpAddr> {
        let family: Family = self.prefix.family();
        self.world.nodes.get(owner)?.addr(family)
    }
}

#[cfg(test)]
mod tests;
