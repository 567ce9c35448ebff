//! The Deployment of the controllers. They have no privilege on their node: an own user, nothing writable but /status.

use serde_json::{Value, json};

use super::{IMAGE, object, with};

pub const NAME: &str = "calico-kube-controllers";

pub fn disruption_budget() -> Value {
    let mut budget = object("policy/v1", "PodDisruptionBudget", NAME, true);
    budget["metadata"]["labels"] = labels();
    let spec = json!({ "maxUnavailable": 1, "selector": { "matchLabels": labels() } });
    with(budget, json!({ "spec": spec }))
}

fn labels() -> Value {
    json!({ "k8s-app": NAME })
}

pub fn deployment() -> Value {
    let probe = |flag: &str| {
        json!({
            "exec": { "command": ["/usr/bin/check-status", flag] },
            "periodSeconds": 10,
            "timeoutSeconds": 10,
        })
    };
    let container = json!({
        "name": NAME,
        "image": IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "command": ["/usr/bin/kube-controllers"],
        "env": [
            { "name": "ENABLED_CONTROLLERS", "value": "node" },
            { "name": "DATASTORE_TYPE", "value": "kubernetes" },
        ],
        "livenessProbe": with(probe("-l"), json!({ "initialDelaySeconds": 10, "failureThreshold": 6 })),
        "readinessProbe": probe("-r"),
        "volumeMounts": [{ "name": "status", "mountPath": "/status" }],
        "securityContext": {
            "runAsNonRoot": true,
            "runAsUser": 999,
            "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true,
            "capabilities": { "drop": ["ALL"] },
        },
    });
    let pod = json!({
        "nodeSelector": { "kubernetes.io/os": "linux" },
        "tolerations": [
            { "key": "CriticalAddonsOnly", "operator": "Exists" },
            { "key": "node-role.kubernetes.io/master", "effect": "NoSchedule" },
            { "key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule" },
        ],
        "serviceAccountName": NAME,
        "priorityClassName": "system-cluster-critical",
        "securityContext": { "seccompProfile": { "type": "RuntimeDefault" } },
        "containers": [container],
        "volumes": [{ "name": "status", "emptyDir": {} }],
    });
    let spec = json!({
        "replicas": 1,
        "selector": { "matchLabels": labels() },
        // There is no election. Two do no harm, but the second would only repeat what the first does.
        "strategy": { "type": "Recreate" },
        "template": { "metadata": { "labels": labels(), "namespace": super::NAMESPACE }, "spec": pod },
    });
    let mut deployment = object("apps/v1", "Deployment", NAME, true);
    deployment["metadata"]["labels"] = labels();
    with(deployment, json!({ "spec": spec }))
}
