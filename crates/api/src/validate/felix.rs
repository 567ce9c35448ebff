//! FelixConfigurations: every option against its row of the table (spec 1 §1.6).

use serde_json::Value;

use super::Report;
use super::scalar::selector;
use crate::FelixConfiguration;
use crate::felix_config::{TABLE, resource, resource_row};
use crate::strict::{join, shown};
use crate::suggest;

/// Most ranges of node ports.
const MAX_NODE_PORT_RANGES: usize = 7;

pub(super) fn check(configuration: &FelixConfiguration, report: &mut Report) {
    let name = configuration.metadata.name.as_str();
    let spec = &configuration.spec;
    selector(report, "spec.nodeSelector", &spec.node_selector);
    if name == "default" || name.starts_with("node.") {
        let reason = "must be empty: default and node.<name> say themselves where they apply";
        report.require(spec.node_selector.is_empty(), "spec.nodeSelector", &spec.node_selector, reason);
    }
    for (option, value) in &spec.options {
        let field = join("spec", option);
        match resource_row(option) {
            None => {
                let known = TABLE.iter().map(|row| row.resource).filter(|name| !name.is_empty());
                let otherwise = "it is misspelt, or can be set only in the environment";
                let reason = format!("is no option; {}", suggest::remedy(option, known, otherwise));
                report.add(field, shown(value), reason);
            }
            Some(row) => {
                if let Err(error) = resource::check(row, value) {
                    report.add(field, shown(value), error);
                }
            }
        }
    }
    // Lines of the kernel's log; the environment may say anything.
    if let Some(prefix) = spec.options.get("logPrefix").and_then(Value::as_str) {
        let good = prefix.bytes().all(|b| b.is_ascii_alphanumeric() || b"%: /_-".contains(&b));
        report.require(
            good,
            "spec.logPrefix",
            prefix,
            "may have letters, digits, blanks, '%', ':', '/', '_' and '-'",
        );
    }
    let has = |option: &str| spec.options.get(option).is_some_and(|v| !v.is_null());
    let both = has("routeTableRange") && has("routeTableRanges");
    report.require(!both, "spec.routeTableRange", "", "cannot be combined with routeTableRanges");
    let ranges = spec.options.get("kubeNodePortRanges").and_then(Value::as_array).map_or(0, Vec::len);
    let reason = format!("names {ranges} ranges; at most {MAX_NODE_PORT_RANGES} are allowed");
    report.require(ranges <= MAX_NODE_PORT_RANGES, "spec.kubeNodePortRanges", "", reason);
}
