//! The naive reference: the whole datastore in, the whole state out, from scratch, slowly and obviously.
//!
//! This is what [`crate::Calc`] must agree with after any legal stream of updates. It shares the parser of selectors
//! with it and nothing else; where the two could make the same mistake, this one is written from the specification
//! again: endpoints are scanned, labels are merged in plain maps, lists are sorted by their spelt-out keys.

mod routes;
mod rules;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use calico_api::{
    self as api, Action, AffinityOwner, GlobalNetworkPolicySpec, Key, NetworkPolicySpec, PolicyType,
    ResourceKey,
};
use calico_net::{Cidr, Protocol};
use calico_selector::{Selector, parse, translation::prefixed};
use smol_str::SmolStr;

use crate::change::{HostEndpoint, IpSetId, Member, Policy, Profile, Tier, TierEnd, Workload, WorkloadId};
use crate::state::NodeState;
use crate::update::Update;

type LabelMap = BTreeMap<String, String>;

/// What the datastore holds: one update per key, each with a value.
pub type Datastore = BTreeMap<Key, Update>;

/// Anything that selectors of rules can match.
struct Item {
    /// `<namespace>/<name>` of a service whose slice it is: then no selector reaches it.
    service: Option<String>,
    labels: LabelMap,
    nets: BTreeSet<Cidr>,
    ports: BTreeSet<(String, Protocol, u16)>,
}

/// An endpoint of this node.
struct LocalEndpoint {
    labels: LabelMap,
    profiles: Vec<SmolStr>,
    kind: LocalKind,
}

enum LocalKind {
    Workload(WorkloadId, Workload),
    Host(SmolStr, HostEndpoint),
}

/// A policy of either kind.
struct SourcePolicy {
    tier: SmolStr,
    order: Option<f64>,
    subject: Selector,
    ingress: bool,
    egress: bool,
    untracked: bool,
    pre_dnat: bool,
    forward: bool,
    everywhere: bool,
    rules: rules::Translated,
}

struct Reference<'a> {
    node: &'a str,
    spoofing_allowed: bool,
    datastore: &'a Datastore,
    /// Profiles that exist and are understood: labels and rules.
    profiles: BTreeMap<&'a str, (&'a api::Labels, rules::Translated)>,
}

/// The state of the node called `node`, given whether `WorkloadSourceSpoofing` is `Any` and the whole datastore.
pub fn calculate(node: &str, spoofing_allowed: bool, datastore: &Datastore) -> NodeState {
    let nothing = api::Labels::new();
    let mut profiles = BTreeMap::new();
    for update in datastore.values() {
        if let Update::Profile(key, Some(profile)) = update {
            let rules = rules::translate(None, &profile.spec.ingress, &profile.spec.egress);
            profiles.extend(rules.map(|rules| (key.name.as_str(), (&profile.spec.labels_to_apply, rules))));
        }
    }
    // Built in: what the datastore says of it does not count.
    profiles.insert("projectcalico-default-allow", (&nothing, rules::everything(Action::Allow)));
    Reference { node, spoofing_allowed, datastore, profiles }.calculate()
}

impl Reference<'_> {
    fn calculate(&self) -> NodeState {
        let mut state = NodeState::default();
        let items = self.items();
        let locals = self.locals();
        let policies = self.policies();
        let mut sets: BTreeMap<IpSetId, rules::SetMeaning> = BTreeMap::new();

        for (key, policy) in &policies {
            if policy.everywhere || locals.iter().any(|local| policy.subject.matches(&local.labels)) {
                let rules::Translated { ingress, egress, sets: named } = policy.rules.clone();
                let value = Policy { tier: policy.tier.clone(), ingress, egress };
                state.policies.insert(key.clone(), Arc::new(value));
                sets.extend(named);
            }
        }
        for name in locals.iter().flat_map(|local| &local.profiles) {
            let rules::Translated { ingress, egress, sets: named } = self.profile_rules(name);
            state.profiles.insert(name.clone(), Arc::new(Profile { ingress, egress }));
            sets.extend(named);
        }
        for (id, meaning) in sets {
            let members = items.iter().flat_map(|item| members(&meaning, item)).collect();
            state.ip_sets.insert(id, (meaning.kind(), members));
        }
        for local in locals {
            let selecting: Vec<_> =
                policies.iter().filter(|(_, policy)| policy.subject.matches(&local.labels)).collect();
            let tiers = |class: Class| self.tiers(&selecting, class);
            let profiles: Arc<[SmolStr]> = local.profiles.clone().into();
            match local.kind {
                LocalKind::Workload(id, workload) => {
                    let workload = Workload { tiers: tiers(Class::Normal), profiles, ..workload };
                    // Resources come in the order of their keys: of several with one id the first counts.
                    state.workloads.entry(id).or_insert_with(|| Arc::new(workload));
                }
                LocalKind::Host(name, host) => {
                    let host = HostEndpoint {
                        tiers: tiers(Class::Normal),
                        untracked_tiers: tiers(Class::Untracked),
                        pre_dnat_tiers: tiers(Class::PreDnat),
                        forward_tiers: tiers(Class::Forward),
                        profiles,
                        ..host
                    };
                    state.host_endpoints.insert(name, Arc::new(host));
                }
            }
        }
        self.add_cluster(&mut state);
        state
    }

    fn resource<'b>(&'b self, kind: api::Kind, name: &str) -> Option<&'b Update> {
        self.datastore.get(&Key::resource(kind, "", name))
    }

    /// Own labels, then those of each profile for names that are still free.
    fn effective(&self, own: &api::Labels, profiles: &[SmolStr]) -> LabelMap {
        let mut labels: LabelMap = own.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        for (inherited, _) in profiles.iter().filter_map(|name| self.profiles.get(name.as_str())) {
            for (label, value) in *inherited {
                labels.entry(label.to_string()).or_insert_with(|| value.to_string());
            }
        }
        labels
    }

    fn items(&self) -> Vec<Item> {
        self.datastore.values().filter_map(|update| self.item(update)).collect()
    }

    fn item(&self, update: &Update) -> Option<Item> {
        match update {
            Update::WorkloadEndpoint(_, Some(wep)) => {
                let spec = &wep.spec;
                if spec.interface_name.parse::<calico_net::IfName>().is_err()
                    || (!spec.mac.is_empty() && spec.mac.parse::<calico_net::Mac>().is_err())
                {
                    return None;
                }
                if spec.ip_networks.is_empty() {
                    return None;
                }
                let spoofed = cidrs(&spec.allow_spoofed_source_prefixes)?;
                if !spoofed.is_empty() && !self.spoofing_allowed {
                    return None;
                }
                let named = spec.ports.iter().filter(|port| !port.name.is_empty());
                Some(Item {
                    service: None,
                    labels: self.effective(&wep.metadata.labels, &spec.profiles),
                    nets: cidrs(&spec.ip_networks)?.into_iter().collect(),
                    ports: named
                        .map(|port| Some((port.name.to_string(), port.protocol.resolve().ok()?, port.port)))
                        .collect::<Option<_>>()?,
                })
            }
            Update::HostEndpoint(_, Some(hep)) => {
                let spec = &hep.spec;
                if spec.interface_name.is_empty() && spec.expected_ips.is_empty() {
                    return None;
                }
                Some(Item {
                    service: None,
                    labels: self.effective(&hep.metadata.labels, &spec.profiles),
                    nets: addresses(&spec.expected_ips)?.into_iter().map(Cidr::host).collect(),
                    ports: spec
                        .ports
                        .iter()
                        .map(|port| Some((port.name.to_string(), port.protocol.resolve().ok()?, port.port)))
                        .collect::<Option<_>>()?,
                })
            }
            Update::NetworkSet(key, Some(set)) => {
                let mut own = set.metadata.labels.clone();
                own.insert("projectcalico.org/namespace".into(), key.namespace.clone());
                Some(Item {
                    service: None,
                    labels: self.effective(&own, &[format!("kns.{}", key.namespace).into()]),
                    nets: cidrs(&set.spec.nets)?.into_iter().collect(),
                    ports: BTreeSet::new(),
                })
            }
            Update::KubernetesEndpointSlice(key, Some(slice)) => Some(Item {
                service: Some(format!("{}/{}", key.namespace, slice.spec.service)),
                labels: LabelMap::new(),
                nets: cidrs(&slice.spec.addresses)?.into_iter().collect(),
                ports: slice
                    .spec
                    .ports
                    .iter()
                    .map(|port| Some((String::new(), port.protocol.resolve().ok()?, port.port)))
                    .collect::<Option<_>>()?,
            }),
            Update::GlobalNetworkSet(_, Some(set)) => Some(Item {
                service: None,
                labels: self.effective(&set.metadata.labels, &[]),
                nets: cidrs(&set.spec.nets)?.into_iter().collect(),
                ports: BTreeSet::new(),
            }),
            _ => None,
        }
    }

    fn locals(&self) -> Vec<LocalEndpoint> {
        self.datastore.values().filter_map(|update| self.local(update)).collect()
    }

    fn local(&self, update: &Update) -> Option<LocalEndpoint> {
        let item = self.item(update)?;
        match update {
            Update::WorkloadEndpoint(key, Some(wep)) if wep.spec.node == self.node => {
                let spec = &wep.spec;
                let workload = match spec.orchestrator.as_str() {
                    "k8s" => spec.pod.as_str(),
                    "cni" => spec.container_id.as_str(),
                    "libnetwork" => "libnetwork",
                    _ => spec.workload.as_str(),
                };
                let id = WorkloadId {
                    orchestrator: spec.orchestrator.clone(),
                    workload: format!("{}/{workload}", key.namespace).into(),
                    endpoint: spec.endpoint.clone(),
                };
                let workload = Workload {
                    key: key.clone(),
                    interface: spec.interface_name.parse().ok()?,
                    mac: spec.mac.parse().ok(),
                    nets: cidrs(&spec.ip_networks)?,
                    allowed_sources: cidrs(&spec.allow_spoofed_source_prefixes)?,
                    tiers: Arc::new([]),
                    profiles: Arc::new([]),
                };
                Some(LocalEndpoint {
                    labels: item.labels,
                    profiles: spec.profiles.clone(),
                    kind: LocalKind::Workload(id, workload),
                })
            }
            Update::HostEndpoint(key, Some(hep)) if hep.spec.node == self.node => {
                let none = || Arc::new([]);
                let host = HostEndpoint {
                    interface: hep.spec.interface_name.clone(),
                    expected_ips: addresses(&hep.spec.expected_ips)?,
                    tiers: none(),
                    untracked_tiers: none(),
                    pre_dnat_tiers: none(),
                    forward_tiers: none(),
                    profiles: Arc::new([]),
                };
                Some(LocalEndpoint {
                    labels: item.labels,
                    profiles: hep.spec.profiles.clone(),
                    kind: LocalKind::Host(key.name.clone(), host),
                })
            }
            _ => None,
        }
    }

    fn policies(&self) -> BTreeMap<ResourceKey, SourcePolicy> {
        let read = |update: &Update| match update {
            Update::NetworkPolicy(key, Some(policy)) => {
                Some((key.clone(), namespaced_policy(&key.namespace, &policy.spec)?))
            }
            Update::KubernetesNetworkPolicy(key, Some(policy)) => {
                Some((key.clone(), namespaced_policy(&key.namespace, &policy.spec.0)?))
            }
            Update::GlobalNetworkPolicy(key, Some(policy)) => {
                Some((key.clone(), global_policy(&policy.spec)?))
            }
            Update::KubernetesClusterNetworkPolicy(key, Some(policy)) => {
                Some((key.clone(), global_policy(&policy.spec.0)?))
            }
            _ => None,
        };
        self.datastore.values().filter_map(read).collect()
    }

    /// A profile that does not exist denies everything.
    fn profile_rules(&self, name: &str) -> rules::Translated {
        match self.profiles.get(name) {
            Some((_, rules)) => rules.clone(),
            None => rules::everything(Action::Deny),
        }
    }

    /// The tiers of one class for an endpoint that these policies select.
    fn tiers(&self, selecting: &[(&ResourceKey, &SourcePolicy)], class: Class) -> Arc<[Tier]> {
        let mut of_class: Vec<_> = selecting.iter().filter(|(_, policy)| class.takes(policy)).collect();
        of_class.sort_by(|(left_key, left), (right_key, right)| {
            let tier = |policy: &SourcePolicy| {
                let (order, _) = self.tier(&policy.tier)?;
                Some(order)
            };
            // Adding zero makes -0.0 the 0.0 that it equals.
            let number = |order: Option<f64>| order.unwrap_or(f64::INFINITY) + 0.0;
            let missing = |policy: &SourcePolicy| tier(policy).is_none();
            let tier_order = |policy: &SourcePolicy| number(tier(policy).flatten());
            let name = |key: &ResourceKey| format!("{}/{}/{}", key.name, key.namespace, key.kind.name());
            missing(left)
                .cmp(&missing(right))
                .then(tier_order(left).total_cmp(&tier_order(right)))
                .then(left.tier.cmp(&right.tier))
                .then(number(left.order).total_cmp(&number(right.order)))
                .then(name(left_key).cmp(&name(right_key)))
        });
        let mut tiers: Vec<Tier> = Vec::new();
        for (key, policy) in of_class {
            if tiers.last().is_none_or(|tier| tier.name != policy.tier) {
                let end = match class {
                    Class::Untracked | Class::PreDnat => TierEnd::Pass,
                    Class::Normal | Class::Forward => {
                        self.tier(&policy.tier).map_or(TierEnd::Deny, |(_, end)| end)
                    }
                };
                tiers.push(Tier { name: policy.tier.clone(), end, ingress: vec![], egress: vec![] });
            }
            if let Some(tier) = tiers.last_mut() {
                if policy.ingress {
                    tier.ingress.push((*key).clone());
                }
                if policy.egress && !policy.pre_dnat {
                    tier.egress.push((*key).clone());
                }
            }
        }
        tiers.retain(|tier| !(tier.ingress.is_empty() && tier.egress.is_empty()));
        tiers.into()
    }

    fn tier(&self, name: &str) -> Option<(Option<f64>, TierEnd)> {
        let Update::Tier(_, Some(tier)) = self.resource(api::Kind::Tier, name)? else { return None };
        let end = match &tier.spec.default_action {
            None | Some(Action::Deny) => TierEnd::Deny,
            Some(Action::Pass) => TierEnd::Pass,
            Some(_) => return None,
        };
        Some((tier.spec.order.map(|order| order.0), end))
    }

    fn add_cluster(&self, state: &mut NodeState) {
        for update in self.datastore.values() {
            match update {
                Update::IPPool(_, Some(pool)) => {
                    if let Some((cidr, pool)) = routes::read_pool(pool) {
                        state.pools.entry(cidr).or_insert(pool);
                    }
                }
                Update::Node(key, Some(node)) => {
                    state.nodes.insert(key.name.clone(), routes::read_node(node));
                }
                Update::IpamBlock(cidr, Some(block)) => {
                    let owner = match (&block.affinity, &block.host_affinity) {
                        (Some(AffinityOwner::Host(name)), _) | (None, Some(name)) => name.as_str(),
                        _ => "",
                    };
                    if owner == self.node && !block.deleted && !cidr.is_host() {
                        state.blocks.insert(*cidr);
                    }
                }
                _ => {}
            }
        }
        routes::add(self.node, self.datastore, state);
    }
}

#[derive(Clone, Copy)]
enum Class {
    Normal,
    Untracked,
    PreDnat,
    Forward,
}

impl Class {
    fn takes(self, policy: &SourcePolicy) -> bool {
        let special = policy.untracked || policy.pre_dnat;
        match self {
            Class::Normal => !special,
            Class::Untracked => policy.untracked,
            Class::PreDnat => policy.pre_dnat && !policy.untracked,
            Class::Forward => policy.forward && !special,
        }
    }
}

fn members(meaning: &rules::SetMeaning, item: &Item) -> Vec<Member> {
    let plain = || item.nets.iter().copied().map(Member::Net).collect();
    let with_ports = |wanted: &dyn Fn(&str, Protocol) -> bool| {
        let mut members = Vec::new();
        for net in item.nets.iter().filter(|net| net.is_host()) {
            for (name, protocol, port) in &item.ports {
                if wanted(name, *protocol) {
                    members.push(Member::IpPort { addr: net.addr(), protocol: *protocol, port: *port });
                }
            }
        }
        members
    };
    match (meaning, &item.service) {
        (rules::SetMeaning::Addresses(selector), None) if selector.matches(&item.labels) => plain(),
        (rules::SetMeaning::Ports(selector, name, wanted), None) if selector.matches(&item.labels) => {
            with_ports(&|port, protocol| port == name && wanted.is_none_or(|wanted| wanted == protocol))
        }
        (rules::SetMeaning::ServiceAddresses(service), Some(of)) if service == of => plain(),
        (rules::SetMeaning::ServicePorts(service), Some(of)) if service == of => with_ports(&|_, _| true),
        _ => Vec::new(),
    }
}

fn cidrs(texts: &[SmolStr]) -> Option<Vec<Cidr>> {
    texts.iter().map(|text| text.parse().ok()).collect()
}

fn addresses(texts: &[SmolStr]) -> Option<Vec<IpAddr>> {
    texts.iter().map(|text| text.parse().ok()).collect()
}

fn namespaced_policy(namespace: &str, spec: &NetworkPolicySpec) -> Option<SourcePolicy> {
    parse(&spec.selector).ok()?;
    let mut subject = format!("projectcalico.org/namespace == '{namespace}'");
    if !spec.selector.trim().is_empty() {
        subject = format!("({}) && {subject}", spec.selector);
    }
    if !spec.service_account_selector.trim().is_empty() {
        subject = format!("({subject}) && ({})", prefixed(&spec.service_account_selector, "pcsa.").ok()?);
    }
    Some(SourcePolicy {
        tier: if spec.tier.is_empty() { "default".into() } else { spec.tier.clone() },
        order: spec.order.map(|order| order.0),
        subject: parse(&subject).ok()?,
        ingress: applies(&spec.types, &PolicyType::Ingress)?,
        egress: applies(&spec.types, &PolicyType::Egress)?,
        untracked: false,
        pre_dnat: false,
        forward: false,
        everywhere: spec.performance_hints.iter().any(|hint| hint == "AssumeNeededOnEveryNode"),
        rules: rules::translate(Some(namespace), &spec.ingress, &spec.egress)?,
    })
}

fn global_policy(spec: &GlobalNetworkPolicySpec) -> Option<SourcePolicy> {
    parse(&spec.selector).ok()?;
    let mut subject = spec.selector.trim().to_owned();
    let mut narrow = |extra: &str, prefix: &str, everybody: &str| -> Option<()> {
        if !extra.trim().is_empty() {
            let extra = prefixed(extra, prefix).ok()?;
            subject = if subject.is_empty() { extra } else { format!("({subject}) && ({extra})") };
            subject = subject.replace("all()", everybody);
        }
        Some(())
    };
    narrow(&spec.namespace_selector, "pcns.", "has(projectcalico.org/namespace)")?;
    narrow(&spec.service_account_selector, "pcsa.", "has(projectcalico.org/serviceaccount)")?;
    Some(SourcePolicy {
        tier: if spec.tier.is_empty() { "default".into() } else { spec.tier.clone() },
        order: spec.order.map(|order| order.0),
        subject: parse(&subject).ok()?,
        ingress: applies(&spec.types, &PolicyType::Ingress)?,
        egress: applies(&spec.types, &PolicyType::Egress)?,
        untracked: spec.do_not_track,
        pre_dnat: spec.pre_dnat,
        forward: spec.apply_on_forward,
        everywhere: spec.performance_hints.iter().any(|hint| hint == "AssumeNeededOnEveryNode"),
        rules: rules::translate(None, &spec.ingress, &spec.egress)?,
    })
}

fn applies(types: &[PolicyType], direction: &PolicyType) -> Option<bool> {
    types.iter().all(PolicyType::is_known).then(|| types.is_empty() || types.contains(direction))
}
