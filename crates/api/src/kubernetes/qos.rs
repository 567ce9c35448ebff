//! Limits of bandwidth, packets and connections in a pod's annotations → `qosControls` of its endpoint (spec 1 §1.4,
//! §3.5). What is out of range is put into it and what cannot be read is left out; both are reported.

mod quantity;

use serde_json::{Map, Value};
use smol_str::format_smolstr;

use crate::meta::Labels;

/// How Calico's own annotations begin.
const PREFIX: &str = "qos.projectcalico.org/";
/// The annotation with the mark of the pod's packets.
const DSCP: &str = "dscp";
/// The highest mark.
const MAX_DSCP: u8 = 63;
/// Marks by name.
const DSCP_NAMES: [&str; 24] = [
    "DF", "CS0", "CS1", "CS2", "CS3", "CS4", "CS5", "CS6", "CS7", "AF11", "AF12", "AF13", "AF21", "AF22",
    "AF23", "AF31", "AF32", "AF33", "AF41", "AF42", "AF43", "EF", "VA", "LE",
];

/// One limit of a direction.
struct Limit {
    name: &'static str,
    /// Without this one it means nothing.
    base: Option<&'static str>,
    min: i128,
    max: i128,
    /// What it is where its base is set and it is not.
    default: Option<i128>,
}

const BANDWIDTH: &str = "Bandwidth";
const PEAKRATE: &str = "Peakrate";
const MINBURST: &str = "Minburst";
const PACKET_RATE: &str = "PacketRate";

/// In the order in which each can look at what it depends on. Rates in bits per second, bursts in bits, the smallest
/// burst in bytes.
const LIMITS: [Limit; 7] = [
    Limit { name: BANDWIDTH, base: None, min: 1_000, max: 1_000_000_000_000_000, default: None },
    Limit { name: "Burst", base: Some(BANDWIDTH), min: 1_000, max: 34_359_738_360, default: Some(4 << 30) },
    Limit { name: PEAKRATE, base: Some(BANDWIDTH), min: 1_010, max: 1_010_000_000_000_000, default: None },
    Limit { name: MINBURST, base: Some(PEAKRATE), min: 1_000, max: 100_000_000, default: None },
    Limit { name: PACKET_RATE, base: None, min: 1, max: 10_000, default: None },
    Limit { name: "PacketBurst", base: Some(PACKET_RATE), min: 1, max: 10_000, default: Some(5) },
    Limit { name: "MaxConnections", base: None, min: 1, max: u32::MAX as i128, default: None },
];

/// The limits that annotations set; `None` if they set none.
pub fn controls(annotations: &Labels, problems: &mut Vec<String>) -> Option<Value> {
    let mut controls = Map::new();
    for direction in ["ingress", "egress"] {
        for limit in &LIMITS {
            if let Some(value) = value(annotations, &controls, direction, limit, problems) {
                // Every limit's maximum is far below 2^63.
                controls.insert(format!("{direction}{}", limit.name), (value as i64).into());
            }
        }
    }
    let key = format_smolstr!("{PREFIX}{DSCP}");
    if let Some(text) = annotations.get(&key) {
        match dscp(text) {
            Some(value) => {
                controls.insert(DSCP.to_owned(), value);
            }
            None => problems
                .push(format!("{key}: {text:?} is neither 0 to {MAX_DSCP} nor a name such as EF or AF11")),
        }
    }
    (!controls.is_empty()).then_some(Value::Object(controls))
}

fn value(
    annotations: &Labels,
    controls: &Map<String, Value>,
    direction: &str,
    limit: &Limit,
    problems: &mut Vec<String>,
) -> Option<i128> {
    let Limit { name, base, min, max, default } = limit;
    let base = base.map(|base| (base, controls.get(&format!("{direction}{base}")).and_then(Value::as_i64)));
    let own = format_smolstr!("{PREFIX}{direction}{name}");
    // Kubernetes' word for a bandwidth counts where Calico's is missing.
    let kubernetes = format_smolstr!("kubernetes.io/{direction}-bandwidth");
    let found = annotations.get_key_value(&own);
    let found =
        found.or_else(|| (*name == BANDWIDTH).then(|| annotations.get_key_value(&kubernetes)).flatten());
    let Some((key, text)) = found else {
        return default.filter(|_| base.is_some_and(|(_, value)| value.is_some()));
    };
    let Some(given) = quantity::parse(text) else {
        problems.push(format!("{key}: {text:?} is no quantity such as 10M or 1Gi"));
        return default.filter(|_| base.is_some_and(|(_, value)| value.is_some()));
    };
    if let Some((base, None)) = base {
        problems.push(format!("{key}: means nothing without {direction}{base}"));
        return None;
    }
    if given == 0 && *name == MINBURST {
        // The interface's MTU, as without it.
        return None;
    }
    let value = given.clamp(*min, *max);
    if value != given {
        problems.push(format!("{key}: {text:?} is not from {min} to {max}; {value} is used"));
    }
    if *name == PEAKRATE && base.and_then(|(_, rate)| rate).is_some_and(|rate| value <= i128::from(rate)) {
        problems.push(format!("{key}: {text:?} is not above {direction}{BANDWIDTH}"));
        return None;
    }
    Some(value)
}

fn dscp(text: &str) -> Option<Value> {
    if let Ok(number) = text.parse::<u8>() {
        return (number <= MAX_DSCP).then(|| number.into());
    }
    DSCP_NAMES.iter().find(|name| name.eq_ignore_ascii_case(text)).map(|name| Value::from(*name))
}

#[cfg(test)]
mod tests;
