//! Who may and who may not: forbidden, unknown and renewed tokens, wrong authorities, servers that say nothing.

use std::error::Error;
use std::net::TcpListener;
use std::time::Instant;

use calico_api::Kind;
use calico_store::config::Pem;
use calico_store::{Fault, WatchError};

use super::*;

/// An error and its causes.
fn words(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

fn node() -> Key {
    Key::resource(Kind::Node, "", "n1")
}

#[tokio::test]
async fn refusals_of_access_say_who_and_what() {
    let Some(kube) = Kube::start(ApiGroup::CrdV1, &[("guest", &[])]) else { return };
    let guest = KubeStore::open(&kube.config("guest"), &|_| None).unwrap();
    let error = guest.list(&Selection::all(Kind::Node)).await.unwrap_err();
    assert!(matches!(error.fault, Fault::Denied(_)), "{error:?}");
    assert_eq!(
        words(&error),
        "cannot list /calico/resources/v3/projectcalico.org/nodes/: the datastore refuses access: GET \
         /api/v1/nodes: nodes is forbidden: User \"guest\" cannot list resource \"nodes\" in API group \"\" at the \
         cluster scope (403 Forbidden)"
    );
    let watch = guest.watch(&Selection::all(Kind::IPPool), Some(1.into())).await;
    assert!(matches!(watch, Err(WatchError::Lost(Fault::Denied(_)))), "{watch:?}");

    let unknown = KubernetesConfig { token: Some("expired".into()), ..kube.config(ADMIN) };
    let unknown = KubeStore::open(&unknown, &|_| None).unwrap();
    let error = unknown.get(&node()).await.unwrap_err();
    assert!(matches!(error.fault, Fault::Denied(_)), "{error:?}");
    assert_eq!(
        words(&error),
        format!(
            "cannot read /calico/resources/v3/projectcalico.org/nodes/n1: the datastore refuses access: GET \
             /apis: {} does not accept the token (401 Unauthorized)",
            kube.server.url()
        )
    );
}

#[tokio::test]
async fn a_renewed_token_is_used() {
    let Some(kube) = Kube::start(ApiGroup::CrdV1, &[]) else { return };
    let dir = tempfile::tempdir().unwrap();
    let token = dir.path().join("token");
    std::fs::write(&token, "old").unwrap();
    let config = dir.path().join("config");
    let text = json!({
        "current-context": "c",
        "contexts": [{ "name": "c", "context": { "cluster": "c", "user": "u" } }],
        "clusters": [{ "name": "c", "cluster": { "server": kube.server.url(), "certificate-authority": kube.server.ca() } }],
        "users": [{ "name": "u", "user": { "tokenFile": "token" } }],
    });
    std::fs::write(&config, text.to_string()).unwrap();
    let config = KubernetesConfig { kubeconfig: vec![config], ..KubernetesConfig::default() };
    let store = KubeStore::open(&config, &|_| None).unwrap();
    assert!(matches!(store.get(&node()).await.unwrap_err().fault, Fault::Denied(_)));
    std::fs::write(&token, ApiServer::token(ADMIN)).unwrap();
    assert_eq!(store.get(&node()).await.unwrap(), None);
}

#[tokio::test]
async fn servers_that_are_not_trusted_or_not_there_are_reported_soon() {
    let Some(kube) = Kube::start(ApiGroup::CrdV1, &[]) else { return };
    // The system's authorities do not know the server's.
    let anyone = KubernetesConfig {
        endpoint: Some(kube.server.url()),
        token: Some(ApiServer::token(ADMIN)),
        ..KubernetesConfig::default()
    };
    let error = KubeStore::open(&anyone, &|_| None).unwrap().get(&node()).await.unwrap_err();
    assert!(matches!(error.fault, Fault::Broken(_)), "{error:?}");
    let text = words(&error);
    assert!(text.contains("no TLS connection to the API server") && text.contains("UnknownIssuer"), "{text}");
    let insecure = KubernetesConfig { insecure: true, ..anyone.clone() };
    assert_eq!(KubeStore::open(&insecure, &|_| None).unwrap().get(&node()).await.unwrap(), None);
    let trusting = KubernetesConfig { ca: Some(Pem::File(kube.server.ca())), ..anyone };
    assert_eq!(KubeStore::open(&trusting, &|_| None).unwrap().get(&node()).await.unwrap(), None);
}

#[tokio::test]
async fn a_stalled_handshake_is_bounded() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("https://{}", listener.local_addr().unwrap());
    let config = KubernetesConfig { endpoint: Some(endpoint.clone()), ..KubernetesConfig::default() };
    let started = Instant::now();
    let error = KubeStore::open(&config, &|_| None).unwrap().get(&node()).await.unwrap_err();
    assert!(matches!(error.fault, Fault::Unavailable(_)), "{error:?}");
    let text = words(&error);
    assert!(
        text.ends_with(&format!("the API server at {endpoint} did not give a TLS handshake within 10 s")),
        "{text}"
    );
    assert!(started.elapsed() < Duration::from_secs(15));

    drop(listener);
    let started = Instant::now();
    let error = KubeStore::open(&config, &|_| None).unwrap().get(&node()).await.unwrap_err();
    assert!(error.fault.is_transient());
    assert!(words(&error).contains(&format!("cannot connect to the API server at {endpoint}")), "{error:?}");
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn who_may_only_create_needs_no_right_to_the_status() {
    let Some(kube) = Kube::start(ApiGroup::CrdV1, &[("creator", &[])]) else { return };
    const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";
    let rule = json!({ "apiGroups": ["crd.projectcalico.org"], "resources": ["tiers"], "verbs": ["create"] });
    kube.server.apply(
        &format!("{RBAC}/clusterroles"),
        &json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": { "name": "creator" }, "rules": [rule],
        }),
    );
    kube.server.apply(
        &format!("{RBAC}/clusterrolebindings"),
        &json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": { "name": "creator" },
            "subjects": [{ "kind": "User", "name": "creator" }],
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "creator" },
        }),
    );
    let store = KubeStore::open(&kube.config("creator"), &|_| None).unwrap();
    let tier = json!({
        "kind": "Tier", "apiVersion": "projectcalico.org/v3", "metadata": { "name": "t" }, "spec": { "order": 1 }, "status": {},
    });
    let create = Write::create(Key::resource(Kind::Tier, "", "t"), tier.to_string().into());
    // A right takes a moment to count.
    within(async {
        loop {
            match store.commit(std::slice::from_ref(&create)).await {
                Ok(_) => break,
                Err(error) => assert!(!words(&error).contains("tiers/status"), "{}", words(&error)),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}
