//! The environment of `install-cni` (spec 5 §1.15). Blank counts as unset.

use std::path::PathBuf;
use std::time::Duration;

use calico_api::GoDuration;

use crate::install::template::{DEFAULT, TemplateError};

/// What the environment says.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `CNI_NET_DIR`: the directory of configurations, as the host sees it.
    pub net_dir: String,
    /// `CNI_CONF_NAME`.
    pub conf_name: String,
    /// `CNI_OLD_CONF_NAME`: removed when it has another name.
    pub old_conf_name: Option<String>,
    /// `CNI_NETWORK_CONFIG`.
    pub config: Option<String>,
    /// `CNI_NETWORK_CONFIG_FILE`: wins over the text.
    pub config_file: Option<PathBuf>,
    /// `TLS_ASSETS_DIR`.
    pub tls_assets: PathBuf,
    /// `SKIP_CNI_BINARIES`.
    pub skip_binaries: Vec<String>,
    /// `UPDATE_CNI_BINARIES`.
    pub update_binaries: bool,
    /// `SLEEP`.
    pub sleep: bool,
    /// `https://HOST:PORT` of `KUBERNETES_SERVICE_HOST`, `_PORT` and `_PROTOCOL`.
    pub api_server: Option<ApiServer>,
    /// `SKIP_TLS_VERIFY`.
    pub skip_tls_verify: bool,
    /// `CALICO_CNI_SERVICE_ACCOUNT`.
    pub service_account: String,
    /// `CNI_TOKEN_REFRESH_INTERVAL`.
    pub token_interval: Option<Duration>,
    /// What takes the place of each placeholder that is a variable's value.
    pub values: Vec<(&'static str, String)>,
}

/// Where the API server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiServer {
    /// `KUBERNETES_SERVICE_HOST`.
    pub host: String,
    /// `KUBERNETES_SERVICE_PORT`.
    pub port: String,
    /// `KUBERNETES_SERVICE_PROTOCOL`.
    pub protocol: String,
}

impl ApiServer {
    /// Its URL.
    pub fn url(&self) -> String {
        let ApiServer { host, port, protocol } = self;
        let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        format!("{protocol}://{host}:{port}")
    }
}

/// A variable whose value cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{variable} is {value:?}; {right}")]
pub struct SettingError {
    /// Which.
    pub variable: &'static str,
    /// What it is.
    pub value: String,
    /// What would be right.
    pub right: String,
}

/// Placeholders, their variables, and what stands for one that is not set.
const VALUES: [(&str, &str, &str); 10] = [
    ("__LOG_LEVEL__", "LOG_LEVEL", "info"),
    ("__LOG_FILE_PATH__", "LOG_FILE_PATH", "/var/log/calico/cni/cni.log"),
    ("__LOG_FILE_MAX_SIZE__", "LOG_FILE_MAX_SIZE", "100"),
    ("__LOG_FILE_MAX_AGE__", "LOG_FILE_MAX_AGE", "30"),
    ("__LOG_FILE_MAX_COUNT__", "LOG_FILE_MAX_COUNT", "10"),
    ("__DATASTORE_TYPE__", "DATASTORE_TYPE", "kubernetes"),
    ("__CALICO_API_GROUP__", "CALICO_API_GROUP", ""),
    ("__ETCD_ENDPOINTS__", "ETCD_ENDPOINTS", ""),
    ("__ETCD_DISCOVERY_SRV__", "ETCD_DISCOVERY_SRV", ""),
    ("__CNI_MTU__", "CNI_MTU", "1500"),
];

impl Settings {
    /// Reads the environment. `hostname` is the node's name where `KUBERNETES_NODE_NAME` says none.
    pub fn from_vars(
        vars: impl Fn(&str) -> Option<String>,
        hostname: &str,
    ) -> Result<Settings, SettingError> {
        let get = |name: &str| vars(name).map(|v| v.trim().to_owned()).filter(|v| !v.is_empty());
        let or = |name: &str, default: &str| get(name).unwrap_or_else(|| default.to_owned());
        let file_name = |variable: &'static str, value: String| {
            let right = "it must be the name of a file, without a directory".to_owned();
            let bad = value.contains('/') || value.starts_with('.');
            if bad { Err(SettingError { variable, value, right }) } else { Ok(value) }
        };
        let api_server = get("KUBERNETES_SERVICE_HOST").map(|host| ApiServer {
            host,
            port: or("KUBERNETES_SERVICE_PORT", "443"),
            protocol: or("KUBERNETES_SERVICE_PROTOCOL", "https"),
        });
        let mut values: Vec<_> =
            VALUES.map(|(placeholder, variable, default)| (placeholder, or(variable, default))).to_vec();
        values.push(("__KUBERNETES_NODE_NAME__", or("KUBERNETES_NODE_NAME", hostname)));
        values.push(("__REQUIRE_MTU_FILE__", flag(&get, "REQUIRE_MTU_FILE", false)?.to_string()));
        let server =
            |part: fn(&ApiServer) -> &String| api_server.as_ref().map(part).cloned().unwrap_or_default();
        values.push(("__KUBERNETES_SERVICE_HOST__", server(|s| &s.host)));
        values.push(("__KUBERNETES_SERVICE_PORT__", server(|s| &s.port)));
        let token_interval = match get("CNI_TOKEN_REFRESH_INTERVAL") {
            None => None,
            Some(value) => match value.parse::<GoDuration>().ok().and_then(|d| d.to_std()) {
                Some(interval) => Some(interval).filter(|i| !i.is_zero()),
                None => {
                    let right = "it must be a duration such as 1h".to_owned();
                    return Err(SettingError { variable: "CNI_TOKEN_REFRESH_INTERVAL", value, right });
                }
            },
        };
        Ok(Settings {
            net_dir: or("CNI_NET_DIR", "/etc/cni/net.d"),
            conf_name: file_name("CNI_CONF_NAME", or("CNI_CONF_NAME", "10-calico.conflist"))?,
            old_conf_name: get("CNI_OLD_CONF_NAME").map(|v| file_name("CNI_OLD_CONF_NAME", v)).transpose()?,
            config: get("CNI_NETWORK_CONFIG"),
            config_file: get("CNI_NETWORK_CONFIG_FILE").map(PathBuf::from),
            tls_assets: or("TLS_ASSETS_DIR", "/calico-secrets").into(),
            skip_binaries: or("SKIP_CNI_BINARIES", "")
                .split(',')
                .map(|name| name.trim().to_owned())
                .filter(|name| !name.is_empty())
                .collect(),
            update_binaries: flag(&get, "UPDATE_CNI_BINARIES", true)?,
            sleep: flag(&get, "SLEEP", true)?,
            api_server,
            skip_tls_verify: flag(&get, "SKIP_TLS_VERIFY", false)?,
            service_account: or("CALICO_CNI_SERVICE_ACCOUNT", "calico-cni-plugin"),
            token_interval,
            values,
        })
    }

    /// The template of the configuration: the file's, the variable's, or ours.
    pub fn template(&self) -> Result<String, TemplateError> {
        match (&self.config_file, &self.config) {
            (Some(file), _) => std::fs::read_to_string(file)
                .map_err(|source| TemplateError::Unreadable { path: file.display().to_string(), source }),
            (None, Some(text)) => Ok(text.clone()),
            (None, None) => Ok(DEFAULT.to_owned()),
        }
    }

    /// Where the template comes from, for messages.
    pub fn template_source(&self) -> String {
        match (&self.config_file, &self.config) {
            (Some(file), _) => format!("CNI_NETWORK_CONFIG_FILE {}", file.display()),
            (None, Some(_)) => "CNI_NETWORK_CONFIG".to_owned(),
            (None, None) => "the default network configuration".to_owned(),
        }
    }
}

fn flag(
    get: &dyn Fn(&str) -> Option<String>,
    variable: &'static str,
    default: bool,
) -> Result<bool, SettingError> {
    let Some(value) = get(variable) else { return Ok(default) };
    match value.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "t" => Ok(true),
        "false" | "0" | "no" | "f" => Ok(false),
        _ => Err(SettingError { variable, value, right: "it must be true or false".to_owned() }),
    }
}
