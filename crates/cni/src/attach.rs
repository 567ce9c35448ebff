//! ADD: addresses, link, endpoint, and the wait until policy is in force. What fails leaves nothing behind.

use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use calico_api::profile::ProfileSpec;
use calico_api::workload_endpoint::WorkloadEndpointSpec;
use calico_api::{Entry, Resource, Write, encode, merge};
use calico_linux::netns::Netns;
use calico_linux::rtnl::Rtnl;
use calico_linux::veth::{ContainerLink, CreatedLink};
use calico_net::{Cidr, Family, IfName, Mac};
use calico_store::CommitError;
use smol_str::SmolStr;

use crate::annotations::{self, Wishes};
use crate::arguments::Arguments;
use crate::client::ANSWER_PATIENCE;
use crate::context::{Context, Expected, unavailable};
use crate::endpoint::{Identity, endpoint, network_profile};
use crate::error::{CniError, Code};
use crate::kubernetes::PodFacts;
use crate::netconf::NetConf;
use crate::result::{AddResult, Interface, Ip};
use crate::stored::{Before, Stored, find_endpoint};
use crate::{address, delegate, gate, verify};

/// MTU where neither the configuration nor the agent's file says anything.
const DEFAULT_MTU: u32 = 1500;

/// `DeviceRouteProtocol`'s default: boot (spec 3 §6.6). The agent replaces the route if it is configured otherwise.
const DEVICE_ROUTE_PROTOCOL: u8 = 3;

/// Where the agent writes the MTU of workload interfaces.
const MTU_FILE: &str = "/var/lib/calico/mtu";

/// How often a write that lost against another writer is tried again.
const MAX_CONFLICTS: usize = 5;

/// How long before the plugin gives the agent up ADD stops waiting for policy.
const ANSWER_MARGIN: Duration = Duration::from_secs(5);

/// Attaches a container.
pub async fn add(
    context: &Context,
    conf: &NetConf,
    arguments: &Arguments,
    netns: OwnedFd,
) -> Result<AddResult, CniError> {
    let begun = Instant::now();
    let identity = Identity::new(&context.node, arguments);
    identity.check()?;
    let turn = context.turns.wait(identity.turn()).await;
    let permit = context.permit().await;
    let (Before { existing, has_profile }, pod) =
        tokio::try_join!(Before::add(context, conf, &identity), context.read_pod(conf, &identity))?;
    if let Some(facts) = &pod {
        facts.check_uid(arguments.arg("K8S_POD_UID"))?;
    }
    let wishes = pod.as_ref().map(|facts| Wishes::parse(facts, conf)).transpose()?.unwrap_or_default();

    if !has_profile {
        create_profile(context, network_profile(&conf.name, identity.pod.is_some())).await?;
    }
    // A container of no orchestrator that is attached already only joins another network's profile (spec 5 §1.8).
    if let (Some((stored, old)), None) = (&existing, &identity.pod)
        && !old.spec.ip_networks.is_empty()
        && verify::is_linked(old, arguments, &netns).await?
    {
        return join(context, conf, stored, old, arguments).await;
    }
    let job = Job { context, conf, arguments, identity: &identity, pod, wishes };
    let (given, attached) = match job.attach(netns, existing).await {
        Ok(done) => done,
        Err(error) => {
            job.undo().await;
            return Err(error);
        }
    };
    // Neither DELs nor other ADDs wait for this one's policy.
    drop((permit, turn));
    wait_live(context, conf, &identity, &given, &attached, begun.elapsed()).await;
    if let Err(closed) = gate::wait_open(&conf.readiness_gates, context.gates).await {
        let _turn = context.turns.wait(identity.turn()).await;
        job.undo().await;
        return Err(closed);
    }
    Ok(result(conf, arguments, &given, &attached))
}

/// What an ADD works on.
struct Job<'a> {
    context: &'a Context,
    conf: &'a NetConf,
    arguments: &'a Arguments,
    identity: &'a Identity,
    /// The pod, where the configuration has pods looked up.
    pod: Option<PodFacts>,
    /// What its annotations ask for.
    wishes: Wishes,
}

/// What IPAM gave.
#[derive(Clone, Debug, Default)]
pub struct Addresses {
    /// The container's addresses.
    pub addresses: Vec<IpAddr>,
    /// What the container reaches through its gateways.
    pub routes: Vec<Cidr>,
    /// DNS settings of a delegated plugin.
    pub dns: Option<crate::netconf::RuntimeDns>,
}

impl Addresses {
    /// Addresses with the usual routes.
    fn of(addresses: Vec<IpAddr>) -> Addresses {
        Addresses { addresses, routes: default_routes(), dns: None }
    }
}

struct Attached {
    host: IfName,
    mac: Mac,
    /// The interface that the endpoint is named after.
    endpoint: SmolStr,
}

/// Everything of both families.
pub fn default_routes() -> Vec<Cidr> {
    Family::ALL.map(Cidr::everything).to_vec()
}

/// The addresses that a stored endpoint has.
pub fn addresses_of(endpoint: &Resource<WorkloadEndpointSpec>) -> Vec<IpAddr> {
    endpoint.spec.ip_networks.iter().filter_map(|n| n.parse::<Cidr>().ok()).map(|c| c.addr()).collect()
}

impl Job<'_> {
    /// Addresses, link and endpoint, in that order.
    async fn attach(
        &self,
        netns: OwnedFd,
        existing: Option<Stored>,
    ) -> Result<(Addresses, Attached), CniError> {
        let old = existing.as_ref().map(|(_, old)| old);
        let given = match self.kept(old).await? {
            Some(addresses) => Addresses::of(addresses),
            None => {
                self.free_wanted(old).await?;
                self.assign().await?
            }
        };
        let attached = self.link_and_store(&given, netns, existing).await?;
        Ok((given, attached))
    }

    /// The addresses that a retried ADD of a container keeps: those that the first one got, as long as IPAM agrees and
    /// the pod wants no others.
    async fn kept(
        &self,
        existing: Option<&Resource<WorkloadEndpointSpec>>,
    ) -> Result<Option<Vec<IpAddr>>, CniError> {
        let Some(old) = existing.filter(|old| old.spec.container_id == self.identity.container_id) else {
            return Ok(None);
        };
        let addresses = addresses_of(old);
        let is_wanted = match &self.wishes.addresses {
            annotations::Addresses::Any => !addresses.is_empty(),
            annotations::Addresses::Assigned(wanted) => {
                wanted.len() == addresses.len() && wanted.iter().all(|a| addresses.contains(a))
            }
            annotations::Addresses::Verbatim(_) => false,
        };
        let Job { context, conf, .. } = self;
        let agreed =
            is_wanted && (!conf.own_ipam() || address::holds(context, conf, &old.spec, &addresses).await?);
        Ok(agreed.then_some(addresses))
    }

    /// A pod that insists on its addresses had them in its sandbox before, whose DEL may be still to come.
    async fn free_wanted(&self, existing: Option<&Resource<WorkloadEndpointSpec>>) -> Result<(), CniError> {
        let Job { context, conf, arguments, .. } = self;
        let before = existing.map(|old| old.spec.container_id.as_str()).filter(|id| !id.is_empty());
        let (Some(before), annotations::Addresses::Assigned(_)) = (before, &self.wishes.addresses) else {
            return Ok(());
        };
        if conf.own_ipam() {
            return address::release(context, &conf.handle(before)).await.map(drop);
        }
        let arguments = Arguments { container_id: before.to_owned(), ..(*arguments).clone() };
        delegate::del(conf, &arguments).await
    }

    async fn assign(&self) -> Result<Addresses, CniError> {
        let Job { context, conf, arguments, identity, pod, wishes } = self;
        let wanted = match &wishes.addresses {
            annotations::Addresses::Verbatim(addresses) => return Ok(Addresses::of(addresses.clone())),
            annotations::Addresses::Assigned(addresses) => addresses.as_slice(),
            annotations::Addresses::Any => &[],
        };
        if !conf.own_ipam() {
            return delegate::add(context, conf, arguments, wanted).await;
        }
        let namespace = pod.as_ref().map(|facts| &facts.namespace);
        let assigned = address::assign(context, conf, arguments, identity, wishes, namespace).await?;
        Ok(Addresses::of(assigned.into_iter().map(|a| a.address).collect()))
    }

    /// Undoes a failed ADD in DEL's order. The first error is the one to report, so one in here is only logged; what
    /// then stays is DEL's.
    async fn undo(&self) {
        if let Err(error) = self.try_undo().await {
            tracing::error!(container = %self.identity.container_id, %error, "cannot undo a failed ADD");
        }
    }

    async fn try_undo(&self) -> Result<(), CniError> {
        let Job { context, conf, arguments, identity, .. } = self;
        // A retried ADD has the endpoint of the first; it would lead to addresses that are free.
        let stored = find_endpoint(context, identity).await?;
        if let Some((entry, old)) = stored.filter(|(_, e)| e.spec.container_id == identity.container_id) {
            let deleted = context.store.commit(&[Write::delete(entry.key, entry.revision)]).await;
            deleted.map_err(|e| unavailable(&e))?;
            if let Ok(host) = old.spec.interface_name.parse() {
                delete_link(host).await;
            }
        }
        if conf.own_ipam() {
            address::release(context, &conf.handle(&identity.container_id)).await.map(drop)
        } else {
            delegate::del(conf, arguments).await
        }
    }

    async fn link_and_store(
        &self,
        given: &Addresses,
        netns: OwnedFd,
        existing: Option<Stored>,
    ) -> Result<Attached, CniError> {
        let Job { context, conf, arguments, identity, wishes, .. } = self;
        let container = arguments.ifname.parse().map_err(|e| CniError::generic("interface name", e))?;
        let link = ContainerLink {
            host: identity.host_interface(&context.interface_prefix)?,
            container,
            container_mac: wishes.mac,
            mtu: read_mtu(conf)?,
            queues: conf.queues(),
            addresses: given.addresses.clone(),
            routes: given.routes.clone(),
            forwarding: conf.container_settings.allow_ip_forwarding,
            // The agent makes the host's routes too; making them here saves the container a moment without.
            host_routes: Some(DEVICE_ROUTE_PROTOCOL),
        };
        let host = link.host.clone();
        let sysctl = context.sysctl.clone();
        let created = tokio::task::spawn_blocking(move || -> Result<CreatedLink, CniError> {
            let failed =
                |e: &dyn std::fmt::Display| CniError::generic("cannot make the container's interface", e);
            let mut rtnl = Rtnl::open().map_err(|e| failed(&e))?;
            link.create(&mut rtnl, &sysctl, &Netns::from(netns)).map_err(|e| failed(&e))
        })
        .await
        .map_err(|e| CniError::generic("cannot make the container's interface", e))??;
        let mac = created.container_mac;
        match self.store_endpoint(&host, mac, &given.addresses, existing).await {
            Ok(endpoint) => Ok(Attached { host, mac, endpoint }),
            Err(error) => {
                delete_link(host).await;
                Err(error)
            }
        }
    }

    /// Writes the endpoint; the interface that it is named after.
    async fn store_endpoint(
        &self,
        host: &IfName,
        mac: Mac,
        addresses: &[IpAddr],
        mut existing: Option<Stored>,
    ) -> Result<SmolStr, CniError> {
        let Job { context, conf, identity, pod, wishes, .. } = self;
        for _ in 0..MAX_CONFLICTS {
            let old = existing.as_ref().map(|(_, e)| e.clone());
            let mut wanted = endpoint(old, identity, conf, host, Some(mac), addresses);
            if let Some(facts) = pod {
                let prefix = &context.interface_prefix;
                crate::pod::describe(&mut wanted, &facts.pod, prefix, wishes, addresses)?;
            }
            let write = match &existing {
                Some((entry, _)) => {
                    let value = merge(entry, &wanted)
                        .map_err(|e| CniError::generic("cannot update the endpoint", e))?;
                    Write::update(entry.key.clone(), value, entry.revision.clone())
                }
                None => {
                    crate::stamp::fill(&mut wanted.metadata);
                    Write::create(identity.key(), encode(&wanted))
                }
            };
            match context.store.commit(&[write]).await {
                Ok(_) => return Ok(wanted.spec.endpoint),
                Err(CommitError::Conflict { .. }) => existing = find_endpoint(context, identity).await?,
                Err(error) => return Err(unavailable(&error)),
            }
        }
        Err(CniError::new(Code::TryAgainLater, "cannot write the endpoint", "others keep changing it"))
    }
}

/// Removes the host side of a link; the far side goes with it. Logged only: this is clean-up after another error.
async fn delete_link(host: IfName) {
    let name = host.clone();
    let deleted = tokio::task::spawn_blocking(move || Rtnl::open()?.delete_link(&host)).await;
    if let Ok(Err(error)) = deleted {
        tracing::error!(interface = %name, %error, "cannot remove the interface of a failed ADD");
    }
}

async fn create_profile(context: &Context, mut profile: Resource<ProfileSpec>) -> Result<(), CniError> {
    crate::stamp::fill(&mut profile.metadata);
    match context.store.commit(&[Write::create(profile.key().into(), encode(&profile))]).await {
        // Another ADD was faster: it wrote the same.
        Ok(_) | Err(CommitError::Conflict { .. }) => Ok(()),
        Err(error) => Err(unavailable(&error)),
    }
}

/// Adds this network's profile to an endpoint that is attached already, and answers with what it has.
async fn join(
    context: &Context,
    conf: &NetConf,
    stored: &Entry,
    old: &Resource<WorkloadEndpointSpec>,
    arguments: &Arguments,
) -> Result<AddResult, CniError> {
    let profile = SmolStr::new(&conf.name);
    if !old.spec.profiles.contains(&profile) {
        let mut wanted = old.clone();
        wanted.spec.profiles.push(profile);
        let value = merge(stored, &wanted).map_err(|e| CniError::generic("cannot update the endpoint", e))?;
        let write = Write::update(stored.key.clone(), value, stored.revision.clone());
        context.store.commit(&[write]).await.map_err(|e| unavailable(&e))?;
    }
    let host =
        old.spec.interface_name.parse().map_err(|e| CniError::generic("the endpoint's interface", e))?;
    let mac = old.spec.mac.parse().map_err(|e| CniError::generic("the endpoint's MAC", e))?;
    let given = Addresses::of(addresses_of(old));
    let endpoint = old.spec.endpoint.clone();
    Ok(result(conf, arguments, &given, &Attached { host, mac, endpoint }))
}

fn read_mtu(conf: &NetConf) -> Result<u32, CniError> {
    if conf.mtu != 0 {
        return Ok(conf.mtu);
    }
    match std::fs::read_to_string(MTU_FILE) {
        Ok(text) => text.trim().parse().map_err(|e| {
            CniError::new(
                Code::InvalidConfiguration,
                "the MTU file is damaged",
                format!("{MTU_FILE}: {text:?}: {e}"),
            )
        }),
        Err(error) if conf.require_mtu_file => {
            let details = format!("{MTU_FILE}: {error}; require_mtu_file is true");
            Err(CniError::new(Code::TryAgainLater, "the MTU is not known", details))
        }
        Err(_) => Ok(DEFAULT_MTU),
    }
}

async fn wait_live(
    context: &Context,
    conf: &NetConf,
    identity: &Identity,
    given: &Addresses,
    attached: &Attached,
    spent: Duration,
) {
    let configured =
        conf.policy_setup_timeout_seconds.and_then(|s| u64::try_from(s).ok()).map(Duration::from_secs);
    let Some(patience) = patience(configured.or(context.patience), spent) else { return };
    let workload = SmolStr::from(format!("{}/{}", identity.namespace, identity.workload()));
    let endpoint = [identity.orchestrator.clone(), workload, attached.endpoint.clone()];
    let mac = context.keeps_endpoints.then_some(attached.mac);
    let expected = Expected { endpoint, mac, addresses: given.addresses.clone() };
    let began = Instant::now();
    let is_live = context.live.wait_live(expected, patience).await;
    let (endpoint, waited) = (identity.name(), began.elapsed());
    if is_live {
        tracing::info!(%endpoint, ?waited, "policy is in force");
    } else {
        tracing::warn!(%endpoint, ?waited, "policy is not in force yet; the container starts anyway");
    }
}

/// How much of what is `wanted` is left to wait when the ADD took so long already: the answer must still find somebody.
fn patience(wanted: Option<Duration>, spent: Duration) -> Option<Duration> {
    let left = (ANSWER_PATIENCE - ANSWER_MARGIN).saturating_sub(spent);
    wanted.map(|wanted| wanted.min(left)).filter(|patience| !patience.is_zero())
}

fn result(conf: &NetConf, arguments: &Arguments, given: &Addresses, attached: &Attached) -> AddResult {
    let ips = given.addresses.iter().map(|address| Ip {
        address: *address,
        prefix_len: Family::of(*address).bits(),
        gateway: None,
        interface: Some(1),
    });
    let host = Interface { name: attached.host.to_string(), mac: Some(Mac::HOST_VETH), sandbox: None };
    let container = Interface {
        name: arguments.ifname.clone(),
        mac: Some(attached.mac),
        sandbox: Some(arguments.netns.clone()),
    };
    let dns = given.dns.clone().or_else(|| conf.runtime_config.dns.clone());
    AddResult { interfaces: vec![host, container], ips: ips.collect(), routes: Vec::new(), dns }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policy_is_not_waited_for_longer_than_the_plugin_waits() {
        let secs = Duration::from_secs;
        for (wanted, spent, expected) in [
            (None, 0, None),
            (Some(0), 0, None),
            (Some(5), 0, Some(5)),
            (Some(3600), 0, Some(95)),
            (Some(3600), 90, Some(5)),
            (Some(5), 96, None),
        ] {
            assert_eq!(patience(wanted.map(secs), secs(spent)), expected.map(secs), "{wanted:?} {spent}");
        }
    }
}
