//! Names, labels and annotations (spec 1 §1.2).

use super::Report;
use super::scalar::{is_dns_label, is_dns_subdomain, is_label_name, is_qualified_name};
use crate::key::{Kind, Scope};
use crate::meta::{Labels, Metadata};

/// Most bytes of all annotations together.
const MAX_ANNOTATIONS: usize = 256 * 1024;
/// A label that only the backend sets on network sets.
const NAMESPACE_LABEL: &str = "projectcalico.org/namespace";

pub(super) fn check(kind: Kind, tier: Option<&str>, metadata: &Metadata, report: &mut Report) {
    check_name(kind, tier, &metadata.name, report);
    match kind.scope() {
        Scope::Namespaced => {
            let namespace = metadata.namespace.as_str();
            report.require(
                !namespace.is_empty(),
                "metadata.namespace",
                "",
                "is needed; this kind lives in namespaces",
            );
            report.require(
                namespace.is_empty() || is_dns_subdomain(namespace),
                "metadata.namespace",
                namespace,
                "must be a DNS name in lower case",
            );
        }
        Scope::Cluster => report.require(
            metadata.namespace.is_empty(),
            "metadata.namespace",
            &metadata.namespace,
            "must be empty; this kind lives in no namespace",
        ),
    }
    check_labels("metadata.labels", &metadata.labels, report);
    if matches!(kind, Kind::NetworkSet | Kind::GlobalNetworkSet)
        && let Some(value) = metadata.labels.get(NAMESPACE_LABEL)
    {
        let field = format!("metadata.labels[{NAMESPACE_LABEL}]");
        report.add(field, value, "is set by Calico itself and cannot be given");
    }
    check_annotations("metadata.annotations", &metadata.annotations, report);
}

const KEY: &str =
    "must be a label key: at most 63 letters, digits, '-', '_' or '.', perhaps after a DNS name and '/'";
const VALUE: &str = "must be a label value: at most 63 letters, digits, '-', '_' or '.', beginning and ending with a \
                     letter or digit";

/// Labels that selectors are to find: Kubernetes' rules hold for them, wherever they stand.
pub(super) fn check_labels(field: &str, labels: &Labels, report: &mut Report) {
    for (key, value) in labels {
        let field = format!("{field}[{key}]");
        report.require(is_qualified_name(key), &field, key, KEY);
        report.require(value.is_empty() || is_label_name(value), &field, value, VALUE);
    }
}

pub(super) fn check_annotations(field: &str, annotations: &Labels, report: &mut Report) {
    let mut size = 0;
    for (key, value) in annotations {
        size += key.len() + value.len();
        report.require(is_qualified_name(&key.to_ascii_lowercase()), format!("{field}[{key}]"), key, KEY);
    }
    report.require(
        size <= MAX_ANNOTATIONS,
        field,
        "",
        format!("are {size} bytes; at most {MAX_ANNOTATIONS} fit"),
    );
}

fn check_name(kind: Kind, tier: Option<&str>, name: &str, report: &mut Report) {
    let field = "metadata.name";
    if name.is_empty() {
        report.add(field, "", "is needed");
        return;
    }
    let labels = name.split('.').count();
    match kind {
        Kind::Tier => report.require(
            is_dns_label(name) && name.len() <= 63,
            field,
            name,
            "must be a DNS label: at most 63 lower-case letters, digits and inner dashes",
        ),
        Kind::NetworkPolicy
        | Kind::StagedNetworkPolicy
        | Kind::GlobalNetworkPolicy
        | Kind::StagedGlobalNetworkPolicy => {
            let namespaced = kind.scope() == Scope::Namespaced;
            let legacy = namespaced
                && ["knp.default.", "ossg.default."]
                    .iter()
                    .any(|p| name.strip_prefix(p).is_some_and(is_dns_subdomain));
            report.require(
                legacy || (is_dns_subdomain(name) && labels <= 2),
                field,
                name,
                "must be lower-case letters, digits and inner dashes, with at most one dot",
            );
        }
        Kind::StagedKubernetesNetworkPolicy => {
            report.require(name.len() <= 253, field, "", "is longer than 253 characters");
        }
        _ => report.require(
            is_dns_subdomain(name),
            field,
            name,
            "must be a DNS name in lower case: letters, digits, '-' and '.', at most 253 characters",
        ),
    }
    if matches!(kind, Kind::ClusterInformation | Kind::IPAMConfiguration | Kind::KubeControllersConfiguration)
    {
        report.require(name == "default", field, name, "must be default; there is one per cluster");
    }
    if let Some(tier) = tier {
        report.require(
            tier.is_empty() || (is_dns_label(tier) && tier.len() <= 63),
            "spec.tier",
            tier,
            "must be the name of a tier",
        );
    }
}
