//! What IPAM's operations need of the command line: the time, and what exactly is released.

use calico_ipam::{Assignment, Known, Survey, Target, UnixTime};
use calico_store::Store;
use calico_store::ipam::drive_knowing;

/// Now, for IPAM.
pub(crate) fn now() -> UnixTime {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    UnixTime(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

/// The release of exactly this assignment of an address.
pub(crate) fn target(address: std::net::IpAddr, assignment: &Assignment) -> Target {
    let Assignment { block, owner: _, attribute, sequence } = assignment;
    Target { address, block: Some(*block), handle: attribute.handle_id.clone(), sequence: *sequence }
}

/// Everything that IPAM has stored.
pub(crate) async fn survey(store: &dyn Store) -> anyhow::Result<Known> {
    let mut known = Known::new();
    drive_knowing(store, Survey, &mut known).await??;
    Ok(known)
}
