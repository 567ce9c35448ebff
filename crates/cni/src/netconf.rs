//! The network configuration on standard input (spec 5 §1.4).

use std::net::IpAddr;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{CniError, Code};
use crate::gate;
use crate::version::SpecVersion;

/// Where the agent listens unless the configuration says otherwise.
pub const AGENT_SOCKET: &str = "/run/calico/cni.sock";

/// Calico's lock file for IPAM (spec 5 §1.4).
const IPAM_LOCK: &str = "/var/run/calico/ipam.lock";

/// Where GC is told of the attachments in use.
const VALID_ATTACHMENTS: &str = "cni.dev/valid-attachments";

/// The most queues that a veth has: the kernel's limit for any interface is higher, but no host has so many CPUs.
const MAX_QUEUES: i64 = 4096;

/// The fields of the network configuration that we use. Unknown fields are left to chained plugins.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct NetConf {
    /// Specification version of the result; empty means 0.2.0.
    #[serde(rename = "cniVersion")]
    pub cni_version: String,
    /// Network name: also the profile's name in generic mode, and part of the IPAM handle.
    pub name: String,
    /// The plugin's name.
    #[serde(rename = "type")]
    pub plugin: String,
    /// Address management.
    pub ipam: IpamConf,
    /// MTU of the workload's interface; 0 = as the agent determined (`/var/lib/calico/mtu`).
    pub mtu: u32,
    /// Fail when the MTU file is missing.
    pub require_mtu_file: bool,
    /// This node's name, if not from the file.
    pub nodename: String,
    /// Where the agent left this node's name.
    pub nodename_file: Option<String>,
    /// Go on with the host's name when that file is missing.
    pub nodename_file_optional: bool,
    /// Old name of `nodename`.
    pub hostname: String,
    /// `etcdv3`, `embedded` (or `kubernetes`).
    pub datastore_type: String,
    /// Comma list.
    pub etcd_endpoints: String,
    /// PEM file.
    pub etcd_key_file: String,
    /// PEM file.
    pub etcd_cert_file: String,
    /// PEM file.
    pub etcd_ca_cert_file: String,
    /// The embedded store's file.
    pub datastore_path: String,
    /// How to reach the Kubernetes API.
    pub kubernetes: KubernetesConf,
    /// The API group of Calico's resources: `crd.projectcalico.org/v1` (default) or `projectcalico.org/v3`.
    pub calico_api_group: String,
    /// Requests a second to the Kubernetes API.
    pub qps: Option<f32>,
    /// How many requests may come at once.
    pub burst: Option<u32>,
    /// `debug`, `info`, `warning`, `error`.
    pub log_level: String,
    /// A log file besides standard error.
    pub log_file_path: String,
    /// Megabytes after which the log file is set aside; 100.
    pub log_file_max_size: Option<u64>,
    /// Days that log files are kept; 30.
    pub log_file_max_age: Option<u64>,
    /// How many old log files are kept; 10.
    pub log_file_max_count: Option<usize>,
    /// A unix socket: ask the agent there instead of working directly.
    pub agent_socket: String,
    /// Where DELs go that find no agent; the agent's own spool unless told otherwise.
    pub spool_dir: Option<String>,
    /// A host-wide lock for IPAM in direct mode.
    pub ipam_lock_file: Option<String>,
    /// Transmit and receive queues of the veth; 0 and less mean 1.
    pub num_queues: i64,
    /// Policy source.
    pub policy: PolicyConf,
    /// Container settings.
    pub container_settings: ContainerSettings,
    /// Optional features.
    pub feature_control: FeatureControl,
    /// Keep default routes besides those of host-local's configuration.
    pub include_default_routes: bool,
    /// How long ADD waits until the endpoint's policy is in the kernel; 0 = do not wait. Through the agent ADD waits
    /// a few seconds even when nothing is said.
    pub policy_setup_timeout_seconds: Option<i64>,
    /// Where the agent writes endpoint status files.
    pub endpoint_status_dir: Option<String>,
    /// URLs that must answer before ADD does.
    pub readiness_gates: Vec<String>,
    /// `veth` (also if empty); `netkit` becomes one too.
    pub device_type: String,
    /// Another dataplane than the kernel's: there is none here.
    pub dataplane_options: serde_json::Map<String, Value>,
    /// Runtime arguments of Mesos: labels for workloads that are no pods.
    pub args: Args,
    /// What the runtime adds.
    #[serde(rename = "runtimeConfig")]
    pub runtime_config: RuntimeConfig,
    /// The result of the ADD, for CHECK and DEL.
    #[serde(rename = "prevResult")]
    pub prev_result: Option<Value>,
    /// For GC: attachments that are still in use. `null` is an empty list; absent is absent.
    #[serde(rename = "cni.dev/valid-attachments", deserialize_with = "present")]
    pub valid_attachments: Option<Vec<Attachment>>,
    /// The whole configuration as it came, for delegated plugins.
    #[serde(skip)]
    pub raw: Value,
}

/// `ipam`: who gives addresses and from where.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct IpamConf {
    /// `calico-ipam`, or another plugin to delegate to.
    #[serde(rename = "type")]
    pub plugin: String,
    /// `"true"` (default) or `"false"`.
    pub assign_ipv4: Option<String>,
    /// `"true"` or `"false"` (default).
    pub assign_ipv6: Option<String>,
    /// Names or CIDRs of pools.
    pub ipv4_pools: Vec<String>,
    /// Names or CIDRs of pools.
    pub ipv6_pools: Vec<String>,
}

/// `policy`.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PolicyConf {
    /// Empty, or `k8s`.
    #[serde(rename = "type")]
    pub source: String,
    /// The API server's URL.
    pub k8s_api_root: String,
    /// A token for it.
    pub k8s_auth_token: String,
    /// PEM file.
    pub k8s_client_certificate: String,
    /// PEM file.
    pub k8s_client_key: String,
    /// PEM file.
    pub k8s_certificate_authority: String,
}

impl std::fmt::Debug for PolicyConf {
    /// Without the token.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PolicyConf").field("source", &self.source).finish_non_exhaustive()
    }
}

/// `kubernetes`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct KubernetesConf {
    /// The API server's URL.
    pub k8s_api_root: String,
    /// A kubeconfig file.
    pub kubeconfig: String,
    /// This node's name in Kubernetes, if it is another.
    pub node_name: String,
}

/// `container_settings`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerSettings {
    /// Let the container forward packets.
    pub allow_ip_forwarding: bool,
}

/// `feature_control`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct FeatureControl {
    /// Allow addresses without IPAM.
    pub ip_addrs_no_ipam: bool,
    /// Allow floating addresses.
    pub floating_ips: bool,
}

/// `args`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Args {
    /// Mesos' part.
    #[serde(rename = "org.apache.mesos")]
    pub mesos: Mesos,
}

/// `args."org.apache.mesos"`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Mesos {
    /// Its network information.
    pub network_info: NetworkInfo,
}

/// `args."org.apache.mesos".network_info`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct NetworkInfo {
    /// Labels of the workload.
    pub labels: MesosLabels,
}

/// A list of labels.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct MesosLabels {
    /// The labels.
    pub labels: Vec<MesosLabel>,
}

/// One label.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MesosLabel {
    /// Its key.
    pub key: String,
    /// Its value.
    #[serde(default)]
    pub value: String,
}

/// `runtimeConfig`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RuntimeConfig {
    /// DNS settings to hand through to the result.
    pub dns: Option<RuntimeDns>,
}

/// `runtimeConfig.dns`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RuntimeDns {
    /// Name servers.
    pub servers: Vec<String>,
    /// Domain.
    pub domain: String,
    /// Search list.
    pub searches: Vec<String>,
    /// Resolver options.
    pub options: Vec<String>,
}

/// One valid attachment of GC.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// CNI_CONTAINERID.
    #[serde(rename = "containerID")]
    pub container_id: String,
    /// CNI_IFNAME.
    #[serde(default)]
    pub ifname: String,
}

/// A member that is there, be it `null`, which is how Go writes an empty list.
fn present<'de, T, D>(deserializer: D) -> Result<Option<T>, D::Error>
where
    T: Deserialize<'de> + Default,
    D: serde::Deserializer<'de>,
{
    Ok(Some(Option::deserialize(deserializer)?.unwrap_or_default()))
}

impl NetConf {
    /// Parses and checks a configuration.
    pub fn parse(text: &[u8]) -> Result<(NetConf, SpecVersion), CniError> {
        let undecodable = |e| CniError::new(Code::Decode, "cannot decode the network configuration", e);
        NetConf::from_value(serde_json::from_slice(text).map_err(undecodable)?)
    }

    /// The same from JSON that has been parsed already.
    pub fn from_value(raw: Value) -> Result<(NetConf, SpecVersion), CniError> {
        if !raw.is_object() {
            let details = format!("invalid type: it is {raw}, it must be a JSON object");
            return Err(CniError::new(Code::Decode, "cannot decode the network configuration", details));
        }
        let read = NetConf::deserialize(&raw).or_else(|e| {
            // Nulls are rare; only then is the slow way through another value taken.
            NetConf::deserialize(&without_nulls(&raw)).map_err(|_| e)
        });
        let mut conf = read.map_err(|e| {
            let details = wrong_member(&without_nulls(&raw)).unwrap_or_else(|| e.to_string());
            CniError::new(Code::Decode, "cannot decode the network configuration", details)
        })?;
        conf.raw = raw;
        let version: SpecVersion = conf
            .cni_version
            .parse()
            .map_err(|e| CniError::new(Code::IncompatibleVersion, "incompatible CNI version", e))?;
        conf.check()?;
        Ok((conf, version))
    }

    fn check(&self) -> Result<(), CniError> {
        let invalid = |field: &str, value: &dyn std::fmt::Debug, right: &str| {
            let details = format!("{field} is {value:?}; {right}");
            Err(CniError::new(Code::InvalidConfiguration, "invalid network configuration", details))
        };
        let is_name = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'.' | b'-');
        if self.name.is_empty() || !self.name.bytes().all(is_name) {
            return invalid("name", &self.name, "it must be letters, digits, '_', '.' or '-'");
        }
        if self.mtu != 0 && !(68..=65535).contains(&self.mtu) {
            return invalid("mtu", &self.mtu, "it must be from 68 to 65535, or 0 for automatic");
        }
        if self.num_queues > MAX_QUEUES {
            return invalid("num_queues", &self.num_queues, "it must be at most 4096");
        }
        if let Some(seconds) = self.policy_setup_timeout_seconds.filter(|s| *s < 0) {
            return invalid("policy_setup_timeout_seconds", &seconds, "it must not be negative");
        }
        for (field, value) in
            [("ipam.assign_ipv4", &self.ipam.assign_ipv4), ("ipam.assign_ipv6", &self.ipam.assign_ipv6)]
        {
            if let Some(value) = value.as_deref().filter(|v| !matches!(*v, "true" | "false")) {
                return invalid(field, &value, "it must be the text \"true\" or \"false\"");
            }
        }
        if !matches!(self.policy.source.as_str(), "" | "k8s") {
            return invalid("policy.type", &self.policy.source, "it must be absent or \"k8s\"");
        }
        if !matches!(
            self.log_level.to_ascii_lowercase().as_str(),
            "" | "debug" | "info" | "warning" | "warn" | "error"
        ) {
            return invalid("log_level", &self.log_level, "it must be debug, info, warning or error");
        }
        if !matches!(self.calico_api_group.as_str(), "" | "crd.projectcalico.org/v1" | "projectcalico.org/v3")
        {
            let right = "it must be crd.projectcalico.org/v1 or projectcalico.org/v3";
            return invalid("calico_api_group", &self.calico_api_group, right);
        }
        if let Some(url) = self.readiness_gates.iter().find(|url| gate::Url::parse(url).is_none()) {
            return invalid("readiness_gates", url, "it must be http://HOST[:PORT][/PATH]");
        }
        if !matches!(self.device_type.as_str(), "" | "veth" | "netkit") {
            return invalid("device_type", &self.device_type, "it must be veth or netkit");
        }
        match self.dataplane_options.get("type").and_then(Value::as_str) {
            None | Some("") => Ok(()),
            Some(other) => {
                invalid("dataplane_options.type", &other, "there is no other dataplane; leave it out")
            }
        }
    }

    /// A member as text, by its name or by the names that lead to it (`kubernetes.kubeconfig`).
    pub fn text(&self, path: &str) -> Option<String> {
        match path.split('.').try_fold(&self.raw, |value, name| value.get(name))? {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        }
    }

    /// Whether a family is wanted: IPv4 unless told otherwise, IPv6 only if told so (spec 5 §2.1).
    pub fn assign(&self, family: calico_net::Family) -> bool {
        match family {
            calico_net::Family::V4 => self.ipam.assign_ipv4.as_deref() != Some("false"),
            calico_net::Family::V6 => self.ipam.assign_ipv6.as_deref() == Some("true"),
        }
    }

    /// Whether the configuration names a datastore, so that the plugin can work without an agent.
    pub fn has_credentials(&self) -> bool {
        !self.datastore_type.is_empty() || !self.etcd_endpoints.is_empty() || !self.datastore_path.is_empty()
    }

    /// The IPAM lock's file.
    pub fn ipam_lock(&self) -> &Path {
        Path::new(self.ipam_lock_file.as_deref().unwrap_or(IPAM_LOCK))
    }

    /// The spool's directory.
    pub fn spool(&self) -> &Path {
        Path::new(self.spool_dir.as_deref().unwrap_or(crate::spool::SPOOL))
    }

    /// What is set and has no effect here, for a log: each by its name.
    pub fn without_effect(&self) -> Vec<String> {
        let of_windows = |name: &&String| {
            matches!(name.as_str(), "mode" | "vxlan_mac_prefix" | "vxlan_vni") || name.starts_with("windows_")
        };
        let members = self.raw.as_object().into_iter().flat_map(|members| members.keys());
        let windows = members.filter(of_windows).map(|name| format!("{name} is for Windows"));
        let netkit = (self.device_type == "netkit").then(|| "device_type netkit: a veth is made".to_owned());
        netkit.into_iter().chain(windows).collect()
    }

    /// Whether pods are looked up in the Kubernetes API.
    pub fn reads_pods(&self) -> bool {
        self.policy.source == "k8s"
    }

    /// Queues of the veth.
    pub fn queues(&self) -> u32 {
        u32::try_from(self.num_queues).unwrap_or(1).max(1)
    }

    /// Whether addresses come from our own IPAM.
    pub fn own_ipam(&self) -> bool {
        self.ipam.plugin == "calico-ipam"
    }

    /// Workload labels that the runtime passed.
    pub fn labels(&self) -> impl Iterator<Item = (&str, &str)> {
        self.args.mesos.network_info.labels.labels.iter().map(|l| (l.key.as_str(), l.value.as_str()))
    }

    /// The IPAM handle of a container: `<network>.<container id>`, cut at a carriage return (spec 5 §2.2).
    pub fn handle(&self, container_id: &str) -> String {
        let handle = format!("{}.{container_id}", self.name);
        handle.split('\r').next().unwrap_or_default().to_owned()
    }
}

/// The configuration without members that are null: Go, which writes most configurations, writes its empty lists and maps
/// so. The attachments of GC stay: none is not the same as no word of them.
fn without_nulls(raw: &Value) -> Value {
    match calico_api::codec::without_nulls(raw.clone()) {
        Value::Object(mut members) => {
            let attachments = raw.get(VALID_ATTACHMENTS).cloned();
            members.extend(attachments.map(|value| (VALID_ATTACHMENTS.to_owned(), value)));
            Value::Object(members)
        }
        other => other,
    }
}

/// The first member of a configuration that cannot be read by itself, and why.
fn wrong_member(raw: &Value) -> Option<String> {
    raw.as_object()?.iter().find_map(|(name, value)| {
        let alone = Value::Object([(name.clone(), value.clone())].into_iter().collect());
        let error = NetConf::deserialize(&alone).err()?;
        Some(format!("{name} is {value}: {error}"))
    })
}

/// The address that CNI_ARGS asks for with `IP=`.
pub fn requested_address(arguments: &crate::arguments::Arguments) -> Result<Option<IpAddr>, CniError> {
    let Some(text) = arguments.arg("IP") else { return Ok(None) };
    text.parse().map(Some).map_err(|_| {
        CniError::new(
            Code::InvalidEnvironment,
            "invalid environment",
            format!("CNI_ARGS has IP={text}; it must be one IP address"),
        )
    })
}

#[cfg(test)]
mod tests;
