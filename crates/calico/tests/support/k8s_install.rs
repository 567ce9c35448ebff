//! Calico in a cluster of the lab as its users have it: the shipped image, `make install`, `make check`, `make uninstall`; and
//! what of a node these may not change.

#![allow(dead_code, reason = "each test uses its part")]

use std::path::PathBuf;
use std::process::Command;

use crate::k8s::{Cluster, PATIENCE, text, until};

const INSTALL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../install");
const MANIFEST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/calico-vxlan.yaml");

/// Prints what belongs to a node and not to a pod or to the moment: rules, routes, links, addresses, tables without counters,
/// and files where CNI and Calico have theirs. `/run/xtables.lock` stays: kubelet makes it for whoever mounts it, and who
/// removes a lock lets others pass whoever holds it.
const STATE: &str = r"
for family in -4 -6; do ip $family rule; ip $family route show table all; done
ip -o link | sed 's/^[0-9]*: //'
ip -o address | sed 's/^[0-9]*: //'
nft -s list ruleset
for place in /etc/cni /opt/cni /var/lib/calico /var/lib/cni /var/log/calico /run/calico /run/nodeagent; do
  [ -e $place ] || continue
  find $place -type f -exec sha256sum {} + -o -printf '%y %m %p %l\n'
done
";

/// The archive of the shipped image; `None`, and a word why, where it is not there.
pub fn shipped_image() -> Option<PathBuf> {
    let Some(image) = std::env::var_os("CALICO_K8S_IMAGE").map(PathBuf::from) else {
        eprintln!(
            "skipped: CALICO_K8S_IMAGE does not say where the image is; `make k8s-smoke` makes it and does"
        );
        return None;
    };
    if !image.is_file() {
        eprintln!("skipped: no image {}; `make image` makes it", image.display());
        return None;
    }
    Some(image)
}

/// A cluster without a network, whose nodes have the shipped image; `None`, and a word why, where that is impossible.
pub fn up(name: &str, arguments: &[&str]) -> Option<Cluster> {
    let image = shipped_image()?;
    let arguments: Vec<&str> = arguments.iter().copied().chain(["--cni", "none"]).collect();
    let cluster = Cluster::up(name, &arguments)?;
    load(&cluster, &image);
    Some(cluster)
}

/// Gives every node an image.
pub fn load(cluster: &Cluster, image: &std::path::Path) {
    let output = cluster.k8s(&["load"]).arg(image).output().expect("calico lab k8s load");
    assert!(output.status.success(), "{}", text(&output.stderr));
}

/// A target of `install/Makefile`; what it said.
pub fn make(cluster: &Cluster, target: &str, variables: &[(&str, &str)]) -> String {
    let from =
        format!("{} lab --dir {} k8s exec client --", env!("CARGO_BIN_EXE_calico"), cluster.dir().display());
    let output = Command::new("make")
        .args(["--no-print-directory", "-C", INSTALL, target])
        .env("KUBECTL", cluster.dir().join("kubectl"))
        .env("MANIFEST", MANIFEST)
        .env("FROM", from)
        // What a busy machine may need.
        .env("WAIT", "10m")
        .envs(variables.iter().copied())
        // Of the make that runs the tests.
        .env_remove("MAKEFLAGS")
        .env_remove("MAKELEVEL")
        .output()
        .expect("make");
    let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "make {target}: {said}{}", cluster.events());
    said
}

/// Everything of every node that must be as before when Calico is gone, once it does not change any more.
pub fn settled_state(cluster: &Cluster, nodes: usize) -> Vec<String> {
    let mut state = read_state(cluster, nodes);
    let settled = until(PATIENCE, || {
        // kube-proxy knows the name service.
        let complete = |state: &[String]| {
            (1..=nodes).all(|number| {
                let of_node = format!("node{number} ");
                state.iter().any(|line| line.starts_with(&of_node) && line.contains("10.96.0.10"))
            })
        };
        let last = std::mem::replace(&mut state, read_state(cluster, nodes));
        complete(&state) && state == last
    });
    assert!(settled, "the nodes do not settle: {state:#?}");
    state
}

/// Waits until every node is as it was.
pub fn assert_as_before(cluster: &Cluster, nodes: usize, before: &[String]) {
    let mut after = Vec::new();
    let same = until(PATIENCE, || {
        after = read_state(cluster, nodes);
        after == before
    });
    let only = |these: &[String], those: &[String]| -> Vec<String> {
        these.iter().filter(|line| !those.contains(line)).cloned().collect()
    };
    assert!(same, "gone: {:#?}\nleft: {:#?}", only(before, &after), only(&after, before));
}

fn read_state(cluster: &Cluster, nodes: usize) -> Vec<String> {
    let of_node = |number: usize| -> Vec<String> {
        let node = format!("node{number}");
        let output = cluster.exec(&node, &["sh", "-c", STATE]);
        assert!(output.status.success(), "{node}: {}", text(&output.stderr));
        text(&output.stdout).lines().map(|line| format!("{node} {}", line.trim())).collect()
    };
    (1..=nodes).flat_map(of_node).collect()
}
