//! ADD: what the container and the host have afterwards, repeated, in parallel, and failed half-way.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use calico_api::{Key, Kind, Selection, WorkloadEndpointSpec, decode};
use calico_cni::arguments::Verb;
use calico_cni::context::{Context, Expected, Live};
use calico_cni::version::SpecVersion;
use calico_linux::sysctl::Sysctl;
use futures::FutureExt;
use futures::future::{BoxFuture, join_all};
use serde_json::{Value, json};

use crate::world::{Container, NETWORK, NODE, World, addresses, conf, conf_with, ip, on_host};

/// Waits for nothing: what ADD promises is there when it answers.
fn assert_contains(text: &str, expected: &str) {
    assert!(text.contains(expected), "no {expected:?} in:\n{text}");
}

#[test]
fn container_and_host_have_all_of_both_families() {
    on_host(async |world| {
        let container = Container::new("fullcont-1");
        let result = world.add(&container, &conf()).await;
        let [v4, v6] = <[String; 2]>::try_from(addresses(&result)).unwrap();
        let mac = result["interfaces"][1]["mac"].as_str().unwrap();

        let link = container.ip(&["addr", "show", "eth0"]);
        assert_contains(&link, &format!("inet {v4}/32 "));
        assert_contains(&link, &format!("inet6 {v6}/128 "));
        assert_contains(&link, mac);
        assert_contains(&link, "mtu 1500");
        let routes = container.ip(&["-4", "route"]) + &container.ip(&["-6", "route"]);
        assert_contains(&routes, "default via 169.254.1.1 dev eth0");
        assert_contains(&routes, "169.254.1.1 dev eth0 scope link");
        assert_contains(&routes, "default via fe80::ecee:eeff:feee:eeee dev eth0");
        assert_contains(&routes, "fe80::ecee:eeff:feee:eeee dev eth0");
        assert_eq!(container.sysctl("net/ipv4/ip_forward"), "0");
        assert_eq!(container.sysctl("net/ipv6/conf/all/forwarding"), "0");
        assert_eq!(container.sysctl("net/ipv6/conf/eth0/disable_ipv6"), "0");

        assert_contains(&ip(&["link", "show", "califullcont-1"]), "link/ether ee:ee:ee:ee:ee:ee");
        assert_contains(&ip(&["-4", "route"]), &format!("{v4} dev califullcont-1 scope link"));
        assert_contains(&ip(&["-6", "route"]), &format!("{v6} dev califullcont-1 "));
        let sysctl = Sysctl::default();
        for (name, value) in [
            ("ipv4/conf/califullcont-1/proxy_arp", "1"),
            ("ipv4/conf/califullcont-1/route_localnet", "1"),
            ("ipv4/conf/califullcont-1/forwarding", "1"),
            ("ipv4/neigh/califullcont-1/proxy_delay", "0"),
            ("ipv6/conf/califullcont-1/proxy_ndp", "1"),
            ("ipv6/conf/califullcont-1/forwarding", "1"),
            ("ipv6/conf/califullcont-1/accept_ra", "0"),
        ] {
            assert_eq!(sysctl.read(&format!("net/{name}")).unwrap(), value, "{name}");
        }
        assert_eq!(world.check(&container, &conf()).await, Ok(()));

        let empty = world.footprint().await;
        assert_eq!(empty.assigned.len(), 2);
        world.del(&container, &conf()).await;
        assert!(
            container.netns.run(|| !std::path::Path::new("/proc/sys/net/ipv4/conf/eth0").exists()).unwrap()
        );
    });
}

#[test]
fn forwarding_and_mtu_are_as_configured() {
    on_host(async |world| {
        let container = Container::new("c1");
        let conf = conf_with(
            json!({"mtu": 1400, "num_queues": 2, "container_settings": {"allow_ip_forwarding": true}}),
        );
        world.add(&container, &conf).await;
        assert_eq!(container.sysctl("net/ipv4/ip_forward"), "1");
        assert_eq!(container.sysctl("net/ipv6/conf/all/forwarding"), "1");
        assert_contains(&container.ip(&["link", "show", "eth0"]), "mtu 1400");
        assert_contains(&ip(&["-d", "link", "show", "calic1"]), "numtxqueues 2");
    });
}

#[test]
fn every_version_gets_its_result() {
    on_host(async |world| {
        for version in SpecVersion::ALL {
            let container = Container::new(&format!("v{}", version.as_str()));
            let conf = conf_with(json!({"cniVersion": version.as_str()}));
            let mut result = world.add(&container, &conf).await;
            let endpoint = world.endpoints().await.remove(0);
            let ips: Vec<String> = endpoint.spec.ip_networks.iter().map(|n| n.to_string()).collect();
            if let Some(interfaces) = result.get_mut("interfaces") {
                assert_eq!(interfaces[1]["mac"].take(), endpoint.spec.mac.as_str());
            }
            let listed = |with_version: bool| {
                let mut ips =
                    json!([{"address": ips[0], "interface": 1}, {"address": ips[1], "interface": 1}]);
                if with_version {
                    (ips[0]["version"], ips[1]["version"]) = ("4".into(), "6".into());
                }
                json!({
                    "cniVersion": version.as_str(),
                    "interfaces": [
                        {"name": endpoint.spec.interface_name, "mac": "ee:ee:ee:ee:ee:ee"},
                        {"name": "eth0", "mac": null, "sandbox": format!("/run/netns/{}", container.id)},
                    ],
                    "ips": ips,
                    "dns": {},
                })
            };
            let expected = match version {
                SpecVersion::V0_1_0 | SpecVersion::V0_2_0 => {
                    json!({"cniVersion": version.as_str(), "ip4": {"ip": ips[0]}, "ip6": {"ip": ips[1]}, "dns": {}})
                }
                SpecVersion::V0_3_0 | SpecVersion::V0_3_1 | SpecVersion::V0_4_0 => listed(true),
                SpecVersion::V1_0_0 | SpecVersion::V1_1_0 => listed(false),
            };
            assert_eq!(result, expected, "{version}");
            world.del(&container, &conf).await;
        }
    });
}

#[test]
fn a_repeated_add_keeps_the_addresses() {
    on_host(async |world| {
        for container in [Container::new("plain"), Container::of_pod("sandbox", "pod")] {
            let first = world.add(&container, &conf()).await;
            let after_first = world.footprint().await;
            let second = world.add(&container, &conf()).await;
            assert_eq!(addresses(&first), addresses(&second));
            assert_eq!(world.footprint().await.assigned, after_first.assigned);
            assert_eq!(world.check(&container, &conf()).await, Ok(()));
            world.del(&container, &conf()).await;
        }
        let clean = world.footprint().await;
        assert!(
            clean.endpoints.is_empty() && clean.handles.is_empty() && clean.assigned.is_empty(),
            "{clean:?}"
        );
    });
}

/// A pod has one interface: another sandbox of it, whose interface has another name, takes over the endpoint as it is
/// named (spec 5 §1.6).
#[test]
fn an_endpoint_stays_named_after_its_first_interface() {
    on_host(async |world| {
        let first = Container::of_pod("sandbox-1", "pod");
        world.add(&first, &conf()).await;
        let before = world.footprint().await.endpoints;
        let second = Container { ifname: "net1".to_owned(), ..Container::of_pod("sandbox-2", "pod") };
        world.add(&second, &conf()).await;
        assert_eq!(world.footprint().await.endpoints, before);
        let selection = Selection::all(Kind::WorkloadEndpoint);
        let entry = world.store.list(&selection).await.unwrap().entries.remove(0);
        let endpoint = decode::<WorkloadEndpointSpec>(&entry).unwrap();
        assert_eq!(endpoint.spec.container_id, "sandbox-2");
        assert_eq!(endpoint.spec.endpoint, "eth0", "as in its name, {}", endpoint.metadata.name);
        assert!(endpoint.metadata.name.ends_with("-eth0"), "{:?}", endpoint.metadata);
        assert_eq!(world.check(&second, &conf()).await, Ok(()));
        world.del(&second, &conf()).await;
        assert!(world.footprint().await.endpoints.is_empty());
    });
}

#[test]
fn a_second_network_only_joins_its_profile() {
    on_host(async |world| {
        let container = Container::new("c1");
        let first = world.add(&container, &conf()).await;
        let second = world.add(&container, &conf_with(json!({"name": "other"}))).await;
        assert_eq!(addresses(&first), addresses(&second));
        assert_eq!(world.endpoints().await[0].spec.profiles, [NETWORK, "other"]);
        let profile = Key::resource(Kind::Profile, "", "other");
        assert!(world.store.get(&profile).await.unwrap().is_some(), "the profile that it names exists");
    });
}

/// A runtime that names containers after their namespaces meets its old name again after a reboot.
#[test]
fn a_container_whose_link_is_gone_is_linked_again() {
    on_host(async |world| {
        let before = Container::new("c1");
        let first = world.add(&before, &conf()).await;
        drop(before);
        let after = Container::new("c1");
        let second = world.add(&after, &conf()).await;
        assert_eq!(addresses(&first), addresses(&second));
        assert_eq!(world.check(&after, &conf()).await, Ok(()));
    });
}

#[test]
fn an_endpoint_whose_addresses_ipam_took_back_gets_others() {
    on_host(async |world| {
        let container = Container::of_pod("sandbox", "pod");
        let first = world.add(&container, &conf()).await;
        let handle = conf()["name"].as_str().unwrap().to_owned() + ".sandbox";
        calico_cni::address::release(&world.context, &handle).await.unwrap();
        let thief = Container::new("thief");
        let request = json!({"ipam": {"type": "calico-ipam"}});
        let mut asking = thief.arguments(Verb::Add);
        asking.args = format!("IP={}", addresses(&first)[0]);
        let taken = world
            .perform(calico_cni::request::Plugin::Network, asking, &conf_with(request), thief.descriptor())
            .await;
        // The route is still the pod's, so the address is refused to the thief; it must then be free again.
        assert!(taken.unwrap_err().details.contains("exists already"));
        let second = world.add(&container, &conf()).await;
        assert_eq!(world.check(&container, &conf()).await, Ok(()));
        assert_eq!(addresses(&second).len(), 2);
    });
}

#[test]
fn twenty_at_once_share_nothing() {
    on_host(async |world| {
        let containers: Vec<Container> =
            (0..20).map(|n| Container::of_pod(&format!("s{n}"), &format!("p{n}"))).collect();
        let conf = conf();
        let results = join_all(containers.iter().map(|c| world.add(c, &conf))).await;
        let all: BTreeSet<String> = results.iter().flat_map(addresses).collect();
        assert_eq!(all.len(), 40);
        let checks = join_all(containers.iter().map(|c| world.check(c, &conf))).await;
        assert!(checks.iter().all(Result::is_ok), "{checks:?}");
        assert_eq!(world.footprint().await.endpoints.len(), 20);
        join_all(containers.iter().map(|c| world.del(c, &conf))).await;
        let clean = world.footprint().await;
        assert_eq!(clean.links.into_iter().collect::<Vec<_>>(), ["lo"]);
        assert!(clean.handles.is_empty() && clean.assigned.is_empty() && clean.endpoints.is_empty());
    });
}

#[test]
fn a_failed_add_leaves_nothing() {
    on_host(async |world| {
        let file = || Some(OwnedFd::from(tempfile::tempfile().unwrap()));
        let own = || Some(OwnedFd::from(File::open("/proc/thread-self/ns/net").unwrap()));
        // A first one brings what is made once: block, affinity, profile. A second fixes what the third would get.
        let first = Container::new("first");
        world.add(&first, &conf()).await;
        ip(&["link", "add", "other", "type", "veth", "peer", "name", "peer"]);
        ip(&["link", "set", "other", "up"]);
        let occupied = Container::new("c1");
        occupied.ip(&["link", "add", "eth0", "type", "veth", "peer", "name", "eth1"]);
        let plain = || Container::new("c1");
        let taken = || {
            let mut container = plain();
            container.args = "IP=10.65.0.200".to_owned();
            container
        };
        ip(&["route", "add", "10.65.0.200/32", "dev", "other", "scope", "link", "metric", "1024"]);
        let before = world.footprint().await;
        type Case = (&'static str, Container, Option<Option<OwnedFd>>, Value, u32, &'static str);
        let cases: Vec<Case> = vec![
            ("no descriptor", plain(), Some(None), conf(), 4, "it cannot be opened"),
            ("a file", plain(), Some(file()), conf(), 4, "it is not a network namespace"),
            ("the host itself", plain(), Some(own()), conf(), 8, "it is the host's own"),
            (
                "another kind of namespace",
                plain(),
                Some(Some(File::open("/proc/self/ns/mnt").unwrap().into())),
                conf(),
                999,
                "EINVAL",
            ),
            ("an interface of that name inside", occupied, None, conf(), 999, "EEXIST"),
            (
                "a route over another interface",
                taken(),
                None,
                conf(),
                999,
                "route to 10.65.0.200/32 exists already, over other",
            ),
            ("an MTU that IPv6 cannot have", plain(), None, conf_with(json!({"mtu": 100})), 999, ""),
        ];
        for (what, container, netns, conf, code, details) in cases {
            let netns = netns.unwrap_or_else(|| container.descriptor());
            let error = world.run_in(Verb::Add, &container, &conf, netns).await.expect_err(what);
            assert_eq!(error.code, code, "{what}: {error}");
            assert!(error.details.contains(details), "{what}: {error}");
            assert_eq!(world.footprint().await, before, "{what}");
        }
        assert_eq!(world.check(&first, &conf()).await, Ok(()), "the neighbour is as it was");
    });
}

#[test]
fn a_family_that_has_no_addresses_costs_the_other_none() {
    on_host(async |world| {
        world.delete(&Key::resource(Kind::IPPool, "", "pool6")).await;
        let error = world.run(Verb::Add, &Container::new("c1"), &conf()).await.expect_err("no IPv6");
        assert!(error.to_string().contains("ippool") || error.to_string().contains("pool"), "{error}");
        let left = world.footprint().await;
        assert!(left.assigned.is_empty() && left.handles.is_empty(), "{left:?}");
    });
}

/// A retry has more to lose than a first ADD: an endpoint that leads to addresses which somebody else may get.
#[test]
fn a_failed_retry_takes_the_endpoint_back_with_the_addresses() {
    on_host(async |world| {
        for (container, again) in [
            (Container::of_pod("sandbox", "pod"), Container::of_pod("sandbox", "pod")),
            (Container::new("plain"), Container::new("plain")),
        ] {
            let before = world.footprint().await;
            world.add(&container, &conf()).await;
            again.ip(&["link", "add", "eth0", "type", "veth", "peer", "name", "eth1"]);
            world.run(Verb::Add, &again, &conf()).await.expect_err("eth0 is taken");
            assert_eq!(world.footprint().await, before);
        }
    });
}

#[test]
fn another_ipam_plugin_gives_addresses_and_routes() {
    on_host(async |world: World| {
        if !std::path::Path::new("/usr/lib/cni/host-local").exists() {
            return println!("skipped: no /usr/lib/cni/host-local");
        }
        let conf = conf_with(json!({"cniVersion": "1.0.0", "ipam": {
            "type": "host-local",
            "dataDir": world.dir.path(),
            "ranges": [[{"subnet": "10.66.0.0/24"}]],
            "routes": [{"dst": "192.0.2.0/24"}],
        }}));
        let container = Container::new("c1");
        let result = world.add(&container, &conf).await;
        assert_eq!(result["ips"][0]["address"], "10.66.0.2/32");
        let routes = container.ip(&["route"]);
        assert_contains(&routes, "192.0.2.0/24 via 169.254.1.1 dev eth0");
        assert!(!routes.contains("default"), "{routes}");
        assert_eq!(world.check(&container, &conf).await, Ok(()));
        let leases = || {
            std::fs::read_dir(world.dir.path().join(NETWORK))
                .unwrap()
                .flatten()
                .filter(|f| f.file_name().to_string_lossy().starts_with("10."))
                .count()
        };
        assert_eq!(leases(), 1);
        world.del(&container, &conf).await;
        assert_eq!(leases(), 0);
        container.ip(&["link", "add", "eth0", "type", "veth", "peer", "name", "eth1"]);
        world.run(Verb::Add, &container, &conf).await.expect_err("eth0 is taken");
        assert_eq!(leases(), 0, "a failed ADD gives the lease back");
    });
}

/// Of a container's id only the first characters are in its interface's name.
#[test]
fn a_container_that_would_take_anothers_interface_is_refused() {
    on_host(async |world| {
        let first = Container::new("container-1a");
        world.add(&first, &conf()).await;
        let before = world.footprint().await;
        let second = Container::new("container-1b");
        let error = world.run(Verb::Add, &second, &conf()).await.expect_err("taken");
        assert!(error.details.contains("calicontainer-1 belongs to container container-1a"), "{error}");
        for netns in [second.descriptor(), None] {
            assert_eq!(world.run_in(Verb::Del, &second, &conf(), netns).await, Ok(None));
        }
        assert_eq!(world.footprint().await, before);
        assert_eq!(world.check(&first, &conf()).await, Ok(()));
        world.del(&first, &conf()).await;
        world.add(&second, &conf()).await;
    });
}

/// Waits until the test lets it.
struct WhenTold(tokio::sync::Notify);

impl Live for WhenTold {
    fn wait_live(&self, _: Expected, _: Duration) -> BoxFuture<'_, bool> {
        self.0.notified().map(|()| true).boxed()
    }
}

#[test]
fn an_add_that_waits_for_policy_keeps_nobody_from_working() {
    on_host(async |world| {
        let live = Arc::new(WhenTold(tokio::sync::Notify::new()));
        let mut context = Context::new(world.store.clone(), NODE, "cali", live.clone());
        context.working = tokio::sync::Semaphore::new(1);
        context.patience = Some(Duration::from_secs(60));
        let world = World { context: Arc::new(context), ..world };
        let (waiting, other) = (Container::new("waiting"), Container::new("other"));
        let conf = conf();
        let dels = async {
            while world.endpoints().await.is_empty() {
                tokio::task::yield_now().await;
            }
            world.del(&other, &conf).await;
            live.0.notify_one();
        };
        let both = async { tokio::join!(world.add(&waiting, &conf), dels) };
        tokio::time::timeout(Duration::from_secs(30), both).await.expect("the DEL does not wait for the ADD");
    });
}
