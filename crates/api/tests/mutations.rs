//! Keys, stored values and files from bad bytes: no panic, and what is read is written and read as the same.

#![allow(clippy::unwrap_used, reason = "a test: what cannot be ends it")]

use calico_api::felix_config::resolve::file_settings;
use calico_api::felix_config::{TABLE, parse, resolve};
use calico_api::ipam::Record;
use calico_api::{
    AnyResource, BlockAffinity, Entry, IpamBlock, IpamConfig, IpamHandle, Key, Kind, Revision, Scope,
    decode_record, defaults, encode_record, parse_documents, validate,
};
use calico_testkit::mutation::{mutations, text_mutations};

fn entry(key: &str, value: &[u8]) -> Entry {
    Entry { key: Key::parse(key).unwrap(), value: value.to_vec().into(), revision: Revision::from(1) }
}

#[test]
fn keys_survive_bad_text() {
    let seeds: &[&[u8]] = &[
        b"/calico/resources/v3/projectcalico.org/networkpolicies/ns/a.b",
        b"/calico/resources/v3/projectcalico.org/nodes/n",
        b"/calico/ipam/v2/assignment/ipv6/block/fd00::-122",
        b"/calico/ipam/v2/virtual/lb/ipv4/block/10.0.0.0-26",
        b"/calico/ipam/v2/handle/a/b",
        b"/calico/felix/v2/no-region/host/n/workload/k8s/ns%2fpod/endpoint/e%25th0",
        b"/calico/felix/v1/host/n/endpoint/eth0",
    ];
    let mut read = 0;
    for text in text_mutations(seeds, 10_000, 2) {
        let Ok(key) = Key::parse(&text) else { continue };
        assert_eq!(Key::parse(&key.to_string()), Ok(key), "{text:?}");
        read += 1;
    }
    assert!(read > 200, "only {read}");
}

fn records<R: Record + PartialEq + std::fmt::Debug>(key: &str, seed: &[u8]) {
    let mut read = 0;
    for value in mutations(&[seed], 3_000, 3) {
        let Ok(record) = decode_record::<R>(&entry(key, &value)) else { continue };
        let again = decode_record::<R>(&entry(key, &encode_record(&record))).unwrap();
        assert_eq!(again, record, "{}", String::from_utf8_lossy(&value));
        read += 1;
    }
    assert!(read > 100, "only {read}");
}

#[test]
fn records_survive_bad_bytes() {
    records::<IpamBlock>(
        "/calico/ipam/v2/assignment/ipv4/block/10.0.0.0-30",
        br#"{"cidr":"10.0.0.0/30","affinity":"host:n","allocations":[0,null],"unallocated":[1],"attributes":[{"handle_id":"h"}],"sequenceNumber":5,"x":1}"#,
    );
    let affinity = "/calico/ipam/v2/host/n/ipv4/block/10.0.0.0-30";
    records::<BlockAffinity>(affinity, br#"{"state":"pending","deleted":"false","x":[1]}"#);
    records::<IpamHandle>("/calico/ipam/v2/handle/h", br#"{"block":{"10.0.0.0/26":2},"deleted":false}"#);
    records::<IpamConfig>("/calico/ipam/v2/config", br#"{"strict_affinity":true,"maxBlocksPerHost":20}"#);
}

/// What we do not understand is written back as it was: not a digit changes, however often.
#[test]
fn numbers_of_unknown_fields_come_back_exactly() {
    let long = format!("{{\"x\":30{},\"y\":0.1,\"z\":1.7976931348623157e308}}", "2".repeat(121));
    let first: IpamConfig = decode_record(&entry("/calico/ipam/v2/config", long.as_bytes())).unwrap();
    let again: IpamConfig = decode_record(&entry("/calico/ipam/v2/config", &encode_record(&first))).unwrap();
    assert_eq!(again, first);
}

const POLICY: &[u8] = br#"{"kind":"K","apiVersion":"projectcalico.org/v3","metadata":{"name":"a.b","labels":{"a":"b"},
"annotations":{"projectcalico.org/metadata":"{\"name\":\"a.b\"}"}},"spec":{"order":10,"tier":"t","selector":"all()",
"cidr":"10.0.0.0/8","ingress":[{"action":"Allow","protocol":"TCP","source":{"nets":["10.0.0.0/8"],"ports":[80,"1:2"]}}]}}"#;

#[test]
fn stored_resources_survive_bad_bytes() {
    let mut read = 0;
    for (number, value) in mutations(&[POLICY], 3_000, 4).enumerate() {
        let kind = Kind::ALL[number % Kind::ALL.len()];
        let namespace = if kind.scope() == Scope::Namespaced { "ns" } else { "" };
        let key = Key::resource(kind, namespace, "a.b");
        let stored = Entry { key, value: value.into(), revision: Revision::from(1) };
        let Ok(resource) = AnyResource::decode(&stored) else { continue };
        let again = |value| {
            let again = AnyResource::decode(&Entry { value, ..stored.clone() }).unwrap();
            // Kinds with a status are stored with one.
            let status = if resource.status.is_none() { None } else { again.status.clone() };
            AnyResource { status, ..again }
        };
        assert_eq!(again(resource.encode()), resource);
        assert_eq!(again(resource.merge_into(&stored).unwrap()), resource);
        let _ = validate(&resource);
        read += 1;
    }
    assert!(read > 250, "only {read}");
}

#[test]
fn files_and_options_survive_bad_text() {
    let file: &[u8] = b"apiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata:\n  name: x\nspec:\n  order: 1\n\
        \x20 selector: has(x)\n  ingress:\n  - action: Allow\n    protocol: TCP\n    destination:\n      ports: [80, '1:2']\n---\n";
    for text in text_mutations(&[file, POLICY], 1_000, 5) {
        for mut resource in parse_documents(&text).unwrap_or_default() {
            defaults::apply(&mut resource);
            let _ = validate(&resource);
        }
    }
    let options: &[u8] = b"[global]\nLogSeverityScreen = Debug\nIptablesMarkMask=0xff0000\nFailsafeInboundHostPorts=tcp:22,udp:10.0.0.0/8:53\n\
        RouteTableRanges=1-250\nRouteRefreshInterval=1.5\nInterfaceExclude=eth0,/^x/\n";
    for (number, text) in text_mutations(&[options], 1_000, 6).enumerate() {
        let _ = resolve(file_settings(&text).0);
        let _ = parse::parse(&TABLE[number % TABLE.len()], text.lines().next_back().unwrap_or_default());
    }
}
