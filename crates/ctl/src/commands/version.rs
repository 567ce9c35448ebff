//! `version`: this program's, and what the cluster says of itself.

use anyhow::Context as _;
use calico_api::{ClusterInformationSpec, Kind};

use super::open;
use crate::Context;
use crate::args::{Global, VersionArgs};

pub(super) async fn run(global: &Global, args: &VersionArgs, context: &mut Context) -> anyhow::Result<()> {
    context.say(format_args!("{:<19}{}", "Client Version:", env!("CARGO_PKG_VERSION")))?;
    if args.client {
        return Ok(());
    }
    let resources = open(global, context).await?;
    let cluster = resources
        .get(Kind::ClusterInformation, "", "default")
        .await
        .context("Unable to retrieve Cluster Version or Type")?;
    let spec = cluster.typed::<ClusterInformationSpec>()?.spec;
    let shown = |text: &str| if text.is_empty() { "unknown".to_owned() } else { text.to_owned() };
    context.say(format_args!("{:<19}{}", "Cluster Version:", shown(&spec.calico_version)))?;
    context.say(format_args!("{:<19}{}", "Cluster Type:", shown(&spec.cluster_type)))
}
