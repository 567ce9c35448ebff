//! Development tasks: `cargo xtask tidy` checks what the compiler cannot, `cargo xtask docs` writes generated pages.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a development tool talks to the terminal and reads the tree"
)]

mod crds;
mod docs;
mod generated;
mod tidy;
mod yaml;

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some("tidy") => match tidy::check() {
            Ok(problems) if problems.is_empty() => {
                println!("tidy: ok");
                ExitCode::SUCCESS
            }
            Ok(problems) => {
                for problem in &problems {
                    eprintln!("tidy: {problem}");
                }
                ExitCode::FAILURE
            }
            Err(error) => {
                eprintln!("tidy: {error:#}");
                ExitCode::FAILURE
            }
        },
        Some("crds") => match crds::write(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("crds: {error:#}");
                ExitCode::FAILURE
            }
        },
        Some("docs") => match docs::write(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("docs: {error:#}");
                ExitCode::FAILURE
            }
        },
        _ => {
            eprintln!("usage: cargo xtask tidy|docs|crds");
            ExitCode::from(2)
        }
    }
}
