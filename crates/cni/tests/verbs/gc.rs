//! GC removes what belongs to no valid attachment of its network on this node, and nothing else.

use calico_api::workload_endpoint::WorkloadEndpointSpec;
use calico_api::{Key, Kind, Resource};
use calico_cni::arguments::Verb;
use calico_cni::request::Plugin;
use serde_json::{Value, json};

use crate::world::{Container, NETWORK, NODE, World, conf, conf_with, ip, on_host};

fn conf_valid(valid: &[&str]) -> Value {
    let list: Vec<Value> = valid.iter().map(|id| json!({"containerID": id, "ifname": "eth0"})).collect();
    conf_with(json!({"cni.dev/valid-attachments": list}))
}

async fn gc(world: &World, plugin: Plugin, conf: &Value) {
    let arguments = Container::new("unused").arguments(Verb::Gc);
    assert_eq!(world.perform(plugin, arguments, conf, None).await, Ok(None));
}

#[test]
fn what_is_valid_or_anothers_stays() {
    on_host(async |world| {
        let other = conf_with(json!({"name": format!("{NETWORK}.b")}));
        let (valid, neighbour) = (Container::of_pod("valid", "pod"), Container::new("neighbour"));
        world.add(&valid, &conf()).await;
        world.add(&neighbour, &other).await;
        // Another node's endpoint, and one that names an interface which is no workload's.
        ip(&["link", "add", "eth7", "type", "veth", "peer", "name", "wire"]);
        let endpoint = |node: &str, name: &str| {
            let spec = WorkloadEndpointSpec {
                node: node.into(),
                container_id: "gone".into(),
                orchestrator: "cni".into(),
                interface_name: "eth7".into(),
                profiles: vec![NETWORK.into()],
                ..WorkloadEndpointSpec::default()
            };
            Resource::new("default", name, spec)
        };
        world.put(endpoint("host2", "host2-cni-gone-eth0")).await;
        let keep = world.footprint().await;

        world.put(endpoint(NODE, "host1-cni-gone-eth0")).await;
        let stale = [Container::new("stale1"), Container::of_pod("stale2", "pod2")];
        for container in &stale {
            world.add(container, &conf()).await;
        }
        // One that died between addresses and endpoint.
        let half = Container::new("half").arguments(Verb::Add);
        world.perform(Plugin::Ipam, half, &conf(), None).await.unwrap();
        assert_eq!(world.footprint().await.assigned.len(), 10);

        gc(&world, Plugin::Network, &conf_valid(&["valid"])).await;
        assert_eq!(world.footprint().await, keep);
        assert_eq!(world.check(&valid, &conf()).await, Ok(()));
        assert_eq!(world.check(&neighbour, &other).await, Ok(()));
        gc(&world, Plugin::Network, &conf_valid(&["valid"])).await;
        assert_eq!(world.footprint().await, keep, "again changes nothing");
    });
}

#[test]
fn the_ipam_plugin_collects_addresses_alone() {
    on_host(async |world| {
        let container = Container::new("c1");
        world.add(&container, &conf()).await;
        gc(&world, Plugin::Ipam, &conf_valid(&["c1"])).await;
        assert_eq!(world.footprint().await.assigned.len(), 2);
        gc(&world, Plugin::Ipam, &conf_valid(&[])).await;
        let left = world.footprint().await;
        assert!(left.assigned.is_empty());
        assert_eq!(left.endpoints.len(), 1);
        let key = Key::resource(Kind::WorkloadEndpoint, "default", "host1-cni-c1-eth0");
        assert!(world.store.get(&key).await.unwrap().is_some());
    });
}

#[test]
fn without_a_list_nothing_is_removed() {
    on_host(async |world| {
        let container = Container::new("c1");
        world.add(&container, &conf()).await;
        let arguments = || container.arguments(Verb::Gc);
        assert_eq!(world.perform(Plugin::Network, arguments(), &conf(), None).await, Ok(None));
        assert_eq!(world.check(&container, &conf()).await, Ok(()));
        // Go writes an empty list as null.
        let null = conf_with(json!({"cni.dev/valid-attachments": null}));
        assert_eq!(world.perform(Plugin::Network, arguments(), &null, None).await, Ok(None));
        assert!(world.footprint().await.endpoints.is_empty());
    });
}
