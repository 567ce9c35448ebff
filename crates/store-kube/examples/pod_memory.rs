//! How much a pod costs: lists many pods of usual size from a server of its own and measures what is held of each.
//!
//! `cargo run --release -p calico-store-kube --example pod_memory -- 20000`

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a measurement: it prints, reads its own memory and the clock, and stops at the first surprise"
)]

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use calico_api::{Kind, Selection};
use calico_store::Store as _;
use calico_store::config::KubernetesConfig;
use calico_store_kube::KubeStore;
use serde_json::json;

/// Pods in one answer, as the store asks for.
const PAGE: usize = 500;

/// A pod as the API server shows one that runs: most of it is of no use to Calico.
fn pod(n: usize) -> String {
    let container = |name: &str| {
        json!({
            "name": name, "image": format!("registry.example.com/team/{name}:v1.2.3"), "imagePullPolicy": "IfNotPresent",
            "ports": [{ "name": "http", "containerPort": 8080, "protocol": "TCP" }],
            "env": (0..12).map(|i| json!({ "name": format!("VARIABLE_{i}"), "value": "some value of usual length" })).collect::<Vec<_>>(),
            "resources": { "limits": { "cpu": "1", "memory": "512Mi" }, "requests": { "cpu": "100m", "memory": "128Mi" } },
            "volumeMounts": [{ "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount", "name": "kube-api-access-abcde", "readOnly": true }],
            "livenessProbe": { "httpGet": { "path": "/healthz", "port": 8080, "scheme": "HTTP" }, "periodSeconds": 10, "timeoutSeconds": 1, "successThreshold": 1, "failureThreshold": 3 },
            "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
        })
    };
    let fields: serde_json::Value =
        (0..40).map(|i| (format!("f:field{i}"), json!({ ".": {}, "f:inner": {} }))).collect();
    json!({
        "metadata": {
            "name": format!("web-7d4b9c6f5-{n:05}"), "generateName": "web-7d4b9c6f5-", "namespace": format!("team-{}", n % 50),
            "uid": format!("c0ffee00-0000-4000-8000-{n:012}"), "resourceVersion": (1000 + n).to_string(), "creationTimestamp": "2026-01-01T00:00:00Z",
            "labels": { "app": "web", "pod-template-hash": "7d4b9c6f5", "team": format!("t{}", n % 50), "version": "v1" },
            "annotations": {
                "cni.projectcalico.org/containerID": "4f5d9e0a4f5d9e0a4f5d9e0a4f5d9e0a4f5d9e0a4f5d9e0a4f5d9e0a4f5d9e0a",
                "cni.projectcalico.org/podIP": "10.0.0.1/32", "cni.projectcalico.org/podIPs": "10.0.0.1/32",
                "prometheus.io/scrape": "true", "checksum/config": "9e0a4f5d9e0a4f5d9e0a4f5d9e0a4f5d",
            },
            "ownerReferences": [{ "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-7d4b9c6f5", "uid": "x", "controller": true }],
            "managedFields": [
                { "manager": "kube-controller-manager", "operation": "Update", "apiVersion": "v1", "time": "2026-01-01T00:00:00Z", "fieldsType": "FieldsV1", "fieldsV1": fields },
                { "manager": "kubelet", "operation": "Update", "apiVersion": "v1", "time": "2026-01-01T00:00:00Z", "fieldsType": "FieldsV1", "fieldsV1": fields },
            ],
        },
        "spec": {
            "nodeName": format!("node-{}", n % 100), "serviceAccountName": "default", "containers": [container("web"), container("sidecar")],
            "tolerations": [{ "effect": "NoExecute", "key": "node.kubernetes.io/not-ready", "operator": "Exists", "tolerationSeconds": 300 }],
            "volumes": [{ "name": "kube-api-access-abcde", "projected": { "defaultMode": 420, "sources": [{ "serviceAccountToken": { "expirationSeconds": 3607, "path": "token" } }] } }],
        },
        "status": {
            "phase": "Running", "podIP": format!("10.{}.{}.{}", n >> 16, n >> 8 & 255, n & 255), "podIPs": [{ "ip": format!("10.{}.{}.{}", n >> 16, n >> 8 & 255, n & 255) }],
            "conditions": (0..5).map(|i| json!({ "type": format!("Condition{i}"), "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z" })).collect::<Vec<_>>(),
            "containerStatuses": (0..2).map(|_| json!({ "containerID": "containerd://4f5d9e0a", "image": "registry.example.com/team/web:v1.2.3", "ready": true, "restartCount": 0, "started": true, "state": { "running": { "startedAt": "2026-01-01T00:00:00Z" } } })).collect::<Vec<_>>(),
        },
    })
    .to_string()
}

/// Serves pages of pods on one connection.
fn serve(mut stream: TcpStream, count: usize) {
    let mut request = Vec::new();
    let mut part = [0; 4096];
    while let Ok(read @ 1..) = stream.read(&mut part) {
        request.extend_from_slice(&part[..read]);
        if !request.ends_with(b"\r\n\r\n") {
            continue;
        }
        let text = String::from_utf8(std::mem::take(&mut request)).unwrap();
        let from = text
            .split("&continue=")
            .nth(1)
            .and_then(|t| t.split(' ').next())
            .map_or(0, |t| t.parse().unwrap());
        let to = (from + PAGE).min(count);
        let next = if to < count { to.to_string() } else { String::new() };
        let items: Vec<String> = (from..to).map(pod).collect();
        let body = format!(
            "{{\"metadata\":{{\"resourceVersion\":\"9\",\"continue\":\"{next}\"}},\"items\":[{}]}}",
            items.join(",")
        );
        write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()).unwrap();
    }
}

/// This process's resident memory in KiB, and the CPU time that this thread has used.
fn measure() -> (usize, Duration) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with("VmRSS")).unwrap();
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    let nanos = stat.split(' ').next().unwrap().parse().unwrap();
    (line.split_whitespace().nth(1).unwrap().parse().unwrap(), Duration::from_nanos(nanos))
}

fn main() {
    let count: usize = std::env::args().nth(1).map_or(20_000, |text| text.parse().unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = Some(format!("http://{}", listener.local_addr().unwrap()));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            serve(stream.unwrap(), count);
        }
    });
    let group = Some(calico_api::kubernetes::ApiGroup::CrdV1);
    let config = KubernetesConfig { endpoint, group, ..KubernetesConfig::default() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let store = KubeStore::open(&config, &|_| None).unwrap();
    let (before, cpu_before) = measure();
    let started = Instant::now();
    let listing = runtime.block_on(store.list(&Selection::all(Kind::WorkloadEndpoint))).unwrap();
    let (after, cpu_after) = measure();
    let values: usize = listing.entries.iter().map(|e| e.value.len()).sum();
    let mean: usize = (0..count).step_by(count.div_ceil(100)).map(|n| pod(n).len()).sum::<usize>() / 100;
    println!("pods                          {}", listing.entries.len());
    println!("JSON of a pod                 {mean} bytes");
    println!("entry's value                 {} bytes", values / count);
    println!("held per pod (memory grew)    {} bytes", (after - before) * 1024 / count);
    println!("CPU to decode, per pod        {} µs", (cpu_after - cpu_before).as_micros() / count as u128);
    println!("whole list                    {} ms", started.elapsed().as_millis());
}
