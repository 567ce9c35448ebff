//! What a pod adds to its endpoint: labels, profiles, named ports, and what its annotations ask for. The same that the
//! Kubernetes datastore shows for it (spec 1 §3.5).

use std::net::IpAddr;

use calico_api::Resource;
use calico_api::meta::Labels;
use calico_api::number::ProtocolForm;
use calico_api::workload_endpoint::{IpNat, WorkloadEndpointSpec, WorkloadPort};
use smol_str::{SmolStr, format_smolstr};

use crate::annotations::Wishes;
use crate::endpoint::Identity;
use crate::error::CniError;
use crate::kubernetes::{Container, Pod};

/// The label of a pod's service account.
const SERVICE_ACCOUNT: &str = "projectcalico.org/serviceaccount";
/// A label's value holds 63 characters; Calico leaves out what reaches that.
const MAX_LABEL: usize = 63;

/// Makes an endpoint a pod's. What the pod does not say any more is gone from it.
pub fn describe(
    endpoint: &mut Resource<WorkloadEndpointSpec>,
    identity: &Identity,
    pod: &Pod,
    wishes: &Wishes,
    addresses: &[IpAddr],
) -> Result<(), CniError> {
    let Pod { metadata, spec: pod_spec } = pod;
    let account = &pod_spec.service_account_name;
    endpoint.metadata.labels = labels(&metadata.labels, identity, account);
    if !metadata.generate_name.is_empty() {
        let name = metadata.generate_name.as_str().into();
        endpoint.metadata.other.insert("generateName".to_owned(), name);
    }
    let spec = &mut endpoint.spec;
    spec.service_account_name = account.clone();
    spec.profiles = profiles(&identity.namespace, account);
    spec.ports = pod_spec.containers.iter().chain(&pod_spec.init_containers).flat_map(ports).collect();
    let nat = |(internal, external): (IpAddr, IpAddr)| IpNat {
        internal_ip: format_smolstr!("{internal}"),
        external_ip: format_smolstr!("{external}"),
    };
    spec.ip_nats = wishes.translations(addresses)?.into_iter().map(nat).collect();
    spec.allow_spoofed_source_prefixes = wishes.allowed_sources.clone();
    Ok(())
}

fn labels(of_pod: &Labels, identity: &Identity, account: &SmolStr) -> Labels {
    let mut labels = of_pod.clone();
    for (key, value) in [("namespace", &identity.namespace), ("orchestrator", &identity.orchestrator)] {
        labels.insert(format_smolstr!("projectcalico.org/{key}"), value.clone());
    }
    // A pod may not claim another's account by a label of its own.
    labels.remove(SERVICE_ACCOUNT);
    if !account.is_empty() && account.len() < MAX_LABEL {
        labels.insert(SmolStr::new_static(SERVICE_ACCOUNT), account.clone());
    }
    labels
}

fn profiles(namespace: &str, account: &str) -> Vec<SmolStr> {
    let of_account = (!account.is_empty()).then(|| format_smolstr!("ksa.{namespace}.{account}"));
    std::iter::once(format_smolstr!("kns.{namespace}")).chain(of_account).collect()
}

/// Ports that policy or port mapping can refer to: with a name, or with a port of the host.
fn ports(container: &Container) -> impl Iterator<Item = WorkloadPort> {
    container.ports.iter().filter_map(|port| {
        let protocol = match port.protocol.as_str() {
            "" => "TCP",
            known @ ("TCP" | "UDP" | "SCTP") => known,
            _ => return None,
        };
        let is_used = port.container_port != 0 && (!port.name.is_empty() || port.host_port != 0);
        is_used.then(|| WorkloadPort {
            name: port.name.clone(),
            protocol: ProtocolForm::Name(SmolStr::new(protocol)),
            port: port.container_port,
            host_port: port.host_port,
            host_ip: port.host_ip.clone(),
        })
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn described(pod: Value, wishes: &Wishes) -> Value {
        let pod: Pod = serde_json::from_value(pod).expect("a pod");
        let identity = Identity {
            node: "a".into(),
            orchestrator: "k8s".into(),
            namespace: "shop".into(),
            pod: Some("web".into()),
            container_id: "c1".into(),
            ifname: "eth0".into(),
        };
        let mut endpoint = Resource::new("shop", &identity.name(), WorkloadEndpointSpec::default());
        endpoint.metadata.labels.insert("of".into(), "before".into());
        endpoint.spec.profiles = vec!["net".into()];
        let own = ["10.0.0.1".parse().expect("address")];
        describe(&mut endpoint, &identity, &pod, wishes, &own).expect("described");
        serde_json::to_value(endpoint).expect("JSON")
    }

    #[test]
    fn a_pod_is_described_whole() {
        let pod = json!({
            "metadata": {
                "generateName": "web-",
                "labels": {"app": "web", "projectcalico.org/serviceaccount": "forged"},
            },
            "spec": {
                "serviceAccountName": "robot",
                "containers": [
                    {"ports": [{"name": "http", "containerPort": 80}, {"containerPort": 81}]},
                    {"ports": [{"containerPort": 53, "protocol": "UDP", "hostPort": 5353, "hostIP": "192.0.2.1"}]},
                ],
                "initContainers": [{"ports": [{"name": "odd", "containerPort": 1, "protocol": "DCCP"}]}],
            },
        });
        let wishes = Wishes {
            floating: vec!["192.0.2.9".parse().expect("address")],
            allowed_sources: vec!["10.1.0.0/16".into()],
            ..Wishes::default()
        };
        let endpoint = described(pod, &wishes);
        assert_eq!(endpoint["metadata"]["generateName"], "web-");
        assert_eq!(
            endpoint["metadata"]["labels"],
            json!({
                "app": "web",
                "projectcalico.org/namespace": "shop",
                "projectcalico.org/orchestrator": "k8s",
                "projectcalico.org/serviceaccount": "robot",
            })
        );
        assert_eq!(
            endpoint["spec"],
            json!({
                "serviceAccountName": "robot",
                "profiles": ["kns.shop", "ksa.shop.robot"],
                "ports": [
                    {"name": "http", "protocol": "TCP", "port": 80, "hostPort": 0, "hostIP": ""},
                    {"name": "", "protocol": "UDP", "port": 53, "hostPort": 5353, "hostIP": "192.0.2.1"},
                ],
                "ipNATs": [{"internalIP": "10.0.0.1", "externalIP": "192.0.2.9"}],
                "allowSpoofedSourcePrefixes": ["10.1.0.0/16"],
            })
        );
    }

    #[test]
    fn a_pod_that_says_little() {
        let endpoint = described(json!({"spec": {"serviceAccountName": "x".repeat(63)}}), &Wishes::default());
        let labels = endpoint["metadata"]["labels"].as_object().expect("labels");
        assert!(!labels.contains_key(SERVICE_ACCOUNT) && !labels.contains_key("of"), "{labels:?}");
        assert_eq!(endpoint["spec"]["profiles"][1], format!("ksa.shop.{}", "x".repeat(63)));
        assert_eq!(endpoint["spec"].get("ports"), None);
    }
}
