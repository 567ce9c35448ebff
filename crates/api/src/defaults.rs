//! What Calico fills in when a resource is written (spec 1 §1.3–1.6).

use calico_net::Cidr;
use serde_json::{Value, json};
use smol_str::SmolStr;

use crate::any::AnyResource;
use crate::codec::TIER_LABEL;
use crate::felix_config::{OptionType, resource_row};
use crate::key::Kind;
use crate::meta::{Metadata, Resource, Spec};
use crate::number::GoDuration;
use crate::rule::{Action, PolicyType};
use crate::tier::{DEFAULT_TIER, TierSpec};
use crate::{
    AllowedUse, AssignmentMode, BGPConfigurationSpec, EncapMode, FelixConfigurationSpec,
    GlobalNetworkPolicySpec, IPPoolSpec, NetworkPolicySpec, Toggle,
};

/// The label of a workload endpoint that names its namespace.
const NAMESPACE_LABEL: &str = "projectcalico.org/namespace";
/// The label of a workload endpoint that names its orchestrator.
const ORCHESTRATOR_LABEL: &str = "projectcalico.org/orchestrator";

/// The directions of a policy that names none: egress only if it has only egress rules, both if it has both, else
/// ingress only.
pub fn policy_types(has_ingress: bool, has_egress: bool) -> Vec<PolicyType> {
    match (has_ingress, has_egress) {
        (_, false) => vec![PolicyType::Ingress],
        (false, true) => vec![PolicyType::Egress],
        (true, true) => vec![PolicyType::Ingress, PolicyType::Egress],
    }
}

/// Fills in what the user left out. Kinds without defaults stay as they are, as do specifications that cannot be read
/// (validation reports those).
pub fn apply(resource: &mut AnyResource) {
    match resource.kind {
        Kind::NetworkPolicy => typed::<NetworkPolicySpec>(resource, |r| {
            network_policy(&mut r.spec);
            tier_label(&r.spec.tier, &mut r.metadata);
        }),
        Kind::GlobalNetworkPolicy => typed::<GlobalNetworkPolicySpec>(resource, |r| {
            global_network_policy(&mut r.spec);
            tier_label(&r.spec.tier, &mut r.metadata);
        }),
        Kind::StagedNetworkPolicy | Kind::StagedGlobalNetworkPolicy => staged_policy(resource),
        Kind::StagedKubernetesNetworkPolicy => {
            insert_front(resource, "stagedAction", json!("Set"));
        }
        Kind::Tier => typed::<TierSpec>(resource, |r| tier(&mut r.spec)),
        Kind::IPPool => typed::<IPPoolSpec>(resource, |r| pool(&mut r.spec)),
        Kind::BGPConfiguration => typed::<BGPConfigurationSpec>(resource, |r| bgp_configuration(&mut r.spec)),
        Kind::FelixConfiguration => {
            typed::<FelixConfigurationSpec>(resource, |r| felix_configuration(&mut r.spec));
        }
        Kind::BGPFilter
        | Kind::BGPPeer
        | Kind::BlockAffinity
        | Kind::CalicoNodeStatus
        | Kind::ClusterInformation
        | Kind::GlobalNetworkSet
        | Kind::HostEndpoint
        | Kind::IPAMConfiguration
        | Kind::IPReservation
        | Kind::KubeControllersConfiguration
        | Kind::KubernetesClusterNetworkPolicy
        | Kind::KubernetesEndpointSlice
        | Kind::KubernetesNetworkPolicy
        | Kind::KubernetesSecret
        | Kind::KubernetesService
        | Kind::NetworkSet
        | Kind::Node
        | Kind::Profile => {}
        Kind::WorkloadEndpoint => endpoint_labels(resource),
    }
}

/// The labels of a workload endpoint that say where it belongs: its namespace, and its orchestrator if it has one.
fn endpoint_labels(resource: &mut AnyResource) {
    let Metadata { namespace, labels, .. } = &mut resource.metadata;
    labels.insert(SmolStr::new_static(NAMESPACE_LABEL), namespace.clone());
    if let Some(orchestrator) =
        resource.spec.get("orchestrator").and_then(Value::as_str).filter(|o| !o.is_empty())
    {
        labels.insert(SmolStr::new_static(ORCHESTRATOR_LABEL), SmolStr::new(orchestrator));
    }
}

fn typed<S: Spec>(resource: &mut AnyResource, change: impl FnOnce(&mut Resource<S>)) {
    if let Ok(mut read) = resource.typed::<S>() {
        change(&mut read);
        *resource = AnyResource::from(&read);
    }
}

fn tier_label(tier: &SmolStr, metadata: &mut Metadata) {
    metadata.labels.insert(SmolStr::new_static(TIER_LABEL), tier.clone());
}

fn default_tier(tier: &mut SmolStr) {
    if tier.is_empty() {
        *tier = SmolStr::new_static(DEFAULT_TIER);
    }
}

/// Tier and types.
pub fn network_policy(spec: &mut NetworkPolicySpec) {
    default_tier(&mut spec.tier);
    if spec.types.is_empty() {
        spec.types = policy_types(!spec.ingress.is_empty(), !spec.egress.is_empty());
    }
}

/// Tier and types.
pub fn global_network_policy(spec: &mut GlobalNetworkPolicySpec) {
    default_tier(&mut spec.tier);
    if spec.types.is_empty() {
        spec.types = policy_types(!spec.ingress.is_empty(), !spec.egress.is_empty());
    }
}

/// The same for staged policies, which have no type of their own yet; one that deletes has no types.
fn staged_policy(resource: &mut AnyResource) {
    insert_front(resource, "stagedAction", json!("Set"));
    let spec = &mut resource.spec;
    spec.entry("tier").or_insert_with(|| json!(DEFAULT_TIER));
    let tier = SmolStr::new(spec.get("tier").and_then(Value::as_str).unwrap_or(DEFAULT_TIER));
    let has = |name: &str| spec.get(name).and_then(Value::as_array).is_some_and(|rules| !rules.is_empty());
    let types = policy_types(has("ingress"), has("egress"));
    if spec.get("stagedAction") != Some(&json!("Delete")) && !has("types") {
        let types: Vec<&str> = types.iter().map(PolicyType::as_str).collect();
        spec.insert("types".to_owned(), json!(types));
    }
    tier_label(&tier, &mut resource.metadata);
}

fn insert_front(resource: &mut AnyResource, name: &str, value: Value) {
    if !resource.spec.contains_key(name) {
        resource.spec.shift_insert(0, name.to_owned(), value);
    }
}

/// Order and default action.
pub fn tier(spec: &mut TierSpec) {
    spec.order.get_or_insert(TierSpec::DEFAULT_ORDER);
    spec.default_action.get_or_insert(Action::Deny);
}

/// Modes, block size, selector, uses, and the canonical spelling of the range.
pub fn pool(spec: &mut IPPoolSpec) {
    if let Ok(cidr) = Cidr::parse_strict(&spec.cidr) {
        spec.cidr = SmolStr::from(cidr.to_string());
        spec.block_size = Some(spec.effective_block_size(&cidr));
    }
    default_mode(&mut spec.vxlan_mode);
    default_mode(&mut spec.ipip_mode);
    if spec.node_selector.is_empty() {
        spec.node_selector = SmolStr::new_static("all()");
    }
    if spec.allowed_uses.is_empty() {
        spec.allowed_uses = vec![AllowedUse::Workload, AllowedUse::Tunnel];
    }
    spec.assignment_mode.get_or_insert(AssignmentMode::Automatic);
}

fn default_mode(mode: &mut Option<EncapMode>) {
    if mode.as_ref().is_none_or(|m| m.as_str().is_empty()) {
        *mode = Some(EncapMode::Never);
    }
}

/// Log level and aggregation.
pub fn bgp_configuration(spec: &mut BGPConfigurationSpec) {
    if spec.log_severity_screen.is_empty() {
        spec.log_severity_screen = SmolStr::new_static("Info");
    }
    spec.service_load_balancer_aggregation.get_or_insert(Toggle::Enabled);
}

/// What Calico's client always writes into a FelixConfiguration.
const FELIX_DEFAULTS: [(&str, &str); 6] = [
    ("nftablesMode", "Auto"),
    ("nftablesFlowTableOffload", "Disabled"),
    ("bpfLogLevel", ""),
    ("bpfConnectTimeLoadBalancing", "TCP"),
    ("bpfHostNetworkedNATWithoutCTLB", "Enabled"),
    ("floatingIPs", "Disabled"),
];

/// The fields that are always written, and durations in their canonical spelling.
pub fn felix_configuration(spec: &mut FelixConfigurationSpec) {
    for (name, value) in &mut spec.options {
        let duration = resource_row(name)
            .is_some_and(|row| matches!(row.kind, OptionType::Seconds | OptionType::Millis));
        if duration && let Some(Ok(canonical)) = value.as_str().map(str::parse::<GoDuration>) {
            *value = json!(canonical.to_string());
        }
    }
    for (name, value) in FELIX_DEFAULTS {
        spec.options.entry(name.to_owned()).or_insert_with(|| json!(value));
    }
}
