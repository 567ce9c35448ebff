//! IPAM's settings in their two places: the resource that users see and the record that IPAM reads (spec 5 §2.4). Writing
//! either writes both, in one commit. Where there is no record, IPAM's defaults hold.

use calico_api::{
    AnyResource, Entry, IPAMConfigurationSpec, IpamConfig, Key, Kind, ResourceKey, Write, decode_record,
    encode_record, merge,
};
use calico_ipam::ConfigEdit;
use calico_store::contention::wait_for_others;
use calico_store::{Atomicity, CommitError};
use smol_str::SmolStr;

use super::{ResourceError, Resources};

/// How often a change is tried that somebody else's write came before.
pub(super) const TRIES: u32 = 20;

impl Resources {
    /// What must be written in one commit with a resource: nothing where commits are not whole. There the two places may be
    /// one object (they are on the Kubernetes API), which must not be written twice from one reading.
    pub(super) async fn companions_in_commit(
        &self,
        resource: &AnyResource,
    ) -> Result<Vec<Write>, ResourceError> {
        match self.store.atomicity() {
            Atomicity::Atomic => self.companions(resource).await,
            Atomicity::Sequential => Ok(Vec::new()),
        }
    }

    /// Writes what [`Resources::companions_in_commit`] has left to be written after the resource.
    pub(super) async fn write_companions_after(&self, resource: &AnyResource) -> Result<(), ResourceError> {
        if self.store.atomicity() == Atomicity::Atomic {
            return Ok(());
        }
        let mut conflicts = 0;
        loop {
            let writes = self.companions(resource).await?;
            if self.try_companions(&writes, &resource.key(), &mut conflicts).await? {
                return Ok(());
            }
        }
    }

    /// Deletes what goes with a resource, after it, where commits are not whole.
    pub(super) async fn delete_companions_after(&self, key: &ResourceKey) -> Result<(), ResourceError> {
        let mut conflicts = 0;
        loop {
            let writes = self.companion_deletions(key).await?;
            if self.try_companions(&writes, key, &mut conflicts).await? {
                return Ok(());
            }
        }
    }

    /// Whether the writes were done; if not, somebody else's came before them.
    async fn try_companions(
        &self,
        writes: &[Write],
        key: &ResourceKey,
        conflicts: &mut u32,
    ) -> Result<bool, ResourceError> {
        if writes.is_empty() {
            return Ok(true);
        }
        match self.store.commit(writes).await {
            Ok(_) => Ok(true),
            Err(CommitError::Conflict { .. }) if *conflicts < TRIES => {
                *conflicts += 1;
                wait_for_others(*conflicts).await;
                Ok(false)
            }
            Err(CommitError::Conflict { .. }) => Err(ResourceError::Contended(key.clone())),
            Err(error) => Err(error.into()),
        }
    }

    /// What must be written beside a resource: IPAM's record follows the settings. Nothing for other kinds, and where the
    /// record says the same already.
    async fn companions(&self, resource: &AnyResource) -> Result<Vec<Write>, ResourceError> {
        if resource.kind != Kind::IPAMConfiguration {
            return Ok(Vec::new());
        }
        let typed = resource
            .typed::<IPAMConfigurationSpec>()
            .map_err(|e| super::guard::invalid("spec", "", e.to_string()))?;
        let stored = self.store.get(&Key::IpamConfig).await?;
        let old = read(stored.as_ref())?;
        let new = old.clone().with_spec(&typed.spec);
        Ok(record_write(stored.as_ref(), &old, &new).into_iter().collect())
    }

    /// What must be deleted with a resource: without the settings, their defaults hold for IPAM too.
    pub(super) async fn companion_deletions(&self, key: &ResourceKey) -> Result<Vec<Write>, ResourceError> {
        if key.kind != Kind::IPAMConfiguration {
            return Ok(Vec::new());
        }
        let stored = self.store.get(&Key::IpamConfig).await?;
        Ok(stored.map(|entry| Write::delete(entry.key, entry.revision)).into_iter().collect())
    }

    /// Changes some of the settings that hold for IPAM; gives those that hold then.
    pub(crate) async fn configure_ipam(&self, edit: ConfigEdit) -> Result<IpamConfig, ResourceError> {
        let mut conflicts = 0;
        loop {
            let record = self.store.get(&Key::IpamConfig).await?;
            let resource = self.entry(Kind::IPAMConfiguration, "", "default").await?;
            let old = read(record.as_ref())?;
            let new = edit.apply(&old)?;
            let mut writes = vec![];
            writes.extend(record_write(record.as_ref(), &old, &new));
            writes.extend(resource_write(resource.as_ref(), &new)?);
            if writes.is_empty() {
                return Ok(new);
            }
            match self.store.commit(&writes).await {
                Ok(_) => return Ok(new),
                Err(CommitError::Conflict { .. }) if conflicts < TRIES => {
                    conflicts += 1;
                    wait_for_others(conflicts).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}

fn read(record: Option<&Entry>) -> Result<IpamConfig, ResourceError> {
    Ok(record.map(decode_record).transpose()?.unwrap_or_default())
}

fn record_write(stored: Option<&Entry>, old: &IpamConfig, new: &IpamConfig) -> Option<Write> {
    match stored {
        Some(_) if old == new => None,
        Some(entry) => Some(Write::update(Key::IpamConfig, encode_record(new), entry.revision.clone())),
        None => Some(Write::create(Key::IpamConfig, encode_record(new))),
    }
}

fn resource_write(stored: Option<&Entry>, config: &IpamConfig) -> Result<Option<Write>, ResourceError> {
    let spec = IPAMConfigurationSpec::from(config);
    let Some(entry) = stored else {
        let mut resource = AnyResource::from(&calico_api::IPAMConfiguration::new("", "default", spec));
        resource.metadata.uid = SmolStr::from(uuid::Uuid::new_v4().to_string());
        resource.metadata.creation_timestamp = Some(SmolStr::from(crate::ipam::now().rfc3339()));
        return Ok(Some(Write::create(Key::Resource(resource.key()), resource.encode())));
    };
    let mut resource = calico_api::decode::<IPAMConfigurationSpec>(entry)?;
    if resource.spec == spec {
        return Ok(None);
    }
    resource.spec = spec;
    let value = merge(entry, &resource)?;
    Ok(Some(Write::update(entry.key.clone(), value, entry.revision.clone())))
}
