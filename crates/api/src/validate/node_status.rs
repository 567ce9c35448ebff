//! Questions to nodes (spec 1 §1.6).

use super::Report;
use super::scalar::unique;
use crate::calico_node_status::NodeStatusClass;
use crate::{CalicoNodeStatus, CalicoNodeStatusSpec};

pub(super) fn check(status: &CalicoNodeStatus, report: &mut Report) {
    let CalicoNodeStatusSpec { node, classes, update_period_seconds } = &status.spec;
    report.require(!node.is_empty(), "spec.node", "", "is needed; use the name of a node");
    let words = NodeStatusClass::WORDS.join(", ");
    let required = format!("is needed; use some of {words}");
    report.require(!classes.is_empty(), "spec.classes", "", required);
    for (index, class) in classes.iter().enumerate() {
        let reason = format!("must be one of {words}");
        report.require(class.is_known(), format!("spec.classes[{index}]"), class, reason);
    }
    unique(report, "spec.classes", classes);
    let most = CalicoNodeStatusSpec::MAX_PERIOD_SECS;
    match update_period_seconds {
        None => report.add(
            "spec.updatePeriodSeconds",
            "",
            format!("is needed; use the seconds between reports, 1 to {most}, or 0 for a single one"),
        ),
        Some(period) => report.require(
            *period <= most,
            "spec.updatePeriodSeconds",
            period,
            format!("must be at most {most}, a day"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::{AnyResource, Kind, validate};

    fn errors(spec: Value) -> Vec<String> {
        let body = json!({ "metadata": { "name": "x" }, "spec": spec });
        let resource = AnyResource::from_json(Kind::CalicoNodeStatus, body).unwrap();
        validate(&resource).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_is_wrong_is_named() {
        let check = |spec: Value, expected: &[&str]| {
            let found = errors(spec.clone());
            assert_eq!(found.len(), expected.len(), "{spec}: {found:?}");
            for (found, expected) in found.iter().zip(expected) {
                assert!(found.contains(expected), "{spec}: {found:?}");
            }
        };
        let classes = json!(["Agent", "BGP", "Routes"]);
        check(json!({ "node": "n", "classes": classes, "updatePeriodSeconds": 10 }), &[]);
        check(json!({ "node": "n", "classes": ["BGP"], "updatePeriodSeconds": 0 }), &[]);
        check(json!({ "node": "n", "classes": ["BGP"], "updatePeriodSeconds": 86400 }), &[]);
        check(json!({}), &["spec.node", "spec.classes", "spec.updatePeriodSeconds"]);
        check(
            json!({ "node": "n", "classes": ["BGP", "Peers", "BGP"], "updatePeriodSeconds": 86401 }),
            &["spec.classes[1]", "spec.classes", "86401"],
        );
        check(
            json!({ "node": "n", "classes": ["BGP"], "updatePeriodSeconds": -1 }),
            &["spec.updatePeriodSeconds"],
        );
    }
}
