//! Records as Go writes them, and the two forms of IPAM's settings.

use serde_json::json;

use super::*;
use crate::key::Key;
use crate::record::Revision;

fn read<R: Record>(key: &str, value: &Value) -> R {
    let entry = Entry {
        key: Key::parse(key).unwrap(),
        value: value.to_string().into_bytes().into(),
        revision: Revision::from(1),
    };
    decode_record(&entry).unwrap()
}

#[test]
fn go_writes_nothing_as_null() {
    let null = json!({
        "cidr": "10.0.0.0/30", "affinity": null, "allocations": null, "unallocated": null, "attributes": null,
        "sequenceNumber": null, "sequenceNumberForAllocation": null, "deleted": null,
    });
    let absent = json!({"cidr": "10.0.0.0/30"});
    let key = "/calico/ipam/v2/assignment/ipv4/block/10.0.0.0-30";
    let block: IpamBlock = read(key, &null);
    assert_eq!(block, read(key, &absent));
    assert!(block.allocations.is_empty() && block.unallocated.is_empty() && block.attributes.is_empty());

    // Inside a list a null is an address that nobody has.
    let used = json!({
        "cidr": "10.0.0.0/31", "allocations": [null, 0], "unallocated": null,
        "attributes": [{"handle_id": null, "secondary": null, "alternateOwnerAttrs": null}],
    });
    let block: IpamBlock = read("/calico/ipam/v2/assignment/ipv4/block/10.0.0.0-31", &used);
    assert_eq!(block.allocations, [None, Some(0)]);
    assert_eq!(block.attributes, [AllocationAttribute::default()]);

    let handle: IpamHandle = read("/calico/ipam/v2/handle/h", &json!({"block": null, "deleted": null}));
    assert_eq!(handle, IpamHandle::default());
    let affinity = json!({"state": null, "deleted": null});
    let affinity: BlockAffinity = read("/calico/ipam/v2/host/n1/ipv4/block/10.0.0.0-30", &affinity);
    assert_eq!(affinity, BlockAffinity::new(AffinityState::Confirmed));
    let config: IpamConfig = read("/calico/ipam/v2/config", &json!({"strict_affinity": null}));
    assert_eq!(config, IpamConfig { auto_allocate_blocks: false, ..IpamConfig::default() });
}

#[test]
fn what_is_no_record_stays_an_error() {
    let entry = Entry {
        key: Key::parse("/calico/ipam/v2/handle/h").unwrap(),
        value: Bytes::from_static(br#"{"block": null, "deleted": "perhaps"}"#),
        revision: Revision::from(1),
    };
    assert!(decode_record::<IpamHandle>(&entry).is_err());
}

#[test]
fn both_forms_of_the_settings_say_the_same() {
    assert_eq!(IPAMConfigurationSpec::from(&IpamConfig::default()), IPAMConfigurationSpec::default());
    let stored: IpamConfig =
        read("/calico/ipam/v2/config", &json!({"strict_affinity": true, "fromTheFuture": [1]}));
    let spec = IPAMConfigurationSpec {
        strict_affinity: true,
        max_blocks_per_host: 7,
        auto_allocate_blocks: true,
        kube_virt_vm_address_persistence: Some("Disabled".into()),
        ip_cooldown_seconds: Some(30),
    };
    let config = stored.with_spec(&spec);
    assert_eq!(IPAMConfigurationSpec::from(&config), spec);
    assert_eq!(config.other["fromTheFuture"], json!([1]), "what the resource does not know stays");
}
