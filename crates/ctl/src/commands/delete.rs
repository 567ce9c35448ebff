//! `delete`: removes resources.

use anyhow::{Context as _, bail};
use calico_api::{Kind, ResourceKey};

use super::{namespace_of, parse_kind, parse_names, quoted_kind};
use crate::Context;
use crate::args::{DeleteArgs, Targets};
use crate::files;
use crate::resources::{ResourceError, Resources};

pub(super) async fn run(
    resources: &Resources,
    args: &DeleteArgs,
    context: &mut Context,
) -> anyhow::Result<()> {
    let keys = targets(&args.targets, context).context("failed to execute command")?;
    if keys.is_empty() {
        return context.say("No resources specified");
    }
    let kinds: Vec<Kind> = keys.iter().map(|k| k.kind).collect();
    let mut deleted = Vec::new();
    let mut failed = 0;
    for ResourceKey { kind, namespace, name } in keys {
        match resources.delete(kind, &namespace, &name).await {
            Ok(()) => deleted.push(kind),
            Err(ResourceError::DoesNotExist(_)) if args.skip_not_exists => deleted.push(kind),
            Err(error) => {
                failed += 1;
                let why = calico_store::error::chain(&error);
                context.warn(format_args!("Failed to delete '{}' resource: {why}", kind.name()))?;
            }
        }
    }
    if !deleted.is_empty() {
        let kind = quoted_kind(&kinds);
        context.say(format_args!("Successfully deleted {} {kind}resource(s)", deleted.len()))?;
    }
    if failed > 0 {
        bail!("failed to delete {failed} out of {} resources", kinds.len());
    }
    Ok(())
}

fn targets(targets: &Targets, context: &mut Context) -> anyhow::Result<Vec<ResourceKey>> {
    let Targets { kind, names, filename, recursive, skip_empty, namespace } = targets;
    if let Some(path) = filename {
        let manifests = files::read(path, *recursive, *skip_empty, namespace.as_deref(), context)?;
        return Ok(manifests.iter().map(|manifest| manifest.resource.key()).collect());
    }
    let kind = parse_kind(kind.as_deref().unwrap_or_default())?;
    let names = parse_names(names);
    if names.is_empty() {
        bail!("names of the resources to delete are needed; give them after the kind");
    }
    let namespace = namespace_of(kind, namespace.as_deref());
    Ok(names.into_iter().map(|n| ResourceKey { kind, namespace: namespace.into(), name: n.into() }).collect())
}
