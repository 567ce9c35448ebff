//! Lists: all pages of each API resource of a selection, each a snapshot.

use calico_api::{Entry, Selection};
use calico_store::Fault;

use crate::affinity;
use crate::client::Call;
use crate::error::RequestError;
use crate::part::{Object, Page, Part};
use crate::position::Mark;
use crate::served;
use crate::store::KubeStore;

/// How many objects one request asks for: a page of large objects stays a few megabytes.
pub(crate) const PAGE: usize = 500;

/// How often a list starts again because its snapshot expired between two pages. The server keeps it for five minutes.
const TRIES: usize = 3;

/// Everything of one API resource that a selection holds, and the revision of the snapshot.
pub(crate) async fn list(
    store: &KubeStore,
    part: Part,
    selection: &Selection,
) -> Result<(Vec<Entry>, Mark), Fault> {
    let mut tries = 0;
    loop {
        tries += 1;
        match pages(store, part, selection).await {
            Err(RequestError::Refused(refusal)) if refusal.code == 410 && tries < TRIES => {}
            // Who lacks a right to it hears of that first, whether it is there or not.
            Err(RequestError::Refused(refusal)) if matches!(refusal.code, 403 | 404) => {
                let collection = part.collection(store.view().await?, "");
                return match served::is_served(store.client(), &collection).await {
                    Ok(false) => Ok((Vec::new(), Mark::Missing)),
                    _ if refusal.code == 403 => Err(refusal.into_fault()),
                    Ok(true) => Err(Fault::Unavailable(refusal.into())),
                    Err(fault) => Err(fault),
                };
            }
            Err(error) => return Err(error.into_fault()),
            Ok(listed) => return Ok(listed),
        }
    }
}

async fn pages(
    store: &KubeStore,
    part: Part,
    selection: &Selection,
) -> Result<(Vec<Entry>, Mark), RequestError> {
    let view = store.view().await.map_err(RequestError::Fault)?;
    let base = affinity::query(store, part, selection).await?;
    let known = store.newest(part);
    let mut entries = Vec::new();
    let mut mark = None;
    let mut next = String::new();
    loop {
        let mut path = format!("{base}limit={PAGE}");
        if !next.is_empty() {
            path = format!("{path}&continue={}", crate::part::escape(&next));
        }
        let body = store.client().call(&Call::get(path)).await?;
        let page =
            part.read_page(view, &body).map_err(|error| RequestError::Fault(Fault::Broken(error.into())))?;
        let Page { objects, revision, next: after } = page;
        for Object { entries: found, doomed, revision: _ } in objects {
            match doomed {
                Some(doomed) => store.finish(&doomed).await,
                None => entries.extend(found.into_iter().filter(|e| selection.contains(&e.key))),
            }
        }
        // The first page's revision is the snapshot's.
        let mark = *mark.get_or_insert(match revision.parse() {
            Ok(number) => Mark::At(number),
            Err(_) => {
                let problem = format!("a list has the resourceVersion {revision:?}, which is no number");
                return Err(RequestError::Fault(Fault::Broken(problem.into())));
            }
        });
        if after.is_empty() {
            if let Mark::At(number) = mark {
                store.note_listed(part, known, number);
            }
            return Ok((entries, mark));
        }
        next = after;
    }
}

/// Whether the server's history of an API resource has come as far as a revision. After a watch has broken off the
/// server is asked: one that was restored from a backup has another history.
pub(crate) async fn reaches(
    store: &KubeStore,
    part: Part,
    selection: &Selection,
    number: u64,
) -> Result<bool, Fault> {
    if store.has_reached(part, number) {
        return Ok(true);
    }
    let view = store.view().await?;
    let known = store.newest(part);
    let base = affinity::query(store, part, selection).await.map_err(RequestError::into_fault)?;
    let path = format!("{base}limit=1");
    let body = store.client().call(&Call::get(path)).await.map_err(RequestError::into_fault)?;
    let page = part.read_page(view, &body).map_err(|error| Fault::Broken(error.into()))?;
    let now = page.revision.parse().unwrap_or(0);
    store.note_listed(part, known, now);
    Ok(now >= number)
}
