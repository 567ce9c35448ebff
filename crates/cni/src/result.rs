//! What ADD answers, in every version of the specification.

use std::net::IpAddr;

use calico_net::Mac;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::netconf::RuntimeDns;
use crate::version::SpecVersion;

/// The result of an attachment, version-free. Addresses keep the prefix length that they are to be printed with.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AddResult {
    /// Host side first, then the container side.
    pub interfaces: Vec<Interface>,
    /// Addresses of the container's interface.
    pub ips: Vec<Ip>,
    /// Routes of the container.
    pub routes: Vec<Route>,
    /// DNS settings that the runtime passed.
    pub dns: Option<RuntimeDns>,
}

/// An interface.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its MAC, if known.
    pub mac: Option<Mac>,
    /// The namespace that it is in; `None` = the host's.
    pub sandbox: Option<String>,
}

/// An address.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ip {
    /// The address.
    pub address: IpAddr,
    /// Its prefix length: 32 or 128 from the network plugin, the block's from the IPAM plugin.
    pub prefix_len: u8,
    /// A gateway, if there is one.
    pub gateway: Option<IpAddr>,
    /// Index into `interfaces`.
    pub interface: Option<usize>,
}

/// A route.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Route {
    /// Destination prefix as text, `0.0.0.0/0`.
    pub dst: String,
    /// Next hop.
    pub gw: Option<IpAddr>,
}

impl AddResult {
    /// The JSON document in a version's form.
    pub fn to_json(&self, version: SpecVersion) -> Value {
        if version < SpecVersion::V0_3_0 { self.flat(version) } else { self.listed(version) }
    }

    /// 0.1.0 and 0.2.0: at most one address of each family, under `ip4` and `ip6`.
    fn flat(&self, version: SpecVersion) -> Value {
        let family = |v4: bool| {
            let ip = self.ips.iter().find(|ip| ip.address.is_ipv4() == v4)?;
            let routes: Vec<Value> = self
                .routes
                .iter()
                .filter(|r| r.dst.contains('.') == v4)
                .map(|r| without_nulls(json!({"dst": r.dst, "gw": r.gw})))
                .collect();
            let mut object =
                json!({"ip": format!("{}/{}", ip.address, ip.prefix_len), "gateway": ip.gateway});
            if !routes.is_empty() {
                object["routes"] = Value::Array(routes);
            }
            Some(without_nulls(object))
        };
        without_nulls(json!({
            "cniVersion": version.as_str(),
            "ip4": family(true),
            "ip6": family(false),
            "dns": self.dns_json(),
        }))
    }

    fn listed(&self, version: SpecVersion) -> Value {
        let ips: Vec<Value> = self
            .ips
            .iter()
            .map(|ip| {
                let family = if ip.address.is_ipv4() { "4" } else { "6" };
                without_nulls(json!({
                    "version": (version < SpecVersion::V1_0_0).then_some(family),
                    "address": format!("{}/{}", ip.address, ip.prefix_len),
                    "gateway": ip.gateway,
                    "interface": ip.interface,
                }))
            })
            .collect();
        let interfaces: Vec<Value> = self
            .interfaces
            .iter()
            .map(|i| without_nulls(json!({"name": i.name, "mac": i.mac, "sandbox": i.sandbox})))
            .collect();
        let routes: Vec<Value> =
            self.routes.iter().map(|r| without_nulls(json!({"dst": r.dst, "gw": r.gw}))).collect();
        let mut object = json!({"cniVersion": version.as_str()});
        for (name, list) in [("interfaces", interfaces), ("ips", ips), ("routes", routes)] {
            if !list.is_empty() {
                object[name] = Value::Array(list);
            }
        }
        object["dns"] = self.dns_json();
        object
    }

    fn dns_json(&self) -> Value {
        let Some(RuntimeDns { servers, domain, searches, options }) = &self.dns else { return json!({}) };
        let list = |l: &Vec<String>| (!l.is_empty()).then(|| l.clone());
        without_nulls(json!({
            "nameservers": list(servers),
            "domain": (!domain.is_empty()).then_some(domain),
            "search": list(searches),
            "options": list(options),
        }))
    }

    /// Reads a result of any version, as a delegated IPAM plugin prints it.
    pub fn from_json(value: &Value) -> Option<AddResult> {
        let mut result = AddResult::default();
        let split = |text: &str| {
            let (address, len) = text.split_once('/')?;
            Some((address.parse::<IpAddr>().ok()?, len.parse::<u8>().ok()?))
        };
        let gateway = |v: &Value, key: &str| v[key].as_str().and_then(|g| g.parse().ok());
        let mut push = |ip: &Value, key: &str| {
            let (address, prefix_len) = split(ip[key].as_str()?)?;
            result.ips.push(Ip { address, prefix_len, gateway: gateway(ip, "gateway"), interface: None });
            Some(())
        };
        for key in ["ip4", "ip6"] {
            if value[key].is_object() {
                push(&value[key], "ip")?;
            }
        }
        for ip in value["ips"].as_array().into_iter().flatten() {
            push(ip, "address")?;
        }
        let flat = [&value["ip4"]["routes"], &value["ip6"]["routes"], &value["routes"]];
        for route in flat.into_iter().filter_map(Value::as_array).flatten() {
            result.routes.push(Route { dst: route["dst"].as_str()?.to_owned(), gw: gateway(route, "gw") });
        }
        result.dns = read_dns(&value["dns"]);
        Some(result)
    }
}

/// DNS settings, if any is there.
fn read_dns(value: &Value) -> Option<RuntimeDns> {
    let text = |v: &Value| v.as_str().map(str::to_owned);
    let list = |key: &str| value[key].as_array().into_iter().flatten().filter_map(text).collect();
    let dns = RuntimeDns {
        servers: list("nameservers"),
        domain: text(&value["domain"]).unwrap_or_default(),
        searches: list("search"),
        options: list("options"),
    };
    (dns != RuntimeDns::default()).then_some(dns)
}

/// Drops members that are null, as the specification leaves optional fields out.
fn without_nulls(mut value: Value) -> Value {
    if let Value::Object(members) = &mut value {
        members.retain(|_, v| !v.is_null());
    }
    value
}

#[cfg(test)]
mod tests;
