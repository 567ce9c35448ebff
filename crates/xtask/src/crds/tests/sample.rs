//! Objects made from a schema: every property that may stand beside the others has a value that the schema allows.

use regex_lite::Regex;
use serde_json::{Map, Value, json};

/// Texts, one of which each pattern of ours matches; the first that does is taken.
const TEXTS: [&str; 12] =
    ["a-1", "x", "1m30s", "1:2", "debug", "Info", "Ready", "5/second", "a=b", "host:a", "example.org/x", ""];

/// Values that no schema says: where they end, and the value.
const VALUES: [(&str, &str); 26] = [
    (".blockSize", "26"),
    (".cidr", "\"10.1.0.0/16\""),
    (".spec.reservedCIDRs[]", "\"10.1.0.0/16\""),
    ("V6[].cidr", "\"fd00::/16\""),
    (".networks[]", "\"10.1.0.0/16\""),
    (".natOutgoingAddress", "\"192.0.2.1\""),
    (".deviceRouteSourceAddress", "\"192.0.2.1\""),
    (".deviceRouteSourceAddressIPv6", "\"2001:db8::1\""),
    (".protocol", "\"TCP\""),
    ("gress[].protocol", "\"ICMP\""),
    ("gress[].notProtocol", "17"),
    ("gress[].ipVersion", "4"),
    ("source.ports[]", "\"80:90\""),
    ("destination.ports[]", "\"80:90\""),
    (".range.start", "80"),
    (".range.end", "90"),
    (".stagedAction", "\"Learn\""),
    (".vxlanMode", "\"CrossSubnet\""),
    (".spec.ipipMode", "\"Never\""),
    (".port", "8080"),
    (".nodeSelector", "\"all()\""),
    ("axRestartTime", "\"90s\""),
    (".keepaliveTime", "\"90s\""),
    (".reconcilerPeriod", "\"90s\""),
    (".leakGracePeriod", "\"90s\""),
    (".etcdV3CompactionPeriod", "\"90s\""),
];

/// An object of a schema. Paths that end like one of `without` are left out; of objects that have one member only, it
/// is that of number `turn`.
pub fn sample(place: &str, schema: &Value, without: &[&str], turn: usize) -> Option<Value> {
    if without.iter().any(|end| place.ends_with(end)) {
        return None;
    }
    if let Some((_, value)) = VALUES.iter().rfind(|(end, _)| place.ends_with(end)) {
        return Some(serde_json::from_str(value).expect("VALUES are JSON"));
    }
    if let Some(words) = schema.get("enum").and_then(Value::as_array) {
        return words.iter().find(|word| **word != json!("")).cloned();
    }
    if schema.get("x-kubernetes-int-or-string").is_some() {
        return Some(json!(80));
    }
    let number = |keyword: &str| schema.get(keyword).and_then(Value::as_i64);
    Some(match schema["type"].as_str().unwrap_or_default() {
        "boolean" => json!(true),
        "integer" => json!(number("minimum").unwrap_or(1).max(1).min(number("maximum").unwrap_or(i64::MAX))),
        "number" => json!(10.5),
        "string" => json!(text(place, schema)),
        "array" => json!([sample(&format!("{place}[]"), &schema["items"], without, turn)?]),
        "object" => return object(place, schema, without, turn),
        other => panic!("{place}: a schema of type {other:?}"),
    })
}

fn object(place: &str, schema: &Value, without: &[&str], turn: usize) -> Option<Value> {
    if let Some(values) = schema.get("additionalProperties") {
        return Some(json!({ "key": sample(&format!("{place}{{}}"), values, without, turn)? }));
    }
    let none = Map::new();
    let properties = schema.get("properties").and_then(Value::as_object).unwrap_or(&none);
    let only_one = schema.get("maxProperties") == Some(&json!(1)) && !properties.is_empty();
    // The rest of the turn is for such objects inside the chosen member: all of them come together once.
    let (chosen, turn) = if only_one {
        let members = properties.iter().skip(turn % properties.len()).take(1);
        (members.collect::<Vec<_>>(), turn / properties.len())
    } else {
        (properties.iter().collect(), turn)
    };
    let members = chosen.into_iter().filter_map(|(name, member)| {
        Some((name.clone(), sample(&format!("{place}.{name}"), member, without, turn)?))
    });
    Some(Value::Object(members.collect()))
}

fn text(place: &str, schema: &Value) -> String {
    match schema.get("format").and_then(Value::as_str) {
        Some("date-time") => return "2026-01-02T03:04:05Z".to_owned(),
        Some("cidr") => return "10.1.0.0/16".to_owned(),
        _ => {}
    }
    let Some(pattern) = schema.get("pattern").and_then(Value::as_str) else { return "x".to_owned() };
    let expression = Regex::new(pattern).unwrap_or_else(|e| panic!("{place}: {pattern}: {e}"));
    let words = pattern.split(|c: char| !c.is_ascii_alphanumeric());
    let found = TEXTS.iter().copied().chain(words).find(|text| expression.is_match(text) && !text.is_empty());
    found.unwrap_or_else(|| panic!("{place}: no text of TEXTS matches {pattern}")).to_owned()
}

/// The paths that a value has, as the comparison with Calico's definitions writes them.
pub fn paths(place: &str, value: &Value, schema: &Value, found: &mut Vec<String>) {
    found.push(place.to_owned());
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                match schema.get("additionalProperties") {
                    Some(values) => paths(&format!("{place}{{}}"), member, values, found),
                    None => paths(&format!("{place}.{name}"), member, &schema["properties"][name], found),
                }
            }
        }
        Value::Array(items) => {
            for item in items {
                paths(&format!("{place}[]"), item, &schema["items"], found);
            }
        }
        _ => {}
    }
}

/// What of `sent` is missing in `stored`, or other there.
pub fn lost(place: &str, sent: &Value, stored: &Value) -> Vec<String> {
    match (sent, stored) {
        (Value::Object(sent), Value::Object(stored)) => sent
            .iter()
            .flat_map(|(name, member)| {
                lost(&format!("{place}.{name}"), member, stored.get(name).unwrap_or(&Value::Null))
            })
            .collect(),
        (Value::Array(sent), Value::Array(stored)) if sent.len() == stored.len() => {
            sent.iter().zip(stored).flat_map(|(s, t)| lost(&format!("{place}[]"), s, t)).collect()
        }
        (sent, stored) if sent == stored => Vec::new(),
        (sent, stored) => vec![format!("{place}: {sent} became {stored}")],
    }
}
