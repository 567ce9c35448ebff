//! The workloads of the races, as ../shared/design/performance.md describes them.

use std::net::Ipv4Addr;
use std::ops::Range;

use calico_api::{
    Action, EntityRule, GlobalNetworkPolicySpec, Labels, NetworkPolicySpec, PolicyType, Port, ProfileSpec,
    Resource, Rule, WorkloadEndpointSpec,
};
use calico_calc::Update;
use smol_str::{SmolStr, format_smolstr};

/// The node that is calculated for.
pub const NODE: &str = "local";

const MARKERS: usize = 31;
const TAG_PROFILES: usize = 100;

fn endpoint(namespace: &str, pod: &str, node: &str, addr: u32, labels: Labels) -> Update {
    let spec = WorkloadEndpointSpec {
        orchestrator: "k8s".into(),
        node: node.into(),
        pod: pod.into(),
        endpoint: "eth0".into(),
        ip_networks: vec![format_smolstr!("{}/32", Ipv4Addr::from(0x0a00_0000 + addr))],
        profiles: vec![format_smolstr!("kns.{namespace}")],
        interface_name: format_smolstr!("cali{addr:011x}"),
        ..WorkloadEndpointSpec::default()
    };
    let name = format!("{}-k8s-{}-eth0", node.replace('-', "--"), pod.replace('-', "--"));
    let mut endpoint = Resource::new(namespace, &name, spec);
    endpoint.metadata.labels = labels;
    Update::WorkloadEndpoint(endpoint.key(), Some(Box::new(endpoint)))
}

fn profile(namespace: &str, labels: Labels) -> Update {
    let allow = || vec![Rule::new(Action::Allow)];
    let spec = ProfileSpec { ingress: allow(), egress: allow(), labels_to_apply: labels };
    let profile = Resource::new("", &format!("kns.{namespace}"), spec);
    Update::Profile(profile.key(), Some(Box::new(profile)))
}

fn labels<const N: usize>(pairs: [(SmolStr, SmolStr); N]) -> Labels {
    pairs.into_iter().collect()
}

/// Race A: policies on markers, five rules each.
pub fn tag_policies(count: usize) -> impl Iterator<Item = Update> {
    (0..count).map(|n| {
        let from = |marker: usize| EntityRule {
            selector: format_smolstr!("has(marker-{})", marker % MARKERS),
            ..EntityRule::default()
        };
        let rules = (1..=5).map(|j| Rule { source: from(n + j), ..Rule::new(Action::Allow) });
        let spec = GlobalNetworkPolicySpec {
            selector: format_smolstr!("has(marker-{})", n % MARKERS),
            ingress: rules.collect(),
            types: vec![PolicyType::Ingress],
            ..GlobalNetworkPolicySpec::default()
        };
        let policy = Resource::new("", &format!("policy-{n}"), spec);
        Update::GlobalNetworkPolicy(policy.key(), Some(Box::new(policy)))
    })
}

/// Race A: one profile a namespace, each applying one label.
pub fn tag_profiles() -> impl Iterator<Item = Update> {
    (0..TAG_PROFILES).map(|n| {
        let label = (SmolStr::new_static("profile-label"), format_smolstr!("namespace-{n}"));
        profile(&format!("namespace-{n}"), labels([label]))
    })
}

/// Race A: endpoints with one address, one profile and six labels.
pub fn tag_endpoints(numbers: Range<usize>, node: &str) -> impl Iterator<Item = Update> {
    numbers.map(move |n| {
        let one_in = |m: usize| (format_smolstr!("one-in-{m}"), format_smolstr!("value-{}", n % m));
        let marker = (format_smolstr!("marker-{}", n % MARKERS), SmolStr::new_static("true"));
        let labels = labels([one_in(10), one_in(11), one_in(20), one_in(30), one_in(40), marker]);
        endpoint(&format!("namespace-{}", n % TAG_PROFILES), &format!("pod-{n}"), node, n as u32, labels)
    })
}

/// A spread of numbers that repeats from run to run (splitmix64).
fn scattered(n: u64) -> u64 {
    let mut z = n.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A string of 8 to 20 letters that no other number has.
fn unique(n: u64) -> SmolStr {
    let length = 8 + (scattered(n) % 13) as usize;
    let text = format!("{:016x}{:016x}", scattered(n), scattered(!n));
    SmolStr::new(&text[..length])
}

/// Race D: namespaces of one pod, a profile and a policy each; one hundred of the pods are local.
pub fn customers(namespaces: usize) -> impl Iterator<Item = Update> {
    let local_every = namespaces / 100;
    (0..namespaces).flat_map(move |n| {
        let namespace = format!("customer-{n}");
        let node = if n % local_every == 0 { NODE } else { "remote" };
        [
            customer_profile(n, &namespace),
            customer_policy(&namespace),
            endpoint(&namespace, "pod-0", node, n as u32, customer_labels(n as u64, &namespace)),
        ]
    })
}

/// Three labels a namespace.
fn customer_profile(n: usize, namespace: &str) -> Update {
    let labels = [
        (SmolStr::new_static("pcns.projectcalico.org/name"), SmolStr::new(namespace)),
        (SmolStr::new_static("pcns.plan"), format_smolstr!("plan-{}", n % 4)),
        (SmolStr::new_static("pcns.customer"), SmolStr::new(namespace)),
    ];
    profile(namespace, self::labels(labels))
}

/// Ingress from the namespace, egress to it and UDP 53 to one CIDR.
fn customer_policy(namespace: &str) -> Update {
    let own = || EntityRule { selector: "all()".into(), ..EntityRule::default() };
    let dns = EntityRule {
        nets: vec!["10.96.0.10/32".into()],
        ports: vec![Port::from(53)],
        ..EntityRule::default()
    };
    let spec = NetworkPolicySpec {
        ingress: vec![Rule { source: own(), ..Rule::new(Action::Allow) }],
        egress: vec![
            Rule { destination: own(), ..Rule::new(Action::Allow) },
            Rule { protocol: Some("UDP".into()), destination: dns, ..Rule::new(Action::Allow) },
        ],
        types: vec![PolicyType::Ingress, PolicyType::Egress],
        ..NetworkPolicySpec::default()
    };
    let policy = Resource::new(namespace, "isolation", spec);
    Update::NetworkPolicy(policy.key(), Some(Box::new(policy)))
}

/// Fifteen labels a pod: five unique, four binary, four of a few values, one constant, one of 5,000 values. Its
/// namespace and orchestrator come on top, as stored endpoints have them.
fn customer_labels(n: u64, namespace: &str) -> Labels {
    let mut labels = Labels::new();
    for i in 0..5 {
        labels.insert(format_smolstr!("unique-{i}"), unique(n * 5 + i));
    }
    for i in 0..4 {
        let bit = (scattered(n) >> i) & 1;
        labels.insert(format_smolstr!("binary-{i}"), SmolStr::new_static(["false", "true"][bit as usize]));
    }
    for (i, values) in [3, 4, 5, 5].into_iter().enumerate() {
        let value = (scattered(n) >> (8 * i)) % values;
        labels.insert(format_smolstr!("choice-{i}"), format_smolstr!("value-{value}"));
    }
    labels.insert("constant".into(), "always".into());
    labels.insert("many".into(), format_smolstr!("value-{}", scattered(n) % 5_000));
    labels.insert("projectcalico.org/namespace".into(), SmolStr::new(namespace));
    labels.insert("projectcalico.org/orchestrator".into(), "k8s".into());
    labels
}
