//! Pools, reservations, IPAM's configuration (spec 1 §1.5).

use calico_net::{Cidr, Family};

use super::Report;
use super::scalar::{loose_net, selector, strict_net, unique};
use crate::Toggle;
use crate::{
    AllowedUse, EncapMode, IPAMConfiguration, IPAMConfigurationSpec, IPPool, IPPoolSpec, IPReservation,
};

pub(super) fn check_pool(pool: &IPPool, report: &mut Report) {
    let IPPoolSpec {
        cidr: _,
        vxlan_mode,
        ipip_mode,
        nat_outgoing: _,
        disabled: _,
        disable_bgp_export,
        block_size: _,
        node_selector,
        namespace_selector,
        allowed_uses,
        assignment_mode,
    } = &pool.spec;
    let family = check_range(&pool.spec, report);
    selector(report, "spec.nodeSelector", node_selector);
    selector(report, "spec.namespaceSelector", namespace_selector);
    let ipip = check_mode("spec.ipipMode", ipip_mode.as_ref(), report);
    let vxlan = check_mode("spec.vxlanMode", vxlan_mode.as_ref(), report);
    report.require(
        !(ipip && vxlan),
        "spec.ipipMode",
        "",
        "cannot be combined with vxlanMode; one must be Never",
    );
    let shown = ipip_mode.as_ref().map_or("", EncapMode::as_str);
    report.require(
        !(ipip && family == Some(Family::V6)),
        "spec.ipipMode",
        shown,
        "must be Never in IPv6 pools",
    );
    if let Some(mode) = assignment_mode {
        report.require(mode.is_known(), "spec.assignmentMode", mode, "must be Automatic or Manual");
    }
    for (index, purpose) in allowed_uses.iter().enumerate() {
        let field = format!("spec.allowedUses[{index}]");
        report.require(purpose.is_known(), field, purpose, "must be one of Workload, Tunnel, LoadBalancer");
    }
    unique(report, "spec.allowedUses", allowed_uses);
    let uses = |purpose| allowed_uses.contains(&purpose);
    if uses(AllowedUse::LoadBalancer) {
        let only = !uses(AllowedUse::Workload) && !uses(AllowedUse::Tunnel);
        report.require(
            only,
            "spec.allowedUses",
            "",
            "LoadBalancer cannot be combined with Workload or Tunnel",
        );
        report.require(!ipip && !vxlan, "spec.allowedUses", "", "a LoadBalancer pool cannot be encapsulated");
        let reason = "must be false in a LoadBalancer pool";
        report.require(!disable_bgp_export, "spec.disableBGPExport", disable_bgp_export, reason);
        let everywhere = node_selector.is_empty() || node_selector == "all()";
        report.require(
            everywhere,
            "spec.nodeSelector",
            node_selector,
            "must be all() in a LoadBalancer pool",
        );
    }
    if uses(AllowedUse::Tunnel) {
        let reason = "cannot be set in a pool for tunnels; leave Tunnel out of allowedUses";
        report.require(namespace_selector.is_empty(), "spec.namespaceSelector", namespace_selector, reason);
    }
}

/// Whether a mode encapsulates.
fn check_mode(field: &str, mode: Option<&EncapMode>, report: &mut Report) -> bool {
    match mode {
        None | Some(EncapMode::Never) => false,
        Some(EncapMode::Always | EncapMode::CrossSubnet) => true,
        Some(EncapMode::Other(text)) if text.is_empty() => false,
        Some(other) => {
            report.add(field, other, "must be one of Never, Always, CrossSubnet");
            false
        }
    }
}

/// The range and the block size; gives the family if the range can be read.
fn check_range(spec: &IPPoolSpec, report: &mut Report) -> Option<Family> {
    let cidr = strict_net(report, "spec.cidr", &spec.cidr)?;
    let family = cidr.family();
    for reserved in ["169.254.0.0/16", "fe80::/10"] {
        let overlaps = reserved.parse::<Cidr>().is_ok_and(|r| r.overlaps(&cidr));
        report.require(!overlaps, "spec.cidr", cidr, format!("overlaps the link-local range {reserved}"));
    }
    let (smallest, largest) = match family {
        Family::V4 => (20, 32),
        Family::V6 => (116, 128),
    };
    let size = spec.effective_block_size(&cidr);
    let reason = format!("must be from {smallest} to {largest} in an {family} pool");
    report.require((smallest..=largest).contains(&size), "spec.blockSize", size, reason);
    let room = spec.disabled || cidr.prefix_len() <= size;
    report.require(room, "spec.cidr", cidr, format!("is smaller than one block of /{size}"));
    Some(family)
}

pub(super) fn check_reservation(reservation: &IPReservation, report: &mut Report) {
    for (index, text) in reservation.spec.reserved_cidrs.iter().enumerate() {
        loose_net(report, &format!("spec.reservedCIDRs[{index}]"), text);
    }
    unique(report, "spec.reservedCIDRs", &reservation.spec.reserved_cidrs);
}

/// Most blocks that a node may be limited to.
const MAX_BLOCKS: u32 = 1_000_000;
/// Longest rest of a released address, seconds.
const MAX_COOLDOWN: u32 = 1200;

pub(super) fn check_configuration(configuration: &IPAMConfiguration, report: &mut Report) {
    let IPAMConfigurationSpec {
        strict_affinity,
        max_blocks_per_host,
        auto_allocate_blocks,
        kube_virt_vm_address_persistence,
        ip_cooldown_seconds,
    } = &configuration.spec;
    let reason = format!("must be from 0 to {MAX_BLOCKS}");
    report.require(*max_blocks_per_host <= MAX_BLOCKS, "spec.maxBlocksPerHost", max_blocks_per_host, reason);
    let possible = *strict_affinity || *auto_allocate_blocks;
    report.require(possible, "spec.autoAllocateBlocks", "false", "must be true unless strictAffinity is");
    if let Some(text) = kube_virt_vm_address_persistence {
        let known = Toggle::from(text.as_str()).is_known();
        report.require(known, "spec.kubeVirtVMAddressPersistence", text, "must be Enabled or Disabled");
    }
    if let Some(seconds) = ip_cooldown_seconds {
        let reason = format!("must be from 0 to {MAX_COOLDOWN}");
        report.require(*seconds <= MAX_COOLDOWN, "spec.ipCooldownSeconds", seconds, reason);
    }
}
