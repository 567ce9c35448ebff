//! `usePodCidr` in a configuration of host-local: the prefixes that the cluster gave this node, put in before the plugin
//! is run (spec 5 §1.7).

use calico_net::{Cidr, Family};
use serde_json::Value;

use crate::context::Context;
use crate::error::{CniError, Code};
use crate::kubernetes::read_pod_cidrs;
use crate::netconf::NetConf;

/// The plugin that this is for.
pub const PLUGIN: &str = "host-local";

/// The configuration for an ADD: with the node's own prefixes.
pub async fn for_add(context: &Context, conf: &NetConf, node: &str) -> Result<Value, CniError> {
    if conf.ipam.plugin != PLUGIN || !is_asked(&conf.raw) {
        return Ok(conf.raw.clone());
    }
    let node = if conf.kubernetes.node_name.is_empty() { node } else { &conf.kubernetes.node_name };
    let cidrs = read_pod_cidrs(context.kubernetes()?, node).await?;
    rewrite(&conf.raw, |family| cidrs.iter().copied().find(|c| c.family() == family)).map_err(|family| {
        let details = format!("the ipam section asks for the pod CIDR; node {node} has none of {family}");
        CniError::new(Code::TryAgainLater, "the node has no pod CIDR", details)
    })
}

/// The configuration for all else: the plugin only wants a prefix there, and the API need not be asked.
pub fn for_others(conf: &NetConf) -> Value {
    if conf.ipam.plugin != PLUGIN {
        return conf.raw.clone();
    }
    rewrite(&conf.raw, |family| Some(Cidr::everything(family))).unwrap_or_else(|_| conf.raw.clone())
}

fn is_asked(raw: &Value) -> bool {
    // Nothing to put in: it fails at the first place.
    rewrite(raw, |_| None).is_err()
}

/// Puts prefixes in; the family that there is none of.
fn rewrite(raw: &Value, cidr: impl Fn(Family) -> Option<Cidr>) -> Result<Value, Family> {
    let mut raw = raw.clone();
    let mut places: Vec<&mut Value> = Vec::new();
    if let Some(ipam) = raw.get_mut("ipam").and_then(Value::as_object_mut) {
        for (name, value) in ipam.iter_mut() {
            match name.as_str() {
                "subnet" => places.push(value),
                "ranges" => {
                    let sets = value.as_array_mut().into_iter().flatten();
                    let ranges = sets.filter_map(Value::as_array_mut).flatten();
                    places.extend(ranges.filter_map(|range| range.get_mut("subnet")));
                }
                _ => {}
            }
        }
    }
    for place in places {
        let word = place.as_str().unwrap_or_default().to_ascii_lowercase();
        let family = match word.as_str() {
            "usepodcidr" => Family::V4,
            "usepodcidripv6" => Family::V6,
            _ => continue,
        };
        *place = cidr(family).ok_or(family)?.to_string().into();
    }
    Ok(raw)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn prefixes_are_put_in() {
        let given = |family| match family {
            Family::V4 => "10.0.1.0/24".parse().ok(),
            Family::V6 => None,
        };
        let check = |ipam: Value, expected: Result<Value, Family>| {
            let raw = json!({"name": "n", "ipam": ipam});
            let expected = expected.map(|ipam| json!({"name": "n", "ipam": ipam}));
            assert_eq!(rewrite(&raw, given), expected, "{raw}");
        };
        check(json!({"subnet": "usePodCidr"}), Ok(json!({"subnet": "10.0.1.0/24"})));
        check(json!({"subnet": "USEPODCIDR"}), Ok(json!({"subnet": "10.0.1.0/24"})));
        check(
            json!({"subnet": "10.9.0.0/16", "dataDir": "x"}),
            Ok(json!({"subnet": "10.9.0.0/16", "dataDir": "x"})),
        );
        check(
            json!({"ranges": [[{"subnet": "usePodCidr"}], [{"subnet": "fd00::/64", "gateway": "fd00::1"}]]}),
            Ok(
                json!({"ranges": [[{"subnet": "10.0.1.0/24"}], [{"subnet": "fd00::/64", "gateway": "fd00::1"}]]}),
            ),
        );
        check(json!({"ranges": [[{"subnet": "usePodCidrIPv6"}]]}), Err(Family::V6));
        check(json!({}), Ok(json!({})));
        assert_eq!(rewrite(&json!({"ipam": null}), given), Ok(json!({"ipam": null})));
    }
}
