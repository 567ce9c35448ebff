//! What nobody routes between nodes: routes that neither the agent nor the speaker is to program, and pools in IPIP on a
//! kernel that has none.

use calico_api::Kind;

use crate::problem::Problem;
use crate::resolve::{Local, problem};
use crate::world::{Encapsulation, NodeFacts, World};

impl World {
    /// What keeps traffic between this node and others from being routed, whatever the kernel. Whoever sees any of these
    /// must not call the node ready.
    pub fn unrouted(&self, local: &Local) -> Vec<Problem> {
        let mut problems = Vec::new();
        let programs = self.cluster_config().programs.unwrap_or_default();
        let mut say = |text: &str| problems.push(problem(Kind::BGPConfiguration, "default", text.to_owned()));
        if !programs.plain {
            say(
                "programClusterRoutes: in this build only BIRD programs plain routes between nodes: traffic between \
                 nodes is not routed; leave it unset or set it to Enabled",
            );
        }
        let is_ipip = |mode| matches!(mode, Encapsulation::Always | Encapsulation::CrossSubnet);
        if local.ipip_is_speakers && !programs.ipip && self.pools.values().any(|p| is_ipip(p.encapsulation)) {
            say(
                "programClusterRoutes: neither the agent nor BIRD programs routes of pools in IPIP: they are not routed; \
                 leave FelixConfiguration's unset, or set this one to Enabled",
            );
        }
        problems
    }

    /// The pools whose traffic is not routed where the kernel has no IPIP, and what to do there.
    pub fn needs_ipip(&self, name: &str) -> Vec<Problem> {
        let nobody = NodeFacts::default();
        let own = self.nodes.get(name).unwrap_or(&nobody);
        let lost = |encapsulation, family| match encapsulation {
            Encapsulation::Never | Encapsulation::Vxlan => None,
            Encapsulation::Always => Some("traffic between nodes of this pool".to_owned()),
            Encapsulation::CrossSubnet => {
                let subnet = own.subnet(family)?;
                let outside = self.nodes.iter().find_map(|(other, node)| {
                    let addr = node.addr(family).filter(|addr| !subnet.contains(*addr))?;
                    Some(format!("{other} ({addr})"))
                })?;
                Some(format!(
                    "traffic of this pool with nodes outside the subnet {subnet}, such as {outside},"
                ))
            }
        };
        let problems = self.pools.iter().filter_map(|(pool_name, pool)| {
            let lost = lost(pool.encapsulation, pool.cidr.family())?;
            let text = format!(
                "ipipMode: this node's kernel has no IPIP: {lost} is not routed. Load the module ipip (`modprobe ipip`), \
                 or switch the pool to VXLAN: calicoctl patch ippool {pool_name} -p \
                 '{{\"spec\":{{\"ipipMode\":\"Never\",\"vxlanMode\":\"Always\"}}}}'"
            );
            Some(problem(Kind::IPPool, pool_name, text))
        });
        problems.collect()
    }
}

#[cfg(test)]
mod tests;
