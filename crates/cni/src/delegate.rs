//! Another IPAM plugin, run as the specification says: found on CNI_PATH, same CNI variables, same configuration.

use std::io::ErrorKind;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::time::Duration;

use calico_net::Cidr;
use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};

use crate::arguments::Arguments;
use crate::attach::{Addresses, default_routes};
use crate::context::Context;
use crate::error::{CniError, Code};
use crate::host_local;
use crate::netconf::NetConf;
use crate::result::AddResult;

/// How long a plugin may take: as long as our own IPAM (spec 5 §2.1), and less than the runtime's side waits for us.
const PATIENCE: Duration = Duration::from_secs(90);

/// Asks the configured plugin for addresses: any, or for each of those that are `wanted`.
pub async fn add(
    context: &Context,
    conf: &NetConf,
    arguments: &Arguments,
    wanted: &[IpAddr],
) -> Result<Addresses, CniError> {
    let input = host_local::for_add(context, conf, &context.node).await?;
    if wanted.is_empty() {
        return add_one(conf, arguments, &input).await;
    }
    let mut all = Addresses::default();
    for address in wanted {
        let args = format!("{};IP={address}", arguments.args);
        let given = add_one(conf, &Arguments { args, ..arguments.clone() }, &input).await?;
        all.addresses.extend(given.addresses);
        (all.routes, all.dns) = (given.routes, given.dns);
    }
    Ok(all)
}

async fn add_one(conf: &NetConf, arguments: &Arguments, input: &Value) -> Result<Addresses, CniError> {
    let answer = run_with(conf, arguments, "ADD", input, PATIENCE).await?;
    let answer: Value = serde_json::from_slice(&answer)
        .map_err(|e| CniError::generic(format!("cannot read the answer of {}", conf.ipam.plugin), e))?;
    let result = AddResult::from_json(&answer)
        .filter(|r| !r.ips.is_empty())
        .ok_or_else(|| CniError::generic(format!("{} gave no address", conf.ipam.plugin), &answer))?;
    let mut routes: Vec<Cidr> = result.routes.iter().filter_map(|r| r.dst.parse().ok()).collect();
    if routes.is_empty() || conf.include_default_routes {
        routes.splice(0..0, default_routes());
        routes.dedup();
    }
    let addresses = result.ips.iter().map(|ip| ip.address).collect();
    Ok(Addresses { addresses, routes, dns: result.dns })
}

/// Gives the addresses back.
pub async fn del(conf: &NetConf, arguments: &Arguments) -> Result<(), CniError> {
    run(conf, arguments, "DEL").await.map(drop)
}

/// Verifies that the plugin still has them.
pub async fn check(conf: &NetConf, arguments: &Arguments) -> Result<(), CniError> {
    run(conf, arguments, "CHECK").await.map(drop)
}

/// Whether the plugin could serve an ADD (CNI 1.1).
pub async fn status(conf: &NetConf, arguments: &Arguments) -> Result<(), CniError> {
    run(conf, arguments, "STATUS").await.map(drop)
}

/// Has the plugin remove what belongs to no valid attachment (CNI 1.1).
pub async fn gc(conf: &NetConf, arguments: &Arguments) -> Result<(), CniError> {
    run(conf, arguments, "GC").await.map(drop)
}

/// Plugins refuse keys of CNI_ARGS that they do not know unless told not to, and an empty pair in any case.
fn tolerant(args: &str) -> String {
    let pairs = args.split(';').filter(|pair| !pair.is_empty());
    std::iter::once("IgnoreUnknown=1").chain(pairs).collect::<Vec<_>>().join(";")
}

/// Refuses a plugin that cannot be looked up.
pub fn check_name(plugin: &str) -> Result<(), CniError> {
    if !plugin.is_empty() && !plugin.contains('/') {
        return Ok(());
    }
    let details = format!("ipam.type is {plugin:?}; it must name a plugin such as calico-ipam or host-local");
    Err(CniError::new(Code::InvalidConfiguration, "invalid network configuration", details))
}

async fn run(conf: &NetConf, arguments: &Arguments, verb: &str) -> Result<Vec<u8>, CniError> {
    run_with(conf, arguments, verb, &host_local::for_others(conf), PATIENCE).await
}

async fn run_with(
    conf: &NetConf,
    arguments: &Arguments,
    verb: &str,
    input: &Value,
    patience: Duration,
) -> Result<Vec<u8>, CniError> {
    let plugin = &conf.ipam.plugin;
    check_name(plugin)?;
    let program = std::env::split_paths(&arguments.path)
        .map(|dir| dir.join(plugin))
        .find(|p: &PathBuf| p.is_file())
        .ok_or_else(|| {
            let details = format!("{plugin:?} is in no directory of CNI_PATH {:?}", arguments.path);
            CniError::new(Code::InvalidConfiguration, "IPAM plugin not found", details)
        })?;
    let failed = |e: std::io::Error| CniError::new(Code::Io, format!("cannot run {plugin}"), e);
    let child = Command::new(program)
        .env("CNI_COMMAND", verb)
        .env("CNI_CONTAINERID", &arguments.container_id)
        .env("CNI_NETNS", &arguments.netns)
        .env("CNI_IFNAME", &arguments.ifname)
        .env("CNI_PATH", &arguments.path)
        .env("CNI_ARGS", tolerant(&arguments.args))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(failed)?;
    // Dropped when time is up, and killed by that: what it holds (a lock, a lease half made) is then free for the retry.
    let conversation = tokio::time::timeout(patience, converse(child, input.to_string()));
    let output = conversation.await.map_err(|_| {
        let details = format!("no answer to {verb} within {patience:?}; it was killed");
        CniError::new(Code::TryAgainLater, format!("{plugin} does not answer"), details)
    })?;
    let output = output.map_err(failed)?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    Err(serde_json::from_slice::<CniError>(&output.stdout).unwrap_or_else(|_| {
        let said = String::from_utf8_lossy(&output.stderr);
        CniError::generic(format!("{plugin} failed"), format!("{}: {}", output.status, said.trim()))
    }))
}

/// The configuration in, the answer out.
async fn converse(mut child: Child, input: String) -> std::io::Result<Output> {
    if let Some(mut stdin) = child.stdin.take() {
        match stdin.write_all(input.as_bytes()).await {
            // It ended without reading: its answer says why.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
            written => written?,
        }
    }
    child.wait_with_output().await
}

#[cfg(test)]
mod tests;
