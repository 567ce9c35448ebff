//! What the creating client fills in: a random UID and the time (spec 1 §1.2).

use std::time::SystemTime;

use calico_api::Metadata;
use smol_str::{SmolStr, format_smolstr};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Fills UID and creation time where they are missing.
pub fn fill(metadata: &mut Metadata) {
    if metadata.uid.is_empty() {
        metadata.uid = format_smolstr!("{}", uuid::Uuid::new_v4());
    }
    if metadata.creation_timestamp.is_none() {
        let now = OffsetDateTime::from(SystemTime::now())
            .replace_nanosecond(0)
            .unwrap_or(OffsetDateTime::UNIX_EPOCH);
        metadata.creation_timestamp = now.format(&Rfc3339).ok().map(SmolStr::from);
    }
}
