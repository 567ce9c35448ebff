//! CHECK finds each kind of damage by name; STATUS says whether ADD would work.

use calico_api::{Key, Kind};
use calico_cni::arguments::Verb;
use calico_cni::request::Plugin;
use serde_json::{Value, json};

use crate::world::{Container, NETWORK, World, addresses, conf, conf_with, ip, on_host};

/// One kind of damage: what is done, and what CHECK then says, with `{4}` and `{6}` for the addresses.
enum Damage {
    Host(&'static str),
    Inside(&'static str),
    Endpoint,
    Addresses,
}

#[test]
fn each_kind_of_damage_is_found() {
    on_host(async |world| {
        use Damage::{Addresses, Endpoint, Host, Inside};
        for (damage, expected) in [
            (Endpoint, "there is no endpoint host1-cni-c1-eth0"),
            (Addresses, "IPAM has not assigned its addresses to k8s-pod-network.c1"),
            (Host("link del calic1"), "the host has no interface calic1"),
            (Host("route del {4} dev calic1"), "the host has no route to {4} over calic1"),
            (Host("-6 route del {6} dev calic1"), "the host has no route to {6} over calic1"),
            (Host("link set calic1 down"), "the host has no route to {4} over calic1"),
            (Inside("addr del {4}/32 dev eth0"), "{4} is not on eth0 in the container"),
            (Inside("addr del {6}/128 dev eth0"), "{6} is not on eth0 in the container"),
            (Inside("route del default"), "the container has no route to 0.0.0.0/0 through 169.254.1.1"),
            (
                Inside("-6 route del default"),
                "the container has no route to ::/0 through fe80::ecee:eeff:feee:eeee",
            ),
        ] {
            let container = Container::new("c1");
            let result = world.add(&container, &conf()).await;
            assert_eq!(world.check(&container, &conf()).await, Ok(()));
            let [v4, v6] = <[String; 2]>::try_from(addresses(&result)).unwrap();
            let fill = |text: &str| text.replace("{4}", &v4).replace("{6}", &v6);
            let run =
                |command: &str, run: &dyn Fn(&[&str])| run(&fill(command).split(' ').collect::<Vec<_>>());
            match &damage {
                Host(command) => run(command, &|c| drop(ip(c))),
                Inside(command) => run(command, &|c| drop(container.ip(c))),
                Endpoint => {
                    world.delete(&Key::resource(Kind::WorkloadEndpoint, "default", "host1-cni-c1-eth0")).await
                }
                Addresses => {
                    drop(calico_cni::address::release(&world.context, &format!("{NETWORK}.c1")).await)
                }
            }
            let error = world.check(&container, &conf()).await.expect_err(expected);
            assert_eq!((error.code, error.details), (3, fill(expected)));
            world.del(&container, &conf()).await;
        }
    });
}

#[test]
fn another_sandbox_or_result_is_not_the_one_attached() {
    on_host(async |world| {
        let container = Container::of_pod("new", "pod");
        let mut result = world.add(&container, &conf()).await;
        assert_eq!(world.check(&container, &conf_with(json!({"prevResult": result}))).await, Ok(()));
        let old = Container::of_pod("old", "pod");
        assert_eq!(
            world.check(&old, &conf()).await.unwrap_err().details,
            "the endpoint belongs to container new"
        );
        let elsewhere = Container::of_pod("new", "pod");
        assert_eq!(
            world.check(&elsewhere, &conf()).await.unwrap_err().details,
            "the container has no interface eth0"
        );
        result["ips"][0]["address"] = "192.0.2.1/32".into();
        let error = world.check(&container, &conf_with(json!({"prevResult": result}))).await.unwrap_err();
        assert_eq!(error.details, "the endpoint does not have 192.0.2.1");
        let error =
            world.check(&container, &conf_with(json!({"prevResult": {"ips": [{}]}}))).await.unwrap_err();
        assert_eq!((error.code, error.details.as_str()), (7, "prevResult is not a CNI result"));
    });
}

async fn status(world: &World, plugin: Plugin, conf: &Value) -> Result<(), u32> {
    let arguments = Container::new("unused").arguments(Verb::Status);
    world.perform(plugin, arguments, conf, None).await.map(drop).map_err(|e| e.code)
}

#[test]
fn a_locked_datastore_stops_everything() {
    on_host(async |world| {
        let container = Container::new("c1");
        world.add(&container, &conf()).await;
        assert_eq!(status(&world, Plugin::Network, &conf()).await, Ok(()));
        let attached = world.footprint().await;
        world.set_ready(false).await;
        for verb in [Verb::Add, Verb::Del, Verb::Gc] {
            let conf = conf_with(json!({"cni.dev/valid-attachments": []}));
            let error = world.run(verb, &container, &conf).await.expect_err("locked");
            assert_eq!(error.code, 11, "{verb:?}: {error}");
            assert_eq!(error.msg, "Calico is currently not ready to process requests");
        }
        assert_eq!(status(&world, Plugin::Network, &conf()).await, Err(50));
        assert_eq!(world.footprint().await, attached);
        world.delete(&Key::resource(Kind::ClusterInformation, "", "default")).await;
        let error = world.run(Verb::Add, &container, &conf()).await.expect_err("no cluster");
        assert_eq!((error.code, error.msg.as_str()), (11, "the cluster is not set up yet"));
        world.set_ready(true).await;
        world.del(&container, &conf()).await;
    });
}
