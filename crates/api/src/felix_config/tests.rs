//! The table against the reference, and which setting wins.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};

use super::parse::parse;
use super::resolve::{environment_settings, file_settings};
use super::*;
use crate::meta::Labels;
use crate::{FelixConfiguration, FelixConfigurationSpec};

#[test]
fn names_are_unique_and_defaults_are_values() {
    let names: BTreeSet<String> = TABLE.iter().map(|r| r.name.to_ascii_lowercase()).collect();
    assert_eq!(names.len(), TABLE.len());
    let named = TABLE.iter().filter(|r| !r.resource.is_empty());
    assert_eq!(named.clone().map(|r| r.resource).collect::<BTreeSet<_>>().len(), named.count());
    for row in TABLE {
        let value = parse(row, row.default).unwrap_or_else(|e| panic!("{}: {e}", row.name));
        assert_eq!(value == OptionValue::Unset, row.default.is_empty(), "{}", row.name);
        assert!(row.text.ends_with('.'), "{}", row.name);
        assert!(!row.local || row.resource.is_empty(), "{}", row.name);
    }
}

#[test]
fn every_typed_option_has_a_row_of_its_type() {
    for name in FelixConfig::NAMES {
        assert!(row(name).is_some(), "{name}");
    }
    let config = FelixConfig::default();
    assert_eq!(config.health_port, 9099);
    assert_eq!(config.health_host, "localhost");
    assert_eq!(config.route_refresh_interval, Duration::from_secs(90));
    assert_eq!(config.nftables_mark_mask, 0xffff_0000);
    assert_eq!(config.failsafe_inbound_host_ports.len(), 9);
    assert!(config.ipv6_support && config.ip_forwarding && config.remove_external_routes);
    assert_eq!(config.vxlan_enabled, None);
    assert_eq!(config.vxlan_port, 4789);
    assert_eq!(config.max_ipset_size, 1 << 20);
    assert_eq!(config.interface_exclude, ["kube-ipvs0"]);
}

#[test]
fn the_table_is_the_references() {
    let Some(text) = crate::reference::read("felix-config-params.json") else { return };
    let reference: Value = serde_json::from_str(&text).unwrap();
    let mut names = BTreeSet::new();
    for field in reference["Groups"].as_array().unwrap().iter().flat_map(|g| g["Fields"].as_array().unwrap())
    {
        let name = field["NameConfigFile"].as_str().unwrap();
        let row = TABLE.iter().find(|r| r.name == name).unwrap_or_else(|| panic!("no row for {name}"));
        names.insert(row.name);
        assert_eq!(row.environment(), field["NameEnvVar"], "{name}");
        assert_eq!(row.resource, field["NameYAML"], "{name}");
        assert_eq!(row.default, field["StringDefault"], "{name}");
        assert_eq!(row.local, field["AllowedConfigSources"] == "LocalOnly", "{name}");
        assert_eq!(row.required, field["Required"] == true, "{name}");
        assert_eq!(row.fatal, field["OnParseFailure"] == "Exit", "{name}");
        check_type(row, &field["StringSchema"], &field["ParsedType"]);
    }
    assert_eq!(names.len(), TABLE.len());
}

/// What the settings of the datastore take must not stop the agent afterwards.
#[test]
fn the_embedded_datastore_is_an_option() {
    let settings = environment_settings([("FELIX_DATASTORETYPE".into(), "embedded".into())]);
    assert_eq!(resolve(settings).problems, []);
}

/// The type of a row against the reference's words.
fn check_type(row: &OptionRow, schema: &Value, parsed: &Value) {
    let schema = schema.as_str().unwrap();
    let expected = match row.kind {
        OptionType::Bool => "Boolean",
        OptionType::Int(..) => "Integer",
        OptionType::Seconds => "Seconds",
        OptionType::Millis => "Milliseconds",
        OptionType::OneOf(words) => {
            let mut given: BTreeSet<&str> = schema.split('`').skip(1).step_by(2).collect();
            if row.name == "DatastoreType" {
                given.insert("embedded");
            }
            assert_eq!(given, words.iter().copied().collect(), "{}", row.name);
            "One of"
        }
        OptionType::Text | OptionType::Matching(_) => "String",
        OptionType::Regex => "Regular expression",
        OptionType::Path | OptionType::ExistingPath | OptionType::Executable => "Path",
        OptionType::Ipv4 => "IPv4",
        OptionType::Ipv6 => "IPv6",
        OptionType::Cidrs
        | OptionType::HostPorts
        | OptionType::KeyValues
        | OptionType::KeyDurations
        | OptionType::Interfaces
        | OptionType::InterfaceList => "Comma-delimited",
        OptionType::PortRange => "Port range",
        OptionType::PortRanges | OptionType::Endpoints => "List",
        OptionType::Mask => "32-bit",
        OptionType::Dscp => "Numeric",
        OptionType::TableRange => "Range",
        OptionType::TableRanges => "Comma or space",
        OptionType::Region => "OpenStack region",
    };
    assert!(schema.starts_with(expected), "{}: {schema}", row.name);
    if matches!(row.kind, OptionType::Seconds | OptionType::Millis) {
        assert_eq!(parsed, "time.Duration", "{}", row.name);
    }
}

#[test]
fn texts_are_read_and_refused() {
    let good = [
        ("HealthEnabled", "Y", OptionValue::Bool(true)),
        ("HealthPort", "0", OptionValue::Int(0)),
        ("RouteRefreshInterval", "0.5", OptionValue::Duration(Duration::from_millis(500))),
        ("IptablesLockProbeIntervalMillis", "50", OptionValue::Duration(Duration::from_millis(50))),
        ("ServiceLoopPrevention", "reject", OptionValue::Text("Reject".into())),
        ("MetadataAddr", "None", OptionValue::Unset),
        ("FlowLogsPolicyEvaluationMode", "none", OptionValue::Text("None".into())),
        ("IstioDSCPMark", "ef", OptionValue::Int(46)),
        ("NftablesMarkMask", "0xff00", OptionValue::Mask(0xff00)),
        ("RouteTableRanges", "1-5 7-9", OptionValue::TableRanges(vec![(1, 5), (7, 9)])),
    ];
    for (name, text, value) in good {
        assert_eq!(parse(row(name).unwrap(), text), Ok(value), "{name}={text}");
    }
    let ports =
        parse(row("FailsafeInboundHostPorts").unwrap(), "22, udp:53,tcp:10.0.0.0/8:80,udp:[fd00::/8]:9");
    let Ok(OptionValue::HostPorts(ports)) = ports else { panic!("{ports:?}") };
    let nets: Vec<Option<String>> = ports.iter().map(|p| p.net.map(|n| n.to_string())).collect();
    assert_eq!(nets, [None, None, Some("10.0.0.0/8".into()), Some("fd00::/8".into())]);
    let bad = [
        ("HealthEnabled", "maybe"),
        ("HealthPort", "65536"),
        ("RouteRefreshInterval", "-1"),
        ("RouteRefreshInterval", "1m"),
        ("ChainInsertMode", "sideways"),
        ("InterfacePrefix", "waytoolonganinterface"),
        ("InterfacePrefix", "none"),
        ("LogDebugFilenameRegex", "("),
        ("NftablesMarkMask", "0x1"),
        ("FailsafeInboundHostPorts", "icmp:1"),
        ("RouteTableRange", "1-251"),
        ("RouteTableRanges", "1-70000"),
        ("IstioDSCPMark", "64"),
        ("ExternalNodesCIDRList", "10.0.0.0/33"),
    ];
    for (name, text) in bad {
        assert!(parse(row(name).unwrap(), text).is_err(), "{name}={text}");
    }
}

fn configuration(name: &str, created: &str, selector: &str, options: Value) -> FelixConfiguration {
    let Value::Object(options) = options else { panic!("options are an object") };
    let spec =
        FelixConfigurationSpec { node_selector: selector.into(), options: options.into_iter().collect() };
    let mut configuration = FelixConfiguration::new("", name, spec);
    configuration.metadata.creation_timestamp = Some(created.into());
    configuration
}

#[test]
fn the_highest_source_wins_and_bad_values_fall_back_to_the_default() {
    let labels = crate::codec::labels([("rack", "1")]);
    let mut annotated = configuration("node.n1", "", "", json!({"interfacePrefix": "per"}));
    annotated.metadata.annotations = crate::codec::labels([("config.projectcalico.org/LogPrefix", "noted")]);
    let configurations = [
        configuration(
            "default",
            "",
            "",
            json!({"routeRefreshInterval": "2m", "interfacePrefix": "glob", "logPrefix": "g", "vxlanVNI": 7,
                   "healthPort": 1, "failsafeInboundHostPorts": [], "bpfLogLevel": "", "ipv6Support": "yes"}),
        ),
        configuration("late", "2026-02-01T00:00:00Z", "has(rack)", json!({"vxlanVNI": 9, "vxlanPort": 9})),
        configuration("early", "2026-01-01T00:00:00Z", "rack == '1'", json!({"vxlanVNI": 8})),
        configuration("other", "2025-01-01T00:00:00Z", "rack == '2'", json!({"vxlanVNI": 1})),
        configuration("node.n2", "", "", json!({"vxlanVNI": 2})),
        annotated,
    ];
    let mut settings = resource::settings(&configurations, "n1", &labels);
    settings.extend(environment_settings([
        ("felix_healthport".to_owned(), "9000".to_owned()),
        ("FELIX_MADEUP".to_owned(), "x".to_owned()),
        ("HOME".to_owned(), "/".to_owned()),
        ("FELIX_HealthHost".to_owned(), String::new()),
    ]));
    let (file, bad) = file_settings("[global]\n# note\nHealthPort = 2\nChainInsertMode=up\nnonsense\n");
    settings.extend(file);
    assert_eq!(bad, [(5, "nonsense".to_owned())]);

    let resolution = resolve(settings);
    let config = &resolution.config;
    assert_eq!(config.route_refresh_interval, Duration::from_secs(120));
    assert_eq!(config.interface_prefix, "per");
    assert_eq!(config.log_prefix, "noted");
    assert_eq!(config.vxlan_vni, 8);
    assert_eq!(config.vxlan_port, 4789);
    assert_eq!(config.health_port, 9000);
    assert_eq!(config.health_host, "localhost");
    assert!(config.failsafe_inbound_host_ports.is_empty());
    assert!(config.ipv6_support);
    assert_eq!(resolution.values["ChainInsertMode"].text, "insert");
    assert_eq!(resolution.unknown["MADEUP"], "x");
    let problems: Vec<(&str, bool)> = resolution.problems.iter().map(|p| (p.name, p.fatal)).collect();
    assert_eq!(problems, [("ChainInsertMode", true), ("Ipv6Support", false)]);
}

#[test]
fn the_datastore_cannot_set_local_options() {
    let setting = Setting {
        source: Source::DatastoreNode,
        name: "FelixHostname".to_owned(),
        value: Ok("x".to_owned()),
    };
    assert_eq!(resolve([setting.clone()]).config.hostname, "");
    assert_eq!(resolve([Setting { source: Source::Environment, ..setting }]).config.hostname, "x");
}

#[test]
fn a_changed_log_level_needs_no_restart() {
    let set = |name: &str, value: &str| {
        resolve([Setting { source: Source::File, name: name.to_owned(), value: Ok(value.to_owned()) }])
    };
    let defaults = resolve([]);
    assert!(defaults.restart_reasons(&set("LogSeverityScreen", "debug")).is_empty());
    assert_eq!(defaults.restart_reasons(&set("HealthPort", "1")), ["HealthPort"]);
}

#[test]
fn resources_of_the_reference_pass_the_check() {
    let Some(text) = crate::reference::read("etcd-samples.txt") else { return };
    let lines = text.lines().filter(|l| l.starts_with("{\"kind\":\"FelixConfiguration\""));
    for line in lines {
        let configuration: FelixConfiguration = serde_json::from_str(line).unwrap();
        for (name, value) in &configuration.spec.options {
            let row = resource_row(name).unwrap_or_else(|| panic!("no option {name}"));
            resource::check(row, value).unwrap_or_else(|e| panic!("{name}: {value}: {e}"));
        }
        assert!(resolve(resource::settings([&configuration], "host1", &Labels::new())).problems.is_empty());
    }
}

proptest::proptest! {
    #[test]
    fn no_text_panics(text in "\\PC{0,20}|[-0-9a-fx.:,=/\\[\\]]{0,20}") {
        for row in TABLE {
            let _ = parse(row, &text);
        }
        let _ = file_settings(&text);
    }
}
