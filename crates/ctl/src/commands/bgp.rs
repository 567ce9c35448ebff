//! `bgp`: the cluster's sessions as one plan, why a prefix travels or not, and the change from a mesh to reflectors.

mod plan;
mod reflectors;
mod waiting;
mod why;

use calico_api::{AnyResource, Entry, Key, Revision};
use calico_mesh::Index;
use smol_str::SmolStr;

use super::open;
use crate::Context;
use crate::args::{BgpCommand, Global};
use crate::resources::Resources;

pub(super) async fn run(command: BgpCommand, global: &Global, context: &mut Context) -> anyhow::Result<()> {
    match command {
        BgpCommand::Plan(args) => {
            let index = if args.offline {
                Index::new(SmolStr::default())
            } else {
                read_index(&open(global, context).await?, "").await?
            };
            plan::run(index, &args, context)
        }
        BgpCommand::Why(args) => why::run(&open(global, context).await?, &args, context).await,
        BgpCommand::MakeReflectors(args) => {
            reflectors::run(&open(global, context).await?, &args, context).await
        }
    }
}

/// What BGP is made of, as the datastore has it, seen from a node; `""` for none in particular.
async fn read_index(resources: &Resources, node: &str) -> anyhow::Result<Index> {
    let mut index = Index::new(SmolStr::new(node));
    for selection in Index::selections(node) {
        for entry in resources.store.list(&selection).await?.entries {
            index.update(&entry.key, Some(&entry));
        }
    }
    Ok(index)
}

/// Puts a resource into an index, as if it were stored.
fn put(index: &mut Index, resource: &AnyResource) {
    let key = Key::Resource(resource.key());
    let entry = Entry { key: key.clone(), value: resource.encode(), revision: Revision(SmolStr::default()) };
    index.update(&key, Some(&entry));
}
