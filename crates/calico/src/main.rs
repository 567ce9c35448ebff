//! The one shipped binary: a pure dispatch on `argv[0]` and arguments.

#![forbid(unsafe_code)]
#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "main reads arguments and environment, and hands them down"
)]

mod agent;
mod check_status;
mod cleanup;
mod controllers;
mod dispatch;
mod health;
mod help;
mod init;
mod install;
mod ipam_upgrade;
mod lifecycle;
mod log;
mod node_command;
mod roles;
mod servers;

use std::ffi::OsString;
use std::io::{Read, Write};
use std::process::ExitCode;

use anyhow::Context as _;
use calico_cni::request::Plugin;
use nix::sys::stat::{Mode, umask};

use dispatch::{Role, dispatch};
use help::HELP;
use node_command::NodeCommand;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    give_nobody_write_access();
    let arguments: Vec<_> = std::env::args_os().collect();
    match dispatch(arguments, std::env::var_os("CNI_COMMAND").is_some()) {
        Role::CniNetwork => run_plugin(Plugin::Network),
        Role::CniIpam => run_plugin(Plugin::Ipam),
        Role::CniTest => run_on_input(|input| calico_cni::plugin::test(variable, input)),
        Role::IpamUpgrade => with_log("calico-ipam -upgrade", |_| ipam_upgrade::main()),
        Role::InstallCni => with_log("install-cni", |_| install::main()),
        Role::CheckStatus(arguments) => check_status::main(&arguments),
        Role::Node(arguments) => run_node(&arguments),
        Role::Controllers(arguments) => {
            with_log("kube-controllers", |log| controllers::main(log, &arguments))
        }
        Role::Ctl(arguments) => calico_ctl::main(arguments),
        Role::Command(arguments) => run_command(arguments),
    }
}

/// Files that we and our children make are never writable for others, whatever umask whoever started us left: some
/// runtimes and supervisors leave none. A stricter one stays.
fn give_nobody_write_access() {
    let groups_and_others = Mode::S_IWGRP | Mode::S_IWOTH;
    umask(umask(groups_and_others) | groups_and_others);
}

fn run_command(arguments: Vec<OsString>) -> ExitCode {
    match arguments.get(1).and_then(|a| a.to_str()) {
        Some("health") => {
            let flags: Vec<_> = arguments.iter().skip(2).map(|a| a.to_string_lossy().into_owned()).collect();
            health::main(&flags)
        }
        Some("lab") => calico_lab::main(arguments.into_iter().skip(1)),
        Some("version" | "--version") => print_version(),
        Some("help" | "--help" | "-h") => {
            print!("{HELP}");
            ExitCode::SUCCESS
        }
        Some(other) => {
            eprintln!("calico: {other:?} is no command\n\n{HELP}");
            ExitCode::from(2)
        }
        None => {
            eprint!("{HELP}");
            ExitCode::from(2)
        }
    }
}

fn run_node(arguments: &[OsString]) -> ExitCode {
    let command = match node_command::parse(arguments) {
        Ok(command) => command,
        Err(problem) => {
            eprintln!("calico node: {problem}\n\n{}", help::NODE_USAGE);
            return ExitCode::from(2);
        }
    };
    match command {
        NodeCommand::Run => with_log("calico node", agent::main),
        NodeCommand::Startup => with_log("calico node startup", |_| lifecycle::start_only()),
        NodeCommand::Shutdown => with_log("calico node shutdown", |_| lifecycle::shut_down()),
        NodeCommand::Init { best_effort } => init::main(best_effort),
        NodeCommand::Cleanup(rest) => with_log("calico node cleanup", |_| cleanup::main(&rest)),
        NodeCommand::Health(flags) => health::main(&flags),
        NodeCommand::Version => print_version(),
        NodeCommand::Help => {
            print!("{}\n{}", help::NODE_USAGE, help::NODE);
            ExitCode::SUCCESS
        }
        NodeCommand::PartOfAgent(part) => {
            eprintln!(
                "calico-node -{part}: no process of its own here: the agent does it; run `calico-node` without flags"
            );
            ExitCode::from(2)
        }
    }
}

fn print_version() -> ExitCode {
    println!("{}", env!("CARGO_PKG_VERSION"));
    ExitCode::SUCCESS
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Starts logging for a role that says on standard error what it does.
fn with_log(role: &str, run: impl FnOnce(log::Log) -> ExitCode) -> ExitCode {
    match start_log() {
        Ok(log) => run(log),
        Err(error) => {
            eprintln!("{role}: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn start_log() -> anyhow::Result<log::Log> {
    let filter = match std::env::var("CALICO_LOG") {
        Err(std::env::VarError::NotPresent) => None,
        other => Some(other.context("CALICO_LOG")?),
    };
    log::start(filter.as_deref(), std::env::var("CALICO_LOG_FORMAT").is_ok_and(|f| f == "json"))
}

fn run_plugin(plugin: Plugin) -> ExitCode {
    if std::env::args_os().nth(1).is_some_and(|a| a == "-v") {
        return print_version();
    }
    run_on_input(|input| calico_cni::plugin::main(plugin, variable, input))
}

/// Standard input in, a document and an exit code out.
fn run_on_input(work: impl FnOnce(&[u8]) -> (String, ExitCode)) -> ExitCode {
    let mut input = Vec::new();
    if let Err(error) = std::io::stdin().read_to_end(&mut input) {
        eprintln!("calico: standard input: {error}");
        return ExitCode::FAILURE;
    }
    let (document, code) = work(&input);
    match std::io::stdout().write_all(document.as_bytes()) {
        Ok(()) => code,
        Err(_) => ExitCode::FAILURE,
    }
}
