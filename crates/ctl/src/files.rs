//! Resources from files, directories and standard input.

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use calico_api::key::Scope;
use calico_api::{AnyResource, parse_documents};

use crate::Context;

/// File names that a directory is searched for.
const EXTENSIONS: [&str; 3] = ["yaml", "yml", "json"];
/// The namespace of namespaced resources that name none.
pub(crate) const DEFAULT_NAMESPACE: &str = "default";

/// The resources of a file, of the files of a directory (in the order of their names), or of standard input.
pub(crate) fn read(
    path: &Path,
    recursive: bool,
    skip_empty: bool,
    namespace: Option<&str>,
    context: &mut Context,
) -> anyhow::Result<Vec<AnyResource>> {
    let mut resources = Vec::new();
    for file in list(path, recursive)? {
        let text = if file == Path::new("-") {
            let mut text = String::new();
            context.input.read_to_string(&mut text).context("standard input")?;
            text
        } else {
            std::fs::read_to_string(&file).with_context(|| file.display().to_string())?
        };
        let found = parse_documents(&text).with_context(|| file.display().to_string())?;
        if found.is_empty() && !skip_empty && path.is_dir() {
            bail!("{}: No resources specified", file.display());
        }
        for mut resource in found {
            place(&mut resource, namespace).with_context(|| file.display().to_string())?;
            resources.push(resource);
        }
    }
    Ok(resources)
}

fn list(path: &Path, recursive: bool) -> anyhow::Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    let mut entries: Vec<PathBuf> = std::fs::read_dir(path)
        .and_then(|entries| entries.map(|e| e.map(|e| e.path())).collect())
        .with_context(|| path.display().to_string())?;
    entries.sort();
    for entry in entries {
        let wanted = entry.extension().and_then(|e| e.to_str()).is_some_and(|e| EXTENSIONS.contains(&e));
        if entry.is_dir() {
            if recursive {
                files.extend(list(&entry, true)?);
            }
        } else if wanted {
            files.push(entry);
        }
    }
    Ok(files)
}

/// Gives a resource its namespace: its own, the one of the command line, or `default`.
fn place(resource: &mut AnyResource, namespace: Option<&str>) -> anyhow::Result<()> {
    if resource.kind.scope() == Scope::Cluster {
        return Ok(());
    }
    let own = &mut resource.metadata.namespace;
    match namespace {
        Some(wanted) if !own.is_empty() && own != wanted => {
            let (kind, name) = (resource.kind.name(), &resource.metadata.name);
            bail!("{kind} {name} is in namespace {own}, but the command line says {wanted}");
        }
        Some(wanted) => *own = wanted.into(),
        None if own.is_empty() => *own = DEFAULT_NAMESPACE.into(),
        None => {}
    }
    Ok(())
}
