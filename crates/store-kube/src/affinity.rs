//! Affinities of one owner: the server selects them by a label with a hash of the owner's name (spec 1 §3.4).
//!
//! Old writers set no label. Whoever finds such an affinity of the owner that it asks for adds the label; where it may
//! not, it selects on its own side among those of all owners.

use calico_api::{AffinityOwner, Key, Selection, Write};
use calico_store::{Fault, Store as _};

use crate::client::Call;
use crate::error::RequestError;
use crate::list::PAGE;
use crate::part::{Object, Page, Part, View, escape};
use crate::store::KubeStore;

/// What a list or a watch of a selection asks for: path and first query.
pub(crate) async fn query(
    store: &KubeStore,
    part: Part,
    selection: &Selection,
) -> Result<String, RequestError> {
    let view = store.view().await.map_err(RequestError::Fault)?;
    let Selection::Affinities { owner: Some(owner), .. } = selection else {
        return Ok(part.query(view, selection));
    };
    if store.is_labelled(owner) {
        return Ok(part.query(view, selection));
    }
    if label_all(store, view, part, owner).await? {
        store.note_labelled(owner);
        return Ok(part.query(view, selection));
    }
    Ok(part.query(view, &Selection::Affinities { owner: None, family: None }))
}

/// Adds the label to an owner's affinities that lack it; whether all have it now.
async fn label_all(
    store: &KubeStore,
    view: &View,
    part: Part,
    owner: &AffinityOwner,
) -> Result<bool, RequestError> {
    let mut all = true;
    let mut next = String::new();
    loop {
        let path = format!("{}limit={PAGE}&continue={}", part.query_unlabelled(view), escape(&next));
        let body = store.client().call(&Call::get(path)).await?;
        let page = part.read_page(view, &body);
        let page = page.map_err(|error| RequestError::Fault(Fault::Broken(error.into())))?;
        let Page { objects, next: after, .. } = page;
        for Object { entries, doomed, .. } in objects {
            if let Some(doomed) = doomed {
                store.finish(&doomed).await;
                continue;
            }
            for entry in entries {
                if !matches!(&entry.key, Key::Affinity { owner: found, .. } if found == owner) {
                    continue;
                }
                // Written again as it is, it gets the labels that this version writes.
                let write = Write::update(entry.key, entry.value, entry.revision);
                if let Err(error) = store.commit(&[write]).await {
                    let error = &error as &dyn std::error::Error;
                    tracing::debug!(error, "an affinity of an old writer's stays without its label");
                    all = false;
                }
            }
        }
        if after.is_empty() {
            return Ok(all);
        }
        next = after;
    }
}
