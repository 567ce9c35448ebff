//! Validation: is a resource one that Calico would accept? Errors name the field, the value and what would be right.

mod bgp;
mod bgp_filter;
mod endpoint;
mod felix;
mod ipam;
mod metadata;
mod node_status;
mod policy;
mod scalar;

use calico_net::Cidr;
use serde_json::Value;

use crate::any::AnyResource;
use crate::key::Kind;
use crate::meta::{Resource, Spec};
use crate::strict;
use crate::{AllowedUse, ClusterInformationSpec, IPPoolSpec};

/// One thing wrong with a resource.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.text())]
pub struct ValidationError {
    /// Path of the field, such as `spec.ingress[0].source.ports[1]`.
    pub field: String,
    /// The value found, shortened; empty where there is none.
    pub value: String,
    /// What is wrong, or what would be right.
    pub reason: String,
}

impl ValidationError {
    /// The value is said once, though errors of parsers begin with it.
    pub fn new(
        field: impl Into<String>,
        value: impl std::fmt::Display,
        reason: impl std::fmt::Display,
    ) -> ValidationError {
        let (value, reason) = (value.to_string(), reason.to_string());
        let reason = strict::without_value(&value, &reason).to_owned();
        ValidationError { field: field.into(), value, reason }
    }

    fn text(&self) -> String {
        let ValidationError { field, value, reason } = self;
        match (field.is_empty(), value.is_empty()) {
            (_, true) => format!("{field}: {reason}"),
            // The document as a whole.
            (true, false) => format!("{value}: {reason}"),
            (false, false) => format!("{field}: {value:?}: {reason}"),
        }
    }
}

/// What is wrong so far.
#[derive(Debug, Default)]
pub(crate) struct Report {
    errors: Vec<ValidationError>,
}

impl Report {
    pub(crate) fn add(
        &mut self,
        field: impl Into<String>,
        value: impl std::fmt::Display,
        reason: impl std::fmt::Display,
    ) {
        self.errors.push(ValidationError::new(field, value, reason));
    }

    /// Adds an error unless `good`.
    pub(crate) fn require(
        &mut self,
        good: bool,
        field: impl Into<String>,
        value: impl std::fmt::Display,
        reason: impl std::fmt::Display,
    ) {
        if !good {
            self.add(field, value, reason);
        }
    }
}

/// Everything wrong with a resource as it would be stored, defaults filled in.
pub fn validate(resource: &AnyResource) -> Vec<ValidationError> {
    let mut report = Report::default();
    metadata::check(resource.kind, resource.tier(), &resource.metadata, &mut report);
    match resource.kind {
        Kind::BGPConfiguration => typed(resource, &mut report, bgp::check_configuration),
        Kind::BGPFilter => typed(resource, &mut report, bgp_filter::check),
        Kind::BGPPeer => typed(resource, &mut report, bgp::check_peer),
        Kind::ClusterInformation => typed::<ClusterInformationSpec>(resource, &mut report, |_, _| {}),
        Kind::FelixConfiguration => typed(resource, &mut report, felix::check),
        Kind::GlobalNetworkPolicy => typed(resource, &mut report, policy::check_global_network_policy),
        Kind::GlobalNetworkSet => typed(resource, &mut report, endpoint::check_global_network_set),
        Kind::HostEndpoint => typed(resource, &mut report, endpoint::check_host_endpoint),
        Kind::IPAMConfiguration => typed(resource, &mut report, ipam::check_configuration),
        Kind::IPPool => typed(resource, &mut report, ipam::check_pool),
        Kind::IPReservation => typed(resource, &mut report, ipam::check_reservation),
        Kind::NetworkPolicy => typed(resource, &mut report, policy::check_network_policy),
        Kind::NetworkSet => typed(resource, &mut report, endpoint::check_network_set),
        Kind::Node => typed(resource, &mut report, endpoint::check_node),
        Kind::Profile => typed(resource, &mut report, policy::check_profile),
        Kind::Tier => typed(resource, &mut report, policy::check_tier),
        Kind::WorkloadEndpoint => typed(resource, &mut report, endpoint::check_workload_endpoint),
        Kind::StagedNetworkPolicy | Kind::StagedGlobalNetworkPolicy => {
            policy::check_staged(resource, &mut report)
        }
        Kind::CalicoNodeStatus => typed(resource, &mut report, node_status::check),
        Kind::BlockAffinity
        | Kind::KubeControllersConfiguration
        | Kind::KubernetesClusterNetworkPolicy
        | Kind::KubernetesEndpointSlice
        | Kind::KubernetesNetworkPolicy
        | Kind::KubernetesSecret
        | Kind::KubernetesService
        | Kind::StagedKubernetesNetworkPolicy => {}
    }
    report.errors
}

/// What is wrong with replacing `before` by `after`: changes of fields that may not change.
pub fn validate_update(before: &AnyResource, after: &AnyResource) -> Vec<ValidationError> {
    let mut report = Report::default();
    if before.kind == Kind::IPPool {
        let cidr = |r: &AnyResource| {
            let text = r.spec.get("cidr").and_then(Value::as_str).unwrap_or_default();
            text.parse::<Cidr>().map_or_else(|_| text.to_owned(), |c| c.to_string())
        };
        let reason =
            |old: &str| format!("cannot change (it is {old}); create another pool and move workloads there");
        report.require(cidr(before) == cidr(after), "spec.cidr", cidr(after), reason(&cidr(before)));
        let block = |r: &AnyResource| {
            r.typed::<IPPoolSpec>().ok().and_then(|p| p.spec.block_size.filter(|n| *n != 0))
        };
        if let (Some(old), Some(new)) = (block(before), block(after)) {
            report.require(old == new, "spec.blockSize", new, reason(&old.to_string()));
        }
        let load_balancer = |r: &AnyResource| {
            r.typed::<IPPoolSpec>().is_ok_and(|p| p.spec.allowed_uses.contains(&AllowedUse::LoadBalancer))
        };
        if load_balancer(before) && !load_balancer(after) {
            report.add("spec.allowedUses", "", "a LoadBalancer pool cannot be turned to other uses");
        }
    }
    report.errors
}

fn typed<S: Spec>(resource: &AnyResource, report: &mut Report, check: fn(&Resource<S>, &mut Report)) {
    match resource.typed::<S>() {
        Ok(typed) => check(&typed, report),
        Err(_) => match strict::from_value::<S>("spec", &Value::Object(resource.spec.clone())) {
            Err(errors) => report.errors.extend(errors),
            // The specification is fine, so the status is what cannot be read.
            Ok(_) => report.add("status", "", "is not of the kind's shape"),
        },
    }
}

#[cfg(test)]
mod tests;
