//! Endpoints, nodes, network sets, cluster information (spec 1 §1.3, §1.4, §1.6).

use std::net::IpAddr;

use calico_net::{Cidr, Family, Mac};
use smol_str::SmolStr;

use super::Report;
use super::scalar::{address, interface_address, is_dns_subdomain, is_interface, loose_net, unique};
use crate::number::{Port, ProtocolForm};
use crate::workload_endpoint::IpNat;
use crate::{GlobalNetworkSet, HostEndpoint, HostEndpointSpec, NetworkSet, Node, NodeSpec, WorkloadEndpoint};

pub(super) fn check_network_set(set: &NetworkSet, report: &mut Report) {
    check_nets(&set.spec.nets, report);
}

pub(super) fn check_global_network_set(set: &GlobalNetworkSet, report: &mut Report) {
    check_nets(&set.spec.nets, report);
}

fn check_nets(nets: &[SmolStr], report: &mut Report) {
    for (index, net) in nets.iter().enumerate() {
        loose_net(report, &format!("spec.nets[{index}]"), net);
    }
    unique(report, "spec.nets", nets);
}

pub(super) fn check_host_endpoint(endpoint: &HostEndpoint, report: &mut Report) {
    let HostEndpointSpec { node, interface_name, expected_ips, profiles, ports } = &endpoint.spec;
    report.require(!node.is_empty(), "spec.node", "", "is needed");
    report.require(node.len() <= 253, "spec.node", "", "is longer than 253 characters");
    let named = interface_name.is_empty() || interface_name == "*" || is_interface(interface_name);
    report.require(named, "spec.interfaceName", interface_name, "must be an interface's name, or * for all");
    let matched = !interface_name.is_empty() || !expected_ips.is_empty();
    report.require(matched, "spec", "", "needs interfaceName or expectedIPs, or matches no interface");
    for (index, ip) in expected_ips.iter().enumerate() {
        let field = format!("spec.expectedIPs[{index}]");
        report.require(!ip.is_empty(), &field, "", "must be an IP address");
        address(report, &field, ip, None);
    }
    unique(report, "spec.expectedIPs", expected_ips);
    unique(report, "spec.profiles", profiles);
    for (index, port) in ports.iter().enumerate() {
        let field = format!("spec.ports[{index}]");
        check_port_name(&port.name, &format!("{field}.name"), report);
        check_port(&port.protocol, port.port, &field, report);
    }
}

fn check_port_name(name: &str, field: &str, report: &mut Report) {
    let good = !name.is_empty() && matches!(name.parse(), Ok(Port::Named(_)));
    report.require(
        good,
        field,
        name,
        "must be a port's name: letters, digits, '_', '.' and '-', not digits only",
    );
}

fn check_port(protocol: &ProtocolForm, port: u16, field: &str, report: &mut Report) {
    let good = protocol.resolve().is_ok_and(|p| p.has_ports());
    report.require(good, format!("{field}.protocol"), protocol, "must be TCP, UDP or SCTP");
    report.require(port != 0, format!("{field}.port"), port, "must be from 1 to 65535");
}

pub(super) fn check_workload_endpoint(endpoint: &WorkloadEndpoint, report: &mut Report) {
    let spec = &endpoint.spec;
    check_workload_name(endpoint, report);
    let mut own = Vec::new();
    for (index, text) in spec.ip_networks.iter().enumerate() {
        let field = format!("spec.ipNetworks[{index}]");
        if let Some(cidr) = loose_net(report, &field, text) {
            report.require(cidr.is_host(), field, text, "must be one address: /32 or /128");
            own.push(cidr);
        }
    }
    for (index, nat) in spec.ip_nats.iter().enumerate() {
        check_nat(nat, &own, &format!("spec.ipNATs[{index}]"), report);
    }
    address(report, "spec.ipv4Gateway", &spec.ipv4_gateway, Some(Family::V4));
    address(report, "spec.ipv6Gateway", &spec.ipv6_gateway, Some(Family::V6));
    let interface = spec.interface_name.is_empty() || is_interface(&spec.interface_name);
    report.require(interface, "spec.interfaceName", &spec.interface_name, "must be an interface's name");
    if !spec.mac.is_empty()
        && let Err(error) = spec.mac.parse::<Mac>()
    {
        report.add("spec.mac", &spec.mac, error);
    }
    for (index, port) in spec.ports.iter().enumerate() {
        let field = format!("spec.ports[{index}]");
        if !port.name.is_empty() || port.host_port == 0 {
            check_port_name(&port.name, &format!("{field}.name"), report);
        }
        check_port(&port.protocol, port.port, &field, report);
        address(report, &format!("{field}.hostIP"), &port.host_ip, None);
    }
    for (index, prefix) in spec.allow_spoofed_source_prefixes.iter().enumerate() {
        loose_net(report, &format!("spec.allowSpoofedSourcePrefixes[{index}]"), prefix);
    }
}

fn check_workload_name(endpoint: &WorkloadEndpoint, report: &mut Report) {
    let name = endpoint.metadata.name.as_str();
    match endpoint.spec.name() {
        Ok(computed) => {
            let reason = format!("must be {computed}, from node, orchestrator, workload and endpoint");
            report.require(name == computed, "metadata.name", name, reason);
        }
        Err(error) => report.add("spec", "", error),
    }
}

fn check_nat(nat: &IpNat, own: &[Cidr], field: &str, report: &mut Report) {
    let internal: Option<IpAddr> = nat.internal_ip.parse().ok();
    let external: Option<IpAddr> = nat.external_ip.parse().ok();
    report.require(
        internal.is_some(),
        format!("{field}.internalIP"),
        &nat.internal_ip,
        "must be an IP address",
    );
    report.require(
        external.is_some(),
        format!("{field}.externalIP"),
        &nat.external_ip,
        "must be an IP address",
    );
    if let (Some(internal), Some(external)) = (internal, external) {
        let same = Family::of(internal) == Family::of(external);
        report.require(same, field, &nat.external_ip, "must be of the internal address's family");
        let known = own.iter().any(|c| c.contains(internal));
        report.require(known, format!("{field}.internalIP"), internal, "must be one of ipNetworks");
    }
}

pub(super) fn check_node(node: &Node, report: &mut Report) {
    let NodeSpec {
        bgp,
        ipv4_vxlan_tunnel_addr,
        vxlan_tunnel_mac_addr,
        ipv6_vxlan_tunnel_addr,
        vxlan_tunnel_mac_addr_v6,
        orch_refs,
        wireguard,
        addresses,
        interfaces,
    } = &node.spec;
    if let Some(bgp) = bgp {
        report.require(
            *bgp != crate::NodeBgp::default(),
            "spec.bgp",
            "",
            "must not be empty; leave it out instead",
        );
        interface_address(report, "spec.bgp.ipv4Address", &bgp.ipv4_address, Family::V4);
        interface_address(report, "spec.bgp.ipv6Address", &bgp.ipv6_address, Family::V6);
        address(report, "spec.bgp.ipv4IPIPTunnelAddr", &bgp.ipv4_ipip_tunnel_addr, Some(Family::V4));
        let cluster_id = &bgp.route_reflector_cluster_id;
        address(report, "spec.bgp.routeReflectorClusterID", cluster_id, Some(Family::V4));
    }
    address(report, "spec.ipv4VXLANTunnelAddr", ipv4_vxlan_tunnel_addr, Some(Family::V4));
    address(report, "spec.ipv6VXLANTunnelAddr", ipv6_vxlan_tunnel_addr, Some(Family::V6));
    for (field, mac) in [
        ("spec.vxlanTunnelMACAddr", vxlan_tunnel_mac_addr),
        ("spec.vxlanTunnelMACAddrV6", vxlan_tunnel_mac_addr_v6),
    ] {
        if !mac.is_empty()
            && let Err(error) = mac.parse::<Mac>()
        {
            report.add(field, mac, error);
        }
    }
    for (index, reference) in orch_refs.iter().enumerate() {
        let field = format!("spec.orchRefs[{index}]");
        report.require(!reference.orchestrator.is_empty(), format!("{field}.orchestrator"), "", "is needed");
        let name = &reference.node_name;
        report.require(
            name.is_empty() || is_dns_subdomain(name),
            format!("{field}.nodeName"),
            name,
            "must be a DNS name",
        );
    }
    if let Some(wireguard) = wireguard {
        let v4 = &wireguard.interface_ipv4_address;
        address(report, "spec.wireguard.interfaceIPv4Address", v4, Some(Family::V4));
        let v6 = &wireguard.interface_ipv6_address;
        address(report, "spec.wireguard.interfaceIPv6Address", v6, Some(Family::V6));
    }
    for (index, entry) in addresses.iter().enumerate() {
        loose_net(report, &format!("spec.addresses[{index}].address"), &entry.address);
        let known = ["", "CalicoNodeIP", "InternalIP", "ExternalIP"].contains(&entry.address_type.as_str());
        let reason = "must be CalicoNodeIP, InternalIP or ExternalIP";
        report.require(known, format!("spec.addresses[{index}].type"), &entry.address_type, reason);
    }
    for (index, interface) in interfaces.iter().enumerate() {
        for (position, text) in interface.addresses.iter().enumerate() {
            loose_net(report, &format!("spec.interfaces[{index}].addresses[{position}]"), text);
        }
    }
}
