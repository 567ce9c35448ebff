//! What every new resource gets and no plan may make up: a UID, a time, random bits.

use calico_api::{Metadata, Resource, Spec};
use smol_str::SmolStr;
use uuid::Uuid;

/// The source of what is different each time.
pub struct Births<'a> {
    /// The time, RFC 3339 in UTC and whole seconds.
    pub now: SmolStr,
    /// A new random UUID (version 4) at each call.
    pub uuid: &'a mut dyn FnMut() -> Uuid,
}

impl Births<'_> {
    /// A cluster-scoped resource that does not exist yet.
    pub fn resource<S: Spec>(&mut self, name: &str, spec: S) -> Resource<S> {
        let new = Resource::new("", name, spec);
        let uid = SmolStr::from((self.uuid)().to_string());
        let metadata = Metadata { uid, creation_timestamp: Some(self.now.clone()), ..new.metadata };
        Resource { metadata, ..new }
    }
}

#[cfg(test)]
pub(super) mod testing {
    use super::*;

    /// Births that are the same each time: UUIDs count up.
    pub fn with_births<T>(run: impl FnOnce(&mut Births<'_>) -> T) -> T {
        let mut count = 0;
        let mut uuid = || {
            count += 1;
            Uuid::from_u128(0x1111_2222_3333_4444_8555_0000_0000_0000 + count)
        };
        run(&mut Births { now: "2026-01-02T03:04:05Z".into(), uuid: &mut uuid })
    }
}
