//! `version`: this program's, and what the cluster says of itself.

use anyhow::{Context as _, bail};
use calico_api::{ClusterInformationSpec, Kind};

use crate::Context;
use crate::args::{Global, VersionArgs};
use crate::config;
use crate::resources::Resources;

/// This program's version.
const OWN: &str = env!("CARGO_PKG_VERSION");

pub(super) async fn run(global: &Global, args: &VersionArgs, context: &mut Context) -> anyhow::Result<()> {
    context.say(format_args!("{:<19}{}", "Client Version:", OWN))?;
    if args.client {
        return Ok(());
    }
    let resources = Resources { store: config::connect(global, context).await? };
    let cluster = resources
        .get(Kind::ClusterInformation, "", "default")
        .await
        .context("Unable to retrieve Cluster Version or Type")?;
    let spec = cluster.typed::<ClusterInformationSpec>()?.spec;
    let shown = |text: &str| if text.is_empty() { "unknown".to_owned() } else { text.to_owned() };
    context.say(format_args!("{:<19}{}", "Cluster Version:", shown(&spec.calico_version)))?;
    context.say(format_args!("{:<19}{}", "Cluster Type:", shown(&spec.cluster_type)))
}

/// Refuses to work on a cluster of another version, whose resources may mean something else (spec 7 §5.1). A cluster that
/// does not say its version, or does not answer, is not refused: then the command itself fails, and says why.
pub(super) async fn check(resources: &Resources) -> anyhow::Result<()> {
    let Ok(cluster) = resources.get(Kind::ClusterInformation, "", "default").await else { return Ok(()) };
    let Ok(typed) = cluster.typed::<ClusterInformationSpec>() else { return Ok(()) };
    let theirs = typed.spec.calico_version;
    if !theirs.is_empty() && release(&theirs) != release(OWN) {
        bail!(
            "version mismatch: calicoctl is of version {OWN} and the cluster of {theirs}; \
             use --allow-version-mismatch to work on it nevertheless"
        );
    }
    Ok(())
}

/// The release that a version belongs to: `v3.30.1-rc2` is of 3.30.1.
fn release(version: &str) -> &str {
    let version = version.trim();
    let version = version.strip_prefix('v').unwrap_or(version);
    version.split_once('-').map_or(version, |(release, _)| release)
}

#[cfg(test)]
mod tests {
    use super::release;

    #[test]
    fn a_version_belongs_to_a_release() {
        for text in ["v3.30.1-rc2", "3.30.1", "v3.30.1", "3.30.1-0.dev-12-gabc"] {
            assert_eq!(release(text), "3.30.1", "{text}");
        }
    }
}
