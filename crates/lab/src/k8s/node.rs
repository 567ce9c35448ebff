//! A node's programs: containerd, kubelet and kube-proxy, with their configuration.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::cluster::{Cluster, Place};
use super::images;
use super::network::{DNS, PODS};
use super::pki;
use super::services::Service;

/// Directories that a node has for itself, and where their contents are in its directory.
pub const OWN: [&str; 10] = [
    "/etc/cni",
    "/etc/kubernetes",
    "/opt/cni",
    "/var/lib/calico",
    "/var/lib/cni",
    "/var/lib/containerd",
    "/var/lib/kubelet",
    "/var/log/calico",
    "/var/log/containers",
    "/var/log/pods",
];
/// Settings of the whole machine that kubelet writes when it starts. It gets files instead, so that they stay.
pub const MACHINE_SETTINGS: [&str; 6] = [
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
];
/// The reference plugins that a machine prepared for Kubernetes has, and where Debian puts them.
const PLUGINS: [&str; 6] = ["bandwidth", "host-local", "loopback", "portmap", "ptp", "tuning"];
const PLUGIN_DIR: &str = "/usr/lib/cni";
/// Where containerd listens on a node.
pub const CONTAINERD: &str = "/run/containerd/containerd.sock";

/// Where the contents of one of [`OWN`] are.
pub fn own_directory(node_dir: &Path, directory: &str) -> PathBuf {
    node_dir.join("root").join(directory.trim_start_matches('/'))
}

/// The file that says that a node's images are there: pods of the lab never pull.
pub fn images_loaded(cluster: &Cluster, node: &str) -> PathBuf {
    cluster.place_dir(node).join("images-loaded")
}

/// The programs in the order of their start.
pub fn services(cluster: &Cluster, node: &Place) -> Vec<Service> {
    let Place { name, kind: _, ipv4, ipv6 } = node;
    vec![
        Service::of_machine("containerd").args(["--config=/etc/kubernetes/containerd.toml".to_owned()]),
        Service::new(cluster, "kubelet")
            .args([
                "--config=/etc/kubernetes/kubelet.json".to_owned(),
                "--kubeconfig=/etc/kubernetes/kubelet.conf".to_owned(),
                format!("--hostname-override={name}"),
                format!("--node-ip={}", cluster.families([ipv4, ipv6])),
                "--v=2".to_owned(),
            ])
            .after(cluster.api_ready())
            .after(images_loaded(cluster, name)),
        Service::new(cluster, "kube-proxy")
            .args(["--config=/etc/kubernetes/proxy.json".to_owned(), "--v=2".to_owned()])
            .after(cluster.api_ready())
            .after(images_loaded(cluster, name)),
    ]
}

/// Writes what the programs read.
pub fn write_files(cluster: &Cluster, node: &Place) -> Result<()> {
    let dir = cluster.place_dir(&node.name);
    for directory in OWN {
        std::fs::create_dir_all(own_directory(&dir, directory))?;
    }
    let etc = own_directory(&dir, "/etc/kubernetes");
    let pki = pki::directory(cluster);
    let copies = [
        (format!("{}.conf", node.name), "kubelet.conf"),
        (format!("{}.crt", node.name), "kubelet.crt"),
        (format!("{}.key", node.name), "kubelet.key"),
        ("ca.crt".to_owned(), "ca.crt"),
        ("proxy.conf".to_owned(), "proxy.conf"),
    ];
    for (from, to) in copies {
        std::fs::copy(pki.join(&from), etc.join(to)).with_context(|| format!("{to} of {}", node.name))?;
    }
    let texts = [
        ("containerd.toml", CONTAINERD_CONFIGURATION.replace("PAUSE", images::PAUSE)),
        ("kubelet.json", kubelet_configuration().to_string()),
        ("proxy.json", proxy_configuration(cluster, &node.name).to_string()),
        // What pods with the node's own name service ask; the lab has no other.
        ("resolv.conf", String::new()),
    ];
    for (name, text) in texts {
        std::fs::write(etc.join(name), text).with_context(|| format!("{name} of {}", node.name))?;
    }
    let bin = own_directory(&dir, "/opt/cni").join("bin");
    std::fs::create_dir_all(&bin)?;
    std::fs::create_dir_all(own_directory(&dir, "/etc/cni").join("net.d"))?;
    for plugin in PLUGINS {
        // Copies: Calico's installer writes over some of them.
        let source = Path::new(PLUGIN_DIR).join(plugin);
        std::fs::copy(&source, bin.join(plugin))
            .with_context(|| format!("{}: is containernetworking-plugins installed?", source.display()))?;
    }
    Ok(())
}

/// Where root lacks CAP_SYS_RESOURCE, as in some virtual machines and containers, runc cannot make a process less likely to
/// be killed than its parent, and says only that a pipe ended: hence `restrict_oom_score_adj`.
const CONTAINERD_CONFIGURATION: &str = r#"version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
[grpc]
  address = "/run/containerd/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "PAUSE"
  disable_apparmor = true
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/opt/cni/bin"
    conf_dir = "/etc/cni/net.d"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      SystemdCgroup = false
"#;

fn kubelet_configuration() -> Value {
    // The disk is the developer's: however full it is, nobody is evicted and no image collected.
    let never = [
        "memory.available",
        "nodefs.available",
        "nodefs.inodesFree",
        "imagefs.available",
        "imagefs.inodesFree",
    ];
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": false},
            "webhook": {"enabled": true},
            "x509": {"clientCAFile": "/etc/kubernetes/ca.crt"},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": "/etc/kubernetes/kubelet.crt",
        "tlsPrivateKeyFile": "/etc/kubernetes/kubelet.key",
        "containerRuntimeEndpoint": format!("unix://{CONTAINERD}"),
        "cgroupDriver": "cgroupfs",
        "failCgroupV1": false,
        "failSwapOn": false,
        "resolvConf": "/etc/kubernetes/resolv.conf",
        "clusterDomain": "cluster.local",
        "clusterDNS": [DNS],
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "evictionHard": never.map(|signal| (signal, "0%")).into_iter().collect::<std::collections::BTreeMap<_, _>>(),
        "nodeStatusUpdateFrequency": "4s",
        // Not bound by a range of addresses: Calico gives a node as many as it needs.
        "maxPods": 250,
        "volumePluginDir": "/var/lib/kubelet/volumeplugins",
        "registerNode": true,
    })
}

fn proxy_configuration(cluster: &Cluster, node: &str) -> Value {
    json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": cluster.proxy.name(),
        "clusterCIDR": cluster.families(PODS),
        "hostnameOverride": node,
        "clientConnection": {"kubeconfig": "/etc/kubernetes/proxy.conf"},
        // The size of the table is the machine's setting, which a node's namespace may not write.
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
    })
}
