//! The command lines of etcd and of the control plane.

use super::cluster::Cluster;
use super::network::{API_PORT, PODS, SERVICES};
use super::pki;
use super::services::Service;
use crate::fabric::ADDRESS_V4;

/// Where etcd answers its one client.
const ETCD: &str = "http://127.0.0.1:2379";
const ETCD_PEER: &str = "http://127.0.0.1:2380";

/// The datastore of the API server. It is as safe as the lab's directory, and no safer.
pub fn etcd(cluster: &Cluster) -> Service {
    Service::new(cluster, "etcd").args([
        format!("--data-dir={}", cluster.dir.join("etcd").display()),
        format!("--listen-client-urls={ETCD}"),
        format!("--advertise-client-urls={ETCD}"),
        format!("--listen-peer-urls={ETCD_PEER}"),
        format!("--initial-advertise-peer-urls={ETCD_PEER}"),
        format!("--initial-cluster=default={ETCD_PEER}"),
        "--unsafe-no-fsync".to_owned(),
        "--log-level=warn".to_owned(),
    ])
}

/// The API server.
pub fn api_server(cluster: &Cluster) -> Service {
    let file = |name: &str| pki::directory(cluster).join(name).display().to_string();
    Service::new(cluster, "kube-apiserver").args([
        format!("--etcd-servers={ETCD}"),
        format!("--advertise-address={ADDRESS_V4}"),
        format!("--secure-port={API_PORT}"),
        format!("--service-cluster-ip-range={}", cluster.families(SERVICES)),
        "--allow-privileged=true".to_owned(),
        "--authorization-mode=Node,RBAC".to_owned(),
        "--enable-admission-plugins=NodeRestriction".to_owned(),
        format!("--client-ca-file={}", file("ca.crt")),
        format!("--tls-cert-file={}", file("apiserver.crt")),
        format!("--tls-private-key-file={}", file("apiserver.key")),
        format!("--kubelet-certificate-authority={}", file("ca.crt")),
        format!("--kubelet-client-certificate={}", file("kubelet-client.crt")),
        format!("--kubelet-client-key={}", file("kubelet-client.key")),
        "--kubelet-preferred-address-types=InternalIP".to_owned(),
        "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
        format!("--service-account-key-file={}", file("tokens.pub")),
        format!("--service-account-signing-key-file={}", file("tokens.key")),
        format!("--requestheader-client-ca-file={}", file("front.crt")),
        "--requestheader-allowed-names=front-proxy-client".to_owned(),
        "--requestheader-username-headers=X-Remote-User".to_owned(),
        "--requestheader-group-headers=X-Remote-Group".to_owned(),
        "--requestheader-extra-headers-prefix=X-Remote-Extra-".to_owned(),
        format!("--proxy-client-cert-file={}", file("front-client.crt")),
        format!("--proxy-client-key-file={}", file("front-client.key")),
        "--enable-aggregator-routing=true".to_owned(),
    ])
}

/// The controllers. They give each node its range of pods, as most clusters have it, whether Calico asks for it or not.
pub fn controller_manager(cluster: &Cluster) -> Service {
    let file = |name: &str| pki::directory(cluster).join(name).display().to_string();
    let masks: &[&str] = if cluster.dual_stack {
        &["--node-cidr-mask-size-ipv4=24", "--node-cidr-mask-size-ipv6=64"]
    } else {
        &["--node-cidr-mask-size=24"]
    };
    Service::new(cluster, "kube-controller-manager")
        .args(kubeconfigs(&file("controllers.conf")))
        .args([
            "--leader-elect=false".to_owned(),
            "--allocate-node-cidrs=true".to_owned(),
            format!("--cluster-cidr={}", cluster.families(PODS)),
            format!("--service-cluster-ip-range={}", cluster.families(SERVICES)),
            "--use-service-account-credentials=true".to_owned(),
            format!("--service-account-private-key-file={}", file("tokens.key")),
            format!("--root-ca-file={}", file("ca.crt")),
            // A node that died is known to be dead within a test's patience.
            "--node-monitor-period=2s".to_owned(),
            "--node-monitor-grace-period=20s".to_owned(),
        ])
        .args(masks.iter().map(|mask| (*mask).to_owned()))
        .after(cluster.api_ready())
}

/// The scheduler.
pub fn scheduler(cluster: &Cluster) -> Service {
    let config = pki::directory(cluster).join("scheduler.conf").display().to_string();
    Service::new(cluster, "kube-scheduler")
        .args(kubeconfigs(&config))
        .args(["--leader-elect=false".to_owned()])
        .after(cluster.api_ready())
}

/// How a program reaches the API server, and asks it who its own callers are.
fn kubeconfigs(path: &str) -> [String; 3] {
    [
        format!("--kubeconfig={path}"),
        format!("--authentication-kubeconfig={path}"),
        format!("--authorization-kubeconfig={path}"),
    ]
}
