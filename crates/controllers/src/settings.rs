//! The KubeControllersConfiguration `default`: made where there is none, and told what is in force.

use calico_api::{
    Entry, Key, Kind, KubeControllersConfiguration, KubeControllersConfigurationSpec, Write, decode, encode,
    merge,
};
use calico_store::error::chain;
use calico_store::{CommitError, GetError, Store};

use crate::config::{Running, defaults};

/// The only name that such a configuration has.
const NAME: &str = "default";

/// How often a status that others changed meanwhile is written anew.
const TRIES: u32 = 5;

/// Its key.
pub fn key() -> Key {
    Key::resource(Kind::KubeControllersConfiguration, "", NAME)
}

/// What is stored; the defaults where nothing is, or nothing that can be read.
pub fn spec(entry: Option<&Entry>) -> KubeControllersConfigurationSpec {
    match entry.map(decode::<KubeControllersConfigurationSpec>) {
        None => defaults(),
        Some(Ok(stored)) => stored.spec,
        Some(Err(error)) => {
            tracing::error!(%error, "the settings cannot be read; the defaults hold");
            defaults()
        }
    }
}

/// Reads the settings; makes them where there are none.
///
/// # Errors
/// When the datastore does not answer.
pub async fn read(store: &dyn Store) -> Result<KubeControllersConfigurationSpec, GetError> {
    let found = store.get(&key()).await?;
    if found.is_none() {
        let made = KubeControllersConfiguration::new("", NAME, defaults());
        match store.commit(&[Write::create(key(), encode(&made))]).await {
            Ok(_) => tracing::info!("KubeControllersConfiguration created, with the defaults"),
            // Somebody was faster: what they made is read.
            Err(CommitError::Conflict { .. }) => return Ok(spec(store.get(&key()).await?.as_ref())),
            // The defaults hold without being stored.
            Err(error) => tracing::warn!(error = chain(&error), "KubeControllersConfiguration not created"),
        }
    }
    Ok(spec(found.as_ref()))
}

/// Writes what is in force into the status, if it does not say so already.
pub async fn report(store: &dyn Store, running: &Running) {
    for _ in 0..TRIES {
        match try_report(store, running).await {
            Ok(()) => return,
            Err(CommitError::Conflict { .. }) => {}
            Err(error) => {
                tracing::warn!(error = chain(&error), "the settings in force are not reported");
                return;
            }
        }
    }
    tracing::warn!("the settings in force are not reported: others keep changing them");
}

async fn try_report(store: &dyn Store, running: &Running) -> Result<(), CommitError> {
    let entry = match store.get(&key()).await {
        Ok(Some(entry)) => entry,
        Ok(None) => return Ok(()),
        Err(error) => return Err(CommitError::Fault(error.fault)),
    };
    // What cannot be read was complained of, and cannot be edited.
    let Ok(mut stored) = decode::<KubeControllersConfigurationSpec>(&entry) else { return Ok(()) };
    let status = running.status();
    if stored.status.as_ref() == Some(&status) {
        return Ok(());
    }
    stored.status = Some(status);
    let Ok(value) = merge(&entry, &stored) else { return Ok(()) };
    store.commit(&[Write::update(entry.key, value, entry.revision)]).await.map(drop)
}
