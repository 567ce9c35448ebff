//! This node's name, in the order of precedence of spec 5 §1.5.

use std::path::Path;

use smol_str::SmolStr;

use crate::error::{CniError, Code};
use crate::netconf::NetConf;

/// Where the agent writes the node's name at the end of a successful start.
pub const NODENAME_FILE: &str = "/var/lib/calico/nodename";

/// `nodename` of the configuration, the agent's file, `hostname` of the configuration, the host's name.
pub fn read_node_name(conf: &NetConf) -> Result<SmolStr, CniError> {
    if !conf.nodename.is_empty() {
        return Ok(SmolStr::new(&conf.nodename));
    }
    let path = conf.nodename_file.as_deref().unwrap_or(NODENAME_FILE);
    match std::fs::read_to_string(Path::new(path)) {
        Ok(text) if !text.trim().is_empty() => return Ok(SmolStr::new(text.trim())),
        Ok(_) => {}
        Err(_) if conf.nodename_file_optional => {}
        Err(error) => {
            let details = format!(
                "{path}: {error}; check that calico node is running and has /var/lib/calico/ mounted"
            );
            return Err(CniError::new(Code::TryAgainLater, "this node's name is not known", details));
        }
    }
    if !conf.hostname.is_empty() {
        return Ok(SmolStr::new(&conf.hostname));
    }
    let name = rustix::system::uname().nodename().to_string_lossy().trim().to_lowercase();
    Ok(SmolStr::from(name))
}
