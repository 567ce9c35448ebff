//! Which controllers run and how: the environment, which wins, and the KubeControllersConfiguration `default`
//! (spec 7 §6.1).

use std::time::Duration;

use calico_api::{
    AutoHostEndpointConfig, ControllersConfig, GoDuration, KubeControllersConfigurationSpec,
    KubeControllersConfigurationStatus, Labels, NodeControllerConfig, ReconcilerConfig,
};
use serde_json::json;
use smol_str::{SmolStr, ToSmolStr};

/// Port of metrics unless something else is said.
const METRICS_PORT: u16 = 9094;

/// Looks an environment variable up.
pub type Vars<'a> = &'a dyn Fn(&str) -> Option<String>;

/// A setting that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name}: {problem}")]
pub struct ConfigError {
    /// The variable.
    pub name: &'static str,
    /// What is wrong, and what would be right.
    pub problem: String,
}

/// A controller of Calico's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Controller {
    /// Nodes and addresses.
    Node,
    /// Kubernetes' policies in etcd.
    Policy,
    /// Namespaces in etcd.
    Namespace,
    /// Service accounts in etcd.
    ServiceAccount,
    /// Pods in etcd.
    WorkloadEndpoint,
    /// Addresses of services.
    LoadBalancer,
}

impl Controller {
    /// Every controller, by the name that `ENABLED_CONTROLLERS` has for it.
    const NAMES: [(&'static str, Controller); 7] = [
        ("node", Controller::Node),
        ("policy", Controller::Policy),
        ("namespace", Controller::Namespace),
        ("profile", Controller::Namespace),
        ("serviceaccount", Controller::ServiceAccount),
        ("workloadendpoint", Controller::WorkloadEndpoint),
        ("loadbalancer", Controller::LoadBalancer),
    ];

    /// The name.
    pub fn name(self) -> &'static str {
        Controller::NAMES.iter().find(|(_, c)| *c == self).map_or("", |(name, _)| name)
    }
}

/// What the environment says. What it does not say is `None`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Environment {
    log_level: Option<SmolStr>,
    health: Option<bool>,
    reconciler_period: Option<GoDuration>,
    compaction_period: Option<GoDuration>,
    sync_labels: Option<bool>,
    auto_host_endpoints: Option<bool>,
    enabled: Option<Vec<Controller>>,
    /// As they were given.
    given: Labels,
}

fn duration(name: &'static str, text: &str) -> Result<GoDuration, ConfigError> {
    let parsed = text.parse::<GoDuration>().ok().filter(|d| d.nanos >= 0);
    parsed.ok_or_else(|| ConfigError {
        name,
        problem: format!("{text:?} is no length of time; use one such as 5m, 90s or 0"),
    })
}

fn switch(name: &'static str, text: &str) -> Result<bool, ConfigError> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "t" | "enabled" | "yes" => Ok(true),
        "false" | "0" | "f" | "disabled" | "no" => Ok(false),
        _ => Err(ConfigError {
            name,
            problem: format!("{text:?} is neither true, enabled, false nor disabled"),
        }),
    }
}

fn controllers(name: &'static str, text: &str) -> Result<Vec<Controller>, ConfigError> {
    let mut found = Vec::new();
    for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
        let known = Controller::NAMES.iter().find(|(known, _)| word.eq_ignore_ascii_case(known));
        let Some((_, controller)) = known else {
            let names: Vec<_> = Controller::NAMES.iter().map(|(name, _)| *name).collect();
            let problem = format!("{word:?} is no controller; there are {}", names.join(", "));
            return Err(ConfigError { name, problem });
        };
        if !found.contains(controller) {
            found.push(*controller);
        }
    }
    Ok(found)
}

impl Environment {
    /// Reads it. Empty variables count as unset.
    ///
    /// # Errors
    /// When one cannot be used: a misspelt controller that does not run would be missed much later.
    pub fn read(vars: Vars<'_>) -> Result<Environment, ConfigError> {
        let mut environment = Environment::default();
        let Environment {
            log_level,
            health,
            reconciler_period,
            compaction_period,
            sync_labels,
            auto_host_endpoints,
            enabled,
            given,
        } = &mut environment;
        let mut lookup = |name: &'static str| {
            let text = vars(name).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())?;
            given.insert(SmolStr::new_static(name), SmolStr::new(&text));
            Some((name, text))
        };
        *log_level = lookup("LOG_LEVEL").map(|(_, text)| severity(&text));
        let mut on = |name| lookup(name).map(|(name, text)| switch(name, &text)).transpose();
        *health = on("HEALTH_ENABLED")?;
        *sync_labels = on("SYNC_NODE_LABELS")?;
        *auto_host_endpoints = on("AUTO_HOST_ENDPOINTS")?;
        let mut length = |name| lookup(name).map(|(name, text)| duration(name, &text)).transpose();
        *reconciler_period = length("RECONCILER_PERIOD")?;
        *compaction_period = length("COMPACTION_PERIOD")?;
        *enabled = lookup("ENABLED_CONTROLLERS").map(|(name, text)| controllers(name, &text)).transpose()?;
        Ok(environment)
    }

    /// Whether probes are answered before the stored settings are known.
    pub fn has_health(&self) -> bool {
        self.health != Some(false)
    }
}

/// The severity that a level of the environment means.
fn severity(text: &str) -> SmolStr {
    match text.to_ascii_lowercase().as_str() {
        "debug" | "trace" => "Debug",
        "warn" | "warning" => "Warning",
        "error" => "Error",
        "fatal" => "Fatal",
        "panic" => "Panic",
        "none" | "off" => "None",
        _ => "Info",
    }
    .to_smolstr()
}

fn word(is_on: bool) -> SmolStr {
    SmolStr::new_static(if is_on { "Enabled" } else { "Disabled" })
}

/// The settings that are stored where there are none.
pub fn defaults() -> KubeControllersConfigurationSpec {
    let period = Some(GoDuration::from_secs(300));
    let reconciler = || Some(ReconcilerConfig { reconciler_period: period });
    KubeControllersConfigurationSpec {
        log_severity_screen: SmolStr::new_static("Info"),
        health_checks: word(true),
        etcd_v3_compaction_period: Some(GoDuration::from_secs(600)),
        prometheus_metrics_port: Some(METRICS_PORT),
        debug_profile_port: None,
        controllers: ControllersConfig {
            node: Some(NodeControllerConfig {
                reconciler_period: period,
                sync_labels: word(true),
                host_endpoint: Some(AutoHostEndpointConfig {
                    auto_create: word(false),
                    ..AutoHostEndpointConfig::default()
                }),
                leak_grace_period: Some(GoDuration::from_secs(900)),
            }),
            policy: reconciler(),
            workload_endpoint: reconciler(),
            service_account: reconciler(),
            namespace: reconciler(),
            load_balancer: Some(json!({ "assignIPs": "AllServices" })),
            migration: None,
        },
    }
}

/// The settings in force.
#[derive(Clone, Debug, PartialEq)]
pub struct Running {
    /// As they are reported.
    pub spec: KubeControllersConfigurationSpec,
    /// The variables that were taken into account.
    pub environment: Labels,
}

impl Running {
    /// The stored settings with what the environment says over them. A controller that only the environment enables has
    /// its defaults.
    pub fn new(environment: &Environment, stored: &KubeControllersConfigurationSpec) -> Running {
        let mut spec = stored.clone();
        let Environment {
            log_level,
            health,
            reconciler_period,
            compaction_period,
            sync_labels,
            auto_host_endpoints,
            enabled,
            given,
        } = environment;
        if let Some(enabled) = enabled {
            spec.controllers = choose(enabled, spec.controllers);
        }
        if let Some(level) = log_level {
            spec.log_severity_screen = level.clone();
        }
        if let Some(health) = health {
            spec.health_checks = word(*health);
        }
        spec.etcd_v3_compaction_period = compaction_period.or(spec.etcd_v3_compaction_period);
        spec.prometheus_metrics_port = spec.prometheus_metrics_port.or(Some(METRICS_PORT));
        let ControllersConfig {
            node,
            policy,
            workload_endpoint,
            service_account,
            namespace,
            load_balancer: _,
            migration: _,
        } = &mut spec.controllers;
        if let Some(node) = node {
            node.reconciler_period = reconciler_period.or(node.reconciler_period);
            if let Some(sync) = sync_labels {
                node.sync_labels = word(*sync);
            }
            if let Some(auto) = auto_host_endpoints {
                node.host_endpoint.get_or_insert_default().auto_create = word(*auto);
            }
        }
        for other in [policy, workload_endpoint, service_account, namespace].into_iter().flatten() {
            other.reconciler_period = reconciler_period.or(other.reconciler_period);
        }
        Running { spec, environment: given.clone() }
    }

    /// What is reported.
    pub fn status(&self) -> KubeControllersConfigurationStatus {
        let Running { spec, environment } = self;
        KubeControllersConfigurationStatus {
            running_config: Some(spec.clone()),
            environment_vars: environment.clone(),
        }
    }

    /// Whether probes are answered.
    pub fn has_health(&self) -> bool {
        !self.spec.health_checks.eq_ignore_ascii_case("Disabled")
    }

    /// The port of metrics; `None`: they are not served.
    pub fn metrics_port(&self) -> Option<u16> {
        self.spec.prometheus_metrics_port.filter(|port| *port != 0)
    }

    /// How long something must be left over before it is collected; `None`: for ever.
    pub fn leak_grace(&self) -> Option<Duration> {
        let period = self.spec.controllers.node.as_ref()?.leak_grace_period?;
        period.to_std().filter(|period| !period.is_zero())
    }

    /// The controllers that are to run.
    pub fn enabled(&self) -> Vec<Controller> {
        let ControllersConfig {
            node,
            policy,
            workload_endpoint,
            service_account,
            namespace,
            load_balancer,
            migration: _,
        } = &self.spec.controllers;
        let all = [
            (Controller::Node, node.is_some()),
            (Controller::Policy, policy.is_some()),
            (Controller::Namespace, namespace.is_some()),
            (Controller::ServiceAccount, service_account.is_some()),
            (Controller::WorkloadEndpoint, workload_endpoint.is_some()),
            (Controller::LoadBalancer, load_balancer.is_some()),
        ];
        all.into_iter().filter(|(_, is_on)| *is_on).map(|(controller, _)| controller).collect()
    }
}

/// The settings of the controllers that the environment enables.
fn choose(enabled: &[Controller], stored: ControllersConfig) -> ControllersConfig {
    fn take<T>(is_on: bool, stored: Option<T>, default: Option<T>) -> Option<T> {
        if is_on { stored.or(default) } else { None }
    }
    let is_on = |controller| enabled.contains(&controller);
    let default = defaults().controllers;
    ControllersConfig {
        node: take(is_on(Controller::Node), stored.node, default.node),
        policy: take(is_on(Controller::Policy), stored.policy, default.policy),
        workload_endpoint: take(
            is_on(Controller::WorkloadEndpoint),
            stored.workload_endpoint,
            default.workload_endpoint,
        ),
        service_account: take(
            is_on(Controller::ServiceAccount),
            stored.service_account,
            default.service_account,
        ),
        namespace: take(is_on(Controller::Namespace), stored.namespace, default.namespace),
        load_balancer: take(is_on(Controller::LoadBalancer), stored.load_balancer, default.load_balancer),
        migration: stored.migration,
    }
}

#[cfg(test)]
mod tests;
