//! `validate`: checks files without a datastore.

use anyhow::Context as _;
use calico_api::{Kind, Manifest};

use super::write::report;
use crate::Context;
use crate::args::FileArgs;
use crate::files;

pub(super) fn run(args: &FileArgs, context: &mut Context) -> anyhow::Result<()> {
    let FileArgs { filename, recursive, skip_empty, namespace } = args;
    let manifests = files::read(filename, *recursive, *skip_empty, namespace.as_deref(), context)
        .context("failed to execute command")?;
    if manifests.is_empty() {
        return context.say("No resources specified");
    }
    let kinds: Vec<Kind> = manifests.iter().map(|manifest| manifest.resource.kind).collect();
    let mut errors = Vec::new();
    let mut handled = 0;
    for Manifest { place, mut resource } in manifests {
        let broken = files::check(&mut resource);
        handled += usize::from(broken.is_empty());
        errors.extend(files::told(&place, &broken));
    }
    report("validate", "validated", &kinds, handled, errors, context)
}
