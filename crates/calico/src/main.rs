//! The one shipped binary: a pure dispatch on `argv[0]` and arguments.

#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "main reads arguments and environment, and hands them down"
)]

mod dispatch;

use std::io::{Read, Write};
use std::process::ExitCode;

use calico_cni::request::Plugin;

use dispatch::{Role, dispatch};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    match dispatch(arguments, std::env::var_os("CNI_COMMAND").is_some()) {
        Role::CniNetwork => run_plugin(Plugin::Network),
        Role::CniIpam => run_plugin(Plugin::Ipam),
        Role::Ctl(_arguments) => ExitCode::FAILURE,
        Role::Command(arguments) => calico_lab::main(arguments.into_iter().skip(1)),
    }
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
