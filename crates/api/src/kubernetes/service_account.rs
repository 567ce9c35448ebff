//! ServiceAccount → Profile `ksa.<namespace>.<account>` (spec 1 §3.6).

use serde::Deserialize;

use super::names;
use super::object::ObjectMeta;
use super::profile::{self, ProfileRevision, SERVICE_ACCOUNT_LABELS};
use crate::profile::ProfileSpec;
use crate::record::Entry;

/// A service account.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ServiceAccount {
    /// Name, namespace and labels.
    pub metadata: ObjectMeta,
}

/// The profile of a service account: labels only, no rules.
pub fn entry(account: &ServiceAccount) -> Entry {
    let ServiceAccount { metadata } = account;
    let spec = ProfileSpec {
        labels_to_apply: profile::labels_to_apply(SERVICE_ACCOUNT_LABELS, metadata),
        ..ProfileSpec::default()
    };
    let revision =
        ProfileRevision { service_accounts: metadata.resource_version.clone(), ..ProfileRevision::default() };
    profile::entry(
        names::service_account_profile(&metadata.namespace, &metadata.name),
        metadata,
        spec,
        revision,
    )
}
