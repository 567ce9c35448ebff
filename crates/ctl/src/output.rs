//! Resources as text: tables, YAML, JSON (spec 7 §5.4, §5.5).

pub(crate) mod columns;
pub(crate) mod table;
pub(crate) mod yaml;

use anyhow::bail;
use calico_api::meta::API_VERSION;
use calico_api::{AnyResource, Kind, suggest};
use serde_json::{Value, json};

use columns::{Column, Facts};

/// How resources are printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// A table of the most telling columns.
    Ps,
    /// A table of all columns.
    Wide,
    /// YAML.
    Yaml,
    /// JSON.
    Json,
    /// A table of these columns.
    Custom(Vec<String>),
}

/// What `-o` may say, for errors.
const FORMATS: &str = "ps, wide, yaml, json or custom-columns=NAME,…";
/// The format that has the names of columns after it.
const CUSTOM: &str = "custom-columns";

impl Format {
    /// Reads `-o`.
    ///
    /// # Errors
    /// When it is none of the formats.
    pub(crate) fn parse(text: &str) -> anyhow::Result<Format> {
        let (name, columns) = text.split_once('=').unwrap_or((text, ""));
        Ok(match (name, columns) {
            ("ps", "") => Format::Ps,
            ("wide", "") => Format::Wide,
            ("yaml" | "yml", "") => Format::Yaml,
            ("json", "") => Format::Json,
            (CUSTOM, "") => bail!("output format '{text}' names no columns; use {CUSTOM}=NAME,…"),
            (CUSTOM, names) => {
                Format::Custom(names.split(',').map(|n| n.trim().to_ascii_uppercase()).collect())
            }
            // Calico's templates walk the structs of its own source, so a template engine alone would not run them.
            ("go-template" | "go-template-file", _) => {
                bail!("output format '{name}' is not supported; use {FORMATS}; -o json goes well with jq")
            }
            _ => {
                let names = ["ps", "wide", "yaml", "json", CUSTOM];
                let remedy = suggest::remedy(name, names, &format!("use {FORMATS}"));
                bail!("unrecognized output format '{text}'; {remedy}")
            }
        })
    }
}

/// What is to be printed.
pub(crate) struct Shown<'a> {
    /// What they are.
    pub kind: Kind,
    /// The resources.
    pub resources: &'a [AnyResource],
    /// The store's revision, if a list was asked for; `None` for one resource by name.
    pub revision: Option<&'a str>,
    /// Whether tables have a column of namespaces.
    pub with_namespace: bool,
}

/// The text of resources, final newlines included.
///
/// # Errors
/// When a column is asked for that the kind does not have.
pub(crate) fn render(shown: &Shown<'_>, format: &Format, facts: &Facts) -> anyhow::Result<String> {
    let columns: Vec<Column> = match format {
        Format::Yaml => return Ok(yaml::render(&value(shown))),
        Format::Json => return Ok(json_text(&value(shown))),
        Format::Ps => columns::ps(shown.kind),
        Format::Wide => columns::wide(shown.kind),
        Format::Custom(names) => columns::custom(shown.kind, names)?,
    };
    let namespace =
        (shown.with_namespace && !matches!(format, Format::Custom(_))).then_some(columns::NAMESPACE);
    let columns: Vec<Column> = namespace.into_iter().chain(columns).collect();
    let headings = columns.iter().map(|c| c.heading.to_owned()).collect();
    let rows = shown
        .resources
        .iter()
        .map(|resource| columns.iter().map(|c| (c.value)(resource, facts)).collect())
        .collect();
    Ok(table::render(headings, rows) + "\n")
}

/// The text of resources of several kinds as one list, which `apply` reads again; only YAML and JSON have one.
pub(crate) fn render_all(resources: &[&AnyResource], format: &Format) -> String {
    let list = Value::Array(resources.iter().map(|r| r.to_json()).collect());
    if *format == Format::Yaml { yaml::render(&list) } else { json_text(&list) }
}

fn value(shown: &Shown<'_>) -> Value {
    match (shown.revision, shown.resources) {
        (None, [resource]) => resource.to_json(),
        (revision, resources) => {
            let items: Vec<Value> = resources.iter().map(AnyResource::to_json).collect();
            let metadata = revision.map_or_else(|| json!({}), |r| json!({ "resourceVersion": r }));
            json!({
                "kind": format!("{}List", shown.kind.name()),
                "apiVersion": API_VERSION,
                "metadata": metadata,
                "items": items,
            })
        }
    }
}

/// JSON with two blanks of indent and `&`, `<`, `>` escaped, as Go prints it.
fn json_text(value: &Value) -> String {
    let text = serde_json::to_string_pretty(value).expect("JSON values always serialise");
    // These three occur only inside strings.
    text.replace('&', "\\u0026").replace('<', "\\u003c").replace('>', "\\u003e") + "\n"
}
