//! The DaemonSet: on every node the CNI plugin is installed, then the agent runs with BIRD beside it.

use serde_json::{Value, json};

use super::{Flavour, IMAGE, object, with};
use crate::manifests::network::NAME as CONFIG;

const NAME: &str = "calico-node";

/// A directory of the node: name of the volume, path, type, and where the agent's container has it.
struct Mount {
    volume: &'static str,
    path: &'static str,
    kind: &'static str,
    read_only: bool,
}

const fn mount(volume: &'static str, path: &'static str, kind: &'static str) -> Mount {
    Mount { volume, path, kind, read_only: false }
}

/// What the agent sees of its node, at the node's own paths.
const AGENT: [Mount; 6] = [
    Mount { read_only: true, ..mount("lib-modules", "/lib/modules", "") },
    mount("xtables-lock", "/run/xtables.lock", "FileOrCreate"),
    mount("var-run-calico", "/var/run/calico", "DirectoryOrCreate"),
    mount("var-lib-calico", "/var/lib/calico", "DirectoryOrCreate"),
    mount("policysync", "/var/run/nodeagent", "DirectoryOrCreate"),
    mount("cni-log-dir", "/var/log/calico/cni", "DirectoryOrCreate"),
];

/// What the steps before see, under the paths that the installer expects.
const CNI_BIN: Mount = mount("cni-bin-dir", "/opt/cni/bin", "DirectoryOrCreate");
const CNI_NET: Mount = mount("cni-net-dir", "/etc/cni/net.d", "DirectoryOrCreate");
const HOST_LOCAL: Mount = mount("host-local-net-dir", "/var/lib/cni/networks", "DirectoryOrCreate");

impl Mount {
    fn volume(&self) -> Value {
        let mut path = json!({ "path": self.path });
        if !self.kind.is_empty() {
            path["type"] = json!(self.kind);
        }
        json!({ "name": self.volume, "hostPath": path })
    }

    fn at(&self, place: &str) -> Value {
        let mut mount = json!({ "name": self.volume, "mountPath": place });
        if self.read_only {
            mount["readOnly"] = json!(true);
        }
        mount
    }
}

fn value(name: &str, value: &str) -> Value {
    json!({ "name": name, "value": value })
}

fn from_config(name: &str, key: &str) -> Value {
    json!({ "name": name, "valueFrom": { "configMapKeyRef": { "name": CONFIG, "key": key } } })
}

fn from_pod(name: &str, field: &str) -> Value {
    json!({ "name": name, "valueFrom": { "fieldRef": { "fieldPath": field } } })
}

/// Where the API server is, for clusters whose nodes do not reach it by the service's address.
fn endpoint() -> Value {
    json!([{ "configMapRef": { "name": "kubernetes-services-endpoint", "optional": true } }])
}

pub fn daemon_set(flavour: Flavour) -> Value {
    let labels = json!({ "k8s-app": NAME });
    let volumes: Vec<Value> =
        AGENT.iter().chain([&CNI_BIN, &CNI_NET, &HOST_LOCAL]).map(Mount::volume).collect();
    let mut before = vec![install_cni()];
    if flavour != Flavour::PolicyOnly {
        before.insert(0, upgrade_ipam());
    }
    let pod = json!({
        "nodeSelector": { "kubernetes.io/os": "linux" },
        "hostNetwork": true,
        "tolerations": [
            { "effect": "NoSchedule", "operator": "Exists" },
            { "key": "CriticalAddonsOnly", "operator": "Exists" },
            { "effect": "NoExecute", "operator": "Exists" },
        ],
        "serviceAccountName": NAME,
        // The kernel keeps policy and routes while the agent is away: there is nothing to wait for.
        "terminationGracePeriodSeconds": 0,
        "priorityClassName": "system-node-critical",
        "initContainers": before,
        "containers": [agent(flavour)],
        "volumes": volumes,
    });
    let spec = json!({
        "selector": { "matchLabels": labels },
        "updateStrategy": { "type": "RollingUpdate", "rollingUpdate": { "maxUnavailable": 1 } },
        "template": { "metadata": { "labels": labels }, "spec": pod },
    });
    let mut set = object("apps/v1", "DaemonSet", NAME, true);
    set["metadata"]["labels"] = labels;
    with(set, json!({ "spec": spec }))
}

/// Addresses that host-local gave out before are taken over.
fn upgrade_ipam() -> Value {
    json!({
        "name": "upgrade-ipam",
        "image": IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "command": ["/opt/cni/bin/calico-ipam", "-upgrade"],
        "envFrom": endpoint(),
        "env": [from_pod("KUBERNETES_NODE_NAME", "spec.nodeName"), from_config("CALICO_NETWORKING_BACKEND", "calico_backend")],
        "volumeMounts": [HOST_LOCAL.at("/var/lib/cni/networks"), CNI_BIN.at("/host/opt/cni/bin")],
        "securityContext": { "privileged": true },
    })
}

fn install_cni() -> Value {
    json!({
        "name": "install-cni",
        "image": IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "command": ["/opt/cni/bin/install"],
        "envFrom": endpoint(),
        "env": [
            value("CNI_CONF_NAME", "10-calico.conflist"),
            from_config("CNI_NETWORK_CONFIG", "cni_network_config"),
            from_pod("KUBERNETES_NODE_NAME", "spec.nodeName"),
            from_config("CNI_MTU", "veth_mtu"),
            value("SLEEP", "false"),
        ],
        "volumeMounts": [CNI_BIN.at("/host/opt/cni/bin"), CNI_NET.at("/host/etc/cni/net.d")],
        "securityContext": { "privileged": true },
    })
}

fn agent(flavour: Flavour) -> Value {
    let bird = flavour == Flavour::Bird;
    let probe = |word: &str| {
        let mut command = vec!["/bin/calico-node".to_owned(), format!("-felix-{word}")];
        if bird {
            command.push(format!("-bird-{word}"));
        }
        json!({ "exec": { "command": command }, "periodSeconds": 10, "timeoutSeconds": 10 })
    };
    let patience = json!({ "initialDelaySeconds": 10, "failureThreshold": 6 });
    let mut mounts: Vec<Value> = AGENT.iter().map(|m| m.at(m.path)).collect();
    mounts.extend([
        // Credentials of the plugin, for configurations that name a kubeconfig, are renewed there.
        CNI_NET.at("/host/etc/cni/net.d"),
        // The agent does the plugin's work, and calls other plugins for it where the configuration names them.
        CNI_BIN.at("/opt/cni/bin"),
        HOST_LOCAL.at("/var/lib/cni/networks"),
    ]);
    json!({
        "name": NAME,
        "image": IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "envFrom": endpoint(),
        "env": environment(flavour),
        "securityContext": { "privileged": true },
        "resources": { "requests": { "cpu": "250m" } },
        "lifecycle": { "preStop": { "exec": { "command": ["/bin/calico-node", "-shutdown"] } } },
        "livenessProbe": with(probe("live"), patience),
        "readinessProbe": probe("ready"),
        "volumeMounts": mounts,
    })
}

fn environment(flavour: Flavour) -> Vec<Value> {
    let mut variables = vec![
        value("DATASTORE_TYPE", "kubernetes"),
        value("WAIT_FOR_DATASTORE", "true"),
        from_pod("NODENAME", "spec.nodeName"),
        from_config("CALICO_NETWORKING_BACKEND", "calico_backend"),
        value("CLUSTER_TYPE", if flavour == Flavour::Bird { "k8s,bgp" } else { "k8s" }),
    ];
    match flavour {
        Flavour::Bird | Flavour::Vxlan => {
            let (ipip, vxlan) =
                if flavour == Flavour::Bird { ("Always", "Never") } else { ("Never", "Always") };
            variables.extend([
                value("IP", "autodetect"),
                value("CALICO_IPV4POOL_IPIP", ipip),
                value("CALICO_IPV4POOL_VXLAN", vxlan),
                value("CALICO_IPV6POOL_VXLAN", "Never"),
                from_config("FELIX_IPINIPMTU", "veth_mtu"),
                from_config("FELIX_VXLANMTU", "veth_mtu"),
                from_config("FELIX_WIREGUARDMTU", "veth_mtu"),
            ]);
        }
        Flavour::PolicyOnly => variables.extend([
            value("USE_POD_CIDR", "true"),
            value("NO_DEFAULT_POOLS", "true"),
            value("CALICO_MANAGE_CNI", "false"),
        ]),
    }
    variables.extend([
        value("CALICO_DISABLE_FILE_LOGGING", "true"),
        value("FELIX_DEFAULTENDPOINTTOHOSTACTION", "ACCEPT"),
        value("FELIX_IPV6SUPPORT", "false"),
        value("FELIX_HEALTHENABLED", "true"),
    ]);
    variables
}
