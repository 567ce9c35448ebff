//! Several reads as one etcd transaction, one round trip. What is too much for one takes more.

use calico_api::{Entry, Key, Selection};
use calico_store::{Fault, Found, ListError, MAX_WRITES, ReadError, Store, key_range};
use etcd_client::{GetOptions, GetResponse, Txn, TxnOp, TxnOpResponse};

use crate::client::{EtcdStore, LIST_PAGE, entry};

pub(crate) async fn read(
    store: &EtcdStore,
    keys: &[Key],
    selections: &[Selection],
) -> Result<Found, ReadError> {
    let single = keys.iter().map(|key| TxnOp::get(key.to_string(), None));
    let ranges = selections.iter().map(|selection| {
        let (start, end) = key_range(selection);
        TxnOp::get(start, Some(GetOptions::new().with_range(end).with_limit(LIST_PAGE)))
    });
    let operations: Vec<TxnOp> = single.chain(ranges).collect();
    let mut answers = Vec::with_capacity(operations.len());
    // etcd allows as many reads in a transaction as writes.
    for operations in operations.chunks(MAX_WRITES) {
        let answered = store.kv().txn(Txn::new().and_then(operations)).await;
        let answered =
            answered.map_err(|error| ReadError::of_first(keys, selections, store.fault(&error)))?;
        answers.extend(answered.op_responses().into_iter().filter_map(|answer| match answer {
            TxnOpResponse::Get(found) => Some(found),
            _ => None,
        }));
    }
    if answers.len() != operations.len() {
        let cause = format!("{} answers to {} reads", answers.len(), operations.len()).into();
        return Err(ReadError::of_first(keys, selections, Fault::Broken(cause)));
    }
    let mut answers = answers.into_iter();
    let entries = answers.by_ref().take(keys.len()).map(|mut found| found.take_kvs().pop().and_then(entry));
    let entries = entries.collect();
    let mut listings = Vec::with_capacity(selections.len());
    for (selection, found) in selections.iter().zip(answers) {
        listings.push(listing(store, selection, found).await?);
    }
    Ok(Found { entries, listings })
}

/// What a page holds; a selection that has more is listed by itself.
async fn listing(
    store: &EtcdStore,
    selection: &Selection,
    mut found: GetResponse,
) -> Result<Vec<Entry>, ListError> {
    if found.more() {
        return Ok(store.list(selection).await?.entries);
    }
    let entries = found.take_kvs().into_iter().filter_map(entry);
    Ok(entries.filter(|entry| selection.contains(&entry.key)).collect())
}
