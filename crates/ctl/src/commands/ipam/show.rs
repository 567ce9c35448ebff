//! `ipam show`: how full pools and blocks are, who has an address, what the settings are.

use std::net::IpAddr;

use calico_api::{AffinityOwner, AllocationAttribute, IpamConfig, Key, decode_record};
use calico_ipam::{AssignmentOf, Known, block, utilization};
use calico_net::Family;
use calico_store::ipam::drive;

use crate::Context;
use crate::args::IpamShowArgs;
use crate::ipam::{now, survey};
use crate::output::table::render_boxed;
use crate::resources::Resources;

pub(super) async fn run(
    resources: &Resources,
    args: &IpamShowArgs,
    context: &mut Context,
) -> anyhow::Result<()> {
    let text = if let Some(ip) = args.ip {
        show_address(resources, ip).await?
    } else if args.show_configuration {
        show_configuration(resources).await?
    } else {
        let known = survey(&*resources.store).await?;
        if args.show_borrowed { borrowed(&known) } else { pools(&known, args.show_blocks) }
    };
    Ok(context.output.write_all(text.as_bytes())?)
}

async fn show_address(resources: &Resources, ip: IpAddr) -> anyhow::Result<String> {
    let assignment = drive(&*resources.store, AssignmentOf::new(ip)).await?;
    let Some(assignment) = assignment else { return Ok(format!("{ip} is not assigned\n")) };
    // One that was released and rests is not assigned either.
    let AllocationAttribute { handle_id, secondary, .. } = assignment.attribute;
    let mut text = format!("IP {ip} is in use\n");
    if let Some(handle) = handle_id {
        text += &format!("Handle ID: {handle}\n");
    }
    match secondary.filter(|a| !a.is_empty()) {
        None => text += "No attributes defined\n",
        Some(attributes) => {
            text += "Attributes:\n";
            for (key, value) in &*attributes {
                text += &format!("  {key}: {value}\n");
            }
        }
    }
    Ok(text)
}

async fn show_configuration(resources: &Resources) -> anyhow::Result<String> {
    let entry = resources.store.get(&Key::IpamConfig).await?;
    let config: IpamConfig = entry.map(|e| decode_record(&e)).transpose()?.unwrap_or_default();
    let rows = [
        ("StrictAffinity", config.strict_affinity.to_string()),
        ("AutoAllocateBlocks", config.auto_allocate_blocks.to_string()),
        ("MaxBlocksPerHost", config.max_blocks_per_host.to_string()),
        ("IPCooldownSeconds", config.ip_cooldown_seconds.to_string()),
    ];
    let rows: Vec<Vec<String>> = rows.into_iter().map(|(name, value)| vec![name.to_owned(), value]).collect();
    Ok(render_boxed(&["PROPERTY", "VALUE"], &rows))
}

const HEADINGS: [&str; 6] = ["GROUPING", "CIDR", "IPS TOTAL", "IPS IN USE", "IPS RESERVED", "IPS FREE"];

fn pools(known: &Known, with_blocks: bool) -> String {
    let mut rows = Vec::new();
    for pool in utilization::report(known, now()) {
        let cidr = pool.cidr.map_or_else(|| pool.name.to_string(), |c| c.to_string());
        rows.push(row("IP Pool", &cidr, [pool.capacity, pool.in_use, pool.reserved, pool.available]));
        for block in pool.blocks.iter().filter(|_| with_blocks) {
            let numbers = [block.capacity, block.in_use, block.reserved, block.available];
            rows.push(row("Block", &block.cidr.to_string(), numbers));
        }
    }
    render_boxed(&HEADINGS, &rows)
}

fn row(grouping: &str, cidr: &str, [total, in_use, reserved, free]: [u128; 4]) -> Vec<String> {
    let share = |n: u128| {
        let percent = if total == 0 { 0.0 } else { n as f64 * 100.0 / total as f64 };
        format!("{} ({percent:.0}%)", five_digits(n))
    };
    vec![
        grouping.to_owned(),
        cidr.to_owned(),
        five_digits(total),
        share(in_use),
        share(reserved),
        share(free),
    ]
}

/// A number with five significant digits, as `%.5g` prints it.
fn five_digits(n: u128) -> String {
    if n < 100_000 {
        return n.to_string();
    }
    let text = format!("{:.4e}", n as f64);
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let mantissa =
        if mantissa.contains('.') { mantissa.trim_end_matches('0').trim_end_matches('.') } else { mantissa };
    format!("{mantissa}e+{exponent:0>2}")
}

fn borrowed(known: &Known) -> String {
    let mut rows = Vec::new();
    for (_, held) in Family::ALL.into_iter().flat_map(|family| known.blocks(family)) {
        let Some((b, _)) = held else { continue };
        let owner = match b.owner() {
            Some(AffinityOwner::Host(name)) => name.to_string(),
            Some(other) => other.to_string(),
            None => String::new(),
        };
        for (ordinal, attribute) in block::used(b) {
            let field = |name: &str| attribute.secondary.as_ref().and_then(|s| s.get(name));
            let Some(node) = field("node").filter(|n| **n != owner) else { continue };
            let address = block::address(b, ordinal).map_or_else(String::new, |a| a.to_string());
            let kind = field("type").map_or("pod", |t| t.as_str());
            let user = match (field("namespace"), field("pod")) {
                (Some(namespace), Some(pod)) => format!("{namespace}/{pod}"),
                _ => attribute.handle_id.as_ref().map_or_else(String::new, ToString::to_string),
            };
            rows.push(vec![
                address,
                node.to_string(),
                b.cidr.to_string(),
                owner.clone(),
                kind.to_owned(),
                user,
            ]);
        }
    }
    render_boxed(&["IP", "BORROWING-NODE", "BLOCK", "BLOCK OWNER", "TYPE", "ALLOCATED-TO"], &rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_five_digits() {
        let cases = [
            (0, "0"),
            (65_536, "65536"),
            (1_048_576, "1.0486e+06"),
            (100_000, "1e+05"),
            (1 << 64, "1.8447e+19"),
        ];
        for (n, text) in cases {
            assert_eq!(five_digits(n), text);
        }
    }
}
