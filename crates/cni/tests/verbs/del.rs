//! DEL: any number of times, whatever is left of the container, and never a newer sandbox's.

use std::fs::File;
use std::os::fd::OwnedFd;

use calico_cni::arguments::Verb;
use calico_cni::request::Plugin;

use crate::world::{Container, addresses, conf, ip, on_host};

#[test]
fn del_can_be_repeated_and_comes_before_any_add() {
    on_host(async |world| {
        let container = Container::new("c1");
        let before = world.footprint().await;
        world.del(&container, &conf()).await;
        world.add(&container, &conf()).await;
        for _ in 0..3 {
            world.del(&container, &conf()).await;
            assert_eq!(world.footprint().await, before);
        }
        assert!(!container.ip(&["link"]).contains("eth0"));
    });
}

#[test]
fn a_namespace_that_is_gone_is_no_obstacle() {
    on_host(async |world| {
        let before = world.footprint().await;
        let stale = || Some(OwnedFd::from(tempfile::tempfile().unwrap()));
        for netns in [None, stale()] {
            let container = Container::of_pod("sandbox", "pod");
            world.add(&container, &conf()).await;
            // The namespace is alive, only its path is gone: the link must not stay behind.
            assert_eq!(world.run_in(Verb::Del, &container, &conf(), netns).await, Ok(None));
            assert_eq!(world.footprint().await, before);
        }
    });
}

#[test]
fn the_hosts_own_interfaces_are_not_a_containers() {
    on_host(async |world| {
        ip(&["link", "add", "eth0", "type", "veth", "peer", "name", "wire"]);
        let own = OwnedFd::from(File::open("/proc/thread-self/ns/net").unwrap());
        let answer = world.run_in(Verb::Del, &Container::new("c1"), &conf(), Some(own)).await;
        assert_eq!(answer, Ok(None));
        assert!(ip(&["link"]).contains("eth0"), "the host keeps its eth0");
    });
}

#[test]
fn a_newer_sandbox_keeps_what_it_has() {
    on_host(async |world| {
        let old = Container::of_pod("old", "pod");
        let first = world.add(&old, &conf()).await;
        let new = Container::of_pod("new", "pod");
        let second = world.add(&new, &conf()).await;
        assert!(addresses(&first).iter().all(|a| !addresses(&second).contains(a)));
        for netns in [old.descriptor(), None] {
            assert_eq!(world.run_in(Verb::Del, &old, &conf(), netns).await, Ok(None));
            assert_eq!(world.check(&new, &conf()).await, Ok(()));
        }
        assert_eq!(world.footprint().await.assigned.len(), 2, "the old sandbox's addresses are free");
        world.del(&new, &conf()).await;
        assert!(world.footprint().await.endpoints.is_empty());
    });
}

/// Sandboxes of one pod come and go at once, as when kubelet retries: whatever the order, nothing is left or lost.
#[test]
fn old_dels_and_new_adds_in_any_order() {
    on_host(async |world| {
        let before = world.footprint().await;
        for round in 0..10 {
            let old = Container::of_pod(&format!("old{round}"), "pod");
            let new = Container::of_pod(&format!("new{round}"), "pod");
            let conf = conf();
            world.add(&old, &conf).await;
            let del = async || world.del(&old, &conf).await;
            tokio::join!(del(), world.add(&new, &conf), del());
            assert_eq!(world.check(&new, &conf).await, Ok(()), "round {round}");
            world.del(&new, &conf).await;
        }
        assert_eq!(world.footprint().await, before);
    });
}

#[test]
fn the_ipam_plugin_alone_gives_and_takes() {
    on_host(async |world| {
        let container = Container::new("c1");
        let run = async |verb| world.perform(Plugin::Ipam, container.arguments(verb), &conf(), None).await;
        let result = run(Verb::Add).await.unwrap().unwrap();
        let masks: Vec<&str> = result["ips"]
            .as_array()
            .unwrap()
            .iter()
            .map(|ip| ip["address"].as_str().unwrap().split_once('/').unwrap().1)
            .collect();
        assert_eq!(masks, ["26", "122"], "with their blocks' masks");
        assert_eq!(result["routes"].as_array().unwrap().len(), 2);
        assert!(result.get("interfaces").is_none());
        assert_eq!(run(Verb::Check).await, Ok(None));
        for _ in 0..2 {
            assert_eq!(run(Verb::Del).await, Ok(None));
        }
        assert_eq!(run(Verb::Check).await.unwrap_err().code, 3);
        assert!(world.footprint().await.assigned.is_empty());
    });
}
