//! Names and resources of an attachment: pure functions from what the runtime said to what is stored.

use std::net::IpAddr;

use calico_api::meta::Labels;
use calico_api::profile::ProfileSpec;
use calico_api::rule::{Action, Rule};
use calico_api::workload_endpoint::WorkloadEndpointSpec;
use calico_api::{Key, Kind, Resource, status_file};
use calico_net::{Cidr, IfName, Mac};
use sha1::{Digest, Sha1};
use smol_str::{SmolStr, format_smolstr};

use crate::arguments::Arguments;
use crate::error::{CniError, Code};
use crate::netconf::NetConf;

/// Namespace of endpoints that are no pods (spec 5 §1.3).
const DEFAULT_NAMESPACE: &str = "default";

/// The longest name of an endpoint's status file: 255 bytes are the file system's limit, and the writer of the file
/// puts a dot before the name while it writes.
const MAX_STATUS_FILE: usize = 254;

/// Who an attachment is: derived from node, arguments and configuration, the same for ADD, DEL and CHECK.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// This node.
    pub node: SmolStr,
    /// `k8s` for pods, otherwise `cni`.
    pub orchestrator: SmolStr,
    /// The endpoint's namespace.
    pub namespace: SmolStr,
    /// The pod, if it is one.
    pub pod: Option<SmolStr>,
    /// The sandbox.
    pub container_id: SmolStr,
    /// The interface inside; the endpoint's name.
    pub ifname: SmolStr,
}

impl Identity {
    /// The identity of an attachment on `node`.
    pub fn new(node: &str, arguments: &Arguments) -> Identity {
        let pod = arguments.pod();
        Identity {
            node: SmolStr::new(node),
            orchestrator: SmolStr::new_static(if pod.is_some() { "k8s" } else { "cni" }),
            namespace: SmolStr::new(pod.map_or(DEFAULT_NAMESPACE, |(namespace, _)| namespace)),
            pod: pod.map(|(_, name)| SmolStr::new(name)),
            container_id: SmolStr::new(&arguments.container_id),
            ifname: SmolStr::new(&arguments.ifname),
        }
    }

    /// The workload: the pod, or the container.
    pub fn workload(&self) -> &str {
        self.pod.as_deref().unwrap_or(&self.container_id)
    }

    /// What [`crate::turns::Turns`] orders by.
    pub fn turn(&self) -> SmolStr {
        turn(&self.namespace, self.pod.as_deref().unwrap_or_default(), &self.container_id)
    }

    /// How the names of all endpoints of this node and orchestrator begin.
    pub fn orchestrator_prefix(&self) -> SmolStr {
        format_smolstr!("{}-{}-", self.node.replace('-', "--"), self.orchestrator)
    }

    /// Whether an endpoint's name is one of this workload's: the rest after [`Identity::name_prefix`] is one segment.
    /// A rest that begins with a dash belongs to a workload with a longer name (`web` and `web-0`).
    pub fn owns_name(&self, name: &str) -> bool {
        name.strip_prefix(self.name_prefix().as_str()).is_some_and(|rest| !rest.starts_with('-'))
    }

    /// The part of the endpoint's name that all interfaces of the workload share, ending in `-`.
    pub fn name_prefix(&self) -> SmolStr {
        let segment = |text: &str| text.replace('-', "--");
        format_smolstr!("{}-{}-{}-", segment(&self.node), self.orchestrator, segment(self.workload()))
    }

    /// The endpoint's name (spec 5 §1.6).
    pub fn name(&self) -> SmolStr {
        format_smolstr!("{}{}", self.name_prefix(), self.ifname.replace('-', "--"))
    }

    /// The endpoint's key.
    pub fn key(&self) -> Key {
        Key::resource(Kind::WorkloadEndpoint, &self.namespace, &self.name())
    }

    /// The host side of the veth: `cali` and 11 hex digits of a hash of `namespace.pod`, or 11 characters of the
    /// container's id (spec 5 §1.6).
    pub fn host_interface(&self, prefix: &str) -> Result<IfName, CniError> {
        let name = match &self.pod {
            Some(pod) => {
                let hash = Sha1::digest(format!("{}.{pod}", self.namespace));
                let hex: String = hash.iter().map(|b| format!("{b:02x}")).collect();
                format!("{prefix}{}", &hex[..11])
            }
            None => format!("cali{}", shortened(&self.container_id)),
        };
        name.parse()
            .map_err(|e| CniError::new(Code::InvalidConfiguration, "cannot name the host's interface", e))
    }

    /// The handle that earlier releases of Calico used (spec 5 §2.1); DEL releases it too.
    pub fn legacy_handle(&self) -> String {
        match &self.pod {
            Some(pod) => format!("{}.{pod}", self.namespace),
            None => self.container_id.to_string(),
        }
    }

    /// Checks that the parts can form a name: no part may begin or end with a dash (spec 1 §1.4), the endpoint's key
    /// must be read as what it was written for, and a container's id must fit into the name of the status file. A pod
    /// whose name makes that file's too long goes without the file, as Calico's do: its name is not the runtime's.
    pub fn check(&self) -> Result<(), CniError> {
        let wrong = |what: &str, part: &str, must: &str| {
            let details = format!("the {what} is {part:?}; it must {must}");
            Err(CniError::new(Code::InvalidEnvironment, "cannot name the endpoint", details))
        };
        let parts =
            [("node name", self.node.as_str()), ("workload", self.workload()), ("interface", &self.ifname)];
        for (what, part) in parts {
            if part.is_empty() || part.starts_with('-') || part.ends_with('-') {
                return wrong(what, part, "not be empty, begin or end with '-'");
            }
        }
        for (what, part) in parts.into_iter().chain([("namespace", self.namespace.as_str())]) {
            let key = Key::resource(Kind::WorkloadEndpoint, part, part);
            if Key::parse(&key.to_string()).ok() != Some(key) {
                return wrong(what, part, "not be empty or have a '/' in it");
            }
        }
        let workload = format!("{}/{}", self.namespace, self.workload());
        let excess = status_file::name(&self.orchestrator, &workload, &self.ifname)
            .len()
            .saturating_sub(MAX_STATUS_FILE);
        if self.pod.is_none() && excess > 0 {
            let must = format!("have at most {} characters", self.container_id.len() - excess);
            return wrong("container's id", &self.container_id, &must);
        }
        Ok(())
    }
}

/// As much of a container's id as an interface's name has room for.
fn shortened(container_id: &str) -> &str {
    &container_id[..container_id.len().min(11)]
}

/// The turn of a workload: sandboxes of one pod share it, and so do containers whose interfaces would have one name.
pub fn turn(namespace: &str, pod: &str, container_id: &str) -> SmolStr {
    let workload = if pod.is_empty() { shortened(container_id) } else { pod };
    format_smolstr!("{namespace}/{workload}")
}

/// The endpoint of an attachment. What somebody else put into an existing one (labels, ports, annotations) stays; for a
/// pod that is known, [`crate::pod::describe`] then says it all.
pub fn endpoint(
    existing: Option<Resource<WorkloadEndpointSpec>>,
    identity: &Identity,
    conf: &NetConf,
    interface: &IfName,
    mac: Option<Mac>,
    addresses: &[IpAddr],
) -> Resource<WorkloadEndpointSpec> {
    let mut endpoint = existing.unwrap_or_else(|| {
        Resource::new(&identity.namespace, &identity.name(), WorkloadEndpointSpec::default())
    });
    let profile = SmolStr::new(&conf.name);
    let spec = &mut endpoint.spec;
    spec.orchestrator = identity.orchestrator.clone();
    spec.node = identity.node.clone();
    spec.container_id = identity.container_id.clone();
    spec.pod = identity.pod.clone().unwrap_or_default();
    // A reused one keeps the interface that it was named after, whatever the one of now is called (spec 5 §1.6).
    if spec.endpoint.is_empty() {
        spec.endpoint = identity.ifname.clone();
    }
    spec.ip_networks = addresses.iter().map(|a| format_smolstr!("{}", Cidr::host(*a))).collect();
    spec.interface_name = SmolStr::new(interface.as_str());
    spec.mac = mac.map(|m| format_smolstr!("{m}")).unwrap_or_default();
    if !spec.profiles.contains(&profile) {
        spec.profiles.push(profile);
    }
    let labels = &mut endpoint.metadata.labels;
    labels.extend(conf.labels().map(|(k, v)| (SmolStr::new(k), SmolStr::new(v))));
    for (key, value) in [("namespace", &identity.namespace), ("orchestrator", &identity.orchestrator)] {
        labels.insert(format_smolstr!("projectcalico.org/{key}"), value.clone());
    }
    endpoint
}

/// The profile of a network, written when it is missing and never changed (spec 5 §1.8).
pub fn network_profile(name: &str, pod: bool) -> Resource<ProfileSpec> {
    let allow = Rule::new(Action::Allow);
    let mut from_network = allow.clone();
    if !pod {
        from_network.source.selector = format_smolstr!("has({name})");
    }
    let labels_to_apply = Labels::from([(SmolStr::new(name), SmolStr::default())]);
    Resource::new("", name, ProfileSpec { ingress: vec![from_network], egress: vec![allow], labels_to_apply })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(args: &str, container: &str) -> Identity {
        let lookup = |name: &str| {
            Some(match name {
                "CNI_COMMAND" => "DEL".to_owned(),
                "CNI_CONTAINERID" => container.to_owned(),
                "CNI_IFNAME" => "eth0".to_owned(),
                "CNI_ARGS" => args.to_owned(),
                _ => return None,
            })
        };
        Identity::new("node-1", &Arguments::parse(lookup).expect("valid"))
    }

    #[test]
    fn names_are_calicos() {
        let pod = identity("K8S_POD_NAMESPACE=ns1;K8S_POD_NAME=web-0", "abc");
        assert_eq!(pod.name(), "node--1-k8s-web--0-eth0");
        assert_eq!(
            pod.host_interface("cali").map(|i| i.to_string()),
            Ok("cali".to_owned() + &sha1_hex("ns1.web-0")[..11])
        );
        assert_eq!(pod.legacy_handle(), "ns1.web-0");
        let plain = identity("", "fullcont-1");
        assert_eq!(plain.name(), "node--1-cni-fullcont--1-eth0");
        assert_eq!(plain.host_interface("tap").map(|i| i.to_string()), Ok("califullcont-1".to_owned()));
        assert_eq!(
            plain.key().to_string(),
            "/calico/resources/v3/projectcalico.org/workloadendpoints/default/node--1-cni-fullcont--1-eth0"
        );
    }

    #[test]
    fn a_longer_workloads_endpoint_is_not_ours() {
        let web = identity("K8S_POD_NAMESPACE=ns1;K8S_POD_NAME=web", "abc");
        let longer = identity("K8S_POD_NAMESPACE=ns1;K8S_POD_NAME=web-0", "abc");
        assert!(longer.name().starts_with(web.name_prefix().as_str()), "the prefix alone does not tell");
        assert!(web.owns_name(&web.name()) && !web.owns_name(&longer.name()));
    }

    fn sha1_hex(text: &str) -> String {
        Sha1::digest(text).iter().map(|b| format!("{b:02x}")).collect()
    }

    #[test]
    fn an_existing_endpoint_keeps_what_others_wrote() {
        let conf = NetConf { name: "net".into(), ..NetConf::default() };
        let who = identity("", "c1");
        let mut old = endpoint(None, &who, &conf, &"cali1".parse().expect("name"), None, &[]);
        old.metadata.labels.insert("by".into(), "somebody".into());
        old.spec.profiles.insert(0, "other".into());
        let address = "10.0.0.1".parse().expect("address");
        let new = endpoint(
            Some(old),
            &who,
            &conf,
            &"cali1".parse().expect("name"),
            Some(Mac::HOST_VETH),
            &[address],
        );
        assert_eq!(new.metadata.labels.get("by").map(|v| v.as_str()), Some("somebody"));
        assert_eq!(new.spec.profiles, ["other", "net"]);
        assert_eq!(new.spec.ip_networks, ["10.0.0.1/32"]);
        assert_eq!(new.spec.mac, "ee:ee:ee:ee:ee:ee");
    }

    #[test]
    fn names_that_cannot_be_undone_are_refused() {
        let dashes = "it must not be empty, begin or end with '-'";
        let slash = "it must not be empty or have a '/' in it";
        for (args, expected) in [
            ("K8S_POD_NAMESPACE=ns1;K8S_POD_NAME=web-", format!("the workload is \"web-\"; {dashes}")),
            ("K8S_POD_NAMESPACE=ns1;K8S_POD_NAME=../x", format!("the workload is \"../x\"; {slash}")),
            ("K8S_POD_NAMESPACE=a/b;K8S_POD_NAME=x", format!("the namespace is \"a/b\"; {slash}")),
        ] {
            let error = identity(args, "abc").check().expect_err(args);
            assert_eq!((error.code, error.details), (Code::InvalidEnvironment.number(), expected));
        }
        assert_eq!(identity("", "abc").check(), Ok(()));
        assert_eq!(identity("K8S_POD_NAMESPACE=a.b;K8S_POD_NAME=x%2f", "abc").check(), Ok(()));
    }

    #[test]
    fn an_id_fits_into_the_name_of_a_file() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let longest = "x".repeat(MAX_STATUS_FILE - "cni default%2F eth0".len());
        let plain = identity("", &longest);
        assert_eq!(plain.check(), Ok(()));
        let name = status_file::name("cni", &format!("default/{longest}"), "eth0");
        std::fs::write(dir.path().join(format!(".{name}")), "").expect("the file system takes it");

        let longer = format!("{longest}x");
        let error = identity("", &longer).check().expect_err("too long");
        let expected = format!("the container's id is {longer:?}; it must have at most 235 characters");
        assert_eq!(error.details, expected);
        assert_eq!(identity("K8S_POD_NAMESPACE=ns;K8S_POD_NAME=p", &longer).check(), Ok(()));
    }
}
