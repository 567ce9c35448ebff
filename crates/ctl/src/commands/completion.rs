//! `completion`: what a shell needs to complete command lines.

use clap::CommandFactory;

use crate::Context;
use crate::args::Cli;

pub(super) fn run(shell: clap_complete::Shell, context: &mut Context) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "calicoctl", &mut script);
    Ok(context.output.write_all(&script)?)
}
