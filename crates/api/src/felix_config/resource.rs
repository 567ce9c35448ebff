//! FelixConfigurations → settings: JSON values to the text of options, and the checks of users' files.

use serde_json::Value;

use super::parse::{OptionError, parse};
use super::resolve::{Setting, Source};
use super::{OptionRow, OptionType, resource_row, row};
use crate::felix_configuration::FelixConfiguration;
use crate::meta::Labels;
use crate::number::GoDuration;

/// Annotations with this prefix set options that the resource has no field for.
const ANNOTATION: &str = "config.projectcalico.org/";

/// The text form of an option's value in a FelixConfiguration. An empty list of ports is `none` (spec 3 §6.11).
///
/// # Errors
/// When the value has another shape than the option's.
pub fn text(row: &OptionRow, value: &Value) -> Result<String, OptionError> {
    let shape = |what: &str| OptionError(format!("must be {what}"));
    match (row.kind, value) {
        (OptionType::Bool, Value::Bool(b)) => Ok(b.to_string()),
        (OptionType::Bool, _) => Err(shape("true or false")),
        (OptionType::Int(..) | OptionType::Mask, Value::Number(n)) => Ok(n.to_string()),
        (OptionType::Int(..) | OptionType::Mask, _) => Err(shape("a whole number")),
        (OptionType::Seconds, Value::String(t)) => duration_text(t, 1e9),
        (OptionType::Millis, Value::String(t)) => duration_text(t, 1e6),
        (OptionType::Seconds | OptionType::Millis, _) => Err(shape("a duration such as 90s or 1m30s")),
        (OptionType::PortRange | OptionType::Dscp, Value::Number(n)) => Ok(n.to_string()),
        (OptionType::HostPorts, Value::Array(ports)) => list_text(ports, host_port_text),
        (OptionType::TableRanges, Value::Array(ranges)) => list_text(ranges, table_range_text),
        (OptionType::TableRange, range @ Value::Object(_)) => table_range_text(range),
        (OptionType::KeyDurations, Value::Array(pairs)) => list_text(pairs, |pair| {
            let field = |name| pair.get(name).and_then(Value::as_str);
            match (field("name"), field("timeout")) {
                (Some(name), Some(_)) if !is_part(name) => {
                    Err(OptionError(format!("{name:?} must be letters, digits, blanks, '_' or '-'")))
                }
                (Some(name), Some(timeout)) => Ok(format!("{name}={timeout}")),
                _ => Err(shape("a list of {name, timeout}")),
            }
        }),
        (OptionType::KeyValues, Value::Object(map)) => {
            let pairs: Option<Vec<String>> =
                map.iter().map(|(k, v)| v.as_str().map(|v| format!("{}={v}", upper_first(k)))).collect();
            Ok(pairs.ok_or_else(|| shape("a map of texts"))?.join(","))
        }
        (OptionType::Cidrs | OptionType::PortRanges | OptionType::InterfaceList, Value::Array(items)) => {
            list_text(items, |item| match item {
                Value::String(t) => Ok(t.clone()),
                Value::Number(n) => Ok(n.to_string()),
                _ => Err(shape("a list of texts")),
            })
        }
        (
            OptionType::HostPorts
            | OptionType::TableRanges
            | OptionType::Cidrs
            | OptionType::PortRanges
            | OptionType::InterfaceList,
            _,
        ) => Err(shape("a list")),
        (OptionType::TableRange, _) => Err(shape("{min, max}")),
        (_, Value::String(t)) => Ok(t.clone()),
        (_, _) => Err(shape("a text")),
    }
}

/// Checks one option of a user's FelixConfiguration.
///
/// # Errors
/// When the value is none of the option's. Empty text is allowed: it means unset.
pub fn check(row: &OptionRow, value: &Value) -> Result<(), OptionError> {
    let text = text(row, value)?;
    // Resources spell words like LogSeverity `Info`, and `Off`; `parse` ignores case. They allow no `none`.
    parse(row, &text).map(|_| ())
}

/// The name of a part of the agent that reports its health.
fn is_part(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_ -".contains(&b))
}

fn upper_first(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |c| c.to_ascii_uppercase().to_string() + chars.as_str())
}

fn duration_text(text: &str, unit_nanos: f64) -> Result<String, OptionError> {
    let duration: GoDuration = text.parse().map_err(|e| OptionError(format!("{e}")))?;
    Ok((duration.nanos as f64 / unit_nanos).to_string())
}

fn list_text(
    items: &[Value],
    text: impl Fn(&Value) -> Result<String, OptionError>,
) -> Result<String, OptionError> {
    if items.is_empty() {
        return Ok("none".to_owned());
    }
    Ok(items.iter().map(text).collect::<Result<Vec<_>, _>>()?.join(","))
}

fn host_port_text(value: &Value) -> Result<String, OptionError> {
    let bad = || OptionError("must be a list of {protocol, port, net}".to_owned());
    let port = value.get("port").and_then(Value::as_u64).ok_or_else(bad)?;
    let protocol = value.get("protocol").and_then(Value::as_str).ok_or_else(bad)?.to_ascii_lowercase();
    Ok(match value.get("net").and_then(Value::as_str).filter(|n| !n.is_empty()) {
        None => format!("{protocol}:{port}"),
        Some(net) if net.contains(':') => format!("{protocol}:[{net}]:{port}"),
        Some(net) => format!("{protocol}:{net}:{port}"),
    })
}

fn table_range_text(value: &Value) -> Result<String, OptionError> {
    let bound = |name| value.get(name).and_then(Value::as_u64);
    match (bound("min"), bound("max")) {
        (Some(min), Some(max)) => Ok(format!("{min}-{max}")),
        _ => Err(OptionError("must be {min, max}".to_owned())),
    }
}

/// The settings that FelixConfigurations make for one node. Of several that select the node, exactly one counts: the
/// oldest, by name among equals (spec 3 §6.11).
pub fn settings<'a>(
    configurations: impl IntoIterator<Item = &'a FelixConfiguration>,
    node: &str,
    node_labels: &Labels,
) -> Vec<Setting> {
    let mut settings = Vec::new();
    let mut selected: Option<&FelixConfiguration> = None;
    for configuration in configurations {
        let name = configuration.metadata.name.as_str();
        if name == "default" {
            settings.extend(settings_of(configuration, Source::DatastoreGlobal));
        } else if let Some(owner) = name.strip_prefix("node.") {
            if owner == node {
                settings.extend(settings_of(configuration, Source::DatastoreNode));
            }
        } else if selects(configuration, node_labels) {
            let rank = |c: &FelixConfiguration| {
                (c.metadata.creation_timestamp.clone().unwrap_or_default(), c.metadata.name.clone())
            };
            if selected.is_none_or(|s| rank(configuration) < rank(s)) {
                selected = Some(configuration);
            }
        }
    }
    settings.extend(selected.into_iter().flat_map(|c| settings_of(c, Source::DatastoreSelected)));
    settings
}

fn selects(configuration: &FelixConfiguration, labels: &Labels) -> bool {
    let text = &configuration.spec.node_selector;
    !text.is_empty() && calico_selector::parse(text).is_ok_and(|s| s.matches(labels))
}

fn settings_of(configuration: &FelixConfiguration, source: Source) -> Vec<Setting> {
    let setting =
        |name: &str, value: Result<String, String>| Setting { source, name: name.to_owned(), value };
    let mut settings = Vec::new();
    for (name, value) in &configuration.spec.options {
        let Some(row) = resource_row(name) else { continue };
        match text(row, value) {
            // The empty text of a resource's field means that the field is not set.
            Ok(text) if text.is_empty() => {}
            Ok(text) => settings.push(setting(row.name, Ok(text))),
            Err(error) => settings.push(setting(row.name, Err(format!("{value} {error}")))),
        }
    }
    for (key, value) in &configuration.metadata.annotations {
        if let Some(name) = key.strip_prefix(ANNOTATION) {
            let name = row(name).map_or(name, |row| row.name);
            settings.retain(|s: &Setting| s.name != name);
            settings.push(setting(name, Ok(value.to_string())));
        }
    }
    settings
}
