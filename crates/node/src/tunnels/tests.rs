//! Tunnel addresses on an embedded store, turn by turn.

use calico_api::{EncapMode, IPPoolSpec, NodeSpec, encode};
use calico_store::EmbeddedStore;
use tempfile::TempDir;

use super::*;

struct Bench {
    tunnels: Tunnels,
    now: Instant,
    _directory: TempDir,
}

impl Bench {
    async fn new() -> Bench {
        let directory = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Arc::new(EmbeddedStore::open(directory.path().join("store.db")).unwrap());
        let world = World { in_sync: true, ..World::default() };
        let tunnels = Tunnels { store, node: "n".into(), world, states: BTreeMap::new(), wait: FIRST_RETRY };
        let mut bench = Bench { tunnels, now: Instant::now(), _directory: directory };
        let node = Node::new("", "n", NodeSpec::default());
        bench.put(Key::resource(Kind::Node, "", "n"), encode(&node)).await;
        bench
    }

    async fn put(&mut self, key: Key, value: bytes::Bytes) {
        self.tunnels.store.commit(&[Write::put(key, value)]).await.unwrap();
        self.hear().await;
    }

    async fn pool(&mut self, cidr: &str, vxlan: EncapMode) {
        let spec = IPPoolSpec { cidr: cidr.into(), vxlan_mode: Some(vxlan), ..IPPoolSpec::default() };
        let name = cidr.replace(['.', '/', ':'], "-");
        let pool = IPPool::new("", &name, spec);
        self.put(Key::resource(Kind::IPPool, "", &name), encode(&pool)).await;
    }

    /// What the syncer would tell.
    async fn hear(&mut self) {
        for kind in [Kind::IPPool, Kind::Node] {
            let listing = self.tunnels.store.list(&Selection::all(kind)).await.unwrap();
            let updates = listing.entries.into_iter().map(|entry| (entry.key.clone(), Some(entry))).collect();
            self.tunnels.world.take("n", SyncEvent::Updates(updates));
        }
    }

    async fn turn(&mut self, ready: &[TunnelKind]) -> (Option<Instant>, Report) {
        let turned = self.tunnels.turn(&ready.iter().map(|kind| kind.device()).collect(), self.now).await;
        self.hear().await;
        turned
    }

    /// What the Node says, by kind.
    fn stored(&self) -> [Option<IpAddr>; 3] {
        let node = self.tunnels.world.node.as_ref().unwrap();
        TunnelKind::ALL.map(|kind| kind.stored(&node.spec))
    }

    async fn held(&self, kind: TunnelKind) -> Vec<IpAddr> {
        let found = drive(&*self.tunnels.store, AddressesOf::new(&kind.handle("n"))).await.unwrap();
        found.into_iter().map(|assigned| assigned.address).collect()
    }
}

fn within(addr: Option<IpAddr>, cidr: &str) -> bool {
    addr.is_some_and(|addr| cidr.parse::<Cidr>().unwrap().contains(addr))
}

#[tokio::test]
async fn others_learn_of_it_when_this_node_can_receive() {
    let mut bench = Bench::new().await;
    bench.pool("10.1.0.0/16", EncapMode::Always).await;
    bench.pool("fd00:1::/64", EncapMode::CrossSubnet).await;
    bench.pool("10.9.0.0/16", EncapMode::Never).await;
    let (wake, report) = bench.turn(&[]).await;
    assert_eq!((wake, report.ready), (None, false), "{report:?}");
    assert_eq!(bench.stored(), [None; 3]);
    let (_, report) = bench.turn(&[TunnelKind::Vxlan, TunnelKind::VxlanV6]).await;
    assert!(report.ready, "{report:?}");
    let [ipip, v4, v6] = bench.stored();
    assert!(ipip.is_none() && within(v4, "10.1.0.0/16") && within(v6, "fd00:1::/64"), "{:?}", bench.stored());
    assert_eq!(bench.held(TunnelKind::Vxlan).await, [v4.unwrap()]);
    let before = bench.stored();
    bench.turn(&[]).await;
    assert_eq!(bench.stored(), before, "a device that fails later changes nothing");
}

#[tokio::test]
async fn ipip_has_an_address_of_its_own_and_awaits_its_own_device() {
    let mut bench = Bench::new().await;
    let (ipip_mode, cidr) = (Some(EncapMode::CrossSubnet), "10.1.0.0/16");
    let spec = IPPoolSpec { cidr: cidr.into(), ipip_mode, ..IPPoolSpec::default() };
    bench.put(Key::resource(Kind::IPPool, "", "p"), encode(&IPPool::new("", "p", spec))).await;
    let (_, report) = bench.turn(&[TunnelKind::Vxlan]).await;
    assert!(!report.ready, "{report:?}");
    assert_eq!(report.detail, "spec.bgp.ipv4IPIPTunnelAddr: waiting for the tunnel device");
    assert_eq!(bench.stored(), [None; 3]);
    let (_, report) = bench.turn(&[TunnelKind::Ipip]).await;
    assert!(report.ready, "{report:?}");
    let [ipip, v4, _] = bench.stored();
    assert!(within(ipip, cidr) && v4.is_none(), "{:?}", bench.stored());
    // Another overlay takes over: the address is given back when others know.
    bench
        .put(Key::resource(Kind::IPPool, "", "p"), {
            let spec = IPPoolSpec {
                cidr: cidr.into(),
                vxlan_mode: Some(EncapMode::Always),
                ..IPPoolSpec::default()
            };
            encode(&IPPool::new("", "p", spec))
        })
        .await;
    bench.turn(&[TunnelKind::Ipip, TunnelKind::Vxlan]).await;
    let [kept, v4, _] = bench.stored();
    assert!(kept == ipip && within(v4, cidr) && v4 != kept, "{:?}", bench.stored());
    bench.now += HANDOVER;
    bench.turn(&[TunnelKind::Vxlan]).await;
    assert_eq!(bench.stored()[..2], [None, v4]);
    assert!(bench.held(TunnelKind::Ipip).await.is_empty());
}

#[tokio::test]
async fn it_moves_with_the_pools_and_is_given_back() {
    let mut bench = Bench::new().await;
    bench.pool("10.1.0.0/16", EncapMode::Always).await;
    bench.turn(&[TunnelKind::Vxlan]).await;
    assert!(within(bench.stored()[1], "10.1.0.0/16"));
    bench.pool("10.2.0.0/16", EncapMode::Always).await;
    bench.turn(&[TunnelKind::Vxlan]).await;
    assert!(within(bench.stored()[1], "10.1.0.0/16"), "a right one stays");
    bench.pool("10.1.0.0/16", EncapMode::Never).await;
    bench.turn(&[TunnelKind::Vxlan]).await;
    let moved = bench.stored()[1];
    assert!(within(moved, "10.2.0.0/16"), "{moved:?}");
    assert_eq!(bench.held(TunnelKind::Vxlan).await, [moved.unwrap()]);

    // The last pool: others may still be sending for a while.
    bench.pool("10.2.0.0/16", EncapMode::Never).await;
    let (wake, report) = bench.turn(&[TunnelKind::Vxlan]).await;
    assert!(wake.is_some() && report.ready, "{report:?}");
    assert_eq!(bench.stored()[1], moved);
    bench.now += HANDOVER;
    let (wake, report) = bench.turn(&[]).await;
    assert_eq!((wake, report.ready), (None, true), "{report:?}");
    assert_eq!((bench.stored()[1], bench.held(TunnelKind::Vxlan).await), (None, vec![]));
}

#[tokio::test]
async fn an_address_that_an_agent_did_not_live_to_tell_is_told() {
    let mut bench = Bench::new().await;
    bench.pool("10.1.0.0/16", EncapMode::Always).await;
    bench.turn(&[]).await;
    let held = bench.held(TunnelKind::Vxlan).await;
    assert_eq!(held.len(), 1);
    bench.tunnels.states.clear();
    bench.turn(&[TunnelKind::Vxlan]).await;
    assert_eq!(bench.stored()[1], Some(held[0]));
    // And one that the Node says although nobody has it is taken.
    let spec = NodeSpec { ipv4_vxlan_tunnel_addr: "10.1.200.9".into(), ..NodeSpec::default() };
    bench.put(Key::resource(Kind::Node, "", "n"), encode(&Node::new("", "n", spec))).await;
    bench.tunnels.release(TunnelKind::Vxlan, &held).await.unwrap();
    bench.turn(&[TunnelKind::Vxlan]).await;
    assert_eq!(bench.stored()[1], Some("10.1.200.9".parse().unwrap()));
    assert_eq!(bench.held(TunnelKind::Vxlan).await, [bench.stored()[1].unwrap()]);
}

#[tokio::test]
async fn what_cannot_be_assigned_is_said_and_tried_again() {
    let mut bench = Bench::new().await;
    bench.pool("10.1.0.0/16", EncapMode::Always).await;
    // Nobody knows which pools select a node that has no resource.
    let node = Key::resource(Kind::Node, "", "n");
    let write = Write::Delete { key: node.clone(), expect: calico_api::Expect::Any };
    bench.tunnels.store.commit(&[write]).await.unwrap();
    let (wake, report) = bench.turn(&[TunnelKind::Vxlan]).await;
    assert!(wake.is_some() && !report.ready, "{report:?}");
    assert!(
        report.detail.starts_with("spec.ipv4VXLANTunnelAddr: cannot assign an address: node n"),
        "{report:?}"
    );
    bench.put(node, encode(&Node::new("", "n", NodeSpec::default()))).await;
    let (_, report) = bench.turn(&[TunnelKind::Vxlan]).await;
    assert!(report.ready && bench.stored()[1].is_some(), "{report:?}");
}

#[test]
fn of_the_nodes_only_the_own_one_is_followed() {
    let followed = |name: &str| {
        let key = Key::resource(Kind::Node, "", name);
        selections("n").iter().filter(|selection| selection.contains(&key)).count()
    };
    assert_eq!(["n", "n1", "m", ""].map(followed), [1, 0, 0, 0]);
}
