//! What kubeadm left in the cluster: the ranges that it was told to give to pods (spec 6 §4.2, before step 5).

use calico_net::{Cidr, Family};
use serde_json::Value;

/// Where the Kubernetes API has it.
pub const PATH: &str = "/api/v1/namespaces/kube-system/configmaps/kubeadm-config";

/// A cluster that kubeadm made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kubeadm {
    /// `podSubnet`: one range, or one of each family.
    pub pods: Vec<Cidr>,
}

impl Kubeadm {
    /// Reads the ConfigMap. A range that is none counts as absent, with a word in the log.
    pub fn from_config_map(config_map: &Value) -> Kubeadm {
        let text = config_map["data"]["ClusterConfiguration"].as_str().unwrap_or_default();
        // The only key of that name in the document, and kubeadm writes it as a plain scalar on one line.
        let line = text.lines().find_map(|line| line.trim().strip_prefix("podSubnet:")).unwrap_or_default();
        let ranges = line.trim().trim_matches(['"', '\'']).split(',').map(str::trim);
        let parse = |range: &str| match range.parse::<Cidr>() {
            Ok(cidr) => Some(cidr),
            Err(error) => {
                tracing::warn!(range, %error, "podSubnet of kubeadm-config is not used");
                None
            }
        };
        Kubeadm { pods: ranges.filter(|range| !range.is_empty()).filter_map(parse).collect() }
    }

    /// The pods' range in a family.
    pub fn pods(&self, family: Family) -> Option<Cidr> {
        self.pods.iter().copied().find(|cidr| cidr.family() == family)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn pod_ranges() {
        let check = |text: &str, expected: &[&str]| {
            let read = Kubeadm::from_config_map(&json!({"data": {"ClusterConfiguration": text}}));
            let expected: Vec<Cidr> = expected.iter().map(|cidr| cidr.parse().unwrap()).collect();
            assert_eq!(read.pods, expected, "{text}");
        };
        check(
            "kind: ClusterConfiguration\nnetworking:\n  dnsDomain: cluster.local\n  podSubnet: 10.244.0.0/16\n  \
             serviceSubnet: 10.96.0.0/12\n",
            &["10.244.0.0/16"],
        );
        check("networking:\n  podSubnet: 10.244.0.0/16,fd00::/48\n", &["10.244.0.0/16", "fd00::/48"]);
        check("  podSubnet: \"10.244.0.0/16, fd00::/48\"\n", &["10.244.0.0/16", "fd00::/48"]);
        check("  podSubnet: ten,fd00::/48\n", &["fd00::/48"]);
        check("networking:\n  serviceSubnet: 10.96.0.0/12\n", &[]);
        check("  podSubnet: \"\"\n", &[]);
        assert_eq!(Kubeadm::from_config_map(&json!({})), Kubeadm::default());
    }
}
