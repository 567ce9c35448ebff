//! What the controllers know of both datastores: IPAM's records, nodes, pods and their addresses.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use calico_api::kubernetes::pod::place;
use calico_api::{ClusterInformationSpec, Entry, Key, Kind, WorkloadEndpointSpec, decode};
use calico_ipam::Known;
use calico_net::Cidr;
use smol_str::SmolStr;

/// Which pod: namespace and name.
pub type PodId = (SmolStr, SmolStr);

/// What matters of one of a pod's endpoints.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Endpoint {
    /// The node that it is on.
    pub node: SmolStr,
    /// Its addresses. Endpoints of pods that have ended have none.
    pub addresses: Vec<IpAddr>,
    /// The container that the CNI plugin served last; empty before the first. An endpoint that has one and no addresses
    /// has lost them, and does not wait for any.
    pub container: SmolStr,
    /// It is there and cannot be read: whatever is said of it may be wrong.
    pub is_unreadable: bool,
}

/// What is known.
#[derive(Clone, Debug, Default)]
pub struct World {
    /// IPAM's records, pools and reservations.
    pub known: Known,
    /// Calico's names of the nodes that exist in the cluster.
    pub nodes: BTreeSet<SmolStr>,
    /// Endpoints of pods by the names of the endpoints.
    pub pods: BTreeMap<PodId, BTreeMap<SmolStr, Endpoint>>,
    /// Whether the datastore is set up and nobody has locked it.
    pub is_ready: bool,
    /// By the name of an endpoint: its pod, so that one that goes is found.
    owners: BTreeMap<(SmolStr, SmolStr), PodId>,
}

impl World {
    /// Takes in that an entry is so, or that it is gone. Entries that matter to no controller are passed over.
    pub fn observe(&mut self, key: &Key, entry: Option<&Entry>) {
        match key {
            Key::Resource(resource) => match resource.kind {
                Kind::Node if entry.is_some() => {
                    self.nodes.insert(resource.name.clone());
                }
                Kind::Node => {
                    self.nodes.remove(&resource.name);
                }
                Kind::WorkloadEndpoint => self.observe_endpoint(resource, entry),
                Kind::ClusterInformation if resource.name == "default" => {
                    let is_locked = |entry| match decode::<ClusterInformationSpec>(entry) {
                        Ok(information) => information.spec.datastore_ready == Some(false),
                        // Nothing is taken away on the word of something that cannot be read.
                        Err(_) => true,
                    };
                    self.is_ready = entry.is_some_and(|entry| !is_locked(entry));
                }
                Kind::IPPool | Kind::IPReservation => self.observe_record(key, entry),
                _ => {}
            },
            Key::Block(_) | Key::Affinity { .. } | Key::Handle(_) | Key::IpamConfig => {
                self.observe_record(key, entry);
            }
            _ => {}
        }
    }

    fn observe_record(&mut self, key: &Key, entry: Option<&Entry>) {
        match entry {
            Some(entry) => self.known.observe(entry),
            None => self.known.observe_absent(key.clone()),
        }
    }

    fn observe_endpoint(&mut self, key: &calico_api::ResourceKey, entry: Option<&Entry>) {
        let id = (key.namespace.clone(), key.name.clone());
        if let Some(pod) = self.owners.remove(&id)
            && let Some(endpoints) = self.pods.get_mut(&pod)
        {
            endpoints.remove(&key.name);
            if endpoints.is_empty() {
                self.pods.remove(&pod);
            }
        }
        let Some((pod, endpoint)) = entry.and_then(|entry| read_endpoint(key, entry)) else { return };
        self.pods.entry(pod.clone()).or_default().insert(key.name.clone(), endpoint);
        self.owners.insert(id, pod);
    }
}

/// The pod and what matters of its endpoint; `None` for endpoints of other orchestrators.
pub fn read_endpoint(key: &calico_api::ResourceKey, entry: &Entry) -> Option<(PodId, Endpoint)> {
    match decode::<WorkloadEndpointSpec>(entry) {
        Ok(endpoint) => {
            let WorkloadEndpointSpec { node, pod, container_id, ip_networks, .. } = endpoint.spec;
            let networks: Option<Vec<Cidr>> = ip_networks.iter().map(|text| text.parse().ok()).collect();
            let facts = Endpoint {
                node,
                is_unreadable: networks.is_none(),
                addresses: networks.unwrap_or_default().iter().map(Cidr::addr).collect(),
                container: container_id,
            };
            (!pod.is_empty()).then(|| ((key.namespace.clone(), pod), facts))
        }
        Err(_) => {
            let place = place(key)?;
            let facts = Endpoint { node: place.node, is_unreadable: true, ..Endpoint::default() };
            Some(((place.namespace, place.pod), facts))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use calico_api::{ClusterInformation, Resource, Revision, encode};

    fn entry(key: &Key, value: impl Into<Vec<u8>>) -> Entry {
        Entry { key: key.clone(), value: value.into().into(), revision: Revision::from(1) }
    }

    #[test]
    fn endpoints_are_found_by_their_pod() {
        let mut world = World::default();
        let key = Key::resource(Kind::WorkloadEndpoint, "shop", "n1-k8s-web--0-eth0");
        let pod = ("shop".into(), "web-0".into());
        let spec = WorkloadEndpointSpec {
            node: "n1".into(),
            pod: "web-0".into(),
            container_id: "c1".into(),
            ip_networks: vec!["10.0.0.1/32".into(), "fd00::1/128".into()],
            ..WorkloadEndpointSpec::default()
        };
        world.observe(&key, Some(&entry(&key, encode(&Resource::new("shop", "n1-k8s-web--0-eth0", spec)))));
        let found = &world.pods[&pod]["n1-k8s-web--0-eth0"];
        assert_eq!(found.addresses, ["10.0.0.1".parse::<IpAddr>().unwrap(), "fd00::1".parse().unwrap()]);
        assert!(found.container == "c1" && !found.is_unreadable);

        world.observe(&key, Some(&entry(&key, "{")));
        assert!(world.pods[&pod]["n1-k8s-web--0-eth0"].is_unreadable, "it is there, whatever it says");
        world.observe(&key, None);
        assert!(world.pods.is_empty() && world.owners.is_empty());
    }

    #[test]
    fn a_locked_or_unknown_datastore_is_not_ready() {
        let key = Key::resource(Kind::ClusterInformation, "", "default");
        let information = |ready| {
            let spec = ClusterInformationSpec { datastore_ready: ready, ..ClusterInformationSpec::default() };
            encode(&ClusterInformation::new("", "default", spec)).to_vec()
        };
        let mut world = World::default();
        assert!(!world.is_ready);
        for (value, expected) in [
            (Some(information(Some(true))), true),
            (Some(information(Some(false))), false),
            (Some(information(None)), true),
            (Some(b"{".to_vec()), false),
            (None, false),
        ] {
            world.observe(&key, value.clone().map(|value| entry(&key, value)).as_ref());
            assert_eq!(world.is_ready, expected, "{value:?}");
        }
    }
}
