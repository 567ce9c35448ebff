//! Calico's custom resources: half-done deletions, missing definitions, old names, finalizers, a server that dies.

use calico_api::{Expect, Kind};
use calico_store::contract::follow_until;
use calico_store::{CommitError, Syncer, SyncerOptions, WatchEvent};

use super::*;

const HANDLES: &str = "/apis/crd.projectcalico.org/v1/ipamhandles";

fn handle(id: &str) -> (Key, bytes::Bytes) {
    let value = json!({ "handleID": id, "block": { "10.0.0.0/26": 1 }, "deleted": false });
    (Key::Handle(id.into()), value.to_string().into())
}

/// Marks a record as deleted, as a writer does that dies before the second step.
async fn mark(client: &KubeClient, name: &str) {
    let path = format!("{HANDLES}/{name}");
    let (_, mut object) = request(client, "GET", &path, None).await;
    object["spec"]["deleted"] = true.into();
    assert_eq!(request(client, "PUT", &path, Some(object)).await.0, 200);
}

#[tokio::test]
async fn who_finds_a_half_done_deletion_finishes_it() {
    let Some(kube) = Kube::start(ApiGroup::CrdV1, &[]) else { return };
    let store = kube.store();
    let client = store.client();
    let mut watch = store.watch(&Selection::Handles, None).await.unwrap();
    for id in ["get", "list", "create", "update"] {
        let (key, value) = handle(id);
        write(&store, Write::create(key, value)).await;
    }
    let there = |name: &'static str| async move {
        request(client, "GET", &format!("{HANDLES}/{name}"), None).await.0 == 200
    };

    mark(client, "get").await;
    assert!(there("get").await);
    assert_eq!(store.get(&handle("get").0).await.unwrap(), None);
    assert!(!there("get").await);

    mark(client, "list").await;
    let listed: Vec<Key> = state(&store, &Selection::Handles).await.into_keys().collect();
    assert_eq!(listed, [handle("create").0, handle("update").0]);
    assert!(!there("list").await);

    mark(client, "create").await;
    let (key, value) = handle("create");
    write(&store, Write::create(key.clone(), value)).await;
    assert!(store.get(&key).await.unwrap().is_some());

    let (key, value) = handle("update");
    let before = store.get(&key).await.unwrap().unwrap().revision;
    mark(client, "update").await;
    let stale = store.commit(&[Write::update(key, value, before)]).await;
    assert!(matches!(stale, Err(CommitError::Conflict { current: None, .. })), "{stale:?}");

    // A watch tells each deletion once, at the mark.
    let mut told: Vec<String> = Vec::new();
    while told.len() < 9 {
        match within(watch.next()).await.unwrap() {
            WatchEvent::Put(entry) => {
                told.push(format!("+{}", entry.key.to_string().rsplit('/').next().unwrap()))
            }
            WatchEvent::Deleted { key, .. } => {
                told.push(format!("-{}", key.to_string().rsplit('/').next().unwrap()))
            }
            WatchEvent::Progress(_) => {}
        }
    }
    assert_eq!(
        told,
        ["+get", "+list", "+create", "+update", "-get", "-list", "-create", "+create", "-update"]
    );
}

#[tokio::test]
async fn what_is_not_defined_is_empty_and_cannot_be_written() {
    let Some(server) = ApiServer::start(&[]) else { return };
    let config =
        KubernetesConfig { kubeconfig: vec![server.kubeconfig(ADMIN)], ..KubernetesConfig::default() };
    let store = Arc::new(KubeStore::open(&config, &|_| None).unwrap());
    let pools = Selection::all(Kind::IPPool);
    let key = Key::resource(Kind::IPPool, "", "p");
    assert_eq!(store.get(&key).await.unwrap(), None);
    assert!(state(&*store, &pools).await.is_empty());
    let mut syncer = Syncer::spawn(store.clone(), vec![pools, Selection::Handles], SyncerOptions::default());
    within(follow_until(&mut syncer, &mut BTreeMap::new(), |view, in_sync| in_sync && view.is_empty())).await;
    let pool = json!({
        "kind": "IPPool", "apiVersion": "projectcalico.org/v3", "metadata": { "name": "p" }, "spec": { "cidr": "10.0.0.0/16" },
    });
    let refused = store.commit(&[Write::create(key, pool.to_string().into())]).await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        "/calico/resources/v3/projectcalico.org/ippools/p cannot be written: POST \
         /apis/crd.projectcalico.org/v1/ippools: the API server does not know this resource; is Calico's \
         CustomResourceDefinition installed?"
    );
}

#[tokio::test]
async fn refusals_name_what_is_wrong() {
    let Some(kube) = Kube::start(ApiGroup::CrdV1, &[]) else { return };
    let store = kube.store();
    let refused = |key: Key, value: Value| {
        let store = store.clone();
        async move {
            match store.commit(&[Write::create(key, value.to_string().into())]).await {
                Err(CommitError::Refused { reason, .. }) => reason,
                other => panic!("{other:?}"),
            }
        }
    };
    let policy = |spec: Value| json!({ "kind": "NetworkPolicy", "apiVersion": "projectcalico.org/v3", "metadata": { "name": "p", "namespace": "nowhere" }, "spec": spec });
    let reason = refused(Key::resource(Kind::NetworkPolicy, "nowhere", "p"), policy(json!({}))).await;
    assert_eq!(reason, "namespaces \"nowhere\" not found");
    let reason =
        refused(Key::resource(Kind::NetworkPolicy, "ns", "p"), policy(json!({ "order": "x" }))).await;
    assert!(reason.contains("spec.order"), "{reason}");
    let reason = refused(Key::resource(Kind::Profile, "", "kns.ns"), json!({})).await;
    assert_eq!(reason, "profiles are made from namespaces and service accounts; change those");
    let reason = refused(Key::FelixStatus("n1".into()), json!({})).await;
    assert_eq!(reason, "the Kubernetes datastore does not keep it");
}

#[tokio::test]
async fn finalizers_and_old_names_stay() {
    let Some(kube) = Kube::start(ApiGroup::CrdV1, &[]) else { return };
    let store = kube.store();
    let client = store.client();
    const POLICIES: &str = "/apis/crd.projectcalico.org/v1/namespaces/ns/networkpolicies";
    let old = json!({
        "apiVersion": "crd.projectcalico.org/v1", "kind": "NetworkPolicy",
        "metadata": { "name": "default.old", "namespace": "ns", "finalizers": ["test.io/keep"] },
        "spec": { "tier": "default", "selector": "all()" },
    });
    assert_eq!(request(client, "POST", POLICIES, Some(old)).await.0, 201);
    let key = Key::resource(Kind::NetworkPolicy, "ns", "old");
    let Some(entry) = store.get(&key).await.unwrap() else {
        let listed = state(&store, &Selection::all(Kind::NetworkPolicy)).await;
        panic!("not found; there are {:?}", listed.keys());
    };
    let mut value: Value = serde_json::from_slice(&entry.value).unwrap();
    value["spec"]["selector"] = "has(x)".into();
    let revision = write(&store, Write::update(key.clone(), value.to_string().into(), entry.revision)).await;
    let (_, stored) = request(client, "GET", &format!("{POLICIES}/default.old"), None).await;
    assert_eq!(stored["spec"]["selector"], "has(x)");
    assert_eq!(stored["metadata"]["finalizers"], json!(["test.io/keep"]));
    let again = store.commit(&[Write::create(key.clone(), entry.value)]).await;
    assert!(matches!(again, Err(CommitError::Conflict { current: Some(_), .. })), "{again:?}");
    write(&store, Write::Delete { key, expect: Expect::At(revision) }).await;
    let (_, stored) = request(client, "GET", &format!("{POLICIES}/default.old"), None).await;
    assert!(stored["metadata"]["deletionTimestamp"].is_string(), "it waits for its finalizer");
}

#[tokio::test]
async fn a_syncer_outlives_the_server() {
    let Some(mut kube) = Kube::start(ApiGroup::CrdV1, &[]) else { return };
    let store = Arc::new(kube.store());
    let selections = vec![Selection::Handles, Selection::all(Kind::Profile)];
    let profiles = state(&*store, &selections[1]).await.len();
    for n in 0..20 {
        let (key, value) = handle(&format!("h{n}"));
        write(&*store, Write::create(key, value)).await;
    }
    let mut syncer = Syncer::spawn(Arc::new(kube.store()), selections, SyncerOptions::default());
    let mut view = BTreeMap::new();
    follow_until(&mut syncer, &mut view, |view, in_sync| in_sync && view.len() == 20 + profiles).await;
    for round in 0..2 {
        kube.server.kill();
        let (key, value) = handle(&format!("while-dead-{round}"));
        let lost = store.commit(&[Write::create(key, value)]).await;
        assert!(matches!(lost, Err(CommitError::Fault(calico_store::Fault::Unavailable(_)))), "{lost:?}");
        kube.server.revive();
        let (key, value) = handle(&format!("after-{round}"));
        // The same store as before: it connects again by itself.
        within(async {
            while store.get(&key).await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
        write(&*store, Write::create(key.clone(), value)).await;
        let gone = Write::Delete { key: handle(&format!("h{round}")).0, expect: Expect::Any };
        write(&*store, gone).await;
        let now = state(&*store, &Selection::Handles).await.len() + profiles;
        follow_until(&mut syncer, &mut view, |view, _| view.len() == now && view.contains_key(&key)).await;
    }
}

#[tokio::test]
async fn affinities_of_old_writers_are_found_and_get_their_label() {
    let Some(kube) = Kube::start(ApiGroup::CrdV1, &[]) else { return };
    let store = kube.store();
    let client = store.client();
    let collection = "/apis/crd.projectcalico.org/v1/blockaffinities";
    let old = |node: &str, cidr: &str, name: &str| {
        json!({
            "apiVersion": "crd.projectcalico.org/v1", "kind": "BlockAffinity", "metadata": { "name": name },
            "spec": { "node": node, "cidr": cidr, "state": "confirmed", "deleted": "false" },
        })
    };
    for object in [
        old("n1", "10.0.0.0/26", "n1-10-0-0-0-26"),
        old("n2", "10.0.1.0/26", "n2-10-0-1-0-26"),
        old("n1", "10.0.2.0/26", "n1-10-0-2-0-26"),
    ] {
        assert_eq!(request(client, "POST", collection, Some(object)).await.0, 201);
    }
    let label = |name: &'static str| async move {
        let (code, object) = request(client, "GET", &format!("{collection}/{name}"), None).await;
        assert_eq!(code, 200, "{object}");
        object["metadata"]["labels"]["projectcalico.org/hostname-hash"].clone()
    };
    let owner = |name: &str| calico_api::AffinityOwner::Host(name.into());
    let of_n1 = Selection::Affinities { owner: Some(owner("n1")), family: None };
    let key = |name: &str, block: &str| Key::Affinity { owner: owner(name), block: block.parse().unwrap() };
    assert_eq!(label("n1-10-0-0-0-26").await, Value::Null);
    let expected = [key("n1", "10.0.0.0/26"), key("n1", "10.0.2.0/26")];
    assert!(state(&store, &of_n1).await.into_keys().eq(expected.clone()));
    let hash = label("n1-10-0-0-0-26").await;
    assert!(hash.is_string() && label("n1-10-0-2-0-26").await == hash, "{hash}");
    assert_eq!(label("n2-10-0-1-0-26").await, Value::Null, "another's is its own to label");

    // Our own writes have it, and a watch hears of the owner's alone.
    let mut watch = store.watch(&of_n1, None).await.unwrap();
    let value = store.get(&expected[0]).await.unwrap().unwrap().value;
    for (name, block) in [("n2", "10.0.3.0/26"), ("n1", "10.0.4.0/26")] {
        write(&store, Write::create(key(name, block), value.clone())).await;
    }
    assert_eq!(label("n1-10-0-4-0-26").await, hash);
    write(&store, Write::Delete { key: expected[0].clone(), expect: Expect::Any }).await;
    let mut told = Vec::new();
    while told.len() < 4 {
        match within(watch.next()).await.unwrap() {
            WatchEvent::Put(entry) => told.push((true, entry.key)),
            WatchEvent::Deleted { key, .. } => told.push((false, key)),
            WatchEvent::Progress(_) => {}
        }
    }
    let [first, second] = expected;
    let changes = [(true, first.clone()), (true, second), (true, key("n1", "10.0.4.0/26")), (false, first)];
    assert_eq!(told, changes);
}
