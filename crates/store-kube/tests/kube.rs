//! The store against a real API server with the real definitions: the contract, Kubernetes' own objects, half-done
//! deletions, missing definitions, death and rebirth of the server, refusals.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a test: it reads its own environment and files, and stops at the first surprise"
)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use calico_api::document::parse_values;
use calico_api::kubernetes::ApiGroup;
use calico_api::{Entry, Key, Revision, Selection, Write};
use calico_store::Store;
use calico_store::config::KubernetesConfig;
use calico_store::contract::{self, Subject};
use calico_store_kube::{KubeClient, KubeStore};
use calico_testkit::api_server::{ADMIN, ApiServer};
use serde_json::{Value, json};

#[path = "kube/access.rs"]
mod access;
#[path = "kube/native.rs"]
mod native;
#[path = "kube/records.rs"]
mod records;

/// The namespaces that the contract uses.
const NAMESPACES: [&str; 4] = ["ns", "a", "ab", "b"];

/// The real server, with definitions of one group.
struct Kube {
    server: ApiServer,
    group: ApiGroup,
}

impl Kube {
    /// `None` where Kubernetes' programs are not built, after saying so.
    fn start(group: ApiGroup, users: &[(&str, &[&str])]) -> Option<Kube> {
        let server = ApiServer::start(users)?;
        let directory = match group {
            ApiGroup::CrdV1 => concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/crds/v1"),
            ApiGroup::ProjectCalicoV3 => concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/crds/v3"),
        };
        server.define(&documents(directory));
        for name in NAMESPACES {
            server.apply(
                "/api/v1/namespaces",
                &json!({
                    "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name },
                }),
            );
        }
        Some(Kube { server, group })
    }

    fn config(&self, user: &str) -> KubernetesConfig {
        KubernetesConfig { kubeconfig: vec![self.server.kubeconfig(user)], ..KubernetesConfig::default() }
    }

    fn store(&self) -> KubeStore {
        KubeStore::open(&self.config(ADMIN), &|_| None).unwrap()
    }

    async fn wipe(&self, client: &KubeClient) {
        let api = format!("/apis/{}", self.group);
        let (_, resources) = request(client, "GET", &api, None).await;
        for resource in resources["resources"].as_array().unwrap() {
            let name = resource["name"].as_str().unwrap();
            if name.contains('/') {
                continue;
            }
            let paths = match resource["namespaced"].as_bool().unwrap() {
                false => vec![format!("{api}/{name}")],
                true => NAMESPACES.map(|ns| format!("{api}/namespaces/{ns}/{name}")).to_vec(),
            };
            for path in paths {
                let (code, body) = request(client, "DELETE", &path, None).await;
                assert_eq!(code, 200, "{body}");
            }
        }
    }
}

/// One request; the answer is JSON.
async fn request(client: &KubeClient, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
    let body = body.map(|body| body.to_string().into_bytes());
    let (code, answer) = client.request(method, path, "application/json", body).await.unwrap();
    (code, serde_json::from_slice(&answer).unwrap_or_default())
}

/// The YAML documents of a directory.
fn documents(directory: &str) -> Vec<Value> {
    let mut paths: Vec<_> = std::fs::read_dir(directory).unwrap().map(|e| e.unwrap().path()).collect();
    paths.sort();
    paths.iter().flat_map(|path| parse_values(&std::fs::read_to_string(path).unwrap()).unwrap()).collect()
}

#[async_trait]
impl Subject for Kube {
    async fn fresh(&self) -> Arc<dyn Store> {
        let store = self.store();
        self.wipe(store.client()).await;
        Arc::new(store)
    }

    async fn again(&self) -> Arc<dyn Store> {
        Arc::new(self.store())
    }

    fn keeps_bytes(&self) -> bool {
        false
    }

    /// The server's first revisions are older than anything that its watches remember.
    fn forgotten(&self) -> Option<Revision> {
        Some(Revision("1".into()))
    }

    fn long_list(&self) -> usize {
        1_001
    }
}

#[tokio::test]
async fn the_kubernetes_store_keeps_the_contract() {
    let Some(kube) = Kube::start(ApiGroup::CrdV1, &[]) else { return };
    let only = std::env::var("CASE").ok();
    contract::check(&kube, only.as_deref()).await;
}

#[tokio::test]
async fn the_contract_holds_in_calicos_other_group() {
    let Some(kube) = Kube::start(ApiGroup::ProjectCalicoV3, &[]) else { return };
    let only = std::env::var("CASE").ok();
    contract::check(&kube, only.as_deref()).await;
}

/// What a list holds.
async fn state(store: &dyn Store, selection: &Selection) -> BTreeMap<Key, Entry> {
    let listing = store.list(selection).await.unwrap();
    listing.entries.into_iter().map(|e| (e.key.clone(), e)).collect()
}

/// Waits for something that must come soon.
async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), future).await.unwrap()
}

/// Commits one write that must succeed.
async fn write(store: &dyn Store, write: Write) -> Revision {
    store.commit(&[write]).await.unwrap().revisions.remove(0)
}
