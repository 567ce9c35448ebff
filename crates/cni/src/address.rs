//! Addresses from our own IPAM: in-process for the network plugin, and as the plugin `calico-ipam` (spec 5 §2.1).

use std::net::IpAddr;
use std::time::SystemTime;

use calico_api::ip_pool::IPPoolSpec;
use calico_api::kubernetes::namespace::Namespace;
use calico_api::workload_endpoint::WorkloadEndpointSpec;
use calico_api::{AffinityOwner, AllowedUse, Key, Kind, Labels, Selection, decode};
use calico_ipam::{
    AddressRequest, AddressesOf, Assign, AssignAddress, AssignRequest, Assigned, ReleaseByHandle,
    ReleaseError, UnixTime,
};
use calico_net::{Cidr, Family};
use smol_str::SmolStr;

use crate::annotations::{Addresses, Wishes};
use crate::arguments::Arguments;
use crate::context::{Context, unavailable};
use crate::endpoint::Identity;
use crate::error::{CniError, Code};
use crate::kubernetes::read_namespace;
use crate::netconf::{NetConf, requested_address};
use crate::result::{AddResult, Ip, Route};

/// Assigns what is asked for: exactly the addresses of the pod's annotation or the one in CNI_ARGS, otherwise one of
/// each wanted family.
pub async fn assign(
    context: &Context,
    conf: &NetConf,
    arguments: &Arguments,
    identity: &Identity,
    wishes: &Wishes,
    namespace: Option<&Namespace>,
) -> Result<Vec<Assigned>, CniError> {
    let now = now();
    let handle = conf.handle(&identity.container_id);
    let attributes = attributes(identity, now);
    let exactly = match &wishes.addresses {
        Addresses::Assigned(addresses) => addresses.clone(),
        _ => requested_address(arguments)?.into_iter().collect(),
    };
    let mut assigned = Vec::new();
    for address in exactly {
        let request = AddressRequest {
            address,
            handle: calico_ipam::handle_id(&handle),
            attributes: attributes.clone(),
            owner: AffinityOwner::Host(context.node.clone()),
            intended_use: Some(AllowedUse::Workload),
        };
        let outcome = context.ipam(AssignAddress::new(request, now)).await?;
        let failed = |e| CniError::generic("cannot assign the address asked for", format!("{address}: {e}"));
        assigned.push(outcome.map_err(failed)?);
    }
    if !assigned.is_empty() {
        return Ok(assigned);
    }
    if !Family::ALL.into_iter().any(|family| wishes.wants(family, conf)) {
        let details =
            "ipam.assign_ipv4 and ipam.assign_ipv6 are both \"false\"; a container needs an address";
        return Err(CniError::new(Code::InvalidConfiguration, "invalid network configuration", details));
    }
    let wanted = |family| usize::from(wishes.wants(family, conf));
    let mut request = AssignRequest::workload(&context.node, &handle, wanted(Family::V4), wanted(Family::V6));
    request.attributes = attributes;
    request.namespace_labels = namespace.map(|n| n.metadata.labels.clone()).unwrap_or_default();
    request.pools4 = resolve_pools(context, conf, wishes, Family::V4).await?;
    request.pools6 = resolve_pools(context, conf, wishes, Family::V6).await?;
    let outcome = context.ipam(Assign::new(request, now)).await?;
    let outcome = outcome.map_err(|e| CniError::generic("cannot assign addresses", e))?;
    if let Some(shortfall) = outcome.shortfalls.first() {
        return Err(CniError::generic("no addresses", shortfall));
    }
    Ok(outcome.v4.into_iter().chain(outcome.v6).collect())
}

/// Whether IPAM has the endpoint's addresses assigned to it. The network that gave them is the one of this
/// configuration or, for what is no pod, any of those that it is in, each of which is a profile of it.
pub async fn holds(
    context: &Context,
    conf: &NetConf,
    endpoint: &WorkloadEndpointSpec,
    addresses: &[IpAddr],
) -> Result<bool, CniError> {
    let others = endpoint.profiles.iter().map(SmolStr::as_str).filter(|name| *name != conf.name);
    let others = others.filter(|_| !conf.reads_pods());
    for network in std::iter::once(conf.name.as_str()).chain(others) {
        let handle = format!("{network}.{}", endpoint.container_id);
        let found = context.ipam(AddressesOf::new(&handle)).await?;
        let found = found.map_err(|e| CniError::generic("cannot read the container's addresses", e))?;
        if addresses.iter().all(|a| found.iter().any(|f| f.address == *a)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Releases every address of a handle; whether there were any.
pub async fn release(context: &Context, handle: &str) -> Result<bool, CniError> {
    match context.ipam(ReleaseByHandle::new(handle, now())).await? {
        Ok(released) => Ok(!released.is_empty()),
        Err(ReleaseError::NotFound(_)) => Ok(false),
        Err(error) => Err(CniError::generic("cannot release addresses", error)),
    }
}

/// The IPAM plugin's ADD: addresses with their blocks' masks, and a route to each.
pub async fn add(context: &Context, conf: &NetConf, arguments: &Arguments) -> Result<AddResult, CniError> {
    context.check_ready().await?;
    let identity = Identity::new(&context.node, arguments);
    let namespace = match &identity.pod {
        Some(_) if conf.reads_pods() && context.kubernetes.is_some() => {
            Some(read_namespace(context.kubernetes()?, &identity.namespace).await?)
        }
        _ => None,
    };
    let wishes = Wishes::default();
    let assigned = assign(context, conf, arguments, &identity, &wishes, namespace.as_ref()).await?;
    let ips = assigned.iter().map(|Assigned { address, block }| Ip {
        address: *address,
        prefix_len: block.prefix_len(),
        gateway: None,
        interface: None,
    });
    let routes = assigned.iter().map(|a| Route { dst: Cidr::host(a.address).to_string(), gw: None });
    Ok(AddResult { ips: ips.collect(), routes: routes.collect(), ..AddResult::default() })
}

/// The IPAM plugin's DEL.
pub async fn del(context: &Context, conf: &NetConf, arguments: &Arguments) -> Result<(), CniError> {
    context.check_ready().await?;
    let identity = Identity::new(&context.node, arguments);
    release(context, &conf.handle(&identity.container_id)).await?;
    release(context, &identity.legacy_handle()).await?;
    Ok(())
}

/// The IPAM plugin's CHECK: the container's handle holds something.
pub async fn check(context: &Context, conf: &NetConf, arguments: &Arguments) -> Result<(), CniError> {
    let handle = conf.handle(&arguments.container_id);
    match context.get(&Key::Handle(calico_ipam::handle_id(&handle))).await? {
        Some(_) => Ok(()),
        None => {
            Err(CniError::new(Code::UnknownContainer, "no addresses", format!("there is no handle {handle}")))
        }
    }
}

/// To the nanosecond: a block made again within the second must not begin with the sequence number of the one before.
fn now() -> UnixTime {
    let since = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    UnixTime(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

/// What is stored beside each address (spec 5 §2.1). Without a pod there is none to name.
fn attributes(identity: &Identity, now: UnixTime) -> Labels {
    let mut attributes = Labels::from([
        (SmolStr::new_static("node"), identity.node.clone()),
        (SmolStr::new_static("timestamp"), SmolStr::from(now.go_text())),
    ]);
    if let Some(pod) = &identity.pod {
        attributes.insert(SmolStr::new_static("pod"), pod.clone());
        attributes.insert(SmolStr::new_static("namespace"), identity.namespace.clone());
    }
    attributes
}

/// Pools by CIDR or by name: those of the annotation, otherwise of the configuration.
async fn resolve_pools(
    context: &Context,
    conf: &NetConf,
    wishes: &Wishes,
    family: Family,
) -> Result<Vec<Cidr>, CniError> {
    let number = family.number();
    let of_conf = match family {
        Family::V4 => &conf.ipam.ipv4_pools,
        Family::V6 => &conf.ipam.ipv6_pools,
    };
    let (field, wanted) = match wishes.pools(family) {
        Some(pools) => (format!("the annotation cni.projectcalico.org/ipv{number}pools"), pools),
        None => (format!("ipam.ipv{number}_pools"), of_conf.as_slice()),
    };
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let listing = context.store.list(&Selection::all(Kind::IPPool)).await.map_err(|e| unavailable(&e))?;
    let pools: Vec<_> = listing.entries.iter().filter_map(|e| decode::<IPPoolSpec>(e).ok()).collect();
    wanted
        .iter()
        .map(|text| {
            let named =
                pools.iter().find(|p| p.metadata.name == text.as_str()).map(|p| p.spec.cidr.to_string());
            let cidr = named.as_deref().unwrap_or(text).parse::<Cidr>().ok().filter(|c| c.family() == family);
            cidr.ok_or_else(|| {
                let details =
                    format!("{field} has {text:?}; it must be the name or CIDR of an {family} pool");
                CniError::new(Code::InvalidConfiguration, "invalid network configuration", details)
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_is_finer_than_a_second() {
        assert!((0..1000).any(|_| now() != UnixTime::from_secs(now().secs())));
    }
}
