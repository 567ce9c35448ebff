//! Secrets in files and in a store.

use calico_api::kubernetes::secret::{Secret, entry};
use calico_api::{Key, Write};
use calico_store::EmbeddedStore;

use super::*;
use crate::testing::block_on;

fn secret(text: &str) -> SecretData {
    SecretData([("key".into(), text.as_bytes().to_vec())].into())
}

fn names(names: &[&str]) -> Vec<SmolStr> {
    names.iter().map(SmolStr::new).collect()
}

/// News until everything is settled and there are so many.
async fn news(secrets: &mut Secrets, count: usize) -> BTreeMap<SmolStr, Option<SecretData>> {
    let mut all = BTreeMap::new();
    while all.len() < count || !secrets.is_settled() {
        all.extend(secrets.next().await);
    }
    all
}

#[test]
fn files_are_read_and_read_again() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(directory.path().join("bgp/.hidden")).unwrap();
    std::fs::create_dir_all(directory.path().join("bgp/directory")).unwrap();
    std::fs::write(directory.path().join("bgp/key"), "one").unwrap();
    std::fs::write(directory.path().join("bgp/..data"), "no").unwrap();
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let mut secrets = Secrets::new(SecretSource::Files(directory.path().to_owned()));
        assert!(secrets.is_settled() && secrets.want(&names(&["bgp", "absent"])).is_empty());
        assert!(!secrets.is_settled());
        let seen = news(&mut secrets, 1).await;
        assert_eq!(seen, [("bgp".into(), Some(secret("one")))].into(), "what is absent was so before");
        std::fs::write(directory.path().join("bgp/key"), "two").unwrap();
        assert_eq!(news(&mut secrets, 1).await, [("bgp".into(), Some(secret("two")))].into());
        std::fs::remove_dir_all(directory.path().join("bgp")).unwrap();
        assert_eq!(news(&mut secrets, 1).await, [("bgp".into(), None)].into());
        assert_eq!(secrets.want(&names(&["bgp"])), names(&["absent"]));
    });
}

#[test]
fn each_secret_of_a_store_is_followed_on_its_own() {
    let directory = tempfile::tempdir().unwrap();
    let store: Arc<dyn Store> = Arc::new(EmbeddedStore::open(directory.path().join("datastore.db")).unwrap());
    let put = |name: &str, base64: &str| {
        let json = format!(
            r#"{{"metadata":{{"name":"{name}","namespace":"ns","resourceVersion":"1"}},"data":{{"key":"{base64}"}}}}"#
        );
        let secret: Secret = calico_api::kubernetes::decode(json.as_bytes()).unwrap();
        let entry = entry(&secret);
        Write::put(entry.key, entry.value)
    };
    block_on(async {
        store.commit(&[put("bgp", "b25l"), put("other", "b25l")]).await.unwrap();
        let source = SecretSource::Kubernetes { store: store.clone(), namespace: "ns".into() };
        let mut secrets = Secrets::new(source);
        secrets.want(&names(&["bgp", "late"]));
        assert_eq!(news(&mut secrets, 1).await, [("bgp".into(), Some(secret("one")))].into());
        store.commit(&[put("late", "dHdv")]).await.unwrap();
        assert_eq!(news(&mut secrets, 1).await, [("late".into(), Some(secret("two")))].into());
        let key = Key::resource(Kind::KubernetesSecret, "ns", "bgp");
        store.commit(&[Write::Delete { key, expect: calico_api::Expect::Any }]).await.unwrap();
        assert_eq!(news(&mut secrets, 1).await, [("bgp".into(), None)].into());
    });
}

#[test]
fn the_environment_decides() {
    let directory = tempfile::tempdir().unwrap();
    let store: Arc<dyn Store> = Arc::new(EmbeddedStore::open(directory.path().join("datastore.db")).unwrap());
    let files = |vars: Vars<'_>| match SecretSource::from_vars(&store, vars) {
        SecretSource::Files(directory) => directory,
        SecretSource::Kubernetes { .. } => panic!("this is no Kubernetes"),
    };
    assert_eq!(files(&|_| None), Path::new("/etc/calico/bgp-secrets"));
    let set = |name: &str| (name == "CALICO_BGP_SECRETS_DIR").then(|| " /secrets ".to_owned());
    assert_eq!(files(&set), Path::new("/secrets"));
}
