//! Pods as the API shows them, and answers that are none.

use futures::FutureExt;
use serde_json::{Value, json};

use super::*;

const ADDRESS: &str = "10.0.0.1";

/// What the API answers to every request.
fn api(status: u16, body: Value) -> ApiCluster {
    let body = body.to_string().into_bytes();
    ApiCluster(Arc::new(move |_| {
        let body = body.clone();
        async move { Ok((status, body)) }.boxed()
    }))
}

fn pod(status: Value, annotations: Value) -> Value {
    json!({
        "metadata": { "name": "web", "namespace": "shop", "annotations": annotations },
        "spec": { "nodeName": "n1" },
        "status": status,
    })
}

async fn uses(cluster: &ApiCluster, node: &str) -> Result<bool, AskError> {
    let pod = PodRef { namespace: "shop".into(), name: "web".into(), node: Some(node.into()) };
    let handle = "k8s-pod-network.c1".into();
    cluster.uses(&pod, &AllocationId { handle, address: ADDRESS.parse().unwrap(), sequence: 0 }).await
}

/// What an API server says of what it does not have.
fn unknown(name: &str) -> Value {
    json!({ "kind": "Status", "status": "Failure", "reason": "NotFound", "details": { "name": name }, "code": 404 })
}

#[tokio::test]
async fn pods_are_judged_by_what_they_are() {
    let running = json!({ "phase": "Running", "podIP": ADDRESS, "podIPs": [{ "ip": ADDRESS }] });
    let other = json!({ "phase": "Running", "podIP": "10.0.0.2" });
    let evicted = json!({ "phase": "Failed", "reason": "Evicted", "podIP": ADDRESS });
    let done = json!({ "phase": "Succeeded", "podIP": ADDRESS });
    let waiting = json!({ "phase": "Pending" });
    let written = json!({ "cni.projectcalico.org/podIP": "10.0.0.1/32" });
    let second = json!({ "cni.projectcalico.org/podIPs": "10.0.0.2/32,10.0.0.1/32" });
    let container = |id: &str| json!({ "cni.projectcalico.org/containerID": id });
    let broken = json!({ "cni.projectcalico.org/allowedSourcePrefixes": "not JSON" });
    for (status, annotations, node, expected) in [
        (&running, json!({}), "n1", true),
        (&running, broken, "n1", true),
        (&running, json!({}), "n2", true),
        (&other, json!({}), "n1", false),
        (&other, second, "n1", true),
        // Another network's interface of the same sandbox: the pod's status does not show it.
        (&other, container("c1"), "n1", true),
        (&other, container("c2"), "n1", false),
        (&other, container("1"), "n1", false),
        (&evicted, container("c1"), "n1", false),
        (&evicted, json!({}), "n1", false),
        (&done, written.clone(), "n1", false),
        (&waiting, json!({}), "n1", true),
        (&waiting, json!({}), "n2", false),
        (&waiting, written, "n1", true),
        (&waiting, json!({ "cni.projectcalico.org/podIP": "x" }), "n1", true),
    ] {
        let answer = uses(&api(200, pod(status.clone(), annotations.clone())), node).await;
        assert_eq!(answer, Ok(expected), "{status} {annotations} {node}");
    }
}

#[tokio::test]
async fn absence_is_an_answer_and_failure_is_none() {
    assert_eq!(uses(&api(404, unknown("web")), "n1").await, Ok(false));
    for (status, body) in [(500, json!({})), (403, json!({})), (200, json!([]))] {
        assert!(uses(&api(status, body.clone()), "n1").await.is_err(), "{status} {body}");
    }
    assert_eq!(api(404, unknown("n1")).has_node("n1").await, Ok(false));
    assert_eq!(api(200, json!({})).has_node("n1").await, Ok(true));
    assert!(api(503, json!({})).has_node("n1").await.is_err());
    assert!(api(404, json!({})).check().await.is_err());
    // A balancer whose API server is away says so of everything: to believe it would free every address.
    for body in [json!({}), json!("404 page not found"), unknown("other"), json!({ "reason": "NotFound" })] {
        assert!(uses(&api(404, body.clone()), "n1").await.is_err(), "{body}");
        assert!(api(404, body.clone()).has_node("n1").await.is_err(), "{body}");
    }
}
