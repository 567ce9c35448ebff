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
    cluster.uses(&pod, ADDRESS.parse().unwrap()).await
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
    let broken = json!({ "cni.projectcalico.org/allowedSourcePrefixes": "not JSON" });
    for (status, annotations, node, expected) in [
        (&running, json!({}), "n1", true),
        (&running, broken, "n1", true),
        (&running, json!({}), "n2", true),
        (&other, json!({}), "n1", false),
        (&other, second, "n1", true),
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
    assert_eq!(uses(&api(404, json!({})), "n1").await, Ok(false));
    for (status, body) in [(500, json!({})), (403, json!({})), (200, json!([]))] {
        assert!(uses(&api(status, body.clone()), "n1").await.is_err(), "{status} {body}");
    }
    assert_eq!(api(404, json!({})).has_node("n1").await, Ok(false));
    assert_eq!(api(200, json!({})).has_node("n1").await, Ok(true));
    assert!(api(503, json!({})).has_node("n1").await.is_err());
    assert!(api(404, json!({})).check().await.is_err());
}
