//! What nobody routes between nodes: the speaker leaves encapsulated pools to the agent, and the agent has no IPIP
//! tunnels yet.

use calico_api::Kind;

use crate::problem::Problem;
use crate::resolve::problem;
use crate::world::{Encapsulation, NodeFacts, World};

impl World {
    /// What keeps traffic between the node called `name` and others from being routed. Whoever sees any of these must
    /// not call the node ready.
    pub fn unrouted(&self, name: &str) -> Vec<Problem> {
        let nobody = NodeFacts::default();
        let own = self.nodes.get(name).unwrap_or(&nobody);
        let mut problems = Vec::new();
        if self.cluster_config().programs_plain_routes == Some(false) {
            let text = "programClusterRoutes: in this build only BIRD programs routes between nodes: traffic between \
                        nodes is not routed; leave it unset or set it to Enabled";
            problems.push(problem(Kind::BGPConfiguration, "default", text.to_owned()));
        }
        for (pool_name, pool) in &self.pools {
            let lost = match pool.encapsulation {
                Encapsulation::Never | Encapsulation::Vxlan => continue,
                Encapsulation::Always => "traffic between nodes of this pool".to_owned(),
                Encapsulation::CrossSubnet => {
                    let family = pool.cidr.family();
                    let Some(subnet) = own.subnet(family) else { continue };
                    let outside = self.nodes.iter().find_map(|(other, node)| {
                        let addr = node.addr(family).filter(|addr| !subnet.contains(*addr))?;
                        Some(format!("{other} ({addr})"))
                    });
                    let Some(outside) = outside else { continue };
                    format!("traffic of this pool with nodes outside the subnet {subnet}, such as {outside},")
                }
            };
            let text = format!(
                "ipipMode: this build has no IPIP tunnels yet: {lost} is not routed; switch the pool to VXLAN: calicoctl \
                 patch ippool {pool_name} -p '{{\"spec\":{{\"ipipMode\":\"Never\",\"vxlanMode\":\"Always\"}}}}'"
            );
            problems.push(problem(Kind::IPPool, pool_name, text));
        }
        problems
    }
}

#[cfg(test)]
mod tests;
