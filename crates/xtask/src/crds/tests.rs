//! The definitions held to what Calico's own say, where that is present, and to the tree.

mod fields;
mod sample;
mod server;

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

use super::*;

fn root() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

#[test]
fn the_files_are_those_of_the_tables() {
    let stale = generated::stale(&root(), &["deploy/crds/v1", "deploy/crds/v3"], &pages())
        .expect("the tree is there");
    assert!(stale.is_empty(), "stale: {}: run `cargo xtask crds`", stale.join(", "));
}

#[test]
fn plurals() {
    for (singular, expected) in [
        ("tier", "tiers"),
        ("globalnetworkpolicy", "globalnetworkpolicies"),
        ("caliconodestatus", "caliconodestatuses"),
    ] {
        assert_eq!(plural(singular), expected);
    }
}

/// Every property: where it is, and what can be stored there.
fn flatten(place: &str, schema: &Value, facts: &mut BTreeMap<String, Value>) {
    facts.insert(place.to_owned(), storable(schema));
    let members = |keyword: &str| schema.get(keyword).and_then(Value::as_object).into_iter().flatten();
    for (name, member) in members("properties") {
        flatten(&format!("{place}.{name}"), member, facts);
    }
    if let Some(items) = schema.get("items") {
        flatten(&format!("{place}[]"), items, facts);
    }
    if let Some(values) = schema.get("additionalProperties") {
        flatten(&format!("{place}{{}}"), values, facts);
    }
}

/// What decides whether an object is stored, and as what.
fn storable(schema: &Value) -> Value {
    let number_or_text = schema.get("x-kubernetes-int-or-string") == Some(&json!(true));
    let mut facts = serde_json::Map::new();
    facts.insert(
        "type".to_owned(),
        if number_or_text { json!("int-or-string") } else { schema["type"].clone() },
    );
    for keyword in [
        "default",
        "nullable",
        "x-kubernetes-list-type",
        "x-kubernetes-list-map-keys",
        "x-kubernetes-map-type",
        "x-kubernetes-preserve-unknown-fields",
        "minItems",
        "minProperties",
        "maxProperties",
    ] {
        facts.insert(keyword.to_owned(), schema.get(keyword).cloned().unwrap_or_default());
    }
    let mut required: Vec<String> = schema
        .get("required")
        .cloned()
        .map_or_else(Vec::new, |r| serde_json::from_value(r).expect("a list of names"));
    required.sort();
    facts.insert("required".to_owned(), json!(required));
    Value::Object(facts)
}

/// What is narrower than Calico's: bounds and words, where both have them.
fn narrower(place: &str, ours: &Value, theirs: &Value, found: &mut Vec<String>) {
    let bound = |schema: &Value, keyword: &str| schema.get(keyword).and_then(Value::as_f64);
    for (keyword, sign) in [("maxLength", 1.0), ("maxItems", 1.0), ("maximum", 1.0), ("minimum", -1.0)] {
        if let (Some(ours), Some(theirs)) = (bound(ours, keyword), bound(theirs, keyword))
            && ours * sign < theirs * sign
        {
            found.push(format!("{place}: {keyword} {ours}, Calico's {theirs}"));
        }
    }
    let words = |schema: &Value| schema.get("enum").and_then(Value::as_array).cloned();
    if let (Some(ours), Some(theirs)) = (words(ours), words(theirs)) {
        for word in theirs.iter().filter(|word| !ours.contains(word)) {
            found.push(format!("{place}: no word {word}"));
        }
    }
    let members =
        |schema: &Value| schema.get("properties").and_then(Value::as_object).cloned().unwrap_or_default();
    let own = members(ours);
    for (name, theirs) in members(theirs) {
        if let Some(ours) = own.get(&name) {
            narrower(&format!("{place}.{name}"), ours, &theirs, found);
        }
    }
    for (keyword, mark) in [("items", "[]"), ("additionalProperties", "{}")] {
        if let (Some(ours), Some(theirs)) = (ours.get(keyword), theirs.get(keyword)) {
            narrower(&format!("{place}{mark}"), ours, theirs, found);
        }
    }
}

/// Calico's definitions of a group, by plural; `None`, with a line that says so, where there are none.
fn reference(group: &str) -> Option<BTreeMap<String, Value>> {
    let shared = std::env::var_os("CALICO_SHARED").map_or_else(|| root().join("../shared"), Into::into);
    let Ok(files) = std::fs::read_dir(shared.join("data").join(format!("crds-{group}"))) else {
        println!("skipped: no ../shared");
        return None;
    };
    let mut definitions = BTreeMap::new();
    for file in files {
        let text = std::fs::read_to_string(file.expect("an entry").path()).expect("a file");
        let definition: Value = serde_saphyr::from_str(&text).expect("YAML");
        let plural = definition["spec"]["names"]["plural"].as_str().expect("a plural").to_owned();
        definitions.insert(plural, definition);
    }
    Some(definitions)
}

/// A definition without what is only text: columns by title, type and path.
fn shape(definition: &Value) -> Value {
    let version = &definition["spec"]["versions"][0];
    let columns = version.get("additionalPrinterColumns").and_then(Value::as_array).into_iter().flatten();
    let columns: Vec<Value> = columns.map(|c| json!([c["name"], c["type"], c["jsonPath"]])).collect();
    json!({
        "name": definition["metadata"]["name"],
        "group": definition["spec"]["group"],
        "names": definition["spec"]["names"],
        "scope": definition["spec"]["scope"],
        "version": [version["name"], version["served"], version["storage"]],
        "columns": columns,
        "selectable": version.get("selectableFields"),
        "status": version.get("subresources").is_some_and(|s| s.get("status").is_some()),
    })
}

fn nothing_is_narrower(group: Group, name: &str) {
    let Some(reference) = reference(name) else { return };
    let ours: BTreeMap<String, Value> = definitions(group).into_iter().collect();
    assert_eq!(ours.keys().collect::<Vec<_>>(), reference.keys().collect::<Vec<_>>());
    let (mut found, mut paths) = (Vec::new(), 0);
    for (plural, theirs) in &reference {
        let ours = &ours[plural];
        assert_eq!(shape(ours), shape(theirs), "{plural}");
        let schema =
            |definition: &Value| definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone();
        let (mut own, mut other) = (BTreeMap::new(), BTreeMap::new());
        flatten("", &schema(ours), &mut own);
        flatten("", &schema(theirs), &mut other);
        paths += other.len();
        for (place, facts) in &other {
            match own.get(place) {
                None => found.push(format!("{plural}{place}: missing, so it would be pruned")),
                Some(own) if own != facts => found.push(format!("{plural}{place}: {own}, Calico's {facts}")),
                Some(_) => {}
            }
        }
        narrower(plural, &schema(ours), &schema(theirs), &mut found);
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
    assert!(paths > 1000, "only {paths} properties were compared");
}

#[test]
fn v1_prunes_nothing_that_calico_stores() {
    nothing_is_narrower(Group::V1, "v1");
}

#[test]
fn v3_prunes_nothing_that_calico_stores() {
    nothing_is_narrower(Group::V3, "v3");
}
