//! The options that the agent reads, typed.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use calico_net::{Cidr, PortRange};
use smol_str::SmolStr;

use super::parse::{HostPort, OptionValue};
use super::resolve::{Effective, resolve};

/// Reads the options of one type from the resolved values; the table's default of an option has the option's type, so
/// a value of another type cannot occur (checked by a test over the whole table).
macro_rules! getters {
    ($($getter:ident: $pattern:pat => $value:expr, $type:ty, $empty:expr;)*) => {
        impl Values<'_> {
            $(fn $getter(&self, name: &'static str) -> $type {
                match self.0.get(name).map(|e| &e.value) {
                    Some($pattern) => $value,
                    _ => $empty,
                }
            })*
        }
    };
}

struct Values<'a>(&'a BTreeMap<&'static str, Effective>);

getters! {
    bool: OptionValue::Bool(b) => *b, bool, false;
    toggle: OptionValue::Bool(b) => Some(*b), Option<bool>, None;
    int: OptionValue::Int(n) => *n, i64, 0;
    duration: OptionValue::Duration(d) => *d, Duration, Duration::ZERO;
    text: OptionValue::Text(t) => t.clone(), SmolStr, SmolStr::default();
    list: OptionValue::List(l) => l.clone(), Vec<SmolStr>, Vec::new();
    addr: OptionValue::Addr(a) => Some(*a), Option<IpAddr>, None;
    cidrs: OptionValue::Cidrs(c) => c.clone(), Vec<Cidr>, Vec::new();
    host_ports: OptionValue::HostPorts(p) => p.clone(), Vec<HostPort>, Vec::new();
    ports: OptionValue::PortRanges(p) => p.clone(), Vec<PortRange>, Vec::new();
    mask: OptionValue::Mask(m) => *m, u32, 0;
    key_values: OptionValue::Pairs(p) => p.clone(), BTreeMap<SmolStr, SmolStr>, BTreeMap::new();
    tables: OptionValue::TableRanges(t) => t.clone(), Vec<(u32, u32)>, Vec::new();
}

impl Values<'_> {
    fn port(&self, name: &'static str) -> u16 {
        // The table bounds these options to 0–65535.
        u16::try_from(self.int(name)).unwrap_or(0)
    }

    fn u32(&self, name: &'static str) -> u32 {
        u32::try_from(self.int(name)).unwrap_or(0)
    }

    /// Whether a two-word option says `Enabled`.
    fn enabled(&self, name: &'static str) -> bool {
        self.text(name) == "Enabled"
    }
}

macro_rules! config {
    ($($(#[$doc:meta])* $field:ident: $type:ty = $getter:ident($name:literal),)*) => {
        /// The options that the agent reads. Each is documented in its row of [`super::TABLE`].
        #[derive(Clone, Debug, PartialEq)]
        pub struct FelixConfig {
            $($(#[$doc])* #[doc = concat!("`", $name, "`.")] pub $field: $type,)*
        }

        impl FelixConfig {
            /// The names of the options read here.
            pub const NAMES: &'static [&'static str] = &[$($name),*];

            /// The same with the field of each: field first.
            pub const FIELDS: &'static [(&'static str, &'static str)] = &[$((stringify!($field), $name)),*];

            pub(super) fn from_values(values: &BTreeMap<&'static str, Effective>) -> FelixConfig {
                let values = Values(values);
                FelixConfig { $($field: values.$getter($name),)* }
            }
        }
    };
}

config! {
    hostname: SmolStr = text("FelixHostname"),
    health_enabled: bool = bool("HealthEnabled"),
    health_host: SmolStr = text("HealthHost"),
    health_port: u16 = port("HealthPort"),
    log_severity_screen: SmolStr = text("LogSeverityScreen"),
    log_severity_file: SmolStr = text("LogSeverityFile"),
    log_file_path: SmolStr = text("LogFilePath"),
    log_prefix: SmolStr = text("LogPrefix"),
    log_action_rate_limit: SmolStr = text("LogActionRateLimit"),
    log_action_rate_limit_burst: u32 = u32("LogActionRateLimitBurst"),
    prometheus_metrics_enabled: bool = bool("PrometheusMetricsEnabled"),
    prometheus_metrics_host: SmolStr = text("PrometheusMetricsHost"),
    prometheus_metrics_port: u16 = port("PrometheusMetricsPort"),
    prometheus_process_metrics_enabled: bool = bool("PrometheusProcessMetricsEnabled"),
    allow_vxlan_packets_from_workloads: bool = bool("AllowVXLANPacketsFromWorkloads"),
    allow_ipip_packets_from_workloads: bool = bool("AllowIPIPPacketsFromWorkloads"),
    dataplane_watchdog_timeout: Duration = duration("DataplaneWatchdogTimeout"),
    /// ACCEPT, DROP or RETURN.
    default_endpoint_to_host_action: SmolStr = text("DefaultEndpointToHostAction"),
    device_route_protocol: u32 = u32("DeviceRouteProtocol"),
    device_route_source_address: Option<IpAddr> = addr("DeviceRouteSourceAddress"),
    device_route_source_address_ipv6: Option<IpAddr> = addr("DeviceRouteSourceAddressIPv6"),
    disable_conntrack_invalid_check: bool = bool("DisableConntrackInvalidCheck"),
    endpoint_status_path_prefix: SmolStr = text("EndpointStatusPathPrefix"),
    external_nodes: Vec<Cidr> = cidrs("ExternalNodesCIDRList"),
    failsafe_inbound_host_ports: Vec<HostPort> = host_ports("FailsafeInboundHostPorts"),
    failsafe_outbound_host_ports: Vec<HostPort> = host_ports("FailsafeOutboundHostPorts"),
    /// Kernel features to take as present or absent.
    feature_detect_override: BTreeMap<SmolStr, SmolStr> = key_values("FeatureDetectOverride"),
    floating_ips: bool = enabled("FloatingIPs"),
    ip_forwarding: bool = enabled("IPForwarding"),
    ipv4_normal_route_priority: u32 = u32("IPv4NormalRoutePriority"),
    ipv6_normal_route_priority: u32 = u32("IPv6NormalRoutePriority"),
    interface_exclude: Vec<SmolStr> = list("InterfaceExclude"),
    /// Prefixes between commas.
    interface_prefix: SmolStr = text("InterfacePrefix"),
    interface_refresh_interval: Duration = duration("InterfaceRefreshInterval"),
    ipv6_support: bool = bool("Ipv6Support"),
    mtu_iface_pattern: SmolStr = text("MTUIfacePattern"),
    nat_outgoing_address: Option<IpAddr> = addr("NATOutgoingAddress"),
    nat_outgoing_exclusions: SmolStr = text("NATOutgoingExclusions"),
    /// Empty: any. A trailing `+` is a wildcard. In force with nftables too, whatever its name says.
    nat_outgoing_interface_filter: SmolStr = text("IptablesNATOutgoingInterfaceFilter"),
    nat_port_range: Vec<PortRange> = ports("NATPortRange"),
    netlink_timeout: Duration = duration("NetlinkTimeoutSecs"),
    /// Auto, Disabled or Enabled.
    nftables_mode: SmolStr = text("NFTablesMode"),
    program_cluster_routes: SmolStr = text("ProgramClusterRoutes"),
    remove_external_routes: bool = bool("RemoveExternalRoutes"),
    route_refresh_interval: Duration = duration("RouteRefreshInterval"),
    /// CalicoIPAM or WorkloadIPs.
    route_source: SmolStr = text("RouteSource"),
    route_sync_disabled: bool = bool("RouteSyncDisabled"),
    /// Inclusive.
    route_table_ranges: Vec<(u32, u32)> = tables("RouteTableRanges"),
    /// Disabled, Drop or Reject.
    service_loop_prevention: SmolStr = text("ServiceLoopPrevention"),
    workload_source_spoofing: SmolStr = text("WorkloadSourceSpoofing"),
    ipsets_refresh_interval: Duration = duration("IpsetsRefreshInterval"),
    max_ipset_size: u32 = u32("MaxIpsetSize"),
    /// ACCEPT or RETURN.
    nftables_filter_allow_action: SmolStr = text("NftablesFilterAllowAction"),
    /// DROP or REJECT.
    nftables_filter_deny_action: SmolStr = text("NftablesFilterDenyAction"),
    /// ACCEPT or RETURN.
    nftables_mangle_allow_action: SmolStr = text("NftablesMangleAllowAction"),
    nftables_mark_mask: u32 = mask("NftablesMarkMask"),
    nftables_refresh_interval: Duration = duration("NftablesRefreshInterval"),
    kube_node_port_ranges: Vec<PortRange> = ports("KubeNodePortRanges"),
    /// None: by the pools.
    vxlan_enabled: Option<bool> = toggle("VXLANEnabled"),
    /// 0: to be found out.
    vxlan_mtu: u32 = u32("VXLANMTU"),
    /// 0: to be found out.
    vxlan_mtu_v6: u32 = u32("VXLANMTUV6"),
    vxlan_port: u16 = port("VXLANPort"),
    vxlan_vni: u32 = u32("VXLANVNI"),
    /// None: by the pools.
    ipip_enabled: Option<bool> = toggle("IpInIpEnabled"),
    /// 0: to be found out.
    ipip_mtu: u32 = u32("IpInIpMtu"),
    endpoint_reporting_enabled: bool = bool("EndpointReportingEnabled"),
    endpoint_reporting_delay: Duration = duration("EndpointReportingDelaySecs"),
    reporting_interval: Duration = duration("ReportingIntervalSecs"),
    reporting_ttl: Duration = duration("ReportingTTLSecs"),
    bpf_enabled: bool = bool("BPFEnabled"),
}

impl Default for FelixConfig {
    /// Every option at the table's default.
    fn default() -> FelixConfig {
        resolve([]).config
    }
}
