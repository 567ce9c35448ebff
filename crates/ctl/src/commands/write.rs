//! `create`, `apply`, `replace`: writes the resources of files.

use anyhow::{Context as _, anyhow};
use calico_api::{AnyResource, Kind, ResourceKey, ValidationError};

use super::quoted_kind;
use crate::Context;
use crate::args::FileArgs;
use crate::files;
use crate::resources::{ResourceError, Resources};

/// How resources are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    /// They must not exist, or are passed over.
    Create { skip_exists: bool },
    /// They may exist.
    Apply,
    /// They must exist.
    Replace,
}

impl Verb {
    fn name(self) -> &'static str {
        match self {
            Verb::Create { .. } => "create",
            Verb::Apply => "apply",
            Verb::Replace => "replace",
        }
    }

    fn past(self) -> &'static str {
        match self {
            Verb::Create { .. } => "created",
            Verb::Apply => "applied",
            Verb::Replace => "replaced",
        }
    }
}

pub(super) async fn run(
    resources: &Resources,
    verb: Verb,
    args: &FileArgs,
    context: &mut Context,
) -> anyhow::Result<()> {
    let FileArgs { filename, recursive, skip_empty, namespace } = args;
    let wanted = files::read(filename, *recursive, *skip_empty, namespace.as_deref(), context)
        .context("failed to execute command")?;
    if wanted.is_empty() {
        return context.say("No resources specified");
    }
    let kinds: Vec<Kind> = wanted.iter().map(|r| r.kind).collect();
    let mut written = 0;
    let mut errors = Vec::new();
    for resource in wanted {
        let key = resource.key();
        match write(resources, verb, resource).await {
            Ok(()) => written += 1,
            Err(error) => {
                errors.push(match error {
                    // The other errors name it themselves.
                    ResourceError::Invalid(broken) if kinds.len() > 1 => named(&key, &broken),
                    error => error.to_string(),
                });
                // A failed replacement ends the run: what follows may depend on it.
                if verb == Verb::Replace {
                    break;
                }
            }
        }
    }
    report(verb.name(), verb.past(), &kinds, written, errors, context)
}

/// Everything wrong with one of many resources, one per line.
pub(super) fn named(key: &ResourceKey, errors: &[ValidationError]) -> String {
    errors.iter().map(|error| format!("{key}: {error}")).collect::<Vec<_>>().join("\n")
}

async fn write(resources: &Resources, verb: Verb, resource: AnyResource) -> Result<(), ResourceError> {
    let result = match verb {
        Verb::Create { .. } => resources.create(resource).await,
        Verb::Apply => resources.apply(resource).await,
        Verb::Replace => resources.update(resource).await,
    };
    match result {
        Err(ResourceError::AlreadyExists(_)) if verb == (Verb::Create { skip_exists: true }) => Ok(()),
        result => result.map(|_| ()),
    }
}

/// Says how many resources were handled, and fails with what went wrong (spec 7 §5.4).
pub(super) fn report(
    verb: &str,
    past: &str,
    kinds: &[Kind],
    handled: usize,
    errors: Vec<String>,
    context: &mut Context,
) -> anyhow::Result<()> {
    let kind = quoted_kind(kinds);
    let total = kinds.len();
    let what = errors.join("\n");
    if errors.is_empty() {
        return context.say(format_args!("Successfully {past} {handled} {kind}resource(s)"));
    }
    if handled > 0 {
        context.say(format_args!(
            "Partial success: {past} the first {handled} out of {total} {kind}resources:"
        ))?;
        return Err(anyhow!("hit error: {what}"));
    }
    Err(if total == 1 {
        anyhow!("failed to {verb} {kind}resource: {what}")
    } else {
        anyhow!("failed to {verb} any {kind}resources: {what}")
    })
}
