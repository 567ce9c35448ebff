//! Operations of writers who meet, on a store that commits all or nothing and on one that commits step by step.

use std::collections::BTreeSet;
use std::sync::Arc;

use calico_api::{IPPool, IPPoolSpec, Kind, Node, NodeSpec, encode};
use calico_ipam::{Assign, AssignRequest, UnixTime};
use futures::future::join_all;

use super::*;
use crate::EmbeddedStore;
use crate::attempt::tests::OneByOne;

/// Writers of one node, who all want their address of the same block.
async fn writers_who_meet(store: Arc<dyn Store>) {
    let pool = IPPoolSpec { cidr: "10.65.0.0/26".into(), ..IPPoolSpec::default() };
    let setup = [
        Write::put(Key::resource(Kind::Node, "", "n"), encode(&Node::new("", "n", NodeSpec::default()))),
        Write::put(Key::resource(Kind::IPPool, "", "p"), encode(&IPPool::new("", "p", pool))),
    ];
    store.commit(&setup).await.unwrap();
    const WRITERS: usize = 8;
    let now = UnixTime::from_secs(1_000_000);
    let assigned = join_all((0..WRITERS).map(|writer| {
        let store = store.clone();
        let request = AssignRequest::workload("n", &format!("h{writer}"), 1, 0);
        tokio::spawn(async move { drive(&*store, Assign::new(request, now)).await.unwrap() })
    }));
    let addresses: BTreeSet<_> =
        assigned.await.into_iter().flat_map(|outcome| outcome.unwrap().v4).map(|a| a.address).collect();
    assert_eq!(addresses.len(), WRITERS);
}

fn embedded(directory: &tempfile::TempDir) -> EmbeddedStore {
    EmbeddedStore::open(directory.path().join("store.db")).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn who_loses_tries_again() {
    let directory = tempfile::tempdir().unwrap();
    writers_who_meet(Arc::new(embedded(&directory))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn who_loses_halfway_goes_on_from_there() {
    let directory = tempfile::tempdir().unwrap();
    writers_who_meet(Arc::new(OneByOne(embedded(&directory)))).await;
}

#[tokio::test]
async fn what_is_known_serves_the_next_operation() {
    let directory = tempfile::tempdir().unwrap();
    let store = embedded(&directory);
    let mut known = Known::new();
    let request = || Assign::new(AssignRequest::workload("n", "h", 1, 0), UnixTime::from_secs(1));
    let refused = drive_knowing(&store, request(), &mut known).await.unwrap();
    assert!(refused.is_err(), "there is no pool: {refused:?}");
    assert!(matches!(drive(&store, request()).await, Err(DriveError::Refused(_))));
}
