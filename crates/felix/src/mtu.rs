//! MTUs: the smallest of the host's own interfaces, and what of it is left for workloads, in a file for the CNI plugin
//! (spec 3 §6.6).

use std::io;
use std::path::Path;

use calico_dataplane::tables::link::Link;
use calico_dataplane::tables::tunnel;
use regex_lite::Regex;

/// Where the CNI plugin looks.
pub const MTU_FILE: &str = "/var/lib/calico/mtu";

/// The MTU where no interface of the host matches.
const FALLBACK: u32 = 1460;

/// The smallest MTU of those of the host's own interfaces that are up and match `MTUIfacePattern`. A pattern that does not
/// compile matches nothing: the options' table has refused it already.
pub fn resolve_mtu<'a>(links: impl IntoIterator<Item = &'a Link>, pattern: &str) -> u32 {
    let Ok(pattern) = Regex::new(pattern) else { return FALLBACK };
    // A tunnel's MTU follows from the host's: it must not decide it.
    let own = links.into_iter().filter(|link| !tunnel::is_ours(&link.name));
    let candidates = own.filter(|l| l.oper_up && pattern.is_match(l.name.as_str()));
    candidates.map(|l| l.mtu).min().unwrap_or(FALLBACK)
}

/// Writes the file, if it says something else.
pub fn write_mtu(path: &Path, mtu: u32) -> io::Result<()> {
    let text = format!("{mtu}\n");
    if std::fs::read_to_string(path).is_ok_and(|old| old == text) {
        return Ok(());
    }
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir)?;
    }
    let next = path.with_extension("next");
    std::fs::write(&next, text)?;
    std::fs::rename(next, path)
}
