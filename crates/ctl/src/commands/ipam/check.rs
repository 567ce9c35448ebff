//! `ipam check`: addresses that leaked, and work that was not finished.

use std::collections::BTreeMap;
use std::net::IpAddr;

use calico_api::{AffinityOwner, Kind, NodeSpec, WorkloadEndpointSpec};
use calico_ipam::check::{CheckReport, Fault, Users, check};
use calico_ipam::{Collect, Known, block};
use calico_net::{Cidr, Family};
use calico_store::ipam::drive;

use crate::Context;
use crate::args::IpamCheckArgs;
use crate::ipam::{now, survey};
use crate::resources::Resources;

pub(super) async fn run(
    resources: &Resources,
    args: &IpamCheckArgs,
    context: &mut Context,
) -> anyhow::Result<()> {
    let mut users = users(resources).await?;
    let known = survey(&*resources.store).await?;
    add_virtual(&known, &mut users);
    let mut report = check(&known, Some(&users));
    if report.faults.iter().any(is_of_address) {
        // Endpoints came and went between the two reads. What is still so after a third is no race, but for a workload
        // whose address is assigned and whose endpoint is not written yet.
        let present = self::users(resources).await?;
        report.faults.retain(|fault| still_holds(fault, &present));
    }
    let CheckReport { leftovers, faults, problems, assigned } = &report;
    context.say(format_args!("Checking IPAM for inconsistencies..."))?;
    context.say(format_args!("{assigned} addresses are assigned, {} are in use.", users.len()))?;
    if args.show_all_ips {
        show_all(&known, &users, context)?;
    }
    context.say(format_args!("{} unfinished operations of writers that died:", leftovers.len()))?;
    for leftover in leftovers {
        context.say(format_args!("  {leftover}"))?;
    }
    context.say(format_args!("{} problems:", faults.len() + problems.len()))?;
    for problem in problems {
        context.say(format_args!("  {problem}"))?;
    }
    let (addresses, others): (Vec<&Fault>, Vec<&Fault>) = faults.iter().partition(|f| is_of_address(f));
    for fault in others {
        context.say(format_args!("  {fault}"))?;
    }
    if args.show_problem_ips {
        for fault in addresses {
            context.say(format_args!("  {fault}"))?;
        }
    } else if !addresses.is_empty() {
        context.say(format_args!(
            "  {} addresses leaked or not assigned (--show-problem-ips lists them)",
            addresses.len()
        ))?;
    }
    if args.collect && !leftovers.is_empty() {
        drive(&*resources.store, Collect::new(leftovers.clone(), now())).await?;
        context.say(format_args!("Removed what was unfinished."))?;
    }
    context.say("Check complete.")
}

fn is_of_address(fault: &Fault) -> bool {
    matches!(fault, Fault::Leaked { .. } | Fault::Unassigned { .. })
}

/// Whether later users leave a fault standing: a leaked address has got no user, one not assigned still has one.
fn still_holds(fault: &Fault, present: &Users) -> bool {
    match fault {
        Fault::Leaked { address, .. } => !present.contains_key(address),
        Fault::Unassigned { address, .. } => present.contains_key(address),
        _ => true,
    }
}

fn show_all(known: &Known, users: &Users, context: &mut Context) -> anyhow::Result<()> {
    for (_, held) in Family::ALL.into_iter().flat_map(|family| known.blocks(family)) {
        let Some((b, _)) = held else { continue };
        for (ordinal, attribute) in block::used(b) {
            let Some(address) = block::address(b, ordinal) else { continue };
            let handle = attribute.handle_id.as_ref().map_or("no handle", |h| h.as_str());
            let user = users.get(&address).map_or_else(|| "nobody".to_owned(), |u| u.join(", "));
            context.say(format_args!("  {address} ({handle}) is used by {user}"))?;
        }
    }
    Ok(())
}

/// What is assigned from blocks of no node, as load balancers' are, has users that are no endpoints: its owner answers for it.
fn add_virtual(known: &Known, users: &mut Users) {
    for (_, held) in Family::ALL.into_iter().flat_map(|family| known.blocks(family)) {
        let Some((b, _)) = held else { continue };
        let Some(owner @ AffinityOwner::Virtual(_)) = b.owner() else { continue };
        for address in block::used(b).filter_map(|(ordinal, _)| block::address(b, ordinal)) {
            users.entry(address).or_default().push(owner.to_string().into());
        }
    }
}

/// Who uses which address: workloads, and nodes for their tunnels.
async fn users(resources: &Resources) -> anyhow::Result<Users> {
    let mut users: Users = BTreeMap::new();
    for resource in resources.list(Kind::WorkloadEndpoint, None).await?.resources {
        let Ok(endpoint) = resource.typed::<WorkloadEndpointSpec>() else { continue };
        for network in &endpoint.spec.ip_networks {
            if let Ok(cidr) = network.parse::<Cidr>() {
                users.entry(cidr.addr()).or_default().push(endpoint.key().to_string().into());
            }
        }
    }
    for resource in resources.list(Kind::Node, None).await?.resources {
        let Ok(node) = resource.typed::<NodeSpec>() else { continue };
        let bgp = node.spec.bgp.clone().unwrap_or_default();
        let wireguard = node.spec.wireguard.clone().unwrap_or_default();
        let tunnels = [
            bgp.ipv4_ipip_tunnel_addr,
            node.spec.ipv4_vxlan_tunnel_addr.clone(),
            node.spec.ipv6_vxlan_tunnel_addr.clone(),
            wireguard.interface_ipv4_address,
            wireguard.interface_ipv6_address,
        ];
        for address in tunnels.iter().filter_map(|t| t.parse::<IpAddr>().ok()) {
            users.entry(address).or_default().push(format!("a tunnel of {}", node.key()).into());
        }
    }
    Ok(users)
}

#[cfg(test)]
mod tests {
    use calico_api::{Entry, Key};

    use super::*;

    #[test]
    fn addresses_of_load_balancers_are_no_leaks() {
        let mut known = Known::new();
        for (cidr, owner) in [("10.0.0.0/30", "virtual:load-balancer"), ("10.0.0.4/30", "host:n1")] {
            let value = serde_json::json!({
                "cidr": cidr, "affinity": owner, "allocations": [0, null, null, null], "unallocated": [1, 2, 3],
                "attributes": [{"handle_id": "h"}]
            });
            let key = Key::Block(cidr.parse().unwrap());
            known.observe(&Entry { key, value: value.to_string().into(), revision: 1.into() });
        }
        let mut users = Users::new();
        add_virtual(&known, &mut users);
        let address: IpAddr = "10.0.0.0".parse().unwrap();
        assert_eq!(users, Users::from([(address, vec!["virtual:load-balancer".into()])]));
        let faults = check(&known, Some(&users)).faults;
        let leaked: Vec<&Fault> = faults.iter().filter(|fault| is_of_address(fault)).collect();
        assert!(
            matches!(leaked[..], [Fault::Leaked { address, .. }] if address.to_string() == "10.0.0.4"),
            "{faults:?}"
        );
    }

    #[test]
    fn users_who_come_or_go_while_we_look_are_no_fault() {
        let address: IpAddr = "10.0.0.1".parse().unwrap();
        let leaked = Fault::Leaked { address, handle: "h".into(), sequence: None };
        let unassigned = Fault::Unassigned { address, user: "u".into() };
        let users = Users::from([(address, vec!["u".into()])]);
        let nobody = Users::new();
        assert!(still_holds(&leaked, &nobody) && !still_holds(&leaked, &users));
        assert!(still_holds(&unassigned, &users) && !still_holds(&unassigned, &nobody));
        assert!(still_holds(&Fault::Orphan("10.0.0.0/26".parse().unwrap()), &nobody));
    }
}
