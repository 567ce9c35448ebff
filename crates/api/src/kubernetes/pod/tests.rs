//! Pods as endpoints, and what the CNI plugin writes of them.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::kubernetes::decode;
use crate::workload_endpoint::WorkloadEndpoint;

/// A pod with some of its fields replaced: by JSON pointer, null removes.
fn pod(changes: &[(&str, Value)]) -> Pod {
    let mut object = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "web-0", "namespace": "blue", "uid": "30316465-6365-4463-ad63-3564622d3638",
            "resourceVersion": "7", "creationTimestamp": "2026-01-01T00:00:00Z", "generateName": "web-",
            "labels": {"app": "web"}, "annotations": {}, "managedFields": [{"manager": "x"}]},
        "spec": {"nodeName": "node-1", "serviceAccountName": "robot",
            "containers": [{"name": "c", "image": "i"}]},
        "status": {"phase": "Running", "podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}]},
    });
    for (path, value) in changes {
        let (parent, field) = path.rsplit_once('/').unwrap();
        let parent = object.pointer_mut(parent).unwrap().as_object_mut().unwrap();
        parent.insert(field.replace("~1", "/"), value.clone());
    }
    decode(object.to_string().as_bytes()).unwrap()
}

fn converted(pod: &Pod) -> Converted {
    entry(pod, "cali").unwrap().unwrap()
}

fn endpoint(pod: &Pod) -> WorkloadEndpoint {
    codec::decode(&converted(pod).entry).unwrap()
}

#[test]
fn a_pod_is_an_endpoint() {
    let Converted { entry, problems } = converted(&pod(&[]));
    assert_eq!(entry.key, Key::resource(Kind::WorkloadEndpoint, "blue", "node--1-k8s-web--0-eth0"));
    assert_eq!(entry.revision, Revision("7".into()));
    assert_eq!(problems, []);
    assert_eq!(
        serde_json::from_slice::<Value>(&entry.value).unwrap(),
        json!({"kind": "WorkloadEndpoint", "apiVersion": "projectcalico.org/v3",
            "metadata": {"name": "node--1-k8s-web--0-eth0", "namespace": "blue", "generateName": "web-",
                "uid": "30316465-6365-4463-ad63-3564622d3638", "creationTimestamp": "2026-01-01T00:00:00Z",
                "labels": {"app": "web", "projectcalico.org/namespace": "blue",
                    "projectcalico.org/orchestrator": "k8s", "projectcalico.org/serviceaccount": "robot"}},
            "spec": {"orchestrator": "k8s", "node": "node-1", "pod": "web-0", "endpoint": "eth0",
                "serviceAccountName": "robot", "ipNetworks": ["10.0.0.1/32", "fd00::1/128"],
                "profiles": ["kns.blue", "ksa.blue.robot"],
                "interfaceName": names::interface("cali", "blue", "web-0")}})
    );
    let named = pod(&[("/metadata/namespace", json!("default")), ("/metadata/name", json!("simplePod"))]);
    assert_eq!(endpoint(&named).spec.interface_name, "calibd5189385c4");
}

#[test]
fn some_pods_have_no_part_in_it() {
    assert_eq!(entry(&pod(&[("/spec/nodeName", json!(""))]), "cali"), Ok(None));
    assert_eq!(entry(&pod(&[("/spec/hostNetwork", json!(true))]), "cali"), Ok(None));
}

#[test]
fn the_first_source_of_addresses_counts() {
    let check = |annotations: Value, ips: Value, ip: Value, nets: &[&str]| {
        let changes =
            [("/metadata/annotations", annotations), ("/status/podIPs", ips), ("/status/podIP", ip)];
        assert_eq!(endpoint(&pod(&changes)).spec.ip_networks, nets);
    };
    let written =
        json!({POD_IP: "10.0.0.3/32", POD_IPS: "10.0.0.2/32, fd00::2/128", AWS_POD_IPS: "10.0.0.4"});
    check(written.clone(), json!([{"ip": "10.0.0.9"}]), json!("10.0.0.8"), &["10.0.0.9/32"]);
    check(written.clone(), json!([]), json!("10.0.0.8"), &["10.0.0.8/32"]);
    check(written, json!(null), json!(""), &["10.0.0.2/32", "fd00::2/128"]);
    check(json!({POD_IP: "10.0.0.3/32", AWS_POD_IPS: "10.0.0.4"}), json!([]), json!(""), &["10.0.0.3/32"]);
    check(json!({POD_IP: "", AWS_POD_IPS: "10.0.0.4"}), json!([]), json!(""), &["10.0.0.4/32"]);
    check(json!({}), json!([]), json!(""), &[]);
}

#[test]
fn finished_pods_have_no_addresses() {
    let check = |phase: &str, deleted: Value, annotations: Value, finished: bool| {
        let pod = pod(&[
            ("/status/phase", json!(phase)),
            ("/metadata/deletionTimestamp", deleted),
            ("/metadata/annotations", annotations),
        ]);
        assert_eq!(is_finished(&pod), finished, "{phase}");
        assert_eq!(endpoint(&pod).spec.ip_networks.is_empty(), finished);
    };
    let now = json!("2026-01-02T00:00:00Z");
    for phase in ["Succeeded", "Failed", "Completed"] {
        check(phase, json!(null), json!({}), true);
    }
    check("Running", json!(null), json!({POD_IP: ""}), false);
    check("Running", now.clone(), json!({}), false);
    check("Running", now.clone(), json!({POD_IP: "10.0.0.1/32"}), false);
    check("Running", now.clone(), json!({POD_IP: ""}), true);
    check("Running", now, json!({AWS_POD_IPS: ""}), true);
}

#[test]
fn labels_of_calicos_own_cannot_be_forged() {
    let forged = json!({"app": "web", "pcns.team": "t", "pcsa.projectcalico.org/name": "admin",
        "projectcalico.org/namespace": "red", "projectcalico.org/serviceaccount": "admin"});
    let labels = |account: &str| {
        let changes = [("/metadata/labels", forged.clone()), ("/spec/serviceAccountName", json!(account))];
        json!(endpoint(&pod(&changes)).metadata.labels)
    };
    let own =
        json!({"app": "web", "projectcalico.org/namespace": "blue", "projectcalico.org/orchestrator": "k8s"});
    assert_eq!(labels(""), own);
    assert_eq!(labels(&"a".repeat(63)), own);
    assert_eq!(labels(&"a".repeat(62))["projectcalico.org/serviceaccount"], "a".repeat(62));
    let without = pod(&[("/spec/serviceAccountName", json!(""))]);
    assert_eq!(endpoint(&without).spec.profiles, ["kns.blue"]);
}

#[test]
fn ports_that_can_be_named() {
    let containers = json!([{"ports": [
        {"name": "http", "containerPort": 80},
        {"containerPort": 81},
        {"containerPort": 82, "hostPort": 8082, "hostIP": "192.0.2.1", "protocol": "UDP"},
        {"name": "odd", "containerPort": 83, "protocol": "GRE"},
        {"name": "none"}]}]);
    let first = json!([{"ports": [{"name": "init", "containerPort": 90, "protocol": "SCTP"}]}]);
    let pod = pod(&[("/spec/containers", containers), ("/spec/initContainers", first)]);
    assert_eq!(
        json!(endpoint(&pod).spec.ports),
        json!([
            {"name": "http", "protocol": "TCP", "port": 80, "hostPort": 0, "hostIP": ""},
            {"name": "", "protocol": "UDP", "port": 82, "hostPort": 8082, "hostIP": "192.0.2.1"},
            {"name": "init", "protocol": "SCTP", "port": 90, "hostPort": 0, "hostIP": ""}])
    );
}

#[test]
fn annotations_are_read() {
    let annotations = json!({CONTAINER_ID: "abc", FLOATING_IPS: "[\"192.0.2.1\",\"2001:db8::1\"]",
        ALLOWED_SOURCES: "[\"10.1.0.0/16\",\"192.0.2.7\"]", "kubernetes.io/egress-bandwidth": "2k",
        "qos.projectcalico.org/egressBurst": "1", NETWORK_STATUS: "[]", "other": "x"});
    let pod = pod(&[("/metadata/annotations", annotations)]);
    let Converted { entry, problems } = converted(&pod);
    let object: Value = serde_json::from_slice(&entry.value).unwrap();
    let spec = &object["spec"];
    assert_eq!(spec["containerID"], "abc");
    assert_eq!(
        spec["ipNATs"],
        json!([{"internalIP": "10.0.0.1", "externalIP": "192.0.2.1"},
            {"internalIP": "fd00::1", "externalIP": "2001:db8::1"}])
    );
    assert_eq!(spec["allowSpoofedSourcePrefixes"], json!(["10.1.0.0/16", "192.0.2.7/32"]));
    assert_eq!(spec["qosControls"], json!({"egressBandwidth": 2000, "egressBurst": 1000}));
    assert_eq!(object["metadata"]["annotations"], json!({NETWORK_STATUS: "[]"}));
    assert_eq!(
        problems.iter().map(ToString::to_string).collect::<Vec<_>>(),
        [
            "Pod(blue/web-0): qos.projectcalico.org/egressBurst: \"1\" is not from 1000 to 34359738360; 1000 is used"
        ]
    );
}

#[test]
fn floating_addresses_need_an_address_of_their_family() {
    let floating = ("/metadata/annotations", json!({FLOATING_IPS: "[\"2001:db8::1\"]"}));
    let four = pod(&[floating.clone(), ("/status/podIPs", json!([{"ip": "10.0.0.1"}]))]);
    assert_eq!(endpoint(&four).spec.ip_nats, []);
    assert_eq!(
        converted(&four).problems[0].reason,
        "cni.projectcalico.org/floatingIPs: the pod has no IPv6 address for 2001:db8::1"
    );
    // Not even looked at before there is any address.
    let none = [("/metadata/annotations", json!({FLOATING_IPS: "x"})), ("/status", json!({}))];
    assert_eq!(converted(&pod(&none)).problems, []);
}

#[test]
fn what_decides_what_a_pod_may_do_must_be_readable() {
    let check = |path: &str, value: Value, message: &str| {
        assert_eq!(entry(&pod(&[(path, value)]), "cali").unwrap_err().to_string(), message);
    };
    check(
        "/status/podIPs",
        json!([{"ip": "10.0.0"}]),
        "Pod(blue/web-0): status.podIPs: \"10.0.0\" is no address",
    );
    check(
        "/metadata/annotations",
        json!({FLOATING_IPS: "192.0.2.1"}),
        "Pod(blue/web-0): cni.projectcalico.org/floatingIPs: \"192.0.2.1\" is no JSON list of texts, such as [\"192.0.2.1\"]",
    );
    check(
        "/metadata/annotations",
        json!({ALLOWED_SOURCES: "[\"10.0.0.0/33\"]"}),
        "Pod(blue/web-0): cni.projectcalico.org/allowedSourcePrefixes: prefix length 33 is longer than IPv4 allows (32)",
    );
    check("/spec/nodeName", json!("n-"), "Pod(blue/web-0): node \"n-\" begins or ends with a dash");
}

#[test]
fn keys_lead_back_to_pods() {
    let check = |name: &str, expected: Option<(&str, &str)>| {
        let key = ResourceKey { kind: Kind::WorkloadEndpoint, namespace: "blue".into(), name: name.into() };
        let expected = expected.map(|(node, pod)| Place {
            node: node.into(),
            namespace: "blue".into(),
            pod: pod.into(),
        });
        assert_eq!(place(&key), expected, "{name}");
    };
    check("node--1-k8s-web--0-eth0", Some(("node-1", "web-0")));
    check("node--1-k8s-web--0-", Some(("node-1", "web-0")));
    check("a.b-k8s-p-eth0", Some(("a.b", "p")));
    check("node-k8s-p", Some(("node", "p")));
    check("node-k8s-p-eth1", None);
    check("node-k8s-", None);
    check("node-cni-abc-eth0", None);
    check("node-k8s-p-eth0-x", None);
    check("", None);
}

#[test]
fn writes_are_annotations() {
    let mut written = endpoint(&pod(&[("/metadata/annotations", json!({CONTAINER_ID: "abc"}))]));
    let uid = written.metadata.uid.clone();
    assert_eq!(
        patch(&written),
        json!({"metadata": {"uid": uid, "annotations": {
            POD_IP: "10.0.0.1/32", POD_IPS: "10.0.0.1/32,fd00::1/128", CONTAINER_ID: "abc"}}})
    );
    written.spec.container_id = SmolStr::default();
    assert_eq!(patch(&written)["metadata"]["annotations"].get(CONTAINER_ID), None);
    assert_eq!(
        blank_patch(&uid, None),
        json!({"metadata": {"uid": uid, "annotations": {POD_IP: "", POD_IPS: ""}}})
    );
    assert_eq!(
        blank_patch(&uid, Some(&Revision("7".into())))["metadata"]["resourceVersion"],
        "7",
        "what was read is what is deleted"
    );
}

proptest! {
    /// What the plugin writes is what is read before the kubelet reports.
    #[test]
    fn what_is_written_is_read(v4: bool, v6: bool, pod_name in "[a-z]([-a-z0-9.]{0,8}[a-z0-9])?", container in "[a-f0-9]{0,8}") {
        let mut before = pod(&[("/status", json!({}))]);
        before.metadata.name = pod_name.as_str().into();
        let mut wanted = endpoint(&before);
        wanted.spec.ip_networks = [(v4, "10.0.0.1/32"), (v6, "fd00::1/128")]
            .into_iter().filter(|(there, _)| *there).map(|(_, net)| net.into()).collect();
        wanted.spec.container_id = container.as_str().into();
        let patch = patch(&wanted);
        let mut after = before;
        for (key, value) in patch["metadata"]["annotations"].as_object().unwrap() {
            after.metadata.annotations.insert(key.as_str().into(), value.as_str().unwrap().into());
        }
        let read = endpoint(&after);
        prop_assert_eq!(&read.spec, &wanted.spec);
        let found = place(&read.key()).unwrap();
        prop_assert_eq!((found.node.as_str(), found.pod.as_str()), ("node-1", pod_name.as_str()));
    }
}
