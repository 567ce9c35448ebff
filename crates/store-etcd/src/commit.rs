//! A commit as one etcd transaction: all compares, then all writes; or, if a compare fails, what is there instead.

use calico_api::{Expect, Write};
use calico_store::store::check_shape;
use calico_store::{CommitError, Committed, Fault};
use etcd_client::{Compare, CompareOp, Error, PutOptions, Txn, TxnOp, TxnOpResponse};

use crate::client::{EtcdStore, entry, header, number};

pub(crate) async fn commit(store: &EtcdStore, writes: &[Write]) -> Result<Committed, CommitError> {
    check_shape(writes)?;
    let leases = grant_leases(store, writes).await.map_err(|error| store.fault(&error))?;
    let txn = transaction(writes, &leases);
    let mut response = match store.kv().txn(txn).await {
        Ok(response) => response,
        Err(error) => return Err(CommitError::Fault(store.fault(&error))),
    };
    if response.succeeded() {
        let header = header(response.take_header()).map_err(|error| store.fault(&error))?;
        return Ok(Committed { revisions: vec![header.revision().into(); writes.len()] });
    }
    for lease in leases.into_iter().flatten() {
        // Nothing hangs on it; if it cannot be revoked now it ends by itself.
        if let Err(error) = store.client.lease_client().revoke(lease).await {
            tracing::debug!(%error, lease, "an unused lease stays until it ends");
        }
    }
    conflict(writes, response.op_responses())
}

/// A fresh lease for each put with a time to live, never kept alive (spec 1 §2.5).
async fn grant_leases(store: &EtcdStore, writes: &[Write]) -> Result<Vec<Option<i64>>, Error> {
    let mut leases = Vec::with_capacity(writes.len());
    for write in writes {
        leases.push(match write {
            Write::Put { ttl_secs: Some(ttl), .. } => {
                Some(store.client.lease_client().grant(i64::from(*ttl), None).await?.id())
            }
            _ => None,
        });
    }
    Ok(leases)
}

/// Those steps that expect something, in order: each has one compare, and one get for the failure branch.
fn expecting(writes: &[Write]) -> impl Iterator<Item = (usize, &Write, &Expect)> {
    writes.iter().enumerate().filter_map(|(index, write)| {
        let (Write::Put { expect, .. } | Write::Delete { expect, .. } | Write::Check { expect, .. }) = write;
        (*expect != Expect::Any).then_some((index, write, expect))
    })
}

fn transaction(writes: &[Write], leases: &[Option<i64>]) -> Txn {
    let mut compares = Vec::new();
    let mut reads = Vec::new();
    for (_, write, expect) in expecting(writes) {
        let key = write.key().to_string();
        reads.push(TxnOp::get(key.as_str(), None));
        compares.push(match expect {
            Expect::At(revision) => Compare::mod_revision(key, CompareOp::Equal, number(revision)),
            Expect::Absent | Expect::Any => Compare::version(key, CompareOp::Equal, 0),
        });
    }
    let mut ops = Vec::new();
    for (write, lease) in writes.iter().zip(leases) {
        match write {
            Write::Put { key, value, .. } => {
                let options = lease.map(|id| PutOptions::new().with_lease(id));
                ops.push(TxnOp::put(key.to_string(), value.to_vec(), options));
            }
            Write::Delete { key, .. } => ops.push(TxnOp::delete(key.to_string(), None)),
            Write::Check { .. } => {}
        }
    }
    Txn::new().when(compares).and_then(ops).or_else(reads)
}

/// Which step failed, from what the failure branch read in the same transaction.
fn conflict(writes: &[Write], answers: Vec<TxnOpResponse>) -> Result<Committed, CommitError> {
    for ((index, write, expect), answer) in expecting(writes).zip(answers) {
        let TxnOpResponse::Get(mut get) = answer else { continue };
        let kv = get.take_kvs().pop();
        let holds = match (expect, &kv) {
            (Expect::Any, _) | (Expect::Absent, None) => true,
            (Expect::At(revision), Some(kv)) => kv.mod_revision() == number(revision),
            (Expect::Absent, Some(_)) | (Expect::At(_), None) => false,
        };
        if !holds {
            return Err(CommitError::Conflict {
                index,
                key: write.key().clone(),
                current: kv.and_then(entry).map(Box::new),
            });
        }
    }
    let cause = "the server refused a transaction whose every comparison holds".into();
    Err(CommitError::Fault(Fault::Broken(cause)))
}
