//! What ADD stores is what Calico stores, byte for byte but for random and clock.

use calico_api::{IpamBlock, Key, Kind, Selection, decode_record};
use calico_net::Family;
use serde_json::Value;

use crate::world::{Container, NETWORK, addresses, conf, conf_with, on_host, reference};

/// The value of a key of the reference data.
fn sample(text: &str, key: &str) -> String {
    let mut lines = text.lines().skip_while(|line| *line != key);
    lines.nth(1).unwrap_or_else(|| panic!("no {key} in the reference data")).to_owned()
}

/// Puts our own values where any value would do.
fn with_ours(sample: &str, ours: &str, paths: &[&[&str]]) -> String {
    let (mut expected, ours): (Value, Value) =
        (serde_json::from_str(sample).unwrap(), serde_json::from_str(ours).unwrap());
    for path in paths {
        let pointer: String = path.iter().map(|p| format!("/{p}")).collect();
        *expected.pointer_mut(&pointer).unwrap() = ours.pointer(&pointer).unwrap().clone();
    }
    expected.to_string()
}

#[test]
fn endpoint_handle_profile_and_block_are_calicos() {
    on_host(async |world| {
        let Some(reference) = reference("etcd-samples.txt") else { return };
        let container = Container::new("fullcont-1");
        let only_v4 = conf_with(serde_json::json!({"ipam": {"type": "calico-ipam"}}));
        let result = world.add(&container, &only_v4).await;
        let stored = async |key: Key| {
            let entry = world.store.get(&key).await.unwrap().unwrap();
            (key.to_string(), String::from_utf8(entry.value.to_vec()).unwrap())
        };
        let random: [&[&str]; 2] = [&["metadata", "uid"], &["metadata", "creationTimestamp"]];
        let endpoint = Key::resource(Kind::WorkloadEndpoint, "default", "host1-cni-fullcont--1-eth0");
        let (key, ours) = stored(endpoint).await;
        let paths = [random[0], random[1], &["spec", "ipNetworks"], &["spec", "mac"]];
        assert_eq!(ours, with_ours(&sample(&reference, &key), &ours, &paths));
        let address = addresses(&result).remove(0);
        let ours: Value = serde_json::from_str(&ours).unwrap();
        assert_eq!(ours["spec"]["ipNetworks"], serde_json::json!([format!("{address}/32")]));
        assert_eq!(ours["spec"]["mac"], result["interfaces"][1]["mac"]);

        let (key, ours) = stored(Key::resource(Kind::Profile, "", NETWORK)).await;
        assert_eq!(ours, with_ours(&sample(&reference, &key), &ours, &random));

        let (key, ours) = stored(Key::Handle(format!("{NETWORK}.fullcont-1").into())).await;
        let expected = sample(&reference, &key)
            .replace("10.244.119.0/26", &block_of(&world.store).await.cidr.to_string());
        assert_eq!(ours, expected);

        let attribute = serde_json::to_value(&block_of(&world.store).await.attributes[0]).unwrap();
        assert_eq!(attribute["handle_id"], format!("{NETWORK}.fullcont-1"));
        let secondary = attribute["secondary"].as_object().unwrap();
        assert_eq!(secondary.keys().collect::<Vec<_>>(), ["node", "timestamp"]);
        assert!(secondary["timestamp"].as_str().unwrap().ends_with(" +0000 UTC"), "{secondary:?}");
    });
}

async fn block_of(store: &std::sync::Arc<dyn calico_store::Store>) -> IpamBlock {
    let listing = store.list(&Selection::Blocks(Family::V4)).await.unwrap();
    assert_eq!(listing.entries.len(), 1);
    decode_record(&listing.entries[0]).unwrap()
}

#[test]
fn a_pods_records_name_the_pod() {
    on_host(async |world| {
        world.add(&Container::of_pod("sandbox-1", "web-0"), &conf()).await;
        let endpoint = world.endpoints().await.remove(0);
        assert_eq!(endpoint.metadata.name, "host1-k8s-web--0-eth0");
        assert_eq!(endpoint.metadata.namespace, "ns1");
        assert_eq!((endpoint.spec.pod.as_str(), endpoint.spec.orchestrator.as_str()), ("web-0", "k8s"));
        assert_eq!(endpoint.metadata.labels["projectcalico.org/orchestrator"], "k8s");
        let block = block_of(&world.store).await;
        let attribute = serde_json::to_value(&block.attributes[0]).unwrap();
        assert_eq!(attribute["secondary"]["pod"], "web-0");
        assert_eq!(attribute["secondary"]["namespace"], "ns1");
    });
}
