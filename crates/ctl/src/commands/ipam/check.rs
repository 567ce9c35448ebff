//! `ipam check`: addresses that leaked, and work that was not finished.

use std::collections::BTreeMap;
use std::net::IpAddr;

use calico_api::{Kind, NodeSpec, WorkloadEndpointSpec};
use calico_ipam::check::{CheckReport, Fault, Users, check};
use calico_ipam::{Collect, Known, Survey, block};
use calico_net::{Cidr, Family};

use crate::Context;
use crate::args::IpamCheckArgs;
use crate::ipam::{drive, now};
use crate::resources::Resources;

pub(super) async fn run(
    resources: &Resources,
    args: &IpamCheckArgs,
    context: &mut Context,
) -> anyhow::Result<()> {
    // Users first: an address that is assigned between the two reads is then unknown to both.
    let users = users(resources).await?;
    let ((), known) = drive(&*resources.store, Survey).await?;
    let report = check(&known, Some(&users));
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
        context.say(format_args!("  {problem:?}"))?;
    }
    let of_address = |f: &&Fault| matches!(f, Fault::Leaked { .. } | Fault::Unassigned { .. });
    let (addresses, others): (Vec<&Fault>, Vec<&Fault>) = faults.iter().partition(of_address);
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
