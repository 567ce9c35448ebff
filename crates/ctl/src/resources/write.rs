//! Create, update, apply, delete.

use std::time::Duration;

use calico_api::felix_config::resource_row;
use calico_api::{AnyResource, Key, Kind, Write, defaults, validate, validate_update};
use calico_store::contention::wait_for_others;
use calico_store::{Atomicity, CommitError};
use smol_str::SmolStr;

use super::{ResourceError, Resources, ipam_settings};

/// How often an update is tried that somebody else's write came before.
const UPDATE_TRIES: u32 = 5;
/// The pause between two tries.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

impl Resources {
    /// Creates a resource: defaults and metadata are filled in, then it is checked.
    pub(crate) async fn create(&self, mut resource: AnyResource) -> Result<AnyResource, ResourceError> {
        if !resource.metadata.resource_version.is_empty() {
            return Err(ResourceError::Invalid(vec![calico_api::ValidationError::new(
                "metadata.resourceVersion",
                &resource.metadata.resource_version,
                "must be empty when a resource is created",
            )]));
        }
        self.guard_create(&resource)?;
        defaults::apply(&mut resource);
        check(&resource)?;
        self.check_references(&resource, true).await?;
        if resource.metadata.uid.is_empty() {
            resource.metadata.uid = SmolStr::from(uuid::Uuid::new_v4().to_string());
        }
        resource
            .metadata
            .creation_timestamp
            .get_or_insert_with(|| SmolStr::from(crate::ipam::now().rfc3339()));
        let key = resource.key();
        let mut conflicts = 0;
        loop {
            let mut writes = vec![Write::create(Key::Resource(key.clone()), resource.encode())];
            writes.extend(self.companions_in_commit(&resource).await?);
            match self.store.commit(&writes).await {
                Ok(committed) => {
                    if let Some(revision) = committed.revisions.into_iter().next() {
                        resource.metadata.resource_version = revision.0;
                    }
                    self.write_companions_after(&resource).await?;
                    return Ok(resource);
                }
                Err(CommitError::Conflict { index: 0, .. }) => {
                    return Err(ResourceError::AlreadyExists(key));
                }
                Err(CommitError::Conflict { .. }) if conflicts < ipam_settings::TRIES => {
                    conflicts += 1;
                    wait_for_others(conflicts).await;
                }
                Err(CommitError::Conflict { .. }) => return Err(ResourceError::Contended(key)),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Changes a resource to what is given; server-owned metadata and stored fields that we do not know stay. A
    /// resourceVersion in what is given must be the current one; without one, the newest is changed.
    pub(crate) async fn update(&self, resource: AnyResource) -> Result<AnyResource, ResourceError> {
        self.guard_update(&resource)?;
        let wanted = resource.metadata.resource_version.clone();
        let mut tries = 0;
        loop {
            tries += 1;
            match self.try_update(resource.clone(), &wanted).await {
                Err(ResourceError::Conflict(..)) if wanted.is_empty() && tries < UPDATE_TRIES => {
                    tokio::time::sleep(RETRY_PAUSE).await;
                }
                Err(ResourceError::Contended(_)) if tries < ipam_settings::TRIES => {
                    wait_for_others(tries).await;
                }
                result => return result,
            }
        }
    }

    async fn try_update(
        &self,
        mut resource: AnyResource,
        wanted: &SmolStr,
    ) -> Result<AnyResource, ResourceError> {
        let key = resource.key();
        let entry = self
            .entry(key.kind, &key.namespace, &key.name)
            .await?
            .ok_or_else(|| ResourceError::DoesNotExist(key.clone()))?;
        if !wanted.is_empty() && *wanted != entry.revision.0 {
            return Err(ResourceError::Conflict(key, wanted.clone()));
        }
        let before = AnyResource::decode(&entry)?;
        resource.metadata.uid = before.metadata.uid.clone();
        resource.metadata.creation_timestamp = before.metadata.creation_timestamp.clone();
        if resource.status.is_none() {
            resource.status = before.status.clone();
        }
        leave_unknown_options(&mut resource, &before);
        defaults::apply(&mut resource);
        check(&resource)?;
        let errors = validate_update(&before, &resource);
        if !errors.is_empty() {
            return Err(ResourceError::Invalid(errors));
        }
        self.check_references(&resource, false).await?;
        let value = resource.merge_into(&entry)?;
        let mut writes = vec![Write::update(Key::Resource(key.clone()), value, entry.revision.clone())];
        writes.extend(self.companions_in_commit(&resource).await?);
        match self.store.commit(&writes).await {
            Ok(committed) => {
                if let Some(revision) = committed.revisions.into_iter().next() {
                    resource.metadata.resource_version = revision.0;
                }
                self.write_companions_after(&resource).await?;
                Ok(resource)
            }
            Err(CommitError::Conflict { index: 1.., .. }) => Err(ResourceError::Contended(key)),
            Err(CommitError::Conflict { current: None, .. }) => Err(ResourceError::DoesNotExist(key)),
            Err(CommitError::Conflict { .. }) => Err(ResourceError::Conflict(key, entry.revision.0)),
            Err(error) => Err(error.into()),
        }
    }

    /// Creates a resource, or changes it if it exists.
    pub(crate) async fn apply(&self, resource: AnyResource) -> Result<AnyResource, ResourceError> {
        let mut fresh = resource.clone();
        fresh.metadata.resource_version = SmolStr::default();
        match self.create(fresh).await {
            Err(ResourceError::AlreadyExists(_)) => self.update(resource).await,
            result => result,
        }
    }

    /// Deletes a resource and what goes with it.
    pub(crate) async fn delete(&self, kind: Kind, namespace: &str, name: &str) -> Result<(), ResourceError> {
        let key = calico_api::ResourceKey { kind, namespace: namespace.into(), name: name.into() };
        self.guard_delete(&key).await?;
        if self.entry(kind, namespace, name).await?.is_none() {
            return Err(ResourceError::DoesNotExist(key));
        }
        self.before_delete(&key).await?;
        // A pool was just changed by its own deletion, so its newest revision is what must go.
        let Some(entry) = self.entry(kind, namespace, name).await? else {
            return Err(ResourceError::DoesNotExist(key));
        };
        let is_whole = self.store.atomicity() == Atomicity::Atomic;
        let mut writes = vec![Write::delete(Key::Resource(key.clone()), entry.revision.clone())];
        if is_whole {
            writes.extend(self.companion_deletions(&key).await?);
        }
        match self.store.commit(&writes).await {
            Ok(_) if is_whole => Ok(()),
            Ok(_) => self.delete_companions_after(&key).await,
            Err(CommitError::Conflict { index: 1.., .. }) => Err(ResourceError::Contended(key)),
            Err(CommitError::Conflict { current: None, .. }) => Err(ResourceError::DoesNotExist(key)),
            Err(CommitError::Conflict { .. }) => Err(ResourceError::Conflict(key, entry.revision.0)),
            Err(error) => Err(error.into()),
        }
    }
}

/// Takes out of an edit of a FelixConfiguration the options that we do not know and that it leaves as they are: they
/// stay as stored, and are not for us to check.
fn leave_unknown_options(resource: &mut AnyResource, before: &AnyResource) {
    if resource.kind == Kind::FelixConfiguration {
        let is_known = |name: &str| name == "nodeSelector" || resource_row(name).is_some();
        resource.spec.retain(|name, value| is_known(name) || before.spec.get(name) != Some(value));
    }
}

fn check(resource: &AnyResource) -> Result<(), ResourceError> {
    let errors = validate(resource);
    if errors.is_empty() { Ok(()) } else { Err(ResourceError::Invalid(errors)) }
}
