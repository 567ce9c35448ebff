//! What a pod adds to its endpoint: labels, profiles, named ports, and what its annotations ask for. The same that the
//! Kubernetes datastore shows for it (spec 1 §3.5).

use std::net::IpAddr;

use calico_api::kubernetes::pod::{Pod, entry};
use calico_api::workload_endpoint::{IpNat, WorkloadEndpointSpec};
use calico_api::{Resource, decode};
use smol_str::format_smolstr;

use crate::annotations::Wishes;
use crate::error::{CniError, Code};

/// Makes an endpoint a pod's. What the pod does not say any more is gone from it.
pub fn describe(
    endpoint: &mut Resource<WorkloadEndpointSpec>,
    pod: &Pod,
    interface_prefix: &str,
    wishes: &Wishes,
    addresses: &[IpAddr],
) -> Result<(), CniError> {
    let wrong =
        |e: &dyn std::fmt::Display| CniError::new(Code::InvalidConfiguration, "cannot read the pod", e);
    let converted = entry(pod, interface_prefix).map_err(|e| wrong(&e))?;
    let converted = converted
        .ok_or_else(|| wrong(&"it is not scheduled to a node, or it uses the network of its node"))?;
    for problem in &converted.problems {
        tracing::warn!(%problem, "passed over");
    }
    let of_pod = decode::<WorkloadEndpointSpec>(&converted.entry).map_err(|e| wrong(&e))?;
    endpoint.metadata.labels = of_pod.metadata.labels;
    endpoint.metadata.annotations.extend(of_pod.metadata.annotations);
    endpoint.metadata.other.extend(of_pod.metadata.other);
    let nat = |(internal, external): (IpAddr, IpAddr)| IpNat {
        internal_ip: format_smolstr!("{internal}"),
        external_ip: format_smolstr!("{external}"),
    };
    // Its addresses are not in the API yet.
    let ip_nats = wishes.translations(addresses)?.into_iter().map(nat).collect();
    let WorkloadEndpointSpec {
        service_account_name,
        profiles,
        ports,
        allow_spoofed_source_prefixes,
        qos_controls,
        ..
    } = of_pod.spec;
    endpoint.spec = WorkloadEndpointSpec {
        service_account_name,
        profiles,
        ports,
        ip_nats,
        allow_spoofed_source_prefixes,
        qos_controls,
        ..std::mem::take(&mut endpoint.spec)
    };
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn described(mut pod: Value, wishes: &Wishes) -> Result<Value, CniError> {
        pod["metadata"]["name"] = "web".into();
        pod["metadata"]["namespace"] = "shop".into();
        let pod: Pod = serde_json::from_value(pod).expect("a pod");
        let mut endpoint = Resource::new("shop", "a-k8s-web-eth0", WorkloadEndpointSpec::default());
        endpoint.metadata.labels.insert("of".into(), "before".into());
        endpoint.spec.profiles = vec!["net".into()];
        endpoint.spec.container_id = "c1".into();
        let own = ["10.0.0.1".parse().expect("address")];
        describe(&mut endpoint, &pod, "cali", wishes, &own)?;
        Ok(serde_json::to_value(endpoint).expect("JSON"))
    }

    #[test]
    fn a_pod_is_described_whole() {
        let pod = json!({
            "metadata": {
                "generateName": "web-",
                "labels": {"app": "web", "projectcalico.org/serviceaccount": "forged"},
                "annotations": {
                    "cni.projectcalico.org/allowedSourcePrefixes": "[\"10.1.0.0/16\"]",
                    "qos.projectcalico.org/ingressBandwidth": "1M",
                },
            },
            "spec": {
                "nodeName": "a",
                "serviceAccountName": "robot",
                "containers": [
                    {"ports": [{"name": "http", "containerPort": 80}, {"containerPort": 81}]},
                    {"ports": [{"containerPort": 53, "protocol": "UDP", "hostPort": 5353, "hostIP": "192.0.2.1"}]},
                ],
            },
        });
        let wishes = Wishes { floating: vec!["192.0.2.9".parse().expect("address")], ..Wishes::default() };
        let endpoint = described(pod, &wishes).expect("described");
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
        assert!(endpoint["spec"]["qosControls"].is_object(), "{endpoint}");
        let mut spec = endpoint["spec"].clone();
        spec.as_object_mut().expect("object").remove("qosControls");
        assert_eq!(
            spec,
            json!({
                "containerID": "c1",
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
    fn a_pod_that_has_no_endpoint_is_refused() {
        let error = described(json!({"metadata": {}, "spec": {}}), &Wishes::default()).expect_err("no node");
        assert!(error.details.contains("not scheduled"), "{error}");
    }
}
