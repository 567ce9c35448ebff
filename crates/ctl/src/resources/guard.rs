//! Rules that reach beyond one resource: what may be written, what must exist, what a deletion takes along.

use std::net::IpAddr;

use calico_api::profile::DEFAULT_ALLOW;
use calico_api::{
    AnyResource, Entry, IPPool, IPPoolSpec, Key, Kind, ResourceKey, Revision, Selection, TierSpec,
    ValidationError, WorkloadEndpointSpec, Write,
};
use calico_ipam::{AssignmentOf, ReleaseAddresses, ReleaseAffinities, ReleaseByHandle, Scope};
use calico_net::Cidr;
use calico_store::CommitError;
use calico_store::contention::wait_for_others;
use calico_store::ipam::drive;

use super::{ResourceError, Resources, ipam_settings};
use crate::ipam::{now, target};

/// How long a disabled pool is given until every node has seen it, before its blocks go (spec 1 §1.5).
const POOL_GRACE: std::time::Duration = std::time::Duration::from_millis(500);

fn refuse(verb: &'static str, key: ResourceKey, reason: impl Into<String>) -> ResourceError {
    ResourceError::NotSupported { verb, key, reason: reason.into() }
}

pub(super) fn invalid(
    field: &str,
    value: impl std::fmt::Display,
    reason: impl std::fmt::Display,
) -> ResourceError {
    ResourceError::Invalid(vec![ValidationError::new(field, value, reason)])
}

impl Resources {
    pub(super) fn guard_create(&self, resource: &AnyResource) -> Result<(), ResourceError> {
        let key = resource.key();
        match resource.kind {
            Kind::Profile if key.name == DEFAULT_ALLOW => Err(ResourceError::AlreadyExists(key)),
            Kind::ClusterInformation => Err(refuse("create", key, "Calico keeps it itself")),
            Kind::BlockAffinity => Err(refuse("create", key, "IPAM keeps them itself")),
            _ => Ok(()),
        }
    }

    pub(super) fn guard_update(&self, resource: &AnyResource) -> Result<(), ResourceError> {
        let key = resource.key();
        match resource.kind {
            Kind::Profile if key.name == DEFAULT_ALLOW => Err(refuse("update", key, "it is built in")),
            Kind::ClusterInformation => Err(refuse("update", key, "Calico keeps it itself")),
            Kind::BlockAffinity => Err(refuse("update", key, "IPAM keeps them itself")),
            _ => Ok(()),
        }
    }

    /// What a resource refers to must be there: a policy's tier. A new pool must not touch others or foreign blocks.
    pub(super) async fn check_references(
        &self,
        resource: &AnyResource,
        is_new: bool,
    ) -> Result<(), ResourceError> {
        if let Some(tier) = resource.tier().filter(|_| is_new) {
            // The default tier is made by the first node; policies may come before it.
            let known =
                tier == calico_api::tier::DEFAULT_TIER || self.entry(Kind::Tier, "", tier).await?.is_some();
            if !known {
                return Err(invalid("spec.tier", tier, "is no tier; create it first"));
            }
        }
        if resource.kind == Kind::IPPool && is_new {
            self.check_pool(resource).await?;
        }
        Ok(())
    }

    async fn check_pool(&self, pool: &AnyResource) -> Result<(), ResourceError> {
        let range = |r: &AnyResource| {
            r.spec.get("cidr").and_then(serde_json::Value::as_str).and_then(|t| t.parse::<Cidr>().ok())
        };
        let Some(cidr) = range(pool) else { return Ok(()) };
        for other in self.list(Kind::IPPool, None).await?.resources {
            let clash =
                other.metadata.name != pool.metadata.name && range(&other).is_some_and(|c| c.overlaps(&cidr));
            if clash {
                return Err(invalid("spec.cidr", cidr, format!("overlaps IPPool {}", other.metadata.name)));
            }
        }
        let Ok(typed) = pool.typed::<IPPoolSpec>() else { return Ok(()) };
        let size = typed.spec.effective_block_size(&cidr);
        for Entry { key, .. } in self.store.list(&Selection::Blocks(cidr.family())).await?.entries {
            if let Key::Block(block) = key
                && block.overlaps(&cidr)
                && block.prefix_len() != size
            {
                let reason = format!("differs from IPAM block {block}, which lies in the pool's range");
                return Err(invalid("spec.blockSize", size, reason));
            }
        }
        Ok(())
    }

    pub(super) async fn guard_delete(&self, key: &ResourceKey) -> Result<(), ResourceError> {
        match key.kind {
            Kind::Profile if key.name == DEFAULT_ALLOW => {
                Err(refuse("delete", key.clone(), "it is built in"))
            }
            Kind::ClusterInformation => Err(refuse("delete", key.clone(), "Calico keeps it itself")),
            Kind::BlockAffinity => Err(refuse("delete", key.clone(), "IPAM keeps them itself")),
            Kind::Tier if TierSpec::BUILT_IN.iter().any(|(name, ..)| *name == key.name) => {
                Err(refuse("delete", key.clone(), "it is built in"))
            }
            Kind::Tier => self.check_tier_unused(key).await,
            _ => Ok(()),
        }
    }

    async fn check_tier_unused(&self, key: &ResourceKey) -> Result<(), ResourceError> {
        for kind in Kind::ALL.iter().copied().filter(|k| k.is_tiered_policy()) {
            for policy in self.list(kind, None).await?.resources {
                if policy.tier() == Some(key.name.as_str()) {
                    return Err(refuse("delete", key.clone(), format!("{} is in it", policy.key())));
                }
            }
        }
        Ok(())
    }

    /// What must be done before the object itself goes: a pool gives up its blocks, a node its endpoints and blocks.
    pub(super) async fn before_delete(&self, key: &ResourceKey) -> Result<(), ResourceError> {
        match key.kind {
            Kind::IPPool => self.drain_pool(key).await,
            Kind::Node => self.drain_node(key).await,
            _ => Ok(()),
        }
    }

    async fn drain_pool(&self, key: &ResourceKey) -> Result<(), ResourceError> {
        let Some(pool) = self.disable_pool(key).await? else { return Ok(()) };
        if let Ok(cidr) = pool.spec.cidr.parse::<Cidr>() {
            drive(&*self.store, ReleaseAffinities::new(Scope::Pool(cidr), false, now())).await?;
        }
        Ok(())
    }

    /// Disables a pool, and gives the nodes time to see it; `None` if there is none any more. Others may change it
    /// meanwhile.
    async fn disable_pool(&self, key: &ResourceKey) -> Result<Option<IPPool>, ResourceError> {
        let mut conflicts = 0;
        loop {
            let Some(entry) = self.entry(Kind::IPPool, "", &key.name).await? else { return Ok(None) };
            let mut pool = calico_api::decode::<IPPoolSpec>(&entry)?;
            if pool.spec.disabled {
                return Ok(Some(pool));
            }
            pool.spec.disabled = true;
            let value = calico_api::merge(&entry, &pool)?;
            match self.store.commit(&[Write::update(entry.key.clone(), value, entry.revision)]).await {
                Ok(_) => {
                    // No node says that it has seen it: time is all there is to go by.
                    tokio::time::sleep(POOL_GRACE).await;
                    return Ok(Some(pool));
                }
                Err(CommitError::Conflict { .. }) if conflicts < ipam_settings::TRIES => {
                    conflicts += 1;
                    wait_for_others(conflicts).await;
                }
                Err(CommitError::Conflict { .. }) => return Err(ResourceError::Contended(key.clone())),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Deletes an endpoint as it was listed, and releases the addresses that were assigned while it was: one that has
    /// changed since, or an address that is another's by now, is left alone.
    async fn drain_endpoint(&self, endpoint: &AnyResource) -> Result<(), ResourceError> {
        let mut targets = Vec::new();
        for address in addresses(endpoint) {
            let found = drive(&*self.store, AssignmentOf::new(address)).await?;
            targets.extend(found.map(|assignment| target(address, &assignment)));
        }
        let key = endpoint.key();
        let revision = endpoint.metadata.resource_version.clone();
        match self
            .store
            .commit(&[Write::delete(Key::Resource(key.clone()), Revision(revision.clone()))])
            .await
        {
            Ok(_) => {}
            // Whoever deleted it releases its addresses.
            Err(CommitError::Conflict { current: None, .. }) => return Ok(()),
            Err(CommitError::Conflict { .. }) => return Err(ResourceError::Conflict(key, revision)),
            Err(error) => return Err(error.into()),
        }
        drive(&*self.store, ReleaseAddresses::new(targets, now())).await?;
        Ok(())
    }

    async fn drain_node(&self, key: &ResourceKey) -> Result<(), ResourceError> {
        for endpoint in self.list(Kind::WorkloadEndpoint, None).await?.resources {
            let node = endpoint.spec.get("node").and_then(serde_json::Value::as_str);
            if node == Some(key.name.as_str()) {
                self.drain_endpoint(&endpoint).await?;
            }
        }
        let tunnels = ["ipip-tunnel-addr", "vxlan-tunnel-addr", "vxlan-v6-tunnel-addr"]
            .into_iter()
            .chain(["wireguard-tunnel-addr", "wireguard-v6-tunnel-addr"]);
        for tunnel in tunnels {
            let handle = format!("{tunnel}-{}", key.name);
            if self.store.get(&Key::Handle(handle.as_str().into())).await?.is_some() {
                drive(&*self.store, ReleaseByHandle::new(&handle, now())).await?;
            }
        }
        drive(&*self.store, ReleaseAffinities::remove_host(&key.name, now())).await?;
        Ok(())
    }
}

/// An endpoint's addresses.
fn addresses(endpoint: &AnyResource) -> Vec<IpAddr> {
    let networks = endpoint.typed::<WorkloadEndpointSpec>().map(|e| e.spec.ip_networks).unwrap_or_default();
    networks.iter().filter_map(|n| n.parse::<Cidr>().ok()).map(|c| c.addr()).collect()
}
