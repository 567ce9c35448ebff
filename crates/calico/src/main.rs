//! The one shipped binary: a pure dispatch on `argv[0]` and arguments.

#![forbid(unsafe_code)]
#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "main reads arguments and environment, and hands them down"
)]

mod agent;
mod cleanup;
mod dispatch;
mod health;
mod log;
mod roles;
mod servers;

use std::ffi::OsString;
use std::io::{Read, Write};
use std::process::ExitCode;

use anyhow::Context as _;
use calico_cni::request::Plugin;

use dispatch::{Role, dispatch};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const HELP: &str = "\
calico: Project Calico for Linux, one binary in several roles

usage: calico COMMAND

  node       run the agent of this node: policy, routes, BGP, CNI server
  node cleanup [--host-root DIR]
             remove everything of ours from this node's kernel; the agent must not run. With the node's root directory,
             also the files that an installation in a cluster put there
  health     ask this node's agent how it is: -felix-live, -felix-ready, -bird-live, -bird-ready
  ctl        read and change resources (also as `calicoctl`)
  lab        nodes in network namespaces on this machine
  version    print the version

Under the name `calico` or `calico-ipam` with CNI_COMMAND set it is a CNI plugin.
";

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    match dispatch(arguments, std::env::var_os("CNI_COMMAND").is_some()) {
        Role::CniNetwork => run_plugin(Plugin::Network),
        Role::CniIpam => run_plugin(Plugin::Ipam),
        Role::Ctl(arguments) => calico_ctl::main(arguments),
        Role::Command(arguments) => run_command(arguments),
    }
}

fn run_command(arguments: Vec<OsString>) -> ExitCode {
    match arguments.get(1).and_then(|a| a.to_str()) {
        Some("node") => {
            let log = match start_log() {
                Ok(log) => log,
                Err(error) => {
                    eprintln!("calico node: {error:#}");
                    return ExitCode::from(2);
                }
            };
            match arguments.get(2).and_then(|a| a.to_str()) {
                None if arguments.len() == 2 => agent::main(log),
                Some("cleanup") => cleanup::main(&arguments[3..]),
                _ => {
                    eprintln!("calico node: it takes no argument but `cleanup`\n\n{HELP}");
                    ExitCode::from(2)
                }
            }
        }
        Some("health") => {
            let flags: Vec<_> = arguments.iter().skip(2).map(|a| a.to_string_lossy().into_owned()).collect();
            health::main(&flags)
        }
        Some("lab") => calico_lab::main(arguments.into_iter().skip(1)),
        Some("version" | "--version") => {
            println!("{}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
        Some("help" | "--help" | "-h") => {
            print!("{HELP}");
            ExitCode::SUCCESS
        }
        other => {
            eprintln!(
                "calico: {} is no command\n\n{HELP}",
                other.map_or("nothing".into(), |o| format!("{o:?}"))
            );
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
        println!("{}", env!("CARGO_PKG_VERSION"));
        return ExitCode::SUCCESS;
    }
    let mut input = Vec::new();
    if let Err(error) = std::io::stdin().read_to_end(&mut input) {
        eprintln!("calico: standard input: {error}");
        return ExitCode::FAILURE;
    }
    let (document, code) = calico_cni::plugin::main(plugin, |name| std::env::var(name).ok(), &input);
    match std::io::stdout().write_all(document.as_bytes()) {
        Ok(()) => code,
        Err(_) => ExitCode::FAILURE,
    }
}
