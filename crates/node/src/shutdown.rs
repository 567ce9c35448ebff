//! A node that goes down, and one that is up again: a file with the time, and the Kubernetes Node's condition
//! `NetworkUnavailable` (spec 6 §4.1).

use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::startup::settings::Vars;

/// Where the time is kept unless `CALICO_SHUTDOWN_TIMESTAMP_FILE` says otherwise.
const FILE: &str = "/var/lib/calico/shutdownTS";

/// The file.
pub fn timestamp_file(vars: Vars<'_>) -> PathBuf {
    let named = vars("CALICO_SHUTDOWN_TIMESTAMP_FILE").filter(|p| !p.trim().is_empty());
    named.unwrap_or_else(|| FILE.to_owned()).into()
}

/// Writes down when the node goes down.
pub fn write_timestamp(file: &Path, now: OffsetDateTime) -> io::Result<()> {
    crate::file::write_atomically(file, rfc3339(now).as_bytes(), crate::file::PUBLIC)
}

/// Forgets it: the node is up.
pub fn remove_timestamp(file: &Path) -> io::Result<()> {
    match std::fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// What the Kubernetes Node's status is patched with.
pub fn condition(is_up: bool, now: OffsetDateTime) -> Value {
    let (status, reason, message) = if is_up {
        ("False", "CalicoIsUp", "the node's network is up")
    } else {
        ("True", "CalicoIsDown", "the node's network is going down")
    };
    let now = rfc3339(now);
    json!({"status": {"conditions": [{
        "type": "NetworkUnavailable",
        "status": status,
        "reason": reason,
        "message": message,
        "lastTransitionTime": now,
        "lastHeartbeatTime": now,
    }]}})
}

fn rfc3339(now: OffsetDateTime) -> String {
    let now = now.replace_nanosecond(0).expect("0 is a legal nanosecond");
    now.format(&Rfc3339).expect("years of this clock have four digits")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn down_and_up_again() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("calico/shutdownTS");
        let now = OffsetDateTime::from_unix_timestamp(1_767_323_045).unwrap();
        write_timestamp(&file, now).unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "2026-01-02T03:04:05Z");
        remove_timestamp(&file).unwrap();
        remove_timestamp(&file).unwrap();
        assert!(!file.exists());
        let (down, up) = (condition(false, now), condition(true, now));
        let fields = |value: &Value| {
            let condition = &value["status"]["conditions"][0];
            ["type", "status", "reason", "lastTransitionTime"]
                .map(|f| condition[f].as_str().unwrap().to_owned())
        };
        assert_eq!(fields(&down), ["NetworkUnavailable", "True", "CalicoIsDown", "2026-01-02T03:04:05Z"]);
        assert_eq!(fields(&up)[1..3], ["False", "CalicoIsUp"]);
        let vars = |value: &'static str| move |_: &str| Some(value.to_owned());
        assert_eq!(timestamp_file(&vars("/x/y")), PathBuf::from("/x/y"));
        assert_eq!(timestamp_file(&vars(" ")), PathBuf::from(FILE));
    }
}
