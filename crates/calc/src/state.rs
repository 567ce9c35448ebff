//! A node's whole state as a value: what a sequence of changes adds up to.
//!
//! The consumer that keeps everything: for tests, for diagnostics, and as the plain statement of what a legal sequence
//! of changes is. [`NodeState::apply`] refuses a change that does not fit what came before it.

use std::collections::{BTreeMap, BTreeSet};
use std::iter::Chain;
use std::net::IpAddr;
use std::slice::Iter;
use std::sync::Arc;

use calico_api::ResourceKey;
use calico_net::{Cidr, Family};
use smol_str::SmolStr;

use crate::change::{
    Change, ClusterRoute, HostEndpoint, IpSetId, IpSetKind, LocalVtep, Member, NodeInfo, Overlay, Path,
    Policy, Pool, Profile, Rule, Tier, Vtep, Workload, WorkloadId,
};

/// Everything that the calculation has said about this node and not taken back.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodeState {
    /// IP sets with their members.
    pub ip_sets: BTreeMap<IpSetId, (IpSetKind, BTreeSet<Member>)>,
    /// Policies that select a local endpoint.
    pub policies: BTreeMap<ResourceKey, Arc<Policy>>,
    /// Profiles that a local endpoint uses.
    pub profiles: BTreeMap<SmolStr, Arc<Profile>>,
    /// Local workload endpoints.
    pub workloads: BTreeMap<WorkloadId, Arc<Workload>>,
    /// Host endpoints of this node.
    pub host_endpoints: BTreeMap<SmolStr, Arc<HostEndpoint>>,
    /// IP pools.
    pub pools: BTreeMap<Cidr, Pool>,
    /// Nodes, this one included.
    pub nodes: BTreeMap<SmolStr, NodeInfo>,
    /// This node's IPAM blocks.
    pub blocks: BTreeSet<Cidr>,
    /// This node's ends of VXLAN tunnels.
    pub local_vteps: BTreeMap<Family, LocalVtep>,
    /// This node's IPIP tunnel address.
    pub local_ipip: Option<IpAddr>,
    /// Other nodes' ends.
    pub vteps: BTreeMap<(Family, SmolStr), Vtep>,
    /// The ways to other nodes' addresses.
    pub routes: BTreeMap<Cidr, ClusterRoute>,
}

/// A change that does not fit the state it is applied to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IllegalChange {
    /// Something is added that is there already.
    #[error("{0} is added but is there already")]
    AlreadyThere(String),
    /// Something is changed or removed that is not there.
    #[error("{0} is changed or removed but is not there")]
    NotThere(String),
    /// Something refers to what is not there (yet, or any more).
    #[error("{user} refers to {target}, which is not there")]
    Dangling {
        /// Who refers.
        user: String,
        /// To what.
        target: String,
    },
    /// A change says what is so already.
    #[error("{0} is changed to what it is")]
    NoChange(String),
}

use IllegalChange::{AlreadyThere, Dangling, NoChange, NotThere};

impl NodeState {
    /// Applies one change.
    ///
    /// # Errors
    /// The change is illegal here: the state may then be anything between before and after.
    pub fn apply(&mut self, change: &Change) -> Result<(), IllegalChange> {
        match change {
            Change::IpSetAdded { id, kind, members } => self.add_set(id, *kind, members),
            Change::IpSetChanged { id, added, removed } => self.change_set(id, added, removed),
            Change::IpSetRemoved(id) => {
                let used = self.users_of_set(id).next();
                match used {
                    Some(user) => Err(Dangling { user, target: id.0.to_string() }),
                    None => take(&mut self.ip_sets, id, &id.0),
                }
            }
            Change::PolicyChanged(key, policy) => {
                self.check_rules(&key.to_string(), policy.ingress.iter().chain(&policy.egress))?;
                put(&mut self.policies, key, policy, key)
            }
            Change::PolicyRemoved(key) => {
                let user =
                    self.tiers().find(|(_, tier)| tier.ingress.contains(key) || tier.egress.contains(key));
                match user {
                    Some((user, _)) => Err(Dangling { user, target: key.to_string() }),
                    None => take(&mut self.policies, key, key),
                }
            }
            Change::ProfileChanged(name, profile) => {
                let user = format!("profile {name}");
                self.check_rules(&user, profile.ingress.iter().chain(&profile.egress))?;
                put(&mut self.profiles, name, profile, &user)
            }
            Change::ProfileRemoved(name) => {
                let used = self.profile_lists().find(|(_, names)| names.contains(name));
                match used {
                    Some((user, _)) => Err(Dangling { user, target: format!("profile {name}") }),
                    None => take(&mut self.profiles, name, name),
                }
            }
            Change::WorkloadChanged(id, workload) => {
                let user = format!("{id:?}");
                self.check_tiers(&user, &workload.tiers)?;
                self.check_profiles(&user, &workload.profiles)?;
                put(&mut self.workloads, id, workload, &user)
            }
            Change::WorkloadRemoved(id) => take(&mut self.workloads, id, &format!("{id:?}")),
            Change::HostEndpointChanged(name, endpoint) => {
                let HostEndpoint { tiers, untracked_tiers, pre_dnat_tiers, forward_tiers, profiles, .. } =
                    &**endpoint;
                for tiers in [tiers, untracked_tiers, pre_dnat_tiers, forward_tiers] {
                    self.check_tiers(name, tiers)?;
                }
                self.check_profiles(name, profiles)?;
                put(&mut self.host_endpoints, name, endpoint, name)
            }
            Change::HostEndpointRemoved(name) => take(&mut self.host_endpoints, name, name),
            Change::PoolChanged(cidr, pool) => put(&mut self.pools, cidr, pool, cidr),
            Change::PoolRemoved(cidr) => take(&mut self.pools, cidr, cidr),
            Change::NodeChanged(name, info) => put(&mut self.nodes, name, info, name),
            Change::NodeRemoved(name) => take(&mut self.nodes, name, name),
            Change::BlockAdded(cidr) => {
                self.blocks.insert(*cidr).then_some(()).ok_or_else(|| AlreadyThere(cidr.to_string()))
            }
            Change::BlockRemoved(cidr) => {
                self.blocks.remove(cidr).then_some(()).ok_or_else(|| NotThere(cidr.to_string()))
            }
            Change::LocalVtepChanged(family, vtep) => put(&mut self.local_vteps, family, vtep, family),
            Change::LocalVtepRemoved(family) => take(&mut self.local_vteps, family, family),
            Change::LocalIpipChanged(addr) => match self.local_ipip.replace(*addr) {
                Some(old) if old == *addr => Err(NoChange(addr.to_string())),
                _ => Ok(()),
            },
            Change::LocalIpipRemoved => {
                self.local_ipip.take().map(|_| ()).ok_or_else(|| NotThere("the IPIP tunnel address".into()))
            }
            Change::VtepChanged(family, node, vtep) => {
                put(&mut self.vteps, &(*family, node.clone()), vtep, node)
            }
            Change::VtepRemoved(family, node) => {
                let key = (*family, node.clone());
                match self.routes.iter().find(|(cidr, route)| leads_through(cidr, route, &key)) {
                    Some((cidr, _)) => Err(Dangling { user: cidr.to_string(), target: node.to_string() }),
                    None => take(&mut self.vteps, &key, node),
                }
            }
            Change::RouteChanged(cidr, route) => {
                let key = (cidr.family(), route.node.clone());
                if leads_through(cidr, route, &key) && !self.vteps.contains_key(&key) {
                    return Err(Dangling { user: cidr.to_string(), target: route.node.to_string() });
                }
                put(&mut self.routes, cidr, route, cidr)
            }
            Change::RouteRemoved(cidr) => take(&mut self.routes, cidr, cidr),
        }
    }

    fn add_set(&mut self, id: &IpSetId, kind: IpSetKind, members: &[Member]) -> Result<(), IllegalChange> {
        let distinct: BTreeSet<Member> = members.iter().copied().collect();
        if distinct.len() != members.len() {
            return Err(AlreadyThere(format!("a member of {}", id.0)));
        }
        match self.ip_sets.insert(id.clone(), (kind, distinct)) {
            Some(_) => Err(AlreadyThere(id.0.to_string())),
            None => Ok(()),
        }
    }

    fn change_set(
        &mut self,
        id: &IpSetId,
        added: &[Member],
        removed: &[Member],
    ) -> Result<(), IllegalChange> {
        let Some((_, members)) = self.ip_sets.get_mut(id) else {
            return Err(NotThere(id.0.to_string()));
        };
        if added.is_empty() && removed.is_empty() {
            return Err(NoChange(id.0.to_string()));
        }
        for member in removed {
            if !members.remove(member) {
                return Err(NotThere(format!("{member:?} of {}", id.0)));
            }
        }
        for member in added {
            if !members.insert(*member) {
                return Err(AlreadyThere(format!("{member:?} of {}", id.0)));
            }
        }
        Ok(())
    }

    fn check_rules<'a>(
        &self,
        user: &str,
        mut rules: impl Iterator<Item = &'a Rule>,
    ) -> Result<(), IllegalChange> {
        let missing = rules.find_map(|rule| sets_of(rule).find(|id| !self.ip_sets.contains_key(*id)));
        match missing {
            Some(id) => Err(Dangling { user: user.to_owned(), target: id.0.to_string() }),
            None => Ok(()),
        }
    }

    fn check_tiers(&self, user: &str, tiers: &[Tier]) -> Result<(), IllegalChange> {
        let mut named = tiers.iter().flat_map(|tier| tier.ingress.iter().chain(&tier.egress));
        match named.find(|key| !self.policies.contains_key(*key)) {
            Some(key) => Err(Dangling { user: user.to_owned(), target: key.to_string() }),
            None => Ok(()),
        }
    }

    fn check_profiles(&self, user: &str, profiles: &[SmolStr]) -> Result<(), IllegalChange> {
        match profiles.iter().find(|name| !self.profiles.contains_key(*name)) {
            Some(name) => Err(Dangling { user: user.to_owned(), target: format!("profile {name}") }),
            None => Ok(()),
        }
    }

    fn users_of_set<'a>(&'a self, id: &'a IpSetId) -> impl Iterator<Item = String> + 'a {
        let names = move |mut rules: Chain<Iter<'a, Rule>, Iter<'a, Rule>>| {
            rules.any(|rule| sets_of(rule).any(|set| set == id))
        };
        let policies = self.policies.iter().filter(move |(_, policy)| {
            let Policy { tier: _, ingress, egress } = &***policy;
            names(ingress.iter().chain(egress))
        });
        let profiles = self.profiles.iter().filter(move |(_, profile)| {
            let Profile { ingress, egress } = &***profile;
            names(ingress.iter().chain(egress))
        });
        policies.map(|(key, _)| key.to_string()).chain(profiles.map(|(name, _)| format!("profile {name}")))
    }

    fn tiers(&self) -> impl Iterator<Item = (String, &Tier)> {
        let of_workloads = self
            .workloads
            .iter()
            .flat_map(|(id, workload)| workload.tiers.iter().map(move |tier| (format!("{id:?}"), tier)));
        let of_hosts = self.host_endpoints.iter().flat_map(|(name, endpoint)| {
            let HostEndpoint { tiers, untracked_tiers, pre_dnat_tiers, forward_tiers, .. } = &**endpoint;
            let all = tiers.iter().chain(&**untracked_tiers).chain(&**pre_dnat_tiers).chain(&**forward_tiers);
            all.map(move |tier| (name.to_string(), tier))
        });
        of_workloads.chain(of_hosts)
    }

    fn profile_lists(&self) -> impl Iterator<Item = (String, &[SmolStr])> {
        let of_workloads =
            self.workloads.iter().map(|(id, workload)| (format!("{id:?}"), &*workload.profiles));
        of_workloads.chain(self.host_endpoints.iter().map(|(name, host)| (name.to_string(), &*host.profiles)))
    }
}

/// Whether a route needs a VXLAN tunnel's end.
fn leads_through(cidr: &Cidr, route: &ClusterRoute, vtep: &(Family, SmolStr)) -> bool {
    let tunnelled = matches!(route.path, Path::Tunnel(Overlay::Vxlan, _));
    tunnelled && (cidr.family(), &route.node) == (vtep.0, &vtep.1)
}

/// Every set that a rule names.
fn sets_of(rule: &Rule) -> impl Iterator<Item = &IpSetId> {
    [&rule.source, &rule.destination].into_iter().flat_map(|side| {
        let addresses = side.ip_sets.iter().chain(&side.not_ip_sets);
        addresses.chain(&side.named_ports).chain(&side.not_named_ports)
    })
}

fn put<K: Ord + Clone, V: PartialEq + Clone>(
    map: &mut BTreeMap<K, V>,
    key: &K,
    value: &V,
    name: &dyn ToString,
) -> Result<(), IllegalChange> {
    match map.insert(key.clone(), value.clone()) {
        Some(old) if old == *value => Err(NoChange(name.to_string())),
        _ => Ok(()),
    }
}

fn take<K: Ord, V>(map: &mut BTreeMap<K, V>, key: &K, name: &dyn ToString) -> Result<(), IllegalChange> {
    map.remove(key).map(|_| ()).ok_or_else(|| NotThere(name.to_string()))
}

#[cfg(test)]
mod tests;
