//! Bad input, as a user meets it: wrong manifests, network configurations, environments and command lines given to the
//! shipped binary, and the error that each gets, word for word.
//!
//! A message must name the field or variable, the value found, and what would be right.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::type_complexity,
    reason = "a test of processes: rows of a table, and what cannot be set up ends it"
)]

mod calicoctl;
mod manifests;
mod node;
mod plugin;
mod waiting;

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// The binary under a name of its own in `dir`: the name decides its role.
fn binary(dir: &Path, name: &str) -> std::path::PathBuf {
    let path = dir.join(name);
    if !path.exists() {
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_calico"), &path).unwrap();
    }
    path
}

/// Runs it with nothing but the given environment (and PATH), and gives it its standard input.
fn run(command: &mut Command, environment: &[(&str, &str)], input: &str) -> Output {
    let path = std::env::var("PATH").unwrap_or_default();
    command.env_clear().env("PATH", path).env("NO_COLOR", "1").envs(environment.iter().copied());
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // A process that refuses its environment need not read.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

/// The code and what stands on standard error, one line for each wrong case of the table.
fn differences<'a>(
    cases: impl Iterator<Item = (String, (i32, &'a str), (Option<i32>, String))>,
) -> Vec<String> {
    cases
        .filter(|(_, (code, message), (found_code, found))| {
            Some(*code) != *found_code || message.trim() != found.trim()
        })
        .map(|(input, (code, message), (found_code, found))| {
            format!(
                "{input}\n  expected {code}: {}\n  found {found_code:?}: {}\n",
                message.trim(),
                found.trim()
            )
        })
        .collect()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
