//! One module per verb.

mod bgp;
mod completion;
mod delete;
mod get;
mod ipam;
mod label;
mod node;
mod patch;
mod validate;
mod version;
mod write;

use std::sync::Arc;

use anyhow::bail;
use calico_api::key::Scope;
use calico_api::{Kind, suggest};
use calico_store::Store;

use crate::Context;
use crate::args::{Cli, Command, CreateArgs, Global, IpamCommand};
use crate::config;
use crate::files::DEFAULT_NAMESPACE;
use crate::resources::Resources;

/// Carries a command out.
///
/// # Errors
/// What could not be done, as Calico words it.
pub(crate) async fn run(cli: Cli, context: &mut Context) -> anyhow::Result<()> {
    let Cli { global, command } = cli;
    match command {
        Command::Get(args) => get::run(&open(&global, context).await?, &args, context).await,
        Command::Apply(files) => {
            write::run(&open_or_create(&global, context).await?, write::Verb::Apply, &files, context).await
        }
        Command::Create(CreateArgs { files, skip_exists }) => {
            let verb = write::Verb::Create { skip_exists };
            write::run(&open_or_create(&global, context).await?, verb, &files, context).await
        }
        Command::Replace(files) => {
            write::run(&open(&global, context).await?, write::Verb::Replace, &files, context).await
        }
        Command::Delete(args) => delete::run(&open(&global, context).await?, &args, context).await,
        Command::Patch(args) => patch::run(&open(&global, context).await?, &args, context).await,
        Command::Label(args) => label::run(&open(&global, context).await?, &args, context).await,
        Command::Validate(files) => validate::run(&files, context),
        Command::Ipam(command @ IpamCommand::Configure(_)) => {
            ipam::run(&open_or_create(&global, context).await?, command, context).await
        }
        Command::Ipam(command) => ipam::run(&open(&global, context).await?, command, context).await,
        Command::Node(command) => node::run(command, context).await,
        Command::Bgp(command) => bgp::run(command, &global, context).await,
        Command::Version(args) => version::run(&global, &args, context).await,
        Command::Completion { shell } => completion::run(shell, context),
    }
}

/// Opens the datastore, of a cluster of this version unless the command line allows others.
async fn open(global: &Global, context: &Context) -> anyhow::Result<Resources> {
    of_own_version(config::connect(global, context).await?, global).await
}

/// The same for what may be the first to write.
async fn open_or_create(global: &Global, context: &Context) -> anyhow::Result<Resources> {
    of_own_version(config::connect_or_create(global, context).await?, global).await
}

async fn of_own_version(store: Arc<dyn Store>, global: &Global) -> anyhow::Result<Resources> {
    let resources = Resources { store };
    if !global.allow_version_mismatch {
        version::check(&resources).await?;
    }
    Ok(resources)
}

/// The kind of a word on the command line.
fn parse_kind(text: &str) -> anyhow::Result<Kind> {
    match Kind::from_alias(text) {
        Some(kind) => Ok(kind),
        None => {
            let of_kind = |kind: &Kind| {
                let names = [kind.plural().to_owned(), kind.name().to_ascii_lowercase()];
                names.into_iter().chain(kind.aliases().iter().map(|alias| (*alias).to_owned()))
            };
            let names: Vec<String> = Kind::ALL.iter().flat_map(of_kind).collect();
            let names = names.iter().map(String::as_str);
            let remedy = suggest::remedy(text, names, "use one such as nodes or networkpolicies");
            bail!("resource type '{text}' is not supported; {remedy}")
        }
    }
}

/// The namespace of named resources: the command line's, or `default`; none for cluster-wide kinds.
fn namespace_of(kind: Kind, given: Option<&str>) -> &str {
    match kind.scope() {
        Scope::Cluster => "",
        Scope::Namespaced => given.unwrap_or(DEFAULT_NAMESPACE),
    }
}

/// Names from the command line, where commas separate as well as blanks.
fn parse_names(names: &[String]) -> Vec<&str> {
    names.iter().flat_map(|n| n.split(',')).map(str::trim).filter(|n| !n.is_empty()).collect()
}

/// `'Kind' ` if all are of one kind, else nothing: for messages.
fn quoted_kind(kinds: &[Kind]) -> String {
    match kinds.split_first() {
        Some((first, rest)) if rest.iter().all(|k| k == first) => format!("'{}' ", first.name()),
        _ => String::new(),
    }
}
