//! From the datastore to the report, without a daemon.

use calico_api::{
    BGPConfiguration, BGPConfigurationSpec, BgpPassword, Key, Kind, Node, NodeBgp, NodeSpec, SecretKeyRef,
    Write, encode,
};
use calico_store::EmbeddedStore;

use super::*;
use crate::bird::daemon::Paths;
use crate::testing::block_on;

fn node(name: &str, ipv4_address: &str) -> Write {
    let bgp = NodeBgp { ipv4_address: ipv4_address.into(), ..NodeBgp::default() };
    let node = Node::new("", name, NodeSpec { bgp: Some(bgp), ..NodeSpec::default() });
    Write::put(Key::resource(Kind::Node, "", name), encode(&node))
}

/// What tells the agent's routes between nodes apart is said in two places, for neither crate may use the other.
#[test]
fn the_agents_routes_have_the_metric_that_is_not_announced() {
    use calico_dataplane::tables::route::CLUSTER_PRIORITY;
    assert_eq!(calico_mesh::intent::AGENT_CLUSTER_METRIC, CLUSTER_PRIORITY);
}

#[test]
fn a_password_comes_when_its_file_does() {
    let directory = tempfile::tempdir().unwrap();
    let secrets = directory.path().join("secrets");
    let store: Arc<dyn Store> = Arc::new(EmbeddedStore::open(directory.path().join("datastore.db")).unwrap());
    let key_ref = SecretKeyRef { name: "bgp".into(), key: "mesh".into(), optional: None };
    let spec = BGPConfigurationSpec {
        node_mesh_password: Some(BgpPassword { secret_key_ref: Some(key_ref) }),
        ..BGPConfigurationSpec::default()
    };
    let config = BGPConfiguration::new("", "default", spec);
    let writes = [
        node("a", "10.0.0.1/24"),
        node("b", "10.0.0.2/24"),
        Write::put(Key::resource(Kind::BGPConfiguration, "", "default"), encode(&config)),
    ];
    block_on(async {
        store.commit(&writes).await.unwrap();
        let (bird, _supervisor) = Bird::new(Paths::default());
        let (reporter, mut report) = watch::channel(BgpReport::default());
        let local = Local { node: "a".into(), ..Local::default() };
        let shutdown = CancellationToken::new();
        let source = SecretSource::Files(secrets.clone());
        let (_none, tunnels) = watch::channel(BTreeSet::new());
        let services = ServiceSource { store: None, node: "a".into(), cluster_ranges: None };
        let running = tokio::spawn(run_bgp(
            store,
            services,
            ThisNode { local, tunnels },
            source,
            bird,
            reporter,
            shutdown.clone(),
        ));
        let report_of = |wanted: &'static str| {
            move |report: &BgpReport| {
                let texts: Vec<String> = report.problems.iter().map(ToString::to_string).collect();
                report.sessions == 1
                    && texts.join("; ").contains(wanted)
                    && texts.is_empty() == wanted.is_empty()
            }
        };
        let text =
            "nodeMeshPassword.secretKeyRef: there is no Secret bgp; the session goes without a password";
        report.wait_for(report_of(text)).await.unwrap();
        std::fs::create_dir_all(secrets.join("bgp")).unwrap();
        std::fs::write(secrets.join("bgp/mesh"), "so secret").unwrap();
        report.wait_for(report_of("")).await.unwrap();
        shutdown.cancel();
        running.await.unwrap();
    });
}
