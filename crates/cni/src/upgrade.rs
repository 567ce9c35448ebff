//! `calico-ipam -upgrade`: addresses that host-local gave to pods which run are taken over by our IPAM, so that a node
//! can change from one to the other without its pods' leave (spec 5 §2.12).
//!
//! ```text
//! datastoreReady: false ─▶ plugins off the host ─▶ running ones end ─▶ each address assigned ─▶ its file removed ─▶ ready again
//! ```
//! Whatever fails is tried again from the start; what was done already is found done.

use std::fs::{self, File};
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use calico_api::cluster_information::ClusterInformationSpec;
use calico_api::{AffinityOwner, AllowedUse, Key, Kind, Labels, Write, decode, merge};
use calico_ipam::{AddressRequest, AddressesOf, AssignAddress, UnixTime};
use calico_net::{Cidr, Family};
use rustix::fs::{FlockOperation, flock};
use smol_str::{SmolStr, format_smolstr};

use crate::context::{Context, unavailable};
use crate::error::CniError;
use crate::kubernetes::read_pod_cidrs;

/// The network of Calico's manifests, whose name host-local's directory and our handles have.
const NETWORK: &str = "k8s-pod-network";

/// Plugins that must not start while addresses change hands.
const PLUGINS: [&str; 2] = ["calico", "host-local"];

/// Where host-local and the plugins are.
#[derive(Clone, Debug)]
pub struct Paths {
    /// host-local's files, one for each address.
    pub leases: PathBuf,
    /// The host's plugins.
    pub binaries: PathBuf,
    /// How long plugins that have started may take to end.
    pub settling: Duration,
}

impl Default for Paths {
    fn default() -> Paths {
        Paths {
            leases: Path::new("/var/lib/cni/networks").join(NETWORK),
            binaries: "/host/opt/cni/bin".into(),
            settling: Duration::from_secs(5),
        }
    }
}

/// An address that host-local gave.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Lease {
    address: IpAddr,
    container: String,
    file: PathBuf,
}

/// Whether host-local has given any address.
pub fn is_needed(paths: &Paths) -> io::Result<bool> {
    read_leases(&paths.leases).map(|leases| !leases.is_empty())
}

/// Takes over what host-local gave; how many addresses.
pub async fn run(context: &Context, paths: &Paths) -> Result<usize, CniError> {
    assign_tunnel_address(context).await?;
    set_ready(context, false).await?;
    for plugin in PLUGINS {
        let path = paths.binaries.join(plugin);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io_error(&path, error)),
            _ => {}
        }
    }
    tokio::time::sleep(paths.settling).await;
    let _lock = lock(&paths.leases).map_err(|e| io_error(&paths.leases, e))?;
    let leases = read_leases(&paths.leases).map_err(|e| io_error(&paths.leases, e))?;
    for lease in &leases {
        let Lease { address, container, file } = lease;
        assign(context, *address, &format!("{NETWORK}.{container}"), AllowedUse::Workload, Labels::new())
            .await?;
        fs::remove_file(file).map_err(|e| io_error(file, e))?;
        tracing::info!(%address, %container, "taken over");
    }
    set_ready(context, true).await?;
    Ok(leases.len())
}

/// The first address of the node's pod CIDR is its tunnel's, as it was with host-local.
async fn assign_tunnel_address(context: &Context) -> Result<(), CniError> {
    let cidrs = read_pod_cidrs(context.kubernetes()?, &context.node).await?;
    let first = cidrs.iter().find(|c| c.family() == Family::V4).and_then(|c: &Cidr| c.nth(1));
    let Some(address) = first else { return Ok(()) };
    let attributes = Labels::from([
        (SmolStr::new_static("type"), SmolStr::new_static("ipipTunnelAddress")),
        (SmolStr::new_static("node"), context.node.clone()),
    ]);
    let handle = format_smolstr!("ipip-tunnel-addr-{}", context.node);
    assign(context, address, &handle, AllowedUse::Tunnel, attributes).await
}

/// Assigns an address unless its handle has it already.
async fn assign(
    context: &Context,
    address: IpAddr,
    handle: &str,
    intended_use: AllowedUse,
    attributes: Labels,
) -> Result<(), CniError> {
    let failed = |e: &dyn std::fmt::Display| {
        CniError::generic("cannot take an address over", format!("{address}: {e}"))
    };
    let held = context.ipam(AddressesOf::new(handle)).await?.map_err(|e| failed(&e))?;
    if held.iter().any(|found| found.address == address) {
        return Ok(());
    }
    let request = AddressRequest {
        address,
        handle: calico_ipam::handle_id(handle),
        attributes,
        owner: AffinityOwner::Host(context.node.clone()),
        intended_use: Some(intended_use),
    };
    let now = UnixTime::from_secs(SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_secs());
    context.ipam(AssignAddress::new(request, now)).await?.map(drop).map_err(|e| failed(&e))
}

/// Lets every node's plugins wait, or go on.
async fn set_ready(context: &Context, ready: bool) -> Result<(), CniError> {
    let key = Key::resource(Kind::ClusterInformation, "", "default");
    let Some(entry) = context.get(&key).await? else { return Ok(()) };
    let unreadable = |e: &dyn std::fmt::Display| CniError::generic("cannot change ClusterInformation", e);
    let mut information = decode::<ClusterInformationSpec>(&entry).map_err(|e| unreadable(&e))?;
    if information.spec.datastore_ready == Some(ready) {
        return Ok(());
    }
    information.spec.datastore_ready = Some(ready);
    let value = merge(&entry, &information).map_err(|e| unreadable(&e))?;
    let write = Write::update(key, value, entry.revision);
    context.store.commit(&[write]).await.map(drop).map_err(|e| unavailable(&e))
}

/// host-local's own lock.
fn lock(dir: &Path) -> io::Result<File> {
    let file = File::options().write(true).create(true).truncate(false).open(dir.join("lock"))?;
    flock(&file, FlockOperation::LockExclusive)?;
    Ok(file)
}

/// One file for each address: its name is the address, its first line the container.
fn read_leases(dir: &Path) -> io::Result<Vec<Lease>> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut leases = Vec::new();
    for entry in entries {
        let file = entry?.path();
        let name = file.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        let Ok(address) = name.parse() else { continue };
        let content = fs::read_to_string(&file)?;
        let container = content.lines().next().unwrap_or_default().trim().to_owned();
        leases.push(Lease { address, container, file });
    }
    leases.sort_by_key(|lease| lease.address);
    Ok(leases)
}

fn io_error(path: &Path, error: io::Error) -> CniError {
    CniError::generic("cannot take host-local's addresses over", format!("{}: {error}", path.display()))
}
