//! Objects of the API as it writes them, and what is read of them.

use std::collections::HashMap;

use futures::FutureExt;
use serde_json::json;

use super::*;

/// Answers from a table.
struct Table(HashMap<&'static str, Value>);

#[async_trait::async_trait]
impl Api for Table {
    async fn get(&self, path: &str) -> Result<Option<Value>, ApiError> {
        Ok(self.0.get(path).cloned())
    }

    async fn create(&self, _: &str, _: Value) -> Result<Value, ApiError> {
        Err(ApiError::Refused { status: 405, message: "read only".to_owned() })
    }

    async fn patch(&self, _: &str, _: Value) -> Result<(), ApiError> {
        Err(ApiError::Refused { status: 405, message: "read only".to_owned() })
    }
}

fn cidrs(spec: Value) -> Result<Vec<String>, CniError> {
    let table = Table(HashMap::from([("/api/v1/nodes/a", json!({"kind": "Node", "spec": spec}))]));
    let read = read_pod_cidrs(&table, "a").now_or_never().expect("at once")?;
    Ok(read.iter().map(ToString::to_string).collect())
}

#[test]
fn pod_cidrs_old_and_new() {
    for (spec, expected) in [
        (json!({}), &[][..]),
        (json!({"podCIDR": "10.0.1.0/24"}), &["10.0.1.0/24"]),
        (
            json!({"podCIDR": "10.0.1.0/24", "podCIDRs": ["10.0.1.0/24", "fd00::/80"]}),
            &["10.0.1.0/24", "fd00::/80"],
        ),
    ] {
        assert_eq!(cidrs(spec).expect("readable"), expected);
    }
    let error = cidrs(json!({"podCIDR": "ten"})).expect_err("no prefix");
    assert!(error.details.contains("/api/v1/nodes/a: \"ten\""), "{error}");
}

#[test]
fn a_pod_and_its_namespace_are_read_and_nulls_passed_over() {
    let pod = json!({
        "kind": "Pod", "apiVersion": "v1",
        "metadata": {"name": "web", "labels": null, "annotations": {"a": "b"}, "uid": "1"},
        "spec": {"serviceAccountName": "robot", "containers": [{"name": "c", "image": "i", "ports": [
            {"name": "http", "containerPort": 80, "protocol": "TCP", "hostPort": 8080, "hostIP": "192.0.2.1"},
        ]}, {"name": "d", "ports": null}]},
        "status": {"phase": "Pending"},
    });
    let namespace = json!({"metadata": {"name": "shop", "labels": {"team": "x"}}});
    let mut table = Table(HashMap::from([
        ("/api/v1/namespaces/shop/pods/web", pod),
        ("/api/v1/namespaces/shop", namespace),
    ]));
    let read = |table: &Table| read_pod(table, "shop", "web").now_or_never().expect("at once");
    let facts = read(&table).expect("readable");
    assert_eq!(facts.pod.spec.service_account_name, "robot");
    assert_eq!(facts.pod.spec.containers[0].ports[0].host_port, 8080);
    assert_eq!(facts.namespace.metadata.labels["team"], "x");
    table.0.remove("/api/v1/namespaces/shop/pods/web");
    let error = read(&table).expect_err("it is gone");
    assert_eq!(error.details, "there is no /api/v1/namespaces/shop/pods/web");
}
