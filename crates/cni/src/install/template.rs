//! From a template to the network configuration: placeholders replaced, and JSON at the end, or nothing is written.

use serde_json::Value;

use crate::install::Settings;
use crate::install::kubeconfig;

/// Placeholders that need a kubeconfig or a token.
pub const CREDENTIALS: [&str; 2] = ["__KUBECONFIG_FILEPATH__", "__SERVICEACCOUNT_TOKEN__"];

/// Placeholders of etcd's files, in the order of the files' names (CA, certificate, key).
const ETCD: [(&str, &str); 3] = [
    ("__ETCD_CA_CERT_FILE__", "etcd-ca"),
    ("__ETCD_CERT_FILE__", "etcd-cert"),
    ("__ETCD_KEY_FILE__", "etcd-key"),
];

/// The configuration unless another is given: the plugin asks the agent of its node, so it holds no credentials.
pub const DEFAULT: &str = r#"{
  "name": "k8s-pod-network",
  "cniVersion": "1.0.0",
  "plugins": [
    {
      "type": "calico",
      "agent_socket": "/run/calico/cni.sock",
      "log_level": "__LOG_LEVEL__",
      "log_file_path": "__LOG_FILE_PATH__",
      "mtu": __CNI_MTU__,
      "ipam": {"type": "calico-ipam"},
      "policy": {"type": "k8s"}
    },
    {
      "type": "portmap",
      "snat": true,
      "capabilities": {"portMappings": true}
    }
  ]
}
"#;

/// Why a template makes no configuration.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// It cannot be read.
    #[error("CNI_NETWORK_CONFIG_FILE {path}")]
    Unreadable {
        /// Which file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// What comes of it is no JSON.
    #[error("{origin} is no JSON after its placeholders are replaced: {problem}; line {line}: {text}")]
    NotJson {
        /// Where the template comes from.
        origin: String,
        /// What the parser says.
        problem: String,
        /// The line.
        line: usize,
        /// The line as it is in the template, where no secrets are.
        text: String,
    },
    /// It is JSON, and no network configuration.
    #[error("{origin} must be an object with a name and with plugins, or with a type")]
    NoNetwork {
        /// Where the template comes from.
        origin: String,
    },
}

/// Replaces the placeholders. `etcd` says which of etcd's files there are.
pub fn render(
    template: &str,
    settings: &Settings,
    etcd: [bool; 3],
    token: &str,
) -> Result<String, TemplateError> {
    let mut text = template.to_owned();
    for (placeholder, value) in &settings.values {
        text = text.replace(placeholder, value);
    }
    let net_dir = settings.net_dir.trim_end_matches('/');
    for ((placeholder, name), is_there) in ETCD.into_iter().zip(etcd) {
        let path = if is_there { format!("{net_dir}/calico-tls/{name}") } else { String::new() };
        text = text.replace(placeholder, &path);
    }
    text = text.replace(CREDENTIALS[0], &format!("{net_dir}/{}", kubeconfig::FILE));
    text = text.replace(CREDENTIALS[1], token);
    check(template, &text, settings)?;
    Ok(text)
}

fn check(template: &str, text: &str, settings: &Settings) -> Result<(), TemplateError> {
    let origin = settings.template_source();
    let value: Value = match serde_json::from_str(text) {
        Ok(value) => value,
        Err(error) => {
            let line = error.line();
            let text = template.lines().nth(line.saturating_sub(1)).unwrap_or_default().trim().to_owned();
            return Err(TemplateError::NotJson { origin, problem: error.to_string(), line, text });
        }
    };
    let is_network = value["name"].is_string() && (value["plugins"].is_array() || value["type"].is_string());
    if is_network { Ok(()) } else { Err(TemplateError::NoNetwork { origin }) }
}
