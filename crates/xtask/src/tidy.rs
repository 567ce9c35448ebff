//! The rules of ARCHITECTURE.md and STYLE.md that a machine can hold: layers, closures, file size, first lines.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, PackageId};

/// Lines after which a file needs another room.
const MAX_LINES: usize = 1000;

/// Crates that do IO or carry a runtime: never inside the closure of an L0 or L1 crate.
const IO_CRATES: [&str; 10] =
    ["tokio", "kube", "tonic", "rtnetlink", "aya", "hyper", "reqwest", "rusqlite", "nix", "netlink-sys"];

/// Crates that only Linux has: never inside the closure of `calico-ctl`, which also builds for macOS.
const LINUX_ONLY: [&str; 3] = ["calico-linux", "netlink-sys", "netlink-packet-route"];

/// The layer of each crate of ours. A crate may use lower layers, and inside L1 what [`PIPELINE`] allows.
const LAYERS: [(&str, u8); 21] = [
    ("calico-net", 0),
    ("calico-api", 0),
    ("calico-selector", 0),
    ("calico-ipam", 1),
    ("calico-calc", 1),
    ("calico-rules", 1),
    ("calico-dataplane", 1),
    ("calico-mesh", 1),
    ("calico-store", 2),
    ("calico-store-etcd", 2),
    ("calico-store-kube", 2),
    ("calico-linux", 2),
    ("calico-felix", 3),
    ("calico-node", 3),
    ("calico-cni", 3),
    ("calico-controllers", 3),
    ("calico-ctl", 3),
    ("calico-lab", 3),
    ("calico", 4),
    ("calico-testkit", 5),
    ("xtask", 5),
];

/// Arrows inside a layer: the words of L0 build on one another, each engine may use the vocabulary of the engine
/// before it in the pipeline, and a back end implements the store's trait.
const PIPELINE: [(&str, &str); 9] = [
    ("calico-api", "calico-net"),
    ("calico-selector", "calico-net"),
    ("calico-api", "calico-selector"),
    ("calico-rules", "calico-calc"),
    ("calico-dataplane", "calico-calc"),
    ("calico-dataplane", "calico-rules"),
    ("calico-store-etcd", "calico-store"),
    ("calico-store-kube", "calico-store"),
    ("calico-testkit", "calico-testkit"),
];

/// Everything that is wrong, in words; empty when tidy.
pub fn check() -> Result<Vec<String>> {
    let metadata = MetadataCommand::new().no_deps().exec().context("cargo metadata")?;
    let mut problems = check_arrows(&metadata);
    problems.extend(check_closures(&MetadataCommand::new().exec().context("cargo metadata")?));
    let root = metadata.workspace_root.as_std_path();
    for file in rust_files(root)? {
        let text = std::fs::read_to_string(&file).with_context(|| format!("{}", file.display()))?;
        let name = file.strip_prefix(root).unwrap_or(&file).display();
        problems.extend(check_file(&text).into_iter().map(|p| format!("{name}: {p}")));
    }
    problems.extend(check_layout(root)?);
    Ok(problems)
}

fn layer(name: &str) -> Option<u8> {
    LAYERS.iter().find(|(n, _)| *n == name).map(|(_, l)| *l)
}

fn check_arrows(metadata: &Metadata) -> Vec<String> {
    let mut problems = Vec::new();
    for package in &metadata.packages {
        let Some(own) = layer(&package.name) else {
            problems.push(format!("{}: no layer; add it to LAYERS in xtask/src/tidy.rs", package.name));
            continue;
        };
        for dep in package.dependencies.iter().filter(|d| d.kind == DependencyKind::Normal) {
            let Some(theirs) = layer(&dep.name) else { continue };
            let allowed = theirs < own || PIPELINE.contains(&(&*package.name, &*dep.name));
            if !allowed {
                problems.push(format!("{} (L{own}) may not use {} (L{theirs})", package.name, dep.name));
            }
        }
    }
    problems
}

fn check_closures(metadata: &Metadata) -> Vec<String> {
    let Some(resolve) = &metadata.resolve else { return vec!["cargo metadata has no graph".to_owned()] };
    let names: BTreeMap<&PackageId, &str> =
        metadata.packages.iter().map(|p| (&p.id, p.name.as_str())).collect();
    let edges: BTreeMap<&PackageId, Vec<&PackageId>> = resolve
        .nodes
        .iter()
        .map(|n| {
            let normal = |d: &&cargo_metadata::NodeDep| {
                d.dep_kinds.iter().any(|k| {
                    k.kind == DependencyKind::Normal
                        && k.target.as_ref().is_none_or(|t| {
                            !t.to_string().contains("windows") && !t.to_string().contains("wasm")
                        })
                })
            };
            (&n.id, n.deps.iter().filter(normal).map(|d| &d.pkg).collect())
        })
        .collect();
    let mut problems = Vec::new();
    for (id, name) in &names {
        let banned: &[&str] = match layer(name) {
            Some(0 | 1) => &IO_CRATES,
            _ if *name == "calico-ctl" => &LINUX_ONLY,
            _ => continue,
        };
        let mut seen = BTreeSet::new();
        let mut queue = vec![*id];
        while let Some(next) = queue.pop() {
            if seen.insert(next) {
                queue.extend(edges.get(next).into_iter().flatten());
            }
        }
        for used in seen.iter().filter_map(|i| names.get(*i)).filter(|n| banned.contains(n)) {
            problems.push(format!("{name}: its closure contains {used}"));
        }
    }
    problems
}

fn check_file(text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    if !text.starts_with("//! ") {
        problems.push("the first line is not a `//!` that says what the file is for".to_owned());
    }
    let lines = text.lines().count();
    if lines > MAX_LINES {
        problems.push(format!("{lines} lines; over {MAX_LINES} it needs another room"));
    }
    for (number, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("#[ignore") {
            problems.push(format!("line {}: an ignored test tests nothing", number + 1));
        }
    }
    problems
}

fn check_layout(root: &Path) -> Result<Vec<String>> {
    let forbidden =
        ["mod.rs", "util.rs", "utils.rs", "helper.rs", "helpers.rs", "common.rs", "misc.rs", "manager.rs"];
    Ok(rust_files(root)?
        .into_iter()
        .filter(|f| f.file_name().is_some_and(|n| forbidden.iter().any(|x| n == *x)))
        .map(|f| format!("{}: a file is named for the thing it holds", f.display()))
        .collect())
}

fn rust_files(root: &Path) -> Result<Vec<PathBuf>> {
    let mut files = rust_files_in(&root.join("crates"))?;
    files.extend(rust_files_in(&root.join("fuzz"))?);
    Ok(files)
}

/// The Rust files below a directory, in order; none if it does not exist.
pub fn rust_files_in(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut queue = vec![directory.to_owned()];
    while let Some(dir) = queue.pop() {
        if !dir.exists() {
            continue;
        }
        for entry in std::fs::read_dir(&dir).with_context(|| format!("{}", dir.display()))? {
            let path = entry?.path();
            if path.is_dir() && path.file_name().is_some_and(|n| n != "target") {
                queue.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_workspace_is_tidy() {
        let problems = check().expect("tidy runs");
        assert!(problems.is_empty(), "{}", problems.join("\n"));
    }

    #[test]
    fn faults_in_a_file_are_found() {
        assert!(check_file("//! Good.\nfn x() {}\n").is_empty());
        assert_eq!(check_file("fn x() {}\n").len(), 1);
        assert_eq!(check_file(&format!("//! Long.\n{}", "\n".repeat(MAX_LINES))).len(), 1);
        assert_eq!(check_file("//! Bad.\n#[ignore]\nfn x() {}\n").len(), 1);
    }
}
