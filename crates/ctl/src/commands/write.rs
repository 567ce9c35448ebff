//! `create`, `apply`, `replace`: writes the resources of files.

use anyhow::{Context as _, anyhow};
use calico_api::document::lines;
use calico_api::{AnyResource, Kind, Manifest};

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
    let kinds: Vec<Kind> = wanted.iter().map(|manifest| manifest.resource.kind).collect();
    let mut written = 0;
    let mut errors = Vec::new();
    for Manifest { place, resource } in wanted {
        match write(resources, verb, resource).await {
            Ok(()) => written += 1,
            Err(error) => {
                errors.extend(told(&place, error));
                // A failed replacement ends the run: what follows may depend on it.
                if verb == Verb::Replace {
                    break;
                }
            }
        }
    }
    report(verb.name(), verb.past(), &kinds, written, errors, context)
}

/// Why a resource was not written, one reason for each line: what is wrong with it where it stands, or what the datastore
/// says, with its causes, which names the resource itself.
pub(super) fn told(place: &str, error: ResourceError) -> Vec<String> {
    match error {
        ResourceError::Invalid(broken) => files::told(place, &broken),
        ResourceError::Settings(error) => files::told(place, &[error]),
        error => vec![format!("{:#}", anyhow::Error::from(error))],
    }
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
    let what = lines(&errors);
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
