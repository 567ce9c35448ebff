//! The plugin with credentials of its own, without an agent.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::machine::on_machine;

#[test]
fn a_container_comes_and_goes() {
    on_machine(|machine| {
        let conf = machine.direct();
        let _netns = machine.container("c1");
        let result = machine.verb("ADD", "c1", &conf).unwrap();
        assert_eq!(result["cniVersion"], "1.1.0");
        assert_eq!(result["interfaces"][1]["sandbox"], "/run/netns/c1");
        assert_eq!(result["ips"].as_array().unwrap().len(), 2);
        let mut check = conf.clone();
        check["prevResult"] = result;
        assert_eq!(machine.verb("CHECK", "c1", &check), Ok(Value::Null));
        assert_eq!(machine.verb("STATUS", "c1", &conf), Ok(Value::Null));
        for _ in 0..2 {
            assert_eq!(machine.verb("DEL", "c1", &conf), Ok(Value::Null));
        }
        assert_eq!(machine.leftovers(), BTreeSet::new());
    });
}

#[test]
fn processes_at_once_share_nothing() {
    on_machine(|machine| {
        let conf = machine.direct();
        let names: Vec<String> = (0..10).map(|n| format!("c{n}")).collect();
        let _containers: Vec<_> = names.iter().map(|n| machine.container(n)).collect();
        let started: Vec<_> = names.iter().map(|n| machine.start_verb("ADD", n, &conf)).collect();
        let results: Vec<Value> = started.into_iter().map(|p| p.finish().unwrap()).collect();
        let ips = results.iter().flat_map(|r| r["ips"].as_array().unwrap());
        let addresses: BTreeSet<&str> = ips.map(|ip| ip["address"].as_str().unwrap()).collect();
        assert_eq!(addresses.len(), 20);
        let mut gc = conf.clone();
        gc["cni.dev/valid-attachments"] = json!([{"containerID": "c0", "ifname": "eth0"}]);
        assert_eq!(machine.verb("GC", "c0", &gc), Ok(Value::Null));
        assert_eq!(machine.leftovers().len(), 3, "one endpoint, one handle, one interface");
        assert_eq!(machine.verb("DEL", "c0", &conf), Ok(Value::Null));
        assert_eq!(machine.leftovers(), BTreeSet::new());
    });
}

#[test]
fn a_namespace_that_only_left_its_file_is_gone() {
    on_machine(|machine| {
        let conf = machine.direct();
        machine.container("c1");
        machine.verb("ADD", "c1", &conf).unwrap();
        // What a reboot leaves of `ip netns`: the file without the mount.
        nix::mount::umount("/run/netns/c1").unwrap();
        assert_eq!(machine.verb("DEL", "c1", &conf), Ok(Value::Null));
        assert_eq!(machine.leftovers(), BTreeSet::new());
        let error = machine.verb("ADD", "c1", &conf).unwrap_err();
        assert_eq!(error["code"], 4);
        assert_eq!(error["details"], "CNI_NETNS is \"/run/netns/c1\"; it is not a network namespace");
    });
}

#[test]
fn the_ipam_plugin_serves_another_main_plugin() {
    on_machine(|machine| {
        let conf = machine.direct();
        let run = |verb: &str| {
            // Nobody but the main plugin needs the namespace.
            let environment = [
                ("CNI_COMMAND", verb),
                ("CNI_CONTAINERID", "c1"),
                ("CNI_NETNS", "/nonexistent"),
                ("CNI_IFNAME", "eth0"),
            ];
            machine.spawn("calico-ipam", &environment, conf.to_string().as_bytes()).finish()
        };
        let result = run("ADD").unwrap();
        assert!(result["ips"][0]["address"].as_str().unwrap().ends_with("/26"), "{result}");
        assert_eq!(run("CHECK"), Ok(Value::Null));
        assert_eq!(run("DEL"), Ok(Value::Null));
        assert_eq!(machine.leftovers(), BTreeSet::new());
    });
}
