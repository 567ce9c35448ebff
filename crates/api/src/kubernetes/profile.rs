//! What profiles from namespaces and from service accounts share (spec 1 §3.6).

use std::fmt;

use smol_str::{SmolStr, SmolStrBuilder};

use super::object::ObjectMeta;
use super::uid;
use crate::codec;
use crate::key::{Key, Kind};
use crate::meta::{Labels, Metadata, Resource};
use crate::profile::ProfileSpec;
use crate::record::{Entry, Revision};

/// How labels begin that endpoints inherit from their namespace.
pub const NAMESPACE_LABELS: &str = "pcns.";
/// How labels begin that endpoints inherit from their service account.
pub const SERVICE_ACCOUNT_LABELS: &str = "pcsa.";
/// The label, after either of the two, that holds the name.
const NAME_LABEL: &str = "projectcalico.org/name";

/// The revision of profiles, which come from two lists of objects: `<namespaces>/<service accounts>`. A single profile
/// has one of the two; a list has both.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProfileRevision {
    /// Of the namespaces; empty for none.
    pub namespaces: SmolStr,
    /// Of the service accounts; empty for none.
    pub service_accounts: SmolStr,
}

impl ProfileRevision {
    /// Takes a revision apart; `None` if it is not of this form.
    pub fn parse(revision: &Revision) -> Option<ProfileRevision> {
        let (namespaces, service_accounts) = revision.0.split_once('/')?;
        let part = |text: &str| (!text.contains('/')).then(|| SmolStr::new(text));
        Some(ProfileRevision { namespaces: part(namespaces)?, service_accounts: part(service_accounts)? })
    }

    /// The revision as entries and listings carry it.
    pub fn revision(&self) -> Revision {
        Revision(SmolStr::from(self.to_string()))
    }
}

impl fmt::Display for ProfileRevision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespaces, self.service_accounts)
    }
}

/// The labels that endpoints inherit: those of the object, and its name.
pub(super) fn labels_to_apply(prefix: &str, meta: &ObjectMeta) -> Labels {
    let prefixed = |key: &str| {
        let mut text = SmolStrBuilder::new();
        text.push_str(prefix);
        text.push_str(key);
        text.finish()
    };
    let mut labels: Labels = meta.labels.iter().map(|(key, value)| (prefixed(key), value.clone())).collect();
    labels.insert(prefixed(NAME_LABEL), meta.name.clone());
    labels
}

/// The profile so named that is made from an object.
pub(super) fn entry(name: SmolStr, meta: &ObjectMeta, spec: ProfileSpec, revision: ProfileRevision) -> Entry {
    let uid = uid::reversed(&meta.uid).unwrap_or_else(|| meta.uid.clone());
    let metadata = Metadata { namespace: SmolStr::default(), ..meta.derived(name, uid) };
    let key = Key::resource(Kind::Profile, "", &metadata.name);
    let value = codec::encode(&Resource { metadata, spec, status: None });
    Entry { key, value, revision: revision.revision() }
}

#[cfg(test)]
mod tests;
