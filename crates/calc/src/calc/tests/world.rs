//! Small random datastores: few keys, few values, so that everything meets everything.

use std::collections::BTreeMap;
use std::sync::Arc;

use calico_api::kubernetes::endpoint_slice::{EndpointSliceSpec, SlicePort};
use calico_api::number::Order;
use calico_api::{
    Action, AffinityOwner, AllocationAttribute, AllowedUse, EncapMode, EndpointPort, EntityRule,
    GlobalNetworkPolicySpec, GlobalNetworkSetSpec, HostEndpointSpec, IPPoolSpec, IcmpMatch, IpamBlock, Key,
    Kind, KubernetesClusterNetworkPolicySpec, KubernetesNetworkPolicySpec, Labels, NetworkPolicySpec,
    NetworkSetSpec, NodeBgp, NodeSpec, PolicyType, Port, ProfileSpec, Resource, ResourceKey, Rule,
    ServiceAccountMatch, ServiceMatch, Spec, TierSpec, WorkloadEndpointSpec, WorkloadPort,
};
use rand::rngs::SmallRng;
use rand::seq::{IndexedRandom, IteratorRandom};
use rand::{Rng, SeedableRng};
use smol_str::{SmolStr, format_smolstr};

use crate::reference::Datastore;
use crate::update::Update;

/// The node that the engine calculates for.
pub(super) const NODE: &str = "here";

const NAMESPACES: [&str; 2] = ["blue", "red"];
const PROFILES: [&str; 4] = ["kns.blue", "kns.red", "ksa.blue.robot", "projectcalico-default-allow"];
const TIERS: [&str; 3] = ["default", "early", "late"];
const ADDRESSES: [&str; 5] = ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4", "fd00::1"];
const PREFIXES: [&str; 4] = ["10.0.0.0/8", "10.0.0.0/30", "10.0.0.1/32", "fd00::/64"];
const SELECTORS: [&str; 14] = [
    "all()",
    "has(app)",
    "!has(app)",
    "app == 'a'",
    "app != 'a'",
    "app in {'a', 'b'}",
    "app not in {'b'}",
    "app == 'a' && zone == 'x'",
    "zone == 'x' || has(role)",
    "app starts with 'a'",
    "pcns.team == 't'",
    "has(pcsa.kind)",
    "",
    "app ==",
];
const NAMESPACE_SELECTORS: [&str; 4] = ["team == 't'", "all()", "global()", "!has(team)"];
const PORTS: [&str; 2] = ["http", "dns"];

/// A chain of datastores, each a few changes from the one before.
pub(super) fn targets(seed: u64, count: usize) -> Vec<Datastore> {
    let mut dice = Dice { rng: SmallRng::seed_from_u64(seed) };
    let keys = keys();
    let mut world = Datastore::new();
    for key in &keys {
        if dice.percent(60) {
            world.insert(key.clone(), dice.value(key));
        }
    }
    let mut targets = vec![world.clone()];
    while targets.len() < count {
        for _ in 0..dice.rng.random_range(1..6) {
            let Some(key) = keys.iter().choose(&mut dice.rng) else { continue };
            if dice.percent(20) {
                world.remove(key);
                continue;
            }
            let value = match world.get(key) {
                Some(old) if dice.percent(70) => dice.tweaked(key, old),
                _ => dice.value(key),
            };
            world.insert(key.clone(), value);
        }
        targets.push(world.clone());
    }
    targets
}

/// Every key that a world may hold.
fn keys() -> Vec<Key> {
    let mut keys = Vec::new();
    for namespace in NAMESPACES {
        for pod in ["one", "two", "three"] {
            keys.push(Key::resource(Kind::WorkloadEndpoint, namespace, pod));
        }
        for policy in ["p", "p-q", "r"] {
            keys.push(Key::resource(Kind::NetworkPolicy, namespace, policy));
        }
        // Policies of both sorts may have the same name.
        for policy in ["p", "k"] {
            keys.push(Key::resource(Kind::KubernetesNetworkPolicy, namespace, policy));
        }
        for slice in ["web-1", "web-2"] {
            keys.push(Key::resource(Kind::KubernetesEndpointSlice, namespace, slice));
        }
        keys.push(Key::resource(Kind::NetworkSet, namespace, "set"));
    }
    for name in ["nic", "any", "far"] {
        keys.push(Key::resource(Kind::HostEndpoint, "", name));
    }
    for name in ["p", "g", "h"] {
        keys.push(Key::resource(Kind::GlobalNetworkPolicy, "", name));
    }
    keys.push(Key::resource(Kind::KubernetesClusterNetworkPolicy, "", "g"));
    keys.push(Key::resource(Kind::GlobalNetworkSet, "", "set"));
    keys.extend(TIERS.map(|name| Key::resource(Kind::Tier, "", name)));
    keys.extend(PROFILES.map(|name| Key::resource(Kind::Profile, "", name)));
    keys.extend(["pool", "spare"].map(|name| Key::resource(Kind::IPPool, "", name)));
    keys.extend([NODE, "there", "far"].map(|name| Key::resource(Kind::Node, "", name)));
    let blocks = ["10.0.0.0/26", "10.0.0.0/30", "10.0.0.64/32", "10.0.0.128/26", "fd00::/122"];
    keys.extend(blocks.map(|cidr| Key::Block(cidr.parse().unwrap())));
    keys
}

struct Dice {
    rng: SmallRng,
}

impl Dice {
    fn percent(&mut self, percent: u32) -> bool {
        self.rng.random_range(0..100) < percent
    }

    fn one<T: Clone>(&mut self, values: &[T]) -> T {
        values.choose(&mut self.rng).unwrap().clone()
    }

    fn text(&mut self, values: &[&'static str]) -> SmolStr {
        SmolStr::new_static(self.one(values))
    }

    fn some(&mut self, most: usize, values: &[&'static str]) -> Vec<SmolStr> {
        let count = self.rng.random_range(0..=most);
        (0..count).map(|_| self.text(values)).collect()
    }

    fn labels(&mut self, choices: &[(&'static str, &[&'static str])]) -> Labels {
        let mut labels = Labels::new();
        for (name, values) in choices {
            if self.percent(50) {
                labels.insert(SmolStr::new_static(name), self.text(values));
            }
        }
        labels
    }

    fn endpoint_labels(&mut self) -> Labels {
        self.labels(&[
            ("app", &["a", "b", "ab"]),
            ("zone", &["x", "y"]),
            ("role", &[""]),
            ("pcns.team", &["own"]),
        ])
    }

    fn value(&mut self, key: &Key) -> Update {
        let key = match key {
            Key::Resource(key) => key,
            Key::Block(cidr) => return Update::IpamBlock(*cidr, Some(Box::new(self.block(*cidr)))),
            other => panic!("worlds do not hold {other}"),
        };
        match key.kind {
            Kind::WorkloadEndpoint => Update::WorkloadEndpoint(key.clone(), Some(self.workload(key))),
            Kind::HostEndpoint => Update::HostEndpoint(key.clone(), Some(self.host(key))),
            Kind::NetworkPolicy => Update::NetworkPolicy(key.clone(), Some(self.policy(key))),
            Kind::KubernetesEndpointSlice => {
                let slice = Resource::new(&key.namespace, &key.name, self.slice());
                Update::KubernetesEndpointSlice(key.clone(), Some(Box::new(slice)))
            }
            Kind::KubernetesNetworkPolicy => {
                let spec = KubernetesNetworkPolicySpec(self.policy(key).spec);
                let policy = Resource::new(&key.namespace, &key.name, spec);
                Update::KubernetesNetworkPolicy(key.clone(), Some(Box::new(policy)))
            }
            Kind::KubernetesClusterNetworkPolicy => {
                let spec = KubernetesClusterNetworkPolicySpec(self.global_policy(key).spec);
                let policy = Resource::new("", &key.name, spec);
                Update::KubernetesClusterNetworkPolicy(key.clone(), Some(Box::new(policy)))
            }
            Kind::GlobalNetworkPolicy => {
                Update::GlobalNetworkPolicy(key.clone(), Some(self.global_policy(key)))
            }
            Kind::Tier => Update::Tier(key.clone(), Some(self.tier(key))),
            Kind::Profile => Update::Profile(key.clone(), Some(self.profile(key))),
            Kind::NetworkSet => {
                let nets = self.nets();
                Update::NetworkSet(key.clone(), Some(self.labelled(key, NetworkSetSpec { nets })))
            }
            Kind::GlobalNetworkSet => {
                let nets = self.nets();
                Update::GlobalNetworkSet(key.clone(), Some(self.labelled(key, GlobalNetworkSetSpec { nets })))
            }
            Kind::IPPool => Update::IPPool(key.clone(), Some(self.pool(key))),
            Kind::Node => Update::Node(key.clone(), Some(self.node(key))),
            other => panic!("worlds do not hold {other:?}"),
        }
    }

    /// The value with one thing changed, as users edit.
    fn tweaked(&mut self, key: &Key, old: &Update) -> Update {
        let mut new = old.clone();
        match &mut new {
            Update::NetworkPolicy(_, Some(policy)) => match self.rng.random_range(0..4) {
                0 | 1 => policy.spec.order = self.order(),
                2 => policy.spec.selector = self.subject(),
                _ => policy.spec.ingress = self.rules(),
            },
            Update::KubernetesNetworkPolicy(_, Some(policy)) => policy.spec.0.order = self.order(),
            Update::GlobalNetworkPolicy(_, Some(policy)) => match self.rng.random_range(0..4) {
                0 | 1 => policy.spec.order = self.order(),
                2 => policy.spec.selector = self.subject(),
                _ => policy.spec.apply_on_forward ^= true,
            },
            Update::WorkloadEndpoint(_, Some(endpoint)) => match self.rng.random_range(0..3) {
                0 => endpoint.metadata.labels = self.endpoint_labels(),
                1 => endpoint.spec.ip_networks = self.addresses(),
                _ => endpoint.spec.profiles = self.some(3, &PROFILES),
            },
            Update::Profile(_, Some(profile)) => {
                profile.spec.labels_to_apply =
                    self.labels(&[("pcns.team", &["t", "u"]), ("app", &["a", "b"])]);
            }
            _ => return self.value(key),
        }
        new
    }

    fn labelled<S: Spec>(&mut self, key: &ResourceKey, spec: S) -> Box<Resource<S>> {
        let mut resource = Resource::new(&key.namespace, &key.name, spec);
        resource.metadata.labels = self.endpoint_labels();
        Box::new(resource)
    }

    fn nets(&mut self) -> Vec<SmolStr> {
        let mut nets = self.some(2, &PREFIXES);
        nets.extend(self.some(2, &ADDRESSES));
        if self.percent(3) {
            nets.push("10.0.0.0/33".into());
        }
        nets
    }

    /// Of a workload, which without any counts as ended.
    fn addresses(&mut self) -> Vec<SmolStr> {
        if self.percent(5) {
            return Vec::new();
        }
        let mut addresses = vec![self.text(&ADDRESSES)];
        addresses.extend(self.some(1, &ADDRESSES));
        addresses
    }

    fn slice(&mut self) -> EndpointSliceSpec {
        let mut ports = Vec::new();
        for name in self.some(2, &["http", "dns"]) {
            let (protocol, port) = (self.protocol(), self.one(&[80, 53]));
            ports.push(SlicePort { name, protocol: (&*protocol).into(), port });
        }
        let service = self.text(&["web", "web", "db"]);
        EndpointSliceSpec {
            service,
            addresses: self.some(3, &ADDRESSES),
            ports,
            ..EndpointSliceSpec::default()
        }
    }

    fn protocol(&mut self) -> SmolStr {
        self.text(&["TCP", "UDP", "SCTP"])
    }

    fn workload(&mut self, key: &ResourceKey) -> Box<Resource<WorkloadEndpointSpec>> {
        let mut ports = Vec::new();
        for name in self.some(2, &[PORTS[0], PORTS[1], ""]) {
            let (protocol, port) = (self.protocol(), self.one(&[80, 53]));
            let (host_port, host_ip) = (u16::from(name.is_empty()), SmolStr::default());
            ports.push(WorkloadPort { name, protocol: (&*protocol).into(), port, host_port, host_ip });
        }
        let interface = if self.percent(3) { "" } else { "cali-" };
        let pod = if self.percent(5) { self.text(&["one", "two"]) } else { key.name.clone() };
        let spec = WorkloadEndpointSpec {
            orchestrator: "k8s".into(),
            node: self.text(&[NODE, NODE, "there"]),
            pod,
            endpoint: "eth0".into(),
            ip_networks: self.addresses(),
            profiles: self.some(3, &PROFILES),
            interface_name: if interface.is_empty() {
                SmolStr::default()
            } else {
                format_smolstr!("{interface}{}", key.name)
            },
            mac: self.text(&["", "02:00:00:00:00:01"]),
            ports,
            allow_spoofed_source_prefixes: self.some(1, &PREFIXES),
            ..WorkloadEndpointSpec::default()
        };
        let mut resource = self.labelled(key, spec);
        resource.metadata.labels.insert("projectcalico.org/namespace".into(), key.namespace.clone());
        if self.percent(30) {
            resource.metadata.labels.insert("projectcalico.org/serviceaccount".into(), "robot".into());
        }
        resource
    }

    fn host(&mut self, key: &ResourceKey) -> Box<Resource<HostEndpointSpec>> {
        let mut ports = Vec::new();
        for name in self.some(1, &PORTS) {
            let protocol = self.protocol();
            ports.push(EndpointPort { name, protocol: (&*protocol).into(), port: 80 });
        }
        let spec = HostEndpointSpec {
            node: self.text(&[NODE, NODE, "there"]),
            interface_name: self.text(&["eth0", "*", ""]),
            expected_ips: self.some(2, &ADDRESSES),
            profiles: self.some(2, &PROFILES),
            ports,
        };
        self.labelled(key, spec)
    }

    fn order(&mut self) -> Option<Order> {
        self.one(&[None, Some(Order(1.0)), Some(Order(2.5)), Some(Order(-0.0)), Some(Order(0.0))])
    }

    fn types(&mut self) -> Vec<PolicyType> {
        use PolicyType::{Egress, Ingress};
        self.one(&[vec![], vec![Ingress], vec![Egress], vec![Ingress, Egress]])
    }

    fn hints(&mut self) -> Vec<SmolStr> {
        if self.percent(5) { vec!["AssumeNeededOnEveryNode".into()] } else { vec![] }
    }

    /// Mostly nothing: narrow selectors select nobody in a small world.
    fn rarely(&mut self, values: &[&'static str]) -> SmolStr {
        if self.percent(25) { self.text(values) } else { SmolStr::default() }
    }

    /// Mostly broad, so that policies meet on endpoints.
    fn subject(&mut self) -> SmolStr {
        if self.percent(50) { self.text(&["", "all()"]) } else { self.text(&SELECTORS) }
    }

    fn policy(&mut self, key: &ResourceKey) -> Box<Resource<NetworkPolicySpec>> {
        let spec = NetworkPolicySpec {
            tier: self.text(&["", "default", "default", "early", "missing"]),
            order: self.order(),
            ingress: self.rules(),
            egress: self.rules(),
            selector: self.subject(),
            types: self.types(),
            service_account_selector: self.rarely(&["kind == 'k'", "all()"]),
            performance_hints: self.hints(),
        };
        Box::new(Resource::new(&key.namespace, &key.name, spec))
    }

    fn global_policy(&mut self, key: &ResourceKey) -> Box<Resource<GlobalNetworkPolicySpec>> {
        let (do_not_track, pre_dnat, apply_on_forward) = self.one(&[
            (false, false, false),
            (false, false, false),
            (false, false, true),
            (true, false, true),
            (false, true, true),
        ]);
        let spec = GlobalNetworkPolicySpec {
            tier: self.text(&["", "", "early", "late", "lost"]),
            order: self.order(),
            ingress: self.rules(),
            egress: self.rules(),
            selector: self.subject(),
            types: self.types(),
            do_not_track,
            pre_dnat,
            apply_on_forward,
            service_account_selector: self.rarely(&["has(kind)", "all()"]),
            namespace_selector: self.rarely(&NAMESPACE_SELECTORS[..2]),
            performance_hints: self.hints(),
        };
        Box::new(Resource::new("", &key.name, spec))
    }

    fn rules(&mut self) -> Vec<Rule> {
        let count = self.one(&[0, 1, 1, 2]);
        (0..count).map(|_| self.rule()).collect()
    }

    fn rule(&mut self) -> Rule {
        let protocol = self.rarely(&["TCP", "udp", "ICMP", "4", "nonsense"]);
        // Every field is named, so that one that is new does not compile until it is made here.
        Rule {
            action: self.one(&[Action::Allow, Action::Deny, Action::Pass, Action::Log]),
            protocol: (!protocol.is_empty() && (protocol != "nonsense" || self.percent(10)))
                .then(|| protocol.as_str().into()),
            ip_version: self.percent(10).then_some(4),
            icmp: self.percent(10).then_some(IcmpMatch { icmp_type: Some(8), code: None }),
            source: self.entity(),
            destination: self.entity(),
            not_protocol: self.percent(10).then(|| "UDP".into()),
            not_icmp: self.percent(5).then_some(IcmpMatch { icmp_type: Some(3), code: Some(1) }),
            http: None,
            metadata: None,
        }
    }

    fn entity(&mut self) -> EntityRule {
        if self.percent(40) {
            return EntityRule::default();
        }
        let port = |name: SmolStr| if name == "80" { Port::from(80) } else { Port::Named(name) };
        let accounts = self.percent(10).then(|| ServiceAccountMatch {
            names: self.some(2, &["robot", "human"]),
            selector: self.rarely(&["kind == 'k'"]),
        });
        let services =
            self.percent(15).then(|| ServiceMatch { name: "web".into(), namespace: self.rarely(&["blue"]) });
        EntityRule {
            nets: if self.percent(15) { self.some(2, &PREFIXES) } else { vec![] },
            selector: if self.percent(60) { self.text(&SELECTORS[..12]) } else { self.rarely(&SELECTORS) },
            namespace_selector: self.rarely(&NAMESPACE_SELECTORS),
            services,
            ports: if self.percent(30) {
                self.some(2, &["http", "dns", "80"]).into_iter().map(port).collect()
            } else {
                vec![]
            },
            not_nets: vec![],
            not_selector: self.rarely(&SELECTORS[..12]),
            not_ports: if self.percent(10) {
                self.some(1, &["http", "80"]).into_iter().map(port).collect()
            } else {
                vec![]
            },
            service_accounts: accounts,
        }
    }

    fn tier(&mut self, key: &ResourceKey) -> Box<Resource<TierSpec>> {
        let default_action = self.one(&[None, Some(Action::Deny), Some(Action::Pass), Some(Action::Log)]);
        Box::new(Resource::new("", &key.name, TierSpec { order: self.order(), default_action }))
    }

    fn profile(&mut self, key: &ResourceKey) -> Box<Resource<ProfileSpec>> {
        let spec = ProfileSpec {
            ingress: self.rules(),
            egress: self.rules(),
            labels_to_apply: self.labels(&[
                ("pcns.team", &["t", "u"]),
                ("pcsa.kind", &["k"]),
                ("app", &["a", "b"]),
                ("zone", &["x"]),
                ("projectcalico.org/namespace", &["red", "blue"]),
            ]),
        };
        Box::new(Resource::new("", &key.name, spec))
    }

    fn pool(&mut self, key: &ResourceKey) -> Box<Resource<IPPoolSpec>> {
        let modes = [None, Some(EncapMode::Never), Some(EncapMode::Always), Some(EncapMode::CrossSubnet)];
        let spec = IPPoolSpec {
            cidr: self.text(&["10.0.0.0/8", "10.0.0.0/8", "10.0.0.0/25", "fd00::/64", "nowhere"]),
            vxlan_mode: self.one(&modes),
            ipip_mode: if self.percent(70) { None } else { self.one(&modes) },
            nat_outgoing: self.percent(50),
            allowed_uses: self.one(&[vec![], vec![AllowedUse::LoadBalancer]]),
            ..IPPoolSpec::default()
        };
        Box::new(Resource::new("", &key.name, spec))
    }

    fn node(&mut self, key: &ResourceKey) -> Box<Resource<NodeSpec>> {
        let bgp = NodeBgp {
            ipv4_address: self.text(&[
                "",
                "192.168.0.1/24",
                "192.168.0.2/24",
                "192.168.1.1/24",
                "fd01::1/64",
                "bad",
            ]),
            ipv6_address: self.text(&["", "fd01::1/64", "fd01::2/64"]),
            ipv4_ipip_tunnel_addr: self.text(&["", "10.0.0.17", "10.0.0.18", "fd00::7", "0.0.0.0"]),
            ..NodeBgp::default()
        };
        let spec = NodeSpec {
            bgp: self.percent(90).then_some(bgp),
            ipv4_vxlan_tunnel_addr: self
                .text(&["", "10.0.0.7", "10.0.0.8", "10.0.0.9", "fd00::7", "0.0.0.0"]),
            vxlan_tunnel_mac_addr: self.text(&["", "", "", "66:00:00:00:00:01", "01:00:00:00:00:01", "bad"]),
            ipv6_vxlan_tunnel_addr: self.text(&["", "fd00::7", "fd00::8"]),
            ..NodeSpec::default()
        };
        Box::new(Resource::new("", &key.name, spec))
    }

    /// Addresses of a block that others than its owner may have.
    fn allocations(&mut self) -> (Vec<Option<usize>>, Vec<AllocationAttribute>) {
        let nodes = [NODE, "there", "far", "unknown", ""];
        let attributes = (0..3).map(|_| {
            let node = self.text(&nodes);
            AllocationAttribute {
                secondary: self.percent(90).then(|| Arc::new([("node".into(), node)].into_iter().collect())),
                released_at: self.percent(10).then(|| "2026-01-01T00:00:00Z".into()),
                ..AllocationAttribute::default()
            }
        });
        let attributes = attributes.collect();
        // 3 is an index of nothing.
        let allocations = (0..4).map(|_| self.one(&[None, None, Some(0), Some(1), Some(2), Some(3)]));
        (allocations.collect(), attributes)
    }

    fn block(&mut self, cidr: calico_net::Cidr) -> IpamBlock {
        let owner = |name: &str| Some(AffinityOwner::Host(name.into()));
        let (allocations, attributes) = self.allocations();
        IpamBlock {
            cidr,
            affinity: self.one(&[
                owner(NODE),
                owner("there"),
                owner("far"),
                Some(AffinityOwner::Virtual(NODE.into())),
                None,
            ]),
            affinity_claim_time: None,
            allocations,
            unallocated: vec![],
            attributes,
            sequence_number: 0,
            sequence_number_for_allocation: BTreeMap::new(),
            deleted: self.percent(5),
            host_affinity: self.one(&[None, None, Some(NODE.into()), Some("there".into())]),
            other: Default::default(),
        }
    }
}
