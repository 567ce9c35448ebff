//! Pods of Kubernetes: what their annotations ask for is what they get, and what is wrong leaves nothing.

use std::time::Duration;

use calico_api::{IPPoolSpec, Resource};
use calico_cni::arguments::Verb;
use calico_cni::context::Context;
use calico_cni::request::{PROTOCOL, Plugin, Request};
use calico_cni::{gate, work};
use serde_json::{Value, json};

use crate::world::{Container, NODE, World, addresses, conf_with, on_host};

/// A configuration for pods; members of `ipam` besides.
fn conf(members: Value, ipam: Value) -> Value {
    let mut conf = conf_with(members);
    conf["policy"] = json!({"type": "k8s"});
    conf["ipam"].as_object_mut().unwrap().extend(ipam.as_object().unwrap().clone());
    conf
}

fn plain() -> Value {
    conf(json!({}), json!({"assign_ipv6": "false"}))
}

/// ADD of a pod with annotations: its addresses.
async fn add(world: &World, id: &str, conf: &Value, pod: Value, namespace: Value) -> Vec<String> {
    world.kubernetes.put_pod("web", pod, namespace);
    let container = Container::of_pod(id, "web");
    let result = world.add(&container, conf).await;
    assert_eq!(world.check(&container, conf).await, Ok(()));
    let got = addresses(&result);
    world.del(&container, conf).await;
    got
}

#[test]
fn the_endpoint_is_the_pods() {
    on_host(async |world| {
        world.kubernetes.put_pod(
            "web",
            json!({
                "cni.projectcalico.org/hwAddr": "1c:0c:0a:c0:ff:ee",
                "cni.projectcalico.org/floatingIPs": "[\"192.0.2.9\"]",
                "cni.projectcalico.org/allowedSourcePrefixes": "[\"10.1.0.0/16\"]",
            }),
            json!({}),
        );
        let conf = conf(json!({"feature_control": {"floating_ips": true}}), json!({"assign_ipv6": "false"}));
        let container = Container::of_pod("sandbox", "web");
        let result = world.add(&container, &conf).await;
        assert_eq!(result["interfaces"][1]["mac"], "1c:0c:0a:c0:ff:ee");
        assert!(container.ip(&["link", "show", "eth0"]).contains("1c:0c:0a:c0:ff:ee"));
        let address = &addresses(&result)[0];
        let endpoint = serde_json::to_value(&world.endpoints().await[0]).unwrap();
        assert_eq!(endpoint["metadata"]["name"], "host1-k8s-web-eth0");
        assert_eq!(
            endpoint["metadata"]["labels"],
            json!({
                "app": "web",
                "projectcalico.org/namespace": "ns1",
                "projectcalico.org/orchestrator": "k8s",
                "projectcalico.org/serviceaccount": "robot",
            })
        );
        assert_eq!(
            endpoint["spec"],
            json!({
                "orchestrator": "k8s",
                "node": NODE,
                "containerID": "sandbox",
                "pod": "web",
                "endpoint": "eth0",
                "serviceAccountName": "robot",
                "ipNetworks": [format!("{address}/32")],
                "ipNATs": [{"internalIP": address, "externalIP": "192.0.2.9"}],
                "profiles": ["kns.ns1", "ksa.ns1.robot"],
                "interfaceName": result["interfaces"][0]["name"],
                "mac": "1c:0c:0a:c0:ff:ee",
                "ports": [{"name": "http", "protocol": "TCP", "port": 80, "hostPort": 0, "hostIP": ""}],
                "allowSpoofedSourcePrefixes": ["10.1.0.0/16"],
            })
        );
        // An ADD again, after the pod's labels have changed, describes it anew and keeps its address.
        world.kubernetes.put_pod("web", json!({}), json!({}));
        let again = world.add(&container, &conf).await;
        assert_eq!(&addresses(&again)[0], address);
        let endpoint = serde_json::to_value(&world.endpoints().await[0]).unwrap();
        assert_eq!(endpoint["spec"].get("ipNATs"), None, "what it does not ask for any more is gone");
        let empty = world.footprint().await;
        world.del(&container, &conf).await;
        assert_ne!(world.footprint().await, empty);
        assert_eq!(world.endpoints().await, []);
    });
}

#[test]
fn a_late_sandbox_of_a_pod_that_was_replaced_takes_nothing_from_the_new_one() {
    on_host(async |world| {
        world.kubernetes.put_pod("web", json!({}), json!({}));
        let of = |id: &str, uid: &str| {
            let mut container = Container::of_pod(id, "web");
            container.args += &format!(";K8S_POD_UID={uid}");
            container
        };
        let current = of("new", "uid-web");
        world.add(&current, &plain()).await;
        let before = world.footprint().await;
        // The runtime began it when the pod of this name was another.
        let error = world.run(Verb::Add, &of("old", "uid-before"), &plain()).await.unwrap_err();
        assert!(error.details.contains("uid-before") && error.details.contains("uid-web"), "{error}");
        assert_eq!(world.footprint().await, before);
        assert_eq!(world.check(&current, &plain()).await, Ok(()));
        // A pod of a file has a mirror in the API, with a UID of its own.
        let mirror = json!({"kubernetes.io/config.mirror": "uid-of-file"});
        world.kubernetes.put_pod("web", mirror, json!({}));
        world.add(&of("static", "uid-of-file"), &plain()).await;
    });
}

#[test]
fn pools_and_families_are_the_pods_then_the_namespaces() {
    on_host(async |world| {
        world.add_pool("small4", "10.66.0.0/24").await;
        world.add_pool("other4", "10.67.0.0/24").await;
        let in_small = json!({"cni.projectcalico.org/ipv4pools": "[\"small4\"]"});
        let in_other = json!({"cni.projectcalico.org/ipv4pools": "[\"10.67.0.0/24\"]"});
        let of_conf = conf(json!({}), json!({"assign_ipv6": "false", "ipv4_pools": ["pool4"]}));
        let begins = |got: Vec<String>, prefix: &str| {
            assert!(got.len() == 1 && got[0].starts_with(prefix), "{got:?}, not {prefix}");
        };
        begins(add(&world, "c1", &of_conf, json!({}), json!({})).await, "10.65.");
        begins(add(&world, "c2", &of_conf, json!({}), in_small.clone()).await, "10.66.");
        begins(add(&world, "c3", &of_conf, in_other, in_small).await, "10.67.");
        let six = json!({"cni.projectcalico.org/ipFamilies": "[\"IPv6\"]"});
        begins(add(&world, "c4", &plain(), six.clone(), json!({})).await, "fd00:65::");
        let both = json!({"cni.projectcalico.org/ipFamilies": "[\"IPv4\", \"IPv6\"]"});
        assert_eq!(add(&world, "c5", &plain(), both, six).await.len(), 2);
    });
}

#[test]
fn a_pool_for_namespaces_is_for_those_alone() {
    on_host(async |world| {
        let pool = |name: &str, cidr: &str, selector: &str| {
            let spec = json!({"cidr": cidr, "namespaceSelector": selector});
            Resource::new("", name, serde_json::from_value::<IPPoolSpec>(spec).unwrap())
        };
        world.put(pool("pool4", "10.65.0.0/24", "team == 'y'")).await;
        world.put(pool("theirs", "10.66.0.0/24", "team == 'x'")).await;
        let got = add(&world, "c1", &plain(), json!({}), json!({})).await;
        assert!(got[0].starts_with("10.66."), "{got:?}");
    });
}

#[test]
fn a_pod_that_insists_on_its_address_gets_it_from_sandbox_to_sandbox() {
    on_host(async |world| {
        let wanted = json!({"cni.projectcalico.org/ipAddrs": "[\"10.65.0.77\", \"fd00:65::77\"]"});
        world.kubernetes.put_pod("web", wanted, json!({}));
        let (old, new) = (Container::of_pod("old", "web"), Container::of_pod("new", "web"));
        for container in [&old, &new] {
            let result = world.add(container, &plain()).await;
            assert_eq!(addresses(&result), ["10.65.0.77", "fd00:65::77"]);
            assert_eq!(world.check(container, &plain()).await, Ok(()));
        }
        let after = world.footprint().await;
        world.del(&old, &plain()).await;
        assert_eq!(
            world.footprint().await,
            after,
            "a late DEL of the old sandbox takes nothing from the new one"
        );
        // Another pod cannot have it.
        world.kubernetes.put_pod(
            "thief",
            json!({"cni.projectcalico.org/ipAddrs": "[\"10.65.0.77\"]"}),
            json!({}),
        );
        let thief = Container::of_pod("thief", "thief");
        let error = world.run(Verb::Add, &thief, &plain()).await.unwrap_err();
        assert!(error.to_string().contains("10.65.0.77"), "{error}");
        assert_eq!(world.footprint().await, after);
        world.del(&new, &plain()).await;
        assert_eq!(world.footprint().await.assigned.len(), 0);
    });
}

#[test]
fn addresses_without_ipam_are_used_as_they_are() {
    on_host(async |world| {
        let conf = conf(json!({"feature_control": {"ip_addrs_no_ipam": true}}), json!({}));
        let wanted = json!({"cni.projectcalico.org/ipAddrsNoIpam": "[\"198.51.100.7\"]"});
        assert_eq!(add(&world, "c1", &conf, wanted, json!({})).await, ["198.51.100.7"]);
        assert_eq!(world.footprint().await.handles.len(), 0);
    });
}

#[test]
fn what_may_not_be_asked_for_leaves_nothing() {
    on_host(async |world| {
        let before = world.footprint().await;
        let refused = async |pod: Value, words: &str| {
            world.kubernetes.put_pod("web", pod, json!({}));
            let container = Container::of_pod("c1", "web");
            let error = world.run(Verb::Add, &container, &plain()).await.unwrap_err();
            assert!(error.to_string().contains(words), "{error}");
            assert_eq!(world.footprint().await, before);
        };
        refused(
            json!({"cni.projectcalico.org/floatingIPs": "[\"192.0.2.9\"]"}),
            "feature_control.floating_ips",
        )
        .await;
        let verbatim = json!({"cni.projectcalico.org/ipAddrsNoIpam": "[\"192.0.2.9\"]"});
        refused(verbatim, "feature_control.ip_addrs_no_ipam").await;
        refused(json!({"cni.projectcalico.org/ipv4pools": "[\"none\"]"}), "cni.projectcalico.org/ipv4pools")
            .await;
        refused(json!({"cni.projectcalico.org/ipAddrs": "[\"192.0.2.9\"]"}), "192.0.2.9").await;
        let stranger = Container::of_pod("c2", "stranger");
        let error = world.run(Verb::Add, &stranger, &plain()).await.unwrap_err();
        assert!(error.to_string().contains("there is no /api/v1/namespaces/ns1/pods/stranger"), "{error}");
    });
}

#[test]
fn a_gate_that_stays_closed_undoes_the_add() {
    on_host(async |world| {
        let patience = gate::Patience { poll: Duration::from_millis(10), whole: Duration::from_millis(50) };
        let context = Context {
            kubernetes: Some(world.kubernetes.clone()),
            gates: patience,
            ..Context::new(world.store.clone(), NODE, "cali", world.context.live.clone())
        };
        // Nobody listens there.
        let conf = conf(json!({"readiness_gates": ["http://127.0.0.1:9/ready"]}), json!({}));
        world.kubernetes.put_pod("web", json!({}), json!({}));
        let before = world.footprint().await;
        let container = Container::of_pod("c1", "web");
        let arguments = container.arguments(Verb::Add);
        let request = Request { protocol: PROTOCOL, plugin: Plugin::Network, arguments, netconf: conf };
        let error = work::perform(&context, request, container.descriptor()).await.unwrap_err();
        assert_eq!(error.code, 11, "{error}");
        assert!(error.details.starts_with("http://127.0.0.1:9/ready: "), "{error}");
        assert_eq!(world.footprint().await, before);
    });
}

#[test]
fn host_local_takes_the_nodes_pod_cidr() {
    if !std::path::Path::new("/usr/lib/cni/host-local").exists() {
        println!("skipped: no host-local in /usr/lib/cni");
        return;
    }
    on_host(async |world| {
        let data = world.dir.path().join("networks");
        let mut conf = conf_with(json!({
            // Debian's host-local speaks 1.0.0.
            "cniVersion": "1.0.0",
            "policy": {"type": "k8s"},
            "ipam": {"type": "host-local", "subnet": "usePodCidr", "dataDir": data.to_str().unwrap()},
        }));
        world.kubernetes.put_pod("web", json!({}), json!({}));
        let container = Container::of_pod("c1", "web");
        world.kubernetes.put(&format!("/api/v1/nodes/{NODE}"), json!({"spec": {}}));
        let error = world.run(Verb::Add, &container, &conf).await.unwrap_err();
        assert!(error.to_string().contains("node host1 has none of IPv4"), "{error}");

        world.kubernetes.put(&format!("/api/v1/nodes/{NODE}"), json!({"spec": {"podCIDR": "10.70.3.0/24"}}));
        conf["ipam"]["routes"] = json!([{"dst": "10.70.0.0/16"}]);
        let result = world.add(&container, &conf).await;
        assert_eq!(addresses(&result), ["10.70.3.2"]);
        let routes = container.ip(&["-4", "route"]);
        assert!(routes.contains("10.70.0.0/16 via 169.254.1.1") && !routes.contains("default"), "{routes}");
        // The second sandbox's routes: the defaults too.
        conf["include_default_routes"] = true.into();
        let second = Container::of_pod("c2", "web");
        world.add(&second, &conf).await;
        let routes = second.ip(&["-4", "route"]);
        assert!(routes.contains("10.70.0.0/16 via 169.254.1.1") && routes.contains("default"), "{routes}");
        // DEL needs no API.
        for container in [&container, &second] {
            world.del(container, &conf).await;
        }
        let left = std::fs::read_dir(data.join(crate::world::NETWORK)).unwrap();
        let left: Vec<_> =
            left.map(|e| e.unwrap().file_name()).filter(|n| n.to_string_lossy().starts_with("10.")).collect();
        assert!(left.is_empty(), "{left:?}");
    });
}
