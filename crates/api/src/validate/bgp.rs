//! BGP configuration and peers (spec 1 §1.6).

use std::net::IpAddr;

use calico_net::Family;

use super::Report;
use super::scalar::{address, at_most, loose_net, selector, unique};
use crate::number::GoDuration;
use crate::{BGPConfiguration, BGPConfigurationSpec, BGPPeer, BGPPeerSpec, BgpPassword, ServiceBlock};

/// Most communities, and most advertised prefixes.
const MAX_COMMUNITIES: usize = 500;
/// Most communities of one prefix.
const MAX_PREFIX_COMMUNITIES: usize = 50;
/// The highest metric that Calico gives to routes.
pub(super) const MAX_PRIORITY: u32 = 2_147_483_646;

pub(super) fn check_configuration(configuration: &BGPConfiguration, report: &mut Report) {
    let BGPConfigurationSpec {
        log_severity_screen,
        node_to_node_mesh_enabled,
        as_number: _,
        service_load_balancer_ips,
        service_external_ips,
        service_cluster_ips,
        service_load_balancer_aggregation,
        communities: _,
        prefix_advertisements: _,
        listen_port,
        node_mesh_password,
        node_mesh_max_restart_time,
        bind_mode,
        ignored_interfaces,
        local_workload_peering_ipv4,
        local_workload_peering_ipv6,
        program_cluster_routes,
        ipv4_normal_route_priority,
        ipv6_normal_route_priority,
    } = &configuration.spec;
    let levels = ["", "trace", "debug", "info", "warning", "error", "fatal"];
    let level = levels.contains(&log_severity_screen.to_ascii_lowercase().as_str());
    let reason = "must be one of Trace, Debug, Info, Warning, Error, Fatal";
    report.require(level, "spec.logSeverityScreen", log_severity_screen, reason);
    check_blocks("spec.serviceLoadBalancerIPs", service_load_balancer_ips, report);
    check_blocks("spec.serviceExternalIPs", service_external_ips, report);
    check_blocks("spec.serviceClusterIPs", service_cluster_ips, report);
    if let Some(word) = service_load_balancer_aggregation {
        let field = "spec.serviceLoadBalancerAggregation";
        report.require(word.is_known(), field, word, "must be Enabled or Disabled");
    }
    check_communities(&configuration.spec, report);
    report.require(*listen_port != Some(0), "spec.listenPort", "0", "must be from 1 to 65535");
    check_password("spec.nodeMeshPassword", node_mesh_password.as_ref(), report);
    check_duration("spec.nodeMeshMaxRestartTime", node_mesh_max_restart_time.as_ref(), report);
    if *node_to_node_mesh_enabled == Some(false) {
        let reason = "cannot be set while nodeToNodeMeshEnabled is false";
        report.require(node_mesh_password.is_none(), "spec.nodeMeshPassword", "", reason);
        report.require(node_mesh_max_restart_time.is_none(), "spec.nodeMeshMaxRestartTime", "", reason);
    }
    let bind = ["", "None", "NodeIP"].contains(&bind_mode.as_str());
    report.require(bind, "spec.bindMode", bind_mode, "must be None or NodeIP");
    for (index, name) in ignored_interfaces.iter().enumerate() {
        let good = (1..=15).contains(&name.len())
            && name != "*"
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.*-".contains(&b));
        let reason = "must be an interface's name, perhaps with *, but not * alone";
        report.require(good, format!("spec.ignoredInterfaces[{index}]"), name, reason);
    }
    unique(report, "spec.ignoredInterfaces", ignored_interfaces);
    address(report, "spec.localWorkloadPeeringIPV4", local_workload_peering_ipv4, Some(Family::V4));
    address(report, "spec.localWorkloadPeeringIPV6", local_workload_peering_ipv6, Some(Family::V6));
    if let Some(word) = program_cluster_routes {
        let known = ["Enabled", "Disabled", "EnabledIPIPOnly", "EnabledNoEncapOnly"].contains(&word.as_str());
        let reason = "must be one of Enabled, Disabled, EnabledIPIPOnly, EnabledNoEncapOnly";
        report.require(known, "spec.programClusterRoutes", word, reason);
    }
    for (field, priority) in [
        ("spec.ipv4NormalRoutePriority", ipv4_normal_route_priority),
        ("spec.ipv6NormalRoutePriority", ipv6_normal_route_priority),
    ] {
        if let Some(n) = priority {
            report.require(
                (1..=MAX_PRIORITY).contains(n),
                field,
                n,
                format!("must be from 1 to {MAX_PRIORITY}"),
            );
        }
    }
    check_default_only(configuration, report);
}

/// Some settings make sense for the whole cluster only.
fn check_default_only(configuration: &BGPConfiguration, report: &mut Report) {
    if configuration.metadata.name == "default" {
        return;
    }
    let spec = &configuration.spec;
    let set = [
        ("spec.nodeToNodeMeshEnabled", spec.node_to_node_mesh_enabled.is_some()),
        ("spec.asNumber", spec.as_number.is_some()),
        ("spec.serviceLoadBalancerIPs", !spec.service_load_balancer_ips.is_empty()),
        ("spec.serviceExternalIPs", !spec.service_external_ips.is_empty()),
        ("spec.serviceClusterIPs", !spec.service_cluster_ips.is_empty()),
        ("spec.nodeMeshPassword", spec.node_mesh_password.is_some()),
        ("spec.nodeMeshMaxRestartTime", spec.node_mesh_max_restart_time.is_some()),
    ];
    for (field, _) in set.into_iter().filter(|(_, set)| *set) {
        report.add(field, "", "can be set only in the BGPConfiguration named default");
    }
}

fn check_blocks(field: &str, blocks: &[ServiceBlock], report: &mut Report) {
    for (index, block) in blocks.iter().enumerate() {
        loose_net(report, &format!("{field}[{index}].cidr"), &block.cidr);
    }
}

/// `aa:nn` with 16-bit parts (RFC 1997), or `aa:nn:mm` with 32-bit parts (RFC 8092).
pub(super) fn is_community(text: &str) -> bool {
    let parts: Vec<&str> = text.split(':').collect();
    let digits = parts.iter().all(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit()));
    digits
        && match parts.as_slice() {
            [_, _] => parts.iter().all(|p| p.parse::<u16>().is_ok()),
            [_, _, _] => parts.iter().all(|p| p.parse::<u32>().is_ok()),
            _ => false,
        }
}

fn check_communities(spec: &BGPConfigurationSpec, report: &mut Report) {
    at_most(report, "spec.communities", spec.communities.len(), MAX_COMMUNITIES);
    at_most(report, "spec.prefixAdvertisements", spec.prefix_advertisements.len(), MAX_COMMUNITIES);
    for (index, community) in spec.communities.iter().enumerate() {
        let field = format!("spec.communities[{index}]");
        report.require(!community.name.is_empty(), format!("{field}.name"), "", "is needed");
        let reason = "must be aa:nn with numbers to 65535, or aa:nn:mm with numbers to 4294967295";
        report.require(is_community(&community.value), format!("{field}.value"), &community.value, reason);
    }
    let used = spec.communities.is_empty() || !spec.prefix_advertisements.is_empty();
    report.require(used, "spec.communities", "", "are not used; add prefixAdvertisements that name them");
    for (index, advertisement) in spec.prefix_advertisements.iter().enumerate() {
        let field = format!("spec.prefixAdvertisements[{index}]");
        loose_net(report, &format!("{field}.cidr"), &advertisement.cidr);
        let list = format!("{field}.communities");
        at_most(report, &list, advertisement.communities.len(), MAX_PREFIX_COMMUNITIES);
        for (position, text) in advertisement.communities.iter().enumerate() {
            let known = is_community(text) || spec.communities.iter().any(|c| c.name == *text);
            report.require(
                known,
                format!("{list}[{position}]"),
                text,
                "is no community and no name in communities",
            );
        }
    }
}

fn check_password(field: &str, password: Option<&BgpPassword>, report: &mut Report) {
    let Some(reference) = password.and_then(|p| p.secret_key_ref.as_ref()) else { return };
    report.require(!reference.key.is_empty(), format!("{field}.secretKeyRef.key"), "", "is needed");
}

fn check_duration(field: &str, duration: Option<&GoDuration>, report: &mut Report) {
    if let Some(duration) = duration {
        report.require(duration.nanos >= 0, field, duration, "must not be negative");
    }
}

/// The address of `IP`, `IPv4:port` or `[IPv6]:port`.
fn peer_address(text: &str) -> Option<IpAddr> {
    if let Ok(addr) = text.parse() {
        return Some(addr);
    }
    let socket: std::net::SocketAddr = text.parse().ok()?;
    (socket.port() != 0).then(|| socket.ip())
}

pub(super) fn check_peer(peer: &BGPPeer, report: &mut Report) {
    let BGPPeerSpec {
        node,
        node_selector,
        peer_ip,
        as_number,
        peer_selector,
        keep_original_next_hop,
        next_hop_mode,
        password,
        source_address,
        max_restart_time,
        keepalive_time,
        num_allowed_local_as_numbers: _,
        ttl_security: _,
        reachable_by,
        filters,
        local_as_number: _,
        local_workload_selector,
        reverse_peering,
    } = &peer.spec;
    selector(report, "spec.nodeSelector", node_selector);
    selector(report, "spec.peerSelector", peer_selector);
    selector(report, "spec.localWorkloadSelector", local_workload_selector);
    let either = node.is_empty() || node_selector.is_empty();
    report.require(either, "spec.nodeSelector", node_selector, "cannot be combined with node");
    let asn = as_number.filter(|asn| asn.0 != 0);
    let asn_shown = asn.map_or_else(String::new, |a| a.to_string());
    let peer_addr = peer_address(peer_ip);
    if !peer_ip.is_empty() {
        let reason = "must be an IP address, IPv4:port or [IPv6]:port";
        report.require(peer_addr.is_some(), "spec.peerIP", peer_ip, reason);
        report.require(
            peer_selector.is_empty(),
            "spec.peerSelector",
            peer_selector,
            "cannot be combined with peerIP",
        );
    }
    if !peer_selector.is_empty() {
        let reason = "must be empty with peerSelector; the selected nodes have their own";
        report.require(asn.is_none(), "spec.asNumber", &asn_shown, reason);
    }
    if !local_workload_selector.is_empty() {
        let reason = "must be empty with localWorkloadSelector";
        report.require(peer_ip.is_empty(), "spec.peerIP", peer_ip, reason);
        report.require(peer_selector.is_empty(), "spec.peerSelector", peer_selector, reason);
        report.require(asn.is_some(), "spec.asNumber", "", "is needed with localWorkloadSelector");
    }
    if !reachable_by.is_empty() {
        report.require(!peer_ip.is_empty(), "spec.reachableBy", reachable_by, "needs a peerIP");
        address(report, "spec.reachableBy", reachable_by, peer_addr.map(Family::of));
    }
    let reason = "cannot be combined with nextHopMode, which replaces it";
    let once = !keep_original_next_hop || next_hop_mode.is_none();
    report.require(once, "spec.keepOriginalNextHop", "true", reason);
    if let Some(mode) = next_hop_mode {
        report.require(mode.is_known(), "spec.nextHopMode", mode, "must be one of Auto, Self, Keep");
    }
    let source = ["", "UseNodeIP", "None"].contains(&source_address.as_str());
    report.require(source, "spec.sourceAddress", source_address, "must be UseNodeIP or None");
    if let Some(word) = reverse_peering {
        let known = ["Auto", "Manual"].contains(&word.as_str());
        report.require(known, "spec.reversePeering", word, "must be Auto or Manual");
    }
    check_password("spec.password", password.as_ref(), report);
    check_duration("spec.maxRestartTime", max_restart_time.as_ref(), report);
    check_duration("spec.keepaliveTime", keepalive_time.as_ref(), report);
    unique(report, "spec.filters", filters);
}
