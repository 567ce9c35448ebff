//! Kernel parameters of workload interfaces (spec 3 §6.6, spec 5 §1.9).

use std::fmt;

use calico_net::IfName;

/// A parameter and its value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sysctl {
    /// Its path below `/proc/sys`.
    pub name: String,
    /// Its value.
    pub value: String,
    /// The interface does not work without it.
    pub required: bool,
}

impl fmt::Display for Sysctl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sysctl {}={}", self.name, self.value)
    }
}

/// The parameters of a workload's host interface: it answers ARP (and, with `ipv6`, NDP) for every address, at once,
/// forwards, and listens to no router.
pub fn workload(device: &IfName, ipv6: bool) -> Vec<Sysctl> {
    let set = |name: String, value: &str, required| Sysctl { name, value: value.into(), required };
    let mut list = vec![
        set(format!("net/ipv4/conf/{device}/route_localnet"), "1", true),
        set(format!("net/ipv4/neigh/{device}/proxy_delay"), "0", false),
        set(format!("net/ipv4/conf/{device}/proxy_arp"), "1", true),
        set(format!("net/ipv4/conf/{device}/forwarding"), "1", true),
        set(format!("net/ipv6/conf/{device}/accept_ra"), "0", false),
    ];
    if ipv6 {
        list.extend([
            set(format!("net/ipv6/conf/{device}/accept_dad"), "0", true),
            set(format!("net/ipv6/conf/{device}/disable_ipv6"), "0", true),
            set(format!("net/ipv6/conf/{device}/proxy_ndp"), "1", true),
            set(format!("net/ipv6/conf/{device}/forwarding"), "1", true),
        ]);
    }
    list
}

/// The parameter of a tunnel device: its source check is loose, since while a pool changes hands packets may come through
/// the tunnel and their answers go without it. Whose packets come through it at all is decided by address.
pub fn tunnel(device: &IfName) -> Sysctl {
    Sysctl { name: format!("net/ipv4/conf/{device}/rp_filter"), value: "2".into(), required: false }
}

/// The kernel's own source check of a workload interface: the host's default, but none where the workload may use
/// other sources.
pub fn rp_filter(device: &IfName, host_default: &str, other_sources: bool) -> Sysctl {
    let value = if other_sources { "0" } else { host_default };
    Sysctl { name: format!("net/ipv4/conf/{device}/rp_filter"), value: value.into(), required: true }
}
