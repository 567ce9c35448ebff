//! Block affinities as resources: IPAM's records, shown in the form of the API (spec 1 §1.5).

use calico_api::{AffinityOwner, AnyResource, DecodeError, Entry, Key, Kind, decode_record};
use calico_api::{BlockAffinity, Metadata};
use serde_json::json;
use smol_str::SmolStr;

/// The resource that a record is shown as; `None` for records of other kinds.
pub(super) fn resource(entry: &Entry) -> Option<Result<AnyResource, DecodeError>> {
    let Key::Affinity { owner, block } = &entry.key else { return None };
    let (node, owner_type) = match owner {
        AffinityOwner::Host(name) => (name, "host"),
        AffinityOwner::Virtual(name) => (name, "virtual"),
    };
    let shown = decode_record::<BlockAffinity>(entry).map(|record| {
        let mut resource = AnyResource {
            kind: Kind::BlockAffinity,
            metadata: Metadata {
                name: SmolStr::from(format!("{node}-{}", block.object_name())),
                resource_version: entry.revision.0.clone(),
                ..Metadata::default()
            },
            spec: serde_json::Map::new(),
            status: None,
        };
        for (name, value) in [
            ("cidr", json!(block)),
            ("deleted", json!(record.deleted)),
            ("node", json!(node)),
            ("state", json!(record.state)),
            ("type", json!(owner_type)),
        ] {
            resource.spec.insert(name.to_owned(), value);
        }
        resource
    });
    Some(shown)
}
