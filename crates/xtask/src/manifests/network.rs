//! The ConfigMap: which backend, which MTU, and the CNI configuration that nodes get.

use serde_json::{Value, json};

use super::{Flavour, object, with};

/// Name of the ConfigMap.
pub const NAME: &str = "calico-config";

pub fn config_map(flavour: Flavour) -> Value {
    let data = json!({
        // Without Typha; the key is there because overlays name it.
        "typha_service_name": "none",
        "calico_backend": backend(flavour),
        // 0: the agent finds it out from the node's interfaces and the encapsulation.
        "veth_mtu": "0",
        "cni_network_config": cni_config(flavour),
    });
    with(object("v1", "ConfigMap", NAME, true), json!({ "data": data }))
}

pub fn backend(flavour: Flavour) -> &'static str {
    match flavour {
        Flavour::Bird => "bird",
        Flavour::Vxlan => "vxlan",
        Flavour::PolicyOnly => "none",
    }
}

/// A template: install-cni fills in what stands between underscores. The plugin asks the node's agent over its socket,
/// so no credential is written to the node.
fn cni_config(flavour: Flavour) -> String {
    let ipam = match flavour {
        Flavour::Bird | Flavour::Vxlan => r#"{"type": "calico-ipam"}"#,
        Flavour::PolicyOnly => r#"{"type": "host-local", "subnet": "usePodCidr"}"#,
    };
    format!(
        r#"{{
  "name": "k8s-pod-network",
  "cniVersion": "1.0.0",
  "plugins": [
    {{
      "type": "calico",
      "log_level": "info",
      "log_file_path": "/var/log/calico/cni/cni.log",
      "datastore_type": "kubernetes",
      "nodename": "__KUBERNETES_NODE_NAME__",
      "mtu": __CNI_MTU__,
      "agent_socket": "/run/calico/cni.sock",
      "ipam": {ipam},
      "policy": {{"type": "k8s"}}
    }},
    {{
      "type": "portmap",
      "snat": true,
      "capabilities": {{"portMappings": true}}
    }}
  ]
}}
"#
    )
}
