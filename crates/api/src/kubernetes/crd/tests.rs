//! Custom resources against entries, both ways and in both groups.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::key::AffinityOwner;

const BOTH: [ApiGroup; 2] = [ApiGroup::CrdV1, ApiGroup::ProjectCalicoV3];
const UID: &str = "30316465-6365-4463-ad63-3564622d3638";
const OTHER_UID: &str = "0c8c26a6-c6a6-44c6-adc6-ac2646b46c1c";

fn value(entry: &Entry) -> Value {
    serde_json::from_slice(&entry.value).unwrap()
}

/// The object of a value and the entry of that object, once the API server has given it a revision.
fn around(group: ApiGroup, key: &Key, value: &Value) -> (Value, Entry) {
    let mut written = object(group, key, value.to_string().as_bytes(), None, None).unwrap();
    let stored = written.clone();
    written["metadata"]["resourceVersion"] = json!("7");
    (stored, entry(Table::of(key).unwrap(), group, written).unwrap())
}

fn packed(object: &Value) -> Value {
    let text = object["metadata"]["annotations"]["projectcalico.org/metadata"].as_str().unwrap();
    serde_json::from_str(text).unwrap()
}

#[test]
fn metadata_is_packed_in_v1_only() {
    let key = Key::resource(Kind::IPPool, "", "pool");
    let stored = json!({"kind": "IPPool", "apiVersion": "projectcalico.org/v3",
        "metadata": {"name": "pool", "uid": UID, "creationTimestamp": "2026-01-01T00:00:00Z",
            "labels": {"a": "b", "projectcalico.org/x": "y"},
            "annotations": {"c": "d", "operator.tigera.io/z": "1"},
            "finalizers": ["f"],
            "ownerReferences": [
                {"apiVersion": "projectcalico.org/v3", "kind": "IPPool", "name": "o", "uid": UID},
                {"apiVersion": "v1", "kind": "Node", "name": "n", "uid": UID}]},
        "spec": {"cidr": "10.0.0.0/16", "unknown": [null, 1]}});
    let (v1, back) = around(ApiGroup::CrdV1, &key, &stored);
    assert_eq!(value(&back), stored);
    assert_eq!(back.revision, Revision("7".into()));
    let owners = json!([
        {"apiVersion": "crd.projectcalico.org/v1", "kind": "IPPool", "name": "o", "uid": OTHER_UID},
        {"apiVersion": "v1", "kind": "Node", "name": "n", "uid": UID}]);
    assert_eq!(
        packed(&v1),
        json!({"creationTimestamp": "2026-01-01T00:00:00Z", "labels": {"a": "b", "projectcalico.org/x": "y"},
            "annotations": {"c": "d", "operator.tigera.io/z": "1"}, "finalizers": ["f"],
            "ownerReferences": owners})
    );
    let mut plain = v1.clone();
    plain["metadata"]["annotations"].as_object_mut().unwrap().remove("projectcalico.org/metadata");
    assert_eq!(
        plain,
        json!({"kind": "IPPool", "apiVersion": "crd.projectcalico.org/v1",
            "metadata": {"name": "pool", "uid": OTHER_UID, "labels": {"projectcalico.org/x": "y"},
                "annotations": {"operator.tigera.io/z": "1"}, "ownerReferences": owners},
            "spec": {"cidr": "10.0.0.0/16", "unknown": [null, 1]}})
    );
    let (v3, back) = around(ApiGroup::ProjectCalicoV3, &key, &stored);
    assert_eq!(v3, stored);
    assert_eq!(value(&back), stored);
}

#[test]
fn what_the_object_says_itself_is_merged() {
    let object = json!({"metadata": {"name": "pool", "resourceVersion": "1", "uid": OTHER_UID,
            "creationTimestamp": "2026-01-02T00:00:00Z", "managedFields": [{}], "generation": 3,
            "labels": {"a": "object", "b": "object"},
            "annotations": {"projectcalico.org/metadata": "{\"labels\":{\"a\":\"packed\"},\"creationTimestamp\":null}"},
            "ownerReferences": [{"apiVersion": "projectcalico.org/v3", "kind": "Tier", "name": "t", "uid": OTHER_UID}]},
        "spec": {}});
    let entry = entry(Table::Resource(Kind::IPPool), ApiGroup::CrdV1, object).unwrap();
    assert_eq!(
        value(&entry)["metadata"],
        json!({"name": "pool", "uid": UID, "creationTimestamp": "2026-01-02T00:00:00Z",
            "labels": {"a": "packed", "b": "object"},
            "ownerReferences": [{"apiVersion": "projectcalico.org/v3", "kind": "Tier", "name": "t", "uid": UID}]})
    );
}

#[test]
fn policies_keep_their_name_in_v1() {
    let check = |group: ApiGroup, tier: &str, annotations: Value, name: &str| {
        let object = json!({"metadata": {"name": "default.p", "namespace": "ns", "resourceVersion": "1",
            "annotations": annotations}, "spec": {"tier": tier}});
        let entry = entry(Table::Resource(Kind::NetworkPolicy), group, object).unwrap();
        assert_eq!(entry.key, Key::resource(Kind::NetworkPolicy, "ns", name));
        // The same name again after reading.
        assert_eq!(AnyResource::decode(&entry).unwrap().metadata.name, name);
    };
    let named = json!({"projectcalico.org/metadata": "{\"name\":\"default.p\"}"});
    check(ApiGroup::CrdV1, "default", json!({}), "p");
    check(ApiGroup::CrdV1, "", json!({}), "p");
    check(ApiGroup::CrdV1, "t", json!({}), "default.p");
    check(ApiGroup::CrdV1, "default", named, "default.p");
    check(ApiGroup::ProjectCalicoV3, "default", json!({}), "default.p");

    let key = Key::resource(Kind::NetworkPolicy, "ns", "p");
    let policy = json!({"metadata": {"name": "p", "namespace": "ns"}, "spec": {"selector": "all()"}});
    let (v1, back) = around(ApiGroup::CrdV1, &key, &policy);
    assert_eq!(packed(&v1)["name"], "p");
    assert_eq!(back.key, key);
    assert_eq!(v1["metadata"]["labels"], json!({"projectcalico.org/tier": "default"}));
    let (v3, back) = around(ApiGroup::ProjectCalicoV3, &key, &policy);
    assert_eq!(v3["metadata"].get("annotations"), None);
    assert_eq!(back.key, key);
    // What old writers stored under another name is replaced there.
    let old = json!({"metadata": {"name": "default.p", "namespace": "ns", "finalizers": ["f"], "labels": {"x": "y"}}});
    let revision = Revision("9".into());
    let bytes = policy.to_string();
    let written =
        super::object(ApiGroup::CrdV1, &key, bytes.as_bytes(), Some(&revision), Some(&old)).unwrap();
    assert_eq!(written["metadata"]["name"], "default.p");
    assert_eq!(written["metadata"]["resourceVersion"], "9");
    assert_eq!(written["metadata"]["finalizers"], json!(["f"]));
    assert_eq!(written["metadata"]["labels"].get("x"), None);
    assert_eq!(packed(&written)["name"], "p");
    assert_eq!(old_object_name(&key).unwrap(), "default.p");
}

#[test]
fn blocks_have_other_names_for_two_members() {
    let key = Key::Block("10.0.0.0/30".parse().unwrap());
    let block = json!({"cidr": "10.0.0.0/30", "affinity": "host:n", "affinity_claim_time": "2026-01-01T00:00:00Z",
        "allocations": [0, null, null, null], "unallocated": [1, 2, 3],
        "attributes": [{"handle_id": "h", "secondary": {"node": "n"}, "future": 1}],
        "sequenceNumber": 5, "sequenceNumberForAllocation": {"0": 4}, "deleted": false, "future": {"a": [null]}});
    for group in BOTH {
        let (object, back) = around(group, &key, &block);
        assert_eq!(object["kind"], "IPAMBlock");
        assert_eq!(object["metadata"]["name"], "10-0-0-0-30");
        assert_eq!(object["spec"]["affinityClaimTime"], "2026-01-01T00:00:00Z");
        assert_eq!(object["spec"]["strictAffinity"], false);
        assert_eq!(object["spec"]["allocations"], json!([0, null, null, null]));
        assert_eq!(back.key, key);
        assert_eq!(value(&back), block);
    }
    let (object, _) = around(ApiGroup::CrdV1, &key, &json!({"cidr": "10.0.0.0/30", "affinity": null}));
    assert_eq!(
        object["spec"],
        json!({"cidr": "10.0.0.0/30", "allocations": [], "unallocated": [], "attributes": [],
            "strictAffinity": false})
    );
}

#[test]
fn affinities_say_deleted_in_the_words_of_their_group() {
    let check = |owner: AffinityOwner, group: ApiGroup, deleted: Value, class: &str| {
        let key = Key::Affinity { owner, block: "10.0.0.0/26".parse().unwrap() };
        let (object, back) = around(group, &key, &json!({"state": "pending", "deleted": true, "x": 1}));
        assert_eq!(
            object["spec"],
            json!({"state": "pending", "deleted": deleted, "x": 1, "node": "n", "type": class, "cidr": "10.0.0.0/26"})
        );
        assert!(is_deleted(&object));
        assert_eq!(object["metadata"]["name"], "n-10-0-0-0-26");
        assert_eq!(
            object["metadata"]["labels"],
            json!({"projectcalico.org/affinity-type": class, "projectcalico.org/ip-version": "4",
                "projectcalico.org/hostname-hash": names::hostname_hash("n")})
        );
        assert_eq!(back.key, key);
        assert_eq!(value(&back), json!({"state": "pending", "deleted": true, "x": 1}));
    };
    check(AffinityOwner::Host("n".into()), ApiGroup::CrdV1, json!("true"), "host");
    check(AffinityOwner::Virtual("n".into()), ApiGroup::CrdV1, json!("true"), "virtual");
    check(AffinityOwner::Host("n".into()), ApiGroup::ProjectCalicoV3, json!(true), "host");
}

#[test]
fn old_affinities_have_no_type() {
    let object = json!({"metadata": {"name": "x", "resourceVersion": "1"},
        "spec": {"cidr": "fd00::/122", "node": "n", "state": "", "deleted": "false"}});
    let entry = entry(Table::Affinities, ApiGroup::CrdV1, object.clone()).unwrap();
    let owner = AffinityOwner::Host("n".into());
    assert_eq!(entry.key, Key::Affinity { owner, block: "fd00::/122".parse().unwrap() });
    assert!(!is_deleted(&object));
}

#[test]
fn handles_keep_the_case_of_their_id() {
    let key = Key::Handle("k8s-pod-network.0aBc".into());
    for group in BOTH {
        let (object, back) = around(group, &key, &json!({"block": {"10.0.0.0/26": 2}, "deleted": false}));
        assert_eq!(object["metadata"]["name"], "k8s-pod-network.0abc");
        assert_eq!(object["spec"]["handleID"], "k8s-pod-network.0aBc");
        assert_eq!(back.key, key);
        assert_eq!(value(&back), json!({"block": {"10.0.0.0/26": 2}, "deleted": false}));
    }
}

#[test]
fn the_configuration_is_one_object_with_two_keys() {
    let record = json!({"strict_affinity": true, "maxBlocksPerHost": 20});
    let spec = json!({"strictAffinity": true, "autoAllocateBlocks": false, "maxBlocksPerHost": 20});
    for (group, kind, plural) in [
        (ApiGroup::CrdV1, "IPAMConfig", "ipamconfigs"),
        (ApiGroup::ProjectCalicoV3, "IPAMConfiguration", "ipamconfigurations"),
    ] {
        let (object, _) = around(group, &Key::IpamConfig, &record);
        assert_eq!((&object["kind"], &object["metadata"]["name"]), (&json!(kind), &json!("default")));
        assert_eq!(object["spec"], spec);
        let key = Key::resource(Kind::IPAMConfiguration, "", "default");
        assert_eq!(Table::of(&key).unwrap().plural(group), plural);
        let resource = json!({"metadata": {"name": "default"}, "spec": {"strictAffinity": true}});
        let (object, back) = around(group, &key, &resource);
        assert_eq!(object["kind"], kind);
        assert_eq!(object["spec"], json!({"strictAffinity": true, "autoAllocateBlocks": true}));
        assert_eq!(value(&back)["kind"], "IPAMConfiguration");
    }
}

#[test]
fn marks_of_deletion() {
    for group in BOTH {
        for (table, spec) in [(Table::Blocks, json!({})), (Table::Affinities, json!({"deleted": "false"}))] {
            let mut object = json!({"spec": spec});
            assert!(!is_deleted(&object));
            assert!(mark_deleted(table, group, &mut object));
            assert!(is_deleted(&object), "{table:?} {group}");
            let text = table == Table::Affinities && group == ApiGroup::CrdV1;
            assert_eq!(object["spec"]["deleted"], if text { json!("true") } else { json!(true) });
        }
        assert!(!mark_deleted(Table::Resource(Kind::IPPool), group, &mut json!({"spec": {}})));
    }
}

#[test]
fn what_is_no_object_of_the_table_is_refused_by_name() {
    let check = |table: Table, object: Value, message: &str| {
        let error = entry(table, ApiGroup::CrdV1, object).unwrap_err();
        assert_eq!(error.to_string(), message);
    };
    let meta = json!({"name": "x", "resourceVersion": "1"});
    check(Table::Blocks, json!(1), "IPAMBlock(): is no JSON object");
    check(
        Table::Blocks,
        json!({"metadata": {"name": "x"}}),
        "IPAMBlock(x): metadata.resourceVersion is missing",
    );
    check(Table::Blocks, json!({"metadata": meta}), "IPAMBlock(x): spec is missing");
    check(
        Table::Affinities,
        json!({"metadata": meta, "spec": {"cidr": "10.0.0.0/26"}}),
        "BlockAffinity(x): spec.node is missing",
    );
    check(
        Table::Affinities,
        json!({"metadata": meta, "spec": {"cidr": "10.0.0.0/26", "node": "n", "type": "x"}}),
        "BlockAffinity(x): spec.type: \"x\" is neither host nor virtual",
    );
    let key = Key::resource(Kind::Node, "", "n");
    assert!(object(ApiGroup::CrdV1, &key, b"{}", None, None).is_err());
    assert!(object(ApiGroup::CrdV1, &Key::Block("10.0.0.0/26".parse().unwrap()), b"[]", None, None).is_err());
}

fn labels() -> impl Strategy<Value = Value> {
    let key = "(projectcalico.org/|operator.tigera.io/|x/)?[a-z]{1,3}";
    proptest::collection::btree_map(key, "[a-z]{0,3}", 0..4).prop_map(|labels| json!(labels))
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        name in "[a-z][a-z.]{0,10}", labels in labels(), annotations in labels(), v1: bool, policy: bool,
        tier in "(default|t)?", uid in "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}",
    ) {
        let (kind, namespace) = if policy { (Kind::NetworkPolicy, "ns") } else { (Kind::IPPool, "") };
        let key = Key::resource(kind, namespace, &name);
        let resource = AnyResource {
            kind,
            metadata: serde_json::from_value(json!({"name": name, "namespace": namespace, "uid": uid,
                "labels": labels, "annotations": annotations, "other": 1})).unwrap(),
            spec: json!({"tier": tier, "x": null}).as_object().unwrap().clone(),
            status: None,
        };
        let entry = Entry { key: key.clone(), value: resource.encode(), revision: Revision("7".into()) };
        let group = if v1 { ApiGroup::CrdV1 } else { ApiGroup::ProjectCalicoV3 };
        let (_, back) = around(group, &key, &value(&entry));
        prop_assert_eq!(&back.key, &key);
        prop_assert_eq!(AnyResource::decode(&back).unwrap(), AnyResource::decode(&entry).unwrap());
    }
}
