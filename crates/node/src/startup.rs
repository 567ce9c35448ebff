//! The start of a node: its Node resource, default pools, and what every cluster has (spec 6 §4.2).
//!
//! ```text
//! environment ──▶ Settings ─┐
//! interfaces ───▶ Host ─────┼─▶ plan_node, plan_pools, plan_cluster_information, plan_defaults ──▶ writes ──▶ store
//! store ────────▶ entries ──┘                                                                       last: the nodename file
//! ```
//!
//! The file with the node's name is written only after everything else has succeeded: the CNI plugin takes it as the
//! sign that the node is ready to be used, and its age decides how readiness judges BGP.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use calico_api::{Entry, IPAMConfigurationSpec, IpamConfig, Key, Kind, Selection, Write, decode_record};
use calico_net::Family;
use calico_store::error::chain;
use calico_store::{CommitError, GetError, ListError, Store};
use smol_str::SmolStr;

pub mod address;
pub mod births;
pub mod defaults;
pub mod kubeadm;
pub mod node;
pub mod pools;
pub mod settings;

use crate::autodetect::Method;
use crate::interfaces::{read_interfaces, read_source_address};
use address::Host;
use births::Births;
use kubeadm::Kubeadm;
use settings::{SettingError, Settings, Vars, select_node_name};

/// Where the node's name is kept unless `CALICO_NODENAME_FILE` says otherwise.
pub const NODENAME_FILE: &str = "/var/lib/calico/nodename";

/// After how long a datastore that does not answer is asked again with `WAIT_FOR_DATASTORE`; each further time doubles it.
const DATASTORE_FIRST_RETRY: Duration = Duration::from_millis(500);

/// The longest time between two questions: not much of a start, and no load on a datastore that is coming back.
const DATASTORE_MAX_RETRY: Duration = Duration::from_secs(5);

/// How often the Node is planned anew because somebody else wrote it meanwhile. Only this node and an operator write it.
const NODE_TRIES: u32 = 10;

/// Why a node could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartupError {
    /// A variable of the environment.
    #[error(transparent)]
    Setting(#[from] SettingError),
    /// The host's interfaces or its name.
    #[error("cannot read {what} of this host")]
    Host {
        /// What.
        what: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The datastore could not be read.
    #[error(transparent)]
    Get(#[from] GetError),
    /// The datastore could not be read.
    #[error(transparent)]
    List(#[from] ListError),
    /// The datastore could not be written.
    #[error("cannot write {key}")]
    Commit {
        /// What.
        key: Key,
        /// Why.
        #[source]
        source: CommitError,
    },
    /// The Node cannot be what it would have to be.
    #[error(transparent)]
    Refused(#[from] node::Refusal),
    /// ClusterInformation is unreadable.
    #[error(transparent)]
    Stored(#[from] calico_api::DecodeError),
    /// The file with the node's name.
    #[error("cannot write {}", .path.display())]
    NodenameFile {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// What the start came to.
#[derive(Clone, Debug)]
pub struct Started {
    /// The node's name.
    pub node: SmolStr,
    /// The environment, read.
    pub settings: Settings,
}

/// The file of the node's name.
pub fn nodename_file(vars: Vars<'_>) -> PathBuf {
    vars("CALICO_NODENAME_FILE").filter(|p| !p.is_empty()).unwrap_or_else(|| NODENAME_FILE.to_owned()).into()
}

/// Reads which node this is (spec 6 §4.2, step 2).
pub fn read_node_name(vars: Vars<'_>) -> Result<SmolStr, StartupError> {
    let host = |source| StartupError::Host { what: "the name", source };
    let file = match std::fs::read_to_string(nodename_file(vars)) {
        Ok(text) => Some(text),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
        Err(e) => return Err(host(e)),
    };
    let hostname = nix::unistd::gethostname().map_err(|e| host(e.into()))?;
    Ok(select_node_name(vars, file.as_deref(), &hostname.to_string_lossy()))
}

/// Waits until the datastore answers, where `WAIT_FOR_DATASTORE` says so: what is asked of Kubernetes next would fail.
pub async fn wait_if_told(store: &Arc<dyn Store>, vars: Vars<'_>) -> Result<(), StartupError> {
    if is_told_to_wait(vars)? {
        wait_for_datastore(store).await?;
    }
    Ok(())
}

/// Whether `WAIT_FOR_DATASTORE` says so.
pub fn is_told_to_wait(vars: Vars<'_>) -> Result<bool, StartupError> {
    Ok(Settings::from_vars(vars)?.wait_for_datastore)
}

/// Asks the datastore for something until it answers, or fails in a way that waiting does not mend. Each reason to wait is
/// said once.
pub async fn ask_until_answered<T, E: std::error::Error + 'static>(
    mut ask: impl AsyncFnMut() -> Result<T, E>,
    is_transient: impl Fn(&E) -> bool,
) -> Result<T, E> {
    let (mut wait, mut said) = (DATASTORE_FIRST_RETRY, None);
    loop {
        match ask().await {
            Err(error) if is_transient(&error) => {
                let reason = Some(chain(&error));
                if said != reason {
                    tracing::warn!(error = reason.as_deref(), "waiting for the datastore");
                    said = reason;
                }
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(DATASTORE_MAX_RETRY);
            }
            outcome => return outcome,
        }
    }
}

/// Starts the node: everything is in the datastore and the node's name in its file when it returns.
pub async fn start(
    store: &Arc<dyn Store>,
    vars: Vars<'_>,
    kubeadm: Option<&Kubeadm>,
    version: &str,
) -> Result<Started, StartupError> {
    let mut settings = Settings::from_vars(vars)?;
    if let Some(kubeadm) = kubeadm {
        settings.follow(kubeadm);
    }
    let node = read_node_name(vars)?;
    if settings.wait_for_datastore {
        wait_for_datastore(store).await?;
    }
    apply_node(store, &node, &settings).await?;
    apply_pools(store, &settings, read_ipv6(vars)).await?;
    apply_cluster_information(store, &settings, version).await?;
    apply_defaults(store, &node).await?;
    write_nodename(&nodename_file(vars), &node)?;
    Ok(Started { node, settings })
}

/// Brings the Node's addresses up to date: the part of the start that is repeated while the node runs. Returns
/// whether anything was written.
pub async fn apply_node(
    store: &Arc<dyn Store>,
    node: &str,
    settings: &Settings,
) -> Result<bool, StartupError> {
    let host = read_host(settings).await?;
    let key = Key::resource(Kind::Node, "", node);
    for attempt in 1.. {
        let stored = store.get(&key).await?;
        let plan = |others: &[Entry]| {
            let stored = stored.as_ref();
            with_births(|births| node::plan_node(node, settings, &host, stored, others, births))
        };
        // Others matter only where something changes: every node looks every minute, and each would read all the others.
        let mut planned = plan(&[]);
        if matches!(planned, Ok(node::NodePlan { write: Some(_), .. })) {
            let mut others = store.list(&Selection::all(Kind::Node)).await?.entries;
            others.retain(|entry| entry.key != key);
            planned = plan(&others);
        }
        let write = match planned {
            Ok(node::NodePlan { write, warnings }) => {
                for warning in warnings {
                    tracing::warn!(node, "{warning}");
                }
                write
            }
            Err(refusal) => {
                // The refusal is what the operator must hear of, whatever comes of the clearing.
                if let Some(clear) = refusal.clear.clone()
                    && let Err(error) = commit(store, clear).await
                {
                    let error = &error as &dyn std::error::Error;
                    tracing::error!(error, node, "the Node's addresses cannot be cleared");
                }
                return Err(refusal.into());
            }
        };
        let Some(write) = write else { return Ok(false) };
        match commit(store, write).await {
            Err(StartupError::Commit { source: CommitError::Conflict { .. }, .. })
                if attempt < NODE_TRIES => {}
            Err(e) => return Err(e),
            Ok(()) => return Ok(true),
        }
    }
    unreachable!("the last attempt returns")
}

async fn apply_pools(store: &Arc<dyn Store>, settings: &Settings, ipv6: bool) -> Result<(), StartupError> {
    if settings.v4_pool.is_none() && settings.v6_pool.is_none() {
        return Ok(());
    }
    let pools = store.list(&Selection::all(Kind::IPPool)).await?.entries;
    let interfaces = read_interfaces().map_err(interfaces_error)?;
    let writes = with_births(|births| pools::plan_pools(settings, &interfaces, &pools, ipv6, births));
    commit_if_first(store, writes).await
}

async fn apply_cluster_information(
    store: &Arc<dyn Store>,
    settings: &Settings,
    version: &str,
) -> Result<(), StartupError> {
    let key = Key::resource(Kind::ClusterInformation, "", "default");
    let stored = store.get(&key).await?;
    let cluster_type = &settings.cluster_type;
    let write = with_births(|births| {
        defaults::plan_cluster_information(stored.as_ref(), cluster_type, version, births)
    })?;
    commit_if_first(store, write.into_iter().collect()).await
}

async fn apply_defaults(store: &Arc<dyn Store>, node: &str) -> Result<(), StartupError> {
    let kinds = [Kind::FelixConfiguration, Kind::Tier, Kind::BGPConfiguration, Kind::IPAMConfiguration];
    let mut there = HashSet::new();
    for kind in kinds {
        there.extend(store.list(&Selection::all(kind)).await?.entries.into_iter().map(|e| e.key));
    }
    // IPAM reads a record of its own, which may be older than the resource (spec 5 §2.4).
    let record = store.get(&Key::IpamConfig).await?;
    let ipam = match record.as_ref().map(decode_record::<IpamConfig>).transpose() {
        Ok(settings) => Some(IPAMConfigurationSpec::from(&settings.unwrap_or_default())),
        Err(error) => {
            tracing::warn!(%error, "IPAM's settings cannot be read; no resource is made of them");
            None
        }
    };
    let writes = with_births(|births| defaults::plan_defaults(node, ipam, |key| there.contains(key), births));
    commit_if_first(store, writes).await
}

/// Writes each on its own; another node that was faster wrote the same.
async fn commit_if_first(store: &Arc<dyn Store>, writes: Vec<Write>) -> Result<(), StartupError> {
    for write in writes {
        match commit(store, write).await {
            Err(StartupError::Commit { source: CommitError::Conflict { key, .. }, .. }) => {
                tracing::debug!(%key, "another node was first");
            }
            other => other?,
        }
    }
    Ok(())
}

async fn commit(store: &Arc<dyn Store>, write: Write) -> Result<(), StartupError> {
    let key = write.key().clone();
    match store.commit(std::slice::from_ref(&write)).await {
        Ok(_) => {
            tracing::info!(%key, "written");
            Ok(())
        }
        Err(source) => Err(StartupError::Commit { key, source }),
    }
}

async fn wait_for_datastore(store: &Arc<dyn Store>) -> Result<(), StartupError> {
    let key = Key::resource(Kind::ClusterInformation, "", "default");
    ask_until_answered(async || store.get(&key).await, |error| error.fault.is_transient()).await?;
    Ok(())
}

async fn read_host(settings: &Settings) -> Result<Host, StartupError> {
    let interfaces = read_interfaces().map_err(interfaces_error)?;
    let reached_v4 = read_reached(&settings.v4.method, Family::V4).await;
    let reached_v6 = read_reached(&settings.v6.method, Family::V6).await;
    Ok(Host { interfaces, reached_v4, reached_v6 })
}

/// What the kernel answers to `can-reach`. A destination that cannot be reached is an address that is not found.
async fn read_reached(method: &Method, family: Family) -> Option<std::net::IpAddr> {
    let Method::CanReach(destination) = method else { return None };
    let asked = destination.clone();
    // Resolving a name may block for long.
    match tokio::task::spawn_blocking(move || read_source_address(&asked, family)).await.ok()? {
        Ok(addr) => addr,
        Err(error) => {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, destination, "the kernel knows no way to the destination");
            None
        }
    }
}

/// Whether IPv6 is on: in the kernel, and not switched off for Felix.
fn read_ipv6(vars: Vars<'_>) -> bool {
    let is_off = vars("FELIX_IPV6SUPPORT").is_some_and(|v| v.eq_ignore_ascii_case("false"));
    !is_off && Path::new("/proc/sys/net/ipv6").exists()
}

fn interfaces_error(source: std::io::Error) -> StartupError {
    StartupError::Host { what: "the interfaces", source }
}

fn write_nodename(path: &Path, node: &str) -> Result<(), StartupError> {
    crate::file::write_atomically(path, node.as_bytes(), crate::file::PUBLIC)
        .map_err(|source| StartupError::NodenameFile { path: path.to_owned(), source })
}

/// Runs a plan with the clock and with randomness.
fn with_births<T>(plan: impl FnOnce(&mut Births<'_>) -> T) -> T {
    let now = time::OffsetDateTime::now_utc().replace_nanosecond(0).expect("0 is a legal nanosecond");
    let now = now.format(&time::format_description::well_known::Rfc3339);
    let now = now.expect("years of this clock have four digits").into();
    plan(&mut Births { now, uuid: &mut uuid::Uuid::new_v4 })
}

#[cfg(test)]
mod tests;
