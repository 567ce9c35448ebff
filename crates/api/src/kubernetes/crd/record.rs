//! IPAM's records in custom resources (spec 1 §3.4): the same members as in etcd, but for some names, and with what
//! etcd has in the key.

use bytes::Bytes;
use calico_net::Cidr;
use serde_json::{Map, Value, json};
use smol_str::SmolStr;

use super::{ApiGroup, Table};
use crate::ipam::{BlockAffinity, IpamBlock, IpamConfig, IpamHandle, Record, decode_record};
use crate::key::{AffinityOwner, Key};
use crate::kubernetes::names;
use crate::meta::Labels;
use crate::record::{Entry, Revision};

/// Members that are called otherwise in etcd's records: there, in custom resources.
const RENAMED: [(&str, &str); 3] = [
    ("affinity_claim_time", "affinityClaimTime"),
    ("strict_affinity", "strictAffinity"),
    ("auto_allocate_blocks", "autoAllocateBlocks"),
];

/// The key and the record of a custom resource's specification.
pub(super) fn read(table: Table, spec: Map<String, Value>) -> Result<(Key, Bytes), String> {
    let mut record: Map<String, Value> = spec.into_iter().filter(|(_, value)| !value.is_null()).collect();
    let key = match table {
        Table::Blocks => {
            record.remove("strictAffinity");
            Key::Block(cidr(record.get("cidr"))?)
        }
        Table::Affinities => {
            let block = cidr(record.remove("cidr").as_ref())?;
            let name = text(record.remove("node"), "spec.node")?;
            let class = record.remove("type");
            let owner = match class.as_ref().and_then(Value::as_str).unwrap_or_default() {
                "" | "host" => AffinityOwner::Host(name),
                "virtual" => AffinityOwner::Virtual(name),
                other => return Err(format!("spec.type: {other:?} is neither host nor virtual")),
            };
            let deleted = record.get("deleted").is_some_and(|d| *d == json!(true) || *d == json!("true"));
            record.insert("deleted".to_owned(), json!(deleted));
            Key::Affinity { owner, block }
        }
        Table::Handles => Key::Handle(text(record.remove("handleID"), "spec.handleID")?),
        Table::IpamConfig => Key::IpamConfig,
        Table::Resource(kind) => return Err(format!("{} is no record of IPAM's", kind.name())),
    };
    for (etcd, custom) in RENAMED {
        if let Some(value) = record.remove(custom) {
            record.insert(etcd.to_owned(), value);
        }
    }
    let value = Bytes::from(Value::Object(record).to_string());
    check(&key, &value)?;
    Ok((key, value))
}

/// The labels and the specification of the custom resource that holds a record.
pub(super) fn write(
    group: ApiGroup,
    key: &Key,
    value: &[u8],
) -> Result<(Labels, Map<String, Value>), String> {
    check(key, value)?;
    let value: &[u8] = if value.is_empty() { b"{}" } else { value };
    let record: Map<String, Value> = serde_json::from_slice(value).map_err(|error| error.to_string())?;
    let mut spec: Map<String, Value> = record.into_iter().filter(|(_, value)| !value.is_null()).collect();
    for (etcd, custom) in RENAMED {
        if let Some(value) = spec.remove(etcd) {
            spec.insert(custom.to_owned(), value);
        }
    }
    let mut labels = Labels::new();
    match key {
        Key::Block(cidr) => {
            spec.insert("cidr".to_owned(), json!(cidr));
            for list in ["allocations", "unallocated", "attributes"] {
                spec.entry(list).or_insert_with(|| json!([]));
            }
            // Nobody reads it any more, but it must be there.
            spec.entry("strictAffinity").or_insert(json!(false));
        }
        Key::Affinity { owner, block } => {
            let class = match owner {
                AffinityOwner::Host(_) => "host",
                AffinityOwner::Virtual(_) => "virtual",
            };
            let deleted = spec.get("deleted").is_some_and(|d| *d == json!(true) || *d == json!("true"));
            let deleted = match group {
                ApiGroup::CrdV1 => json!(deleted.to_string()),
                ApiGroup::ProjectCalicoV3 => json!(deleted),
            };
            spec.entry("state").or_insert(json!("confirmed"));
            for (member, value) in [
                ("cidr", json!(block)),
                ("node", json!(owner.name())),
                ("type", json!(class)),
                ("deleted", deleted),
            ] {
                spec.insert(member.to_owned(), value);
            }
            let version = SmolStr::from(block.family().number().to_string());
            labels.insert(names::AFFINITY_TYPE_LABEL.into(), SmolStr::new_static(class));
            labels.insert(names::HOSTNAME_HASH_LABEL.into(), names::hostname_hash(owner.name()));
            labels.insert(names::IP_VERSION_LABEL.into(), version);
        }
        Key::Handle(id) => {
            spec.insert("handleID".to_owned(), json!(id));
            spec.entry("block").or_insert(json!({}));
        }
        Key::IpamConfig => {
            // In a record, an absent switch is off; in a custom resource it would be the default.
            for switch in ["strictAffinity", "autoAllocateBlocks"] {
                spec.entry(switch).or_insert(json!(false));
            }
        }
        _ => return Err("this key holds no record of IPAM's".to_owned()),
    }
    Ok((labels, spec))
}

/// Fills in what the custom resource of IPAM's configuration must have and the resource may leave out.
pub(super) fn complete_config(spec: &mut Map<String, Value>) {
    spec.entry("strictAffinity").or_insert(json!(false));
    spec.entry("autoAllocateBlocks").or_insert(json!(true));
}

/// That the record can be read at all: what cannot must neither be handed out nor stored.
fn check(key: &Key, value: &[u8]) -> Result<(), String> {
    let entry = Entry {
        key: key.clone(),
        value: Bytes::copy_from_slice(value),
        revision: Revision(SmolStr::default()),
    };
    fn read<R: Record>(entry: &Entry) -> Result<(), String> {
        decode_record::<R>(entry).map(|_| ()).map_err(|error| error.reason)
    }
    match key {
        Key::Block(_) => read::<IpamBlock>(&entry),
        Key::Affinity { .. } => read::<BlockAffinity>(&entry),
        Key::Handle(_) => read::<IpamHandle>(&entry),
        Key::IpamConfig => read::<IpamConfig>(&entry),
        _ => Ok(()),
    }
}

fn cidr(value: Option<&Value>) -> Result<Cidr, String> {
    let text = value.and_then(Value::as_str).unwrap_or_default();
    text.parse().map_err(|error| format!("spec.cidr: {error}"))
}

fn text(value: Option<Value>, field: &str) -> Result<SmolStr, String> {
    match value {
        Some(Value::String(text)) if !text.is_empty() => Ok(SmolStr::from(text)),
        _ => Err(format!("{field} is missing")),
    }
}
