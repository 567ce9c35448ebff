//! `label`: sets or removes one label of a resource.

use anyhow::{Context as _, bail};
use smol_str::SmolStr;

use super::{namespace_of, parse_kind};
use crate::Context;
use crate::args::LabelArgs;
use crate::resources::Resources;

pub(super) async fn run(
    resources: &Resources,
    args: &LabelArgs,
    context: &mut Context,
) -> anyhow::Result<()> {
    let kind = parse_kind(&args.kind).context("failed to execute command")?;
    let namespace = namespace_of(kind, args.namespace.as_deref());
    let mut resource = resources.get(kind, namespace, &args.name).await.context("failed to get resources")?;
    let labels = &mut resource.metadata.labels;
    let target = format!("{} {}", kind.name(), args.name);
    let done = if args.remove {
        let key = args.label.as_str();
        if labels.remove(key).is_none() {
            bail!("can not remove label, {target} has no label {key}");
        }
        format!("Successfully removed label {key} from {target}")
    } else {
        let Some((key, value)) = args.label.split_once('=') else {
            bail!("invalid label {:?}; use key=value", args.label);
        };
        match labels.insert(SmolStr::new(key), SmolStr::new(value)) {
            None => format!("Successfully set label {key} on {target}"),
            Some(old) if old == value => format!("Successfully set label {key} on {target}"),
            Some(_) if args.overwrite => format!("Successfully updated label {key} on {target}"),
            Some(old) => {
                bail!("failed to update label: {target} has {key}={old}; use --overwrite to change it")
            }
        }
    };
    resources.update(resource).await.with_context(|| format!("failed to label {target}"))?;
    context.say(done)
}
