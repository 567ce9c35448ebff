//! `validate`: checks files without a datastore.

use anyhow::Context as _;
use calico_api::{AnyResource, Kind, defaults};

use super::write::{named, report};
use crate::Context;
use crate::args::FileArgs;
use crate::files;

pub(super) fn run(args: &FileArgs, context: &mut Context) -> anyhow::Result<()> {
    let FileArgs { filename, recursive, skip_empty, namespace } = args;
    let resources = files::read(filename, *recursive, *skip_empty, namespace.as_deref(), context)
        .context("failed to execute command")?;
    if resources.is_empty() {
        return context.say("No resources specified");
    }
    let kinds: Vec<Kind> = resources.iter().map(|r| r.kind).collect();
    let errors: Vec<String> = resources.into_iter().filter_map(check).collect();
    let handled = kinds.len() - errors.len();
    report("validate", "validated", &kinds, handled, errors, context)
}

fn check(mut resource: AnyResource) -> Option<String> {
    defaults::apply(&mut resource);
    let errors = calico_api::validate(&resource);
    (!errors.is_empty()).then(|| named(&resource.key(), &errors))
}
