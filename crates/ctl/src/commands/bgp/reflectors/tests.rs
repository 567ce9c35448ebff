//! The whole command on an embedded store, with nodes that answer as their sessions would be.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use calico_api::calico_node_status::{NodeBgpPeer, NodeBgpStatus, NodePeerState, NodePeerType};
use calico_api::{CalicoNodeStatusSpec, NodeBgp, NodeStatusReport};
use calico_mesh::birdc::PeerKind;
use calico_mesh::plan::WarningKind;
use calico_store::EmbeddedStore;
use calico_testkit::captured::Captured;
use clap::Parser;

use super::*;
use crate::args::{BgpCommand, Cli, Command};

struct Cluster {
    _directory: tempfile::TempDir,
    path: PathBuf,
}

fn open(path: &Path) -> Resources {
    Resources { store: Arc::new(EmbeddedStore::open(path).unwrap()) }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

impl Cluster {
    fn of(nodes: u8) -> Cluster {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("datastore.db");
        let resources = open(&path);
        for n in 1..=nodes {
            let bgp = NodeBgp { ipv4_address: format!("10.0.0.{n}/24").into(), ..NodeBgp::default() };
            let spec = NodeSpec { bgp: Some(bgp), ..NodeSpec::default() };
            let node = AnyResource::from(&Node::new("", &format!("n{n}"), spec));
            block_on(resources.create(node)).unwrap();
        }
        Cluster { _directory: directory, path }
    }

    fn resources(&self) -> Resources {
        open(&self.path)
    }

    fn world(&self) -> Index {
        block_on(read_index(&self.resources(), "")).unwrap()
    }

    /// Runs `calicoctl bgp make-reflectors …`; what it printed, and how it ended. Meanwhile the nodes, but those that
    /// are `silent`, answer, and the paths between them are watched.
    fn run(&self, line: &str, silent: &[&str]) -> (String, anyhow::Result<()>) {
        let words = ["calicoctl", "bgp", "make-reflectors"].into_iter().chain(line.split_whitespace());
        let Command::Bgp(BgpCommand::MakeReflectors(args)) = Cli::try_parse_from(words).unwrap().command
        else {
            unreachable!("it is that command")
        };
        let output = Captured::default();
        let mut context = Context {
            environment: Box::new(|_| None),
            input: Box::new(std::io::empty()),
            output: Box::new(output.clone()),
            errors: Box::new(output.clone()),
        };
        let resources = self.resources();
        let is_done = Cell::new(false);
        let command = async {
            let result = super::run(&resources, &args, &mut context).await;
            is_done.set(true);
            result
        };
        let (result, ()) = block_on(async { tokio::join!(command, nodes(&self.path, silent, &is_done)) });
        let text = output.text();
        (text, result)
    }

    fn questions(&self) -> usize {
        block_on(self.resources().list(Kind::CalicoNodeStatus, None)).unwrap().resources.len()
    }
}

/// Answers for nodes, each of which has all sessions that it is to have, until the command is done.
async fn nodes(path: &Path, silent: &[&str], is_done: &Cell<bool>) {
    let resources = open(path);
    while !is_done.get() {
        let index = read_index(&resources, "").await.unwrap();
        let plan = Plan::of(index.world());
        // Not a moment without a path. (Reflectors whose BGPPeers are still to come have no clients.)
        let holes: Vec<_> = plan.grave().filter(|w| w.kind != WarningKind::NoClients).collect();
        assert!(holes.is_empty(), "{holes:?}");
        for object in resources.list(Kind::CalicoNodeStatus, None).await.unwrap().resources {
            let mut object = object.typed::<CalicoNodeStatusSpec>().unwrap();
            let node = object.spec.node.clone();
            if silent.contains(&node.as_str()) {
                continue;
            }
            let peers = plan.nodes[&node].sessions.iter().map(|session| NodeBgpPeer {
                peer_ip: session.name.addr.to_smolstr(),
                peer_type: match session.name.kind {
                    PeerKind::Mesh => NodePeerType::Mesh,
                    _ => NodePeerType::Node,
                },
                state: NodePeerState::Established,
                since: SmolStr::default(),
            });
            let bgp = NodeBgpStatus { peers_v4: peers.collect(), ..NodeBgpStatus::default() };
            object.status = Some(NodeStatusReport { bgp: Some(bgp), ..NodeStatusReport::default() });
            match resources.update(AnyResource::from(&object)).await {
                // It was removed meanwhile.
                Ok(_) | Err(ResourceError::DoesNotExist(_) | ResourceError::Conflict(..)) => {}
                Err(error) => panic!("{error}"),
            }
        }
        // The pace of these stand-ins for nodes, which answer for as long as the command runs; nothing is waited for.
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[test]
fn a_mesh_becomes_reflectors_and_stays_so() {
    let cluster = Cluster::of(5);
    let (text, result) = cluster.run("n1,n2 --dry-run", &[]);
    result.unwrap();
    assert!(text.contains("Nothing was changed") && text.contains("8. take the annotation"), "{text}");
    assert_eq!(Plan::of(cluster.world().world()).mesh_size(), 5);

    let (text, result) = cluster.run("n1,n2", &[]);
    result.unwrap();
    for line in [
        "Now:  5 node(s), 0 of them reflectors, 5 in the mesh: 10 session(s) between nodes; a full mesh has 10.",
        "Then: 5 node(s), 2 of them reflectors, 0 in the mesh: 7 session(s) between nodes; a full mesh has 10.",
        "1. Node n1: label route-reflector=244.0.0.1, routeReflectorClusterID 244.0.0.1, and stays in the mesh meanwhile",
        "3. BGPPeer route-reflectors-244-0-0-1: nodes all() peer with nodes route-reflector == '244.0.0.1'",
        "4. BGPPeer route-reflectors: nodes has(route-reflector) peer with nodes has(route-reflector)",
        "5. wait until every new session is up: 14 ends on 5 nodes",
        "6. BGPConfiguration default: nodeToNodeMeshEnabled: false",
        "Done: 5 node(s), 2 of them reflectors, 0 in the mesh: 7 session(s)",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    let index = cluster.world();
    assert!(Plan::of(index.world()).warnings.is_empty());
    assert!(index.world().nodes.values().all(|node| !node.keeps_mesh));
    assert_eq!(cluster.questions(), 0);

    let (text, result) = cluster.run("n1,n2", &[]);
    result.unwrap();
    assert!(text.contains("Nothing to do"), "{text}");
}

#[test]
fn a_node_that_does_not_answer_keeps_the_mesh_and_the_next_run_goes_on() {
    let cluster = Cluster::of(3);
    let (_, result) = cluster.run("n1 --timeout 2", &["n3"]);
    let error = format!("{:#}", result.unwrap_err());
    assert!(
        error.contains("the mesh is still on") && error.contains("n3: its agent does not answer"),
        "{error}"
    );
    let plan = Plan::of(cluster.world().world());
    assert_eq!((plan.mesh_size(), cluster.questions()), (3, 0));

    let (text, result) = cluster.run("n1 --without n3", &["n3"]);
    result.unwrap();
    assert!(text.contains("1. wait until every new session is up"), "{text}");
    assert_eq!(Plan::of(cluster.world().world()).mesh_size(), 0);
}

#[test]
fn what_would_leave_holes_is_not_begun() {
    let cluster = Cluster::of(4);
    let (_, result) = cluster.run("n1 --clients rack=='a'", &[]);
    let error = format!("{:#}", result.unwrap_err());
    assert!(error.contains("nothing is changed") && error.contains("no path"), "{error}");
    assert!(cluster.world().world().peers.is_empty());
}

#[test]
fn clusters_by_rack_one_after_the_other() {
    let cluster = Cluster::of(6);
    for n in 1..=6 {
        let rack = if n <= 3 { "a" } else { "b" };
        block_on(edit::<NodeSpec>(&cluster.resources(), Kind::Node, &format!("n{n}"), |node: &mut Node| {
            node.metadata.labels.insert("rack".into(), rack.into());
        }))
        .unwrap();
    }
    let (text, result) = cluster.run("n1 --clients rack=='a' --keep-mesh", &[]);
    result.unwrap();
    assert!(text.contains("The mesh stays on"), "{text}");
    assert_eq!(Plan::of(cluster.world().world()).mesh_size(), 6);
    let (_, result) = cluster.run("n4 --clients rack=='b'", &[]);
    result.unwrap();
    let index = cluster.world();
    let plan = Plan::of(index.world());
    assert!(plan.warnings.is_empty(), "{:?}", plan.warnings);
    assert_eq!((plan.mesh_size(), plan.sessions_between_nodes()), (0, 5));
    assert_eq!(index.world().nodes["n4"].cluster_id, Some(Ipv4Addr::new(244, 0, 0, 2)));
}

#[test]
fn bad_words_are_refused() {
    let cluster = Cluster::of(3);
    for (line, expected) in [("n9", "there is no node n9"), ("n1 --clients rack=", "--clients")] {
        let error = format!("{:#}", cluster.run(line, &[]).1.unwrap_err());
        assert!(error.contains(expected), "{line}: {error}");
    }
    cluster.run("n1 --cluster-id 1.1.1.1", &[]).1.unwrap();
    let error = format!("{:#}", cluster.run("n1 --cluster-id 2.2.2.2", &[]).1.unwrap_err());
    assert!(error.contains("n1 is a reflector of cluster 1.1.1.1 already"), "{error}");
}

#[test]
fn settings_of_the_mesh_s_sessions_go_over_to_the_new_ones() {
    let cluster = Cluster::of(2);
    let spec = BGPConfigurationSpec {
        node_mesh_max_restart_time: Some("90s".parse().unwrap()),
        node_to_node_mesh_enabled: Some(true),
        ..BGPConfigurationSpec::default()
    };
    let config = AnyResource::from(&BGPConfiguration::new("", "default", spec));
    block_on(cluster.resources().create(config)).unwrap();
    cluster.run("n1", &[]).1.unwrap();
    let config = block_on(super::config(&cluster.resources())).unwrap();
    assert_eq!(config.spec.node_mesh_max_restart_time, None);
    let index = cluster.world();
    assert!(index.world().peers.values().all(|peer| peer.options.restart_time_secs == Some(90)));
    // Again: nothing is taken away.
    assert!(cluster.run("n1", &[]).0.contains("Nothing to do"));
}
