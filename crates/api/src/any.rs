//! A resource of any kind, as raw JSON: what passes through without being understood.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::codec::{self, DecodeError};
use crate::felix_config::resource_row;
use crate::key::{Key, Kind, ResourceKey};
use crate::meta::{API_VERSION, Metadata, Resource, Spec};
use crate::record::Entry;
use crate::{
    BGPConfigurationSpec, BGPFilterSpec, BGPPeerSpec, CalicoNodeStatusSpec, ClusterInformationSpec,
    GlobalNetworkPolicySpec, GlobalNetworkSetSpec, HostEndpointSpec, IPAMConfigurationSpec, IPPoolSpec,
    IPReservationSpec, KubeControllersConfigurationSpec, NetworkPolicySpec, NetworkSetSpec, NodeSpec,
    ProfileSpec, TierSpec, WorkloadEndpointSpec,
};

/// One object of any kind. The specification is JSON; [`AnyResource::typed`] gives it a type.
#[derive(Clone, Debug, PartialEq)]
pub struct AnyResource {
    /// What it is.
    pub kind: Kind,
    /// Name, labels and the rest.
    pub metadata: Metadata,
    /// What the user wants.
    pub spec: Map<String, Value>,
    /// What the system reports.
    pub status: Option<Value>,
}

impl AnyResource {
    /// The key under which it is stored.
    pub fn key(&self) -> ResourceKey {
        ResourceKey {
            kind: self.kind,
            namespace: self.metadata.namespace.clone(),
            name: self.metadata.name.clone(),
        }
    }

    /// The tier named, for the policy kinds that have tiers.
    pub fn tier(&self) -> Option<&str> {
        self.kind
            .is_tiered_policy()
            .then(|| self.spec.get("tier").and_then(Value::as_str).unwrap_or_default())
    }

    /// The resource with its kind's type.
    pub fn typed<S: Spec>(&self) -> Result<Resource<S>, serde_json::Error> {
        let status = match &self.status {
            Some(status) => Some(S::Status::deserialize(status)?),
            None => None,
        };
        let spec = S::deserialize(codec::without_nulls(Value::Object(self.spec.clone())))?;
        Ok(Resource { metadata: self.metadata.clone(), spec, status })
    }

    /// The stored object, with its storage form undone (spec 1 §2.5) and its revision filled in.
    pub fn decode(entry: &Entry) -> Result<AnyResource, DecodeError> {
        let fail = |e: serde_json::Error| DecodeError::new(&entry.key, &e);
        let Key::Resource(ResourceKey { kind, .. }) = &entry.key else {
            return Err(DecodeError::not_a_resource(&entry.key));
        };
        let body: Value = serde_json::from_slice(&entry.value).map_err(fail)?;
        let mut resource = AnyResource::from_json(*kind, body).map_err(fail)?;
        let tier = resource.tier().map(str::to_owned);
        codec::undo_storage_form(tier.as_deref(), &mut resource.metadata);
        resource.metadata.resource_version = entry.revision.0.clone();
        Ok(resource)
    }

    /// The value to store.
    pub fn encode(&self) -> bytes::Bytes {
        bytes::Bytes::from(crate::codec::to_json(&self.stored_json()).expect("JSON values always serialise"))
    }

    pub(crate) fn stored_json(&self) -> Value {
        let mut stored = self.clone();
        codec::apply_storage_form(stored.kind, &mut stored.metadata);
        if stored.status.is_none() && stored.kind.stores_status() {
            stored.status = Some(Value::Object(Map::new()));
        }
        stored.to_json()
    }

    /// The value to store when `self` replaces what `stored` holds: unlike [`AnyResource::encode`], fields of the
    /// stored object that this version does not know stay.
    ///
    /// # Errors
    /// When `stored` holds no resource of this kind.
    pub fn merge_into(&self, stored: &Entry) -> Result<bytes::Bytes, DecodeError> {
        codec::merge_any(stored, self)
    }

    /// The part of the resource that a file speaks of when it says nothing: fields of specification and status that
    /// this version knows, and of metadata, which others add to (owners, finalizers), what `edited` names too. Kinds
    /// without a type, and what cannot be read, stay whole.
    pub(crate) fn understood(&self, edited: &AnyResource) -> AnyResource {
        let mut part = self.understood_body();
        part.metadata.other.retain(|name, _| edited.metadata.other.contains_key(name));
        part
    }

    fn understood_body(&self) -> AnyResource {
        fn part<S: Spec>(resource: &AnyResource) -> AnyResource {
            resource.typed::<S>().map_or_else(|_| resource.clone(), |typed| AnyResource::from(&typed))
        }
        match self.kind {
            Kind::BGPConfiguration => part::<BGPConfigurationSpec>(self),
            Kind::BGPFilter => part::<BGPFilterSpec>(self),
            Kind::BGPPeer => part::<BGPPeerSpec>(self),
            Kind::CalicoNodeStatus => part::<CalicoNodeStatusSpec>(self),
            Kind::ClusterInformation => part::<ClusterInformationSpec>(self),
            Kind::GlobalNetworkPolicy => part::<GlobalNetworkPolicySpec>(self),
            Kind::GlobalNetworkSet => part::<GlobalNetworkSetSpec>(self),
            Kind::HostEndpoint => part::<HostEndpointSpec>(self),
            Kind::IPAMConfiguration => part::<IPAMConfigurationSpec>(self),
            Kind::IPPool => part::<IPPoolSpec>(self),
            Kind::IPReservation => part::<IPReservationSpec>(self),
            Kind::KubeControllersConfiguration => part::<KubeControllersConfigurationSpec>(self),
            Kind::NetworkPolicy => part::<NetworkPolicySpec>(self),
            Kind::NetworkSet => part::<NetworkSetSpec>(self),
            Kind::Node => part::<NodeSpec>(self),
            Kind::Profile => part::<ProfileSpec>(self),
            Kind::Tier => part::<TierSpec>(self),
            Kind::WorkloadEndpoint => part::<WorkloadEndpointSpec>(self),
            Kind::FelixConfiguration => {
                // Its type takes every option: those that the table does not name are not known.
                let mut known = self.clone();
                known.spec.retain(|name, _| name == "nodeSelector" || resource_row(name).is_some());
                known
            }
            Kind::BlockAffinity
            | Kind::KubernetesClusterNetworkPolicy
            | Kind::KubernetesEndpointSlice
            | Kind::KubernetesNetworkPolicy
            | Kind::KubernetesSecret
            | Kind::KubernetesService
            | Kind::StagedGlobalNetworkPolicy
            | Kind::StagedKubernetesNetworkPolicy
            | Kind::StagedNetworkPolicy => self.clone(),
        }
    }

    /// The object as one JSON value: kind, apiVersion, metadata, spec, status.
    pub fn to_json(&self) -> Value {
        let mut object = Map::new();
        object.insert("kind".to_owned(), self.kind.name().into());
        object.insert("apiVersion".to_owned(), API_VERSION.into());
        let metadata = serde_json::to_value(&self.metadata).expect("metadata is plain text and JSON");
        object.insert("metadata".to_owned(), metadata);
        object.insert("spec".to_owned(), Value::Object(self.spec.clone()));
        if let Some(status) = &self.status {
            object.insert("status".to_owned(), status.clone());
        }
        Value::Object(object)
    }

    /// Reads metadata, spec and status of an object whose kind is known already. An absent specification is empty.
    pub fn from_json(kind: Kind, body: Value) -> Result<AnyResource, serde_json::Error> {
        #[derive(Deserialize)]
        struct Body {
            #[serde(default)]
            metadata: Option<Metadata>,
            #[serde(default)]
            spec: Option<Map<String, Value>>,
            #[serde(default)]
            status: Option<Value>,
        }
        let Body { metadata, spec, status } = serde_json::from_value(codec::without_null_metadata(body))?;
        Ok(AnyResource {
            kind,
            metadata: metadata.unwrap_or_default(),
            spec: spec.unwrap_or_default(),
            status,
        })
    }
}

impl<S: Spec> From<&Resource<S>> for AnyResource {
    fn from(resource: &Resource<S>) -> AnyResource {
        let spec = match serde_json::to_value(&resource.spec) {
            Ok(Value::Object(spec)) => spec,
            _ => unreachable!("specifications are structs with text keys"),
        };
        let status = resource
            .status
            .as_ref()
            .map(|s| serde_json::to_value(s).expect("statuses are structs with text keys"));
        AnyResource { kind: S::KIND, metadata: resource.metadata.clone(), spec, status }
    }
}

impl Serialize for AnyResource {
    fn serialize<Z: serde::Serializer>(&self, s: Z) -> Result<Z::Ok, Z::Error> {
        self.to_json().serialize(s)
    }
}
