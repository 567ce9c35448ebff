//! The name of a WorkloadEndpoint: computed from its identity, never chosen (spec 1 §1.4).

use super::WorkloadEndpointSpec;

/// Why an endpoint's name cannot be computed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// A part of the identity is missing.
    #[error("{0} is needed to name the endpoint")]
    Missing(&'static str),
    /// A part begins or ends with a dash, so that the name could not be taken apart again.
    #[error("{field} {value:?} begins or ends with a dash")]
    Dash {
        /// Which part.
        field: &'static str,
        /// What it is.
        value: String,
    },
}

impl WorkloadEndpointSpec {
    /// The parts of the name in order: node, orchestrator, and what the orchestrator identifies endpoints by.
    fn segments(&self) -> [(&'static str, &str); 4] {
        let node = ("node", self.node.as_str());
        let orchestrator = ("orchestrator", self.orchestrator.as_str());
        let endpoint = ("endpoint", self.endpoint.as_str());
        let workload = match self.orchestrator.as_str() {
            "k8s" => ("pod", self.pod.as_str()),
            "cni" => ("containerID", self.container_id.as_str()),
            "libnetwork" => ("workload", "libnetwork"),
            _ => ("workload", self.workload.as_str()),
        };
        [node, orchestrator, workload, endpoint]
    }

    /// The name that the endpoint must have, such as `host1-k8s-my--pod-eth0`.
    ///
    /// # Errors
    /// When a part is missing, or begins or ends with a dash.
    pub fn name(&self) -> Result<String, NameError> {
        let mut parts = Vec::with_capacity(4);
        for (field, value) in self.segments() {
            if value.is_empty() {
                return Err(NameError::Missing(field));
            }
            parts.push(escape(field, value)?);
        }
        Ok(parts.join("-"))
    }

    /// How the names of all endpoints begin that share the known parts: the parts up to the first unknown one, each
    /// followed by a dash. A complete identity gives the whole name.
    ///
    /// # Errors
    /// When a known part begins or ends with a dash.
    pub fn name_prefix(&self) -> Result<String, NameError> {
        let mut prefix = String::new();
        let segments = self.segments();
        for (index, (field, value)) in segments.into_iter().enumerate() {
            if value.is_empty() {
                break;
            }
            prefix.push_str(&escape(field, value)?);
            if index + 1 < segments.len() {
                prefix.push('-');
            }
        }
        Ok(prefix)
    }
}

fn escape(field: &'static str, value: &str) -> Result<String, NameError> {
    if value.starts_with('-') || value.ends_with('-') {
        return Err(NameError::Dash { field, value: value.to_owned() });
    }
    Ok(value.replace('-', "--"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(orchestrator: &str) -> WorkloadEndpointSpec {
        WorkloadEndpointSpec {
            orchestrator: orchestrator.into(),
            node: "host-1".into(),
            workload: "vm-1".into(),
            container_id: "abc".into(),
            pod: "my-pod".into(),
            endpoint: "eth0".into(),
            ..WorkloadEndpointSpec::default()
        }
    }

    #[test]
    fn each_orchestrator_has_its_form() {
        for (orchestrator, name) in [
            ("k8s", "host--1-k8s-my--pod-eth0"),
            ("cni", "host--1-cni-abc-eth0"),
            ("libnetwork", "host--1-libnetwork-libnetwork-eth0"),
            ("openstack", "host--1-openstack-vm--1-eth0"),
        ] {
            assert_eq!(spec(orchestrator).name().as_deref(), Ok(name));
        }
    }

    #[test]
    fn parts_are_checked() {
        let missing = WorkloadEndpointSpec { pod: "".into(), ..spec("k8s") };
        assert_eq!(missing.name(), Err(NameError::Missing("pod")));
        assert_eq!(missing.name_prefix().as_deref(), Ok("host--1-k8s-"));
        let dash = WorkloadEndpointSpec { pod: "p-".into(), ..spec("k8s") };
        assert!(matches!(dash.name(), Err(NameError::Dash { field: "pod", .. })));
        assert_eq!(spec("k8s").name_prefix(), spec("k8s").name());
        assert_eq!(WorkloadEndpointSpec::default().name_prefix().as_deref(), Ok(""));
    }
}
