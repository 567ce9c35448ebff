//! `get`: shows resources.

use anyhow::{Context as _, bail};
use calico_api::key::Scope;
use calico_api::{AnyResource, BGPConfigurationSpec, Kind, Manifest};
use calico_net::Asn;
use smol_str::SmolStr;

use super::{namespace_of, parse_kind, parse_names};
use crate::Context;
use crate::args::{GetArgs, Targets};
use crate::files;
use crate::output::columns::Facts;
use crate::output::{Format, Shown, render, render_all};
use crate::resources::{ResourceError, Resources};

pub(super) async fn run(resources: &Resources, args: &GetArgs, context: &mut Context) -> anyhow::Result<()> {
    let format = Format::parse(&args.output)?;
    let mut groups = find(resources, args, context).await.context("failed to get resources")?;
    let is_table = !matches!(format, Format::Yaml | Format::Json);
    let facts = if is_table && groups.iter().any(|g| g.kind == Kind::Node) {
        read_facts(resources).await.context("failed to get resources")?
    } else {
        Facts { cluster_asn: Asn::DEFAULT.to_string() }
    };
    if args.export {
        groups.iter_mut().flat_map(|g| &mut g.found).for_each(strip);
    }
    if !is_table && groups.len() > 1 {
        // One document: several behind one another would be neither YAML nor JSON.
        let all: Vec<&AnyResource> = groups.iter().flat_map(|g| &g.found).collect();
        return Ok(context.output.write_all(render_all(&all, &format).as_bytes())?);
    }
    for Group { kind, found: list, revision, with_namespace } in groups {
        let shown = Shown { kind, resources: &list, revision: revision.as_deref(), with_namespace };
        let text = render(&shown, &format, &facts)?;
        context.output.write_all(text.as_bytes())?;
    }
    Ok(())
}

/// Resources of one kind, printed together.
struct Group {
    kind: Kind,
    found: Vec<AnyResource>,
    revision: Option<String>,
    with_namespace: bool,
}

async fn find(resources: &Resources, args: &GetArgs, context: &mut Context) -> anyhow::Result<Vec<Group>> {
    let GetArgs { targets, all_namespaces, .. } = args;
    let Targets { kind, names, filename, recursive, skip_empty, namespace } = targets;
    if let Some(path) = filename {
        let wanted = files::read(path, *recursive, *skip_empty, namespace.as_deref(), context)?;
        return find_each(resources, wanted).await;
    }
    let kind = parse_kind(kind.as_deref().unwrap_or_default())?;
    let namespaced = kind.scope() == Scope::Namespaced;
    let names = parse_names(names);
    let with_namespace = namespaced && (*all_namespaces || namespace.is_some());
    if names.is_empty() {
        let one = namespace_of(kind, namespace.as_deref());
        let namespace = (namespaced && !all_namespaces).then_some(one);
        let found = resources.list(kind, namespace).await?;
        for error in &found.unreadable {
            context.warn(format_args!("Warning: left out: {error}"))?;
        }
        let revision = Some(found.revision.to_string());
        return Ok(vec![Group { kind, found: found.resources, revision, with_namespace }]);
    }
    if *all_namespaces && namespaced {
        bail!("names cannot be combined with --all-namespaces");
    }
    let mut found = Vec::new();
    for name in names {
        found.push(resources.get(kind, namespace_of(kind, namespace.as_deref()), name).await?);
    }
    Ok(vec![Group { kind, found, revision: None, with_namespace }])
}

/// The stored state of what a file names, kinds in the order of their first appearance.
async fn find_each(resources: &Resources, wanted: Vec<Manifest>) -> anyhow::Result<Vec<Group>> {
    let mut groups: Vec<Group> = Vec::new();
    for Manifest { resource, .. } in wanted {
        let key = resource.key();
        let found = resources.get(key.kind, &key.namespace, &key.name).await?;
        match groups.iter_mut().find(|g| g.kind == key.kind) {
            Some(group) => group.found.push(found),
            None => {
                let with_namespace = key.kind.scope() == Scope::Namespaced;
                groups.push(Group { kind: key.kind, found: vec![found], revision: None, with_namespace });
            }
        }
    }
    Ok(groups)
}

/// What tables show besides the resources themselves.
async fn read_facts(resources: &Resources) -> anyhow::Result<Facts> {
    let cluster = match resources.get(Kind::BGPConfiguration, "", "default").await {
        Ok(configuration) => {
            configuration.typed::<BGPConfigurationSpec>().ok().and_then(|c| c.spec.as_number)
        }
        Err(ResourceError::DoesNotExist(_) | ResourceError::Decode(_)) => None,
        Err(error) => return Err(error.into()),
    };
    Ok(Facts { cluster_asn: cluster.unwrap_or(Asn::DEFAULT).to_string() })
}

/// Takes out what another cluster would refuse or ignore.
fn strip(resource: &mut AnyResource) {
    let metadata = &mut resource.metadata;
    metadata.uid = SmolStr::default();
    metadata.resource_version = SmolStr::default();
    metadata.creation_timestamp = None;
    for field in
        ["generation", "selfLink", "deletionTimestamp", "deletionGracePeriodSeconds", "ownerReferences"]
    {
        metadata.other.shift_remove(field);
    }
    resource.status = None;
}
