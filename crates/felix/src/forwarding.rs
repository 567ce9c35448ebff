//! The kernel parameters without which a node does not route.

use calico_linux::sysctl::Sysctl;

/// `IPForwarding`: what a router needs. Returns what was not so. Failures are logged; the node may be configured by
/// somebody else.
pub(crate) fn write(sysctl: &Sysctl, ipv6: bool) -> Vec<&'static str> {
    let mut parameters = vec!["net/ipv4/ip_forward", "net/netfilter/nf_conntrack_acct"];
    if ipv6 {
        parameters.push("net/ipv6/conf/all/forwarding");
    }
    let mut changed = Vec::new();
    for name in parameters {
        let set = sysctl.read(name).and_then(|value| match value.as_str() {
            "1" => Ok(false),
            _ => sysctl.write(name, "1").map(|()| true),
        });
        match set {
            Ok(true) => changed.push(name),
            Ok(false) => {}
            Err(error) => tracing::warn!(%error, "cannot set a kernel parameter"),
        }
    }
    changed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forwarding_that_others_switch_off_comes_back() {
        let root = tempfile::tempdir().expect("a directory");
        let sysctl = Sysctl::at(root.path());
        let put = |name: &str, value: &str| {
            let path = root.path().join(name);
            std::fs::create_dir_all(path.parent().expect("inside")).expect("a directory");
            std::fs::write(path, value).expect("written");
        };
        put("net/ipv4/ip_forward", "1\n");
        put("net/netfilter/nf_conntrack_acct", "1\n");
        put("net/ipv6/conf/all/forwarding", "0\n");
        assert_eq!(write(&sysctl, false), [""; 0]);
        assert_eq!(write(&sysctl, true), ["net/ipv6/conf/all/forwarding"]);
        put("net/ipv4/ip_forward", "0\n");
        assert_eq!(write(&sysctl, true), ["net/ipv4/ip_forward"]);
        assert_eq!(write(&sysctl, true), [""; 0]);
    }
}
