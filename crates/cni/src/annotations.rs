//! What the annotations of a pod and of its namespace ask of the pod's interface (spec 1 §3.5, spec 5 §1.7).
//!
//! Each value is JSON text. An empty one counts as absent. A wrong one fails the attachment and is named: a pod that
//! asks for an address must not start with another.

use std::net::IpAddr;

use calico_api::Labels;
use calico_net::{Cidr, Family, Mac};
use serde::de::DeserializeOwned;
use smol_str::{SmolStr, format_smolstr};

use crate::error::{CniError, Code};
use crate::kubernetes::PodFacts;
use crate::netconf::NetConf;

const IPV4_POOLS: &str = "cni.projectcalico.org/ipv4pools";
const IPV6_POOLS: &str = "cni.projectcalico.org/ipv6pools";
const IP_FAMILIES: &str = "cni.projectcalico.org/ipFamilies";
const IP_ADDRS: &str = "cni.projectcalico.org/ipAddrs";
const IP_ADDRS_NO_IPAM: &str = "cni.projectcalico.org/ipAddrsNoIpam";
const HW_ADDR: &str = "cni.projectcalico.org/hwAddr";
const FLOATING_IPS: &str = "cni.projectcalico.org/floatingIPs";
const ALLOWED_SOURCES: &str = "cni.projectcalico.org/allowedSourcePrefixes";

type Annotations = Labels;

/// What is asked for. Nothing, for what is no pod.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Wishes {
    /// IPv4 pools by name or CIDR, in place of those of the configuration.
    pub ipv4_pools: Option<Vec<String>>,
    /// IPv6 pools by name or CIDR, in place of those of the configuration.
    pub ipv6_pools: Option<Vec<String>>,
    /// Families, in place of those of the configuration.
    pub families: Option<Vec<Family>>,
    /// Where its addresses come from.
    pub addresses: Addresses,
    /// The container's MAC.
    pub mac: Option<Mac>,
    /// Addresses of elsewhere that lead to the pod.
    pub floating: Vec<IpAddr>,
    /// Sources that it may use besides its own addresses.
    pub allowed_sources: Vec<SmolStr>,
}

/// Which addresses a pod wants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Addresses {
    /// Any.
    #[default]
    Any,
    /// Exactly these, from IPAM.
    Assigned(Vec<IpAddr>),
    /// Exactly these, whatever IPAM knows of them.
    Verbatim(Vec<IpAddr>),
}

impl Wishes {
    /// Reads and checks the annotations against the network configuration.
    pub fn parse(facts: &PodFacts, conf: &NetConf) -> Result<Wishes, CniError> {
        let (pod, namespace) = (&facts.pod.metadata.annotations, &facts.namespace.metadata.annotations);
        let mut wishes = Wishes {
            ipv4_pools: json(pod, IPV4_POOLS)?.or(json(namespace, IPV4_POOLS)?),
            ipv6_pools: json(pod, IPV6_POOLS)?.or(json(namespace, IPV6_POOLS)?),
            families: families(pod)?.or(families(namespace)?),
            addresses: addresses(pod, conf)?,
            mac: mac(pod)?,
            floating: floating(pod, conf)?,
            allowed_sources: allowed_sources(pod)?,
        };
        if !conf.own_ipam() {
            wishes.pass_over_ipam(conf);
        }
        Ok(wishes)
    }

    /// Another plugin's pools and families are its own affair.
    fn pass_over_ipam(&mut self, conf: &NetConf) {
        let Wishes { ipv4_pools, ipv6_pools, families, .. } = self;
        let asked = [
            (IPV4_POOLS, ipv4_pools.take().is_some()),
            (IPV6_POOLS, ipv6_pools.take().is_some()),
            (IP_FAMILIES, families.take().is_some()),
        ];
        for (annotation, _) in asked.iter().filter(|(_, is_set)| *is_set) {
            let plugin = &conf.ipam.plugin;
            tracing::warn!(annotation, %plugin, "only calico-ipam follows this annotation; it is passed over");
        }
    }

    /// The pools of a family, if the pod has a say in it.
    pub fn pools(&self, family: Family) -> Option<&[String]> {
        match family {
            Family::V4 => self.ipv4_pools.as_deref(),
            Family::V6 => self.ipv6_pools.as_deref(),
        }
    }

    /// Whether an address of a family is wanted.
    pub fn wants(&self, family: Family, conf: &NetConf) -> bool {
        self.families.as_ref().map_or_else(|| conf.assign(family), |families| families.contains(&family))
    }

    /// Each floating address beside the pod's own one of its family.
    pub fn translations(&self, own: &[IpAddr]) -> Result<Vec<(IpAddr, IpAddr)>, CniError> {
        let pair = |external: &IpAddr| {
            let family = Family::of(*external);
            let internal = own.iter().find(|a| Family::of(**a) == family);
            let absent = || wrong(FLOATING_IPS, external, format!("the pod has no {family} address"));
            Ok((*internal.ok_or_else(absent)?, *external))
        };
        self.floating.iter().map(pair).collect()
    }
}

fn families(annotations: &Annotations) -> Result<Option<Vec<Family>>, CniError> {
    let Some(names) = json::<Vec<String>>(annotations, IP_FAMILIES)? else { return Ok(None) };
    let right = "it must be a JSON list of \"IPv4\" and \"IPv6\", with one of them at least";
    let family = |name: &String| match name.to_ascii_lowercase().as_str() {
        "ipv4" => Ok(Family::V4),
        "ipv6" => Ok(Family::V6),
        _ => Err(wrong(IP_FAMILIES, &annotations[IP_FAMILIES], right)),
    };
    let families: Vec<Family> = names.iter().map(family).collect::<Result<_, _>>()?;
    if families.is_empty() {
        return Err(wrong(IP_FAMILIES, &annotations[IP_FAMILIES], right));
    }
    Ok(Some(families))
}

fn addresses(annotations: &Annotations, conf: &NetConf) -> Result<Addresses, CniError> {
    let assigned = one_of_each(annotations, IP_ADDRS)?;
    let verbatim = one_of_each(annotations, IP_ADDRS_NO_IPAM)?;
    match (assigned, verbatim) {
        (None, None) => Ok(Addresses::Any),
        (Some(addresses), None) => Ok(Addresses::Assigned(addresses)),
        (Some(_), Some(_)) => {
            let right = format!("the pod has {IP_ADDRS} too; it may have one of the two");
            Err(wrong(IP_ADDRS_NO_IPAM, &annotations[IP_ADDRS_NO_IPAM], right))
        }
        (None, Some(_)) if !conf.own_ipam() => {
            let right = format!("it needs ipam.type calico-ipam, not {:?}", conf.ipam.plugin);
            Err(wrong(IP_ADDRS_NO_IPAM, &annotations[IP_ADDRS_NO_IPAM], right))
        }
        (None, Some(_)) if !conf.feature_control.ip_addrs_no_ipam => {
            Err(not_enabled(IP_ADDRS_NO_IPAM, "ip_addrs_no_ipam"))
        }
        (None, Some(addresses)) => Ok(Addresses::Verbatim(addresses)),
    }
}

/// One address of each family at most, and one at all.
fn one_of_each(annotations: &Annotations, name: &str) -> Result<Option<Vec<IpAddr>>, CniError> {
    let Some(addresses) = json::<Vec<IpAddr>>(annotations, name)? else { return Ok(None) };
    let count = |family| addresses.iter().filter(|a| Family::of(**a) == family).count();
    if addresses.is_empty() || Family::ALL.into_iter().any(|family| count(family) > 1) {
        let right = "it must be a JSON list of one IPv4 address, one IPv6 address or one of each";
        return Err(wrong(name, &annotations[name], right));
    }
    Ok(Some(addresses))
}

fn mac(annotations: &Annotations) -> Result<Option<Mac>, CniError> {
    let Some(text) = present(annotations, HW_ADDR) else { return Ok(None) };
    // As plain text or as a JSON string.
    let plain = text.trim().trim_matches('"');
    plain.parse().map(Some).map_err(|e| wrong(HW_ADDR, text, e))
}

fn floating(annotations: &Annotations, conf: &NetConf) -> Result<Vec<IpAddr>, CniError> {
    let addresses: Vec<IpAddr> = json(annotations, FLOATING_IPS)?.unwrap_or_default();
    if !addresses.is_empty() && !conf.feature_control.floating_ips {
        return Err(not_enabled(FLOATING_IPS, "floating_ips"));
    }
    Ok(addresses)
}

fn allowed_sources(annotations: &Annotations) -> Result<Vec<SmolStr>, CniError> {
    let texts: Vec<String> = json(annotations, ALLOWED_SOURCES)?.unwrap_or_default();
    let prefix = |text: &String| {
        let cidr: Cidr = text.parse().map_err(|e| wrong(ALLOWED_SOURCES, text, e))?;
        Ok(format_smolstr!("{cidr}"))
    };
    texts.iter().map(prefix).collect()
}

fn present<'a>(annotations: &'a Annotations, name: &str) -> Option<&'a SmolStr> {
    annotations.get(name).filter(|text| !text.trim().is_empty())
}

fn json<T: DeserializeOwned>(annotations: &Annotations, name: &str) -> Result<Option<T>, CniError> {
    let Some(text) = present(annotations, name) else { return Ok(None) };
    serde_json::from_str(text)
        .map(Some)
        .map_err(|e| wrong(name, text, format!("it must be a JSON list: {e}")))
}

fn wrong(name: &str, value: impl std::fmt::Display, right: impl std::fmt::Display) -> CniError {
    let details = format!("{name} is {:?}; {right}", value.to_string());
    CniError::new(Code::InvalidConfiguration, "invalid annotation", details)
}

fn not_enabled(annotation: &str, feature: &str) -> CniError {
    let details = format!(
        "the pod has {annotation}; that needs feature_control.{feature}: true in the network configuration"
    );
    CniError::new(Code::InvalidConfiguration, "the feature is not enabled", details)
}

#[cfg(test)]
mod tests;
