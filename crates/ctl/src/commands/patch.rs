//! `patch`: merges a piece of JSON into a resource.

use anyhow::{Context as _, anyhow, bail};
use calico_api::AnyResource;
use calico_api::document::lines;
use calico_api::document::{DocumentError, parse_resource, parse_values};
use serde_json::{Map, Value};

use super::write::told;
use super::{namespace_of, parse_kind};
use crate::Context;
use crate::args::PatchArgs;
use crate::files::placed;
use crate::resources::Resources;

/// Where the patch comes from, as a file's name in other commands.
const SOURCE: &str = "--patch";

pub(super) async fn run(
    resources: &Resources,
    args: &PatchArgs,
    context: &mut Context,
) -> anyhow::Result<()> {
    let kind = parse_kind(&args.kind).context("failed to execute command")?;
    let namespace = namespace_of(kind, args.namespace.as_deref());
    let failed = || format!("Failed to patch '{}' resource", kind.name());
    let patch = parse_patch(&args.patch).with_context(failed)?;
    let stored = resources.get(kind, namespace, &args.name).await.with_context(failed)?;
    let mut document = stored.to_json();
    merge(&mut document, &patch);
    let patched = read_patched(&document, &stored).with_context(failed)?;
    if patched.key() != stored.key() {
        return Err(anyhow!("{}: {SOURCE}: cannot change kind, namespace or name", failed()));
    }
    let place = format!("{SOURCE} ({} {})", kind.name(), shown_name(namespace, &args.name));
    if let Err(error) = resources.update(patched).await {
        return Err(anyhow!("{}: {}", failed(), lines(&told(&place, error))));
    }
    context.say(format_args!("Successfully patched 1 '{}' resource", kind.name()))
}

/// Reads what a patch made of a stored resource. What is wrong with the stored one itself is none of the patch's doing:
/// fields that we do not know may be a newer writer's.
fn read_patched(document: &Value, stored: &AnyResource) -> anyhow::Result<AnyResource> {
    let mut mistakes = match parse_resource(SOURCE, document) {
        Err(DocumentError::Invalid(mistakes)) => mistakes,
        result => return Ok(result?),
    };
    if let Err(DocumentError::Invalid(before)) = parse_resource("", &stored.to_json()) {
        mistakes.retain(|mistake| !before.iter().any(|b| b.error == mistake.error));
    }
    if mistakes.is_empty() {
        Ok(AnyResource::from_json(stored.kind, document.clone())?)
    } else {
        bail!("{}", lines(&mistakes))
    }
}

/// The name of a resource as the places of manifests have it.
fn shown_name(namespace: &str, name: &str) -> String {
    if namespace.is_empty() { name.to_owned() } else { format!("{namespace}/{name}") }
}

fn parse_patch(text: &str) -> anyhow::Result<Value> {
    let mut values = parse_values(text).map_err(|error| anyhow!("{}", lines(&placed(SOURCE, error))))?;
    match (values.pop(), values.is_empty()) {
        (Some(patch @ Value::Object(_)), true) => Ok(patch),
        _ => bail!("{SOURCE}: {text:?}: is no map; use one such as {{\"spec\":{{\"order\":5}}}}"),
    }
}

/// Merges as RFC 7396: objects member by member, null removes, everything else replaces. Calico's types have no lists
/// that a strategic merge would merge by key.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(changes) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(members) = target else { return };
    for (name, change) in changes {
        if change.is_null() {
            members.shift_remove(name);
        } else {
            merge(members.entry(name.clone()).or_insert(Value::Null), change);
        }
    }
}
