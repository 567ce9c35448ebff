//! What is configured: FelixConfigurations, this node's labels, file and environment, resolved to options in force and
//! to what the rules need of them.

use std::collections::BTreeMap;

use calico_api::felix_config::resource::settings as felix_settings;
use calico_api::felix_config::{
    FelixConfig, Group, HostPort, OptionRow, Resolution, Setting, Source, resolve, row,
};
use calico_api::meta::Labels;
use calico_api::{
    BGPConfigurationSpec, Entry, FelixConfiguration, FelixConfigurationSpec, Key, Kind, NodeSpec, Selection,
    decode,
};
use calico_dataplane::desired::{IpipSettings, VxlanSettings};
use calico_dataplane::tables::route::{PROTOCOL_BOOT, RouteOwnership};
use calico_net::Cidr;
use calico_rules::config::{AllowAction, Config, DenyAction, EndpointToHost, Failsafe};
use calico_rules::{MarkBits, mark::MarkError};
use calico_store::{GetError, ListError, Store};
use smol_str::SmolStr;

/// Why options were not read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// FelixConfigurations cannot be listed.
    #[error("cannot read FelixConfigurations")]
    Configurations(#[from] ListError),
    /// This node's resource cannot be read.
    #[error("cannot read this node's labels")]
    Node(#[from] GetError),
}

/// Everything that decides which options are in force on this node.
#[derive(Clone, Debug)]
pub struct Settings {
    node: SmolStr,
    /// From file and environment: fixed while the process lives.
    local: Vec<Setting>,
    configurations: BTreeMap<SmolStr, FelixConfiguration>,
    labels: Labels,
}

impl Settings {
    /// With the settings of file and environment.
    pub fn new(node: &str, local: Vec<Setting>) -> Settings {
        Settings { node: SmolStr::new(node), local, configurations: BTreeMap::new(), labels: Labels::new() }
    }

    /// Takes in an entry of the datastore, or its absence; whether it may change anything. What cannot be read counts as
    /// absent, and is reported.
    pub fn observe(&mut self, key: &Key, entry: Option<&Entry>) -> Result<bool, calico_api::DecodeError> {
        let Key::Resource(resource) = key else { return Ok(false) };
        match resource.kind {
            Kind::FelixConfiguration => {
                let decoded = entry.map(decode::<FelixConfigurationSpec>).transpose();
                let found = decoded.as_ref().ok().cloned().flatten();
                let before = match found {
                    Some(configuration) => {
                        let old = self.configurations.insert(resource.name.clone(), configuration.clone());
                        old.as_ref() != Some(&configuration)
                    }
                    None => self.configurations.remove(&resource.name).is_some(),
                };
                decoded.map(|_| before)
            }
            Kind::Node if resource.name == self.node => {
                let decoded = entry.map(decode::<NodeSpec>).transpose();
                let found = decoded.as_ref().ok().and_then(Option::as_ref);
                let labels = found.map(|n| n.metadata.labels.clone()).unwrap_or_default();
                let changed = labels != self.labels;
                self.labels = labels;
                decoded.map(|_| changed)
            }
            _ => Ok(false),
        }
    }

    /// Reads the options that a datastore has, once: whoever composes a process follows them before the agent does.
    pub async fn read(store: &dyn Store, node: &str, local: Vec<Setting>) -> Result<Settings, ReadError> {
        let mut settings = Settings::new(node, local);
        let configurations = store.list(&Selection::all(Kind::FelixConfiguration)).await?.entries;
        let own = store.get(&Key::resource(Kind::Node, "", node)).await?;
        for entry in configurations.into_iter().chain(own) {
            if let Err(error) = settings.observe(&entry.key, Some(&entry)) {
                tracing::warn!(%error, "cannot read a resource; it counts as absent");
            }
        }
        Ok(settings)
    }

    /// What is in force now.
    pub fn resolve(&self) -> Resolution {
        let stored = felix_settings(self.configurations.values(), &self.node, &self.labels);
        resolve(stored.into_iter().chain(self.local.iter().cloned()))
    }
}

/// What the options mean to the rules.
pub fn rules_config(config: &FelixConfig) -> Result<Config, MarkError> {
    let prefixes = config.interface_prefix.split(',').map(str::trim).filter(|p| !p.is_empty());
    let allow = |text: &SmolStr| match text.to_ascii_uppercase().as_str() {
        "RETURN" => AllowAction::Return,
        _ => AllowAction::Accept,
    };
    let failsafes = |ports: &[HostPort]| -> Vec<Failsafe> {
        ports.iter().map(|p| Failsafe { protocol: p.protocol, net: p.net, port: p.port }).collect()
    };
    Ok(Config {
        interface_prefixes: prefixes.map(SmolStr::new).collect(),
        marks: MarkBits::allocate(config.nftables_mark_mask, false)?,
        endpoint_to_host: match config.default_endpoint_to_host_action.to_ascii_uppercase().as_str() {
            "ACCEPT" => EndpointToHost::Accept,
            "RETURN" => EndpointToHost::Return,
            _ => EndpointToHost::Drop,
        },
        allow_vxlan_from_workloads: config.allow_vxlan_packets_from_workloads,
        allow_ipip_from_workloads: config.allow_ipip_packets_from_workloads,
        vxlan_port: config.vxlan_port,
        filter_allow: allow(&config.nftables_filter_allow_action),
        filter_deny: match config.nftables_filter_deny_action.to_ascii_uppercase().as_str() {
            "REJECT" => DenyAction::Reject,
            _ => DenyAction::Drop,
        },
        mangle_allow: allow(&config.nftables_mangle_allow_action),
        drop_invalid: !config.disable_conntrack_invalid_check,
        failsafe_in: failsafes(&config.failsafe_inbound_host_ports),
        failsafe_out: failsafes(&config.failsafe_outbound_host_ports),
        log_prefix: config.log_prefix.clone(),
        log_limit: parse_rate(&config.log_action_rate_limit),
        log_burst: config.log_action_rate_limit_burst,
        nat_address: config.nat_outgoing_address.and_then(|a| match a {
            std::net::IpAddr::V4(a) => Some(a),
            std::net::IpAddr::V6(_) => None,
        }),
        nat_ports: config.nat_port_range.first().copied(),
        nat_spares_hosts: config.nat_outgoing_exclusions == "IPPoolsAndHostIPs",
        nat_interface: Some(&config.nat_outgoing_interface_filter).filter(|f| !f.is_empty()).cloned(),
        service_loop_reject: config.service_loop_prevention == "Reject",
        ..Config::default()
    })
}

/// Options that have a field in [`FelixConfig`] and that nothing follows.
const UNREAD: [&str; 18] = [
    "BPFEnabled",
    "ExternalNodesCIDRList",
    "FelixHostname",
    "FloatingIPs",
    "IPv4NormalRoutePriority",
    "IPv6NormalRoutePriority",
    "InterfaceExclude",
    "IpsetsRefreshInterval",
    "KubeNodePortRanges",
    "LogFilePath",
    "LogSeverityFile",
    "MaxIpsetSize",
    "NFTablesMode",
    "NetlinkTimeoutSecs",
    "PrometheusProcessMetricsEnabled",
    "RouteSource",
    "RouteSyncDisabled",
    "RouteTableRanges",
];

/// Options that somebody has set to another value than the default, and that nothing follows: whoever asks for
/// encryption, say, must hear that there is none.
pub fn without_effect(resolution: &Resolution) -> Vec<&'static str> {
    let defaults = resolve([]).values;
    let set = resolution.values.iter().filter(|(name, effective)| {
        effective.source != Source::Default
            && defaults.get(*name).is_none_or(|default| default.value != effective.value)
    });
    set.map(|(name, _)| *name).filter(|name| row(name).is_some_and(|row| !is_followed(row))).collect()
}

/// Whether anything follows an option (`docs/options.md` lists those that nothing does).
fn is_followed(row: &OptionRow) -> bool {
    // The settings of all programs know the datastore's, but not Typha's, which there is none of.
    let is_datastores = row.group == Group::Datastore && row.local && !row.name.starts_with("Typha");
    !UNREAD.contains(&row.name) && (FelixConfig::NAMES.contains(&row.name) || is_datastores)
}

/// The ranges of services that the cluster's BGPConfiguration announces; `None` if the entry is something else. What cannot
/// be read of it is none: the node's BGP says so.
pub fn read_service_nets(key: &Key, entry: Option<&Entry>) -> Option<Vec<Cidr>> {
    let Key::Resource(resource) = key else { return None };
    if resource.kind != Kind::BGPConfiguration || resource.name != "default" {
        return None;
    }
    let spec = entry.and_then(|entry| decode::<BGPConfigurationSpec>(entry).ok()).map(|c| c.spec);
    let spec = spec.unwrap_or_default();
    let lists = [spec.service_cluster_ips, spec.service_external_ips, spec.service_load_balancer_ips];
    let mut nets: Vec<Cidr> = lists.iter().flatten().filter_map(|block| block.cidr.parse().ok()).collect();
    nets.sort_unstable();
    nets.dedup();
    Some(nets)
}

/// What the options mean to the dataplane. `rp_filter` is the host's `net.ipv4.conf.default.rp_filter`.
pub fn dataplane_settings(
    config: &FelixConfig,
    rp_filter: String,
) -> Result<calico_dataplane::Settings, MarkError> {
    let rules = rules_config(config)?;
    let routes = RouteOwnership {
        interface_prefixes: rules.interface_prefixes.iter().map(ToString::to_string).collect(),
        device_protocol: u8::try_from(config.device_route_protocol).unwrap_or(PROTOCOL_BOOT),
        remove_external: config.remove_external_routes,
        programs_ipip: programs_ipip(config),
    };
    // Off unless the operator vouches for the kernel's: packets with wrong checksums arrive nowhere, and say nothing.
    let broken = config.feature_detect_override.get("ChecksumOffloadBroken").map(SmolStr::as_str);
    let vxlan = VxlanSettings {
        enabled: config.vxlan_enabled,
        vni: config.vxlan_vni,
        port: config.vxlan_port,
        mtu_v4: config.vxlan_mtu,
        mtu_v6: config.vxlan_mtu_v6,
        checksum_offload: broken == Some("false"),
    };
    let ipip =
        IpipSettings { enabled: config.ipip_enabled, mtu: config.ipip_mtu, routes: routes.programs_ipip };
    Ok(calico_dataplane::Settings {
        rules,
        device_route_protocol: routes.device_protocol,
        routes,
        device_route_source_v4: config.device_route_source_address,
        device_route_source_v6: config.device_route_source_address_ipv6,
        rp_filter,
        ipv6: config.ipv6_support,
        vxlan,
        ipip,
    })
}

/// `ProgramClusterRoutes`: whether routes through IPIP are the agent's.
pub fn programs_ipip(config: &FelixConfig) -> bool {
    ["Enabled", "EnabledIPIPOnly"].iter().any(|word| config.program_cluster_routes.eq_ignore_ascii_case(word))
}

/// `10/minute` as events and seconds; the option's table has checked the form.
fn parse_rate(text: &str) -> Option<(u64, u64)> {
    let (events, unit) = text.split_once('/')?;
    let seconds = match unit {
        "second" => 1,
        "minute" => 60,
        "hour" => 3600,
        "day" => 86400,
        _ => return None,
    };
    Some((events.parse().ok()?, seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_and_defaults() {
        assert_eq!(parse_rate("10/minute"), Some((10, 60)));
        assert_eq!(parse_rate(""), None);
        let config = rules_config(&FelixConfig::default()).expect("the default mask has room");
        assert_eq!(config, Config::default());
    }

    #[test]
    fn what_cannot_be_read_is_absent() {
        let stored = |kind, name: &str, value: serde_json::Value| Entry {
            key: Key::resource(kind, "", name),
            value: value.to_string().into(),
            revision: 1.into(),
        };
        let mut settings = Settings::new("n", Vec::new());
        let chosen = serde_json::json!({
            "metadata": {"name": "racks"},
            "spec": {"nodeSelector": "has(rack)", "logPrefix": "rack"},
        });
        let good = [
            stored(Kind::FelixConfiguration, "racks", chosen),
            stored(Kind::Node, "n", serde_json::json!({"metadata": {"name": "n", "labels": {"rack": "1"}}})),
        ];
        for entry in &good {
            assert_eq!(settings.observe(&entry.key, Some(entry)), Ok(true));
        }
        assert_eq!(settings.resolve().config.log_prefix, "rack");
        let bad = stored(Kind::Node, "n", serde_json::json!([]));
        assert!(settings.observe(&bad.key, Some(&bad)).is_err());
        assert_eq!(settings.resolve().config.log_prefix, "calico-packet");
    }

    #[test]
    fn what_nothing_follows_is_what_the_book_says() {
        let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/options.md"));
        let page = page.expect("the page is there");
        let (_, unused) = page.split_once("## Known, without effect").expect("both parts");
        for row in calico_api::felix_config::TABLE {
            assert_eq!(is_followed(row), !unused.contains(&format!("`{}`", row.name)), "{}", row.name);
        }
    }

    #[test]
    fn whoever_sets_what_nothing_follows_hears_of_it() {
        let named = |settings: &[(&str, &str)]| {
            let settings = settings.iter().map(|(name, value)| Setting {
                source: Source::Environment,
                name: (*name).to_owned(),
                value: Ok((*value).to_owned()),
            });
            without_effect(&resolve(settings))
        };
        assert_eq!(named(&[("WireguardEnabled", "true"), ("LogPrefix", "x")]), ["WireguardEnabled"]);
        assert_eq!(named(&[("WireguardEnabled", "false"), ("BPFEnabled", "true")]), ["BPFEnabled"]);
        assert!(named(&[("EtcdEndpoints", "http://127.0.0.1:2379"), ("HealthPort", "1")]).is_empty());
    }

    #[test]
    fn service_ranges_are_those_of_the_clusters_bgp() {
        let key = |kind, name| Key::resource(kind, "", name);
        let entry = |spec: serde_json::Value| {
            let key = key(Kind::BGPConfiguration, "default");
            let value = serde_json::json!({"metadata": {"name": "default"}, "spec": spec});
            Entry { key, value: value.to_string().into(), revision: 1.into() }
        };
        let block = |cidr: &str| serde_json::json!([{"cidr": cidr}]);
        let all = entry(serde_json::json!({
            "serviceClusterIPs": block("10.96.0.0/12"),
            "serviceExternalIPs": block("nonsense"),
            "serviceLoadBalancerIPs": [{"cidr": "192.0.2.0/24"}, {"cidr": "10.96.0.0/12"}],
        }));
        let nets = |entry: Option<&Entry>| read_service_nets(&key(Kind::BGPConfiguration, "default"), entry);
        let expected = ["10.96.0.0/12", "192.0.2.0/24"].map(|net| net.parse().expect("a prefix"));
        assert_eq!(nets(Some(&all)), Some(expected.into()));
        assert_eq!(nets(None), Some(vec![]));
        assert_eq!(read_service_nets(&key(Kind::BGPConfiguration, "node.a"), Some(&all)), None);
    }

    #[test]
    fn options_reach_the_rules_or_are_named() {
        let stored = [
            ("NftablesFilterDenyAction", "REJECT"),
            ("IptablesNATOutgoingInterfaceFilter", "eth+"),
            ("FloatingIPs", "Enabled"),
            ("IpInIpEnabled", "true"),
            ("IpInIpMtu", "1400"),
            ("ProgramClusterRoutes", "Disabled"),
            ("FeatureDetectOverride", "ChecksumOffloadBroken=false"),
            ("VXLANMTU", "1400"),
        ];
        let settings = stored.map(|(name, value)| Setting {
            source: calico_api::felix_config::Source::Environment,
            name: name.into(),
            value: Ok(value.into()),
        });
        let resolved = resolve(settings).config;
        let config = rules_config(&resolved).expect("the default mask has room");
        assert_eq!(config.filter_deny, DenyAction::Reject);
        assert_eq!(config.nat_interface.as_deref(), Some("eth+"));
        let settings = dataplane_settings(&resolved, String::new()).expect("the default mask has room");
        assert_eq!((settings.vxlan.mtu_v4, settings.vxlan.checksum_offload), (1400, true));
        assert_eq!(settings.ipip, IpipSettings { enabled: Some(true), mtu: 1400, routes: false });
        assert!(!settings.routes.programs_ipip);
        let settings = dataplane_settings(&FelixConfig::default(), String::new());
        let found = settings.map(|s| (s.vxlan, s.ipip, s.routes));
        let routes = RouteOwnership::default();
        assert_eq!(found, Ok((VxlanSettings::default(), IpipSettings::default(), routes)));
    }
}
