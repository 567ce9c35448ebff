//! World → [`BgpIntent`] of one node.

use calico_api::{Kind, ResourceKey};
use smol_str::SmolStr;

use crate::intent::{BgpIntent, Listen, NormalPriority, PoolIntent, Programmer};
use crate::problem::Problem;
use crate::router_id::select_router_id;
use crate::services::EXCLUDED_LABEL;
use crate::sessions::{Sessions, resolve_sessions};
use crate::world::{Encapsulation, NodeFacts, PoolFacts, Programs, World};

/// Who asks: what of the environment bears on BGP.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Local {
    /// This node's name.
    pub node: SmolStr,
    /// `CALICO_ROUTER_ID`; empty if unset.
    pub router_id: String,
    /// The agent leaves routes through IPIP to the speaker (FelixConfiguration's `programClusterRoutes`).
    pub ipip_is_speakers: bool,
    /// The IPIP device is there: before that the speaker cannot name it.
    pub has_ipip_device: bool,
}

impl World {
    /// What the speaker of a node must do, and what had to be left out of it.
    ///
    /// A node that has no address yet gets an intent without sessions.
    pub fn resolve(&self, local: &Local) -> (BgpIntent, Vec<Problem>) {
        let Local { node: name, router_id, ipip_is_speakers: _, has_ipip_device } = local;
        let nobody = NodeFacts::default();
        let own = self.nodes.get(name).unwrap_or(&nobody);
        let Sessions { sessions, gateways, secrets, mut problems } = resolve_sessions(self, name, own);

        let (router_id, complaint) = select_router_id(router_id, name, own.v4.map(|(addr, _)| addr));
        problems.extend(complaint.map(|text| problem(Kind::Node, name, format!("{text}; it is ignored"))));

        let cluster = self.cluster_config();
        let node_config = self.node_config(name);
        let programs = cluster.programs.unwrap_or_default();
        let programs = Programs { ipip: programs.ipip && *has_ipip_device, ..programs };
        let mut pools: Vec<PoolIntent> = self.pools.values().map(|p| pool(p, programs, own)).collect();
        pools.sort_unstable();
        problems.extend(self.unrouted(local));
        let advertisements = node_config
            .and_then(|c| c.advertisements.clone())
            .or_else(|| cluster.advertisements.clone())
            .unwrap_or_default();
        let (ignored_interfaces, unusable): (Vec<_>, Vec<_>) =
            cluster.ignored_interfaces.iter().cloned().partition(|pattern| is_interface_pattern(pattern));
        problems.extend(unusable.iter().map(|pattern| {
            let text = format!("ignoredInterfaces: {pattern:?} cannot name an interface; it is ignored");
            problem(Kind::BGPConfiguration, "default", text)
        }));
        let is_excluded = own.labels.get(EXCLUDED_LABEL).is_some_and(|value| value == "true");
        let defaults = NormalPriority::default();
        let intent = BgpIntent {
            router_id,
            log_level: node_config.and_then(|c| c.log_level).or(cluster.log_level).unwrap_or_default(),
            listen: Listen { port: self.listen_port(name), node_ip_only: cluster.node_ip_only },
            ignored_interfaces,
            sessions,
            filters: self.filters.clone(),
            secrets: secrets.into_iter().collect(),
            blocks: self.blocks.iter().copied().collect(),
            borrowed: self.borrowed(),
            gateways,
            pools,
            services: self.services.announce(is_excluded, own.cluster_id.is_some()),
            advertisements,
            normal_priority: NormalPriority {
                v4: cluster.normal_priority_v4.unwrap_or(defaults.v4),
                v6: cluster.normal_priority_v6.unwrap_or(defaults.v6),
            },
        };
        (intent, problems)
    }
}

pub(crate) fn problem(kind: Kind, name: &str, text: String) -> Problem {
    Problem { resource: ResourceKey { kind, namespace: SmolStr::default(), name: SmolStr::new(name) }, text }
}

/// The characters of interface names, and `*`: it must be safe inside quotes in the speaker's configuration.
fn is_interface_pattern(text: &str) -> bool {
    let legal = |b: u8| b.is_ascii_graphic() && !matches!(b, b'"' | b'\\' | b'/');
    !text.is_empty() && text.bytes().all(legal)
}

fn pool(facts: &PoolFacts, programs: Programs, own: &NodeFacts) -> PoolIntent {
    let PoolFacts { cidr, disable_bgp_export, encapsulation } = *facts;
    let programmed_by = match encapsulation {
        Encapsulation::Never if programs.plain => Programmer::Speaker,
        Encapsulation::CrossSubnet if programs.ipip => Programmer::SpeakerTunnel(own.subnet(cidr.family())),
        Encapsulation::Always if programs.ipip => Programmer::SpeakerTunnel(None),
        _ => Programmer::Agent,
    };
    PoolIntent { cidr, export: !disable_bgp_export, programmed_by }
}

#[cfg(test)]
mod tests;
