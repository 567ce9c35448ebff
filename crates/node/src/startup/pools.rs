//! The default pools: one for each family that has none (spec 6 §4.2, step 8).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use calico_api::{AllowedUse, AssignmentMode, Entry, IPPool, IPPoolSpec, Key, Kind, Write, decode, encode};
use calico_net::{Cidr, Family};
use smol_str::{SmolStr, format_smolstr};

use super::births::Births;
use super::settings::{PoolSettings, Settings};
use crate::autodetect::Interface;

/// Plans the pools that are missing. `pools` is every pool there is; IPv6 counts only where `ipv6` is on.
pub fn plan_pools(
    settings: &Settings,
    interfaces: &[Interface],
    pools: &[Entry],
    ipv6: bool,
    births: &mut Births<'_>,
) -> Vec<Write> {
    let wanted = [
        (Family::V4, "default-ipv4-ippool", settings.v4_pool.as_ref()),
        (Family::V6, "default-ipv6-ippool", settings.v6_pool.as_ref().filter(|_| ipv6)),
    ];
    let mut writes = Vec::new();
    for (family, name, pool) in wanted {
        let Some(pool) = pool else { continue };
        if pools.iter().any(|entry| has_family(entry, family)) {
            continue;
        }
        let cidr = pool.cidr.unwrap_or_else(|| match family {
            Family::V4 => select_v4(interfaces),
            Family::V6 => select_v6(births),
        });
        let pool: IPPool = births.resource(name, spec(pool, cidr));
        writes.push(Write::create(Key::resource(Kind::IPPool, "", name), encode(&pool)));
    }
    writes
}

/// A pool that cannot be read may be of any family: none is put beside it.
fn has_family(entry: &Entry, family: Family) -> bool {
    match decode::<IPPoolSpec>(entry).map(|pool| pool.spec.cidr.parse::<Cidr>()) {
        Ok(Ok(cidr)) => cidr.family() == family,
        Ok(Err(_)) | Err(_) => true,
    }
}

fn spec(pool: &PoolSettings, cidr: Cidr) -> IPPoolSpec {
    let PoolSettings { cidr: _, block_size, ipip, vxlan, nat_outgoing, node_selector, disable_bgp_export } =
        pool;
    IPPoolSpec {
        cidr: format_smolstr!("{cidr}"),
        vxlan_mode: Some(vxlan.clone()),
        ipip_mode: Some(ipip.clone()),
        nat_outgoing: *nat_outgoing,
        disabled: false,
        disable_bgp_export: *disable_bgp_export,
        block_size: Some(*block_size),
        node_selector: SmolStr::new(node_selector),
        namespace_selector: SmolStr::default(),
        allowed_uses: vec![AllowedUse::Workload, AllowedUse::Tunnel],
        assignment_mode: Some(AssignmentMode::Automatic),
    }
}

/// 192.168.0.0/16, or the first of 172.16.0.0/16 to 172.31.0.0/16 that no interface of the host is in.
fn select_v4(interfaces: &[Interface]) -> Cidr {
    let is_free = |cidr: &Cidr| {
        let mut networks = interfaces.iter().flat_map(|i| &i.addrs);
        !networks.any(|(addr, len)| Cidr::new(*addr, *len).is_ok_and(|network| network.overlaps(cidr)))
    };
    let slash_16 = |a, b| Cidr::new(IpAddr::V4(Ipv4Addr::new(a, b, 0, 0)), 16).expect("16 bits are legal");
    let first = slash_16(192, 168);
    std::iter::once(first).chain((16..32).map(|b| slash_16(172, b))).find(is_free).unwrap_or(first)
}

/// A random unique local prefix (RFC 4193 §3.2.2: `fd`, then 40 random bits).
fn select_v6(births: &mut Births<'_>) -> Cidr {
    let bytes = (births.uuid)().into_bytes();
    let mut addr = [0; 16];
    addr[0] = 0xfd;
    // Bytes 0 to 5 of a UUID are random in all bits.
    addr[1..6].copy_from_slice(&bytes[..5]);
    Cidr::new(IpAddr::V6(Ipv6Addr::from(addr)), 48).expect("48 bits are legal")
}

#[cfg(test)]
mod tests;
