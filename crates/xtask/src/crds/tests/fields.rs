//! The definitions held to the types of `calico-api`: what a type has and a schema has not would be pruned. A field
//! that is added to a type and forgotten in the tables fails here.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use calico_api::kubernetes::cluster_network_policy::ClusterNetworkPolicyRules;
use calico_api::kubernetes::{crd, group::ApiGroup};
use calico_api::*;
use serde::Deserialize;
use serde::de::value::{Error, MapDeserializer, SeqDeserializer};
use serde::de::{Deserializer, IntoDeserializer, Visitor};
use serde_json::{Map, Value, json};

use super::sample::sample;
use super::{Group, definitions};

/// A value that is read into a type, beside its schema; names of fields that only the type has are noted.
#[derive(Clone)]
struct Beside<'a> {
    place: String,
    value: &'a Value,
    schema: &'a Value,
    only_in_type: &'a RefCell<BTreeSet<String>>,
}

impl<'a> Beside<'a> {
    fn inner(&self, mark: &str, value: &'a Value, schema: Option<&'a Value>) -> Beside<'a> {
        let schema = schema.unwrap_or(&Value::Null);
        Beside { place: format!("{}{mark}", self.place), value, schema, ..self.clone() }
    }

    fn member(&self, name: &str, value: &'a Value) -> Beside<'a> {
        match self.schema.get("additionalProperties") {
            Some(values) => self.inner("{}", value, Some(values)),
            None => self.inner(&format!(".{name}"), value, self.schema["properties"].get(name)),
        }
    }
}

impl<'de> Deserializer<'de> for Beside<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(b) => visitor.visit_bool(*b),
            Value::String(text) => visitor.visit_str(text),
            Value::Number(n) => match (n.as_u64(), n.as_i64()) {
                (Some(n), _) => visitor.visit_u64(n),
                (_, Some(n)) => visitor.visit_i64(n),
                _ => visitor.visit_f64(n.as_f64().expect("a number")),
            },
            Value::Array(items) => {
                let items = items.iter().map(|item| self.inner("[]", item, self.schema.get("items")));
                visitor.visit_seq(SeqDeserializer::new(items))
            }
            Value::Object(members) => {
                let members = members.iter().map(|(name, value)| (name.as_str(), self.member(name, value)));
                visitor.visit_map(MapDeserializer::new(members))
            }
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let known = |field: &str| self.schema["properties"].get(field).is_some();
        let missing = fields.iter().filter(|field| !known(field));
        self.only_in_type.borrow_mut().extend(missing.map(|field| format!("{}.{field}", self.place)));
        self.deserialize_any(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map enum identifier ignored_any
    }
}

impl<'de> IntoDeserializer<'de> for Beside<'_> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

/// The fields of `T`, of all that it is made of, that the schema has not. The schema's own sample reaches every part
/// that the schema has, and a part that it has not is noted where it hangs.
fn only_in_type<T: for<'de> Deserialize<'de>>(place: &str, schema: &Value) -> BTreeSet<String> {
    let found = RefCell::new(BTreeSet::new());
    // Of objects that have one member only, each turn has another.
    for turn in 0..12 {
        let value = sample(place, schema, &[], turn).expect("nothing is left out");
        let beside = Beside { place: place.to_owned(), value: &value, schema, only_in_type: &found };
        T::deserialize(beside).unwrap_or_else(|e| panic!("{place}: {e}: add to VALUES: {value}"));
    }
    found.into_inner()
}

fn of_kind<S: Spec>(schema: &Value) -> BTreeSet<String> {
    let properties = &schema["properties"];
    let mut found = only_in_type::<S>(&format!("{}.spec", S::KIND.name()), &properties["spec"]);
    if let Some(status) = properties.get("status") {
        found.extend(only_in_type::<S::Status>(&format!("{}.status", S::KIND.name()), status));
    }
    found
}

/// How a kind's types are compared; none for what has no type in `calico-api`, or no definition. A new kind must say.
fn comparison(kind: Kind) -> Option<fn(&Value) -> BTreeSet<String>> {
    Some(match kind {
        Kind::BGPConfiguration => of_kind::<BGPConfigurationSpec>,
        Kind::BGPFilter => of_kind::<BGPFilterSpec>,
        Kind::BGPPeer => of_kind::<BGPPeerSpec>,
        Kind::ClusterInformation => of_kind::<ClusterInformationSpec>,
        Kind::FelixConfiguration => of_kind::<FelixConfigurationSpec>,
        Kind::GlobalNetworkPolicy => of_kind::<GlobalNetworkPolicySpec>,
        Kind::GlobalNetworkSet => of_kind::<GlobalNetworkSetSpec>,
        Kind::CalicoNodeStatus => of_kind::<CalicoNodeStatusSpec>,
        Kind::HostEndpoint => of_kind::<HostEndpointSpec>,
        Kind::IPAMConfiguration => of_kind::<IPAMConfigurationSpec>,
        Kind::IPPool => of_kind::<IPPoolSpec>,
        Kind::IPReservation => of_kind::<IPReservationSpec>,
        Kind::KubeControllersConfiguration => of_kind::<KubeControllersConfigurationSpec>,
        Kind::NetworkPolicy => of_kind::<NetworkPolicySpec>,
        Kind::NetworkSet => of_kind::<NetworkSetSpec>,
        Kind::StagedGlobalNetworkPolicy => of_kind::<GlobalNetworkPolicySpec>,
        Kind::StagedNetworkPolicy => of_kind::<NetworkPolicySpec>,
        Kind::Tier => of_kind::<TierSpec>,
        // Passed through as JSON.
        Kind::StagedKubernetesNetworkPolicy => return None,
        // A record: below.
        Kind::BlockAffinity => return None,
        // Kubernetes' own objects.
        Kind::Node
        | Kind::Profile
        | Kind::WorkloadEndpoint
        | Kind::KubernetesClusterNetworkPolicy
        | Kind::KubernetesEndpointSlice
        | Kind::KubernetesNetworkPolicy
        | Kind::KubernetesSecret
        | Kind::KubernetesService => return None,
    })
}

/// The schemas of a group by the kind that its definition names.
fn schemas(group: Group) -> BTreeMap<String, Value> {
    let by_kind = |definition: Value| {
        let kind = definition["spec"]["names"]["kind"].as_str().expect("a kind").to_owned();
        (kind, definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone())
    };
    definitions(group).into_iter().map(|(_, definition)| by_kind(definition)).collect()
}

/// What a definition's kind is called in a group.
fn schema(schemas: &BTreeMap<String, Value>, group: Group, kind: Kind) -> &Value {
    let name = match (group, kind) {
        (Group::V1, Kind::IPAMConfiguration) => "IPAMConfig",
        (_, kind) => kind.name(),
    };
    schemas.get(name).unwrap_or_else(|| panic!("{name} has no definition"))
}

#[test]
fn every_field_of_every_type_is_in_the_schemas() {
    for group in [Group::V1, Group::V3] {
        let schemas = schemas(group);
        let kinds = Kind::ALL.iter().filter_map(|kind| Some((*kind, comparison(*kind)?)));
        let found: Vec<String> =
            kinds.flat_map(|(kind, compare)| compare(schema(&schemas, group, kind))).collect();
        assert!(found.is_empty(), "{group:?}: add to crates/xtask/src/crds: {}", found.join(", "));
    }
    let policy = &schemas(Group::V1)["ClusterNetworkPolicy"]["properties"]["spec"];
    let found: Vec<String> = only_in_type::<ClusterNetworkPolicyRules>("spec", policy).into_iter().collect();
    // One type of rule and one of peer serve both directions.
    let other_direction = [
        "spec.egress[].from",
        "spec.ingress[].from[].networks",
        "spec.ingress[].to",
        "spec.subject.networks",
    ];
    assert_eq!(found, other_direction);
}

#[test]
fn a_field_that_was_forgotten_is_found() {
    let mut schema = schemas(Group::V3)["NetworkPolicy"].clone();
    let rule = "/properties/spec/properties/ingress/items/properties";
    for (place, field) in [
        ("/properties/spec/properties".to_owned(), "order"),
        (format!("{rule}/source/properties"), "notNets"),
        (format!("{rule}/http/properties/paths/items/properties"), "prefix"),
    ] {
        let properties = schema.pointer_mut(&place).and_then(Value::as_object_mut).expect("properties");
        assert!(properties.remove(field).is_some(), "{place} has no {field}");
    }
    let found: Vec<String> = of_kind::<NetworkPolicySpec>(&schema).into_iter().collect();
    assert_eq!(
        found,
        [
            "NetworkPolicy.spec.ingress[].http.paths[].prefix",
            "NetworkPolicy.spec.ingress[].source.notNets",
            "NetworkPolicy.spec.order"
        ]
    );
}

/// IPAM's records keep what they do not know, so their types do not say their fields; these have all of them.
fn records() -> Vec<(Key, bytes::Bytes)> {
    let cidr: calico_net::Cidr = "10.65.0.0/26".parse().expect("a prefix");
    let owner = AffinityOwner::Host("n".into());
    let other = indexmap::IndexMap::new;
    let labels = || Some(std::sync::Arc::new(Labels::from([("node".into(), "n".into())])));
    let block = IpamBlock {
        cidr,
        affinity: Some(owner.clone()),
        affinity_claim_time: Some("2026-01-02T03:04:05Z".into()),
        allocations: vec![Some(0)],
        unallocated: vec![1],
        attributes: vec![AllocationAttribute {
            handle_id: Some("h".into()),
            secondary: labels(),
            alternate_owner_attrs: labels(),
            released_at: Some("2026-01-02T03:04:05Z".into()),
            other: other(),
        }],
        sequence_number: 1,
        sequence_number_for_allocation: [(0, 1)].into(),
        deleted: true,
        // Old writers' in etcd, before there were custom resources: none has it.
        host_affinity: None,
        other: other(),
    };
    let affinity = BlockAffinity { state: AffinityState::Pending, deleted: true, other: other() };
    let handle = IpamHandle { block: [(cidr, 1)].into(), deleted: true, other: other() };
    let config = IpamConfig {
        strict_affinity: true,
        auto_allocate_blocks: true,
        max_blocks_per_host: 1,
        kube_virt_vm_address_persistence: Some("Enabled".into()),
        ip_cooldown_seconds: 1,
        other: other(),
    };
    vec![
        (Key::Block(cidr), encode_record(&block)),
        (Key::Affinity { owner, block: cidr }, encode_record(&affinity)),
        (Key::Handle("h".into()), encode_record(&handle)),
        (Key::IpamConfig, encode_record(&config)),
    ]
}

/// The members of a value that its schema has not.
fn pruned(place: &str, value: &Value, schema: &Value, found: &mut Vec<String>) {
    let none = Map::new();
    let properties = schema.get("properties").and_then(Value::as_object).unwrap_or(&none);
    for (name, member) in value.as_object().into_iter().flatten() {
        match schema.get("additionalProperties").or_else(|| properties.get(name)) {
            Some(schema) => pruned(&format!("{place}.{name}"), member, schema, found),
            None => found.push(format!("{place}.{name}")),
        }
    }
    for item in value.as_array().into_iter().flatten() {
        pruned(&format!("{place}[]"), item, &schema["items"], found);
    }
}

#[test]
fn every_field_of_every_record_is_in_the_schemas() {
    for (group, api_group) in [(Group::V1, ApiGroup::CrdV1), (Group::V3, ApiGroup::ProjectCalicoV3)] {
        let schemas = schemas(group);
        let mut found = Vec::new();
        for (key, value) in records() {
            let object = crd::object(api_group, &key, &value, None, None).expect("a custom resource");
            let kind = object["kind"].as_str().expect("a kind");
            let specification = &schemas[kind]["properties"]["spec"];
            pruned(&format!("{kind}.spec"), &object["spec"], specification, &mut found);
        }
        assert!(found.is_empty(), "{group:?}: add to crates/xtask/src/crds/ipam.rs: {}", found.join(", "));
    }
    let mut found = Vec::new();
    pruned("x", &json!({"a": [{"b": 1}]}), &json!({"properties": {"a": {"items": {}}}}), &mut found);
    assert_eq!(found, ["x.a[].b"]);
}
