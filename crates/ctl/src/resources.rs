//! The rules of reading and writing resources, over any store (spec 1 §1.2–1.5, §2.5).

mod affinity;
mod guard;
mod ipam_settings;
mod write;

use std::sync::Arc;

use calico_api::document::lines;
use calico_api::profile::DEFAULT_ALLOW;
use calico_api::{
    AnyResource, DecodeError, Entry, Key, Kind, Order, Profile, ProfileSpec, Selection, TierSpec,
};
use calico_store::ipam::DriveError;
use calico_store::{CommitError, GetError, ListError, Store};
use smol_str::SmolStr;

/// A client of one datastore.
pub(crate) struct Resources {
    pub(crate) store: Arc<dyn Store>,
}

/// What a list found.
pub(crate) struct Found {
    /// In the order of their keys; tiers by order.
    pub(crate) resources: Vec<AnyResource>,
    /// The store's revision.
    pub(crate) revision: SmolStr,
    /// Stored objects that cannot be read.
    pub(crate) unreadable: Vec<DecodeError>,
}

/// Why a resource was not read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ResourceError {
    /// There is one already.
    #[error("resource already exists: {0}")]
    AlreadyExists(calico_api::ResourceKey),
    /// There is none.
    #[error("resource does not exist: {0}")]
    DoesNotExist(calico_api::ResourceKey),
    /// It has changed since it was read.
    #[error("update conflict: {0}: it has changed since revision {1} was read; get it again")]
    Conflict(calico_api::ResourceKey, SmolStr),
    /// What is written beside it kept changing meanwhile.
    #[error("update conflict: {0}: others are changing what belongs to it; try again")]
    Contended(calico_api::ResourceKey),
    /// IPAM's settings would contradict themselves.
    #[error(transparent)]
    Settings(#[from] calico_ipam::ConfigError),
    /// It breaks rules.
    #[error("{}", lines(.0))]
    Invalid(Vec<calico_api::ValidationError>),
    /// Such objects cannot be written so.
    #[error("operation {verb} is not supported on {key}: {reason}")]
    NotSupported {
        /// What was tried.
        verb: &'static str,
        /// On what.
        key: calico_api::ResourceKey,
        /// Why not.
        reason: String,
    },
    /// The stored object cannot be read.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The store's own.
    #[error(transparent)]
    Get(#[from] GetError),
    /// The store's own.
    #[error(transparent)]
    List(#[from] ListError),
    /// The store's own.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// IPAM did not give up what the object needs.
    #[error(transparent)]
    Ipam(#[from] anyhow::Error),
}

impl<E: std::error::Error + Send + Sync + 'static> From<DriveError<E>> for ResourceError {
    fn from(error: DriveError<E>) -> ResourceError {
        ResourceError::Ipam(error.into())
    }
}

impl Resources {
    async fn entry(&self, kind: Kind, namespace: &str, name: &str) -> Result<Option<Entry>, GetError> {
        self.store.get(&Key::resource(kind, namespace, name)).await
    }

    /// Reads one resource.
    pub(crate) async fn get(
        &self,
        kind: Kind,
        namespace: &str,
        name: &str,
    ) -> Result<AnyResource, ResourceError> {
        if kind == Kind::Profile && name == DEFAULT_ALLOW {
            return Ok(default_allow());
        }
        if kind == Kind::BlockAffinity {
            let found = self.list(kind, None).await?.resources.into_iter().find(|r| r.metadata.name == name);
            return found.ok_or_else(|| {
                ResourceError::DoesNotExist(calico_api::ResourceKey {
                    kind,
                    namespace: SmolStr::default(),
                    name: name.into(),
                })
            });
        }
        match self.entry(kind, namespace, name).await? {
            Some(entry) => Ok(AnyResource::decode(&entry)?),
            None => Err(ResourceError::DoesNotExist(calico_api::ResourceKey {
                kind,
                namespace: namespace.into(),
                name: name.into(),
            })),
        }
    }

    /// Reads all resources of a kind, in one namespace or in all.
    pub(crate) async fn list(&self, kind: Kind, namespace: Option<&str>) -> Result<Found, ResourceError> {
        let namespace = namespace.map(SmolStr::new);
        let selection = match kind {
            Kind::BlockAffinity => Selection::Affinities { owner: None, family: None },
            _ => Selection::Resources { kind, namespace, name_prefix: SmolStr::default() },
        };
        let listing = self.store.list(&selection).await?;
        let mut resources = Vec::new();
        let mut unreadable = Vec::new();
        for entry in &listing.entries {
            match affinity::resource(entry).unwrap_or_else(|| AnyResource::decode(entry)) {
                Ok(resource) => resources.push(resource),
                Err(error) => unreadable.push(error),
            }
        }
        match kind {
            Kind::Profile => {
                let place = resources.partition_point(|r| r.metadata.name.as_str() < DEFAULT_ALLOW);
                resources.insert(place, default_allow());
            }
            Kind::Tier => resources.sort_by_key(|r| (tier_order(r), r.metadata.name.clone())),
            _ => {}
        }
        Ok(Found { resources, revision: listing.revision.0, unreadable })
    }
}

fn tier_order(tier: &AnyResource) -> Order {
    tier.spec.get("order").and_then(serde_json::Value::as_f64).map_or(TierSpec::DEFAULT_ORDER, Order)
}

/// The built-in profile: stored nowhere, present everywhere (spec 1 §1.3).
fn default_allow() -> AnyResource {
    let mut profile = AnyResource::from(&Profile::new("", DEFAULT_ALLOW, ProfileSpec::allow_all()));
    profile.metadata.resource_version = SmolStr::new_static("1");
    profile
}
