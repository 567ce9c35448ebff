//! Resources from files, directories and standard input; what is wrong with them is said in one form:
//! `<file>: document <n> (<Kind> <namespace>/<name>): <field>: "<value>": <what is wrong>; <what would be right>`.

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use calico_api::document::lines;
use calico_api::key::Scope;
use calico_api::{AnyResource, DocumentError, Manifest, ValidationError, defaults, parse_manifests};

use crate::Context;

/// File names that a directory is searched for.
const EXTENSIONS: [&str; 3] = ["yaml", "yml", "json"];
/// The namespace of namespaced resources that name none.
pub(crate) const DEFAULT_NAMESPACE: &str = "default";

/// The resources of a file, of the files of a directory (in the order of their names), or of standard input. Their places
/// begin with the file's name. What is wrong is told of all files at once.
pub(crate) fn read(
    path: &Path,
    recursive: bool,
    skip_empty: bool,
    namespace: Option<&str>,
    context: &mut Context,
) -> anyhow::Result<Vec<Manifest>> {
    let mut manifests = Vec::new();
    let mut wrong = Vec::new();
    for file in list(path, recursive)? {
        let (name, text) = if file == Path::new("-") {
            let (name, mut text) = ("standard input".to_owned(), String::new());
            context.input.read_to_string(&mut text).with_context(|| name.clone())?;
            (name, text)
        } else {
            let name = file.display().to_string();
            let text = std::fs::read_to_string(&file).with_context(|| name.clone())?;
            (name, text)
        };
        match parse_manifests(&text) {
            Ok(found) if found.is_empty() && !skip_empty && path.is_dir() => {
                wrong.push(format!("{name}: No resources specified"));
            }
            Ok(found) => {
                for Manifest { place, mut resource } in found {
                    let place = format!("{name}: {place}");
                    wrong.extend(settle(&mut resource, namespace).map(|error| format!("{place}: {error}")));
                    manifests.push(Manifest { place, resource });
                }
            }
            Err(error) => wrong.extend(placed(&name, error)),
        }
    }
    if wrong.is_empty() { Ok(manifests) } else { bail!("{}", lines(&wrong)) }
}

/// What is wrong with a text that came from somewhere, one thing for each line.
pub(crate) fn placed(source: &str, error: DocumentError) -> Vec<String> {
    match error {
        DocumentError::Syntax(problem) => vec![format!("{source}: {problem}")],
        DocumentError::Invalid(mistakes) => told(source, &mistakes),
    }
}

/// Everything that is wrong in one place, one thing for each line.
pub(crate) fn told<T: std::fmt::Display>(place: &str, errors: &[T]) -> Vec<String> {
    errors.iter().map(|error| format!("{place}: {error}")).collect()
}

/// Fills defaults in; gives the rules that the resource breaks then.
pub(crate) fn check(resource: &mut AnyResource) -> Vec<ValidationError> {
    defaults::apply(resource);
    calico_api::validate(resource)
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

/// Gives a resource its namespace: its own, the one of the command line, or `default`. An error if the first two differ.
fn settle(resource: &mut AnyResource, namespace: Option<&str>) -> Option<ValidationError> {
    if resource.kind.scope() == Scope::Cluster {
        return None;
    }
    let own = &mut resource.metadata.namespace;
    match namespace {
        Some(wanted) if !own.is_empty() && own != wanted => {
            let reason = format!("is not the namespace of the command line; use -n {own}, or {wanted} here");
            return Some(ValidationError::new("metadata.namespace", own, reason));
        }
        Some(wanted) => *own = wanted.into(),
        None if own.is_empty() => *own = DEFAULT_NAMESPACE.into(),
        None => {}
    }
    None
}
