//! KubeControllersConfiguration: which controllers run and how, named `default` (spec 7 §6.1).

use serde::{Deserialize, Serialize};
use serde_json::Value;
use smol_str::SmolStr;

use crate::key::Kind;
use crate::meta::{Labels, Resource, Spec};
use crate::number::GoDuration;

/// The controllers' settings.
pub type KubeControllersConfiguration = Resource<KubeControllersConfigurationSpec>;

/// What a KubeControllersConfiguration says.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct KubeControllersConfigurationSpec {
    /// Least severity that is logged; empty means Info.
    #[serde(skip_serializing_if = "SmolStr::is_empty")]
    pub log_severity_screen: SmolStr,
    /// `Enabled` or `Disabled`: whether probes are answered.
    #[serde(skip_serializing_if = "SmolStr::is_empty")]
    pub health_checks: SmolStr,
    /// Time between two compactions of etcd; 0 for never.
    #[serde(rename = "etcdV3CompactionPeriod", skip_serializing_if = "Option::is_none")]
    pub etcd_v3_compaction_period: Option<GoDuration>,
    /// Port of metrics; 0 for none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prometheus_metrics_port: Option<u16>,
    /// Port of profiles.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub debug_profile_port: Option<u16>,
    /// The controllers that run: those that are named.
    pub controllers: ControllersConfig,
}

/// The controllers that run: those that are named.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ControllersConfig {
    /// Nodes and addresses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeControllerConfig>,
    /// Kubernetes' policies in etcd.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<ReconcilerConfig>,
    /// Pods in etcd.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workload_endpoint: Option<ReconcilerConfig>,
    /// Service accounts in etcd.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_account: Option<ReconcilerConfig>,
    /// Namespaces in etcd.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<ReconcilerConfig>,
    /// Addresses of services.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load_balancer: Option<Value>,
    /// Objects of older versions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub migration: Option<Value>,
}

/// A controller that has nothing but a period.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ReconcilerConfig {
    /// Time between two comparisons of everything; 0 for never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reconciler_period: Option<GoDuration>,
}

/// The controller of nodes and addresses.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeControllerConfig {
    /// Time between two comparisons of everything; 0 for never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reconciler_period: Option<GoDuration>,
    /// `Enabled` or `Disabled`: whether Kubernetes' labels are copied to Calico's nodes.
    #[serde(skip_serializing_if = "SmolStr::is_empty")]
    pub sync_labels: SmolStr,
    /// Host endpoints that are made for nodes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_endpoint: Option<AutoHostEndpointConfig>,
    /// How long an address must be without a user before it is released; 0 or none for never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leak_grace_period: Option<GoDuration>,
}

/// Host endpoints that are made for nodes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AutoHostEndpointConfig {
    /// `Enabled` or `Disabled`.
    #[serde(skip_serializing_if = "SmolStr::is_empty")]
    pub auto_create: SmolStr,
    /// `Enabled` or `Disabled`: the one for all interfaces, beside those of templates.
    #[serde(skip_serializing_if = "SmolStr::is_empty")]
    pub create_default_host_endpoint: SmolStr,
    /// What is made for which nodes and interfaces.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub templates: Vec<Value>,
}

/// What the controllers report of themselves.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct KubeControllersConfigurationStatus {
    /// The settings in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub running_config: Option<KubeControllersConfigurationSpec>,
    /// Environment variables that were taken into account.
    #[serde(skip_serializing_if = "Labels::is_empty")]
    pub environment_vars: Labels,
}

impl Spec for KubeControllersConfigurationSpec {
    const KIND: Kind = Kind::KubeControllersConfiguration;
    type Status = KubeControllersConfigurationStatus;
}
