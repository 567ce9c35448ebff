//! What the operator's configuration means to the rules: a plain value, made by the agent from the Felix options.

use std::net::{IpAddr, Ipv4Addr};

use calico_net::{Cidr, PortRange, Protocol};
use smol_str::SmolStr;

use crate::mark::MarkBits;

/// What a table does with a packet that policy allowed (`NftablesFilterAllowAction`, `NftablesMangleAllowAction`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AllowAction {
    /// Accept it at once.
    Accept,
    /// Leave it to what comes after us, marked as accepted.
    Return,
}

/// What the filter table does with a packet that policy denied (`NftablesFilterDenyAction`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DenyAction {
    /// Drop it.
    Drop,
    /// Refuse it with ICMP port unreachable, where the kernel can: to and through this host. What the host itself
    /// sends is dropped, which its sender sees as an error of the call.
    Reject,
}

/// What becomes of workload traffic to this host after the workload's egress policy allowed it
/// (`DefaultEndpointToHostAction`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EndpointToHost {
    /// Drop it.
    Drop,
    /// Accept it.
    Accept,
    /// Leave it to what comes after our table. Host endpoints' policy is not asked: workloads' interfaces have none.
    Return,
}

/// A port that policy can never close on the host's own traffic (spec 2 §5.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Failsafe {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// Only from or to these addresses, if given.
    pub net: Option<Cidr>,
    /// The port.
    pub port: u16,
}

/// A device whose traffic must carry its own address (spec 3 §6.4, nat POSTROUTING).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Tunnel {
    /// Its name.
    pub interface: SmolStr,
    /// Its address.
    pub addr: IpAddr,
}

/// Everything that rendering depends on besides the objects themselves.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Config {
    /// Workload interfaces begin with one of these (`InterfacePrefix`).
    pub interface_prefixes: Vec<SmolStr>,
    /// Our bits of the packet mark.
    pub marks: MarkBits,
    /// Workload to host.
    pub endpoint_to_host: EndpointToHost,
    /// Workloads may send VXLAN.
    pub allow_vxlan_from_workloads: bool,
    /// Workloads may send IP in IP.
    pub allow_ipip_from_workloads: bool,
    /// UDP port of VXLAN.
    pub vxlan_port: u16,
    /// This node speaks VXLAN: it has a device for it.
    pub vxlan: bool,
    /// This node speaks IP in IP: it has a device for it.
    pub ipip: bool,
    /// In the filter table.
    pub filter_allow: AllowAction,
    /// In the filter table.
    pub filter_deny: DenyAction,
    /// In the mangle table.
    pub mangle_allow: AllowAction,
    /// Drop packets of invalid conntrack state (unless `DisableConntrackInvalidCheck`).
    pub drop_invalid: bool,
    /// Ports to this host that stay open.
    pub failsafe_in: Vec<Failsafe>,
    /// Ports from this host that stay open.
    pub failsafe_out: Vec<Failsafe>,
    /// `LogPrefix`; `%t %k %n %p` stand for tier, kind, name, namespace/name.
    pub log_prefix: SmolStr,
    /// `LogActionRateLimit`: events, per so many seconds.
    pub log_limit: Option<(u64, u64)>,
    /// `LogActionRateLimitBurst`.
    pub log_burst: u32,
    /// Outgoing NAT takes this address instead of the interface's (`NATOutgoingAddress`).
    pub nat_address: Option<Ipv4Addr>,
    /// Outgoing NAT takes its ports from here (`NATPortRange`).
    pub nat_ports: Option<PortRange>,
    /// Outgoing NAT only on this interface; a trailing `+` is a wildcard (`IptablesNATOutgoingInterfaceFilter`).
    pub nat_interface: Option<SmolStr>,
    /// Outgoing NAT spares traffic to nodes too (`NATOutgoingExclusions: IPPoolsAndHostIPs`).
    pub nat_spares_hosts: bool,
    /// Tunnel devices of this node.
    pub tunnels: Vec<Tunnel>,
    /// Service prefixes: packets to them that are about to be forwarded have no endpoint and would loop.
    pub service_nets: Vec<Cidr>,
    /// Refuse such packets with ICMP instead of dropping them (`ServiceLoopPrevention`).
    pub service_loop_reject: bool,
}

const INBOUND: [(Protocol, u16); 9] = [
    (Protocol::TCP, 22),
    (Protocol::UDP, 68),
    (Protocol::TCP, 179),
    (Protocol::TCP, 2379),
    (Protocol::TCP, 2380),
    (Protocol::TCP, 5473),
    (Protocol::TCP, 6443),
    (Protocol::TCP, 6666),
    (Protocol::TCP, 6667),
];

const OUTBOUND: [(Protocol, u16); 9] = [
    (Protocol::UDP, 53),
    (Protocol::UDP, 67),
    (Protocol::TCP, 179),
    (Protocol::TCP, 2379),
    (Protocol::TCP, 2380),
    (Protocol::TCP, 5473),
    (Protocol::TCP, 6443),
    (Protocol::TCP, 6666),
    (Protocol::TCP, 6667),
];

fn failsafes(ports: &[(Protocol, u16)]) -> Vec<Failsafe> {
    ports.iter().map(|&(protocol, port)| Failsafe { protocol, net: None, port }).collect()
}

impl Default for Config {
    /// Calico's defaults (spec 3, appendix A).
    fn default() -> Config {
        Config {
            interface_prefixes: vec![SmolStr::new_static("cali")],
            marks: MarkBits::default(),
            endpoint_to_host: EndpointToHost::Drop,
            allow_vxlan_from_workloads: false,
            allow_ipip_from_workloads: false,
            vxlan_port: 4789,
            vxlan: false,
            ipip: false,
            filter_allow: AllowAction::Accept,
            filter_deny: DenyAction::Drop,
            mangle_allow: AllowAction::Accept,
            drop_invalid: true,
            failsafe_in: failsafes(&INBOUND),
            failsafe_out: failsafes(&OUTBOUND),
            log_prefix: SmolStr::new_static("calico-packet"),
            log_limit: None,
            log_burst: 5,
            nat_address: None,
            nat_ports: None,
            nat_interface: None,
            nat_spares_hosts: false,
            tunnels: Vec::new(),
            service_nets: Vec::new(),
            service_loop_reject: false,
        }
    }
}
