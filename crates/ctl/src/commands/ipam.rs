//! `ipam`: pools, blocks and addresses.

mod check;
mod show;

use anyhow::{Context as _, bail};
use calico_ipam::{AssignmentOf, ConfigEdit, ReleaseAddresses};
use calico_store::ipam::drive;

use crate::Context;
use crate::args::{IpamCommand, IpamConfigureArgs};
use crate::ipam::{now, target};
use crate::resources::Resources;

pub(super) async fn run(
    resources: &Resources,
    command: IpamCommand,
    context: &mut Context,
) -> anyhow::Result<()> {
    match command {
        IpamCommand::Show(args) => show::run(resources, &args, context).await,
        IpamCommand::Check(args) => check::run(resources, &args, context).await,
        IpamCommand::Release { ip } => release(resources, ip, context).await,
        IpamCommand::Configure(args) => configure(resources, &args, context).await,
    }
}

async fn release(resources: &Resources, ip: std::net::IpAddr, context: &mut Context) -> anyhow::Result<()> {
    // Exactly the assignment found now: one made meanwhile belongs to somebody who was not asked about.
    let found = drive(&*resources.store, AssignmentOf::new(ip)).await.context("failed to release IP")?;
    let Some(target) = found.map(|assignment| target(ip, &assignment)) else {
        return context.say(format_args!("IP address {ip} is not assigned"));
    };
    let operation = ReleaseAddresses::new(vec![target], now());
    let released = drive(&*resources.store, operation).await.context("failed to release IP")?;
    if let Some(refusal) = released.refused.first() {
        bail!("failed to release IP: {refusal}");
    }
    if released.unallocated.contains(&ip) {
        return context.say(format_args!("IP address {ip} is not assigned"));
    }
    context.say(format_args!("Successfully released IP address {ip}"))
}

async fn configure(
    resources: &Resources,
    args: &IpamConfigureArgs,
    context: &mut Context,
) -> anyhow::Result<()> {
    let IpamConfigureArgs { strictaffinity, max_blocks_per_host, ip_cooldown_seconds } = args;
    if strictaffinity.is_none() && max_blocks_per_host.is_none() && ip_cooldown_seconds.is_none() {
        bail!("nothing to configure; give --strictaffinity, --max-blocks-per-host or --ip-cooldown-seconds");
    }
    let edit = ConfigEdit {
        strict_affinity: *strictaffinity,
        auto_allocate_blocks: None,
        max_blocks_per_host: *max_blocks_per_host,
        ip_cooldown_secs: *ip_cooldown_seconds,
    };
    let config = resources.configure_ipam(edit).await.context("failed to configure IPAM")?;
    if strictaffinity.is_some() {
        context.say(format_args!("Successfully set StrictAffinity to: {}", config.strict_affinity))?;
    }
    if max_blocks_per_host.is_some() {
        context.say(format_args!("Successfully set MaxBlocksPerHost to: {}", config.max_blocks_per_host))?;
    }
    if ip_cooldown_seconds.is_some() {
        context.say(format_args!("Successfully set IPCooldownSeconds to: {}", config.ip_cooldown_seconds))?;
    }
    Ok(())
}
