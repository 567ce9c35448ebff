//! One file for each live workload endpoint, for CNI plugins that wait (spec 3 §6.10, spec 5 §1.12).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use calico_api::status_file;
use calico_calc::change::{Workload, WorkloadId};
use calico_net::Family;
use serde::Serialize;

/// The directory of the files.
#[derive(Clone, Debug)]
pub struct StatusFiles {
    dir: PathBuf,
}

/// What a file says.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Content {
    iface_name: String,
    mac: String,
    ipv4_nets: Vec<String>,
    ipv6_nets: Vec<String>,
}

impl StatusFiles {
    /// `<prefix>/endpoint-status`, made if it is missing. What is in it from before stays until [`StatusFiles::retain`].
    pub fn open(prefix: &str) -> io::Result<StatusFiles> {
        let dir = Path::new(prefix).join(status_file::DIRECTORY);
        fs::create_dir_all(&dir)?;
        Ok(StatusFiles { dir })
    }

    /// Writes the file of an endpoint, whole or not at all.
    pub fn write(&self, id: &WorkloadId, workload: &Workload) -> io::Result<()> {
        let nets = |family| {
            workload.nets.iter().filter(|n| n.family() == family).map(ToString::to_string).collect::<Vec<_>>()
        };
        let content = Content {
            iface_name: workload.interface.to_string(),
            mac: workload.mac.map(|m| m.to_string()).unwrap_or_default(),
            ipv4_nets: nets(Family::V4),
            ipv6_nets: nets(Family::V6),
        };
        let path = self.dir.join(file_name(id));
        let next = self.dir.join(format!(".{}", file_name(id)));
        fs::write(&next, serde_json::to_vec(&content)?)?;
        fs::rename(next, path)
    }

    /// Removes the file of an endpoint.
    pub fn remove(&self, id: &WorkloadId) -> io::Result<()> {
        match fs::remove_file(self.dir.join(file_name(id))) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    }

    /// Removes every file but those of the endpoints given: what an agent before this one left.
    pub fn retain<'a>(&self, ids: impl Iterator<Item = &'a WorkloadId>) -> io::Result<()> {
        let wanted: std::collections::BTreeSet<String> = ids.map(file_name).collect();
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            if !entry.file_name().to_str().is_some_and(|name| wanted.contains(name)) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }
}

fn file_name(id: &WorkloadId) -> String {
    let WorkloadId { orchestrator, workload, endpoint } = id;
    status_file::name(orchestrator, workload, endpoint)
}
