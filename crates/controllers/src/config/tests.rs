//! The environment over the stored settings, and what cannot be used.

use super::*;

fn environment(text: &'static str) -> Result<Environment, ConfigError> {
    Environment::read(&|name| {
        let mut pairs = text.split(' ').filter_map(|pair| pair.split_once('='));
        pairs.find(|(key, _)| *key == name).map(|(_, value)| value.to_owned())
    })
}

fn running(text: &'static str, stored: &KubeControllersConfigurationSpec) -> Running {
    Running::new(&environment(text).expect(text), stored)
}

#[test]
fn the_environment_wins() {
    let stored = defaults();
    let plain = running("", &stored);
    assert_eq!(plain.spec, stored);
    assert_eq!(plain.leak_grace(), Some(Duration::from_secs(900)));
    assert_eq!(plain.metrics_port(), Some(9094));
    assert!(plain.has_health() && plain.environment.is_empty());

    let env = "LOG_LEVEL=warning HEALTH_ENABLED=false RECONCILER_PERIOD=1m ENABLED_CONTROLLERS=node,profile \
               SYNC_NODE_LABELS=false AUTO_HOST_ENDPOINTS=enabled COMPACTION_PERIOD=0 OTHER=x";
    let changed = running(env, &stored);
    assert_eq!(changed.enabled(), [Controller::Node, Controller::Namespace]);
    assert_eq!(changed.spec.log_severity_screen, "Warning");
    assert!(!changed.has_health());
    let node = changed.spec.controllers.node.as_ref().expect("enabled");
    assert_eq!(node.reconciler_period, Some(GoDuration::from_secs(60)));
    assert_eq!(node.sync_labels, "Disabled");
    assert_eq!(node.host_endpoint.as_ref().map(|h| h.auto_create.as_str()), Some("Enabled"));
    assert_eq!(changed.spec.etcd_v3_compaction_period, Some(GoDuration::default()));
    assert_eq!(changed.environment.len(), 7, "{:?}", changed.environment);
    assert_eq!(changed.status().running_config, Some(changed.spec.clone()));
}

#[test]
fn without_a_word_of_the_environment_the_object_enables() {
    let mut stored = defaults();
    stored.controllers = ControllersConfig {
        node: Some(NodeControllerConfig { leak_grace_period: None, ..NodeControllerConfig::default() }),
        ..ControllersConfig::default()
    };
    let running_now = running("", &stored);
    assert_eq!(running_now.enabled(), [Controller::Node]);
    assert_eq!(running_now.leak_grace(), None, "never");
    let other = running("ENABLED_CONTROLLERS=policy", &stored);
    assert_eq!(other.enabled(), [Controller::Policy]);
    let period = other.spec.controllers.policy.and_then(|p| p.reconciler_period);
    assert_eq!(period, Some(GoDuration::from_secs(300)), "its default");
    stored.controllers.node = Some(NodeControllerConfig {
        leak_grace_period: Some(GoDuration::default()),
        ..NodeControllerConfig::default()
    });
    stored.prometheus_metrics_port = Some(0);
    let off = running("", &stored);
    assert_eq!((off.leak_grace(), off.metrics_port()), (None, None));
}

#[test]
fn what_cannot_be_used_is_named() {
    for (text, expected) in [
        ("ENABLED_CONTROLLERS=node,nod", "ENABLED_CONTROLLERS: \"nod\" is no controller"),
        (
            "ENABLED_CONTROLLERS=flannelmigration",
            "ENABLED_CONTROLLERS: \"flannelmigration\" is no controller",
        ),
        ("RECONCILER_PERIOD=5", "RECONCILER_PERIOD: \"5\" is no length of time"),
        ("RECONCILER_PERIOD=-5m", "RECONCILER_PERIOD: \"-5m\" is no length of time"),
        ("HEALTH_ENABLED=maybe", "HEALTH_ENABLED: \"maybe\" is neither"),
    ] {
        let error = environment(text).expect_err(text).to_string();
        assert!(error.starts_with(expected), "{error}");
    }
}
