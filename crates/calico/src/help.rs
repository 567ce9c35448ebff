//! What the binary says of itself.

/// All commands, and all names.
pub const HELP: &str = "\
calico: Project Calico for Linux, one binary in several roles

usage: calico COMMAND

  node          run the agent of this node: policy, routes, BGP, CNI server (also as `calico-node`)
  node startup  only what the agent does first: Node, pools, defaults, the file with the node's name
  node shutdown mark this node as going down (also `calico-node -shutdown`)
  node init [--best-effort]
                mount what an eBPF dataplane needs: bpffs, cgroup2
  node cleanup [--host-root DIR]
                remove everything of ours from this node's kernel; the agent must not run. With the node's root
                directory, also the files that an installation in a cluster put there
  health        ask this node's agent how it is: -felix-live, -felix-ready, -bird-live, -bird-ready
                (also `calico-node -felix-live …`)
  install-cni   put plugins and network configuration on the host, as /opt/cni/bin/install of Calico's image does
  kube-controllers
                the cluster's controllers, one process for all nodes: collects addresses that nobody releases
  check-status  -r: are the cluster's controllers ready? -l: do they live?
  ctl           read and change resources (also as `calicoctl`)
  lab           nodes in network namespaces on this machine
  version       print the version

`calico COMMAND --help` says more of node, lab, ctl and their commands.

The role also follows from the name that the binary is called by (a link or a copy):

  calicoctl, kubectl-calico     ctl
  calico-node, start_runit      node; with flags such as -felix-live, health
  calico, calico-ipam           CNI plugins, where CNI_COMMAND is set; `calico -t` tests the plugin's datastore, and
                                `calico-ipam -upgrade` takes over the addresses that host-local gave
  install, install-cni          install-cni
  kube-controllers              kube-controllers
  check-status                  check-status

`calico component node …`, `calico component cni install` and the like are the same commands.
";

/// The commands of the node.
pub const NODE_USAGE: &str = "\
usage: calico node [COMMAND]

  (none)        run the agent until SIGTERM or SIGINT; the kernel keeps its policy and routes
  startup       only what the agent does first: Node, pools, defaults, the file with the node's name
  shutdown      mark this node as going down
  health        ask this node's agent: -felix-live, -felix-ready, -bird-live, -bird-ready
  init [--best-effort]
                mount what an eBPF dataplane needs: bpffs, cgroup2
  cleanup [--host-root DIR]
                remove everything of ours from this node's kernel; the agent must not run
  version       print the version
";

/// What configures the agent, and how it ends.
pub const NODE: &str = "\
environment (docs/install-host.md says what each means; blank counts as unset):
  datastore     DATASTORE_TYPE (etcdv3, kubernetes or embedded), ETCD_ENDPOINTS, ETCD_USERNAME, ETCD_PASSWORD,
                ETCD_CA_CERT_FILE, ETCD_CERT_FILE, ETCD_KEY_FILE, KUBECONFIG, CALICO_DATASTORE_PATH, WAIT_FOR_DATASTORE
  this node     NODENAME, IP, IP6, IP_AUTODETECTION_METHOD, IP6_AUTODETECTION_METHOD, AS, CALICO_ROUTER_ID,
                CALICO_ADVERTISE_CLUSTER_IPS,
                CALICO_NETWORKING_BACKEND (bird, vxlan or none), CALICO_K8S_NODE_REF, CLUSTER_TYPE
  first pools   NO_DEFAULT_POOLS, CALICO_IPV4POOL_CIDR, CALICO_IPV6POOL_CIDR, CALICO_IPV4POOL_VXLAN, ...
  options       FELIX_NAME for every option of docs/options.md; also in /etc/calico/felix.cfg and the datastore
  log           CALICO_LOG (info, debug, info,calico_felix=debug), CALICO_LOG_FORMAT=json

exit codes:
  0    told to stop, or the command is done
  1    it failed; the last line of standard error says why
  2    the command line, or the setting of the log, is wrong
  129  an option changed that only a new process takes: start it again
";

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::ffi::OsString;

    use super::*;
    use crate::dispatch::{Role, dispatch};

    #[test]
    fn every_name_that_is_told_is_a_role() {
        let names = HELP.split("(a link or a copy):").nth(1).unwrap();
        let lines = names.split("\n\n").nth(1).unwrap().lines().filter(|l| !l.starts_with("   "));
        let names: Vec<&str> =
            lines.flat_map(|l| l[..32].split([',', ' ']).filter(|word| !word.is_empty())).collect();
        assert_eq!(names.len(), 10, "{names:?}");
        for name in names {
            let role = dispatch(vec![OsString::from(name)], true);
            assert!(!matches!(role, Role::Command(_)), "{name}: {role:?}");
        }
    }

    /// The user's book has what the help names.
    #[test]
    fn every_variable_that_is_told_is_in_the_book() {
        let book = include_str!("../../../docs/install-host.md");
        let book = [4, 6].map(|family| book.replace("IPVX", &format!("IPV{family}"))).concat();
        let is_name = |w: &&str| {
            w.len() > 1 && w.chars().all(|c| c.is_ascii_uppercase() || c == '_' || c.is_ascii_digit())
        };
        let text = NODE.split("exit codes").next().unwrap();
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let told: BTreeSet<&str> = words.filter(is_name).filter(|w| !["FELIX_NAME"].contains(w)).collect();
        assert!(told.len() > 20, "{told:?}");
        let missing: Vec<_> = told.into_iter().filter(|name| !book.contains(&format!("`{name}"))).collect();
        assert!(missing.is_empty(), "{missing:?}");
    }
}
