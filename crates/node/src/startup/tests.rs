//! A start on the embedded store, twice.

use calico_store::EmbeddedStore;

use super::*;

async fn keys(store: &Arc<dyn Store>, kind: Kind) -> Vec<String> {
    let entries = store.list(&Selection::all(kind)).await.unwrap().entries;
    entries.iter().map(|e| e.key.to_string().rsplit('/').next().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_start_writes_everything_and_a_second_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(directory.path().join("datastore.db")).unwrap();
    let store: Arc<dyn Store> = Arc::new(store);
    let file = directory.path().join("nodename");
    let file_text = file.to_str().unwrap().to_owned();
    let vars = |name: &str| match name {
        "NODENAME" => Some("a".to_owned()),
        "CALICO_NODENAME_FILE" => Some(file_text.clone()),
        "WAIT_FOR_DATASTORE" => Some("true".to_owned()),
        // Any host has it, so that this test needs no network of its own.
        "IP" => Some("127.0.0.1".to_owned()),
        "CALICO_IPV6POOL_CIDR" => Some("none".to_owned()),
        _ => None,
    };
    let started = start(&store, &vars, None, "v1").await.unwrap();
    assert_eq!(started.node, "a");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "a");
    assert_eq!(keys(&store, Kind::Node).await, ["a"]);
    assert_eq!(keys(&store, Kind::IPPool).await, ["default-ipv4-ippool"]);
    assert_eq!(keys(&store, Kind::ClusterInformation).await, ["default"]);
    assert_eq!(keys(&store, Kind::FelixConfiguration).await, ["default", "node.a"]);
    assert_eq!(keys(&store, Kind::Tier).await, ["default", "kube-admin", "kube-baseline"]);
    let node = store.get(&Key::resource(Kind::Node, "", "a")).await.unwrap().unwrap();
    let node: calico_api::Node = calico_api::decode(&node).unwrap();
    assert_eq!(node.spec.bgp.unwrap().ipv4_address, "127.0.0.1/8");

    let revision = store.list(&Selection::all(Kind::Node)).await.unwrap().revision;
    start(&store, &vars, None, "v1").await.unwrap();
    assert_eq!(store.list(&Selection::all(Kind::Node)).await.unwrap().revision, revision);
}

#[tokio::test]
async fn ipams_resource_says_what_its_record_says() {
    let directory = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(directory.path().join("datastore.db")).unwrap();
    let store: Arc<dyn Store> = Arc::new(store);
    let record = r#"{"strict_affinity":true,"auto_allocate_blocks":true,"maxBlocksPerHost":3}"#;
    store.commit(&[Write::put(Key::IpamConfig, record.into())]).await.unwrap();
    apply_defaults(&store, "a").await.unwrap();
    let entry = store.get(&Key::resource(Kind::IPAMConfiguration, "", "default")).await.unwrap().unwrap();
    let resource: calico_api::IPAMConfiguration = calico_api::decode(&entry).unwrap();
    assert!(resource.spec.strict_affinity);
    assert_eq!(resource.spec.max_blocks_per_host, 3);

    store
        .commit(&[Write::put(Key::IpamConfig, "[]".into()), Write::delete(entry.key, entry.revision)])
        .await
        .unwrap();
    apply_defaults(&store, "a").await.unwrap();
    assert!(keys(&store, Kind::IPAMConfiguration).await.is_empty());
}

#[tokio::test]
async fn a_refused_start_leaves_no_name() {
    let directory = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(directory.path().join("datastore.db")).unwrap();
    let store: Arc<dyn Store> = Arc::new(store);
    let file = directory.path().join("nodename");
    let file_text = file.to_str().unwrap().to_owned();
    let vars = |name: &str| match name {
        "NODENAME" => Some("a".to_owned()),
        "CALICO_NODENAME_FILE" => Some(file_text.clone()),
        "IP_AUTODETECTION_METHOD" => Some("interface=no-such-interface".to_owned()),
        _ => None,
    };
    let error = start(&store, &vars, None, "v1").await.unwrap_err();
    assert!(matches!(error, StartupError::Refused(_)), "{error}");
    assert!(!file.exists());
    assert!(keys(&store, Kind::Node).await.is_empty());
}
