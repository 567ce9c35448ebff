//! What the calculation is told: one key of the datastore, and what it holds now.

use calico_api::kubernetes::endpoint_slice::KubernetesEndpointSlice;
use calico_api::{
    DecodeError, Entry, GlobalNetworkPolicy, GlobalNetworkSet, HostEndpoint, IPPool, IpamBlock, Key, Kind,
    KubernetesClusterNetworkPolicy, KubernetesNetworkPolicy, NetworkPolicy, NetworkSet, Node, Profile,
    ResourceKey, Tier, WorkloadEndpoint,
};
use calico_net::Cidr;

/// A key's present value; `None` when there is none (any more). Keys may come in any order and any number of times.
#[derive(Clone, Debug, PartialEq)]
pub enum Update {
    /// A workload endpoint of any node.
    WorkloadEndpoint(ResourceKey, Option<Box<WorkloadEndpoint>>),
    /// A host endpoint of any node.
    HostEndpoint(ResourceKey, Option<Box<HostEndpoint>>),
    /// A namespaced policy.
    NetworkPolicy(ResourceKey, Option<Box<NetworkPolicy>>),
    /// A slice of the addresses of a service.
    KubernetesEndpointSlice(ResourceKey, Option<Box<KubernetesEndpointSlice>>),
    /// A policy of Kubernetes' own.
    KubernetesNetworkPolicy(ResourceKey, Option<Box<KubernetesNetworkPolicy>>),
    /// A cluster-wide policy of Kubernetes' own.
    KubernetesClusterNetworkPolicy(ResourceKey, Option<Box<KubernetesClusterNetworkPolicy>>),
    /// A global policy.
    GlobalNetworkPolicy(ResourceKey, Option<Box<GlobalNetworkPolicy>>),
    /// A tier.
    Tier(ResourceKey, Option<Box<Tier>>),
    /// A profile.
    Profile(ResourceKey, Option<Box<Profile>>),
    /// A namespaced network set.
    NetworkSet(ResourceKey, Option<Box<NetworkSet>>),
    /// A global network set.
    GlobalNetworkSet(ResourceKey, Option<Box<GlobalNetworkSet>>),
    /// An IP pool.
    IPPool(ResourceKey, Option<Box<IPPool>>),
    /// A node.
    Node(ResourceKey, Option<Box<Node>>),
    /// An IPAM block.
    IpamBlock(Cidr, Option<Box<IpamBlock>>),
    /// A value that cannot be read: the key counts as absent.
    Unreadable(Key, DecodeError),
}

macro_rules! read_kinds {
    ($key:expr, $entry:expr, $($kind:ident),*) => {
        match ($key.kind, $entry) {
            $((Kind::$kind, None) => Some(Update::$kind($key.clone(), None)),
            (Kind::$kind, Some(entry)) => Some(match calico_api::decode(entry) {
                Ok(resource) => Update::$kind($key.clone(), Some(Box::new(resource))),
                Err(error) => Update::Unreadable(entry.key.clone(), error),
            }),)*
            _ => None,
        }
    };
}

impl Update {
    /// Reads a datastore entry, or its absence. `None` for keys that the calculation has no use for.
    pub fn read(key: &Key, entry: Option<&Entry>) -> Option<Update> {
        match key {
            Key::Resource(key) => read_kinds!(
                key,
                entry,
                WorkloadEndpoint,
                HostEndpoint,
                NetworkPolicy,
                KubernetesEndpointSlice,
                KubernetesNetworkPolicy,
                KubernetesClusterNetworkPolicy,
                GlobalNetworkPolicy,
                Tier,
                Profile,
                NetworkSet,
                GlobalNetworkSet,
                IPPool,
                Node
            ),
            Key::Block(cidr) => Some(match entry.map(calico_api::decode_record) {
                None => Update::IpamBlock(*cidr, None),
                Some(Ok(block)) => Update::IpamBlock(*cidr, Some(Box::new(block))),
                Some(Err(error)) => Update::Unreadable(key.clone(), error),
            }),
            _ => None,
        }
    }

    /// The same key without a value.
    pub(crate) fn absent(key: &Key) -> Option<Update> {
        Update::read(key, None)
    }

    /// The key that it speaks of.
    pub fn key(&self) -> Key {
        match self {
            Update::WorkloadEndpoint(key, _)
            | Update::HostEndpoint(key, _)
            | Update::NetworkPolicy(key, _)
            | Update::KubernetesEndpointSlice(key, _)
            | Update::KubernetesNetworkPolicy(key, _)
            | Update::KubernetesClusterNetworkPolicy(key, _)
            | Update::GlobalNetworkPolicy(key, _)
            | Update::Tier(key, _)
            | Update::Profile(key, _)
            | Update::NetworkSet(key, _)
            | Update::GlobalNetworkSet(key, _)
            | Update::IPPool(key, _)
            | Update::Node(key, _) => Key::Resource(key.clone()),
            Update::IpamBlock(cidr, _) => Key::Block(*cidr),
            Update::Unreadable(key, _) => key.clone(),
        }
    }
}

/// Something in the datastore that is not as it should be, and what follows from it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Where.
    pub key: Key,
    /// What is wrong and what is done instead.
    pub text: String,
}
