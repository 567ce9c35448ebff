//! Plans, data-driven: a world in a few words, and what is to be done at once and after the grace period.

use std::collections::BTreeMap;
use std::time::Duration;

use calico_api::ipam::Record;
use calico_api::{
    AffinityOwner, AffinityState, BlockAffinity, Entry, IPPool, IPPoolSpec, IpamBlock, IpamHandle, Key,
    Labels, Node, NodeSpec, Resource, Revision, WorkloadEndpointSpec, encode, encode_record,
};
use calico_ipam::{UnixTime, block};
use calico_net::Cidr;
use smol_str::SmolStr;

use super::*;
use crate::world::World;

const GRACE: Duration = Duration::from_secs(900);

/// A world of lines:
///
/// ```text
/// node NAME                            pool CIDR
/// block CIDR [OWNER]                   an empty block; `-` or nothing: nobody's
/// claim OWNER CIDR [pending]           an affinity
/// ip ADDRESS HANDLE [name=value …]     an address in use with its attributes
/// alternate ADDRESS [name=value …]     the second owner of an address
/// resting ADDRESS                      one that was released at second 0
/// handle ID CIDR COUNT
/// pod NAMESPACE/NAME NODE [ADDRESS …]  an endpoint; `attached` in place of an address: it had some
/// damaged CIDR                         a block that cannot be read
/// ```
fn world(text: &str) -> World {
    let mut blocks: BTreeMap<Cidr, (IpamBlock, bool)> = BTreeMap::new();
    let mut world = World::default();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["node", name] => put(&mut world, resource(&Node::new("", name, NodeSpec::default()))),
            ["pool", cidr] => {
                let spec = IPPoolSpec { cidr: (*cidr).into(), ..IPPoolSpec::default() };
                put(&mut world, resource(&IPPool::new("", "pool", spec)));
            }
            ["block", cidr, owner @ ..] => {
                let cidr: Cidr = cidr.parse().unwrap();
                let host = AffinityOwner::Host(owner.first().copied().unwrap_or("-").into());
                let mut made = block::new(cidr, &host, UnixTime::from_secs(1));
                if owner.first().is_none_or(|owner| *owner == "-") {
                    (made.affinity, made.affinity_claim_time) = (None, None);
                }
                blocks.insert(cidr, (made, true));
            }
            ["damaged", cidr] => {
                let key = Key::Block(cidr.parse().unwrap());
                put(&mut world, (key, bytes(b"{")));
            }
            ["claim", owner, cidr, state @ ..] => {
                let owner = AffinityOwner::Host((*owner).into());
                let state = if state.is_empty() { AffinityState::Confirmed } else { AffinityState::Pending };
                let key = Key::Affinity { owner, block: cidr.parse().unwrap() };
                put(&mut world, record(key, &BlockAffinity::new(state)));
            }
            ["ip", address, handle, attributes @ ..] => {
                let address = address.parse().unwrap();
                let (b, _) = blocks.values_mut().find(|(b, _)| b.cidr.contains(address)).expect("a block");
                let ordinal = block::ordinal(b, address).unwrap();
                let handle = if *handle == "-" { "" } else { handle };
                let handle = SmolStr::new(handle);
                assert!(block::assign_ordinal(b, ordinal, &handle, &labels(attributes)), "{line}");
                block::bump(b);
            }
            ["alternate", address, attributes @ ..] => {
                let address = address.parse().unwrap();
                let (b, _) = blocks.values_mut().find(|(b, _)| b.cidr.contains(address)).expect("a block");
                let ordinal = block::ordinal(b, address).unwrap();
                let index = b.allocations[usize::from(ordinal)].unwrap();
                b.attributes[index].alternate_owner_attrs = Some(labels(attributes).into());
            }
            ["resting", address] => {
                let address = address.parse().unwrap();
                let (b, _) = blocks.values_mut().find(|(b, _)| b.cidr.contains(address)).expect("a block");
                let ordinal = block::ordinal(b, address).unwrap();
                assert!(block::assign_ordinal(b, ordinal, &SmolStr::new("r"), &Labels::new()));
                block::release(b, &[ordinal], UnixTime::from_secs(0));
            }
            ["handle", id, cidr, count] => {
                let counts = [(cidr.parse().unwrap(), count.parse().unwrap())].into();
                let key = Key::Handle((*id).into());
                put(&mut world, record(key, &IpamHandle { block: counts, ..IpamHandle::default() }));
            }
            ["pod", pod, node, rest @ ..] => {
                let (namespace, name) = pod.split_once('/').unwrap();
                let addresses = rest.iter().filter(|word| **word != "attached");
                let spec = WorkloadEndpointSpec {
                    orchestrator: "k8s".into(),
                    node: (*node).into(),
                    pod: name.into(),
                    endpoint: "eth0".into(),
                    ip_networks: addresses.map(|address| format!("{address}/32").into()).collect(),
                    container_id: if rest.is_empty() { "" } else { "c" }.into(),
                    ..WorkloadEndpointSpec::default()
                };
                let endpoint = spec.name().unwrap();
                put(&mut world, resource(&Resource::new(namespace, &endpoint, spec)));
            }
            other => panic!("{other:?}"),
        }
    }
    for (b, _) in blocks.into_values() {
        put(&mut world, record(Key::Block(b.cidr), &b));
    }
    world
}

fn labels(pairs: &[&str]) -> Labels {
    pairs.iter().filter_map(|p| p.split_once('=')).map(|(k, v)| (k.into(), v.into())).collect()
}

fn bytes(text: &[u8]) -> Vec<u8> {
    text.to_vec()
}

fn resource<S: calico_api::Spec>(made: &Resource<S>) -> (Key, Vec<u8>) {
    (made.key().into(), encode(made).to_vec())
}

fn record<R: Record>(key: Key, made: &R) -> (Key, Vec<u8>) {
    (key, encode_record(made).to_vec())
}

fn put(world: &mut World, (key, value): (Key, Vec<u8>)) {
    let entry = Entry { key: key.clone(), value: value.into(), revision: Revision::from(1) };
    world.observe(&key, Some(&entry));
}

/// Actions in words.
fn words(plan: &Plan) -> Vec<String> {
    let action = |action: &Action| match action {
        Action::Release(leaks) => {
            let parts = leaks.iter().map(|l| format!("{} ({})", l.allocation.id.address, l.reason));
            format!("release {}", parts.collect::<Vec<_>>().join(", "))
        }
        Action::ReleaseBlock { node, block } => format!("release block {block} of {node}"),
        Action::ForgetNode(node) => format!("forget {node}"),
        Action::Collect(leftover) => format!("collect: {leftover}"),
    };
    plan.actions.iter().map(action).collect()
}

fn at(secs: u64) -> Clock {
    Clock { since_start: Duration::from_secs(secs), wall: UnixTime::from_secs(1_000_000 + secs) }
}

/// Plans at second 10, and again when the grace period is over.
fn check(text: &str, at_once: &[&str], after_grace: &[&str]) {
    let world = world(text);
    let first = plan(&world, &Marks::default(), Some(GRACE), true, at(10));
    assert_eq!(words(&first), at_once, "at once: {text}");
    let early = plan(&world, &first.marks, Some(GRACE), true, at(909));
    assert_eq!(words(&early), at_once, "a second before the grace period ends: {text}");
    let second = plan(&world, &first.marks, Some(GRACE), true, at(910));
    assert_eq!(words(&second), after_grace, "after the grace period: {text}");
    if at_once != after_grace {
        assert_eq!(first.next, Some(Duration::from_secs(910)), "{text}");
    }
    let never = plan(&world, &first.marks, None, true, at(1_000_000));
    assert_eq!(words(&never), at_once, "without a grace period: {text}");
}

const NODE: &str = "node n1\npool 10.0.0.0/24\nblock 10.0.0.0/28 n1\nclaim n1 10.0.0.0/28\n";

/// A world with one node that has a block, and the address 10.0.0.1 for a pod of it.
fn with_pod(rest: &str) -> String {
    format!("{NODE}ip 10.0.0.1 h1 node=n1 namespace=shop pod=web\nhandle h1 10.0.0.0/28 1\n{rest}")
}

#[test]
fn a_pod_that_uses_its_address_keeps_it() {
    check(&with_pod("pod shop/web n1 10.0.0.1"), &[], &[]);
    // It waits for an address, maybe for this one.
    check(&with_pod("pod shop/web n1"), &[], &[]);
    // One of several.
    check(&with_pod("pod shop/web n1 10.0.0.9 10.0.0.1"), &[], &[]);
    // Whatever the attributes say of its node.
    check(&with_pod("node n2\npod shop/web n2 10.0.0.1"), &[], &[]);
    // Another network's interface of the pod's container `c`: its endpoint shows the addresses of one only.
    let second = "ip 10.0.0.3 macvlan.c node=n1 namespace=shop pod=web\nhandle macvlan.c 10.0.0.0/28 1\n";
    check(&with_pod(&format!("{second}pod shop/web n1 10.0.0.1")), &[], &[]);
}

#[test]
fn what_no_pod_uses_is_released_after_the_grace_period() {
    let release = |why| format!("release 10.0.0.1 (pod shop/web {why})");
    for (rest, why) in [
        ("", "does not exist"),
        ("pod shop/other n1 10.0.0.2", "does not exist"),
        ("node n2\npod shop/web n2 10.0.0.2", "is on another node"),
        ("node n2\npod shop/web n2", "is on another node"),
        ("pod shop/web n1 10.0.0.2", "has other addresses"),
        ("pod shop/web n1 attached", "has ended"),
    ] {
        check(&with_pod(rest), &[], &[&release(why)]);
    }
}

#[test]
fn a_pod_that_comes_back_stops_the_clock() {
    let gone = world(&with_pod(""));
    let back = world(&with_pod("pod shop/web n1 10.0.0.1"));
    let first = plan(&gone, &Marks::default(), Some(GRACE), false, at(10));
    assert_eq!(first.marks.leaked.len(), 1);
    let second = plan(&back, &first.marks, Some(GRACE), false, at(500));
    assert!(second.marks.leaked.is_empty() && second.next.is_none());
    let third = plan(&gone, &second.marks, Some(GRACE), false, at(920));
    assert_eq!(words(&third), Vec::<String>::new(), "the grace period begins anew");
    let fourth = plan(&gone, &third.marks, Some(GRACE), false, at(1820));
    assert_eq!(words(&fourth), ["release 10.0.0.1 (pod shop/web does not exist)"]);
}

#[test]
fn another_assignment_of_the_same_address_has_a_clock_of_its_own() {
    let first = plan(&world(&with_pod("")), &Marks::default(), Some(GRACE), false, at(10));
    // The same address and handle, assigned one write of the block later.
    let later = format!(
        "{NODE}ip 10.0.0.2 h0 node=n1\nip 10.0.0.1 h1 node=n1 namespace=shop pod=web\nhandle h1 10.0.0.0/28 1"
    );
    let second = plan(&world(&later), &first.marks, Some(GRACE), false, at(910));
    assert_eq!(words(&second), Vec::<String>::new());
}

#[test]
fn a_handle_is_released_whole_or_not_at_all() {
    let dual = "block fd00::/124 n1\nclaim n1 fd00::/124\nip fd00::1 h1 node=n1 namespace=shop pod=web\n";
    let gone = "release 10.0.0.1 (pod shop/web does not exist), fd00::1 (pod shop/web does not exist)";
    check(&with_pod(dual), &[], &[gone]);
    let half = format!("{dual}pod shop/web n1 10.0.0.1");
    check(&with_pod(&half), &[], &[]);
    // Addresses without a handle have nothing to do with one another.
    let none = "ip 10.0.0.2 - node=n1 namespace=shop pod=a\nip 10.0.0.3 - node=n1 namespace=shop pod=b\n\
                pod shop/b n1 10.0.0.3";
    check(&format!("{NODE}{none}"), &[], &["release 10.0.0.2 (pod shop/a does not exist)"]);
}

#[test]
fn what_cannot_be_looked_up_stays() {
    for allocation in [
        "ip 10.0.0.1 h1",
        "ip 10.0.0.1 h1 node=n1",
        "ip 10.0.0.1 h1 node=n1 pod=web",
        "ip 10.0.0.1 h1 node=n1 namespace=shop",
        "ip 10.0.0.1 windows-reserved-ipam-handle node=n1 namespace=shop pod=web",
        "ip 10.0.0.1 h1 node=n1 namespace=shop pod=virt-launcher-a vmi-name=a",
        "ip 10.0.0.1 lb-abc service=shop/web",
        "ip 10.0.0.1 ipip-tunnel-addr-n1 node=n1 type=ipipTunnelAddress",
    ] {
        check(&format!("{NODE}{allocation}"), &[], &[]);
    }
    // A virtual machine that moves: its second owner counts as well.
    let moving = "alternate 10.0.0.1 node=n2 namespace=shop pod=web2\nnode n2\npod shop/web2 n2 10.0.0.1";
    check(&with_pod(moving), &[], &[]);
}

#[test]
fn a_node_that_is_gone_goes_with_all_that_it_had() {
    let gone = "pool 10.0.0.0/24\nblock 10.0.0.0/28 n1\nclaim n1 10.0.0.0/28\n";
    let tunnel = "ip 10.0.0.0 ipip-tunnel-addr-n1 node=n1 type=ipipTunnelAddress\n";
    let pod = "ip 10.0.0.1 h1 node=n1 namespace=shop pod=web\n";
    let all = [
        "release 10.0.0.1 (pod shop/web does not exist, and node n1 is gone)",
        "release 10.0.0.0 (node n1 is gone)",
        "forget n1",
    ];
    let only_at_once = |text: &str, expected: &[&str]| {
        let plan = plan(&world(text), &Marks::default(), Some(GRACE), false, at(10));
        assert_eq!(words(&plan), expected, "{text}");
    };
    only_at_once(&format!("{gone}{tunnel}{pod}"), &all);
    // The handle says the node where the attributes do not.
    only_at_once(
        &format!("{gone}ip 10.0.0.0 vxlan-tunnel-addr-n1 type=vxlanTunnelAddress"),
        &["release 10.0.0.0 (node n1 is gone)", "forget n1"],
    );
    only_at_once(gone, &["forget n1"]);
    // What lives on, or may, keeps the node and its tunnel.
    only_at_once(&format!("{gone}{tunnel}{pod}pod shop/web n1 10.0.0.1"), &[]);
    only_at_once(&format!("{gone}{tunnel}ip 10.0.0.2 unknown"), &[]);
    only_at_once(&format!("{gone}{tunnel}ip 10.0.0.2 unknown node=n1"), &[]);
    only_at_once("claim n1 10.0.0.0/28\ndamaged 10.0.0.0/28", &[]);
    // Another node's pod in its block does not: the block becomes nobody's.
    let borrowed = "node n2\npod shop/b n2 10.0.0.3\nip 10.0.0.3 h3 node=n2 namespace=shop pod=b\n";
    only_at_once(&format!("{gone}{borrowed}"), &["forget n1"]);
    // Nor does what Windows kept back.
    only_at_once(&format!("{gone}ip 10.0.0.0 windows-reserved-ipam-handle"), &["forget n1"]);
}

#[test]
fn half_a_handle_keeps_the_node() {
    // One of the handle's addresses waits for its grace period, since its own node is there.
    let text = "node n2\nblock 10.0.0.0/28 n1\nclaim n1 10.0.0.0/28\n\
                ip 10.0.0.1 h1 node=n1 namespace=shop pod=web\nip 10.0.0.2 h1 node=n2 namespace=shop pod=web";
    let first = plan(&world(text), &Marks::default(), Some(GRACE), false, at(10));
    assert_eq!(words(&first), Vec::<String>::new());
    let second = plan(&world(text), &first.marks, Some(GRACE), false, at(910));
    assert_eq!(
        words(&second),
        [
            "release 10.0.0.1 (pod shop/web does not exist, and node n1 is gone), \
             10.0.0.2 (pod shop/web does not exist)",
            "forget n1"
        ]
    );
}

#[test]
fn empty_blocks_go_but_never_a_nodes_last() {
    let second = "block 10.0.0.16/28 n1\nclaim n1 10.0.0.16/28\n";
    let third = "block 10.0.0.32/28 n1\nclaim n1 10.0.0.32/28\n";
    let used = "ip 10.0.0.16 h1 node=n1 namespace=shop pod=web\npod shop/web n1 10.0.0.16\n\
                handle h1 10.0.0.16/28 1\n";
    check(NODE, &[], &[]);
    check(&format!("{NODE}{second}"), &[], &["release block 10.0.0.0/28 of n1"]);
    let both = ["release block 10.0.0.0/28 of n1", "release block 10.0.0.32/28 of n1"];
    check(&format!("{NODE}{second}{used}{third}"), &[], &both);
    // Blocks of the other family are no replacement.
    check(&format!("{NODE}block fd00::/124 n1\nclaim n1 fd00::/124"), &[], &[]);
    // A claim that is not confirmed is none.
    let pending = "block 10.0.0.16/28 n1\nclaim n1 10.0.0.16/28 pending\n";
    let undone = ["collect: host:n1 began to claim 10.0.0.16/28 and did not finish"];
    check(&format!("{NODE}{pending}"), &[], &undone);
}

#[test]
fn an_address_that_rests_keeps_its_block() {
    let text =
        format!("{NODE}block 10.0.0.16/28 n1\nclaim n1 10.0.0.16/28\nresting 10.0.0.1\nresting 10.0.0.17");
    let mut world = world(&text);
    put(&mut world, (Key::IpamConfig, br#"{"ipCooldownSeconds":1200,"auto_allocate_blocks":true}"#.to_vec()));
    let clock = |wall| Clock { since_start: Duration::from_secs(10), wall: UnixTime::from_secs(wall) };
    let resting = plan(&world, &Marks::default(), Some(GRACE), false, clock(1199));
    assert!(resting.marks.empty.is_empty());
    let rested = plan(&world, &Marks::default(), Some(GRACE), false, clock(1200));
    assert_eq!(rested.marks.empty.len(), 1);
}

#[test]
fn what_dead_writers_left_is_collected_after_the_grace_period() {
    check(
        &format!("{NODE}handle h9 10.0.0.0/28 1"),
        &[],
        &["collect: handle h9 counts 1 addresses in 10.0.0.0/28 and has 0"],
    );
    check(
        &format!("{NODE}block 10.0.0.64/28"),
        &[],
        &["collect: 10.0.0.64/28 belongs to nobody and is empty"],
    );
    check(
        &format!("{NODE}claim n1 10.0.0.64/28"),
        &[],
        &["collect: host:n1 claims 10.0.0.64/28, which does not exist"],
    );
    // Without a survey nothing is known of handles, and nothing is forgotten.
    let world = world(&format!("{NODE}handle h9 10.0.0.0/28 1"));
    let first = plan(&world, &Marks::default(), Some(GRACE), true, at(10));
    let between = plan(&world, &first.marks, Some(GRACE), false, at(1000));
    assert_eq!((words(&between).len(), &between.marks), (0, &first.marks));
}

#[test]
fn one_plan_releases_a_bounded_number() {
    let mut text = String::from("node n2\n");
    for block in 0..45 {
        text += &format!("block 10.0.{block}.0/24 n1\nclaim n1 10.0.{block}.0/24\n");
        for host in 0..256 {
            text +=
                &format!("ip 10.0.{block}.{host} h{block}-{host} node=n1 namespace=s pod=p{block}-{host}\n");
        }
    }
    let big = world(&text);
    let first = plan(&big, &Marks::default(), Some(GRACE), false, at(10));
    let releases = first.actions.iter().filter(|a| matches!(a, Action::Release(_))).count();
    assert_eq!(releases, 10_000);
    assert!(
        !first.actions.contains(&Action::ForgetNode("n1".into())),
        "it keeps what is left for the next plan"
    );
    assert_eq!(first.marks.leaked.len(), 45 * 256);
}

#[test]
fn usage_by_pool_and_node() {
    let text = format!(
        "{NODE}node n2\nip 10.0.0.1 h1 node=n1 namespace=s pod=a\nip 10.0.0.2 h2 node=n2 namespace=s pod=b\n\
         pod s/b n2 10.0.0.2\nblock 192.168.0.0/28\nip 192.168.0.1 h3"
    );
    let world = world(&text);
    let marks = plan(&world, &Marks::default(), Some(GRACE), false, at(10)).marks;
    let counts = |counts: &[(&str, &str, u64)]| -> BTreeMap<PoolNode, u64> {
        counts.iter().map(|(pool, node, n)| (((*pool).into(), (*node).into()), *n)).collect()
    };
    let usage = usage(&world, &marks);
    let in_use = counts(&[("pool", "n1", 1), ("pool", "n2", 1), ("no_ippool", "unknown_node", 1)]);
    assert_eq!(usage.in_use, in_use);
    assert_eq!(usage.borrowed, counts(&[("pool", "n2", 1)]));
    assert_eq!(usage.blocks, counts(&[("pool", "n1", 1), ("no_ippool", "unknown_node", 1)]));
    assert_eq!(usage.candidates, counts(&[("pool", "n1", 1)]));
    assert_eq!(usage.pool_sizes, [("pool".into(), 256)].into());
}

/// A cluster without pods, with these nodes.
struct Nodes(&'static [&'static str]);

#[async_trait::async_trait]
impl crate::Cluster for Nodes {
    async fn uses(&self, _: &PodRef, _: &AllocationId) -> Result<bool, crate::cluster::AskError> {
        Ok(false)
    }

    async fn has_node(&self, name: &str) -> Result<bool, crate::cluster::AskError> {
        Ok(self.0.contains(&name))
    }

    async fn check(&self) -> Result<(), crate::cluster::AskError> {
        Ok(())
    }
}

#[tokio::test]
async fn a_node_that_came_back_gives_its_addresses_their_grace_period_again() {
    let seen = world(&with_pod("ip 10.0.0.2 h2 node=n2 namespace=shop pod=db\nhandle h2 10.0.0.0/28 1"));
    let planned = plan(&seen, &Marks::default(), Some(GRACE), false, at(10));
    assert_eq!(words(&planned), ["release 10.0.0.2 (pod shop/db does not exist, and node n2 is gone)"]);
    let directory = tempfile::tempdir().unwrap();
    let store = calico_store::EmbeddedStore::open(directory.path().join("db")).unwrap();
    for (nodes, in_use) in [(&["n1"][..], 0), (&["n1", "n2"], 1)] {
        let executor = Executor { store: &store, cluster: &Nodes(nodes), wall: UnixTime::from_secs(1) };
        let outcome = executor.execute(planned.actions.clone()).await;
        assert_eq!((outcome.in_use.len(), outcome.failures), (in_use, Vec::new()), "{nodes:?}");
    }
}
