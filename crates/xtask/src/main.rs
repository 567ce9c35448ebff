//! Development tasks: `cargo xtask tidy` checks what the compiler cannot; `docs`, `crds` and `manifests` write what is
//! generated and kept in the tree.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a development tool talks to the terminal and reads the tree"
)]

mod crds;
mod docs;
mod generated;
#[cfg(test)]
mod image;
mod manifests;
mod tidy;
mod yaml;

use std::path::Path;
use std::process::ExitCode;

const USAGE: &str = "usage: cargo xtask tidy|docs|crds|manifests";

fn main() -> ExitCode {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let task = std::env::args().nth(1).unwrap_or_default();
    let done = match task.as_str() {
        "tidy" => tidy::check().and_then(|problems| {
            anyhow::ensure!(problems.is_empty(), "{}", problems.join("\ntidy: "));
            println!("tidy: ok");
            Ok(())
        }),
        "docs" => docs::write(&root),
        "crds" => crds::write(&root),
        "manifests" => manifests::write(&root),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{task}: {error:#}");
            ExitCode::FAILURE
        }
    }
}
