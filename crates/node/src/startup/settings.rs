//! What the environment says about the start of a node (spec 6 §4.2).

use std::net::IpAddr;

use calico_api::EncapMode;
use calico_net::{Asn, Cidr, Family};
use smol_str::SmolStr;

use super::kubeadm::Kubeadm;
use crate::autodetect::{Method, MethodError};

/// Reads a variable; `None` if it is not set.
pub type Vars<'a> = &'a dyn Fn(&str) -> Option<String>;

/// What the environment says.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `WAIT_FOR_DATASTORE`.
    pub wait_for_datastore: bool,
    /// `CALICO_NETWORKING_BACKEND`.
    pub backend: Backend,
    /// `IP` and `IP_AUTODETECTION_METHOD`.
    pub v4: AddressSettings,
    /// `IP6` and `IP6_AUTODETECTION_METHOD`.
    pub v6: AddressSettings,
    /// `AS`.
    pub asn: Option<Asn>,
    /// `CALICO_K8S_NODE_REF`.
    pub k8s_node: Option<SmolStr>,
    /// `DISABLE_NODE_IP_CHECK`.
    pub skip_conflict_check: bool,
    /// `CLUSTER_TYPE`.
    pub cluster_type: String,
    /// `CALICO_IPV4POOL_…`; `None` if no pool is to be created.
    pub v4_pool: Option<PoolSettings>,
    /// `CALICO_IPV6POOL_…`; `None` if no pool is to be created.
    pub v6_pool: Option<PoolSettings>,
}

/// What carries routes between nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// BGP, by BIRD.
    Bird,
    /// VXLAN alone: no BGP.
    Vxlan,
    /// Nothing of ours: policy only. The node gets no addresses.
    None,
}

/// How a node comes by its address in a family.
#[derive(Clone, Debug)]
pub struct AddressSettings {
    /// What to do.
    pub source: AddressSource,
    /// How to detect.
    pub method: Method,
}

/// Where an address comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressSource {
    /// Detect at every start.
    Autodetect,
    /// Keep what is stored; for IPv4, detect if nothing is.
    Unset,
    /// Keep what is stored, detect nothing.
    Keep,
    /// This one; for IPv4 without a length, that of the interface which has it.
    Given(IpAddr, Option<u8>),
}

impl AddressSettings {
    /// Whether the environment says that the family is in use.
    pub fn is_wanted(&self) -> bool {
        matches!(self.source, AddressSource::Autodetect | AddressSource::Given(..))
    }
}

/// The default pool of a family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolSettings {
    /// Its prefix; chosen if `None`.
    pub cidr: Option<Cidr>,
    /// Length of its blocks.
    pub block_size: u8,
    /// When it is encapsulated in IPIP; never for IPv6.
    pub ipip: EncapMode,
    /// When it is encapsulated in VXLAN.
    pub vxlan: EncapMode,
    /// Masquerade traffic that leaves it.
    pub nat_outgoing: bool,
    /// Nodes that may use it.
    pub node_selector: String,
    /// Keep it from BGP.
    pub disable_bgp_export: bool,
}

/// A variable whose value cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{variable}: {problem}")]
pub struct SettingError {
    /// Which.
    pub variable: String,
    /// What is wrong with it and what would be right.
    pub problem: String,
}

impl Settings {
    /// Reads the environment. Blank counts as unset.
    pub fn from_vars(vars: Vars<'_>) -> Result<Settings, SettingError> {
        let get = |name: &str| vars(name).map(|v| v.trim().to_owned()).unwrap_or_default();
        let asn = match get("AS").as_str() {
            "" => None,
            text => Some(text.parse().map_err(|problem| bad("AS", problem))?),
        };
        let k8s_node = Some(get("CALICO_K8S_NODE_REF")).filter(|n| !n.is_empty()).map(SmolStr::from);
        let no_pools = flag(&get, "NO_DEFAULT_POOLS", false)?;
        let pool = |family| {
            if no_pools { Ok(None) } else { pool(&get, family) }
        };
        Ok(Settings {
            wait_for_datastore: flag(&get, "WAIT_FOR_DATASTORE", false)?,
            backend: match get("CALICO_NETWORKING_BACKEND").as_str() {
                "" | "bird" => Backend::Bird,
                "vxlan" => Backend::Vxlan,
                "none" => Backend::None,
                other => {
                    let problem = format!("{other:?} is none of bird, vxlan, none");
                    return Err(bad("CALICO_NETWORKING_BACKEND", problem));
                }
            },
            v4: address(&get, Family::V4)?,
            v6: address(&get, Family::V6)?,
            asn,
            k8s_node,
            skip_conflict_check: flag(&get, "DISABLE_NODE_IP_CHECK", false)?,
            cluster_type: get("CLUSTER_TYPE"),
            v4_pool: pool(Family::V4)?,
            v6_pool: pool(Family::V6)?,
        })
    }

    /// Takes from kubeadm what the environment leaves open: the ranges of the default pools, and a word of the cluster's
    /// type.
    pub fn follow(&mut self, kubeadm: &Kubeadm) {
        for (family, pool) in [(Family::V4, &mut self.v4_pool), (Family::V6, &mut self.v6_pool)] {
            let (Some(pool), Some(range)) = (pool, kubeadm.pods(family)) else { continue };
            if range.prefix_len() > pool.block_size {
                let block_size = pool.block_size;
                tracing::warn!(%range, block_size, "podSubnet of kubeadm is smaller than one block; it is not used");
            } else if pool.cidr.is_none() {
                pool.cidr = Some(range);
            }
        }
        let comma = if self.cluster_type.is_empty() { "" } else { "," };
        self.cluster_type.push_str(&format!("{comma}kubeadm"));
    }
}

/// The node's name: `NODENAME`, the name that an earlier start left in the file, `HOSTNAME` in lower case, or the
/// system's name.
pub fn select_node_name(vars: Vars<'_>, file: Option<&str>, hostname: &str) -> SmolStr {
    let set = |text: Option<String>| text.map(|t| t.trim().to_owned()).filter(|t| !t.is_empty());
    set(vars("NODENAME"))
        .or_else(|| set(file.map(str::to_owned)))
        .or_else(|| set(vars("HOSTNAME")).map(|name| name.to_lowercase()))
        .unwrap_or_else(|| hostname.trim().to_lowercase())
        .into()
}

type Get<'a> = &'a dyn Fn(&str) -> String;

fn bad(variable: &str, problem: impl ToString) -> SettingError {
    SettingError { variable: variable.to_owned(), problem: problem.to_string() }
}

fn flag(get: Get<'_>, name: &str, default: bool) -> Result<bool, SettingError> {
    let text = get(name);
    match text.to_ascii_lowercase().as_str() {
        "" => Ok(default),
        "true" | "yes" | "1" | "on" => Ok(true),
        "false" | "no" | "0" | "off" => Ok(false),
        _ => Err(bad(name, format!("{text:?} is neither true nor false"))),
    }
}

fn address(get: Get<'_>, family: Family) -> Result<AddressSettings, SettingError> {
    let (name, method_name) = match family {
        Family::V4 => ("IP", "IP_AUTODETECTION_METHOD"),
        Family::V6 => ("IP6", "IP6_AUTODETECTION_METHOD"),
    };
    let text = get(name);
    let source = match text.as_str() {
        "" => AddressSource::Unset,
        "none" => AddressSource::Keep,
        "autodetect" => AddressSource::Autodetect,
        text => {
            let (addr, len) = Cidr::parse_interface(text).map_err(|e| bad(name, e))?;
            if Family::of(addr) != family {
                return Err(bad(name, format!("{text} is not an {family} address")));
            }
            AddressSource::Given(addr, text.contains('/').then_some(len))
        }
    };
    let method = Method::parse(&get(method_name)).map_err(|e: MethodError| bad(method_name, e))?;
    Ok(AddressSettings { source, method })
}

fn pool(get: Get<'_>, family: Family) -> Result<Option<PoolSettings>, SettingError> {
    let prefix = format!("CALICO_IPV{}POOL_", family.number());
    let name = |part: &str| format!("{prefix}{part}");
    let cidr = match get(&name("CIDR")).as_str() {
        "none" => return Ok(None),
        "" => None,
        text => {
            let cidr = Cidr::parse_strict(text).map_err(|e| bad(&name("CIDR"), e))?;
            if cidr.family() != family {
                return Err(bad(&name("CIDR"), format!("{cidr} is not an {family} prefix")));
            }
            Some(cidr)
        }
    };
    let (default_size, sizes) = match family {
        Family::V4 => (26, 20..=32),
        Family::V6 => (122, 116..=128),
    };
    let block_size = match get(&name("BLOCK_SIZE")).as_str() {
        "" => default_size,
        text => text.parse().ok().filter(|size| sizes.contains(size)).ok_or_else(|| {
            let problem = format!("{text:?} is not a length from {} to {}", sizes.start(), sizes.end());
            bad(&name("BLOCK_SIZE"), problem)
        })?,
    };
    if let Some(cidr) = cidr.filter(|c| c.prefix_len() > block_size) {
        return Err(bad(&name("CIDR"), format!("{cidr} is smaller than one block of /{block_size}")));
    }
    // There is no IPIP for IPv6, and no variable either.
    let ipip = match family {
        Family::V4 => encapsulation(get, &name("IPIP"))?,
        Family::V6 => EncapMode::Never,
    };
    let vxlan = encapsulation(get, &name("VXLAN"))?;
    if ipip != EncapMode::Never && vxlan != EncapMode::Never {
        let problem = format!("it excludes {}: set one of them to Never", name("VXLAN"));
        return Err(bad(&name("IPIP"), problem));
    }
    let node_selector = match get(&name("NODE_SELECTOR")) {
        text if text.is_empty() => "all()".to_owned(),
        text => match calico_selector::parse(&text) {
            Ok(_) => text,
            Err(e) => return Err(bad(&name("NODE_SELECTOR"), e)),
        },
    };
    Ok(Some(PoolSettings {
        cidr,
        block_size,
        ipip,
        vxlan,
        nat_outgoing: flag(get, &name("NAT_OUTGOING"), family == Family::V4)?,
        node_selector,
        disable_bgp_export: flag(get, &name("DISABLE_BGP_EXPORT"), false)?,
    }))
}

/// When the pool is encapsulated.
fn encapsulation(get: Get<'_>, name: &str) -> Result<EncapMode, SettingError> {
    let text = get(name);
    match text.to_ascii_lowercase().as_str() {
        "" | "off" | "never" => Ok(EncapMode::Never),
        "always" => Ok(EncapMode::Always),
        "crosssubnet" | "cross-subnet" => Ok(EncapMode::CrossSubnet),
        _ => Err(bad(name, format!("{text:?} is none of Never, Always, CrossSubnet"))),
    }
}

#[cfg(test)]
mod tests;
