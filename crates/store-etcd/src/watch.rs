//! Watches: one etcd watch each, pumped into a bounded channel.

use calico_api::{Key, Revision, Selection};
use calico_store::{Fault, Store, Watch, WatchError, WatchEvent, WatchSender, key_range};
use etcd_client::{EventType, WatchOptions, WatchResponse, WatchStream};

use crate::client::{EtcdStore, entry, number};

pub(crate) async fn watch(
    store: &EtcdStore,
    selection: Selection,
    from: Option<Revision>,
) -> Result<Watch, WatchError> {
    let mut first = Vec::new();
    let from = match from {
        Some(revision) => number(&revision),
        None => {
            let listing = store.list(&selection).await.map_err(|e| WatchError::Lost(e.fault))?;
            first.extend(listing.entries.into_iter().map(WatchEvent::Put));
            let revision = number(&listing.revision);
            first.push(WatchEvent::Progress(listing.revision));
            revision
        }
    };
    let stream = open(store, &selection, from).await?;
    let (sender, watch) = Watch::channel(first);
    tokio::spawn(pump(store.clone(), stream, selection, from, sender));
    Ok(watch)
}

/// Opens the stream and waits until the server has accepted the watch, so that an impossible one fails here.
async fn open(store: &EtcdStore, selection: &Selection, from: i64) -> Result<WatchStream, WatchError> {
    if from < 0 {
        // No revision of etcd's: whatever it was, its history is not here.
        return Err(WatchError::Compacted);
    }
    let (start, end) = key_range(selection);
    let options = WatchOptions::new()
        .with_range(end)
        .with_start_revision(from + 1)
        .with_progress_notify()
        .with_fragment();
    let lost = |error| WatchError::Lost(store.fault(&error));
    let mut stream = store.watches().watch(start, Some(options)).await.map_err(lost)?;
    let created = next(store, &mut stream).await?;
    let header = created.header();
    // A server that is behind our revision, or another cluster, does not have the history that the revision is from.
    // (Revisions from `from + 1` on would simply never come.)
    if header.is_some_and(|h| h.revision() < from || store.is_other_cluster(h)) {
        return Err(WatchError::Compacted);
    }
    Ok(stream)
}

/// The next response that is no error.
async fn next(store: &EtcdStore, stream: &mut WatchStream) -> Result<WatchResponse, WatchError> {
    let lost = |cause: &str| WatchError::Lost(Fault::Unavailable(cause.into()));
    let response = match stream.message().await {
        Ok(Some(response)) => response,
        Ok(None) => return Err(lost("the server closed the watch")),
        Err(error) => return Err(WatchError::Lost(store.fault(&error))),
    };
    if response.compact_revision() > 0 {
        return Err(WatchError::Compacted);
    }
    if response.canceled() {
        let reason = response.cancel_reason();
        return Err(match reason.contains("permission denied") {
            true => WatchError::Lost(Fault::Denied(reason.into())),
            false => lost(if reason.is_empty() { "the server cancelled the watch" } else { reason }),
        });
    }
    Ok(response)
}

async fn pump(
    store: EtcdStore,
    mut stream: WatchStream,
    selection: Selection,
    from: i64,
    sender: WatchSender,
) {
    let mut reported = from;
    loop {
        let response = tokio::select! {
            response = next(&store, &mut stream) => response,
            () = sender.closed() => return,
        };
        let response = match response {
            Ok(response) => response,
            Err(error) => return sender.fail(error).await,
        };
        let batch = batch(&response, &selection, &mut reported);
        store.note_revision(reported);
        if !batch.is_empty() && sender.send(batch).await.is_err() {
            return;
        }
    }
}

/// What a response says.
fn batch(response: &WatchResponse, selection: &Selection, reported: &mut i64) -> Vec<WatchEvent> {
    let mut batch = Vec::with_capacity(response.events().len() + 1);
    let mut last = 0;
    for event in response.events() {
        let Some(kv) = event.kv() else { continue };
        last = kv.mod_revision();
        match event.event_type() {
            EventType::Put => {
                batch.extend(entry(kv.clone()).filter(|e| selection.contains(&e.key)).map(WatchEvent::Put));
            }
            EventType::Delete => {
                let key = kv.key_str().ok().and_then(|text| Key::parse(text).ok());
                let revision = Revision::from(last);
                batch.extend(
                    key.filter(|k| selection.contains(k)).map(|key| WatchEvent::Deleted { key, revision }),
                );
            }
        }
    }
    // A response without events is a progress notification, and its header says how far. After events, only the
    // revisions before the last one are surely complete: the rest of it may come in the next fragment.
    let complete = match (last, response.header()) {
        (0, Some(header)) if !response.created() => header.revision(),
        (0, _) => *reported,
        (last, _) => last - 1,
    };
    if complete > *reported {
        *reported = complete;
        batch.push(WatchEvent::Progress(complete.into()));
    }
    batch
}
