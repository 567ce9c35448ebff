//! The contract on the embedded store, and the round trip of the reference data.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test: it reads its own environment and files, and stops at the first surprise"
)]

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use calico_store::contract::{self, Subject};
use calico_store::{EmbeddedStore, Store};

/// A new file for each case.
struct Files {
    dir: tempfile::TempDir,
    current: std::sync::Mutex<PathBuf>,
}

impl Files {
    fn new() -> Files {
        let dir = tempfile::tempdir().unwrap();
        let current = std::sync::Mutex::new(dir.path().join("0.db"));
        Files { dir, current }
    }
}

#[async_trait]
impl Subject for Files {
    async fn fresh(&self) -> Arc<dyn Store> {
        let count = std::fs::read_dir(self.dir.path()).unwrap().count();
        let path = self.dir.path().join(format!("{count}.db"));
        self.current.lock().unwrap().clone_from(&path);
        Arc::new(EmbeddedStore::open(path).unwrap())
    }

    async fn again(&self) -> Arc<dyn Store> {
        let path = self.current.lock().unwrap().clone();
        Arc::new(EmbeddedStore::open(path).unwrap())
    }
}

#[tokio::test]
async fn the_embedded_store_keeps_the_contract() {
    let only = std::env::var("CASE").ok();
    contract::check(&Files::new(), only.as_deref()).await;
}

#[tokio::test]
async fn reference_data_survives() {
    let shared = std::env::var("CALICO_SHARED")
        .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared").to_owned());
    let Ok(text) = std::fs::read_to_string(format!("{shared}/data/etcd-samples.txt")) else {
        println!("skipped: no ../shared");
        return;
    };
    let pairs = contract::parse_pairs(&text);
    assert!(pairs.len() > 50);
    contract::check_round_trip(&*Files::new().fresh().await, &pairs).await;
}
